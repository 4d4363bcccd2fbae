// SPDX-License-Identifier: Apache-2.0
//
// Gathering facts: how often what is asked, silence and its length, files that make no sense, and
// that nothing of it ends the screen.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { UnitFault } from "#appliance/cli/failure.ts";
import { VERSION } from "#appliance/version.ts";
import { FactsPoller, type PollerOutside } from "./facts-poller.ts";
import { aCard, aStatus, facts, unitFacts } from "./facts-fixture.ts";

const NOT_READY = new UnitFault({ code: "notReady", message: "in no cluster yet", hint: "" });

let nowMs: number;
let asked: string[];
let answers: Record<string, unknown>;
let files: Record<string, string>;
let outside: PollerOutside;
beforeEach(() => {
  nowMs = 1000;
  [asked, files] = [[], {}];
  const { disks, units, volumes } = unitFacts();
  answers = {
    "/api/v1/status": aStatus(),
    "/api/v1/disks": { disks },
    "/api/v1/units": { units },
    "/api/v1/volumes": { volumes },
    "/api/v1/update": new UnitFault({ code: "notFound", message: "no such thing", hint: "" }),
  };
  outside = {
    clock: { nowMs: () => nowMs, wallMs: () => 0 },
    log: { write: () => undefined },
    isAppliance: true,
    hostName: () => "cairn-abab",
    cards: () => [aCard("eno1", ["10.0.0.1"])],
    slots: () => [],
    readRunFile: (name) => files[name] ?? null,
    ask: async (path) => {
      asked.push(path);
      const answer = answers[path];
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
});

describe("the slots", () => {
  test("read when the daemon tells of others than before, and whenever it is silent", async () => {
    let reads = 0;
    const { slots } = facts();
    const poller = new FactsPoller({
      ...outside,
      slots: () => {
        reads++;
        return [...slots];
      },
    });
    const tell = (state: string) => {
      const told = { slots: [{ version: "0.2.0", state }], work: null, roll: null };
      answers["/api/v1/update"] = told;
    };
    tell("trial");
    for (let look = 0; look < 4; look++) expect((await poller.look()).slots).toEqual(slots);
    expect(reads).toBe(1);
    tell("good");
    for (let look = 0; look < 3; look++) await poller.look();
    expect(reads).toBe(2);
    answers["/api/v1/status"] = new Fault("notReady", "it does not answer");
    for (let look = 0; look < 3; look++) await poller.look();
    expect(reads).toBe(5);
  });
});

describe("the daemon", () => {
  test("answers → all is known, and it is not silent", async () => {
    const found = await new FactsPoller(outside).look();
    expect(found).toMatchObject({ version: VERSION, hostName: "cairn-abab", silentMs: null });
    expect(found.unit).toEqual(unitFacts());
    expect(found.sincePowerOnMs).toBe(1000);
  });

  test("lists now and then, the status always, all at once when it changed", async () => {
    const poller = new FactsPoller(outside);
    await poller.look();
    asked = [];
    await poller.look();
    await poller.look();
    expect(asked).toEqual(["/api/v1/status", "/api/v1/status"]);
    asked = [];
    await poller.look();
    expect(asked).toContain("/api/v1/volumes");
    asked = [];
    answers["/api/v1/status"] = aStatus({ phase: "stopping" });
    await poller.look();
    expect(asked).toContain("/api/v1/disks");
  });

  test("is in no cluster → no units and no volumes, and that is no silence", async () => {
    answers["/api/v1/units"] = NOT_READY;
    answers["/api/v1/volumes"] = NOT_READY;
    const { unit, silentMs } = await new FactsPoller(outside).look();
    expect(unit).toMatchObject({ units: null, volumes: null });
    expect(silentMs).toBe(null);
  });

  test("was never there → silent since the screen began", async () => {
    const poller = new FactsPoller(outside);
    answers["/api/v1/status"] = new UnitFault({ code: "notReady", message: "no unit", hint: "" });
    nowMs = 6000;
    expect(await poller.look()).toMatchObject({ unit: null, silentMs: 5000 });
  });

  test("falls silent and answers again → counted from the first miss", async () => {
    const poller = new FactsPoller(outside);
    await poller.look();
    for (const [failure, at] of [
      [new UnitFault({ code: "notReady", message: "", hint: "" }), 2000],
      [new Fault("programFailed", "no Cairn unit"), 5000],
      [new Error("not used"), 5000],
    ] as const) {
      if (!(failure instanceof UnitFault) && !(failure instanceof Fault)) continue;
      answers["/api/v1/status"] = failure;
      nowMs = at;
      expect(await poller.look()).toMatchObject({ silentMs: at - 2000 });
    }
    answers["/api/v1/status"] = aStatus({ name: "box-z" });
    const found = await poller.look();
    expect(found).toMatchObject({ silentMs: null, unit: { status: { name: "box-z" } } });
  });

  test("a claim code and an update under way → told, while it answers", async () => {
    const poller = new FactsPoller(outside);
    expect(await poller.look()).toMatchObject({ claimCode: null, update: null });
    const claim = { claimed: false, code: "K7QWM-2XHDA" };
    const work = { sentence: "fetching 0.2.0", doneBytes: 43, totalBytes: 100 };
    answers["/api/v1/status"] = aStatus({ phase: "waiting", claim });
    answers["/api/v1/update"] = { work, roll: null };
    expect(await poller.look()).toMatchObject({
      claimCode: "K7QWM-2XHDA",
      update: "fetching 0.2.0 (43 %)",
    });
    for (const [state, told] of [
      ["rolling", "unit 2 is next"],
      ["done", null],
    ] as const) {
      answers["/api/v1/update"] = { work: null, roll: { state, sentence: "unit 2 is next" } };
      expect((await new FactsPoller(outside).look()).update).toBe(told);
    }
    answers["/api/v1/status"] = NOT_READY;
    expect(await poller.look()).toMatchObject({ claimCode: null, update: null });
  });

  test("answers nonsense → silent, not dead", async () => {
    for (const nonsense of [null, 7, {}, { name: 1 }]) {
      answers["/api/v1/status"] = nonsense;
      expect((await new FactsPoller(outside).look()).silentMs).toBe(0);
    }
  });

  test("a mistake of our own → not swallowed", async () => {
    answers["/api/v1/status"] = new TypeError("ours");
    await expect(new FactsPoller(outside).look()).rejects.toThrow("ours");
  });
});

describe("files of other parts", () => {
  test("are read", async () => {
    nowMs = 61_000;
    files = {
      "recovery.json": '{"sinceMs":1000,"reason":"it failed","code":"ABC"}',
      "boot-medium.json": '{"format":1,"message":"wrong","files":[]}',
      "reset.json": '{"level":"settings","failures":["one"],"emptied":[]}',
    };
    const found = await new FactsPoller(outside).look();
    expect(found.recovery).toMatchObject({ forMs: 60_000, reason: "it failed", code: "ABC" });
    expect(found.medium).toEqual({ ok: false, message: "wrong" });
    expect(found.reset).toMatchObject({ level: "settings", failures: ["one"] });
  });

  test("a boot medium without a message, or one that says so itself, is right", async () => {
    for (const text of ['{"format":1,"message":null}', '{"ok":true,"message":""}', '{"ok":true}']) {
      files = { "boot-medium.json": text };
      expect((await new FactsPoller(outside).look()).medium).toMatchObject({ ok: true });
    }
    files = { "boot-medium.json": '{"ok":false,"message":"no"}' };
    expect((await new FactsPoller(outside).look()).medium).toEqual({ ok: false, message: "no" });
  });

  test("half written, of another form, or unreadable → not known", async () => {
    files = { "recovery.json": '{"since', "boot-medium.json": "[]" };
    expect(await new FactsPoller(outside).look()).toMatchObject({
      recovery: null,
      medium: null,
    });
    const refusing = () => {
      throw new Fault("badMachine", "cannot be read");
    };
    const found = await new FactsPoller({
      ...outside,
      readRunFile: refusing,
      cards: refusing,
      slots: refusing,
    }).look();
    expect(found).toMatchObject({ cards: [], slots: [], recovery: null });
  });
});
