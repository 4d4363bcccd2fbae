// SPDX-License-Identifier: Apache-2.0
//
// The catalog's database file. It holds a copy of the control state that can be rebuilt at any
// time, so it runs without fsync per transaction, and a file that cannot be opened as one is put
// aside.

import { Database } from "bun:sqlite";
import { renameSync, rmSync } from "node:fs";
import { Fault } from "#base/fault.ts";

const BUSY_TIMEOUT_MS = 2000;

export { Database };

/** Opens or makes it. `putAside` names where a damaged file went; null when there was none. */
export function openDatabase(file: string): { database: Database; putAside: string | null } {
  try {
    return { database: open(file), putAside: null };
  } catch {
    // Said by the caller through `putAside`; what remains is made anew.
    const putAside = `${file}.damaged`;
    try {
      renameSync(file, putAside);
      for (const suffix of ["-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true });
      return { database: open(file), putAside };
    } catch (cause) {
      throw new Fault("badMachine", `the database ${file} cannot be opened`, { cause });
    }
  }
}

function open(file: string): Database {
  const database = new Database(file, { create: true, strict: true });
  try {
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = NORMAL");
    database.exec("PRAGMA foreign_keys = ON");
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    const row = database.query("PRAGMA quick_check(1)").get() as { quick_check: string } | null;
    if (row?.quick_check !== "ok") throw new Fault("corrupt", `the database ${file} is damaged`);
    return database;
  } catch (cause) {
    database.close();
    throw cause;
  }
}
