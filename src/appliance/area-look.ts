// SPDX-License-Identifier: Apache-2.0
//
// A look at a claimed area before anything is written to it: does a store begin here, and whose?
// Until that is known a disk is neither formatted nor opened, since opening raises its incarnation
// (R0).
//
// Both places of a superblock count: an area is unformatted only if neither holds a single byte.
// Claiming has cleared them, so only a stop before the first superblock leaves it so; an area with
// a damaged superblock is a store, and never formatted.

import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { Area } from "#base/operation.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { PAGE_BYTES } from "#store/format.wire.ts";
import { identityText } from "#store/page.ts";
import { decodeSuperblock } from "#store/superblock.ts";

export type AreaLook =
  | { kind: "unformatted" }
  /** A sound superblock of this cluster: 32 hexadecimal digits. */
  | { kind: "store"; clusterId: string }
  /** Something is there, and it is for the store to say what. */
  | { kind: "unclear" }
  | { kind: "failed"; status: Status };

/** Reads only. `done` is called once, perhaps from within. */
export function lookAtArea(memory: Memory, area: Area, done: (look: AreaLook) => void): void {
  const lastAt = Math.floor(area.sizeBytes / PAGE_BYTES) * PAGE_BYTES - PAGE_BYTES;
  if (lastAt <= 0) return done({ kind: "unclear" });
  const buffer = memory.allocate(PAGE_BYTES);
  if (buffer === NO_BUFFER) return done({ kind: "failed", status: Status.busy });
  const finish = (look: AreaLook) => {
    memory.release(buffer);
    done(look);
  };
  const operation = new Operation();
  readPage(area, operation, { at: 0, buffer }, (first) => {
    if (first !== Status.ok) return finish({ kind: "failed", status: first });
    const firstFound = lookAtPage(memory.bytes, buffer);
    if (firstFound.kind === "store") return finish(firstFound);
    readPage(area, operation, { at: lastAt, buffer }, (last) => {
      if (last !== Status.ok) return finish({ kind: "failed", status: last });
      const lastFound = lookAtPage(memory.bytes, buffer);
      if (lastFound.kind === "store") return finish(lastFound);
      const empty = firstFound.kind === "unformatted" && lastFound.kind === "unformatted";
      finish({ kind: empty ? "unformatted" : "unclear" });
    });
  });
}

function readPage(
  area: Area,
  operation: Operation,
  where: { at: number; buffer: number },
  done: (status: Status) => void,
): void {
  operation.kind = OperationKind.read;
  operation.offsetBytes = where.at;
  operation.lengthBytes = PAGE_BYTES;
  operation.bufferOffset = where.buffer;
  operation.done = (ended) => done(ended.status);
  area.submit(operation);
}

function lookAtPage(bytes: Uint8Array, at: number): Exclude<AreaLook, { kind: "failed" }> {
  const superblock = decodeSuperblock(bytes, at);
  if (typeof superblock !== "string") {
    return { kind: "store", clusterId: identityText(superblock.cluster) };
  }
  for (let index = at; index < at + PAGE_BYTES; index++) {
    if (bytes[index] !== 0) return { kind: "unclear" };
  }
  return { kind: "unformatted" };
}
