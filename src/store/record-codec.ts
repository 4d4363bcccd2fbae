// SPDX-License-Identifier: Apache-2.0
//
// A slice's record as bytes of an entry (format.wire.ts, ENTRY_RECORD).

import { COPIES_MAX, MEMBERS_MAX } from "#base/limits.ts";
import type { InSyncMember, SliceRecord } from "#base/record.ts";
import { ANCESTORS_MAX, ENTRY_RECORD } from "./format.wire.ts";

const view = ENTRY_RECORD.view();

/** Whether a record is within what an entry holds. */
export function recordFits(record: SliceRecord): boolean {
  return (
    record.ancestry.length <= ANCESTORS_MAX &&
    record.inSync.length <= COPIES_MAX + MEMBERS_MAX &&
    record.resyncing.length <= MEMBERS_MAX
  );
}

export function recordEntryBytes(record: SliceRecord): number {
  const { ancestry, inSync, resyncing } = record;
  return ENTRY_RECORD.size + 8 * ancestry.length + 8 * inSync.length + 4 * resyncing.length;
}

/** Writes the body; the entry's own header is there already. */
export function encodeRecord(target: Uint8Array, start: number, record: SliceRecord): void {
  view.at(target, start);
  view.volume = record.volume;
  view.index = record.index;
  view.sizeBytes = record.sizeBytes;
  view.lineage = record.lineage;
  view.epoch = record.epoch;
  view.head = record.head;
  view.copies = record.copies;
  view.ancestors = record.ancestry.length;
  view.inSync = record.inSync.length;
  view.resyncing = record.resyncing.length;
  const data = new DataView(target.buffer, target.byteOffset, target.byteLength);
  let at = start + ENTRY_RECORD.size;
  for (const lineage of record.ancestry) {
    data.setUint32(at, lineage % 2 ** 32, true);
    data.setUint32(at + 4, Math.floor(lineage / 2 ** 32), true);
    at += 8;
  }
  for (const member of record.inSync) {
    data.setUint32(at, member.disk, true);
    data.setUint32(at + 4, member.incarnation, true);
    at += 8;
  }
  for (const disk of record.resyncing) {
    data.setUint32(at, disk, true);
    at += 4;
  }
}

/** The record, or null when its lists do not fill the entry exactly. */
export function decodeRecord(
  source: Uint8Array,
  start: number,
  lengthBytes: number,
  slice: number,
): SliceRecord | null {
  if (lengthBytes < ENTRY_RECORD.size) return null;
  view.at(source, start);
  const lists = 8 * view.ancestors + 8 * view.inSync + 4 * view.resyncing;
  if (lengthBytes !== ENTRY_RECORD.size + lists) return null;
  const data = new DataView(source.buffer, source.byteOffset, source.byteLength);
  let at = start + ENTRY_RECORD.size;
  const ancestry: number[] = [];
  for (let index = 0; index < view.ancestors; index++, at += 8) {
    ancestry.push(data.getUint32(at, true) + data.getUint32(at + 4, true) * 2 ** 32);
  }
  const inSync: InSyncMember[] = [];
  for (let index = 0; index < view.inSync; index++, at += 8) {
    inSync.push({ disk: data.getUint32(at, true), incarnation: data.getUint32(at + 4, true) });
  }
  const resyncing: number[] = [];
  for (let index = 0; index < view.resyncing; index++, at += 4) {
    resyncing.push(data.getUint32(at, true));
  }
  const { volume, index, sizeBytes, lineage, epoch, head, copies } = view;
  return {
    slice,
    volume,
    index,
    sizeBytes,
    copies,
    lineage,
    ancestry,
    epoch,
    head,
    inSync,
    resyncing,
  };
}
