// SPDX-License-Identifier: Apache-2.0
//
// Volumes that hosts ask for by themselves: granted by the policy or by a person, refused over the
// quota with the reason, and never more in all than the quota but by a person.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { drainMicrotasks } from "bun:jsc";
import { Fault } from "#base/fault.ts";
import { REQUESTS_KEPT, REQUESTS_WAITING_MAX, askedBytes, hostByToken } from "./host-state.ts";
import { transactionRefusal } from "./proxy-rules.ts";
import { keys, valueText } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";

const GIB = 2 ** 30;
let made: StationFixture;
let host: number;

beforeEach(() => {
  made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 40);
  host = made.ask("addHost", { name: "db1", addresses: ["10.0.0.7"] }).host;
});
afterEach(() => {
  for (const unit of [...made.units.keys()]) made.kill(unit);
});

const view = () => made.view();
const wish = (gib: number, name?: string) => ({
  host,
  sizeBytes: gib * GIB,
  protection: "none" as const,
  ...(name === undefined ? {} : { name }),
});
interface May {
  grants?: boolean;
  protections?: ("none" | "mirror-2")[];
  pools?: string[];
}
const may = (gib: number, more: May = {}) =>
  made.ask("setHostPolicy", {
    host,
    policy: { quotaBytes: gib * GIB, protections: [], pools: [], grants: true, ...more },
  });
const asked = (gib: number, name?: string) => {
  const { request } = made.ask("requestVolume", wish(gib, name));
  return view().requests.get(request) ?? null;
};
const answer = (request: number, grant: boolean, why = "") =>
  made.ask("answerRequest", { request, grant, why });

function refusal(act: () => unknown): [string, string] {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return [error.code, error.message];
    throw error;
  }
  return ["none", ""];
}

describe("by the policy", () => {
  test("none set → nothing may be asked for", () => {
    expect(refusal(() => asked(1))).toEqual([
      "overQuota",
      "over the quota: host db1 may ask for nothing",
    ]);
    expect([view().requests.size, view().volumes.size]).toEqual([0, 0]);
  });

  test("within the quota → a volume of the host's own, at once", () => {
    may(10);
    const request = asked(4, "data");
    expect(request).toMatchObject({ state: "granted", name: "data", host });
    const volume = view().volumes.get(request?.volume ?? 0);
    expect(volume).toMatchObject({ name: "data", hosts: [host], requestedBy: host });
    made.until("it is ready", () => view().volumeByName("data")?.state === "ready");
    expect(asked(1)?.name).toBe("db1-2");
  });

  test("over the quota → refused with what it has and asks; freed by a deletion", () => {
    may(10);
    const first = asked(8);
    expect(refusal(() => asked(3))).toEqual([
      "overQuota",
      "over the quota: host db1 has or waits for 8 GiB of its 10 GiB, and asks for 3 GiB more",
    ]);
    expect(view().volumes.size).toBe(1);
    made.ask("deleteVolume", { volume: first?.volume ?? 0 });
    expect(asked(3)?.state).toBe("granted");
  });

  test("a protection that it may not have → refused; no room, a name taken → as ever", () => {
    may(100, { protections: ["mirror-2"] });
    expect(refusal(() => asked(1))[1]).toContain("may ask for mirror-2, not for none");
    may(100);
    asked(1, "data");
    expect(refusal(() => asked(1, "data"))[0]).toBe("conflict");
    expect(refusal(() => asked(60))[0]).toBe("noSpace");
    expect(view().requests.size).toBe(1);
  });
});

describe("pools", () => {
  const inPool = (pool: string | undefined, name: string) =>
    made.ask("requestVolume", { ...wish(1, name), ...(pool === undefined ? {} : { pool }) });
  const poolOf = (name: string) => view().volumeByName(name)?.pool;
  beforeEach(() => {
    for (const name of ["archive", "fast"]) made.ask("createPool", { name });
    const unit = made.admit();
    made.addDisk(unit, 40);
    made.ask("moveUnit", { unit, role: "member", pool: "archive" });
  });

  test("none named → the first pool alone, as before there were several", () => {
    may(10);
    inPool(undefined, "one");
    inPool("pool", "two");
    expect([poolOf("one"), poolOf("two")]).toEqual(["pool", "pool"]);
    expect(refusal(() => inPool("archive", "three"))).toEqual([
      "forbidden",
      "not allowed: host db1 may ask in the pool pool, not in archive",
    ]);
    expect(view().requests.size).toBe(2);
  });

  test("named → in these alone; none said: the first of them", () => {
    may(10, { pools: ["archive", "fast"] });
    inPool(undefined, "one");
    expect(poolOf("one")).toBe("archive");
    expect(refusal(() => inPool("pool", "two"))[1]).toContain(
      "may ask in the pool archive or fast, not in pool",
    );
    // It may ask there, and there is no room.
    expect(refusal(() => inPool("fast", "three"))[0]).toBe("noSpace");
  });

  test("one that is not there → refused in a policy; gone since → refused when it is asked", () => {
    expect(refusal(() => may(10, { pools: ["nowhere"] }))[0]).toBe("notFound");
    may(10, { pools: ["fast"] });
    made.ask("deletePool", { name: "fast" });
    expect(refusal(() => inPool(undefined, "one"))[0]).toBe("notFound");
  });

  test("waits for a person → granted where it was asked, and says so", () => {
    may(10, { pools: ["archive"], grants: false });
    const { request } = inPool(undefined, "one");
    expect(view().requests.get(request)).toMatchObject({ state: "waiting", pool: "archive" });
    answer(request, true);
    expect(poolOf("one")).toBe("archive");
    const told = [...view().events.values()].map(({ sentence }) => sentence);
    expect(told.some((one) => one.endsWith("none, in the pool archive"))).toBe(true);
  });
});

