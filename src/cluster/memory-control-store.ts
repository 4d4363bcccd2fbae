// SPDX-License-Identifier: Apache-2.0
//
// The control store in memory, for simulations and tests: deterministic (time by injected timers,
// chance by an injected generator) and able to fail in every way that etcd can. One
// MemoryControlStore is the voters; each unit has a MemoryControlClient with a link of its own.
//
// What may go wrong, besides latency:
// - `setAway`: no majority. Requests that arrive meanwhile are lost; leases do not run out (etcd
//   gives them their whole time again under the next leader).
// - `client.setConnected(false)`: this unit only.
// - `faults.requestLost`, `faults.answerLost`: the client times out without knowing which it was.
// - `faults.late`: the request is done after its client has given up on it.
// - `client.watchDelayMs`, `compact`: watches run behind, or lose their place.
//
// Invariants: a revision is one committed change; a request is done at one moment, between being
// sent and being answered (or at any later moment once its client was told unknownOutcome).

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import type { Prng } from "#base/prng.ts";
import type { Clock, Timers } from "#base/world.ts";
import { TRANSACTION_OPERATIONS_MAX, VALUE_CHARACTERS_MAX } from "./control-store.ts";
import type {
  ControlStore,
  Entry,
  LeaseGrant,
  LeaseId,
  Reading,
  StoreMember,
  Transaction,
  TransactionResult,
  Watch,
  WatchEvent,
  WatchSink,
} from "./control-store.ts";

export interface MemoryStoreFaults {
  /** Probability per request that it never arrives. */
  requestLost: number;
  /** Probability per request that it is done and the answer never arrives. */
  answerLost: number;
  /** Probability per request that it arrives only after the client's timeout. */
  late: number;
}

export interface MemoryStoreOptions {
  clock: Clock;
  timers: Timers;
  prng: Prng;
  /** One way, milliseconds. With `most` 0 requests are done at once. */
  latencyMs?: { least: number; most: number };
  /** How long a client waits for an answer. */
  timeoutMs?: number;
}

interface Lease {
  id: LeaseId;
  ttlMs: number;
  expiresMs: number;
  keys: Set<string>;
}

interface Change {
  revision: number;
  events: WatchEvent[];
}

const TIMEOUT_MS = 2000;

export class MemoryControlStore {
  readonly faults: MemoryStoreFaults = { requestLost: 0, answerLost: 0, late: 0 };
  readonly clock: Clock;
  readonly timers: Timers;
  readonly prng: Prng;
  readonly latencyMs: { least: number; most: number };
  readonly timeoutMs: number;
  revision = 1;
  /** Changes up to this revision are gone from the history. */
  compacted = 0;
  /** Sees every change at the moment of its commit, whoever may hear of it later: for judges. */
  onCommit: ((events: readonly WatchEvent[], revision: number) => void) | null = null;
  readonly #entries = new Map<string, Entry>();
  readonly #leases = new Map<LeaseId, Lease>();
  readonly #clients: MemoryControlClient[] = [];
  #history: Change[] = [];
  #nextLease = 1;
  #away = false;

  constructor(options: MemoryStoreOptions) {
    this.clock = options.clock;
    this.timers = options.timers;
    this.prng = options.prng;
    this.latencyMs = options.latencyMs ?? { least: 0, most: 0 };
    this.timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  }

  client(name: string): MemoryControlClient {
    const client = new MemoryControlClient(this, name);
    this.#clients.push(client);
    return client;
  }

  get away(): boolean {
    return this.#away;
  }

