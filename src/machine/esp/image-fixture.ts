// SPDX-License-Identifier: Apache-2.0
//
// Images with a GPT and a real FAT file system, made and judged by the tools that everybody uses:
// sfdisk, mkfs.vfat, mtools, fsck.vfat.

import { spawnSync } from "node:child_process";
import { closeSync, copyFileSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { truncateSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";

export const MIB = 1 << 20;
export const ESP_GUID = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/** Where the partition begins in every image here. */
export const ESP_AT = MIB;

export interface ImageShape {
  bits: 12 | 16 | 32;
  espBytes: number;
  sectorBytes?: number;
  clusterSectors?: number;
  rootEntries?: number;
  fats?: number;
}

export function tool(name: string, args: string[], input: string | Uint8Array = ""): string {
  const env = { ...process.env, MTOOLS_SKIP_CHECK: "1", PATH: `${process.env["PATH"]}:/usr/sbin` };
  const answer = spawnSync(name, args, { encoding: "latin1", input, env, maxBuffer: 64 * MIB });
  if (answer.status === 0) return answer.stdout;
  const said = `${answer.stdout}${answer.stderr}${answer.error?.message ?? ""}`;
  throw new Error(`${name} ${args.join(" ")} ended with ${answer.status}: ${said}`);
}

export class TestImage {
  readonly file: string;
  readonly espBytes: number;

  /** An image that is there already, with a partition of this size. */
  constructor(file: string, espBytes: number) {
    this.file = file;
    this.espBytes = espBytes;
  }

  static make(folder: string, name: string, shape: ImageShape): TestImage {
    const image = new TestImage(path.join(folder, name), shape.espBytes);
    image.#make(shape);
    return image;
  }

  #make(shape: ImageShape): void {
    writeFileSync(this.file, "");
    truncateSync(this.file, ESP_AT + shape.espBytes + MIB);
    const size = shape.espBytes / 512;
    const table = `label: gpt\nstart=${ESP_AT / 512}, size=${size}, type=${ESP_GUID}\n`;
    tool("sfdisk", ["--quiet", this.file], table);
    const flags = ["-F", String(shape.bits), "-S", String(shape.sectorBytes ?? 512), "-n", "ESP"];
    if (shape.clusterSectors !== undefined) flags.push("-s", String(shape.clusterSectors));
    if (shape.rootEntries !== undefined) flags.push("-r", String(shape.rootEntries));
    if (shape.fats !== undefined) flags.push("-f", String(shape.fats));
    const offset = ["--offset", String(ESP_AT / (shape.sectorBytes ?? 512))];
    tool("mkfs.vfat", [...flags, ...offset, this.file, String(shape.espBytes / 1024)]);
  }

  #put(offsetBytes: number, bytes: Uint8Array): void {
    const fd = openSync(this.file, "r+");
    writeSync(fd, bytes, 0, bytes.length, offsetBytes);
    closeSync(fd);
  }
  /** Changes bytes of the partition. */
  poke(offsetBytes: number, ...bytes: number[]): void {
    this.#put(ESP_AT + offsetBytes, Uint8Array.from(bytes));
  }
  peek(offsetBytes: number): number {
    const fd = openSync(this.file, "r");
    const bytes = new Uint8Array(1);
    readSync(fd, bytes, 0, 1, ESP_AT + offsetBytes);
    closeSync(fd);
    return bytes[0] as number;
  }

  /** Everything outside of the partition, and its hash. */
  outside(): string {
    const bytes = readFileSync(this.file);
    const parts = [bytes.subarray(0, ESP_AT), bytes.subarray(ESP_AT + this.espBytes)];
    return parts.map((part) => String(Bun.hash(part))).join(" ");
  }

  mtools(name: string, ...args: string[]): string {
    return tool(name, ["-i", `${this.file}@@${ESP_AT}`, ...args]);
  }
  write(name: string, content: string | Uint8Array): void {
    writeFileSync(`${this.file}.part`, content);
    this.mtools("mcopy", "-o", `${this.file}.part`, `::/${name}`);
    rmSync(`${this.file}.part`);
  }
  /** As mtools reads it. */
  text(name: string): string {
    return this.mtools("mtype", `::/${name}`);
  }
  /** Names with paths, as mtools lists them, sorted. */
  names(): string[] {
    const listed = spawnSync("mdir", ["-i", `${this.file}@@${ESP_AT}`, "-/", "-b", "::/"]);
    // Of an empty directory mdir says that it is not found.
    return listed.stdout.toString("latin1").trim().split("\n").sort();
  }
  #copyPartition(): string {
    const copy = `${this.file}.partition`;
    const where = [`bs=${MIB}`, `skip=${ESP_AT / MIB}`, `count=${this.espBytes / MIB}`];
    tool("dd", [`if=${this.file}`, `of=${copy}`, ...where, "conv=sparse", "status=none"]);
    return copy;
  }
  /** The file system's own judge; throws with what it says. */
  check(): void {
    const copy = this.#copyPartition();
    try {
      tool("fsck.vfat", ["-n", copy]);
    } finally {
      rmSync(copy);
    }
  }
  /** What the file system's own repair makes of it. */
  repair(): void {
    const copy = this.#copyPartition();
    const answer = spawnSync("fsck.vfat", ["-a", copy]);
    if ((answer.status ?? 2) > 1) throw new Error(`fsck.vfat gave up: ${answer.stdout}`);
    this.#put(ESP_AT, readFileSync(copy));
    rmSync(copy);
  }
  copyTo(other: string): TestImage {
    copyFileSync(this.file, other);
    return new TestImage(other, this.espBytes);
  }
}
