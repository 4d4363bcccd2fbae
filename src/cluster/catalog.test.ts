// SPDX-License-Identifier: Apache-2.0
//
// The catalog follows a view and can always be made anew; migrations are in order and make the
// tables that drizzle is told of.

import { Database } from "bun:sqlite";
import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Catalog } from "./catalog.ts";
import { MIGRATIONS_TABLE, migrations } from "./migrations.ts";
import journal from "./migrations/meta/_journal.json";
import { StationFixture } from "./station-fixture.ts";
import { ClusterView } from "./view.ts";

function rack(): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 10);
  made.addDisk(made.admit(), 10);
  return made;
}

function same(catalog: Catalog, view: ClusterView): void {
  const byNumber = (a: { number: number }, b: { number: number }) => a.number - b.number;
  expect(catalog.units()).toEqual([...view.units.values()].sort(byNumber));
  expect(catalog.disks()).toEqual([...view.disks.values()].sort(byNumber));
  expect(catalog.volumes().sort(byNumber)).toEqual([...view.volumes.values()].sort(byNumber));
  for (const volume of view.volumes.values()) {
    const there = view.slicesOfVolume(volume).filter((record) => record !== null);
    expect(catalog.slicesOfVolume(volume.number)).toEqual(there);
  }
  const bySlice = [...view.slices.values()].sort((a, b) => a.slice - b.slice);
  expect(catalog.slices().sort((a, b) => a.slice - b.slice)).toEqual(bySlice);
  const members = catalog.membersByDisk().reduce((sum, row) => sum + row.slices, 0);
  const named = [...view.slices.values()].reduce(
    (sum, record) => sum + record.inSync.length + record.resyncing.length,
    0,
  );
  expect(members).toBe(named);
}

describe("migrations", () => {
  test("`when` ascends, every file is embedded, none is empty", () => {
    const list = migrations();
    expect(list.length).toBe(journal.entries.length);
    for (let at = 1; at < list.length; at++) {
      const later = (list[at]?.folderMillis ?? 0) > (list[at - 1]?.folderMillis ?? 0);
      expect([journal.entries[at]?.tag, later]).toEqual([journal.entries[at]?.tag, true]);
    }
    for (const { sql } of list) for (const each of sql) expect(each.trim()).not.toBe("");
  });

  test("opening twice migrates once", () => {
    const database = new Database(":memory:", { strict: true });
    const first = new Catalog(database);
    expect(first.state()).toBeNull();
    const again = new Catalog(database);
    expect(again.events({ limit: 10 })).toEqual([]);
    const rows = database.query(`SELECT count(*) AS rows FROM ${MIGRATIONS_TABLE}`).get();
    expect(rows).toEqual({ rows: migrations().length });
  });

  test("a database of a later version → made anew", () => {
    const database = new Database(":memory:", { strict: true });
    const made = rack();
    new Catalog(database).take(made.view(), 1);
    database.run(`INSERT INTO ${MIGRATIONS_TABLE} (hash, created_at) VALUES ('later', 9e15)`);
    database.run("ALTER TABLE units ADD COLUMN later text NOT NULL DEFAULT 'x'");
    const catalog = new Catalog(database);
    expect(catalog.units()).toEqual([]);
    catalog.take(made.view(), 2);
    same(catalog, made.view());
  });
});

test("follows a view through creation, change and deletion, always at its revision", () => {
  const made = rack();
  const view = made.view();
  const catalog = new Catalog(new Database(":memory:", { strict: true }));
  const end = catalog.follow(view, () => 1234);
  same(catalog, view);
  const volume = made.createVolume("v", 3, "mirror-2");
  same(catalog, view);
  expect(catalog.state()).toMatchObject({ clusterUuid: view.cluster?.uuid, takenAtMs: 1234 });
  made.addDisk(1, 5);
  made.ask("setTls", { volume, tls: "required" });
  same(catalog, view);
  made.ask("deleteVolume", { volume });
  made.until("gone", () => view.volumes.size === 0);
  same(catalog, view);
  expect(catalog.slicesOfVolume(volume)).toEqual([]);
  const sentences = catalog.events({ limit: 100 }).map((event) => event.sentence);
  expect(sentences).toEqual([...view.events.values()].map((event) => event.sentence));
  end();
  made.addDisk(1, 5);
  expect(catalog.disks().length).toBe(view.disks.size - 1);
});

