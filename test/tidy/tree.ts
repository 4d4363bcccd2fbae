// SPDX-License-Identifier: Apache-2.0
//
// The files of this tree as they lie on disk, without what is made or downloaded, and the rule
// that none of them names the machine it was written on.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { spawnSync } from "node:child_process";
import { parseSource, type Source, type Violation } from "./source.ts";

export const ROOT = path.resolve(import.meta.dir, "..", "..");
const NOT_OURS: readonly string[] = [".git", ".cache", ".run", "dist", "node_modules"];
const TEXT_BYTES_MAX = 4 * 1024 * 1024;

/** Paths of all files below `folder`, relative to the root, sorted. */
export function filesBelow(folder = ""): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(path.join(ROOT, folder), { withFileTypes: true })) {
    const name = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (folder === "" && NOT_OURS.includes(entry.name)) continue;
    if (entry.isDirectory()) found.push(...filesBelow(name));
    else if (entry.isFile()) found.push(name);
  }
  return found.sort();
}

/** All TypeScript of the tree, and the scripts. */
export function sources(): Source[] {
  return filesBelow()
    .filter((file) => /^(src|test|types|scripts)\/.*\.(ts|tsx|mjs)$/.test(file))
    .map((file) => parseSource(file, readFileSync(path.join(ROOT, file), "utf8")));
}

function hostOf(address: string): string | null {
  const parsed = URL.parse(address.trim());
  if (parsed === null || parsed.host === "") return null;
  // A bare number or localhost also occurs in honest test code.
  return /^(localhost|[\d.]+|\[.*\])$/.test(parsed.hostname) ? `//${parsed.host}` : parsed.host;
}

function outputOf(command: string, args: readonly string[]): string {
  const answer = spawnSync(command, [...args], { encoding: "utf8", cwd: ROOT });
  return answer.status === 0 ? answer.stdout : "";
}

/** What would tell on this machine: where the tree lies, the home, registry and mirror hosts. */
export function machineWords(): string[] {
  const words = new Set<string>([`${ROOT}/`, `${path.dirname(ROOT)}/`, `${homedir()}/`]);
  const registry = hostOf(outputOf("npm", ["config", "get", "registry"]));
  if (registry !== null) words.add(registry);
  for (const line of outputOf("apt-get", ["indextargets", "--format", "$(REPO_URI)"]).split("\n")) {
    const mirror = hostOf(line);
    if (mirror !== null) words.add(mirror);
  }
  words.delete("//");
  words.delete("/tmp/"); // a clone for a trial lies there, and so do ordinary temporary files
  return [...words].filter((word) => word.length > 4);
}

export function machineNames(file: string, text: string, words: readonly string[]): Violation[] {
  const found: Violation[] = [];
  text.split("\n").forEach((line, index) => {
    for (const word of words) {
      if (!line.includes(word)) continue;
      found.push({ path: file, line: index + 1, rule: "machineNames", text: `names ${word}` });
    }
  });
  return found;
}

export function allText(): [string, string][] {
  return filesBelow()
    .filter((file) => existsSync(path.join(ROOT, file)))
    .map((file): [string, Buffer] => [file, readFileSync(path.join(ROOT, file))])
    .filter(([, bytes]) => bytes.length < TEXT_BYTES_MAX && !bytes.includes(0))
    .map(([file, bytes]) => [file, bytes.toString("utf8")]);
}