describe("by a person", () => {
  beforeEach(() => may(10, { grants: false }));

  test("waits and counts; granted → a volume; twice → conflict", () => {
    const request = asked(6, "data");
    expect([request?.state, view().volumes.size]).toEqual(["waiting", 0]);
    expect(refusal(() => asked(6))[0]).toBe("overQuota");
    expect(refusal(() => asked(1, "data"))[1]).toContain("is asked for already");
    const number = request?.number ?? 0;
    answer(number, true);
    const granted = view().requests.get(number);
    expect(granted).toMatchObject({ state: "granted" });
    expect(view().volumes.get(granted?.volume ?? 0)).toMatchObject({ hosts: [host] });
    expect(askedBytes(view(), host)).toBe(6 * GIB);
    for (const grant of [true, false]) {
      expect(refusal(() => answer(number, grant))[0]).toBe("conflict");
    }
  });

  test("refused → with the reason, and counts no more; nobody's → notFound", () => {
    const number = asked(6)?.number ?? 0;
    answer(number, false, "use the old one");
    expect(view().requests.get(number)).toMatchObject({ state: "refused", why: "use the old one" });
    expect(askedBytes(view(), host)).toBe(0);
    expect(refusal(() => answer(99, true))[0]).toBe("notFound");
  });

  test("the quota lowered meanwhile → a person may go beyond it", () => {
    const number = asked(6)?.number ?? 0;
    may(1, { grants: false });
    answer(number, true);
    expect(view().requests.get(number)?.state).toBe("granted");
  });

  test("no room when it is granted → refused, and it goes on waiting", () => {
    may(100, { grants: false });
    const number = asked(60)?.number ?? 0;
    expect(refusal(() => answer(number, true))[0]).toBe("noSpace");
    expect(view().requests.get(number)?.state).toBe("waiting");
  });

  test("too many that wait → the next is refused", () => {
    may(100, { grants: false });
    for (let count = 0; count < REQUESTS_WAITING_MAX; count++) asked(1);
    expect(refusal(() => asked(1))[0]).toBe("notReady");
  });
});

test("a token → known by its hash; another → the one before is void; none → none", () => {
  const [first, second] = ["ab".repeat(32), "cd".repeat(32)];
  made.ask("setHostToken", { host, tokenHash: first });
  expect(hostByToken(view(), first)?.number).toBe(host);
  made.ask("setHostToken", { host, tokenHash: second });
  expect(hostByToken(view(), first)).toBeNull();
  expect(hostByToken(view(), second)?.number).toBe(host);
  made.ask("setHostToken", { host, tokenHash: null });
  expect(hostByToken(view(), second)).toBeNull();
  expect(view().hosts.get(host)?.tokenHash).toBeUndefined();
});

test("host gone → its requests are forgotten; answered ones beyond what is kept as well", () => {
  may(10, { grants: false });
  const waiting = asked(1)?.number ?? 0;
  for (let number = 1000; number <= 1000 + REQUESTS_KEPT; number++) {
    const record = { ...view().requests.get(waiting), number, state: "refused" };
    const puts = [{ key: keys.request(number), value: valueText(record) }];
    made.wait(made.any().client.transaction({ ifs: [], puts }));
  }
  made.until("the oldest is gone", () => !view().requests.has(1000));
  expect([view().requests.size, view().requests.has(waiting)]).toEqual([REQUESTS_KEPT + 1, true]);
  made.ask("removeHost", { host });
  made.until("all are gone", () => view().requests.size === 0);
});

test("only the control station writes hosts and requests", () => {
  made.admit();
  const stranger = made.leaders()[0] === 1 ? 2 : 1;
  const record = {
    ...view().hosts.get(host),
    policy: { quotaBytes: 1, protections: [], grants: true },
  };
  const key = keys.host(host);
  const ifs = [view().compare(key)];
  const puts = [{ key, value: valueText(record) }];
  expect(transactionRefusal(view(), stranger, { ifs, puts })).toContain("only the control station");
  expect(transactionRefusal(view(), stranger, { ifs, deletes: [key] })).not.toBeNull();
});
