// SPDX-License-Identifier: Apache-2.0
//
// Disks that are being opened when the unit's run ends: no descriptor is left behind, at whichever
// step of looking, formatting and opening it was. A real reactor on a real file.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createReactorWorld } from "#machine/main-world.ts";
import { runReactor } from "#machine/reactor-fixture.ts";
import { HeldDisks } from "./held-disks.ts";

const MIB = 1 << 20;
const DISK_BYTES = 256 * MIB;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-held-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function descriptorsOn(file: string): number {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // the list's own
    }
  });
  return targets.filter((target) => target === file).length;
}

/** Opens the disk and ends the run after `ticks` ticks; what was told. */
function endAfter(file: string, ticks: number): string[] {
  const told: string[] = [];
  runReactor((reactor, finish) => {
    const world = createReactorWorld(reactor.clock, () => {});
    const disks = new HeldDisks(world, reactor, {
      opened: () => void told.push("opened"),
      refused: (_path, sentence) => void told.push(sentence),
      failed: () => void told.push("failed"),
    });
    disks.memoryDirectory = folder;
    const identity = { clusterId: "ab".repeat(16), uuid: "cd".repeat(16) };
    const place = { path: file, offsetBytes: 0, sizeBytes: DISK_BYTES, direct: false };
    const more = { leftClusters: [], anew: false, cacheLost: false };
    disks.open({ kind: "openDisk", place, identity, ...more });
    let left = ticks;
    const wait = () => {
      if (left-- > 0) return reactor.defer(wait);
      const before = told.length;
      disks.closeAll(() => {
        expect(told.length).toBe(before); // nothing of it is told any more
        expect(descriptorsOn(file)).toBe(0);
        disks.open({ kind: "openDisk", place, identity, ...more });
        expect(descriptorsOn(file)).toBe(0);
        finish();
      });
    };
    wait();
  });
  return told;
}

test("the run ends while a disk is being formatted or opened → closed, then it has ended", () => {
  const file = path.join(folder, "disk.img");
  writeFileSync(file, "");
  truncateSync(file, DISK_BYTES);
  let inTheMiddle = 0;
  let told: string[] = [];
  for (let ticks = 0; told.length === 0; ticks = ticks * 2 + 1) {
    told = endAfter(file, ticks);
    if (told.length === 0) inTheMiddle++;
    expect(descriptorsOn(file)).toBe(0);
  }
  expect(told).toEqual(["opened"]);
  expect(inTheMiddle).toBeGreaterThan(0);
});
