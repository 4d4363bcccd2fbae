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
import { CACHE, EXIT, ROOT, StepFailed, mustRun, runChild, say, wait, which } from "./steps.mjs";

// Program that must be there, and the Debian package that brings it.
const BUILD_PROGRAMS = [
  ["zstd", "zstd"],
  ["dpkg-deb", "dpkg"],
];
const MACHINE_PROGRAMS = [
  ["blkid", "util-linux"],
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
  ["nbdinfo", "libnbd-bin"],
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
export const PROGRAMS = {
  none: [],
  build: BUILD_PROGRAMS,
  machine: [...BUILD_PROGRAMS, ...MACHINE_PROGRAMS],
};

const APT_ATTEMPTS_MAX = 3;
const APT_RETRY_MS = 5_000;
const ETCD_SUITE = "trixie"; // the oldest Debian suite with etcd 3.5
const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
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

function isRoot() {
  return process.getuid?.() === 0;
}

async function aptGet(what, args, options = {}) {
  const all = ["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", ...args];
  const env = { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" };
  for (let attempt = 1; ; attempt++) {
    const result = await runChild("apt-get", all, { env, limitMinutes: 20, ...options });
    if (result.status === 0) return;
    if (attempt === APT_ATTEMPTS_MAX) {
      throw new StepFailed(`${what} failed ${attempt} times; the last lines:\n${result.output}`);
    }
    say(`setup: ${what} failed, trying again in ${APT_RETRY_MS / 1000} s`);
    await wait(APT_RETRY_MS);
  }
}

async function installPrograms(programs) {
  const pending = path.join(CACHE, "apt-unfinished");
  const missing = programs.filter(([program]) => which(program) === null);
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
  const still = programs.filter(([program]) => which(program) === null);
  if (still.length > 0) {
    const list = still.map(([program, name]) => `${program} (${name})`).join(", ");
    throw new StepFailed(`installed, but not found: ${list}`, { exitStatus: EXIT.missing });
  }
  rmSync(pending, { force: true });
  say(`setup: Debian packages are there (${seconds(start)})`);
}

// ---- etcd ---------------------------------------------------------------------------------

/** The Debian mirror this machine's apt uses; it is asked for, never written down. */
function debianMirror() {
  const format = "$(CREATED_BY)|$(LABEL)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)";
  const answer = spawnSync("apt-get", ["indextargets", "--format", format], { encoding: "utf8" });
  const rows = (answer.stdout ?? "").split("\n").map((line) => line.split("|"));
  const main = rows.filter((row) => row[0] === "Packages" && row[3] === "main" && row[4]);
  const named = main.find((row) => row[1] === "Debian" && !row[2]?.includes("-"));
  const guess = main.find((row) => !/security|backports|updates/.test(row.join("|")));
  return (named ?? guess)?.[4] ?? null;
}

/** An apt of our own: its lists, cache and sources in one folder, the machine's keys and proxy. */
function privateApt(folder, mirror, suite) {
  for (const name of ["lists/partial", "archives/partial", "parts"]) {
    mkdirSync(path.join(folder, name), { recursive: true });
  }
  const source = path.join(folder, "sources.list");
  writeFileSync(source, `deb [signed-by=${DEBIAN_KEYRING}] ${mirror} ${suite} main\n`);
  const settings = {
    "Dir::Etc::SourceList": source,
    "Dir::Etc::SourceParts": path.join(folder, "parts"),
    "Dir::State::Lists": path.join(folder, "lists"),
    "Dir::Cache": folder,
    "Dir::Cache::Archives": path.join(folder, "archives"),
    "APT::Sandbox::User": isRoot() ? "root" : "",
    "Acquire::Languages": "none",
    "Acquire::AllowInsecureRepositories": "false",
    "APT::Get::AllowUnauthenticated": "false",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

function etcdVersion(file) {
  if (!isExecutable(file)) return null;
  const answer = spawnSync(file, ["--version"], { encoding: "utf8" });
  return /etcd Version: (\d+\.\d+\.\d+)/.exec(answer.stdout ?? "")?.[1] ?? null;
}

function etcdComplete() {
  const done = path.join(ETCD, "VERSION");
  if (!existsSync(done) || !existsSync(path.join(ETCD, "etcd.zst"))) return false;
  return etcdVersion(path.join(ETCD, "etcd")) === readFileSync(done, "utf8").trim();
}

async function downloadEtcd(apt, folder) {
  await aptGet("apt-get update for etcd", [...apt, "update"]);
  const archives = path.join(folder, "archives");
  await aptGet("downloading etcd", [...apt, "download", "etcd-server", "etcd-client"], {
    cwd: archives,
  });
  const unpacked = path.join(folder, "unpacked");
  for (const name of readdirSync(archives).filter((entry) => entry.endsWith(".deb"))) {
    await mustRun("unpacking etcd", "dpkg-deb", ["-x", path.join(archives, name), unpacked]);
  }
  return path.join(unpacked, "usr", "bin");
}

async function fetchEtcd() {
  if (etcdComplete()) return;
  const start = Date.now();
  say(`setup: fetching etcd from Debian ${ETCD_SUITE} and packing it for the executable`);
  if (which("apt-get") === null || !existsSync(DEBIAN_KEYRING)) {
    throw new StepFailed("fetching etcd needs apt-get and the package debian-archive-keyring", {
      exitStatus: EXIT.missing,
    });
  }
  const mirror = debianMirror();
  if (mirror === null) throw new StepFailed("apt has no Debian mirror configured");
  const fresh = path.join(CACHE, "etcd.new");
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const work = path.join(fresh, "apt");
  const programs = await downloadEtcd(privateApt(work, mirror, ETCD_SUITE), work);
  const version = etcdVersion(path.join(programs, "etcd"));
  if (version === null || !version.startsWith("3.5.")) {
    throw new StepFailed(`the downloaded etcd is ${version ?? "not running here"}, not 3.5`);
  }
  for (const name of ["etcd", "etcdctl", "etcdutl"]) {
    const from = path.join(programs, name);
    if (existsSync(from)) copyFileSync(from, path.join(fresh, name));
  }
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
  const mirror = debianMirror();
  if (mirror === null) throw new StepFailed("apt has no Debian mirror configured");
  const fresh = path.join(CACHE, "qemu.new");
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const work = path.join(fresh, "apt");
  const apt = privateApt(work, mirror, QEMU_SUITE);
  await aptGet("apt-get update for qemu", [...apt, "update"]);
  const archives = path.join(work, "archives");
  await aptGet("downloading qemu", [...apt, "download", "qemu-utils"], { cwd: archives });
  for (const name of readdirSync(archives).filter((entry) => entry.endsWith(".deb"))) {
    await mustRun("unpacking qemu", "dpkg-deb", ["-x", path.join(archives, name), fresh]);
  }
  rmSync(work, { recursive: true, force: true });
  if (!qemuSuffices(path.join(fresh, "usr", "bin", "qemu-img"))) {
    throw new StepFailed("the downloaded qemu does not run here, or is too old");
  }
  rmSync(QEMU, { recursive: true, force: true });
  renameSync(fresh, QEMU);
  say(`setup: a newer qemu-utils is there (${seconds(start)})`);
}

// ---- the whole ----------------------------------------------------------------------------

/** Brings the machine to what a task needs and returns the path of Bun. */
export async function setUp({ programs, etcd }) {
  await installPackages();
  const bun = findBun();
  findBiome();
  await installPrograms(PROGRAMS[programs]);
  if (programs === "machine") await fetchQemu();
  if (etcd) await fetchEtcd();
  return bun;
}
