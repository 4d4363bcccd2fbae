// SPDX-License-Identifier: Apache-2.0
//
// WriteLane: writes through the page cache, carried out by a thread that does nothing else. Most
// file systems cannot begin such a write without perhaps waiting; the ring then gives each of them
// to a helper of the kernel, one after the other per file, and every single end wakes the reactor.
// This thread takes them as they come and tells of many ends at once.
//
// Both sides share one mapping: counters of what was submitted, completed and told, and a ring of
// entries. The thread completes in order.
//
// Invariants
// - Who sleeps is woken: each side publishes what it did before it looks whether the other sleeps,
//   and says that it will sleep before it looks for the last time (all accesses are sequentially
//   consistent).
// - A long write goes to the file in pieces of PIECE_BYTES: the kernel caches it in folios that
//   long, and every later small write looks at each block of its folio.
// - Nothing is retried (R10); an error ends the write with what was written before it.
// - While the thread makes no progress (a stuck file system) nothing more is given to it: the ring
//   takes what comes for other disks.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { mapMemory, mappedBytes } from "./arena.ts";
import { ERRNO, address, errno, errnoName, libc } from "./libc.ts";

/** Writes on their way at once, of all areas together. A power of two. */
const ENTRIES = 512;
const ENTRY_WORDS = 8;
const HEADER_WORDS = 128;
const LANE_BYTES = (HEADER_WORDS + ENTRIES * ENTRY_WORDS) * 4;
const PIECE_BYTES = 64 << 10;
/** After so many writes or bytes the reactor is told, also when more are to be done. */
const TOLD_WRITES = 8;
const TOLD_BYTES = 128 << 10;
const EFD_CLOEXEC = 0x80000;
const COUNT_BYTES = 8;

/** Words of the header, each in a cache line of its own. */
const AT = {
  submitted: 0,
  completed: 16,
  told: 32,
  /** 1: the reactor sleeps, or is about to. */
  reactorSleeps: 48,
  thread: 64,
  stop: 80,
} as const;
const Thread = { absent: 0, awake: 1, asleep: 2 } as const;
/** Words of an entry; the result takes the place of the length. */
const ENTRY = { fd: 0, addressLow: 1, addressHigh: 2, offsetLow: 3, offsetHigh: 4, length: 5 };

/** What the thread is started with. */
export interface WriteLaneSeed {
  address: number;
  threadFd: number;
  reactorFd: number;
}

export interface LaneOwner {
  /** Bytes written, or -errno when none were. */
  laneDone(result: number): void;
}

/** The reactor's side. */
export class WriteLane {
  readonly seed: WriteLaneSeed;
  readonly #words: Int32Array;
  readonly #owners: (LaneOwner | null)[] = new Array<null>(ENTRIES).fill(null);
  readonly #one = oneEvent();
  #submitted = 0;
  #consumed = 0;
  /** Not published to a sleeping thread yet. */
  #isNews = false;
  #completedAtTick = 0;
  #wasBusy = false;
  #isStuck = false;

  /** `reactorFd` is written to when the reactor sleeps while there is something to collect. */
  constructor(reactorFd: number) {
    const at = mapMemory(LANE_BYTES);
    this.#words = new Int32Array(mappedBytes(at, LANE_BYTES));
    const threadFd = libc.eventfd(0, EFD_CLOEXEC);
    if (threadFd < 0) throw new Fault("badMachine", `no eventfd (${errnoName(errno())})`);
    this.seed = { address: at, threadFd, reactorFd };
  }

