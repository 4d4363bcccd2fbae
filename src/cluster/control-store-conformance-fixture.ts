// SPDX-License-Identifier: Apache-2.0
//
// What every ControlStore must do, as cases that any implementation runs:
//
//   for (const { name, run } of controlStoreCases) test(name, async () => run(await makeRig()));
//
// A rig's stores are two ways to one store (two units); keys are under a prefix of the case's own,
// so that one store may serve all cases.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import { TRANSACTION_OPERATIONS_MAX } from "./control-store.ts";
import type { ControlStore, WatchEvent } from "./control-store.ts";

export interface ControlStoreRig {
  store: ControlStore;
  other: ControlStore;
  /** Lets about this much of the store's time pass. */
  pass(milliseconds: number): Promise<void>;
  /** Makes the store forget its history up to the revision, or null where that cannot be asked. */
  compact: ((revision: number) => Promise<void>) | null;
}

export interface ControlStoreCase {
  name: string;
  run(rig: ControlStoreRig): Promise<void>;
}

const LEASE_TTL_MS = 2000;
const WAIT_ROUNDS = 400;

async function until(rig: ControlStoreRig, what: string, holds: () => boolean | Promise<boolean>) {
  for (let round = 0; round < WAIT_ROUNDS; round++) {
    if (await holds()) return;
    await rig.pass(25);
  }
  assert(false, `came to pass: ${what}`);
}

async function faults(code: FaultCode, what: string, act: () => Promise<unknown>): Promise<void> {
  let seen = "no fault";
  try {
    await act();
  } catch (cause) {
    if (!(cause instanceof Fault)) throw cause;
    seen = cause.code;
  }
  assert(seen === code, `${what}: ${code} expected, seen: ${seen}`);
}

function equal(actual: unknown, expected: unknown, what: string): void {
  const left = JSON.stringify(actual);
  const right = JSON.stringify(expected);
  assert(left === right, `${what}: expected ${right}, seen ${left}`);
}

/** Collects what a watch says. */
class Seen {
  readonly events: WatchEvent[] = [];
  readonly batches: number[] = [];
  readonly revisions: number[] = [];
  lost: string[] = [];
  onEvents(events: WatchEvent[], revision: number): void {
    this.events.push(...events);
    this.batches.push(events.length);
    this.revisions.push(revision);
  }
  onLost(reason: string): void {
    this.lost.push(reason);
  }
}

async function put(store: ControlStore, key: string, value: string): Promise<number> {
  const result = await store.transaction({ ifs: [], puts: [{ key, value }] });
  assert(result.committed, "a transaction without compares commits");
  return result.revision;
}

