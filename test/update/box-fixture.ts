// SPDX-License-Identifier: Apache-2.0
//
// Appliances in one process, for updates from end to end: the real agent, slot writer, payloads,
// signatures and control station, over a control store in memory and disk images. What a test plays
// is firmware and boot loader: which slot starts, whether its version works, and the restart.

import { copyFileSync, mkdirSync, readFileSync, readdirSync, renameSync } from "node:fs";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Prng } from "#base/prng.ts";
import { compareVersions } from "#base/release.ts";
import { artefactServer } from "#appliance/artefact-pipe.ts";
import type { QuestionServer } from "#appliance/question-server.ts";
import { UpdateAgent } from "#appliance/update-agent.ts";
import { UpdateConsole } from "#appliance/update-console.ts";
import { CommandClient } from "#cluster/commands.ts";
import { ControlStation } from "#cluster/control-station.ts";
import { MemoryControlStore } from "#cluster/memory-control-store.ts";
import { pipePair } from "#cluster/message-pipe.ts";
import { firstState } from "#cluster/state.ts";
import { unitArguments } from "#cluster/station-fixture.ts";
import { UnitLease } from "#cluster/unit-lease.ts";
import { UPDATE_LIMITS } from "#cluster/update-roll.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import { type BootDisk, makeBootDisk, readAt, sha256 } from "#machine/boot-disk-fixture.ts";
import { createMainWorld } from "#machine/main-world.ts";
import { runProgram } from "#machine/program.ts";
import { HASH_TYPE, ROOT_TYPE } from "#machine/slot-disk.ts";
import { parseUkiName, partitionIdsOf, ukiFileName } from "#machine/slots.ts";
import type { UkiName } from "#machine/slots.ts";
import { createTimers } from "#machine/timers.ts";
import { createUpdateMachine } from "#machine/update-machine.ts";

const SCRIPT = path.join(import.meta.dir, "..", "..", "scripts", "sign-manifest.mjs");
const MIB = 1 << 20;
const FIRST_VERSION = "0.2.0";

export const world = createMainWorld({ log: { write: () => undefined } });
export const timers = createTimers();

/** Root hashes by version, as a build would give them. */
function rootHashOf(version: string): string {
  if (version === FIRST_VERSION) return `${"1".repeat(32)}${"a".repeat(32)}`;
  return sha256(new TextEncoder().encode(version));
}

/** A signed release in a folder, made by the script that makes real ones. */
export function makeRelease(folder: string, version: string, flags: string[] = []): string {
  const release = path.join(folder, `release-${version}`);
  rmSync(release, { recursive: true, force: true });
  mkdirSync(release, { recursive: true });
  const content = (role: string, bytes: number) =>
    Buffer.alloc(bytes, `${role} of version ${version}; `);
  const put = (name: string, bytes: Uint8Array) => writeFileSync(path.join(release, name), bytes);
  put(`cairn_${version}.root.raw`, content("root", 3 * MIB));
  put(`cairn_${version}.hash.raw`, content("hash", MIB));
  put(`cairn_${version}.efi`, kernelImage(`roothash=${rootHashOf(version)}`));
  sign(folder, ["sign", release, ...flags]);
  return release;
}

function sign(folder: string, args: string[]): string {
  const env = { ...process.env, CAIRN_UPDATE_KEY: path.join(folder, "release.pem") };
  const made = Bun.spawnSync(["node", SCRIPT, ...args], { env });
  if (made.exitCode !== 0) throw new Error(made.stdout.toString() + made.stderr.toString());
  return made.stdout.toString();
}

/** Makes the key that signs, and answers the file of trusted keys. */
export function makeKeys(folder: string): string {
  sign(folder, ["new-key", path.join(folder, "release.pem")]);
  const file = path.join(folder, "update-keys.json");
  writeFileSync(file, sign(folder, ["keys"]));
  return file;
}

function kernelImage(line: string): Uint8Array {
  const bytes = Buffer.alloc(1024);
  bytes.write("MZ", 0, "latin1");
  bytes.writeUInt32LE(0x80, 0x3c);
  bytes.write("PE\0\0", 0x80, "latin1");
  bytes.writeUInt16LE(1, 0x80 + 6);
  const table = 0x80 + 24;
  bytes.write(".cmdline", table, "latin1");
  bytes.writeUInt32LE(Buffer.byteLength(line), table + 8);
  bytes.writeUInt32LE(512, table + 20);
  bytes.write(line, 512, "utf8");
  return bytes;
}

export class Boxes {
  readonly folder: string;
  readonly core: MemoryControlStore;
  readonly boxes = new Map<number, Box>();
  readonly keysFile: string;

  constructor(folder: string) {
    this.folder = folder;
    this.keysFile = makeKeys(folder);
    const latencyMs = { least: 1, most: 3 };
    this.core = new MemoryControlStore({
      clock: world.clock,
      timers,
      prng: new Prng(1),
      latencyMs,
    });
  }

