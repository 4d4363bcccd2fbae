// SPDX-License-Identifier: Apache-2.0
//
// The control store in memory: the conformance cases, then each way it can fail.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import { controlStoreCases } from "./control-store-conformance-fixture.ts";
import { MemoryControlStore } from "./memory-control-store.ts";
import type { MemoryStoreOptions } from "./memory-control-store.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

function make(options: Partial<MemoryStoreOptions> = {}) {
  const time = new VirtualTime(drainMicrotasks);
  const core = new MemoryControlStore({ clock: time, timers: time, prng: new Prng(1), ...options });
  return { time, core, store: core.client("unit 1"), other: core.client("unit 2") };
}

/** How a promise stands after what has run so far. */
function outcome<T>(promise: Promise<T>): { value?: T; code?: string } {
  const state: { value?: T; code?: string } = {};
  promise.then(
    (value) => {
      state.value = value;
    },
    (cause: unknown) => {
      state.code = cause instanceof Fault ? cause.code : String(cause);
    },
  );
  return state;
}

describe("memory control store conforms", () => {
  for (const { name, run } of controlStoreCases) {
    test(name, async () => {
      const { time, core, store, other } = make();
      await run({
        store,
        other,
        pass: async (milliseconds) => time.pass(milliseconds),
        compact: async (revision) => core.compact(revision),
      });
    });
  }
});

const PUT = { ifs: [{ key: "/k", modRevision: 0 }], puts: [{ key: "/k", value: "1" }] };

describe("memory control store fails like a real one", () => {
  test("answer lost → unknownOutcome, and it was done", () => {
    const { time, core, store } = make();
    core.faults.answerLost = 1;
    const result = outcome(store.transaction(PUT));
    time.pass(5000);
    expect(result.code).toBe("unknownOutcome");
    expect(core.readOne("/k")?.value).toBe("1");
  });

  test("request lost → unknownOutcome, and it was not done", () => {
    const { time, core, store } = make();
    core.faults.requestLost = 1;
    const result = outcome(store.transaction(PUT));
    time.pass(5000);
    expect(result.code).toBe("unknownOutcome");
    expect(core.readOne("/k")).toBeNull();
  });

  test("request late → unknownOutcome first, then done unless its compare fails by then", () => {
    const { time, core, store, other } = make();
    core.faults.late = 1;
    const result = outcome(store.transaction(PUT));
    time.pass(2000);
    expect(result.code).toBe("unknownOutcome");
    expect(core.readOne("/k")).toBeNull();
    time.pass(5000);
    expect(core.readOne("/k")?.value).toBe("1");
    const again = outcome(store.transaction({ ...PUT, puts: [{ key: "/k", value: "2" }] }));
    core.faults.late = 0;
    void other;
    time.pass(9000);
    expect(again.code).toBe("unknownOutcome");
    expect(core.readOne("/k")?.value).toBe("1");
  });

  test("no majority → reads controlStoreAway, nothing done; back again → served", () => {
    const { time, core, store } = make({ latencyMs: { least: 1, most: 3 } });
    core.setAway(true);
    const read = outcome(store.get("/k"));
    const write = outcome(store.transaction(PUT));
    time.pass(5000);
    expect([read.code, write.code]).toEqual(["controlStoreAway", "unknownOutcome"]);
    core.setAway(false);
    const after = outcome(store.get("/k"));
    time.pass(100);
    expect(after.value?.entry).toBeNull();
  });

  test("no link → controlStoreAway at once; the other unit is served", () => {
    const { time, store, other } = make();
    store.setConnected(false);
    const cut = outcome(store.transaction(PUT));
    const served = outcome(other.transaction(PUT));
    time.pass(1);
    expect([cut.code, served.value?.committed]).toEqual(["controlStoreAway", true]);
  });

  test("leases while no majority is there → wait, and have their whole time after it", () => {
    const { time, core, store } = make();
    const grant = outcome(store.grantLease(1000));
    time.pass(1);
    const lease = grant.value?.lease as string;
    const put = outcome(store.transaction({ ifs: [], puts: [{ key: "/l", value: "", lease }] }));
    time.pass(500);
    expect(put.value?.committed).toBe(true);
    core.setAway(true);
    time.pass(10_000);
    core.setAway(false);
    time.pass(900);
    expect(core.readOne("/l")).not.toBeNull();
    time.pass(200);
    expect(core.readOne("/l")).toBeNull();
  });

  test("watch across an outage → late but complete; compacted meanwhile → lost", () => {
    const { time, core, store, other } = make();
    const heard: number[] = [];
    const lost: string[] = [];
    const sink = {
      onEvents: (_: unknown, revision: number) => heard.push(revision),
      onLost: (reason: string) => lost.push(reason),
    };
    store.watch("/k", core.revision + 1, sink);
    store.setConnected(false);
    outcome(other.transaction(PUT));
    time.pass(1000);
    expect(heard).toEqual([]);
    store.setConnected(true);
    time.pass(10);
    expect(heard).toEqual([core.revision]);
    store.setConnected(false);
    outcome(other.transaction({ ifs: [], puts: [{ key: "/k", value: "2" }] }));
    time.pass(10);
    core.compact(core.revision);
    store.setConnected(true);
    time.pass(10);
    expect([heard.length, lost]).toEqual([1, ["compacted"]]);
  });

  test("same seed, same calls → same answers in the same order", () => {
    const play = () => {
      const { time, core, store, other } = make({ latencyMs: { least: 1, most: 20 } });
      Object.assign(core.faults, { requestLost: 0.1, answerLost: 0.1, late: 0.1 });
      const log: string[] = [];
      for (let round = 0; round < 200; round++) {
        const through = round % 2 === 0 ? store : other;
        const put = { key: `/k${round % 7}`, value: `${round}` };
        through.transaction({ ifs: [], puts: [put] }).then(
          (result) => log.push(`${round} ${result.revision} ${time.nowMs()}`),
          (cause: Fault) => log.push(`${round} ${cause.code} ${time.nowMs()}`),
        );
        time.pass(7);
      }
      time.pass(10_000);
      return log.join("\n");
    };
    const first = play();
    expect(first.split("\n").length).toBe(200);
    expect(first).toContain("unknownOutcome");
    expect(play()).toBe(first);
  });
});
