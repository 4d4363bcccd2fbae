// SPDX-License-Identifier: Apache-2.0
//
// A volume as an ext4 file system on this machine, without a kernel module for NBD:
// qemu-storage-daemon attaches it (and connects again when it loses its unit), shows it as one
// file by FUSE, a loop device makes a disk of the file, ext4 lies on that.
//
// The file system begins at `offsetBytes`, so that the start of the volume stays free for probes.
// All of it is in the lab's mount space. Order at the end: file system, loop device,
// qemu-storage-daemon; what the lab records or holds is removed however the demo ends.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { readFileSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Lab } from "#test/cluster/lab.ts";
import type { MountSpace } from "#test/cluster/mount-space.ts";
import { nbdAddress } from "#test/cluster/nbd-client.ts";
import { Hopeless, pause } from "#test/cluster/until.ts";
import { outcome, run } from "./run-program.ts";

export const MOUNT_PROGRAMS = [
  "qemu-storage-daemon",
  "fusermount3",
  "losetup",
  "mkfs.ext4",
  "mount",
  "umount",
  "e2fsck",
];

/** Longer than any gap that is right: a longer one fails the demo by its own limits. */
const RECONNECT_SECONDS = 120;
const ATTACH_MS = 30_000;
const STEP_MS = 120_000;
const END_MS = 15_000;
const QUICK_END_MS = 5_000;

export interface MountOptions {
  /** Of the folder it is mounted at. */
  name: string;
  uri: string;
  offsetBytes: number;
  sizeBytes: number;
  /** Makes a new file system; else the one that is there is mounted, to be read only. */
  make: boolean;
}

export class MountedVolume {
  readonly folder: string;
  readonly #lab: Lab;
  readonly #file: string;
  readonly #name: string;
  readonly #space: MountSpace;
  #loop: string | null = null;
  #exporter: ChildProcess | null = null;
  #isMounted = false;

  private constructor(lab: Lab, space: MountSpace, name: string) {
    this.#lab = lab;
    this.#space = space;
    this.#name = name;
    this.folder = path.join(lab.folder, name);
    this.#file = path.join(lab.folder, `${name}.volume`);
  }

  static async mount(lab: Lab, space: MountSpace, options: MountOptions): Promise<MountedVolume> {
    const mounted = new MountedVolume(lab, space, options.name);
    lab.atEnd(() => mounted.#endQuickly());
    await mounted.#attach(options);
    await mounted.#makeLoop(options);
    const loop = mounted.#loop as string;
    // The inode tables are written now, or the kernel does it later, beside what is measured.
    const full = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
    if (options.make) await mounted.#run(["mkfs.ext4", "-q", ...full, loop]);
    mkdirSync(mounted.folder, { recursive: true });
    const how = options.make ? "rw" : "ro";
    mounted.#isMounted = true;
    await mounted.#run(["mount", "-t", "ext4", "-o", how, loop, mounted.folder]);
    return mounted;
  }

  /** Bytes written to the disk so far, as the kernel counts them. */
  writtenBytes(): number {
    const stat = readFileSync(`/sys/block/${path.basename(this.#loop ?? "")}/stat`, "utf8");
    return Number(stat.trim().split(/\s+/)[6]) * 512;
  }

  /** Everything on the volume, then unmounted; the disk is still there, to be checked. */
  async unmount(): Promise<void> {
    await this.#run(["umount", this.folder]);
    this.#isMounted = false;
  }

  /** Null when the file system is clean, else what e2fsck said. It changes nothing. */
  async damage(): Promise<string | null> {
    const words = this.#space.inside(["e2fsck", "-f", "-n", this.#loop as string]);
    const { status, output } = await outcome(this.#lab, words, STEP_MS);
    // With -n a journal that was not written out is only warned of: it would be a loss here.
    const isClean = status === 0 && !/journal recovery|recovering journal/i.test(output);
    return isClean ? null : `status ${status}: ${output}`;
  }

  /** Takes the disk and the attachment away. */
  async detach(): Promise<void> {
    if (this.#loop !== null) {
      await this.#run(["losetup", "--detach", this.#loop]);
      this.#lab.record.removed("loops", this.#loop);
      this.#loop = null;
    }
    const exporter = this.#exporter;
    this.#exporter = null;
    if (exporter !== null && exporter.exitCode === null) {
      const exit = once(exporter, "exit");
      exporter.kill("SIGTERM");
      const ended = await Promise.race([exit, pause(END_MS).then(() => null)]);
      if (ended === null) exporter.kill("SIGKILL");
    }
  }

  async #run(words: readonly string[]): Promise<string> {
    return run(this.#lab, this.#space.inside(words), STEP_MS);
  }

  async #attach(options: MountOptions): Promise<void> {
    const { host, port, name } = nbdAddress(options.uri);
    writeFileSync(this.#file, "");
    const server = `server.type=inet,server.host=${host},server.port=${port}`;
    const again = `reconnect-delay=${RECONNECT_SECONDS},open-timeout=30`;
    const fuse = `type=fuse,id=file,node-name=volume,mountpoint=${this.#file}`;
    const [enter, ...words] = this.#space.inside([
      ...["qemu-storage-daemon"],
      ...["--blockdev", `driver=nbd,node-name=volume,${server},export=${name},${again}`],
      ...["--export", `${fuse},writable=${options.make ? "on" : "off"}`],
    ]);
    const child = this.#lab.spawn(this.#name, enter, words);
    let said = "";
    child.stderr?.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)));
    child.stdout?.resume();
    this.#exporter = child;
    await this.#lab.until(
      `qemu-storage-daemon attached to ${options.uri}`,
      () => {
        if (child.exitCode !== null) {
          throw new Hopeless(`qemu-storage-daemon ended with status ${child.exitCode}: ${said}`);
        }
        return statSync(this.#space.view(this.#file)).size > 0 ? true : null;
      },
      ATTACH_MS,
    );
  }

  async #makeLoop({ offsetBytes, sizeBytes, make }: MountOptions): Promise<void> {
    const place = ["--offset", String(offsetBytes), "--sizelimit", String(sizeBytes - offsetBytes)];
    const how = make ? [] : ["--read-only"];
    const words = ["losetup", "--find", "--show", ...how, ...place, this.#file];
    const loop = (await this.#run(words)).trim();
    this.#lab.record.willMake("loops", loop);
    this.#loop = loop;
  }

  /** At the lab's end: in order as far as that goes quickly; the lab's record does the rest. */
  async #endQuickly(): Promise<void> {
    if (this.#exporter === null) return;
    if (this.#isMounted) {
      const umount = this.#space.inside(["umount", this.folder]);
      const child = Bun.spawn(["setsid", "--wait", ...umount], {
        stdio: ["ignore", "ignore", "ignore"],
      });
      await Promise.race([child.exited, pause(QUICK_END_MS)]);
      child.kill("SIGKILL");
    }
  }
}
