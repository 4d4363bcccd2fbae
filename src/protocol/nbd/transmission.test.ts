// SPDX-License-Identifier: Apache-2.0
//
// The transmission phase: every command, every refusal, back-pressure, and the end of a connection.

import { describe, expect, test } from "bun:test";
import { HOST_UNHEARD_MS, REQUEST_BYTES_MAX } from "#base/limits.ts";
import { Memory } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { FLAG_FUA, FLAG_NO_HOLE, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { HostCredit } from "./credit.ts";
import type { RequestOptions } from "./host-fixture.ts";
import { ALLOWED, Host, VOLUME_BYTES, option, requestBytes, u32s } from "./host-fixture.ts";
import { MemoryVolume } from "./memory-volume-fixture.ts";
import { MemorySocket } from "./memory-socket-fixture.ts";
import {
  ChunkType,
  Command,
  CommandFlag,
  NbdError,
  Option,
  REQUESTS_MAX,
  STALL_CONTENDED_MS,
  STALL_MS,
} from "./nbd.wire.ts";

const plain = (options?: ConstructorParameters<typeof Host>[0]) =>
  new Host(options).negotiate("simple");
const structured = (options?: ConstructorParameters<typeof Host>[0]) =>
  new Host(options).negotiate("structured");
const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = Command;
const BOTH: [string, typeof plain][] = [
  ["simple", plain],
  ["structured", structured],
];

describe("commands", () => {
  for (const [name, make] of BOTH) {
    test(`write, read back, with ${name} replies → the bytes, under their cookies`, () => {
      const host = make();
      const payload = Buffer.alloc(1536, 0xa5);
      expect(host.request(WRITE, { cookie: 7, offset: 512, payload })).toEqual([
        { cookie: 7, error: 0, chunk: null, data: Buffer.alloc(0) },
      ]);
      const [answer] = host.request(READ, { cookie: 8, offset: 0, length: 4096 });
      const want = Buffer.concat([Buffer.alloc(512), payload, Buffer.alloc(2048)]);
      const head = name === "simple" ? "" : "0000000000000000";
      expect(answer?.cookie).toBe(8);
      expect(answer?.chunk).toBe(name === "simple" ? null : ChunkType.OFFSET_DATA);
      expect(answer?.data.toString("hex")).toBe(head + want.toString("hex"));
      expect(host.session.counters).toEqual({
        requests: 2,
        errors: 0,
        readBytes: 4096,
        writtenBytes: 1536,
      });
    });
  }

  test("reads of every size class → right bytes in one stream, all memory given back", () => {
    for (const length of [512, 4096, 65536, 66048, 131072, VOLUME_BYTES]) {
      const host = structured();
      host.volume.data.fill(0x5c);
      const used = host.memory.usedBytes;
      const [answer] = host.request(READ, { length, flags: CommandFlag.DF });
      expect(answer?.data.length).toBe(8 + length);
      expect(answer?.data.subarray(8).every((byte) => byte === 0x5c)).toBe(true);
      expect(host.memory.usedBytes).toBe(used);
    }
  });

  test("longer than a transfer → several; one reply when all ended, the first error wins", () => {
    const host = plain({ arenaBytes: 32 << 20 });
    const long = new MemoryVolume(host.memory, 4 << 20);
    Object.assign(host.exported, { sizeBytes: 4 << 20, target: long });
    const payload = Buffer.alloc((2 << 20) + 512, 0x3c);
    expect(host.request(WRITE, { payload, offset: 512 })[0]?.error).toBe(0);
    expect(long.seen.map(({ offsetBytes, lengthBytes }) => [offsetBytes, lengthBytes])).toEqual([
      [512, 1 << 20],
      [512 + (1 << 20), 1 << 20],
      [512 + (2 << 20), 512],
    ]);
    const [read] = host.request(READ, { length: 3 << 20 });
    expect(read?.data.equals(Buffer.from(long.data.subarray(0, 3 << 20)))).toBe(true);
    long.held = [];
    host.request(READ, { length: 512 << 10 });
    const [first, second] = long.held.splice(0) as [Operation, Operation];
    first.faultOffsetBytes = 4096;
    first.complete(Status.mediumError);
    host.socket.turn();
    expect(host.socket.takeSent().length).toBe(0);
    second.complete(Status.ioError);
    host.socket.turn();
    const [failed] = host.answers(host.socket.takeSent());
    expect([failed?.chunk, failed?.error]).toEqual([null, NbdError.EIO]);
    expect(host.session.inFlight).toBe(0);
  });

  test("H5: FUA on write and zeroes → passed down; on trim → a flush before the reply", () => {
    const host = plain();
    const flags = CommandFlag.FUA;
    host.request(WRITE, { flags, payload: Buffer.alloc(512) });
    host.request(WRITE_ZEROES, { flags: flags | CommandFlag.NO_HOLE, length: 4096 });
    host.volume.held = [];
    expect(host.request(TRIM, { flags, length: 4096 })).toEqual([]);
    const [trim] = host.volume.held;
    host.volume.held = [];
    host.volume.complete(trim as Operation);
    host.socket.turn();
    expect(host.socket.takeSent().length).toBe(0);
    host.volume.complete(host.volume.held[0] as Operation);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())).toHaveLength(1);
    expect(host.volume.seen.map(({ kind, flags: seen }) => [kind, seen])).toEqual([
      [OperationKind.write, FLAG_FUA],
      [OperationKind.writeZeroes, FLAG_FUA | FLAG_NO_HOLE],
      [OperationKind.trim, 0],
      [OperationKind.flush, 0],
    ]);
    expect(host.volume.flushes).toBe(1);
    host.volume.held = null;
    expect(host.request(TRIM, { flags, length: 4096 })[0]?.error).toBe(0);
    expect(host.volume.flushes).toBe(2);
  });

  test("H4: flush → one flush of the volume; with a range → EINVAL", () => {
    const host = plain();
    expect(host.request(FLUSH)[0]?.error).toBe(0);
    expect(host.request(FLUSH, { flags: CommandFlag.FUA })[0]?.error).toBe(0);
    expect(host.volume.flushes).toBe(2);
    expect(host.request(FLUSH, { length: 512 })[0]?.error).toBe(NbdError.EINVAL);
    expect(host.volume.flushes).toBe(2);
  });

  test("block status → runs as descriptors; REQ_ONE → one", () => {
    const host = structured();
    host.request(WRITE, { offset: 8192, payload: Buffer.alloc(4096, 1) });
    const [all] = host.request(BLOCK_STATUS, { length: 16384 });
    expect(all?.chunk).toBe(ChunkType.BLOCK_STATUS);
    expect(all?.data).toEqual(u32s(1, 8192, 3, 4096, 0, 4096, 3));
    const [one] = host.request(BLOCK_STATUS, { length: 16384, flags: CommandFlag.REQ_ONE });
    expect(one?.data).toEqual(u32s(1, 8192, 3));
  });

  test("block status with more runs than a slot holds → all of them; no memory → the first", () => {
    const host = structured();
    for (let block = 0; block < 256; block += 2) host.volume.allocated[block] = true;
    const used = host.memory.usedBytes;
    const [all] = host.request(BLOCK_STATUS, { length: VOLUME_BYTES });
    expect(all?.data.length).toBe(4 + 256 * 8);
    const held: number[] = [];
    for (let at = host.memory.allocate(4096); at >= 0; at = host.memory.allocate(4096)) {
      held.push(at);
    }
    const [some] = host.request(BLOCK_STATUS, { length: VOLUME_BYTES });
    expect(some?.data.length).toBe(4 + 13 * 8);
    for (const at of held) host.memory.release(at);
    expect(host.memory.usedBytes).toBe(used);
  });

  test("H9: a volume that tells nothing → allocated, never a hole", () => {
    const host = structured();
    host.volume.held = [];
    host.request(BLOCK_STATUS, { length: 8192 });
    host.volume.held[0]?.complete(Status.ok);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())[0]?.data).toEqual(u32s(1, 8192, 0));
  });

  test("FAST_ZERO → done for whole blocks, ENOTSUP where it would be a write", () => {
    const host = plain();
    const flags = CommandFlag.FAST_ZERO;
    expect(host.request(WRITE_ZEROES, { flags, length: 8192 })[0]?.error).toBe(0);
    const keeping = { flags: flags | CommandFlag.NO_HOLE, length: 8192 };
    expect(host.request(WRITE_ZEROES, keeping)[0]?.error).toBe(0);
    expect(host.volume.seen.map((one) => one.flags)).toEqual([0, FLAG_NO_HOLE]);
    const refused = [
      { flags, length: 512 },
      { flags, offset: 512, length: 8192 },
      { flags: flags | CommandFlag.NO_HOLE, offset: 512, length: 512 },
    ];
    for (const fields of refused) {
      expect(host.request(WRITE_ZEROES, fields)[0]?.error).toBe(NbdError.ENOTSUP);
    }
    expect(host.volume.seen).toHaveLength(2);
  });

  test("length 0 → success at once, nothing submitted; a structured read ends in NONE", () => {
    for (const [, make] of BOTH) {
      const host = make();
      for (const type of [READ, WRITE, TRIM, WRITE_ZEROES]) {
        const [answer] = host.request(type, { length: 0 });
        expect(answer?.error).toBe(0);
        const isChunk = type === READ && host.headers !== "simple";
        expect(answer?.chunk).toBe(isChunk ? ChunkType.NONE : null);
      }
      expect(host.request(BLOCK_STATUS, { length: 0 })[0]?.error).toBe(NbdError.EINVAL);
      expect(host.volume.seen).toHaveLength(0);
    }
  });

  test("replies come in the order the volume ends, not as asked", () => {
    const host = plain();
    host.volume.held = [];
    host.request(READ, { cookie: 1, length: 512 });
    host.request(READ, { cookie: 2, length: 512 });
    const [first, second] = host.volume.held;
    host.volume.complete(second as Operation);
    host.volume.complete(first as Operation);
    host.socket.turn();
    const answers = host.answers(host.socket.takeSent());
    expect(answers.map(({ cookie }) => cookie)).toEqual([2, 1]);
  });
});

