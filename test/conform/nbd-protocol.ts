// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite's second half: what the NBD protocol (doc/proto.md) asks of a server beyond
// what well-behaved clients try. Sections are that document's.

import { expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import type { RequestOptions } from "#protocol/nbd/host-fixture.ts";
import { infoData, option, requestBytes, text, u32s } from "#protocol/nbd/host-fixture.ts";
import {
  Command,
  CommandFlag,
  NbdError,
  Option,
  Reply,
  TransmissionFlag,
} from "#protocol/nbd/nbd.wire.ts";
import { RawClient } from "./raw-client.ts";
import type { Facts } from "./servers.ts";

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = Command;
const MIB = 1 << 20;

export function handshakeChecks(facts: () => Facts): void {
  test("Newstyle negotiation: greeting → magics, FIXED_NEWSTYLE and NO_ZEROES", async () => {
    using client = await RawClient.open(facts());
    expect((await client.take(18)).toString("hex")).toBe("4e42444d4147494349484156454f50540003");
  });

  test("Client flags: an unknown one → dropped", async () => {
    using client = await RawClient.haggling(facts(), 0x80);
    await client.ended();
  });

  test("EXPORT_NAME → size and flags, 124 zeroes unless negotiated away", async () => {
    for (const [flags, length] of [
      [1, 134],
      [3, 10],
    ] as const) {
      using client = await RawClient.haggling(facts(), flags);
      client.send(option(Option.EXPORT_NAME, Buffer.from(facts().name)));
      const answer = await client.take(length);
      expect(Number(answer.readBigUInt64BE(0))).toBe(facts().sizeBytes);
      expect(answer.readUInt16BE(8) & TransmissionFlag.HAS_FLAGS).toBe(1);
      expect(answer.readUInt16BE(8) & TransmissionFlag.SEND_DF).toBe(0);
      expect(answer.subarray(10).every((byte) => byte === 0)).toBe(true);
      expect((await client.request(READ, { length: 512 })).error).toBe(0);
    }
  });

  test("Option types: EXPORT_NAME of nothing → dropped", async () => {
    using client = await RawClient.haggling(facts());
    client.send(option(Option.EXPORT_NAME, Buffer.from("no-such-volume")));
    await client.ended();
  });
}

export function optionChecks(facts: () => Facts): void {
  test("Option types: unknown ones → ERR_UNSUP, and it goes on; ABORT → ACK", async () => {
    using client = await RawClient.haggling(facts());
    for (const number of [99, 4, 0x7fffffff]) {
      expect(await client.ask(number, Buffer.alloc(100))).toMatchObject([
        { type: Reply.ERR_UNSUP },
      ]);
    }
    const [unknown] = await client.ask(Option.GO, infoData("no-such-volume"));
    expect(unknown?.type).toBe(Reply.ERR_UNKNOWN);
    const infos = await client.ask(Option.INFO, infoData(facts().name));
    expect(infos.at(-1)?.type).toBe(Reply.ACK);
    expect(await client.ask(Option.ABORT)).toMatchObject([{ type: Reply.ACK }]);
  });

  test("Option types: data where none belongs, lengths that lie → ERR_INVALID", async () => {
    using client = await RawClient.haggling(facts());
    const lies: [number, Buffer][] = [
      [Option.LIST, Buffer.from("x")],
      [Option.STRUCTURED_REPLY, Buffer.from("x")],
      [Option.GO, Buffer.concat([u32s(4000), Buffer.from("vol\0\0")])],
      [Option.INFO, text(facts().name)],
    ];
    for (const [number, data] of lies) {
      expect([number, await client.ask(number, data)]).toMatchObject([
        number,
        [{ type: Reply.ERR_INVALID }],
      ]);
    }
  });

  test("NOTLS mode: STARTTLS → an error, and it goes on", async () => {
    using client = await RawClient.haggling(facts());
    const [answer] = await client.ask(Option.STARTTLS);
    expect(answer?.type).toBeGreaterThan(0x80000000);
    expect((await client.ask(Option.LIST)).at(-1)?.type).toBe(Reply.ACK);
  });

  test("Metadata querying: without chunks → ERR_INVALID; unknown ones → none", async () => {
    using client = await RawClient.haggling(facts());
    const query = (...names: string[]) =>
      Buffer.concat([text(facts().name), u32s(names.length), ...names.map(text)]);
    const set = Option.SET_META_CONTEXT;
    expect((await client.ask(set, query("base:allocation")))[0]?.type).toBe(Reply.ERR_INVALID);
    await client.ask(Option.STRUCTURED_REPLY);
    expect(await client.ask(set, query("x-cairn:none"))).toMatchObject([{ type: Reply.ACK }]);
    const listed = await client.ask(Option.LIST_META_CONTEXT, query("base:"));
    expect(listed[0]?.data.subarray(4).toString()).toBe("base:allocation");
  });
}

export function errorChecks(facts: () => Facts): void {
  const { EINVAL, ENOSPC } = NbdError;
  const payload = Buffer.alloc(512);
  const end = () => facts().sizeBytes;
  const cases: [string, number, () => RequestOptions, number][] = [
    ["read past the end", READ, () => ({ offset: end() - 512, length: 1024 }), EINVAL],
    ["write past the end", WRITE, () => ({ offset: end(), payload }), ENOSPC],
    ["trim past the end", TRIM, () => ({ offset: end(), length: 512 }), EINVAL],
    ["zeroes past the end", WRITE_ZEROES, () => ({ offset: end(), length: 512 }), ENOSPC],
    ["read near 2^64", READ, () => ({ offset: 2 ** 63, length: 512 }), EINVAL],
    ["unknown command", 99, () => ({}), EINVAL],
    ["unknown flag", READ, () => ({ flags: 1 << 14, length: 512 }), EINVAL],
    ["REQ_ONE on a read", READ, () => ({ flags: CommandFlag.REQ_ONE, length: 512 }), EINVAL],
  ];
  for (const headers of ["simple", "structured", "extended"] as const) {
    test(`Error values, ${headers} headers: each as asked for`, async () => {
      if (headers === "extended" && !facts().extended) return;
      using client = await RawClient.entered(facts(), { headers });
      for (const [name, type, fields, error] of cases) {
        const wanted = facts().isQemu && error === ENOSPC ? EINVAL : error;
        expect([name, (await client.request(type, fields())).error]).toEqual([name, wanted]);
        expect((await client.request(READ, { length: 512 })).error).toBe(0);
      }
      expect((await client.request(CACHE, { length: 4096 })).error).toBe(0);
      expect((await client.request(CACHE, { offset: end(), length: 512 })).error).toBe(EINVAL);
    });
  }

  test("Size constraints: off the smallest block → EINVAL, or done if 1 is offered", async () => {
    const error = facts().minimumBlockBytes === 1 ? 0 : EINVAL;
    using client = await RawClient.entered(facts(), { headers: "structured" });
    expect((await client.request(READ, { offset: 1, length: 512 })).error).toBe(error);
    expect((await client.request(WRITE, { payload: Buffer.alloc(100) })).error).toBe(error);
    expect((await client.request(READ, { length: 512 })).error).toBe(0);
  });

  test("Size constraints: a write of 32 MiB → done; beyond → dropped or refused", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    expect((await client.request(READ, { length: 32 * MIB })).data.length).toBe(32 * MIB);
    client.send(requestBytes(WRITE, { length: 32 * MIB + 1 }));
    await client.ended();
  });

  test("read-only → EPERM for what changes", async () => {
    const { readOnlyName } = facts();
    if (readOnlyName === null) return;
    using client = await RawClient.entered(facts(), { headers: "structured", name: readOnlyName });
    expect(client.flags & TransmissionFlag.READ_ONLY).toBe(TransmissionFlag.READ_ONLY);
    expect((await client.request(WRITE, { payload })).error).toBe(NbdError.EPERM);
    expect((await client.request(TRIM, { length: 512 })).error).toBe(NbdError.EPERM);
    expect((await client.request(READ, { length: 512 })).error).toBe(0);
  });

  test("Request types: length 0 → no disconnect", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    for (const type of [READ, WRITE, TRIM, WRITE_ZEROES]) await client.request(type);
    expect((await client.request(READ, { length: 512 })).error).toBe(0);
  });
}

