// SPDX-License-Identifier: Apache-2.0
//
// What the pages judge by themselves: health in words, what to do next, capacity; lines to attach.

import { describe, expect, test } from "bun:test";
import { MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import type { VolumeView } from "#appliance/backend.ts";
import { attachWays } from "./attach.ts";
import { capacityOf, healthOf, nextSteps } from "./health.ts";
import { type Reading, partOf, readAll, ROWS_OF_PAGE } from "./reading.ts";
import { firstForm } from "./volume-form.ts";

async function readingWith(more: Partial<VolumeView> = {}): Promise<Reading> {
  const backend = new MemoryBackend();
  const request = { name: "one", sizeBytes: 1 << 30, protection: "none" as const, hosts: ["db1"] };
  await backend.hosts.add({ name: "db1", addresses: ["::1"] });
  await backend.createVolume(request, { dryRun: false });
  const seen = readAll(backend);
  const units = (seen.units ?? []).map((unit) => ({ ...unit, alive: true }));
  const volumes = (seen.volumes ?? []).map((volume) => ({ ...volume, ...more }));
  return { ...seen, units, volumes };
}

describe("health", () => {
  test("all there → good; in no cluster → that it is in none", async () => {
    const seen = await readingWith();
    expect(healthOf(seen)).toMatchObject({ tone: "good", because: [] });
    const alone = { ...seen, status: { ...seen.status, cluster: null } };
    expect(healthOf(alone)).toMatchObject({ tone: "notice" });
  });

  test("something lacks, is away, old or failed → notice, with the reasons", async () => {
    const seen = await readingWith({ state: "at-risk" });
    const units = (seen.units ?? []).map((unit) => ({ ...unit, alive: unit.unit !== 2 }));
    const disks = seen.disks.map((disk) => (disk.disk === 1 ? { ...disk, state: "failed" } : disk));
    const otherClusters = ["attic (id 01234567)"];
    const status = { ...seen.status, staleMs: 5000, otherClusters };
    const { tone, because } = healthOf({ ...seen, units, disks, status });
    expect(tone).toBe("notice");
    expect(because).toEqual([
      "the control station does not answer",
      "another cluster in use has the same join secret and is near: attic (id 01234567)",
      "1 unit (cairn-0002) is away",
      "1 disk failed",
      "1 volume (one) lacks copies",
    ]);
  });

  test("a volume that hosts cannot use → bad, first of all", async () => {
    for (const availability of ["offline", "waiting", "read-only"] as const) {
      const { tone, because } = healthOf(await readingWith({ availability }));
      expect([tone, because[0]]).toEqual(["bad", `1 volume (one) is ${availability}`]);
    }
  });

  test("many named → only the first ones", async () => {
    const seen = await readingWith({ availability: "offline" });
    const [one] = seen.volumes ?? [];
    const volumes = Array.from({ length: 9 }, (_, at) => ({
      ...(one as VolumeView),
      name: `v${at}`,
    }));
    expect(healthOf({ ...seen, volumes }).because).toEqual([
      "9 volumes (v0, v1, v2, …) are offline",
    ]);
  });
});

test("next steps → what is missing, in order; none when all is done", async () => {
  const seen = await readingWith();
  const labels = (reading: Reading, hasPassword = true) =>
    nextSteps(reading, hasPassword).map((step) => step.label);
  const used = seen.disks.filter((disk) => disk.disk !== 0);
  const [one, other] = seen.units ?? [];
  const third = { ...one, unit: 3, name: "cairn-0003" };
  const done = { ...seen, disks: used, units: [one, other, third] as Reading["units"] };
  expect(labels(done)).toEqual([]);
  expect(labels(done, false)).toEqual(["Set a password"]);
  expect(labels({ ...done, disks: seen.disks, volumes: [] })).toEqual([
    "Make the first volume",
    "See why",
  ]);
  // Two units: one of them has the only vote.
  expect(labels({ ...done, units: seen.units })).toEqual([
    "See what stops when, and how to add one",
  ]);
  const closed = (seen.volumes ?? []).map((volume) => ({ ...volume, hosts: [] }));
  expect(labels({ ...done, volumes: closed })).toEqual(["Say which hosts may"]);
});

test("capacity → of ready disks of ours alone", async () => {
  const { disks } = await readingWith();
  const [first, strange, second] = disks;
  const changed = [{ ...first, freeBytes: 2 ** 30 }, { ...second, state: "away" }, strange];
  const bytes = { totalBytes: 10 * 2 ** 30, freeBytes: 2 ** 30, usedBytes: 9 * 2 ** 30 };
  expect(capacityOf(changed as typeof disks)).toEqual({ disks: 1, ...bytes });
});

test("a first volume's size → round, and a quarter of the room at most", () => {
  const size = (units: number, freeBytes: number) => firstForm(units, freeBytes, "").size;
  expect(size(1, 2 ** 40)).toBe("100G");
  expect(size(2, 2 ** 40)).toBe("100G");
  expect(size(3, 100 * 2 ** 30)).toBe("10G");
  expect(size(3, 2 ** 30)).toBe("100M");
  expect(size(3, 2 ** 20)).toBe("");
});

test("attach → the front's address, IPv6 as each host wants it; no way in → no lines", () => {
  const lines = (uris: string[]) => attachWays({ name: "one", uris }).map((way) => way.text);
  const [linux, qemu, libvirt, proxmox] = lines([
    "nbd://[fd00::7]:10810/one",
    "nbd://10.0.0.1/one",
  ]);
  expect(linux).toContain("nbd-client fd00::7 10810 /dev/nbd0 -name one ");
  expect(qemu).toContain("server.host=fd00::7,server.port=10810,export=one,");
  expect(libvirt).toContain('<host name="fd00::7" port="10810"/>');
  expect(proxmox).toContain("file=nbd://[fd00::7]:10810/one,");
  expect(lines(["nbd://10.0.0.1/one"])[0]).toContain("nbd-client 10.0.0.1 10809 ");
  expect(lines([])).toEqual([]);
});

test("a part of a list → within its ends, whatever page is asked for", () => {
  const list = Array.from({ length: ROWS_OF_PAGE * 2 + 1 }, (_, at) => at);
  expect(partOf(list, undefined)).toMatchObject({ page: 1, pages: 3, total: list.length });
  expect(partOf(list, "3").rows).toEqual([ROWS_OF_PAGE * 2]);
  for (const [asked, page] of [
    ["0", 1],
    ["99", 3],
    ["-1", 1],
    ["x", 1],
    ["1e9", 1],
  ] as const) {
    expect([asked, partOf(list, asked).page]).toEqual([asked, page]);
  }
  expect(partOf([], "2")).toEqual({ rows: [], page: 1, pages: 1, total: 0 });
});
