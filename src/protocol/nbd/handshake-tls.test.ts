// SPDX-License-Identifier: Apache-2.0
//
// TLS in the handshake: what each of the three modes answers before and after STARTTLS, which
// exports it lets in, and what ends the connection (doc/proto.md, "TLS support").

import { describe, expect, test } from "bun:test";
import type { TlsRule } from "#base/tls.ts";
import type { TlsMode } from "./handshake.ts";
import { Host, infoData, option, splitOptionReplies, text, u32s } from "./host-fixture.ts";
import { HANDSHAKE_MS, Option, Reply } from "./nbd.wire.ts";

function host(tls: TlsMode, rule: TlsRule = "optional", flags = 3): Host {
  const made = new Host({ tls });
  made.exported.tls = rule;
  made.socket.takeSent();
  made.exchange(u32s(flags));
  return made;
}
const ask = (made: Host, number: number, data?: Uint8Array) =>
  splitOptionReplies(made.exchange(option(number, data)));
const types = (replies: { type: number }[]) => replies.map(({ type }) => type);

/** STARTTLS; the host's socket is the plain side from then on. */
function secure(made: Host): Host {
  const before = made.socket;
  before.arrive(option(Option.STARTTLS));
  before.turn();
  expect(types(splitOptionReplies(before.takeSent()))).toEqual([Reply.ACK]);
  expect(before.closedWith).toBe("given away");
  expect(made.socket).not.toBe(before);
  return made;
}

const query = Buffer.concat([text("vol"), u32s(1), text("base:allocation")]);

describe("NOTLS", () => {
  test("STARTTLS → POLICY, and it goes on; nothing ever answers TLS_REQD", () => {
    const made = host("none", "required");
    expect(types(ask(made, Option.STARTTLS))).toEqual([Reply.ERR_POLICY]);
    expect(types(ask(made, Option.GO, infoData("vol")))).toEqual([Reply.ERR_POLICY]);
    expect(types(ask(made, Option.INFO, infoData("vol")))).toEqual([Reply.ERR_POLICY]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.ACK]);
    ask(made, Option.STRUCTURED_REPLY);
    expect(types(ask(made, Option.SET_META_CONTEXT, query))).toEqual([Reply.ERR_UNKNOWN]);
    made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(made.finished).toEqual(["no such export"]);
  });
});

