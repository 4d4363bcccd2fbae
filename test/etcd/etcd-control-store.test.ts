// SPDX-License-Identifier: Apache-2.0
//
// The control store on a real etcd: the conformance cases, then what only a real one does.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { controlStoreCases } from "#cluster/control-store-conformance-fixture.ts";
import type { WatchEvent } from "#cluster/control-store.ts";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { SingleEtcd, etcdIsThere, pass, realTimers, until } from "./etcd-fixture.ts";

const there = etcdIsThere();

describe.if(there)("etcd control store conforms", () => {
  let etcd: SingleEtcd;
  beforeAll(async () => {
    etcd = await SingleEtcd.start();
  });
  afterAll(async () => {
    await etcd[Symbol.asyncDispose]();
  });
  for (const { name, run } of controlStoreCases) {
    test(
      name,
      async () => {
        const store = etcd.store();
        await run({
          store,
          other: etcd.store(),
          pass,
          compact: (revision) => store.compact(revision),
        });
      },
      30_000,
    );
  }
});

async function codeOf(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
  } catch (cause) {
    if (cause instanceof Fault) return cause.code;
    throw cause;
  }
  return "none";
}

describe.if(there)("etcd control store, when etcd fails", () => {
  const PUT = { ifs: [], puts: [{ key: "/k", value: "1" }] };

  test("no etcd → controlStoreAway: nothing was sent", async () => {
    const transport = new EtcdUnixTransport("/nonexistent/etcd.sock");
    const store = new EtcdControlStore(realTimers, transport);
    expect(await codeOf(() => store.get("/k"))).toBe("controlStoreAway");
    expect(await codeOf(() => store.transaction(PUT))).toBe("controlStoreAway");
    expect(await codeOf(() => store.snapshot())).toBe("controlStoreAway");
  });

  test("etcd killed under a watch and started again → the watch misses nothing", async () => {
    await using etcd = await SingleEtcd.start();
    const store = etcd.store();
    const seen: WatchEvent[] = [];
    const lost: string[] = [];
    const watch = store.watch("/", 1, {
      onEvents: (events) => seen.push(...events),
      onLost: (reason) => lost.push(reason),
    });
    await store.transaction(PUT);
    await until("the first event", () => seen.length === 1);
    await etcd.kill();
    await etcd.run();
    await store.transaction({ ifs: [], puts: [{ key: "/k", value: "2" }] });
    await until("the second event", () => seen.length >= 2);
    watch.cancel();
    expect(seen.map((event) => event.value)).toEqual(["1", "2"]);
    expect(lost).toEqual([]);
  }, 30_000);

  test("an etcd that never answers → a transaction's outcome is unknown", async () => {
    const silent = Bun.serve({ unix: `/tmp/cairn-silent-${process.pid}.sock`, fetch: () => never });
    try {
      const transport = new EtcdUnixTransport(`/tmp/cairn-silent-${process.pid}.sock`);
      const store = new EtcdControlStore(realTimers, transport, {
        timeoutMs: 100,
        changeTimeoutMs: 100,
      });
      expect(await codeOf(() => store.transaction(PUT))).toBe("unknownOutcome");
      expect(await codeOf(() => store.grantLease(3000))).toBe("unknownOutcome");
      expect(await codeOf(() => store.get("/k"))).toBe("controlStoreAway");
    } finally {
      await silent.stop(true);
    }
  });

  test("garbage instead of etcd → Faults, no crash", async () => {
    const bodies = ["", "x", "[]", '{"code":"y"}', '{"kvs":[{"key":"***"}]}', '{"header":7}'];
    for (const body of bodies) {
      const server = Bun.serve({
        unix: `/tmp/cairn-garbage-${process.pid}.sock`,
        fetch: () => new Response(body),
      });
      try {
        const transport = new EtcdUnixTransport(`/tmp/cairn-garbage-${process.pid}.sock`);
        const store = new EtcdControlStore(realTimers, transport, { timeoutMs: 1000 });
        const code = await codeOf(() => store.transaction(PUT));
        expect([body, ["none", "unknownOutcome"].includes(code)]).toEqual([body, true]);
        expect(["none", "controlStoreAway", "corrupt"]).toContain(
          await codeOf(() => store.get("/k")),
        );
      } finally {
        await server.stop(true);
      }
    }
  });
});

const never = new Promise<Response>(() => {});
