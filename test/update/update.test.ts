// SPDX-License-Identifier: Apache-2.0
//
// Updates from end to end, as far as one process can: signed releases loaded on one box, passed on
// to the others, written into their other slots, started on trial, blessed or fallen back from, one
// box at a time.

import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { type Box, Boxes, makeKeys, makeRelease, until } from "./box-fixture.ts";

// Whole clusters and whole disks: seconds each, and more on a busy machine.
setDefaultTimeout(180_000);

const LIMIT_MS = 120_000;
let folder: string;
let boxes: Boxes;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-update-"));
  boxes = new Boxes(folder);
});
afterEach(async () => {
  await boxes.end();
  rmSync(folder, { recursive: true, force: true });
});

async function load(box: Box, release: string): Promise<void> {
  await box.console.load(release);
  await until("the load has ended", () => box.console.status().work === null, LIMIT_MS);
}
/** Afterwards its cluster knows of it. */
async function loadForAll(release: string, version: string): Promise<void> {
  await load(boxes.box(1), release);
  expect(boxes.box(1).console.plan({ ...whole, version }).version).toBe(version);
}
const whole = { version: null, only: null, accept: true, downgrade: false };
const rollOf = (unit = 1) => boxes.box(unit).console.status().roll;

/** Starts the roll and waits for its end, asking whichever box is up. */
async function roll(start = whole): Promise<string> {
  const updateOf = (box: Box) => (box.isUp ? (box.agent.cluster?.view.update ?? null) : null);
  const before = updateOf(boxes.box(1))?.attempt ?? 0;
  await boxes.box(1).console.start(start);
  let end = "";
  await until(
    "the roll has ended",
    () => {
      for (const box of boxes.boxes.values()) {
        const update = updateOf(box);
        if (update === null || update.attempt === before) continue;
        if (update.state === "done" || update.state === "stopped") end = update.state;
      }
      return end !== "" && [...boxes.boxes.values()].every((box) => box.isUp);
    },
    LIMIT_MS,
  );
  await until("box 1 has read it", () => rollOf()?.state === end);
  return end;
}
/** A roll that is to end well; says why where it did not. */
async function rollWell(start = whole): Promise<void> {
  const end = await roll(start);
  expect([end, end === "done" ? "" : rollOf()?.sentence]).toEqual(["done", ""]);
}
const refusal = async (act: Promise<unknown>): Promise<string> =>
  act.then(
    () => "it went well",
    (error: unknown) => (error instanceof Fault ? error.code : Promise.reject(error)),
  );

describe("three boxes", () => {
  beforeEach(() => boxes.found(3));

  test("a signed release goes round; each box has it from another, and is blessed", async () => {
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    expect(boxes.box(2).console.status().holds).toBeNull();
    await rollWell();
    expect(boxes.versions).toEqual(["0.3.0", "0.3.0", "0.3.0"]);
    for (const box of boxes.boxes.values()) {
      await until("its trial has ended", () => !box.console.status().trial);
      expect([box.starts, box.disk.ukis()]).toEqual([2, ["cairn_0.2.0.efi", "cairn_0.3.0.efi"]]);
      expect(box.console.status().holds).toBe("0.3.0");
    }
    // And once more, into the slot that 0.2.0 leaves.
    await loadForAll(makeRelease(folder, "0.4.0"), "0.4.0");
    await rollWell();
    expect(boxes.box(3).disk.ukis()).toEqual(["cairn_0.3.0.efi", "cairn_0.4.0.efi"]);
  });

  test("a version that does not start: back by itself, the others untouched", async () => {
    for (const box of boxes.boxes.values()) box.broken.add("0.3.0");
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    expect(await roll()).toBe("stopped");
    expect(rollOf()?.sentence).toMatch(
      /stopped: box\d came back with version 0.2.0: 0.3.0 failed its trial there/,
    );
    expect(boxes.versions).toEqual(["0.2.0", "0.2.0", "0.2.0"]);
    const tried = [...boxes.boxes.values()].filter((box) => box.starts > 1);
    expect(tried).toHaveLength(1);
    const [box] = tried;
    expect([box?.starts, box?.disk.ukis()]).toEqual([
      5,
      ["cairn_0.2.0.efi", "cairn_0.3.0+0-3.efi"],
    ]);
    await until("the box says so", () => box?.console.status().sentence !== "");
    expect(box?.console.status().sentence).toBe(
      "version 0.3.0 failed its trial here; 0.2.0 runs again",
    );
  });

  test("a version that starts and never becomes healthy: back as well", async () => {
    for (const box of boxes.boxes.values()) box.sick.add("0.3.0");
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    expect(await roll()).toBe("stopped");
    expect(boxes.versions).toEqual(["0.2.0", "0.2.0", "0.2.0"]);
    expect([...boxes.boxes.values()].filter((box) => box.starts > 1)).toHaveLength(1);
  });

  test("a box that does not trust the key refuses, whatever the cluster says", async () => {
    const other = mkdtempSync(path.join(folder, "other-"));
    const stranger = boxes.box(2);
    stranger.keysFile = makeKeys(other);
    stranger.startAgent();
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    expect(await roll({ ...whole, only: [2] as never })).toBe("stopped");
    expect(rollOf()?.sentence).toContain("box2: the update cannot be trusted: it is signed with");
    expect([stranger.version, stranger.starts, stranger.disk.ukis()]).toEqual([
      "0.2.0",
      1,
      ["cairn_0.2.0.efi"],
    ]);
  });

  test("stopped before the restart → what was written is not started by chance", async () => {
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    await boxes.box(1).console.start(whole);
    await until("a box has its turn", () => rollOf()?.current != null);
    await boxes.box(1).console.stop();
    await until("it is stopped", () => rollOf()?.state === "stopped");
    const busy = () => [...boxes.boxes.values()].some((box) => box.console.status().work !== null);
    await until("nothing goes on", () => !busy());
    for (const box of boxes.boxes.values()) {
      await until("only the running one is there, or it was on its way", () => {
        return box.disk.ukis().length === 1 || box.starts > 1;
      });
    }
    await rollWell();
  });

  test("a daemon that starts anew in the middle begins its piece again", async () => {
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    await boxes.box(1).console.start(whole);
    await until("a box has its turn", () => rollOf()?.current != null);
    const turn = boxes.box(rollOf()?.current?.unit ?? 0);
    await until("it writes its slot", () => turn.console.status().work !== null);
    await turn.startAnew();
    await until("the roll has ended", () => rollOf()?.state === "done", LIMIT_MS);
    expect(boxes.versions).toEqual(["0.3.0", "0.3.0", "0.3.0"]);
  });
});

