// SPDX-License-Identifier: Apache-2.0
//
// The check before a start: this machine passes, and without root it says so.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { checkMachine } from "./machine-check.ts";

test("root on this kernel → passes, with what the ring can do", () => {
  const found = checkMachine();
  expect(found.kernel).toMatch(/^\d+\.\d+/);
  expect(found.ringFeatures).toBeArray();
});

test("without root → badMachine, said in a sentence", () => {
  // A bundle in a folder that everybody may read: the tree itself may be root's alone.
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
  try {
    const source = path.join(import.meta.dir, "machine-check.ts");
    const bundle = path.join(folder, "check.js");
    const built = spawnSync(
      process.execPath,
      ["build", "--target=bun", "--outfile", bundle, source],
      { encoding: "utf8" },
    );
    expect(`${built.status} ${built.stderr}`).toStartWith("0");
    cpSync(process.execPath, path.join(folder, "bun"));
    const script = `const { checkMachine } = await import(${JSON.stringify(bundle)});
      try { checkMachine(); } catch (fault) { console.log(fault.code, fault.message); }`;
    spawnSync("chmod", ["-R", "a+rX", folder]);
    const args = ["--reuid=65534", "--clear-groups", path.join(folder, "bun"), "-e", script];
    const { stdout, stderr } = spawnSync("setpriv", args, { encoding: "utf8", cwd: folder });
    expect(stderr).toBe("");
    expect(stdout).toContain("badMachine");
    expect(stdout).toContain("must run as root");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
