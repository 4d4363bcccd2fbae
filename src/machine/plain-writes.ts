// SPDX-License-Identifier: Apache-2.0
//
// PlainWrites: short writes through the page cache, by a plain call on the reactor's own thread. To
// hand such a write to another thread and to be told of its end costs as much as the write itself,
// and cuts what came together into parts of which each wakes somebody.
//
// Such a call may wait: for the file system's journal, for memory, because the kernel holds back
// whoever makes much dirty, or without end where the file system is stuck. So it is made only
// - while all disks of the reactor lie on one device: no other's hosts would wait as well,
// - while the kernel is far from holding anybody back (dirty-room.ts),
// - while nothing that the same file has under way elsewhere seems to be held up (file-area.ts),
// - REST_SHARE times as long as the last one that slept took after it: of the reactor's time at
//   most that share is slept away. A call that was only interrupted by others counts for nothing.
//
// Invariants
// - Owners are told by `collect`, at the end of a turn, as those of the write lane are: never from
//   within `write`.
// - Nothing is retried (R10).

import { assert } from "#base/assert.ts";
import { RUSAGE_BYTES, RUSAGE_SLEPT, RUSAGE_THREAD } from "./io-uring.wire.ts";
import { mapMemory, mappedBytes } from "./arena.ts";
import type { DirtyRoom } from "./dirty-room.ts";
import { ERRNO, address, errno, libc } from "./libc.ts";
import type { LaneOwner } from "./write-lane.ts";

/** Longer ones are the lane's: two threads copy more than one. */
const PLAIN_BYTES_MAX = 64 << 10;
/** Of a call that took longer it is looked whether it slept, ms. */
const SLOW_MS = 0.5;
const REST_SHARE = 32;

export class PlainWrites {
  readonly #room: Pick<DirtyRoom, "take">;
  /** Disks in use on each device. */
  readonly #devices = new Map<number, number>();
  readonly #owners: (LaneOwner | null)[] = [];
  readonly #results: number[] = [];
  #count = 0;
  readonly #usageAt = mapMemory(RUSAGE_BYTES);
  readonly #usage = new Uint32Array(mappedBytes(this.#usageAt, RUSAGE_BYTES));
  /** How often the thread had slept at the turn's first write; -1: there was none. */
  #slept = -1;
  #restUntilMs = 0;

  constructor(room: Pick<DirtyRoom, "take">) {
    this.#room = room;
  }

  /** A disk is in use from now on: a file on that device, or itself that device (stat(2)). */
  diskOpened(device: number): void {
    this.#devices.set(device, (this.#devices.get(device) ?? 0) + 1);
  }

  diskClosed(device: number): void {
    const left = (this.#devices.get(device) ?? 0) - 1;
    assert(left >= 0, "a disk that is closed was opened");
    if (left > 0) this.#devices.set(device, left);
    else this.#devices.delete(device);
  }

  /** Writes from memory at the address `at`; false: it is to be done elsewhere. */
  write(
    fd: number,
    offsetBytes: number,
    at: number,
    lengthBytes: number,
    owner: LaneOwner,
  ): boolean {
    if (lengthBytes > PLAIN_BYTES_MAX || this.#devices.size > 1) return false;
    const beforeMs = performance.now();
    if (beforeMs < this.#restUntilMs || !this.#room.take(lengthBytes, beforeMs)) return false;
    if (this.#slept < 0) this.#slept = this.#timesSlept();
    const written = Number(libc.pwrite(fd, address(at), lengthBytes, offsetBytes));
    this.#results[this.#count] = written < 0 ? -(errno() || ERRNO.EIO) : written;
    this.#owners[this.#count] = owner;
    this.#count++;
    const tookMs = performance.now() - beforeMs;
    if (tookMs > SLOW_MS) this.#wasSlow(tookMs);
    return true;
  }

  /** Owners wait to be told. */
  get isNews(): boolean {
    return this.#count > 0;
  }

  /** Once a turn: tells the owners of what was written before now. */
  collect(): void {
    this.#slept = -1;
    const count = this.#count;
    if (count === 0) return;
    for (let index = 0; index < count; index++) {
      const owner = this.#owners[index] as LaneOwner;
      this.#owners[index] = null;
      owner.laneDone(this.#results[index] as number);
    }
    // What they wrote meanwhile lies behind; the next turn's.
    const more = this.#count - count;
    for (let index = 0; index < more; index++) {
      this.#owners[index] = this.#owners[count + index] as LaneOwner;
      this.#owners[count + index] = null;
      this.#results[index] = this.#results[count + index] as number;
    }
    this.#count = more;
  }

  #wasSlow(tookMs: number): void {
    const slept = this.#timesSlept();
    if (slept === this.#slept) return;
    this.#slept = slept;
    this.#restUntilMs = performance.now() + tookMs * REST_SHARE;
  }

  #timesSlept(): number {
    libc.getrusage(RUSAGE_THREAD, address(this.#usageAt));
    return this.#usage[RUSAGE_SLEPT] as number;
  }
}
