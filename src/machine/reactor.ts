// SPDX-License-Identifier: Apache-2.0
//
// Reactor: the loop of a Worker that does all I/O of its disks and connections on one ring. It
// blocks in the kernel, so on its thread no promise and no timer ever runs: everything is a
// callback.
//
// It waits for more than one completion where more are sure to come: that of a send, which is
// mostly there at once and asks for nothing, and some of the disk's while many are under way.
// Where a host asks one thing after the other, each soon after its answer, the loop looks out for
// the next for a moment before it sleeps: to be woken takes longer than the answer does.
//
// One turn: what was deferred, then the sends that gathered, then one io_uring_enter that submits
// all of it and waits, then the completions, those of writes through the page cache last, then the
// tick if it is due (every 50 or 100 ms).
// An exception out of a callback ends the loop and with it the process: a wrong reactor is worse
// than a restarted one.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { type Memory, NO_BUFFER } from "#base/memory.ts";
import type { Clock } from "#base/world.ts";
import { ARENA_BYTES_DEFAULT, createMemory } from "./arena.ts";
import { createClock } from "./clock.ts";
import { CANCEL_ALL, CANCEL_FD, RING_OP, SQE } from "./io-uring.wire.ts";
import { DirtyRoom } from "./dirty-room.ts";
import { ERRNO, errno, errnoName, libc } from "./libc.ts";
import { PlainWrites } from "./plain-writes.ts";
import { Ring, type RingTarget } from "./ring.ts";
import { WriteLane, type WriteLaneSeed } from "./write-lane.ts";

export const TICK_MS = 50;
/** While the composition says that it is quiet: every wake-up costs an idle core 0.1 ms. */
export const TICK_QUIET_MS = 100;
/** A quiet tick comes with a wake-up that is this little before it, rather than after it. */
const TICK_QUIET_EARLY_MS = 40;
/** A stop that takes longer leaves what is still under way to the kernel. */
const STOP_MS_MAX = 2000;
/** One in so many of the disks' operations under way is waited for together, up to GATHER_MAX. */
const GATHER_SHARE = 8;
const GATHER_MAX = 8;
/** So long the loop looks out before it sleeps, where most waits were shorter than that, ms. */
const LOOK_MS = 0.05;
/** Short waits in a row make it look out, up to so many are remembered; a long one undoes some. */
const SHORT_WAITS_MIN = 16;
const SHORT_WAITS_MAX = 32;
const LONG_WAIT_COST = 4;
/** Completions of one turn up to which a host asks one thing after the other. */
const LOOK_COMPLETIONS_MAX = 3;
/** Where sockets move more in one turn, hosts ask for much at a time; so many turns are shut. */
const LOOK_BYTES_MAX = 16 << 10;
const LOOK_PAUSE_TURNS = 16;
/** Turns in which sends are not waited for, after one in which nothing came with them in time. */
const GATHER_PAUSE_TURNS = 256;
const EFD_CLOEXEC = 0x80000;

export interface ReactorOptions {
  memoryBytes?: number;
  ringEntries?: number;
  /** What may become dirty before the kernel holds writers back; else as the kernel tells. */
  dirtyRoom?: Pick<DirtyRoom, "take">;
}

/** What other threads leave in shared memory, looked at in every turn. */
export interface Visited {
  /** Before the reactor sleeps: whether it may; who leaves something from then on wakes it. */
  mayWait(): boolean;
  /** Takes what is there. */
  collect(): void;
}

/** Something that wants to prepare submissions once at the end of the turn. */
export interface TurnEnd {
  turnEnds(): void;
}

export class Reactor {
  readonly memory: Memory;
  readonly clock: Clock;
  readonly ring: Ring;
  /** Writing 8 bytes of a non-zero number to this eventfd, from any thread, wakes the reactor. */
  readonly wakeFd: number;
  /** Reads and writes of areas that the ring has; kept by the areas. */
  diskInFlight = 0;
  /** Bytes that sockets received and sent in this turn; kept by them. */
  movedBytes = 0;
  #sends = 0;
  #gatherPause = 0;
  #shortWaits = 0;
  #lookPause = 0;
  #dispatched = 0;
  /** A thread for the write lane is wanted; while there is none the ring does its work. */
  onLane: (seed: WriteLaneSeed) => void = () => {};
  #lane: WriteLane | null = null;
  /** For the short ones of the writes of areas that go through the page cache. */
  readonly plainWrites: PlainWrites;
  /** When what is dispatched now was waited for last, ms: for figures alone, decides nothing. */
  turnMs = 0;
  readonly #ticks: ((nowMs: number) => void)[] = [];
  readonly #wakes: (() => void)[] = [];
  readonly #visited: Visited[] = [];
  #deferred: (() => void)[] = [];
  #deferredNext: (() => void)[] = [];
  #turnEnds: TurnEnd[] = [];
  #turnEndsNext: TurnEnd[] = [];
  #deadlines: { atMs: number; act: () => void }[] = [];
  #nextTickMs: number;
  #tickMs = TICK_MS;
  #stopping = false;
  #running = false;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #waker: Waker;

