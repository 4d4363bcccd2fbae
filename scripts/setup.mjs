// SPDX-License-Identifier: Apache-2.0
//
// Everything a fresh Debian 12 or 13 machine lacks: npm packages, Debian packages, etcd 3.5.
//
// Each step looks at what is there first and does nothing when that is enough; it builds under a
// temporary name and renames, so that a Ctrl-C at any moment leaves either the old or the new
// state. No address of a mirror or a registry is known here: npm and apt use their own settings.

import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { SUITE, aptGet, debianMirrors, fetchPackages, isRoot } from "./apt.mjs";
import { CACHE, EXIT, ROOT, StepFailed, mustRun, runChild, say, which } from "./steps.mjs";

// Program (or file, by its whole path) that must be there, and the Debian package that brings it.
const BUILD_PROGRAMS = [
  ["zstd", "zstd"],
  ["dpkg-deb", "dpkg"],
];
const MACHINE_PROGRAMS = [
  ["blkid", "util-linux"],
  ["chromium", "chromium"],
  ["e2fsck", "e2fsprogs"],
  ["fio", "fio"],
  ["fusermount3", "fuse3"],
  ["ip", "iproute2"],
  ["losetup", "mount"],
  ["mcopy", "mtools"],
  ["mkfs.ext4", "e2fsprogs"],
  ["mkfs.vfat", "dosfstools"],
  ["modprobe", "kmod"],
  ["mount", "mount"],
  ["nbdcopy", "libnbd-bin"],
  ["nbdfuse", "libnbd-bin"],
  ["nbdinfo", "libnbd-bin"],
  ["nbdsh", "python3-libnbd"],
  ["nft", "nftables"],
  ["openssl", "openssl"],
  ["partx", "util-linux"],
  ["ps", "procps"],
  ["qemu-img", "qemu-utils"],
  ["qemu-io", "qemu-utils"],
  ["qemu-nbd", "qemu-utils"],
  ["qemu-storage-daemon", "qemu-system-common"],
  ["setpriv", "util-linux"],
  ["sfdisk", "fdisk"],
  ["strace", "strace"],
  ["unshare", "util-linux"],
  ["wipefs", "util-linux"],
];
// mkosi brings all else that it needs in its tools tree.
const IMAGE_PROGRAMS = [
  ["mmdebstrap", "mmdebstrap"],
  ["openssl", "openssl"],
  ["python3", "python3"],
];
// Guests that boot the image, by the QEMU of the tools tree.
const GUEST_PROGRAMS = [
  ["dnsmasq", "dnsmasq-base"],
  ["truncate", "coreutils"],
];
// The servers that `npm run bench` compares with, besides qemu-nbd.
const BENCH_PROGRAMS = [
  ["nbd-server", "nbd-server"],
  ["nbdkit", "nbdkit"],
];
// For hosts in guests, which have them from this machine.
const HOST_PROGRAMS = [["nbd-client", "nbd-client"]];
export const PROGRAMS = {
  none: [],
  build: BUILD_PROGRAMS,
  machine: [...BUILD_PROGRAMS, ...MACHINE_PROGRAMS],
  image: [...BUILD_PROGRAMS, ...IMAGE_PROGRAMS],
  test: [...BUILD_PROGRAMS, ...MACHINE_PROGRAMS, ...IMAGE_PROGRAMS, ...GUEST_PROGRAMS],
  bench: [...BUILD_PROGRAMS, ...MACHINE_PROGRAMS, ...BENCH_PROGRAMS],
  host: HOST_PROGRAMS,
};

const ETCD = path.join(CACHE, "etcd");
// The oldest qemu that speaks NBD's extended headers, and the suite that has one for Debian 12.
const QEMU_LEAST = [8, 2];
const QEMU_SUITE = "bookworm-backports";
const QEMU = path.join(CACHE, "qemu");

function seconds(startMs) {
  return `${((Date.now() - startMs) / 1000).toFixed(1)} s`;
}

// ---- npm packages -------------------------------------------------------------------------

function readJson(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

/**
 * npm writes its own lock file into node_modules as the last act of an installation, so it says
 * what is really there, also after an interrupted run.
 */
export function packagesComplete() {
  const installedFile = path.join(ROOT, "node_modules", ".package-lock.json");
  if (!existsSync(installedFile)) return false;
  const wanted = readJson(path.join(ROOT, "package-lock.json")).packages;
  const installed = readJson(installedFile).packages;
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === "" || entry.optional) continue; // optional: other platforms
    if (installed[name]?.version !== entry.version) return false;
    if (!existsSync(path.join(ROOT, name, "package.json"))) return false;
  }
  return true;
}

