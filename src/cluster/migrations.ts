// SPDX-License-Identifier: Apache-2.0
//
// The catalog's migrations, embedded: drizzle's own migrator reads a folder, which a single
// executable does not have. A new one is a file, an import and a journal entry. Its `when` must be
// later than the one before: drizzle skips an earlier one without a word (tested).

import initial from "./migrations/0000_initial.sql" with { type: "text" };
import actors from "./migrations/0001_actors.sql" with { type: "text" };
import journal from "./migrations/meta/_journal.json";

export interface Migration {
  sql: string[];
  bps: boolean;
  folderMillis: number;
  hash: string;
}

const texts: Record<string, string> = { "0000_initial": initial, "0001_actors": actors };

/** In the journal's order, as drizzle's dialect takes them. */
export function migrations(): Migration[] {
  return journal.entries.map((entry) => {
    const text = texts[entry.tag];
    if (text === undefined) throw new Error(`the migration ${entry.tag} is not embedded`);
    return {
      sql: text.split("--> statement-breakpoint"),
      bps: entry.breakpoints,
      folderMillis: entry.when,
      // Kept by drizzle beside the date and never compared; the tag says as much.
      hash: entry.tag,
    };
  });
}

/** The migrations' table, as drizzle names it. */
export const MIGRATIONS_TABLE = "__drizzle_migrations";
