// SPDX-License-Identifier: Apache-2.0
//
// The NBD portal: which host sees and keeps which volume, how TLS is asked for, and that one host
// cannot take the connections of all.

import { describe, expect, test } from "bun:test";
import {
  CONNECTIONS_MAX,
  CONNECTIONS_PER_HOST_MAX,
  HANDSHAKES_PER_HOST_MAX,
} from "#base/limits.ts";
import { Memory } from "#base/memory.ts";
import { infoData, option, splitOptionReplies, u32s } from "#protocol/nbd/host-fixture.ts";
import { MemorySocket } from "#protocol/nbd/memory-socket-fixture.ts";
import { MemoryVolume } from "#protocol/nbd/memory-volume-fixture.ts";
import { HANDSHAKE_MS, Info, Option, Reply } from "#protocol/nbd/nbd.wire.ts";
import { onlyRead } from "./kept-members.ts";
import { NbdPortal } from "./nbd-portal.ts";
import type { AdoptedHost } from "./nbd-portal.ts";
import type { ExportedVolume } from "./reactor-messages.ts";

const MIB = 1 << 20;
const NEAR = "10.0.0.7";
const FAR = "198.51.100.1";

function exported(change: Partial<ExportedVolume> = {}): ExportedVolume {
  return {
    volume: 1,
    name: "one",
    uuid: "ab".repeat(16),
    sizeBytes: MIB,
    sliceBytes: MIB,
    slices: [1],
    hosts: [1],
    tls: "optional",
    copies: [],
    ...change,
  };
}

class Bench {
  readonly memory = new Memory(new ArrayBuffer(64 * MIB));
  readonly portal: NbdPortal;
  /** The plain sides of connections that were secured. */
  readonly plain: MemorySocket[] = [];
  readonly sentences: string[] = [];
  changes = 0;
  turnMs = 0;
  /** The certificate that whoever begins TLS shows. */
  shown: string | null = null;
  /** Volumes that another reactor is nearer to, and what was given to it. */
  readonly nearer = new Set<number>();
  readonly given: AdoptedHost[] = [];
  /** Of connections that came from another reactor: those that are over, and their sockets. */
  readonly over: number[] = [];
  readonly taken: MemorySocket[] = [];
  readonly closedDescriptors: number[] = [];
  hasMemory = true;

  constructor(options: { tls?: boolean } = {}) {
    const log = {
      write: (_level: string, sentence: string, facts: Record<string, unknown> = {}) =>
        void this.sentences.push(`${sentence}: ${Object.values(facts).join(", ")}`),
    };
    const target = new MemoryVolume(this.memory, MIB);
    this.portal = new NbdPortal(this.memory, log, {
      turnMs: () => this.turnMs,
      creditBytes: 32 * MIB,
      target: () => target,
      keptCopy: () => onlyRead(target),
      changed: () => void this.changes++,
      defer: (act) => act(),
      siblings: {
        isNearer: (volume) => this.nearer.has(volume),
        give: (host) => {
          if (this.nearer.has(host.volume)) this.given.push(host);
          return this.nearer.has(host.volume);
        },
        ended: (id) => void this.over.push(id),
        take: ({ address }) => {
          if (!this.hasMemory) return null;
          this.taken.push(new MemorySocket(this.memory, address));
          return this.taken.at(-1) as MemorySocket;
        },
        closeDescriptor: (descriptor) => void this.closedDescriptors.push(descriptor),
      },
      secure: (socket, done) =>
        socket.detach((handle) => {
          const plain = new MemorySocket(this.memory, socket.peerAddress);
          if (handle !== null) this.plain.push(plain);
          done(handle === null ? null : plain, this.shown);
        }),
    });
    this.portal.hasTls = options.tls === true;
    this.portal.setHost({ host: 1, addresses: ["10.0.0.0/8"], certificates: [] });
  }

  connect(address = NEAR): Connection {
    const socket = new MemorySocket(this.memory, address);
    this.portal.accepted(socket);
    socket.turn();
    return new Connection(this, socket);
  }
}

class Connection {
  socket: MemorySocket;
  readonly #bench: Bench;

  constructor(bench: Bench, socket: MemorySocket) {
    this.#bench = bench;
    this.socket = socket;
  }

