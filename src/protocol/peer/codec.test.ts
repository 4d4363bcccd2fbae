// SPDX-License-Identifier: Apache-2.0
//
// Peer verbs: golden bytes, every split point, every field, and what must be refused.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { EXTENT_BYTES } from "#base/grains.ts";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import {
  NO_MEMORY,
  VerbDecoder,
  decodeHead,
  decodeVerb,
  encodeHead,
  encodeVerb,
  headBytes,
} from "./codec.ts";
import { HEADER, PAYLOAD_BYTES_MAX } from "./peer.wire.ts";

type Header = ReturnType<typeof HEADER.view>;

const ARENA_BYTES = 1 << 20;
const newMemory = (size = ARENA_BYTES) => new Memory(new ArrayBuffer(size));

function verb(fields: Partial<PeerVerb>): PeerVerb {
  return Object.assign(new PeerVerb(), fields);
}

function withPayload(memory: Memory, payload: string, fields: Partial<PeerVerb>): PeerVerb {
  const bytes = new TextEncoder().encode(payload);
  const bufferOffset = memory.allocate(bytes.length);
  memory.bytes.set(bytes, bufferOffset);
  return verb({ ...fields, bufferOffset, payloadBytes: bytes.length });
}

const RECORD = {
  slice: 7,
  volume: 3,
  index: 1,
  sizeBytes: 64 * 2 ** 30,
  copies: 2,
  lineage: 2 ** 48 + 1,
  ancestry: [11, 2 ** 40],
  epoch: 2 ** 33 + 9,
  head: 4,
  inSync: [
    { disk: 4, incarnation: 12 },
    { disk: 5, incarnation: 2 ** 32 },
  ],
  resyncing: [6],
};

/** One verb of every shape, under the name its golden bytes have. */
function samples(memory: Memory): Record<string, PeerVerb> {
  return {
    attach: verb({
      kind: VerbKind.attach,
      slice: 7,
      fromDisk: 4,
      toDisk: 5,
      sequence: 2 ** 40 + 3,
      epoch: 2 ** 33 + 9,
      lineage: 2 ** 48 + 1,
      record: RECORD,
    }),
    write: withPayload(memory, "sixteen bytes ok", {
      kind: VerbKind.write,
      slice: 7,
      fromDisk: 4,
      toDisk: 5,
      sequence: 99,
      epoch: 10,
      flags: FLAG_FUA,
      offsetBytes: 5 * EXTENT_BYTES,
      lengthBytes: 16,
      stamp: 10,
      origin: 2 ** 41 + 1,
    }),
    attached: verb({
      kind: VerbKind.attached,
      slice: 7,
      fromDisk: 5,
      toDisk: 4,
      sequence: 100,
      epoch: 10,
      incarnation: 12,
      syncedEpoch: 9,
      syncedLineage: 2 ** 48 + 1,
      credit: 64,
      regions: [0, 3, 16383],
      record: { ...RECORD, ancestry: [], resyncing: [] },
    }),
    map: verb({
      kind: VerbKind.map,
      slice: 7,
      sequence: 101,
      flags: 1,
      entries: [
        { extent: 0, stamp: 1 },
        { extent: 65535, stamp: 2 ** 35 },
      ],
    }),
    beacon: verb({ kind: VerbKind.beacon, slice: 7, toDisk: 5, epoch: 10, tickMs: 1234.5678 }),
    forwarded: verb({
      kind: VerbKind.forwarded,
      slice: 7,
      sequence: 55,
      status: Status.notHead,
      tickMs: 77,
      runs: [
        { lengthBytes: 2 ** 34, allocated: true },
        { lengthBytes: 512, allocated: false },
      ],
    }),
    done: withPayload(memory, "x", { kind: VerbKind.done, slice: 7, sequence: 102, credit: 1 }),
  };
}

/** The verb without where its payload lies, and the payload instead. */
function shown(memory: Memory, of: PeerVerb) {
  const { bufferOffset, sent: _, ...rest } = of;
  const payload =
    bufferOffset === NO_BUFFER
      ? null
      : Buffer.from(memory.bytes.subarray(bufferOffset, bufferOffset + of.payloadBytes)).toString();
  return { ...rest, payload };
}

