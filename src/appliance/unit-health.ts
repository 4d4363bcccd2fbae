// SPDX-License-Identifier: Apache-2.0
//
// The facts behind a unit's health (health.ts), gathered from the running unit, and the memory of
// what was there before a restart: its open disks and network cards.
//
// Invariants
// - While a slot is on trial the memory is only read: what the new version cannot open is not
//   forgotten by it.
// - Otherwise a disk that opens is remembered at once, and one that is gone is forgotten only after
//   the daemon has run for a while without it.

import { z } from "zod";
import type { World } from "#base/world.ts";
import { idSchema } from "#cluster/state.ts";
import { countNetworkCards } from "#machine/card-count.ts";
import type { KeptDisk } from "./disk-keeper.ts";
import { healthOf } from "./health.ts";
import type { Health, HealthFacts } from "./health.ts";
import { MEMBERSHIP_FILE } from "./membership.ts";
import type { Unit } from "./unit.ts";

const BEFORE_FILE = "before-restart.json";
const LOOK_EVERY_MS = 5000;
/** A disk that has not opened by then is one that the owner took out. */
const FORGET_AFTER_MS = 600_000;
/** A member announces itself every half minute; twice that and a little. */
const HEARD_MS = 70_000;
const DISKS_MAX = 256;

const BeforeSchema = z.object({
  disks: z.array(z.object({ uuid: idSchema, path: z.string().max(4096) })).max(DISKS_MAX),
  networkCards: z.number().int().min(0).max(1024),
});
type Before = z.infer<typeof BeforeSchema>;

/** What a run remembers for the next one, after a look at what is there now. Pure. */
export function remembered(
  before: Before,
  now: { disks: readonly KeptDisk[]; networkCards: number; uptimeMs: number; trial: boolean },
): Before {
  if (now.trial) return before;
  const open = now.disks
    .filter((disk) => disk.opened !== null && isOpen(disk))
    .map((disk) => ({ uuid: disk.opened?.uuid ?? "", path: disk.path }));
  const forgets = now.uptimeMs >= FORGET_AFTER_MS;
  const kept = forgets
    ? []
    : before.disks.filter((disk) => !open.some((one) => one.uuid === disk.uuid));
  const networkCards = forgets ? now.networkCards : Math.max(before.networkCards, now.networkCards);
  return { disks: [...open, ...kept].slice(0, DISKS_MAX), networkCards };
}

function isOpen(disk: KeptDisk): boolean {
  return disk.state === "open" || disk.state === "ready";
}

export class UnitHealth {
  readonly #world: Pick<World, "clock" | "log">;
  readonly #unit: Unit;
  readonly #isOnTrial: () => boolean;
  #before: Before;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** The reactor's last report, and when it was new. */
  #report: unknown = null;
  #reportAtMs: number;

  constructor(world: Pick<World, "clock" | "log">, unit: Unit, isOnTrial: () => boolean) {
    this.#world = world;
    this.#unit = unit;
    this.#isOnTrial = isOnTrial;
    this.#before = this.#read();
    this.#reportAtMs = unit.startedMs;
  }

  /** Called now and then: keeps the memory for the next run. */
  look(): void {
    const nowMs = this.#world.clock.nowMs();
    this.#listen(nowMs);
    if (nowMs - this.#lookedAtMs < LOOK_EVERY_MS || this.#unit.stopping) return;
    this.#lookedAtMs = nowMs;
    const next = remembered(this.#before, {
      disks: this.#unit.disks.disks,
      networkCards: countNetworkCards(),
      uptimeMs: nowMs - this.#unit.startedMs,
      trial: this.#isOnTrial(),
    });
    if (JSON.stringify(next) === JSON.stringify(this.#before)) return;
    this.#before = next;
    this.#unit.state.write(BEFORE_FILE, `${JSON.stringify(next)}\n`);
  }

  #listen(nowMs: number): void {
    const { report } = this.#unit.reactor;
    if (report === this.#report) return;
    this.#report = report;
    this.#reportAtMs = nowMs;
  }

  health(): Health {
    return healthOf(this.#facts());
  }

  #facts(): HealthFacts {
    const unit = this.#unit;
    const { life, state } = unit;
    const nowMs = this.#world.clock.nowMs();
    this.#listen(nowMs);
    const isMember = state.readText(MEMBERSHIP_FILE) !== null;
    return {
      uptimeMs: nowMs - unit.startedMs,
      stopping: unit.stopping,
      reactorSilentMs: nowMs - this.#reportAtMs,
      membership: life !== null ? "entered" : isMember ? "entering" : "none",
      sentence: unit.sentence,
      disks: this.#before.disks.map(({ uuid, path }) => this.#diskFact(uuid, path)),
      networkCards: { before: this.#before.networkCards, now: countNetworkCards() },
      reachesStore: life !== null && life.store.voter !== null && life.follower.view.revision > 0,
      voter: life?.voterFacts ?? { expected: false, hasData: false, runs: false, answers: false },
      voters: this.#votersHeard(nowMs),
    };
  }

  #diskFact(uuid: string, path: string): HealthFacts["disks"][number] {
    const disks = this.#unit.disks.disks;
    const disk = disks.find((one) => one.opened?.uuid === uuid);
    if (disk !== undefined && isOpen(disk)) {
      return { path: disk.path, state: disk.state === "ready" ? "ready" : "open", reason: "" };
    }
    const there = disk ?? disks.find((one) => one.path === path);
    return { path, state: "absent", reason: there?.reason ?? "it is not there" };
  }

  #votersHeard(nowMs: number): HealthFacts["voters"] {
    const { life, discovery, identity } = this.#unit;
    const places = life?.voterPlaces ?? [];
    const own = identity.unitId.toHex();
    const heard = new Set(
      discovery.units
        .filter((unit) => unit.shutdown === null && nowMs - unit.heardAtMs <= HEARD_MS)
        .map((unit) => unit.unitId),
    );
    heard.add(own);
    return {
      known: places.length,
      heard: places.filter((place) => heard.has(place.unitId)).length,
    };
  }

  #read(): Before {
    const nothing: Before = { disks: [], networkCards: 0 };
    const text = this.#unit.state.readText(BEFORE_FILE);
    if (text === null) return nothing;
    let raw: unknown;
    try {
      raw = JSON.parse(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      raw = null;
    }
    const parsed = BeforeSchema.safeParse(raw);
    if (parsed.success) return parsed.data;
    this.#world.log.write("warn", `${BEFORE_FILE} makes no sense and is made anew`);
    return nothing;
  }
}
