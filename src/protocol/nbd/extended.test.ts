// SPDX-License-Identifier: Apache-2.0
//
// Extended headers (branch extension-ext-header of doc/proto.md): every command by 32-byte headers,
// what each payload rule refuses, and 64-bit lengths.

import { describe, expect, test } from "bun:test";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import { Memory } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import type { RequestOptions } from "./host-fixture.ts";
import { Host, VOLUME_BYTES, extendedRequestBytes, requestBytes, u32s } from "./host-fixture.ts";
import { ChunkType, Command, CommandFlag, NbdError } from "./nbd.wire.ts";

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = Command;
const { EINVAL, ENOSPC, EOVERFLOW } = NbdError;
const host = (options?: ConstructorParameters<typeof Host>[0]) =>
  new Host(options).negotiate("extended");
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

/** Of an extended block status: length and flags of each descriptor. */
function descriptors(data: Buffer): [number, number][] {
  expect(data.readUInt32BE(0)).toBe(1);
  const count = data.readUInt32BE(4);
  expect(data.length).toBe(8 + 16 * count);
  return Array.from({ length: count }, (_, index) => [
    Number(data.readBigUInt64BE(8 + 16 * index)),
    Number(data.readBigUInt64BE(16 + 16 * index)),
  ]);
}

/** The payload of a block status. */
function statusPayload(effectBytes: bigint, ...contexts: number[]): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(effectBytes);
  return Buffer.concat([bytes, u32s(...contexts)]);
}

describe("messages", () => {
  test("a write and its reply, byte for byte as the extension prints them", () => {
    const made = host();
    const request = hex(`
      21e41c71 0020 0001 0102030405060708 0000000000000200 0000000000000200 ${"5a".repeat(512)}`);
    const reply = "6e8a278c 0001 0000 0102030405060708 0000000000000200 0000000000000000";
    expect(made.exchange(request).toString("hex")).toBe(reply.replaceAll(" ", ""));
    const read = hex("21e41c71 0000 0000 ffffffffffffffff 0000000000000000 0000000000000400");
    const data = "00".repeat(512) + "5a".repeat(512);
    const head = "6e8a278c 0001 0001 ffffffffffffffff 0000000000000000 0000000000000408";
    const want = `${head} 0000000000000000 ${data}`.replaceAll(" ", "");
    expect(made.exchange(read).toString("hex")).toBe(want);
  });

  test("every command → a chunk with cookie and offset as they came, never a simple reply", () => {
    const made = host();
    const rows: [number, RequestOptions, number][] = [
      [WRITE, { offset: 4096, payload: Buffer.alloc(512, 1) }, ChunkType.NONE],
      [READ, { offset: 4096, length: 512 }, ChunkType.OFFSET_DATA],
      [READ, { offset: 4096, length: 0 }, ChunkType.NONE],
      [FLUSH, {}, ChunkType.NONE],
      [TRIM, { offset: 8192, length: 4096 }, ChunkType.NONE],
      [CACHE, { offset: 8192, length: 4096 }, ChunkType.NONE],
      [WRITE_ZEROES, { offset: 8192, length: 4096 }, ChunkType.NONE],
      [BLOCK_STATUS, { offset: 8192, length: 4096 }, ChunkType.BLOCK_STATUS_EXT],
    ];
    for (const [type, fields, chunk] of rows) {
      const [answer] = made.request(type, { ...fields, cookie: 0xfffffff0 + type });
      expect(answer).toMatchObject({
        cookie: 0xfffffff0 + type,
        offset: BigInt(fields.offset ?? 0),
        chunk,
        error: 0,
      });
    }
  });

  test("offsets past 2^53 → refused, and given back as they came", () => {
    const made = host();
    for (const offset of [2n ** 53n, 2n ** 63n, 2n ** 64n - 512n]) {
      for (const [type, error] of [
        [READ, EINVAL],
        [TRIM, EINVAL],
        [WRITE_ZEROES, ENOSPC],
        [BLOCK_STATUS, EINVAL],
      ] as const) {
        const [answer] = made.request(type, { offset, length: 512 });
        expect(answer).toMatchObject({ error, offset, chunk: ChunkType.ERROR });
      }
    }
    expect(made.volume.seen).toHaveLength(0);
  });

  test("a compact request, or an extended one unasked → dropped", () => {
    const made = host();
    made.exchange(Buffer.concat([requestBytes(READ, { length: 512 }), Buffer.alloc(4)]));
    expect(made.finished).toEqual(["not an NBD request"]);
    const plain = new Host().negotiate("structured");
    plain.exchange(extendedRequestBytes(READ, { length: 512 }));
    expect(plain.finished).toEqual(["not an NBD request"]);
  });

  test("a failed read → its place, behind the head of 32 bytes", () => {
    const made = host();
    made.volume.failWith = Status.mediumError;
    made.volume.faultOffsetBytes = 8192;
    const [answer] = made.request(READ, { offset: 4096, length: 8192 });
    expect(answer?.chunk).toBe(ChunkType.ERROR_OFFSET);
    expect(answer?.error).toBe(NbdError.EIO);
    expect(answer?.data.subarray(-8).toString("hex")).toBe("0000000000002000");
    expect(answer?.offset).toBe(4096n);
  });

  test("DISC → the connection ends in order", () => {
    const made = host();
    made.exchange(extendedRequestBytes(DISC));
    expect(made.finished).toEqual(["the host disconnected"]);
    expect(made.memory.usedBytes).toBe(0);
  });
});