const GOLDEN = readFileSync(
  new URL("../../../test/vectors/peer/verbs.txt", import.meta.url),
  "utf8",
)
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => line.split(" ") as [string, string]);

describe("golden bytes", () => {
  test("every sample has a vector, and every vector a sample", () => {
    expect(GOLDEN.map(([name]) => name)).toEqual(Object.keys(samples(newMemory())));
  });

  for (const [name, hex] of GOLDEN) {
    test(`${name} → the stored bytes, and back`, () => {
      const memory = newMemory();
      const sample = samples(memory)[name] as PeerVerb;
      expect(Buffer.from(encodeVerb(sample, memory)).toString("hex")).toBe(hex);
      const decoded = decodeVerb(Buffer.from(hex, "hex"), memory) as PeerVerb;
      expect(shown(memory, decoded)).toEqual(shown(memory, sample));
    });
  }
});

describe("stream", () => {
  test("split at every point → the same verbs in order, every byte taken", () => {
    const memory = newMemory();
    const sent = Object.values(samples(memory));
    const stream = Buffer.concat(sent.map((one) => encodeVerb(one, memory)));
    const wanted = sent.map((one) => shown(memory, one));
    for (let split = 0; split <= stream.length; split++) {
      const other = newMemory();
      const got: unknown[] = [];
      const decoder = new VerbDecoder(other, (one) => {
        got.push(shown(other, one));
        if (one.bufferOffset !== NO_BUFFER) other.release(one.bufferOffset);
      });
      expect(decoder.feed(stream, 0, split)).toBe(split);
      expect(decoder.feed(stream, split)).toBe(stream.length - split);
      expect(decoder.failure).toBeNull();
      if (!Bun.deepEquals(got, wanted)) expect(got).toEqual(wanted);
      expect(other.usedBytes).toBe(0);
    }
  });

  test("one byte at a time → the same verbs", () => {
    const memory = newMemory();
    const sent = Object.values(samples(memory));
    const got: unknown[] = [];
    const decoder = new VerbDecoder(memory, (one) => got.push(shown(memory, one)));
    for (const one of sent) {
      for (const byte of encodeVerb(one, memory)) decoder.feed(new Uint8Array([byte]));
    }
    expect(got).toEqual(sent.map((one) => shown(memory, one)));
  });

  test("R13: no buffer for a payload → it waits, takes nothing more, and goes on later", () => {
    const sender = newMemory();
    const message = encodeVerb(samples(sender).write as PeerVerb, sender);
    const memory = newMemory(4096);
    const taken = memory.allocate(1);
    const got: PeerVerb[] = [];
    const decoder = new VerbDecoder(memory, (one) => got.push(one));
    const took = decoder.feed(message);
    expect(took).toBe(HEADER.size);
    expect(decoder.waiting).toBe(true);
    expect(decoder.failure).toBeNull();
    expect(decodeVerb(message, memory)).toBe(NO_MEMORY);
    memory.release(taken);
    expect(decoder.feed(message, took)).toBe(16);
    expect(got).toHaveLength(1);
  });

  test("link ends within a payload → its buffer is given back, later bytes are ignored", () => {
    const memory = newMemory();
    const message = encodeVerb(samples(memory).write as PeerVerb, memory);
    const before = memory.usedBytes;
    const decoder = new VerbDecoder(memory, () => expect.unreachable());
    decoder.feed(message, 0, message.length - 1);
    expect(memory.usedBytes).toBeGreaterThan(before);
    decoder.end();
    expect(memory.usedBytes).toBe(before);
    expect(decoder.feed(message, message.length - 1)).toBe(0);
  });
});

