// SPDX-License-Identifier: Apache-2.0
//
// The figures of a unit, for Prometheus: `cairn_<object>_<quantity>_<unit>`, base units.

import { layouts } from "#base/layout.ts";
import type { RequestCounts } from "#base/request-meter.ts";
import { loadPermille, machineMemory } from "#machine/load.ts";
import type { MetricSample, UnitView, VolumeView } from "./backend.ts";
import type { PoolView } from "./pools.ts";
import type { OpenedDisk, ReactorReport } from "./reactor-messages.ts";

const AVAILABILITIES = ["online", "waiting", "read-only", "offline"] as const;
const PROTECTIONS = ["protected", "degraded", "at-risk", "rebuilding"] as const;

/** Where the figures come from. The cluster's are empty while the unit is in none. */
export interface MetricSources {
  report: ReactorReport;
  uptimeSeconds: number;
  /** Age of what it knows of the control state. */
  staleMs: number;
  units: readonly UnitView[];
  pools: readonly PoolView[];
  volumes: readonly VolumeView[];
  /** What hosts asked of a volume here since the daemon started; null: nothing. */
  asked(volume: number): RequestCounts | null;
}

export function unitMetrics(sources: MetricSources): MetricSample[] {
  const { report, units, pools, volumes } = sources;
  const sum = (of: (slice: (typeof report.slices)[number]) => number) =>
    report.slices.reduce((total, slice) => total + of(slice), 0);
  const memory = machineMemory();
  const byNumber = new Map(units.map((unit) => [unit.unit, unit]));
  const someWork = units.some(({ maintenance }) => maintenance !== null);
  return [
    gauge("cairn_unit_memory_size_bytes", "Memory of the machine.", memory.sizeBytes),
    gauge(
      "cairn_unit_memory_available_bytes",
      "Memory of the machine that could be had without swapping.",
      memory.availableBytes,
    ),
    gauge("cairn_unit_uptime_seconds", "Time since the daemon started.", sources.uptimeSeconds),
    gauge(
      "cairn_unit_load_ratio",
      "Runnable tasks per core over the last minute.",
      loadPermille() / 1000,
    ),
    gauge(
      "cairn_unit_stale_seconds",
      "Age of what it knows of the control state; 0 while the control store answers.",
      sources.staleMs / 1000,
    ),
    gauge("cairn_unit_links_count", "Links to other units that are up.", countUp(report.links)),
    gauge("cairn_unit_host_connections_count", "Host connections.", report.connections),
    gauge("cairn_unit_waiting_requests_count", "Requests waiting for a head.", report.waiting),
    gauge(
      "cairn_unit_heads_count",
      "Slices headed here.",
      sum((slice) => Number(slice.role === "head")),
    ),
    counter(
      "cairn_unit_resynced_bytes",
      "Bytes copied to members by heads here.",
      sum((slice) => slice.counters.resyncedBytes),
    ),
    counter(
      "cairn_unit_healed_blocks",
      "Blocks rewritten from another member.",
      sum((slice) => slice.counters.healed),
    ),
    counter(
      "cairn_unit_unreadable_blocks",
      "Blocks that no member could read.",
      sum((slice) => slice.counters.unreadable),
    ),
    counter(
      "cairn_unit_diverged_blocks",
      "Blocks in which two copies differ though both match their checksums.",
      sum((slice) => slice.counters.diverged),
    ),
    counter(
      "cairn_unit_carried_blocks",
      "Unreadable blocks that were marked so on new copies.",
      sum((slice) => slice.counters.carried),
    ),
    ...report.disks.flatMap(diskMetrics),
    ...clusterMetrics(units),
    ...pools.flatMap(poolMetrics),
    ...volumes.flatMap((volume) =>
      volumeMetrics(volume, someWork && lacksByMaintenance(volume, byNumber)),
    ),
    ...volumes.flatMap((volume) => askedMetrics(volume, sources.asked(volume.volume))),
  ];
}

function clusterMetrics(units: readonly UnitView[]): MetricSample[] {
  return [
    gauge("cairn_cluster_units_count", "Units of the cluster.", units.length),
    gauge(
      "cairn_cluster_units_up_count",
      "Of these, those that are up.",
      units.filter(({ alive }) => alive).length,
    ),
    gauge(
      "cairn_cluster_units_maintenance_count",
      "Of all, those that are in maintenance: whether up or away.",
      units.filter(({ maintenance }) => maintenance !== null).length,
    ),
    ...units.flatMap(clusterUnitMetrics),
  ];
}

function clusterUnitMetrics({ name, alive, maintenance }: UnitView): MetricSample[] {
  const labels = { unit: name };
  return [
    gauge("cairn_cluster_unit_up_state", "1: it is up.", Number(alive), labels),
    gauge(
      "cairn_cluster_unit_maintenance_state",
      "1: it is taken out for work, and may be away.",
      Number(maintenance !== null),
      labels,
    ),
  ];
}

