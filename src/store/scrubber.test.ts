// SPDX-License-Identifier: Apache-2.0
//
// The scrub of a disk: what it reads, what it finds in every structure, how it paces itself, and
// that it goes on after a restart.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_FUA, FLAG_PAST_CACHE, Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled } from "./bench-fixture.ts";
import { DESCRIPTOR_PAIR_BYTES, LOG_SLOT_BYTES, PAGE_BYTES } from "./format.wire.ts";
import { BLOCK, PLAN, SIZE, ScrubBench, TICK_MS, filledBench, flip } from "./scrub-fixture.ts";
import { valueAt } from "./scrub-fixture.ts";
import type { ScrubListener } from "./scrubber.ts";
import { Image } from "./sim-disk-fixture.ts";

setDefaultTimeout(60_000);

const DAY_MS = 24 * 3600 * 1000;

describe("a scrub reads", () => {
  test("every written block past the cache, once, and nothing that was never written", () => {
    const bench = filledBench();
    bench.reads = [];
    bench.scrubThrough();
    const data = bench.reads.filter(({ offset }) => offset >= PLAN.dataOffset);
    const blocks = data.flatMap(({ offset, length }) => {
      const first = (offset - PLAN.dataOffset) / BLOCK;
      return Array.from({ length: length / BLOCK }, (_, index) => first + index);
    });
    const last = SIZE - PAGE_BYTES;
    const written = blocks.filter((block) => PLAN.dataOffset + block * BLOCK < last);
    // Extents lie on the disk in the order in which they were mapped.
    const expected = [
      ...Array.from({ length: 80 }, (_, index) => index),
      100,
      256 + 5,
      ...Array.from({ length: 256 }, (_, index) => 512 + index),
    ];
    expect(written).toEqual(expected);
    expect(bench.reads.every(({ flags }) => flags === FLAG_PAST_CACHE)).toBe(true);
    expect(bench.verified).toEqual(["1:0", "1:1", "1:4", "1", "end"]);
    expect(bench.doubts).toEqual([]);
  });

  test("its metadata too: superblocks, descriptors, checkpoints, the log with its twins", () => {
    const bench = filledBench();
    bench.reads = [];
    bench.scrubThrough();
    const seen = (offset: number) =>
      bench.reads.some((read) => read.offset <= offset && offset < read.offset + read.length);
    expect([0, SIZE - PAGE_BYTES].map(seen)).toEqual([true, true]);
    for (let page = 0; page < 2 * 3; page++) {
      expect(seen(PLAN.descriptorOffset + page * PAGE_BYTES)).toBe(true);
    }
    expect(seen(PLAN.checkpointOffset)).toBe(true);
    expect(seen(PLAN.checkpointOffset + PLAN.checkpointBytes)).toBe(true);
    expect(seen(PLAN.logOffset + LOG_SLOT_BYTES + PAGE_BYTES)).toBe(true);
  });

  test("a disk without members → it ends at once", () => {
    const bench = ScrubBench.made();
    bench.scrubThrough(5);
    expect(bench.verified).toEqual(["end"]);
  });
});

