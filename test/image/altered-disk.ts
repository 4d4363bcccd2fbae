// SPDX-License-Identifier: Apache-2.0
//
// Bytes of a box's disk altered while it is off, as bad luck or a stranger would do it.

import { spawnSync } from "node:child_process";

export interface DiskPlace {
  file: string;
  format: "qcow2" | "raw";
  offsetBytes: number;
}

/** Inverts one byte; again, and it is as it was. The disk must not be in use. */
export function flipByte(place: DiskPlace): void {
  const { offsetBytes } = place;
  const said = qemuIo(place, `read -v ${offsetBytes} 1`);
  // A line of the dump: offset, bytes in hex, text.
  const byte = /^[0-9a-f]{8}: +([0-9a-f]{2})\b/m.exec(said)?.[1];
  if (byte === undefined) throw new Error(`qemu-io shows no byte: ${said}`);
  qemuIo(place, `write -P ${Number.parseInt(byte, 16) ^ 0xff} ${offsetBytes} 1`);
}

function qemuIo({ file, format }: DiskPlace, command: string): string {
  const result = spawnSync("qemu-io", ["-f", format, "-c", command, file], { encoding: "utf8" });
  const said = `${result.stdout}${result.stderr}`;
  if (result.status !== 0) throw new Error(`qemu-io ${command}: ${said}`);
  return said;
}
