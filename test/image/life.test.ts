// SPDX-License-Identifier: Apache-2.0
//
// The life of one box with UEFI firmware and secure boot: first boot, an update, releases that it
// must refuse, a broken release that it must leave by itself, an altered root that it must not run,
// and power cuts at random moments of updates and of first boots.
//
// CAIRN_POWER_CUTS says how many cuts there are (a third of them of first boots), and
// CAIRN_POWER_CUT_SEED where; a failure names the moment and the seed.

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { generateKeyPairSync, sign as signBytes } from "node:crypto";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { need } from "#test/cluster/until.ts";
import {
  BOOT_MS,
  CHANGE_MS,
  answers,
  apiOf,
  claim,
  joined,
  newOwner,
  stampedImage,
  type Owner,
} from "./appliances.ts";
import { type DiskPlace, flipByte } from "./altered-disk.ts";
import type { Box } from "./box.ts";
import { SHELL_CREDENTIALS } from "./inside-shell.ts";
import { ReleaseWorkshop } from "./next-release.ts";
import { CutMoments, cutAfter, cutsWanted, forgottenInWords } from "./power-cut.ts";
import { Rack } from "./rack.ts";
import { RecoveryVisit, breakDaemon } from "./recovery.ts";
import { Stages } from "./stages.ts";
import { load, loaded, serveReleases, settledOn, start, updateStatus } from "./updates.ts";
import { slotsInWords } from "./updates.ts";

const SHELL_MS = 120_000;
/** Of a trial that fails: it is tried three times, and each time waited for. */
const TRIAL_MS = 40 * 60_000;
const VERITY_TROUBLE = /device-mapper: verity: .*corrupt|dm-verity device corrupted/i;

/** A daemon that hangs from its start; its health is not waited for as long as a real one's. */
const BROKEN = {
  "etc/systemd/system/cairn.service.d/90-broken.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n",
  "etc/systemd/system/cairn-healthy.service.d/90-impatient.conf":
    "[Service]\nExecStart=\nExecStart=/usr/bin/cairn health --wait 20\n",
};

const say = (line: string) => process.stdout.write(`    ${line}\n`);
const began = performance.now();
const minutes = () => ((performance.now() - began) / 60_000).toFixed(1);

const story = new Stages();
const wanted = cutsWanted();
const moments = new CutMoments(wanted.seed);
const firstBootCuts = Math.ceil(wanted.count / 3);

let rack: Rack;
let owner: Owner;
let image: string;
let box: Box;
let urlOf: (release: string) => string;
let next: { good: string; broken: string };
let versions: { first: string; second: string; third: string };
/** Work of a whole first boot, and of a whole update. */
const work = { firstBoot: 0, update: 0 };

beforeAll(() => {
  rack = new Rack({ say, needsBytes: 16 * 2 ** 30 });
  owner = newOwner(rack);
  image = stampedImage(rack, owner);
  const [major, minor, patch] = rack.release.version.split(".").map(Number);
  const later = (by: number) => `${major}.${minor}.${(patch ?? 0) + by}`;
  versions = { first: rack.release.version, second: later(1), third: later(2) };
  const folder = path.join(rack.folder, "releases");
  const workshop = new ReleaseWorkshop(rack.release, folder);
  next = { good: workshop.make(versions.second), broken: workshop.make(versions.third, BROKEN) };
  urlOf = serveReleases(rack, folder);
  const credentials = { ...SHELL_CREDENTIALS };
  box = rack.add({ image, firmware: "secure-boot", credentials, lossy: true });
});
afterAll(async () => {
  await rack?.end();
  say(`the life of a box: ${minutes()} min`);
});

/** The box does its part: its API answers, it is in its cluster, its disks are in use. */
async function whole(one: Box, its: Owner): Promise<true> {
  if (its.token === null) await claim(one, its);
  await joined([one], its);
  const disks = await apiOf(one, its).disks();
  const told = disks.map((disk) => `${disk.path} ${disk.state}: ${disk.reason}`).join("; ");
  need(disks.filter((disk) => disk.state === "ready").length === 2, told);
  return true;
}

function comesBack(one: Box, its: Owner, limitMs = BOOT_MS): Promise<true> {
  return rack.until(`${one.name} does its part`, () => whole(one, its), limitMs, { lookMs: 1000 });
}

describe("first boot", () => {
  story.stage(
    "by UEFI with its own keys: answers, founds its cluster, takes its disks",
    async () => {
      await box.powerOn();
      await rack.until("an answer", () => answers(box), BOOT_MS, { lookMs: 500 });
      say(`answers ${box.secondsOn().toFixed(0)} s after power-on`);
      await comesBack(box, owner);
      work.firstBoot = box.processorSeconds();
      say(`does its part ${box.secondsOn().toFixed(0)} s after power-on`);
      const { output } = await box.shell.run("dmesg | grep -i 'secure boot'", SHELL_MS);
      expect(output).toMatch(/secure ?boot enabled/i);
    },
  );
});