async function installPackages() {
  if (packagesComplete()) return;
  const start = Date.now();
  say("setup: installing the npm packages of package-lock.json");
  const args = ["ci", "--no-audit", "--no-fund"];
  const result = await runChild("npm", args, { limitMinutes: 15 });
  if (result.status !== 0) {
    say("setup: npm ci failed, trying once more");
    await mustRun("npm ci", "npm", args, { limitMinutes: 15 });
  }
  if (!packagesComplete()) throw new StepFailed("npm ci ended well, but packages are missing");
  say(`setup: npm packages are there (${seconds(start)})`);
}

// The `bun` package puts its executable in place by an install script, which npm may be told not
// to run; then the platform package still holds it.
function bunCandidates() {
  const found = [path.join(ROOT, "node_modules", "bun", "bin", "bun.exe")];
  const platforms = path.join(ROOT, "node_modules", "@oven");
  if (existsSync(platforms)) {
    for (const name of readdirSync(platforms).sort()) {
      found.push(path.join(platforms, name, "bin", "bun"));
    }
  }
  return found;
}

function isExecutable(file) {
  if (!existsSync(file)) return false;
  const magic = Buffer.alloc(4);
  const descriptor = openSync(file, "r");
  readSync(descriptor, magic, 0, 4, 0);
  closeSync(descriptor);
  return magic.toString("latin1") === "\x7fELF";
}

// Tools for the children's PATH are links in `.cache/bin`.
function linkTool(name, target) {
  const folder = path.join(CACHE, "bin");
  mkdirSync(folder, { recursive: true });
  const temporary = path.join(folder, `${name}.${process.pid}.tmp`);
  rmSync(temporary, { force: true });
  symlinkSync(target, temporary);
  renameSync(temporary, path.join(folder, name));
}

/** Biome's platform package is used without its wrapper, which pulls in all platforms. */
function findBiome() {
  const platform = `cli-linux-${process.arch}`;
  const biome = path.join(ROOT, "node_modules", "@biomejs", platform, "biome");
  if (isExecutable(biome)) linkTool("biome", biome);
}

/** Path of a Bun that runs. */
function findBun() {
  const wanted = readJson(path.join(ROOT, "package.json")).devDependencies.bun;
  for (const candidate of bunCandidates()) {
    if (!isExecutable(candidate)) continue;
    const answer = spawnSync(candidate, ["--version"], { encoding: "utf8" });
    if (answer.status !== 0 || answer.stdout.trim() !== wanted) continue;
    linkTool("bun", candidate);
    return candidate;
  }
  throw new StepFailed(
    `no Bun ${wanted} that runs here under node_modules; it needs Linux on x86-64 with SSE4.2, ` +
      "or on arm64. Remove node_modules and try again.",
    { exitStatus: EXIT.missing },
  );
}

// ---- Debian packages ----------------------------------------------------------------------

function isAbsent(program) {
  return program.startsWith("/") ? !existsSync(program) : which(program) === null;
}

/** Programs by name, each with the Debian package that brings it. */
export async function installPrograms(programs) {
  const pending = path.join(CACHE, "apt-unfinished");
  const missing = programs.filter(([program]) => isAbsent(program));
  const repair = existsSync(pending);
  if (missing.length === 0 && !repair) return;
  const packages = [...new Set(missing.map(([, name]) => name))].sort();
  const names = missing.map(([program]) => program).join(", ");
  if (which("apt-get") === null) {
    throw new StepFailed(`missing programs: ${names}. This set-up knows Debian 12 and 13 only.`, {
      exitStatus: EXIT.missing,
    });
  }
  if (!isRoot()) {
    throw new StepFailed(
      `missing programs: ${names}. Run as root, or: apt-get install ${packages.join(" ")}`,
      { exitStatus: EXIT.missing },
    );
  }
  const start = Date.now();
  say(`setup: installing Debian packages: ${packages.join(" ") || "(finishing an earlier run)"}`);
  // A Ctrl-C may leave dpkg half way; the mark makes the next run finish that first.
  writeFileSync(pending, "");
  if (repair) await mustRun("dpkg --configure", "dpkg", ["--configure", "--pending"]);
  await aptGet("apt-get update", ["update"]);
  if (repair) await aptGet("apt-get --fix-broken", ["install", "--fix-broken", "--yes"]);
  if (packages.length > 0) {
    await aptGet("apt-get install", ["install", "--yes", "--no-install-recommends", ...packages]);
  }
  const still = programs.filter(([program]) => isAbsent(program));
  if (still.length > 0) {
    const list = still.map(([program, name]) => `${program} (${name})`).join(", ");
    throw new StepFailed(`installed, but not found: ${list}`, { exitStatus: EXIT.missing });
  }
  rmSync(pending, { force: true });
  say(`setup: Debian packages are there (${seconds(start)})`);
}

