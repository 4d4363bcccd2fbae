// SPDX-License-Identifier: Apache-2.0
//
// A simulated unit: a machine with disks and a clock, and the process that runs on it. The process
// is the product's own data plane, slices, stores and record keeper; what dies with it is made
// anew.

import { Memory } from "#base/memory.ts";
import type { DiskNumber, DiskPlans, SliceRecord, UnitNumber, VolumeNumber } from "#base/record.ts";
import { statusName } from "#base/status.ts";
import type { PeerVerb } from "#base/verbs.ts";
import type { Clock, Log, Random } from "#base/world.ts";
import type { ScrubPace } from "#base/disk-health.ts";
import { DataPlane } from "#appliance/data-plane.ts";
import type { SliceHappening } from "#appliance/slice-happenings.ts";
import type { VolumeShape } from "#appliance/forwarder.ts";
import type { MemoryControlClient } from "#cluster/memory-control-store.ts";
import { RecordKeeper } from "#cluster/record-keeper.ts";
import type { SliceOptions } from "#raid/slice.ts";
import { openDisk } from "#store/open-disk.ts";
import type { DiskStore } from "#store/disk-store.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { Endpoint, SimNet } from "./sim-net.ts";
import type { Simulation } from "./simulation.ts";

const TICK_MS = 50;
export const ARENA_BYTES = 24 << 20;
/** Flapping members come back sooner than usual, so that a run sees more of it. */
const SLICE: SliceOptions = { rejoinDelayMs: 400, rejoinDelayMaxMs: 3000 };

/** What units share: the network, the voters, and what everybody knows of the cluster. */
export interface UnitWorld {
  simulation: Simulation;
  net: SimNet;
  /** A unit's way to the control store of a generation. */
  controlClient(generation: number, unit: UnitNumber): MemoryControlClient;
  /** A process has opened its disks. */
  opened(process: UnitProcess): void;
  shapes: readonly VolumeShape[];
  /** Memory of processes that are gone, as they left it: the next one's is not zero. */
  arenas: ArrayBuffer[];
  /** Which unit each disk is in. */
  placement: ReadonlyMap<DiskNumber, UnitNumber>;
  diskOpened(disk: DiskNumber, incarnation: number): void;
  /** A process opened a disk that was taken out while it ran. */
  takenAgain(): void;
  processGone(process: UnitProcess): void;
  powerCut(disk: DiskNumber): void;
  /** How often disks are scrubbed. */
  scrubPace(): ScrubPace;
  /** What the control station plans with disks. */
  plans(): DiskPlans;
  /** A head met wrong blocks. */
  happened(process: UnitProcess, happening: SliceHappening): void;
  /** A head took a block as it was after a crash. */
  accepted(slice: number, offsetBytes: number): void;
  scrubbed(disk: DiskNumber): void;
  /** A slice gave up its disk there. */
  gaveUp(process: UnitProcess): void;
  violation(sentence: string): void;
}

/** CLOCK_BOOTTIME of a machine: starts anew with it, drifts, never stands still in a pause. */
class SimClock implements Clock {
  readonly #simulation: Simulation;
  readonly #rate: number;
  readonly #bootMs: number;
  readonly #wallMs: () => number;
  constructor(simulation: Simulation, rate: number, wallMs: () => number) {
    this.#simulation = simulation;
    this.#rate = rate;
    this.#bootMs = simulation.nowMs - simulation.prng.fraction() * 5000;
    this.#wallMs = wallMs;
  }
  nowMs(): number {
    return (this.#simulation.nowMs - this.#bootMs) * this.#rate;
  }
  wallMs(): number {
    return this.#wallMs();
  }
}

export class SimUnit {
  readonly number: UnitNumber;
  readonly disks: Map<DiskNumber, SimDisk>;
  /** What its wall clock says, and then stands still; 0: it has none (R4: decides nothing). */
  wallMs = 0;
  /** How fast its clock runs; R4 allows 0.1 % between two. */
  readonly clockRate: number;
  process: UnitProcess | null = null;
  /** Whether its process reaches the voters. */
  storeReachable = true;
  boots = 0;
  /** Of the cluster, that its next process is in. */
  generation = 1;
  /** Pulled out and not put back. */
  readonly outDisks = new Set<DiskNumber>();
  /** Pulled under a store that still answers from its own memory, as for what a trim freed. */
  readonly #forgotten = new Set<DiskNumber>();
  readonly #world: UnitWorld;
  #clock: SimClock;

