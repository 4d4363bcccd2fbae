// SPDX-License-Identifier: Apache-2.0
//
// The record of a slice: who may hold it, kept in the control store and on every disk of its set
// (contract.md, R). Every change is a compare-and-swap on the record; every number here is given
// out by the cluster once and never again.

import { MEMBERS_MAX } from "./limits.ts";

/** A unit's number in its cluster, from 1. Its identity is its key; this is its short name. */
export type UnitNumber = number;
/** A disk's number in its cluster, from 1, also kept in its superblock. */
export type DiskNumber = number;
/** A slice's number in its cluster, from 1. */
export type SliceNumber = number;
/** A volume's number in its cluster, from 1. */
export type VolumeNumber = number;
/** A host's number in its cluster, from 1. */
export type HostNumber = number;
/** R0: rises at every start of the process that holds unflushed data for the disk. From 1. */
export type Incarnation = number;

/** An in-sync member: a disk, and the run of it that is meant (R0). */
export interface InSyncMember {
  disk: DiskNumber;
  incarnation: Incarnation;
}

/** A disk that was in sync and left: an owner may go on from what it holds. */
export interface FormerMember {
  disk: DiskNumber;
  /** The last epoch that named it in sync, of the record's lineage. */
  epoch: number;
  /** It was being brought up since: partly as it was, partly newer. */
  isMixed?: boolean | undefined;
}

/** R8: what a disk holds of a lineage that lost against an owner's override. */
export interface KeptCopy {
  disk: DiskNumber;
  lineage: number;
  /** The last epoch of that lineage, which named the disk in sync. */
  epoch: number;
  /** Which override of the volume it was, from 1. */
  before: number;
  /** When its owner went on without it, by the wall clock, for people. */
  atMs: number;
  /** When its unit was last known to be there, by the wall clock; not there: not known. */
  untilMs?: number | undefined;
  /** What it holds, bytes, once its unit has told that it is there. */
  bytes?: number | undefined;
}

export interface SliceRecord {
  slice: SliceNumber;
  volume: VolumeNumber;
  /** Position in the volume, from 0. */
  index: number;
  sizeBytes: number;
  /** Members the volume's protection promises; fewer in `inSync` is degraded. */
  copies: number;
  /** R8: the history this belongs to; the owner's override starts a new one. */
  lineage: number;
  /** Lineages this one grew from, oldest first. */
  ancestry: number[];
  /** Counts the committed memberships; rises by one with every commit. From 1. */
  epoch: number;
  /** The disk whose unit serves the slice; always one of `inSync`. */
  head: DiskNumber;
  /** R0: in sync, in these incarnations. A disk with another number is not in the set. */
  inSync: InSyncMember[];
  /** Disks being brought up by the head; not in sync until a commit says so. */
  resyncing: DiskNumber[];
  /** Only in the control store, not on disks and links; while the slice lacks a copy. */
  former?: FormerMember[] | undefined;
  /**
   * Only in the control store, not on disks and links: not there means not known. None of these
   * disks is named above, and what they hold of the slice is neither written nor given back.
   */
  kept?: KeptCopy[] | undefined;
}

/** What the control station plans with disks: hints, nothing is safe because of them. */
export interface DiskPlans {
  /** Retired, or of a unit that is evacuated: let go once others hold their copies. */
  leaving: ReadonlySet<DiskNumber>;
  /** Of units in maintenance: they head nothing, and are waited for while they are away. */
  maintained: ReadonlySet<DiskNumber>;
}
export const NO_PLANS: DiskPlans = { leaving: new Set(), maintained: new Set() };

/** How a proposal to change a record ended. */
export const Outcome = {
  /** In the control store, confirmed (a timed-out commit was read back linearizably). */
  committed: 0,
  /** Somebody else changed it first; the newer record comes by recordChanged. */
  conflict: 1,
  /** The control store refused it: a rule, not a race. */
  refused: 2,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** Whether `record` names this disk in this incarnation as in sync. */
export function inSync(record: SliceRecord, disk: DiskNumber, incarnation: Incarnation): boolean {
  return record.inSync.some((m) => m.disk === disk && m.incarnation === incarnation);
}

/** The in-sync entry of a disk, in whatever incarnation. */
export function inSyncEntry(record: SliceRecord, disk: DiskNumber): InSyncMember | undefined {
  return record.inSync.find((member) => member.disk === disk);
}

/** Every disk the record names. */
export function disksOf(record: SliceRecord): DiskNumber[] {
  return [...record.inSync.map((member) => member.disk), ...record.resyncing];
}

/** Every disk that holds something of the slice that is not to be given back. */
export function holdersOf(record: SliceRecord): DiskNumber[] {
  return [...disksOf(record), ...(record.kept ?? []).map((copy) => copy.disk)];
}

/** The copy of a lost lineage that a disk keeps. */
export function keptOn(record: SliceRecord, disk: DiskNumber): KeptCopy | undefined {
  return record.kept?.find((copy) => copy.disk === disk);
}

/**
 * What follows `current` in the control store when `next` is proposed by whoever does not decide
 * about copies of other lineages: those stay, and who left is remembered until all copies are
 * there.
 */
export function carriedOver(current: SliceRecord, next: SliceRecord): SliceRecord {
  const named = next.inSync.map((member) => member.disk);
  const left = current.inSync
    .filter((member) => !named.includes(member.disk))
    .map(({ disk }) => ({ disk, epoch: current.epoch }));
  const leftNow = left.map(({ disk }) => disk);
  const before = (current.former ?? []).filter(({ disk }) => !leftNow.includes(disk));
  const former = [...before, ...left]
    .filter(({ disk }) => !named.includes(disk))
    .map((one): FormerMember => {
      return next.resyncing.includes(one.disk) ? { ...one, isMixed: true } : one;
    });
  const isWhole = next.inSync.length >= next.copies;
  return { ...next, former: isWhole ? [] : former.slice(-MEMBERS_MAX), kept: current.kept ?? [] };
}

/**
 * Whether `newer` supersedes `older`: same lineage and a higher epoch, or a lineage that grew from
 * it. Unrelated lineages never supersede each other (R8).
 */
export function supersedes(newer: SliceRecord, older: SliceRecord): boolean {
  if (newer.lineage === older.lineage) return newer.epoch > older.epoch;
  return newer.ancestry.includes(older.lineage);
}

/** Whether it is the same record, from where it also says what is kept. */
export function isFuller(record: SliceRecord, known: SliceRecord): boolean {
  const isSame = record.lineage === known.lineage && record.epoch === known.epoch;
  return isSame && known.kept === undefined && record.kept !== undefined;
}