// ---- etcd ---------------------------------------------------------------------------------

function etcdVersion(file) {
  if (!isExecutable(file)) return null;
  const answer = spawnSync(file, ["--version"], { encoding: "utf8" });
  return /etcd Version: (\d+\.\d+\.\d+)/.exec(answer.stdout ?? "")?.[1] ?? null;
}

function etcdComplete() {
  const done = path.join(ETCD, "VERSION");
  const files = [done, path.join(ETCD, "etcd.zst"), path.join(ETCD, "copyright")];
  if (!files.every((file) => existsSync(file))) return false;
  return etcdVersion(path.join(ETCD, "etcd")) === readFileSync(done, "utf8").trim();
}

async function fetchEtcd() {
  if (etcdComplete()) return;
  const start = Date.now();
  say(`setup: fetching etcd from Debian ${SUITE} and packing it for the executable`);
  const fresh = path.join(CACHE, "etcd.new");
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const work = path.join(fresh, "apt");
  const unpacked = await fetchPackages("etcd", ["etcd-server", "etcd-client"], work);
  const programs = path.join(unpacked, "usr", "bin");
  const version = etcdVersion(path.join(programs, "etcd"));
  if (version === null || !version.startsWith("3.5.")) {
    throw new StepFailed(`the downloaded etcd is ${version ?? "not running here"}, not 3.5`);
  }
  for (const name of ["etcd", "etcdctl", "etcdutl"]) {
    const from = path.join(programs, name);
    if (existsSync(from)) copyFileSync(from, path.join(fresh, name));
  }
  const documents = path.join(unpacked, "usr", "share", "doc", "etcd-server");
  copyFileSync(path.join(documents, "copyright"), path.join(fresh, "copyright"));
  const packed = path.join(fresh, "etcd.zst");
  await mustRun("packing etcd", "zstd", [
    "-q",
    "-19",
    "-T0",
    path.join(fresh, "etcd"),
    "-o",
    packed,
  ]);
  rmSync(work, { recursive: true, force: true });
  writeFileSync(path.join(fresh, "VERSION"), `${version}\n`);
  rmSync(ETCD, { recursive: true, force: true });
  renameSync(fresh, ETCD);
  const megabytes = (statSync(path.join(ETCD, "etcd.zst")).size / 1e6).toFixed(1);
  say(`setup: etcd ${version} is there, ${megabytes} MB packed (${seconds(start)})`);
}

// ---- a newer qemu -------------------------------------------------------------------------

/** Whether a qemu-img is there, runs, and is new enough. */
function qemuSuffices(file) {
  if (file === null || !existsSync(file)) return false;
  const answer = spawnSync(file, ["--version"], { encoding: "utf8" });
  const found = /version (\d+)\.(\d+)/.exec(answer.stdout ?? "");
  if (found === null) return false;
  const [major, minor] = [Number(found[1]), Number(found[2])];
  return major > QEMU_LEAST[0] || (major === QEMU_LEAST[0] && minor >= QEMU_LEAST[1]);
}

/**
 * The conformance suite's newer clients, where the machine's own are too old (Debian 12). What they
 * need besides themselves is what the machine's own need.
 */
async function fetchQemu() {
  const own = path.join(QEMU, "usr", "bin", "qemu-img");
  if (qemuSuffices(which("qemu-img")) || qemuSuffices(own)) return;
  const start = Date.now();
  say(`setup: fetching a newer qemu-utils from Debian ${QEMU_SUITE}, for tests`);
  const work = path.join(CACHE, "qemu.new");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const suites = [{ uri: debianMirrors().main, suite: QEMU_SUITE }];
  const unpacked = await fetchPackages("qemu", ["qemu-utils"], work, suites);
  if (!qemuSuffices(path.join(unpacked, "usr", "bin", "qemu-img"))) {
    throw new StepFailed("the downloaded qemu does not run here, or is too old");
  }
  rmSync(QEMU, { recursive: true, force: true });
  renameSync(unpacked, QEMU);
  rmSync(work, { recursive: true, force: true });
  say(`setup: a newer qemu-utils is there (${seconds(start)})`);
}

// ---- the whole ----------------------------------------------------------------------------

/** Brings the machine to what a task needs and returns the path of Bun. */
export async function setUp({ programs, etcd }) {
  await installPackages();
  const bun = findBun();
  findBiome();
  await installPrograms(PROGRAMS[programs]);
  if (programs === "machine" || programs === "test") await fetchQemu();
  if (etcd) await fetchEtcd();
  return bun;
}
