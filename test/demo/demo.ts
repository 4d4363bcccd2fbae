// SPDX-License-Identifier: Apache-2.0
//
// The demo's acts, in order. Each says what it does, waits for it within a generous limit, checks
// what a host would care about, and leaves its figures for the table.

import path from "node:path";
import type { VolumeView } from "#appliance/backend.ts";
import {
  assembled,
  createVolume,
  frontFirst,
  headOf,
  oneCluster,
  protectedEverywhere,
  resyncedBytes,
  through,
  voters,
} from "#test/cluster/assembled.ts";
import { keepsWriting } from "#test/cluster/cluster-fixture.ts";
import { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { MountSpace } from "#test/cluster/mount-space.ts";
import { GapProbe } from "#test/cluster/probe.ts";
import { need } from "#test/cluster/until.ts";
import { Copying, selectFiles, type Selection } from "./copying.ts";
import { Figures, mebibytes, seconds } from "./figures.ts";
import { MountedVolume } from "./mounted-volume.ts";

const MIB = 2 ** 20;
const VOLUME = "demo";
const VOLUME_BYTES = 2048 * MIB;
/** Less than the volume: it has to lie on several units. */
const UNIT_BYTES = 1856 * MIB;
const SLICE_BYTES = 256 * MIB;
/** The start of the volume belongs to the probes, a region each; the file system lies behind. */
const PROBES_BYTES = 8 * MIB;
const INBAND_OFFSET = 4 * MIB;
const COPY_BYTES = 300 * MIB;
/** Of the second copy, when the head is killed. */
const KILL_AT = 0.4;
/**
 * Longer than it takes to check everything while the killed unit is away, so that its place is
 * still its own when it returns; ten minutes on real boxes.
 */
const REPROTECT_AFTER_MS = 60_000;
const NEEDS_BYTES = 8 * 1024 * MIB;
/** Generous: whether it happens counts here, not how fast. */
const LIMIT_MS = 180_000;
const PROGRESS_MS = 2_000;

export interface DemoOptions {
  say: (text: string) => void;
  keep: boolean;
  executable: string;
}

/** Who plays which part; known once the volume is placed. */
interface Parts {
  head: LabUnit;
  /** The file system's way to the volume: not its head. */
  door: LabUnit;
  /** The in-band probe's way, and the unit that is lost for good. */
  bystander: LabUnit;
  spare: LabUnit;
}

export class Demo implements AsyncDisposable {
  readonly #options: DemoOptions;
  readonly #figures = new Figures();
  readonly #lab: Lab;
  readonly #startMs = performance.now();
  #space: MountSpace | null = null;

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#lab = new Lab({
      needsBytes: NEEDS_BYTES,
      keep: options.keep,
      say: (line) => options.say(line),
      unit: {
        diskBytes: UNIT_BYTES,
        settings: {
          clusterName: "demo",
          sliceBytes: SLICE_BYTES,
          reprotectAfterMs: REPROTECT_AFTER_MS,
        },
      },
    });
  }

  get #mounts(): MountSpace {
    if (this.#space === null) throw new Error("nothing was mounted yet");
    return this.#space;
  }

  get interrupted(): boolean {
    return this.#lab.interruptedBy !== null;
  }

  async run(): Promise<void> {
    await this.#assemble();
    const parts = await this.#makeVolume();
    const first = await this.#firstCopy(parts);
    const changed = await this.#killTheHead(parts, first);
    await this.#checkCopies("everything compared equal, cold", parts.bystander, first.files);
    await this.#bringBack(parts.head, changed);
    await this.#loseForGood(parts);
    await this.#checkCopies("and still, read through the spare", parts.spare, first.files);
    this.#say("Done.");
  }

  table(): string {
    return this.#figures.rows.length === 0 ? "" : `\n${this.#figures.table()}\n`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lab.end();
  }

  // The acts
  // ----------------------------------------------------------------------------------

  async #assemble(): Promise<void> {
    const lab = this.#lab;
    this.#say(`Three units and a spare, each in its own network namespace; all in ${lab.folder}.`);
    for (const role of ["member", "member", "member", "spare"] as const) lab.add({ role });
    for (const unit of lab.units) unit.start();
    const start = performance.now();
    this.#say("They are switched on and know a join secret, nothing else. Waiting for a cluster.");
    const all = await lab.until("one cluster", () => oneCluster(lab), LIMIT_MS);
    this.#figure("one cluster", start, "from the last unit's start");
    const [status] = all;
    this.#say(`Cluster ${status?.cluster?.name}: ${all.map((one) => one.name).join(", ")}.`);
    const wish = {
      name: VOLUME,
      sizeBytes: VOLUME_BYTES,
      protection: "mirror-2" as const,
    };
    const tryIt = () => lab.anyApi().createVolume(wish, { dryRun: true });
    await lab.until("a first volume is possible", tryIt, LIMIT_MS);
    this.#figure("first volume possible", start, "promised: 15 s");
    const volume = await createVolume(lab, wish, LIMIT_MS);
    this.#figure("first volume created", start);
    this.#say(
      `Volume ${VOLUME}: ${mebibytes(volume.sizeBytes)} mirrored, on units of ` +
        `${mebibytes(UNIT_BYTES)}, so it lies on several.`,
    );
    await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
    this.#figure("three voters", start, "promised: 25 s");
    await lab.until("every unit in its place", () => assembled(lab), LIMIT_MS);
    this.#say("Three of them keep the control state together: any one may be lost now.");
  }

  async #makeVolume(): Promise<Parts> {
    const lab = this.#lab;
    const volume = await lab.until(
      "the volume whole, seen by all",
      () => protectedEverywhere(lab, VOLUME),
      LIMIT_MS,
    );
    const head = await headOf(lab, VOLUME);
    const [door, bystander] = lab.units.slice(0, 3).filter((unit) => unit !== head);
    const spare = lab.unit(4);
    if (door === undefined || bystander === undefined) throw new Error("three members are needed");
    this.#say(`Its head is ${head.name}; ${this.#spread(volume)}.`);
    return { head, door, bystander, spare };
  }

  async #firstCopy({ door }: Parts): Promise<{ mounted: MountedVolume; files: Selection }> {
    const lab = this.#lab;
    const files = selectFiles("/usr", COPY_BYTES, path.join(lab.folder, "files"));
    this.#say(`ext4 on it, attached through ${door.name}, which has to pass everything on.`);
    this.#space = await MountSpace.open(lab);
    const mounted = await MountedVolume.mount(lab, this.#space, {
      name: "mounted",
      uri: `nbd://${door.address}:10809/${VOLUME}`,
      offsetBytes: PROBES_BYTES,
      sizeBytes: VOLUME_BYTES,
      make: true,
    });
    this.#say(`Copying ${files.files} files, ${mebibytes(files.bytes)}, from /usr.`);
    const start = performance.now();
    const copy = this.#copying("copy", files, path.join(mounted.folder, "first"));
    await this.#watch(copy, files);
    const rate = files.bytes / ((performance.now() - start) / 1000);
    this.#figures.add("first copy", `${mebibytes(rate)}/s`, "durable at every MiB");
    return { mounted, files };
  }

  /** Answers how much the file system wrote while the unit was away. */
  async #killTheHead(
    { head, door, bystander }: Parts,
    { mounted, files }: { mounted: MountedVolume; files: Selection },
  ): Promise<number> {
    const lab = this.#lab;
    await using direct = new GapProbe({ uris: frontFirst(lab, VOLUME), offsetBytes: 0 });
    await using inband = new GapProbe({
      uris: through([bystander, door], VOLUME),
      offsetBytes: INBAND_OFFSET,
      identity: 2,
    });
    await this.#probesWrite(direct, inband);
    this.#say("The same files once more, and in the middle of it:");
    const copy = this.#copying("copy", files, path.join(mounted.folder, "second"));
    const half = () => (copy.latest.bytes >= KILL_AT * files.bytes ? true : null);
    await lab.until("part of the second copy done", half, LIMIT_MS, { lookMs: 20 });
    const killedMs = performance.now();
    const writtenBefore = mounted.writtenBytes();
    await head.kill();
    this.#say(`kill -9 ${head.name}, the head. The copy goes on by itself.`);
    const { gapMs } = await this.#watch(copy, files);
    await this.#probesWrite(direct, inband);
    this.#gap("service gap, direct", direct.gapSince(killedMs).gapMs, "promised: 5 s");
    this.#gap("service gap, in-band", inband.gapSince(killedMs).gapMs, "promised: 5 s");
    this.#gap("pause seen by the copy", gapMs, "longest between two durable MiB");
    await direct.finish();
    await inband.finish();
    this.#say("Every block of the probes holds what it was told to hold. Unmounting.");
    await mounted.unmount();
    const changedBytes = mounted.writtenBytes() - writtenBefore;
    await this.#mustBeClean(mounted);
    await mounted.detach();
    return changedBytes;
  }

  async #checkCopies(sentence: string, door: LabUnit, files: Selection): Promise<void> {
    const lab = this.#lab;
    const mounted = await MountedVolume.mount(lab, this.#mounts, {
      name: `check-${door.name}`,
      uri: `nbd://${door.address}:10809/${VOLUME}`,
      offsetBytes: PROBES_BYTES,
      sizeBytes: VOLUME_BYTES,
      make: false,
    });
    for (const copy of ["first", "second"]) {
      const comparing = this.#copying("compare", files, path.join(mounted.folder, copy));
      const { different = [] } = await this.#watch(comparing, files);
      if (different.length > 0) throw new Error(`${copy} copy differs: ${different.join(" ")}`);
    }
    await mounted.unmount();
    await this.#mustBeClean(mounted);
    await mounted.detach();
    this.#say(`Both copies: ${sentence} (${files.files} files each); e2fsck finds nothing.`);
  }

  async #bringBack(unit: LabUnit, changedBytes: number): Promise<void> {
    const lab = this.#lab;
    const before = await resyncedBytes(this.#lab);
    const start = performance.now();
    unit.start();
    this.#say(`${unit.name} is switched on again and catches up.`);
    await lab.until(
      `${unit.name} back and ${VOLUME} protected`,
      () => this.#wholeWith([unit]),
      LIMIT_MS,
      { lookMs: 200 },
    );
    this.#figure("protected again after its return", start);
    const resynced = (await resyncedBytes(this.#lab)) - before;
    this.#figures.add(
      "bytes resynced",
      mebibytes(resynced),
      `${mebibytes(changedBytes)} were written meanwhile, the volume has ` +
        mebibytes(VOLUME_BYTES),
    );
  }

  async #loseForGood({ bystander, spare }: Parts): Promise<void> {
    const lab = this.#lab;
    await bystander.stop();
    const start = performance.now();
    const patience = REPROTECT_AFTER_MS / 1000;
    this.#say(`${bystander.name} is switched off for good. In ${patience} s the spare steps in.`);
    await lab.until(
      `${VOLUME} protected without ${bystander.name}`,
      () => this.#wholeWith([spare]),
      REPROTECT_AFTER_MS + LIMIT_MS,
      { lookMs: 500 },
    );
    this.#figure("protected again after a loss", start, `of it ${patience} s of patience`);
    const volume = await spare.api.volume(VOLUME);
    this.#say(`The spare took its place: ${this.#spread(volume)}.`);
  }

  // What the acts are made of
  // ----------------------------------------------------------------------------------

  /** Protected as all running units see it, on running units only, the named ones among them. */
  async #wholeWith(units: readonly LabUnit[]): Promise<VolumeView> {
    const lab = this.#lab;
    const volume = await protectedEverywhere(lab, VOLUME);
    const members = volume.slices.flatMap((slice) => slice.members);
    const names = new Map((await lab.anyApi().units()).map((view) => [view.unit, view.name]));
    const holders = new Set(members.map((member) => names.get(member.unit) ?? "?"));
    for (const unit of units) need(holders.has(unit.name), `nothing lies on ${unit.name} yet`);
    for (const unit of lab.units) {
      const gone = !unit.running && holders.has(unit.name);
      need(!gone, `${unit.name} is still a member, but off`);
    }
    for (const slice of volume.slices) {
      const equal = slice.members.filter((member) => member.state === "in-sync").length;
      need(equal === 2, `slice ${slice.index} has ${equal} of 2 copies`);
    }
    return volume;
  }

  async #probesWrite(...probes: readonly GapProbe[]): Promise<void> {
    for (const probe of probes) await keepsWriting(this.#lab, probe);
  }

  #copying(act: "copy" | "compare", { list }: Selection, target: string): Copying {
    return new Copying(this.#lab, act, { list, target, space: this.#mounts });
  }

  async #watch(copying: Copying, files: Selection) {
    let toldMs = performance.now();
    const look = () => {
      const now = performance.now();
      if (now - toldMs > PROGRESS_MS) {
        toldMs = now;
        const percent = Math.floor((100 * copying.latest.bytes) / files.bytes);
        this.#say(`  ${percent} %`);
      }
      return copying.finished();
    };
    return this.#lab.until("all files done", look, LIMIT_MS);
  }

  async #mustBeClean(mounted: MountedVolume): Promise<void> {
    const damage = await mounted.damage();
    if (damage !== null) throw new Error(`e2fsck found damage: ${damage}`);
  }

  #spread(volume: VolumeView): string {
    const counts = new Map<number, number>();
    for (const member of volume.slices.flatMap((slice) => slice.members)) {
      counts.set(member.unit, (counts.get(member.unit) ?? 0) + 1);
    }
    const parts = [...counts].map(([unit, count]) => `${count} copies on unit ${unit}`);
    return `${volume.slices.length} slices, ${parts.join(", ")}`;
  }

  #figure(name: string, sinceMs: number, remark = ""): void {
    this.#gap(name, performance.now() - sinceMs, remark);
  }
  #gap(name: string, ms: number, remark: string): void {
    this.#figures.add(name, seconds(ms), remark);
    this.#say(`  ${name}: ${seconds(ms)}`);
  }
  #say(text: string): void {
    const at = ((performance.now() - this.#startMs) / 1000).toFixed(1).padStart(6);
    this.#options.say(`${at}  ${text}`);
  }

  // Staying up
  // ----------------------------------------------------------------------------------

  /** What to try, then until a signal ends the lab. */
  async stayUp(): Promise<never> {
    const { say, executable } = this.#options;
    const [first] = this.#lab.running;
    if (first === undefined) throw new Error("no unit runs");
    const socket = `--socket ${path.join(first.stateFolder, "api.sock")}`;
    say("The units stay up until Ctrl-C. Pages (any user, the token as password):");
    for (const unit of this.#lab.running) {
      say(`  ${unit.name}   http://${unit.address}:7480/   ${unit.token()}`);
    }
    say("On the command line:");
    for (const words of ["status", "unit list", "disk list", "volume list", "event list"]) {
      say(`  ${executable} ${words} ${socket}`);
    }
    say("As a host:");
    for (const unit of this.#lab.running) {
      say(`  nbdinfo nbd://${unit.address}/${VOLUME}`);
    }
    // A timer keeps the process alive; the lab's signals end it.
    return await new Promise<never>(() => setInterval(() => {}, 60_000));
  }
}
