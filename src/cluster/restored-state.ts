// SPDX-License-Identifier: Apache-2.0
//
// What a restored control state begins with, made from a backup's keys. Pure. The backup may be
// older than what the cluster did since:
//
// - Slice records become claims that the disks settle (restored-slices.ts); a volume that was being
//   made may have been written since, so its slices are claims as well, and nothing is placed anew.
//   One that was growing is as it was before.
// - Numbers jump, so that none is given out twice.
// - What hung on a lease, voters, and an update under way are left out.
// - Keys that this version does not know, or cannot read, are kept as they are.

import { Fault } from "#base/fault.ts";
import { UNITS_MAX } from "#base/limits.ts";
import type { BackupEntry } from "./control-backup.ts";
import { generationOf } from "./generation.ts";
import type { Generation } from "./generation.ts";
import { claimOf } from "./restored-slices.ts";
import type { RestoredSlice } from "./restored-slices.ts";
import { keyParts, keys, parseEntry, valueText } from "./state.ts";
import type { ClusterRecord, NumbersRecord, StateEntry, StateKind, VolumeRecord } from "./state.ts";

/**
 * How far numbers jump, per generation: more than a cluster gives out between two backups by a wide
 * margin. Within that far again each generation begins elsewhere, since two of one number may have
 * begun from one backup.
 */
export const JUMPS = {
  unit: UNITS_MAX,
  disk: 4096,
  volume: 1 << 16,
  slice: 1 << 22,
  event: 1_000_000,
  host: 4096,
  request: 4096,
} as const satisfies Record<keyof NumbersRecord & string, number>;
/** Disks that one claim waits for. */
const NAMED_MAX = 64;
/** Terms of control stations, which only order who was heard last. */
const TERM_JUMP = 1_000_000;

/** Not taken over: of leases and voters of the generation before, or under way then. */
const LEFT_OUT: ReadonlySet<StateKind> = new Set([
  "alive",
  "station",
  "command",
  "voter",
  "update",
  "unitUpdate",
] as const);

export interface RestoredState {
  /** To be written in this order; the cluster's own record is last. */
  entries: BackupEntry[];
  cluster: ClusterRecord;
  volumes: number;
  units: number;
  /** Slices that wait for their disks. */
  claims: number;
}

/** Throws Fault corrupt where the backup lacks the cluster's record or its numbers. */
export function restoredState(
  backup: readonly BackupEntry[],
  generation: Generation,
): RestoredState {
  const made = new Making(generation);
  for (const [key, value] of backup) made.take(key, value);
  return made.end();
}

class Making {
  readonly #generation: Generation;
  readonly #entries: BackupEntry[] = [];
  readonly #claims = new Map<number, RestoredSlice>();
  readonly #volumes: VolumeRecord[] = [];
  #cluster: ClusterRecord | null = null;
  #numbers: NumbersRecord | null = null;
  #units = 0;

  constructor(generation: Generation) {
    this.#generation = generation;
  }

  take(key: string, text: string): void {
    const parts = keyParts(key);
    if (parts !== null && LEFT_OUT.has(parts.kind)) return;
    const entry = readable(key, text);
    switch (entry?.kind) {
      case "cluster":
        this.#cluster = entry.value;
        return;
      case "numbers":
        this.#numbers = entry.value;
        return;
      case "term":
        this.#put(key, entry.value + TERM_JUMP);
        return;
      case "slice":
        this.#claims.set(entry.number, claimOf(entry.value, entry.value));
        return;
      case "restored":
        // Of a generation before, not settled then: whoever told there has to tell again.
        this.#claims.set(entry.number, claimAnew(entry.value));
        return;
      case "volume":
        this.#volumes.push(entry.value);
        return;
      case "unit":
        if (entry.value.state === "admitted") this.#units++;
        this.#entries.push([key, text]);
        return;
      default:
        // A slice that cannot be read is one that only its disks know.
        if (parts?.kind !== "slice" && parts?.kind !== "restored") this.#entries.push([key, text]);
    }
  }

  #put(key: string, value: unknown): void {
    this.#entries.push([key, JSON.stringify(value)]);
  }

  end(): RestoredState {
    const before = this.#cluster;
    if (before === null || this.#numbers === null) {
      throw new Fault("corrupt", "the backup lacks the cluster's own record");
    }
    if (this.#generation.number <= before.generation) {
      throw new Fault("conflict", "the backup is of a generation as high as the new one");
    }
    const numbers = jumped(this.#numbers, generationOf(before), this.#generation);
    for (const volume of this.#volumes) this.#takeVolume(volume);
    for (const claim of this.#claims.values()) this.#put(keys.restoredSlice(claim.slice), claim);
    this.#put(keys.numbers, numbers);
    const cluster: ClusterRecord = {
      ...before,
      generation: this.#generation.number,
      generationId: this.#generation.id,
      sliceFrom: numbers.slice,
      state: "used",
    };
    this.#put(keys.cluster, cluster);
    return {
      entries: this.#entries,
      cluster,
      volumes: this.#volumes.length,
      units: this.#units,
      claims: this.#claims.size,
    };
  }

  #takeVolume(volume: VolumeRecord): void {
    const isMade = volume.state === "creating";
    // Whether it came to grow is on disks: they say so, or it did not (restored-changes.ts).
    const { growth, ...before } = volume;
    const kept: VolumeRecord = isMade ? { ...before, state: "ready" } : before;
    this.#entries.push([keys.volume(volume.number), valueText(kept)]);
    for (const slice of growth?.slices ?? []) this.#claims.delete(slice);
    if (volume.state === "deleting") return;
    for (const [index, slice] of volume.slices.entries()) {
      if (this.#claims.has(slice)) continue;
      this.#claims.set(slice, claimOf({ slice, volume: volume.number, index }, null));
    }
  }
}

function jumped(numbers: NumbersRecord, before: Generation, after: Generation): NumbersRecord {
  const next = { ...numbers };
  const generations = after.number - before.number;
  const chance = Number.parseInt(after.id.slice(0, 8), 16);
  for (const [kind, jump] of Object.entries(JUMPS)) {
    const name = kind as keyof typeof JUMPS;
    next[name] = (numbers[name] as number) + generations * 2 * jump + (chance % jump);
  }
  return next;
}

/** Of a claim that was not settled: whoever was known to know more is asked again. */
function claimAnew(claim: RestoredSlice): RestoredSlice {
  const fresh = claimOf(claim, claim.record);
  return { ...fresh, named: [...new Set([...fresh.named, ...claim.named])].slice(0, NAMED_MAX) };
}

function readable(key: string, text: string): StateEntry | null {
  try {
    return parseEntry(key, text);
  } catch (error) {
    if (error instanceof Fault) return null;
    throw error;
  }
}
