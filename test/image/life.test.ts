// SPDX-License-Identifier: Apache-2.0
//
// The life of one box with UEFI firmware and secure boot: first boot, an update, releases that it
// must refuse, a broken release that it must leave by itself, power cuts at random moments of
// updates (power-cut.ts), and an altered root that it must not run.

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { generateKeyPairSync, sign as signBytes } from "node:crypto";
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { need } from "#test/cluster/until.ts";
import { BOOT_MS, CHANGE_MS, answers, claim, comesBack, newOwner } from "./appliances.ts";
import { type Owner, stampedImage } from "./appliances.ts";
import { type DiskPlace, flipByte } from "./altered-disk.ts";
import type { Box } from "./box.ts";
import { HANGING, HANG_WORDS } from "./hanging-release.ts";
import { SHELL_CREDENTIALS } from "./inside-shell.ts";
import { ReleaseWorkshop } from "./next-release.ts";
import { CutMoments, cutAfter, cutsWanted, forgottenInWords } from "./power-cut.ts";
import { Rack } from "./rack.ts";
import { RecoveryVisit, breakDaemon } from "./recovery.ts";
import { Stages } from "./stages.ts";
import type { UpdateStatusView } from "#appliance/update-backend.ts";
import { load, loaded, serveReleases, settledOn, start, updateStatus } from "./updates.ts";
import { slotsInWords } from "./updates.ts";

const SHELL_MS = 120_000;
/** Of a trial that fails: it is tried three times, and each time waited for. */
const TRIAL_MS = 40 * 60_000;
const VERITY_TROUBLE = /device-mapper: verity: .*corrupt|dm-verity device corrupted/i;

const say = (line: string) => process.stdout.write(`    ${line}\n`);
const began = performance.now();
const minutes = () => ((performance.now() - began) / 60_000).toFixed(1);

const story = new Stages();
const wanted = cutsWanted();
const moments = new CutMoments(wanted.seed);

let rack: Rack;
let owner: Owner;
let image: string;
let box: Box;
let urlOf: (release: string) => string;
/** The releases on the web server: the one that boxes are flashed with, and two made from it. */
let releases: { first: string; good: string; broken: string };
let versions: { first: string; second: string; third: string };
/** Of a whole update. */
let workSeconds = 0;

beforeAll(() => {
  rack = new Rack({ say, needsBytes: 16 * 2 ** 30 });
  owner = newOwner(rack);
  image = stampedImage(rack, owner);
  const [major, minor, patch] = rack.release.version.split(".").map(Number);
  const later = (by: number) => `${major}.${minor}.${(patch ?? 0) + by}`;
  versions = { first: rack.release.version, second: later(1), third: later(2) };
  const folder = path.join(rack.folder, "releases");
  const workshop = new ReleaseWorkshop(rack.release, folder);
  releases = {
    first: path.join(folder, "first"),
    good: workshop.make(versions.second),
    broken: workshop.make(versions.third, HANGING),
  };
  symlinkSync(path.resolve(rack.release.directory), releases.first);
  urlOf = serveReleases(rack, folder);
  const credentials = { ...SHELL_CREDENTIALS };
  box = rack.add({ image, firmware: "secure-boot", credentials, lossy: true });
});
afterAll(async () => {
  await rack?.end();
  say(`the life of a box: ${minutes()} min`);
});

describe("first boot", () => {
  story.stage(
    "by UEFI with its own keys: answers, founds its cluster, takes its disks",
    async () => {
      await box.powerOn();
      await rack.until("an answer", () => answers(box), BOOT_MS, { lookMs: 500 });
      say(`answers ${box.secondsOn().toFixed(0)} s after power-on`);
      await comesBack(rack, box, owner);
      say(`does its part ${box.secondsOn().toFixed(0)} s after power-on`);
      // As if the first answer had been lost: the right code is no guess, however often it comes.
      for (let again = 0; again < 6; again++) await claim(box, owner);
      const { output } = await box.shell.run("dmesg | grep -i 'secure boot'", SHELL_MS);
      expect(output).toMatch(/secure ?boot enabled/i);
      const patience = "systemctl show --value --property=RuntimeWatchdogUSec";
      expect(await box.shell.run(patience, SHELL_MS)).toEqual({ status: 0, output: "3min" });
    },
  );
});