  /** Whether the server is still there. */
  get isOpen(): boolean {
    this.socket.turn();
    return this.socket.closedWith === null;
  }
  flags(): this {
    this.socket.arrive(u32s(3));
    this.socket.turn();
    this.socket.takeSent();
    return this;
  }
  ask(number: number, data?: Uint8Array): number[] {
    this.socket.arrive(option(number, data));
    this.socket.turn();
    return splitOptionReplies(this.socket.takeSent()).map(({ type }) => type);
  }
  /** The last reply to GO. */
  go(name = "one"): number {
    return this.ask(Option.GO, infoData(name)).at(-1) as number;
  }
  secure(): this {
    expect(this.ask(Option.STARTTLS)).toEqual([Reply.ACK]);
    this.socket = this.#bench.plain.at(-1) as MemorySocket;
    return this;
  }
}

describe("who sees what", () => {
  test("what its host is assigned; by name and by uuid; the unix socket as 127.0.0.1", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    expect(bench.connect().flags().go()).toBe(Reply.ACK);
    expect(bench.connect().flags().go("ab".repeat(16))).toBe(Reply.ACK);
    expect(bench.connect(FAR).flags().go()).toBe(Reply.ERR_UNKNOWN);
    expect(bench.connect(FAR).flags().ask(Option.LIST)).toEqual([Reply.ACK]);
    expect(bench.connect("unix").flags().go()).toBe(Reply.ERR_UNKNOWN);
    bench.portal.setHost({ host: 2, addresses: ["127.0.0.1"], certificates: [] });
    expect(bench.connect("unix").flags().go()).toBe(Reply.ERR_UNKNOWN);
    bench.portal.setVolume(exported({ hosts: [2] }));
    expect(bench.connect("unix").flags().go()).toBe(Reply.ACK);
    expect(bench.connect().flags().go()).toBe(Reply.ERR_UNKNOWN);
  });

  test("what is kept of it, by its own name, as long as it is kept (R8)", () => {
    const bench = new Bench();
    const copies = [{ number: 1, name: "one@before-1", lineages: [5] }];
    bench.portal.setVolume(exported({ copies }));
    const [one, kept] = [bench.connect().flags(), bench.connect().flags()];
    expect([one.go(), kept.go("one@before-1")]).toEqual([Reply.ACK, Reply.ACK]);
    // The default export stays the volume: of what is kept none is meant unsaid.
    expect(bench.connect().flags().go("")).toBe(Reply.ACK);
    expect(bench.connect().flags().go("one@before-2")).toBe(Reply.ERR_UNKNOWN);
    expect(bench.connect(FAR).flags().go("one@before-1")).toBe(Reply.ERR_UNKNOWN);
    const { SERVER, ACK } = Reply;
    expect(bench.connect().flags().ask(Option.LIST)).toEqual([SERVER, SERVER, ACK]);
    expect(bench.portal.attachedFrom()[0]).toMatchObject({ volume: 1, connections: 3 });
    // Given up: its connections end, those of the volume stay.
    bench.portal.setVolume(exported());
    expect([one.isOpen, kept.isOpen]).toEqual([true, false]);
    bench.portal.setVolume(exported({ copies }));
    const again = bench.connect().flags();
    expect(again.go("one@before-1")).toBe(Reply.ACK);
    bench.portal.setVolume(exported({ copies, hosts: [] }));
    expect([one.isOpen, again.isOpen]).toEqual([false, false]);
  });

  test("revoked, or the volume deleted → its connections end, others stay", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    bench.portal.setVolume(exported({ volume: 2, name: "two", uuid: "cd".repeat(16) }));
    const [one, two] = [bench.connect().flags(), bench.connect().flags()];
    expect([one.go(), two.go("two")]).toEqual([Reply.ACK, Reply.ACK]);
    bench.portal.setVolume(exported({ hosts: [] }));
    expect([one.isOpen, two.isOpen]).toEqual([false, true]);
    bench.portal.removeVolume(2);
    expect(two.isOpen).toBe(false);
    expect(bench.portal.connections).toBe(0);
    const idle = bench.memory.usedBytes;
    expect(idle).toBe(0);
  });

  test("the empty name → the one volume the host may use; none among several", () => {
    const bench = new Bench({ tls: true });
    bench.portal.setHost({ host: 2, addresses: [FAR], certificates: [] });
    expect(bench.connect().flags().go("")).toBe(Reply.ERR_UNKNOWN);
    bench.portal.setVolume(exported());
    bench.portal.setVolume(exported({ volume: 2, name: "far", uuid: "ef", hosts: [2] }));
    expect(bench.connect().flags().go("")).toBe(Reply.ACK);
    const { socket } = bench.connect().flags();
    socket.arrive(option(Option.INFO, infoData("", Info.NAME)));
    socket.turn();
    const told = splitOptionReplies(socket.takeSent()).map(({ data }) => data.toString("latin1"));
    expect(told.some((text) => text.endsWith("one"))).toBe(true);
    expect(bench.connect("192.0.2.1").flags().go("")).toBe(Reply.ERR_UNKNOWN);
    // One that asks for TLS is one of several, too: which is meant is not guessed.
    bench.portal.setVolume(exported({ volume: 3, name: "two", uuid: "cd", tls: "required" }));
    expect(bench.connect().flags().go("")).toBe(Reply.ERR_UNKNOWN);
    bench.portal.removeVolume(1);
    expect(bench.connect().flags().go("")).toBe(Reply.ERR_TLS_REQD);
    expect(bench.connect().flags().secure().go("")).toBe(Reply.ACK);
  });

  test("a host removed, or from elsewhere now → what it had ends, but not another's", () => {
    const bench = new Bench();
    bench.portal.setHost({ host: 2, addresses: [FAR], certificates: [] });
    bench.portal.setVolume(exported({ hosts: [1, 2] }));
    const [near, far] = [bench.connect().flags(), bench.connect(FAR).flags()];
    expect([near.go(), far.go()]).toEqual([Reply.ACK, Reply.ACK]);
    bench.portal.setHost({ host: 2, addresses: [FAR, "203.0.113.9"], certificates: [] });
    expect([near.isOpen, far.isOpen]).toEqual([true, true]);
    bench.portal.setHost({ host: 2, addresses: ["203.0.113.9"], certificates: [] });
    expect([near.isOpen, far.isOpen]).toEqual([true, false]);
    bench.portal.setHost({ host: 2, addresses: [NEAR], certificates: [] }); // it is both now
    bench.portal.removeHost(1);
    expect(near.isOpen).toBe(true);
    bench.portal.removeHost(2);
    expect(near.isOpen).toBe(false);
    expect(bench.connect().flags().go()).toBe(Reply.ERR_UNKNOWN);
  });

  test("known by a certificate alone → nothing without it, all with it, from anywhere", () => {
    const bench = new Bench({ tls: true });
    const own = "aa".repeat(32);
    bench.portal.setHost({ host: 2, addresses: [], certificates: [own] });
    bench.portal.setVolume(exported({ hosts: [2], tls: "required" }));
    bench.portal.setVolume(exported({ volume: 2, name: "near", uuid: "cd", hosts: [1] }));
    const stranger = bench.connect(FAR).flags();
    expect(stranger.ask(Option.LIST)).toEqual([Reply.ACK]);
    expect([stranger.go(), stranger.go("near")]).toEqual([Reply.ERR_UNKNOWN, Reply.ERR_UNKNOWN]);
    // TLS is offered to it, since only so it can say who it is; without a certificate to no avail.
    expect(stranger.secure().ask(Option.LIST)).toEqual([Reply.ACK]);
    expect(stranger.go()).toBe(Reply.ERR_UNKNOWN);
    bench.shown = own;
    const known = bench.connect(FAR).flags().secure();
    expect(known.ask(Option.LIST)).toEqual([Reply.SERVER, Reply.ACK]);
    expect(known.go("near")).toBe(Reply.ERR_UNKNOWN);
    expect(known.go()).toBe(Reply.ACK);
    expect(bench.portal.attachedFrom()).toEqual([
      { volume: 1, address: FAR, tls: true, certificate: own, connections: 1 },
    ]);
    expect(bench.sentences.some((one) => one.includes(own))).toBe(true);
  });

  test("a certificate's host, and not its address's: neither more nor less", () => {
    const bench = new Bench({ tls: true });
    const own = "aa".repeat(32);
    bench.portal.setHost({ host: 2, addresses: [FAR], certificates: [own] });
    bench.portal.setVolume(exported());
    bench.portal.setVolume(exported({ volume: 2, name: "two", uuid: "cd", hosts: [2] }));
    bench.shown = own;
    const known = bench.connect(NEAR).flags().secure();
    expect([known.go(), known.go("two")]).toEqual([Reply.ERR_UNKNOWN, Reply.ACK]);
    bench.shown = null;
    expect(bench.connect(FAR).flags().secure().go("two")).toBe(Reply.ACK);
  });

  test("revoked, foreign, of a removed host → the end, also from a known address", () => {
    const bench = new Bench({ tls: true });
    const [old, fresh] = ["aa".repeat(32), "bb".repeat(32)];
    const set = (...certificates: string[]) =>
      bench.portal.setHost({ host: 1, addresses: ["10.0.0.0/8"], certificates });
    set(old, fresh);
    bench.portal.setVolume(exported());
    const enter = (certificate: string | null) => {
      bench.shown = certificate;
      const one = bench.connect().flags().secure();
      return one.isOpen && one.go() === Reply.ACK ? one : null;
    };
    const [byOld, byFresh, byAddress] = [enter(old), enter(fresh), enter(null)];
    expect([byOld, byFresh, byAddress]).not.toContain(null);
    set(fresh);
    expect([byOld?.isOpen, byFresh?.isOpen, byAddress?.isOpen]).toEqual([false, true, true]);
    expect(enter(old)).toBeNull();
    expect(enter("cc".repeat(32))).toBeNull();
    bench.portal.removeHost(1);
    expect([byFresh?.isOpen, byAddress?.isOpen]).toEqual([false, false]);
    expect(bench.portal.connections).toBe(0);
    expect(bench.memory.usedBytes).toBe(0);
  });

  test("no host has a certificate → strangers cannot have us compute", () => {
    const bench = new Bench({ tls: true });
    bench.portal.setVolume(exported());
    expect(bench.connect(FAR).flags().ask(Option.STARTTLS)).toEqual([Reply.ERR_POLICY]);
  });

  test("what is attached → told by volume and address, and that it changed", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    bench.connect().flags();
    expect([bench.portal.attachedFrom(), bench.changes]).toEqual([[], 0]);
    const all = [bench.connect(), bench.connect(), bench.connect("10.9.9.9")];
    for (const one of all) one.flags().go();
    expect(bench.changes).toBe(3);
    expect(bench.portal.attachedFrom()).toEqual([
      { volume: 1, address: NEAR, tls: false, certificate: null, connections: 2 },
      { volume: 1, address: "10.9.9.9", tls: false, certificate: null, connections: 1 },
    ]);
    bench.portal.removeVolume(1);
    expect(all.some((one) => one.isOpen)).toBe(false);
    expect([bench.portal.attachedFrom(), bench.changes]).toEqual([[], 6]);
  });

  test("a volume that grew → the new size for whoever comes", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    const sizeSeen = () => {
      const { socket } = bench.connect().flags();
      socket.arrive(option(Option.EXPORT_NAME, Buffer.from("one")));
      socket.turn();
      return Number(socket.takeSent().readBigUInt64BE(0));
    };
    expect(sizeSeen()).toBe(MIB);
    bench.portal.setVolume(exported({ sizeBytes: 4 * MIB, slices: [1, 2, 3, 4] }));
    expect(sizeSeen()).toBe(4 * MIB);
  });
});

