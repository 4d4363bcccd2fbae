// SPDX-License-Identifier: Apache-2.0
//
// What a person asks about the control state itself: backups that are kept, one more, and a restore
// when the majority of the voters is gone for good; where no backup is left, a rebuild from what
// this unit remembers and what disks hold. What either will do is said beforehand, and both are
// refused while the control store answers.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import {
  BACKUP_FILE_BYTES_MAX,
  backupFacts,
  backupOfFile,
  makeBackup,
  openBackup,
} from "#cluster/control-backup.ts";
import { FIRST_GENERATION, generationInWords } from "#cluster/generation.ts";
import type { Generation } from "#cluster/generation.ts";
import { NOTHING_REMEMBERED, rebuiltState } from "#cluster/rebuilt-state.ts";
import type { Remembered } from "#cluster/rebuilt-state.ts";
import { restoredState } from "#cluster/restored-state.ts";
import { entryOf } from "#cluster/view.ts";
import { newId } from "#cluster/voters.ts";
import { readNamedFile } from "#machine/state-directory.ts";
import { timeInWords } from "./api/words.ts";
import { keptBackups } from "./control-backups.ts";
import type { KeptBackup } from "./control-backups.ts";
import { MEMBERSHIP_FILE } from "./membership.ts";
import type { Unit } from "./unit.ts";
import { FEATURE_LEVEL } from "./version.ts";
import { untilHolds } from "./view-wait.ts";

/**
 * Taken for the last generation of a cluster of which disks alone are left: more than any restores.
 */
const GENERATION_UNKNOWN = 99;
/** The control store must be away at least this long before it is taken for lost. */
const LOST_AFTER_MS = 15_000;
const JUST_STARTED = "this unit has just started, and looks for its cluster";
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

export interface RebuildView extends Omit<RestoreView, "backup"> {
  /** As of when this unit remembers units and volumes, by its wall clock; null: nothing of them. */
  remembersAtMs: number | null;
}

export interface SettleView {
  /** That have told what they hold. */
  disks: number;
}

/** What the console asks about the control state. */
export interface ControlBackend {
  /** It was rebuilt, and its owner has not said yet that all disks are there that are left. */
  readonly gathering: boolean;
  backups(): BackupsView;
  takeBackup(): Promise<KeptBackup>;
  readBackup(name: string): Uint8Array;
  restore(request: RestoreRequest): RestoreView;
  rebuild(request: { dryRun: boolean }): RebuildView;
  /** A Fault conflict where nothing is gathered, notReady while a disk has yet to tell. */
  settle(): Promise<SettleView>;
}

/** Of which no control state is left. */
interface LostCluster {
  uuid: string;
  name: string;
  /** This unit in it, as far as it knows. */
  unit: UnitNumber;
  generation: Generation;
  /** The name of the cluster that this unit leaves for it; null: it is in it. */
  leaves: string | null;
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
    const { life } = this.#unit;
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

  /** Just after its start it has heard of nobody. */
  #checkNotEarly(): void {
    if (this.#unit.uptimeSeconds() * 1000 < LOST_AFTER_MS)
      throw new Fault("notReady", JUST_STARTED);
  }

  get gathering(): boolean {
    return this.#unit.life?.follower.view.cluster?.gathering === true;
  }

