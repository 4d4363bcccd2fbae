// SPDX-License-Identifier: Apache-2.0
//
// A disk in memory for the store's tests: keeps what was flushed apart from what was only written,
// at 512-byte sectors; answers when told to, in any order; fails when told to; records what it was
// sent. Sparse, so that 64 TiB fit.

import type { Memory } from "#base/memory.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import type { Area, Operation } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";

export const SECTOR = 512;
const PAGE = 4096;

/** Bytes by 4 KiB pages; what was never written is `background`. */
export class Image {
  readonly pages = new Map<number, Uint8Array>();
  readonly background: number;
  readonly #under: Image | null;

  constructor(background = 0, under: Image | null = null) {
    this.background = background;
    this.#under = under;
  }

  /** A copy that costs nothing until it is written to; this one must not change any more. */
  over(): Image {
    return new Image(this.background, this);
  }

  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const length = Math.min(PAGE - (at % PAGE), target.length - done);
      const page = this.#find(Math.floor(at / PAGE));
      const part = target.subarray(done, done + length);
      if (page === undefined) part.fill(this.background);
      else part.set(page.subarray(at % PAGE, (at % PAGE) + length));
      done += length;
    }
  }

  write(offset: number, source: Uint8Array): void {
    for (let done = 0; done < source.length;) {
      const at = offset + done;
      const length = Math.min(PAGE - (at % PAGE), source.length - done);
      const index = Math.floor(at / PAGE);
      let page = this.pages.get(index);
      if (page === undefined) {
        const below = this.#find(index);
        page = below === undefined ? new Uint8Array(PAGE).fill(this.background) : below.slice();
        this.pages.set(index, page);
      }
      page.set(source.subarray(done, done + length), at % PAGE);
      done += length;
    }
  }

  #find(index: number): Uint8Array | undefined {
    return this.pages.get(index) ?? this.#under?.find(index);
  }
  find(index: number): Uint8Array | undefined {
    return this.#find(index);
  }
}

/** What the disk was sent, in the order in which it was carried out. */
export type DiskEvent =
  /** `isStable`: from its end on it is, other than what was written before it. */
  | { what: "write"; offset: number; bytes: Uint8Array; isStable: boolean }
  /** Makes the first `through` writes of the record stable. */
  | { what: "flush"; through: number }
  /** Something the test noted between. */
  | { what: "note"; note: string };

interface Pending {
  offset: number;
  bytes: Uint8Array;
  /** Counts all writes. */
  number: number;
}

export class SimDisk implements Area {
  readonly sizeBytes: number;
  readonly alignBytes: number;
  #memory: Memory;
  /** What survives a power cut. */
  stable: Image;
  /** What is read. */
  current: Image;
  #pending: Pending[] = [];
  #writes = 0;
  #queue: { operation: Operation; through: number }[] = [];
  /** Set: calls are carried out in an order drawn from it. */
  order: Prng | null = null;
  /** Record of everything carried out, when wanted. */
  record: DiskEvent[] | null = null;
  /** Calls carried out so far, and which of them fails (counted from 1; 0: none). */
  calls = 0;
  failAt = 0;
  /** Whether calls of this kind at this offset fail. */
  failWhen: ((kind: OperationKind, offset: number, length: number) => boolean) | null = null;
  /** What a write that fails has written all the same. */
  failedWriteLeaves: "nothing" | "half" | "all" = "nothing";
  flushes = 0;
  /** Calls that are left waiting for as long as this says so. */
  hold: ((kind: OperationKind, offset: number) => boolean) | null = null;

  constructor(
    memory: Memory,
    sizeBytes: number,
    options: { alignBytes?: number; image?: Image } = {},
  ) {
    this.#memory = memory;
    this.sizeBytes = sizeBytes;
    this.alignBytes = options.alignBytes ?? 512;
    this.stable = options.image ?? new Image();
    this.current = this.stable.over();
  }

  submit(operation: Operation): void {
    const { offsetBytes, lengthBytes, kind, bufferOffset } = operation;
    if (kind !== OperationKind.flush) {
      const wrong =
        offsetBytes % this.alignBytes !== 0 ||
        lengthBytes % this.alignBytes !== 0 ||
        bufferOffset % this.alignBytes !== 0 ||
        offsetBytes + lengthBytes > this.sizeBytes ||
        lengthBytes === 0;
      if (wrong) throw new Error(`a call off the grid: ${offsetBytes} ${lengthBytes}`);
    }
    this.#queue.push({ operation, through: this.#writes });
  }

  get queued(): number {
    return this.#queue.length;
  }

  note(note: string): void {
    this.record?.push({ what: "note", note });
  }