describe("releases that nobody trusted has signed", () => {
  const refusedFor = async (change: (folder: string) => void) => {
    const folder = path.join(rack.folder, "releases", "altered");
    rmSync(folder, { recursive: true, force: true });
    cpSync(next.good, folder, { recursive: true });
    change(folder);
    await load(box, owner, urlOf(folder));
    const status = await loaded(rack, box, owner);
    expect(status.holds).toBeNull();
    expect(status.slots.map((slot) => slot.version)).toEqual([versions.first]);
    return status.failed?.code;
  };

  story.stage("without a signature → refused", async () => {
    const code = await refusedFor((folder) => rmSync(path.join(folder, "manifest.json.sig")));
    expect(code).toBe("notTrusted");
  });

  story.stage("signed with a key of somebody else → refused", async () => {
    const code = await refusedFor((folder) => {
      const manifest = readFileSync(path.join(folder, "manifest.json"));
      const file = path.join(folder, "manifest.json.sig");
      const { keyId } = JSON.parse(readFileSync(file, "utf8")) as { keyId: string };
      const { privateKey } = generateKeyPairSync("ed25519");
      const signature = signBytes(null, manifest, privateKey).toString("base64");
      writeFileSync(file, `${JSON.stringify({ keyId, signature })}\n`);
    });
    expect(code).toBe("notTrusted");
  });

  story.stage("with an altered manifest → refused", async () => {
    const code = await refusedFor((folder) => {
      const file = path.join(folder, "manifest.json");
      const text = readFileSync(file, "utf8");
      writeFileSync(file, text.replaceAll(versions.second, versions.third));
    });
    expect(code).toBe("notTrusted");
  });

  story.stage(
    "with one byte of its root altered → refused, though the signature holds",
    async () => {
      const code = await refusedFor((folder) => {
        const file = path.join(folder, `cairn_${versions.second}.root.raw`);
        const bytes = readFileSync(file);
        const at = bytes.length >> 1;
        bytes.writeUInt8(bytes.readUInt8(at) ^ 0x01, at);
        writeFileSync(file, bytes);
      });
      expect(code).toBeDefined();
      expect(code).not.toBe("notReady");
    },
  );
});

describe("updates", () => {
  story.stage("a signed release → runs, and is blessed once it is healthy", async () => {
    const before = { work: box.processorSeconds(), seconds: box.secondsOn() };
    await load(box, owner, urlOf(next.good));
    const status = await loaded(rack, box, owner);
    expect(status.failed).toBeNull();
    expect(status.holds).toBe(versions.second);
    await start(box, owner, { version: versions.second });
    const settled = () => settledOn(box, owner, versions.second);
    await rack.until(`version ${versions.second} blessed`, settled, BOOT_MS, { lookMs: 1000 });
    await comesBack(box, owner);
    work.update = box.processorSeconds() - before.work;
    const cost = `${work.update.toFixed(0)} s of processor time`;
    const took = (box.secondsOn() - before.seconds).toFixed(0);
    say(`updated to ${versions.second} in ${took} s (${cost})`);
    expect((await updateStatus(box, owner)).roll?.state).toBe("done");
  });

  story.stage(
    "a release whose daemon hangs → tried, left, and the one before runs again",
    async () => {
      const since = box.secondsOn();
      const resets = box.resets().byGuest;
      await load(box, owner, urlOf(next.broken));
      expect((await loaded(rack, box, owner)).failed).toBeNull();
      await start(box, owner, { version: versions.third });
      const left = async () => {
        const status = await settledOn(box, owner, versions.second);
        const third = status.slots.find((slot) => slot.version === versions.third);
        need(third?.state === "bad", `slots ${slotsInWords(status)}; ${status.sentence}`);
        return status;
      };
      const status = await rack.until("back on the good one", left, TRIAL_MS, { lookMs: 2000 });
      const tried = box.resets().byGuest - resets;
      say(
        `left ${versions.third} after ${tried} resets, ${(box.secondsOn() - since).toFixed(0)} s`,
      );
      expect(tried).toBeGreaterThanOrEqual(2);
      expect(status.sentence).toContain(versions.third);
      expect(status.roll?.state).toBe("stopped");
      await comesBack(box, owner);
    },
  );
});

