// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite's part about extended headers (branch extension-ext-header of
// doc/proto.md): raw requests, and qemu's own client, which uses them for lengths past 32 bits
// wherever a server has them.

import { expect, test } from "bun:test";
import { option, text, u32s } from "#protocol/nbd/host-fixture.ts";
import {
  Command,
  CommandFlag,
  NbdError,
  Option,
  Reply,
  TransmissionFlag,
} from "#protocol/nbd/nbd.wire.ts";
import { newerQemu, run } from "./programs.ts";
import { RawClient } from "./raw-client.ts";
import type { Facts } from "./servers.ts";
import { uriOf } from "./servers.ts";

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = Command;
const MIB = 1 << 20;

/** The payload of a block status: effect length and context ids. */
function statusPayload(effectBytes: number, ...contexts: number[]): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(effectBytes));
  return Buffer.concat([bytes, u32s(...contexts)]);
}

/** [length, flags] of each descriptor of an extended block status chunk. */
function descriptors(data: Buffer): [number, number][] {
  expect(data.length).toBe(8 + 16 * data.readUInt32BE(4));
  const found: [number, number][] = [];
  for (let at = 8; at < data.length; at += 16) {
    found.push([Number(data.readBigUInt64BE(at)), Number(data.readBigUInt64BE(at + 8))]);
  }
  return found;
}

export function extendedChecks(facts: () => Facts): void {
  haggling(facts);
  commands(facts);
  blockStatus(facts);
  invalid(facts);
  qemuClient(facts);
}

function haggling(facts: () => Facts): void {
  test("EXTENDED_HEADERS: offered or unknown; then no structured, no EXPORT_NAME", async () => {
    using client = await RawClient.haggling(facts());
    const [answer] = await client.ask(Option.EXTENDED_HEADERS);
    expect(answer?.type).toBe(facts().extended ? Reply.ACK : Reply.ERR_UNSUP);
    if (!facts().extended) return;
    const [refused] = await client.ask(Option.STRUCTURED_REPLY);
    expect(refused?.type).toBe(Reply.ERR_EXT_HEADER_REQD);
    client.send(option(Option.EXPORT_NAME, Buffer.from(facts().name)));
    await client.ended();
  });

  test("SET_META_CONTEXT with extended headers alone → selected", async () => {
    if (!facts().extended) return;
    using client = await RawClient.haggling(facts());
    const query = Buffer.concat([text(facts().name), u32s(1), text("base:allocation")]);
    await client.ask(Option.EXTENDED_HEADERS);
    const replies = await client.ask(Option.SET_META_CONTEXT, query);
    expect(replies.map(({ type }) => type)).toEqual([Reply.META_CONTEXT, Reply.ACK]);
  });
}

function commands(facts: () => Facts): void {
  test("every command by 32-byte headers → done, each by a chunk", async () => {
    if (!facts().extended) return;
    using client = await RawClient.entered(facts(), { headers: "extended" });
    expect(client.flags & TransmissionFlag.BLOCK_STATUS_PAYLOAD).not.toBe(0);
    const payload = Buffer.alloc(65536, 0x3c);
    for (const [type, fields] of [
      [WRITE, { offset: MIB, payload }],
      [FLUSH, {}],
      [CACHE, { offset: MIB, length: 65536 }],
      [TRIM, { offset: 2 * MIB, length: MIB }],
      [WRITE_ZEROES, { offset: 3 * MIB, length: MIB, flags: CommandFlag.FAST_ZERO }],
    ] as const) {
      const reply = await client.request(type, fields);
      // A server may refuse to zero fast; ours does not.
      const mayRefuse = facts().isQemu && type === WRITE_ZEROES;
      if (!mayRefuse) expect([type, reply.error]).toEqual([type, 0]);
      expect(reply.chunks.length).toBeGreaterThan(0);
    }
    const read = await client.request(READ, { offset: MIB, length: 65536 });
    expect(read.data.equals(payload)).toBe(true);
  });
}

