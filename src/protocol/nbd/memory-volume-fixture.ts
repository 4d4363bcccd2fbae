// SPDX-License-Identifier: Apache-2.0
//
// A volume in plain memory, for tests: keeps data and what is allocated by block, ends operations
// at once or when the test says so, in any order, and fails them on demand.

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import type { Memory } from "#base/memory.ts";
import type { Operation, OperationTarget, StatusRun } from "#base/operation.ts";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";

export class MemoryVolume implements OperationTarget {
  readonly data: Uint8Array;
  readonly allocated: boolean[];
  /** Operations wait for `complete` instead of ending at once. */
  held: Operation[] | null = null;
  /** What the next operations end with, instead of being done. */
  failWith: Status | null = null;
  faultOffsetBytes = -1;
  flushes = 0;
  /** Kind, flags and range of everything submitted. */
  readonly seen: { kind: number; flags: number; offsetBytes: number; lengthBytes: number }[] = [];
  readonly #memory: Memory;

  constructor(memory: Memory, sizeBytes: number) {
    this.#memory = memory;
    this.data = new Uint8Array(sizeBytes);
    this.allocated = new Array<boolean>(Math.ceil(sizeBytes / BLOCK_BYTES)).fill(false);
  }

  submit(operation: Operation): void {
    const { kind, flags, offsetBytes, lengthBytes } = operation;
    this.seen.push({ kind, flags, offsetBytes, lengthBytes });
    if (this.held !== null) this.held.push(operation);
    else this.complete(operation);
  }

  complete(operation: Operation): void {
    if (this.failWith !== null) {
      operation.faultOffsetBytes = this.faultOffsetBytes;
      return operation.complete(this.failWith);
    }
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    const end = offsetBytes + lengthBytes;
    assert(end <= this.data.length, "the session checks the range");
    const { bytes } = this.#memory;
    switch (kind) {
      case OperationKind.read:
        bytes.set(this.data.subarray(offsetBytes, end), bufferOffset);
        break;
      case OperationKind.write:
        this.data.set(bytes.subarray(bufferOffset, bufferOffset + lengthBytes), offsetBytes);
        this.#mark(offsetBytes, end, true);
        break;
      case OperationKind.trim:
      case OperationKind.writeZeroes:
        this.data.fill(0, offsetBytes, end);
        this.#mark(offsetBytes, end, false);
        break;
      case OperationKind.flush:
        this.flushes++;
        break;
      case OperationKind.blockStatus:
        operation.runs = this.#runs(offsetBytes, end);
    }
    operation.complete(Status.ok);
  }

  #mark(from: number, to: number, allocated: boolean): void {
    // Freeing only covers whole blocks, allocating every block touched.
    const first = allocated ? Math.floor(from / BLOCK_BYTES) : Math.ceil(from / BLOCK_BYTES);
    const end = allocated ? Math.ceil(to / BLOCK_BYTES) : Math.floor(to / BLOCK_BYTES);
    for (let block = first; block < end; block++) this.allocated[block] = allocated;
  }

  #runs(from: number, to: number): StatusRun[] {
    const runs: StatusRun[] = [];
    for (let at = from; at < to;) {
      const allocated = this.allocated[Math.floor(at / BLOCK_BYTES)] as boolean;
      const next = Math.min(to, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      const last = runs.at(-1);
      if (last !== undefined && last.allocated === allocated) last.lengthBytes += next - at;
      else runs.push({ lengthBytes: next - at, allocated });
      at = next;
    }
    return runs;
  }
}
