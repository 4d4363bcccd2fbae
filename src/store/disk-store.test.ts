// SPDX-License-Identifier: Apache-2.0
//
// A store used as a slice uses it: what is written is read, what is flushed survives, what is not
// allowed is refused before anything happens.

import { describe, expect, test } from "bun:test";
import {
  FLAG_FUA,
  FLAG_KEEP_STAMP,
  FLAG_NO_HOLE,
  FLAG_UNVERIFIED,
  Operation,
  OperationKind,
} from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, DISK, CLUSTER, MIB, filled, sampleRecord } from "./bench-fixture.ts";

function opened(
  options: { alignBytes?: number; sliceBytes?: number; logSlots?: number } = {},
): Bench {
  const bench = new Bench(24 * MIB, options);
  expect(bench.format({ logSlots: options.logSlots ?? 16, slicesMax: 8 })).toBe(Status.ok);
  expect(bench.open()).not.toBeNull();
  expect(bench.create(1, options.sliceBytes ?? 8 * MIB)).toBe(Status.ok);
  return bench;
}

describe("store", () => {
  test("formatted and opened → identity, number 0, first incarnation, no slices", () => {
    const bench = new Bench(24 * MIB);
    bench.format();
    const store = bench.open();
    expect(store?.uuid).toBe(DISK);
    expect(store?.clusterId).toBe(CLUSTER);
    expect(store?.number).toBe(0);
    expect(store?.incarnation).toBe(1);
    expect(store?.slices()).toEqual([]);
    expect(store?.totals.free).toBe(store?.totals.extents ?? -1);
  });

  test("a blank area → not opened, with the reason", () => {
    const bench = new Bench(24 * MIB);
    expect(bench.open()).toBeNull();
    expect(bench.reason).toBe("no superblock");
  });

  test("written → read, also after flush and power cut", () => {
    const bench = opened();
    const member = bench.member();
    expect(bench.activate(member, 0)).toBe(Status.ok);
    expect(bench.write(member, 8192, filled(12288, 7))).toBe(Status.ok);
    expect(bench.read(member, 4096, 20480).bytes.slice(0, 4096)).toEqual(filled(4096, 0));
    expect(bench.read(member, 8192, 12288).bytes).toEqual(filled(12288, 7));
    expect(bench.flush(member)).toBe(Status.ok);
    bench.again(bench.disk.powerCut(new Prng(1)));
    expect(bench.store?.incarnation).toBe(2);
    const after = bench.member();
    expect(after.activeRegions()).toEqual([0]);
    expect(bench.read(after, 8192, 12288).bytes).toEqual(filled(12288, 7));
    expect(bench.read(after, 4096, 4096).bytes).toEqual(filled(4096, 0));
  });

  test("writes of part of a block → merged, neighbours kept, first writes zero around", () => {
    for (const alignBytes of [512, 4096]) {
      const bench = opened({ alignBytes });
      const member = bench.member();
      bench.activate(member, 0);
      expect(bench.write(member, 512, filled(1024, 3), { shift: 512 })).toBe(Status.ok);
      const first = bench.read(member, 0, 4096).bytes;
      expect(first.slice(0, 512)).toEqual(filled(512, 0));
      expect(first.slice(512, 1536)).toEqual(filled(1024, 3));
      expect(first.slice(1536)).toEqual(filled(2560, 0));
      expect(bench.write(member, 1024, filled(20480, 4), { shift: 1536 })).toBe(Status.ok);
      expect(bench.read(member, 512, 1024, { shift: 512 }).bytes).toEqual(
        new Uint8Array([...filled(512, 3), ...filled(512, 4)]),
      );
      const rest = bench.read(member, 1024, 24576, { shift: 1024 }).bytes;
      expect(rest.slice(0, 20480)).toEqual(filled(20480, 4));
      expect(rest.slice(20480)).toEqual(filled(4096, 0));
    }
  });

  test("two writes to different sectors of one block at once → both are there", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(4096, 1));
    const buffer = bench.memory.allocate(4096);
    bench.memory.bytes.fill(9, buffer, buffer + 1024);
    let ended = 0;
    for (const sector of [1, 2, 5, 7]) {
      const operation = new Operation();
      operation.kind = OperationKind.write;
      operation.offsetBytes = sector * 512;
      operation.lengthBytes = 512;
      operation.epoch = 1;
      operation.bufferOffset = buffer;
      operation.done = (done) => {
        expect(done.status).toBe(Status.ok);
        ended++;
      };
      member.submit(operation);
    }
    bench.disk.order = new Prng(5);
    bench.disk.run();
    expect(ended).toBe(4);
    const { bytes, status } = bench.read(member, 0, 4096);
    expect(status).toBe(Status.ok);
    for (let sector = 0; sector < 8; sector++) {
      expect(bytes[sector * 512]).toBe([1, 2, 5, 7].includes(sector) ? 9 : 1);
    }
  });

  test("a write across extents and regions → each extent is mapped and stamped", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0, 1);
    const bytes = new Uint8Array(2 * MIB).map((_, at) => at % 251);
    expect(bench.write(member, 3 * MIB + 4096, bytes, { epoch: 4 })).toBe(Status.ok);
    expect(member.mapFrom(0, 10)).toEqual([
      { extent: 3, stamp: 4 },
      { extent: 4, stamp: 4 },
      { extent: 5, stamp: 4 },
    ]);
    expect(member.mapFrom(4, 1)).toEqual([{ extent: 4, stamp: 4 }]);
    expect(bench.read(member, 3 * MIB + 4096, 2 * MIB).bytes).toEqual(bytes);
  });

  test("R6: a write to a region that is not active → an assertion", () => {
    const bench = opened();
    expect(() => bench.write(bench.member(), 0, filled(512, 1))).toThrow("R6");
  });

  test("R6: an activation that is not durable yet → does not count as active", () => {
    const bench = opened();
    const member = bench.member();
    const answers: Status[] = [];
    member.activate([1], (answer) => answers.push(answer));
    expect(member.isActive(1)).toBe(false);
    member.activate([1], (answer) => answers.push(answer));
    expect(answers).toEqual([]);
    bench.disk.run();
    expect(answers).toEqual([Status.ok, Status.ok]);
    expect(member.isActive(1)).toBe(true);
    expect(bench.activate(member, 1)).toBe(Status.ok);
  });

  test("beyond the end, off the grid, nothing at all → refused or done, nothing sent", () => {
    const bench = opened();
    const member = bench.member();
    const { calls } = bench.disk;
    const status = (offset: number, length: number) =>
      bench.io(member, OperationKind.read, offset, length, { bufferOffset: 0 }).status;
    expect(status(8 * MIB - 512, 1024)).toBe(Status.outOfRange);
    expect(status(8 * MIB, 512)).toBe(Status.outOfRange);
    expect(status(100, 512)).toBe(Status.invalid);
    expect(status(512, 100)).toBe(Status.invalid);
    expect(status(-512, 512)).toBe(Status.invalid);
    expect(status(8 * MIB, 0)).toBe(Status.ok);
    expect(bench.disk.calls).toBe(calls);
  });

  test("unwritten → zero without touching the disk", () => {
    const bench = opened();
    const { calls } = bench.disk;
    expect(bench.read(bench.member(), 0, MIB).bytes).toEqual(filled(MIB, 0));
    expect(bench.disk.calls).toBe(calls);
  });

  test("R4: lower and unrelated records → staleEpoch; the same one again → ok", () => {
    const bench = opened();
    const member = bench.member();
    expect(member.record).toBeNull();
    expect(bench.put(member, sampleRecord(3))).toBe(Status.ok);
    expect(bench.put(member, sampleRecord(2))).toBe(Status.staleEpoch);
    expect(bench.put(member, sampleRecord(9, { lineage: 2 }))).toBe(Status.staleEpoch);
    expect(bench.put(member, sampleRecord(3))).toBe(Status.ok);
    const grown = sampleRecord(4, { lineage: 2, ancestry: [1], resyncing: [9, 8] });
    expect(bench.put(member, grown)).toBe(Status.ok);
    bench.again(bench.disk.powerCut(new Prng(2)));
    expect(bench.member().record).toEqual(grown);
  });

  test("R4: a record is told only when it is durable", () => {
    const bench = opened();
    const member = bench.member();
    member.putRecord(sampleRecord(3), () => {});
    expect(member.record).toBeNull();
    bench.disk.run();
    expect(member.record?.epoch).toBe(3);
  });

  test("syncedEpoch: the last stored record that named this disk, in whatever incarnation", () => {
    const bench = opened();
    const member = bench.member();
    expect(bench.wait((done) => bench.store?.setNumber(5, done))).toBe(Status.ok);
    bench.put(member, sampleRecord(3));
    expect([member.syncedEpoch, member.syncedLineage]).toEqual([3, 1]);
    bench.put(member, sampleRecord(4, { inSync: [{ disk: 6, incarnation: 3 }], head: 6 }));
    expect([member.syncedEpoch, member.disk]).toEqual([3, 5]);
    bench.again(bench.disk.kill());
    expect([bench.member().syncedEpoch, bench.member().disk]).toEqual([3, 5]);
    expect(bench.wait((done) => bench.store?.setNumber(6, done))).toBe(Status.invalid);
    expect(bench.wait((done) => bench.store?.setNumber(5, done))).toBe(Status.ok);
  });

  test("R2: a record stored → extents of active regions re-stamped; also replayed", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0, 1);
    bench.write(member, 0, filled(4096, 1), { epoch: 2 });
    bench.write(member, 4 * MIB, filled(4096, 1), { epoch: 2 });
    bench.flush(member);
    member.deactivate([1]);
    expect(member.activeRegions()).toEqual([0]);
    expect(bench.put(member, sampleRecord(7))).toBe(Status.ok);
    const stamps = [
      { extent: 0, stamp: 7 },
      { extent: 4, stamp: 2 },
    ];
    expect(member.mapFrom(0, 9)).toEqual(stamps);
    bench.again(bench.disk.powerCut(new Prng(3)));
    expect(bench.member().mapFrom(0, 9)).toEqual(stamps);
    expect(bench.member().activeRegions()).toEqual([0]);
  });

  test("H11: a larger record → as large, zero behind the old end; also replayed", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0, 1);
    bench.write(member, 8 * MIB - 4096, filled(4096, 9));
    expect(bench.read(member, 8 * MIB, 4096).status).toBe(Status.outOfRange);
    const free = bench.store?.totals.free;
    expect(bench.put(member, sampleRecord(3))).toBe(Status.ok);
    expect(member.sizeBytes).toBe(8 * MIB);
    const grown = { sizeBytes: 300 * MIB };
    expect(bench.put(member, sampleRecord(4, grown))).toBe(Status.ok);
    expect(bench.store?.totals.free).toBe(free ?? -1);
    expect(member.sizeBytes).toBe(300 * MIB);
    expect(bench.read(member, 8 * MIB - 4096, 12288).bytes).toEqual(
      new Uint8Array([...filled(4096, 9), ...filled(8192, 0)]),
    );
    // Past the map's first chunk, which a smaller slice does not have.
    bench.activate(member, 74);
    expect(bench.write(member, 299 * MIB, filled(8192, 3), { epoch: 4 })).toBe(Status.ok);
    bench.flush(member);
    const check = () => {
      const there = bench.member();
      expect(there.sizeBytes).toBe(300 * MIB);
      expect(there.activeRegions()).toEqual([0, 1, 74]);
      expect(bench.read(there, 299 * MIB, 8192).bytes).toEqual(filled(8192, 3));
      expect(bench.read(there, 8 * MIB - 4096, 4096).bytes).toEqual(filled(4096, 9));
    };
    bench.again(bench.disk.powerCut(new Prng(4)));
    check();
    expect(bench.wait((done) => bench.store?.checkpoint(done))).toBe(Status.ok);
    bench.again(bench.disk.kill());
    check();
    // A lineage that grew from it, of a smaller record: nothing becomes smaller, nothing is lost.
    const other = sampleRecord(5, { lineage: 2, ancestry: [1] });
    expect(bench.put(bench.member(), other)).toBe(Status.ok);
    check();
  });

  test("H9, H11: what lies behind the record's end is nobody's once it grows", () => {
    const bench = opened();
    const member = bench.member();
    expect(bench.put(member, sampleRecord(3, { sizeBytes: 16 * MIB }))).toBe(Status.ok);
    bench.activate(member, 2);
    bench.write(member, 9 * MIB, filled(4096, 6), { epoch: 3, flags: FLAG_FUA });
    const free = bench.store?.totals.free as number;
    const next = { lineage: 2, ancestry: [1] };
    expect(bench.put(member, sampleRecord(4, { ...next, sizeBytes: 8 * MIB }))).toBe(Status.ok);
    expect(bench.put(member, sampleRecord(5, { ...next, sizeBytes: 12 * MIB }))).toBe(Status.ok);
    expect(bench.read(member, 9 * MIB, 4096).bytes).toEqual(filled(4096, 0));
    expect(bench.store?.totals.free).toBe(free + 1);
    bench.again(bench.disk.kill());
    expect(bench.read(bench.member(), 9 * MIB, 4096).bytes).toEqual(filled(4096, 0));
  });

  test("stamps: a plain write never lowers one, a copy sets it exactly (R7)", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(512, 1), { epoch: 5 });
    bench.write(member, 0, filled(512, 2), { epoch: 3 });
    expect(member.stampOf(0)).toBe(5);
    bench.write(member, 0, filled(512, 2), { epoch: 2, flags: FLAG_KEEP_STAMP });
    expect(member.stampOf(0)).toBe(2);
    bench.put(member, sampleRecord(9));
    expect(member.stampOf(0)).toBe(9);
    bench.write(member, MIB, filled(512, 2), { epoch: 8 });
    expect(member.stampOf(1)).toBe(9);
  });

  test("H9: trim → zero; whole extents freed, parts unwritten, sectors zeroed", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(3 * MIB, 5));
    const free = bench.store?.totals.free as number;
    const trim = bench.io(member, OperationKind.trim, 512, 2 * MIB, { flags: FLAG_FUA });
    expect(trim.status).toBe(Status.ok);
    const check = () => {
      const { bytes, status } = bench.read(bench.member(), 0, 3 * MIB);
      expect(status).toBe(Status.ok);
      expect(bytes.slice(0, 512)).toEqual(filled(512, 5));
      expect(bytes.slice(512, 512 + 2 * MIB)).toEqual(filled(2 * MIB, 0));
      expect(bytes.slice(512 + 2 * MIB)).toEqual(filled(MIB - 512, 5));
    };
    check();
    expect(bench.store?.totals.free).toBe(free + 1);
    expect(member.mapFrom(0, 9).map((entry) => entry.extent)).toEqual([0, 2]);
    bench.again(bench.disk.powerCut(new Prng(4)));
    check();
  });

  test("writeZeroes → zero; NO_HOLE keeps and takes space", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(MIB, 5));
    const flags = FLAG_NO_HOLE;
    const zeroes = bench.io(member, OperationKind.writeZeroes, 0, 2 * MIB, { flags });
    expect(zeroes.status).toBe(Status.ok);
    expect(member.mapFrom(0, 9).length).toBe(2);
    expect(bench.read(member, 0, 2 * MIB).bytes).toEqual(filled(2 * MIB, 0));
    const status = bench.io(member, OperationKind.blockStatus, MIB, 2 * MIB);
    expect(status.runs).toEqual([
      { lengthBytes: MIB, allocated: true },
      { lengthBytes: MIB, allocated: false },
    ]);
    bench.io(member, OperationKind.writeZeroes, 0, 2 * MIB);
    expect(member.mapFrom(0, 9)).toEqual([]);
  });

  test("R10: no space → noSpace before anything is touched; reserves are kept", () => {
    const bench = opened({ sliceBytes: 32 * MIB });
    expect(bench.create(2, 32 * MIB)).toBe(Status.ok);
    const [one, two] = [bench.member(1), bench.member(2)];
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    bench.activate(one, ...all);
    bench.activate(two, ...all);
    const { free } = bench.store?.totals as { free: number };
    expect(two.reserve(3)).toBe(3);
    expect(two.reserve(3)).toBe(3);
    for (let extent = 0; extent < free - 3; extent++) {
      expect(bench.write(one, extent * MIB, filled(512, 1))).toBe(Status.ok);
    }
    const { calls } = bench.disk;
    expect(bench.write(one, free * MIB, filled(512, 1))).toBe(Status.noSpace);
    expect(bench.disk.calls).toBe(calls);
    expect(one.reserve(5)).toBe(0);
    expect(bench.write(two, 0, filled(3 * MIB, 2))).toBe(Status.ok);
    expect(bench.store?.totals).toEqual({ extents: free, free: 0, reserved: 0 });
    expect(bench.write(two, 3 * MIB, filled(512, 2))).toBe(Status.noSpace);
    // What is there can still be written, and metadata has room of its own.
    expect(bench.write(one, 0, filled(512, 3), { flags: FLAG_FUA })).toBe(Status.ok);
    expect(bench.put(one, sampleRecord(4))).toBe(Status.ok);
    bench.io(one, OperationKind.trim, 0, 2 * MIB, { flags: FLAG_FUA });
    expect(bench.write(two, 3 * MIB, filled(512, 2))).toBe(Status.ok);
  });

  // Seed 40000248: full slices held what a copy on the same disk lacked.
  test("R10: a member with nothing left to map → holds nothing back, and can be counted on", () => {
    const bench = opened({ sliceBytes: 4 * MIB });
    expect(bench.create(2, 32 * MIB)).toBe(Status.ok);
    const [one, two] = [bench.member(1), bench.member(2)];
    bench.activate(one, 0);
    expect(one.reserve(8)).toBe(8);
    expect(bench.store?.totals.reserved).toBe(4);
    for (let extent = 0; extent < 4; extent++) {
      expect(bench.write(one, extent * MIB, filled(512, 1))).toBe(Status.ok);
    }
    expect(one.reserve(8)).toBe(8);
    expect(bench.store?.totals.reserved).toBe(0);
    // Trimmed in part and with no space left: what could be promised is what there is.
    const { free } = bench.store?.totals as { free: number };
    expect(two.reserve(32)).toBe(free);
    bench.io(one, OperationKind.trim, 0, 2 * MIB);
    expect(one.reserve(8)).toBe(0);
  });

  test("H9: an extent freed but not durably so → not given out", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(MIB, 5), { flags: FLAG_FUA });
    const free = bench.store?.totals.free;
    bench.io(member, OperationKind.trim, 0, MIB);
    expect(bench.store?.totals.free).toBe(free);
    bench.store?.tick(0);
    bench.disk.run();
    expect(bench.store?.totals.free).toBe((free as number) + 1);
  });

  test("drop → space back, slice gone, also after reopening; then made again, empty", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(MIB, 5), { flags: FLAG_FUA });
    expect(bench.wait((done) => member.drop(done))).toBe(Status.ok);
    expect(bench.store?.slices()).toEqual([]);
    expect(bench.io(member, OperationKind.flush, 0, 0).status).toBe(Status.notFound);
    expect(bench.store?.totals.free).toBe(bench.store?.totals.extents ?? -1);
    bench.again(bench.disk.powerCut(new Prng(6)));
    expect(bench.store?.slices()).toEqual([]);
    expect(bench.create(1, 4 * MIB)).toBe(Status.ok);
    expect(bench.member().activeRegions()).toEqual([]);
    expect(bench.read(bench.member(), 0, MIB).bytes).toEqual(filled(MIB, 0));
  });

  test("more members than the disk can hold, wrong sizes, another size → refused", () => {
    const bench = opened();
    for (let slice = 2; slice <= 8; slice++) expect(bench.create(slice, 4 * MIB)).toBe(Status.ok);
    expect(bench.create(9, 4 * MIB)).toBe(Status.noSpace);
    expect(bench.create(1, 4 * MIB)).toBe(Status.invalid);
    expect(bench.create(1, 8 * MIB)).toBe(Status.ok);
    expect(bench.create(10, 3 * MIB)).toBe(Status.invalid);
    expect(bench.store?.slices()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("R9: a block changed behind our back → checksumMismatch where, unverified gives it", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    const secret = new Uint8Array(16384).map((_, at) => (at * 7) % 255);
    bench.write(member, 0, secret, { flags: FLAG_FUA });
    flipFirst(bench, secret.subarray(8192, 8192 + 64));
    const wrong = bench.read(member, 0, 16384);
    expect([wrong.status, wrong.fault]).toEqual([Status.checksumMismatch, 8192]);
    expect(bench.read(member, 0, 8192).status).toBe(Status.ok);
    expect(bench.write(member, 8192 + 512, filled(512, 1))).toBe(Status.checksumMismatch);
    const raw = bench.read(member, 0, 16384, { flags: FLAG_UNVERIFIED });
    expect([raw.status, raw.bytes[8193]]).toEqual([Status.ok, secret[8193] as number]);
    expect(bench.write(member, 8192, filled(4096, 2))).toBe(Status.ok);
    expect(bench.read(member, 0, 16384).status).toBe(Status.ok);
  });

  test("H8: a block the disk cannot read → checksumMismatch at that block, the disk stays", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(32768, 4), { flags: FLAG_FUA });
    let bad = -1;
    bench.disk.failWhen = (kind, offset, length) => {
      if (kind !== OperationKind.read) return false;
      if (bad < 0) bad = offset + 12288;
      return offset <= bad && bad < offset + length;
    };
    const wrong = bench.read(member, 0, 32768);
    expect([wrong.status, wrong.fault]).toEqual([Status.checksumMismatch, 12288]);
    expect(bench.read(member, 0, 12288).status).toBe(Status.ok);
    expect(bench.store?.failed).toBe(false);
  });

  test("close → everything there at the next opening, buffers given back, then refused", () => {
    const bench = opened();
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 4096, filled(4096, 8));
    bench.put(member, sampleRecord(2));
    expect(bench.wait((done) => bench.store?.close(done))).toBe(Status.ok);
    expect(bench.memory.usedBytes).toBe(0);
    expect(bench.io(member, OperationKind.flush, 0, 0).status).toBe(Status.shuttingDown);
    bench.again(bench.disk.powerCut(new Prng(9)));
    expect(bench.read(bench.member(), 4096, 4096).bytes).toEqual(filled(4096, 8));
    expect(bench.member().record).toEqual(sampleRecord(2));
    expect(bench.store?.incarnation).toBe(2);
  });

  test("overwrites with nothing new → one flush of the disk each; first writes → two", () => {
    const bench = opened({ logSlots: 64 });
    const member = bench.member();
    bench.activate(member, 0);
    const flushes = (act: () => void) => {
      const before = bench.disk.flushes;
      act();
      return bench.disk.flushes - before;
    };
    const write = () => {
      bench.write(member, 0, filled(8192, 1), { flags: FLAG_FUA });
    };
    expect(flushes(write)).toBe(2);
    expect(flushes(write)).toBe(1);
    expect(flushes(() => bench.flush(member))).toBe(0);
  });

  test("R6: regions made active → no flush of the disk, and they are after a power cut", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const bench = opened({ logSlots: 64 });
      const before = bench.disk.flushes;
      bench.activate(bench.member(), 0);
      bench.activate(bench.member(), 1);
      expect(bench.disk.flushes - before).toBe(0);
      bench.again(bench.disk.powerCut(new Prng(seed)));
      expect([...bench.member().activeRegions()]).toEqual([0, 1]);
    }
  });

  test("many flushes at once → they share", () => {
    const bench = opened({ logSlots: 64 });
    const member = bench.member();
    bench.activate(member, 0);
    bench.write(member, 0, filled(4096, 1), { flags: FLAG_FUA });
    bench.write(member, 0, filled(4096, 1));
    const before = bench.disk.flushes;
    let ended = 0;
    for (let at = 0; at < 50; at++) {
      const operation = new Operation();
      operation.kind = OperationKind.flush;
      operation.done = () => ended++;
      member.submit(operation);
    }
    bench.disk.run();
    expect(ended).toBe(50);
    expect(bench.disk.flushes - before).toBe(1);
  });
});

/** Flips a byte behind the first place on the disk where these bytes lie. */
function flipFirst(bench: Bench, wanted: Uint8Array): void {
  const page = new Uint8Array(4096);
  for (let at = 0; at < bench.disk.sizeBytes; at += 4096) {
    bench.disk.current.read(at, page);
    if (!wanted.every((byte, index) => page[index] === byte)) continue;
    page[0] = (page[0] as number) ^ 1;
    bench.disk.current.write(at, page);
    return;
  }
  throw new Error("these bytes are not on the disk");
}
