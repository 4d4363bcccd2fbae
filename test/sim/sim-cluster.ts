// SPDX-License-Identifier: Apache-2.0
//
// A whole cluster in one process on one seed: units with the product's data planes, slices and
// stores, the control store in memory, simulated disks and links, hosts, and the history they make.
// Scenarios and the random runs are both built on this.

import { assert } from "#base/assert.ts";
import type { ScrubPace } from "#base/disk-health.ts";
import {
  BLOCK_BYTES,
  EXTENT_BYTES,
  REGION_BYTES,
  SECTORS_PER_BLOCK,
  SECTOR_BYTES,
} from "#base/grains.ts";
import { Memory } from "#base/memory.ts";
import { NO_PLANS } from "#base/record.ts";
import type { DiskNumber, SliceNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import { Status, statusName } from "#base/status.ts";
import type { SliceHappening } from "#appliance/slice-happenings.ts";
import type { VolumeShape } from "#appliance/forwarder.ts";
import { MemoryControlStore } from "#cluster/memory-control-store.ts";
import { keys, parseSlice } from "#cluster/state.ts";
import { HappeningKind } from "#raid/happening.ts";
import { formatDisk } from "#store/format-disk.ts";
import { AtEnd } from "./at-end.ts";
import type { Condition } from "./conditions.ts";
import { History } from "./history.ts";
import { judge } from "./judge.ts";
import type { Verdict } from "./judge.ts";
import { MemoryLosses } from "./memory-losses.ts";
import type { SlicePlace } from "./memory-losses.ts";
import { Rot } from "./rot.ts";
import { SectorTags } from "./sector-tags.ts";
import { SimDisk } from "./sim-disk.ts";
import { HostCounts, SimHost } from "./sim-host.ts";
import type { HostVolume, HostWorld, WorkMix } from "./sim-host.ts";
import { NET_USUAL, SimNet } from "./sim-net.ts";
import type { NetOptions } from "./sim-net.ts";
import { SimGrowth } from "./sim-growth.ts";
import { SimRestore } from "./sim-restore.ts";
import type { RestoreOptions } from "./sim-restore.ts";
import { SimVoters } from "./sim-voters.ts";
import { ARENA_BYTES, SimUnit } from "./sim-unit.ts";
import type { UnitProcess, UnitWorld } from "./sim-unit.ts";
import { Simulation } from "./simulation.ts";

export interface VolumePlan {
  volume: number;
  sliceBytes: number;
  copies: number;
  /** Per slice the disks that hold it, the head first. */
  slices: DiskNumber[][];
  /** Of the last slice; not said: a whole one. */
  lastBytes?: number;
}

export interface ClusterPlan {
  seed: number;
  units: number;
  diskBytes: number;
  volumes: VolumePlan[];
  hosts: number;
  mix: WorkMix;
  net?: Partial<NetOptions>;
  /** Per unit; 1 is right. */
  clockRates?: number[];
  /** Absent: never, but at the end. */
  scrub?: ScrubPace;
  /** What units write goes through voters, whose views may be behind (sim-voters.ts). */
  voters?: boolean;
  /** Its volumes grow while the nemesis works. */
  grows?: boolean;
}

export const MIX_USUAL: WorkMix = {
  read: 40,
  write: 44,
  flush: 8,
  zero: 3,
  fua: 0.2,
  cold: 0.1,
  depth: 3,
  thinkMs: 30,
  quietMs: 0,
  largestSectors: 24,
  roam: 0.15,
  patienceMs: 12_000,
};

/** At the end: as fast as it goes; and then never again. */
export const SCRUB_AT_END: ScrubPace = { everyMs: 0, bytesPerSecondMax: 1 << 30 };
/** Of the hosts that look at the end. */
export const PATIENT: WorkMix = { ...MIX_USUAL, patienceMs: 600_000 };
const DISK_UUID = (disk: DiskNumber) => disk.toString(16).padStart(32, "0");
const CLUSTER_UUID = "c".repeat(32);
const EVENTS_MAX = 6_000_000;

export class SimCluster {
  readonly simulation: Simulation;
  readonly net: SimNet;
  /** Of the newest generation. */
  controlStore: MemoryControlStore;
  readonly #stores = new Map<number, MemoryControlStore>();
  readonly #voters = new Map<MemoryControlStore, SimVoters>();
  restore: SimRestore | null = null;
  readonly history = new History();
  readonly losses: MemoryLosses;
  readonly units: SimUnit[] = [];
  readonly hosts: SimHost[] = [];
  readonly counts = new HostCounts();
  readonly sentences: string[] = [];
  readonly plan: ClusterPlan;
  readonly shapes: VolumeShape[];
  readonly hostVolumes: HostVolume[];
  /** The nemesis is over: what it planned is not done any more. */
  healed = false;
  readonly rot: Rot;
  /** A disk could not read: what only it had may be unreadable for good (H8). */
  rotten = false;
  /** Told once, of the next record that is committed. */
  onNextCommit: ((record: SliceRecord) => void) | null = null;
  /** "Sometimes" conditions: named, counted. */
  readonly reached = new Map<string, number>();
  /** What heads told of wrong blocks. */
  readonly happenings: SliceHappening[] = [];
  readonly growth = new SimGrowth(this);
  readonly slicePlaces = new Map<SliceNumber, SlicePlace>();
  readonly #placement = new Map<DiskNumber, UnitNumber>();
  readonly #tags = new WeakMap<UnitProcess, SectorTags>();
  readonly #arenas: ArrayBuffer[] = [];
  #plans = NO_PLANS;
  #tag = 0;

  constructor(plan: ClusterPlan) {
    this.plan = plan;
    this.simulation = new Simulation(plan.seed);
    this.net = new SimNet(this.simulation, { ...NET_USUAL, ...plan.net });
    this.shapes = shapesOf(plan, this.slicePlaces);
    this.hostVolumes = this.shapes.map((shape) => this.#hostVolume(shape));
    this.rot = new Rot(this);
    this.losses = new MemoryLosses(this.slicePlaces, (slice, place) => {
      this.simulation.trace("loss", slice);
      this.sometimes("all in-sync members lost their memory");
      this.history.lost(place.volume, place.firstSector, place.sectors);
    });
    this.controlStore = this.#makeStore(1);
    for (let number = 1; number <= plan.units; number++) this.#addUnit(number);
    this.#addVoters();
    for (let number = 1; number <= plan.hosts; number++) {
      this.hosts.push(new SimHost(this.hostWorld(), number, plan.mix));
    }
  }

  #makeStore(generation: number): MemoryControlStore {
    const store = new MemoryControlStore({
      clock: { nowMs: () => this.simulation.nowMs, wallMs: () => 0 },
      timers: this.simulation,
      prng: this.simulation.prng.fork(),
      latencyMs: { least: 0.5, most: 4 },
    });
    store.onCommit = (events) => {
      for (const event of events) {
        if (event.kind !== "put" || !event.key.startsWith(keys.slices)) continue;
        // What an older generation still commits counts until the newest has settled the slice.
        const isPast = store !== this.controlStore && this.controlStore.readOne(event.key) !== null;
        if (!isPast) this.#committed(parseSlice(event.key, event.value));
      }
    };
    this.#stores.set(generation, store);
    return store;
  }

  #addVoters(): void {
    if (this.plan.voters !== true) return;
    const { simulation, controlStore, plan } = this;
    const voters = new SimVoters(simulation, controlStore, this.#placement, plan.units);
    voters.onBehind = () => this.sometimes("a unit wrote through a voter that was behind");
    this.#voters.set(controlStore, voters);
  }

  /** Of the newest generation; null: units ask the control store themselves. */
  get voters(): SimVoters | null {
    return this.#voters.get(this.controlStore) ?? null;
  }

  /** The slice records as the control store has them: what a backup taken now holds of them. */
  backup(): SliceRecord[] {
    const { entries } = this.controlStore.read(keys.slices);
    return entries.map(({ key, value }) => parseSlice(key, value));
  }

  /** A restored backup begins a new generation; units enter it one by one. */
  beginGeneration(backup: readonly SliceRecord[], options?: RestoreOptions): SimRestore {
    const generation = this.#stores.size + 1;
    this.controlStore = this.#makeStore(generation);
    this.#addVoters();
    this.restore = new SimRestore(this, backup, generation, options);
    return this.restore;
  }

  unit(number: UnitNumber): SimUnit {
    return this.units[number - 1] as SimUnit;
  }
  /** As the control station tells it: these units are in maintenance, and no others. */
  maintain(...units: UnitNumber[]): void {
    const maintained = new Set<DiskNumber>();
    for (const [disk, unit] of this.#placement) if (units.includes(unit)) maintained.add(disk);
    this.#plans = { leaving: new Set(), maintained };
    for (const { process } of this.units) {
      process?.deliver(() => process.plane.setPlans(this.#plans));
    }
  }
  /** One disk per unit, of the same number, until it is moved. */
  unitOf(disk: DiskNumber): SimUnit {
    return this.unit(this.#placement.get(disk) as UnitNumber);
  }
  disk(number: DiskNumber): SimDisk {
    return this.unitOf(number).disks.get(number) as SimDisk;
  }
  /** Takes a disk out of a unit without power, or where it was pulled, and puts it in elsewhere. */
  moveDisk(number: DiskNumber, to: UnitNumber): void {
    const from = this.unitOf(number);
    const disk = this.disk(number);
    const isOut = from.process === null || from.outDisks.has(number);
    assert(isOut, "a disk that is in use is not moved");
    from.disks.delete(number);
    from.outDisks.delete(number);
    this.#placement.set(number, to);
    this.voters?.placed(number, to);
    this.unit(to).insert(number, disk);
    // As the view tells them, once the disk is registered there.
    for (const { process } of this.units) {
      if (process?.unit !== to) process?.deliver(() => process.plane.placeDisk(number, to));
    }
  }

  /** A volume grows by a slice on these disks, the head first; its number. */
  grow(volume: number, disks: DiskNumber[]): SliceNumber {
    return this.growth.grow(volume, { disks }) as SliceNumber;
  }
  sometimes(condition: Condition): void {
    this.reached.set(condition, (this.reached.get(condition) ?? 0) + 1);
  }
  violation(sentence: string): void {
    if (this.sentences.length < 20) {
      this.sentences.push(`at ${this.simulation.nowMs.toFixed(1)} ms: ${sentence}`);
    }
  }
  record(slice: SliceNumber): SliceRecord {
    return this.losses.record(slice) as SliceRecord;
  }

  #committed(record: SliceRecord): void {
    const { simulation } = this;
    const before = this.losses.record(record.slice);
    simulation.trace("commit", record.slice, record.epoch, record.head, record.inSync.length);
    simulation.say(() => `  record ${JSON.stringify(record)}`);
    if (before !== null) {
      if (before.head !== record.head) this.sometimes("takeover");
      if (record.inSync.length < before.inSync.length) this.sometimes("member dropped");
      if (record.inSync.length > before.inSync.length) this.sometimes("member back in sync");
    }
    this.losses.committed(record);
    const { onNextCommit } = this;
    this.onNextCommit = null;
    if (before !== null && !this.healed) onNextCommit?.(record);
  }

  #addUnit(number: UnitNumber): void {
    const { plan, simulation } = this;
    const disk = new SimDisk(simulation, `disk ${number}`, plan.diskBytes);
    this.#placement.set(number, number);
    const rate = plan.clockRates?.[number - 1] ?? 1;
    this.units.push(new SimUnit(this.#unitWorld(), number, new Map([[number, disk]]), rate));
  }

  #unitWorld(): UnitWorld {
    return {
      simulation: this.simulation,
      net: this.net,
      controlClient: (generation, unit) => {
        const store = this.#stores.get(generation) as MemoryControlStore;
        const client = store.client(`unit ${unit}`);
        this.#voters.get(store)?.join(unit, client);
        return client;
      },
      opened: (process) => {
        const { restore } = this;
        if (restore?.generation === process.generation) restore.opened(process);
      },
      shapes: this.shapes,
      arenas: this.#arenas,
      placement: this.#placement,
      diskOpened: (disk, incarnation) => this.losses.started(disk, incarnation),
      takenAgain: () => this.sometimes("a pulled disk was taken again"),
      processGone: (process) => {
        for (const host of this.hosts) host.connectionLost(process);
      },
      powerCut: (disk) => this.losses.powerCut(disk),
      gaveUp: (process) => this.#gaveUp(process),
      plans: () => this.#plans,
      scrubPace: () => (this.healed ? SCRUB_AT_END : (this.plan.scrub ?? SCRUB_AT_END)),
      happened: (process, happening) => this.#happened(process, happening),
      accepted: (slice, offsetBytes) => this.rot.wasAccepted(slice, offsetBytes),
      scrubbed: (disk) => {
        this.simulation.trace("scrubbed", disk);
        this.sometimes("a scrub came to its end");
      },
      violation: (sentence) => this.violation(sentence),
    };
  }

  /**
   * R10: only a new run of the disk serves again. While there is harm, the nemesis sees to that.
   */
  #gaveUp(process: UnitProcess): void {
    this.sometimes("a disk was given up");
    this.simulation.after(200, () => {
      const unit = this.unit(process.unit);
      if (!this.healed || unit.process !== process) return;
      unit.kill();
      unit.boot();
    });
  }

  #happened(process: UnitProcess, happening: SliceHappening): void {
    const { kind, slice, disk, offsetBytes, blocks } = happening;
    this.simulation.trace(`happening-${kind}`, slice, disk, offsetBytes / BLOCK_BYTES, blocks);
    this.happenings.push(happening);
    switch (kind) {
      case HappeningKind.healed:
        return this.sometimes("a block was healed");
      case HappeningKind.unreadable:
        return this.sometimes("a block was unreadable on all");
      case HappeningKind.carried:
        return this.sometimes("an unreadable block was carried to a new copy");
      case HappeningKind.keepsNothing:
        return this.sometimes("a disk kept nothing");
      case HappeningKind.diverged:
        // Where disks could not be read for a while, nobody could make them equal.
        if (this.rotten) return;
        this.violation(`slice ${slice} differs on disk ${disk} and unit ${process.unit}'s (H2)`);
    }
  }

  /** Where a sector of a volume lies. */
  placeOf(volume: number, sector: number): { slice: SliceNumber; block: number } {
    const shape = this.shapes.find((one) => one.volume === volume) as VolumeShape;
    const sliceSectors = shape.sliceBytes / SECTOR_BYTES;
    const slice = shape.slices[Math.floor(sector / sliceSectors)] as SliceNumber;
    return { slice, block: Math.floor((sector % sliceSectors) / SECTORS_PER_BLOCK) };
  }

  hostWorld(): HostWorld {
    return {
      simulation: this.simulation,
      history: this.history,
      volumes: this.hostVolumes,
      portals: () => this.portals(),
      nextTag: () => ++this.#tag,
      tagsOf: (process) => this.#tagsOf(process),
      counts: this.counts,
      violation: (sentence) => this.violation(sentence),
      rotten: ({ volume, firstSector, count }) =>
        this.rotten || this.rot.mayBeUnreadable(volume, firstSector, count),
    };
  }

  #tagsOf(process: UnitProcess): SectorTags {
    let tags = this.#tags.get(process);
    if (tags === undefined) {
      tags = new SectorTags(process.memory.bytes.buffer);
      this.#tags.set(process, tags);
    }
    return tags;
  }

  portals(): UnitProcess[] {
    const portals: UnitProcess[] = [];
    for (const { process } of this.units) {
      if (process !== null && process.ready && !process.stopping) portals.push(process);
    }
    return portals;
  }

  /** A few small places, some of them across the borders of extents, regions and slices. */
  #hostVolume(shape: VolumeShape): HostVolume {
    const prng = this.simulation.prng.fork();
    const borders = [EXTENT_BYTES, REGION_BYTES, shape.sliceBytes];
    const hot: HostVolume["hot"] = [];
    const sectors = shape.sizeBytes / SECTOR_BYTES;
    for (let place = 0; place < 5; place++) {
      const border = prng.pick(borders) * prng.between(0, 3);
      const around = prng.chance(0.6) ? border : prng.below(shape.sizeBytes);
      const count = prng.pick([4, 16, 40]);
      const first = Math.floor(around / SECTOR_BYTES) - prng.below(count);
      hot.push({ firstSector: Math.min(Math.max(0, first), sectors - count - 64), count });
    }
    const sliceSectors = shape.sliceBytes / SECTOR_BYTES;
    return { volume: shape.volume, sectors, sliceSectors, hot };
  }

  /** Formats the disks, boots the units and makes the volumes: until all is ready. */
  start(): void {
    const { simulation } = this;
    for (const unit of this.units) for (const [number] of unit.disks) this.#format(number);
    for (const unit of this.units) unit.boot();
    const ready = () => this.portals().length === this.units.length;
    simulation.run(simulation.nowMs + 10_000, ready);
    if (!ready()) throw new Error("the units do not come up");
    const puts = this.#firstRecords().map((record) => ({
      key: keys.slice(record.slice),
      value: JSON.stringify(record),
    }));
    this.controlStore.commit({ ifs: [], puts });
    simulation.run(simulation.nowMs + 1000);
  }

  #format(number: DiskNumber): void {
    const disk = this.disk(number);
    const arena = this.#arenas.pop() ?? new ArrayBuffer(ARENA_BYTES);
    const memory = new Memory(arena);
    const area = disk.attach(memory, (act) => act());
    const prng = this.simulation.prng.fork();
    const world = {
      random: {
        fraction: () => prng.fraction(),
        fill: (bytes: Uint8Array) => {
          for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
        },
      },
      clock: { nowMs: () => this.simulation.nowMs, wallMs: () => 0 },
      log: { write: () => {} },
    };
    const identity = { clusterId: CLUSTER_UUID, uuid: DISK_UUID(number) };
    let ended: Status | null = null;
    formatDisk(world, memory, area, identity, {}, (status) => {
      ended = status;
    });
    this.simulation.run(this.simulation.nowMs + 60_000, () => ended !== null);
    if (ended !== Status.ok) throw new Error(`format: ${statusName(ended ?? Status.busy)}`);
    disk.kill();
    this.#arenas.push(arena);
  }

  #firstRecords(): SliceRecord[] {
    return this.plan.volumes.flatMap((plan, at) =>
      plan.slices.map((disks, index) => {
        const slice = (this.shapes[at] as VolumeShape).slices[index] as SliceNumber;
        const { volume, sliceBytes, lastBytes = sliceBytes } = plan;
        const sizeBytes = index === plan.slices.length - 1 ? lastBytes : sliceBytes;
        return this.firstRecord(slice, { volume, index, sizeBytes, disks });
      }),
    );
  }

  firstRecord(
    slice: SliceNumber,
    of: { volume: number; index: number; sizeBytes: number; disks: DiskNumber[] },
  ): SliceRecord {
    const incarnationOf = (disk: DiskNumber) =>
      this.unitOf(disk).process?.stores.get(disk)?.incarnation ?? 0;
    const { disks, ...place } = of;
    return {
      slice,
      ...place,
      copies: disks.length,
      lineage: 1,
      ancestry: [],
      epoch: 1,
      head: disks[0] as DiskNumber,
      inSync: disks.map((disk) => ({ disk, incarnation: incarnationOf(disk) })),
      resyncing: [],
    };
  }

  run(durationMs: number): void {
    const { simulation } = this;
    simulation.run(simulation.nowMs + durationMs, () => this.exhausted());
  }

  exhausted(): boolean {
    if (this.simulation.eventCount < EVENTS_MAX) return false;
    if (!this.sentences.some((sentence) => sentence.includes("events"))) {
      this.violation(`more than ${EVENTS_MAX} events: something retries without bound`);
    }
    return true;
  }

  work(): void {
    for (const host of this.hosts) host.start();
  }
  rest(): void {
    for (const host of this.hosts) host.stop();
  }

  stopInOrder(unit: SimUnit): void {
    const { process } = unit;
    if (process === null || !process.ready || process.stopping || process.paused) return;
    this.simulation.trace("stop", unit.number);
    process.stop(() => {
      this.simulation.trace("stopped", unit.number);
      this.sometimes("orderly stop ended");
      unit.kill();
    });
  }

  /** Undoes all harm: every unit runs, every link and disk works. */
  heal(): void {
    this.healed = true;
    this.simulation.trace("heal");
    this.net.options = { ...this.net.options, loss: 0 };
    this.net.healAll();
    this.controlStore.setAway(false);
    Object.assign(this.controlStore.faults, { requestLost: 0, answerLost: 0, late: 0 });
    this.voters?.heal();
    this.restore?.enterAll();
    for (const unit of this.units) {
      unit.resume();
      unit.setStoreReachable(true);
      if (unit.process !== null) unit.process.client.watchDelayMs = 0;
      for (const number of unit.outDisks) unit.putBack(number);
      for (const disk of unit.disks.values()) {
        disk.slowFactor = 1;
        disk.lie = null;
        if (disk.fault === null) continue;
        disk.fault = null;
        unit.kill();
      }
      // A disk that failed or was given up is out until its unit starts again (R10).
      const { process } = unit;
      const failed = process !== null && [...process.stores.values()].some((s) => s.failed);
      if (process !== null && (failed || process.gaveUp || process.stopping)) unit.kill();
      unit.boot();
    }
  }

  /** C, "at the end": heal, wait, look at everything, and let the judge speak. */
  finish(): Verdict {
    if (!this.healed) this.heal();
    new AtEnd(this).check();
    const verdict = judge(this.history);
    for (const { volume, sector, sentence } of verdict.violations) {
      if (sector >= 0 && this.rot.excuses(volume, sector)) {
        this.sometimes("harm was taken as it was after a crash");
        continue;
      }
      this.violation(`volume ${volume} sector ${sector}: ${sentence}`);
    }
    return verdict;
  }
}

function shapesOf(plan: ClusterPlan, places: Map<SliceNumber, SlicePlace>): VolumeShape[] {
  let slice = 0;
  return plan.volumes.map((volume) => {
    const sectors = volume.sliceBytes / SECTOR_BYTES;
    const slices = volume.slices.map((_, index) => {
      slice++;
      places.set(slice, { volume: volume.volume, firstSector: index * sectors, sectors });
      return slice;
    });
    const { sliceBytes, lastBytes = sliceBytes } = volume;
    const sizeBytes = sliceBytes * (slices.length - 1) + lastBytes;
    return { volume: volume.volume, sizeBytes, sliceBytes, slices };
  });
}
