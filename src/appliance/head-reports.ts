// SPDX-License-Identifier: Apache-2.0
//
// What this unit's data plane says of the slices that it heads, or should: one that has started
// again and waits for others before it serves is the head by its record alone.

import type { SliceNumber } from "#base/record.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { SliceReport } from "#cluster/volume-state.ts";
import type { ReactorReport } from "./reactor-messages.ts";

export function headReports(
  view: ClusterView,
  report: ReactorReport,
): Map<SliceNumber, SliceReport> {
  const reports = new Map<SliceNumber, SliceReport>();
  for (const { slice, disk, epoch, availability, waitsFor, resync } of report.slices) {
    if (view.slices.get(slice)?.head !== disk) continue;
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
