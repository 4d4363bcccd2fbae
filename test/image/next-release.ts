// SPDX-License-Identifier: Apache-2.0
//
// Releases for the tests of updates, made from the one under test: its root unpacked, changed by a
// few files, packed again and hashed anew, its kernel image rebuilt with the new hash, all signed
// with the keys of this build. What is the same in both is the same bytes; a whole second build
// would take minutes longer and prove no more.
//
// The programs are those of the image build's tools tree, run inside of it, in a mount namespace of
// their own that ends with them.

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import type { Release } from "./release.ts";
import { TOOLS_TREE } from "./tools-tree.ts";

const ROOT = path.resolve(import.meta.dir, "..", "..");
const CACHE = path.join(ROOT, ".cache");
/** As scripts/image.mjs takes them: the owner's, or this machine's for development. */
const KEY = process.env["CAIRN_SECURE_BOOT_KEY"] ?? path.join(CACHE, "keys", "secure-boot.key");
const CERTIFICATE =
  process.env["CAIRN_SECURE_BOOT_CERTIFICATE"] ?? path.join(CACHE, "keys", "secure-boot.crt");
const STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const STEP_MS = 15 * 60_000;
const BLOCK_BYTES = 4096;

/** Paths below the root of the image, and what they hold then. */
export type ChangedFiles = Readonly<Record<string, string>>;

export class ReleaseWorkshop {
  readonly #release: Release;
  readonly #folder: string;
  #unpacked = false;

  /** `folder` has room for the root, unpacked and packed. */
  constructor(release: Release, folder: string) {
    if (!existsSync(TOOLS_TREE))
      throw new Error(`${TOOLS_TREE}: npm run image makes the tools tree`);
    this.#release = release;
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  /** A signed release of another version; answers its directory, as an update is loaded from. */
  make(version: string, files: ChangedFiles = {}): string {
    this.#unpack();
    const place = `release-${version}`;
    const full = path.join(this.#folder, place);
    mkdirSync(full);
    this.#change({ "usr/share/cairn/version": `${version}\n`, ...files });
    const root = `${place}/cairn_${version}.root.raw`;
    const hash = `${place}/cairn_${version}.hash.raw`;
    this.#tool("mkfs.erofs", ["-zlz4", "-C65536", "--quiet", `/mnt/${root}`, "/mnt/root"]);
    this.#padToBlocks(root);
    const hashFile = `--root-hash-file=/mnt/${place}/roothash`;
    this.#tool("veritysetup", ["format", `/mnt/${root}`, `/mnt/${hash}`, hashFile]);
    const rootHash = readFileSync(path.join(full, "roothash"), "utf8").trim();
    rmSync(path.join(full, "roothash"));
    this.#buildKernel(version, { place, rootHash });
    sign(full, version);
    return full;
  }

  #unpack(): void {
    if (this.#unpacked) return;
    const { directory, version } = this.#release;
    cpSync(path.join(directory, `cairn_${version}.root.raw`), path.join(this.#folder, "root.raw"));
    this.#tool("fsck.erofs", ["--extract=/mnt/root", "--preserve", "/mnt/root.raw"]);
    rmSync(path.join(this.#folder, "root.raw"));
    this.#unpacked = true;
  }

  /** Changes add up from release to release of one workshop. */
  #change(files: ChangedFiles): void {
    for (const [name, text] of Object.entries(files)) {
      const file = path.join(this.#folder, "root", name);
      mkdirSync(path.dirname(file), { recursive: true });
      rmSync(file, { force: true });
      writeFileSync(file, text);
    }
  }

  #padToBlocks(name: string): void {
    const file = path.join(this.#folder, name);
    const bytes = Bun.file(file).size;
    const padded = Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
    if (padded !== bytes) mustRun("truncate", ["--size", String(padded), file]);
  }

  #buildKernel(version: string, next: { place: string; rootHash: string }): void {
    const old = this.#release.kernel();
    const parts = path.join(this.#folder, "parts");
    rmSync(parts, { recursive: true, force: true });
    mkdirSync(parts);
    const commandLine = old.commandLine().replace(old.rootHash(), next.rootHash);
    const identity = old.osRelease().replaceAll(this.#release.version, version);
    writeFileSync(path.join(parts, "linux"), old.kernel());
    writeFileSync(path.join(parts, "initrd"), old.initrd());
    writeFileSync(path.join(parts, "cmdline"), commandLine);
    writeFileSync(path.join(parts, "os-release"), identity);
    const microcode = old.microcode();
    if (microcode !== null) writeFileSync(path.join(parts, "ucode"), microcode);
    cpSync(KEY, path.join(parts, "key"));
    cpSync(CERTIFICATE, path.join(parts, "certificate"));
    this.#tool("ukify", [
      ...["build", "--linux=/mnt/parts/linux", "--initrd=/mnt/parts/initrd"],
      ...(microcode === null ? [] : ["--microcode=/mnt/parts/ucode"]),
      ...["--cmdline=@/mnt/parts/cmdline", "--os-release=@/mnt/parts/os-release"],
      ...[`--uname=${old.uname()}`, "--efi-arch=x64", `--stub=${STUB}`, "--signtool=sbsign"],
      ...["--secureboot-private-key=/mnt/parts/key"],
      ...["--secureboot-certificate=/mnt/parts/certificate"],
      `--output=/mnt/${next.place}/cairn_${version}.efi`,
    ]);
    rmSync(parts, { recursive: true });
  }

  /** A program of the tools tree; the workshop's folder is its /mnt. */
  #tool(program: string, words: readonly string[]): void {
    const script =
      'mount --bind "$1" "$0/mnt" && mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" ' +
      '&& tools=$0 && shift && exec chroot "$tools" "$@"';
    const inside = ["--mount", "--propagation", "private", "sh", "-c", script];
    mustRun("unshare", [...inside, TOOLS_TREE, this.#folder, program, ...words]);
  }
}

/** Signs what lies in a directory, by the build's own program. */
export function sign(directory: string, version: string): void {
  const program = path.join(ROOT, "scripts", "sign-manifest.mjs");
  mustRun("node", [program, "sign", directory, "--version", version]);
}

function mustRun(command: string, words: string[]): void {
  const result = spawnSync(command, words, { encoding: "utf8", timeout: STEP_MS });
  if (result.status === 0) return;
  const said = `${result.stdout}${result.stderr}${result.error?.message ?? ""}`.trim();
  throw new Error(`${[command, ...words].join(" ")}: status ${result.status}: ${said}`);
}
