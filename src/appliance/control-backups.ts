// SPDX-License-Identifier: Apache-2.0
//
// Backups of the control state that this unit keeps in its state directory: taken by themselves
// soon after a change, on several units, so that the loss of all voters is not the loss of what
// they knew (design section 6). Cheap: one reading of the state, at most once a minute.
//
// Kept are the newest, and older ones about an hour, a day and a week old, as far as there are any:
// a mistake is often noticed late.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import { backupFacts, makeBackup } from "#cluster/control-backup.ts";
import type { BackupFacts } from "#cluster/control-backup.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import type { StateKind } from "#cluster/state.ts";
import type { ClusterView, ViewChange } from "#cluster/view.ts";
import type { StateDirectory } from "#machine/state-directory.ts";

const HOUR_MS = 3_600_000;
/** A slot takes over what the one before it holds once its own is this old. */
const SLOTS_AFTER_MS = [0, HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS] as const;
/** How long changes gather before they are kept, and the least between two backups. */
const GATHER_MS = 20_000;
const BETWEEN_MS = 60_000;
const AGAIN_MS = 30_000;
/** Units that keep backups: those with the lowest numbers of those that are up. */
export const BACKUP_UNITS_MAX = 7;

/** What comes and goes by itself: no backup is taken because of it. */
const VOLATILE: ReadonlySet<StateKind> = new Set([
  "alive",
  "station",
  "term",
  "told",
  "command",
  "event",
  "numbers",
  "unitUpdate",
] as const);

export interface KeptBackup extends BackupFacts {
  /** Of its file. */
  name: string;
}

export interface BackupParts {
  unit: UnitNumber;
  state: Pick<StateDirectory, "read" | "write">;
  /** Seals them. */
  key: Uint8Array;
  store: Pick<ControlStore, "range">;
  view: ClusterView;
}

/** Backups that lie in a state directory, the newest first; damaged ones are left out. */
export function keptBackups(
  world: Pick<World, "seal">,
  state: Pick<StateDirectory, "read">,
): KeptBackup[] {
  return SLOTS_AFTER_MS.flatMap((_, slot) => {
    const name = nameOf(slot);
    const file = state.read(name);
    const facts = file === null ? null : readable(world, file);
    return facts === null ? [] : [{ ...facts, name }];
  });
}

export class ControlBackups {
  readonly #world: Pick<World, "clock" | "log" | "random" | "seal">;
  readonly #timers: Timers;
  readonly #parts: BackupParts;
  #newest: KeptBackup | null;
  #cancel: (() => void) | null = null;
  #takenAtMs = Number.NEGATIVE_INFINITY;
  #taking: Promise<KeptBackup> | null = null;
  #stopped = false;

  constructor(
    world: Pick<World, "clock" | "log" | "random" | "seal">,
    timers: Timers,
    parts: BackupParts,
  ) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    this.#newest = keptBackups(world, parts.state)[0] ?? null;
    parts.view.onChange((changes) => this.#changed(changes));
  }

  /** The newest one kept here; null: none. */
  get newest(): KeptBackup | null {
    return this.#newest;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  /** Takes one now. Throws a Fault where the control store is away, or it does not fit. */
  take(): Promise<KeptBackup> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  #changed(changes: readonly ViewChange[]): void {
    if (this.#stopped || this.#cancel !== null) return;
    if (!changes.some(({ kind }) => !VOLATILE.has(kind))) return;
    const nowMs = this.#world.clock.nowMs();
    // Each at another moment: they all read the same voters.
    const gatherMs = GATHER_MS * (1 + this.#world.random.fraction());
    this.#later(Math.max(gatherMs, this.#takenAtMs + BETWEEN_MS - nowMs));
  }

  #later(delayMs: number): void {
    this.#cancel = this.#timers.after(delayMs, () => {
      this.#cancel = null;
      if (!this.#stopped && this.#isKeeper()) void this.#keep();
    });
  }

  #isKeeper(): boolean {
    const { view, unit } = this.#parts;
    const up = [...view.alive.keys()].filter((number) => view.isAlive(number));
    const lower = up.filter((number) => number < unit);
    return lower.length < BACKUP_UNITS_MAX;
  }

  async #keep(): Promise<void> {
    try {
      await this.take();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const level = error.code === "controlStoreAway" ? "debug" : "warn";
      const reason = error.message;
      this.#world.log.write(level, "the control state was not backed up", { reason });
      if (!this.#stopped && this.#cancel === null) this.#later(AGAIN_MS);
    }
  }

  async #take(): Promise<KeptBackup> {
    const { store, state, key } = this.#parts;
    this.#takenAtMs = this.#world.clock.nowMs();
    const reading = await store.range("/");
    const wallMs = this.#world.clock.wallMs();
    const file = makeBackup(this.#world, key, reading, wallMs);
    this.#passOn(wallMs);
    const name = nameOf(0);
    state.write(name, file);
    const kept = { ...backupFacts(this.#world, file), name };
    this.#newest = kept;
    this.#world.log.write("debug", "the control state was backed up", { bytes: file.length });
    return kept;
  }

  /** Each slot, the oldest first, takes what the one before it holds, if its own is old enough. */
  #passOn(wallMs: number): void {
    const { state } = this.#parts;
    for (let slot = SLOTS_AFTER_MS.length - 1; slot > 0; slot--) {
      const own = state.read(nameOf(slot));
      const facts = own === null ? null : readable(this.#world, own);
      const ageMs = facts === null ? Number.POSITIVE_INFINITY : wallMs - facts.takenAtMs;
      // A clock that was set back makes none of them older.
      if (ageMs >= 0 && ageMs < (SLOTS_AFTER_MS[slot] ?? 0)) continue;
      const before = state.read(nameOf(slot - 1));
      if (before !== null && readable(this.#world, before) !== null) {
        state.write(nameOf(slot), before);
      }
    }
  }
}

function nameOf(slot: number): string {
  return `control-backup-${slot}`;
}

function readable(world: Pick<World, "seal">, file: Uint8Array): BackupFacts | null {
  try {
    return backupFacts(world, file);
  } catch (error) {
    if (error instanceof Fault) return null; // damaged: the others count
    throw error;
  }
}
