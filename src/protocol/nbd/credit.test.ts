// SPDX-License-Identifier: Apache-2.0
//
// How hosts share the memory for payload: who is served, who waits, and that a host that is stuck
// holds up nobody.

import { describe, expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import type { HostAccount } from "./credit.ts";
import { HostCredit, SMALL_BYTES } from "./credit.ts";

const MIB = 1 << 20;
const nothing = () => {};

describe("one host", () => {
  test("alone → served whatever it asks for, also past the limit", () => {
    const credit = new HostCredit(4 * MIB);
    const account = credit.open("a", nothing);
    expect(account.takeOrWait(32 * MIB)).toBe(true);
    expect(account.takeOrWait(4096)).toBe(false);
    account.give(32 * MIB);
    expect(account.takeOrWait(4096)).toBe(true);
    expect(credit.isContended).toBe(false);
  });

  test("takes as much as it leaves free", () => {
    const credit = new HostCredit(128 * MIB);
    const account = credit.open("a", nothing);
    let held = 0;
    while (account.take(MIB)) held++;
    expect(held).toBe(48); // half of what is not kept for small ones
    expect(account.take(4096)).toBe(false);
  });

  test("there is less from now on → nothing until enough was given back", () => {
    const credit = new HostCredit(128 * MIB);
    const account = credit.open("a", nothing);
    for (let count = 0; count < 40; count++) expect(account.take(MIB)).toBe(true);
    credit.limitBytes = 32 * MIB;
    expect(account.take(MIB)).toBe(false);
    account.give(39 * MIB);
    expect(account.take(MIB)).toBe(true);
  });

  test("one connection is stuck → its others get small ones, out of half of their part", () => {
    const credit = new HostCredit(128 * MIB);
    const stuck = credit.open("a", nothing);
    while (stuck.take(MIB));
    expect(stuck.takeOrWait(32 * MIB)).toBe(false);
    let served = 0;
    while (credit.open("a", nothing).take(SMALL_BYTES)) served++;
    expect(served).toBe((112 * MIB - 48 * MIB) / SMALL_BYTES);
    for (let count = 0; count < (16 * MIB) / SMALL_BYTES; count++) {
      expect(credit.open("b", nothing).take(SMALL_BYTES)).toBe(true);
    }
  });

  test("its last connection closed → forgotten", () => {
    const credit = new HostCredit(128 * MIB);
    const [first, second] = [credit.open("a", nothing), credit.open("a", nothing)];
    expect(first.take(4096)).toBe(true);
    first.give(4096);
    first.close();
    expect(credit.hostCount).toBe(1);
    second.close();
    expect(credit.hostCount).toBe(0);
  });
});

describe("several hosts", () => {
  test("stuck with all they could take → the next one still gets small and middling ones", () => {
    const credit = new HostCredit(128 * MIB);
    for (const name of ["a", "b", "c"]) {
      const stuck = credit.open(name, () => expect.unreachable());
      while (stuck.take(MIB));
      stuck.takeOrWait(32 * MIB);
    }
    const healthy = credit.open("d", nothing);
    let taken = 0;
    while (healthy.take(65536)) taken += 65536;
    expect(taken).toBeGreaterThanOrEqual(2 * MIB);
  });

  test("all of it held by large ones → small ones come out of what is kept for them", () => {
    const credit = new HostCredit(64 * MIB);
    expect(credit.open("a", nothing).take(32 * MIB)).toBe(true);
    expect(credit.open("b", nothing).take(16 * MIB)).toBe(true);
    const small = credit.open("c", nothing);
    expect(small.take(SMALL_BYTES)).toBe(true);
    expect(small.take(4096)).toBe(false);
    for (let index = 0; index < 31; index++) {
      expect(credit.open(`d${index}`, nothing).take(SMALL_BYTES)).toBe(true);
    }
    expect(credit.open("e", nothing).take(4096)).toBe(false);
    expect(credit.heldBytes).toBe(64 * MIB);
  });

  test("who waits for something large is served in order, and before all that hold more", () => {
    const credit = new HostCredit(80 * MIB);
    const woken: string[] = [];
    const a = credit.open("a", () => woken.push("a"));
    const b = credit.open("b", () => woken.push("b"));
    const c = credit.open("c", () => woken.push("c"));
    expect(a.take(20 * MIB)).toBe(true);
    expect(b.take(20 * MIB)).toBe(true);
    expect(b.takeOrWait(11 * MIB)).toBe(false);
    expect(c.takeOrWait(32 * MIB)).toBe(false);
    // 20 MiB are free, but c, which holds nothing, waits for them.
    expect(a.take(2 * MIB)).toBe(false);
    a.give(20 * MIB);
    expect(woken).toEqual(["c"]);
    expect(c.takeOrWait(32 * MIB)).toBe(true);
    c.give(32 * MIB);
    expect(woken).toEqual(["c"]); // b would hold more than it leaves free
    b.give(2 * MIB);
    expect(woken).toEqual(["c", "b"]);
    b.forget();
    expect(credit.isContended).toBe(false);
  });

  test("a large one that waits holds up no small one", () => {
    const credit = new HostCredit(64 * MIB);
    expect(credit.open("a", nothing).take(32 * MIB)).toBe(true);
    expect(credit.open("b", nothing).takeOrWait(32 * MIB)).toBe(false);
    expect(credit.open("c", nothing).takeOrWait(4096)).toBe(true);
    expect(credit.isContended).toBe(true);
  });

  test("small ones that wait → in order; one that holds more does not overtake them", () => {
    const credit = new HostCredit(MIB);
    const part = MIB / 4;
    const woken: string[] = [];
    const [a, b] = [credit.open("a", nothing), credit.open("b", nothing)];
    const c = credit.open("c", () => woken.push("c"));
    expect([a.take(part), a.take(part), b.take(part), b.take(part)]).not.toContain(false);
    expect(c.takeOrWait(65536)).toBe(false);
    a.give(part);
    expect(woken).toEqual(["c"]);
    expect(a.take(65536)).toBe(false);
    expect(woken).toEqual(["c"]);
  });
});

interface Randomly {
  account: HostAccount;
  /** Takes, and never gives back. */
  stuck: boolean;
  held: number[];
  wanted: number;
  waits: boolean;
}

/** Takes what it wants, unless it has been told to wait. */
function tryTake(host: Randomly): void {
  if (host.waits || host.wanted === 0) return;
  if (host.account.takeOrWait(host.wanted)) {
    host.held.push(host.wanted);
    host.wanted = 0;
  } else host.waits = true;
}

/** Nobody who was told to wait and could be served is left without a word. */
function checkNobodyForgotten(hosts: readonly Randomly[]): void {
  if (hosts.some(({ wanted, waits }) => wanted > 0 && !waits)) return;
  for (const { waits, wanted, account } of hosts) {
    if (waits && account.take(wanted)) throw new Error(`nobody woke who waits for ${wanted}`);
  }
}

function giveAll(host: Randomly): void {
  for (const bytes of host.held.splice(0)) host.account.give(bytes);
}

test("random hosts, some stuck → the others get what is small, and all once those are gone", () => {
  const prng = new Prng(5);
  for (let round = 0; round < 300; round++) {
    const credit = new HostCredit(64 * MIB);
    const hosts = Array.from({ length: prng.between(2, 8) }, (_, index): Randomly => {
      // Some of them are connections of one host.
      const name = `host-${Math.floor(index / 2)}`;
      const account = credit.open(name, () => {
        host.waits = false;
      });
      const stuck = index < 3 && prng.chance(0.6);
      const host: Randomly = { account, stuck, held: [], wanted: 0, waits: false };
      return host;
    });
    const settle = (who: Randomly[]) => {
      for (let pass = 0; pass < 40; pass++) {
        for (const host of hosts) {
          if (!host.stuck) giveAll(host);
          tryTake(host);
        }
      }
      for (const host of who) expect([host.wanted, host.waits]).toEqual([0, false]);
    };
    for (let step = 0; step < 400; step++) {
      const host = prng.pick(hosts);
      if (!host.stuck && host.held.length > 0 && prng.chance(0.6)) {
        host.account.give(host.held.splice(prng.below(host.held.length), 1)[0] as number);
      }
      if (host.wanted === 0) host.wanted = 4096 * 2 ** prng.below(prng.chance(0.1) ? 14 : 7);
      tryTake(host);
      const sum = hosts.reduce((all, one) => all + one.account.heldBytes, 0);
      if (credit.heldBytes !== sum) throw new Error(`${credit.heldBytes} held, not ${sum}`);
      checkNobodyForgotten(hosts);
    }
    settle(hosts.filter(({ stuck, wanted }) => !stuck && wanted <= SMALL_BYTES));
    // The stuck ones are dropped.
    for (const host of hosts) {
      if (!host.stuck) continue;
      host.account.forget();
      giveAll(host);
      host.wanted = 0;
    }
    settle(hosts.filter(({ stuck }) => !stuck));
    for (const host of hosts) {
      giveAll(host);
      host.account.close();
    }
    expect([credit.heldBytes, credit.hostCount, credit.isContended]).toEqual([0, 0, false]);
  }
});
