// SPDX-License-Identifier: Apache-2.0
//
// What a unit tells the cluster about its disks, on the control thread: those that failed, were
// taken out or did not come with the unit (R10); how the others are, whenever that changed (R9);
// what heads here took over; and wrong blocks that they met, in one sentence per disk and volume.
// Also the other way: a scrub that a person asked for, through whichever unit, is started where the
// disk is, and a disk that is returned to use is opened again.
//
// Invariants: one request to the control station at a time, each subject at most every few seconds,
// and nothing at all while nothing changes; what could not be told is told later, added up.

import { Fault } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { Log, Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { BlockKind } from "#cluster/disk-changes.ts";
import type { DiskRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { HappeningKind } from "#raid/happening.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { BlocksTold, OpenedDisk, TakeoverTold } from "./reactor-messages.ts";

/** A disk's health is written at most this often, and the same kind of trouble told again. */
const REPORT_EVERY_MS = 15_000;
const TELL_EVERY_MS = 15_000;
/** After a request that failed. */
const RETRY_MS = 5000;
/** A disk of ours that has not come this long after the start is told as gone. */
const COME_MS_MAX = 180_000;

/** Asked again it would be answered the same. */
const FINAL: readonly FaultCode[] = ["notFound", "badRequest", "forbidden"];

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
  unit: UnitNumber;
  /** Opens a disk anew that is out of use, as its owner wishes. */
  takeAgain(uuid: string): void;
  /** A disk here is to leave, or not any more. */
  retired(disk: DiskRecord): void;
}

/** A disk that went out of use. */
export interface DiskLoss {
  disk: DiskNumber;
  incarnation: number;
  isOut: boolean;
  reason: string;
}

export class DiskWatch {
  readonly #world: Pick<World, "clock"> & { log: Log };
  readonly #timers: Timers;
  readonly #parts: WatchParts;
  #disks: readonly OpenedDisk[] = [];
  readonly #reportedMs = new Map<DiskNumber, number>();
  readonly #told = new Map<string, BlocksTold>();
  readonly #takeovers = new Map<string, TakeoverTold>();
  readonly #toldMs = new Map<string, number>();
  /** The last scrub that was asked for, per disk; those from before this run were seen then. */
  readonly #asked = new Map<DiskNumber, number>();
  /** The same of returns. */
  readonly #returned = new Map<DiskNumber, number>();
  /** Of disks here, what their records said last of why they leave. */
  readonly #why = new Map<DiskNumber, string>();
  /** Told once that they did not come. */
  readonly #absent = new Set<DiskNumber>();
  /** Not told yet. */
  readonly #losses = new Map<DiskNumber, DiskLoss>();
  readonly #startedMs: number;
  #isAsking = false;
  #cancelTimer: (() => void) | null = null;
  #stopped = false;

  constructor(world: Pick<World, "clock"> & { log: Log }, timers: Timers, parts: WatchParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    this.#startedMs = world.clock.nowMs();
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

  /** A disk here went out of use: told until the control station has taken it. */
  lost(loss: DiskLoss): void {
    this.#losses.set(loss.disk, loss);
    this.#next();
  }

  /** It is in use (again), as its registration says. */
  back(disk: DiskNumber): void {
    this.#losses.delete(disk);
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

  /** Heads here serve what others headed: told with the pause that it was. */
  takeovers(told: readonly TakeoverTold[]): void {
    for (const one of told) {
      const key = `${one.volume}:${one.from}`;
      const known = this.#takeovers.get(key);
      if (known === undefined) this.#takeovers.set(key, { ...one });
      else {
        known.slices += one.slices;
        known.pauseMs = Math.max(known.pauseMs, one.pauseMs);
      }
    }
    this.#next();
  }

  /** A disk's record changed: perhaps somebody wants something of it. */
  #look(number: DiskNumber): void {
    const record = this.#parts.view.disks.get(number);
    this.#lookAtReturn(number, record);
    this.#lookAtRetirement(number, record);
    const asked = record?.scrubAsked;
    const before = this.#asked.get(number);
    this.#asked.set(number, asked?.number ?? 0);
    if (asked === undefined || before === undefined || asked.number <= before) return;
    if (!this.#disks.some((disk) => disk.number === number)) return;
    this.#world.log.write("info", "a scrub was asked for", { disk: number, ...asked });
    this.#parts.reactor.send({ kind: "scrub", disk: number, urgent: asked.urgent });
  }

  #lookAtReturn(number: DiskNumber, record: DiskRecord | undefined): void {
    const asked = record?.returnAsked ?? 0;
    const before = this.#returned.get(number);
    this.#returned.set(number, asked);
    if (record === undefined || before === undefined || asked <= before) return;
    if (record.unit === this.#parts.unit) this.#parts.takeAgain(record.uuid);
  }

  #lookAtRetirement(number: DiskNumber, record: DiskRecord | undefined): void {
    if (record?.unit !== this.#parts.unit) return;
    const before = this.#why.get(number);
    const why = record.why ?? "";
    this.#why.set(number, why);
    if (before !== undefined && (before === "") !== (why === "")) this.#parts.retired(record);
  }

  #next(): void {
    if (this.#isAsking || this.#stopped) return;
    const act =
      this.#lossDue() ??
      this.#absenceDue() ??
      this.#takeoverDue() ??
      this.#blocksDue() ??
      this.#healthDue();
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

  #lossDue(): (() => Promise<void>) | null {
    const [loss] = this.#losses.values();
    if (loss === undefined) return null;
    return async () => {
      try {
        await this.#parts.commands.ask("loseDisk", loss);
      } catch (error) {
        // A disk that is gone, or an older control station that knows no such loss.
        const isFinal = error instanceof Fault && FINAL.includes(error.code);
        if (!isFinal) throw error;
      }
      if (this.#losses.get(loss.disk) === loss) this.#losses.delete(loss.disk);
    };
  }

  /** A disk that is ours by its record, and did not come with this run. */
  #absenceDue(): (() => Promise<void>) | null {
    if (this.#world.clock.nowMs() - this.#startedMs < COME_MS_MAX) return null;
    for (const { number, unit, state, incarnation } of this.#parts.view.disks.values()) {
      const isUsed = state === "ready" || state === "leaving";
      if (unit !== this.#parts.unit || !isUsed || this.#absent.has(number)) continue;
      if (this.#disks.some((disk) => disk.number === number)) continue;
      this.#absent.add(number);
      const reason = "it did not come with the last start of its unit";
      this.#losses.set(number, { disk: number, incarnation, isOut: true, reason });
      return this.#lossDue();
    }
    return null;
  }

  #takeoverDue(): (() => Promise<void>) | null {
    for (const [key, told] of this.#takeovers) {
      return async () => {
        this.#takeovers.delete(key);
        try {
          await this.#parts.commands.ask("tellTakeover", told);
        } catch (error) {
          // A volume that is gone, or an older control station that knows no such thing.
          if (error instanceof Fault && FINAL.includes(error.code)) return;
          this.takeovers([told]);
          throw error;
        }
      };
    }
    return null;
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