  /** Makes a cluster of so many units, each started from its first slot. */
  async found(units: number): Promise<void> {
    const puts = firstState({ uuid: "c".repeat(32), name: "test", featureLevel: 1 });
    await this.core.client("founder").transaction({ ifs: [], puts });
    for (let unit = 1; unit <= units; unit++) {
      const box = new Box(this, unit, await makeBootDisk(this.#folderOf(unit)));
      this.boxes.set(unit, box);
      await box.powerOn();
      const { member } = box;
      await until("its view is read", () => member.follower.view.revision > 0);
      if (unit === 1) await until("it leads", () => member.lease.leads);
      await this.box(1).member.commands.ask("admitUnit", unitArguments(unit, "member"));
    }
    const { view } = this.box(1).member.follower;
    await until("all are up and have said what they run", () => {
      const alive = [...this.boxes.keys()].every((unit) => view.isAlive(unit));
      return alive && view.unitUpdates.size === units;
    });
  }

  /** A box in no cluster. */
  async alone(): Promise<Box> {
    const box = new Box(this, 1, await makeBootDisk(this.#folderOf(1)));
    box.isMember = false;
    this.boxes.set(1, box);
    await box.powerOn();
    return box;
  }

  #folderOf(unit: number): string {
    const folder = path.join(this.folder, `box${unit}`);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  box(unit: number): Box {
    const box = this.boxes.get(unit);
    if (box === undefined) throw new Error(`there is no box ${unit}`);
    return box;
  }

  get versions(): string[] {
    return [...this.boxes.values()].map((box) => box.version);
  }

  async end(): Promise<void> {
    for (const box of this.boxes.values()) await box.powerOff();
  }
}

interface Member {
  follower: ViewFollower;
  lease: UnitLease;
  station: ControlStation;
  commands: CommandClient;
}

export class Box {
  readonly unit: number;
  readonly disk: BootDisk;
  readonly #all: Boxes;
  isMember = true;
  isUp = false;
  version = "";
  /** Versions that do not come up on this box, and those that never become healthy. */
  readonly broken = new Set<string>();
  readonly sick = new Set<string>();
  starts = 0;
  agent!: UpdateAgent;
  console!: UpdateConsole;
  member!: Member;
  keysFile: string;
  #server!: QuestionServer;
  #blessing: () => void = () => {};

  constructor(all: Boxes, unit: number, disk: BootDisk) {
    this.#all = all;
    this.unit = unit;
    this.disk = disk;
    this.keysFile = all.keysFile;
  }

  /**
   * As firmware, boot loader and kernel: the best slot that works is started, tries are counted.
   */
  async powerOn(): Promise<void> {
    for (let tries = 0; tries < 10; tries++) {
      const started = await this.#startBest();
      if (started === null) continue;
      this.version = started.version;
      this.isUp = true;
      this.#run();
      // As systemd-bless-boot: only a start that was counted is blessed.
      if (started.tries !== null) this.#blessing = timers.after(300, () => this.#blessOrNot());
      return;
    }
    throw new Error(`box ${this.unit} does not start any more`);
  }

  async #startBest(): Promise<UkiName | null> {
    const { ukiDirectory, commandLineFile, versionFile, bootIdFile } = this.disk.places;
    const names = readdirSync(ukiDirectory).flatMap((file) => parseUkiName(file) ?? []);
    const [best] = names.sort(bootOrder);
    if (best === undefined) throw new Error("nothing to start");
    this.starts++;
    if (best.tries !== null) {
      const { left, done } = best.tries;
      const counted = { ...best, tries: { left: Math.max(0, left - 1), done: done + 1 } };
      const from = path.join(ukiDirectory, ukiFileName(best));
      renameSync(from, path.join(ukiDirectory, ukiFileName(counted)));
    }
    const { version } = best;
    if (this.broken.has(version) || !(await this.#isWhole(version))) return null;
    writeFileSync(commandLineFile, `roothash=${rootHashOf(version)}\n`);
    writeFileSync(versionFile, `${version}\n`);
    writeFileSync(bootIdFile, `${Bun.randomUUIDv7()}\n`);
    return best;
  }

  /** What verity would see: the partitions that the root hash names hold that version. */
  async #isWhole(version: string): Promise<boolean> {
    if (version === FIRST_VERSION) return true;
    const ids = partitionIdsOf(rootHashOf(version));
    const { output } = await runProgram("sfdisk", ["--json", this.disk.disk]);
    const { partitions } = (JSON.parse(output) as { partitiontable: Table }).partitiontable;
    for (const [role, type, id] of [
      ["root", ROOT_TYPE, ids.root],
      ["hash", HASH_TYPE, ids.hash],
    ] as const) {
      const found = partitions.find((one) => one.type === type && one.uuid.toLowerCase() === id);
      if (found === undefined) return false;
      const file = path.join(
        this.#all.folder,
        `release-${version}`,
        `cairn_${version}.${role}.raw`,
      );
      const wanted = readFileSync(file);
      const there = readAt(this.disk.disk, found.start * 512, found.size * 512);
      const rest = there.subarray(wanted.length);
      if (!wanted.equals(there.subarray(0, wanted.length)) || rest.some((byte) => byte !== 0)) {
        return false;
      }
    }
    return true;
  }

  /** The daemon. */
  #run(): void {
    if (this.isMember) this.member = this.#join();
    this.startAgent();
  }

  #join(): Member {
    const { unit } = this;
    const store = this.#all.core.client(`unit ${unit} ${this.starts}`);
    const follower = new ViewFollower(world, timers, store);
    const run = world.seal.sha256(new TextEncoder().encode(`${unit} ${this.starts}`)).toHex();
    const options = { unit, run: run.slice(0, 32), mayLead: () => true, ttlMs: 1500 };
    const lease = new UnitLease(world, timers, { store, follower, options });
    const station = new ControlStation(world, timers, {
      store,
      follower,
      voters: null,
      leads: () => lease.leads,
      votingUnits: () => [1],
      updateLimits: { ...UPDATE_LIMITS, calmMs: 200, returnMs: 60_000, installMs: 60_000 },
    });
    lease.onLead = (leads) => {
      if (leads) station.beganToLead();
    };
    const commands = new CommandClient(world, timers, { store, follower, unit });
    follower.start();
    lease.start();
    station.start();
    this.#stop = async () => {
      station.stop();
      await lease.stop();
      follower.stop();
    };
    this.#store = store;
    return { follower, lease, station, commands };
  }
  #stop: () => Promise<void> = async () => {};
  #store: ReturnType<MemoryControlStore["client"]> | null = null;

  /** A daemon that starts anew without a restart of the machine, between two pieces of work. */
  async startAnew(): Promise<void> {
    this.agent.stop();
    await until("its work has ended", () => this.agent.doing === null);
    this.startAgent();
  }

  startAgent(): void {
    this.agent?.stop();
    const machine = createUpdateMachine({
      folder: path.join(this.#all.folder, `box${this.unit}`, "state"),
      places: this.disk.places,
      keysFile: this.keysFile,
      disk: this.disk.disk,
      restart: () => this.#restart(),
    });
    this.agent = new UpdateAgent(world, timers, {
      machine,
      cluster: () => this.#cluster(),
      diskFormat: () => 1,
      version: "0.0.0",
      featureLevel: 1,
      tickMs: 30,
    });
    this.console = new UpdateConsole(this.agent);
    this.#server = artefactServer(this.agent.payloads);
    this.agent.refreshSlots();
    this.agent.start();
  }

  #cluster() {
    if (!this.isMember || !this.isUp || this.#store === null) return null;
    const { follower, commands } = this.member;
    if (follower.view.revision === 0) return null;
    return {
      unit: this.unit,
      store: this.#store,
      view: follower.view,
      commands,
      voters: [1],
      dialArtefacts: async (unit: number) => {
        const [ours, theirs] = pipePair();
        this.#all.box(unit).#server.serve(theirs);
        return ours;
      },
    };
  }

  async #restart(): Promise<void> {
    timers.after(50, () => {
      void this.powerOff().then(() => timers.after(200, () => void this.powerOn()));
    });
  }

  async powerOff(): Promise<void> {
    if (!this.isUp) return;
    this.isUp = false;
    this.#blessing();
    this.agent.stop();
    if (this.isMember) await this.#stop();
  }

  /** What systemd does once `cairn health` has ended: bless, or start again. */
  #blessOrNot(): void {
    if (!this.isUp) return;
    const { ukiDirectory } = this.disk.places;
    const running = readdirSync(ukiDirectory)
      .map((file) => ({ file, name: parseUkiName(file) }))
      .find(({ name }) => name?.version === this.version);
    if (running?.name?.tries == null) return;
    if (this.sick.has(this.version)) {
      void this.powerOff().then(() => this.powerOn());
      return;
    }
    const good = ukiFileName({ version: this.version, tries: null });
    copyFileSync(path.join(ukiDirectory, running.file), path.join(ukiDirectory, good));
    rmSync(path.join(ukiDirectory, running.file));
  }
}

interface Table {
  partitions: { start: number; size: number; type: string; uuid: string }[];
}

/** systemd-boot: without tries last, then the newest version. */
function bootOrder(one: UkiName, other: UkiName): number {
  const bad = (name: UkiName) => (name.tries?.left === 0 ? 1 : 0);
  return bad(one) - bad(other) || compareVersions(other.version, one.version);
}

/** Waits for something to come true; what never does fails the test. */
export async function until(what: string, holds: () => boolean, limitMs = 60_000): Promise<void> {
  const endMs = world.clock.nowMs() + limitMs;
  while (!holds()) {
    if (world.clock.nowMs() > endMs) throw new Error(`it never came to pass: ${what}`);
    await new Promise<void>((resolve) => timers.after(20, resolve));
  }
}
