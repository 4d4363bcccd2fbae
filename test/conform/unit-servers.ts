// SPDX-License-Identifier: Apache-2.0
//
// The real thing as a server of the conformance suite: units of the executable in a lab of their
// own (namespaces, links, disks), with one volume for this machine. Ending the server removes the
// lab, and so does a start that failed.

import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { assembled, createVolume, headOf, protectedEverywhere } from "#test/cluster/assembled.ts";
import { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { run } from "./programs.ts";
import type { Server } from "./servers.ts";

const DISK_BYTES = 512 << 20;
/** Smaller than the volume, so that requests are split at a slice's border. */
const SLICE_BYTES = 32 << 20;
const START_MS = 45_000;
const NAME = "vol";

/** One unit whose disk is a plain file. */
export function unitOnFile(sizeBytes: number): Promise<Server> {
  return serve(async (lab) => {
    lab.add({ diskBytes: DISK_BYTES }).start();
    await volumeOf(lab, { sizeBytes, protection: "none" });
    return lab.unit(1);
  }, sizeBytes);
}

/** One unit whose disk is a block device: a loop device, which has direct I/O. */
export function unitOnLoopDevice(sizeBytes: number): Promise<Server> {
  return serve(async (lab) => {
    const device = await loopDevice(lab, "backing.img", DISK_BYTES);
    lab.add({ disks: 0, settings: { sliceBytes: SLICE_BYTES, disks: [device] } }).start();
    await volumeOf(lab, { sizeBytes, protection: "none" });
    return lab.unit(1);
  }, sizeBytes);
}

/** Two units with a copy each; the host is attached to the one that is not the head (in-band). */
export function unitInBand(sizeBytes: number): Promise<Server> {
  return serve(async (lab) => {
    lab.add({ diskBytes: DISK_BYTES }).start();
    lab.add({ diskBytes: DISK_BYTES }).start();
    await volumeOf(lab, { sizeBytes, protection: "mirror-2" });
    const head = await lab.until("a head", () => headOf(lab, NAME), START_MS);
    return lab.unit(head.place === 1 ? 2 : 1);
  }, sizeBytes);
}

async function serve(start: (lab: Lab) => Promise<LabUnit>, sizeBytes: number): Promise<Server> {
  const lab = new Lab({ unit: { settings: { sliceBytes: SLICE_BYTES } } });
  try {
    const unit = await start(lab);
    return {
      facts: {
        host: unit.address,
        port: 10809,
        name: NAME,
        sizeBytes,
        readOnlyName: null,
        description: null,
        minimumBlockBytes: 512,
        multiConn: true,
        thin: true,
        extended: true,
        isQemu: false,
      },
      async [Symbol.asyncDispose]() {
        try {
          // Whatever a check did to it: it still runs, and stops in order.
          await Promise.all(lab.units.map((one) => one.stop()));
        } finally {
          await lab.end();
        }
      },
    };
  } catch (error) {
    await lab.end();
    throw error;
  }
}

async function volumeOf(
  lab: Lab,
  wish: { sizeBytes: number; protection: "none" | "mirror-2" },
): Promise<void> {
  await lab.until("one cluster", () => assembled(lab), START_MS);
  await createVolume(lab, { name: NAME, ...wish });
  await lab.until("a volume that is whole", () => protectedEverywhere(lab, NAME), START_MS);
}

/** A loop device on a fresh file of the lab's folder. */
export async function loopDevice(lab: Lab, name: string, sizeBytes: number): Promise<string> {
  const file = path.join(lab.folder, name);
  writeFileSync(file, "");
  truncateSync(file, sizeBytes);
  const device = (await run("losetup", ["--find", "--show", file])).trim();
  lab.record.willMake("loops", device);
  return device;
}
