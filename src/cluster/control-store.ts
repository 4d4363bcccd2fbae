// SPDX-License-Identifier: Apache-2.0
//
// ControlStore: where the cluster's decisions are kept (design.md, section 6). A small ordered map
// of strings with revisions, compare-and-swap transactions, watches and leases. Two
// implementations, etcd and memory, answer to one conformance test
// (control-store-conformance-fixture.ts).
//
// Every answer is linearizable: it is never older than what was committed before the question was
// asked. Failing is of three kinds, all Faults:
// - controlStoreAway: no majority or no link; the thing was not done.
// - unknownOutcome: only from transaction and the lease calls; it may have been done, or may still
//   be done later. Who needs to know reads back; the compares of its transaction decide (R2).
// - badRequest, notFound, conflict: the caller's mistake or a lease that is gone; not done.

/** Operations (compares, puts, deletes) in one transaction: etcd's default limit. */
export const TRANSACTION_OPERATIONS_MAX = 128;
/** Characters of one value; etcd's requests end at 1.5 MiB. */
export const VALUE_CHARACTERS_MAX = 1 << 20;

/** Opaque; leases are given by the store and never come back. */
export type LeaseId = string;

export interface Entry {
  key: string;
  value: string;
  /** The revision of the last change: what a compare names. */
  modRevision: number;
  /** The revision in which the key came to be (after its last deletion). */
  createRevision: number;
  /** The lease it goes with, or null. */
  lease: LeaseId | null;
}

export interface Reading {
  /** The store's revision when it was read: watch from the next one. */
  revision: number;
  /** Ascending by key. */
  entries: Entry[];
}

/** Holds when the key's last change is `modRevision`; 0: when there is no such key. */
export interface Compare {
  key: string;
  modRevision: number;
}

export interface Put {
  key: string;
  value: string;
  /** The key goes when this lease ends; without it the key stays. */
  lease?: LeaseId;
}

/** All or nothing. No key may be written twice in it. */
export interface Transaction {
  ifs: readonly Compare[];
  puts?: readonly Put[];
  deletes?: readonly string[];
}

export interface TransactionResult {
  committed: boolean;
  /** Of the commit; when not committed, of the store as it was compared. */
  revision: number;
  /** When not committed: the entries, as they are now, of the compared keys that exist. */
  current: Entry[];
}

export interface WatchEvent {
  kind: "put" | "delete";
  key: string;
  /** Empty for a delete. */
  value: string;
  /** The revision of this change. */
  modRevision: number;
}

export interface WatchSink {
  /** All changes of one revision under the prefix, each revision once and in order. */
  onEvents(events: WatchEvent[], revision: number): void;
  /**
   * The watch has ended and changes may have been missed (compacted, or cut off for good): read the
   * range again and watch from there. Called at most once; nothing follows.
   */
  onLost(reason: string): void;
}

export interface Watch {
  cancel(): void;
}

export interface LeaseGrant {
  lease: LeaseId;
  /** The store may give more than was asked, never less. */
  ttlMs: number;
}

/** A member of the store itself: a voter, or a learner that is to become one. */
export interface StoreMember {
  id: string;
  /** Empty until it has started. */
  name: string;
  learner: boolean;
  leader: boolean;
  peerUrls: string[];
}

export interface ControlStore {
  get(key: string): Promise<{ revision: number; entry: Entry | null }>;
  /** Every key that starts with `prefix`, as of one revision. */
  range(prefix: string): Promise<Reading>;
  transaction(transaction: Transaction): Promise<TransactionResult>;
  /**
   * Every change under `prefix` from `fromRevision` on (inclusive), until cancelled or lost.
   * Outages in between are bridged by the implementation. Never calls the sink from within `watch`.
   */
  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch;
  grantLease(ttlMs: number): Promise<LeaseGrant>;
  /** False: the lease is gone, and its keys with it. */
  keepAlive(lease: LeaseId): Promise<boolean>;
  /** Ends the lease and deletes its keys. Ending one that is gone is no error. */
  revokeLease(lease: LeaseId): Promise<void>;
  members(): Promise<StoreMember[]>;
  /** The whole store, to keep as a backup; the format is the implementation's. */
  snapshot(): Promise<Uint8Array>;
}
