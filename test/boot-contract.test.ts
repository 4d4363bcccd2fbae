// SPDX-License-Identifier: Apache-2.0
//
// What firmware/boot and image say in more than one place, or say about the source, is the same
// everywhere: sizes of slots, the type of Cairn's GPT partition, programs and commands that units
// call, units that are started or never.

import { describe, expect, test } from "bun:test";
import { accessSync, constants, readFileSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { commands } from "#appliance/cli/run.ts";
import { PARTITION_TYPE } from "#machine/disk-tools.ts";

const ROOT = path.resolve(import.meta.dir, "..");
const BOOT = path.join(ROOT, "firmware", "boot");
const IMAGE = path.join(ROOT, "image");

function text(...names: string[]): string {
  return readFileSync(path.join(...names), "utf8");
}

function setting(file: string, name: string): string | undefined {
  return new RegExp(`^${name}=(.*)$`, "m").exec(file)?.[1];
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => path.join(folder, name))
    .filter((file) => statSync(file).isFile());
}

/** The units of the tree, by name. */
function units(): Map<string, string> {
  const files = [BOOT, path.join(IMAGE, "mkosi.extra")].flatMap(filesBelow);
  const found = files.filter((file) => /\.(service|path|target|mount)$/.test(file));
  return new Map(found.map((file) => [path.basename(file), text(file)]));
}

/** Lines of a list, without comments. */
function lines(list: string): string[] {
  return list.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

describe("partitions", () => {
  test("spare space of the boot disk → of the type that Cairn looks for", () => {
    const type = setting(text(BOOT, "repart.d", "40-disk.conf"), "Type");
    expect(type?.toUpperCase()).toBe(PARTITION_TYPE);
  });

  test("slots A and B, as built and as made at first boot → equal in size", () => {
    const built = [text(IMAGE, "mkosi.repart", "10-root.conf")];
    const later = ["10-root-a.conf", "20-root-b.conf"].map((name) => text(BOOT, "repart.d", name));
    const hashBuilt = [text(IMAGE, "mkosi.repart", "11-root-verity.conf")];
    const hashLater = ["11-hash-a.conf", "21-hash-b.conf"].map((name) => {
      return text(BOOT, "repart.d", name);
    });
    for (const files of [
      [...built, ...later],
      [...hashBuilt, ...hashLater],
    ]) {
      const sizes = files.flatMap((file) => [
        setting(file, "SizeMinBytes"),
        setting(file, "SizeMaxBytes"),
      ]);
      expect(sizes).not.toContain(undefined);
      expect(new Set(sizes).size).toBe(1);
    }
  });
});

describe("units", () => {
  test("programs of our own that they call → there, and executable in the tree", () => {
    const scripts = [...units().values()].flatMap((unit) => {
      return [...unit.matchAll(/=-?(\/usr\/lib\/cairn\/[a-z-]+)/g)].map((match) => match[1] ?? "");
    });
    expect(scripts.length).toBeGreaterThan(2);
    for (const script of scripts) {
      const places = ["both", "initrd", "root"].map((tree) => path.join(BOOT, tree, script));
      const there = places.filter((place) => {
        try {
          accessSync(place, constants.X_OK);
          return true;
        } catch {
          return false;
        }
      });
      expect({ script, places: there.length }).toEqual({ script, places: 1 });
    }
  });

  test("commands of the executable that they call → there", () => {
    const calls = [...units().values()].flatMap((unit) => {
      return [...unit.matchAll(/=-?\/usr\/bin\/cairn ([a-z -]+)/g)].map((match) => match[1] ?? "");
    });
    expect(calls).toContain("unit --appliance");
    const known = commands.map((command) => command.words.join(" "));
    for (const call of calls) {
      const words = call.split(" --")[0] ?? "";
      expect(known).toContain(words.trim());
    }
  });

  test("a unit named by another → exists, or is Debian's", () => {
    const known = units();
    for (const [name, unit] of known) {
      for (const [, other] of unit.matchAll(/\b(cairn-[a-z]+(?:@)?\.(?:service|path))\b/g)) {
        expect({ name, other, known: known.has(other ?? "") }).toMatchObject({ known: true });
      }
    }
  });

  test("what is started → has a unit here where it is ours, and is not masked", () => {
    const presets = [
      text(IMAGE, "mkosi.extra/usr/lib/systemd/system-preset/00-cairn.preset"),
      text(BOOT, "initrd/usr/lib/systemd/system-preset/00-cairn.preset"),
    ].flatMap(lines);
    const masked = lines(text(BOOT, "both/usr/lib/cairn/masked-units"));
    const started = presets.flatMap((line) => /^enable (\S+)/.exec(line)?.[1] ?? []);
    expect(started).toContain("cairn.service");
    for (const name of started) {
      expect(masked).not.toContain(name);
      if (name.startsWith("cairn")) expect([...units().keys()]).toContain(name);
    }
    // Everything else is off: a preset without this line would start all that Debian brings.
    expect(presets.filter((line) => line === "disable *")).toHaveLength(2);
  });
});

test("lists of packages → one a line, sorted, none twice", () => {
  const folder = path.join(IMAGE, "mkosi.conf.d");
  for (const name of ["20-packages.conf", "30-firmware.conf", "40-remove.conf"]) {
    const listed = text(folder, name)
      .split("\n")
      .filter((line) => /^ {4}\S/.test(line));
    expect(listed.length).toBeGreaterThan(2);
    expect(listed).toEqual([...new Set(listed)].sort());
  }
});
