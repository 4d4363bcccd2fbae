// SPDX-License-Identifier: Apache-2.0
//
// Whole connections: recorded dialogues, every split point, a model, and garbage.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Memory } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { HostCredit } from "./credit.ts";
import { errorTexts, ERROR_TEXT_BYTES_MAX, nbdErrorOf } from "./errors.ts";
import {
  Host,
  VOLUME_BYTES,
  extendedRequestBytes,
  infoData,
  option,
  requestBytes,
  text,
  u32s,
} from "./host-fixture.ts";
import { MemoryVolume } from "./memory-volume-fixture.ts";
import { Command, NbdError, Option } from "./nbd.wire.ts";
import { ERROR_REPLY_BYTES_MAX, SLOT_BYTES } from "./replies.ts";

type Piece = { from: "N" | "C" | "S"; bytes: Buffer };

/** The connections of a recorded dialogue, each a list of pieces. */
function dialogues(name: string): Piece[][] {
  const url = new URL(`../../../test/vectors/nbd/${name}`, import.meta.url);
  const connections: Piece[][] = [];
  for (const line of readFileSync(url, "utf8").split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [from, hex = ""] = line.split(" ");
    if (from === "N") connections.push([]);
    else connections.at(-1)?.push({ from: from as "C" | "S", bytes: Buffer.from(hex, "hex") });
  }
  return connections;
}

describe("recorded dialogues", () => {
  for (const [name, count] of [
    ["nbdinfo.txt", 3],
    ["qemu-io.txt", 1],
    ["qemu-io-extended.txt", 1],
  ] as const) {
    test(`${name} → every answer as recorded`, () => {
      const connections = dialogues(name);
      expect(connections).toHaveLength(count);
      for (const pieces of connections) {
        const host = new Host();
        let answer = host.socket.takeSent();
        for (const { from, bytes } of pieces) {
          if (from === "C") answer = host.exchange(bytes);
          else expect(answer.toString("hex")).toBe(bytes.toString("hex"));
        }
        expect(host.finished).toHaveLength(1);
        expect(host.memory.usedBytes).toBe(0);
      }
    });

    test(`${name}, cut at every point → the same answers`, () => {
      const memory = new Memory(new ArrayBuffer(1 << 20));
      for (const pieces of dialogues(name)) {
        const sent = Buffer.concat(pieces.filter(({ from }) => from === "C").map((p) => p.bytes));
        const wanted = Buffer.concat(pieces.filter(({ from }) => from === "S").map((p) => p.bytes));
        for (let cut = 0; cut <= sent.length; cut++) {
          const host = new Host({ memory });
          const answer = Buffer.concat([
            host.socket.takeSent(),
            host.exchange(sent.subarray(0, cut)),
            host.exchange(sent.subarray(cut)),
          ]);
          if (!answer.equals(wanted)) throw new Error(`cut at ${cut}: another answer`);
          if (memory.usedBytes > 0) throw new Error(`cut at ${cut}: memory kept`);
        }
      }
    });
  }
});

