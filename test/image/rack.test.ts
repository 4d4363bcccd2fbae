// SPDX-License-Identifier: Apache-2.0
//
// The rack itself: guests, taps, namespaces and disks are gone afterwards, however it ended; and a
// box does what its buttons say. Root only; elsewhere it fails, because nothing of CI is skipped in
// silence.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { removeOrphans } from "#test/cluster/lab-record.ts";
import { Rack, requireMachine } from "./rack.ts";

const FIRMWARE_MS = 120_000;
const PNG_MAGIC = "\x89PNG";

interface MadeByFixture extends Disposable {
  child: ReturnType<typeof spawn>;
  folder: string;
  number: number;
}

async function startFixture(): Promise<MadeByFixture> {
  requireMachine();
  const entry = path.join(import.meta.dir, "rack-fixture.ts");
  const child = spawn(process.execPath, [entry], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (text.split("\n").length > 2) break;
  }
  const [folder = "", number = ""] = text.split("\n");
  const end = () => {
    if (child.exitCode === null) child.kill("SIGKILL");
  };
  return { child, folder, number: Number(number), [Symbol.dispose]: end };
}

/** What of a rack is still there, in words. */
function leftOf(made: MadeByFixture): string[] {
  const left: string[] = [];
  const namespaces = spawnSync("ip", ["netns"], { encoding: "utf8" }).stdout;
  if (namespaces.includes(`cairn-lab${made.number}-`)) left.push("namespace");
  if (existsSync(`/sys/class/net/cairn-lab-${made.number}`)) left.push("link");
  if (existsSync(made.folder)) left.push("folder");
  const processes = spawnSync("ps", ["-e", "-o", "args"], { encoding: "utf8" }).stdout;
  for (const name of ["qemu-system", "dnsmasq"]) {
    const isOurs = (line: string) => line.includes(name) && line.includes(`${made.folder}/`);
    if (processes.split("\n").some(isOurs)) left.push(name);
  }
  return left;
}

describe("whatever a rack made is removed", () => {
  test("SIGTERM → nothing is left, exit status 130", async () => {
    using made = await startFixture();
    expect(leftOf(made)).toEqual(["namespace", "link", "folder", "qemu-system", "dnsmasq"]);
    const exit = once(made.child, "exit");
    made.child.kill("SIGTERM");
    expect(await exit).toEqual([130, null]);
    expect(leftOf(made)).toEqual([]);
  });

  test("kill -9 → removed as an orphan", async () => {
    using made = await startFixture();
    const exit = once(made.child, "exit");
    made.child.kill("SIGKILL");
    await exit;
    // A rack does this before it takes a number of its own.
    expect(removeOrphans()).toBeGreaterThan(0);
    expect(leftOf(made)).toEqual([]);
  });
});

test("a box: on, looked at, reset, cut from power; what it ends by itself is told", async () => {
  await using rack = new Rack();
  const box = rack.add({ memoryMegabytes: 256 });
  await box.powerOn();
  const firmware = () => box.serial.find(/BdsDxe: (starting|loading)/);
  await rack.until("the firmware speaks", firmware, FIRMWARE_MS);
  const picture = path.join(rack.folder, "screen.png");
  await box.screenshot(picture);
  expect(readFileSync(picture).toString("latin1", 0, 4)).toBe(PNG_MAGIC);

  const mark = box.serial.mark();
  await box.reset();
  const again = () => box.serial.find(/BdsDxe: (starting|loading)/, mark);
  await rack.until("the firmware speaks again", again, FIRMWARE_MS);

  await box.powerCut();
  expect(box.running).toBe(false);
  expect(() => box.stillRuns()).not.toThrow();

  await box.powerOn();
  await box.control("quit");
  await rack.until("QEMU gone", () => (box.running ? null : true), FIRMWARE_MS, {
    stillWorthIt: () => rack.checkOpen(),
  });
  expect(() => box.stillRuns()).toThrow("went off by itself (status 0)");
});
