// SPDX-License-Identifier: Apache-2.0
//
// A unit's step into a new generation of its cluster: planned while it runs, taken at its next
// start, before anything of the cluster runs. So all that was served, leased and held open in the
// old generation has ended in order by then.
//
// Invariants
// - The membership names the new generation only once the old voter's data is put aside, and, where
//   a backup is restored, once the new control store holds all of it. Until then a start takes the
//   step again from its beginning; nobody has seen what was half done.
// - A unit that has entered a generation never goes back to an older one.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { compareGenerations, generationInWords } from "#cluster/generation.ts";
import {
  bringBackEtcd,
  clearEtcdDirectory,
  forgetEtcdAside,
  putAsideEtcd,
} from "#machine/etcd-child.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { MEMBERSHIP_FILE, membershipText, parseMembership } from "./membership.ts";
import type { SavedMembership } from "./membership.ts";

const NEXT_FILE = "next-generation.json";
/** The backup to begin with, as long as the step is not taken. */
const RESTORED_FILE = "next-generation.backup";
const ETCD_FOLDER = "etcd";

const MEMBERSHIP_CHARACTERS_MAX = 64 << 10;
const NextSchema = z.object({
  /** As its own file will have it. */
  membership: z.string().max(MEMBERSHIP_CHARACTERS_MAX),
  /** This unit restores the control state; else others have. */
  restores: z.boolean(),
});

/** `backup` null: another unit has restored the control state, and this one follows. */
export function planNext(
  state: Pick<StateDirectory, "write">,
  membership: SavedMembership,
  backup: Uint8Array | null,
): void {
  if (backup !== null) state.write(RESTORED_FILE, backup);
  const next = { membership: membershipText(membership), restores: backup !== null };
  state.write(NEXT_FILE, `${JSON.stringify(next)}\n`);
}

/**
 * Takes the planned step, if there is one. `restore` makes the new control store and answers the
 * membership in it; where it fails, the unit is again what it was before.
 */
export async function takeNext(
  state: StateDirectory,
  log: Log,
  restore: (next: SavedMembership, backup: Uint8Array) => Promise<SavedMembership>,
): Promise<void> {
  const next = readNext(state);
  if (next === null) return;
  const { membership, restores } = next;
  const saved = state.readText(MEMBERSHIP_FILE);
  const current = saved === null ? null : parseMembership(saved);
  // Without a membership a unit may still restore; one that left its cluster comes along nowhere.
  const isTaken =
    current === null
      ? !restores
      : current.clusterId !== membership.clusterId ||
        compareGenerations(current.generation, membership.generation) >= 0;
  const folder = state.pathOf(ETCD_FOLDER);
  const { id } = membership.generation;
  if (!isTaken) {
    putAsideEtcd(folder, id);
    try {
      const entered = restores ? await restored(state, membership, restore) : membership;
      state.write(MEMBERSHIP_FILE, membershipText(entered));
      log.write("warn", `this unit enters ${generationInWords(membership.generation)}`, { id });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      log.write("error", "the control state was not restored; all is as before", {
        reason: error.message,
      });
      clearEtcdDirectory(folder);
      bringBackEtcd(folder, id);
    }
  }
  forgetEtcdAside(folder, id);
  state.remove(NEXT_FILE);
  state.remove(RESTORED_FILE);
}

function readNext(
  state: StateDirectory,
): { membership: SavedMembership; restores: boolean } | null {
  const text = state.readText(NEXT_FILE);
  if (text === null) return null;
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new Fault("corrupt", `${NEXT_FILE} is no JSON`, { cause });
  }
  const parsed = NextSchema.safeParse(raw);
  if (!parsed.success) throw new Fault("corrupt", `${NEXT_FILE} is malformed`);
  const { membership, restores } = parsed.data;
  return { membership: parseMembership(membership), restores };
}

async function restored(
  state: StateDirectory,
  membership: SavedMembership,
  restore: (next: SavedMembership, backup: Uint8Array) => Promise<SavedMembership>,
): Promise<SavedMembership> {
  const backup = state.read(RESTORED_FILE);
  if (backup === null) throw new Fault("corrupt", "the backup to restore is gone");
  return restore(membership, backup);
}