describe("TLS", () => {
  test("no certificate → none; a volume that asks for it cannot be had", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported({ tls: "required" }));
    const host = bench.connect().flags();
    expect(host.ask(Option.STARTTLS)).toEqual([Reply.ERR_POLICY]);
    expect(host.go()).toBe(Reply.ERR_POLICY);
  });

  test("all that a host may use asks for it → forced for that host; else its choice", () => {
    const bench = new Bench({ tls: true });
    bench.portal.setVolume(exported({ tls: "required" }));
    const forced = bench.connect().flags();
    expect(forced.ask(Option.LIST)).toEqual([Reply.ERR_TLS_REQD]);
    expect(forced.secure().go()).toBe(Reply.ACK);
    // From there nothing is to be had, and no TLS either.
    const stranger = bench.connect(FAR).flags();
    expect(stranger.ask(Option.LIST)).toEqual([Reply.ACK]);
    expect(stranger.ask(Option.STARTTLS)).toEqual([Reply.ERR_POLICY]);
    bench.portal.setVolume(exported({ volume: 2, name: "two", uuid: "cd".repeat(16) }));
    const selective = bench.connect().flags();
    expect(selective.ask(Option.LIST)).toEqual([Reply.SERVER, Reply.ACK]);
    expect(selective.go()).toBe(Reply.ERR_TLS_REQD);
    expect(selective.go("two")).toBe(Reply.ACK);
  });

  test("the rule is tightened → who came in the other way is put out", () => {
    const bench = new Bench({ tls: true });
    bench.portal.setVolume(exported());
    const [plain, secured] = [bench.connect().flags(), bench.connect().flags().secure()];
    expect([plain.go(), secured.go()]).toEqual([Reply.ACK, Reply.ACK]);
    bench.portal.setVolume(exported({ tls: "required" }));
    expect([plain.isOpen, secured.isOpen]).toEqual([false, true]);
    bench.portal.setVolume(exported({ tls: "off" }));
    expect(secured.isOpen).toBe(false);
    expect(bench.sentences.at(-1)).toContain("not over TLS any more");
    expect(bench.memory.usedBytes).toBe(0);
  });
});

