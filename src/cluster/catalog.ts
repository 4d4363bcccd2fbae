// SPDX-License-Identifier: Apache-2.0
//
// The catalog: this unit's copy of the control state at a known revision, in SQLite, for pages,
// queries and history; and the event history, longer than the control store keeps it. Never the
// authority: nothing is decided by it, and it can be thrown away at any time.
//
// The database is opened in src/machine and handed in. Writing follows the view, one transaction
// per change of it, so that all rows are of one revision. drizzle's errors print their parameters,
// so they are wrapped before they leave.

import { and, asc, desc, eq, gt, lt, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/bun-sqlite";
import { Fault } from "#base/fault.ts";
import type { SliceRecord, VolumeNumber } from "#base/record.ts";
import {
  catalogTable,
  disksTable,
  eventsTable,
  membersTable,
  slicesTable,
  unitsTable,
  volumesTable,
} from "./catalog-tables.ts";
import { MIGRATIONS_TABLE, migrations } from "./migrations.ts";
import type { Migration } from "./migrations.ts";
import type { DiskRecord, EventRecord, UnitRecord, VolumeRecord } from "./state.ts";
import type { ClusterView, ViewChange } from "./view.ts";

/** Events kept here. */
const HISTORY_MAX = 10_000;

type Drizzle = ReturnType<typeof drizzle>;
/** A bun:sqlite database, as src/machine opens it. */
export type CatalogDatabase = Drizzle["$client"];
type Step = Parameters<Parameters<Drizzle["transaction"]>[0]>[0];

const TABLES = [
  catalogTable,
  unitsTable,
  disksTable,
  volumesTable,
  slicesTable,
  membersTable,
  eventsTable,
] as const;
/** What is a copy of the state, without the history. */
const STATE_TABLES = TABLES.filter((table) => table !== eventsTable);

export class Catalog {
  readonly #database: Drizzle;

  /** Brings the tables to this version; a database of a later version is emptied and made anew. */
  constructor(database: CatalogDatabase) {
    this.#database = drizzle(database);
    guard("opened", () => {
      if (this.#isLater()) this.#dropAll();
      migrate(this.#database, migrations());
    });
  }

  /** Follows a view from now on: takes all of it, then every change. The answer ends it. */
  follow(view: ClusterView, wallMs: () => number): () => void {
    if (view.cluster !== null) this.take(view, wallMs());
    let whole = view.cluster !== null;
    return view.onChange((changes) => {
      if (!whole) {
        if (view.cluster === null) return;
        whole = true;
        this.take(view, wallMs());
      } else if (changes.some((change) => COPIED.has(change.kind))) {
        this.#apply(view, changes, wallMs());
      }
    });
  }

  /** Takes the whole state; rows of another cluster, history included, go. */
  take(view: ClusterView, wallMs: number): void {
    guard("rebuilt", () => {
      this.#database.transaction((step) => {
        const known = step.select().from(catalogTable).get();
        if (known !== undefined && known.clusterUuid !== view.cluster?.uuid) {
          step.delete(eventsTable).run();
        }
        for (const table of STATE_TABLES) step.delete(table).run();
        for (const unit of view.units.values()) putUnit(step, view, unit);
        for (const disk of view.disks.values()) putDisk(step, disk);
        for (const volume of view.volumes.values()) putVolume(step, volume);
        for (const slice of view.slices.values()) putSlice(step, slice);
        for (const event of view.events.values()) putEvent(step, event);
        mark(step, view, wallMs);
      });
    });
  }

  /** Of which cluster and revision the rows are; null before the first. */
  state(): { clusterUuid: string; generation: number; revision: number; takenAtMs: number } | null {
    return guard("read", () => this.#database.select().from(catalogTable).get() ?? null);
  }

  units(): UnitRecord[] {
    const rows = guard("read", () =>
      this.#database.select().from(unitsTable).orderBy(asc(unitsTable.number)).all(),
    );
    return rows.map((row) => row.record);
  }

  disks(): DiskRecord[] {
    const rows = guard("read", () =>
      this.#database.select().from(disksTable).orderBy(asc(disksTable.number)).all(),
    );
    return rows.map((row) => row.record);
  }

  volumes(): VolumeRecord[] {
    const rows = guard("read", () =>
      this.#database.select().from(volumesTable).orderBy(asc(volumesTable.name)).all(),
    );
    return rows.map((row) => row.record);
  }

  slices(): SliceRecord[] {
    const rows = guard("read", () => this.#database.select().from(slicesTable).all());
    return rows.map((row) => row.record);
  }

  slicesOfVolume(volume: VolumeNumber): SliceRecord[] {
    const rows = guard("read", () =>
      this.#database
        .select()
        .from(slicesTable)
        .where(eq(slicesTable.volume, volume))
        .orderBy(asc(slicesTable.position))
        .all(),
    );
    return rows.map((row) => row.record);
  }

  /** How many members each disk holds, by state. */
  membersByDisk(): { disk: number; state: string; slices: number }[] {
    return guard("read", () =>
      this.#database
        .select({
          disk: membersTable.disk,
          state: membersTable.state,
          slices: sql<number>`count(*)`,
        })
        .from(membersTable)
        .groupBy(membersTable.disk, membersTable.state)
        .orderBy(asc(membersTable.disk), asc(membersTable.state))
        .all(),
    );
  }

  /** Events after `since`, oldest first; without it the newest `limit`, oldest of them first. */
  events(options: {
    since?: number;
    limit: number;
    severity?: EventRecord["severity"];
    /** Only what somebody of this name asked for. */
    actor?: string;
  }) {
    const { since, limit, severity, actor } = options;
    return guard("read", () => {
      const kind = severity === undefined ? undefined : eq(eventsTable.severity, severity);
      const by = actor === undefined ? undefined : eq(eventsTable.actor, actor);
      const rows = this.#database
        .select()
        .from(eventsTable)
        .where(and(gt(eventsTable.number, since ?? 0), kind, by))
        .orderBy(since === undefined ? desc(eventsTable.number) : asc(eventsTable.number))
        .limit(limit)
        .all();
      return since === undefined ? rows.reverse() : rows;
    });
  }

  #apply(view: ClusterView, changes: readonly ViewChange[], wallMs: number): void {
    guard("written", () => {
      this.#database.transaction((step) => {
        for (const change of changes) applyChange(step, view, change);
        mark(step, view, wallMs);
      });
    });
  }

  #isLater(): boolean {
    const newest = migrations().at(-1)?.folderMillis ?? 0;
    const table = sql.identifier(MIGRATIONS_TABLE);
    const there = this.#database.get<[string] | undefined>(
      sql`SELECT name FROM sqlite_master WHERE name = ${MIGRATIONS_TABLE}`,
    );
    if (there === undefined) return false;
    const rows = this.#database.values<[number | string | null]>(
      sql`SELECT max(created_at) FROM ${table}`,
    );
    return Number(rows[0]?.[0] ?? 0) > newest;
  }

  #dropAll(): void {
    const rows = this.#database.values<[string]>(
      sql`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`,
    );
    for (const [name] of rows) this.#database.run(sql`DROP TABLE ${sql.identifier(name)}`);
  }
}