  /** Carries out one call; false when there is none. */
  step(): boolean {
    const { hold } = this;
    let at = this.order === null ? 0 : this.order.below(Math.max(1, this.#queue.length));
    if (hold !== null) {
      at = this.#queue.findIndex(({ operation: o }) => !hold(o.kind, o.offsetBytes));
      if (at < 0) return false;
    }
    const [next] = this.#queue.splice(at, 1);
    if (next === undefined) return false;
    const { operation, through } = next;
    this.calls++;
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    if (this.calls === this.failAt || this.failWhen?.(kind, offsetBytes, lengthBytes) === true) {
      if (kind === OperationKind.write) this.#writePart(offsetBytes, lengthBytes, bufferOffset);
      operation.complete(Status.ioError);
      return true;
    }
    if (kind === OperationKind.flush) this.#flush(through);
    else {
      const bytes = this.#memory.bytes.subarray(bufferOffset, bufferOffset + lengthBytes);
      if (kind === OperationKind.read) this.current.read(offsetBytes, bytes);
      else this.#write(offsetBytes, bytes.slice(), (operation.flags & FLAG_FUA) !== 0);
    }
    operation.complete(Status.ok);
    return true;
  }

  /** Carries out everything, also what comes of it. */
  run(): void {
    while (this.step());
  }

  /**
   * A power cut: of each sector written and not flushed some version since the last flush survives,
   * as `chance` draws; what was queued is gone. Answers the image.
   */
  powerCut(prng: Prng): Image {
    const kept = prng.pick([0, 0.2, 0.5, 0.9, 1]);
    for (const { offset, bytes } of this.#pending) {
      for (let at = 0; at < bytes.length; at += SECTOR) {
        if (prng.chance(kept)) this.stable.write(offset + at, bytes.subarray(at, at + SECTOR));
      }
    }
    this.#pending = [];
    this.#queue = [];
    this.current = this.stable.over();
    return this.stable;
  }

  /** The process dies, the disk lives: what was carried out stays in its cache. */
  kill(): Image {
    this.#queue = [];
    for (const { offset, bytes } of this.#pending) this.stable.write(offset, bytes);
    this.#pending = [];
    return this.stable;
  }

  /** The process dies: of the sectors it was writing `share` are in the cache all the same. */
  endCalls(share: number, prng: Prng): void {
    for (const { operation } of this.#queue) {
      const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
      if (kind !== OperationKind.write) continue;
      for (let at = 0; at < lengthBytes; at += SECTOR) {
        if (!prng.chance(share)) continue;
        const from = bufferOffset + at;
        this.#write(offsetBytes + at, this.#memory.bytes.slice(from, from + SECTOR));
      }
    }
    this.#queue = [];
  }

  /** The process dies and another comes; what it wrote and did not flush is still not stable. */
  restart(memory: Memory): void {
    this.#queue = [];
    this.#memory = memory;
  }

  /** Everything carried out so far becomes stable and the answer; from now on a record is kept. */
  startRecord(): Image {
    const base = this.kill();
    this.stable = base.over();
    this.current = this.stable.over();
    this.#writes = 0;
    this.record = [];
    return base;
  }

  /** A disk like this one, with what it was given until now. */
  fork(memory: Memory): SimDisk {
    const { sizeBytes, alignBytes } = this;
    const image = this.stable;
    this.stable = image.over();
    const fork = new SimDisk(memory, sizeBytes, { alignBytes, image: image.over() });
    for (const { offset, bytes } of this.#pending) fork.#write(offset, bytes);
    return fork;
  }

  #writePart(offset: number, lengthBytes: number, from: number): void {
    const share = { nothing: 0, half: 0.5, all: 1 }[this.failedWriteLeaves];
    const length = Math.floor((lengthBytes * share) / SECTOR) * SECTOR;
    if (length > 0) this.#write(offset, this.#memory.bytes.slice(from, from + length));
  }

  #write(offset: number, bytes: Uint8Array, isStable = false): void {
    this.current.write(offset, bytes);
    if (isStable) this.#writeStable(offset, bytes);
    else this.#pending.push({ offset, bytes, number: this.#writes });
    this.#writes++;
    this.record?.push({ what: "write", offset, bytes, isStable });
  }

  /** What came before it to the same place can survive no more. */
  #writeStable(offset: number, bytes: Uint8Array): void {
    this.stable.write(offset, bytes);
    for (const older of this.#pending) {
      const from = Math.max(offset, older.offset);
      const to = Math.min(offset + bytes.length, older.offset + older.bytes.length);
      if (from >= to) continue;
      older.bytes = older.bytes.slice();
      older.bytes.set(bytes.subarray(from - offset, to - offset), from - older.offset);
    }
  }

  /** Only what was carried out before the flush was submitted. */
  #flush(through: number): void {
    this.flushes++;
    const later = this.#pending.findIndex(({ number }) => number >= through);
    const count = later < 0 ? this.#pending.length : later;
    for (const { offset, bytes } of this.#pending.splice(0, count)) {
      this.stable.write(offset, bytes);
    }
    this.record?.push({ what: "flush", through });
  }
}
