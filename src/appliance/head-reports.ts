// SPDX-License-Identifier: Apache-2.0
//
// What this unit's data plane says of the slices that it heads, or should: one that has started
// again and waits for others before it serves is the head by its record alone; while that one's
// disk is away, what a member waits for that started again is told in its place.

import { inSyncEntry } from "#base/record.ts";
import type { DiskNumber, SliceNumber, SliceRecord } from "#base/record.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { SliceReport } from "#cluster/volume-state.ts";
import type { ReactorReport } from "./reactor-messages.ts";

export function headReports(
  view: ClusterView,
  report: ReactorReport,
): Map<SliceNumber, SliceReport> {
  const reports = new Map<SliceNumber, SliceReport>();
  for (const { slice, disk, epoch, availability, waitsFor, resync } of report.slices) {
    const record = view.slices.get(slice);
    if (record === undefined) continue;
    if (record.head !== disk && !(availability === "waiting" && isStranded(view, record, disk))) {
      continue;
    }
    reports.set(slice, {
      epoch,
      availability,
      ...(waitsFor === "" ? {} : { waitsFor }),
      ...(resync === null || resync.totalBytes === 0
        ? {}
        : { rebuiltShare: resync.doneBytes / resync.totalBytes }),
    });
  }
  return reports;
}

/** In sync by its record, in a run that is over, under a head that is away (R3). */
function isStranded(view: ClusterView, record: SliceRecord, disk: DiskNumber): boolean {
  const named = inSyncEntry(record, disk);
  if (named === undefined || view.diskServes(record.head)) return false;
  return view.disks.get(disk)?.incarnation !== named.incarnation;
}