describe("malformed → a reason, nothing allocated", () => {
  const cases: [string, string, (view: Header, message: Uint8Array) => void][] = [
    ["write", "not a peer verb", (view) => (view.magic = 1)],
    ["write", "another version of the peer protocol", (view) => (view.version = 2)],
    ["write", "unknown verb", (view) => (view.kind = 15)],
    ["write", "reserved bytes are not zero", (_, message) => (message[10] = 1)],
    ["write", "payload too long", (view) => (view.payloadBytes = PAYLOAD_BYTES_MAX + 1)],
    ["write", "payload is not the range", (view) => (view.lengthBytes = 15)],
    ["write", "payload is not the range", (view) => (view.payloadBytes = 0)],
    ["write", "unknown class", (view) => (view.class = 4)],
    ["write", "unknown operation", (view) => (view.operation = OperationKind.read)],
    ["write", "number out of range", (_, message) => message.fill(0xff, 40, 48)],
    ["write", "range too large", (view) => (view.offsetBytes = Number.MAX_SAFE_INTEGER)],
    ["beacon", "tick out of range", (view) => (view.tickMs = -1)],
    ["beacon", "tick out of range", (view) => (view.tickMs = Number.NaN)],
    ["beacon", "payload where none belongs", (view) => (view.payloadBytes = 4096)],
    ["beacon", "body without a list", (view) => (view.bodyBytes = 4)],
    ["attach", "body too long", (view) => (view.bodyBytes = 0xffffffff)],
    ["attach", "unknown list", (view) => (view.lists = 0x11)],
    ["attach", "a list the verb needs is missing", (view) => (view.lists = 2)],
    ["attach", "body longer than its lists", (_, message) => (message[HEADER.size + 44] = 0)],
    ["attach", "cut short: number", (_, message) => (message[HEADER.size + 44] = 6)],
    ["attach", "too many: in-sync member", (_, message) => (message[HEADER.size + 42] = 7)],
    ["attach", "record malformed", (_, message) => (message[HEADER.size + 48] = 1)],
    ["attach", "record out of range", (_, message) => message.fill(0xff, HEADER.size + 32, 168)],
    ["attached", "region out of range", (_, message) => (message[message.length - 1] = 1)],
    ["attached", "too many: number", (_, message) => message.fill(0xff, message.length - 16)],
    ["map", "entries do not ascend", (_, message) => (message[HEADER.size + 18] = 0)],
    ["map", "entry out of range", (_, message) => (message[HEADER.size + 18] = 1)],
    ["forwarded", "run malformed", (_, message) => (message[HEADER.size + 12] = 2)],
    ["forwarded", "run out of range", (_, message) => message.fill(0, HEADER.size + 4, 140)],
  ];
  for (const [name, reason, harm] of cases) {
    test(`${name} → ${reason}`, () => {
      const memory = newMemory();
      const message = encodeVerb(samples(memory)[name] as PeerVerb, memory);
      const used = memory.usedBytes;
      // The entries' vector has its second extent, 65535, at 16: its bytes are set to fit the case.
      if (name === "map") message.fill(0, HEADER.size + 16, HEADER.size + 20);
      harm(HEADER.view().at(message, 0), message);
      expect(decodeVerb(message, memory)).toBe(reason);
      expect(memory.usedBytes).toBe(used);
      const decoder = new VerbDecoder(memory, () => expect.unreachable());
      decoder.feed(message);
      decoder.feed(message);
      expect(decoder.failure).toBe(reason);
    });
  }

  test("message cut short or with bytes behind it → refused, its buffer given back", () => {
    const memory = newMemory();
    const message = encodeVerb(samples(memory).write as PeerVerb, memory);
    const used = memory.usedBytes;
    expect(decodeVerb(message.subarray(0, message.length - 1), memory)).toBe("message cut short");
    expect(decodeVerb(Buffer.concat([message, message]), memory)).toBe("bytes after the message");
    expect(memory.usedBytes).toBe(used);
  });

  test("a status of a newer unit → counts as ioError, never as ok", () => {
    const memory = newMemory();
    const message = encodeVerb(samples(memory).forwarded as PeerVerb, memory);
    message[6] = 200;
    expect((decodeVerb(message, memory) as PeerVerb).status).toBe(Status.ioError);
  });
});

