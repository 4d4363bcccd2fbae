// SPDX-License-Identifier: Apache-2.0
//
// The group address at one unit: held while it is wanted, renewed, announced, let go; what fails is
// told once and tried again.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { Link } from "#machine/network.ts";
import {
  GroupAddress,
  HOLD_SECONDS,
  heldFrom,
  linkFor,
  withoutGroupAddress,
} from "./group-address.ts";

const own = (address: string, prefixBits: number) => ({
  address,
  family: address.includes(":") ? (6 as const) : (4 as const),
  prefixBits,
  linkLocal: false,
});
const link = (name: string, ...addresses: Link["addresses"]): Link => ({
  name,
  mac: "02:00:00:00:00:07",
  loopback: name === "lo",
  addresses,
});
const LAN = link("eth0", own("198.51.100.2", 24), own("2001:db8::2", 64));

let links: Link[];
let wanted: string | null;
let done: string[];
let told: string[];
let failing: Fault | null;
let waiting: (() => void)[];
let seconds: number;
let group: GroupAddress;

beforeEach(() => {
  links = [LAN];
  seconds = 4;
  [wanted, done, told, failing, waiting] = [null, [], [], null, []];
  const effects = {
    isSet: () => wanted !== null,
    links: () => links,
    hold: async (name: string, address: string, seconds: number) => {
      if (failing !== null) throw failing;
      done.push(`hold ${name} ${address} ${seconds}`);
    },
    release: async (name: string, address: string) => void done.push(`release ${name} ${address}`),
    announce: ({ name }: Link, address: string) => void done.push(`announce ${name} ${address}`),
  };
  const log = { write: (_level: string, sentence: string) => void told.push(sentence) };
  const timers = {
    after: (_ms: number, act: () => void) => {
      waiting.push(act);
      return () => void (waiting = waiting.filter((one) => one !== act));
    },
  };
  group = new GroupAddress({ log, timers, effects }, () =>
    wanted === null ? null : { address: wanted, seconds },
  );
});

/** Lets a round pass, and answers what it did. */
async function round(): Promise<string[]> {
  done = [];
  const [next] = waiting.splice(0, 1);
  if (next === undefined) group.wake();
  else next();
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
  return done;
}

const HOLD = `hold eth0 198.51.100.7 ${HOLD_SECONDS}`;
const ANNOUNCE = "announce eth0 198.51.100.7";

test("wanted → put there, announced thrice, renewed; not wanted → let go", async () => {
  expect(await round()).toEqual([]);
  wanted = "198.51.100.7";
  for (let count = 0; count < 3; count++) expect(await round()).toEqual([HOLD, ANNOUNCE]);
  expect([await round(), group.held]).toEqual([[HOLD], wanted]);
  wanted = null;
  expect([await round(), group.held]).toEqual([["release eth0 198.51.100.7"], null]);
  expect(await round()).toEqual([]);
});

test("it leads for one more second → held no longer than that", async () => {
  [wanted, seconds] = ["198.51.100.7", 1];
  expect((await round())[0]).toBe("hold eth0 198.51.100.7 1");
});

test("its predecessor → had it for so long after its death, or not at all after its lease", () => {
  expect(heldFrom({ atMs: 10_000, provenDeadMs: 8000 })).toBe(8000 + HOLD_SECONDS * 1000 + 1000);
  expect(heldFrom({ atMs: 10_000, provenDeadMs: null })).toBe(11_000);
});

test("another address, or its interface is another → the old one is let go first", async () => {
  wanted = "198.51.100.7";
  await round();
  wanted = "198.51.100.8";
  expect((await round()).slice(0, 2)).toEqual([
    "release eth0 198.51.100.7",
    `hold eth0 198.51.100.8 ${HOLD_SECONDS}`,
  ]);
  links = [link("eth1", own("198.51.100.3", 24))];
  expect((await round()).slice(0, 2)).toEqual([
    "release eth0 198.51.100.8",
    `hold eth1 198.51.100.8 ${HOLD_SECONDS}`,
  ]);
});

test("cannot be put there, no interface for it → told once, tried again", async () => {
  wanted = "198.51.100.7";
  failing = new Fault("programFailed", "ip: operation not permitted");
  for (let count = 0; count < 2; count++) expect(await round()).toEqual([]);
  expect(told).toEqual(["the group address cannot be held"]);
  failing = null;
  expect(await round()).toEqual([HOLD, ANNOUNCE]);
  links = [];
  await round();
  await round();
  expect(told.filter((one) => one.includes("cannot"))).toHaveLength(2);
});

test("stopped → let go, and never again", async () => {
  wanted = "198.51.100.7";
  await round();
  done = [];
  await group.stop();
  expect([done, waiting]).toEqual([["release eth0 198.51.100.7"], []]);
  group.wake();
  expect(done).toHaveLength(1);
});

describe("links", () => {
  test("the narrowest network that holds it; never the loopback, nor an address alone", () => {
    const wide = link("eth1", own("198.51.0.1", 16));
    const alone = link("eth2", own("198.51.100.7", 32));
    const loop = link("lo", own("198.51.100.1", 25));
    const all = [wide, alone, loop, LAN];
    expect(linkFor(all, "198.51.100.7")?.name).toBe("eth0");
    expect(linkFor(all, "198.51.7.7")?.name).toBe("eth1");
    expect(linkFor(all, "2001:db8::99")?.name).toBe("eth0");
    expect(linkFor(all, "203.0.113.1")).toBeNull();
  });

  test("what is alone in another one's network → not a unit's own address", () => {
    const ula = own("fd12::9", 128);
    const held = [own("198.51.100.7", 32), own("2001:db8::99", 128)];
    const shown = withoutGroupAddress(link("eth0", ...LAN.addresses, ...held, ula));
    expect(shown.addresses).toEqual([...LAN.addresses, ula]);
  });
});