describe("PAYLOAD_LEN", () => {
  const flags = CommandFlag.PAYLOAD_LEN;
  const raw = (type: number, flag: number, length: number | bigint, payload = Buffer.alloc(0)) => {
    const head = extendedRequestBytes(type, {});
    head.writeUInt16BE(flag, 4);
    head.writeBigUInt64BE(BigInt(length), 24);
    return Buffer.concat([head, payload]);
  };

  test("a write without it, as qemu 10 sends it → its payload is taken all the same", () => {
    const made = host();
    const payload = Buffer.alloc(512, 0x77);
    const bytes = Buffer.concat([raw(WRITE, 0, 512, payload), made.bytes(FLUSH, { cookie: 2 })]);
    const answers = made.answers(made.exchange(bytes));
    expect(answers.map(({ cookie, error }) => [cookie, error])).toEqual([
      [1, 0],
      [2, 0],
    ]);
    expect(made.volume.data[0]).toBe(0x77);
  });

  test("on commands that have no payload → EINVAL, the payload consumed", () => {
    for (const type of [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 99]) {
      const made = host();
      for (const length of [1, 512, 300_000]) {
        const bytes = raw(type, flags, length, Buffer.alloc(length, 0x25));
        const answers = made.answers(made.exchange(Buffer.concat([bytes, made.bytes(FLUSH)])));
        expect(answers.map(({ error }) => error)).toEqual([EINVAL, 0]);
      }
      expect(made.volume.flushes).toBe(3);
      expect(made.session.inFlight).toBe(0);
    }
  });

  test("a payload longer than 32 MiB, of whatever command → dropped", () => {
    for (const type of [WRITE, READ, BLOCK_STATUS]) {
      for (const length of [BigInt(REQUEST_BYTES_MAX) + 1n, 2n ** 53n, 2n ** 64n - 1n]) {
        const made = host();
        made.exchange(raw(type, flags, length));
        expect(made.finished).toEqual(["a payload longer than 32 MiB"]);
      }
    }
  });

  test("block status for the one context → the effect length counts, of 64 bits", () => {
    const made = host();
    const [answer] = made.request(BLOCK_STATUS, {
      offset: 4096,
      payload: statusPayload(8192n, 1),
    });
    expect(descriptors(answer?.data as Buffer)).toEqual([[8192, 3]]);
    const [beyond] = made.request(BLOCK_STATUS, { payload: statusPayload(2n ** 60n, 1) });
    expect(beyond?.error).toBe(EINVAL);
    const one = { flags: CommandFlag.REQ_ONE, payload: statusPayload(BigInt(VOLUME_BYTES), 1) };
    expect(descriptors(made.request(BLOCK_STATUS, one)[0]?.data as Buffer)).toEqual([
      [VOLUME_BYTES, 3],
    ]);
  });

  test("unknown, repeated or no contexts, or half of one → EINVAL, consumed", () => {
    const payloads = [
      statusPayload(4096n, 2),
      statusPayload(4096n, 1, 1),
      statusPayload(4096n, 1, 2, 3, 4, 5, 6, 7, 8, 9),
      statusPayload(4096n),
      statusPayload(4096n, 1).subarray(0, 11),
      Buffer.alloc(7),
      Buffer.alloc(100_000),
    ];
    const made = host();
    for (const payload of payloads) {
      expect(made.request(BLOCK_STATUS, { payload })[0]?.error).toBe(EINVAL);
      expect(made.request(FLUSH)[0]?.error).toBe(0);
    }
  });

  test("with compact headers → an unknown flag", () => {
    const made = new Host().negotiate("structured");
    expect(made.request(BLOCK_STATUS, { flags, length: 4096 })[0]?.error).toBe(EINVAL);
    const payload = Buffer.alloc(512);
    expect(made.request(WRITE, { flags, payload })[0]?.error).toBe(EINVAL);
    expect(made.request(READ, { length: 512 })[0]?.error).toBe(0);
  });

  test("every command, cut at every point → the same answers", () => {
    const memory = new Memory(new ArrayBuffer(1 << 20));
    const bytes = Buffer.concat([
      extendedRequestBytes(WRITE, { cookie: 1, payload: Buffer.alloc(512, 3) }),
      extendedRequestBytes(BLOCK_STATUS, { cookie: 2, payload: statusPayload(8192n, 1) }),
      extendedRequestBytes(TRIM, { cookie: 3, payload: Buffer.alloc(40) }),
      extendedRequestBytes(READ, { cookie: 4, length: 512 }),
      raw(WRITE, 0, 512, Buffer.alloc(512, 1)),
      extendedRequestBytes(DISC),
    ]);
    let wanted: Buffer | null = null;
    for (let cut = 0; cut <= bytes.length; cut++) {
      const made = host({ memory });
      const first = made.exchange(bytes.subarray(0, cut));
      const answer = Buffer.concat([first, made.exchange(bytes.subarray(cut))]);
      wanted ??= answer;
      if (!answer.equals(wanted)) throw new Error(`cut at ${cut}: another answer`);
      expect(made.finished).toEqual(["the host disconnected"]);
      expect(memory.usedBytes).toBe(0);
    }
  });
});

test("a read longer than 32 MiB, up to the longest length there is → EOVERFLOW or EINVAL", () => {
  const made = host();
  made.exported.sizeBytes = 2 ** 50;
  for (const length of [REQUEST_BYTES_MAX + 512, 2 ** 40]) {
    expect(made.request(READ, { length })[0]?.error).toBe(EOVERFLOW);
  }
  expect(made.request(READ, { length: 2 ** 52 })[0]?.error).toBe(EINVAL);
  expect(made.volume.seen).toHaveLength(0);
});
