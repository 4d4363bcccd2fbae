// SPDX-License-Identifier: Apache-2.0
//
// A support bundle holds no secret, keeps to its size, and its decisions can be made again.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { StationFixture } from "#cluster/station-fixture.ts";
import { MemoryBackend } from "./api/memory-backend-fixture.ts";
import { makeBundle, replayBundle } from "./support-bundle.ts";

const HASH = "ab".repeat(32);
const OTHER = "cd".repeat(32);
const PASSWORD = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNo";

function journal(secrets = true) {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 10);
  made.createVolume("v", 1, "none");
  if (secrets) {
    const claim = { replaces: false, byMedium: false, passwordHash: PASSWORD };
    made.ask("claimCluster", { ...claim, tokenHash: HASH });
    made.ask("claimCluster", { ...claim, tokenHash: OTHER, replaces: true });
  }
  made.time.pass(1000);
  return made.any().station.journal.journal();
}
const bundleOf = (max?: number) =>
  makeBundle(new MemoryBackend(), { journal: journal(), wallMs: 1_700_000_000_000 }, max);

describe("a support bundle", () => {
  test("no hash of a secret, no claim code; the same secret has the same stand-in", () => {
    const text = JSON.stringify(bundleOf());
    expect(text).toContain("claimCluster");
    for (const secret of [HASH, OTHER, PASSWORD, "c29tZXNhbHRzb21lc2FsdA"]) {
      expect([secret, text.includes(secret)]).toEqual([secret, false]);
    }
    const { facts } = bundleOf();
    expect(Object.keys(facts["status"] as object)).not.toContain("claim");
    expect(facts["units"]).toHaveLength(2);
  });

  test("redacted, its decisions are made again, and are the same", () => {
    const [run] = replayBundle(JSON.stringify(bundleOf()));
    const { replayed = [] } = run ?? {};
    expect(replayed.filter(({ outcome }) => outcome !== "same")).toEqual([]);
    expect(replayed.map(({ by }) => by)).toContain("claimCluster");
  });

  test("what earlier runs left: redacted, the newest that fit, replayed run by run", () => {
    const earlier = [1000, 2000].map((atMs) => ({ version: "0.0.9", atMs, journal: journal() }));
    const made = { journal: journal(), earlier, wallMs: 3000 };
    const whole = makeBundle(new MemoryBackend(), made);
    expect(JSON.stringify(whole)).not.toContain(HASH);
    const runs = replayBundle(JSON.stringify(whole));
    expect(runs.map(({ version }) => version)).toEqual(["0.0.9", "0.0.9", whole.version]);
    for (const { replayed } of runs) {
      expect(replayed.length).toBeGreaterThan(0);
      expect(replayed.filter(({ outcome }) => outcome !== "same")).toEqual([]);
    }
    const one = JSON.stringify(whole.earlier[1]).length;
    const room = JSON.stringify({ ...whole, earlier: [] }).length + one;
    const small = makeBundle(new MemoryBackend(), made, room);
    expect(small.earlier.map(({ atMs }) => atMs)).toEqual([2000]);
    expect(small.leftOut).toEqual(["decisions before 1970-01-01 00:00:01"]);
    // A unit that leads no more has only those.
    const gone = { ...whole, journal: null };
    expect(replayBundle(JSON.stringify(gone))).toHaveLength(2);
  });

  test("too much for its size → the largest parts are left out, and named", () => {
    const small = bundleOf(4000);
    expect(JSON.stringify(small).length).toBeLessThan(4500);
    expect(small.leftOut).toContain("journal");
    expect(() => replayBundle(JSON.stringify(small))).toThrow("it did not fit");
  });

  test("no bundle, another format, a journal without sense → refused, with the reason", () => {
    const good = bundleOf();
    const wrong: [unknown, string][] = [
      ["{", "no JSON"],
      ["[]", "no support bundle"],
      [{ ...good, formatVersion: 2 }, "no support bundle"],
      [{ ...good, journal: { base: [], steps: [{ kind: "decision" }] } }, "cannot be read"],
      [{ ...good, journal: null }, "in no cluster"],
      [{ ...good, facts: 3 }, "no support bundle"],
    ];
    for (const [bundle, words] of wrong) {
      const text = typeof bundle === "string" ? bundle : JSON.stringify(bundle);
      expect(() => replayBundle(text)).toThrow(words);
      expect(() => replayBundle(text)).toThrow(Fault);
    }
  });

  test("records in it that this version cannot read → left out, and the rest is replayed", () => {
    const bundle = bundleOf();
    const changed = JSON.stringify(bundle).replaceAll('"protection":"none"', '"protection":"x"');
    const [run] = replayBundle(changed);
    const { replayed = [] } = run ?? {};
    expect(replayed.some(({ outcome }) => outcome !== "same")).toBe(true);
  });
});