const COPIED: ReadonlySet<ViewChange["kind"]> = new Set([
  "cluster",
  "unit",
  "alive",
  "disk",
  "volume",
  "slice",
  "event",
] as const);

/** drizzle's own migrator, below the part that reads files. */
function migrate(database: Drizzle, list: Migration[]): void {
  const inner = database as unknown as {
    dialect: { migrate(list: Migration[], session: unknown): void };
    session: unknown;
  };
  inner.dialect.migrate(list, inner.session);
}

function guard<T>(what: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    // Without the cause's text: it may hold the parameters of a query.
    const name = error instanceof Error ? error.name : "an error";
    throw new Fault("corrupt", `the catalog could not be ${what} (${name})`);
  }
}

function mark(step: Step, view: ClusterView, wallMs: number): void {
  const { cluster, revision } = view;
  if (cluster === null) return;
  const row = {
    id: 1,
    clusterUuid: cluster.uuid,
    generation: cluster.generation,
    revision,
    takenAtMs: Math.floor(wallMs),
  };
  step
    .insert(catalogTable)
    .values(row)
    .onConflictDoUpdate({ target: catalogTable.id, set: row })
    .run();
}

function applyChange(step: Step, view: ClusterView, change: ViewChange): void {
  const number = Number(change.rest);
  switch (change.kind) {
    case "unit":
    case "alive": {
      const unit = view.units.get(number);
      if (unit === undefined) step.delete(unitsTable).where(eq(unitsTable.number, number)).run();
      else putUnit(step, view, unit);
      return;
    }
    case "disk": {
      const disk = view.disks.get(number);
      if (disk === undefined) step.delete(disksTable).where(eq(disksTable.number, number)).run();
      else putDisk(step, disk);
      return;
    }
    case "volume": {
      const volume = view.volumes.get(number);
      if (volume !== undefined) putVolume(step, volume);
      else step.delete(volumesTable).where(eq(volumesTable.number, number)).run();
      return;
    }
    case "slice": {
      const slice = view.slices.get(number);
      if (slice !== undefined) putSlice(step, slice);
      else {
        step.delete(slicesTable).where(eq(slicesTable.number, number)).run();
        step.delete(membersTable).where(eq(membersTable.slice, number)).run();
      }
      return;
    }
    case "event": {
      // An event that the control store lets go of stays in the history here.
      const event = view.events.get(number);
      if (event !== undefined) putEvent(step, event);
      return;
    }
    default:
      return;
  }
}

