// SPDX-License-Identifier: Apache-2.0
//
// Gathers what the screen shows: from the daemon over its socket, from the machine, and from the
// small files that other parts of the appliance leave in /run/cairn. It never fails: what does not
// answer or makes no sense is not known, and the daemon's silence is counted.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { Clock, Log } from "#base/world.ts";
import {
  DisksSchema,
  UnitStatusSchema,
  UnitsSchema,
  VolumesSchema,
} from "#appliance/api/schemas.ts";
import { UnitFault } from "#appliance/cli/failure.ts";
import { VERSION } from "#appliance/version.ts";
import type { NetworkCard } from "#machine/network-cards.ts";
import type { Slot } from "#machine/slots.ts";
import type { ScreenFacts, UnitFacts } from "./facts.ts";

/** Units, disks and volumes are asked for only every so often: there may be many. */
const LISTS_EVERY = 3;
const RUN_FILE_BYTES_MAX = 64 << 10;

/** What is asked of the machine. */
export interface PollerOutside {
  clock: Clock;
  log: Log;
  isAppliance: boolean;
  hostName(): string;
  cards(): NetworkCard[];
  slots(): Slot[];
  /** A small file of /run/cairn by its name; null: there is none. */
  readRunFile(name: string, bytesMax: number): string | null;
  /** GET of the daemon's API; rejects with a Fault or UnitFault. */
  ask(path: string): Promise<unknown>;
}

export const RECOVERY_FILE = "recovery.json";
/** Written by run-recovery.ts; the clock is the one since power-on. */
export const RecoveryFileSchema = z.looseObject({
  sinceMs: z.number(),
  reason: z.string(),
  code: z.string(),
});
/** boot-medium.json: with or without `ok`, a message means that something is wrong. */
const MediumFileSchema = z.looseObject({
  ok: z.boolean().optional(),
  message: z.string().nullish(),
});
/** Of the update under way, as far as the screen tells it; the slots to see that they changed. */
const UpdateSchema = z.looseObject({
  slots: z.array(z.looseObject({ version: z.string(), state: z.string() })).default([]),
  work: z
    .looseObject({ sentence: z.string(), doneBytes: z.number(), totalBytes: z.number() })
    .nullable(),
  roll: z.looseObject({ state: z.string(), sentence: z.string() }).nullable(),
});
/** reset.json, written by src/machine/factory-reset.ts. */
const ResetFileSchema = z.looseObject({ level: z.string(), failures: z.array(z.string()) });

export class FactsPoller {
  readonly #outside: PollerOutside;
  #unit: UnitFacts | null = null;
  #update: string | null = null;
  /** As the daemon told of them last; null: it told of none. */
  #slotsTold: string | null = null;
  #slots: { told: string; found: Slot[] } | null = null;
  /** Since when the daemon has not answered; null: it did the last time. */
  #silentSinceMs: number | null;
  #looks = 0;

  constructor(outside: PollerOutside) {
    this.#outside = outside;
    this.#silentSinceMs = outside.clock.nowMs();
  }

  async look(): Promise<ScreenFacts> {
    const { clock, hostName, isAppliance } = this.#outside;
    await this.#askDaemon();
    const nowMs = clock.nowMs();
    const recovery = this.#runFile(RECOVERY_FILE, RecoveryFileSchema);
    const medium = this.#runFile("boot-medium.json", MediumFileSchema);
    const message = medium?.message ?? "";
    const reset = this.#runFile("reset.json", ResetFileSchema);
    return {
      version: VERSION,
      hostName: hostName(),
      isAppliance,
      sincePowerOnMs: nowMs,
      cards: this.#known([], () => this.#outside.cards()),
      unit: this.#unit,
      silentMs: this.#silentSinceMs === null ? null : nowMs - this.#silentSinceMs,
      recovery:
        recovery === null ? null : { ...recovery, forMs: Math.max(0, nowMs - recovery.sinceMs) },
      medium: medium === null ? null : { ok: medium.ok ?? message === "", message },
      claimCode: this.#silentSinceMs === null ? (this.#unit?.status.claim.code ?? null) : null,
      slots: isAppliance ? this.#knownSlots() : [],
      update: this.#silentSinceMs === null ? this.#update : null,
      reset,
    };
  }

