// SPDX-License-Identifier: Apache-2.0
//
// Hosts and assignments as the control station decides them: names and addresses are one host's,
// what is removed is forgotten, and a list of before there were hosts becomes a host.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { drainMicrotasks } from "bun:jsc";
import { Fault } from "#base/fault.ts";
import { adoptRanges } from "./host-changes.ts";
import {
  HOSTS_MAX,
  HOST_CERTIFICATES_MAX,
  VOLUME_HOSTS_MAX,
  hostsOfVolume,
  volumesOfHost,
} from "./host-state.ts";
import { keys, valueText } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";
import type { UpdateRecord } from "./update-state.ts";
import { ClusterView, entryOf } from "./view.ts";

let made: StationFixture;
let volume: number;

beforeEach(() => {
  made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 20);
  volume = made.createVolume("v", 1, "none");
});
afterEach(() => {
  for (const unit of [...made.units.keys()]) made.kill(unit);
});

const view = () => made.view();
const add = (name: string, ...addresses: string[]) => made.ask("addHost", { name, addresses }).host;
const hosts = () => view().volumes.get(volume)?.hosts;

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

/** Writes past the station, as a version of before would have. */
function put(key: string, record: object): void {
  made.wait(made.any().client.transaction({ ifs: [], puts: [{ key, value: valueText(record) }] }));
  made.time.pass(50);
}

test("a new volume → nobody's; assigned, twice, revoked → as said, told once each", () => {
  expect(hosts()).toEqual([]);
  const host = add("db1", "10.0.0.7", "fd00::7");
  for (let time = 0; time < 2; time++) made.ask("assignVolume", { volume, host });
  expect(hosts()).toEqual([host]);
  expect(volumesOfHost(view(), host).map(({ name }) => name)).toEqual(["v"]);
  for (let time = 0; time < 2; time++) made.ask("revokeVolume", { volume, host });
  expect(hosts()).toEqual([]);
  const told = [...view().events.values()].map(({ sentence }) => sentence);
  expect(told.filter((sentence) => sentence.includes("db1"))).toEqual([
    "host db1 was added: it comes from 10.0.0.7, fd00::7",
    "volume v was assigned to host db1",
    "host db1 may not use volume v any more",
  ]);
});

test("created for hosts → theirs from the start; for one that is not there → not created", () => {
  const host = add("db1", "10.0.0.7");
  const wish = { sizeBytes: 1 << 20, protection: "none" as const };
  const answer = made.ask("createVolume", { ...wish, name: "w", hosts: [host, host] });
  expect(view().volumes.get(answer.volume)?.hosts).toEqual([host]);
  expect(codeOf(() => made.ask("createVolume", { ...wish, name: "x", hosts: [9] }))).toBe(
    "notFound",
  );
  expect(view().volumeByName("x")).toBeNull();
});

describe("one name, one range → one host", () => {
  test("taken names and ranges, however written, are refused; an own one is kept", () => {
    const host = add("db1", "10.0.0.7", "10.1.0.0/16");
    const conflicts: [string, string[]][] = [
      ["db1", ["10.0.0.8"]],
      ["db2", ["10.0.0.8", "10.0.0.7/32"]],
      ["db2", ["::ffff:10.0.0.7"]],
      ["db2", ["10.1.9.9/16"]],
    ];
    for (const [name, addresses] of conflicts) {
      const code = codeOf(() => made.ask("addHost", { name, addresses }));
      expect([name, addresses, code]).toEqual([name, addresses, "conflict"]);
    }
    add("db2", "10.1.0.0/17"); // within another's: an address there is both
    made.ask("changeHost", { host, addresses: ["10.0.0.7", "10.0.0.7/32", "10.0.0.9"] });
    expect(view().hosts.get(host)?.addresses).toEqual(["10.0.0.7/32", "10.0.0.9"]);
    expect(codeOf(() => made.ask("changeHost", { host, name: "db2" }))).toBe("conflict");
    made.ask("changeHost", { host, name: "db3" });
    add("db1", "10.1.0.0/16"); // both free again
  });

  test("no name, no range, digits only, none of either → badRequest", () => {
    const bad: [string, string[]][] = [
      ["", ["10.0.0.1"]],
      ["7", ["10.0.0.1"]],
      ["a/b", ["10.0.0.1"]],
      ["a", ["10.0.0.1/33"]],
      ["a", Array(65).fill("10.0.0.1")],
    ];
    for (const [name, addresses] of bad) {
      const code = codeOf(() => made.ask("addHost", { name, addresses }));
      expect([name, addresses.length, code]).toEqual([name, addresses.length, "badRequest"]);
    }
    expect(view().hosts.size).toBe(0);
  });
});

