// SPDX-License-Identifier: Apache-2.0
//
// Long reads: their chunks, what one of them may fail with, in whose turn they are read, what they
// hold meanwhile, and how they end.

import { describe, expect, test } from "bun:test";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import { Memory } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { HostCredit } from "./credit.ts";
import type { HeaderStyle } from "./handshake.ts";
import { type Answer, Host } from "./host-fixture.ts";
import { MemoryVolume } from "./memory-volume-fixture.ts";
import { ChunkFlag, ChunkType, Command, CommandFlag, NbdError } from "./nbd.wire.ts";

const { READ, DISC } = Command;
const KIB = 1 << 10;
const MIB = 1 << 20;
const PIECE = 256 * KIB;
const LONG_BYTES = 32 * MIB;
const CHUNKED = ["structured", "extended"] as const;

interface Options {
  memory?: Memory;
  credit?: HostCredit;
  address?: string;
}

/** A host of a volume whose bytes are all different from their neighbours'. */
function hostOf(headers: HeaderStyle, options: Options = {}): Host {
  const memory = options.memory ?? new Memory(new ArrayBuffer(64 * MIB));
  const volume = new MemoryVolume(memory, LONG_BYTES);
  const prng = new Prng(11);
  const words = new Uint32Array(volume.data.buffer, volume.data.byteOffset, LONG_BYTES / 4);
  for (let at = 0; at < words.length; at += 128) words[at] = prng.u32();
  const host = new Host({ address: "unix", ...options, memory, volume });
  host.exported.sizeBytes = LONG_BYTES;
  return host.negotiate(headers);
}

/** Offset and length of each chunk of data. */
function stretches(answers: readonly Answer[]): [number, number][] {
  return answers
    .filter(({ chunk }) => chunk === ChunkType.OFFSET_DATA)
    .map(({ data }) => [Number(data.readBigUInt64BE(0)), data.length - 8]);
}

/** What the chunks say, joined; they have to come in order and without gaps. */
function bytesOf(answers: readonly Answer[], offset: number): Buffer {
  let next = offset;
  for (const [from, length] of stretches(answers)) {
    expect(from).toBe(next);
    next += length;
  }
  return Buffer.concat(answers.map(({ data }) => data.subarray(8)));
}

/** Ends what the volume has been asked so far, in that order, with all that follows. */
function completeAll(host: Host): void {
  for (const operation of host.volume.held?.splice(0) ?? []) host.volume.complete(operation);
  host.turn();
}

function nothingIsKept(host: Host, usedBytes: number): void {
  expect(host.session.inFlight).toBe(0);
  expect(host.credit.heldBytes).toBe(0);
  expect(host.memory.usedBytes).toBe(usedBytes);
}

