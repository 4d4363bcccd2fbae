// SPDX-License-Identifier: Apache-2.0
//
// Signs a release: cuts the zeros off the end of its partitions, and writes manifest.json and
// manifest.json.sig beside the files of an update (docs/formats/update-manifest.md). Used by the
// image build, and by whoever makes releases:
//
//   node scripts/sign-manifest.mjs sign DIRECTORY [--version X.Y.Z] [--feature-level N]
//                                                 [--disk-format N] [--architecture NAME]
//   node scripts/sign-manifest.mjs keys           the trusted keys, for the image
//   node scripts/sign-manifest.mjs new-key FILE   a key of your own, to be kept elsewhere
//
// The key is an Ed25519 private key (PKCS 8, PEM) in the file that CAIRN_UPDATE_KEY names; without
// that, a development key made once under .cache/keys, good for nobody else's boxes. An image
// trusts the key that signs, and those in the file that CAIRN_UPDATE_KEYS_ALSO names (the same JSON
// as `keys` prints), so that keys can be replaced over two releases.

import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { generateKeyPairSync, sign as signBytes } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { closeSync, fsyncSync, ftruncateSync, readSync, readdirSync, renameSync } from "node:fs";
import { statSync, writeSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { CACHE, EXIT, ROOT, StepFailed, say } from "./steps.mjs";

const DEVELOPMENT_KEY = path.join(CACHE, "keys", "update.pem");
const MANIFEST = "manifest.json";
const SIGNATURE = "manifest.json.sig";

// ---- keys -----------------------------------------------------------------------------------

/** Makes an Ed25519 key; never over a file that is there. */
export function newKey(file) {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const { privateKey } = generateKeyPairSync("ed25519");
  const fd = openSync(file, "wx", 0o600);
  try {
    writeSync(fd, privateKey.export({ format: "pem", type: "pkcs8" }));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function readKey(file) {
  try {
    return createPrivateKey(readFileSync(file));
  } catch (cause) {
    throw new StepFailed(`sign: ${file} is no private key (PEM): ${cause.code ?? cause.message}`);
  }
}

/** The key that signs, with the name that manifests call it by. */
export function signingKey() {
  const named = process.env.CAIRN_UPDATE_KEY;
  const file = named ?? DEVELOPMENT_KEY;
  if (named === undefined && !existsSync(file)) {
    newKey(file);
    say(`sign: made a development key, ${path.relative(ROOT, file)}`);
  }
  const privateKey = readKey(file);
  if (privateKey.asymmetricKeyType !== "ed25519") {
    throw new StepFailed(`sign: ${file} is no Ed25519 key`);
  }
  const der = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  const publicKey = der.subarray(-32).toString("hex");
  const print = createHash("sha256").update(Buffer.from(publicKey, "hex")).digest("hex");
  const kind = named === undefined ? "development" : "release";
  return { keyId: `${kind}-${print.slice(0, 16)}`, publicKey, privateKey };
}

/** Text of /usr/share/cairn/update-keys.json: whom an image made here trusts. */
export function trustedKeysText() {
  const { keyId, publicKey } = signingKey();
  const also = process.env.CAIRN_UPDATE_KEYS_ALSO;
  const others = also === undefined ? [] : JSON.parse(readFileSync(also, "utf8"));
  const keys = [{ keyId, publicKey }, ...others.filter((one) => one.keyId !== keyId)];
  return `${JSON.stringify(keys, null, 2)}\n`;
}

// ---- what is signed -------------------------------------------------------------------------

/** The `roothash=` in a unified kernel image: section .cmdline (PE format, UAPI UKI). */
export function rootHashOf(uki) {
  const bytes = readFileSync(uki);
  const bad = (why) => new StepFailed(`sign: ${path.basename(uki)} is no kernel image: ${why}`);
  if (bytes.length < 0x40 || bytes.toString("latin1", 0, 2) !== "MZ") throw bad("no MZ header");
  const header = bytes.readUInt32LE(0x3c);
  if (header + 24 > bytes.length || bytes.toString("latin1", header, header + 4) !== "PE\0\0") {
    throw bad("no PE header");
  }
  const sections = bytes.readUInt16LE(header + 6);
  const table = header + 24 + bytes.readUInt16LE(header + 20);
  for (let at = table; at < table + sections * 40 && at + 40 <= bytes.length; at += 40) {
    const name = bytes.toString("latin1", at, at + 8).replace(/\0+$/, "");
    if (name !== ".cmdline") continue;
    const [size, from] = [bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 20)];
    const line = bytes.toString("utf8", from, from + size);
    const found = /(?:^|\s)roothash=([0-9a-fA-F]{64})(?:[\s\0]|$)/.exec(line)?.[1];
    if (found === undefined) throw bad("its command line has no roothash=");
    return found.toLowerCase();
  }
  throw bad("no .cmdline section");
}

function partitionId(hex) {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function onlyFile(directory, pattern, what) {
  const found = readdirSync(directory).filter((name) => pattern.test(name));
  if (found.length === 1) return found[0];
  throw new StepFailed(`sign: ${directory} has ${found.length} files for ${what}; one is needed`);
}

/**
 * Cuts what is zero off the end of a partition's file, to whole pages: whoever writes it makes the
 * rest of the partition zero.
 */
export function trimZeros(file) {
  const piece = Buffer.alloc(1 << 20);
  const zeros = Buffer.alloc(1 << 20);
  const fd = openSync(file, "r+");
  try {
    let end = statSync(file).size;
    while (end > 4096) {
      const length = Math.min(piece.length, end);
      readSync(fd, piece, 0, length, end - length);
      if (piece.subarray(0, length).equals(zeros.subarray(0, length))) {
        end -= length;
        continue;
      }
      const last = piece.subarray(0, length).findLastIndex((byte) => byte !== 0);
      end = end - length + last + 1;
      break;
    }
    const size = Math.max(4096, Math.ceil(end / 4096) * 4096);
    if (size < statSync(file).size) ftruncateSync(fd, size);
  } finally {
    closeSync(fd);
  }
}

async function fileEntry(directory, name, role) {
  const hash = createHash("sha256");
  const full = path.join(directory, name);
  for await (const piece of createReadStream(full)) hash.update(piece);
  return { name, role, bytes: statSync(full).size, sha256: hash.digest("hex") };
}

/** A constant of the source, where the command line does not say otherwise. */
function constantOf(file, name) {
  const text = readFileSync(path.join(ROOT, file), "utf8");
  const found = new RegExp(`export const ${name} = (\\d+);`).exec(text)?.[1];
  if (found === undefined) throw new StepFailed(`sign: ${file} has no ${name}`);
  return Number(found);
}

function dateOfBuild() {
  const epoch = process.env.SOURCE_DATE_EPOCH;
  const date = epoch === undefined ? new Date() : new Date(Number(epoch) * 1000);
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}

function writeDurably(file, content) {
  const fresh = `${file}.tmp`;
  const fd = openSync(fresh, "w", 0o644);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, file);
}

/** Writes manifest and signature for the files of one version in a directory; the manifest. */
export async function signRelease(directory, options = {}) {
  const ukiName = onlyFile(
    directory,
    options.version === undefined
      ? /^cairn_\d+\.\d+\.\d+\.efi$/
      : new RegExp(`^cairn_${quoted(options.version)}\\.efi$`),
    "the kernel image",
  );
  const version = ukiName.slice("cairn_".length, -".efi".length);
  const part = (role) =>
    onlyFile(directory, new RegExp(`^cairn_${quoted(version)}\\.${role}(\\..+)?\\.raw$`), role);
  for (const role of ["root", "hash"]) trimZeros(path.join(directory, part(role)));
  const rootHash = rootHashOf(path.join(directory, ukiName));
  const root = await fileEntry(directory, part("root"), "root");
  const hash = await fileEntry(directory, part("hash"), "hash");
  const manifest = {
    format: 1,
    product: "cairn",
    version,
    featureLevel: options.featureLevel ?? constantOf("src/appliance/version.ts", "FEATURE_LEVEL"),
    diskFormat: options.diskFormat ?? constantOf("src/store/format.wire.ts", "FORMAT_VERSION"),
    architecture: options.architecture ?? "x86-64",
    files: [
      { ...root, partitionUuid: partitionId(rootHash.slice(0, 32)) },
      { ...hash, partitionUuid: partitionId(rootHash.slice(-32)) },
      await fileEntry(directory, ukiName, "uki"),
    ],
    built: dateOfBuild(),
  };
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  const { keyId, privateKey } = signingKey();
  const signature = signBytes(null, Buffer.from(text), privateKey).toString("base64");
  writeDurably(path.join(directory, MANIFEST), text);
  writeDurably(path.join(directory, SIGNATURE), `${JSON.stringify({ keyId, signature })}\n`);
  return manifest;
}

function quoted(text) {
  return text.replace(/[^A-Za-z0-9]/g, "\\$&");
}

// ---- the command ----------------------------------------------------------------------------

function wholeNumber(text, name) {
  if (text === undefined) return undefined;
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new StepFailed(`sign: --${name} needs a number`, { exitStatus: EXIT.usage });
}

async function main(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      version: { type: "string" },
      "feature-level": { type: "string" },
      "disk-format": { type: "string" },
      architecture: { type: "string" },
    },
  });
  const [command, place, ...rest] = positionals;
  if (command === "keys" && place === undefined)
    return void process.stdout.write(trustedKeysText());
  if (command === "new-key" && place !== undefined && rest.length === 0) return newKey(place);
  if (command !== "sign" || place === undefined || rest.length > 0) {
    const usage = "usage: node scripts/sign-manifest.mjs sign DIRECTORY | keys | new-key FILE";
    throw new StepFailed(usage, { exitStatus: EXIT.usage });
  }
  const manifest = await signRelease(place, {
    version: values.version,
    featureLevel: wholeNumber(values["feature-level"], "feature-level"),
    diskFormat: wholeNumber(values["disk-format"], "disk-format"),
    architecture: values.architecture,
  });
  say(`sign: ${path.join(place, MANIFEST)} for version ${manifest.version}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  main(process.argv.slice(2)).catch((error) => {
    if (!(error instanceof StepFailed)) throw error;
    say(error.message);
    process.exit(error.exitStatus);
  });
}