function blockStatus(facts: () => Facts): void {
  test("block status: 64-bit descriptors; a payload's context; unknown ones → EINVAL", async () => {
    if (!facts().extended) return;
    using client = await RawClient.entered(facts(), { headers: "extended" });
    await client.request(WRITE, { offset: MIB, payload: Buffer.alloc(MIB, 1) });
    const { sizeBytes } = facts();
    const whole = await client.request(BLOCK_STATUS, { length: sizeBytes });
    expect(whole.chunks.map(({ type }) => type)).toEqual([6]);
    const found = descriptors(whole.chunks[0]?.data as Buffer);
    expect(found.reduce((sum, [length]) => sum + length, 0)).toBe(sizeBytes);
    const context = whole.chunks[0]?.data.readUInt32BE(0) as number;
    const flags = CommandFlag.REQ_ONE;
    const one = { offset: MIB, flags, payload: statusPayload(4096, context) };
    const reply = await client.request(BLOCK_STATUS, one);
    expect(descriptors(reply.chunks[0]?.data as Buffer)).toEqual([[4096, 0]]);
    for (const payload of [
      statusPayload(4096, context + 9),
      statusPayload(4096, context, context),
      Buffer.alloc(9),
    ]) {
      expect((await client.request(BLOCK_STATUS, { payload })).error).toBe(NbdError.EINVAL);
    }
    expect((await client.request(READ, { length: 512 })).error).toBe(0);
  });
}

function invalid(facts: () => Facts): void {
  test("a payload where none belongs → EINVAL; lengths past the end → refused", async () => {
    if (!facts().extended) return;
    using client = await RawClient.entered(facts(), { headers: "extended" });
    for (const type of [READ, TRIM, FLUSH]) {
      const reply = await client.request(type, { payload: Buffer.alloc(5000, 0x25) });
      expect(reply.error).toBe(NbdError.EINVAL);
    }
    for (const length of [facts().sizeBytes + 512, 2 ** 40, 2 ** 60]) {
      expect((await client.request(TRIM, { length })).error).toBe(NbdError.EINVAL);
      const wanted = facts().isQemu ? NbdError.EINVAL : NbdError.ENOSPC;
      expect((await client.request(WRITE_ZEROES, { length })).error).toBe(wanted);
    }
    expect((await client.request(READ, { length: 512 })).error).toBe(0);
  });
}

function qemuClient(facts: () => Facts): void {
  test("qemu's client with extended headers: patterns, whole-volume zero, map, copy", async () => {
    const { name, sizeBytes, thin } = facts();
    const uri = uriOf(facts(), name);
    const io = async (...commands: string[]) => {
      const args = commands.flatMap((command) => ["-c", command]);
      const said = await run(newerQemu("qemu-io"), ["-f", "raw", ...args, uri]);
      expect(said).not.toMatch(/fail|error/i);
    };
    await io(
      `write -z -u 0 ${sizeBytes}`,
      "write -P 0xa5 1M 1M",
      "write -P 0x5a 3M 4k",
      `discard 8M ${sizeBytes - 8 * MIB}`,
      "flush",
      "read -P 0xa5 1M 1M",
      "read -P 0 0 1M",
      `read -P 0 8M 1M`,
    );
    const args = ["map", "--output=json", "-f", "raw", uri];
    const rows = JSON.parse(await run(newerQemu("qemu-img"), args)) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    expect(rows.reduce((sum, { length }) => sum + length, 0)).toBe(sizeBytes);
    if (!thin) return;
    const isData = (at: number) =>
      rows.find(({ start, length }) => at >= start && at < start + length)?.data;
    expect([0, MIB, 2 * MIB - 1, 2 * MIB, 3 * MIB, 5 * MIB, 9 * MIB].map(isData)).toEqual([
      false,
      true,
      true,
      false,
      true,
      false,
      false,
    ]);
  });
}
