// SPDX-License-Identifier: Apache-2.0
//
// Writing a slot on the image of a boot disk: what stands there afterwards, every step at which it
// may be cut off, and all that must be refused. After every cut the running slot is bit for bit
// what it was, nothing else can be started, and a second try ends well.

import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { type BootDisk, ROOT_HASH, makeBootDisk, readAt, sha256 } from "./boot-disk-fixture.ts";
import { runProgram } from "./program.ts";
import { EMPTY_LABEL, findBootDisk, slotPairs } from "./slot-disk.ts";
import { type SlotPayload, armSlot, withdrawSlot, writeSlot } from "./slot-writer.ts";
import { listSlots, partitionIdsOf } from "./slots.ts";

// Whole clusters and whole disks: seconds each, and more on a busy machine.
setDefaultTimeout(180_000);

class Cut extends Error {}

let folder: string;
let box: BootDisk;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-slot-"));
  box = await makeBootDisk(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const options = (onStep?: (step: string) => void) => ({
  disk: box.disk,
  places: box.places,
  ...(onStep === undefined ? {} : { onStep }),
});
async function install(payload: SlotPayload, onStep?: (step: string) => void): Promise<void> {
  await writeSlot(payload, options(onStep));
  await armSlot(payload, options(onStep));
}
async function refusal(act: Promise<unknown>): Promise<[string, string]> {
  try {
    await act;
  } catch (error) {
    if (error instanceof Fault) return [error.code, error.message];
    throw error;
  }
  return ["", "it went well"];
}

/** That the other slot is, on the disk, just the payload. */
async function expectInstalled(payload: SlotPayload, at = box.disk): Promise<void> {
  const { other } = await slotPairs(at, ROOT_HASH);
  for (const role of ["root", "hash"] as const) {
    const { label, id, offsetBytes, sizeBytes } = other[role];
    expect([label, id]).toEqual([`cairn_${payload.version}_${role}`, payload[role].partitionId]);
    expect(sha256(readAt(at, offsetBytes, payload[role].bytes))).toBe(payload[role].sha256);
    const rest = readAt(at, offsetBytes + payload[role].bytes, sizeBytes - payload[role].bytes);
    expect(rest.findIndex((byte) => byte !== 0)).toBe(-1);
  }
  const uki = path.join(box.places.ukiDirectory, `cairn_${payload.version}+3-0.efi`);
  expect(sha256(readFileSync(uki))).toBe(payload.uki.sha256);
}

describe("a slot is written", () => {
  test("into the empty slot: partitions, names, ids and the UKI on trial", async () => {
    const before = await box.running();
    const payload = box.payload("0.3.0");
    await writeSlot(payload, options());
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi", "cairn_0.3.0.efi.new"]);
    await armSlot(payload, options());
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi", "cairn_0.3.0+3-0.efi"]);
    await expectInstalled(payload);
    expect(await box.running()).toEqual(before);
    await runProgram("sfdisk", ["--verify", box.disk]);
  });

  test("over an older version: its UKI goes before its partitions", async () => {
    await install(box.payload("0.3.0"));
    const steps: string[] = [];
    await install(box.payload("0.4.0"), (step) => steps.push(step));
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi", "cairn_0.4.0+3-0.efi"]);
    expect(steps.slice(0, 4)).toEqual([
      "look",
      "remove cairn_0.3.0+3-0.efi",
      "empty hash",
      "empty root",
    ]);
    await expectInstalled(box.payload("0.4.0"));
  });

  test("an older version takes precedence, and the running one is put last", async () => {
    await install(box.payload("0.1.0"));
    expect(box.ukis()).toEqual(["cairn_0.1.0+3-0.efi", "cairn_0.2.0+0-0.efi"]);
    expect(listSlots(box.places).map(({ version, state }) => [version, state])).toEqual([
      ["0.2.0", "good"],
      ["0.1.0", "trial"],
    ]);
    withdrawSlot(options());
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi"]);
  });

  test("a newer one, where the running one was put last: that is good again first", async () => {
    const good = path.join(box.places.ukiDirectory, "cairn_0.2.0.efi");
    renameSync(good, path.join(box.places.ukiDirectory, "cairn_0.2.0+0-0.efi"));
    await install(box.payload("0.3.0"));
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi", "cairn_0.3.0+3-0.efi"]);
  });

  test("what is withdrawn before its start leaves the running version alone", async () => {
    await writeSlot(box.payload("0.3.0"), options());
    withdrawSlot(options());
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi"]);
    await install(box.payload("0.3.0"));
    withdrawSlot(options());
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi"]);
  });
});

/** Names of all steps of an installation. */
async function stepsOf(payload: SlotPayload): Promise<string[]> {
  const steps: string[] = [];
  await install(payload, (step) => steps.push(step));
  return steps;
}

describe("cut off", () => {
  for (const version of ["0.3.0", "0.1.0"]) {
    test(`at every step of ${version} → the running slot starts, a second try works`, async () => {
      const before = await box.running();
      await install(box.payload("0.4.0")); // so that there is something to overwrite
      const payload = box.payload(version);
      const steps = await stepsOf(payload);
      expect(steps.length).toBeGreaterThan(14);
      for (const [at, name] of steps.entries()) {
        withdrawSlot(options());
        await install(box.payload("0.4.0"));
        let count = 0;
        const cut = install(payload, (step) => {
          if (count++ === at) throw new Cut(step);
        });
        expect(await cut.then(String, String)).toContain(name);
        // The running slot is what it was, and only it or a whole one can be started.
        expect(await box.running()).toEqual(before);
        await expectStartable(payload);
        await install(payload);
        await expectInstalled(payload);
        expect(await box.running()).toEqual(before);
      }
    }, 120_000);
  }

  /** Whatever UKI the boot loader may take has its own, whole partitions. */
  async function expectStartable(payload: SlotPayload): Promise<void> {
    for (const slot of listSlots(box.places)) {
      if (slot.running) continue;
      const whole = slot.version === payload.version ? payload : box.payload(slot.version);
      await expectInstalled(whole);
    }
  }
});

describe("refused, with everything as it was", () => {
  async function expectRefused(payload: SlotPayload, code: string, words: string): Promise<void> {
    const before = [await box.running(), box.ukis(), sha256(readFileSync(box.disk))];
    const [told, message] = await refusal(install(payload));
    expect([told, message]).toEqual([code, expect.stringContaining(words)]);
    expect([await box.running(), box.ukis(), sha256(readFileSync(box.disk))]).toEqual(before);
  }

  test("the running version", () =>
    expectRefused(box.payload("0.2.0"), "notFitting", "version 0.2.0 runs"));

  test("a root or hash larger than its partition", async () => {
    const payload = box.payload("0.3.0");
    const large = { ...payload.root, bytes: (10 << 20) + 1 };
    await expectRefused({ ...payload, root: large }, "notFitting", "needs 11 MiB");
    const hash = { ...payload.hash, bytes: (2 << 20) + 1 };
    await expectRefused({ ...payload, hash }, "notFitting", "the hash of version 0.3.0 needs 3");
  });

  test("a root that is the running one", async () => {
    const payload = box.payload("0.3.0");
    const { root } = partitionIdsOf(ROOT_HASH);
    await expectRefused(
      { ...payload, root: { ...payload.root, partitionId: root } },
      "notFitting",
      "the same root",
    );
  });

  test("a running version that is still on trial", async () => {
    const good = path.join(box.places.ukiDirectory, "cairn_0.2.0.efi");
    writeFileSync(path.join(box.places.ukiDirectory, "cairn_0.2.0+2-1.efi"), readFileSync(good));
    rmSync(good);
    await expectRefused(box.payload("0.3.0"), "notReady", "still on trial");
  });

  test("a machine that is no appliance", async () => {
    writeFileSync(box.places.commandLineFile, "quiet\n");
    const [code] = await refusal(install(box.payload("0.3.0")));
    expect(code).toBe("notAppliance");
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi"]);
  });

  test("a disk without a second slot, or without ours", async () => {
    await runProgram("sfdisk", ["--quiet", "--delete", box.disk, "5"]);
    expect(await refusal(install(box.payload("0.3.0")))).toEqual([
      "badMachine",
      expect.stringContaining("0 verity hash partitions besides the running one"),
    ]);
    expect(box.ukis()).toEqual(["cairn_0.2.0.efi"]);
    writeFileSync(box.places.commandLineFile, `roothash=${"4".repeat(64)}`);
    const [code, message] = await refusal(install(box.payload("0.3.0")));
    expect([code, message]).toEqual([
      "badMachine",
      expect.stringContaining("0 partitions of the running root"),
    ]);
  });
});

describe("a payload that changed since it was verified", () => {
  test("altered root, uki or hash → notTrusted, and nothing new can be started", async () => {
    const before = await box.running();
    for (const role of ["root", "hash", "uki"] as const) {
      const payload = box.payload("0.3.0");
      const right = readFileSync(payload[role].path);
      const bytes = Buffer.from(right);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      writeFileSync(payload[role].path, bytes);
      expect((await refusal(install(payload)))[0]).toBe("notTrusted");
      expect(listSlots(box.places).map((slot) => slot.version)).toEqual(["0.2.0"]);
      expect(await box.running()).toEqual(before);
      writeFileSync(payload[role].path, right);
    }
  });

  test("a payload that became shorter → notTrusted", async () => {
    const payload = box.payload("0.3.0");
    truncateSync(payload.root.path, 1000);
    expect((await refusal(install(payload)))[0]).toBe("notTrusted");
  });

  test("partitions that changed between writing and arming → not armed", async () => {
    const payload = box.payload("0.3.0");
    await writeSlot(payload, options());
    const { other } = await slotPairs(box.disk, ROOT_HASH);
    const number = String(other.root.number);
    await runProgram("sfdisk", ["--quiet", "--part-label", box.disk, number, EMPTY_LABEL]);
    expect((await refusal(armSlot(payload, options())))[0]).toBe("diskFailed");
    expect(listSlots(box.places).map((slot) => slot.version)).toEqual(["0.2.0"]);
  });

  test("a UKI that changed between writing and arming → not armed", async () => {
    const payload = box.payload("0.3.0");
    await writeSlot(payload, options());
    writeFileSync(path.join(box.places.ukiDirectory, "cairn_0.3.0.efi.new"), "something else");
    expect((await refusal(armSlot(payload, options())))[0]).toBe("diskFailed");
    expect(listSlots(box.places).map((slot) => slot.version)).toEqual(["0.2.0"]);
  });
});

describe("on a block device", () => {
  test("with a mounted file system behind the slots: written, named, read back", async () => {
    const state = await partitionOf(box.disk, "cairn-state");
    const attach = async (args: string[]) =>
      (await runProgram("losetup", ["--find", "--show", ...args])).output.trim();
    const whole = await attach([box.disk]);
    const part = await attach(["--offset", state.offset, "--sizelimit", state.size, whole]);
    const mounted = path.join(folder, "state");
    mkdirSync(mounted);
    try {
      await runProgram("mkfs.ext4", ["-q", part]);
      await runProgram("mount", [part, mounted]);
      writeFileSync(path.join(mounted, "identity"), "kept");
      const payload = box.payload("0.3.0");
      await writeSlot(payload, { disk: whole, places: box.places });
      await armSlot(payload, { disk: whole, places: box.places });
      await expectInstalled(payload, whole);
      expect(readFileSync(path.join(mounted, "identity"), "utf8")).toBe("kept");
    } finally {
      await runProgram("umount", [mounted], { statuses: [1, 32] });
      await runProgram("losetup", ["--detach", part]);
      await runProgram("losetup", ["--detach", whole]);
    }
    await expectInstalled(box.payload("0.3.0"));
  });

  async function partitionOf(disk: string, name: string) {
    const { output } = await runProgram("sfdisk", ["--json", disk]);
    const table = JSON.parse(output) as {
      partitiontable: { partitions: { name?: string; start: number; size: number }[] };
    };
    const found = table.partitiontable.partitions.find((one) => one.name === name);
    const [start, size] = [found?.start ?? 0, found?.size ?? 0];
    return { offset: String(start * 512), size: String(size * 512) };
  }

  test("a root that no partition has → badMachine", async () => {
    expect(await refusal(findBootDisk("5".repeat(64)))).toEqual([
      "badMachine",
      expect.stringContaining("is not to be found"),
    ]);
  });
});