describe("SELECTIVETLS", () => {
  test("an export that may be had either way → entered without, and with", () => {
    const plain = host("selective");
    expect(types(ask(plain, Option.GO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
    const made = secure(host("selective"));
    expect(types(ask(made, Option.GO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
    expect([plain.entered, made.entered]).toEqual([1, 1]);
    expect(made.request(0, { length: 512 })[0]?.error).toBe(0);
  });

  test("one that asks for TLS → TLS_REQD to INFO and GO, hidden otherwise; entered with it", () => {
    const made = host("selective", "required");
    expect(types(ask(made, Option.INFO, infoData("vol")))).toEqual([Reply.ERR_TLS_REQD]);
    expect(types(ask(made, Option.GO, infoData("vol")))).toEqual([Reply.ERR_TLS_REQD]);
    expect(types(ask(made, Option.GO, infoData("none")))).toEqual([Reply.ERR_UNKNOWN]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.ACK]);
    ask(made, Option.STRUCTURED_REPLY);
    for (const number of [Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT]) {
      expect(types(ask(made, number, query))).toEqual([Reply.ERR_UNKNOWN]);
    }
    secure(made);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
    expect(types(ask(made, Option.GO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
  });

  test("one that is not for TLS → POLICY with it, and not listed", () => {
    const made = secure(host("selective", "off"));
    expect(types(ask(made, Option.GO, infoData("vol")))).toEqual([Reply.ERR_POLICY]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.ACK]);
    made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(made.finished).toEqual(["no such export"]);
  });

  test("EXPORT_NAME of one that asks for TLS → dropped without; entered with", () => {
    const plain = host("selective", "required");
    expect(plain.exchange(option(Option.EXPORT_NAME, Buffer.from("vol"))).length).toBe(0);
    expect(plain.finished).toEqual(["no such export"]);
    const made = secure(host("selective", "required"));
    expect(made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol"))).length).toBe(10);
    expect(made.entered).toBe(1);
  });

  test("what was negotiated before STARTTLS → forgotten", () => {
    const made = host("selective");
    ask(made, Option.EXTENDED_HEADERS);
    ask(made, Option.SET_META_CONTEXT, query);
    secure(made);
    // Not in the way any more, and not there either.
    expect(types(ask(made, Option.SET_META_CONTEXT, query))).toEqual([Reply.ERR_INVALID]);
    expect(types(ask(made, Option.STRUCTURED_REPLY))).toEqual([Reply.ACK]);
    expect(types(ask(made, Option.GO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
    made.headers = "structured";
    const [answer] = made.request(7, { length: 4096 });
    expect(answer?.error).toBe(22);
  });
});

describe("FORCEDTLS", () => {
  test("every option but STARTTLS and ABORT → TLS_REQD, known or not; with TLS all work", () => {
    const made = host("forced");
    for (const number of [
      Option.LIST,
      Option.INFO,
      Option.GO,
      Option.STRUCTURED_REPLY,
      9,
      11,
      99,
    ]) {
      expect([number, types(ask(made, number))]).toEqual([number, [Reply.ERR_TLS_REQD]]);
    }
    expect(types(ask(made, Option.GO, Buffer.alloc(100_000)))).toEqual([Reply.ERR_TLS_REQD]);
    secure(made);
    expect(types(ask(made, 99))).toEqual([Reply.ERR_UNSUP]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
    expect(types(ask(made, Option.GO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
  });

  test("ABORT → ACK; EXPORT_NAME → dropped", () => {
    const made = host("forced");
    expect(types(ask(made, Option.ABORT))).toEqual([Reply.ACK]);
    const other = host("forced");
    other.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(other.finished).toEqual(["no such export"]);
  });

  test("a client without fixed newstyle → no TLS for it, and TLS_REQD to nothing", () => {
    const made = host("forced", "optional", 2);
    expect(types(ask(made, Option.STARTTLS))).toEqual([Reply.ERR_POLICY]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.ERR_POLICY]);
    made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(made.entered).toBe(0);
  });
});

describe("STARTTLS", () => {
  test("with data → INVALID, also with much of it; a second time → INVALID", () => {
    const made = host("selective");
    for (const length of [1, 100_000]) {
      expect(types(ask(made, Option.STARTTLS, Buffer.alloc(length)))).toEqual([Reply.ERR_INVALID]);
    }
    secure(made);
    expect(types(ask(made, Option.STARTTLS))).toEqual([Reply.ERR_INVALID]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
  });

  test("bytes in the clear right behind it → dropped, none of them is taken for TLS's", () => {
    for (const behind of [option(Option.LIST), Buffer.from("x")]) {
      const made = host("selective");
      made.socket.arrive(Buffer.concat([option(Option.STARTTLS), behind]));
      made.turn();
      expect(made.finished).toEqual(["bytes in the clear behind STARTTLS"]);
      expect(made.memory.usedBytes).toBe(0);
    }
  });

  test("no TLS to be had → the connection ends, everything given back", () => {
    const made = host("selective");
    made.withoutTls = true;
    made.exchange(option(Option.STARTTLS));
    expect(made.finished).toEqual(["no TLS"]);
    expect(made.memory.usedBytes).toBe(0);
    expect(made.credit.hostCount).toBe(0);
  });

  test("TLS that never comes about → dropped when the handshake's time is over", () => {
    const made = host("selective");
    made.session.tick(0);
    secure(made);
    made.session.tick(HANDSHAKE_MS);
    made.socket.turn();
    expect(made.finished).toEqual(["no export chosen in time"]);
    expect(made.memory.usedBytes).toBe(0);
  });

  test("closed while it is being secured → ends as soon as it is back", () => {
    const made = host("selective");
    const { socket } = made;
    socket.sendBlocked = true;
    made.exchange(option(Option.STARTTLS));
    socket.sendBlocked = false;
    made.session.close("no longer allowed");
    made.turn();
    made.socket.turn();
    expect(made.finished).toEqual(["no longer allowed"]);
    expect(made.memory.usedBytes).toBe(0);
  });

  test("cut at every point → the same", () => {
    const bytes = Buffer.concat([u32s(3), option(Option.STARTTLS)]);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const made = new Host({ tls: "forced" });
      const { socket } = made;
      socket.takeSent();
      socket.arrive(bytes.subarray(0, cut));
      socket.turn();
      socket.arrive(bytes.subarray(cut));
      socket.turn();
      expect(socket.closedWith).toBe("given away");
      expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
    }
  });
});