  constructor(
    world: UnitWorld,
    number: UnitNumber,
    disks: Map<DiskNumber, SimDisk>,
    clockRate: number,
  ) {
    this.#world = world;
    this.number = number;
    this.disks = disks;
    this.clockRate = clockRate;
    this.#clock = this.#newClock();
  }

  #newClock(): SimClock {
    return new SimClock(this.#world.simulation, this.clockRate, () => this.wallMs);
  }

  boot(): void {
    if (this.process !== null) return;
    this.boots++;
    // What is out at a start is in again: a boot without its disk is another harm.
    this.outDisks.clear();
    this.#world.simulation.trace("boot", this.number, this.boots);
    this.process = new UnitProcess(this.#world, this, this.#clock);
    this.process.start();
  }

  /** kill -9: the disks' caches stay. */
  kill(): void {
    const gone = this.#end({ silent: false });
    if (gone === null) return;
    this.#world.simulation.trace("kill", this.number);
    for (const disk of this.disks.values()) disk.kill();
    this.#world.arenas.push(gone.memory.bytes.buffer as ArrayBuffer);
  }

  /** The machine loses its power. Also when no process runs: the caches are lost all the same. */
  powerCut(): void {
    const gone = this.#end({ silent: true });
    this.#world.simulation.trace("power", this.number);
    for (const [number, disk] of this.disks) {
      disk.powerCut();
      this.#world.powerCut(number);
    }
    // Only now: what was under way on the disks was written from it, in part.
    if (gone !== null) this.#world.arenas.push(gone.memory.bytes.buffer as ArrayBuffer);
    this.#clock = this.#newClock();
  }

  pause(): void {
    if (this.process === null) return;
    this.#world.simulation.trace("pause", this.number);
    this.process.pause();
  }
  resume(): void {
    if (this.process === null) return;
    this.#world.simulation.trace("resume", this.number);
    this.process.resume();
  }

  /**
   * Pulls a disk out of the running machine; its process notices after a while, as by its look at
   * what disks there are.
   */
  pullDisk(number: DiskNumber, noticeMs = 0): void {
    const disk = this.disks.get(number);
    if (disk === undefined) return;
    this.#world.simulation.trace("pull", this.number, number);
    this.outDisks.add(number);
    disk.pull();
    this.#forgotten.add(number);
    const { process } = this;
    const store = process?.stores.get(number);
    if (store === undefined) this.storeGone(number);
    this.#world.simulation.after(noticeMs, () =>
      process?.deliver(() => {
        if (process.stores.get(number) === store) process.dropDisk(number);
      }),
    );
  }

  /** Puts it in again: its process opens it as soon as it has closed it. */
  putBack(number: DiskNumber): void {
    if (!this.outDisks.delete(number)) return;
    this.#world.simulation.trace("put back", this.number, number);
    const { process } = this;
    process?.deliver(() => process.takeAgain(number));
  }

  /** Puts in a disk that another unit had; a process that runs opens it. */
  insert(number: DiskNumber, disk: SimDisk): void {
    const { process } = this;
    this.disks.set(number, disk);
    process?.deliver(() => process.takeAgain(number));
  }