describe("chunks", () => {
  for (const headers of CHUNKED) {
    test(`${headers} headers: every length and offset → the bytes, the last chunk is DONE`, () => {
      const host = hostOf(headers);
      const used = host.memory.usedBytes;
      const doneAt = headers === "extended" ? 32 : 20;
      for (const length of [33 * KIB, PIECE - 512, PIECE, PIECE + 512, MIB, 3 * MIB + 4096]) {
        for (const offset of [0, 512, 4096, PIECE - 4096, MIB - 512]) {
          const bytes = host.exchange(host.bytes(READ, { cookie: 9, offset, length }));
          const answers = host.answers(bytes);
          const want = host.volume.data.subarray(offset, offset + length);
          expect(bytesOf(answers, offset).equals(want)).toBe(true);
          expect(answers.every(({ cookie, error }) => cookie === 9 && error === 0)).toBe(true);
          let at = 0;
          for (const [index, { data }] of answers.entries()) {
            const isLast = index === answers.length - 1;
            expect(bytes.readUInt16BE(at + 4)).toBe(isLast ? ChunkFlag.DONE : 0);
            at += doneAt + data.length;
          }
        }
      }
      expect(stretches(host.request(READ, { offset: PIECE - 4096, length: 2 * PIECE }))).toEqual([
        [PIECE - 4096, 4096],
        [PIECE, PIECE],
        [2 * PIECE, PIECE - 4096],
      ]);
      nothingIsKept(host, used);
    });
  }

  test("over TCP → longer pieces, and four of them on their way", () => {
    const host = hostOf("structured", { address: "192.0.2.7" });
    host.socket.sendBlocked = true;
    for (let cookie = 0; cookie < 5; cookie++) {
      host.request(READ, { cookie, offset: cookie * MIB, length: MIB });
    }
    expect(host.volume.seen.map(({ lengthBytes }) => lengthBytes)).toEqual(Array(16).fill(PIECE));
    expect(host.volume.seen.at(-1)?.offsetBytes).toBe(4 * MIB - PIECE);
    host.socket.sendBlocked = false;
    host.turn();
    const answers = host.answers(host.socket.takeSent());
    for (let cookie = 0; cookie < 5; cookie++) {
      const own = answers.filter((answer) => answer.cookie === cookie);
      expect(stretches(own).map(([, length]) => length)).toEqual([MIB]);
      const from = cookie * MIB;
      expect(bytesOf(own, from).equals(host.volume.data.subarray(from, from + MIB))).toBe(true);
    }
  });

  test("DF, or simple replies → one piece, however long", () => {
    for (const [headers, flags] of [
      ["structured", CommandFlag.DF],
      ["extended", CommandFlag.DF],
      ["simple", 0],
    ] as const) {
      const host = hostOf(headers);
      const answers = host.request(READ, { flags, offset: 512, length: 5 * MIB });
      expect(answers).toHaveLength(1);
      const data = answers[0]?.data.subarray(headers === "simple" ? 0 : 8);
      expect(data?.equals(host.volume.data.subarray(512, 512 + 5 * MIB))).toBe(true);
      expect(host.session.counters?.readBytes).toBe(5 * MIB);
    }
  });

  test("the longest read → holds one piece, not 32 MiB", () => {
    const host = hostOf("structured");
    const used = host.memory.usedBytes;
    let most = 0;
    const { volume } = host;
    Object.assign(host.exported, {
      target: {
        submit: (operation: Operation) => {
          most = Math.max(most, host.memory.usedBytes - used);
          volume.submit(operation);
        },
      },
    });
    const answers = host.request(READ, { length: REQUEST_BYTES_MAX });
    expect(bytesOf(answers, 0).equals(volume.data)).toBe(true);
    expect(most).toBe(PIECE);
    expect(host.session.counters).toMatchObject({ requests: 1, readBytes: REQUEST_BYTES_MAX });
    nothingIsKept(host, used);
  });
});

describe("errors", () => {
  for (const headers of CHUNKED) {
    test(`${headers} headers: a later piece fails → its place ends the reply`, () => {
      const host = hostOf(headers);
      const used = host.memory.usedBytes;
      const { volume } = host;
      Object.assign(host.exported, {
        target: {
          submit: (operation: Operation) => {
            if (operation.offsetBytes < 2 * PIECE) return volume.submit(operation);
            operation.faultOffsetBytes = 2 * PIECE + 4096;
            operation.complete(Status.mediumError);
          },
        },
      });
      const answers = host.request(READ, { length: MIB, cookie: 3 });
      const failed = answers.pop();
      expect(stretches(answers)).toEqual([
        [0, PIECE],
        [PIECE, PIECE],
      ]);
      expect(failed).toMatchObject({
        cookie: 3,
        chunk: ChunkType.ERROR_OFFSET,
        error: NbdError.EIO,
      });
      expect(failed?.data.readBigUInt64BE(failed.data.length - 8)).toBe(BigInt(2 * PIECE + 4096));
      expect(host.session.counters).toMatchObject({ errors: 1, readBytes: 2 * PIECE });
      nothingIsKept(host, used);
      // The connection goes on, also by the same request's place.
      Object.assign(host.exported, { target: volume });
      expect(host.request(READ, { length: 0 })).toMatchObject([{ error: 0 }]);
      expect(host.finished).toEqual([]);
    });
  }

  test("one piece's operations fail → no byte of it, one error", () => {
    const host = hostOf("simple");
    host.volume.held = [];
    host.request(READ, { length: MIB });
    const operations = host.volume.held.splice(0);
    expect(operations).toHaveLength(MIB / PIECE);
    for (const [index, operation] of operations.entries()) {
      if (index === 2) operation.complete(Status.mediumError);
      else host.volume.complete(operation);
    }
    host.turn();
    expect(host.answers(host.socket.takeSent())).toMatchObject([{ error: NbdError.EIO }]);
  });
});

