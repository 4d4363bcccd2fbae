// SPDX-License-Identifier: Apache-2.0
//
// Network cards are counted by what sysfs says of each interface.

import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { countNetworkCards } from "./card-count.ts";

test("only ethernet interfaces with a device behind them are cards", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-cards-"));
  try {
    const put = (name: string, type: string, hasDevice: boolean) => {
      mkdirSync(path.join(folder, name));
      writeFileSync(path.join(folder, name, "type"), `${type}\n`);
      if (hasDevice) mkdirSync(path.join(folder, name, "device"));
    };
    put("lo", "772", false);
    put("eth0", "1", true);
    put("eth1", "1", true);
    put("bridge0", "1", false);
    put("ib0", "32", true);
    expect(countNetworkCards(folder)).toBe(2);
    expect(countNetworkCards(path.join(folder, "nothing"))).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
