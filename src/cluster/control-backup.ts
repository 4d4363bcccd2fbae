// SPDX-License-Identifier: Apache-2.0
//
// Backups of the control state: all keys of the control store but those that hang on a lease, in
// one sealed file (control-backup.wire.ts). What goes in is bounded: where it does not fit, the
// history of events is left out, and said so.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import {
  BACKUP,
  BACKUP_BYTES_MAX,
  BACKUP_CHECKED_FROM,
  BACKUP_ENTRIES_MAX,
  BACKUP_MAGIC,
  BACKUP_VERSION,
} from "./control-backup.wire.ts";
import { VALUE_CHARACTERS_MAX } from "./control-store.ts";
import type { Entry, Reading } from "./control-store.ts";
import { FIRST_GENERATION, generationOf } from "./generation.ts";
import type { Generation } from "./generation.ts";
import { ClusterSchema, keys, parseValue } from "./state.ts";
import { KEY_CHARACTERS_MAX } from "./transaction-shape.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What stands in the clear at a backup's head. */
export interface BackupFacts {
  clusterId: string;
  generation: Generation;
  revision: number;
  /** Wall clock of the unit that took it, for people. */
  takenAtMs: number;
  /** Keys in it. */
  entries: number;
  bytes: number;
}

export type BackupEntry = [key: string, value: string];
export interface Backup extends BackupFacts {
  state: BackupEntry[];
}

const EntriesSchema = z
  .array(z.tuple([z.string().max(KEY_CHARACTERS_MAX), z.string().max(VALUE_CHARACTERS_MAX)]))
  .max(BACKUP_ENTRIES_MAX);

type SealWorld = Pick<World, "seal" | "random">;

/** Throws Fault notReady where the reading is of no cluster, tooLarge where it does not fit. */
export function makeBackup(
  world: SealWorld,
  key: Uint8Array,
  reading: Reading,
  takenAtMs: number,
): Uint8Array {
  const cluster = reading.entries.find((entry) => entry.key === keys.cluster);
  if (cluster === undefined) throw new Fault("notReady", "the control store holds no cluster");
  const record = parseValue(ClusterSchema, keys.cluster, cluster.value);
  const kept = reading.entries.filter((entry) => entry.lease === null);
  const facts = {
    clusterId: record.uuid,
    generation: generationOf(record),
    revision: reading.revision,
    takenAtMs: Math.max(0, Math.floor(takenAtMs)),
  };
  const whole = sealed(world, key, facts, kept);
  if (whole !== null) return whole;
  const less = kept.filter((entry) => !entry.key.startsWith(keys.events));
  const without = sealed(world, key, facts, less);
  if (without !== null) return without;
  throw new Fault("tooLarge", `the control state is larger than ${BACKUP_BYTES_MAX} bytes`);
}

/** Null: it does not fit. */
function sealed(
  { seal, random }: SealWorld,
  key: Uint8Array,
  facts: Omit<BackupFacts, "entries" | "bytes">,
  entries: readonly Entry[],
): Uint8Array | null {
  if (entries.length > BACKUP_ENTRIES_MAX) return null;
  const text = JSON.stringify(entries.map((entry) => [entry.key, entry.value]));
  const plain = new TextEncoder().encode(text);
  const bodyBytes = plain.length + TAG_BYTES;
  if (BACKUP.size + bodyBytes > BACKUP_BYTES_MAX) return null;
  const file = new Uint8Array(BACKUP.size + bodyBytes);
  const header = BACKUP.view().at(file, 0);
  const nonce = new Uint8Array(NONCE_BYTES);
  random.fill(nonce);
  header.magic = BACKUP_MAGIC;
  header.version = BACKUP_VERSION;
  header.entryCount = entries.length;
  header.clusterId = Uint8Array.fromHex(facts.clusterId);
  header.generationId = Uint8Array.fromHex(facts.generation.id);
  header.generation = facts.generation.number;
  header.revision = facts.revision;
  header.takenAtMs = facts.takenAtMs;
  header.bodyBytes = bodyBytes;
  header.nonce = nonce;
  const associated = file.slice(BACKUP_CHECKED_FROM, BACKUP.size);
  file.set(seal.aesGcmSeal(key, nonce, associated, plain), BACKUP.size);
  header.checksum = seal.sha256(file.subarray(BACKUP_CHECKED_FROM));
  return file;
}

