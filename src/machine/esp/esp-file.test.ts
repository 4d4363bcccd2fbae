// SPDX-License-Identifier: Apache-2.0
//
// A file put on real FAT file systems in images with a GPT: read back by mtools, judged by
// fsck.vfat, nothing else changed. Then every way in which an image can be wrong, and every moment
// at which the writing can end.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, constants, existsSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { EspVolume, readEspFile, writeEspFile } from "./esp-file.ts";
import { ESP_AT, ESP_GUID, MIB, TestImage, tool } from "./image-fixture.ts";
import type { ImageShape } from "./image-fixture.ts";
import { openMedium } from "./raw-medium.ts";
import type { RawMedium } from "./raw-medium.ts";

const NAME = "cairn.json";
const NOW_MS = Date.UTC(2026, 10, 28, 13, 14, 16);
let folder = "";
let templates = "";
beforeAll(() => {
  templates = mkdtempSync(path.join(tmpdir(), "cairn-esp-made-"));
});
afterAll(() => rmSync(templates, { recursive: true, force: true }));
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-esp-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A fresh image; one of each shape is made by the tools, the others are its copies. */
function image(shape: ImageShape, name = "image.raw"): TestImage {
  const key = `${JSON.stringify(shape).replaceAll(/\W+/g, "-")}.raw`;
  const made = existsSync(path.join(templates, key))
    ? new TestImage(path.join(templates, key), shape.espBytes)
    : TestImage.make(templates, key, shape);
  return made.copyTo(path.join(folder, name));
}
const small16: ImageShape = { bits: 16, espBytes: 16 * MIB };
const small32: ImageShape = { bits: 32, espBytes: 40 * MIB, clusterSectors: 1 };
const put = (where: TestImage, text: string) =>
  writeEspFile(where.file, NAME, new TextEncoder().encode(text), NOW_MS);
const get = (where: TestImage) => {
  const bytes = readEspFile(where.file, NAME);
  return bytes === null ? null : new TextDecoder().decode(bytes);
};
/** Different texts of a length, so that pieces that are mixed up show. */
const long = (length: number, seed = "a") =>
  Array.from({ length }, (_, at) => (at % 64 === 63 ? "\n" : `${seed}${at}`.at(-1))).join("");

function refusal(act: () => unknown): Fault {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("it was taken");
}

describe("on file systems as mkfs.vfat makes them", () => {
  const shapes: [string, ImageShape][] = [
    ["FAT32, as the image's ESP", { bits: 32, espBytes: 512 * MIB }],
    ["FAT32, clusters of one sector", small32],
    ["FAT32, one FAT", { ...small32, fats: 1 }],
    [
      "FAT32, sectors of 4096 bytes",
      { bits: 32, espBytes: 280 * MIB, sectorBytes: 4096, clusterSectors: 1 },
    ],
    ["FAT16", small16],
    ["FAT16, one FAT, 512 root entries", { ...small16, fats: 1, rootEntries: 512 }],
    ["FAT16, large clusters", { bits: 16, espBytes: 200 * MIB, clusterSectors: 64 }],
    ["FAT16, sectors of 2048 bytes", { bits: 16, espBytes: 64 * MIB, sectorBytes: 2048 }],
  ];
  for (const [what, shape] of shapes) {
    test(`${what} → there, replaced, and nothing else changed`, () => {
      const one = image(shape);
      one.mtools("mmd", "::/EFI", "::/EFI/BOOT");
      const kernel = long(300_000, "k");
      one.write("EFI/BOOT/BOOTX64.EFI", kernel);
      const outside = one.outside();
      expect(get(one)).toBeNull();
      for (const text of ["{}", long(40_000), long(60_000, "b"), "{ }\n"]) {
        put(one, text);
        expect(get(one)).toBe(text);
        expect(one.text(NAME)).toBe(text);
        one.check();
      }
      expect(one.names()).toEqual([
        "::/EFI/",
        "::/EFI/BOOT/",
        "::/EFI/BOOT/BOOTX64.EFI",
        `::/${NAME}`,
      ]);
      expect(one.text("EFI/BOOT/BOOTX64.EFI")).toBe(kernel);
      expect(one.outside()).toBe(outside);
      // Every cluster it ever had is free again but those it has.
      one.mtools("mdel", `::/${NAME}`);
      put(one, long(60_000));
      one.check();
    });
  }

  test("its date is what was said", () => {
    const one = image(small16);
    put(one, "{}");
    expect(one.mtools("mdir", `::/${NAME}`)).toContain("2026-11-28  13:14");
  });
});

