// SPDX-License-Identifier: Apache-2.0
//
// Ranges as long as a volume of petabytes: trim, zeroes, cache and block status go in bounded
// steps, tell the truth about what they looked at, and stop when their connection ends.

import { describe, expect, test } from "bun:test";
import type { Operation, OperationTarget, StatusRun } from "#base/operation.ts";
import { FLAG_FUA, FLAG_NO_HOLE, FLAG_WARM, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { HostCredit } from "./credit.ts";
import { Host, u32s } from "./host-fixture.ts";
import {
  CACHE_BYTES_MAX,
  Command,
  CommandFlag,
  NbdError,
  STATUS_LOOK_BYTES_MAX,
  STATUS_REPLY_BYTES_MAX,
  STEP_ALLOCATING_BYTES,
  STEP_BYTES,
} from "./nbd.wire.ts";

const { TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, READ, DISC } = Command;
const GIB = 2 ** 30;
const PIB = 2 ** 50;

/** A volume of which only its map is there: `isAllocated` says it for each extent of 1 MiB. */
class MappedVolume implements OperationTarget {
  held: Operation[] | null = null;
  fail: (operation: Operation) => Status = () => Status.ok;
  isAllocated: (extent: number) => boolean = () => false;
  /** What it tells of a range, if not that. */
  runsOf: ((operation: Operation) => StatusRun[] | null) | null = null;
  readonly seen: { kind: number; flags: number; offsetBytes: number; lengthBytes: number }[] = [];
  mostAtOnce = 0;

  submit(operation: Operation): void {
    const { kind, flags, offsetBytes, lengthBytes } = operation;
    this.seen.push({ kind, flags, offsetBytes, lengthBytes });
    if (this.held === null) return this.complete(operation);
    this.held.push(operation);
    this.mostAtOnce = Math.max(this.mostAtOnce, this.held.length);
  }

  complete(operation: Operation): void {
    if (operation.kind === OperationKind.blockStatus) {
      operation.runs = this.runsOf === null ? this.#runs(operation) : this.runsOf(operation);
    }
    operation.complete(this.fail(operation));
  }

  /** Ends the first that is under way. */
  completeOne(): void {
    this.complete(this.held?.shift() as Operation);
  }

  #runs({ offsetBytes, lengthBytes }: Operation): StatusRun[] {
    const runs: StatusRun[] = [];
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end;) {
      const extent = Math.floor(at / 2 ** 20);
      const length = Math.min(end, (extent + 1) * 2 ** 20) - at;
      const allocated = this.isAllocated(extent);
      const last = runs.at(-1);
      if (last?.allocated === allocated) last.lengthBytes += length;
      else runs.push({ lengthBytes: length, allocated });
      at += length;
    }
    return runs;
  }
}

function attach(headers: "structured" | "extended", options: { credit?: HostCredit } = {}) {
  const host = new Host(options).negotiate(headers);
  const volume = new MappedVolume();
  Object.assign(host.exported, { sizeBytes: 4 * PIB, target: volume });
  return { host, volume };
}

/** Length and flags of each descriptor, of either form. */
function descriptors(data: Buffer, headers: "structured" | "extended"): [number, number][] {
  const found: [number, number][] = [];
  if (headers === "structured") {
    for (let at = 4; at < data.length; at += 8) {
      found.push([data.readUInt32BE(at), data.readUInt32BE(at + 4)]);
    }
    return found;
  }
  expect(data.readUInt32BE(4)).toBe((data.length - 8) / 16);
  for (let at = 8; at < data.length; at += 16) {
    found.push([Number(data.readBigUInt64BE(at)), Number(data.readBigUInt64BE(at + 8))]);
  }
  return found;
}