/** Of a file that holds a backup as it is, or as text. */
export const BACKUP_FILE_BYTES_MAX = 2 * BACKUP_BYTES_MAX;

/** What a file holds: a backup as it is, or in base64, as the command line writes it. */
export function backupOfFile(file: Uint8Array): Uint8Array {
  const magicAt = BACKUP_CHECKED_FROM;
  if (BACKUP_MAGIC.every((byte, at) => file[magicAt + at] === byte)) return file;
  const text = new TextDecoder().decode(file).trim();
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return file;
  try {
    return Uint8Array.fromBase64(text);
  } catch (cause) {
    throw new Fault("corrupt", "the backup is cut off, or is none", { cause });
  }
}

/**
 * A backup's head, once the whole file is known to be undamaged. Throws a Fault: corrupt, tooLarge,
 * versionMismatch (of a later program).
 */
export function backupFacts({ seal }: Pick<World, "seal">, file: Uint8Array): BackupFacts {
  if (file.length > BACKUP_BYTES_MAX) {
    throw new Fault("tooLarge", `a backup has at most ${BACKUP_BYTES_MAX} bytes`);
  }
  if (file.length < BACKUP.size) throw new Fault("corrupt", "the backup is cut off, or is none");
  const header = BACKUP.view().at(file, 0);
  if (!seal.equal(header.magic.slice(), BACKUP_MAGIC)) {
    throw new Fault("corrupt", "the file is no backup of a control state");
  }
  // Before the checksum: a later format may have another one.
  if (header.version > BACKUP_VERSION) {
    const sentence = `the backup is of format ${header.version}; this program reads`;
    throw new Fault("versionMismatch", `${sentence} up to ${BACKUP_VERSION}`);
  }
  if (header.bodyBytes !== file.length - BACKUP.size) {
    throw new Fault("corrupt", "the backup is cut off, or something was appended to it");
  }
  const checksum = seal.sha256(file.subarray(BACKUP_CHECKED_FROM));
  if (!seal.equal(checksum, header.checksum.slice())) {
    throw new Fault("corrupt", "the backup's checksum is wrong: it was damaged");
  }
  const { generation, revision, takenAtMs, entryCount } = header;
  const isSound =
    header.version >= 1 &&
    header.reservedIsZero() &&
    Number.isFinite(generation + revision + takenAtMs) &&
    generation >= FIRST_GENERATION.number &&
    entryCount <= BACKUP_ENTRIES_MAX;
  if (!isSound) throw new Fault("corrupt", "the backup's head makes no sense");
  return {
    clusterId: header.clusterId.toHex(),
    generation: { number: generation, id: header.generationId.toHex() },
    revision,
    takenAtMs,
    entries: entryCount,
    bytes: file.length,
  };
}

/**
 * The whole backup. Throws a Fault as `backupFacts` does, and: wrongCluster, notAuthentic (sealed
 * by another join secret).
 */
export function openBackup(
  world: Pick<World, "seal">,
  key: Uint8Array,
  file: Uint8Array,
  clusterId: string,
): Backup {
  const facts = backupFacts(world, file);
  if (facts.clusterId !== clusterId) {
    throw new Fault("wrongCluster", `the backup is of the cluster ${facts.clusterId}`);
  }
  const header = BACKUP.view().at(file, 0);
  const associated = file.slice(BACKUP_CHECKED_FROM, BACKUP.size);
  const body = file.subarray(BACKUP.size);
  const plain = world.seal.aesGcmOpen(key, header.nonce.slice(), associated, body);
  if (plain === null) {
    throw new Fault("notAuthentic", "the backup was sealed by another join secret");
  }
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder().decode(plain));
  } catch (cause) {
    throw new Fault("corrupt", "the backup's body is no JSON", { cause });
  }
  const parsed = EntriesSchema.safeParse(raw);
  if (!parsed.success || parsed.data.length !== facts.entries) {
    throw new Fault("corrupt", "the backup's body makes no sense");
  }
  return { ...facts, state: parsed.data };
}
