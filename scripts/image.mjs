// SPDX-License-Identifier: Apache-2.0
//
// `npm run image`: the bootable image and its release artefacts in dist/image.
//
// mkosi runs in a tools tree of its own (both fetched from Debian and kept in .cache/image), so
// that the machine's programs do not matter. What is particular to this machine
// (package sources, keys, folders) is generated below .cache and never lies in the tree. Every step
// builds under a temporary name and renames; an interrupted run leaves the old or the new.

import { spawnSync } from "node:child_process";
import { closeSync, existsSync, lstatSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { readSync, readdirSync, readlinkSync, renameSync, rmSync, statSync } from "node:fs";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { SUITE, debianSuites, fetchPackages, proxySettings, sourceLines } from "./apt.mjs";
import { EXECUTABLE } from "./build.mjs";
import { billOfMaterials, writeNotices } from "./image-notices.mjs";
import { differences, inWords, readRecord, recordOf } from "./image-packages.mjs";
import { withDifferences, writeRecord } from "./image-packages.mjs";
import { signRelease, trustedKeysText } from "./sign-manifest.mjs";
import { CACHE, EXIT, ROOT, StepFailed, mustRun, runChild, say, withLock } from "./steps.mjs";

const TREE = path.join(ROOT, "image");
const BOOT = path.join(ROOT, "firmware", "boot");
const WORK = path.join(CACHE, "image");
const OUTPUT = path.join(WORK, "output");
// Becomes /usr/share/cairn.
const SHARE = path.join(WORK, "share");
const KEYS = path.join(CACHE, "keys");
export const RELEASE = path.join(ROOT, "dist", "image");
const PINS = JSON.parse(readFileSync(path.join(TREE, "versions.json"), "utf8"));
const COMPONENTS = "main non-free-firmware";
const EROFS_OPTIONS = "-zlz4hc,12 -C65536 -Efragments,dedupe,ztailpacking";
const COMPRESSED_MB_MAX = 300;
const LOG_LINES = 60;

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
  return keep("mkosi", SUITE, `fetching mkosi of Debian ${SUITE}`, async (fresh) => {
    const work = path.join(fresh, "apt");
    const unpacked = await fetchPackages("mkosi", ["mkosi"], work);
    const archives = path.join(work, "archives");
    const archive = readdirSync(archives).find((name) => name.startsWith("mkosi_")) ?? "none";
    const fields = ["--field", path.join(archives, archive), "Version"];
    const version = spawnSync("dpkg-deb", fields, { encoding: "utf8" }).stdout.trim();
    if (version === "") throw new StepFailed("mkosi was fetched, and does not say its version");
    writeFileSync(path.join(fresh, "VERSION"), `${version}\n`);
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

/** Name and version of mkosi and of every package of the tools tree. */
function toolsFound({ mkosi, tools }) {
  const version = readFileSync(path.join(mkosi, "VERSION"), "utf8").trim();
  const status = readFileSync(path.join(tools, "var", "lib", "dpkg", "status"), "utf8");
  const installed = status.split("\n\n").filter((entry) => /^Status: .* installed$/m.test(entry));
  const field = (entry, name) => new RegExp(`^${name}: (.*)$`, "m").exec(entry)?.[1] ?? "";
  const rows = installed.map((entry) => {
    return { name: field(entry, "Package"), version: field(entry, "Version") };
  });
  return [...rows, { name: "mkosi", version }].sort((a, b) => (a.name < b.name ? -1 : 1));
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
  const entries = debianSuites().map(({ uri, suite }) =>
    [
      "Types: deb",
      `URIs: ${uri}`,
      `Suites: ${suite}`,
      `Components: ${COMPONENTS}`,
      `Signed-By: ${signed}`,
      "",
    ].join("\n"),
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
  const shape = [
    "-newkey",
    "rsa:2048",
    "-noenc",
    "-days",
    "7300",
    "-subj",
    "/CN=Cairn development",
  ];
  await mustRun("openssl", "openssl", ["req", "-new", "-x509", "-sha256", ...shape, ...files]);
  renameSync(`${made.key}.new`, made.key);
  return made;
}

// ---- the build ----------------------------------------------------------------------------

function packageVersion() {
  return JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")).version;
}

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

/** Marks of everything that the image is made of, so that an unchanged one is not built again. */
function inputsOf({ version, keys, time }) {
  const files = [EXECUTABLE, keys.certificate, path.join(WORK, "tools.is")];
  for (const folder of [TREE, BOOT, SHARE]) files.push(...filesBelow(folder));
  for (const name of ["image.mjs", "image-notices.mjs", "image-packages.mjs"]) {
    files.push(path.join(ROOT, "scripts", name));
  }
  const hash = createHash("sha256").update(JSON.stringify([version, time]));
  for (const file of files) {
    const link = lstatSync(file).isSymbolicLink();
    hash.update(`${path.relative(ROOT, file)}\n`);
    hash.update(
      createHash("sha256")
        .update(link ? readlinkSync(file) : readFileSync(file))
        .digest(),
    );
  }
  return hash.digest("hex");
}

function filesBelow(folder) {
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name);
    if (entry.isDirectory()) found.push(...filesBelow(full));
    else found.push(full);
  }
  return found.sort();
}

async function runMkosi({ mkosi, tools, sandbox, keys, version, time }) {
  const folders = { output: OUTPUT, cache: path.join(WORK, "cache") };
  folders["package-cache"] = path.join(WORK, "packages");
  folders.workspace = path.join(WORK, "workspace");
  // An interrupted run leaves its workspace behind.
  rmSync(folders.workspace, { recursive: true, force: true });
  const flags = [];
  for (const [name, folder] of Object.entries(folders)) {
    mkdirSync(folder, { recursive: true });
    flags.push(`--${name}-directory=${folder}`);
  }
  flags.push(
    "--force",
    "--incremental=yes",
    `--directory=${TREE}`,
    `--tools-tree=${tools}`,
    `--sandbox-tree=${sandbox}`,
    `--image-version=${version}`,
    `--seed=${PINS.seed}`,
    `--source-date-epoch=${time}`,
    `--extra-tree=${EXECUTABLE}:/usr/bin/cairn`,
    `--extra-tree=${SHARE}:/usr/share/cairn`,
    "--secure-boot=yes",
    `--secure-boot-key=${keys.key}`,
    `--secure-boot-certificate=${keys.certificate}`,
    "--sign-expected-pcr=no",
    ...kernelArguments().map((argument) => `--kernel-command-line=${argument}`),
  );
  const env = {
    PYTHONPATH: path.join(mkosi, "python"),
    PYTHONDONTWRITEBYTECODE: "1",
    SYSTEMD_REPART_MKFS_OPTIONS_EROFS: EROFS_OPTIONS,
  };
  const log = path.join(WORK, "mkosi.log");
  const command = ["-c", `exec "$@" >"$0" 2>&1`, log, "/usr/bin/python3", "-m", "mkosi"];
  const result = await runChild("sh", [...command, ...flags, "build"], { env, limitMinutes: 45 });
  if (result.status === 0) return;
  const lines = readFileSync(log, "utf8").trimEnd().split("\n").slice(-LOG_LINES);
  throw new StepFailed(
    `mkosi failed; the end of ${path.relative(ROOT, log)}:\n${lines.join("\n")}`,
  );
}

// ---- versions -----------------------------------------------------------------------------

/** Tells what is not as recorded, and refuses it where that is wanted. */
function tellDifferences(found, { locked }) {
  if (found.length === 0) return;
  say(`image: ${found.length} packages are not those of image/packages.lock.json:`);
  for (const line of inWords(found)) say(`    ${line}`);
  if (locked) throw new StepFailed("--locked: the recorded package versions are not to be had");
}

/** Text of the bill of what was built just now, compared with the record. */
function billOfBuild({ version, time, mkosi, tools }, { locked, updateLock }) {
  const manifests = ["cairn", "initrd"].map((name) => path.join(OUTPUT, `${name}.manifest`));
  const notices = path.join(OUTPUT, "notices");
  const found = toolsFound({ mkosi, tools });
  const bill = billOfMaterials({ version, built: time, manifests, notices, tools: found });
  if (updateLock) {
    writeRecord(recordOf(bill));
    say("image: image/packages.lock.json holds the versions of this build");
  }
  const others = differences(readRecord(), recordOf(bill));
  tellDifferences(others, { locked });
  return `${JSON.stringify(withDifferences(bill, others), null, 2)}\n`;
}

/** The same for an image that is there already. */
function compareRelease(folder, { locked }) {
  const bill = JSON.parse(readFileSync(path.join(folder, "sbom.json"), "utf8"));
  tellDifferences(differences(readRecord(), recordOf(bill)), { locked });
}

// ---- release artefacts ----------------------------------------------------------------------

function sha256Of(file) {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(4 << 20);
  const descriptor = openSync(file, "r");
  for (let length = -1; length !== 0;) {
    length = readSync(descriptor, piece, 0, piece.length, null);
    hash.update(piece.subarray(0, length));
  }
  closeSync(descriptor);
  return hash.digest("hex");
}

async function makeRelease({ version, time, folder, bill }) {
  const fresh = `${folder}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  for (const kind of ["raw", "efi", "root.raw", "hash.raw"]) {
    renameSync(path.join(OUTPUT, `cairn.${kind}`), path.join(fresh, `cairn_${version}.${kind}`));
  }
  process.env.SOURCE_DATE_EPOCH = String(time);
  await signRelease(fresh, { version });
  writeFileSync(path.join(fresh, "sbom.json"), bill);
  const image = path.join(fresh, `cairn_${version}.raw`);
  await mustRun("zstd", "zstd", ["-q", "-T0", "-9", image, "-o", `${image}.zst`]);
  const megabytes = statSync(`${image}.zst`).size / 1e6;
  if (megabytes > COMPRESSED_MB_MAX) {
    throw new StepFailed(`the compressed image has ${megabytes.toFixed(0)} MB`);
  }
  const sums = readdirSync(fresh).sort();
  const rows = sums.map((name) => `${sha256Of(path.join(fresh, name))}  ${name}\n`);
  writeFileSync(path.join(fresh, "SHA256SUMS"), rows.join(""));
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  return megabytes;
}

// ---- the whole ----------------------------------------------------------------------------

function options(args) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        version: { type: "string" },
        output: { type: "string" },
        locked: { type: "boolean" },
        "update-lock": { type: "boolean" },
        again: { type: "boolean" },
      },
    });
    return values;
  } catch (cause) {
    const usage = "npm run image -- [--version X.Y.Z] [--output FOLDER] [--locked] [--update-lock]";
    throw new StepFailed(`${cause.message}\nusage: ${usage} [--again]`, { exitStatus: EXIT.usage });
  }
}

export async function buildImage(_bun, args) {
  const values = options(args);
  const version = values.version ?? packageVersion();
  if (!/^\d{1,5}\.\d{1,5}\.\d{1,5}$/.test(version)) {
    throw new StepFailed(`no version: ${version}`, { exitStatus: EXIT.usage });
  }
  const folder = path.resolve(values.output ?? RELEASE);
  return await withLock("image", async () => {
    const start = Date.now();
    mkdirSync(WORK, { recursive: true });
    const mkosi = await fetchMkosi();
    const tools = await makeToolsTree();
    const sandbox = writeSandboxTree();
    const keys = await secureBootKey();
    const time = commitTime();
    writeNotices(path.join(SHARE, "notices"));
    writeFileSync(path.join(SHARE, "update-keys.json"), trustedKeysText());
    writeFileSync(path.join(SHARE, "version"), `${version}\n`);
    writeFileSync(
      path.join(SHARE, "appliance"),
      "This is Cairn's image, and the box is Cairn's.\n",
    );
    const inputs = inputsOf({ version, keys, time });
    const mark = path.join(folder, ".inputs");
    const known = existsSync(mark) && readFileSync(mark, "utf8") === inputs;
    if (known && !values.again && !values["update-lock"]) {
      compareRelease(folder, { locked: values.locked });
      return 0;
    }
    say(`image: building version ${version}; what mkosi says is in .cache/image/mkosi.log`);
    await runMkosi({ mkosi, tools, sandbox, keys, version, time });
    const wanted = { locked: values.locked, updateLock: values["update-lock"] };
    const bill = billOfBuild({ version, time, mkosi, tools }, wanted);
    const megabytes = await makeRelease({ version, time, folder, bill });
    // The record of this build is one of the inputs.
    writeFileSync(mark, wanted.updateLock ? inputsOf({ version, keys, time }) : inputs);
    const place = path.relative(ROOT, folder);
    say(`image: ${place}, ${megabytes.toFixed(0)} MB compressed (${seconds(start)})`);
    return 0;
  });
}
