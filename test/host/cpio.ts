// SPDX-License-Identifier: Apache-2.0
//
// An archive as the kernel unpacks it at boot: "newc" of cpio (Documentation/driver-api/early-
// userspace/buffer-format.rst of Linux).

const TRAILER = "TRAILER!!!";

export interface ArchiveEntry {
  name: string;
  /** With the type, such as 0o100755 and 0o040755. */
  mode: number;
  content?: Uint8Array;
}

export function cpioArchive(entries: readonly ArchiveEntry[]): Uint8Array {
  const all = [...entries, { name: TRAILER, mode: 0 }];
  return new Uint8Array(Buffer.concat(all.flatMap((entry, at) => partsOf(entry, at + 1))));
}

function partsOf(
  { name, mode, content = new Uint8Array(0) }: ArchiveEntry,
  inode: number,
): Buffer[] {
  const words = Buffer.from(`${name}\0`);
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
  // namesize, check
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, words.length, 0];
  const head = Buffer.from(
    `070701${fields.map((one) => one.toString(16).padStart(8, "0")).join("")}`,
  );
  return [
    head,
    words,
    padding(head.length + words.length),
    Buffer.from(content),
    padding(content.length),
  ];
}

function padding(lengthBytes: number): Buffer {
  return Buffer.alloc((4 - (lengthBytes % 4)) % 4);
}