describe("what has rotted is found", () => {
  test("data: one bit in any block → that block is doubted, healed, right again", () => {
    const bench = filledBench();
    bench.onDoubt = (doubt) => bench.heal(doubt, valueAt);
    const physical = [3, 79, 100, 256 + 5, 512, 767];
    for (const block of physical) flip(bench, PLAN.dataOffset + block * BLOCK + 1234);
    bench.scrubThrough();
    const ranges = bench.doubts.map(({ offsetBytes, lengthBytes, rewrite }) => {
      return [offsetBytes / BLOCK, lengthBytes / BLOCK, rewrite];
    });
    expect(ranges).toEqual([
      [3, 98, false],
      [256 + 5, 1, false],
      [4 * 256, 256, false],
    ]);
    const { found, healed, unhealed, recentPlaces } = bench.store?.scrub.report() ?? {};
    expect([found, healed, unhealed, recentPlaces]).toEqual([6, 6, 0, 3]);
    bench.doubts = [];
    bench.scrubThrough();
    expect(bench.doubts).toEqual([]);
  });

  test("a stretch of the disk that cannot be read → just its written blocks", () => {
    const bench = filledBench();
    const from = PLAN.dataOffset + 10 * BLOCK;
    const isBad = (offset: number, length: number) =>
      offset < from + 3 * BLOCK && offset + length > from;
    bench.disk.failWhen = (kind, offset, length) =>
      kind === OperationKind.read && isBad(offset, length);
    bench.onDoubt = (doubt) => {
      bench.disk.failWhen = null;
      bench.heal(doubt, valueAt);
    };
    bench.scrubThrough();
    expect(bench.doubts).toEqual([
      { slice: 1, offsetBytes: 10 * BLOCK, lengthBytes: 3 * BLOCK, rewrite: false },
    ]);
  });

  test("nobody heals it → unhealed, and the scrub goes on; found again, counted once", () => {
    const bench = filledBench();
    flip(bench, PLAN.dataOffset + 3 * BLOCK);
    for (let round = 0; round < 3; round++) {
      bench.scrubThrough();
      const { found, healed, unhealed } = bench.store?.scrub.report() ?? {};
      expect([found, healed, unhealed]).toEqual([1, 0, 1]);
    }
    bench.onDoubt = (doubt) => bench.heal(doubt, valueAt);
    bench.scrubThrough();
    const { found, healed, unhealed } = bench.store?.scrub.report() ?? {};
    expect([found, healed, unhealed]).toEqual([1, 1, 0]);
  });

  test("in an active region → doubted too, but a crash may have torn it: not counted", () => {
    const bench = filledBench();
    bench.activate(bench.member(), 0);
    flip(bench, PLAN.dataOffset + 3 * BLOCK);
    bench.scrubThrough();
    expect(bench.doubts.length).toBeGreaterThan(0);
    const { found, unhealed, recentPlaces } = bench.store?.scrub.report() ?? {};
    expect([found, unhealed, recentPlaces]).toEqual([0, 0, 0]);
  });

  test("either slot of a descriptor, while memory knows it → written again, nothing lost", () => {
    for (const slot of [0, 1]) {
      const bench = filledBench();
      bench.onDoubt = (doubt) => bench.heal(doubt, valueAt);
      flip(bench, PLAN.descriptorOffset + slot * PAGE_BYTES + 700);
      bench.scrubThrough();
      expect(bench.doubts.length).toBeGreaterThan(0);
      expect(bench.doubts.every(({ rewrite }) => rewrite)).toBe(true);
      expect(bench.store?.scrub.report().metadataMended).toBe(1);
      bench.doubts = [];
      bench.reboot();
      bench.scrubThrough();
      expect(bench.doubts).toEqual([]);
      expect(bench.read(bench.member(), 8192, BLOCK).bytes).toEqual(filled(BLOCK, 1));
      expect(bench.store?.damagedDescriptors).toBe(0);
    }
  });

  test("a descriptor whose last writing never came to the disk (stale) → written again", () => {
    const bench = filledBench();
    const member = bench.member();
    bench.onDoubt = (doubt) => bench.heal(doubt, valueAt);
    const slots = new Uint8Array(DESCRIPTOR_PAIR_BYTES);
    bench.disk.current.read(PLAN.descriptorOffset, slots);
    bench.activate(member, 0);
    bench.write(member, 0, filled(BLOCK, 1), { flags: FLAG_FUA, epoch: 3 });
    bench.write(member, 200 * BLOCK, filled(BLOCK, 9), { flags: FLAG_FUA, epoch: 3 });
    for (const image of [bench.disk.current, bench.disk.stable]) {
      image.write(PLAN.descriptorOffset, slots);
    }
    bench.scrubThrough();
    expect(bench.doubts.length).toBeGreaterThan(0);
    bench.reboot();
    expect(bench.read(bench.member(), 200 * BLOCK, BLOCK).bytes).toEqual(filled(BLOCK, 9));
  });

  test("any twin of a log record that is still needed → the log is needed from later on", () => {
    let mended = 0;
    const bench = filledBench();
    for (let page = 0; page < 2 * PLAN.logSlots; page++) {
      // Records that no checkpoint contains yet.
      for (const region of [2, 3]) {
        bench.activate(bench.member(), region);
        bench.member().deactivate([region]);
      }
      flip(bench, PLAN.logOffset + page * PAGE_BYTES + 60);
      const before = bench.store?.scrub.report().metadataMended ?? 0;
      bench.scrubThrough();
      mended += (bench.store?.scrub.report().metadataMended ?? 0) - before;
    }
    // What of the log is not needed any more may rot.
    expect(mended).toBeGreaterThan(4);
    const other = new Bench(SIZE, { image: bench.disk.kill() });
    expect(other.open()).not.toBeNull();
    expect(other.log.filter((line) => line.includes("twin"))).toEqual([]);
  });

  test("either superblock, any page of either checkpoint → whole again", () => {
    const places = [0, SIZE - PAGE_BYTES].concat(
      [0, 1].flatMap((slot) =>
        [0, 1].map((page) => {
          return PLAN.checkpointOffset + slot * PLAN.checkpointBytes + page * PAGE_BYTES;
        }),
      ),
    );
    const bench = filledBench();
    bench.wait((done) => bench.store?.checkpoint(done));
    for (const [index, place] of places.entries()) {
      flip(bench, place + 60);
      bench.scrubThrough();
      expect(bench.store?.scrub.report().metadataMended).toBe(index + 1);
    }
    const image = bench.disk.kill();
    for (const place of [0, SIZE - PAGE_BYTES, PLAN.checkpointOffset]) {
      const other = new Image(0, image);
      const byte = new Uint8Array([0xff]);
      other.write(place + 40, byte);
      const opened = new Bench(SIZE, { image: other });
      expect(opened.open()).not.toBeNull();
      expect(opened.read(opened.member(), 8192, BLOCK).bytes).toEqual(filled(BLOCK, 1));
    }
  });
});

