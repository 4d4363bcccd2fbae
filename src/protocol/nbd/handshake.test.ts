// SPDX-License-Identifier: Apache-2.0
//
// The handshake: what each option answers, what is refused, and what ends the connection.

import { describe, expect, test } from "bun:test";
import { Host, infoData, option, splitOptionReplies, text, u32s } from "./host-fixture.ts";
import { Memory } from "#base/memory.ts";
import { HostCredit } from "./credit.ts";
import { MemorySocket } from "./memory-socket-fixture.ts";
import { HANDSHAKE_MS, Info, OPTIONS_MAX, Option, Reply } from "./nbd.wire.ts";
import type { NbdPeer } from "./handshake.ts";
import { NbdSession } from "./session.ts";

const GREETING = "4e42444d4147494349484156454f50540003";

function host(flags = 3): Host {
  const made = new Host();
  expect(made.socket.takeSent().toString("hex")).toBe(GREETING);
  expect(made.exchange(u32s(flags)).length).toBe(0);
  return made;
}
const ask = (made: Host, number: number, data?: Uint8Array) =>
  splitOptionReplies(made.exchange(option(number, data)));
const types = (replies: { type: number }[]) => replies.map(({ type }) => type);

describe("options", () => {
  test("INFO → block size, description and export; the connection goes on haggling", () => {
    const made = host();
    const replies = ask(made, Option.INFO, infoData("vol", Info.NAME, Info.BLOCK_SIZE));
    expect(types(replies)).toEqual([Reply.INFO, Reply.INFO, Reply.INFO, Reply.INFO, Reply.ACK]);
    expect(replies[0]?.data.toString("latin1")).toBe("\0\x01vol");
    expect(replies[1]?.data.toString("latin1")).toBe("\0\x02a test volume");
    expect(replies[2]?.data.toString("hex")).toBe("0003" + "00000200" + "00001000" + "02000000");
    expect(replies[3]?.data.toString("hex")).toBe("0000" + "0000000000100000" + "0d6d");
    expect(made.entered).toBe(0);
    expect(types(ask(made, Option.ABORT))).toEqual([Reply.ACK]);
    expect(made.finished).toEqual(["the host ended the handshake"]);
  });

  test("GO → transmission; DF is advertised with structured replies only", () => {
    const made = host();
    expect(types(ask(made, Option.STRUCTURED_REPLY))).toEqual([Reply.ACK]);
    const replies = ask(made, Option.GO, infoData("vol"));
    expect(replies.at(-2)?.data.toString("hex")).toBe("0000" + "0000000000100000" + "0ded");
    expect(made.entered).toBe(1);
  });

  test("a read-only export → no trim and no zeroes on offer, READ_ONLY set", () => {
    const made = host();
    made.exported.readOnly = true;
    made.exported.multiConn = false;
    const replies = ask(made, Option.INFO, infoData("vol"));
    expect(replies.at(-2)?.data.toString("hex")).toBe("0000" + "0000000000100000" + "040f");
  });

  test("EXPORT_NAME → size, flags and 124 zeroes, or none if so negotiated", () => {
    const made = host(1);
    const answer = made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(answer.toString("hex")).toBe("0000000000100000" + "0d6d" + "00".repeat(124));
    expect(made.entered).toBe(1);
    const other = host(3);
    expect(other.exchange(option(Option.EXPORT_NAME, Buffer.from("vol"))).length).toBe(10);
  });

  test("EXPORT_NAME of nothing we have → the connection is dropped without a byte", () => {
    const made = host();
    expect(made.exchange(option(Option.EXPORT_NAME, Buffer.from("none"))).length).toBe(0);
    expect(made.finished).toEqual(["no such export"]);
  });

  test("LIST → name and description of each; with data → INVALID", () => {
    const made = host();
    const replies = ask(made, Option.LIST);
    expect(types(replies)).toEqual([Reply.SERVER, Reply.ACK]);
    expect(replies[0]?.data.toString("latin1")).toBe("\0\0\0\x03vola test volume");
    expect(types(ask(made, Option.LIST, Buffer.from("x")))).toEqual([Reply.ERR_INVALID]);
  });

  test("unknown options → UNSUP, their data skipped, however long", () => {
    const made = host();
    for (const number of [4, 12, 99, 0xffffffff]) {
      expect(types(ask(made, number, Buffer.alloc(999)))).toEqual([Reply.ERR_UNSUP]);
      expect(types(ask(made, number, Buffer.alloc(200_000)))).toEqual([Reply.ERR_UNSUP]);
    }
    expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
  });

  test("ABORT with data, however long → ACK, the data ignored", () => {
    for (const length of [0, 10, 200_000]) {
      const made = host();
      expect(types(ask(made, Option.ABORT, Buffer.alloc(length)))).toEqual([Reply.ACK]);
      expect(made.finished).toEqual(["the host ended the handshake"]);
    }
  });

  test("EXTENDED_HEADERS → structured replies are refused then, EXPORT_NAME dropped", () => {
    const made = host();
    expect(types(ask(made, Option.EXTENDED_HEADERS, Buffer.from("x")))).toEqual([
      Reply.ERR_INVALID,
    ]);
    ask(made, Option.STRUCTURED_REPLY);
    expect(types(ask(made, Option.EXTENDED_HEADERS))).toEqual([Reply.ACK]);
    expect(types(ask(made, Option.STRUCTURED_REPLY))).toEqual([Reply.ERR_EXT_HEADER_REQD]);
    expect(types(ask(made, Option.EXTENDED_HEADERS))).toEqual([Reply.ACK]);
    expect(made.exchange(option(Option.EXPORT_NAME, Buffer.from("vol"))).length).toBe(0);
    expect(made.finished).toEqual(["no such export"]);
  });

  test("EXTENDED_HEADERS → status payload on offer where a context was selected", () => {
    const flagsOf = (replies: { data: Buffer }[]) => replies.at(-2)?.data.toString("hex").slice(-4);
    const query = Buffer.concat([text("vol"), u32s(1), text("base:allocation")]);
    const made = host();
    ask(made, Option.EXTENDED_HEADERS);
    expect(flagsOf(ask(made, Option.INFO, infoData("vol")))).toBe("0ded");
    expect(types(ask(made, Option.SET_META_CONTEXT, query))).toEqual([
      Reply.META_CONTEXT,
      Reply.ACK,
    ]);
    expect(flagsOf(ask(made, Option.INFO, infoData("vol")))).toBe("1ded");
    const other = host();
    ask(other, Option.STRUCTURED_REPLY);
    ask(other, Option.SET_META_CONTEXT, query);
    expect(flagsOf(ask(other, Option.INFO, infoData("vol")))).toBe("0ded");
  });

  test("a unit that goes down → SHUTDOWN to every option but ABORT; EXPORT_NAME is dropped", () => {
    const made = host();
    made.session.drain();
    for (const number of [Option.LIST, Option.GO, Option.STARTTLS, 99]) {
      expect(types(ask(made, number))).toEqual([Reply.ERR_SHUTDOWN]);
    }
    expect(types(ask(made, Option.GO, Buffer.alloc(50_000)))).toEqual([Reply.ERR_SHUTDOWN]);
    expect(types(ask(made, Option.ABORT))).toEqual([Reply.ACK]);
    expect(made.finished).toEqual(["the host ended the handshake"]);
    const other = host();
    other.session.drain();
    other.exchange(option(Option.EXPORT_NAME, Buffer.from("vol")));
    expect(other.finished).toEqual(["no such export"]);
    expect(other.memory.usedBytes).toBe(0);
  });

  test("a thousand exports → listed in parts, none of them large in memory", () => {
    const memory = new Memory(new ArrayBuffer(1 << 20));
    const made = new Host({ memory });
    const many = Array.from({ length: 1000 }, (_, index) => ({
      ...made.exported,
      name: `volume-${index}-${"x".repeat(40)}`,
    }));
    made.listed = many;
    made.socket.takeSent();
    made.exchange(u32s(3));
    const before = memory.usedBytes;
    let most = 0;
    const { allocate } = memory;
    memory.allocate = (lengthBytes) => {
      most = Math.max(most, lengthBytes);
      return allocate.call(memory, lengthBytes);
    };
    const replies = ask(made, Option.LIST);
    expect(replies).toHaveLength(1001);
    expect(replies.at(-1)?.type).toBe(Reply.ACK);
    const names = replies.slice(0, -1).map(({ data }) => data.subarray(4, 4 + data.readUInt32BE()));
    expect(names.map(String)).toEqual(many.map(({ name }) => name));
    expect(most).toBeLessThanOrEqual(36 << 10);
    expect(memory.usedBytes).toBe(before);
    expect(types(ask(made, Option.INFO, infoData("vol"))).at(-1)).toBe(Reply.ACK);
  });

  test("an address that is not allowed → sees no export, not even that there is one", () => {
    const memory = new Memory(new ArrayBuffer(1 << 20));
    const socket = new MemorySocket(memory, "198.51.100.1");
    const allowed = new Host();
    const options = {
      credit: new HostCredit(1),
      exports: { find, list },
      tls: "none" as const,
      defer: () => {},
    };
    const effects = {
      entered: () => expect.unreachable(),
      secure: () => expect.unreachable(),
      finished: () => {},
    };
    function find(name: string, from: NbdPeer) {
      return from.address === "192.0.2.7" && name === "vol" ? allowed.exported : null;
    }
    function list(from: NbdPeer) {
      return from.address === "192.0.2.7" ? [allowed.exported] : [];
    }
    new NbdSession(memory, options, effects, socket);
    socket.arrive(Buffer.concat([u32s(3), option(Option.LIST)]));
    socket.arrive(option(Option.GO, infoData("vol")));
    socket.turn();
    const replies = splitOptionReplies(socket.takeSent().subarray(18));
    expect(types(replies)).toEqual([Reply.ACK, Reply.ERR_UNKNOWN]);
  });

  test("meta contexts → listed by wildcard, set by name, not without structured replies", () => {
    const made = host();
    const query = (...names: string[]) =>
      Buffer.concat([text("vol"), u32s(names.length), ...names.map(text)]);
    const set = Option.SET_META_CONTEXT;
    const list = Option.LIST_META_CONTEXT;
    expect(types(ask(made, set, query("base:allocation")))).toEqual([Reply.ERR_INVALID]);
    ask(made, Option.STRUCTURED_REPLY);
    const both = [Reply.META_CONTEXT, Reply.ACK];
    expect(types(ask(made, list, query()))).toEqual(both);
    expect(types(ask(made, list, query("base:")))).toEqual(both);
    expect(types(ask(made, list, query("x-other:a", "base:no")))).toEqual([Reply.ACK]);
    expect(types(ask(made, set, query()))).toEqual([Reply.ACK]);
    expect(types(ask(made, set, query("base:")))).toEqual([Reply.ACK]);
    const [context] = ask(made, set, query("x-other:a", "base:allocation"));
    expect(context?.data.toString("latin1")).toBe("\0\0\0\x01base:allocation");
    const elsewhere = Buffer.concat([text("none"), u32s(0)]);
    expect(types(ask(made, set, elsewhere))).toEqual([Reply.ERR_UNKNOWN]);
  });
});