describe("trim and zeroes", () => {
  test("a trim of almost 4 GiB by a compact header → steps of 1 GiB at their own borders", () => {
    const { host, volume } = attach("structured");
    const length = 4 * GIB - 1024;
    expect(host.request(TRIM, { offset: GIB - 4096, length })[0]?.error).toBe(0);
    expect(volume.seen.map(({ offsetBytes, lengthBytes }) => [offsetBytes, lengthBytes])).toEqual([
      [GIB - 4096, 4096],
      [GIB, GIB],
      [2 * GIB, GIB],
      [3 * GIB, GIB],
      [4 * GIB, GIB - 4096 - 1024],
    ]);
    expect(volume.seen.every(({ kind, flags }) => kind === OperationKind.trim && flags === 0)).toBe(
      true,
    );
  });

  test("of 100 TiB → at most two steps under way, no gap, no overlap, one reply", () => {
    const { host, volume } = attach("extended");
    volume.held = [];
    const length = 100 * 1024 * GIB;
    expect(host.request(WRITE_ZEROES, { length })).toEqual([]);
    while (volume.held.length > 0) {
      volume.completeOne();
      host.turn();
    }
    expect(volume.mostAtOnce).toBe(2);
    let at = 0;
    for (const { offsetBytes, lengthBytes } of volume.seen) {
      if (offsetBytes !== at || lengthBytes > STEP_BYTES) throw new Error(`a gap at ${at}`);
      at += lengthBytes;
    }
    expect(at).toBe(length);
    expect(host.answers(host.socket.takeSent())).toMatchObject([{ error: 0 }]);
  });

  test("steps that end at once → others have their turn in between, the stack stays flat", () => {
    const { host, volume } = attach("extended");
    host.socket.arrive(host.bytes(TRIM, { length: 4 * PIB - GIB * 2 ** 20 }));
    host.socket.turn();
    expect(volume.seen).toHaveLength(16);
    expect(host.deferred).toHaveLength(1);
    for (let turn = 2; turn < 10; turn++) {
      for (const act of host.deferred.splice(0)) act();
      expect(volume.seen).toHaveLength(16 * turn);
    }
    // Another request of the same connection is answered meanwhile.
    expect(host.answers(turnOnce(host, host.bytes(READ, { length: 0, cookie: 9 })))).toMatchObject([
      { cookie: 9 },
    ]);
  });

  test("the first error → no further step; answered when what is under way ended", () => {
    const { host, volume } = attach("extended");
    volume.held = [];
    host.request(TRIM, { length: 100 * GIB });
    volume.fail = () => Status.noSpace;
    volume.completeOne();
    host.turn();
    expect(host.socket.takeSent().length).toBe(0);
    volume.fail = () => Status.ok;
    volume.completeOne();
    host.turn();
    expect(host.answers(host.socket.takeSent())[0]?.error).toBe(NbdError.ENOSPC);
    expect(volume.seen).toHaveLength(2);
  });

  test("H5: FUA over one step → forced there; over several → flushed, then answered", () => {
    const { host, volume } = attach("extended");
    const flags = CommandFlag.FUA;
    host.request(WRITE_ZEROES, { flags, length: GIB });
    expect(volume.seen.splice(0)).toMatchObject([{ flags: FLAG_FUA }]);
    host.request(WRITE_ZEROES, { flags, length: 2 * GIB });
    const kinds = volume.seen.splice(0).map((one) => [one.kind, one.flags]);
    expect(kinds).toEqual([
      [OperationKind.writeZeroes, 0],
      [OperationKind.writeZeroes, 0],
      [OperationKind.flush, 0],
    ]);
    host.request(TRIM, { flags, length: 2 * GIB });
    expect(volume.seen.splice(0).map((one) => one.kind)).toEqual([
      OperationKind.trim,
      OperationKind.trim,
      OperationKind.flush,
    ]);
    volume.fail = ({ kind }) => (kind === OperationKind.flush ? Status.ioError : Status.ok);
    expect(host.request(TRIM, { flags, length: 4096 })[0]?.error).toBe(NbdError.EIO);
    volume.fail = ({ kind }) => (kind === OperationKind.flush ? Status.ok : Status.ioError);
    volume.seen.length = 0;
    expect(host.request(TRIM, { flags, length: 2 * GIB })[0]?.error).toBe(NbdError.EIO);
    expect(volume.seen.map((one) => one.kind)).not.toContain(OperationKind.flush);
  });

  test("NO_HOLE → kept in every step, and steps that are smaller", () => {
    const { host, volume } = attach("extended");
    host.request(WRITE_ZEROES, { flags: CommandFlag.NO_HOLE, length: GIB });
    expect(volume.seen).toHaveLength(GIB / STEP_ALLOCATING_BYTES);
    expect(volume.seen.every(({ flags }) => flags === FLAG_NO_HOLE)).toBe(true);
  });

  test("H7: the connection ends → no further step, what is under way is cancelled", () => {
    const { host, volume } = attach("extended");
    volume.held = [];
    host.request(TRIM, { flags: CommandFlag.FUA, length: 100 * GIB });
    host.socket.hangUp();
    host.socket.turn();
    expect(volume.held.map(({ cancelled }) => cancelled)).toEqual([true, true]);
    volume.completeOne();
    expect(host.finished).toEqual([]);
    volume.completeOne();
    expect(host.finished).toEqual(["the peer closed"]);
    expect(volume.seen).toHaveLength(2);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("H7: it ends while the next step is put off → over in that turn, none is made", () => {
    const { host, volume } = attach("extended");
    host.socket.arrive(host.bytes(TRIM, { length: PIB }));
    host.socket.turn();
    host.socket.hangUp();
    host.socket.turn();
    expect(host.finished).toEqual([]);
    for (const act of host.deferred.splice(0)) act();
    expect(host.finished).toEqual(["the peer closed"]);
    expect(volume.seen).toHaveLength(16);
  });

  test("DISC behind it → it is carried out, and answered, first", () => {
    const { host, volume } = attach("extended");
    const answers = host.exchange(
      Buffer.concat([host.bytes(TRIM, { length: 64 * GIB }), host.bytes(DISC)]),
    );
    expect(host.answers(answers)).toMatchObject([{ error: 0 }]);
    expect(volume.seen).toHaveLength(64);
    expect(host.finished).toEqual(["the host disconnected"]);
  });
});

describe("cache", () => {
  test("reads through one buffer, a megabyte at a time, and gives it back", () => {
    const { host, volume } = attach("structured");
    const used = host.memory.usedBytes;
    volume.held = [];
    host.request(CACHE, { offset: 4096, length: 3 * 2 ** 20 });
    expect(host.credit.heldBytes).toBe(2 ** 20);
    const places = new Set<number>();
    while (volume.held.length > 0) {
      places.add(volume.held[0]?.bufferOffset as number);
      volume.completeOne();
      host.turn();
    }
    expect([volume.mostAtOnce, places.size]).toEqual([1, 1]);
    expect(volume.seen.map(({ lengthBytes }) => lengthBytes)).toEqual([
      2 ** 20 - 4096,
      2 ** 20,
      2 ** 20,
      4096,
    ]);
    const wanted = { kind: OperationKind.read, flags: FLAG_WARM };
    for (const seen of volume.seen) expect(seen).toMatchObject(wanted);
    expect(host.answers(host.socket.takeSent())).toMatchObject([{ error: 0, chunk: null }]);
    expect(host.memory.usedBytes).toBe(used);
  });

  test("of a petabyte → the first 64 MiB are read, and that is enough", () => {
    const { host, volume } = attach("extended");
    expect(host.request(CACHE, { length: PIB })[0]?.error).toBe(0);
    const read = volume.seen.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    expect(read).toBe(CACHE_BYTES_MAX);
  });

  test("what cannot be read → its error and place", () => {
    const { host, volume } = attach("structured");
    volume.fail = (operation) => {
      operation.faultOffsetBytes = operation.offsetBytes + 4096;
      return Status.mediumError;
    };
    const [answer] = host.request(CACHE, { offset: 8192, length: 65536 });
    expect(answer?.error).toBe(NbdError.EIO);
    expect(answer?.data.subarray(-8).toString("hex")).toBe("0000000000003000");
    expect(volume.seen).toHaveLength(1);
  });

  test("on a read-only export → done", () => {
    const { host } = attach("structured");
    host.exported.readOnly = true;
    expect(host.request(CACHE, { length: 4096 })[0]?.error).toBe(0);
  });
});

describe("block status", () => {
  for (const headers of ["structured", "extended"] as const) {
    test(`${headers}: many extents over several steps → joined, and just as long as asked`, () => {
      const { host, volume } = attach(headers);
      volume.isAllocated = (extent) => extent % 700 < 3 || extent === 1024;
      const length = 3 * GIB + 4096;
      const offset = GIB - 8192;
      const [answer] = host.request(BLOCK_STATUS, { offset, length });
      const found = descriptors(answer?.data as Buffer, headers);
      expect(found.reduce((sum, [bytes]) => sum + bytes, 0)).toBe(length);
      let at = offset;
      for (const [index, [bytes, flags]] of found.entries()) {
        expect(flags).not.toBe(found[index - 1]?.[1] as number);
        for (let byte = at; byte < at + bytes; byte += 2 ** 20) {
          const isHole = !volume.isAllocated(Math.floor(byte / 2 ** 20));
          if (isHole !== (flags === 3)) throw new Error(`H9: wrong at ${byte}`);
        }
        at += bytes;
      }
      expect(volume.seen).toHaveLength(4);
    });

    test(`${headers}: REQ_ONE → one, whole as far as was looked, never longer than asked`, () => {
      const { host, volume } = attach(headers);
      volume.isAllocated = (extent) => extent >= 2500;
      const flags = CommandFlag.REQ_ONE;
      const one = (offset: number, length: number) =>
        descriptors(
          host.request(BLOCK_STATUS, { flags, offset, length })[0]?.data as Buffer,
          headers,
        );
      expect(one(0, 4 * GIB - 512)).toEqual([[2500 * 2 ** 20, 3]]);
      expect(one(4096, 4096)).toEqual([[4096, 3]]);
      expect(one(3 * GIB, GIB + 512)).toEqual([[GIB + 512, 0]]);
      // No further than where the answer was known.
      expect(volume.seen.at(2)?.lengthBytes).toBe(GIB);
    });

    test(`${headers}: as many extents as a reply may hold → cut short, at a border`, () => {
      const { host, volume } = attach(headers);
      volume.isAllocated = (extent) => extent % 2 === 0;
      const length = headers === "extended" ? 60 * GIB : 4 * GIB - 4096;
      const [answer] = host.request(BLOCK_STATUS, { length });
      const found = descriptors(answer?.data as Buffer, headers);
      const told = found.reduce((sum, [bytes]) => sum + bytes, 0);
      if (headers === "structured") {
        expect(told).toBe(length); // 4096 of them fit
        return;
      }
      expect((answer?.data.length ?? 0) + 32).toBeLessThanOrEqual(STATUS_REPLY_BYTES_MAX);
      expect((answer?.data.length ?? 0) + 32).toBeGreaterThan(STATUS_REPLY_BYTES_MAX - 16);
      expect(told).toBe(found.length * 2 ** 20);
      expect(host.memory.usedBytes).toBe(usedIdle());
    });

    test(`${headers}: no memory for more → fewer, at least one; the next goes on`, () => {
      const credit = new HostCredit(4096);
      const { host, volume } = attach(headers, { credit });
      const other = credit.open("198.51.100.9", () => {});
      expect(other.take(4096)).toBe(true);
      volume.isAllocated = (extent) => extent % 2 === 0;
      let offset = 0;
      for (let round = 0; round < 3; round++) {
        const [answer] = host.request(BLOCK_STATUS, { offset, length: 2 ** 30 });
        const found = descriptors(answer?.data as Buffer, headers);
        expect(found.length).toBe(headers === "structured" ? 13 : 5);
        expect(found[0]?.[1]).toBe(offset % 2 ** 21 === 0 ? 0 : 3);
        offset += found.reduce((sum, [bytes]) => sum + bytes, 0);
      }
    });
  }

  test("over petabytes of nothing → looks at 64 GiB, and says no more than that", () => {
    const { host, volume } = attach("extended");
    const [answer] = host.request(BLOCK_STATUS, { length: 4 * PIB });
    expect(descriptors(answer?.data as Buffer, "extended")).toEqual([[STATUS_LOOK_BYTES_MAX, 3]]);
    expect(volume.seen).toHaveLength(STATUS_LOOK_BYTES_MAX / STEP_BYTES);
  });

  test("H9: a step that tells less than asked → the answer ends there, not over the gap", () => {
    const { host, volume } = attach("extended");
    volume.runsOf = ({ offsetBytes, lengthBytes }) =>
      offsetBytes === 0
        ? [{ lengthBytes, allocated: false }]
        : [{ lengthBytes: 4096, allocated: false }];
    const [answer] = host.request(BLOCK_STATUS, { length: 10 * GIB });
    expect(descriptors(answer?.data as Buffer, "extended")).toEqual([[GIB + 4096, 3]]);
    expect(volume.seen).toHaveLength(2);
  });

  test("H9: a step tells more than asked, or empty runs → cut; nothing → allocated", () => {
    const { host, volume } = attach("extended");
    volume.runsOf = () => [
      { lengthBytes: 0, allocated: true },
      { lengthBytes: PIB, allocated: false },
    ];
    const [more] = host.request(BLOCK_STATUS, { length: 8192 });
    expect(descriptors(more?.data as Buffer, "extended")).toEqual([[8192, 3]]);
    for (const runs of [null, []]) {
      volume.runsOf = () => runs;
      const [none] = host.request(BLOCK_STATUS, { length: 8192 });
      expect(descriptors(none?.data as Buffer, "extended")).toEqual([[8192, 0]]);
    }
  });

  test("an error in the middle → the error, no half of a map; the buffer is given back", () => {
    const { host, volume } = attach("extended");
    volume.isAllocated = (extent) => extent % 2 === 0;
    volume.fail = ({ offsetBytes }) => (offsetBytes >= 2 * GIB ? Status.ioError : Status.ok);
    const [answer] = host.request(BLOCK_STATUS, { length: 10 * GIB });
    expect(answer?.error).toBe(NbdError.EIO);
    expect(host.memory.usedBytes).toBe(usedIdle());
    expect(host.credit.heldBytes).toBe(0);
  });

  test("a compact descriptor of almost 4 GiB → its length fits", () => {
    const { host } = attach("structured");
    const length = 2 ** 32 - 512;
    expect(host.request(BLOCK_STATUS, { length })[0]?.data).toEqual(u32s(1, length, 3));
  });
});

/** What an idle connection in transmission holds. */
function usedIdle(): number {
  return attach("extended").host.memory.usedBytes;
}

function turnOnce(host: Host, bytes: Buffer): Buffer {
  host.socket.arrive(bytes);
  host.socket.turn();
  return host.socket.takeSent();
}
