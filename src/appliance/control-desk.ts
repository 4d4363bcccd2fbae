// SPDX-License-Identifier: Apache-2.0
//
// What a person asks about the control state itself: backups that are kept, one more, and a restore
// when the majority of the voters is gone for good. What a restore will do is said beforehand, and
// it is refused while the control store answers.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import {
  BACKUP_FILE_BYTES_MAX,
  backupFacts,
  backupOfFile,
  openBackup,
} from "#cluster/control-backup.ts";
import { FIRST_GENERATION, generationInWords } from "#cluster/generation.ts";
import type { Generation } from "#cluster/generation.ts";
import { restoredState } from "#cluster/restored-state.ts";
import { newId } from "#cluster/voters.ts";
import { readNamedFile } from "#machine/state-directory.ts";
import { timeInWords } from "./api/words.ts";
import { keptBackups } from "./control-backups.ts";
import type { KeptBackup } from "./control-backups.ts";
import { MEMBERSHIP_FILE } from "./membership.ts";
import type { Unit } from "./unit.ts";

/** The control store must be away at least this long before it is taken for lost. */
const LOST_AFTER_MS = 15_000;
/** Kept by one unit. */
const NAME = /^control-backup-\d$/;

/** When a unit last kept a backup, as it says. */
export interface UnitBackup {
  unit: UnitNumber;
  name: string;
  /** Null: none yet. */
  keptAtMs: number | null;
}

export interface BackupsView {
  /** On the unit that is asked, the newest first. */
  here: KeptBackup[];
  units: UnitBackup[];
}

export interface RestoreRequest {
  /** Of a kept one; neither: the newest kept here. */
  name?: string | undefined;
  /** A file on the unit that is asked. */
  file?: string | undefined;
  dryRun: boolean;
}

export interface RestoreView {
  backup: Omit<KeptBackup, "name">;
  /** Of the cluster afterwards. */
  generation: number;
  /** What it does, and what it loses, in order. */
  sentences: string[];
  /** False: nothing was changed. */
  begun: boolean;
}

/** What the console asks about the control state. */
export interface ControlBackend {
  backups(): BackupsView;
  takeBackup(): Promise<KeptBackup>;
  readBackup(name: string): Uint8Array;
  restore(request: RestoreRequest): RestoreView;
}

export class ControlDesk implements ControlBackend {
  readonly #world: World;
  readonly #unit: Unit;

  constructor(world: World, unit: Unit) {
    this.#world = world;
    this.#unit = unit;
  }

  backups(): BackupsView {
    const here = keptBackups(this.#world, this.#unit.state);
    const view = this.#unit.life?.follower.view;
    const admitted = [...(view?.units.values() ?? [])].filter(({ state }) => state === "admitted");
    const units = admitted.map(({ number: unit, name }) => {
      return { unit, name, keptAtMs: view?.alive.get(unit)?.backupAtMs ?? null };
    });
    return { here, units };
  }

  takeBackup(): Promise<KeptBackup> {
    const { life } = this.#unit;
    if (life === null) throw new Fault("notReady", "this unit is in no cluster");
    return life.backups.take();
  }

  readBackup(name: string): Uint8Array {
    const file = NAME.test(name) ? this.#unit.state.read(name) : null;
    if (file === null) throw new Fault("notFound", `no backup ${name} is kept here`);
    return file;
  }

  restore(request: RestoreRequest): RestoreView {
    const { life, removal } = this.#unit;
    if (removal !== null) throw new Fault("removed", "this unit was removed from its cluster");
    this.#checkLost();
    const file = this.#chosen(request);
    const facts = backupFacts(this.#world, file);
    const clusterId = life?.clusterId ?? facts.clusterId;
    const backup = openBackup(this.#world, this.#unit.backupKey, file, clusterId);
    const known = life?.generation ?? FIRST_GENERATION;
    const generation: Generation = {
      number: Math.max(known.number, facts.generation.number) + 1,
      id: newId(this.#world),
    };
    const state = restoredState(backup.state, generation);
    const view: RestoreView = {
      backup: facts,
      generation: generation.number,
      sentences: this.#sentences(facts, generation, state),
      begun: !request.dryRun,
    };
    if (request.dryRun) return view;
    const { name: clusterName } = state.cluster;
    // Number and voters are found out when it is done.
    const next = { clusterId, clusterName, unit: life?.unit ?? 1, voters: [], generation };
    this.#unit.enterNext(next, file);
    return view;
  }

  /** Throws where the control store answers, or may yet: a restore is the end of what there was. */
  #checkLost(): void {
    const { life, state } = this.#unit;
    const isMember = life !== null || state.readText(MEMBERSHIP_FILE) !== null;
    // Before it is in its cluster, and just after its start, it has heard of nobody.
    const isEarly =
      this.#unit.uptimeSeconds() * 1000 < LOST_AFTER_MS || (isMember && life === null);
    if (isEarly)
      throw new Fault("notReady", "this unit has just started, and looks for its cluster");
    if (life === null || (life.store.voter === null && life.staleMs >= LOST_AFTER_MS)) return;
    const why = "the control store answers, or did so a moment ago: there is nothing to restore";
    throw new Fault("conflict", why);
  }

  #chosen({ name, file }: RestoreRequest): Uint8Array {
    if (file !== undefined) return backupOfFile(readNamedFile(file, BACKUP_FILE_BYTES_MAX));
    if (name !== undefined) return this.readBackup(name);
    const [newest] = keptBackups(this.#world, this.#unit.state);
    if (newest === undefined) {
      throw new Fault(
        "notFound",
        "no backup is kept on this unit; name a file, or ask another unit",
      );
    }
    return this.readBackup(newest.name);
  }

  #sentences(
    facts: Omit<KeptBackup, "name">,
    generation: Generation,
    state: { units: number; volumes: number; claims: number },
  ): string[] {
    const { units, volumes, claims } = state;
    const voters = this.#votersInWords();
    return [
      `right only if a majority of the voters${voters} is gone for good`,
      `a new control store begins on this unit, with it as the only voter, from the backup of ` +
        `${timeInWords(facts.takenAtMs)} UTC: ${units} units, ${volumes} volumes, ${claims} slices`,
      `${generationInWords(generation)} of the cluster begins; units of older ones stop serving ` +
        "when they hear of it, for some seconds, and come along; none of them is asked again",
      "lost is what was changed in the control state after the backup: names, hosts, " +
        "assignments, settings, deletions; volumes made since come back by number, as found-N",
      "nothing on disks is lost: a slice serves again once every disk that may hold its newest " +
        "writes has told what it holds; what waits, and for whom, is in `cairn question list`",
    ];
  }

  #votersInWords(): string {
    const view = this.#unit.life?.follower.view;
    const names = [...(view?.voters.keys() ?? [])].map(
      (unit) => view?.units.get(unit)?.name ?? unit,
    );
    return names.length === 0 ? "" : ` (${names.join(", ")})`;
  }
}