describe("releases that nobody trusted has signed", () => {
  const refusedFor = async (change: (folder: string) => void) => {
    const folder = path.join(rack.folder, "releases", "altered");
    rmSync(folder, { recursive: true, force: true });
    cpSync(releases.good, folder, { recursive: true });
    change(folder);
    const attempt = async () => {
      await load(box, owner, urlOf(folder));
      const status = await loaded(rack, box, owner);
      // A daemon that began anew meanwhile, on a busy machine, knows nothing of it.
      need(status.failed !== null || status.holds !== null, "neither loaded nor refused");
      return status;
    };
    const status = await rack.until("a release judged", attempt, CHANGE_MS);
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
    await load(box, owner, urlOf(releases.good));
    const status = await loaded(rack, box, owner);
    expect(status.failed).toBeNull();
    expect(status.holds).toBe(versions.second);
    await start(box, owner, { version: versions.second });
    const settled = () => settledOn(box, owner, versions.second);
    await rack.until(`version ${versions.second} blessed`, settled, BOOT_MS, { lookMs: 1000 });
    await comesBack(rack, box, owner);
    workSeconds = box.processorSeconds() - before.work;
    const cost = `${workSeconds.toFixed(0)} s of processor time`;
    const took = (box.secondsOn() - before.seconds).toFixed(0);
    say(`updated to ${versions.second} in ${took} s (${cost})`);
    expect((await updateStatus(box, owner)).roll?.state).toBe("done");
  });

  story.stage(
    "a release whose kernel, boot and daemon fail in turn → left, and the one before runs",
    async () => {
      const since = box.secondsOn();
      const before = box.resets();
      const mark = box.serial.mark();
      await load(box, owner, urlOf(releases.broken));
      expect((await loaded(rack, box, owner)).failed).toBeNull();
      await start(box, owner, { version: versions.third });
      const left = async () => {
        const status = await settledOn(box, owner, versions.second);
        const third = status.slots.find((slot) => slot.version === versions.third);
        need(third?.state === "bad", `slots ${slotsInWords(status)}; ${status.sentence}`);
        // The box says so a little after it knows its slots again.
        need(status.sentence.includes(versions.third), `it says "${status.sentence}"`);
        return status;
      };
      const status = await rack.until("back on the good one", left, TRIAL_MS, { lookMs: 2000 });
      const resets = box.resets();
      const [tried, byWatchdog] = [
        resets.byGuest - before.byGuest,
        resets.byWatchdog - before.byWatchdog,
      ];
      const took = `${(box.secondsOn() - since).toFixed(0)} s`;
      say(`left ${versions.third} after ${tried} resets, ${byWatchdog} by the watchdog, ${took}`);
      for (const words of HANG_WORDS) expect(box.serial.find(words, mark)).not.toBeNull();
      // Nobody else ends a kernel that stands still.
      expect(byWatchdog).toBeGreaterThanOrEqual(1);
      expect(tried).toBeGreaterThanOrEqual(3);
      expect(status.roll?.state).toBe("stopped");
      await comesBack(rack, box, owner);
    },
  );
});

describe("power cuts of updates", () => {
  for (let count = wanted.updates; count > 0; count--) {
    story.stage(`update, cut number ${count} → the box comes back`, async () => {
      const wish = await otherVersion();
      const cut = { sinceSeconds: box.processorSeconds(), workSeconds: moments.next(workSeconds) };
      const told = `update to ${wish.version} cut after ${cut.workSeconds.toFixed(1)} s of work`;
      say(`${told} of ${workSeconds.toFixed(1)} (seed ${moments.seed})`);
      const updating = update(wish);
      const [forgotten] = await Promise.all([cutAfter(box, cut, moments.dice), updating]);
      say(forgottenInWords(forgotten));
      await box.powerOn();
      await comesBack(rack, box, owner);
      const status = await settled();
      say(`back on ${status.version} ${box.secondsOn().toFixed(0)} s after power-on`);
      expect([versions.first, versions.second]).toContain(status.version);
    });
  }
});

