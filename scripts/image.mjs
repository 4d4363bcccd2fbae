// SPDX-License-Identifier: Apache-2.0
//
// `npm run image`: the bootable image and its release artefacts in dist/image.
//
// mkosi of a pinned version runs in a tools tree of its own (both fetched from Debian and kept in
// .cache/image), so that the machine's programs do not matter. What is particular to this machine
// (package sources, keys, folders) is generated below .cache and never lies in the tree. Every step
// builds under a temporary name and renames; an interrupted run leaves the old or the new.

import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { createHash } from "node:crypto";
import { SUITE, debianSuites, fetchPackages, proxySettings, sourceLines } from "./apt.mjs";
import { EXECUTABLE } from "./build.mjs";
import { CACHE, EXIT, ROOT, StepFailed, mustRun, say, withLock } from "./steps.mjs";

const TREE = path.join(ROOT, "image");
const BOOT = path.join(ROOT, "firmware", "boot");
const WORK = path.join(CACHE, "image");
const KEYS = path.join(CACHE, "keys");
export const RELEASE = path.join(ROOT, "dist", "image");
const PINS = JSON.parse(readFileSync(path.join(TREE, "versions.json"), "utf8"));
const COMPONENTS = "main non-free-firmware";

function seconds(startMs) {
  return `${((Date.now() - startMs) / 1000).toFixed(1)} s`;
}

function fingerprint(value) {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

/** Makes a folder under a temporary name unless its mark says that it is the wanted one. */
async function keep(name, wanted, what, make) {
  const folder = path.join(WORK, name);
  const mark = path.join(WORK, `${name}.is`);
  if (existsSync(folder) && existsSync(mark) && readFileSync(mark, "utf8") === wanted) {
    return folder;
  }
  const start = Date.now();
  say(`image: ${what}`);
  const fresh = path.join(WORK, `${name}.new`);
  rmSync(mark, { force: true });
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  await make(fresh);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  writeFileSync(mark, wanted);
  say(`image: ${what}: done (${seconds(start)})`);
  return folder;
}

// ---- tools --------------------------------------------------------------------------------

function fetchMkosi() {
  return keep("mkosi", PINS.mkosi, `fetching mkosi ${PINS.mkosi}`, async (fresh) => {
    const work = path.join(fresh, "apt");
    const unpacked = await fetchPackages("mkosi", [`mkosi=${PINS.mkosi}`], work);
    renameSync(path.join(unpacked, "usr", "lib", "python3", "dist-packages"), `${fresh}/python`);
    rmSync(work, { recursive: true, force: true });
  });
}

function makeToolsTree() {
  const wanted = fingerprint([SUITE, PINS.toolsPackages]);
  return keep("tools", wanted, "making the tools tree", async (fresh) => {
    const sources = path.join(WORK, "tools.sources.list");
    writeFileSync(sources, sourceLines(debianSuites(), COMPONENTS));
    const packages = `--include=${PINS.toolsPackages.join(",")}`;
    const flags = ["--quiet", "--variant=apt", "--mode=root", packages];
    await mustRun("mmdebstrap", "mmdebstrap", [...flags, SUITE, fresh, sources]);
  });
}

/** What mkosi's apt is to use: this machine's mirrors and proxy, in an ignored folder. */
function writeSandboxTree() {
  const folder = path.join(WORK, "sandbox");
  const lists = path.join(folder, "etc", "apt", "sources.list.d");
  const settings = path.join(folder, "etc", "apt", "apt.conf.d");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(lists, { recursive: true });
  mkdirSync(settings, { recursive: true });
  const signed = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const entries = debianSuites().map(
    ({ uri, suite }) =>
      `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: ${COMPONENTS}\nSigned-By: ${signed}\n`,
  );
  writeFileSync(path.join(lists, "mkosi.sources"), entries.join("\n"));
  writeFileSync(path.join(settings, "90-proxy"), `${proxySettings()}\n`);
  return folder;
}

// ---- keys ---------------------------------------------------------------------------------

/** The key that signs boot loader and kernel: the one named, or a development key made here. */
async function secureBootKey() {
  const key = process.env.CAIRN_SECURE_BOOT_KEY;
  const certificate = process.env.CAIRN_SECURE_BOOT_CERTIFICATE;
  if ((key === undefined) !== (certificate === undefined)) {
    throw new StepFailed("CAIRN_SECURE_BOOT_KEY and CAIRN_SECURE_BOOT_CERTIFICATE go together", {
      exitStatus: EXIT.usage,
    });
  }
  if (key !== undefined) return { key, certificate };
  const made = { key: `${KEYS}/secure-boot.key`, certificate: `${KEYS}/secure-boot.crt` };
  if (existsSync(made.key) && existsSync(made.certificate)) return made;
  say("image: making a development key for secure boot in .cache/keys");
  mkdirSync(KEYS, { recursive: true, mode: 0o700 });
  const files = ["-keyout", `${made.key}.new`, "-out", made.certificate];
  const shape = ["-newkey", "rsa:2048", "-noenc", "-days", "7300", "-subj", "/CN=Cairn development"];
  await mustRun("openssl", "openssl", ["req", "-new", "-x509", "-sha256", ...shape, ...files]);
  renameSync(`${made.key}.new`, made.key);
  return made;
}

// ---- the build ----------------------------------------------------------------------------

/** Time of the commit: the age of everything in the image. */
function commitTime() {
  const answer = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: ROOT, encoding: "utf8" });
  const time = Number.parseInt(answer.stdout ?? "", 10);
  if (Number.isSafeInteger(time)) return time;
  return Math.floor(statSync(path.join(ROOT, "package.json")).mtimeMs / 1000);
}

