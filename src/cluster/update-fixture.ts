// SPDX-License-Identifier: Apache-2.0
//
// A cluster of appliances for tests of rolling updates: the real control stations over a control
// store in memory, and boxes that fetch, write, restart, come back on trial and are blessed, each
// with the fault it is given. A judge looks at every change of the update's record.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import type { SliceRecord } from "#base/record.ts";
import type { MemoryControlClient } from "./memory-control-store.ts";
import { StationFixture } from "./station-fixture.ts";
import { keys, parseSlice, valueText } from "./state.ts";
import type { UnitRole } from "./state.ts";
import { obstacles } from "./update-plan.ts";
import type { UpdateLimits } from "./update-roll.ts";
import type { UnitUpdateRecord, UpdateRecord } from "./update-state.ts";

export type BoxFault =
  | "none"
  | "fetch fails"
  | "never installs"
  | "never restarts"
  | "never returns"
  | "falls back"
  | "falls back on trial"
  | "never blessed"
  | "resync hangs";

export const DIGEST = "d".repeat(64);
const INSTALL_MS = 3000;
/** A twentieth of the real patience, so that a test is not an hour. */
export const LIMITS: UpdateLimits = {
  installMs: 180_000,
  restartMs: 60_000,
  returnMs: 240_000,
  blessMs: 120_000,
  protectMs: 360_000,
  obstacleMs: 60_000,
  awayMs: 60_000,
  calmMs: 5000,
};
const AWAY_MS = 40_000;
const BLESS_MS = 20_000;
const RESYNC_MS = 15_000;
const STEP_MS = 500;
const GIB = 2 ** 30;

export function manifestText(version: string, changes: Record<string, unknown> = {}): string {
  const id = "01234567-89ab-cdef-0123-456789abcde";
  const sha256 = "a".repeat(64);
  return JSON.stringify({
    format: 1,
    product: "cairn",
    version,
    featureLevel: 1,
    diskFormat: 1,
    architecture: "x86-64",
    files: [
      { name: "root", role: "root", bytes: 1, sha256, partitionUuid: `${id}1` },
      { name: "hash", role: "hash", bytes: 1, sha256, partitionUuid: `${id}2` },
      { name: "uki", role: "uki", bytes: 1, sha256 },
    ],
    built: "",
    ...changes,
  });
}

interface Box {
  unit: number;
  fault: BoxFault;
  up: boolean;
  version: string;
  boot: number;
  trial: boolean;
  disk: { uuid: string; number: number; incarnation: number };
  task: UnitUpdateRecord["task"];
  taskUntilMs: number;
  /** When it comes up next, is blessed, has its copies whole; Infinity: never. */
  upAtMs: number;
  blessedAtMs: number;
  wholeAtMs: number;
  written: string;
}

/** What the judge saw that must never be. */
export class UpdateFixture {
  readonly stations: StationFixture;
  readonly boxes = new Map<number, Box>();
  readonly broken: string[] = [];
  readonly restarts: number[] = [];
  readonly target: string;
  changes: Partial<UnitUpdateRecord> = {};
  readonly #data: MemoryControlClient;
  #last: UpdateRecord | null = null;
  /** Disks that a slice was placed on. */
  readonly #homes = new Map<number, number[]>();

  constructor(
    drain: () => void,
    options: { units?: UnitRole[]; target?: string; seed?: number } = {},
  ) {
    this.target = options.target ?? "0.2.0";
    this.stations = new StationFixture(drain, { seed: options.seed ?? 1 });
    this.stations.updateLimits = LIMITS;
    this.stations.found({ reprotectAfterMs: 600_000 });
    this.#data = this.stations.core.client("data plane");
    const roles = options.units ?? ["member", "member", "member", "spare"];
    this.stations.voters = roles.length < 3 ? [1] : [1, 2, 3];
    for (const [at, role] of roles.entries()) {
      const unit = at === 0 ? 1 : this.stations.admit(role);
      this.#addBox(unit);
    }
    this.run(1000);
    this.#watch();
  }

