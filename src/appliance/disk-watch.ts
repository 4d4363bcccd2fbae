// SPDX-License-Identifier: Apache-2.0
//
// What a unit tells the cluster about wrong blocks (R9), on the control thread: how its disks are,
// whenever that changed, and what its heads met, in one sentence per disk and volume. Also the
// other way: a scrub that a person asked for, through whichever unit, is started where the disk is.
//
// Invariants: one request to the control station at a time, each subject at most every few seconds,
// and nothing at all while nothing changes; what could not be told is told later, added up.

import { Fault } from "#base/fault.ts";
import type { DiskNumber } from "#base/record.ts";
import type { Log, Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { BlockKind } from "#cluster/disk-changes.ts";
import type { ClusterView } from "#cluster/view.ts";
import { HappeningKind } from "#raid/happening.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { BlocksTold, OpenedDisk } from "./reactor-messages.ts";

/** A disk's health is written at most this often, and the same kind of trouble told again. */
const REPORT_EVERY_MS = 15_000;
const TELL_EVERY_MS = 15_000;
/** After a request that failed. */
const RETRY_MS = 5000;

const KIND_NAMES: Record<HappeningKind, BlockKind> = {
  [HappeningKind.healed]: "healed",
  [HappeningKind.unreadable]: "unreadable",
  [HappeningKind.diverged]: "diverged",
  [HappeningKind.carried]: "carried",
  [HappeningKind.keepsNothing]: "keepsNothing",
};

export interface WatchParts {
  commands: Pick<CommandClient, "ask">;
  view: ClusterView;
  reactor: Pick<ReactorClient, "send">;
}

export class DiskWatch {
  readonly #world: Pick<World, "clock"> & { log: Log };
  readonly #timers: Timers;
  readonly #parts: WatchParts;
  #disks: readonly OpenedDisk[] = [];
  readonly #reportedMs = new Map<DiskNumber, number>();
  readonly #told = new Map<string, BlocksTold>();
  readonly #toldMs = new Map<string, number>();
  /** The last scrub that was asked for, per disk; those from before this run were seen then. */
  readonly #asked = new Map<DiskNumber, number>();
  #isAsking = false;
  #cancelTimer: (() => void) | null = null;
  #stopped = false;

  constructor(world: Pick<World, "clock"> & { log: Log }, timers: Timers, parts: WatchParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    parts.view.onChange((changes) => {
      for (const change of changes) if (change.kind === "disk") this.#look(Number(change.rest));
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
  }

  /** The reactor's newest figures. */
  reported(disks: readonly OpenedDisk[]): void {
    this.#disks = disks;
    this.#next();
  }

  /** What heads here met. */
  blocks(told: readonly BlocksTold[]): void {
    for (const one of told) {
      const key = `${one.kind}:${one.disk}:${one.volume}`;
      const known = this.#told.get(key);
      if (known === undefined) this.#told.set(key, { ...one });
      else {
        known.blocks += one.blocks;
        known.offsetBytes = Math.min(known.offsetBytes, one.offsetBytes);
      }
    }
    this.#next();
  }

  /** A disk's record changed: perhaps somebody wants it scrubbed. */
  #look(number: DiskNumber): void {
    const asked = this.#parts.view.disks.get(number)?.scrubAsked;
    const before = this.#asked.get(number);
    this.#asked.set(number, asked?.number ?? 0);
    if (asked === undefined || before === undefined || asked.number <= before) return;
    if (!this.#disks.some((disk) => disk.number === number)) return;
    this.#world.log.write("info", "a scrub was asked for", { disk: number, ...asked });
    this.#parts.reactor.send({ kind: "scrub", disk: number, urgent: asked.urgent });
  }

  #next(): void {
    if (this.#isAsking || this.#stopped) return;
    const act = this.#blocksDue() ?? this.#healthDue();
    if (act !== null) void this.#ask(act);
  }

  async #ask(act: () => Promise<void>): Promise<void> {
    this.#isAsking = true;
    let waitMs = 0;
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      waitMs = RETRY_MS;
      this.#world.log.write("debug", "what happened to disks could not be told yet", {
        reason: error.message,
      });
    }
    this.#cancelTimer = this.#timers.after(waitMs, () => {
      this.#isAsking = false;
      this.#next();
    });
  }

  #blocksDue(): (() => Promise<void>) | null {
    const nowMs = this.#world.clock.nowMs();
    for (const [key, told] of this.#told) {
      if (nowMs - (this.#toldMs.get(key) ?? Number.NEGATIVE_INFINITY) < TELL_EVERY_MS) continue;
      return async () => {
        const { disk, volume, blocks, offsetBytes } = told;
        this.#told.delete(key);
        this.#toldMs.set(key, nowMs);
        try {
          const kind = KIND_NAMES[told.kind];
          await this.#parts.commands.ask("tellBlocks", { kind, disk, volume, blocks, offsetBytes });
        } catch (error) {
          // A disk or volume that is gone wants no sentence any more.
          if (!(error instanceof Fault) || error.code !== "notFound") {
            this.blocks([told]);
            throw error;
          }
        }
      };
    }
    return null;
  }

  #healthDue(): (() => Promise<void>) | null {
    const nowMs = this.#world.clock.nowMs();
    for (const { number, health } of this.#disks) {
      const record = this.#parts.view.disks.get(number);
      if (record === undefined || record.state === "gone") continue;
      const { found, healed, unhealed, recentPlaces } = health;
      const next = { found, healed, unhealed, recentPlaces };
      const scrubEndedAtMs = health.scrub.endedAtMs;
      const known = record.health;
      const isSame =
        known === undefined
          ? found + unhealed + scrubEndedAtMs === 0
          : known.found === found &&
            known.healed === healed &&
            known.unhealed === unhealed &&
            known.recentPlaces === recentPlaces &&
            known.scrubEndedAtMs === scrubEndedAtMs;
      if (isSame) continue;
      const sinceMs = nowMs - (this.#reportedMs.get(number) ?? Number.NEGATIVE_INFINITY);
      if (sinceMs < REPORT_EVERY_MS) continue;
      return async () => {
        this.#reportedMs.set(number, nowMs);
        await this.#parts.commands.ask("reportDisk", { disk: number, ...next, scrubEndedAtMs });
      };
    }
    return null;
  }
}
