// SPDX-License-Identifier: Apache-2.0
//
// What takes a while, as one list.

import { expect, test } from "bun:test";
import { MemoryBackend } from "./api/memory-backend-fixture.ts";
import { type JobSources, jobsOf } from "./jobs.ts";

async function sources(): Promise<{ backend: MemoryBackend; read: () => JobSources }> {
  const backend = new MemoryBackend();
  const wish = { name: "v", sizeBytes: 1 << 30, protection: "mirror-2" as const };
  await backend.createVolume(wish, { dryRun: false });
  const read = () => ({
    units: backend.units(),
    disks: backend.disks(),
    volumes: backend.volumes(),
    copying: backend.neighbours.copied,
    wallMs: Date.UTC(2026, 0, 1),
  });
  return { backend, read };
}

test("a scrub that runs, and nothing else at first", async () => {
  const { read } = await sources();
  expect(jobsOf(read())).toEqual([
    {
      id: "scrub-1",
      kind: "scrub",
      about: "disk 1",
      percent: 40,
      leftMs: null,
      sentence: "it is read through",
    },
  ]);
});

test("copies of one volume are one job; what one of them does not know, none says", async () => {
  const { backend, read } = await sources();
  const resync = { slice: 4, volume: 1, target: 2, doneBytes: 10, totalBytes: 40, unit: 1 };
  const of = (...spans: (number | null)[]) => {
    const resyncs = spans.map((leftMs, at) => ({ ...resync, slice: at, leftMs }));
    backend.neighbours.copied = { resyncs, missing: [] };
    return jobsOf(read()).find(({ kind }) => kind === "copy");
  };
  expect(of(5000, 9000)).toMatchObject({ about: "volume v", percent: 25, leftMs: 9000 });
  expect(of(5000, null)).toMatchObject({ leftMs: null });
});

test("a unit that is emptied, a disk that is retired, a volume that waits to be gone", async () => {
  const { backend, read } = await sources();
  await backend.fleet.evacuate("2", { thenRemove: true, force: false, dryRun: false });
  await backend.deleteVolume("v", { graceMs: 60_000 });
  const disks = read().disks.map((disk) => {
    return disk.disk === 2 ? { ...disk, state: "leaving" } : disk;
  });
  const found = jobsOf({ ...read(), disks });
  expect(found.map(({ id, percent, leftMs }) => [id, percent, leftMs])).toEqual([
    ["evacuation-2", 25, 700_000],
    ["retirement-2", null, null],
    ["scrub-1", 40, null],
    ["deletion-1", null, 60_000],
  ]);
});