describe("beside other files", () => {
  test("one that mcopy wrote, in any case of letters → replaced under its own name", () => {
    for (const shape of [small16, small32]) {
      const one = image(shape);
      one.write("Cairn.JSON", long(5000));
      put(one, "{}");
      expect(one.names()).toEqual(["::/Cairn.JSON"]);
      expect(one.text("cairn.json")).toBe("{}");
      one.check();
    }
  });

  test("names that are alike, longer or share the short name → left alone", () => {
    const one = image(small32);
    const others = [
      "cairn.jso",
      "cairn.json5",
      "acairn.json",
      "cairn.js",
      "a-very-long-name-cairn.json",
    ];
    for (const name of others) one.write(name, name);
    put(one, "{}");
    put(one, long(3000));
    for (const name of others) expect(one.text(name)).toBe(name);
    expect(one.names()).toHaveLength(others.length + 1);
    expect(one.text(NAME)).toBe(long(3000));
    one.check();
  });

  test("a long name that was orphaned by an old system → not taken for the file's", () => {
    const one = image(small16);
    one.write(NAME, "old");
    one.write("other.txt", "other");
    // The first entry of the directory is the label, then the name's piece, then the short entry.
    const rootAt = rootOf(one);
    one.poke(rootAt + 2 * 32, 0x58); // another short name: its checksum is not the piece's
    put(one, "new");
    expect(one.text(NAME)).toBe("new");
  });

  test("a fragmented file system → in pieces, wherever there is room", () => {
    for (const shape of [{ ...small16, clusterSectors: 4 }, small32]) {
      const one = image(shape);
      const cluster = (shape.clusterSectors ?? 1) * 512;
      const names = Array.from({ length: 60 }, (_, at) => `f${at}.bin`);
      one.mtools("mmd", "::/d");
      for (const name of names) one.write(`d/${name}`, long(cluster, name));
      one.write("d/filler.bin", new Uint8Array(freeBytes(one) - 2 * cluster));
      const deleted = names.filter((_, at) => at % 2 === 0);
      for (const name of deleted) one.mtools("mdel", `::/d/${name}`);
      const text = long(20 * cluster);
      put(one, text);
      expect(one.text(NAME)).toBe(text);
      one.check();
      put(one, long(10 * cluster, "c")); // old and new are there at once
      one.check();
      for (const name of names.filter((other) => !deleted.includes(other))) {
        expect(one.text(`d/${name}`)).toBe(long(cluster, name));
      }
    }
  });

  test("deleted entries → used again; FAT32's directory grows, FAT16's is full", () => {
    for (const shape of [small32, { ...small16, rootEntries: 64 }]) {
      const one = image(shape);
      // Short names take one entry each; until the directory, with its label, has none left.
      const names: string[] = [];
      const limit = shape.bits === 16 ? 63 : 15 + 16 * 3;
      while (names.length < limit) {
        names.push(`F${names.length}.BIN`);
        one.write(names.at(-1) as string, "x");
      }
      if (shape.bits === 16) {
        const fault = refusal(() => put(one, "{}"));
        expect([fault.code, fault.message.includes("full root directory")]).toEqual([
          "noSpace",
          true,
        ]);
        one.mtools("mdel", "::/F20.BIN", "::/F21.BIN");
      }
      put(one, "{}");
      expect(one.text(NAME)).toBe("{}");
      one.check();
      put(one, long(3000));
      one.check();
      expect(one.names()).toHaveLength(shape.bits === 16 ? limit - 1 : limit + 1);
    }
  });

  test("the directory ends with a sector → the new name goes into the next one", () => {
    for (let count = 13; count <= 17; count++) {
      for (const shape of [small16, { ...small32, clusterSectors: 2, espBytes: 80 * MIB }]) {
        const one = image(shape, `ends${count}-${shape.bits}.raw`);
        for (let at = 0; at < count; at++) one.write(`F${at}.BIN`, String(at));
        put(one, "{}");
        one.check();
        expect(one.names()).toHaveLength(count + 1);
        one.write("later.txt", "later");
        expect([one.text(NAME), one.text("later.txt"), one.text("F0.BIN")]).toEqual([
          "{}",
          "later",
          "0",
        ]);
        one.check();
      }
    }
  });

  test("what lies behind the directory's end is garbage → stays unseen", () => {
    const one = image(small16);
    const at = rootOf(one);
    for (let slot = 2; slot < 40; slot++) one.poke(at + slot * 32, 0x47, 0x41, 0x52, 0x42);
    one.poke(at + 32, 0); // the end
    put(one, "{}");
    expect(one.names()).toEqual([`::/${NAME}`]);
    expect(one.text(NAME)).toBe("{}");
  });

  test("full → refused, nothing changed; room for it again → done", () => {
    const one = image({ ...small16, clusterSectors: 4 });
    put(one, "{}");
    one.write("filler.bin", new Uint8Array(freeBytes(one)));
    const before = Bun.hash(readFileSync(one.file));
    const fault = refusal(() => put(one, long(5000)));
    expect([fault.code, fault.message]).toEqual([
      "noSpace",
      expect.stringContaining("its EFI system partition is full"),
    ]);
    expect(Bun.hash(readFileSync(one.file))).toBe(before);
    one.mtools("mdel", "::/filler.bin");
    put(one, long(5000));
    one.check();
  });
});