  /** Throws Fault badMachine where the kernel lacks what is needed. */
  constructor(options: ReactorOptions = {}) {
    this.memory = createMemory(options.memoryBytes ?? ARENA_BYTES_DEFAULT);
    this.#baseLow = this.memory.baseAddress % 2 ** 32;
    this.#baseHigh = Math.floor(this.memory.baseAddress / 2 ** 32);
    this.clock = createClock();
    this.ring = new Ring(options.ringEntries === undefined ? {} : { entries: options.ringEntries });
    this.plainWrites = new PlainWrites(options.dirtyRoom ?? new DirtyRoom());
    this.#nextTickMs = this.clock.nowMs() + TICK_MS;
    this.wakeFd = libc.eventfd(0, EFD_CLOEXEC);
    if (this.wakeFd < 0) throw new Fault("badMachine", `no eventfd (${errnoName(errno())})`);
    this.#waker = new Waker(this);
  }

  /** A send was prepared, whose end is likely to be there at once. */
  sendPrepared(): void {
    this.#sends++;
  }

  /** Runs `act` in the next turn; the loop does not wait before it. */
  defer(act: () => void): void {
    this.#deferredNext.push(act);
  }

  /** Calls `party` once before the next submission; it must not ask twice within a turn. */
  atTurnEnd(party: TurnEnd): void {
    this.#turnEndsNext.push(party);
  }

  /** Calls `act` every TICK_MS (quiet: TICK_QUIET_MS), or as soon after as the loop gets to it. */
  onTick(act: (nowMs: number) => void): void {
    this.#ticks.push(act);
  }

  /** Calls `act` on the reactor's thread whenever it was woken by wakeFd, by whomever. */
  onWake(act: () => void): void {
    this.#wakes.push(act);
  }

  /** Looks there in every turn, until the end. */
  visit(place: Visited): void {
    this.#visited.push(place);
  }