describe("refusals", () => {
  const { EINVAL, ENOSPC, EPERM, EOVERFLOW } = NbdError;
  const payload = Buffer.alloc(512);
  const cases: [string, number, RequestOptions, number][] = [
    ["read past the end", READ, { offset: VOLUME_BYTES - 512, length: 1024 }, EINVAL],
    ["read at 2^63", READ, { offset: 2 ** 63, length: 512 }, EINVAL],
    ["write past the end", WRITE, { offset: VOLUME_BYTES, payload }, ENOSPC],
    ["write at 2^63", WRITE, { offset: 2 ** 63, payload }, ENOSPC],
    ["trim past the end", TRIM, { offset: VOLUME_BYTES, length: 512 }, EINVAL],
    ["zeroes past the end", WRITE_ZEROES, { offset: VOLUME_BYTES, length: 512 }, ENOSPC],
    ["zeroes of 4 GiB", WRITE_ZEROES, { length: 0xfffffe00 }, ENOSPC],
    ["read of odd length", READ, { length: 511 }, EINVAL],
    ["read at odd offset", READ, { offset: 1, length: 512 }, EINVAL],
    ["write of odd length", WRITE, { payload: Buffer.alloc(100) }, EINVAL],
    ["trim at odd offset", TRIM, { offset: 256, length: 512 }, EINVAL],
    ["unknown command", 99, {}, EINVAL],
    ["cache past the end", CACHE, { offset: VOLUME_BYTES, length: 512 }, EINVAL],
    ["cache with a flag of others", CACHE, { flags: CommandFlag.DF, length: 512 }, EINVAL],
    ["cache at odd offset", CACHE, { offset: 5, length: 512 }, EINVAL],
    ["resize", 8, { length: 512 }, EINVAL],
    ["unknown flag", READ, { flags: 1 << 9, length: 512 }, EINVAL],
    ["DF on a write", WRITE, { flags: CommandFlag.DF, payload }, EINVAL],
    ["NO_HOLE on a trim", TRIM, { flags: CommandFlag.NO_HOLE, length: 512 }, EINVAL],
  ];
  for (const [name, type, fields, error] of cases) {
    test(`${name} → error ${error}, nothing done, the next request works`, () => {
      for (const [, make] of BOTH) {
        const host = make();
        expect(host.request(type, { ...fields, cookie: 5 })).toMatchObject([{ cookie: 5, error }]);
        expect(host.volume.seen).toHaveLength(0);
        expect(host.request(READ, { length: 512 })[0]?.error).toBe(0);
        expect(host.finished).toEqual([]);
      }
    });
  }

  test("read-only → EPERM for what changes, reads and flushes work", () => {
    const host = plain();
    host.exported.readOnly = true;
    for (const type of [WRITE, TRIM, WRITE_ZEROES]) {
      const fields = type === WRITE ? { payload } : { length: 512 };
      expect(host.request(type, fields)[0]?.error).toBe(EPERM);
    }
    expect(host.request(READ, { length: 512 })[0]?.error).toBe(0);
    expect(host.request(FLUSH)[0]?.error).toBe(0);
  });

  test("a read longer than 32 MiB → EINVAL, or EOVERFLOW with structured replies", () => {
    for (const [, make] of BOTH) {
      const host = make();
      host.exported.sizeBytes = 2 ** 40;
      const length = REQUEST_BYTES_MAX + 512;
      const error = host.headers !== "simple" ? EOVERFLOW : EINVAL;
      expect(host.request(READ, { length })[0]?.error).toBe(error);
    }
  });

  test("DF or block status without having negotiated it → EINVAL", () => {
    const host = plain();
    expect(host.request(READ, { flags: CommandFlag.DF, length: 512 })[0]?.error).toBe(EINVAL);
    expect(host.request(BLOCK_STATUS, { length: 512 })[0]?.error).toBe(EINVAL);
  });

  test("a write longer than 32 MiB → dropped", () => {
    const host = plain();
    host.exchange(requestBytes(WRITE, { length: REQUEST_BYTES_MAX + 1 }));
    expect(host.finished).toEqual(["a payload longer than 32 MiB"]);
  });

  test("no request's magic → dropped", () => {
    const host = plain();
    host.exchange(option(Option.LIST, Buffer.alloc(12)));
    expect(host.finished).toEqual(["not an NBD request"]);
  });

  test("a refused write of 300 KiB in pieces → thrown away without a buffer, then answered", () => {
    const host = plain();
    const used = host.memory.usedBytes;
    host.exchange(requestBytes(WRITE, { offset: VOLUME_BYTES, length: 300 << 10 }));
    for (let piece = 0; piece < 29; piece++) {
      expect(host.exchange(Buffer.alloc(10 << 10)).length).toBe(0);
      expect(host.memory.usedBytes).toBe(used);
    }
    expect(host.answers(host.exchange(Buffer.alloc(10 << 10)))[0]?.error).toBe(ENOSPC);
  });

  test("errors of the volume → NBD's, with the place where it is known", () => {
    const host = structured();
    host.volume.failWith = Status.mediumError;
    host.volume.faultOffsetBytes = 8192;
    const [located] = host.request(READ, { offset: 4096, length: 8192 });
    expect(located?.chunk).toBe(ChunkType.ERROR_OFFSET);
    expect(located?.error).toBe(NbdError.EIO);
    expect(located?.data.subarray(-8).toString("hex")).toBe("0000000000002000");
    expect(located?.data.subarray(6, -8).toString()).toBe("the request failed");
    host.volume.faultOffsetBytes = -1;
    host.volume.failWith = Status.noSpace;
    const [full] = host.request(WRITE, { payload });
    expect([full?.chunk, full?.error]).toEqual([ChunkType.ERROR, ENOSPC]);
  });
});

