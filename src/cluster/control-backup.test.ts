// SPDX-License-Identifier: Apache-2.0
//
// Backups: what is kept and read back; corrupt, cut off, of another cluster, of a later format, of
// another secret, too big: each a clear Fault, and nothing is taken from it.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import { nodeSeal } from "#protocol/peer-channel/node-seal.test.ts";
import { backupFacts, backupOfFile, makeBackup, openBackup } from "./control-backup.ts";
import { BACKUP, BACKUP_BYTES_MAX, BACKUP_CHECKED_FROM } from "./control-backup.wire.ts";
import type { Entry, Reading } from "./control-store.ts";
import { FIRST_GENERATION } from "./generation.ts";
import { firstState, keys } from "./state.ts";

const UUID = "c1".repeat(16);
const KEY = new Uint8Array(32).fill(7);
const prng = new Prng(1);
const world = {
  seal: nodeSeal(),
  random: {
    fraction: () => prng.fraction(),
    fill: (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
    },
  },
};

function entry(key: string, value: string, lease: string | null = null): Entry {
  return { key, value, modRevision: 3, createRevision: 3, lease };
}

function reading(...more: Entry[]): Reading {
  const first = firstState({ uuid: UUID, name: "attic", featureLevel: 1 });
  return { revision: 42, entries: [...first.map(({ key, value }) => entry(key, value)), ...more] };
}

const file = makeBackup(world, KEY, reading(entry("/alive/1", "{}", "77")), 1_700_000_000_000.5);

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

/** As a program would that writes this header: with its checksum. */
function rewritten(change: (header: ReturnType<typeof BACKUP.view>) => void): Uint8Array {
  const copy = file.slice();
  const header = BACKUP.view().at(copy, 0);
  change(header);
  header.checksum = world.seal.sha256(copy.subarray(BACKUP_CHECKED_FROM));
  return copy;
}

describe("backup", () => {
  test("made and opened → all but what hangs on a lease, and its facts", () => {
    const backup = openBackup(world, KEY, file, UUID);
    expect(backup.state.map(([key]) => key).sort()).toEqual(
      reading()
        .entries.map(({ key }) => key)
        .sort(),
    );
    expect(backupFacts(world, file)).toEqual({
      clusterId: UUID,
      generation: FIRST_GENERATION,
      revision: 42,
      takenAtMs: 1_700_000_000_000,
      entries: backup.state.length,
      bytes: file.length,
    });
  });

  test("nothing of it stands in the clear", () => {
    const text = new TextDecoder("latin1").decode(file);
    expect(text).not.toContain("attic");
    expect(text).not.toContain(keys.numbers);
  });

  test("cut off anywhere, or longer → corrupt", () => {
    for (let length = 0; length < file.length; length++) {
      expect([length, codeOf(() => openBackup(world, KEY, file.slice(0, length), UUID))]).toEqual([
        length,
        "corrupt",
      ]);
    }
    const longer = new Uint8Array(file.length + 1);
    longer.set(file);
    expect(codeOf(() => openBackup(world, KEY, longer, UUID))).toBe("corrupt");
  });

  test("any byte changed → refused", () => {
    for (let at = 0; at < file.length; at++) {
      const copy = file.slice();
      copy[at] = (copy[at] as number) ^ 0x10;
      const code = codeOf(() => openBackup(world, KEY, copy, UUID));
      expect([at, ["corrupt", "versionMismatch"].includes(code)]).toEqual([at, true]);
    }
  });

  test("a header changed together with its checksum → not authentic, or it makes no sense", () => {
    const open = (copy: Uint8Array) => codeOf(() => openBackup(world, KEY, copy, UUID));
    expect(open(rewritten((header) => (header.revision = 43)))).toBe("notAuthentic");
    expect(open(rewritten((header) => (header.entryCount = 2 ** 31)))).toBe("corrupt");
    expect(open(rewritten((header) => (header.generation = 0)))).toBe("corrupt");
    expect(open(rewritten((header) => (header.version = 0)))).toBe("corrupt");
  });

  test("of another cluster, of another secret, of a later format → said so", () => {
    expect(codeOf(() => openBackup(world, KEY, file, "d2".repeat(16)))).toBe("wrongCluster");
    const other = new Uint8Array(32).fill(8);
    expect(codeOf(() => openBackup(world, other, file, UUID))).toBe("notAuthentic");
    const later = rewritten((header) => (header.version = 2));
    expect(codeOf(() => openBackup(world, KEY, later, UUID))).toBe("versionMismatch");
  });

  test("larger than a backup may be → refused; the history is left out before that", () => {
    expect(codeOf(() => backupFacts(world, new Uint8Array(BACKUP_BYTES_MAX + 1)))).toBe("tooLarge");
    const large = "x".repeat(1 << 20);
    const fill = (prefix: string) =>
      Array.from({ length: 15 }, (_, at) => entry(`${prefix}${at}`, large));
    const fitting = makeBackup(world, KEY, reading(...fill(keys.events)), 0);
    const { state } = openBackup(world, KEY, fitting, UUID);
    expect(state.length).toBe(reading().entries.length);
    expect(codeOf(() => makeBackup(world, KEY, reading(...fill("/x/")), 0))).toBe("tooLarge");
  });

  test("a store without a cluster has nothing to back up", () => {
    expect(codeOf(() => makeBackup(world, KEY, { revision: 1, entries: [] }, 0))).toBe("notReady");
  });

  test("a file holds it as it is or as text; anything else is handed on and refused", () => {
    expect(backupOfFile(file)).toEqual(file);
    const text = new TextEncoder().encode(`${file.toBase64()}\n`);
    expect(backupOfFile(text)).toEqual(file);
    expect(codeOf(() => backupFacts(world, backupOfFile(text.slice(0, 400))))).toBe("corrupt");
    expect(codeOf(() => backupFacts(world, backupOfFile(new Uint8Array(0))))).toBe("corrupt");
    const prose = new TextEncoder().encode("this is no backup");
    expect(codeOf(() => backupFacts(world, backupOfFile(prose)))).toBe("corrupt");
  });
});
