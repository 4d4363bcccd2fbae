// SPDX-License-Identifier: Apache-2.0
//
// What all host connections together may hold of a reactor's Memory, so that hosts cannot take what
// replica writes and control need (R13), and how they share it, so that a host that takes memory
// and does not get on cannot slow the others. A connection that gets nothing stops receiving, so
// its host is held back by TCP's window.
//
// Who shares is a host's address, not a connection. Invariants:
// - A host that holds little (SMALL_BYTES, what a deep queue of small requests needs) is served
//   whatever the others wait for, from a part that nobody else may take.
// - Beyond that a host takes at most as much as it leaves free for others ("dynamic threshold": n
//   hosts that hold as much as they can leave room for one more of the same), and one request,
//   however large, where it fits at all.
// - Who waits is served in order, but before all that hold more: neither does a busy host starve a
//   slow one, nor one that is stuck hold up the others. Small ones do not wait behind large ones.

import { assert } from "#base/assert.ts";

/** What each host may hold before it has to stand back for others, bytes. */
export const SMALL_BYTES = 1 << 20;
/** The share of all that only small holders may take. */
const RESERVE_SHARE = 1 / 8;

/** Called when it is worth another try. */
type Wake = () => void;

export class HostCredit {
  readonly #limitBytes: number;
  readonly #reserveBytes: number;
  readonly #accounts = new Map<string, HostAccount>();
  #heldBytes = 0;
  /** Hosts with requests that wait, in the order in which they are to be served. */
  readonly #waiting = new Set<HostAccount>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
    this.#reserveBytes = Math.floor(limitBytes * RESERVE_SHARE);
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }
  /** Somebody waits for what others hold. */
  get isContended(): boolean {
    return this.#waiting.size > 0;
  }
  get hostCount(): number {
    return this.#accounts.size;
  }

  /** For one connection of a host; to be closed by it. */
  open(host: string): HostAccount {
    let account = this.#accounts.get(host);
    if (account === undefined) {
      account = new HostAccount(this, host);
      this.#accounts.set(host, account);
    }
    account.connections++;
    return account;
  }

  // For accounts.

  /** Without `wake` it does not wait. */
  takeFor(account: HostAccount, bytes: number, wake: Wake | null): boolean {
    if (!this.#isNext(account, bytes, wake) || !this.#fits(account, bytes)) {
      if (wake !== null) {
        account.waits.set(wake, bytes);
        this.#waiting.add(account);
      }
      return false;
    }
    this.#heldBytes += bytes;
    account.heldBytes += bytes;
    if (wake !== null && this.#stopWaiting(account, wake) && this.#waiting.delete(account)) {
      this.#waiting.add(account); // the other hosts that wait come first now
    }
    this.#wakeNext();
    return true;
  }

  giveFor(account: HostAccount, bytes: number): void {
    this.#heldBytes -= bytes;
    account.heldBytes -= bytes;
    assert(account.heldBytes >= 0, "credit is given back once");
    this.#wakeNext();
  }

  forgetFor(account: HostAccount, wake: Wake): void {
    this.#stopWaiting(account, wake);
    this.#wakeNext();
  }

  closeFor(account: HostAccount): void {
    account.connections--;
    if (account.connections > 0) return;
    assert(
      account.heldBytes === 0 && account.waits.size === 0,
      "a host that is gone holds nothing",
    );
    this.#accounts.delete(account.host);
  }

  /** Whether nobody goes before it. */
  #isNext(account: HostAccount, bytes: number, wake: Wake | null): boolean {
    if (this.#waiting.size === 0) return true;
    const first = firstOf(account.waits);
    if (first !== undefined && first !== wake) return false;
    const small = isSmall(account, bytes);
    for (const other of this.#waiting) {
      if (other === account) return true;
      if (small && !isSmall(other, bytesOfFirst(other))) continue;
      if (other.heldBytes <= account.heldBytes) return false;
    }
    return true;
  }

  #fits(account: HostAccount, bytes: number): boolean {
    // Whoever holds all alone is always served.
    if (this.#heldBytes === 0) return true;
    if (isSmall(account, bytes)) return this.#heldBytes + bytes <= this.#limitBytes;
    const room = this.#limitBytes - this.#reserveBytes - this.#heldBytes;
    if (account.heldBytes === 0) return bytes <= room;
    return account.heldBytes + bytes <= room - bytes;
  }

  /** Whether it waited. */
  #stopWaiting(account: HostAccount, wake: Wake): boolean {
    if (!account.waits.delete(wake)) return false;
    if (account.waits.size === 0) this.#waiting.delete(account);
    return true;
  }

  /** Wakes the first that fits and has nobody before it; the next is woken when that one took. */
  #wakeNext(): void {
    let leastSmall = Number.POSITIVE_INFINITY;
    let least = Number.POSITIVE_INFINITY;
    for (const account of this.#waiting) {
      const bytes = bytesOfFirst(account);
      const small = isSmall(account, bytes);
      const isNext = account.heldBytes < (small ? leastSmall : least);
      if (isNext && this.#fits(account, bytes)) return firstOf(account.waits)?.();
      least = Math.min(least, account.heldBytes);
      if (small) leastSmall = Math.min(leastSmall, account.heldBytes);
    }
  }
}

/** One host's part of the credit, shared by its connections. */
export class HostAccount {
  readonly host: string;
  heldBytes = 0;
  connections = 0;
  /** Its connections that wait, with the bytes each asks for, in order. */
  readonly waits = new Map<Wake, number>();
  readonly #credit: HostCredit;

  constructor(credit: HostCredit, host: string) {
    this.#credit = credit;
    this.host = host;
  }

  /** Takes it now or not at all. */
  take(bytes: number): boolean {
    return this.#credit.takeFor(this, bytes, null);
  }
  /** False: `wake` is called when it is worth another try. */
  takeOrWait(bytes: number, wake: Wake): boolean {
    return this.#credit.takeFor(this, bytes, wake);
  }
  give(bytes: number): void {
    this.#credit.giveFor(this, bytes);
  }
  /** The connection waits no more. */
  forget(wake: Wake): void {
    this.#credit.forgetFor(this, wake);
  }
  /** The connection ended, and has given back what it held. */
  close(): void {
    this.#credit.closeFor(this);
  }
}

function firstOf(waits: ReadonlyMap<Wake, number>): Wake | undefined {
  return waits.size === 0 ? undefined : waits.keys().next().value;
}

function bytesOfFirst(account: HostAccount): number {
  return account.waits.values().next().value ?? 0;
}

function isSmall(account: HostAccount, bytes: number): boolean {
  return account.heldBytes + bytes <= SMALL_BYTES;
}
