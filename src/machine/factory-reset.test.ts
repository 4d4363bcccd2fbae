// SPDX-License-Identifier: Apache-2.0
//
// A factory reset on a made-up root: what each level takes and leaves, what is told, and that a
// power cut before any step is made good by the next boot.

import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { claimDisk, examineDisk } from "./disk-tools.ts";
import { type ResetOutside, resetIfAsked } from "./factory-reset.ts";
import { runProgram } from "./program.ts";
import { type ResetLevel, ResetMarks } from "./reset-marks.ts";

setDefaultTimeout(30_000);

const MIB = 1 << 20;

let root = "";
let disks: string[];
let ran: string[];
beforeEach(async () => {
  root = mkdtempSync(path.join(tmpdir(), "cairn-reset-"));
  ran = [];
  put("var/lib/cairn/identity.sealed", "who I was");
  put("var/lib/cairn/etcd/member/wal", "log");
  put("var/lib/cairn-machine-id", "0123456789abcdef0123456789abcdef");
  put("var/lib/systemd/random-seed", "seed");
  put("efi/cairn.json", '{"joinSecret":"a secret of at least sixteen"}');
  put("efi/EFI/Linux/cairn_0.1.0.efi", "kernel");
  disks = [await disk("ours.img", true), await disk("other.img", false)];
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function at(name: string): string {
  return path.join(root, name);
}
function put(name: string, text: string): void {
  mkdirSync(path.dirname(at(name)), { recursive: true });
  writeFileSync(at(name), text);
}

async function disk(name: string, claimed: boolean): Promise<string> {
  const file = at(name);
  writeFileSync(file, "");
  truncateSync(file, 64 * MIB);
  if (claimed) await claimDisk(file, { evenIfNotBlank: false, name: "trial" });
  return file;
}

function outside(more: Partial<ResetOutside> = {}): ResetOutside {
  return {
    root,
    run: async (name, args) => {
      ran.push([name, ...args].join(" "));
      return { status: 0, output: "" };
    },
    listDisks: async () => disks,
    log: { write: () => undefined },
    ...more,
  };
}

function expectSettingsGone(): void {
  expect(readdirSync(at("var/lib/cairn"))).toEqual([]);
  expect(existsSync(at("var/lib/cairn-machine-id"))).toBe(false);
  expect(readFileSync(at("var/lib/systemd/random-seed"), "utf8")).toBe("seed");
  expect(existsSync(at("efi/EFI/Linux/cairn_0.1.0.efi"))).toBe(true);
  expect(new ResetMarks(root).factory()).toBe(null);
}

test("nobody asked → nothing is touched", async () => {
  expect(await resetIfAsked(outside())).toBe(null);
  expect(readFileSync(at("var/lib/cairn/identity.sealed"), "utf8")).toBe("who I was");
  expect(existsSync(at("run/cairn/reset.json"))).toBe(false);
});

describe("what a level takes", () => {
  test("settings → identity and state go; disks, stamp and log stay", async () => {
    new ResetMarks(root).askFactory("settings");
    new ResetMarks(root).askNetwork();
    const report = await resetIfAsked(outside());
    expect(report).toEqual({ level: "settings", emptied: [], failures: [], restart: false });
    expectSettingsGone();
    expect(await examineDisk(at("ours.img"))).toMatchObject({ state: "ours" });
    expect(existsSync(at("efi/cairn.json"))).toBe(true);
    expect(
      new ResetMarks(root).passesOverNetworkOf(readFileSync(at("efi/cairn.json"), "utf8")),
    ).toBe(false);
    expect(ran).toEqual([]);
    expect(JSON.parse(readFileSync(at("run/cairn/reset.json"), "utf8"))).toEqual(report);
    expect(await resetIfAsked(outside())).toBe(null);
  });

  test("everything → our disks are blank, the stamp is gone; other disks stay", async () => {
    new ResetMarks(root).askFactory("everything");
    const report = await resetIfAsked(outside());
    expect(report).toMatchObject({ level: "everything", emptied: [at("ours.img")], failures: [] });
    expectSettingsGone();
    expect(await examineDisk(at("ours.img"))).toMatchObject({ state: "blank" });
    expect(existsSync(at("efi/cairn.json"))).toBe(false);
    expect(ran).toEqual(["journalctl --rotate", "journalctl --vacuum-time=1s"]);
  });

  test("a disk that fails → the others are emptied, and it is told", async () => {
    disks.unshift(at("nowhere.img"));
    new ResetMarks(root).askFactory("everything");
    const report = await resetIfAsked(outside());
    expect(report?.emptied).toEqual([at("ours.img")]);
    expect(report?.failures).toEqual([expect.stringContaining("nowhere.img")]);
    expectSettingsGone();
  });
});

for (const level of ["settings", "everything"] satisfies ResetLevel[]) {
  test(`${level}: the power is cut before any step → the next boot makes it good`, async () => {
    const steps: string[] = [];
    new ResetMarks(root).askFactory(level);
    await resetIfAsked(outside({ onStep: (step) => steps.push(step) }));
    expect(steps.at(-1)).toBe("factory mark");
    for (const cut of steps.keys()) {
      if (cut % 16 !== 0 && cut < steps.length - 5) continue;
      rmSync(at("ours.img"));
      disks[0] = await disk("ours.img", true);
      put("var/lib/cairn/identity.sealed", "who I was");
      put("var/lib/cairn-machine-id", "0123456789abcdef0123456789abcdef");
      new ResetMarks(root).askFactory(level);
      let seen = 0;
      const onStep = () => {
        // Not a Fault: as little as a power cut is it caught and told.
        if (seen++ === cut) throw new TypeError("the power is cut");
      };
      await resetIfAsked(outside({ onStep })).catch(() => null);
      await resetIfAsked(outside());
      expectSettingsGone();
      const state = level === "everything" ? "blank" : "ours";
      expect(await examineDisk(at("ours.img"))).toMatchObject({ state });
    }
  });
}

describe("marks", () => {
  test("a mark that makes no sense → a fault, and nothing is wiped", async () => {
    for (const text of ["", "{", '"everything"', '{"level":"all"}']) {
      put("var/lib/cairn-reset/factory.json", text);
      await expect(resetIfAsked(outside())).rejects.toThrow("factory.json");
      expect(existsSync(at("var/lib/cairn/identity.sealed"))).toBe(true);
      expect(await examineDisk(at("ours.img"))).toMatchObject({ state: "ours" });
    }
  });

  test("asked twice → the one that goes further holds", async () => {
    const marks = new ResetMarks(root);
    marks.askFactory("settings");
    marks.askFactory("everything");
    expect(marks.factory()).toBe("everything");
    marks.factoryDone();
    marks.factoryDone();
    expect(marks.factory()).toBe(null);
  });

  test("network: what is stamped now is passed over, what is stamped later is not", () => {
    const marks = new ResetMarks(root);
    const text = readFileSync(at("efi/cairn.json"), "utf8");
    expect(marks.passesOverNetworkOf(text)).toBe(false);
    put("run/cairn-medium/cairn.json", '{"name":"stick"}');
    marks.askNetwork();
    expect(marks.passesOverNetworkOf(text)).toBe(true);
    expect(marks.passesOverNetworkOf('{"name":"stick"}')).toBe(true);
    expect(marks.passesOverNetworkOf(`${text}\n`)).toBe(false);
    marks.networkDone();
    expect(marks.passesOverNetworkOf(text)).toBe(false);
    put("run/cairn/network.json", '[{"interface":"eno1"}]');
    marks.askNetwork();
    expect(marks.passesOverNetworkOf('[{"interface":"eno1"}]')).toBe(true);
    expect(marks.passesOverNetworkOf('[{"interface":"eno2"}]')).toBe(false);
    put("var/lib/cairn-reset/network.json", "{ torn");
    expect(marks.passesOverNetworkOf(text)).toBe(false);
  });
});

describe("a box whose state partition cannot be mounted", () => {
  const STATE = "size=16M, type=4D21B016-B534-45C2-A9FB-5C16E091FD2D, name=cairn-state";

  test("the mark lies on the ESP, and the partition is named to be made anew", async () => {
    put("run/cairn/state-problem", "the state partition /dev/sda6 cannot be mounted\n");
    const boot = await disk("boot.img", false);
    await runProgram("sfdisk", ["--quiet", boot], { input: `label: gpt\nsize=16M\n${STATE}\n` });
    put("run/cairn/boot-disk", `${boot}\n`);
    const marks = new ResetMarks(root);
    expect(marks.stateProblem).toContain("/dev/sda6");
    marks.askFactory("settings");
    expect(existsSync(at("var/lib/cairn-reset"))).toBe(false);
    expect(existsSync(at("efi/cairn-reset.json"))).toBe(true);
    const report = await resetIfAsked(outside());
    expect(report).toMatchObject({ restart: true, failures: [] });
    expect(existsSync(at("efi/cairn-reset.json"))).toBe(false);
    const { output } = await runProgram("sfdisk", ["--part-label", boot, "2"]);
    expect(output.trim()).toBe("cairn-state-reset");
  });

  test("no state partition on the boot disk → told, and the mark goes", async () => {
    put("run/cairn/state-problem", "no state partition could be made\n");
    put("run/cairn/boot-disk", `${at("other.img")}\n`);
    new ResetMarks(root).askFactory("settings");
    const report = await resetIfAsked(outside());
    expect(report).toMatchObject({ restart: false });
    expect(report?.failures).toEqual([expect.stringContaining("the state partition is as it was")]);
    expect(new ResetMarks(root).factory()).toBe(null);
  });
});
