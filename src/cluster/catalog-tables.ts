// SPDX-License-Identifier: Apache-2.0
//
// The catalog's tables as drizzle sees them; `migrations/` makes them. A row has the columns that
// pages and queries ask for, and the record whole.

import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { SliceRecord } from "#base/record.ts";
import type { DiskRecord, EventRecord, UnitRecord, VolumeRecord } from "./state.ts";

/** One row: of which cluster, as of which revision. */
export const catalogTable = sqliteTable("catalog", {
  id: integer("id").primaryKey(),
  clusterUuid: text("cluster_uuid").notNull(),
  generation: integer("generation").notNull(),
  revision: integer("revision").notNull(),
  takenAtMs: integer("taken_at_ms").notNull(),
});

export const unitsTable = sqliteTable("units", {
  number: integer("number").primaryKey(),
  id: text("id").notNull(),
  name: text("name").notNull(),
  role: text("role").notNull(),
  pool: text("pool"),
  state: text("state").notNull(),
  alive: integer("alive", { mode: "boolean" }).notNull(),
  version: text("version").notNull(),
  record: text("record", { mode: "json" }).$type<UnitRecord>().notNull(),
});

export const disksTable = sqliteTable(
  "disks",
  {
    number: integer("number").primaryKey(),
    uuid: text("uuid").notNull(),
    unit: integer("unit").notNull(),
    path: text("path").notNull(),
    sizeBytes: integer("size_bytes").notNull(),
    state: text("state").notNull(),
    record: text("record", { mode: "json" }).$type<DiskRecord>().notNull(),
  },
  (table) => [index("disks_by_unit").on(table.unit)],
);

export const volumesTable = sqliteTable("volumes", {
  number: integer("number").primaryKey(),
  uuid: text("uuid").notNull(),
  name: text("name").notNull(),
  sizeBytes: integer("size_bytes").notNull(),
  protection: text("protection").notNull(),
  pool: text("pool").notNull(),
  state: text("state").notNull(),
  record: text("record", { mode: "json" }).$type<VolumeRecord>().notNull(),
});

export const slicesTable = sqliteTable(
  "slices",
  {
    number: integer("number").primaryKey(),
    volume: integer("volume").notNull(),
    position: integer("position").notNull(),
    sizeBytes: integer("size_bytes").notNull(),
    copies: integer("copies").notNull(),
    epoch: integer("epoch").notNull(),
    head: integer("head").notNull(),
    record: text("record", { mode: "json" }).$type<SliceRecord>().notNull(),
  },
  (table) => [index("slices_by_volume").on(table.volume, table.position)],
);

export const membersTable = sqliteTable(
  "members",
  {
    slice: integer("slice").notNull(),
    disk: integer("disk").notNull(),
    state: text("state", { enum: ["in-sync", "resyncing"] }).notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.slice, table.disk] }),
    index("members_by_disk").on(table.disk),
  ],
);

export const eventsTable = sqliteTable("events", {
  number: integer("number").primaryKey(),
  atMs: integer("at_ms").notNull(),
  kind: text("kind").notNull(),
  severity: text("severity").$type<EventRecord["severity"]>().notNull(),
  sentence: text("sentence").notNull(),
  unit: integer("unit"),
  volume: integer("volume"),
  actor: text("actor"),
});