export function transmissionChecks(facts: () => Facts): void {
  test("DF on a read of data and holes → one content chunk", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    await client.request(WRITE_ZEROES, { length: MIB });
    await client.request(WRITE, { offset: 16384, payload: Buffer.alloc(4096, 7) });
    const reply = await client.request(READ, { length: 65536, flags: CommandFlag.DF });
    expect(reply.chunks.filter(({ type }) => type > 0)).toHaveLength(1);
    expect(reply.data.subarray(16384, 20480).equals(Buffer.alloc(4096, 7))).toBe(true);
  });

  test("BLOCK_STATUS → runs from the offset on; REQ_ONE → one, not longer", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    const reply = await client.request(BLOCK_STATUS, { offset: 4096, length: MIB });
    const [chunk] = reply.chunks;
    expect(chunk?.type).toBe(5);
    expect((chunk?.data.length ?? 0) % 8).toBe(4);
    expect(chunk?.data.readUInt32BE(4)).toBeGreaterThan(0);
    const one = await client.request(BLOCK_STATUS, { length: 4096, flags: CommandFlag.REQ_ONE });
    expect(one.chunks[0]?.data.length).toBe(12);
    expect(one.chunks[0]?.data.readUInt32BE(4)).toBeLessThanOrEqual(4096);
  });

  test("zeroes with NO_HOLE → read zero and are allocated", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    await client.request(WRITE, { payload: Buffer.alloc(65536, 3) });
    const flags = CommandFlag.NO_HOLE;
    expect((await client.request(WRITE_ZEROES, { length: 65536, flags })).error).toBe(0);
    const read = await client.request(READ, { length: 65536 });
    expect(read.data.equals(Buffer.alloc(65536))).toBe(true);
  });

  test("FUA on every command that may carry it → done", async () => {
    using client = await RawClient.entered(facts(), { headers: "structured" });
    const flags = CommandFlag.FUA;
    for (const [type, fields] of [
      [WRITE, { payload: Buffer.alloc(4096, 1) }],
      [TRIM, { length: 4096 }],
      [WRITE_ZEROES, { length: 4096 }],
      [READ, { length: 512 }],
      [FLUSH, {}],
    ] as const) {
      expect([type, (await client.request(type, { ...fields, flags })).error]).toEqual([type, 0]);
    }
  });
}

