// SPDX-License-Identifier: Apache-2.0
//
// The tools tree of the image build (scripts/image.mjs): a Debian of its own below .cache, the same
// on every machine. Its QEMU is used where it lies, by the tree's own loader and libraries, because
// a guest needs this machine's devices and network.

import { existsSync } from "node:fs";
import path from "node:path";

const ROOT = path.resolve(import.meta.dir, "..", "..");
export const TOOLS_TREE = path.join(ROOT, ".cache", "image", "tools");

const LIBRARIES = path.join(TOOLS_TREE, "usr", "lib", "x86_64-linux-gnu");
const QEMU = path.join(TOOLS_TREE, "usr", "bin", "qemu-system-x86_64");
const FIRMWARE = path.join(TOOLS_TREE, "usr", "share", "OVMF");

/** How QEMU is called: a program with its first words, and what its environment must say. */
export const EMULATOR = {
  words: [
    path.join(LIBRARIES, "ld-linux-x86-64.so.2"),
    ...["--library-path", LIBRARIES, QEMU],
    ...["qemu", "seabios"].flatMap((name) => ["-L", path.join(TOOLS_TREE, "usr", "share", name)]),
  ],
  env: { QEMU_MODULE_DIR: path.join(LIBRARIES, "qemu") },
};

/** UEFI for guests, with and without System Management Mode, and their store of variables. */
export const UEFI = {
  code: path.join(FIRMWARE, "OVMF_CODE_4M.fd"),
  secureCode: path.join(FIRMWARE, "OVMF_CODE_4M.secboot.fd"),
  variables: path.join(FIRMWARE, "OVMF_VARS_4M.fd"),
};

/** What of it is not there; empty: nothing. */
export function lackingTools(): string[] {
  return [QEMU, UEFI.secureCode].filter((file) => !existsSync(file));
}