  #addBox(unit: number): void {
    const number = this.stations.addDisk(unit, 20);
    const uuid = this.stations.view().disks.get(number)?.uuid ?? "";
    this.boxes.set(unit, {
      unit,
      fault: "none",
      up: true,
      version: "0.1.0",
      boot: 1,
      trial: false,
      disk: { uuid, number, incarnation: 1 },
      task: null,
      taskUntilMs: 0,
      upAtMs: 0,
      blessedAtMs: 0,
      wholeAtMs: 0,
      written: "",
    });
  }

  box(unit: number): Box {
    const box = this.boxes.get(unit);
    assert(box !== undefined, "there is such a box");
    return box;
  }

  /** Gives a box a fault and answers it. */
  break(unit: number, fault: BoxFault): void {
    this.box(unit).fault = fault;
  }

  announce(changes: Record<string, unknown> = {}): void {
    const manifest = manifestText(this.target, changes);
    this.changes = { holds: DIGEST };
    this.run(1000);
    this.stations.ask("announceUpdate", { digest: DIGEST, manifest, signature: "s" });
  }

  start(options: { accept?: boolean; downgrade?: boolean; only?: number[] } = {}): void {
    const { accept = false, downgrade = false, only = null } = options;
    this.stations.ask("startUpdate", { version: null, accept, downgrade, only });
  }

  get update(): UpdateRecord {
    const { update } = this.stations.view();
    assert(update !== null, "an update is loaded");
    return update;
  }
  get versions(): string[] {
    return [...this.boxes.values()].map((box) => box.version);
  }

  /** Lets boxes and stations live for a while. */
  run(milliseconds: number, each: () => void = () => {}): void {
    for (let passed = 0; passed < milliseconds; passed += STEP_MS) {
      this.stations.time.pass(STEP_MS);
      for (const box of this.boxes.values()) this.#live(box);
      each();
    }
  }

  /** Until the roll has ended in one way or the other; its state. */
  end(limitMs = 3600_000, each: () => void = () => {}): string {
    for (let passed = 0; passed < limitMs; passed += 10_000) {
      this.run(10_000, each);
      if (this.stations.units.size === 0) continue;
      if (this.update.state !== "rolling") return this.update.state;
    }
    return "still rolling";
  }

  // Boxes.

  #live(box: Box): void {
    const nowMs = this.stations.time.nowMs();
    if (!box.up) {
      if (nowMs >= box.upAtMs) this.#comeUp(box, nowMs);
      return;
    }
    if (box.trial && nowMs >= box.blessedAtMs) this.#trialEnds(box, nowMs);
    if (!box.up) return;
    this.#heal(box, nowMs);
    const update = this.stations.units.get(box.unit)?.follower.view.update ?? null;
    if (update?.state === "rolling" && update.current?.unit === box.unit) {
      this.#act(box, update, update.current, nowMs);
    }
    if (box.up) this.#report(box);
  }

  #act(
    box: Box,
    update: UpdateRecord,
    current: NonNullable<UpdateRecord["current"]>,
    nowMs: number,
  ): void {
    const { digest, attempt } = update;
    if (current.phase === "install" && box.task?.attempt !== attempt) {
      box.task = { digest, attempt, state: "installing", sentence: "" };
      box.taskUntilMs = nowMs + INSTALL_MS;
    } else if (current.phase === "install" && box.task?.state === "installing") {
      if (nowMs < box.taskUntilMs || box.fault === "never installs") return;
      const failed = box.fault === "fetch fails";
      const sentence = failed ? "the file was altered" : "";
      box.task = { digest, attempt, state: failed ? "failed" : "installed", sentence };
    } else if (current.phase === "restart" && current.fromBoot === bootIdOf(box)) {
      if (box.fault !== "never restarts") this.#restart(box, nowMs);
    }
  }

  #restart(box: Box, nowMs: number): void {
    this.restarts.push(box.unit);
    if (this.#last?.state !== "rolling" || this.#last.current?.unit !== box.unit) {
      this.broken.push(`box${box.unit} restarts out of turn`);
    }
    if (this.stations.view().units.get(box.unit)?.maintenance?.by !== "update") {
      this.broken.push(`box${box.unit} restarts, and is not in maintenance`);
    }
    this.goDown(box.unit, { inOrder: true });
    box.upAtMs = box.fault === "never returns" ? Number.POSITIVE_INFINITY : nowMs + AWAY_MS;
    if (box.fault === "falls back") box.upAtMs += 60_000;
    else box.version = this.target;
    box.trial = box.fault !== "falls back";
  }

  /** Down: in order, or as when its plug is pulled. */
  goDown(unit: number, options: { inOrder: boolean }): void {
    const box = this.box(unit);
    box.up = false;
    box.upAtMs = Number.POSITIVE_INFINITY;
    const gone = this.stations.units.get(unit);
    if (options.inOrder && gone !== undefined) {
      gone.station.stop();
      this.stations.wait(gone.lease.stop());
    }
    this.stations.kill(unit);
    this.#forEachSlice((record) => withoutDisk(record, box.disk.number));
  }

  comeUp(unit: number): void {
    this.#comeUp(this.box(unit), this.stations.time.nowMs());
  }

  #comeUp(box: Box, nowMs: number): void {
    box.up = true;
    box.boot++;
    box.task = null;
    box.blessedAtMs = nowMs + BLESS_MS;
    if (box.fault === "never blessed") box.blessedAtMs = Number.POSITIVE_INFINITY;
    box.wholeAtMs = box.fault === "resync hangs" ? Number.POSITIVE_INFINITY : nowMs + RESYNC_MS;
    box.disk.incarnation++;
    this.stations.start(box.unit);
    this.stations.time.pass(3000);
    const { uuid, incarnation } = box.disk;
    const args = { uuid, path: "/disk", sizeBytes: 20 * GIB, incarnation };
    try {
      this.stations.ask("registerDisk", args, this.stations.units.get(box.unit));
    } catch (error) {
      if (!(error instanceof Fault)) throw error; // nobody leads yet: heal asks again
      box.disk.incarnation--;
      box.wholeAtMs = Math.max(box.wholeAtMs, nowMs + RESYNC_MS);
    }
  }

  #trialEnds(box: Box, nowMs: number): void {
    box.trial = false;
    if (box.fault !== "falls back on trial") return;
    box.version = "0.1.0";
    this.goDown(box.unit, { inOrder: false });
    box.upAtMs = nowMs + AWAY_MS;
  }

  /** Its copies become whole again; sole ones serve at once. */
  #heal(box: Box, nowMs: number): void {
    const { number, incarnation } = box.disk;
    this.#forEachSlice((record) => {
      if (this.#homes.get(record.slice)?.includes(number) !== true) return null;
      const named = record.inSync.find((member) => member.disk === number);
      if (named?.incarnation === incarnation) return null;
      if (record.copies === 1) return whole(record, number, incarnation);
      return nowMs >= box.wholeAtMs ? whole(record, number, incarnation) : null;
    });
  }

  #forEachSlice(change: (record: SliceRecord) => SliceRecord | null): void {
    const { entries } = this.stations.wait(this.#data.range(keys.slices));
    for (const { key, value, modRevision } of entries) {
      const record = parseSlice(key, value);
      if (!this.#homes.has(record.slice)) {
        const disks = record.inSync.map((member) => member.disk);
        this.#homes.set(record.slice, disks);
      }
      const next = change(record);
      if (next === null) continue;
      const puts = [{ key, value: valueText(next) }];
      const transaction = { ifs: [{ key, modRevision }], puts };
      this.stations.wait(this.#data.transaction(transaction));
    }
  }

  #report(box: Box): void {
    const client = this.stations.units.get(box.unit)?.client;
    if (client === undefined) return;
    const record: UnitUpdateRecord = {
      unit: box.unit,
      appliance: true,
      version: box.version,
      bootId: bootIdOf(box),
      trial: box.trial,
      featureLevel: 1,
      diskFormat: 1,
      architecture: "x86-64",
      holds: null,
      task: box.task,
      slots: [],
      ...this.changes,
    };
    const text = valueText(record);
    if (text === box.written) return;
    box.written = text;
    const key = keys.unitUpdate(box.unit);
    this.stations.wait(client.transaction({ ifs: [], puts: [{ key, value: text }] }));
  }

  // The judge.

  #watch(): void {
    this.stations.core.client("judge").watch(keys.update, 1, {
      onEvents: (events) => {
        for (const { key, kind, value } of events) {
          if (kind === "put" && key === keys.update) this.#judge(JSON.parse(value) as UpdateRecord);
        }
      },
      onLost: (reason) => this.broken.push(reason),
    });
  }

  #judge(next: UpdateRecord): void {
    const before = this.#last;
    this.#last = next;
    const begun = before?.attempt !== next.attempt;
    if (before?.state === "stopped" && next.state === "rolling" && !begun) {
      this.broken.push("a stopped roll went on by itself");
    }
    const { current } = next;
    if (current?.phase !== "restart" || before?.current?.phase === "restart") return;
    const others = [...this.boxes.values()].filter((box) => box.unit !== current.unit);
    for (const box of others) {
      if (!box.up) this.broken.push(`box${current.unit} restarts while box${box.unit} is down`);
      if (box.trial)
        this.broken.push(`box${current.unit} restarts while box${box.unit} is on trial`);
    }
    const [why] = obstacles(this.stations.view(), current.unit, this.stations.voters);
    if (why !== undefined) this.broken.push(`box${current.unit} restarts although ${why}`);
  }
}

function bootIdOf(box: Box): string {
  return (box.unit * 1000 + box.boot).toString(16).padStart(32, "0");
}

/** As its head, or who takes over, commits it when a member is away; null: nothing changes. */
function withoutDisk(record: SliceRecord, disk: number): SliceRecord | null {
  const left = record.inSync.filter((member) => member.disk !== disk);
  const [first] = left;
  if (first === undefined || left.length === record.inSync.length) return null;
  const head = record.head === disk ? first.disk : record.head;
  return { ...record, epoch: record.epoch + 1, head, inSync: left };
}

function whole(record: SliceRecord, disk: number, incarnation: number): SliceRecord | null {
  const mine = record.inSync.some((member) => member.disk === disk);
  if (!mine && record.inSync.length >= record.copies) return null;
  const others = record.inSync.filter((member) => member.disk !== disk);
  const inSync = [...others, { disk, incarnation }];
  const resyncing = record.resyncing.filter((one) => one !== disk);
  return { ...record, epoch: record.epoch + 1, inSync, resyncing };
}
