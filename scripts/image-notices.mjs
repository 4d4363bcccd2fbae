// SPDX-License-Identifier: Apache-2.0
//
// What is in the image that others wrote: the texts of their licences, for the image itself
// (/usr/share/cairn/notices), and a software bill of materials beside it (CycloneDX 1.6,
// sbom.json).
//
// Debian's packages come from mkosi's manifest and their copyright files; the npm packages inside
// the executable from the lock file; Bun and etcd are named here, because they are in no list.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import path from "node:path";
import { CACHE, ROOT, StepFailed } from "./steps.mjs";

const MODULES = path.join(ROOT, "node_modules");
const ETCD = path.join(CACHE, "etcd");

// Debian's short names where they differ from SPDX (DEP 5, "License specification").
const SPDX_NAMES = {
  "apache-2.0": "Apache-2.0",
  "artistic-2": "Artistic-2.0",
  "bsd-2-clause": "BSD-2-Clause",
  "bsd-3-clause": "BSD-3-Clause",
  "bsd-4-clause": "BSD-4-Clause",
  "cc0-1.0": "CC0-1.0",
  expat: "MIT",
  isc: "ISC",
  mit: "MIT",
  "mpl-2.0": "MPL-2.0",
  zlib: "Zlib",
};
const GNU_NAME = /^(a?l?gpl|gfdl)-(\d)(?:\.(\d))?(\+?)$/;

function readJson(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

/** The npm packages that are compiled into the executable, by the lock file. */
function npmPackages() {
  const locked = readJson(path.join(ROOT, "package-lock.json")).packages;
  return Object.entries(locked)
    .filter(([place, entry]) => place !== "" && !entry.dev && !entry.optional)
    .map(([place, entry]) => ({ place, name: place.split("node_modules/").at(-1), ...entry }))
    .filter(({ name }) => !name.startsWith("@types/") && !/^(bun|undici)-types$/.test(name));
}

function licenceText({ place, name, version, license }) {
  const folder = path.join(ROOT, place);
  const head = `${name} ${version}\nLicence as declared by its package: ${license}\n`;
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  if (file !== undefined) return `${head}\n${readFileSync(path.join(folder, file), "utf8")}`;
  const { author, homepage } = readJson(path.join(folder, "package.json"));
  const who = typeof author === "object" ? author.name : (author ?? "its authors");
  return `${head}Its package brings no licence text. Author: ${who}. Home: ${homepage ?? "-"}\n`;
}

function bunLicence() {
  const file = path.join(MODULES, "bun-types", "docs", "project", "license.mdx");
  if (!existsSync(file)) throw new StepFailed("notices: the text of Bun's licences is not there");
  return readFileSync(file, "utf8");
}

function etcdLicence() {
  const file = path.join(ETCD, "copyright");
  if (!existsSync(file)) throw new StepFailed("notices: the text of etcd's licences is not there");
  return readFileSync(file, "utf8");
}

/** Fills a folder with the licence texts of what is not a Debian package of the image. */
export function writeNotices(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(path.join(folder, "npm"), { recursive: true });
  for (const entry of npmPackages()) {
    const file = `${entry.name.replace("/", "+")}.txt`;
    writeFileSync(path.join(folder, "npm", file), licenceText(entry));
  }
  writeFileSync(path.join(folder, "bun.txt"), bunLicence());
  writeFileSync(path.join(folder, "etcd.txt"), etcdLicence());
  writeFileSync(path.join(folder, "cairn.txt"), readFileSync(path.join(ROOT, "LICENSE")));
}

// ---- bill of materials ----------------------------------------------------------------------

function spdxName(name) {
  const plain = SPDX_NAMES[name.toLowerCase()];
  if (plain !== undefined) return plain;
  const gnu = GNU_NAME.exec(name.toLowerCase());
  if (gnu === null) return null;
  const [, family, major, minor, later] = gnu;
  return `${family.toUpperCase()}-${major}.${minor ?? "0"}-${later ? "or-later" : "only"}`;
}

/** Licences named in a copyright file, sorted; a file in free text is pointed to. */
function debianLicences(name, text) {
  const found = new Set();
  if (/^Format:.*copyright-format/m.test(text)) {
    for (const [, field] of text.matchAll(/^License:[ \t]*(\S.*)$/gm)) {
      for (const part of field.split(/,?\s+(?:and|or)\s+|,\s*/)) found.add(part.trim());
    }
  }
  if (found.size === 0) return [{ license: { name: `see notices/debian/${name}` } }];
  return [...found].sort().map((part) => {
    const id = spdxName(part);
    return { license: id === null ? { name: part } : { id } };
  });
}

function debianComponents(packages, notices) {
  return packages.map(({ name, version, architecture }) => {
    const file = path.join(notices, name);
    if (!existsSync(file)) throw new StepFailed(`sbom: no copyright file of ${name}`);
    const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
    const licenses = debianLicences(name, readFileSync(file, "utf8"));
    return { type: "library", "bom-ref": purl, name, version, purl, licenses };
  });
}

function npmComponents() {
  return npmPackages().map(({ name, version, license }) => {
    const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
    const licenses = [{ license: { id: license } }];
    return { type: "library", "bom-ref": purl, name, version, purl, licenses };
  });
}

function otherComponents() {
  const bun = readJson(path.join(MODULES, "bun", "package.json")).version;
  const etcd = readFileSync(path.join(ETCD, "VERSION"), "utf8").trim();
  const row = (name, version, purl, id) => ({
    type: "application",
    "bom-ref": purl,
    name,
    version,
    purl,
    licenses: [{ license: { id } }],
  });
  return [
    row("bun", bun, `pkg:npm/bun@${bun}`, "MIT"),
    row("etcd-server", etcd, `pkg:deb/debian/etcd-server@${etcd}?arch=amd64`, "Apache-2.0"),
  ];
}

/** What sbom.json says; the same for the same inputs. `tools`: `{ name, version }` of each. */
export function billOfMaterials({ version, built, manifests, notices, tools }) {
  const packages = new Map();
  for (const file of manifests) {
    for (const entry of readJson(file).packages) {
      packages.set(`${entry.name} ${entry.version}`, entry);
    }
  }
  const debian = [...packages.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const components = [
    ...debianComponents(debian, notices),
    ...npmComponents(),
    ...otherComponents(),
  ];
  const print = createHash("sha256")
    .update(JSON.stringify([version, components]))
    .digest("hex");
  const serial = print.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, "$1-$2-4$3-8$4-$5");
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${serial}`,
    version: 1,
    metadata: {
      timestamp: new Date(built * 1000).toISOString(),
      tools: { components: tools.map((tool) => ({ type: "application", ...tool })) },
      component: {
        type: "operating-system",
        "bom-ref": "cairn",
        name: "cairn",
        version,
        licenses: [{ license: { id: "Apache-2.0" } }],
      },
    },
    components,
  };
}