  /** Loses or regains the majority. */
  setAway(away: boolean): void {
    if (this.#away === away) return;
    this.#away = away;
    if (away) return;
    for (const lease of this.#leases.values()) this.#renew(lease);
    for (const client of this.#clients) client.pumpWatches();
  }

  /** Forgets the history up to `revision`; a watch that still needs it is lost. */
  compact(revision: number): void {
    assert(revision <= this.revision, "only the past is compacted");
    this.compacted = Math.max(this.compacted, revision);
    this.#history = this.#history.filter((change) => change.revision > this.compacted);
  }

  // What clients ask; each runs at one moment.

  read(prefix: string): Reading {
    const entries = [...this.#entries.values()].filter((entry) => entry.key.startsWith(prefix));
    entries.sort((a, b) => (a.key < b.key ? -1 : 1));
    return { revision: this.revision, entries: entries.map((entry) => ({ ...entry })) };
  }

  readOne(key: string): Entry | null {
    const entry = this.#entries.get(key);
    return entry === undefined ? null : { ...entry };
  }

  commit(transaction: Transaction): TransactionResult {
    checkTransaction(transaction);
    for (const put of transaction.puts ?? []) {
      if (put.lease !== undefined && !this.#leases.has(put.lease)) {
        throw new Fault("notFound", `lease ${put.lease} has ended`);
      }
    }
    const holds = transaction.ifs.every(
      (compare) => (this.#entries.get(compare.key)?.modRevision ?? 0) === compare.modRevision,
    );
    if (!holds) {
      const current = transaction.ifs.map((compare) => this.readOne(compare.key));
      return {
        committed: false,
        revision: this.revision,
        current: current.filter((entry) => entry !== null),
      };
    }
    this.#apply(transaction);
    return { committed: true, revision: this.revision, current: [] };
  }

  grant(ttlMs: number): LeaseGrant {
    if (!(ttlMs >= 1)) throw new Fault("badRequest", "a lease lasts at least 1 ms");
    const lease: Lease = { id: `${this.#nextLease++}`, ttlMs, expiresMs: 0, keys: new Set() };
    this.#leases.set(lease.id, lease);
    this.#renew(lease);
    return { lease: lease.id, ttlMs };
  }

  keepAlive(id: LeaseId): boolean {
    const lease = this.#leases.get(id);
    if (lease === undefined) return false;
    this.#renew(lease);
    return true;
  }

  revoke(id: LeaseId): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    if (lease.keys.size > 0) this.#apply({ ifs: [], deletes: [...lease.keys].sort() });
  }

  members(): StoreMember[] {
    return [{ id: "1", name: "memory", learner: false, leader: true, peerUrls: [] }];
  }

  changesFrom(revision: number): Change[] {
    return this.#history.filter((change) => change.revision >= revision);
  }

  #apply(transaction: Transaction): void {
    const revision = this.revision + 1;
    const events: WatchEvent[] = [];
    for (const key of transaction.deletes ?? []) {
      const old = this.#entries.get(key);
      if (old === undefined) continue;
      this.#detach(old);
      this.#entries.delete(key);
      events.push({ kind: "delete", key, value: "", modRevision: revision });
    }
    for (const put of transaction.puts ?? []) {
      const old = this.#entries.get(put.key);
      if (old !== undefined) this.#detach(old);
      const lease = put.lease ?? null;
      this.#entries.set(put.key, {
        key: put.key,
        value: put.value,
        modRevision: revision,
        createRevision: old?.createRevision ?? revision,
        lease,
      });
      if (lease !== null) this.#leases.get(lease)?.keys.add(put.key);
      events.push({ kind: "put", key: put.key, value: put.value, modRevision: revision });
    }
    if (events.length === 0) return;
    this.revision = revision;
    this.#history.push({ revision, events });
    this.onCommit?.(events, revision);
    for (const client of this.#clients) client.pumpWatches();
  }

  #detach(entry: Entry): void {
    if (entry.lease !== null) this.#leases.get(entry.lease)?.keys.delete(entry.key);
  }

  #renew(lease: Lease): void {
    lease.expiresMs = this.clock.nowMs() + lease.ttlMs;
    this.timers.after(lease.ttlMs, () => {
      const due = this.#leases.get(lease.id) === lease && this.clock.nowMs() >= lease.expiresMs;
      if (due && !this.#away) this.revoke(lease.id);
    });
  }
}

interface MemoryWatch extends Watch {
  prefix: string;
  nextRevision: number;
  sink: WatchSink;
  scheduled: boolean;
  ended: boolean;
}

/** One unit's way to the store. */
export class MemoryControlClient implements ControlStore {
  readonly name: string;
  /** Added to the latency of watch events. */
  watchDelayMs = 0;
  /** Asked first, as a voter between a unit and the store: why the unit may not, or null. */
  mayWrite: ((transaction: Transaction) => Promise<string | null>) | null = null;
  readonly #store: MemoryControlStore;
  #connected = true;
  #watches: MemoryWatch[] = [];

  constructor(store: MemoryControlStore, name: string) {
    this.#store = store;
    this.name = name;
  }

  setConnected(connected: boolean): void {
    this.#connected = connected;
    if (connected) this.pumpWatches();
  }