describe("hostile", () => {
  const malformed: [string, number, Buffer][] = [
    ["name longer than the data", Option.GO, Buffer.concat([u32s(99), Buffer.from("vol\0\0")])],
    ["no room for the count", Option.GO, text("vol")],
    ["fewer requests than counted", Option.INFO, Buffer.concat([text("vol"), Buffer.from([0, 9])])],
    ["bytes behind the requests", Option.GO, Buffer.concat([infoData("vol"), Buffer.from([0])])],
    ["queries counted, none there", Option.SET_META_CONTEXT, Buffer.concat([text("vol"), u32s(7)])],
    [
      "four thousand million queries",
      Option.LIST_META_CONTEXT,
      Buffer.concat([text("vol"), u32s(0xffffffff, 0)]),
    ],
    ["a name of 4097 bytes", Option.GO, infoData("v".repeat(4097))],
    ["nothing", Option.GO, Buffer.alloc(0)],
  ];
  for (const [name, number, data] of malformed) {
    test(`option with ${name} → INVALID, and it goes on`, () => {
      const made = host();
      ask(made, Option.STRUCTURED_REPLY);
      expect(types(ask(made, number, data))).toEqual([Reply.ERR_INVALID]);
      expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
    });
  }

  test("option data of 100 KiB → skipped without memory for it, TOO_BIG", () => {
    const made = host();
    const used = made.memory.usedBytes;
    expect(types(ask(made, Option.GO, Buffer.alloc(100 << 10)))).toEqual([Reply.ERR_TOO_BIG]);
    expect(types(ask(made, Option.LIST))).toEqual([Reply.SERVER, Reply.ACK]);
    expect(made.memory.usedBytes).toBe(used);
  });

  test("option data of 4 GiB announced → dropped", () => {
    const made = host();
    made.exchange(Buffer.concat([Buffer.from("IHAVEOPT"), u32s(3, 0xffffffff)]));
    expect(made.finished).toEqual(["option data longer than 1 MiB"]);
  });

  test("unknown client flags, wrong magic, HTTP → dropped", () => {
    const flags = new Host();
    flags.exchange(u32s(4));
    expect(flags.finished).toEqual(["unknown client flags"]);
    const magic = host();
    magic.exchange(Buffer.from("IHAVEOPTIHAVEOPU00000000"));
    expect(magic.finished).toEqual(["option data longer than 1 MiB"]);
    const other = host();
    other.exchange(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    expect(other.finished).toEqual(["not an NBD option"]);
  });

  test("options without end → dropped at the limit", () => {
    const made = host();
    for (let count = 0; count < OPTIONS_MAX; count++) ask(made, Option.LIST);
    expect(made.finished).toEqual([]);
    ask(made, Option.LIST);
    expect(made.finished).toEqual(["too many options"]);
  });

  test("R13: replies not read → no further option is looked at", () => {
    const made = host();
    made.socket.sendBlocked = true;
    for (let count = 0; count < 50; count++) made.exchange(option(Option.LIST));
    expect(made.socket.queuedBytes).toBeLessThan(200);
    made.socket.sendBlocked = false;
    made.socket.turn();
    expect(splitOptionReplies(made.socket.takeSent())).toHaveLength(100);
  });

  test("no export chosen in time → dropped, everything given back", () => {
    const made = host();
    made.session.tick(1000);
    made.session.tick(999 + HANDSHAKE_MS);
    made.socket.turn();
    expect(made.finished).toEqual([]);
    made.session.tick(1000 + HANDSHAKE_MS);
    made.socket.turn();
    expect(made.finished).toEqual(["no export chosen in time"]);
    expect(made.memory.usedBytes).toBe(0);
  });

  test("no memory for a reply → this connection is dropped, nothing else", () => {
    const memory = new Memory(new ArrayBuffer((64 << 10) + 4096));
    const made = new Host({ memory });
    made.socket.takeSent();
    made.exchange(u32s(3));
    const taken = memory.allocate(4096);
    made.exchange(option(Option.LIST));
    expect(made.finished).toEqual(["no memory for the handshake"]);
    memory.release(taken);
    expect(memory.usedBytes).toBe(0);
  });
});
