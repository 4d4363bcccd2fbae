// SPDX-License-Identifier: Apache-2.0
//
// A run that died between a commit's write and its flush leaves records in the disk's cache only.
// The next run builds on them; a power cut at any moment of its opening must leave a disk that
// opens.

import { expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Bench, MIB, sampleRecord } from "./bench-fixture.ts";

test("killed before a flush, then power cut at every step of the next opening → opens", () => {
  let opened = 0;
  for (let steps = 0; steps < 40; steps++) {
    for (let seed = 1; seed <= 12; seed++) {
      const bench = new Bench(16 * MIB, { seed });
      bench.format();
      bench.open();
      bench.create(1, 8 * MIB);
      const { disk } = bench;
      disk.hold = (kind) => kind === OperationKind.flush;
      bench.member().putRecord(sampleRecord(1), () => {});
      disk.run();
      disk.hold = null;
      // The process dies here; what it wrote is in the cache.
      disk.restart(bench.memory);
      bench.begin();
      for (let step = 0; step < steps && disk.step(); step++);
      const store = bench.again(disk.powerCut(new Prng(seed)));
      expect({ steps, seed, reason: bench.reason }).toEqual({ steps, seed, reason: "" });
      if (store !== null) opened++;
    }
  }
  expect(opened).toBe(480);
});
