// SPDX-License-Identifier: Apache-2.0
//
// First boots of boxes with UEFI firmware and secure boot: a whole one; a daemon that keeps failing
// on it, the recovery page, and the reset that makes it a first boot again; and power cuts at
// random moments of first boots (power-cut.ts).

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { BOOT_MS, answers, comesBack, newOwner, stampedImage, type Owner } from "./appliances.ts";
import type { Box } from "./box.ts";
import { SHELL_CREDENTIALS } from "./inside-shell.ts";
import { CutMoments, cutAfter, cutsWanted, forgottenInWords } from "./power-cut.ts";
import { Rack } from "./rack.ts";
import { RecoveryVisit, breakDaemon, mendDaemon } from "./recovery.ts";
import { Stages } from "./stages.ts";
import { updateStatus } from "./updates.ts";

const SHELL_MS = 120_000;

const say = (line: string) => process.stdout.write(`    ${line}\n`);

const story = new Stages();
const wanted = cutsWanted();
const moments = new CutMoments(wanted.seed);

let rack: Rack;
let owner: Owner;
let image: string;
let box: Box;
/** Of a whole first boot. */
let workSeconds = 0;

beforeAll(() => {
  rack = new Rack({ say, needsBytes: 12 * 2 ** 30 });
  owner = newOwner(rack);
  image = stampedImage(rack, owner);
  const credentials = { ...SHELL_CREDENTIALS };
  box = rack.add({ image, firmware: "secure-boot", credentials });
});
afterAll(async () => {
  await rack?.end();
});

story.stage("a first boot → answers, founds its cluster, takes its disks", async () => {
  await box.powerOn();
  await comesBack(rack, box, owner);
  workSeconds = box.processorSeconds();
  say(`does its part ${box.secondsOn().toFixed(0)} s after power-on`);
});

describe("a box without a daemon", () => {
  let resetMark = 0;

  story.stage("whose trouble passes → is started again without a hand", async () => {
    await breakDaemon(box);
    const visit = await RecoveryVisit.begin(rack, box);
    expect(await visit.read("/")).toContain("Cairn is started again by itself in");
    await mendDaemon(box);
    await comesBack(rack, box, owner);
  });

  story.stage(
    "that keeps failing → the recovery page says why, and offers what helps",
    async () => {
      await breakDaemon(box);
      const visit = await RecoveryVisit.begin(rack, box);
      const page = await visit.read("/");
      expect(page).toContain("with exit status 70");
      expect(page).toContain("broken on purpose");
      expect(await visit.read("/log")).toContain("broken on purpose");
      const name = /<h1>(\S+) is in recovery<\/h1>/.exec(page)?.[1] ?? "";
      const reset = (typed: string) => visit.press("/reset", { level: "everything", name: typed });
      expect((await reset(`${name}-not`)).status).toBe(400);
      resetMark = box.second.mark();
      expect((await reset(name)).status).toBe(200);
    },
  );

  story.stage("reset to factory → blank disks, nobody's box, no settings", async () => {
    const begun = () => box.second.find(/^cairn-ready$/, resetMark);
    await rack.until("the restart", begun, BOOT_MS, { lookMs: 1000 });
    await rack.until("an answer", () => answers(box), BOOT_MS, { lookMs: 1000 });
    const { status, output } = await box.shell.run("cat /run/cairn/reset.json", SHELL_MS);
    expect({ status, output }).toMatchObject({ status: 0 });
    const report = JSON.parse(output) as { level: string; emptied: string[]; failures: string[] };
    expect(report.level).toBe("everything");
    expect(report.failures).toEqual([]);
    expect(report.emptied.length).toBeGreaterThan(0);
    // The old owner is a stranger to it.
    await expect(updateStatus(box, owner)).rejects.toThrow("HTTP 401");
    const blank = await box.shell.run("cmp -n 1048576 /dev/nvme0n1 /dev/zero", SHELL_MS);
    expect(blank).toEqual({ status: 0, output: "" });
    const stamp = await box.shell.run("test ! -e /efi/cairn.json", SHELL_MS);
    expect(stamp.status).toBe(0);
  });
});

describe("power cuts of first boots", () => {
  for (let count = wanted.firstBoots; count > 0; count--) {
    story.stage(`first boot, cut number ${count} → the box comes up all the same`, async () => {
      if (box.running) await box.powerCut();
      const fresh = rack.add({ image, firmware: "secure-boot", lossy: true });
      const its = { ...owner, token: null };
      await fresh.powerOn();
      const cut = { sinceSeconds: 0, workSeconds: moments.next(workSeconds) };
      const told = `first boot cut after ${cut.workSeconds.toFixed(1)} s of work`;
      say(`${told} of ${workSeconds.toFixed(1)} (seed ${moments.seed})`);
      say(forgottenInWords(await cutAfter(fresh, cut, moments.dice)));
      await fresh.powerOn();
      await comesBack(rack, fresh, its);
      say(`does its part ${fresh.secondsOn().toFixed(0)} s after power-on`);
      await fresh.powerCut();
    });
  }
});
