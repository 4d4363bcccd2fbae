// SPDX-License-Identifier: Apache-2.0
//
// What all host connections together may hold of a reactor's Memory, so that hosts cannot take what
// replica writes and control need (R13), and how they share it, so that one that takes memory and
// does not get on cannot slow the others. A connection that gets nothing stops receiving, so its
// host is held back by TCP's window.
//
// Invariants
// - A connection that holds little (SMALL_BYTES, what a deep queue of small requests needs) is
//   served whatever others wait for, out of a part that nobody else may take; one host's
//   connections (an address) out of half of that part.
// - Beyond that a host takes at most as much as it leaves free for others ("dynamic threshold": n
//   hosts that hold as much as they can leave room for one more of the same), and one request,
//   however large, where it fits at all; a connection that holds nothing is let have its first if
//   the others of its host do not hold more than is left.
// - Hosts that wait are served in order, but before all that hold more: neither does a busy one
//   starve a slow one, nor one that is stuck hold up the others. Small ones do not wait for large.

import { assert } from "#base/assert.ts";

/** What a connection may hold before it has to stand back for others, bytes. */
export const SMALL_BYTES = 512 << 10;
/** The share of all that only small ones may take. */
const RESERVE_SHARE = 1 / 4;
/** What one host may hold, with the half of that. */
const HOST_SHARE_MAX = 1 - RESERVE_SHARE / 2;

/** One address. */
class Host {
  readonly address: string;
  heldBytes = 0;
  connections = 0;
  /** Its connections that wait, in order. */
  readonly small = new Set<HostAccount>();
  readonly large = new Set<HostAccount>();

  constructor(address: string) {
    this.address = address;
  }
}