interface Wish {
  version: string;
  release: string;
  downgrade: boolean;
}

/** There and back: of the two good versions the one that does not run. */
async function otherVersion(): Promise<Wish> {
  const { version } = await updateStatus(box, owner);
  if (version === versions.second) {
    return { version: versions.first, release: releases.first, downgrade: true };
  }
  return { version: versions.second, release: releases.good, downgrade: false };
}

/** Loads and starts a release as far as the box lives to do it. */
async function update({ release, version, downgrade }: Wish): Promise<void> {
  try {
    await load(box, owner, urlOf(release));
    const { holds, failed } = await loaded(rack, box, owner);
    expect({ holds, failed }).toEqual({ holds: version, failed: null });
    await start(box, owner, { version, downgrade });
  } catch (error) {
    if (box.running) throw error; // else it is the cut that was wanted
  }
}

/** Waits until a good slot runs and nothing rolls. */
function settled(): Promise<UpdateStatusView> {
  const look = async () => settledOn(box, owner, (await updateStatus(box, owner)).version);
  return rack.until("a good slot", look, BOOT_MS, { lookMs: 1000 });
}

function diskOf(one: Box): Pick<DiskPlace, "file" | "format"> {
  const { bootDisk } = one.shape;
  if ("lossy" in bootDisk) return { file: bootDisk.lossy.file, format: "raw" };
  return { file: bootDisk.file, format: "qcow2" };
}

describe("an altered root", () => {
  /** Byte of the box's boot disk. */
  const startOfRoot = async (version: string): Promise<number> => {
    const rows = await box.shell.run("lsblk -rbno PARTLABEL,START", SHELL_MS);
    const start = new RegExp(`^cairn_${version}_root (\\d+)$`, "m").exec(rows.output)?.[1];
    if (start === undefined) throw new Error(`no root of ${version}: ${rows.output}`);
    return Number(start) * 512;
  };

  story.stage(
    "one flipped byte on the disk → it is not run, and the other slot takes its place",
    async () => {
      // The power cuts may have left half an update in the other slot, which then has no kernel.
      const wish = await otherVersion();
      if (!(await settled()).slots.some((slot) => slot.version === wish.version)) {
        await update(wish);
        const there = () => settledOn(box, owner, wish.version);
        await rack.until(`version ${wish.version}`, there, BOOT_MS, { lookMs: 1000 });
      }
      const { version } = await settled();
      const other = (await otherVersion()).version;
      const offsetBytes = await startOfRoot(version);
      await box.powerButton(CHANGE_MS);
      // The file system's superblock, which nobody can mount without reading.
      flipByte({ ...diskOf(box), offsetBytes: offsetBytes + 1024 });
      const mark = box.serial.mark();
      await box.powerOn();
      const refused = () => box.serial.find(VERITY_TROUBLE, mark);
      const found = await rack.until("verity to refuse it", refused, BOOT_MS, { lookMs: 1000 });
      say(`told on its console: ${found[0]}`);
      await comesBack(rack, box, owner);
      const status = await settled();
      expect(status.version).toBe(other);
      expect(status.slots.find((slot) => slot.version === version)?.state).toBe("bad");
      say(`runs ${other} instead ${box.secondsOn().toFixed(0)} s after power-on`);
    },
  );
});

describe("a daemon that keeps failing", () => {
  story.stage("→ the recovery page offers the version in the other slot", async () => {
    const { slots } = await updateStatus(box, owner);
    const other = slots.find((slot) => !slot.running)?.version;
    await breakDaemon(box);
    const page = await (await RecoveryVisit.begin(rack, box)).read("/");
    expect(page).toContain(`Restart with version ${other}`);
    expect(page).toContain("in the other slot");
  });
});
