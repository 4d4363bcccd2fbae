// SPDX-License-Identifier: Apache-2.0
//
// R9 on the real thing: two units, a byte of a disk file changed behind their backs. With a second
// copy the host reads what it wrote and the copy is healed; without one it gets an error, never
// wrong bytes (H8).

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { randomBytes } from "node:crypto";
import type { Protection } from "#base/layout.ts";
import { assembled, createVolume, headOf, protectedEverywhere } from "#test/cluster/assembled.ts";
import { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { Errno, NbdClient } from "#test/cluster/nbd-client.ts";
import { need } from "#test/cluster/until.ts";

const MIB = 1 << 20;
const BLOCK = 4096;
const EIO = 5;
const DISK_BYTES = 160 * MIB;
const SLICE_BYTES = 32 * MIB;
const START_MS = 60_000;
const ANSWER_MS = 10_000;
const SEARCH_BYTES = 4 * MIB;

setDefaultTimeout(60_000);

let lab: Lab;

beforeAll(async () => {
  const settings = { sliceBytes: SLICE_BYTES };
  lab = new Lab({ unit: { diskBytes: DISK_BYTES, settings } });
  try {
    for (const unit of [lab.add(), lab.add()]) unit.start();
    await lab.until("one cluster", () => assembled(lab), START_MS);
    for (const [name, protection] of [
      ["pair", "mirror-2"],
      ["single", "none"],
    ] as [string, Protection][]) {
      await createVolume(lab, { name, protection, sizeBytes: SLICE_BYTES }, START_MS);
      await lab.until(`${name} is whole`, () => protectedEverywhere(lab, name), START_MS);
    }
  } catch (error) {
    await lab.end();
    throw error;
  }
}, 150_000);
afterAll(async () => {
  try {
    for (const unit of lab.units) unit.stillRuns();
  } finally {
    await lab.end();
  }
});

function attach(unit: LabUnit, name: string): Promise<NbdClient> {
  return NbdClient.open({ host: unit.address, port: 10809, name }, ANSWER_MS);
}

/** A block no other looks like. */
async function writeBlock(client: NbdClient, offsetBytes: number): Promise<Buffer> {
  const block = randomBytes(BLOCK);
  await client.write(offsetBytes, block);
  await client.flush();
  return block;
}

interface Place {
  file: string;
  offsetBytes: number;
}

/** Where on a unit's disk a block lies; null: nowhere. */
function findBlock(unit: LabUnit, block: Buffer): Place | null {
  const file = unit.disks[0] as string;
  const fd = openSync(file, "r");
  try {
    const bytes = Buffer.alloc(SEARCH_BYTES);
    for (let at = 0; at < statSync(file).size; at += SEARCH_BYTES) {
      const length = readSync(fd, bytes, 0, SEARCH_BYTES, at);
      // Blocks of a slice lie aligned, so none lies across two pieces.
      const found = bytes.subarray(0, length).indexOf(block);
      if (found >= 0) return { file, offsetBytes: at + found };
    }
    return null;
  } finally {
    closeSync(fd);
  }
}

function mustFind(unit: LabUnit, block: Buffer): Place {
  const place = findBlock(unit, block);
  if (place === null) throw new Error(`the block is not on ${unit.name}'s disk`);
  return place;
}

function bytesAt({ file, offsetBytes }: Place): Buffer {
  const fd = openSync(file, "r");
  const bytes = Buffer.alloc(BLOCK);
  readSync(fd, bytes, 0, BLOCK, offsetBytes);
  closeSync(fd);
  return bytes;
}

/** One bit of one byte in the middle of the block. */
function flip(place: Place): void {
  const bytes = bytesAt(place).subarray(1000, 1001);
  bytes[0] = (bytes[0] as number) ^ 0x10;
  const fd = openSync(place.file, "r+");
  writeSync(fd, bytes, 0, 1, place.offsetBytes + 1000);
  closeSync(fd);
}

async function figure(unit: LabUnit, name: string): Promise<number> {
  const answer = await fetch("http://localhost/metrics", {
    unix: `${unit.stateFolder}/api.sock`,
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const line = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(await answer.text());
  if (line === null) throw new Error(`${name} is not among the metrics`);
  return Number(line[1]);
}

/** Its next report to the metrics may be seconds away. */
function counted(unit: LabUnit, name: string, least: number): Promise<true> {
  const look = async () => {
    const value = await figure(unit, name);
    need(value >= least, `${name} is ${value}`);
    return true as const;
  };
  return lab.until(`${name} of ${unit.name}`, look, ANSWER_MS);
}

function healed(place: Place, block: Buffer): Promise<true> {
  const look = () => {
    need(bytesAt(place).equals(block), "still the wrong bytes");
    return true as const;
  };
  return lab.until("the copy on the disk is right again", look, ANSWER_MS);
}

async function pairUnits(): Promise<{ head: LabUnit; other: LabUnit }> {
  const head = await lab.until("a head", () => headOf(lab, "pair"), START_MS);
  return { head, other: lab.unit(head.place === 1 ? 2 : 1) };
}

test("R9, mirror-2: a byte changed on the head's disk → read right, healed, counted", async () => {
  const { head, other } = await pairUnits();
  using client = await attach(head, "pair");
  const block = await writeBlock(client, MIB);
  const place = mustFind(head, block);
  mustFind(other, block);
  const before = await figure(head, "cairn_unit_healed_blocks");
  flip(place);
  expect(await client.read(MIB, BLOCK)).toEqual(block);
  await healed(place, block);
  await counted(head, "cairn_unit_healed_blocks", before + 1);
});

test("R9, mirror-2: the same through the other unit → read right, healed", async () => {
  const { head, other } = await pairUnits();
  using client = await attach(other, "pair");
  const block = await writeBlock(client, 2 * MIB);
  const place = mustFind(head, block);
  flip(place);
  // A part of the block, and more than the block.
  expect(await client.read(2 * MIB + 512, 1024)).toEqual(block.subarray(512, 1536));
  await healed(place, block);
  flip(place);
  const around = await client.read(2 * MIB - BLOCK, 3 * BLOCK);
  expect(around.subarray(BLOCK, 2 * BLOCK)).toEqual(block);
});

test("R9, mirror-2: a write of part of a changed block → the rest of it is right", async () => {
  const { head } = await pairUnits();
  using client = await attach(head, "pair");
  const block = await writeBlock(client, 3 * MIB);
  flip(mustFind(head, block));
  const part = randomBytes(512);
  await client.write(3 * MIB + 2048, part);
  part.copy(block, 2048);
  expect(await client.read(3 * MIB, BLOCK)).toEqual(block);
  await client.flush();
  for (const unit of lab.units) mustFind(unit, block);
});

test("H8, mirror-2: the byte changed on both disks → EIO, then readable once written", async () => {
  const { head, other } = await pairUnits();
  using client = await attach(head, "pair");
  const block = await writeBlock(client, 4 * MIB);
  const beside = await writeBlock(client, 4 * MIB + BLOCK);
  for (const unit of [head, other]) flip(mustFind(unit, block));
  await expectEio(client, 4 * MIB);
  expect(await client.read(4 * MIB + BLOCK, BLOCK)).toEqual(beside);
  const next = await writeBlock(client, 4 * MIB);
  expect(await client.read(4 * MIB, BLOCK)).toEqual(next);
});

async function expectEio(client: NbdClient, offsetBytes: number): Promise<void> {
  const answer = await client.read(offsetBytes, BLOCK).then(
    () => "bytes",
    (error: unknown) => (error instanceof Errno ? error.number : String(error)),
  );
  expect(answer).toBe(EIO);
}

test("H8, none: a byte changed on the disk → EIO and counted, never wrong bytes", async () => {
  const unit = await lab.until("a head", () => headOf(lab, "single"), START_MS);
  using client = await attach(unit, "single");
  const block = await writeBlock(client, MIB);
  const beside = await writeBlock(client, MIB + BLOCK);
  const before = await figure(unit, "cairn_unit_unreadable_blocks");
  flip(mustFind(unit, block));
  for (const _ of [1, 2]) await expectEio(client, MIB);
  await counted(unit, "cairn_unit_unreadable_blocks", before + 1);
  // R10 ejects disks that fail calls; a wrong checksum is not that.
  expect(await client.read(MIB + BLOCK, BLOCK)).toEqual(beside);
  const next = await writeBlock(client, MIB);
  expect(await client.read(MIB, BLOCK)).toEqual(next);
});
