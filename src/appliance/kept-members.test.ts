// SPDX-License-Identifier: Apache-2.0
//
// What a disk keeps of a lineage that lost (R8): where it is read, what of it, and that nothing
// else is done to it. Over this repository's store in memory for raid's tests.

import { describe, expect, test } from "bun:test";
import { BLOCK_BYTES, REGION_BYTES } from "#base/grains.ts";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import { FLAG_UNVERIFIED, Operation, OperationKind } from "#base/operation.ts";
import type { SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { Member } from "#store/member.ts";
import { KeptMembers, onlyRead } from "./kept-members.ts";

const MIB = 1 << 20;
const KEPT = { lineage: 5, epoch: 4, before: 1, atMs: 0 };

const RECORD: SliceRecord = {
  ...{ slice: 3, volume: 1, index: 0, sizeBytes: 8 * MIB, copies: 2 },
  ...{ lineage: 9, ancestry: [5], epoch: 5, head: 2, resyncing: [], former: [] },
  inSync: [{ disk: 2, incarnation: 1 }],
  kept: [
    { disk: 1, ...KEPT },
    { disk: 4, ...KEPT },
  ],
};

/** A member with some wrong blocks; every byte of a block is its number. */
class WrongMember {
  readonly sizeBytes = 8 * MIB;
  readonly mappedExtents = 3;
  readonly bad = new Set<number>();
  readonly active = new Set<number>();
  readonly seen: { kind: number; from: number; blocks: number; flags: number }[] = [];
  readonly #memory: Memory;

  constructor(memory: Memory) {
    this.#memory = memory;
  }
  isActive(region: number): boolean {
    return this.active.has(region);
  }
  submit(operation: Operation): void {
    const { kind, offsetBytes, lengthBytes, flags, bufferOffset } = operation;
    const from = Math.floor(offsetBytes / BLOCK_BYTES);
    const end = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES);
    this.seen.push({ kind, from, blocks: end - from, flags });
    for (let block = from; block < end; block++) {
      if (this.bad.has(block) && (flags & FLAG_UNVERIFIED) === 0) {
        operation.faultOffsetBytes = block * BLOCK_BYTES;
        return operation.complete(Status.checksumMismatch);
      }
      const start = Math.max(offsetBytes, block * BLOCK_BYTES);
      const stop = Math.min(offsetBytes + lengthBytes, (block + 1) * BLOCK_BYTES);
      const at = bufferOffset + start - offsetBytes;
      this.#memory.bytes.fill(block, at, at + stop - start);
    }
    operation.complete(Status.ok);
  }
}

function bench() {
  const memory = new Memory(new ArrayBuffer(16 * MIB));
  const member = new WrongMember(memory);
  const open = new Set([1]);
  const links = new Set<number>();
  const kept = new KeptMembers({
    ...{ memory, unit: 1 },
    member: (disk, slice) => (open.has(disk) && slice === 3 ? (member as never as Member) : null),
    unitOf: (disk) => disk,
    isLinked: (unit) => links.has(unit),
  });
  kept.recordChanged(RECORD);
  const ask = (kind: OperationKind, offsetBytes: number, lengthBytes: number) => {
    const operation = new Operation();
    const buffer = memory.allocate(Math.max(1, lengthBytes));
    if (lengthBytes <= 8 * MIB) memory.bytes.fill(0xee, buffer, buffer + lengthBytes);
    Object.assign(operation, { kind, offsetBytes, lengthBytes, bufferOffset: buffer });
    operation.done = () => {};
    kept.target(3, 5)?.submit(operation);
    const bytes = memory.bytes.slice(buffer, buffer + lengthBytes);
    memory.release(buffer);
    return { status: operation.status, bytes, runs: operation.runs };
  };
  return { memory, member, open, links, kept, ask };
}