test("a head alone → the verb without its payload; cut short, too long → a reason", () => {
  const memory = newMemory();
  for (const [name, sample] of Object.entries(samples(memory))) {
    const length = headBytes(sample);
    const bytes = new Uint8Array(length + 40);
    encodeHead(sample, bytes, 7);
    const plain = Object.assign(new PeerVerb(), sample, { bufferOffset: NO_BUFFER });
    expect([name, decodeHead(bytes, 7, length)]).toEqual([name, plain]);
    expect(decodeHead(bytes, 7, length - 1)).toBeString();
    expect(decodeHead(bytes, 7, length + 1)).toBeString();
    expect(decodeHead(bytes, 6, length)).toBe("not a peer verb");
  }
});

test("every field of a verb but its callback travels", () => {
  // A field added to PeerVerb and forgotten here would come back as its default.
  const memory = newMemory();
  const full = withPayload(memory, "p", {
    kind: VerbKind.forwarded,
    status: Status.busy,
    class: 2,
  });
  const travelling = new Set(Object.keys(full));
  for (const own of ["sent", "operation", "bufferOffset", "kind"]) travelling.delete(own);
  let number = 1000;
  for (const key of travelling) {
    const field = key as keyof PeerVerb;
    if (full[field] === 0) Object.assign(full, { [field]: number++ });
  }
  full.record = RECORD;
  full.regions = [1];
  full.entries = [{ extent: 1, stamp: 1 }];
  full.runs = [{ lengthBytes: 1, allocated: true }];
  const fresh = shown(memory, new PeerVerb()) as Record<string, unknown>;
  const back = shown(memory, decodeVerb(encodeVerb(full, memory), memory) as PeerVerb);
  expect(back).toEqual(shown(memory, full));
  for (const key of travelling) expect([key, back[key as never]]).not.toEqual([key, fresh[key]]);
});

test("random verbs → equal after the journey", () => {
  const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  const small = fc.integer({ min: 0, max: 0xffffffff });
  const kinds = Object.values(VerbKind).filter(
    (kind) => kind !== VerbKind.write && kind !== VerbKind.forward,
  );
  const fields = fc.record({
    kind: fc.constantFrom(...kinds),
    slice: small,
    toDisk: small,
    sequence: number,
    epoch: number,
    offsetBytes: fc.integer({ min: 0, max: 2 ** 46 }),
    lengthBytes: fc.integer({ min: 0, max: 2 ** 46 }),
    tickMs: fc.double({ min: 0, max: 2 ** 50, noNaN: true }),
    regions: fc.array(fc.integer({ min: 0, max: 16383 }), { maxLength: 300 }),
    entries: fc
      .uniqueArray(fc.integer({ min: 0, max: 65535 }), { maxLength: 100 })
      .map((list) => list.sort((a, b) => a - b).map((extent) => ({ extent, stamp: extent * 7 }))),
  });
  const memory = newMemory();
  fc.assert(
    fc.property(fields, (some) => {
      const one = verb({ ...some, record: RECORD });
      const back = decodeVerb(encodeVerb(one, memory), memory) as PeerVerb;
      expect(headBytes(one)).toBe(headBytes(back));
      return Bun.deepEquals(shown(memory, back), shown(memory, one));
    }),
    { numRuns: 2000 },
  );
});

test("200,000 mutated messages → a verb or a reason, never a throw, no byte of memory kept", () => {
  const memory = newMemory();
  const seeds = Object.values(samples(memory)).map((one) => encodeVerb(one, memory));
  const used = memory.usedBytes;
  let verbs = 0;
  let reasons = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      (seed, changes) => {
        const message = seed.slice();
        for (const [at, value] of changes) message[at % message.length] = value;
        const result = decodeVerb(message, memory);
        if (typeof result === "string") {
          reasons++;
        } else {
          verbs++;
          if (result.bufferOffset !== NO_BUFFER) memory.release(result.bufferOffset);
        }
      },
    ),
    { numRuns: 200_000 },
  );
  expect(memory.usedBytes).toBe(used);
  expect(verbs).toBeGreaterThan(1000);
  expect(reasons).toBeGreaterThan(1000);
});
