// SPDX-License-Identifier: Apache-2.0
//
// The units that were heard, for the console, the station's enquiries, and for answering. Bounded:
// proved units push out the longest silent; strangers (units without a secret) have a few places of
// their own, so that nobody's invention pushes out a real unit.

import { UNITS_MAX } from "#base/limits.ts";
import { formatAddress, isLinkLocal } from "#protocol/autoconfig/address.ts";
import type { Heartbeat, UnitShutdown, UnitStartup } from "#protocol/autoconfig/message-types.ts";
import { StorageAssembly } from "#protocol/autoconfig/storage-pages.ts";
import type { UnitStorage } from "#protocol/autoconfig/storage-pages.ts";
import type { Where } from "./discovery-links.ts";
import type { UnitFact } from "./formation.ts";
import { idText } from "./identity.ts";

export const HEARD_UNITS_MAX = 2 * UNITS_MAX;
export const STRANGERS_MAX = 32;
/** Stages by their number on the wire. */
export const STAGE_WORDS = ["waiting", "listening", "founding", "joining", "member"] as const;

export interface HeardUnit {
  readonly unitId: string;
  heardAtMs: number;
  /** Where it sent from last. */
  where: Where;
  startup: UnitStartup | null;
  heartbeat: Heartbeat | null;
  storage: UnitStorage | null;
  /** Of the packet heard last. */
  bootCounter: number;
  /** It said that it goes down; null again once it has started anew. */
  shutdown: UnitShutdown | null;
  readonly assembly: StorageAssembly;
  /** When the station last answered its startup, and last asked it. */
  answeredAtMs: number;
  askedAtMs: number;
}

/** A unit without a join secret, waiting for a person. */
export interface Stranger {
  readonly unitId: string;
  readonly publicKey: Uint8Array;
  readonly name: string;
  readonly softwareVersion: string;
  readonly where: Where;
  /** TCP, of its control port. */
  readonly channelPort: number;
  readonly heardAtMs: number;
  /** What console and the unit's own screen both show. */
  readonly words: string;
}

export class HeardUnits {
  readonly #units = new Map<string, HeardUnit>();
  readonly #strangers = new Map<string, Stranger>();

  get(unitId: string): HeardUnit | null {
    return this.#units.get(unitId) ?? null;
  }
  all(): HeardUnit[] {
    return [...this.#units.values()];
  }
  /** Those that were heard since a moment. */
  strangers(sinceMs: number): Stranger[] {
    return [...this.#strangers.values()].filter((one) => one.heardAtMs >= sinceMs);
  }

  heard(unitId: string, where: Where, nowMs: number): HeardUnit {
    const unit = this.#units.get(unitId) ?? fresh(unitId, where);
    unit.heardAtMs = nowMs;
    unit.where = where;
    keepLast(this.#units, unitId, unit, HEARD_UNITS_MAX);
    this.#strangers.delete(unitId);
    return unit;
  }

  stranger(one: Stranger): void {
    keepLast(this.#strangers, one.unitId, one, STRANGERS_MAX);
  }
}

function fresh(unitId: string, where: Where): HeardUnit {
  return {
    unitId,
    heardAtMs: 0,
    where,
    bootCounter: 0,
    startup: null,
    heartbeat: null,
    storage: null,
    shutdown: null,
    assembly: new StorageAssembly(),
    answeredAtMs: Number.NEGATIVE_INFINITY,
    askedAtMs: Number.NEGATIVE_INFINITY,
  };
}

/** Last in the map is heard last; the first is forgotten when there are too many. */
function keepLast<T>(map: Map<string, T>, id: string, value: T, countMax: number): void {
  map.delete(id);
  map.set(id, value);
  if (map.size <= countMax) return;
  const [first] = map.keys();
  if (first !== undefined) map.delete(first);
}

/** What a startup says, for Formation. */
export function factOf(unitId: string, startup: UnitStartup): UnitFact {
  return {
    unitId,
    name: startup.name === "" ? unitId.slice(0, 4) : startup.name,
    clusterId: idText(startup.clusterId),
    stage: STAGE_WORDS[startup.stage] as UnitFact["stage"],
    mayFound: !startup.joinOnly && !startup.spare,
    listeningMs: startup.listeningMs,
  };
}

/**
 * Where it sent from works both ways; link-local addresses of its list mean nothing on our links.
 */
export function callingAddresses(where: Where, listed: readonly Uint8Array[]): string[] {
  const wide = listed.filter((address) => !isLinkLocal(address)).map(formatAddress);
  return [...new Set([where.address, ...wide])];
}