export class HostCredit {
  /** May change at any time; who holds more then gets nothing until it has given some back. */
  limitBytes: number;
  readonly #hosts = new Map<string, Host>();
  #heldBytes = 0;
  /** In the order in which they are to be served. */
  readonly #waiting = new Set<Host>();

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }
  /** Somebody waits for what others hold. */
  get isContended(): boolean {
    return this.#waiting.size > 0;
  }
  get hostCount(): number {
    return this.#hosts.size;
  }

  /**
   * For one connection of a host, to be closed by it. `wake` is called when another try is worth
   * it.
   */
  open(address: string, wake: () => void): HostAccount {
    let host = this.#hosts.get(address);
    if (host === undefined) {
      host = new Host(address);
      this.#hosts.set(address, host);
    }
    host.connections++;
    return new HostAccount(this, host, wake);
  }

  // For accounts.

  takeFor(account: HostAccount, bytes: number): boolean {
    if (!this.#isNext(account, bytes) || !this.#fits(account, bytes)) return false;
    const { host } = account;
    this.#heldBytes += bytes;
    host.heldBytes += bytes;
    account.heldBytes += bytes;
    if (account.wantedBytes > 0) this.waitFor(account, account.wantedBytes);
    return true;
  }

  /** It has what it waited for, if it did: the other hosts that wait come first now. */
  served(account: HostAccount): void {
    if (this.#waiting.size === 0) return;
    const { host } = account;
    if (this.#stopWaiting(account) && this.#waiting.delete(host)) this.#waiting.add(host);
    this.#wakeNext();
  }

  /** Small or large is by what the account holds at the moment. */
  waitFor(account: HostAccount, bytes: number): void {
    const { host } = account;
    const [waits, others] = isSmall(account, bytes)
      ? [host.small, host.large]
      : [host.large, host.small];
    others.delete(account);
    account.wantedBytes = bytes;
    waits.add(account);
    this.#waiting.add(host);
  }

  giveFor(account: HostAccount, bytes: number): void {
    this.#heldBytes -= bytes;
    account.host.heldBytes -= bytes;
    account.heldBytes -= bytes;
    assert(account.heldBytes >= 0, "credit is given back once");
    if (account.wantedBytes > 0) this.waitFor(account, account.wantedBytes);
    this.#wakeNext();
  }

  forgetFor(account: HostAccount): void {
    if (this.#stopWaiting(account)) this.#wakeNext();
  }

  closeFor(account: HostAccount): void {
    assert(account.heldBytes === 0, "a connection that is gone holds nothing");
    this.forgetFor(account);
    const { host } = account;
    host.connections--;
    if (host.connections === 0) this.#hosts.delete(host.address);
  }

  /** Whether nobody goes before it. */
  #isNext(account: HostAccount, bytes: number): boolean {
    if (this.#waiting.size === 0) return true;
    const { host } = account;
    const small = isSmall(account, bytes);
    const first = firstOf(small ? host.small : host.large);
    if (first !== null && first !== account) return false;
    for (const other of this.#waiting) {
      if (other === host) return true;
      if (small && other.small.size === 0) continue;
      if (other.heldBytes <= host.heldBytes) return false;
    }
    return true;
  }

  #fits(account: HostAccount, bytes: number): boolean {
    // Whoever holds all alone is always served.
    if (this.#heldBytes === 0) return true;
    const { host } = account;
    if (isSmall(account, bytes)) {
      const isOverShare = host.heldBytes + bytes > this.limitBytes * HOST_SHARE_MAX;
      return !isOverShare && this.#heldBytes + bytes <= this.limitBytes;
    }
    const room = this.limitBytes * (1 - RESERVE_SHARE) - this.#heldBytes;
    const counts = account.heldBytes === 0 ? host.heldBytes : host.heldBytes + bytes;
    return bytes <= room && (host.heldBytes === 0 || counts <= room - bytes);
  }

  /** Whether it waited. */
  #stopWaiting(account: HostAccount): boolean {
    const { host } = account;
    account.wantedBytes = 0;
    if (!host.small.delete(account) && !host.large.delete(account)) return false;
    if (host.small.size === 0 && host.large.size === 0) this.#waiting.delete(host);
    return true;
  }

  /** Wakes the first that fits and has nobody before it; the next is woken when that one took. */
  #wakeNext(): void {
    if (this.#waiting.size === 0) return;
    let leastSmall = Number.POSITIVE_INFINITY;
    let least = Number.POSITIVE_INFINITY;
    for (const host of this.#waiting) {
      const small = firstOf(host.small);
      if (small !== null && host.heldBytes < leastSmall && this.#fits(small, small.wantedBytes)) {
        return small.wake();
      }
      const large = firstOf(host.large);
      if (large !== null && host.heldBytes < least && this.#fits(large, large.wantedBytes)) {
        return large.wake();
      }
      least = Math.min(least, host.heldBytes);
      if (small !== null) leastSmall = Math.min(leastSmall, host.heldBytes);
    }
  }
}

/** One connection's part of the credit. */
export class HostAccount {
  readonly host: Host;
  readonly wake: () => void;
  heldBytes = 0;
  /** What it waits for; 0: it does not. */
  wantedBytes = 0;
  readonly #credit: HostCredit;

  constructor(credit: HostCredit, host: Host, wake: () => void) {
    this.#credit = credit;
    this.host = host;
    this.wake = wake;
  }

  /** Takes it now or not at all. */
  take(bytes: number): boolean {
    return this.#credit.takeFor(this, bytes);
  }
  /** False: `wake` is called when it is worth another try. One at a time waits. */
  takeOrWait(bytes: number): boolean {
    const taken = this.#credit.takeFor(this, bytes);
    if (taken) this.#credit.served(this);
    else this.#credit.waitFor(this, bytes);
    return taken;
  }
  give(bytes: number): void {
    this.#credit.giveFor(this, bytes);
  }
  /** It waits no more. */
  forget(): void {
    this.#credit.forgetFor(this);
  }
  /** The connection ended, and has given back what it held. */
  close(): void {
    this.#credit.closeFor(this);
  }
}

function firstOf(accounts: ReadonlySet<HostAccount>): HostAccount | null {
  return accounts.size === 0 ? null : (accounts.values().next().value ?? null);
}

function isSmall(account: HostAccount, bytes: number): boolean {
  return account.heldBytes + bytes <= SMALL_BYTES;
}
