// SPDX-License-Identifier: Apache-2.0
//
// Debian's packages, taken the way this machine takes them: its own apt, its mirrors, its keys and
// proxy. Two uses: installing programs on the machine, and a private apt (lists, cache and sources
// in a folder of ours) that fetches packages of a newer suite without touching the machine's own.
//
// No address of a mirror is known here; the machine's apt is asked each time.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { EXIT, ROOT, StepFailed, mustRun, runChild, say, wait, which } from "./steps.mjs";

/** The Debian suite of everything we fetch: etcd 3.5, mkosi, and what the image is made of. */
export const SUITE = JSON.parse(readFileSync(path.join(ROOT, "image", "versions.json"))).suite;
export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

const APT_ATTEMPTS_MAX = 3;
const APT_RETRY_MS = 5_000;

export function isRoot() {
  return process.getuid?.() === 0;
}

/** Runs apt-get, again after a pause when it fails: mirrors have bad moments. */
export async function aptGet(what, args, options = {}) {
  const all = ["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", ...args];
  const env = { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" };
  for (let attempt = 1; ; attempt++) {
    const result = await runChild("apt-get", all, { env, limitMinutes: 20, ...options });
    if (result.status === 0) return;
    if (attempt === APT_ATTEMPTS_MAX) {
      throw new StepFailed(`${what} failed ${attempt} times; the last lines:\n${result.output}`);
    }
    say(`setup: ${what} failed, trying again in ${APT_RETRY_MS / 1000} s`);
    await wait(APT_RETRY_MS);
  }
}

/**
 * The Debian mirrors this machine's apt uses: `{ main, security }`, the second one null where the
 * machine has none. They are asked for, never written down.
 */
export function debianMirrors() {
  const format = "$(CREATED_BY)|$(LABEL)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)";
  const answer = spawnSync("apt-get", ["indextargets", "--format", format], { encoding: "utf8" });
  const rows = (answer.stdout ?? "").split("\n").map((line) => line.split("|"));
  const found = rows.filter((row) => row[0] === "Packages" && row[3] === "main" && row[4]);
  const named = found.find((row) => row[1] === "Debian" && !row[2]?.includes("-"));
  const guess = found.find((row) => !/security|backports|updates/.test(row.join("|")));
  const security = found.find((row) => row[1] === "Debian-Security");
  const main = (named ?? guess)?.[4];
  if (main === undefined) throw new StepFailed("apt has no Debian mirror configured");
  return { main, security: security?.[4] ?? null };
}

/** The suite with its updates, each as `{ uri, suite }`; security only where there is a mirror. */
export function debianSuites() {
  const { main, security } = debianMirrors();
  const suites = [
    { uri: main, suite: SUITE },
    { uri: main, suite: `${SUITE}-updates` },
  ];
  if (security !== null) suites.push({ uri: security, suite: `${SUITE}-security` });
  return suites;
}

/** Lines of a sources.list for these suites. */
export function sourceLines(suites, components) {
  const signed = `[signed-by=${DEBIAN_KEYRING}]`;
  return suites.map(({ uri, suite }) => `deb ${signed} ${uri} ${suite} ${components}\n`).join("");
}

/** An apt of our own in a folder: options for apt-get, with the machine's keys and proxy. */
export function privateApt(folder, sources) {
  for (const name of ["lists/partial", "archives/partial", "parts"]) {
    mkdirSync(path.join(folder, name), { recursive: true });
  }
  const source = path.join(folder, "sources.list");
  writeFileSync(source, sources);
  const settings = {
    "Dir::Etc::SourceList": source,
    "Dir::Etc::SourceParts": path.join(folder, "parts"),
    "Dir::State::Lists": path.join(folder, "lists"),
    "Dir::Cache": folder,
    "Dir::Cache::Archives": path.join(folder, "archives"),
    "APT::Sandbox::User": isRoot() ? "root" : "",
    "Acquire::Languages": "none",
    "Acquire::AllowInsecureRepositories": "false",
    "APT::Get::AllowUnauthenticated": "false",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

/** The machine's proxy settings for apt, as lines of an apt.conf; often none. */
export function proxySettings() {
  const answer = spawnSync("apt-config", ["dump", "Acquire"], { encoding: "utf8" });
  const lines = (answer.stdout ?? "").split("\n");
  return lines.filter((line) => /^Acquire::\w+::Proxy\b.*";$/.test(line)).join("\n");
}

/**
 * Fetches packages of `suites` with a private apt in `folder` and unpacks them; returns the folder
 * that holds what was in them.
 */
export async function fetchPackages(what, names, folder, suites = debianSuites()) {
  if (which("apt-get") === null || !existsSync(DEBIAN_KEYRING)) {
    throw new StepFailed(`fetching ${what} needs apt-get and the package debian-archive-keyring`, {
      exitStatus: EXIT.missing,
    });
  }
  const apt = privateApt(folder, sourceLines(suites, "main"));
  await aptGet(`apt-get update for ${what}`, [...apt, "update"]);
  const archives = path.join(folder, "archives");
  await aptGet(`downloading ${what}`, [...apt, "download", ...names], { cwd: archives });
  const unpacked = path.join(folder, "unpacked");
  for (const name of readdirSync(archives).filter((entry) => entry.endsWith(".deb"))) {
    await mustRun(`unpacking ${what}`, "dpkg-deb", ["-x", path.join(archives, name), unpacked]);
  }
  return unpacked;
}