describe("one host among others (R13)", () => {
  test("connections that say nothing → so many of one host, and others get in", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    const own = Array.from({ length: HANDSHAKES_PER_HOST_MAX + 5 }, () => bench.connect(FAR));
    expect(own.filter((one) => one.isOpen)).toHaveLength(HANDSHAKES_PER_HOST_MAX);
    expect(own.at(-1)?.isOpen).toBe(true); // its newest, not its oldest
    expect(bench.connect().flags().go()).toBe(Reply.ACK);
    bench.portal.tick(0);
    bench.portal.tick(HANDSHAKE_MS);
    expect(own.filter((one) => one.isOpen)).toHaveLength(0);
    expect(bench.connect(FAR).isOpen).toBe(true);
  });

  test("attached ones → so many of one host", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    let attached = 0;
    for (let count = 0; count < CONNECTIONS_PER_HOST_MAX + 3; count++) {
      const host = bench.connect();
      if (host.isOpen && host.flags().go() === Reply.ACK) attached++;
    }
    expect(attached).toBe(CONNECTIONS_PER_HOST_MAX);
    expect(bench.connect("10.0.0.8").flags().go()).toBe(Reply.ACK);
  });

  test("no room at all → the oldest without a volume gives way, nobody attached", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    const attached = bench.connect().flags();
    expect(attached.go()).toBe(Reply.ACK);
    const idle = Array.from({ length: CONNECTIONS_MAX - 1 }, (_, index) =>
      bench.connect(`203.0.113.${index % 200}`),
    );
    expect(bench.portal.connections).toBe(CONNECTIONS_MAX);
    expect(bench.connect("10.0.0.9").flags().go()).toBe(Reply.ACK);
    expect(idle.map((one) => one.isOpen).indexOf(true)).toBe(1);
    expect(attached.isOpen).toBe(true);
  });
});

