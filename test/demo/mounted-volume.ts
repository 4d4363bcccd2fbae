// SPDX-License-Identifier: Apache-2.0
//
// A volume as an ext4 file system on this machine, without a kernel module for NBD:
// qemu-storage-daemon attaches it (and connects again when it loses its unit), shows it as one
// file by FUSE, a loop device makes a disk of the file, ext4 lies on that.
//
// The file system begins at `offsetBytes`, so that the start of the volume stays free for probes.
// Order at the end: file system, loop device, qemu-storage-daemon. Each is recorded in the lab
// before it is made, so that it is removed however the demo ends.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { readFileSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Lab } from "#test/cluster/lab.ts";
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
  #loop: string | null = null;
  #exporter: ChildProcess | null = null;
  #isMounted = false;

  private constructor(lab: Lab, name: string) {
    this.#lab = lab;
    this.#name = name;
    this.folder = path.join(lab.folder, name);
    this.#file = path.join(lab.folder, `${name}.volume`);
  }

  static async mount(lab: Lab, name: string, options: MountOptions): Promise<MountedVolume> {
    const mounted = new MountedVolume(lab, name);
    lab.atEnd(() => mounted.#endQuickly());
    await mounted.#attach(options);
    await mounted.#makeLoop(options);
    const loop = mounted.#loop as string;
    // The inode tables are written now, or the kernel does it later, beside what is measured.
    const full = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
    if (options.make) await run(lab, ["mkfs.ext4", "-q", ...full, loop], STEP_MS);
    mkdirSync(mounted.folder, { recursive: true });
    lab.record.willMake("mounts", mounted.folder);
    const how = options.make ? "rw" : "ro";
    mounted.#isMounted = true;
    await run(lab, ["mount", "-t", "ext4", "-o", how, loop, mounted.folder], STEP_MS);
    return mounted;
  }

  /** Bytes written to the disk so far, as the kernel counts them. */
  writtenBytes(): number {
    const stat = readFileSync(`/sys/block/${path.basename(this.#loop ?? "")}/stat`, "utf8");
    return Number(stat.trim().split(/\s+/)[6]) * 512;
  }

  /** Everything on the volume, then unmounted; the disk is still there, to be checked. */
  async unmount(): Promise<void> {
    await run(this.#lab, ["umount", this.folder], STEP_MS);
    this.#isMounted = false;
    this.#lab.record.removed("mounts", this.folder);
  }

  /** Null when the file system is clean, else what e2fsck said. It changes nothing. */
  async damage(): Promise<string | null> {
    const words = ["e2fsck", "-f", "-n", this.#loop as string] as const;
    const { status, output } = await outcome(this.#lab, [...words], STEP_MS);
    return status === 0 ? null : `status ${status}: ${output}`;
  }

  /** Takes the disk and the attachment away. */
  async detach(): Promise<void> {
    if (this.#loop !== null) {
      await run(this.#lab, ["losetup", "--detach", this.#loop], END_MS);
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
    await this.#forgetFile();
  }

  async #attach(options: MountOptions): Promise<void> {
    const { host, port, name } = nbdAddress(options.uri);
    writeFileSync(this.#file, "");
    this.#lab.record.willMake("mounts", this.#file);
    const server = `server.type=inet,server.host=${host},server.port=${port}`;
    const again = `reconnect-delay=${RECONNECT_SECONDS},open-timeout=30`;
    const fuse = `type=fuse,id=file,node-name=volume,mountpoint=${this.#file}`;
    const child = this.#lab.spawn(this.#name, "qemu-storage-daemon", [
      ...["--blockdev", `driver=nbd,node-name=volume,${server},export=${name},${again}`],
      ...["--export", `${fuse},writable=${options.make ? "on" : "off"}`],
    ]);
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
        return statSync(this.#file).size > 0 ? true : null;
      },
      ATTACH_MS,
    );
  }

  async #makeLoop({ offsetBytes, sizeBytes, make }: MountOptions): Promise<void> {
    const place = ["--offset", String(offsetBytes), "--sizelimit", String(sizeBytes - offsetBytes)];
    const how = make ? [] : ["--read-only"];
    const words = ["losetup", "--find", "--show", ...how, ...place, this.#file] as const;
    const loop = (await run(this.#lab, [...words], END_MS)).trim();
    this.#lab.record.willMake("loops", loop);
    this.#loop = loop;
  }

  async #forgetFile(): Promise<void> {
    if (readFileSync("/proc/mounts", "utf8").includes(` ${this.#file} `)) {
      await run(this.#lab, ["umount", "--lazy", this.#file], END_MS);
    }
    this.#lab.record.removed("mounts", this.#file);
  }

  /** At the lab's end: in order as far as that goes quickly; the lab's record does the rest. */
  async #endQuickly(): Promise<void> {
    if (this.#exporter === null) return;
    if (this.#isMounted) {
      const child = Bun.spawn(["setsid", "--wait", "umount", this.folder], {
        stdio: ["ignore", "ignore", "ignore"],
      });
      await Promise.race([child.exited, pause(QUICK_END_MS)]);
      child.kill("SIGKILL");
    }
  }
}