  /** From the waker. */
  woken(): void {
    for (const act of this.#wakes) act();
  }

  /** Quiet: nothing is under way that a tick would help on. To be said again when that changes. */
  setQuiet(quiet: boolean): void {
    this.#tickMs = quiet ? TICK_QUIET_MS : TICK_MS;
  }

  /** Calls `act` once, at the first tick at or after `atMs`. For waits that are rarely reached. */
  watchDeadline(atMs: number, act: () => void): void {
    this.#deadlines.push({ atMs, act });
  }

  /** For areas that are written through the page cache. */
  writeLane(): WriteLane {
    if (this.#lane === null) {
      this.#lane = new WriteLane(this.wakeFd);
      this.onLane(this.#lane.seed);
    }
    return this.#lane;
  }

  /** Writes the address of a place in Memory into a submission entry. */
  setAddress(entry: number, bufferOffset: number): void {
    this.ring.words[entry + SQE.addressLow] = this.#baseLow + bufferOffset;
    this.ring.words[entry + SQE.addressHigh] = this.#baseHigh;
  }

  /** Upper and lower half of the address of a place in Memory. */
  get addressHigh(): number {
    return this.#baseHigh;
  }
  addressLow(bufferOffset: number): number {
    return this.#baseLow + bufferOffset;
  }

  /** Ends `run` after this turn; call it when everything of the composition has been closed. */
  stop(): void {
    this.#stopping = true;
  }

  /** Runs until stopped, then waits shortly for what is under way, and closes the ring. */
  run(): void {
    assert(!this.#running, "a reactor runs once");
    this.#running = true;
    this.#waker.arm();
    while (!this.#stopping) this.#turn();
    this.#waker.disarm();
    const endMs = this.clock.nowMs() + STOP_MS_MAX;
    while (this.#inFlight > 0 && this.clock.nowMs() < endMs) this.#turn();
    this.#lane?.stop();
    this.ring.close();
    libc.close(this.wakeFd);
  }

  get #inFlight(): number {
    const { isNews } = this.plainWrites;
    return this.ring.inFlight + (this.#lane?.inFlight ?? 0) + (isNews ? 1 : 0);
  }

  #turn(): void {
    this.#runDeferred();
    this.#runTurnEnds();
    const lane = this.#lane;
    const busy =
      this.plainWrites.isNews ||
      this.#deferredNext.length > 0 ||
      this.#turnEndsNext.length > 0 ||
      (lane !== null && !lane.mayWait()) ||
      !this.#visitedMayWait();
    const beforeMs = this.clock.nowMs();
    const waitMs = busy ? 0 : Math.max(0, Math.min(this.#nextTickMs - beforeMs, TICK_QUIET_MS));
    this.#wait(waitMs);
    this.turnMs = this.clock.nowMs();
    if (waitMs > 0) this.#noteWait(this.turnMs - beforeMs);
    this.movedBytes = 0;
    this.#dispatched = this.ring.dispatch();
    if (this.movedBytes > LOOK_BYTES_MAX) this.#lookPause = LOOK_PAUSE_TURNS;
    else if (this.#lookPause > 0) this.#lookPause--;
    if (lane !== null) lane.collect();
    for (let i = 0; i < this.#visited.length; i++) (this.#visited[i] as Visited).collect();
    this.plainWrites.collect();
    this.#tickIfDue();
  }

  #visitedMayWait(): boolean {
    for (let i = 0; i < this.#visited.length; i++) {
      if (!(this.#visited[i] as Visited).mayWait()) return false;
    }
    return true;
  }

  #wait(waitMs: number): void {
    let sends = this.#sends;
    this.#sends = 0;
    if (waitMs > 0 && this.#mayLook()) {
      this.ring.submitAndLook(LOOK_MS, sends);
      if (this.ring.waiting > sends) return;
    }
    if (this.#gatherPause > 0) {
      this.#gatherPause--;
      sends = 0;
    }
    const disks = Math.min(GATHER_MAX, Math.floor(this.diskInFlight / GATHER_SHARE));
    this.ring.submitAndWait(waitMs, sends + Math.max(1, disks));
    // A host farther away than the wait is long: it would only wake the reactor twice.
    if (sends > 0 && waitMs > 0 && this.ring.waiting <= sends)
      this.#gatherPause = GATHER_PAUSE_TURNS;
  }

  /** Nothing is under way but what hosts will ask, and they were quick lately. */
  #mayLook(): boolean {
    if (this.#shortWaits < SHORT_WAITS_MIN || this.#dispatched > LOOK_COMPLETIONS_MAX) return false;
    if (this.#lookPause > 0) return false;
    return this.diskInFlight === 0 && (this.#lane?.inFlight ?? 0) === 0;
  }

  #noteWait(tookMs: number): void {
    if (tookMs <= LOOK_MS) this.#shortWaits = Math.min(SHORT_WAITS_MAX, this.#shortWaits + 1);
    else this.#shortWaits = Math.max(0, this.#shortWaits - LONG_WAIT_COST);
  }

  #runDeferred(): void {
    const acts = this.#deferredNext;
    this.#deferredNext = this.#deferred;
    this.#deferred = acts;
    for (let i = 0; i < acts.length; i++) (acts[i] as () => void)();
    acts.length = 0;
  }

  #runTurnEnds(): void {
    const parties = this.#turnEndsNext;
    this.#turnEndsNext = this.#turnEnds;
    this.#turnEnds = parties;
    for (let i = 0; i < parties.length; i++) (parties[i] as TurnEnd).turnEnds();
    parties.length = 0;
  }

  #tickIfDue(): void {
    const nowMs = this.clock.nowMs();
    const quiet = this.#tickMs === TICK_QUIET_MS;
    if (nowMs < this.#nextTickMs - (quiet ? TICK_QUIET_EARLY_MS : 0)) return;
    const sinceTickMs = quiet ? nowMs : this.#nextTickMs;
    this.#nextTickMs = Math.max(sinceTickMs + this.#tickMs, nowMs + TICK_MS / 2);
    if (this.#deadlines.length > 0) {
      const due = this.#deadlines.filter((deadline) => deadline.atMs <= nowMs);
      this.#deadlines = this.#deadlines.filter((deadline) => deadline.atMs > nowMs);
      for (const deadline of due) deadline.act();
    }
    this.#lane?.tick();
    for (const act of this.#ticks) act(nowMs);
  }
}

/** Keeps a read on the eventfd under way. */
class Waker implements RingTarget {
  readonly #reactor: Reactor;
  readonly #buffer: number;
  #armed = false;

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
    this.#buffer = reactor.memory.allocate(8);
    assert(this.#buffer !== NO_BUFFER, "the arena holds the reactor's own buffers");
  }

  arm(): void {
    const { ring, wakeFd } = this.#reactor;
    const entry = ring.prepare(RING_OP.read, wakeFd, this, 0);
    this.#reactor.setAddress(entry, this.#buffer);
    ring.words[entry + SQE.length] = 8;
    this.#armed = true;
  }

  disarm(): void {
    this.#armed = false;
    // The cancellation names the read by descriptor; its own completion says nothing.
    const { ring, wakeFd } = this.#reactor;
    const entry = ring.prepareIgnored(RING_OP.asyncCancel, wakeFd);
    ring.words[entry + SQE.opFlags] = CANCEL_ALL | CANCEL_FD;
  }

  ringDone(_tag: number, result: number): void {
    if (!this.#armed) return;
    assert(result === 8 || result === -ERRNO.EINTR, `the eventfd is read (${result})`);
    this.arm();
    this.#reactor.woken();
  }
}
