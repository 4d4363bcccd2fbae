// SPDX-License-Identifier: Apache-2.0
//
// The lab itself: what it makes is gone afterwards, however it ended, and its cables can be cut.
// Root only; elsewhere it fails, because nothing of CI is skipped in silence.

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { Lab, executable, requireMachine } from "./lab.ts";
import { LabRecord, removeOrphans } from "./lab-record.ts";
import { until } from "./until.ts";

const END_MS = 20_000;

interface MadeByFixture extends Disposable {
  child: ReturnType<typeof spawn>;
  folder: string;
  number: number;
  loop: string;
}

async function startFixture(): Promise<MadeByFixture> {
  requireMachine();
  const entry = path.join(import.meta.dir, "lab-fixture.ts");
  const child = spawn(process.execPath, [entry], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, CAIRN_EXECUTABLE: executable() },
  });
  let text = "";
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (text.split("\n").length > 3) break;
  }
  const [folder = "", number = "", loop = ""] = text.split("\n");
  const end = () => {
    if (child.exitCode === null) child.kill("SIGKILL");
  };
  return { child, folder, number: Number(number), loop, [Symbol.dispose]: end };
}

/** What of a lab is still there, in words. */
function leftOf(made: MadeByFixture): string[] {
  const left: string[] = [];
  const namespaces = spawnSync("ip", ["netns"], { encoding: "utf8" }).stdout;
  if (namespaces.includes(`cairn-lab${made.number}-`)) left.push("namespaces");
  if (existsSync(`/sys/class/net/cairn-lab-${made.number}`)) left.push("link");
  const loops = spawnSync("losetup", ["--list", "--output", "BACK-FILE"], { encoding: "utf8" });
  if (loops.stdout.includes(`${made.folder}/`)) left.push("loop");
  if (existsSync(made.folder)) left.push("folder");
  const processes = spawnSync("ps", ["-e", "-o", "args"], { encoding: "utf8" }).stdout;
  if (processes.includes(`sleep 1000.${made.child.pid}\n`)) left.push("processes");
  return left;
}

describe("whatever a lab made is removed", () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`${signal} → nothing is left, exit status 130`, async () => {
      using made = await startFixture();
      expect(leftOf(made)).toContain("namespaces");
      const exit = once(made.child, "exit");
      made.child.kill(signal);
      expect(await exit).toEqual([130, null]);
      expect(leftOf(made)).toEqual([]);
    });
  }

  test("kill -9 → removed as an orphan, and not before", async () => {
    using made = await startFixture();
    removeOrphans();
    expect(leftOf(made)).toEqual(["namespaces", "link", "loop", "folder", "processes"]);
    const exit = once(made.child, "exit");
    made.child.kill("SIGKILL");
    await exit;
    // A lab does this before it takes a number of its own.
    expect(removeOrphans()).toBeGreaterThan(0);
    expect(leftOf(made)).toEqual([]);
  });

  test("an error while it is made → nothing is left", () => {
    requireMachine();
    const before = LabRecord.take();
    before.removeAll();
    expect(() => new Lab({ needsBytes: Number.MAX_SAFE_INTEGER })).toThrow("are needed");
    expect(existsSync(before.folder)).toBe(false);
  });
});

/** Whether a TCP connection from one unit's namespace reaches another's. */
function reaches(lab: Lab, from: number, to: number): boolean {
  const script = `
    const timer = setTimeout(() => process.exit(1), 700);
    const { address, port } = { address: "${lab.unit(to).address}", port: 9999 };
    const socket = { data() {}, open() { process.exit(0); }, connectError() { process.exit(2); } };
    await Bun.connect({ hostname: address, port, socket }).catch(() => process.exit(2));
    timer.ref();`;
  const inside = ["netns", "exec", lab.unit(from).namespace];
  const result = spawnSync("ip", [...inside, process.execPath, "--eval", script]);
  // Refused is an answer too: the packet went there and one came back.
  return result.status === 0 || result.status === 2;
}

test("cables: cut, cut one way, healed", async () => {
  await using lab = new Lab();
  lab.add();
  lab.add();
  expect(reaches(lab, 1, 2)).toBe(true);
  lab.network.cut(2);
  expect(reaches(lab, 1, 2)).toBe(false);
  lab.network.heal(2);
  await until("the cable carries again", () => (reaches(lab, 1, 2) ? true : null), {
    limitMs: END_MS,
  });
  lab.network.cutOneWay(1, 2);
  expect(reaches(lab, 1, 2)).toBe(false);
  lab.network.healOneWay(1, 2);
  expect(reaches(lab, 1, 2)).toBe(true);
});
