// SPDX-License-Identifier: Apache-2.0
//
// All calls to the area of one disk go through here: pooled operations, flushes that share, and the
// one place where a disk is ejected.
//
// Invariants:
// - R10: a write or a flush that failed ejects the disk, once; nothing is retried into success, and
//   nothing is sent to an ejected disk any more.
// - A flush covers every write that completed before it was asked for. One is in flight at most;
//   all who ask meanwhile share the next one.

import { NO_BUFFER } from "#base/memory.ts";
import type { Memory } from "#base/memory.ts";
import { FLAG_FUA, FLAG_PAST_CACHE, OperationKind, OperationPool } from "#base/operation.ts";
import type { Area, Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";

export type IoDone = (status: Status) => void;

/** Whoever runs data-path I/O without a closure per call: finds itself in `operation.owner`. */
export interface IoOwner {
  ioDone(status: Status): void;
}

export class DiskIo {
  readonly area: Area;
  readonly memory: Memory;
  /** Ejected (R10). */
  failed = false;
  /** What failed, in words. */
  failure = "";
  /** Called once, when the disk is ejected. */
  onFailed: (reason: string) => void = () => {};
  /** Calls that the area has not answered yet. */
  inFlight = 0;
  /** Told whenever the last of them was answered and its owner knows. */
  onIdle: () => void = () => {};
  readonly #operations = new OperationPool();
  #flushing: IoDone[] | null = null;
  #flushNext: IoDone[] = [];
  readonly #ended: (operation: Operation) => void;

  constructor(area: Area, memory: Memory) {
    this.area = area;
    this.memory = memory;
    this.#ended = (operation) => this.#end(operation);
  }

  /** Data path: `owner.ioDone` gets the outcome. */
  start(
    kind: OperationKind,
    offsetBytes: number,
    lengthBytes: number,
    bufferOffset: number,
    owner: IoOwner,
    flags = 0,
  ): void {
    if (this.failed) return owner.ioDone(Status.ioError);
    const operation = this.#operations.take();
    operation.kind = kind;
    operation.flags = flags;
    operation.offsetBytes = offsetBytes;
    operation.lengthBytes = lengthBytes;
    operation.bufferOffset = bufferOffset;
    operation.owner = owner;
    operation.done = this.#ended;
    this.inFlight++;
    this.area.submit(operation);
  }

  read(offsetBytes: number, lengthBytes: number, bufferOffset: number, done: IoDone): void {
    this.start(OperationKind.read, offsetBytes, lengthBytes, bufferOffset, { ioDone: done });
  }

  /** A read of the medium, past whatever keeps copies of it (R9). */
  readPastCache(
    offsetBytes: number,
    lengthBytes: number,
    bufferOffset: number,
    done: IoDone,
  ): void {
    const owner = { ioDone: done };
    this.start(OperationKind.read, offsetBytes, lengthBytes, bufferOffset, owner, FLAG_PAST_CACHE);
  }

  write(offsetBytes: number, lengthBytes: number, bufferOffset: number, done: IoDone): void {
    this.start(OperationKind.write, offsetBytes, lengthBytes, bufferOffset, { ioDone: done });
  }

  /** `done` once it is on stable media itself; nothing is said of what was written before. */
  writeStable(offsetBytes: number, lengthBytes: number, bufferOffset: number, done: IoDone): void {
    const owner = { ioDone: done };
    this.start(OperationKind.write, offsetBytes, lengthBytes, bufferOffset, owner, FLAG_FUA);
  }

  /** `done` once everything written before now is on stable media. */
  flush(done: IoDone): void {
    if (this.failed) return done(Status.ioError);
    this.#flushNext.push(done);
    this.#flushMore();
  }

  /** Ejects the disk. */
  fail(reason: string): void {
    if (this.failed) return;
    this.failed = true;
    this.failure = reason;
    const waiting = this.#flushNext;
    this.#flushNext = [];
    this.onFailed(reason);
    for (const done of waiting) done(Status.ioError);
  }

  #flushMore(): void {
    if (this.#flushing !== null || this.#flushNext.length === 0) return;
    this.#flushing = this.#flushNext;
    this.#flushNext = [];
    this.start(OperationKind.flush, 0, 0, NO_BUFFER, {
      ioDone: (status) => {
        const answered = this.#flushing as IoDone[];
        this.#flushing = null;
        for (const done of answered) done(status);
        this.#flushMore();
      },
    });
  }

  #end(operation: Operation): void {
    const { kind, status, offsetBytes } = operation;
    const owner = operation.owner as IoOwner;
    this.#operations.give(operation);
    this.inFlight--;
    if (status !== Status.ok && kind !== OperationKind.read) {
      this.fail(`${kind === OperationKind.write ? "write" : "flush"} failed at ${offsetBytes}`);
    }
    // What an ejected disk says it did counts for nothing.
    owner.ioDone(this.failed && kind !== OperationKind.read ? Status.ioError : status);
    if (this.inFlight === 0) this.onIdle();
  }
}
