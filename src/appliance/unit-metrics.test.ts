// SPDX-License-Identifier: Apache-2.0
//
// A unit's metrics, and that dashboard and alert rules in docs/monitoring ask for nothing that no
// unit gives.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import { noCounts } from "#base/request-meter.ts";
import { metricsText } from "./api/prometheus.ts";
import { MemoryBackend } from "./api/memory-backend-fixture.ts";
import type { OpenedDisk } from "./reactor-messages.ts";
import { unitMetrics } from "./unit-metrics.ts";

const MONITORING = path.resolve(import.meta.dir, "..", "..", "docs", "monitoring");
const PAGES = ["alerts.yml", "grafana-dashboard.json"] as const;

const scrub = { running: false, percent: 0, count: 1, endedAtMs: 5000, late: false };
const disk: OpenedDisk = {
  path: "/dev/sda",
  place: { path: "/dev/sda", offsetBytes: 0, sizeBytes: 1, direct: true },
  uuid: "0".repeat(32),
  clusterId: "0".repeat(32),
  number: 1,
  incarnation: 1,
  slices: 0,
  sizeBytes: 100,
  freeBytes: 40,
  health: { found: 3, healed: 2, unhealed: 1, recentPlaces: 1, metadataMended: 0, scrub },
};

async function withVolume(): Promise<MemoryBackend> {
  const backend = new MemoryBackend();
  const wish = { name: "v", sizeBytes: 1 << 30, protection: "mirror-2" as const };
  await backend.createVolume(wish, { dryRun: false });
  return backend;
}

function samples(backend: MemoryBackend) {
  return unitMetrics({
    report: {
      slices: [],
      kept: [],
      disks: [disk],
      links: [],
      connections: 2,
      attached: [],
      waiting: 0,
    },
    uptimeSeconds: 60,
    staleMs: 1500,
    units: backend.units(),
    pools: backend.pools.list(),
    volumes: backend.volumes(),
    asked: () => ({ ...noCounts(), reads: 4, readMs: 2500, readBytes: 4096 }),
  });
}

test("figures of unit, disks, cluster, pools, and what hosts asked", async () => {
  const lines = metricsText(samples(await withVolume())).split("\n");
  for (const line of [
    "cairn_unit_stale_seconds 1.5",
    "cairn_cluster_units_count 2",
    "cairn_cluster_units_up_count 1",
    'cairn_pool_free_bytes{pool="pool"} 21474836480',
    'cairn_disk_free_bytes{disk="/dev/sda"} 40',
    'cairn_volume_read_seconds{volume="v"} 2.5',
    'cairn_volume_reads_count{volume="v"} 4',
    "# TYPE cairn_volume_read_bytes counter",
  ]) {
    expect(lines).toContain(line);
  }
});

test("a unit in maintenance → what a volume lacks by it alone is told apart", async () => {
  const backend = await withVolume();
  const lines = () => metricsText(samples(backend)).split("\n");
  const waits = (state: number) => `cairn_volume_maintenance_state{volume="v"} ${state}`;
  expect(lines()).toContain(waits(0));
  await backend.fleet.maintain("cairn-0002", { forMs: 1000, force: false, dryRun: false });
  const [volume] = backend.volumes();
  if (volume === undefined) throw new Error("there is no volume");
  const member = (disk: number, unit: number) => ({ disk, unit, state: "in-sync" as const });
  const shown = backend.volumes.bind(backend);
  const membersAre = (members: ReturnType<typeof member>[]) => {
    const slices = volume.slices.map((slice) => ({ ...slice, members }));
    backend.volumes = () => shown().map((one) => ({ ...one, slices }));
  };
  expect(volume.slices.length).toBeGreaterThan(0);
  membersAre([member(1, 1), member(2, 2)]);
  const told = lines();
  expect(told).toContain(waits(1));
  expect(told).toContain("cairn_cluster_units_maintenance_count 1");
  expect(told).toContain('cairn_cluster_unit_maintenance_state{unit="cairn-0002"} 1');
  expect(told).toContain('cairn_cluster_unit_up_state{unit="cairn-0002"} 0');
  // A copy that is nowhere is another matter.
  membersAre([member(1, 1)]);
  expect(lines()).toContain(waits(0));
});

test.each(PAGES)("%s asks for metrics, labels and states that there are", async (page) => {
  const text = readFileSync(path.join(MONITORING, page), "utf8");
  const given = samples(await withVolume());
  const names = new Set(given.map(({ name }) => name));
  const asked = [...text.matchAll(/\bcairn_\w+/g)].map(([name]) => name);
  expect(asked.length).toBeGreaterThan(9);
  expect(asked.filter((name) => !names.has(name))).toEqual([]);
  // A selector such as {state!="online"}: the label and the value are among those given.
  for (const [, name, label, value] of text.matchAll(
    /\b(cairn_\w+)\{(\w+)!?=\\?"([^"\\]+)\\?"\}/g,
  )) {
    const family = given.filter((one) => one.name === name);
    const values = family.map(({ labels }) => labels[label ?? ""]);
    expect([name, label, values]).toEqual([name, label, expect.arrayContaining([value])]);
  }
});

test("the dashboard is JSON with a query in every panel", () => {
  const text = readFileSync(path.join(MONITORING, "grafana-dashboard.json"), "utf8");
  const { panels } = JSON.parse(text) as { panels: { title: string; targets: object[] }[] };
  expect(panels.length).toBeGreaterThan(10);
  expect(panels.filter(({ targets }) => targets.length === 0)).toEqual([]);
});