describe("model", () => {
  interface Sent {
    type: number;
    cookie: number;
    offset: number;
    length: number;
    payload: Buffer | null;
  }

  function randomRequest(prng: Prng, cookie: number): Sent {
    const type = prng.pick([Command.READ, Command.READ, Command.WRITE, Command.TRIM, 6, 3]);
    if (type === Command.FLUSH) return { type, cookie, offset: 0, length: 0, payload: null };
    const length = 512 * prng.between(1, prng.chance(0.2) ? 300 : 16);
    const offset = 512 * prng.below((VOLUME_BYTES - length) / 512 + 1);
    const payload = type === Command.WRITE ? Buffer.alloc(length, prng.between(1, 255)) : null;
    return { type, cookie, offset, length, payload };
  }

  /** What a request does to the shadow, or reads from it, at the moment its operation ends. */
  function apply(shadow: Buffer, { type, offset, length, payload }: Sent): Buffer {
    if (type === Command.READ) return Buffer.from(shadow.subarray(offset, offset + length));
    if (payload !== null) payload.copy(shadow, offset);
    else shadow.fill(0, offset, offset + length);
    return Buffer.alloc(0);
  }

  for (const structured of [false, true]) {
    test(`random requests, cuts and order of ends, chunks ${structured} → no byte wrong`, () => {
      const prng = new Prng(structured ? 11 : 12);
      const host = new Host({ arenaBytes: 16 << 20 }).negotiate(
        structured ? "structured" : "simple",
      );
      const shadow = Buffer.alloc(VOLUME_BYTES);
      host.volume.held = [];
      const submitted: Sent[] = [];
      const requestOf = new Map<Operation, Sent>();
      const wanted = new Map<number, Buffer>();
      let answered = 0;
      const check = () => {
        for (const { cookie, error, data } of host.answers(host.socket.takeSent())) {
          const want = wanted.get(cookie);
          wanted.delete(cookie);
          const prefix = structured && data.length > 0 ? 8 : 0;
          if (error !== 0 || want === undefined || !data.subarray(prefix).equals(want)) {
            throw new Error(`request ${cookie}: error ${error}, or wrong bytes`);
          }
          answered++;
        }
      };
      let pending = Buffer.alloc(0);
      const rounds = 3000;
      for (let cookie = 1; cookie <= rounds || host.session.inFlight > 0; cookie++) {
        if (cookie <= rounds) {
          const sent = randomRequest(prng, cookie);
          submitted.push(sent);
          const bytes = host.bytes(sent.type, {
            cookie,
            offset: sent.offset,
            length: sent.length,
            ...(sent.payload === null ? {} : { payload: sent.payload }),
          });
          pending = Buffer.concat([pending, bytes]);
        }
        const cut = cookie > rounds ? pending.length : prng.below(pending.length + 1);
        host.socket.arrive(pending.subarray(0, cut));
        pending = pending.subarray(cut);
        host.socket.sendBlocked = cookie <= rounds && prng.chance(0.3);
        host.socket.turn();
        // Requests are submitted in the order they came.
        const held: Operation[] = host.volume.held ?? [];
        for (const operation of held.slice(requestOf.size)) {
          const sent = submitted.shift() as Sent;
          expect(sameRequest(sent, operation)).toBe(true);
          requestOf.set(operation, sent);
        }
        while (held.length > 0 && (cookie > rounds || prng.chance(0.6))) {
          const [operation] = held.splice(prng.below(held.length), 1) as [Operation];
          const sent = requestOf.get(operation) as Sent;
          requestOf.delete(operation);
          wanted.set(sent.cookie, apply(shadow, sent));
          host.volume.complete(operation);
        }
        check();
        host.socket.turn();
        check();
      }
      expect(answered).toBe(rounds);
      expect(Buffer.from(host.volume.data).equals(shadow)).toBe(true);
      expect(host.credit.heldBytes).toBe(0);
    });
  }

  function sameRequest(sent: Sent, operation: Operation): boolean {
    const kinds = [1, 2, 0, 3, 4, 0, 5];
    return (
      kinds[sent.type] === operation.kind &&
      sent.offset === operation.offsetBytes &&
      sent.length === operation.lengthBytes
    );
  }
});