describe("back-pressure (R13)", () => {
  test("more requests than allowed → receiving pauses; goes on as replies leave", () => {
    const host = plain();
    host.volume.held = [];
    const many = REQUESTS_MAX + 20;
    for (let cookie = 0; cookie < many; cookie++) {
      host.socket.arrive(host.bytes(READ, { cookie, length: 512 }));
    }
    host.socket.turn();
    expect(host.session.inFlight).toBe(REQUESTS_MAX);
    expect(host.socket.paused).toBe(true);
    while (host.volume.held.length > 0) host.volume.complete(host.volume.held.shift() as Operation);
    host.socket.sendBlocked = true;
    host.socket.turn();
    expect(host.session.inFlight).toBe(REQUESTS_MAX);
    host.socket.sendBlocked = false;
    host.socket.turn();
    while (host.volume.held.length > 0) host.volume.complete(host.volume.held.shift() as Operation);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())).toHaveLength(many);
    expect(host.session.inFlight).toBe(0);
  });

  test("credit used up by one host → another waits, and is woken when some is given back", () => {
    const memory = new Memory(new ArrayBuffer(8 << 20));
    const credit = new HostCredit(128 << 10);
    const greedy = plain({ memory, credit });
    const other = plain({ memory, credit, address: "192.0.2.8" });
    greedy.volume.held = [];
    for (let cookie = 0; cookie < 4; cookie++) greedy.request(READ, { cookie, length: 32768 });
    expect(credit.heldBytes).toBe(64 << 10);
    expect(greedy.socket.paused).toBe(true);
    other.volume.held = [];
    for (let cookie = 0; cookie < 2; cookie++) other.request(READ, { cookie, length: 32768 });
    expect(other.socket.paused).toBe(true);
    for (let round = 0; round < 6; round++) {
      for (const host of [greedy, other]) {
        for (const operation of host.volume.held?.splice(0) ?? []) host.volume.complete(operation);
        host.turn();
        expect(credit.heldBytes).toBeLessThanOrEqual(128 << 10);
      }
    }
    expect(greedy.answers(greedy.socket.takeSent())).toHaveLength(4);
    expect(other.answers(other.socket.takeSent())).toHaveLength(2);
    expect([credit.heldBytes, credit.isContended]).toEqual([0, false]);
  });

  test("a host that does not read its replies → others go on; it is dropped when they wait", () => {
    const memory = new Memory(new ArrayBuffer(32 << 20));
    const credit = new HostCredit(8 << 20);
    const stuck = plain({ memory, credit });
    const other = plain({ memory, credit, address: "192.0.2.8" });
    const beside = plain({ memory, credit });
    stuck.socket.sendBlocked = true;
    // They take a while to read: else it would hold one of them.
    stuck.volume.held = [];
    for (let cookie = 0; cookie < 32; cookie++) stuck.request(READ, { cookie, length: 1 << 20 });
    const slow = stuck.volume.held;
    stuck.volume.held = null;
    for (const operation of slow) stuck.volume.complete(operation);
    stuck.turn();
    expect(stuck.session.inFlight).toBe(32);
    const held = credit.heldBytes;
    expect(held).toBeGreaterThan(2 << 20);
    // Small ones of its own address and of another, as many as one likes.
    for (const host of [other, beside]) {
      for (let cookie = 0; cookie < 100; cookie++) {
        expect(host.request(READ, { cookie, length: 65536 })).toHaveLength(1);
      }
    }
    expect(other.request(READ, { length: 1 << 20 })).toHaveLength(1);
    expect(credit.heldBytes).toBe(held);
    // Nobody waits for what it holds: it may stay so for a minute.
    for (const nowMs of [0, STALL_CONTENDED_MS, 2 * STALL_CONTENDED_MS]) stuck.session.tick(nowMs);
    expect(stuck.finished).toEqual([]);
    const large = new MemoryVolume(memory, 8 << 20);
    Object.assign(other.exported, { sizeBytes: 8 << 20, target: large });
    expect(other.request(READ, { cookie: 7, length: 4 << 20 })).toEqual([]);
    expect(credit.isContended).toBe(true);
    stuck.session.tick(2 * STALL_CONTENDED_MS + 1);
    stuck.turn();
    expect(stuck.finished).toEqual(["no byte moved while others waited for memory"]);
    other.turn();
    expect(other.answers(other.socket.takeSent())).toMatchObject([{ cookie: 7, error: 0 }]);
  });

  test("the arena is used up by others → the tick tries again", () => {
    const host = plain({ arenaBytes: 1 << 20 });
    const held: number[] = [];
    for (let at = host.memory.allocate(4096); at >= 0; at = host.memory.allocate(4096)) {
      held.push(at);
    }
    expect(host.request(WRITE, { payload: Buffer.alloc(512) })).toEqual([]);
    expect(host.socket.unreadBytes).toBe(540);
    for (const at of held) host.memory.release(at);
    host.session.tick(0);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())[0]?.error).toBe(0);
  });

  test("half a write and then silence → dropped after a minute, its buffer given back", () => {
    const host = plain();
    host.exchange(requestBytes(WRITE, { length: 1 << 20 }));
    host.exchange(Buffer.alloc(1000));
    host.session.tick(0);
    host.session.tick(STALL_MS - 1);
    host.socket.turn();
    expect(host.finished).toEqual([]);
    host.session.tick(STALL_MS);
    host.socket.turn();
    expect(host.finished).toEqual(["no byte moved for a minute"]);
    expect(host.memory.usedBytes).toBe(0);
    expect(host.credit.heldBytes).toBe(0);
  });
});