describe("turns", () => {
  test("at hand → read only as fast as the host takes it, in the order they came", () => {
    const host = hostOf("structured");
    const used = host.memory.usedBytes;
    host.socket.sendBlocked = true;
    for (let cookie = 0; cookie < 20; cookie++) {
      host.request(READ, { cookie, offset: cookie * MIB, length: MIB });
    }
    expect(host.volume.seen).toHaveLength(1);
    expect(host.memory.usedBytes - used).toBe(PIECE);
    expect(host.session.inFlight).toBe(20);
    host.socket.sendBlocked = false;
    host.turn();
    const answers = host.answers(host.socket.takeSent());
    expect(bytesOf(answers, 0).equals(host.volume.data.subarray(0, 20 * MIB))).toBe(true);
    nothingIsKept(host, used);
  });

  test("many of 64 KiB → as many at once as make a piece", () => {
    const host = hostOf("extended");
    host.socket.sendBlocked = true;
    for (let cookie = 0; cookie < 8; cookie++) host.request(READ, { cookie, length: 64 * KIB });
    expect(host.volume.seen).toHaveLength(4);
    host.socket.sendBlocked = false;
    host.turn();
    expect(host.answers(host.socket.takeSent()).map(({ cookie }) => cookie)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7,
    ]);
  });

  test("not at hand → all are asked for at once, also while replies are on their way", () => {
    const host = hostOf("structured");
    host.volume.held = [];
    for (let cookie = 0; cookie < 4; cookie++) host.request(READ, { cookie, length: MIB });
    // The first began before that was known.
    expect(host.volume.seen.map(({ lengthBytes }) => lengthBytes)).toEqual([PIECE, MIB, MIB, MIB]);
    host.socket.sendBlocked = true;
    completeAll(host);
    host.request(READ, { cookie: 4, length: MIB });
    expect(host.volume.held).toHaveLength(1);
    host.socket.sendBlocked = false;
    host.turn();
    while (host.session.inFlight > 0) completeAll(host);
    const answers = host.answers(host.socket.takeSent());
    for (let cookie = 0; cookie < 5; cookie++) {
      const own = answers.filter((answer) => answer.cookie === cookie);
      expect(bytesOf(own, 0).equals(host.volume.data.subarray(0, MIB))).toBe(true);
    }
  });

  test("a short read does not wait behind them", () => {
    const host = hostOf("structured");
    host.volume.held = [];
    host.request(READ, { cookie: 1, length: MIB });
    host.request(READ, { cookie: 2, length: 4096 });
    host.volume.complete(host.volume.held.pop() as Operation);
    host.turn();
    expect(host.answers(host.socket.takeSent())).toMatchObject([{ cookie: 2, error: 0 }]);
  });

  test("no credit for the next → it waits, and goes on when another host gives some back", () => {
    const memory = new Memory(new ArrayBuffer(64 * MIB));
    const credit = new HostCredit(2 * MIB);
    const [one, two] = ["192.0.2.7", "192.0.2.8"].map((address) =>
      hostOf("structured", { memory, credit, address }),
    ) as [Host, Host];
    for (const host of [one, two]) {
      host.volume.held = [];
      for (let cookie = 0; cookie < 6; cookie++) host.request(READ, { cookie, length: MIB });
    }
    expect(credit.isContended).toBe(true);
    for (let round = 0; round < 40; round++) {
      for (const host of [one, two]) completeAll(host);
      expect(credit.heldBytes).toBeLessThanOrEqual(2 * MIB);
    }
    for (const host of [one, two]) {
      const answers = host.answers(host.socket.takeSent());
      const bytes = stretches(answers).reduce((sum, [, length]) => sum + length, 0);
      expect(bytes).toBe(6 * MIB);
      expect(host.session.inFlight).toBe(0);
    }
    expect([credit.heldBytes, credit.isContended]).toEqual([0, false]);
  });
});