  rebuild({ dryRun }: { dryRun: boolean }): RebuildView {
    const lost = this.#lostByDisks() ?? this.#lostOwn();
    const { uuid: clusterId, unit } = lost;
    const generation = { number: lost.generation.number + 1, id: newId(this.#world) };
    const { file, remembersAtMs } = this.#remembered(lost);
    const { state } = openBackup(this.#world, this.#unit.backupKey, file, clusterId);
    const { units, volumes, cluster } = restoredState(state, generation);
    const view: RebuildView = {
      remembersAtMs,
      generation: generation.number,
      sentences: this.#rebuildSentences(lost, generation, { remembersAtMs, units, volumes }),
      begun: !dryRun,
    };
    if (dryRun) return view;
    const next = { clusterId, clusterName: cluster.name, unit, voters: [], generation };
    this.#unit.enterNext(next, file);
    return view;
  }

  #lostOwn(): LostCluster {
    this.#checkLost();
    const { life } = this.#unit;
    if (life === null) {
      const why = "this unit is in no cluster, and finds no disk of one: rebuild on one that does";
      throw new Fault("notReady", why);
    }
    const { clusterId: uuid, clusterName, unit, generation, follower } = life;
    const name = follower.view.cluster?.name ?? clusterName;
    return { uuid, name, unit, generation, leaves: null };
  }

  /**
   * The cluster of disks that are left alone here, where this unit's own holds nothing: its boot
   * medium was made anew. Null: nothing of that kind.
   */
  #lostByDisks(): LostCluster | null {
    const { life, disks, configuration } = this.#unit;
    const view = life?.follower.view;
    if (life === null || view?.cluster == null || view.volumes.size > 0) return null;
    const admitted = [...view.units.values()].filter(({ state }) => state === "admitted");
    if (view.cluster.state !== "virgin" && admitted.length > 1) return null;
    const found = disks.disks.flatMap(({ ofCluster }) => ofCluster ?? []);
    const [uuid, ...others] = new Set(found);
    if (uuid === undefined) return null;
    this.#checkNotEarly();
    if (others.length > 0) {
      const why = "disks of several clusters are here: take out those that are not meant";
      throw new Fault("conflict", why);
    }
    const station = this.#unit.discovery.formation.stationOf(uuid);
    if (station !== null) {
      const why = `the cluster ${station.clusterName}, which disks here are of, is there`;
      throw new Fault("conflict", `${why}: there is nothing to rebuild; bring them back to it`);
    }
    const generation = { number: GENERATION_UNKNOWN, id: FIRST_GENERATION.id };
    const { clusterName: name } = configuration;
    return { uuid, name, unit: 1, generation, leaves: view.cluster.name };
  }

  /** In the form of a backup: from here on a rebuild goes a restore's way. */
  #remembered(lost: LostCluster): { file: Uint8Array; remembersAtMs: number | null } {
    const { catalog, configuration, backupKey, life } = this.#unit;
    const { uuid, name, generation } = lost;
    const known = catalog.state();
    const isOurs = known !== null && known.clusterUuid === uuid;
    const remembered: Remembered = isOurs
      ? {
          units: catalog.units(),
          disks: catalog.disks(),
          volumes: catalog.volumes(),
          slices: catalog.slices(),
        }
      : NOTHING_REMEMBERED;
    const { reprotectAfterMs } = configuration;
    const own = lost.leaves === null ? life?.follower.view.cluster : null;
    const sliceBytes =
      own?.sliceBytes ?? remembered.volumes[0]?.sliceBytes ?? configuration.sliceBytes;
    const entries = rebuiltState(remembered, {
      ...{ uuid, name, generation, sliceBytes },
      featureLevel: FEATURE_LEVEL,
      settings: { reprotectAfterMs },
    });
    const reading = {
      revision: isOurs ? known.revision : 1,
      entries: entries.map(([key, value]) => entryOf(key, JSON.parse(value), 1)),
    };
    const remembersAtMs = isOurs ? known.takenAtMs : null;
    return { file: makeBackup(this.#world, backupKey, reading, remembersAtMs ?? 0), remembersAtMs };
  }

  async settle(): Promise<SettleView> {
    const { life } = this.#unit;
    if (life === null) throw new Fault("notReady", "this unit is in no cluster");
    const { disks } = await life.commands.ask("endGathering", {});
    await untilHolds(this.#world.clock, life, () => !this.gathering);
    return { disks };
  }

  /** Throws where the control store answers, or may yet: a restore is the end of what there was. */
  #checkLost(): void {
    const { life, removal, state } = this.#unit;
    if (removal !== null) throw new Fault("removed", "this unit was removed from its cluster");
    if (life !== null && (life.store.voter !== null || life.staleMs < LOST_AFTER_MS)) {
      const why = "the control store answers, or did so a moment ago: there is nothing to restore";
      throw new Fault("conflict", why);
    }
    this.#checkNotEarly();
    const isMember = state.readText(MEMBERSHIP_FILE) !== null;
    if (life === null && isMember) throw new Fault("notReady", JUST_STARTED);
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
    return [
      `right only if a majority of the voters${this.#votersInWords()} is gone for good`,
      `a new control store begins on this unit, with it as the only voter, from the backup of ` +
        `${timeInWords(facts.takenAtMs)} UTC: ${units} units, ${volumes} volumes, ${claims} slices`,
      beginsInWords(generation),
      "lost is what was changed in the control state after the backup: names, hosts, " +
        "assignments, settings, deletions; volumes made since come back by number, as found-N",
      "nothing on disks is lost: a slice serves again once every disk that may hold its newest " +
        "writes has told what it holds; what waits, and for whom, is in `cairn question list`",
    ];
  }

  #rebuildSentences(
    { leaves }: LostCluster,
    generation: Generation,
    known: { remembersAtMs: number | null; units: number; volumes: number },
  ): string[] {
    const { remembersAtMs, units, volumes } = known;
    const [newest] = keptBackups(this.#world, this.#unit.state);
    const better =
      newest === undefined
        ? ""
        : `; here a backup of ${timeInWords(newest.takenAtMs)} UTC is kept: ` +
          "cairn control restore loses less";
    const from =
      remembersAtMs === null
        ? "from nothing: this unit remembers neither units nor volumes"
        : "from what this unit remembers, last as of " +
          `${timeInWords(remembersAtMs)} UTC: ${units} units, ${volumes} volumes with their names`;
    const right =
      leaves === null
        ? `right only if a majority of the voters${this.#votersInWords()} is gone for good, and ` +
          `no backup is left on any unit${better}`
        : "right only if a majority of the voters of the cluster that disks here are of is gone " +
          `for good, and no backup of it is left: this unit leaves the cluster ${leaves}, which ` +
          "holds nothing, for that one";
    return [
      right,
      `a new control store begins on this unit, with it as the only voter, ${from}`,
      beginsInWords(generation),
      "lost are users, tokens and settings, hosts and which volume is assigned to whom, and the " +
        "names of volumes that this unit does not remember: they come back by number, as found-N",
      "the cluster is nobody's afterwards: claim it anew, by the claim code of any of its units, " +
        "or by cairn claim on one; a boot medium that names the owner does so by itself",
      "nothing on disks is lost, and nothing is served at first: let all units start that are " +
        "left, with their disks, then say cairn control settle; from there a volume serves once " +
        "every disk that may hold its newest writes has told; see cairn question list",
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

function beginsInWords(generation: Generation): string {
  return (
    `${generationInWords(generation)} of the cluster begins; units of older ones stop serving ` +
    "when they hear of it, for some seconds, and come along; none of them is asked again"
  );
}