test("rebuilt from nothing → the same as followed", () => {
  const made = rack();
  made.createVolume("v", 3, "mirror-2");
  const catalog = new Catalog(new Database(":memory:", { strict: true }));
  catalog.take(made.view(), 1);
  same(catalog, made.view());
});

test("events: newest, after one, by severity; the history outlives the control store's", () => {
  const made = rack();
  const catalog = new Catalog(new Database(":memory:", { strict: true }));
  catalog.follow(made.view(), () => 1);
  const all = catalog.events({ limit: 100 });
  expect(all.length).toBeGreaterThan(2);
  expect(catalog.events({ limit: 2 })).toEqual(all.slice(-2));
  expect(catalog.events({ since: all[0]?.number ?? 0, limit: 2 })).toEqual(all.slice(1, 3));
  expect(catalog.events({ limit: 100, severity: "alarm" })).toEqual([]);
  const view = made.view();
  const key = "/events/000000000001";
  view.apply([{ kind: "delete", key, value: "", modRevision: 0 }], view.revision + 1);
  expect(view.events.has(1)).toBe(false);
  expect(catalog.events({ limit: 100 })).toEqual(all);
});

test("another cluster's rows and history go", () => {
  const made = rack();
  const catalog = new Catalog(new Database(":memory:", { strict: true }));
  catalog.take(made.view(), 1);
  const other = new StationFixture(drainMicrotasks);
  other.found();
  const cluster = other.view().cluster;
  if (cluster === null) throw new Error("it is founded");
  cluster.uuid = "d".repeat(32);
  catalog.take(other.view(), 2);
  same(catalog, other.view());
  const sentences = catalog.events({ limit: 100 }).map((event) => event.sentence);
  expect(sentences.some((sentence) => sentence.includes("box2"))).toBe(false);
});

test("a fault of the database names no parameters", () => {
  const database = new Database(":memory:", { strict: true });
  const catalog = new Catalog(database);
  const made = rack();
  database.run("DROP TABLE units");
  try {
    catalog.take(made.view(), 1);
    throw new Error("it went through");
  } catch (error) {
    expect(String(error)).toContain("the catalog could not be rebuilt");
    expect(String(error)).not.toContain("box");
  }
});

test("events of one who asked → found, also what the control store has let go of", () => {
  const made = rack();
  const catalog = new Catalog(new Database(":memory:", { strict: true }));
  catalog.follow(made.view(), () => 1);
  made.actor = "anna";
  made.createVolume("hers", 1, "none");
  made.actor = "token backup";
  made.createVolume("other", 1, "none");
  const hers = catalog.events({ limit: 100, actor: "anna" });
  expect(hers.map(({ sentence, actor }) => [sentence.includes("hers"), actor])).toEqual([
    [true, "anna"],
  ]);
  expect(catalog.events({ limit: 100, actor: "nobody" })).toEqual([]);
});

test("a catalogue of before actors → its events stay, and nobody asked for them", () => {
  const database = new Database(":memory:", { strict: true });
  const [initial] = migrations();
  database.run(
    `CREATE TABLE ${MIGRATIONS_TABLE} ` +
      "(id INTEGER PRIMARY KEY, hash text NOT NULL, created_at numeric)",
  );
  for (const statement of initial?.sql ?? []) database.run(statement);
  database.run(`INSERT INTO ${MIGRATIONS_TABLE} (hash, created_at) VALUES (?, ?)`, [
    "0000_initial",
    initial?.folderMillis ?? 0,
  ]);
  database.run(
    "INSERT INTO events (number, at_ms, kind, severity, sentence) VALUES (1, 2, 'k', 'info', 's')",
  );
  expect(new Catalog(database).events({ limit: 10 })).toMatchObject([
    { number: 1, sentence: "s", actor: null },
  ]);
});