test("a host removed → at once nobody's, its name free, its number never again", () => {
  const host = add("db1", "10.0.0.7");
  const other = add("db2", "10.0.0.8");
  for (const each of [host, other]) made.ask("assignVolume", { volume, host: each });
  made.ask("removeHost", { host });
  const record = view().volumes.get(volume);
  expect(record === undefined ? null : hostsOfVolume(view(), record).length).toBe(1);
  made.until("the volume forgets it", () => hosts()?.join() === String(other));
  expect(codeOf(() => made.ask("assignVolume", { volume, host }))).toBe("notFound");
  expect(add("db1", "10.0.0.7")).toBe(other + 1);
});

test("a host whose record this version cannot read → not forgotten", () => {
  const host = add("db1", "10.0.0.7");
  made.ask("assignVolume", { volume, host });
  put(keys.host(host), { number: host, name: 7 });
  made.time.pass(5000);
  expect([view().hosts.size, hosts()]).toEqual([0, [host]]);
});

test("as many as there may be → the next one is refused", () => {
  for (let number = 1; number <= VOLUME_HOSTS_MAX; number++) {
    made.ask("assignVolume", { volume, host: add(`h-${number}`, `10.0.1.${number}`) });
  }
  const more = add("more", "10.0.2.1");
  expect(codeOf(() => made.ask("assignVolume", { volume, host: more }))).toBe("tooLarge");
  for (let number = VOLUME_HOSTS_MAX + 2; number <= HOSTS_MAX; number++) {
    put(keys.host(number), { number, name: `h-${number}`, addresses: [], createdAtMs: 0 });
  }
  expect(codeOf(() => add("last", "10.0.2.2"))).toBe("tooLarge");
});

describe("a list of before there were hosts", () => {
  function openTo(allow: string[]): void {
    const { hosts: _, ...record } = view().volumes.get(volume) as object & { hosts: number[] };
    put(keys.volume(volume), { ...record, allow });
  }

  test("→ a host with what is nobody's, and the hosts that have the rest", () => {
    const known = add("db1", "10.0.0.7");
    openTo(["10.0.0.7/32", "10.9.0.0/16", "nonsense"]);
    made.until("it is adopted", () => view().volumes.get(volume)?.allow.length === 0);
    const adopted = [...view().hosts.values()].find((host) => host.number !== known);
    expect(adopted).toMatchObject({ name: "hosts-of-v", addresses: ["10.9.0.0/16"] });
    expect(hosts()).toEqual([known, adopted?.number as number]);
  });

  test("while an update rolls → left as it is, for units of before", () => {
    const record = { ...view().volumes.get(volume), allow: ["10.9.0.0/16"] };
    const old = new ClusterView();
    old.reset({ revision: 1, entries: [entryOf(keys.volume(volume), record, 1)] });
    const { numbers } = view();
    old.numbers = numbers;
    for (const [state, adopts] of [
      ["rolling", false],
      ["stopped", true],
    ] as const) {
      old.update = { state } as UpdateRecord;
      expect([state, adoptRanges(old) !== null]).toEqual([state, adopts]);
    }
  });
});

describe("certificates", () => {
  const certificate = (digit: string, untilMs = 2e12) => {
    return { fingerprint: digit.repeat(64), fromMs: 1, untilMs };
  };
  const issue = (host: number, digit: string, untilMs?: number) =>
    made.ask("addCertificate", { host, certificate: certificate(digit, untilMs) });
  const known = (host: number) =>
    view()
      .hosts.get(host)
      ?.certificates.map(({ fingerprint }) => fingerprint[0]);

  test("issued, revoked → in the host's record, told; what is not there → notFound", () => {
    const host = add("db1");
    expect(view().hosts.get(host)).toMatchObject({ addresses: [], certificates: [] });
    issue(host, "a");
    issue(host, "b");
    expect(known(host)).toEqual(["a", "b"]);
    const revoke = (digit: string) =>
      made.ask("revokeCertificate", { host, fingerprint: digit.repeat(64) });
    revoke("a");
    expect(known(host)).toEqual(["b"]);
    expect(codeOf(() => revoke("a"))).toBe("notFound");
    expect(codeOf(() => made.ask("revokeCertificate", { host, fingerprint: "b" }))).toBe(
      "badRequest",
    );
    expect(codeOf(() => issue(99, "c"))).toBe("notFound");
    const told = [...view().events.values()].map(({ sentence }) => sentence).join("; ");
    expect(told).toContain("host db1 was added: it is known by certificates alone");
    expect(told).toContain("a certificate was issued to host db1");
    expect(told).toContain("a certificate of host db1 was revoked");
  });

  test("a change of name or addresses keeps them; too many → refused, ended make room", () => {
    const host = add("db1", "10.0.0.7");
    issue(host, "a", 5);
    made.ask("changeHost", { host, name: "db2", addresses: [] });
    expect(known(host)).toEqual(["a"]);
    for (let count = 0; count < HOST_CERTIFICATES_MAX; count++) issue(host, "b");
    expect(known(host)).toHaveLength(HOST_CERTIFICATES_MAX);
    expect(codeOf(() => issue(host, "c"))).toBe("tooLarge");
  });
});