describe("a scrub under way", () => {
  test("writes at the same time, in any order → nothing is taken for wrong", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const prng = new Prng(seed);
      const bench = filledBench();
      const member = bench.member();
      bench.activate(member, 0, 1);
      bench.disk.order = prng;
      const buffers = [1, 2, 3].map(() => bench.memory.allocate(8 * BLOCK));
      let writes = 0;
      for (let time = 0; time < 400; time++) {
        bench.nowMs += TICK_MS;
        bench.store?.scrub.start({ urgent: true });
        bench.store?.tick(bench.nowMs);
        const buffer = buffers.pop();
        if (buffer !== undefined) {
          bench.memory.bytes.fill(prng.below(256), buffer, buffer + 8 * BLOCK);
          // One write at a time for each extent: overlapping ones are the head's to order (R1).
          const extent = [0, 1, 4][time % 3] as number;
          const block = prng.below(248);
          submitWrite(bench, { at: extent * MIB + block * BLOCK, buffer }, () => {
            buffers.unshift(buffer);
            writes++;
          });
        }
        for (let step = prng.below(30); step > 0; step--) bench.disk.step();
      }
      bench.disk.run();
      bench.tick(40);
      expect(writes).toBeGreaterThan(20);
      expect(bench.scrubs).toBeGreaterThan(2);
      expect(bench.store?.scrub.report().found).toBe(0);
      expect(bench.store?.scrub.doubted).toBe(0);
    }
  });

  test("ejected and closed at any moment → it ends, all buffers are back", () => {
    for (let steps = 0; steps < 40; steps++) {
      const bench = filledBench();
      bench.reboot();
      bench.store?.scrub.start({ urgent: true });
      for (let step = 0; step <= steps; step++) {
        bench.disk.step();
        bench.nowMs += TICK_MS;
        bench.store?.tick(bench.nowMs);
      }
      bench.store?.eject("pulled");
      expect(bench.wait((done) => bench.store?.close(done))).toBe(Status.ioError);
      bench.disk.run();
      expect(bench.memory.usedBytes).toBe(0);
    }
  });

  test("closed at any moment → it ends, all buffers are back", () => {
    for (let steps = 0; steps < 60; steps++) {
      const bench = filledBench();
      flip(bench, PLAN.dataOffset + 3 * BLOCK);
      bench.store?.scrub.start({ urgent: true });
      for (let tick = 0; tick < 3; tick++) {
        bench.nowMs += TICK_MS;
        bench.store?.tick(bench.nowMs);
        for (let step = 0; step < steps / 3; step++) bench.disk.step();
      }
      expect(bench.wait((done) => bench.store?.close(done))).toBe(Status.ok);
      bench.disk.run();
      expect(bench.memory.usedBytes).toBe(0);
    }
  });

  test("any call of it fails → doubted, or ejected (R10), and never a hang", () => {
    for (let failing = 1; failing < 80; failing++) {
      const bench = filledBench();
      bench.onDoubt = (doubt) => {
        if (bench.store?.failed === false) bench.heal(doubt, valueAt);
      };
      bench.disk.failAt = bench.disk.calls + failing;
      bench.store?.scrub.start({ urgent: true });
      for (let time = 0; time < 200; time++) bench.tick();
      if (bench.store?.failed === true) continue;
      expect(bench.scrubs).toBe(1);
      expect(bench.store?.scrub.doubted).toBe(0);
    }
  });

  test("the slice is dropped → its doubts go, the scrub ends", () => {
    const bench = filledBench();
    flip(bench, PLAN.dataOffset + 3 * BLOCK);
    bench.store?.scrub.start({ urgent: true });
    bench.tick(2);
    expect(bench.store?.scrub.doubted).toBe(1);
    expect(bench.wait((done) => bench.member().drop(done))).toBe(Status.ok);
    expect(bench.store?.scrub.doubted).toBe(0);
    bench.tick(100);
    expect(bench.store?.scrub.report().scrub.running).toBe(false);
    bench.scrubThrough(10);
  });
});