describe("loading", () => {
  beforeEach(() => boxes.found(1));

  test("altered, unsigned, in pieces, for another machine → refused, nothing kept", async () => {
    const box = boxes.box(1);
    const broken: [string, string[], (release: string) => void, string][] = [
      ["0.3.0", [], (release) => flip(release, "cairn_0.3.0.root.raw"), "notTrusted"],
      ["0.3.0", [], (release) => flip(release, "manifest.json"), "notTrusted"],
      ["0.3.0", [], (release) => rmSync(path.join(release, "manifest.json.sig")), "notTrusted"],
      ["0.3.0", [], (release) => rmSync(path.join(release, "manifest.json")), "notFound"],
      ["0.3.0", [], (release) => rmSync(path.join(release, "cairn_0.3.0.efi")), "notFound"],
      ["0.3.0", ["--architecture", "arm64"], () => {}, "notFitting"],
      ["0.1.0", ["--feature-level", "5"], () => {}, "notFitting"],
    ];
    for (const [version, flags, spoil, code] of broken) {
      const release = makeRelease(folder, version, flags);
      spoil(release);
      await load(box, release);
      const { failed, holds, roll: announced } = box.console.status();
      expect([failed?.code, holds, announced]).toEqual([code, null, null]);
    }
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    expect(box.console.status().failed).toBeNull();
  });

  test("by upload, piece by piece; an altered one is refused at its last byte", async () => {
    const { console: updates } = boxes.box(1);
    const release = makeRelease(folder, "0.3.0");
    const text = (name: string) => readFileSync(path.join(release, name), "utf8");
    const signed = { manifest: text("manifest.json"), signature: text("manifest.json.sig") };
    const send = async () => {
      let { wants } = await updates.beginUpload(signed);
      while (wants !== null) {
        const { name, offsetBytes, leftBytes } = wants;
        const bytes = new Uint8Array(readFileSync(path.join(release, name)));
        const piece = bytes.subarray(offsetBytes, offsetBytes + Math.min(leftBytes, 40_000));
        ({ wants } = await updates.uploadPiece(name, offsetBytes, piece));
      }
    };
    flip(release, "cairn_0.3.0.efi");
    expect(await refusal(send())).toBe("notTrusted");
    expect(updates.status().holds).toBeNull();
    flip(release, "cairn_0.3.0.efi");
    await send();
    await until("it is announced", () => updates.status().roll?.version === "0.3.0");
    expect(await refusal(updates.beginUpload({ ...signed, manifest: "{}" }))).toBe("notTrusted");
  });

  test("a downgrade only when wanted; back again by a newer one", async () => {
    const box = boxes.box(1);
    await loadForAll(makeRelease(folder, "0.1.0"), "0.1.0");
    expect(await refusal(box.console.start(whole))).toBe("notFitting");
    await rollWell({ ...whole, downgrade: true });
    expect(box.version).toBe("0.1.0");
    expect(box.disk.ukis()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0+0-0.efi"]);
    await loadForAll(makeRelease(folder, "0.3.0"), "0.3.0");
    await rollWell();
    expect(box.disk.ukis()).toEqual(["cairn_0.1.0.efi", "cairn_0.3.0.efi"]);
  });

  function flip(release: string, name: string): void {
    const bytes = readFileSync(path.join(release, name));
    const at = bytes.length - 20;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(path.join(release, name), bytes);
  }
});

describe("one box in no cluster", () => {
  test("is updated alone, and says how its trial ended", async () => {
    const box = await boxes.alone();
    await load(box, makeRelease(folder, "0.3.0"));
    expect(box.console.status().roll).toBeNull();
    expect(await refusal(box.console.start(whole))).toBe("notReady");
    await box.console.startAlone({ downgrade: false });
    await until("it runs the new version", () => box.version === "0.3.0" && box.isUp);
    await until("its trial has ended", () => box.console.status().sentence !== "");
    expect(box.console.status().sentence).toBe("version 0.3.0 runs, and was found healthy");
  });

  test("nothing loaded, no appliance → refused", async () => {
    const box = await boxes.alone();
    expect(await refusal(box.console.startAlone({ downgrade: false }))).toBe("notFound");
    writeFileSync(box.disk.places.commandLineFile, "quiet\n");
    box.startAgent();
    expect(box.console.status().appliance).toBe(false);
    expect(await refusal(box.console.load("/x"))).toBe("notAppliance");
    expect(await refusal(box.console.startAlone({ downgrade: false }))).toBe("notAppliance");
  });
});
