// SPDX-License-Identifier: Apache-2.0
//
// Disks that are taken out of running boxes and put back, and one that fails and is returned to use
// by its owner, while a host writes. Each box runs as an appliance with loop devices as its disks:
// of this machine's disks it sees those that a folder of links names. Root only.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import type { DiskView, EventView } from "#appliance/backend.ts";
import { assembled, createVolume, headOf, protectedEverywhere } from "./assembled.ts";
import { LIMIT_MS, MIB, Probes, SLICE_BYTES, VOLUME } from "./cluster-fixture.ts";
import { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { MountSpace } from "./mount-space.ts";
import { need } from "./until.ts";

setDefaultTimeout(4 * LIMIT_MS);

const DISK_BYTES = 256 * MIB;
const TOKEN = "the-owner-of-three-boxes";

/** A box with one disk, which can be pulled. */
class Box {
  readonly unit: LabUnit;
  readonly device: string;
  readonly #file: string;
  readonly #link: string;

  private constructor(unit: LabUnit, disk: { file: string; device: string; link: string }) {
    this.unit = unit;
    this.#file = disk.file;
    this.device = disk.device;
    this.#link = disk.link;
  }

  static async make(lab: Lab): Promise<Box> {
    const space = await MountSpace.open(lab);
    const place = lab.units.length + 1;
    const folder = path.join(lab.folder, `box-${place}`);
    const inside = (name: string) => path.join(folder, name);
    for (const name of ["esp", "stick", "run", "disks"])
      mkdirSync(inside(name), { recursive: true });
    const medium = {
      name: `unit-${place}`, // as the lab calls it
      joinSecret: lab.joinSecret,
      sliceBytes: SLICE_BYTES,
      adminTokenHash: createHash("sha256").update(TOKEN).digest("hex"),
    };
    writeFileSync(path.join(inside("esp"), "cairn.json"), JSON.stringify(medium));
    const file = inside("disk.img");
    writeFileSync(file, "");
    truncateSync(file, DISK_BYTES);
    const device = must("losetup", ["--find", "--show", file]).trim();
    lab.record.willMake("loops", device);
    const link = path.join(inside("disks"), path.basename(device));
    symlinkSync(device, link);
    const flags = ["--esp", inside("esp"), "--medium", inside("stick")];
    flags.push("--run-directory", inside("run"), "--disks-in", inside("disks"));
    const unit = lab.add({ disks: 0, appliance: { flags, space } });
    return new Box(unit, { file, device, link });
  }

  pull(): void {
    rmSync(this.#link);
  }
  putBack(): void {
    symlinkSync(this.device, this.#link);
  }

  /** From now on its disk answers with I/O errors; what it held is kept aside as of now. */
  break(): void {
    this.unit.freeze();
    try {
      must("cp", ["--sparse=always", this.#file, `${this.#file}.kept`]);
      truncateSync(this.#file, MIB);
      must("losetup", ["--set-capacity", this.device]);
    } finally {
      this.unit.thaw();
    }
  }
  mend(): void {
    must("dd", [`if=${this.#file}.kept`, `of=${this.#file}`, "bs=1M", "conv=notrunc,sparse"]);
    expect(statSync(this.#file).size).toBe(DISK_BYTES);
    must("losetup", ["--set-capacity", this.device]);
  }
}

function must(program: string, words: string[]): string {
  const done = spawnSync(program, words, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${program} ${words.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

let lab: Lab;
const boxes: Box[] = [];
beforeAll(async () => {
  lab = new Lab();
  for (let place = 0; place < 3; place++) boxes.push(await Box.make(lab));
  for (const { unit } of boxes) unit.start();
  await lab.until("one cluster of all boxes", () => assembled(lab), LIMIT_MS);
  await createVolume(lab, { name: VOLUME, sizeBytes: 2 * SLICE_BYTES }, LIMIT_MS);
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

async function boxOfHead(): Promise<Box> {
  const head = await headOf(lab, VOLUME);
  return boxes.find((box) => box.unit === head) as Box;
}

async function diskOf(box: Box): Promise<DiskView> {
  const { unit } = await box.unit.api.status();
  const found = (await lab.anyApi().disks()).find((one) => one.unit === unit && one.disk > 0);
  if (found === undefined) throw new Error(`${box.unit.name} has no disk`);
  return found;
}

/** The disk serves nothing, by its record as every other box has it. */
async function outOfUse(disk: number): Promise<DiskView> {
  const look = async () => {
    const view = (await lab.anyApi().disks()).find((one) => one.disk === disk);
    const volume = await lab.anyApi().volume(VOLUME);
    const members = volume.slices.flatMap((slice) => slice.members.map((member) => member.disk));
    need(!members.includes(disk), `disk ${disk} still is a member`);
    need(view?.state === "failed", `disk ${disk} is ${view?.state}`);
    return view as DiskView;
  };
  return lab.until(`disk ${disk} is out of use`, look, LIMIT_MS);
}

async function told(kind: string, disk: number): Promise<EventView> {
  const look = async () => {
    const events = (await lab.anyApi().events()).filter((event) => event.kind === kind);
    const found = events.findLast(({ sentence }) => sentence.includes(`disk ${disk} of`));
    need(found !== undefined, `told: ${events.map((event) => event.sentence).join("; ")}`);
    return found as EventView;
  };
  return lab.until(`an event ${kind}`, look, LIMIT_MS);
}

test("the head's disk is pulled, put back, twice → served on, whole, no restart", async () => {
  await using probes = new Probes(lab, [boxes[2]?.unit as LabUnit]);
  await probes.write();
  for (let time = 0; time < 2; time++) {
    const box = await boxOfHead();
    const { pid } = box.unit;
    const { disk } = await diskOf(box);
    box.pull();
    const out = await outOfUse(disk);
    expect(out.reason).toContain("it was taken out while in use");
    await probes.write();
    box.putBack();
    await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
    expect((await diskOf(box)).state).toBe("ready");
    expect(box.unit.pid).toBe(pid);
    expect((await told("disk-out", disk)).severity).toBe("alarm");
    await told("disk-back", disk);
    await probes.write();
  }
  // All that was written is read again, through both doors.
  await probes.finish();
});

test("the head's disk fails → served on; its owner returns it → whole, no restart", async () => {
  await using probes = new Probes(lab, [boxes[2]?.unit as LabUnit]);
  await probes.write();
  const box = await boxOfHead();
  const { pid } = box.unit;
  const { disk } = await diskOf(box);
  box.break();
  const out = await outOfUse(disk);
  expect(out.reason).toMatch(/E(IO|NOSPC)/);
  await probes.write();
  box.mend();
  // R10: nothing is retried into success.
  await expect(lab.anyApi().returnDisk(disk + 40)).rejects.toThrow("no disk");
  expect((await diskOf(box)).state).toBe("failed");
  await lab.anyApi().returnDisk(disk);
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  expect((await diskOf(box)).state).toBe("ready");
  expect(box.unit.pid).toBe(pid);
  expect((await told("disk-failed", disk)).sentence).toContain("unless it is returned to use");
  await told("disk-back", disk);
  await probes.finish();
});

test("a disk is retired; its owner thinks better of it → used again, nothing lost", async () => {
  const box = await boxOfHead();
  const { disk } = await diskOf(box);
  await lab.anyApi().retireDisk(disk);
  const empty = async () => {
    const view = await diskOf(box);
    need(view.state === "leaving", `it is ${view.state}`);
    need(view.slices.length === 0, `${view.slices.length} slices are on it`);
    return view;
  };
  const view = await lab.until("it is empty", empty, LIMIT_MS);
  expect(view.reason).toContain("retired by its owner");
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  await lab.anyApi().returnDisk(disk);
  expect((await diskOf(box)).state).toBe("ready");
  await expect(lab.anyApi().returnDisk(disk)).rejects.toThrow("nothing to return");
});
