// SPDX-License-Identifier: Apache-2.0
//
// The group address: one address of the cluster that a live unit always answers, the control
// station's. It is put on the interface whose network it belongs to, and announced, so that
// machines nearby turn to it at once.
//
// Invariants
// - The address hangs on this process: it is put there for HOLD_SECONDS and again before that. A
//   daemon that is killed or hangs loses it although its kernel goes on.
// - Never two that answer: it is put there for no longer than this unit surely leads, and who led
//   before has lost it by then (`heldFrom`).

import { Fault } from "#base/fault.ts";
import type { Log, Timers } from "#base/world.ts";
import { addressBytes, parseRange, rangeHolds } from "#cluster/address-range.ts";
import type { Link } from "#machine/network.ts";

export const HOLD_SECONDS = 2;
const RENEW_MS = 500;
/** The kernel takes an address away up to so much late (check_lifetime, net/ipv4/devinet.c). */
const LATE_MS = 1000;
/** How soon an address that came to be wanted is put there. */
const LOOK_MS = 250;
/** As long as the cluster has none. */
const UNSET_MS = 1000;
/** Frames may be lost: so many rounds announce. */
const ANNOUNCEMENTS = 3;

/** What is wanted of this unit, for at most so many seconds from now. */
export interface GroupWish {
  address: string;
  seconds: number;
}

/**
 * From when on the unit that leads may hold the address (CLOCK_BOOTTIME, ms): one that was proven
 * dead may have put it on its kernel just before; one whose lease ended has not, for so long.
 */
export function heldFrom(began: { atMs: number; provenDeadMs: number | null }): number {
  const { atMs, provenDeadMs } = began;
  return provenDeadMs === null ? atMs + LATE_MS : provenDeadMs + HOLD_SECONDS * 1000 + LATE_MS;
}

export interface GroupEffects {
  /** Whether the cluster has one. */
  isSet(): boolean;
  links(): readonly Link[];
  /** Puts it there for so long, or for so long again. */
  hold(link: string, address: string, seconds: number): Promise<void>;
  /** Takes it away; it may be gone. */
  release(link: string, address: string): Promise<void>;
  announce(link: Link, address: string): void;
}

export class GroupAddress {
  readonly #log: Log;
  readonly #timers: Timers;
  readonly #effects: GroupEffects;
  readonly #wanted: () => GroupWish | null;
  #held: { link: string; address: string; announced: number } | null = null;
  #complaint = "";
  #round: Promise<void> | null = null;
  #cancel: (() => void) | null = null;
  #stopped = false;

  /** `wanted`: while this unit is to hold it, else null; looked at often. */
  constructor(
    outside: { log: Log; timers: Timers; effects: GroupEffects },
    wanted: () => GroupWish | null,
  ) {
    this.#log = outside.log;
    this.#timers = outside.timers;
    this.#effects = outside.effects;
    this.#wanted = wanted;
  }

  /** Looks at once; also to be called when what is wanted may have changed. */
  wake(): void {
    if (this.#stopped || this.#round !== null) return;
    this.#cancel?.();
    this.#round = this.#look().finally(() => {
      this.#round = null;
      if (this.#stopped) return;
      const soonMs = this.#held === null ? LOOK_MS : RENEW_MS;
      const againMs = this.#effects.isSet() ? soonMs : UNSET_MS;
      this.#cancel = this.#timers.after(againMs, () => this.wake());
    });
  }

  /** Lets go; resolves when the address is gone. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await this.#round;
    await this.#try(() => this.#letGo());
  }

  /** The address that is held here; null: none. */
  get held(): string | null {
    return this.#held?.address ?? null;
  }

  async #look(): Promise<void> {
    await this.#try(async () => {
      const wish = this.#wanted();
      const address = wish?.address ?? null;
      if (this.#held !== null && this.#held.address !== address) await this.#letGo();
      if (wish === null || address === null) return;
      const link = linkFor(this.#effects.links(), address);
      if (link === null) {
        throw new Fault("badMachine", `no interface here is in the network of ${address}`);
      }
      if (this.#held !== null && this.#held.link !== link.name) await this.#letGo();
      await this.#effects.hold(link.name, address, Math.min(HOLD_SECONDS, wish.seconds));
      this.#keep(link, address);
    });
  }

  #keep(link: Link, address: string): void {
    if (this.#held === null) {
      this.#held = { link: link.name, address, announced: 0 };
      this.#log.write("info", "holds the group address", { address, link: link.name });
    }
    this.#complaint = "";
    if (this.#held.announced >= ANNOUNCEMENTS) return;
    this.#held.announced++;
    this.#effects.announce(link, address);
  }

  async #letGo(): Promise<void> {
    if (this.#held === null) return;
    const { link, address } = this.#held;
    this.#held = null;
    this.#log.write("info", "holds the group address no more", { address });
    await this.#effects.release(link, address);
  }

  /** What fails is told once, and tried again. */
  async #try(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (error.message === this.#complaint) return;
      this.#complaint = error.message;
      this.#log.write("warn", "the group address cannot be held", { reason: error.message });
    }
  }
}

/** The interface with an address in whose network this one is; the narrowest network. */
export function linkFor(links: readonly Link[], address: string): Link | null {
  const bytes = addressBytes(address);
  if (bytes === null) return null;
  let best: { link: Link; prefixBits: number } | null = null;
  for (const link of links) {
    if (link.loopback) continue;
    for (const own of link.addresses) {
      const range = parseRange(`${own.address}/${own.prefixBits}`);
      // One that stands alone is no network; the group address itself does.
      const isAlone = own.prefixBits === (own.family === 4 ? 32 : 128);
      if (range === null || isAlone || !rangeHolds(range, bytes)) continue;
      if (best !== null && best.prefixBits >= range.prefixBits) continue;
      best = { link, prefixBits: range.prefixBits };
    }
  }
  return best?.link ?? null;
}

/** A link without addresses that another unit may answer tomorrow: those alone in a network. */
export function withoutGroupAddress<L extends Pick<Link, "addresses">>(link: L): L {
  const networks = link.addresses.flatMap(({ address, prefixBits, family }) => {
    const range = prefixBits < (family === 4 ? 32 : 128) ? `${address}/${prefixBits}` : "";
    return parseRange(range) ?? [];
  });
  const stays = ({ address, prefixBits, family }: Link["addresses"][number]) => {
    if (prefixBits < (family === 4 ? 32 : 128)) return true;
    const bytes = addressBytes(address);
    return bytes === null || !networks.some((range) => rangeHolds(range, bytes));
  };
  return { ...link, addresses: link.addresses.filter(stays) };
}
