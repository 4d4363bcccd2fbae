// SPDX-License-Identifier: Apache-2.0
//
// Package versions of the image as the build compares them (scripts/image-packages.mjs), and the
// record of them in this tree.

import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

const ROOT = path.resolve(import.meta.dir, "..");
const SCRIPT = path.join(ROOT, "scripts", "image-packages.mjs");

interface RecordedVersions {
  image: Record<string, string>;
  tools: Record<string, string>;
}

/** Calls functions of the script as the build does, by Node. */
function called<T>(expression: string, input: unknown): T {
  const program = `
    import * as packages from ${JSON.stringify(SCRIPT)};
    import { readFileSync } from "node:fs";
    const input = JSON.parse(readFileSync(0, "utf8"));
    process.stdout.write(JSON.stringify(${expression}));`;
  const words = ["--input-type=module", "--eval", program];
  const { status, stdout, stderr } = spawnSync("node", words, {
    input: JSON.stringify(input),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
}

const debian = (name: string, version: string) => {
  return { name, version, purl: `pkg:deb/debian/${name}@${version}?arch=amd64` };
};
const BILL = {
  bomFormat: "CycloneDX",
  metadata: {
    timestamp: "2026-01-01T00:00:00Z",
    tools: { components: [{ type: "application", name: "mkosi", version: "25.3-7" }] },
  },
  components: [
    debian("zstd", "1.5"),
    debian("libc6", "2.41-12"),
    { name: "zod", version: "4.0.0", purl: "pkg:npm/zod@4.0.0" },
  ],
};
const RECORD = { image: { libc6: "2.41-12", zstd: "1.5" }, tools: { mkosi: "25.3-7" } };

describe("a build", () => {
  test("is recorded by its Debian packages and its tools", () => {
    expect(called<RecordedVersions>("packages.recordOf(input)", BILL)).toEqual(RECORD);
  });

  test("with two versions of a package → both are told", () => {
    const components = [...BILL.components, debian("libc6", "2.41-13")];
    const { image } = called<RecordedVersions>("packages.recordOf(input)", {
      ...BILL,
      components,
    });
    expect(image).toEqual({ libc6: "2.41-12 and 2.41-13", zstd: "1.5" });
  });

  test("as recorded → nothing to tell; else name, recorded and built version", () => {
    const told = (recorded: object, built: object) =>
      called<string[]>("packages.inWords(packages.differences(...input))", [recorded, built]);
    expect(told(RECORD, RECORD)).toEqual([]);
    const built = { image: { libc6: "2.41-13", xz: "5.8" }, tools: { mkosi: "26-1" } };
    expect(told(RECORD, built)).toEqual([
      "image libc6: 2.41-12 recorded, 2.41-13 built",
      "image xz: none recorded, 5.8 built",
      "image zstd: 1.5 recorded, none built",
      "tools mkosi: 25.3-7 recorded, 26-1 built",
    ]);
    expect(told({}, RECORD)).toHaveLength(3); // no record at all
  });

  test("its differences stand in its bill, which says nothing where there are none", () => {
    const billed = (recorded: object) =>
      called<typeof BILL & { metadata: { properties?: object[] } }>(
        "packages.withDifferences(input[1], packages.differences(input[0], " +
          "packages.recordOf(input[1])))",
        [recorded, BILL],
      );
    expect(billed(RECORD)).toEqual(BILL);
    const other = { ...RECORD, tools: { mkosi: "25.3-6" } };
    const { metadata, components } = billed(other);
    expect(components).toEqual(BILL.components);
    expect(metadata.properties).toEqual([
      { name: "cairn:not-as-recorded", value: "tools mkosi: 25.3-6 recorded, 25.3-7 built" },
    ]);
  });
});

describe("the record in this tree", () => {
  const record = JSON.parse(
    readFileSync(path.join(ROOT, "image", "packages.lock.json"), "utf8"),
  ) as RecordedVersions;

  test("has what is asked for by name, in the image and among the tools", () => {
    const pins = readFileSync(path.join(ROOT, "image", "versions.json"), "utf8");
    const { toolsPackages } = JSON.parse(pins) as { toolsPackages: string[] };
    for (const name of [...toolsPackages, "mkosi"])
      expect(Object.keys(record.tools)).toContain(name);
    const list = readFileSync(path.join(ROOT, "image/mkosi.conf.d/20-packages.conf"), "utf8");
    const listed = [...list.matchAll(/^ {4}(\S+)$/gm)].map((match) => match[1] ?? "");
    expect(listed.length).toBeGreaterThan(10);
    for (const name of [...listed, "etcd-server"])
      expect(Object.keys(record.image)).toContain(name);
  });

  test("is sorted by name, so that an update of it reads well", () => {
    for (const names of [Object.keys(record.image), Object.keys(record.tools)]) {
      expect(names).toEqual([...names].sort());
    }
  });

  test("is of one Debian release, the same in all that names it", () => {
    const { suite } = JSON.parse(readFileSync(path.join(ROOT, "image/versions.json"), "utf8")) as {
      suite: string;
    };
    for (const file of ["image/mkosi.conf", "image/mkosi.images/initrd/mkosi.conf"]) {
      const text = readFileSync(path.join(ROOT, file), "utf8");
      const release = /^Release=(.*)$/m.exec(text)?.[1] ?? suite;
      expect([file, release]).toEqual([file, suite]);
    }
  });
});
