// SPDX-License-Identifier: Apache-2.0
//
// The unit of `cairn host attach --install`, read by systemd's own checker.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { bootFiles, unitNameOf } from "./boot-files.ts";

test("systemd takes it without a word, whatever is in a path", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-unit-"));
  try {
    const words = ["/bin/true", "--token-file", '/etc/a "b" $HOME %n \\t'];
    const { unitName, unitText } = bootFiles("db.data-1", words);
    expect(unitName).toBe(unitNameOf("db.data-1"));
    writeFileSync(path.join(folder, unitName), unitText);
    const checked = Bun.spawnSync(["systemd-analyze", "verify", path.join(folder, unitName)]);
    // Of this unit: machines without a running systemd complain about others.
    const about = checked.stderr
      .toString()
      .split("\n")
      .filter((line) => line.includes(unitName));
    expect(about).toEqual([]);
    expect(unitText).toContain('"/etc/a \\"b\\" $$HOME %%n \\\\t"');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the rule names the link by the volume alone", () => {
  const { ruleText } = bootFiles("v", ["/bin/true"]);
  const program = /'sed (.*) \/sys/.exec(ruleText)?.[1] ?? "";
  const input = `cairn:${"0".repeat(32)}:db.data-1\n`;
  const run = Bun.spawnSync(["sed", program], { stdin: Buffer.from(input) });
  expect(run.stdout.toString()).toBe("db.data-1\n");
});
