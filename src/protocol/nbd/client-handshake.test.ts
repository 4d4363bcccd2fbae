// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the negotiation against our own server's, byte for byte, and against servers
// that say what they may not.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ClientHandshake, type HandshakeStep } from "./client-handshake.ts";
import { Host, VOLUME_BYTES, u32s } from "./host-fixture.ts";
import { Info, Option, Reply, TransmissionFlag } from "./nbd.wire.ts";

/** Talks until something other than `more` comes; `piece`: bytes that arrive at a time. */
function talk(made: Host, client: ClientHandshake, piece = Number.MAX_SAFE_INTEGER): HandshakeStep {
  let sent: Uint8Array = made.socket.takeSent();
  for (let round = 0; round < 20; round++) {
    for (let at = 0; at < sent.length; at += piece) {
      const step = client.receive(sent.subarray(at, Math.min(sent.length, at + piece)));
      if (step.kind === "secure") {
        client.secured();
      } else if (step.kind !== "more") return step;
    }
    const before = made.socket;
    const wanted = Buffer.concat(client.take());
    before.arrive(wanted);
    before.turn();
    sent = before.takeSent();
    if (sent.length === 0) sent = made.socket.takeSent();
  }
  throw new Error("they never come to an end");
}

describe("against our own server", () => {
  test("GO → size, flags, smallest block; in transmission at both ends", () => {
    for (const piece of [1, 2, 7, 64, 4096]) {
      const made = new Host({});
      const step = talk(made, new ClientHandshake("vol", { tls: false }), piece);
      if (step.kind !== "chosen") throw new Error(JSON.stringify(step));
      expect(step.chosen.sizeBytes).toBe(VOLUME_BYTES);
      expect(step.chosen.flags & TransmissionFlag.SEND_FLUSH).not.toBe(0);
      expect(step.chosen.blockBytesMin).toBe(512);
      expect(made.entered).toBe(1);
      expect(made.request(0, { length: 512 })[0]?.error).toBe(0);
    }
  });

  test("over TLS → STARTTLS first, the rest over the new connection", () => {
    const made = new Host({ tls: "selective" });
    made.exported.tls = "required";
    expect(talk(made, new ClientHandshake("vol", { tls: true })).kind).toBe("chosen");
    expect(made.entered).toBe(1);
  });

  test("no such volume, TLS asked for, none to be had → refused with the reason", () => {
    const unknown = talk(new Host({}), new ClientHandshake("other", { tls: false }));
    expect(unknown).toMatchObject({ kind: "refused", reason: "unknown" });
    const asks = new Host({ tls: "selective" });
    asks.exported.tls = "required";
    const refused = talk(asks, new ClientHandshake("vol", { tls: false }));
    expect(refused).toMatchObject({ kind: "refused", reason: "tls" });
    const none = talk(new Host({}), new ClientHandshake("vol", { tls: true }));
    expect(none).toMatchObject({ kind: "refused", reason: "other" });
  });
});

const greeting = (flags = 3) =>
  Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), Buffer.from([0, flags])]);
const reply = (option: number, type: number, data: Uint8Array = new Uint8Array(0)) =>
  Buffer.concat([u32s(0x0003e889, 0x045565a9, option, type, data.length), data]);
const exported = (sizeHigh: number) =>
  Buffer.concat([Buffer.from([0, Info.EXPORT]), u32s(sizeHigh, 4096), Buffer.from([0, 1])]);

/** What becomes of a server that says this, after its greeting, in one piece. */
function against(told: Uint8Array[], options = { tls: false }): HandshakeStep {
  const client = new ClientHandshake("vol", options);
  const first = client.receive(greeting());
  return first.kind === "more" ? client.receive(Buffer.concat(told)) : first;
}

describe("against servers that are wrong", () => {
  test.each([
    ["a length past the maximum", [u32s(0x3e889, 0x45565a9, Option.GO, Reply.INFO, 1 << 20)]],
    ["another option's answer", [reply(Option.LIST, Reply.ACK)]],
    ["a wrong magic number", [u32s(1, 2, 3, 4, 0)]],
    ["ACK without a size", [reply(Option.GO, Reply.ACK)]],
    ["a size past 2^53", [reply(Option.GO, Reply.INFO, exported(0x40000000))]],
    ["half a description", [reply(Option.GO, Reply.INFO, new Uint8Array(1))]],
    ["a server's answer to LIST", [reply(Option.GO, Reply.SERVER)]],
    [
      "bytes behind the end",
      [reply(Option.GO, Reply.INFO, exported(0)), reply(Option.GO, Reply.ACK), Buffer.from([1])],
    ],
    [
      "information without an end",
      Array<Buffer>(65).fill(reply(Option.GO, Reply.INFO, exported(0))),
    ],
  ])("%s → refused", (_, told) => {
    expect(against(told)).toMatchObject({ kind: "refused", reason: "other" });
  });

  test("a byte in the clear behind the word for TLS → refused", () => {
    const told = [reply(Option.STARTTLS, Reply.ACK), Buffer.from([0])];
    expect(against(told, { tls: true })).toMatchObject({ kind: "refused" });
  });

  test("another protocol, an old server → refused", () => {
    for (const first of [Buffer.from("SSH-2.0-OpenSSH_9.2p1"), greeting(0)]) {
      const client = new ClientHandshake("vol", { tls: false });
      expect(client.receive(first)).toMatchObject({ kind: "refused" });
    }
  });

  test("any bytes at all → an answer, never more held than one reply", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (pieces) => {
        const client = new ClientHandshake("vol", { tls: false });
        client.receive(greeting());
        for (const piece of pieces) {
          if (client.receive(piece).kind !== "more") return;
        }
      }),
    );
  });
});
