// SPDX-License-Identifier: Apache-2.0
//
// The executable where it cannot become a unit: each lack is said in a sentence that names it, with
// the documented exit code, and nothing has been made. Asked of the real program, because root, the
// kernel and the command line are its surroundings.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { executable, requireMachine } from "#test/cluster/lab.ts";
import { outcome, program } from "./programs.ts";
import type { Result } from "./programs.ts";

const EXIT_USAGE = 2;
const EXIT_MACHINE = 3;
const SECRET = "trial-of-a-join-secret-0123456789";

setDefaultTimeout(30_000);

let folder = "";
beforeAll(() => {
  requireMachine({ programs: ["setpriv", "strace", "unshare"] });
  folder = mkdtempSync(path.join(tmpdir(), "cairn-start-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function stateFolder(): string {
  return path.join(folder, "state");
}

/** Runs `cairn unit` behind the given words, in a network of its own, until it ends by itself. */
function unit(before: readonly string[], ...flags: string[]): Promise<Result> {
  const words = [executable(), "unit", "--state-directory", stateFolder(), ...flags];
  const [first, ...rest] = ["unshare", "--net", ...before, ...words];
  return outcome(program(first as string), rest, { timeMs: 20_000 });
}

function configuration(settings: object): string {
  const file = path.join(folder, "cairn.json");
  writeFileSync(file, JSON.stringify(settings));
  return file;
}

test("not root → exit status 3, and root is named", async () => {
  // Its files may lie where only root looks; that right alone is kept.
  const rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...rights];
  const result = await unit(nobody);
  expect(result.stderr).toContain("root");
  expect(result.exitCode).toBe(EXIT_MACHINE);
  expect(existsSync(stateFolder())).toBe(false);
});

for (const [error, words] of [
  ["ENOSYS", /io_uring/],
  ["EPERM", /io_uring/],
] as const) {
  test(`io_uring refused with ${error} → exit status 3, and io_uring is named`, async () => {
    const strace = ["strace", "--follow-forks", "--quiet=all", "--output=/dev/null"];
    const inject = [`--inject=io_uring_setup:error=${error}`];
    const result = await unit([...strace, ...inject]);
    expect(result.stderr).toMatch(words);
    expect(result.exitCode).toBe(EXIT_MACHINE);
    expect(existsSync(stateFolder())).toBe(false);
  });
}

for (const [what, settings, named] of [
  ["a setting that does not exist", { disk: ["/dev/null"] }, "disk"],
  ["a role that does not exist", { role: "boss" }, "role"],
  ["a port beyond 65535", { ports: { nbd: 70_000 } }, "ports.nbd"],
  ["two ports alike", { ports: { nbd: 10812 } }, "ports.nbd and ports.peer"],
  ["a disk twice", { disks: ["/dev/sdz", "/dev/sdz"] }, "disks"],
  ["a slice of no whole regions", { sliceBytes: 5_000_000 }, "sliceBytes"],
  ["a weak join secret", { joinSecret: "abc" }, "joinSecret"],
  ["two ways of a secret", { joinSecret: SECRET, joinSecretFile: "/x" }, "joinSecretFile"],
  ["a secret's file that is not there", { joinSecretFile: "/nowhere/secret" }, "joinSecretFile"],
] as const) {
  test(`configuration: ${what} → exit status 2, and the setting is named`, async () => {
    const result = await unit([], "--config", configuration(settings));
    expect(result.stderr).toContain(named);
    expect(result.exitCode).toBe(EXIT_USAGE);
    expect(existsSync(stateFolder())).toBe(false);
  });
}

test("configuration: a fault in one setting → the secret beside it is not shown", async () => {
  const result = await unit([], "--config", configuration({ joinSecret: SECRET, role: "boss" }));
  expect(result.exitCode).toBe(EXIT_USAGE);
  expect(result.stdout + result.stderr).not.toContain(SECRET);
});

test("configuration: no JSON → exit status 2, the file named, no word of it shown", async () => {
  const file = path.join(folder, "cairn.json");
  writeFileSync(file, `{"joinSecret": "${SECRET}" oops`);
  const result = await unit([], "--config", file);
  expect(result.stderr).toContain(file);
  expect(result.stdout + result.stderr).not.toContain(SECRET);
  expect(result.exitCode).toBe(EXIT_USAGE);
});

test("configuration: the file is not there → exit status 2, and it is named", async () => {
  const result = await unit([], "--config", path.join(folder, "no-such-file.json"));
  expect(result.stderr).toContain("no-such-file.json");
  expect(result.exitCode).toBe(EXIT_USAGE);
});

test("flags: unknown, without a value, of a wrong kind → exit status 2, and named", async () => {
  for (const flags of [["--frobnicate"], ["--disk"], ["--nbd-port", "many"]]) {
    const result = await unit([], ...flags);
    expect(result.stderr).toContain((flags[0] as string).slice(2));
    expect([flags, result.exitCode]).toEqual([flags, EXIT_USAGE]);
  }
});