/** Where the root directory of a FAT16 of two FATs begins in its partition. */
function rootOf(one: TestImage): number {
  const at = (offset: number) => one.peek(offset) + 256 * one.peek(offset + 1);
  return (at(14) + one.peek(16) * at(22)) * at(11);
}

function freeBytes(one: TestImage): number {
  const words = /([\d ]+) bytes free/.exec(one.mtools("mdir", "::/"))?.[1] ?? "0";
  return Number(words.replaceAll(" ", ""));
}

describe("what is no image of ours → refused with the reason, nothing written", () => {
  const spoils: [string, (one: TestImage) => void, string, string][] = [
    ["no GPT", (one) => writeFileSync(one.file, new Uint8Array(MIB)), "badRequest", "no GPT"],
    ["an empty file", (one) => writeFileSync(one.file, ""), "badRequest", "no GPT"],
    [
      "an MBR",
      (one) => tool("sfdisk", ["--quiet", one.file], "label: dos\nsize=8M\n"),
      "badRequest",
      "no GPT",
    ],
    [
      "compressed",
      (one) => void tool("zstd", ["-q", "-f", one.file, "-o", `${one.file}.zst`]),
      "badRequest",
      "zstd -d",
    ],
    [
      "no ESP",
      (one) => tool("sfdisk", ["--quiet", "--part-type", one.file, "1", "L"]),
      "badRequest",
      "no EFI system partition",
    ],
    [
      "two ESPs",
      (one) => {
        const second = `label: gpt\nsize=4M, type=${ESP_GUID}\nsize=4M, type=${ESP_GUID}\n`;
        tool("sfdisk", ["--quiet", one.file], second);
      },
      "badRequest",
      "2 EFI system partitions",
    ],
    ["a damaged header", (one) => one.poke(512 + 40 - ESP_AT, 1), "corrupt", "header's checksum"],
    [
      "damaged entries",
      (one) => one.poke(1024 + 60 - ESP_AT, 0x41),
      "corrupt",
      "entries' checksum",
    ],
    ["no FAT", (one) => one.poke(0, ...new Uint8Array(512)), "badRequest", "no FAT file system"],
    ["ext4", (one) => one.poke(510, 0, 0), "badRequest", "no FAT file system"],
    ["a wild sector size", (one) => one.poke(11, 0, 3), "badRequest", "no FAT file system"],
    ["larger than its partition", (one) => one.poke(19, 0xff, 0xff), "corrupt", "boot sector"],
    ["no FAT sectors", (one) => one.poke(22, 1, 0), "corrupt", "boot sector"],
    ["mounted", (one) => one.poke(37, 1), "conflict", "was not unmounted"],
    ["not cleanly unmounted", (one) => one.poke(fatOf(one) + 3, 0x7f), "conflict", "not unmounted"],
    [
      "shorter than its GPT says",
      (one) => truncateSync(one.file, ESP_AT + 4096),
      "corrupt",
      "shorter",
    ],
  ];
  for (const [what, spoil, code, said] of spoils) {
    test(what, () => {
      const one = image(small16);
      spoil(one);
      const file = what === "compressed" ? `${one.file}.zst` : one.file;
      const before = Bun.hash(readFileSync(file));
      const fault = refusal(() => writeEspFile(file, NAME, new Uint8Array(9), NOW_MS));
      expect([fault.code as string, fault.message]).toEqual([code, expect.stringContaining(said)]);
      expect(fault.message).toContain(file);
      expect(Bun.hash(readFileSync(file))).toBe(before);
    });
  }

  test("FAT12 → said so", () => {
    const one = image({ bits: 12, espBytes: 4 * MIB });
    expect(refusal(() => put(one, "{}")).message).toContain("FAT12");
  });

  test("a chain in a circle, out of the volume, into free space → refused, not followed", () => {
    for (const bytes of [
      [3, 0],
      [0xf0, 0xff],
      [0, 0],
      [0xf7, 0xff],
    ]) {
      const one = image({ ...small16, clusterSectors: 4 });
      one.write(NAME, long(5000));
      one.poke(fatOf(one) + 6, ...bytes); // its second cluster, which is number 3
      const before = Bun.hash(readFileSync(one.file));
      expect(refusal(() => put(one, "{}")).code).toBe("corrupt");
      expect(Bun.hash(readFileSync(one.file))).toBe(before);
    }
  });

  test("a folder of that name, no file at all, a folder as the image → refused", () => {
    const one = image(small16);
    one.mtools("mmd", `::/${NAME}`);
    expect(refusal(() => put(one, "{}")).message).toContain("a folder named cairn.json");
    const gone = path.join(folder, "gone.raw");
    expect(refusal(() => readEspFile(gone, NAME)).code).toBe("notFound");
    expect(refusal(() => readEspFile(folder, NAME)).message).toContain("is a folder");
  });

  test("nothing, or more than a small file → refused", () => {
    const one = image(small16);
    for (const size of [0, (64 << 10) + 1]) {
      const fault = refusal(() => writeEspFile(one.file, NAME, new Uint8Array(size), NOW_MS));
      expect(fault.code).toBe("tooLarge");
    }
  });
});

