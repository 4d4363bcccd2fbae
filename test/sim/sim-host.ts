// SPDX-License-Identifier: Apache-2.0
//
// Hosts: several of them read, write, flush, trim and zero the same few places of the same volumes
// through the portals of different units, overlapping, and record what they did and saw. A host
// whose unit dies has writes of unknown outcome; it goes on through another unit.

import { EXTENT_BYTES, SECTOR_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_FUA, FLAG_NO_HOLE, Operation, OperationKind } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import { Status, statusName } from "#base/status.ts";
import type { History, HostAct, HostActKind } from "./history.ts";
import type { SectorTags } from "./sector-tags.ts";
import type { UnitProcess } from "./sim-unit.ts";
import type { Simulation } from "./simulation.ts";

/** H7, NBD: 2 s after the last sending nothing begins any more; a bit more for drifting clocks. */
const FENCE_MS = 2010;
const BURST_MS = 1000;

export interface HostVolume {
  volume: number;
  sectors: number;
  sliceSectors: number;
  /** Where most of the I/O goes; overlaps come from here. */
  hot: { firstSector: number; count: number }[];
}

export interface WorkMix {
  read: number;
  write: number;
  flush: number;
  zero: number;
  /** Share of writes with FUA. */
  fua: number;
  /** Share of I/O outside the hot places. */
  cold: number;
  depth: number;
  thinkMs: number;
  /**
   * All hosts rest this long after every second of work: regions become inactive (R6). 0: never.
   */
  quietMs: number;
  largestSectors: number;
  /** Share of acts through another unit than the usual one. */
  roam: number;
  /** A host without an answer for this long closes its connection. */
  patienceMs: number;
}

/** What hosts share. */
export interface HostWorld {
  simulation: Simulation;
  history: History;
  volumes: readonly HostVolume[];
  /** Live processes that serve hosts. */
  portals(): UnitProcess[];
  nextTag(): number;
  tagsOf(process: UnitProcess): SectorTags;
  counts: HostCounts;
  violation(sentence: string): void;
  /** Something may really be unreadable there, so that a medium error is honest (H8). */
  rotten(act: HostAct): boolean;
}

export class HostCounts {
  issued = 0;
  acked = 0;
  ackedWrites = 0;
  ackedFlushes = 0;
  unknown = 0;
  gaveUp = 0;
  readonly failed = new Map<string, number>();
}

interface UnderWay {
  act: HostAct;
  operation: Operation;
  process: UnitProcess;
  gaveUp: boolean;
  settled: boolean;
}

type ActDone = (acked: boolean, status: Status) => void;

interface Wish {
  kind: OperationKind;
  volume: HostVolume;
  firstSector: number;
  count: number;
  flags: number;
}

export class SimHost {
  readonly number: number;
  working = false;
  readonly #world: HostWorld;
  readonly #mix: WorkMix;
  readonly #prng: Prng;
  readonly #underWay = new Set<UnderWay>();
  /** Connections closed with requests under way: they may still take effect (H7). */
  readonly #abandoned = new Set<UnderWay>();
  #usual: UnitProcess | null = null;

  constructor(world: HostWorld, number: number, mix: WorkMix) {
    this.#world = world;
    this.number = number;
    this.#mix = mix;
    this.#prng = world.simulation.prng.fork();
  }

  get outstanding(): number {
    return this.#underWay.size;
  }

  start(): void {
    this.working = true;
    this.#soon();
  }

  stop(): void {
    this.working = false;
  }

  /** One act by hand; `done` hears whether it was acked. */
  act(process: UnitProcess, wish: Wish, done: ActDone): void {
    this.#issue(process, wish, done);
  }

  /** The process is gone: what was under way through it has an unknown outcome (H7). */
  connectionLost(process: UnitProcess): void {
    for (const entry of [...this.#underWay, ...this.#abandoned]) {
      if (entry.process !== process) continue;
      this.#settle(entry);
      this.#unknown(entry.act);
    }
  }

  #soon(): void {
    const { thinkMs } = this.#mix;
    this.#world.simulation.after(thinkMs * (0.2 + 1.6 * this.#prng.fraction()), () => {
      if (!this.working) return;
      const cycleMs = BURST_MS + this.#mix.quietMs;
      if (this.#world.simulation.nowMs % cycleMs > BURST_MS) return this.#soon();
      if (this.#underWay.size < this.#mix.depth) this.#work();
      this.#soon();
    });
  }

