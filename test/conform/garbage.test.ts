// SPDX-License-Identifier: Apache-2.0
//
// Garbage on every port that a unit listens on: what nobody would send, what breaks off, what is
// almost right. The unit serves its host on, nothing of it is restarted, and it holds neither more
// memory nor more descriptors afterwards. Ports are taken from the kernel's list, so that a new one
// is not forgotten.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { Prng } from "#base/prng.ts";
import { createClock } from "#machine/clock.ts";
import { createSeal } from "#machine/seal.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import {
  FRAME,
  FrameKind,
  HELLO,
  HELLO_MAGIC,
  Purpose,
} from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState, unitIdOf } from "#protocol/peer-channel/identity.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import { assembled, createVolume } from "#test/cluster/assembled.ts";
import { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { NbdClient } from "#test/cluster/nbd-client.ts";
import { need } from "#test/cluster/until.ts";
import { MutantStorm } from "#test/fuzz/mutant-storm.ts";
import { SteadyHost } from "#test/fuzz/steady-host.ts";
import { run } from "./programs.ts";

const MIB = 1 << 20;
const START_MS = 45_000;
const ANSWER_MS = 10_000;
/** A server that neither answers nor hangs up is left after this. */
const PATIENCE_MS = 300;
const AT_ONCE = 16;
const ROUNDS = 3;
const CONNECTIONS_PER_ROUND = 90;
const DATAGRAMS_PER_ROUND = 20_000;
/** Packets of each kind; a million in all: `bun test/cluster/judge-run.ts mutants`. */
const MUTANTS = { discovery: 3000, peers: 300, nbd: 3000 };
const STEADY_BLOCKS = 256;
/** The collector's slack. All rounds' receive buffers or datagrams, if kept, would be more. */
const GROWTH_BYTES_MAX = 32 * MIB;

setDefaultTimeout(120_000);

interface Port {
  address: string;
  port: number;
}

let lab: Lab;
let unit: LabUnit;
let written: Buffer;
/** Real packets of the unit, to be changed. */
const packets: Buffer[] = [];
let udp: Bun.udp.Socket<"buffer">;

beforeAll(async () => {
  lab = new Lab();
  try {
    udp = await Bun.udpSocket({
      hostname: lab.hostAddress,
      port: 0,
      socket: { data: (_, bytes) => void packets.push(Buffer.from(bytes)) },
    });
    const unicastPeers = [`${lab.hostAddress}:${udp.port}`];
    unit = lab.add({ diskBytes: 160 * MIB, settings: { sliceBytes: 32 * MIB, unicastPeers } });
    unit.start();
    await lab.until("one cluster", () => assembled(lab), START_MS);
    for (const name of ["vol", "mangled", "steady"]) {
      await createVolume(lab, { name, sizeBytes: 32 * MIB, protection: "none" });
    }
    written = Buffer.alloc(MIB, "what the host wrote ");
    using client = await lab.until("a host", () => attach(), START_MS);
    await client.write(0, written);
    await reachEtcd();
  } catch (error) {
    await lab.end();
    throw error;
  }
}, 120_000);
afterAll(async () => {
  udp?.close();
  try {
    // Still able to stop in order, with exit status 0.
    await unit.stop();
  } finally {
    await lab.end();
  }
});

function attach(): Promise<NbdClient> {
  return NbdClient.open({ host: unit.address, port: 10809, name: "vol" }, ANSWER_MS);
}

/** etcd listens on the unit's address among units, so this machine gets one beside it. */
async function reachEtcd(): Promise<void> {
  const [view] = await unit.api.units();
  const ula = view?.addresses.find((address) => /^fd/i.test(address)) as string;
  const neighbour = `${ula.split(":").slice(0, 4).join(":")}::fefe/64`;
  const link = `cairn-lab-${lab.record.number}`;
  await run("ip", ["-6", "address", "add", neighbour, "dev", link, "nodad"]);
}

/** All TCP ports of the unit's namespace that anybody listens on, as this machine reaches them. */
function listening(): Port[] {
  const found: Port[] = [];
  for (const file of ["tcp", "tcp6"]) {
    const rows = readFileSync(`/proc/${unit.pid}/net/${file}`, "utf8").trim().split("\n").slice(1);
    for (const row of rows) {
      const [, local = "", , state] = row.trim().split(/\s+/);
      if (state !== "0A") continue;
      const [hex = "", port = ""] = local.split(":");
      found.push({ address: addressOf(hex), port: Number.parseInt(port, 16) });
    }
  }
  return found;
}

/** As the kernel prints it: words of 32 bits, each in the machine's order. */
function addressOf(hex: string): string {
  if (/^0*$/.test(hex)) return unit.address;
  const bytes = Buffer.from(hex, "hex");
  const text = bytes.swap32().toString("hex");
  if (bytes.length === 4) return [...bytes].join(".");
  return (text.match(/.{4}/g) as string[]).join(":");
}

// What is sent.

const seal = createSeal();

/** What an initiator says first, with a secret that may be the cluster's. */
function hello(secret: string, purpose: Purpose): Buffer {
  const { publicKey, privateKey } = seal.ed25519KeyPair();
  const said: Uint8Array[] = [];
  const own = {
    unitId: unitIdOf(seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: seal.x25519KeyPair(),
    clusterId: new Uint8Array(16).fill(1),
    clusterState: ClusterState.used,
    unitNumber: 2,
    featureLevel: 1,
  };
  const preSharedKey = joinKeys(seal, secret).link;
  const options = { call: purpose, offers: [], own, preSharedKey };
  new PeerChannel({ clock: createClock(), seal }, options, {
    send: (bytes) => void said.push(bytes.slice()),
    authenticate: () => null,
    open: () => {},
    plain: () => {},
    refused: () => {},
  });
  return Buffer.concat(said);
}

function frame(kind: number, lengthBytes: number, body: Uint8Array): Buffer {
  const bytes = Buffer.alloc(FRAME.size + body.length);
  const view = FRAME.view().at(bytes, 0);
  view.lengthBytes = lengthBytes;
  view.kind = kind;
  bytes.set(body, FRAME.size);
  return bytes;
}

function longHello(): Buffer {
  const body = Buffer.alloc(4000, 0xee);
  const view = HELLO.view().at(body, 0);
  view.magic = HELLO_MAGIC;
  view.version = 1;
  view.purpose = Purpose.dataLane;
  return frame(FrameKind.hello, 0xffffffff, body);
}

/** Beginnings that get past somebody's first look; they are sent whole, cut short and changed. */
function beginnings(): Buffer[] {
  const nbdFlags = "00000003";
  const option = "49484156454f5054";
  const ofName = Buffer.from("vol").toString("hex");
  const tlsHello = `16030100c8010000c40303${"ab".repeat(32)}00`;
  return [
    ...[hello(lab.joinSecret, Purpose.join), hello(lab.joinSecret, Purpose.dataLane)],
    ...[hello("another secret, long enough", Purpose.controlLane), longHello()],
    frame(FrameKind.record, 1 << 20, Buffer.alloc(2000, 1)),
    ...[
      `${nbdFlags}${option}0000000300000000`, // NBD: LIST
      `${nbdFlags}${option}00000007ffffffff`, // NBD: GO with a length nobody has memory for
      `${nbdFlags}${option}0000000100000003${ofName}256095130000ffff`, // NBD: entered, bad command
      `${nbdFlags}${option}0000000100000003${ofName}2560951300000001${"0f".repeat(20)}`,
      tlsHello,
    ].map((hex) => Buffer.from(hex, "hex")),
    ...[
      "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "POST /api/v1/volumes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{",
      `GET /${"a".repeat(5000)} HTTP/1.1\r\nHost: localhost\r\n`,
      `GET / HTTP/1.1\r\n${"X: y\r\n".repeat(400)}`,
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ].map((text) => Buffer.from(text)),
  ];
}

function randomBytes(prng: Prng, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at++) bytes[at] = prng.below(256);
  return bytes;
}

/** Some of its bytes changed, or cut short, or with more behind it. */
function changed(prng: Prng, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  if (prng.chance(0.5)) {
    for (let count = prng.between(1, 4); count > 0; count--) {
      copy[prng.below(copy.length)] = prng.below(256);
    }
  }
  if (prng.chance(0.5)) return copy.subarray(0, prng.between(1, copy.length));
  return prng.chance(0.3) ? Buffer.concat([copy, randomBytes(prng, prng.between(1, 3000))]) : copy;
}

interface Shout {
  bytes: Buffer;
  /** Cut without a word, ended in order, or left open until the server has had enough. */
  end: "cut" | "finish" | "hang";
}

function shouts(prng: Prng): Shout[] {
  const known = beginnings();
  return Array.from({ length: CONNECTIONS_PER_ROUND }, (_, index) => {
    const own = known[index % known.length] as Buffer;
    const bytes = prng.chance(0.3) ? randomBytes(prng, prng.between(1, 3000)) : changed(prng, own);
    const end = prng.chance(0.4) ? "cut" : prng.chance(0.8) ? "finish" : "hang";
    return { bytes, end };
  });
}

/** Resolves when the connection is over, by whichever side. */
async function shoutAt(port: Port, { bytes, end }: Shout): Promise<void> {
  let over: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    over = resolve;
  });
  const socket = await Bun.connect({
    hostname: port.address,
    port: port.port,
    socket: { data() {}, close: () => over(), error: () => over() },
  });
  socket.write(bytes);
  if (end === "cut") socket.terminate();
  else if (end === "finish") socket.end();
  AbortSignal.timeout(PATIENCE_MS).addEventListener("abort", () => socket.terminate());
  await ended;
}