describe("where it is", () => {
  test("here first; else where a unit is linked; else nowhere", () => {
    const { kept, open, links } = bench();
    expect(kept.place(3, 5).at).toBe("here");
    open.clear();
    expect(kept.place(3, 5)).toEqual({ at: "unknown" });
    links.add(4);
    expect(kept.place(3, 5)).toEqual({ at: "unit", unit: 4 });
  });

  test("no other lineage, and nothing once it is given up", () => {
    const { kept } = bench();
    expect(kept.place(3, 9).at).toBe("unknown");
    expect(kept.target(3, 9)).toBeNull();
    expect(kept.reports()).toEqual([{ slice: 3, disk: 1, bytes: 3 * MIB }]);
    // A record that came by a link does not say.
    const { kept: _, ...silent } = RECORD;
    kept.recordChanged(silent);
    expect(kept.target(3, 5)).not.toBeNull();
    kept.recordChanged({ ...RECORD, kept: [] });
    expect(kept.target(3, 5)).toBeNull();
    expect(kept.reports()).toEqual([]);
  });
});

describe("reading it", () => {
  test("any sectors; zero behind its end, since the slice grew later (H11)", () => {
    const { ask } = bench();
    const { status, bytes } = ask(OperationKind.read, BLOCK_BYTES - 512, 1024);
    expect([status, bytes[0], bytes[511], bytes[512], bytes[1023]]).toEqual([0, 0, 0, 1, 1]);
    const end = ask(OperationKind.read, 8 * MIB - 512, 1024);
    expect([end.status, end.bytes[511], end.bytes[512], end.bytes[1023]]).toEqual([0, 255, 0, 0]);
    const behind = ask(OperationKind.read, 12 * MIB, 4096);
    expect([behind.status, behind.bytes]).toEqual([0, new Uint8Array(4096)]);
    const { blockStatus } = OperationKind;
    const runs = [{ lengthBytes: 8192, allocated: true }];
    expect(ask(blockStatus, 8 * MIB - 4096, 8192)).toMatchObject({ status: 0, runs });
    const far = ask(OperationKind.read, 64 * 1024 * MIB - 512, 1024);
    expect(far.status).toBe(Status.outOfRange);
    expect(ask(OperationKind.read, 100, 512).status).toBe(Status.invalid);
  });

  test("a wrong block is a medium error, never its bytes (H8)", () => {
    const { ask, member } = bench();
    member.bad.add(3);
    expect(ask(OperationKind.read, 0, 8 * BLOCK_BYTES).status).toBe(Status.mediumError);
    expect(member.seen.some(({ flags }) => flags !== 0)).toBe(false);
  });

  test("one in a region that was active is taken as it is, and only that one (R9)", () => {
    const { ask, member } = bench();
    member.bad.add(3).add(5);
    member.active.add(0);
    const { status, bytes } = ask(OperationKind.read, 0, 8 * BLOCK_BYTES);
    expect(status).toBe(Status.ok);
    const firsts = Array.from({ length: 8 }, (_, block) => bytes[block * BLOCK_BYTES]);
    expect(firsts).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const raw = member.seen.filter(({ flags }) => flags === FLAG_UNVERIFIED);
    expect(raw.map(({ from, blocks }) => [from, blocks])).toEqual([
      [3, 1],
      [5, 1],
    ]);
    // A wrong block elsewhere stays an error.
    member.bad.add(REGION_BYTES / BLOCK_BYTES);
    const across = ask(OperationKind.read, REGION_BYTES - BLOCK_BYTES, 2 * BLOCK_BYTES);
    expect(across.status).toBe(Status.mediumError);
  });
});

test("whatever would change it → read-only, and the disk hears nothing of it", () => {
  const { ask, member } = bench();
  const { write, trim, writeZeroes, flush } = OperationKind;
  for (const kind of [write, trim, writeZeroes]) {
    expect(ask(kind, 0, 4096).status).toBe(Status.readOnly);
  }
  expect(ask(flush, 0, 0).status).toBe(Status.ok);
  expect(member.seen).toEqual([]);
  const target = onlyRead({ submit: (operation) => operation.complete(Status.ioError) });
  for (const kind of [write, trim, writeZeroes]) {
    const operation = Object.assign(new Operation(), { kind, bufferOffset: NO_BUFFER });
    operation.done = () => {};
    target.submit(operation);
    expect(operation.status).toBe(Status.readOnly);
  }
});
