// SPDX-License-Identifier: Apache-2.0
//
// The operation: the one object of the data path, at the bottom (an area of a disk, the
// fault-injecting test disk) and at the top (a slice, a volume). Pooled, completed by its callback
// and never by a promise: a reactor that blocks in the kernel runs no promises.
//
// Ownership: who submits an operation owns it and its buffer again when `done` is called, not
// before. `done` may be called from within `submit`. Who takes an operation may not keep it after
// `done`.

import { assert } from "./assert.ts";
import { NO_BUFFER } from "./memory.ts";
import { Status } from "./status.ts";

export const OperationKind = {
  read: 1,
  write: 2,
  /** All that was acked before it was submitted is on stable media when it is done (H4). */
  flush: 3,
  /** Frees what it covers; reads zero afterwards (H9). */
  trim: 4,
  /** Reads zero afterwards; FLAG_NO_HOLE keeps the space allocated. */
  writeZeroes: 5,
  /** Reports which parts are allocated; the answer is in `runs`. Volumes and slices only. */
  blockStatus: 6,
} as const;
export type OperationKind = (typeof OperationKind)[keyof typeof OperationKind];

/** Force unit access: on stable media before it is done (H5). */
export const FLAG_FUA = 1;
/** writeZeroes must not free space. */
export const FLAG_NO_HOLE = 2;
/** A read that must go to the medium, past any cache (scrub). */
export const FLAG_PAST_CACHE = 4;
/** A write whose `epoch` is the stamp to store rather than the current one (resync copies). */
export const FLAG_KEEP_STAMP = 8;

/** Gives bytes as they are, unverified (unwritten as zero): R9's choice in an active region. */
export const FLAG_UNVERIFIED = 16;
/**
 * A forwarder sent this before, so it may have taken effect: whoever forgot must refuse it (H7).
 */
export const FLAG_RESENT = 32;
/**
 * A read whose bytes nobody wants now: they are to be at hand later (NBD's CACHE). A head on
 * another unit sends none back.
 */
export const FLAG_WARM = 1024;
// 64 and 512 are FLAG_DIGEST and FLAG_STORED, of verbs alone (raid/digest.ts).
/**
 * A write that writes nothing: its blocks, whole ones, read as damaged from now on, until they are
 * written (H8). No buffer.
 */
export const FLAG_LOST = 128;
/** A write that puts right what was wrong on that disk: counted there (R9). */
export const FLAG_MENDS = 256;

/** R13: four classes; one waits only for a lower number. */
export const TrafficClass = { control: 0, replica: 1, forwarded: 2, host: 3 } as const;
export type TrafficClass = (typeof TrafficClass)[keyof typeof TrafficClass];

/** Part of a blockStatus answer, in order and without gaps. */
export interface StatusRun {
  lengthBytes: number;
  /** False: reads zero and holds no space of its own. */
  allocated: boolean;
}

export class Operation {
  kind: OperationKind = OperationKind.read;
  /** From the start of whatever the operation is submitted to, bytes. */
  offsetBytes = 0;
  lengthBytes = 0;
  flags = 0;
  class: TrafficClass = TrafficClass.host;
  /** The slice's epoch where a member is addressed; stored as the extents' stamp. */
  epoch = 0;
  /** Offset in the reactor's Memory of the first byte to read into or write from. */
  bufferOffset = NO_BUFFER;
  status: Status = Status.ok;
  /** Filled by blockStatus. */
  runs: StatusRun[] | null = null;
  /**
   * Names the request across resends by a forwarder, so that it takes effect at most once (H7): 0,
   * or a number no other request of the cluster bears.
   */
  origin = 0;
  /**
   * H7: must not begin to take effect after this (clock.nowMs); then it ends expired, untouched.
   */
  notAfterMs = Number.POSITIVE_INFINITY;
  /** The host's connection ended: whoever would send it again must not (H7). */
  cancelled = false;
  /** Where a checksum was wrong (Status.checksumMismatch): the first such block's offset, bytes. */
  faultOffsetBytes = -1;
  done: (operation: Operation) => void = unset;
  /** Whoever submitted it may hang its own state here; nobody else touches it. */
  owner: unknown = null;
  /** Next in a queue of whoever holds the operation now. */
  next: Operation | null = null;

  /** Ends the operation. Exactly once per submission. */
  complete(status: Status): void {
    this.status = status;
    this.done(this);
  }
}

function unset(): void {
  throw new Error("operation without a done");
}

/** Whatever takes operations: a disk, an area of one, a member's store, a slice, a volume. */
export interface OperationTarget {
  submit(operation: Operation): void;
}

/**
 * A disk or a GPT partition of one: what machine gives and store asks. Kinds: read, write, flush.
 */
export interface Area extends OperationTarget {
  readonly sizeBytes: number;
  /** Offsets, lengths and buffers must be multiples of this: 512 or 4096. */
  readonly alignBytes: number;
}

export class OperationPool {
  readonly #free: Operation[] = [];
  #out = 0;

  take(): Operation {
    this.#out++;
    return this.#free.pop() ?? new Operation();
  }

  give(operation: Operation): void {
    assert(this.#out > 0, "an operation is given back once");
    this.#out--;
    operation.flags = 0;
    operation.class = TrafficClass.host;
    operation.epoch = 0;
    operation.bufferOffset = NO_BUFFER;
    operation.status = Status.ok;
    operation.runs = null;
    operation.origin = 0;
    operation.notAfterMs = Number.POSITIVE_INFINITY;
    operation.cancelled = false;
    operation.faultOffsetBytes = -1;
    operation.done = unset;
    operation.owner = null;
    operation.next = null;
    this.#free.push(operation);
  }

  /** Operations taken and not given back. */
  get outstanding(): number {
    return this.#out;
  }
}