  #work(): void {
    const process = this.#choosePortal();
    if (process !== null) this.#issue(process, this.#wish(), () => {});
  }

  #choosePortal(): UnitProcess | null {
    const portals = this.#world.portals();
    if (portals.length === 0) return null;
    const usual = this.#usual;
    if (usual !== null && portals.includes(usual) && !this.#prng.chance(this.#mix.roam)) {
      return usual;
    }
    const chosen = this.#prng.pick(portals);
    this.#usual = chosen;
    return chosen;
  }

  #wish(): Wish {
    const { read, write, flush, zero, fua } = this.#mix;
    const volume = this.#prng.pick(this.#world.volumes);
    let draw = this.#prng.fraction() * (read + write + flush + zero);
    draw -= flush;
    if (draw < 0) {
      return { kind: OperationKind.flush, volume, firstSector: 0, count: 0, flags: 0 };
    }
    const place = this.#place(volume);
    draw -= zero;
    if (draw < 0) return this.#zeroWish(volume, place);
    draw -= write;
    const kind = draw < 0 ? OperationKind.write : OperationKind.read;
    const flags = kind === OperationKind.write && this.#prng.chance(fua) ? FLAG_FUA : 0;
    return { kind, volume, ...place, flags };
  }

  #zeroWish(volume: HostVolume, place: { firstSector: number; count: number }): Wish {
    const kind = this.#prng.pick([OperationKind.trim, OperationKind.writeZeroes]);
    const hole = kind === OperationKind.writeZeroes && this.#prng.chance(0.5);
    const flags = (hole ? FLAG_NO_HOLE : 0) | (this.#prng.chance(0.2) ? FLAG_FUA : 0);
    let { firstSector, count } = place;
    if (this.#prng.chance(0.3)) {
      // A whole extent and a bit: frees it (H9).
      firstSector = Math.max(0, firstSector - (firstSector % 2048) - this.#prng.below(9));
      count = Math.min(2048 + this.#prng.below(20), volume.sectors - firstSector);
    }
    return { kind, volume, firstSector, count, flags };
  }

  #place(volume: HostVolume): { firstSector: number; count: number } {
    const { largestSectors, cold } = this.#mix;
    const prng = this.#prng;
    let count = prng.chance(0.3) ? 1 : prng.between(1, largestSectors);
    if (prng.chance(cold)) {
      return { firstSector: prng.below(volume.sectors - count), count };
    }
    const hot = prng.pick(volume.hot);
    let firstSector = hot.firstSector + prng.below(hot.count);
    if (prng.chance(0.4)) {
      // Whole blocks.
      firstSector -= firstSector % 8;
      count = Math.max(8, count - (count % 8));
    }
    return { firstSector, count: Math.min(count, volume.sectors - firstSector) };
  }

  #issue(process: UnitProcess, wish: Wish, done: ActDone): void {
    const { history, simulation, counts } = this.#world;
    const lengthBytes = wish.count * SECTOR_BYTES;
    const moves = wish.kind === OperationKind.read || wish.kind === OperationKind.write;
    const buffer = moves ? process.memory.allocate(lengthBytes) : NO_BUFFER;
    if (moves && buffer === NO_BUFFER) {
      simulation.after(0, () => done(false, Status.busy));
      return;
    }
    const { volume } = wish.volume;
    const tag = wish.kind === OperationKind.write ? this.#world.nextTag() : 0;
    if (tag > 0) {
      this.#world.tagsOf(process).fill(buffer, volume, wish.firstSector, wish.count, tag);
    }
    const place = { volume, firstSector: wish.firstSector, count: wish.count };
    const fua = (wish.flags & FLAG_FUA) !== 0;
    const who = { host: this.number, unit: process.unit };
    const act = history.begin(actKind(wish.kind), { ...place, tag, fua }, who);
    const operation = new Operation();
    operation.kind = wish.kind;
    operation.flags = wish.flags;
    operation.offsetBytes = wish.firstSector * SECTOR_BYTES;
    operation.lengthBytes = lengthBytes;
    operation.bufferOffset = buffer;
    const entry: UnderWay = { act, operation, process, gaveUp: false, settled: false };
    this.#underWay.add(entry);
    counts.issued++;
    simulation.trace(
      `host${this.number}-unit${process.unit}-issue`,
      wish.kind,
      wish.firstSector,
      wish.count,
      tag,
    );
    operation.done = () => this.#answered(entry, done);
    simulation.after(this.#mix.patienceMs, () => this.#giveUp(entry));
    process.deliver(() => process.plane.volume(volume).submit(operation));
  }

  #answered(entry: UnderWay, done: ActDone): void {
    if (entry.settled) return;
    const { act, operation, process } = entry;
    const { history, simulation, counts } = this.#world;
    const { status } = operation;
    this.#settle(entry);
    simulation.trace(
      `host${this.number}-unit${process.unit}-answer`,
      operation.kind,
      act.firstSector,
      status,
      act.tag,
    );
    if (entry.gaveUp) {
      this.#unknown(act);
    } else if (status === Status.ok) {
      counts.acked++;
      if (act.kind === "write") counts.ackedWrites++;
      if (act.kind === "flush") counts.ackedFlushes++;
      history.acked(act, act.kind === "read" ? this.#decode(entry) : null);
    } else {
      this.#failed(act, status);
    }
    if (operation.bufferOffset !== NO_BUFFER) process.memory.release(operation.bufferOffset);
    if (!entry.gaveUp) done(status === Status.ok, status);
  }

  #failed(act: HostAct, status: Status): void {
    const { counts, history } = this.#world;
    const name = statusName(status);
    counts.failed.set(name, (counts.failed.get(name) ?? 0) + 1);
    if (status === Status.mediumError && !this.#world.rotten(act)) {
      this.#world.violation(`medium error at sector ${act.firstSector} with no rotten bytes (H8)`);
    }
    // What hosts know of a volume's size, the unit that they ask knows as well (H11).
    if (status === Status.outOfRange) {
      this.#world.violation(`sector ${act.firstSector} (${act.count}) is beyond the end (H11)`);
    }
    // R10 holds per extent: a longer request may have been done in part before the space ran out.
    const extent = (sector: number) => Math.floor((sector * SECTOR_BYTES) / EXTENT_BYTES);
    const oneExtent = extent(act.firstSector) === extent(act.firstSector + act.count - 1);
    if (status === Status.noSpace && oneExtent) history.refused(act);
    else this.#unknown(act);
  }

  #decode({ act, operation, process }: UnderWay): Int32Array {
    const tags = this.#world.tagsOf(process);
    const values = new Int32Array(act.count);
    for (let index = 0; index < act.count; index++) {
      const at = operation.bufferOffset + index * SECTOR_BYTES;
      values[index] = tags.decode(at, act.volume, act.firstSector + index);
    }
    return values;
  }

  /** The host closes its connection: the unit is told, and answers nothing (H7). */
  #giveUp(entry: UnderWay): void {
    if (entry.settled) return;
    entry.gaveUp = true;
    this.#underWay.delete(entry);
    this.#abandoned.add(entry);
    this.#usual = null;
    this.#world.counts.gaveUp++;
    entry.process.deliver(() => {
      entry.operation.cancelled = true;
    });
  }

  #settle(entry: UnderWay): void {
    entry.settled = true;
    this.#underWay.delete(entry);
    this.#abandoned.delete(entry);
  }

  #unknown(act: HostAct): void {
    this.#world.counts.unknown++;
    this.#world.simulation.after(FENCE_MS, () => this.#world.history.fenced(act));
  }
}

export type { Wish };

function actKind(kind: OperationKind): HostActKind {
  switch (kind) {
    case OperationKind.read:
      return "read";
    case OperationKind.write:
      return "write";
    case OperationKind.flush:
      return "flush";
    default:
      return "zero";
  }
}