  async #askDaemon(): Promise<void> {
    const { ask, clock } = this.#outside;
    const lists = this.#looks++ % LISTS_EVERY === 0 || this.#silentSinceMs !== null;
    try {
      const status = UnitStatusSchema.parse(await ask("/api/v1/status"));
      const before = this.#unit;
      const changed = before?.status.phase !== status.phase;
      if (before !== null && !lists && !changed) {
        this.#unit = { ...before, status };
        return;
      }
      const disks = DisksSchema.parse(await ask("/api/v1/disks")).disks;
      const units = await this.#ifReady(async () => UnitsSchema.parse(await ask("/api/v1/units")));
      const volumes = await this.#ifReady(async () =>
        VolumesSchema.parse(await ask("/api/v1/volumes")),
      );
      const update = await this.#ifThere(async () =>
        UpdateSchema.parse(await ask("/api/v1/update")),
      );
      this.#update = update === null ? null : updateInWords(update);
      this.#slotsTold = update === null ? null : JSON.stringify(update.slots);
      this.#unit = {
        status,
        disks,
        units: units?.units ?? null,
        volumes: volumes?.volumes ?? null,
      };
      this.#silentSinceMs = null;
    } catch (error) {
      if (!isSilence(error)) throw error;
      this.#silentSinceMs ??= clock.nowMs();
    }
  }

  /** Null while the unit is in no cluster. */
  async #ifReady<T>(read: () => Promise<T>): Promise<T | null> {
    try {
      return await read();
    } catch (error) {
      if (error instanceof UnitFault && error.code === "notReady") return null;
      throw error;
    }
  }

  /** Null where the daemon knows no such thing. */
  async #ifThere<T>(read: () => Promise<T>): Promise<T | null> {
    try {
      return await read();
    } catch (error) {
      if (error instanceof UnitFault && ["notFound", "notReady"].includes(error.code)) return null;
      throw error;
    }
  }

  /** Read again only when the daemon tells of others: each reading mounts the ESP. */
  #knownSlots(): Slot[] {
    const told = this.#silentSinceMs === null ? this.#slotsTold : null;
    if (told !== null && this.#slots?.told === told) return this.#slots.found;
    const found = this.#known([], () => this.#outside.slots());
    this.#slots = told === null || found.length === 0 ? null : { told, found };
    return found;
  }

  #runFile<S extends z.ZodType>(name: string, schema: S): z.infer<S> | null {
    const text = this.#known(null, () => this.#outside.readRunFile(name, RUN_FILE_BYTES_MAX));
    if (text === null) return null;
    const parsed = schema.safeParse(jsonOf(text));
    return parsed.success ? parsed.data : null;
  }

  /** What the machine refuses to say is not known; a screen does not end by it. */
  #known<T>(otherwise: T, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#outside.log.write("debug", "the screen cannot read something", { error });
      return otherwise;
    }
  }
}

/** What this unit does for an update, or how the cluster's one stands; null: nothing to tell. */
function updateInWords({ work, roll }: z.infer<typeof UpdateSchema>): string | null {
  if (work !== null) {
    const { sentence, doneBytes, totalBytes } = work;
    const percent = totalBytes > 0 ? ` (${Math.floor((doneBytes / totalBytes) * 100)} %)` : "";
    return `${sentence}${percent}`;
  }
  return roll === null || !["rolling", "stopped"].includes(roll.state) ? null : roll.sentence;
}

/** It does not answer, not in time, or not in words we know. */
function isSilence(error: unknown): boolean {
  return error instanceof Fault || error instanceof UnitFault || error instanceof z.ZodError;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // being written just now, or no JSON: not known
  }
}
