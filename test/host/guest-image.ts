// SPDX-License-Identifier: Apache-2.0
//
// What a guest boots that is a host: Debian's kernel, an initrd of modules, and a root file system
// with this machine's own programs and the libraries that they need.

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { lackingTools } from "#test/image/tools-tree.ts";
import { type ArchiveEntry, cpioArchive } from "./cpio.ts";

const GUEST = path.resolve(import.meta.dir, "..", "..", ".cache", "guest");
// ext4 asks the kernel for a checksum by name, so that no dependency tells of it.
const MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "nbd"];
const ROOT_BYTES = 512 << 20;
const EXECUTABLE_MODE = 0o100755;
const FOLDER_MODE = 0o040755;

/** What a guest is made of is not there: in CI nothing is skipped in silence. */
export function requireGuest(): void {
  const lacking = ["mke2fs", "e2fsck", "fio", "nbd-client", "xz", "ldd"].filter(
    (name) => Bun.which(name) === null,
  );
  for (const file of lackingTools()) lacking.push(`${file} (npm run image makes it)`);
  if (!existsSync(path.join(GUEST, "VERSION")))
    lacking.push(`${GUEST} (npm test -- host fetches it)`);
  if (!existsSync("/dev/net/tun")) lacking.push("/dev/net/tun (modprobe tun)");
  if (lacking.length > 0) throw new Error(`this machine lacks ${lacking.join(", ")}`);
}

export interface GuestImage {
  kernel: string;
  initrd: string;
  root: string;
}

export interface GuestFiles {
  /** Shell, run by busybox as the first process once the root is mounted. */
  script: string;
  /** Programs of this machine, by their names or paths. */
  programs: readonly string[];
  /** Text by its path in the guest. */
  texts: Readonly<Record<string, string>>;
}

/** Made in a folder of its own. */
export function makeGuestImage(folder: string, files: GuestFiles): GuestImage {
  const version = readFileSync(path.join(GUEST, "VERSION"), "utf8").trim();
  const initrd = path.join(folder, "initrd");
  writeFileSync(initrd, cpioArchive(initrdEntries(version)));
  return {
    kernel: path.join(GUEST, "boot", `vmlinuz-${version}`),
    initrd,
    root: makeRoot(folder, files),
  };
}

function busybox(): string {
  const found = ["usr/bin/busybox", "bin/busybox"].map((name) => path.join(GUEST, name));
  const file = found.find((one) => existsSync(one));
  if (file === undefined) throw new Error("the guest's busybox is missing");
  return file;
}

function initrdEntries(version: string): ArchiveEntry[] {
  const modules = modulesInOrder(version);
  const script = [
    "#!/bin/busybox sh",
    ...["proc", "sysfs", "devtmpfs"].map((kind) => {
      const place = { proc: "/proc", sysfs: "/sys", devtmpfs: "/dev" }[kind];
      return `/bin/busybox mount -t ${kind} ${kind} ${place}`;
    }),
    ...modules.map((_, at) => `/bin/busybox insmod /modules/${at}.ko`),
    "while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.2; done",
    "/bin/busybox mount -t ext4 /dev/vda /system",
    "for place in proc sys dev; do /bin/busybox mount --move /$place /system/$place; done",
    "exec /bin/busybox switch_root /system /init",
    "",
  ].join("\n");
  return [
    ...["bin", "modules", "proc", "sys", "dev", "system"].map((name) => ({
      name,
      mode: FOLDER_MODE,
    })),
    { name: "bin/busybox", mode: EXECUTABLE_MODE, content: readFileSync(busybox()) },
    ...modules.map((content, at) => ({ name: `modules/${at}.ko`, mode: 0o100644, content })),
    { name: "init", mode: EXECUTABLE_MODE, content: Buffer.from(script) },
  ];
}

/** Each after what it needs, as modules.dep tells; those built into the kernel are left out. */
function modulesInOrder(version: string): Uint8Array[] {
  const folder = path.join(GUEST, "usr", "lib", "modules", version);
  const needs = new Map<string, { file: string; others: string[] }>();
  for (const line of readFileSync(path.join(folder, "modules.dep"), "utf8").split("\n")) {
    const [file = "", others = ""] = line.split(":");
    const list = others
      .trim()
      .split(/\s+/)
      .filter((one) => one !== "");
    if (file !== "") needs.set(nameOf(file), { file, others: list.map(nameOf) });
  }
  const done = new Set<string>();
  const order: string[] = [];
  const take = (name: string) => {
    const entry = needs.get(name);
    if (entry === undefined || done.has(name)) return;
    done.add(name);
    for (const other of entry.others) take(other);
    order.push(entry.file);
  };
  for (const name of MODULES) take(name);
  return order.map((file) => unpacked(path.join(folder, file)));
}

function nameOf(file: string): string {
  return path
    .basename(file)
    .replace(/\.ko(\.xz)?$/, "")
    .replaceAll("-", "_");
}

function unpacked(file: string): Uint8Array {
  if (!file.endsWith(".xz")) return readFileSync(file);
  return mustRun("xz", ["--decompress", "--stdout", file]);
}

function makeRoot(folder: string, { script, programs, texts }: GuestFiles): string {
  const tree = path.join(folder, "root");
  for (const name of ["bin", "proc", "sys", "dev", "run", "tmp", "mnt", "etc"]) {
    mkdirSync(path.join(tree, name), { recursive: true });
  }
  place(tree, "/bin/busybox", busybox());
  for (const name of programs) {
    const file = Bun.which(name) ?? name;
    place(tree, `/bin/${path.basename(file)}`, file);
    for (const library of librariesOf(file)) place(tree, library, library);
  }
  for (const [name, text] of Object.entries(texts)) {
    mkdirSync(path.dirname(path.join(tree, name)), { recursive: true });
    writeFileSync(path.join(tree, name), text);
  }
  writeFileSync(path.join(tree, "init"), `#!/bin/busybox sh\n${script}`, { mode: 0o755 });
  const image = path.join(folder, "root.img");
  mustRun("mke2fs", ["-q", "-t", "ext4", "-d", tree, image, `${ROOT_BYTES >> 10}k`]);
  return image;
}

function place(tree: string, at: string, from: string): void {
  const target = path.join(tree, at);
  if (existsSync(target)) return;
  mkdirSync(path.dirname(target), { recursive: true });
  copyFileSync(from, target);
}

/** The paths by which the loader finds them, the loader's own among them. */
function librariesOf(file: string): string[] {
  const listed = mustRun("ldd", [file]).toString("utf8");
  return listed.split("\n").flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

function mustRun(command: string, words: string[]): Buffer {
  const result = spawnSync(command, words, { maxBuffer: 64 << 20 });
  if (result.status === 0) return result.stdout;
  throw new Error(`${command} ${words.join(" ")}: ${result.stderr?.toString() ?? result.error}`);
}