/** Where the first FAT begins. */
function fatOf(one: TestImage): number {
  return (one.peek(14) + 256 * one.peek(15)) * (one.peek(11) + 256 * one.peek(12));
}

test("a whole disk → stamped; while the kernel or another process holds it → refused", () => {
  const one = image(small32);
  const device = tool("losetup", ["--find", "--show", one.file]).trim();
  try {
    writeEspFile(device, NAME, new TextEncoder().encode("{}"), NOW_MS);
    expect(new TextDecoder().decode(readEspFile(device, NAME) ?? undefined)).toBe("{}");
    // What a mount of a partition of it does to the whole disk.
    const held = openSync(device, constants.O_RDONLY | constants.O_EXCL);
    try {
      const fault = refusal(() => writeEspFile(device, NAME, new Uint8Array(3), NOW_MS));
      expect([fault.code, fault.message]).toEqual(["conflict", expect.stringContaining("unmount")]);
    } finally {
      closeSync(held);
    }
  } finally {
    tool("losetup", ["--detach", device]);
  }
  expect(one.text(NAME)).toBe("{}");
  one.check();
});

/** Ends at the given writing, as a stick that is pulled out: later ones never happen. */
class Pulled implements RawMedium {
  writes = 0;
  readonly #medium: RawMedium;
  readonly #writesMax: number;
  constructor(medium: RawMedium, writesMax: number) {
    this.#medium = medium;
    this.#writesMax = writesMax;
  }
  read(offsetBytes: number, lengthBytes: number): Uint8Array {
    return this.#medium.read(offsetBytes, lengthBytes);
  }
  write(offsetBytes: number, bytes: Uint8Array): void {
    if (this.writes++ >= this.#writesMax) throw new Error("pulled out");
    this.#medium.write(offsetBytes, bytes);
  }
  flush(): void {
    this.#medium.flush();
  }
}

describe("ended at any writing → the old file or the new one, all others whole", () => {
  const cases: [string, ImageShape, (one: TestImage) => void, string | null][] = [
    [
      "replaced, FAT32",
      { ...small32, clusterSectors: 1 },
      (one) => one.write(NAME, long(1500, "o")),
      long(1500, "o"),
    ],
    ["replaced, FAT16", small16, (one) => one.write(NAME, long(5000, "o")), long(5000, "o")],
    ["new, FAT16", small16, () => {}, null],
    ["new behind a sector's end", small16, (one) => fill(one, 14), null],
    ["new in a directory that grows", small32, (one) => fill(one, 15), null],
  ];
  const fill = (one: TestImage, count: number) => {
    for (let at = 0; at < count; at++) one.write(`G${at}.BIN`, "g");
  };
  for (const [what, shape, before, old] of cases) {
    test(what, () => {
      const start = image(shape);
      start.write("kernel.efi", long(9000, "k"));
      before(start);
      const names = start.names();
      const text = long(2000, "n");
      const states = new Set<string | null>();
      for (let writesMax = 0; ; writesMax++) {
        const file = path.join(folder, "pulled.raw");
        const after = start.copyTo(file);
        const medium = openMedium(file);
        const pulled = new Pulled(medium, writesMax);
        let done = true;
        try {
          new EspVolume(pulled, file).write(NAME, new TextEncoder().encode(text), NOW_MS);
        } catch (error) {
          if ((error as Error).message !== "pulled out") throw error;
          done = false;
        }
        medium.close();
        const now = after.names().includes(`::/${NAME}`) ? after.text(NAME) : null;
        expect([null, old, text]).toContain(now);
        if (now === null) expect(old).toBeNull();
        states.add(now);
        expect(after.text("kernel.efi")).toBe(long(9000, "k"));
        expect(after.names().filter((name) => !name.endsWith(NAME))).toEqual(
          names.filter((name) => !name.endsWith(NAME)),
        );
        after.repair();
        expect(after.text("kernel.efi")).toBe(long(9000, "k"));
        // Whatever was left, the next stamp makes it right.
        writeEspFile(file, NAME, new TextEncoder().encode("{}"), NOW_MS);
        expect(after.text(NAME)).toBe("{}");
        after.check();
        if (done) break;
      }
      expect(states).toEqual(new Set([old, text]));
    });
  }
});