describe("pace", () => {
  /** Ticks with a member's operation in each, until the scrub ends; how many. */
  function ticksUnderLoad(bench: ScrubBench, most: number): number {
    const before = bench.scrubs;
    for (let time = 1; time <= most; time++) {
      bench.flush(bench.member());
      bench.tick();
      if (bench.scrubs > before) return time;
    }
    return most + 1;
  }

  test("a quiet disk → the settings' rate; hosts at work → what the time left asks for", () => {
    const rate = 4 * MIB;
    const pace = { everyMs: 100_000, bytesPerSecondMax: rate };
    const quiet = filledBench();
    const busy = filledBench();
    for (const bench of [quiet, busy]) {
      bench.tick();
      if (bench.store !== null) bench.store.scrub.pace = pace;
      bench.store?.scrub.start({ urgent: false });
    }
    const before = quiet.nowMs;
    while (quiet.scrubs === 0) quiet.tick();
    // 1.3 MiB of data and some metadata at 4 MiB per second.
    expect(quiet.nowMs - before).toBeLessThan(1500);
    expect(quiet.nowMs - before).toBeGreaterThan(250);
    // 45 s for three extents; they are not full, so it is done somewhat earlier.
    const ms = ticksUnderLoad(busy, 2000) * TICK_MS;
    expect(ms).toBeGreaterThan(10_000);
    expect(ms).toBeLessThan(45_000 + 10 * TICK_MS);
  });

  test("members compared meanwhile → the scrub does not take that for work", () => {
    const bench = filledBench();
    bench.tick();
    const listener = bench.store?.scrub.listener;
    const verified: ScrubListener["verified"] = (slice, extent, done) => {
      bench.member(slice).checksumsOf(extent, () => listener?.verified(slice, extent, done));
    };
    if (bench.store !== null && listener !== undefined) {
      bench.store.scrub.listener = { ...listener, verified };
      bench.store.scrub.pace = { everyMs: 100_000, bytesPerSecondMax: 4 * MIB };
    }
    bench.store?.scrub.start({ urgent: false });
    for (let time = 0; time < 40 && bench.scrubs === 0; time++) bench.tick();
    expect(bench.scrubs).toBe(1);
  });

  test("urgent → hosts are not yielded to", () => {
    const bench = filledBench();
    bench.tick();
    bench.store?.scrub.start({ urgent: true });
    expect(ticksUnderLoad(bench, 2000)).toBeLessThan(20);
  });

  test("due after half of the time, whatever the wall clock says of it", () => {
    const bench = filledBench();
    bench.wallMs = 50 * 365 * DAY_MS;
    bench.tick();
    const step = (ms: number) => {
      bench.nowMs += ms - TICK_MS;
      bench.tick(200);
    };
    step(6.9 * DAY_MS);
    expect(bench.scrubs).toBe(0);
    step(0.2 * DAY_MS);
    expect(bench.scrubs).toBe(1);
    // A wall clock that jumps back does not put it off; one that jumps ahead brings it sooner.
    bench.wallMs = DAY_MS;
    step(7.1 * DAY_MS);
    expect(bench.scrubs).toBe(2);
    bench.wallMs = 60 * 365 * DAY_MS;
    step(1000);
    expect(bench.scrubs).toBe(3);
  });

  test("switched off → never by itself, but by hand", () => {
    const bench = filledBench();
    if (bench.store !== null) {
      bench.store.scrub.pace = { everyMs: 0, bytesPerSecondMax: MIB };
    }
    bench.tick();
    bench.nowMs += 100 * DAY_MS;
    bench.tick(100);
    expect(bench.scrubs).toBe(0);
    bench.scrubThrough();
    expect(bench.scrubs).toBe(1);
  });

  test("nothing is due → no call to the disk, no buffer", () => {
    const bench = filledBench();
    bench.tick();
    const { calls } = bench.disk;
    const { allocations } = bench.memory;
    bench.tick(1000);
    expect([bench.disk.calls, bench.memory.allocations]).toEqual([calls, allocations]);
  });

  test("a restart in the middle → goes on from the checkpoint, and keeps its counters", () => {
    const bench = filledBench();
    const slow = { everyMs: 40 * DAY_MS, bytesPerSecondMax: 30 };
    if (bench.store !== null) bench.store.scrub.pace = slow;
    flip(bench, PLAN.dataOffset + 3 * BLOCK);
    bench.onDoubt = (doubt) => bench.heal(doubt, valueAt);
    bench.tick();
    bench.store?.scrub.start({ urgent: false });
    const hour = () => {
      bench.nowMs += 3600 * 1000;
      bench.tick(8);
    };
    for (let time = 0; time < 200 && bench.verified.length < 1; time++) hour();
    const before = bench.store?.scrub.report();
    expect([before?.scrub.running, before?.found, before?.healed]).toEqual([true, 1, 1]);
    bench.verified = [];
    hour();
    bench.reboot();
    const after = bench.store?.scrub.report();
    expect([after?.scrub.running, after?.found, after?.healed]).toEqual([true, 1, 1]);
    expect(after?.scrub.percent).toBeGreaterThan(0);
    while (bench.scrubs === 0) bench.tick();
    expect(bench.verified).not.toContain("1:0");
    expect(bench.verified).toContain("end");
  });
});

function submitWrite(bench: Bench, write: { at: number; buffer: number }, done: () => void): void {
  const operation = new Operation();
  operation.kind = OperationKind.write;
  operation.offsetBytes = write.at;
  operation.lengthBytes = 8 * BLOCK;
  operation.bufferOffset = write.buffer;
  operation.epoch = 3;
  operation.done = done;
  bench.member().submit(operation);
}