test("draining → attached ones end, haggling ones are told, new ones are not let in", () => {
  const bench = new Bench();
  bench.portal.setVolume(exported());
  const attached = bench.connect().flags();
  const haggling = bench.connect().flags();
  expect(attached.go()).toBe(Reply.ACK);
  expect(bench.portal.attached).toBe(1);
  bench.portal.drain();
  expect([attached.isOpen, haggling.isOpen, bench.connect().isOpen]).toEqual([false, true, false]);
  expect(bench.portal.attached).toBe(0);
  expect(haggling.ask(Option.LIST)).toEqual([Reply.ERR_SHUTDOWN]);
  bench.portal.close();
  expect(haggling.isOpen).toBe(false);
  expect(bench.memory.usedBytes).toBe(0);
});

describe("between reactors", () => {
  const request = (type: number) => {
    const bytes = Buffer.alloc(28);
    bytes.writeUInt32BE(0x25609513, 0);
    bytes.writeUInt16BE(type, 6);
    bytes.writeBigUInt64BE(0n, 16);
    bytes.writeUInt32BE(type === 0 ? 512 : 0, 24);
    return bytes;
  };
  const READ = 0;
  const DISC = 2;

  /** What a portal gave, once its host had chosen the volume there. */
  function given(change: Partial<ExportedVolume> = {}): { door: Bench; host: AdoptedHost } {
    const door = new Bench();
    door.portal.setVolume(exported(change));
    door.nearer.add(1);
    expect(door.connect().flags().go()).toBe(Reply.ACK);
    return { door, host: door.given[0] as AdoptedHost };
  }

  test("a volume headed beside → given there behind GO, counted until it is over", () => {
    const { door, host } = given();
    expect(host).toMatchObject({ address: NEAR, volume: 1, headers: "simple", secured: false });
    expect([door.portal.connections, door.portal.attachedFrom()]).toEqual([0, []]);
    expect(door.sentences.filter((sentence) => sentence.includes("ended"))).toEqual([]);
    for (let count = 1; count < CONNECTIONS_PER_HOST_MAX; count++) {
      expect(door.connect().flags().go()).toBe(Reply.ACK);
    }
    expect(door.connect().isOpen).toBe(false);
    door.portal.givenEnded(host.id);
    expect(door.connect().isOpen).toBe(true);
    expect(new Set(door.given.map(({ id }) => id)).size).toBe(door.given.length);
  });

  test("headed here, or bytes behind GO already, or none is nearer any more → not given", () => {
    const bench = new Bench();
    bench.portal.setVolume(exported());
    bench.connect().flags().go();
    bench.nearer.add(1);
    const hasty = bench.connect().flags();
    hasty.socket.arrive(Buffer.concat([option(Option.GO, infoData("one")), request(READ)]));
    hasty.socket.turn();
    expect(hasty.socket.takeSent().length).toBeGreaterThan(512);
    expect([bench.given, bench.portal.attached]).toEqual([[], 2]);
    const late = bench.connect().flags();
    late.socket.arrive(option(Option.GO, infoData("one")));
    bench.portal.drain();
    late.socket.turn();
    expect([bench.given, bench.closedDescriptors]).toEqual([[], []]);
  });

  test("taken over → served at once, listed, and its end is told", () => {
    const { host } = given();
    const bench = new Bench();
    bench.portal.setVolume(exported());
    bench.portal.adopt({ ...host, certificate: null });
    const [socket] = bench.taken as [MemorySocket];
    socket.arrive(request(READ));
    socket.turn();
    expect(socket.takeSent().length).toBe(16 + 512);
    const [line] = bench.portal.attachedFrom();
    expect(line).toMatchObject({ volume: 1, address: NEAR, tls: false, connections: 1 });
    socket.arrive(request(DISC));
    socket.turn();
    expect([bench.over, bench.portal.connections]).toEqual([[host.id], 0]);
  });

  test("not allowed here → not yet served; allowed in time it is, else refused", () => {
    const { host } = given();
    const bench = new Bench();
    bench.portal.adopt(host);
    bench.portal.tick(1000);
    bench.portal.setVolume(exported({ hosts: [2] }));
    bench.portal.tick(2000);
    expect([bench.taken.length, bench.over]).toEqual([0, []]);
    bench.portal.setVolume(exported());
    bench.portal.tick(2500);
    expect(bench.taken.length).toBe(1);
    bench.portal.setVolume(exported({ hosts: [] }));
    bench.taken[0]?.turn();
    expect([bench.taken[0]?.closedWith === null, bench.over]).toEqual([false, [host.id]]);
    bench.portal.adopt({ ...host, id: 7, descriptor: 99 });
    for (const nowMs of [3000, 4900]) bench.portal.tick(nowMs);
    expect(bench.closedDescriptors).toEqual([]);
    bench.portal.tick(5000);
    expect([bench.closedDescriptors, bench.over]).toEqual([[99], [host.id, 7]]);
  });

  test("its rule about TLS changed, no memory, going down → refused, the descriptor closed", () => {
    const { host } = given();
    const bench = new Bench();
    bench.portal.setVolume(exported({ tls: "required" }));
    bench.portal.adopt(host);
    for (const nowMs of [0, 2000]) bench.portal.tick(nowMs);
    bench.portal.setVolume(exported());
    bench.hasMemory = false;
    bench.portal.adopt({ ...host, id: 8 });
    bench.portal.setVolume(exported({ hosts: [2] }));
    bench.portal.adopt({ ...host, id: 9 });
    bench.portal.drain();
    bench.portal.adopt({ ...host, id: 10 });
    expect(bench.over).toEqual([host.id, 8, 9, 10]);
    expect(bench.closedDescriptors.length).toBe(4);
    expect([bench.taken, bench.portal.connections]).toEqual([[], 0]);
  });
});