describe("power cuts of updates", () => {
  for (let count = wanted.count - firstBootCuts; count > 0; count--) {
    story.stage(`update, cut number ${count} → the box comes back`, async () => {
      const running = (await updateStatus(box, owner)).version;
      const isForward = running !== versions.second;
      const release = isForward ? next.good : rack.release.directory;
      const version = isForward ? versions.second : versions.first;
      const cut = { sinceSeconds: box.processorSeconds(), workSeconds: moments.next(work.update) };
      const told = `update to ${version} cut after ${cut.workSeconds.toFixed(1)} s of work`;
      say(`${told} of ${work.update.toFixed(1)} (seed ${moments.seed})`);
      const updating = update(release, { version, downgrade: !isForward });
      say(forgottenInWords(await cutAfter(box, cut, moments.dice)));
      await updating;
      await box.powerOn();
      await comesBack(box, owner);
      const settled = async () => {
        const status = await updateStatus(box, owner);
        await settledOn(box, owner, status.version);
        return status;
      };
      const status = await rack.until("a good slot", settled, BOOT_MS, { lookMs: 1000 });
      say(`back on ${status.version} ${box.secondsOn().toFixed(0)} s after power-on`);
      expect([versions.first, versions.second]).toContain(status.version);
    });
  }
});

function diskOf(one: Box): Pick<DiskPlace, "file" | "format"> {
  const { bootDisk } = one.shape;
  if ("lossy" in bootDisk) return { file: bootDisk.lossy.file, format: "raw" };
  return { file: bootDisk.file, format: "qcow2" };
}

/** Loads and starts a release as far as the box lives to do it. */
async function update(
  release: string,
  wish: { version: string; downgrade: boolean },
): Promise<void> {
  try {
    await load(box, owner, urlOf(release));
    await loaded(rack, box, owner);
    await start(box, owner, wish);
  } catch (error) {
    if (box.running) throw error; // else it is the cut that was wanted
  }
}

describe("an altered root", () => {
  story.stage(
    "one flipped byte on the disk → it is not run; flipped back, the box runs",
    async () => {
      const { version } = await updateStatus(box, owner);
      const rows = await box.shell.run("lsblk -rbno PARTLABEL,START", SHELL_MS);
      const start = new RegExp(`^cairn_${version}_root (\\d+)$`, "m").exec(rows.output)?.[1];
      if (start === undefined) throw new Error(`no root of ${version}: ${rows.output}`);
      await box.powerButton(CHANGE_MS);
      // The file system's superblock, which nobody can mount without reading.
      const place = { ...diskOf(box), offsetBytes: Number(start) * 512 + 1024 };
      flipByte(place);
      const mark = box.serial.mark();
      await box.powerOn();
      const refused = () => box.serial.find(VERITY_TROUBLE, mark);
      const found = await rack.until("verity to refuse it", refused, BOOT_MS, { lookMs: 1000 });
      say(`told on its console: ${found[0]}`);
      const other = async () => (await updateStatus(box, owner)).version;
      // It runs the other slot, or none; never the altered one.
      const outcome = await rack.until(
        "the other slot, or the refusal again",
        async () => {
          const again = box.serial.find(VERITY_TROUBLE, mark + (found.index ?? 0)) !== null;
          const count = box.serial.lines(mark).filter((line) => VERITY_TROUBLE.test(line)).length;
          if (again && count >= 2) return "stopped with a message";
          return other();
        },
        BOOT_MS,
        { lookMs: 2000 },
      );
      say(`an altered root: ${outcome}`);
      expect(outcome).not.toBe(version);
      await box.powerCut();
      flipByte(place);
      await box.powerOn();
      await comesBack(box, owner);
    },
  );
});

describe("a box without a daemon", () => {
  let resetMark = 0;

  story.stage(
    "that keeps failing → the recovery page says why, and offers what helps",
    async () => {
      await breakDaemon(box);
      const visit = await RecoveryVisit.begin(rack, box);
      const page = await visit.read("/");
      expect(page).toContain("with exit status 70");
      expect(page).toContain("broken on purpose");
      const other = [versions.first, versions.second, versions.third].filter((one) =>
        page.includes(`Restart with version ${one}`),
      );
      expect(other).toHaveLength(1);
      expect(page).toContain(`in the other slot`);
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
  for (let count = firstBootCuts; count > 0; count--) {
    story.stage(`first boot, cut number ${count} → the box comes up all the same`, async () => {
      if (box.running) await box.powerCut();
      const fresh = rack.add({ image, firmware: "secure-boot", lossy: true });
      const its = { ...owner, token: null };
      await fresh.powerOn();
      const cut = { sinceSeconds: 0, workSeconds: moments.next(work.firstBoot) };
      const told = `first boot cut after ${cut.workSeconds.toFixed(1)} s of work`;
      say(`${told} of ${work.firstBoot.toFixed(1)} (seed ${moments.seed})`);
      say(forgottenInWords(await cutAfter(fresh, cut, moments.dice)));
      await fresh.powerOn();
      await comesBack(fresh, its);
      say(`does its part ${fresh.secondsOn().toFixed(0)} s after power-on`);
      await fresh.powerCut();
    });
  }
});
