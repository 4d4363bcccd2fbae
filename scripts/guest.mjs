// SPDX-License-Identifier: Apache-2.0
//
// What a small guest boots that is a host of a cluster: Debian's kernel and its modules, a static
// busybox; unpacked below `.cache/guest`. All else of the guest comes from this machine.

import { existsSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fetchPackages } from "./apt.mjs";
import { CACHE, StepFailed, mustRun, say } from "./steps.mjs";

export const GUEST = path.join(CACHE, "guest");
const DONE = path.join(GUEST, "VERSION");
const KERNEL = "linux-image-amd64"; // names the newest kernel by its dependency

/** The version of the kernel that is there, or null. */
function kernelVersion(folder) {
  const modules = path.join(folder, "usr", "lib", "modules");
  if (!existsSync(modules)) return null;
  return readdirSync(modules)[0] ?? null;
}

/** Package of the newest kernel, as the unpacked one that depends on it says. */
function kernelPackage(archives) {
  const found = readdirSync(archives).find((name) => name.startsWith(`${KERNEL}_`));
  const file = path.join(archives, found ?? "none");
  const answer = spawnSync("dpkg-deb", ["--field", file, "Depends"], { encoding: "utf8" });
  const name = /\blinux-image-[a-z0-9.+-]+/.exec(answer.stdout ?? "")?.[0];
  if (name === undefined) throw new StepFailed(`${KERNEL} names no kernel`);
  return name;
}

export async function fetchGuest() {
  if (existsSync(DONE) && kernelVersion(GUEST) === readFileSync(DONE, "utf8").trim()) return;
  say("setup: fetching Debian's kernel and busybox for a guest");
  const work = path.join(CACHE, "guest.new");
  rmSync(work, { recursive: true, force: true });
  await fetchPackages("the guest's kernel", [KERNEL, "busybox-static"], work);
  const name = kernelPackage(path.join(work, "archives"));
  const unpacked = await fetchPackages("the guest's kernel", [name], work);
  const version = kernelVersion(unpacked);
  if (version === null) throw new StepFailed(`${name} holds no modules`);
  await mustRun("depmod", "depmod", ["--basedir", path.join(unpacked, "usr"), version]);
  rmSync(GUEST, { recursive: true, force: true });
  renameSync(unpacked, GUEST);
  rmSync(work, { recursive: true, force: true });
  writeFileSync(DONE, `${version}\n`);
  say(`setup: Debian's kernel ${version} is there`);
}
