// SPDX-License-Identifier: Apache-2.0
//
// Health of real units, as a slot on trial is blessed by it: healthy as soon as they serve, not
// while an own part does not work; and updates refused where a unit is no appliance. Root only.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { VERSION } from "#appliance/version.ts";
import { LIMIT_MS, startCluster } from "./cluster-fixture.ts";
import { executable, type Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { need } from "./until.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ volumeBytes: 0 });
}, 2 * LIMIT_MS);
afterAll(() => lab?.end());

function cairn(unit: LabUnit, ...words: string[]): { status: number; output: string } {
  const made = Bun.spawnSync([executable(), ...words, "--state-directory", unit.stateFolder]);
  return { status: made.exitCode, output: made.stdout.toString() + made.stderr.toString() };
}

test(
  "units of a cluster that stands are healthy",
  () => {
    for (const unit of lab.units) {
      expect(cairn(unit, "health", "--wait", "90")).toEqual({
        status: 0,
        output: "healthy: it serves its cluster\n",
      });
    }
  },
  LIMIT_MS,
);

test(
  "a unit whose own etcd hangs is not, although others answer; it is again afterwards",
  async () => {
    const unit = lab.unit(3);
    const pid = unit.etcdPid();
    if (pid === null) throw new Error("the third unit runs no etcd");
    process.kill(pid, "SIGSTOP");
    try {
      await lab.until(
        "it says so",
        async () => {
          const { status, output } = cairn(unit, "health");
          need(status === 1 && output.includes("its own voter does not answer"), output);
          return true;
        },
        LIMIT_MS,
      );
    } finally {
      process.kill(pid, "SIGCONT");
    }
    expect(cairn(unit, "health", "--wait", "90").status).toBe(0);
  },
  2 * LIMIT_MS,
);

test("every unit says what it runs; none is an appliance, and updates are refused", async () => {
  const version = VERSION;
  await lab.until(
    "all have said it",
    async () => {
      const { output } = cairn(lab.unit(2), "update", "status", "-o", "json");
      const { units } = JSON.parse(output) as { units: { version: string; appliance: boolean }[] };
      need(units.length === lab.units.length, `${units.length} units`);
      need(
        units.every((unit) => unit.version === version),
        output,
      );
      expect(units.some((unit) => unit.appliance)).toBe(false);
      return true;
    },
    LIMIT_MS,
  );
  const refused = cairn(lab.unit(1), "update", "load", "/nowhere");
  expect([refused.status, refused.output]).toEqual([
    3,
    expect.stringContaining("this unit is not an appliance"),
  ]);
  expect(cairn(lab.unit(1), "update", "start").status).toBe(4);
});

test(
  "a unit that has just started is not healthy yet, and a stopped one is not",
  async () => {
    const unit = lab.unit(2);
    await unit.stop();
    expect(cairn(unit, "health")).toMatchObject({ status: 1 });
    unit.start();
    await lab.until(
      "it answers",
      async () => {
        const { output } = cairn(unit, "health");
        need(!output.includes("no unit answers"), output);
        return true;
      },
      LIMIT_MS,
    );
    expect(cairn(unit, "health").status).toBe(1);
    expect(cairn(unit, "health", "--wait", "90").status).toBe(0);
  },
  LIMIT_MS,
);
