// SPDX-License-Identifier: Apache-2.0
//
// A process that makes a lab with something of every kind and then waits to be ended, for
// lab.test.ts: prints the lab's folder, then its number.

import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { Lab } from "./lab.ts";
import { MountSpace } from "./mount-space.ts";

const lab = new Lab();
const unit = lab.add();
// By their length the test knows them from those of others.
const nap = `1000.${process.pid}`;
lab.spawn("sleeper", "sleep", [nap]);
const inside = ["netns", "exec", unit.namespace, "setsid", "--fork", "sleep", nap];
spawnSync("ip", inside, { stdio: "ignore" });

const file = path.join(lab.folder, "loop.img");
writeFileSync(file, "");
truncateSync(file, 64 << 20);
spawnSync("mkfs.ext4", ["-q", file]);
const loop = spawnSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).stdout.trim();
lab.record.willMake("loops", loop);
const folder = path.join(lab.folder, "mounted");
mkdirSync(folder);
lab.record.willMake("loops", loop);
const space = await MountSpace.open(lab);
const [enter, ...mount] = space.inside(["mount", loop, folder]);
if (spawnSync(enter, mount).status !== 0) throw new Error(`${loop} cannot be mounted`);

process.stdout.write(`${lab.folder}\n${lab.record.number}\n${loop}\n`);
setInterval(() => lab.checkOpen(), 1000);
