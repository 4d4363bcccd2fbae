// SPDX-License-Identifier: Apache-2.0
//
// A slice in words, as one unit sees it: availability and protection, never mixed (design.md,
// section 1), what it waits for, and how far a resync is.

import { HEAD_SILENCE_MS } from "#base/limits.ts";
import { inSyncEntry } from "#base/record.ts";
import type { DiskNumber, SliceRecord } from "#base/record.ts";
import type { Counters, Head } from "./head.ts";
import { policyOf } from "./policy.ts";

export type Role = "head" | "member" | "resyncing" | "outside";
export type Availability = "online" | "waiting" | "read-only" | "offline";

export interface SliceStatus {
  role: Role;
  epoch: number;
  availability: Availability;
  /** protected, degraded, at-risk, or "rebuilding n %": the worst that holds. */
  protection: string;
  /** What it waits for, in words; "" when for nothing. */
  waitsFor: string;
  /** Of the head: what is copied to targets. */
  resync: { doneBytes: number; totalBytes: number } | null;
  counters: Counters;
}

interface Seen {
  record: SliceRecord | null;
  head: Head | null;
  failure: string | null;
  disk: DiskNumber;
  counters: Counters;
  waitsFor: string;
  isProposing: boolean;
  headHeardMs: number;
}

export function sliceStatus(seen: Seen): SliceStatus {
  const { record, head, counters } = seen;
  const resync = head === null ? null : resyncOf(head);
  const { availability, waitsFor } = availabilityOf(seen);
  return {
    role: roleOf(seen),
    epoch: record?.epoch ?? 0,
    availability,
    protection: protectionOf(record, resync),
    waitsFor,
    resync,
    counters,
  };
}

function roleOf({ record, head, disk }: Seen): Role {
  if (head !== null) return "head";
  if (record === null) return "outside";
  if (inSyncEntry(record, disk) !== undefined) return "member";
  return record.resyncing.includes(disk) ? "resyncing" : "outside";
}

function resyncOf(head: Head): { doneBytes: number; totalBytes: number } | null {
  let doneBytes = 0;
  let totalBytes = 0;
  let targets = 0;
  for (const replica of head.replicas.values()) {
    if (replica.inSync) continue;
    targets++;
    doneBytes += replica.resync?.doneBytes ?? 0;
    totalBytes += replica.resync?.totalBytes ?? 0;
  }
  return targets === 0 ? null : { doneBytes, totalBytes };
}

function protectionOf(
  record: SliceRecord | null,
  resync: { doneBytes: number; totalBytes: number } | null,
): string {
  if (record === null) return "at-risk";
  const word = policyOf(record).protection(record);
  if (word !== "rebuilding") return word;
  const { doneBytes, totalBytes } = resync ?? { doneBytes: 0, totalBytes: 0 };
  const percent = totalBytes === 0 ? 0 : Math.floor((100 * doneBytes) / totalBytes);
  return `rebuilding ${percent} %`;
}

function availabilityOf(seen: Seen): { availability: Availability; waitsFor: string } {
  const { record, head, failure } = seen;
  if (failure !== null && record?.inSync.length === 1) {
    return { availability: "offline", waitsFor: `its only disk in sync failed: ${failure}` };
  }
  if (record === null) return { availability: "offline", waitsFor: "its first record" };
  if (head !== null) return headAvailability(seen, head);
  if (seen.waitsFor !== "") return { availability: "waiting", waitsFor: seen.waitsFor };
  if (record.head === seen.disk) return { availability: "waiting", waitsFor: "its head to start" };
  if (seen.headHeardMs > HEAD_SILENCE_MS && inSyncEntry(record, seen.disk) !== undefined) {
    return { availability: "waiting", waitsFor: `disk ${record.head}, its head` };
  }
  return { availability: "online", waitsFor: "" };
}

function headAvailability(
  seen: Seen,
  head: Head,
): { availability: Availability; waitsFor: string } {
  if (head.ready && head.established) {
    const obstacle = [...head.replicas.values()].find((each) => each.resync?.obstacle)?.resync;
    return { availability: "online", waitsFor: obstacle?.obstacle ?? "" };
  }
  if (seen.isProposing) {
    return { availability: "waiting", waitsFor: "the control store, to change its members" };
  }
  const missing = [...head.replicas.values()].filter(
    (each) => each.inSync && each.state !== "open",
  );
  const names = missing.map((each) => `disk ${each.disk}`).join(", ");
  const waitsFor = missing.length > 0 ? `${names} to attach` : "its own disk to store the record";
  return { availability: "waiting", waitsFor };
}