test("200,000 mutated messages → no crash, nothing kept after the connections end", () => {
  const prng = new Prng(99);
  const memory = new Memory(new ArrayBuffer(2 << 20));
  const credit = new HostCredit(1 << 20);
  const volume = new MemoryVolume(memory, VOLUME_BYTES);
  const options = [
    option(Option.GO, infoData("vol", 1, 3)),
    option(Option.INFO, infoData("vol", 0, 1, 2, 3)),
    option(Option.LIST),
    option(Option.STRUCTURED_REPLY),
    option(Option.EXTENDED_HEADERS),
    option(Option.STARTTLS),
    option(10, Buffer.concat([text("vol"), u32s(1), text("base:allocation")])),
    option(9, Buffer.concat([text("vol"), u32s(0)])),
    option(Option.EXPORT_NAME, Buffer.from("vol")),
  ];
  const requestsOf = (make: typeof requestBytes) => [
    make(Command.READ, { offset: 4096, length: 8192 }),
    make(Command.WRITE, { offset: 512, payload: Buffer.alloc(1024, 3) }),
    make(Command.WRITE_ZEROES, { offset: 0, length: 4096, flags: 2 }),
    make(Command.TRIM, { offset: 65536, length: 65536, flags: 1 }),
    make(Command.CACHE, { offset: 0, length: 65536 }),
    make(Command.BLOCK_STATUS, { length: VOLUME_BYTES }),
    make(Command.FLUSH),
  ];
  const compact = requestsOf(requestBytes);
  const statusPayload = Buffer.concat([u32s(0, 65536), u32s(1)]);
  const extended = [
    ...requestsOf(extendedRequestBytes),
    extendedRequestBytes(Command.BLOCK_STATUS, { payload: statusPayload }),
    extendedRequestBytes(Command.TRIM, { payload: Buffer.alloc(40) }),
  ];
  const ends = new Map<string, number>();
  let messages = 0;
  while (messages < 200_000) {
    const host = new Host({ memory, credit, volume, tls: prng.pick(["none", "selective"]) });
    if (prng.chance(0.7)) host.negotiate(prng.pick(["simple", "structured", "extended"]));
    else host.exchange(u32s(3));
    for (let left = 25; left > 0 && host.finished.length === 0; left--, messages++) {
      const requests = host.headers === "extended" ? extended : compact;
      const message = Buffer.from(prng.pick(host.entered > 0 ? requests : options));
      // Rarely in the magic, or few would come further than that.
      for (let changes = prng.below(4); changes > 0; changes--) {
        const at = prng.chance(0.05) ? prng.below(8) : prng.below(message.length);
        message[at] = prng.chance(0.5) ? prng.below(4) : prng.below(256);
      }
      const cut = prng.chance(0.3) ? prng.below(message.length + 1) : message.length;
      host.socket.arrive(message.subarray(0, cut));
      host.turn();
      if (prng.chance(0.9)) host.socket.arrive(message.subarray(cut));
      host.turn();
      host.socket.sent = [];
    }
    host.socket.hangUp();
    host.turn();
    expect(host.finished).toHaveLength(1);
    const reason = host.finished[0] as string;
    ends.set(reason, (ends.get(reason) ?? 0) + 1);
    if (memory.usedBytes + credit.heldBytes > 0) throw new Error(`kept after "${reason}"`);
  }
  expect(volume.seen.length).toBeGreaterThan(20_000);
  expect(ends.size).toBeGreaterThanOrEqual(6);
}, 60_000);

test("every status has its NBD error, every error a text that fits its slot", () => {
  const { READ, WRITE } = Command;
  const of = (status: Status) => [nbdErrorOf(status, READ), nbdErrorOf(status, WRITE)];
  const { EIO, ENOSPC, EINVAL, EPERM, ENOMEM, ESHUTDOWN } = NbdError;
  expect(of(Status.ok)).toEqual([0, 0]);
  expect(of(Status.mediumError)).toEqual([EIO, EIO]);
  expect(of(Status.noSpace)).toEqual([ENOSPC, ENOSPC]);
  expect(of(Status.outOfRange)).toEqual([EINVAL, ENOSPC]);
  expect(of(Status.readOnly)).toEqual([EPERM, EPERM]);
  expect(of(Status.busy)).toEqual([ENOMEM, ENOMEM]);
  expect(of(Status.shuttingDown)).toEqual([ESHUTDOWN, ESHUTDOWN]);
  // H7: "don't know" is an error, never success.
  expect(of(Status.unknownOutcome)).toEqual([EIO, EIO]);
  for (const status of Object.values(Status)) {
    expect(nbdErrorOf(status, READ) === 0).toBe(status === Status.ok);
  }
  for (const error of Object.values(NbdError)) {
    expect(errorTexts.get(error)?.length).toBeLessThanOrEqual(ERROR_TEXT_BYTES_MAX);
  }
  expect(ERROR_REPLY_BYTES_MAX).toBeLessThanOrEqual(SLOT_BYTES);
});