export function connectionChecks(facts: () => Facts): void {
  test("H1, multi-conn: acked on one connection → read on another, flushed by either", async () => {
    using first = await RawClient.entered(facts(), { headers: "simple" });
    using second = await RawClient.entered(facts(), { headers: "structured" });
    expect(Boolean(first.flags & TransmissionFlag.CAN_MULTI_CONN)).toBe(facts().multiConn);
    for (let round = 1; round <= 50; round++) {
      const payload = Buffer.alloc(4096, round);
      expect((await first.request(WRITE, { offset: 40960, payload })).error).toBe(0);
      expect((await second.request(FLUSH)).error).toBe(0);
      const read = await second.request(READ, { offset: 40960, length: 4096 });
      expect(read.data.equals(payload)).toBe(true);
    }
  });

  test("DISC with requests under way → they are answered, then the server ends it", async () => {
    using client = await RawClient.entered(facts(), { headers: "simple" });
    client.send(
      Buffer.concat([
        requestBytes(WRITE, { cookie: 1, payload: Buffer.alloc(4096, 5) }),
        requestBytes(FLUSH, { cookie: 2 }),
        requestBytes(DISC),
      ]),
    );
    if (facts().isQemu) return client.ended();
    const answers = [await client.take(16), await client.take(16)];
    expect(answers.map((one) => one.readUInt32BE(12)).sort()).toEqual([1, 2]);
    expect(answers.map((one) => one.readUInt32BE(4))).toEqual([0, 0]);
    await client.ended();
  });

  test("half a write, then the connection is cut → the old bytes stay", async () => {
    using checker = await RawClient.entered(facts(), { headers: "simple" });
    await checker.request(WRITE, { offset: 8192, payload: Buffer.alloc(65536, 0x77) });
    const cut = await RawClient.entered(facts(), { headers: "simple" });
    const bytes = requestBytes(WRITE, { offset: 8192, payload: Buffer.alloc(65536, 0x99) });
    cut.send(bytes.subarray(0, 30000));
    cut.terminate();
    const read = await checker.request(READ, { offset: 8192, length: 65536 });
    expect(read.data.equals(Buffer.alloc(65536, 0x77))).toBe(true);
  });

  test("100 connections of garbage → the server serves on", async () => {
    const prng = new Prng(4);
    for (let round = 0; round < 100; round++) {
      const client = await RawClient.open(facts());
      const bytes = Buffer.alloc(prng.between(1, 400));
      for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
      // Some get past the flags, so that options are garbled too.
      if (prng.chance(0.5)) bytes.set(u32s(3), 0);
      if (prng.chance(0.3) && bytes.length > 20) bytes.set(Buffer.from("IHAVEOPT\0\0\0"), 4);
      client.send(bytes);
      if (prng.chance(0.5)) client.terminate();
      else client[Symbol.dispose]();
    }
    using after = await RawClient.entered(facts(), { headers: "structured" });
    expect((await after.request(READ, { length: 4096 })).error).toBe(0);
  });
}