const readAndWrite: ControlStoreCase[] = [
  {
    name: "a key never written → no entry; after a put through one way → seen through the other",
    async run({ store, other }) {
      equal((await store.get("/rw/none")).entry, null, "no entry");
      const revision = await put(store, "/rw/one", 'välue \u{1f5c4} "quoted"');
      const { entry, revision: now } = await other.get("/rw/one");
      equal(entry?.value, 'välue \u{1f5c4} "quoted"', "value");
      equal([entry?.modRevision, entry?.createRevision], [revision, revision], "revisions");
      equal(entry?.lease, null, "no lease");
      assert(now >= revision, "the store is at least there");
      const second = await put(other, "/rw/one", "");
      const changed = (await store.get("/rw/one")).entry;
      equal([changed?.value, changed?.modRevision], ["", second], "changed, to an empty value");
      equal(changed?.createRevision, revision, "still the same creation");
    },
  },
  {
    name: "range → exactly the keys with the prefix, ascending, of one revision",
    async run({ store }) {
      for (const key of ["/ra/b", "/ra/a", "/ra/c/d", "/rb/x", "/ra"]) await put(store, key, key);
      const { entries, revision } = await store.range("/ra/");
      equal(
        entries.map((entry) => entry.key),
        ["/ra/a", "/ra/b", "/ra/c/d"],
        "keys",
      );
      assert(revision >= Math.max(...entries.map((entry) => entry.modRevision)), "not older");
      equal((await store.range("/nothing/")).entries, [], "nothing there");
    },
  },
  {
    name: "many keys → all of them in one range",
    async run({ store }) {
      for (let part = 0; part < 4; part++) {
        const puts = Array.from({ length: TRANSACTION_OPERATIONS_MAX }, (_, index) => ({
          key: `/many/${part}/${index}`,
          value: "v".repeat(100),
        }));
        assert((await store.transaction({ ifs: [], puts })).committed, "committed");
      }
      const { entries } = await store.range("/many/");
      equal(entries.length, 4 * TRANSACTION_OPERATIONS_MAX, "keys");
    },
  },
  {
    name: "compare with the last revision → committed; with an older one → not, and what is there",
    async run({ store, other }) {
      const first = await put(store, "/cas/k", "1");
      const ifs = [{ key: "/cas/k", modRevision: first }];
      const done = await store.transaction({ ifs, puts: [{ key: "/cas/k", value: "2" }] });
      assert(done.committed && done.revision > first, "committed later");
      const lost = await other.transaction({ ifs, puts: [{ key: "/cas/k", value: "3" }] });
      equal(lost.committed, false, "the second one");
      equal(
        lost.current.map((entry) => [entry.key, entry.value, entry.modRevision]),
        [["/cas/k", "2", done.revision]],
        "what is there now",
      );
      equal((await store.get("/cas/k")).entry?.value, "2", "unchanged");
    },
  },
  {
    name: "compare with 0 → only when the key is absent, also after a deletion",
    async run({ store, other }) {
      const make = {
        ifs: [{ key: "/new/k", modRevision: 0 }],
        puts: [{ key: "/new/k", value: "1" }],
      };
      equal((await store.transaction(make)).committed, true, "made");
      equal((await other.transaction(make)).committed, false, "made twice");
      await store.transaction({ ifs: [], deletes: ["/new/k"] });
      equal((await store.get("/new/k")).entry, null, "deleted");
      equal((await other.transaction(make)).committed, true, "made again");
      const lost = await store.transaction({
        ifs: [{ key: "/new/gone", modRevision: 7 }],
        puts: [{ key: "/new/gone", value: "1" }],
      });
      equal([lost.committed, lost.current], [false, []], "compare of an absent key");
    },
  },
  {
    name: "one compare of several fails → nothing of the transaction happens",
    async run({ store }) {
      const a = await put(store, "/all/a", "a");
      const b = await put(store, "/all/b", "b");
      const result = await store.transaction({
        ifs: [
          { key: "/all/a", modRevision: a },
          { key: "/all/b", modRevision: b - 1 },
        ],
        puts: [{ key: "/all/a", value: "x" }],
        deletes: ["/all/b"],
      });
      equal(result.committed, false, "not committed");
      equal(
        (await store.range("/all/")).entries.map((entry) => entry.value),
        ["a", "b"],
        "nothing happened",
      );
    },
  },
  {
    name: "increments from two sides by compare-and-swap → none is lost",
    async run({ store, other }) {
      const add = async (through: ControlStore, times: number) => {
        for (let done = 0; done < times;) {
          const { entry } = await through.get("/count");
          const result = await through.transaction({
            ifs: [{ key: "/count", modRevision: entry?.modRevision ?? 0 }],
            puts: [{ key: "/count", value: `${Number(entry?.value ?? 0) + 1}` }],
          });
          if (result.committed) done++;
        }
      };
      await Promise.all([add(store, 20), add(other, 20)]);
      equal((await store.get("/count")).entry?.value, "40", "sum");
    },
  },
  {
    name: "too many operations, a key twice, an empty key → badRequest, nothing done",
    async run({ store }) {
      const puts = Array.from({ length: TRANSACTION_OPERATIONS_MAX + 1 }, (_, index) => ({
        key: `/bad/${index}`,
        value: "",
      }));
      await faults("badRequest", "129 puts", () => store.transaction({ ifs: [], puts }));
      const twice = { ifs: [], puts: [{ key: "/bad/k", value: "" }], deletes: ["/bad/k"] };
      await faults("badRequest", "a key twice", () => store.transaction(twice));
      const empty = { ifs: [], puts: [{ key: "", value: "" }] };
      await faults("badRequest", "an empty key", () => store.transaction(empty));
      equal((await store.range("/bad/")).entries, [], "nothing done");
    },
  },
];