async function shoutAll(port: Port, all: readonly Shout[]): Promise<void> {
  const waiting = all.values();
  const one = async () => {
    for (const shout of waiting) await shoutAt(port, shout);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

// What is looked at.

function residentBytes(): number {
  const status = readFileSync(`/proc/${unit.pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024;
}

function descriptors(): number {
  return readdirSync(`/proc/${unit.pid}/fd`).length;
}

async function servesOn(): Promise<void> {
  unit.stillRuns();
  expect((await unit.api.status()).phase).toBe("joined");
  using client = await attach();
  expect((await client.read(0, MIB)).equals(written)).toBe(true);
}

function fewAgain(most: number): Promise<true> {
  const look = () => {
    need(descriptors() <= most, `${descriptors()} descriptors, ${most} before`);
    return true as const;
  };
  return lab.until("descriptors given back", look, 30_000);
}

test("the ports that are listened on → all known ones are found", () => {
  const ports = new Set(listening().map(({ port }) => port));
  for (const port of [10809, 10811, 10812, 7480]) expect([...ports]).toContain(port);
  expect(listening().some(({ address }) => /^fd/.test(address))).toBe(true); // etcd's
});

test("garbage on every TCP port → served on, no memory or descriptor kept", async () => {
  const prng = new Prng(20);
  const etcdBefore = unit.etcdPid();
  const ports = listening();
  const round = async () => {
    for (const port of ports) await shoutAll(port, shouts(prng));
    await servesOn();
  };
  const descriptorsBefore = descriptors();
  await round(); // whatever is made once, at first need, is made now
  await fewAgain(descriptorsBefore + 4);
  const before = residentBytes();
  for (let count = 0; count < ROUNDS; count++) await round();
  await fewAgain(descriptorsBefore + 4);
  expect(residentBytes() - before).toBeLessThan(GROWTH_BYTES_MAX);
  expect(unit.etcdPid()).toBe(etcdBefore);
});

test("garbage on the UDP port → served on, no memory kept", async () => {
  const prng = new Prng(21);
  const { autoconfig } = (await unit.api.status()).ports;
  await lab.until("a packet of the unit", () => (packets.length > 0 ? true : null), 40_000);
  const round = async () => {
    for (let count = 0; count < DATAGRAMS_PER_ROUND; count++) {
      const real = packets[count % packets.length] as Buffer;
      const bytes =
        count % 3 === 0 ? randomBytes(prng, prng.between(1, 1400)) : changed(prng, real);
      udp.send(bytes, autoconfig as number, unit.address);
      // In pieces that the other side's receive buffer holds.
      if (count % 100 === 99) await unit.api.status();
    }
    await servesOn();
  };
  await round();
  const before = residentBytes();
  for (let count = 0; count < ROUNDS; count++) await round();
  expect(residentBytes() - before).toBeLessThan(GROWTH_BYTES_MAX);
});

test("conversations with changed packets → a host beside them reads what it wrote", async () => {
  const { ports } = await unit.api.status();
  await lab.until("a packet of the unit", () => (packets.length > 0 ? true : null), 40_000);
  const storm = new MutantStorm(
    {
      address: unit.address,
      nbdPort: 10809,
      peerPort: ports.peer as number,
      discoveryPort: ports.autoconfig as number,
      volume: { name: "mangled", sizeBytes: 32 * MIB },
      joinSecret: lab.joinSecret,
      heard: packets,
      settled: async () => void (await unit.api.status()),
    },
    22,
  );
  const descriptorsBefore = descriptors();
  const host = { host: unit.address, port: 10809, name: "steady" };
  const steady = await SteadyHost.begin(host, 22, STEADY_BLOCKS);
  await storm.discovery(MUTANTS.discovery);
  await storm.peers(MUTANTS.peers);
  await storm.nbd(MUTANTS.nbd);
  expect(storm.sent).toBeGreaterThan(6000);
  const { writes, reads } = await steady.finish();
  expect(writes).toBeGreaterThanOrEqual(STEADY_BLOCKS);
  expect(reads).toBeGreaterThan(0);
  await servesOn();
  await fewAgain(descriptorsBefore + 4);
});

test("connections that say nothing → bounded, and others still get in", async () => {
  const open: Bun.Socket[] = [];
  const descriptorsBefore = descriptors();
  try {
    for (const port of listening()) {
      for (let count = 0; count < 60; count++) {
        const socket = { data() {}, error() {}, close() {} };
        open.push(await Bun.connect({ hostname: port.address, port: port.port, socket }));
      }
    }
    await servesOn();
  } finally {
    for (const socket of open) socket.terminate();
  }
  await fewAgain(descriptorsBefore + 4);
});

test("after all of it → no error of its own in the unit's log", () => {
  const lines = readFileSync(unit.logFile, "utf8").trim().split("\n");
  const wrong = lines.filter((line) => !line.startsWith("{") || line.includes('"level":"error"'));
  expect(wrong).toEqual([]);
});