function kernelArguments() {
  const lines = readFileSync(path.join(BOOT, "cmdline"), "utf8").split("\n");
  return lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
}

async function runMkosi({ mkosi, tools, sandbox, keys, version }) {
  const folders = { output: "output", cache: "cache", "package-cache": "packages" };
  const flags = [];
  for (const [name, folder] of Object.entries({ ...folders, workspace: "workspace" })) {
    mkdirSync(path.join(WORK, folder), { recursive: true });
    flags.push(`--${name}-directory=${path.join(WORK, folder)}`);
  }
  for (const name of readdirSync(path.join(WORK, "workspace"))) {
    rmSync(path.join(WORK, "workspace", name), { recursive: true, force: true });
  }
  flags.push(
    "--force",
    "--incremental=yes",
    `--directory=${TREE}`,
    `--tools-tree=${tools}`,
    `--sandbox-tree=${sandbox}`,
    `--image-version=${version}`,
    `--seed=${PINS.seed}`,
    `--source-date-epoch=${commitTime()}`,
    `--extra-tree=${EXECUTABLE}:/usr/bin/cairn`,
    "--secure-boot=yes",
    `--secure-boot-key=${keys.key}`,
    `--secure-boot-certificate=${keys.certificate}`,
    "--sign-expected-pcr=no",
    ...kernelArguments().map((argument) => `--kernel-command-line=${argument}`),
  );
  const env = {
    PYTHONPATH: path.join(mkosi, "python"),
    PYTHONDONTWRITEBYTECODE: "1",
    SYSTEMD_REPART_MKFS_OPTIONS_EROFS: "-zlz4hc,12 -C65536 -Efragments,dedupe,ztailpacking",
  };
  const python = ["-m", "mkosi", ...flags, "build"];
  await mustRun("mkosi", "/usr/bin/python3", python, { env, show: true, limitMinutes: 45 });
}

export async function buildImage(_bun, args) {
  if (args.length > 0) {
    throw new StepFailed("usage: npm run image", { exitStatus: EXIT.usage });
  }
  return await withLock("image", async () => {
    const start = Date.now();
    mkdirSync(WORK, { recursive: true });
    const version = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")).version;
    const mkosi = await fetchMkosi();
    const tools = await makeToolsTree();
    const sandbox = writeSandboxTree();
    const keys = await secureBootKey();
    await runMkosi({ mkosi, tools, sandbox, keys, version });
    say(`image: built (${seconds(start)})`);
    return 0;
  });
}
