// SPDX-License-Identifier: Apache-2.0
//
// What a head asks of a member beside its bytes (R9, H8): the checksums that it has stored, and
// that blocks which nobody can read shall read as damaged.

import { describe, expect, test } from "bun:test";
import { ZERO_BLOCK_CHECKSUM, blockChecksum } from "#base/checksum.ts";
import { LOST_CHECKSUM } from "#base/member-store.ts";
import { FLAG_LOST, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { MIB, filled } from "./bench-fixture.ts";
import { BLOCK, filledBench } from "./scrub-fixture.ts";

describe("what a head asks of a member", () => {
  test("checksumsOf → as stored: unwritten as zero blocks, unmapped too, lost ones named", () => {
    const bench = filledBench();
    const ask = (extent: number) => {
      let answer: Uint32Array | null = null;
      bench.member().checksumsOf(extent, (checksums) => {
        answer = checksums;
      });
      bench.disk.run();
      return answer as Uint32Array | null;
    };
    expect(ask(0)?.[3]).toBe(blockChecksum(filled(BLOCK, 1), 0, BLOCK));
    expect(ask(0)?.[90]).toBe(ZERO_BLOCK_CHECKSUM);
    expect(ask(3)?.every((checksum) => checksum === ZERO_BLOCK_CHECKSUM)).toBe(true);
    bench.activate(bench.member(), 0, 3);
    const lose = { flags: FLAG_LOST, epoch: 3 };
    for (const at of [3 * BLOCK, 12 * MIB]) {
      expect(bench.io(bench.member(), OperationKind.write, at, BLOCK, lose).status).toBe(Status.ok);
    }
    expect(ask(0)?.[3]).toBe(LOST_CHECKSUM);
    expect(bench.read(bench.member(), 3 * BLOCK, BLOCK).status).toBe(Status.checksumMismatch);
    bench.flush(bench.member());
    bench.reboot();
    expect([ask(0)?.[3], ask(12)?.[0]]).toEqual([LOST_CHECKSUM, LOST_CHECKSUM]);
    for (const at of [3 * BLOCK, 12 * MIB]) {
      expect(bench.read(bench.member(), at, BLOCK).status).toBe(Status.checksumMismatch);
    }
    expect(bench.read(bench.member(), 2 * BLOCK, BLOCK).bytes).toEqual(filled(BLOCK, 1));
    // A mark takes whole blocks.
    const part = bench.io(bench.member(), OperationKind.write, 512, 512, lose);
    expect(part.status).toBe(Status.invalid);
  });
});
