// SPDX-License-Identifier: Apache-2.0
//
// Versions: what an image holds and what built it, as its bill of materials tells (sbom.json), and
// as image/packages.lock.json records. Debian's mirrors keep only their newest packages, so that a
// record cannot be enforced, only compared: every difference is told, in the build's output and in
// its bill, and refused where the caller wants exactly what was recorded.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ROOT } from "./steps.mjs";

export const LOCK = path.join(ROOT, "image", "packages.lock.json");
/** Of a property of the bill: one for each difference. */
const DIFFERENCE = "cairn:not-as-recorded";
const PARTS = ["image", "tools"];

function sorted(components) {
  const found = {};
  for (const { name, version } of components) {
    // Two of one name: a part of the image is from an older cache. That is a difference, too.
    found[name] = found[name] === undefined ? version : `${found[name]} and ${version}`;
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** `{ image, tools }`: versions by the name of the Debian package. */
export function recordOf(bill) {
  const fromDebian = bill.components.filter(({ purl }) => purl.startsWith("pkg:deb/"));
  return { image: sorted(fromDebian), tools: sorted(bill.metadata.tools.components) };
}

/** What is not as recorded: `{ part, name, recorded, built }`, null where one has none. */
export function differences(recorded, built) {
  return PARTS.flatMap((part) => {
    const [then, now] = [recorded[part] ?? {}, built[part] ?? {}];
    const names = [...new Set([...Object.keys(then), ...Object.keys(now)])].sort();
    return names
      .filter((name) => then[name] !== now[name])
      .map((name) => ({ part, name, recorded: then[name] ?? null, built: now[name] ?? null }));
  });
}

/** One line for each, for a person. */
export function inWords(found) {
  return found.map(({ part, name, recorded, built }) => {
    return `${part} ${name}: ${recorded ?? "none"} recorded, ${built ?? "none"} built`;
  });
}

/** The bill, with its differences among its properties. */
export function withDifferences(bill, found) {
  if (found.length === 0) return bill;
  const properties = inWords(found).map((value) => ({ name: DIFFERENCE, value }));
  return { ...bill, metadata: { ...bill.metadata, properties } };
}

export function readRecord(file = LOCK) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
}

export function writeRecord(record, file = LOCK) {
  writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
