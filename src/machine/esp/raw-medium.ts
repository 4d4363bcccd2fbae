// SPDX-License-Identifier: Apache-2.0
//
// An image file or a whole disk as numbered bytes: what stamping reads and writes. Nothing here is
// of one operating system, so that an image may be stamped where it is flashed.
//
// Invariant: a device is opened exclusively where the system knows that (Linux), so that nothing
// mounted from it is written under the kernel's feet.

import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, statSync } from "node:fs";
import { writeSync } from "node:fs";
import { Fault } from "#base/fault.ts";

export interface RawMedium {
  /** Throws Fault corrupt where it ends too early. */
  read(offsetBytes: number, lengthBytes: number): Uint8Array;
  write(offsetBytes: number, bytes: Uint8Array): void;
  /** What was written before is on the medium when it returns. */
  flush(): void;
}

export interface OpenedMedium extends RawMedium {
  close(): void;
}

/** Opens an image or a disk for reading and writing. */
export function openMedium(file: string): OpenedMedium {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) throw new Fault("notFound", `there is no ${file}`);
  if (stat.isDirectory()) {
    throw new Fault("badRequest", `${file} is a folder; name an image or a disk`);
  }
  const exclusive = stat.isBlockDevice() && process.platform === "linux" ? constants.O_EXCL : 0;
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDWR | exclusive);
  } catch (cause) {
    throw openFault(file, (cause as { code?: string }).code ?? "EIO", cause);
  }
  return mediumOf(file, fd);
}

function openFault(file: string, code: string, cause: unknown): Fault {
  switch (code) {
    case "EBUSY":
      return new Fault("conflict", `${file} is in use: unmount it first`, { cause });
    case "EACCES":
    case "EPERM":
      return new Fault("forbidden", `${file} may not be written by this user`, { cause });
    case "EROFS":
      return new Fault("forbidden", `${file} is read-only`, { cause });
    default:
      return new Fault("programFailed", `${file} cannot be opened (${code})`, { cause });
  }
}

function mediumOf(file: string, fd: number): OpenedMedium {
  const failed = (what: string, cause: unknown) =>
    new Fault("diskFailed", `${file} cannot be ${what}`, { cause });
  const sizeBytes = fstatSync(fd).isFile() ? fstatSync(fd).size : Number.POSITIVE_INFINITY;
  return {
    read(offsetBytes, lengthBytes) {
      const bytes = new Uint8Array(lengthBytes);
      let at = 0;
      while (at < lengthBytes) {
        let got = 0;
        try {
          got = readSync(fd, bytes, at, lengthBytes - at, offsetBytes + at);
        } catch (cause) {
          throw failed("read", cause);
        }
        if (got === 0) throw new Fault("corrupt", `${file} is shorter than its contents say`);
        at += got;
      }
      return bytes;
    },
    write(offsetBytes, bytes) {
      // A file would grow; nothing that belongs to it lies there.
      if (offsetBytes + bytes.length > sizeBytes) {
        throw new Fault("corrupt", `${file} is shorter than its contents say`);
      }
      try {
        let at = 0;
        while (at < bytes.length)
          at += writeSync(fd, bytes, at, bytes.length - at, offsetBytes + at);
      } catch (cause) {
        throw failed("written", cause);
      }
    },
    flush() {
      try {
        fsyncSync(fd);
      } catch (cause) {
        throw failed("written", cause);
      }
    },
    close: () => closeSync(fd),
  };
}