describe("the end", () => {
  test("DISC → what is under way is answered, then the connection ends", () => {
    const host = plain();
    host.volume.held = [];
    host.request(READ, { length: 512 });
    host.exchange(Buffer.concat([requestBytes(DISC), requestBytes(READ, { length: 512 })]));
    expect(host.finished).toEqual([]);
    host.volume.complete(host.volume.held[0] as Operation);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())).toHaveLength(1);
    expect(host.finished).toEqual(["the host disconnected"]);
    expect(host.volume.seen).toHaveLength(1);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("H7: connection lost → requests end without a reply; finished only after the last", () => {
    const host = structured();
    host.volume.held = [];
    host.request(WRITE, { payload: Buffer.alloc(512, 1) });
    host.request(READ, { offset: 512, length: 131072 });
    host.socket.hangUp();
    host.socket.turn();
    expect(host.socket.closedWith).toBe("the peer closed");
    const [write, read] = host.volume.held.splice(0) as [Operation, Operation];
    // The forwarder must not send them again.
    expect([write.cancelled, read.cancelled]).toEqual([true, true]);
    expect(host.finished).toEqual([]);
    host.volume.complete(read);
    expect(host.finished).toEqual([]);
    host.volume.complete(write);
    expect(host.finished).toEqual(["the peer closed"]);
    expect(host.memory.usedBytes).toBe(0);
    expect(host.credit.heldBytes).toBe(0);
  });

  test("H7: its machine cannot be reached → ended before it may have written elsewhere", () => {
    const host = structured();
    host.volume.held = [];
    host.request(WRITE, { payload: Buffer.alloc(512, 1) });
    host.socket.unheardMs = HOST_UNHEARD_MS - 1;
    host.session.tick(1000);
    expect(host.session.isOver).toBe(false);
    host.socket.unheardMs = HOST_UNHEARD_MS;
    host.session.tick(2000);
    host.socket.turn();
    const [write] = host.volume.held.splice(0) as [Operation];
    // What waited for the cluster is not sent to a new head any more.
    expect(write.cancelled).toBe(true);
    host.volume.complete(write);
    expect(host.finished).toEqual(["its host cannot be reached"]);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("H7: lost within a payload → nothing of that write reaches the volume", () => {
    const host = plain();
    const bytes = requestBytes(WRITE, { payload: Buffer.alloc(100 << 10, 7) });
    host.exchange(bytes.subarray(0, bytes.length - 1));
    host.socket.hangUp();
    host.socket.turn();
    expect(host.volume.seen).toHaveLength(0);
    expect(host.finished).toEqual(["the peer closed"]);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("drain → answers what is under way, refuses nothing, half a write is not waited for", () => {
    const host = plain();
    host.volume.held = [];
    host.request(READ, { length: 512 });
    host.exchange(requestBytes(WRITE, { length: 1 << 20 }));
    host.session.drain();
    host.socket.arrive(Buffer.alloc(64));
    host.socket.turn();
    expect(host.finished).toEqual([]);
    host.volume.complete(host.volume.held[0] as Operation);
    host.socket.turn();
    expect(host.answers(host.socket.takeSent())).toHaveLength(1);
    expect(host.finished).toEqual(["the unit is going down"]);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("drain of an idle connection → ends at once", () => {
    const host = plain();
    host.session.drain();
    host.socket.turn();
    expect(host.finished).toEqual(["the unit is going down"]);
    expect(host.memory.usedBytes).toBe(0);
  });

  test("closed here with replies queued → buffers given back, finished once", () => {
    const host = plain();
    host.socket.sendBlocked = true;
    host.request(READ, { length: 65536 });
    host.session.close("no longer allowed");
    host.socket.turn();
    host.session.close("again");
    expect(host.finished).toEqual(["no longer allowed"]);
    expect(host.memory.usedBytes).toBe(0);
  });
});

test("the sockets of these tests keep base/stream.ts's promises", () => {
  const memory = new Memory(new ArrayBuffer(1 << 20));
  const socket = new MemorySocket(memory, ALLOWED);
  const events: string[] = [];
  socket.onBytes = (_, length) => {
    events.push(`bytes ${length}`);
    return 1;
  };
  socket.onClose = (reason) => events.push(reason);
  const at = memory.allocate(4096);
  socket.send(at, 10, (status) => events.push(`sent ${status}`));
  socket.arrive(new Uint8Array(2));
  expect(events).toEqual([]);
  socket.turn();
  expect(events).toEqual(["bytes 2", "bytes 1", "sent 0"]);
  socket.receiveInto(at, 5, (status) => events.push(`into ${status}`));
  socket.close();
  socket.turn();
  expect(events.slice(3)).toEqual([`into ${Status.linkLost}`, "closed here"]);
});