function putUnit(step: Step, view: ClusterView, unit: UnitRecord): void {
  const row = {
    number: unit.number,
    id: unit.id,
    name: unit.name,
    role: unit.role,
    pool: unit.pool,
    state: unit.state,
    alive: view.isAlive(unit.number),
    version: unit.version,
    record: unit,
  };
  step
    .insert(unitsTable)
    .values(row)
    .onConflictDoUpdate({ target: unitsTable.number, set: row })
    .run();
}

function putDisk(step: Step, disk: DiskRecord): void {
  const { number, uuid, unit, path, sizeBytes, state } = disk;
  const row = { number, uuid, unit, path, sizeBytes, state, record: disk };
  step
    .insert(disksTable)
    .values(row)
    .onConflictDoUpdate({ target: disksTable.number, set: row })
    .run();
}

function putVolume(step: Step, volume: VolumeRecord): void {
  const { number, uuid, name, sizeBytes, protection, pool, state } = volume;
  const row = { number, uuid, name, sizeBytes, protection, pool, state, record: volume };
  step
    .insert(volumesTable)
    .values(row)
    .onConflictDoUpdate({ target: volumesTable.number, set: row })
    .run();
}

function putSlice(step: Step, slice: SliceRecord): void {
  const row = {
    number: slice.slice,
    volume: slice.volume,
    position: slice.index,
    sizeBytes: slice.sizeBytes,
    copies: slice.copies,
    epoch: slice.epoch,
    head: slice.head,
    record: slice,
  };
  step
    .insert(slicesTable)
    .values(row)
    .onConflictDoUpdate({ target: slicesTable.number, set: row })
    .run();
  step.delete(membersTable).where(eq(membersTable.slice, slice.slice)).run();
  for (const { disk } of slice.inSync) {
    step.insert(membersTable).values({ slice: slice.slice, disk, state: "in-sync" }).run();
  }
  for (const disk of slice.resyncing) {
    step.insert(membersTable).values({ slice: slice.slice, disk, state: "resyncing" }).run();
  }
}

function putEvent(step: Step, event: EventRecord): void {
  const { number, atMs, kind, severity, sentence, unit, volume, actor = null } = event;
  const row = { number, atMs, kind, severity, sentence, unit, volume, actor };
  step
    .insert(eventsTable)
    .values(row)
    .onConflictDoUpdate({ target: eventsTable.number, set: row })
    .run();
  step
    .delete(eventsTable)
    .where(lt(eventsTable.number, number - HISTORY_MAX))
    .run();
}
