// SPDX-License-Identifier: Apache-2.0
//
// The release artefacts under test, as `npm run image` leaves them: one flashable image, and the
// kernel image and partitions that an update carries.

import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { UnifiedKernel } from "./uki.ts";

const ROOT = path.resolve(import.meta.dir, "..", "..");
/** `cairn_0.1.0.raw`; the partitions have one more word: `cairn_0.1.0.root.raw`. */
const IMAGE_NAME = /^cairn_(\d[0-9A-Za-z.~^+-]*)\.raw$/;
const PARTITION = /\.(root|hash)$/;

export class Release {
  readonly directory: string;
  readonly version: string;

  constructor(directory = Release.directory()) {
    this.directory = directory;
    this.version = onlyVersion(directory);
  }

  static directory(): string {
    return process.env["CAIRN_IMAGE_DIRECTORY"] ?? path.join(ROOT, "dist", "image");
  }

  /** What a box is flashed with. */
  get image(): string {
    return path.join(this.directory, `cairn_${this.version}.raw`);
  }

  kernel(): UnifiedKernel {
    return new UnifiedKernel(path.join(this.directory, `cairn_${this.version}.efi`));
  }
}

function onlyVersion(directory: string): string {
  const files = existsSync(directory) ? readdirSync(directory) : [];
  const versions = files.flatMap((file) => IMAGE_NAME.exec(file)?.[1] ?? []);
  const images = versions.filter((version) => !PARTITION.test(version));
  const [version] = images;
  if (version === undefined) {
    throw new Error(`no image in ${directory} (npm run image makes it)`);
  }
  if (images.length > 1) throw new Error(`${directory} holds images of ${images.join(", ")}`);
  return version;
}