describe("the end", () => {
  for (const how of ["DISC", "drain"] as const) {
    test(`${how} within a long read, others waiting → all are answered, then it ends`, () => {
      const host = hostOf("structured");
      host.socket.sendBlocked = true;
      for (let cookie = 0; cookie < 3; cookie++) {
        host.request(READ, { cookie, offset: cookie * MIB, length: MIB });
      }
      if (how === "DISC") host.exchange(host.bytes(DISC));
      else host.session.drain();
      expect(host.finished).toEqual([]);
      host.socket.sendBlocked = false;
      host.turn();
      const answers = host.answers(host.socket.takeSent());
      expect(bytesOf(answers, 0).equals(host.volume.data.subarray(0, 3 * MIB))).toBe(true);
      expect(host.finished).toHaveLength(1);
      nothingIsKept(host, 0);
    });
  }

  test("drain while it waits for credit → goes on all the same", () => {
    const memory = new Memory(new ArrayBuffer(64 * MIB));
    const credit = new HostCredit(MIB);
    const other = hostOf("structured", { memory, credit, address: "192.0.2.8" });
    const host = hostOf("structured", { memory, credit });
    other.volume.held = [];
    for (let cookie = 0; cookie < 4; cookie++) other.request(READ, { cookie, length: MIB });
    host.volume.held = [];
    for (let cookie = 0; cookie < 4; cookie++) host.request(READ, { cookie, length: MIB });
    expect(credit.isContended).toBe(true);
    host.session.drain();
    for (let round = 0; round < 40; round++) {
      completeAll(other);
      completeAll(host);
    }
    expect(stretches(host.answers(host.socket.takeSent())).at(-1)).toBeDefined();
    expect(host.finished).toEqual(["the unit is going down"]);
    expect(host.session.inFlight).toBe(0);
  });

  test("H7: lost between two pieces → nothing more is read, what waits is let go", () => {
    const host = hostOf("structured");
    host.volume.held = [];
    host.request(READ, { cookie: 1, length: MIB });
    host.socket.sendBlocked = true;
    completeAll(host);
    for (let cookie = 2; cookie < 5; cookie++) host.request(READ, { cookie, length: MIB });
    const [asked = 0, under] = [host.volume.seen.length, host.volume.held.splice(0)];
    host.socket.hangUp();
    host.turn();
    expect(under.every(({ cancelled }) => cancelled)).toBe(true);
    expect(host.finished).toEqual([]);
    for (const operation of under) host.volume.complete(operation);
    host.turn();
    expect(host.volume.seen).toHaveLength(asked);
    expect(host.finished).toEqual(["the peer closed"]);
    nothingIsKept(host, 0);
  });

  test("lost with all of it at hand and waiting → let go at once", () => {
    const host = hostOf("extended");
    host.socket.sendBlocked = true;
    for (let cookie = 0; cookie < 9; cookie++) host.request(READ, { cookie, length: MIB });
    host.socket.hangUp();
    host.turn();
    expect(host.volume.seen).toHaveLength(1);
    expect(host.finished).toEqual(["the peer closed"]);
    nothingIsKept(host, 0);
  });
});