  /** Takes a write whose memory stays where it is until `laneDone`; false: not now, or not yet. */
  write(
    fd: number,
    offsetBytes: number,
    address: number,
    lengthBytes: number,
    owner: LaneOwner,
  ): boolean {
    const words = this.#words;
    if (this.#isStuck || ((this.#submitted - this.#consumed) | 0) >= ENTRIES) return false;
    if (!this.isServed) return false;
    const index = this.#submitted & (ENTRIES - 1);
    const at = HEADER_WORDS + index * ENTRY_WORDS;
    words[at + ENTRY.fd] = fd;
    words[at + ENTRY.addressLow] = address % 2 ** 32;
    words[at + ENTRY.addressHigh] = Math.floor(address / 2 ** 32);
    words[at + ENTRY.offsetLow] = offsetBytes % 2 ** 32;
    words[at + ENTRY.offsetHigh] = Math.floor(offsetBytes / 2 ** 32);
    words[at + ENTRY.length] = lengthBytes;
    this.#owners[index] = owner;
    this.#submitted = (this.#submitted + 1) | 0;
    Atomics.store(words, AT.submitted, this.#submitted);
    this.#isNews = true;
    return true;
  }

  /** Before the reactor sleeps: whether it may. */
  mayWait(): boolean {
    if (this.#isNews) this.#wakeThread();
    if (this.#submitted === this.#consumed) return true;
    const words = this.#words;
    Atomics.store(words, AT.reactorSleeps, 1);
    if (((Atomics.load(words, AT.told) - this.#consumed) | 0) <= 0) return true;
    Atomics.store(words, AT.reactorSleeps, 0);
    return false;
  }

  #wakeThread(): void {
    this.#isNews = false;
    const { asleep, awake } = Thread;
    const was = Atomics.compareExchange(this.#words, AT.thread, asleep, awake);
    if (was === asleep) libc.write(this.seed.threadFd, this.#one, COUNT_BYTES);
  }

  /** Tells the owners of all that is completed. */
  collect(): void {
    if (this.#submitted === this.#consumed) return;
    const words = this.#words;
    Atomics.store(words, AT.reactorSleeps, 0);
    while (this.#consumed !== Atomics.load(words, AT.completed)) {
      const index = this.#consumed & (ENTRIES - 1);
      const result = words[HEADER_WORDS + index * ENTRY_WORDS + ENTRY.length] as number;
      const owner = this.#owners[index] as LaneOwner;
      this.#owners[index] = null;
      this.#consumed = (this.#consumed + 1) | 0;
      owner.laneDone(result);
    }
  }

  /** Every tick: notices a thread that hangs. */
  tick(): void {
    const completed = Atomics.load(this.#words, AT.completed);
    const isBusy = completed !== this.#submitted;
    this.#isStuck = isBusy && this.#wasBusy && completed === this.#completedAtTick;
    this.#completedAtTick = completed;
    this.#wasBusy = isBusy;
  }

  /** There is a thread. */
  get isServed(): boolean {
    return Atomics.load(this.#words, AT.thread) !== Thread.absent;
  }

  /** Writes taken whose owners have not been told. */
  get inFlight(): number {
    return (this.#submitted - this.#consumed) | 0;
  }

  /** The thread ends when it has done what it was given. */
  stop(): void {
    Atomics.store(this.#words, AT.stop, 1);
    this.#wakeThread();
  }
}

/** The thread: serves until told to stop. Blocks. */
export function serveWriteLane(seed: WriteLaneSeed): void {
  const words = new Int32Array(mappedBytes(seed.address, LANE_BYTES));
  const one = oneEvent();
  const count = oneEvent();
  let completed = 0;
  let untoldWrites = 0;
  let untoldBytes = 0;
  const tell = () => {
    untoldWrites = 0;
    untoldBytes = 0;
    Atomics.store(words, AT.told, completed);
    if (Atomics.exchange(words, AT.reactorSleeps, 0) === 1) {
      libc.write(seed.reactorFd, one, COUNT_BYTES);
    }
  };
  Atomics.store(words, AT.thread, Thread.awake);
  for (;;) {
    if (completed !== Atomics.load(words, AT.submitted)) {
      untoldBytes += carryOut(words, completed & (ENTRIES - 1));
      untoldWrites++;
      completed = (completed + 1) | 0;
      Atomics.store(words, AT.completed, completed);
      if (untoldWrites >= TOLD_WRITES || untoldBytes >= TOLD_BYTES) tell();
      continue;
    }
    if (untoldWrites > 0) tell();
    if (Atomics.load(words, AT.stop) === 1) return;
    Atomics.store(words, AT.thread, Thread.asleep);
    const isNews =
      completed !== Atomics.load(words, AT.submitted) || Atomics.load(words, AT.stop) === 1;
    if (!isNews) libc.read(seed.threadFd, count, COUNT_BYTES);
    Atomics.store(words, AT.thread, Thread.awake);
  }
}

declare const self: { onmessage: ((event: { data: unknown }) => void) | null };

/** In the Worker's module: waits for the seed and serves. */
export function onWriteLaneSeed(): void {
  self.onmessage = (event) => {
    self.onmessage = null;
    serveWriteLane(event.data as WriteLaneSeed);
  };
}

/** One write; answers the bytes it was to write. */
function carryOut(words: Int32Array, index: number): number {
  const at = HEADER_WORDS + index * ENTRY_WORDS;
  const fd = words[at + ENTRY.fd] as number;
  const start = joined(words, at + ENTRY.addressLow);
  const offset = joined(words, at + ENTRY.offsetLow);
  const length = words[at + ENTRY.length] as number;
  assert(length > 0, "a write has bytes");
  let done = 0;
  let result = 0;
  while (done < length) {
    const piece = Math.min(PIECE_BYTES, length - done);
    result = Number(libc.pwrite(fd, address(start + done), piece, offset + done));
    if (result < 0 && done === 0) done = -(errno() || ERRNO.EIO);
    else if (result > 0) done += result;
    if (result < piece) break;
  }
  words[at + ENTRY.length] = done;
  return length;
}

/** Two words, the low one first, as a number. */
function joined(words: Int32Array, at: number): number {
  return ((words[at] as number) >>> 0) + ((words[at + 1] as number) >>> 0) * 2 ** 32;
}

/** A count of one for an eventfd. Large: its address must not change. */
function oneEvent(): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(4096));
  bytes[0] = 1;
  return bytes;
}