  /** Nothing answers for what the disk held: if it was pulled, that is lost from here on (H6). */
  storeGone(number: DiskNumber): void {
    if (this.#forgotten.delete(number)) this.#world.powerCut(number);
  }

  setStoreReachable(reachable: boolean): void {
    this.storeReachable = reachable;
    this.process?.client.setConnected(reachable);
  }

  #end({ silent }: { silent: boolean }): UnitProcess | null {
    const { process } = this;
    if (process === null) return null;
    this.process = null;
    process.end();
    for (const number of this.disks.keys()) this.storeGone(number);
    this.#world.net.down(this.number, { silent });
    this.#world.processGone(process);
    return process;
  }
}

/** One run of the daemon. */
export class UnitProcess implements Endpoint {
  readonly unit: UnitNumber;
  readonly generation: number;
  readonly memory: Memory;
  readonly plane: DataPlane;
  readonly keeper: RecordKeeper;
  readonly client: MemoryControlClient;
  readonly stores = new Map<DiskNumber, DiskStore>();
  /** All its disks are open. */
  ready = false;
  /** A slice gave its disk up (R10): only a new run serves there again. */
  gaveUp = false;
  /** In an orderly stop: takes no more requests of hosts. */
  stopping = false;
  readonly world: { clock: Clock; random: Random; log: Log };
  readonly #shared: UnitWorld;
  readonly #machine: SimUnit;
  /** Disks taken out whose stores are not closed yet, and those of them to open then. */
  readonly #closing = new Set<DiskNumber>();
  readonly #opening = new Set<DiskNumber>();
  readonly #wanted = new Set<DiskNumber>();
  #ended = false;
  #paused = false;
  #backlog: (() => void)[] = [];
  #cancelTick: () => void = () => {};

  constructor(shared: UnitWorld, machine: SimUnit, clock: Clock) {
    this.#shared = shared;
    this.#machine = machine;
    this.unit = machine.number;
    this.generation = machine.generation;
    this.memory = new Memory(shared.arenas.pop() ?? new ArrayBuffer(ARENA_BYTES));
    const prng = shared.simulation.prng.fork();
    this.world = {
      clock,
      random: {
        fraction: () => prng.fraction(),
        fill: (bytes) => {
          for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
        },
      },
      log: {
        write: (level, sentence, facts) => {
          if (sentence.includes("is given up")) this.#gaveUp(Number(facts?.["disk"]));
          if (sentence.includes("taken as it is")) {
            shared.accepted(Number(facts?.["slice"]), Number(facts?.["offsetBytes"]));
          }
          shared.simulation.say(
            () => `  unit ${machine.number} ${level}: ${sentence} ${JSON.stringify(facts ?? {})}`,
          );
        },
      },
    };
    this.client = shared.controlClient(this.generation, machine.number);
    if (!machine.storeReachable) this.client.setConnected(false);
    this.plane = this.#makePlane();
    this.keeper = this.#makeKeeper();
  }

  #gaveUp(disk: DiskNumber): void {
    this.gaveUp = true;
    this.#machine.storeGone(disk);
    this.#shared.gaveUp(this);
  }

  #makePlane(): DataPlane {
    const { net } = this.#shared;
    return new DataPlane(
      this.world,
      this.memory,
      { unit: this.unit, slice: SLICE, scrub: this.#shared.scrubPace() },
      {
        send: (unit, verb) => !this.#ended && net.send(this.unit, unit, verb),
        propose: (next, expected, done) => {
          this.#shared.simulation.trace("propose", next.slice, next.epoch, next.head);
          // The control thread stands still in a pause as well.
          this.keeper.propose(next, expected, (outcome, current) =>
            this.deliver(() => done(outcome, current)),
          );
        },
        sliceChanged: () => {},
        happened: (happening) => this.#shared.happened(this, happening),
        scrubbed: (disk) => this.#shared.scrubbed(disk),
      },
    );
  }

