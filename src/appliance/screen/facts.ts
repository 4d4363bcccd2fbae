// SPDX-License-Identifier: Apache-2.0
//
// What the screen shows, as plain data: gathered by facts-poller.ts, turned into lines by
// main-view.ts. Whatever is not known is null and is left out; nothing here is guessed.

import type { DiskView, UnitStatus, UnitView, VolumeView } from "#appliance/backend.ts";
import type { NetworkCard } from "#machine/network-cards.ts";
import type { Slot } from "#machine/slots.ts";

export interface ScreenFacts {
  /** Of this executable; the daemon's own may differ while it is being updated. */
  version: string;
  hostName: string;
  isAppliance: boolean;
  sincePowerOnMs: number;
  cards: readonly NetworkCard[];
  /** The last answer of the daemon; null: none yet since the screen began. */
  unit: UnitFacts | null;
  /** How long the daemon has not answered; null: it answers. */
  silentMs: number | null;
  recovery: RecoveryFacts | null;
  medium: { ok: boolean; message: string } | null;
  /** For claiming the cluster; null: claimed, or there is none. */
  claimCode: string | null;
  slots: readonly Slot[];
  /** What the update under way is doing. */
  update: string | null;
  /** Of the factory reset that this boot began with. */
  reset: { level: string; failures: readonly string[] } | null;
}

export interface UnitFacts {
  status: UnitStatus;
  disks: readonly DiskView[];
  /** Null: it is in no cluster yet. */
  units: readonly UnitView[] | null;
  volumes: readonly VolumeView[] | null;
}

export interface RecoveryFacts {
  forMs: number;
  reason: string;
  /** Opens the recovery page. */
  code: string;
}

/** Where the console is when no daemon says it. */
const API_PORT_USUAL = 7480;

export function nameOf(facts: ScreenFacts): string {
  return facts.unit?.status.name ?? facts.hostName;
}

/** The address a person types or scans, and why it is that one. Null: there is none yet. */
export function consoleUrl(facts: ScreenFacts): string | null {
  const port = facts.unit?.status.ports["api"] ?? API_PORT_USUAL;
  const all = facts.cards.flatMap((card) => shownAddresses(facts, card));
  // Link-local IPv6 needs a zone that only the asking machine knows: no use in an address bar.
  const best =
    all.find((one) => one.family === 4 && !one.linkLocal) ??
    all.find((one) => one.family === 6 && !one.linkLocal) ??
    all.find((one) => one.family === 4);
  if (best === undefined) return null;
  const host = best.family === 6 ? `[${best.address}]` : best.address;
  return `http://${host}:${port}/`;
}

/** Without the address that the unit derived for talking to other units. */
export function shownAddresses(facts: ScreenFacts, card: NetworkCard): NetworkCard["addresses"] {
  const own = facts.unit?.units?.find((one) => one.unit === facts.unit?.status.unit);
  const [between] = own?.addresses ?? [];
  return card.addresses.filter((one) => one.address !== between);
}