const watches: ControlStoreCase[] = [
  {
    name: "watch from a range's next revision → every later change once, in order, one call each",
    async run(rig) {
      const { store, other } = rig;
      await put(store, "/w/old", "0");
      const { revision } = await store.range("/w/");
      const seen = new Seen();
      const watch = other.watch("/w/", revision + 1, seen);
      const first = await put(store, "/w/a", "1");
      await put(store, "/elsewhere", "x");
      const both = await store.transaction({
        ifs: [],
        puts: [{ key: "/w/b", value: "2" }],
        deletes: ["/w/old"],
      });
      await until(rig, "three events", () => seen.events.length >= 3);
      equal(seen.revisions, [first, both.revision], "one call per revision");
      equal(seen.events[0], { kind: "put", key: "/w/a", value: "1", modRevision: first }, "first");
      const rest = seen.events.slice(1).sort((x, y) => (x.key < y.key ? -1 : 1));
      equal(
        rest.map((event) => [event.kind, event.key, event.value, event.modRevision]),
        [
          ["put", "/w/b", "2", both.revision],
          ["delete", "/w/old", "", both.revision],
        ],
        "the transaction",
      );
      watch.cancel();
      await put(store, "/w/c", "3");
      await rig.pass(200);
      equal([seen.events.length, seen.lost], [3, []], "nothing after cancel");
    },
  },
  {
    name: "watch from a past revision → the changes since then first",
    async run(rig) {
      const first = await put(rig.store, "/past/k", "1");
      await put(rig.store, "/past/k", "2");
      const seen = new Seen();
      const watch = rig.store.watch("/past/", first, seen);
      await until(rig, "both", () => seen.events.length >= 2);
      equal(
        seen.events.map((event) => event.value),
        ["1", "2"],
        "values",
      );
      watch.cancel();
    },
  },
  {
    name: "watch from a compacted revision → onLost once, no event",
    async run(rig) {
      if (rig.compact === null) return;
      const first = await put(rig.store, "/compact/k", "1");
      const second = await put(rig.store, "/compact/k", "2");
      await rig.compact(second);
      const seen = new Seen();
      rig.store.watch("/compact/", first, seen);
      await until(rig, "lost", () => seen.lost.length > 0);
      await put(rig.store, "/compact/k", "3");
      await rig.pass(200);
      equal([seen.lost.length, seen.events], [1, []], "once, and nothing else");
      equal((await rig.store.get("/compact/k")).entry?.value, "3", "the present is readable");
    },
  },
];

const leases: ControlStoreCase[] = [
  {
    name: "a lease not kept alive → its keys go, and a watch says so; others stay",
    async run(rig) {
      const { store, other } = rig;
      const { lease, ttlMs } = await store.grantLease(LEASE_TTL_MS);
      assert(ttlMs >= LEASE_TTL_MS, "never less than asked");
      const { revision } = await store.transaction({
        ifs: [],
        puts: [
          { key: "/le/leased", value: "1", lease },
          { key: "/le/stays", value: "1" },
        ],
      });
      equal((await other.get("/le/leased")).entry?.lease, lease, "the entry names its lease");
      const seen = new Seen();
      const watch = other.watch("/le/", revision + 1, seen);
      await until(rig, "it went", async () => (await other.get("/le/leased")).entry === null);
      await until(rig, "the watch says so", () => seen.events.length > 0);
      equal([seen.events[0]?.kind, seen.events[0]?.key], ["delete", "/le/leased"], "event");
      watch.cancel();
      equal((await store.get("/le/stays")).entry?.value, "1", "the other one stays");
      equal(await store.keepAlive(lease), false, "too late");
    },
  },
  {
    name: "a lease kept alive → its keys stay past its time",
    async run(rig) {
      const { lease, ttlMs } = await rig.store.grantLease(LEASE_TTL_MS);
      await rig.store.transaction({ ifs: [], puts: [{ key: "/alive/k", value: "", lease }] });
      for (let passed = 0; passed < ttlMs * 1.5; passed += ttlMs / 4) {
        await rig.pass(ttlMs / 4);
        equal(await rig.store.keepAlive(lease), true, "alive");
      }
      assert((await rig.other.get("/alive/k")).entry !== null, "still there");
      await rig.store.revokeLease(lease);
      equal((await rig.other.get("/alive/k")).entry, null, "revoked, gone at once");
      await rig.store.revokeLease(lease);
    },
  },
  {
    name: "a key put again without its lease → stays when the lease ends",
    async run({ store }) {
      const { lease } = await store.grantLease(LEASE_TTL_MS);
      await store.transaction({ ifs: [], puts: [{ key: "/re/k", value: "1", lease }] });
      await put(store, "/re/k", "2");
      await store.revokeLease(lease);
      equal((await store.get("/re/k")).entry?.value, "2", "stays");
    },
  },
  {
    name: "a put with a lease that is gone → notFound, nothing done",
    async run({ store }) {
      const { lease } = await store.grantLease(LEASE_TTL_MS);
      await store.revokeLease(lease);
      await faults("notFound", "a dead lease", () =>
        store.transaction({ ifs: [], puts: [{ key: "/dead/k", value: "", lease }] }),
      );
      equal((await store.get("/dead/k")).entry, null, "nothing done");
    },
  },
  {
    name: "members and snapshot → one leader; bytes",
    async run({ store }) {
      const members = await store.members();
      equal(members.filter((member) => member.leader).length, 1, "leaders");
      assert((await store.snapshot()).length > 0, "a snapshot holds something");
    },
  },
];

export const controlStoreCases: readonly ControlStoreCase[] = [
  ...readAndWrite,
  ...watches,
  ...leases,
];