  async get(key: string): Promise<{ revision: number; entry: Entry | null }> {
    return this.#ask("controlStoreAway", () => ({
      revision: this.#store.revision,
      entry: this.#store.readOne(key),
    }));
  }

  async range(prefix: string): Promise<Reading> {
    return this.#ask("controlStoreAway", () => this.#store.read(prefix));
  }

  async transaction(transaction: Transaction): Promise<TransactionResult> {
    checkTransaction(transaction);
    // As sent: a caller that changes its object later changes nothing.
    const sent = structuredClone(transaction) as Transaction;
    if (this.mayWrite !== null) {
      const refusal = await this.mayWrite(sent);
      if (refusal !== null) throw new Fault("forbidden", refusal);
    }
    return this.#ask("unknownOutcome", () => this.#store.commit(sent));
  }

  async grantLease(ttlMs: number): Promise<LeaseGrant> {
    return this.#ask("unknownOutcome", () => this.#store.grant(ttlMs));
  }

  async keepAlive(lease: LeaseId): Promise<boolean> {
    return this.#ask("unknownOutcome", () => this.#store.keepAlive(lease));
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    return this.#ask("unknownOutcome", () => this.#store.revoke(lease));
  }

  async members(): Promise<StoreMember[]> {
    return this.#ask("controlStoreAway", () => this.#store.members());
  }

  async snapshot(): Promise<Uint8Array> {
    return this.#ask("controlStoreAway", () =>
      new TextEncoder().encode(JSON.stringify(this.#store.read(""))),
    );
  }

  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    const watch: MemoryWatch = {
      prefix,
      nextRevision: fromRevision,
      sink,
      scheduled: false,
      ended: false,
      cancel: () => this.#end(watch),
    };
    this.#watches.push(watch);
    this.#schedule(watch);
    return watch;
  }

  /** Something was committed, or the way to the store is free again. */
  pumpWatches(): void {
    for (const watch of this.#watches) this.#schedule(watch);
  }

  /** Loses this unit's watches, as the death of a voter's process does. */
  loseWatches(reason: string): void {
    for (const watch of [...this.#watches]) {
      this.#end(watch);
      watch.sink.onLost(reason);
    }
  }

  #end(watch: MemoryWatch): void {
    watch.ended = true;
    this.#watches = this.#watches.filter((other) => other !== watch);
  }

  #schedule(watch: MemoryWatch): void {
    if (watch.scheduled || watch.ended) return;
    watch.scheduled = true;
    this.#store.timers.after(this.#latencyMs() + this.watchDelayMs, () => {
      watch.scheduled = false;
      this.#deliver(watch);
    });
  }

  #deliver(watch: MemoryWatch): void {
    if (watch.ended || !this.#connected || this.#store.away) return;
    if (watch.nextRevision <= this.#store.compacted) {
      this.#end(watch);
      watch.sink.onLost("compacted");
      return;
    }
    // A sink may commit something itself, at once where there is no latency: that comes next time.
    const through = this.#store.revision;
    for (const change of this.#store.changesFrom(watch.nextRevision)) {
      watch.nextRevision = change.revision + 1;
      const events = change.events.filter((event) => event.key.startsWith(watch.prefix));
      if (events.length > 0) watch.sink.onEvents(structuredClone(events), change.revision);
      if (watch.ended) return;
    }
    watch.nextRevision = Math.max(watch.nextRevision, through + 1);
  }

  #latencyMs(): number {
    const { least, most } = this.#store.latencyMs;
    return most === 0 ? 0 : least + this.#store.prng.fraction() * (most - least);
  }

  /** Sends a request; `lost` is what the client learns when no answer comes in time. */
  #ask<T>(lost: "controlStoreAway" | "unknownOutcome", run: () => T): Promise<T> {
    const { faults, prng, timers, timeoutMs, latencyMs } = this.#store;
    if (!this.#connected) {
      return Promise.reject(new Fault("controlStoreAway", `${this.name} has no link to it`));
    }
    if (latencyMs.most === 0 && !this.#store.away && noFaults(faults)) {
      return new Promise((resolve, reject) => attempt(run)(resolve, reject));
    }
    return new Promise<T>((resolve, reject) => {
      let open = true;
      const giveUp = timers.after(timeoutMs, () => {
        open = false;
        reject(new Fault(lost, `no answer to ${this.name} within ${timeoutMs} ms`));
      });
      if (prng.chance(faults.requestLost)) return;
      const answerLost = prng.chance(faults.answerLost);
      const lateMs = prng.chance(faults.late) ? timeoutMs * (1 + prng.fraction()) : 0;
      timers.after(this.#latencyMs() + lateMs, () => {
        if (this.#store.away || (!this.#connected && lateMs === 0)) return;
        const settle = attempt(run);
        if (answerLost) return;
        timers.after(this.#latencyMs(), () => {
          if (!open || !this.#connected) return;
          giveUp();
          settle(resolve, reject);
        });
      });
    });
  }
}

type Settle<T> = (resolve: (value: T) => void, reject: (cause: unknown) => void) => void;

/** Runs now; how it ended is told later, if anybody still listens. */
function attempt<T>(run: () => T): Settle<T> {
  try {
    const value = run();
    return (resolve) => resolve(value);
  } catch (cause) {
    assert(cause instanceof Fault, "a request fails only by a Fault");
    return (_resolve, reject) => reject(cause);
  }
}

function noFaults(faults: MemoryStoreFaults): boolean {
  return faults.requestLost === 0 && faults.answerLost === 0 && faults.late === 0;
}

/** Throws badRequest for what etcd would refuse too. */
export function checkTransaction(transaction: Transaction): void {
  const puts = transaction.puts ?? [];
  const deletes = transaction.deletes ?? [];
  const operations = Math.max(transaction.ifs.length, puts.length + deletes.length);
  if (operations > TRANSACTION_OPERATIONS_MAX) {
    throw new Fault("badRequest", `${operations} operations in one transaction`);
  }
  const written = new Set<string>();
  for (const key of [...puts.map((put) => put.key), ...deletes]) {
    if (key === "") throw new Fault("badRequest", "an empty key");
    if (written.has(key)) throw new Fault("badRequest", `${key} is written twice`);
    written.add(key);
  }
  for (const put of puts) {
    if (put.value.length > VALUE_CHARACTERS_MAX) {
      throw new Fault("badRequest", `the value of ${put.key} is too long`);
    }
  }
}