function poolMetrics({ name, sizeBytes, freeBytes }: PoolView): MetricSample[] {
  const labels = { pool: name };
  return [
    gauge("cairn_pool_size_bytes", "Of disks that take slices.", sizeBytes, labels),
    gauge("cairn_pool_free_bytes", "What of it is promised to no slice.", freeBytes, labels),
  ];
}

/** Of volumes that hosts asked something of here. */
function askedMetrics(volume: VolumeView, counts: RequestCounts | null): MetricSample[] {
  if (counts === null) return [];
  const labels = { volume: volume.name };
  const { reads, writes, others, errors, readBytes, writeBytes, readMs, writeMs } = counts;
  const counted = (name: string, help: string, value: number): MetricSample => {
    return { ...counter(`cairn_volume_${name}`, help, value), labels };
  };
  return [
    counted("reads_count", "Reads of hosts, answered here.", reads),
    counted("writes_count", "Writes of hosts, answered here.", writes),
    counted("others_count", "Flushes, trims and the like, answered here.", others),
    counted("errors_count", "Of all these, those that ended with an error.", errors),
    counted("read_bytes", "Read by hosts here.", readBytes),
    counted("written_bytes", "Written by hosts here.", writeBytes),
    counted("read_seconds", "Sum of the time that the reads took.", readMs / 1000),
    counted("write_seconds", "Sum of the time that the writes took.", writeMs / 1000),
  ];
}

function diskMetrics(disk: OpenedDisk): MetricSample[] {
  const labels = { disk: disk.path };
  const { found, healed, unhealed, metadataMended, scrub } = disk.health;
  const counted = (name: string, help: string, value: number): MetricSample => {
    return { ...counter(name, help, value), labels };
  };
  return [
    gauge("cairn_disk_size_bytes", "What slices may use.", disk.sizeBytes, labels),
    gauge("cairn_disk_free_bytes", "What is free of it.", disk.freeBytes, labels),
    counted("cairn_disk_checksum_errors_blocks", "Blocks found wrong.", found),
    counted("cairn_disk_healed_blocks", "Of these, healed from another copy.", healed),
    gauge("cairn_disk_unhealed_blocks", "Wrong and not healed.", unhealed, labels),
    counted("cairn_disk_metadata_mended_pages", "Own pages written again.", metadataMended),
    counted("cairn_disk_scrubs_count", "Scrubs that came to their end.", scrub.count),
    gauge(
      "cairn_disk_scrub_ended_seconds",
      "When the last scrub ended, since 1970; 0: never.",
      Math.floor(scrub.endedAtMs / 1000),
      labels,
    ),
    gauge(
      "cairn_disk_scrub_progress_ratio",
      "How much of the running scrub is done; 0 while none runs.",
      scrub.percent / 100,
      labels,
    ),
    gauge(
      "cairn_disk_scrub_late_state",
      "1: the scrub cannot keep to its time at the rate that is set.",
      Number(scrub.late),
      labels,
    ),
  ];
}

/** Whether it lacks copies, and all of those are on units in maintenance. */
function lacksByMaintenance(volume: VolumeView, units: ReadonlyMap<number, UnitView>): boolean {
  const { copies } = layouts[volume.protection];
  let lacks = false;
  for (const { members } of volume.slices) {
    const missing = members.filter(
      ({ unit, state }) => state !== "in-sync" || units.get(unit)?.alive !== true,
    );
    const isOther = ({ unit }: { unit: number }) => (units.get(unit)?.maintenance ?? null) === null;
    if (members.length < copies || missing.some(isOther)) return false;
    lacks ||= missing.length > 0;
  }
  return lacks;
}

function volumeMetrics(volume: VolumeView, isWaiting: boolean): MetricSample[] {
  const labels = { volume: volume.name };
  return [
    gauge("cairn_volume_size_bytes", "Size.", volume.sizeBytes, labels),
    gauge(
      "cairn_volume_maintenance_state",
      "1: it lacks copies, and those of units in maintenance alone.",
      Number(isWaiting),
      labels,
    ),
    ...AVAILABILITIES.map((state) =>
      gauge(
        "cairn_volume_availability_state",
        "1 for the state it is in.",
        Number(volume.availability === state),
        { ...labels, state },
      ),
    ),
    ...PROTECTIONS.map((state) =>
      gauge(
        "cairn_volume_protection_state",
        "1 for the state it is in.",
        Number(volume.state === state),
        { ...labels, state },
      ),
    ),
  ];
}

function countUp(links: readonly { up: boolean }[]): number {
  return links.filter((link) => link.up).length;
}

function gauge(
  name: string,
  help: string,
  value: number,
  labels: Record<string, string> = {},
): MetricSample {
  return { name, help, type: "gauge", labels, value };
}

function counter(name: string, help: string, value: number): MetricSample {
  return { name, help, type: "counter", labels: {}, value };
}