  #makeKeeper(): RecordKeeper {
    return new RecordKeeper(this.world, this.#shared.simulation, this.client, {
      recordChanged: (record) => this.deliver(() => this.#recordChanged(record)),
      recordRemoved: (slice) => this.deliver(() => this.plane.sliceRemoved(slice)),
    });
  }

  #recordChanged(record: SliceRecord): void {
    this.#shared.simulation.trace("record", this.unit, record.slice, record.epoch, record.head);
    this.plane.recordChanged(record);
  }

  start(): void {
    for (const [disk, unit] of this.#shared.placement) {
      if (unit !== this.unit) this.plane.placeDisk(disk, unit);
    }
    for (const shape of this.#shared.shapes) this.plane.volumeChanged(shape);
    this.plane.setPlans(this.#shared.plans());
    let left = this.#machine.disks.size;
    if (left === 0) this.#opened();
    for (const [number, disk] of this.#machine.disks) {
      this.#open(number, disk, () => {
        left--;
        if (left === 0) this.#opened();
      });
    }
  }

  #open(number: DiskNumber, disk: SimDisk, done: () => void): void {
    const area = disk.attach(this.memory, (act) => this.deliver(act));
    const { keepsake } = disk;
    this.#opening.add(number);
    openDisk(this.world, this.memory, area, { keepsake }, (store, status, reason) => {
      if (store === null) {
        this.#opening.delete(number);
        const word = statusName(status);
        this.world.log.write("error", "a disk does not open", { number, word, reason });
        return done();
      }
      // Registered once; every later run finds the number on the disk.
      store.setNumber(number, () => {
        this.#opening.delete(number);
        this.stores.set(number, store);
        this.#shared.diskOpened(number, store.incarnation);
        this.plane.addDisk(store);
        done();
      });
    });
  }

  /** As the reactor does with a disk that was taken out. */
  dropDisk(number: DiskNumber): void {
    const store = this.stores.get(number);
    if (store === undefined) return;
    this.stores.delete(number);
    this.#closing.add(number);
    this.plane.dropDisk(number, "its disk was taken out");
    this.#machine.storeGone(number);
    store.eject("it was taken out");
    store.close(() => {
      this.#closing.delete(number);
      if (this.#wanted.delete(number)) this.takeAgain(number);
    });
  }

  takeAgain(number: DiskNumber): void {
    const disk = this.#machine.disks.get(number);
    if (disk === undefined || this.#opening.has(number)) return;
    if (this.#machine.outDisks.has(number)) return; // pulled again before it was closed
    this.dropDisk(number);
    if (this.#closing.has(number)) return void this.#wanted.add(number);
    this.#open(number, disk, () => this.#shared.takenAgain());
  }

  #opened(): void {
    this.ready = true;
    this.#shared.opened(this);
    this.#shared.simulation.trace("ready", this.unit);
    this.#shared.net.up(this);
    this.keeper.start();
    this.#tickLater();
  }

  #tickLater(): void {
    this.#cancelTick = this.#shared.simulation.after(TICK_MS, () => {
      this.deliver(() => {
        this.plane.tick(this.world.clock.nowMs());
        this.#tickLater();
      });
    });
  }

  /** Orderly stop: heads given up, disks closed; then `done`. */
  stop(done: () => void): void {
    this.stopping = true;
    this.plane.release(() => {
      let left = this.stores.size;
      if (left === 0) done();
      for (const store of this.stores.values()) {
        store.close(() => {
          left--;
          if (left === 0) done();
        });
      }
    });
  }

  end(): void {
    this.#ended = true;
    this.#backlog = [];
    this.#cancelTick();
    this.keeper.stop();
  }

  pause(): void {
    this.#paused = true;
  }
  resume(): void {
    this.#paused = false;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const act of backlog) {
      if (this.#ended) return;
      if (this.#paused) this.#backlog.push(act);
      else act();
    }
  }
  get paused(): boolean {
    return this.#paused;
  }
  get ended(): boolean {
    return this.#ended;
  }

  deliver(act: () => void): void {
    if (this.#ended) return;
    if (this.#paused) this.#backlog.push(act);
    else act();
  }

  receive(from: UnitNumber, verb: PeerVerb): void {
    this.plane.receive(from, verb);
  }
  linkUp(unit: UnitNumber): void {
    this.#shared.simulation.trace("up", this.unit, unit);
    this.plane.linkUp(unit);
  }
  linkDown(unit: UnitNumber): void {
    this.#shared.simulation.trace("down", this.unit, unit);
    this.plane.linkDown(unit);
  }
}

export type { VolumeNumber };
