// SPDX-License-Identifier: Apache-2.0
//
// R9 on real units: bytes of their disk files are changed behind their backs while hosts read and
// write. Every block says which block and which version it is, so that every read is held against
// what was written; every change must be healed on its disk, counted there, and told.
//
// Blocks that hosts only read are changed, each on one disk only, so that the number healed is
// exact; blocks that hosts also write share their extents. Metadata of the disks is changed as
// well: descriptors and superblocks, one of two each.

import { closeSync, fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs";
import type { DiskView, EventView } from "#appliance/backend.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { Lost, NbdClient, nbdAddress } from "./nbd-client.ts";
import { NotYet, need, pause } from "./until.ts";

const MIB = 1 << 20;
const BLOCK = 4096;
const MAGIC = 0x636f_7272_7570_7431n;
/** Of every sixteen blocks so many are written by hosts, the rest only read. */
const WRITTEN_OF_16 = 4;
const ATTACH_MS = 10_000;
const SCRUB_EVERY_MS = 1500;
/** "Descriptor": its kind in a page of the store (src/store/format.wire.ts). */
const PAGE_MAGIC = 0x52494143;
const DESCRIPTOR_KIND = 5;

export interface CorruptOptions {
  volume: string;
  volumeBytes: number;
  /** In data, each in another block. */
  flips: number;
  /** Between two flips. */
  everyMs: number;
  /** For all of them to be healed after the last. */
  limitMs: number;
  /** So many more in metadata. */
  metadata: number;
  say?: (line: string) => void;
}

export interface CorruptResult {
  flips: number;
  healed: number;
  metadataFlips: number;
  metadataMended: number;
  reads: number;
  writes: number;
  seconds: number;
  /** Blocks that events told of as healed. */
  told: number;
}

export interface Place {
  unit: LabUnit;
  file: string;
  offsetBytes: number;
  /** Of the volume; null: metadata. */
  block: number | null;
}

/** What stands in a block: unlike any other block, and any other version of it. */
function content(block: number, version: number): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 32) {
    bytes.writeBigUInt64BE(MAGIC, at);
    bytes.writeUInt32BE(block, at + 8);
    bytes.writeUInt32BE(version, at + 12);
    bytes.writeUInt32BE(at, at + 16);
    bytes.writeUInt32BE(Number(Bun.hash.xxHash32(bytes.subarray(at, at + 20))), at + 20);
  }
  return bytes;
}

const isWritten = (block: number) => block % 16 < WRITTEN_OF_16;

/** Hosts at work: several connections through all units, each read held against the model. */
class Load implements AsyncDisposable {
  reads = 0;
  writes = 0;
  wrong: string[] = [];
  readonly #blocks: number;
  readonly #versions: Uint32Array;
  /** Blocks somebody writes or reads right now: one at a time for each. */
  readonly #busy = new Set<number>();
  readonly #workers: Promise<void>[];
  #stopping = false;

  constructor(uris: readonly string[], blocks: number) {
    this.#blocks = blocks;
    this.#versions = new Uint32Array(blocks).fill(1);
    this.#workers = uris.flatMap((uri, seed) => [this.#work(uri, seed), this.#work(uri, seed + 7)]);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#workers);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #work(uri: string, seed: number): Promise<void> {
    let draw = seed * 2654435761 + 12345;
    const random = (below: number) => {
      draw = (Math.imul(draw, 1103515245) + 12345) >>> 0;
      return (draw >>> 8) % below;
    };
    while (!this.#stopping) {
      try {
        using client = await NbdClient.open(nbdAddress(uri), ATTACH_MS);
        while (!this.#stopping) await this.#step(client, random);
      } catch (error) {
        if (!(error instanceof Lost)) {
          this.wrong.push(error instanceof Error ? error.message : String(error));
          if (this.wrong.length > 20) return;
        }
        await pause(50);
      }
    }
  }

  async #step(client: NbdClient, random: (below: number) => number): Promise<void> {
    const block = random(this.#blocks);
    if (this.#busy.has(block)) return;
    this.#busy.add(block);
    try {
      if (isWritten(block) && random(2) === 0) {
        const version = (this.#versions[block] ?? 0) + 1;
        await client.write(block * BLOCK, content(block, version));
        this.#versions[block] = version;
        this.writes++;
        if (random(64) === 0) await client.flush();
        return;
      }
      const bytes = await client.read(block * BLOCK, BLOCK);
      this.reads++;
      if (!bytes.equals(content(block, this.#versions[block] ?? 0))) {
        this.wrong.push(
          `block ${block} read wrong bytes: ${bytes.subarray(0, 24).toString("hex")}`,
        );
      }
    } finally {
      this.#busy.delete(block);
    }
  }
}

/** Writes the whole volume in its first version. */
export async function fillVolume(uri: string, volumeBytes: number): Promise<void> {
  using client = await NbdClient.open(nbdAddress(uri), ATTACH_MS);
  for (let at = 0; at < volumeBytes; at += MIB) {
    const blocks = Array.from({ length: MIB / BLOCK }, (_, index) =>
      content(at / BLOCK + index, 1),
    );
    await client.write(at, Buffer.concat(blocks));
  }
  await client.flush();
}

/** Where on the units' disks the blocks that hosts only read lie, and their metadata. */
export function places(lab: Lab): { data: Place[]; metadata: Place[] } {
  const data: Place[] = [];
  const metadata: Place[] = [];
  for (const unit of lab.units) {
    for (const file of unit.disks) {
      const fd = openSync(file, "r");
      const bytes = Buffer.alloc(MIB);
      for (let at = 0; at < statSync(file).size; at += MIB) {
        const length = readSync(fd, bytes, 0, MIB, at);
        for (let page = 0; page + BLOCK <= length; page += BLOCK) {
          const offsetBytes = at + page;
          if (bytes.readBigUInt64BE(page) === MAGIC) {
            const block = bytes.readUInt32BE(page + 8);
            if (!isWritten(block)) data.push({ unit, file, offsetBytes, block });
          } else if (bytes.readUInt32LE(page) === PAGE_MAGIC) {
            const kind = bytes.readUInt16LE(page + 10);
            // One slot of each pair: the first of two neighbours.
            const isFirst = metadata.at(-1)?.offsetBytes !== offsetBytes - BLOCK;
            const isKind = kind === DESCRIPTOR_KIND || kind === 1;
            if (isKind && isFirst) metadata.push({ unit, file, offsetBytes, block: null });
          }
        }
      }
      closeSync(fd);
    }
  }
  return { data, metadata };
}

function flip({ file, offsetBytes }: Place, at: number): void {
  const fd = openSync(file, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offsetBytes + at);
  byte[0] = (byte[0] as number) ^ (1 << (at % 8));
  writeSync(fd, byte, 0, 1, offsetBytes + at);
  fsyncSync(fd);
  closeSync(fd);
}

/** One bit of each. */
export function flipAll(chosen: readonly Place[]): void {
  for (const place of chosen) flip(place, 1000);
}

function isRight({ file, offsetBytes, block }: Place): boolean {
  const fd = openSync(file, "r");
  const bytes = Buffer.alloc(BLOCK);
  readSync(fd, bytes, 0, BLOCK, offsetBytes);
  closeSync(fd);
  return block === null || bytes.equals(content(block, 1));
}

/** As each disk's own unit knows it. */
export async function healthOf(lab: Lab): Promise<DiskView[]> {
  const all = await Promise.all(
    lab.running.map(async (unit) => {
      const { unit: number } = await unit.api.status();
      return (await unit.api.disks()).filter((disk) => disk.unit === number && disk.disk > 0);
    }),
  );
  return all.flat();
}

function sum(disks: readonly DiskView[], what: "found" | "healed" | "unhealed"): number {
  return disks.reduce((total, { health }) => total + (health?.[what] ?? 0), 0);
}

/** Starts a scrub of every disk, through whichever unit answers. */
export async function scrubAll(lab: Lab, urgent: boolean): Promise<void> {
  for (const { disk } of await healthOf(lab)) await lab.anyApi().scrubDisk(disk, urgent);
}

/** Blocks that events tell of as healed. */
export function toldHealed(events: readonly EventView[]): number {
  let blocks = 0;
  for (const { kind, sentence } of events) {
    if (kind !== "blocks-healed") continue;
    const count = / held (?:one block|(\d+) blocks) /.exec(sentence);
    blocks += Number(count?.[1] ?? 1);
  }
  return blocks;
}

/** The whole run; throws where a read was wrong, or a flip was not healed or not told. */
export async function corruptUnderLoad(lab: Lab, options: CorruptOptions): Promise<CorruptResult> {
  const { volume, volumeBytes } = options;
  const uris = lab.units.map((unit) => `nbd://${unit.address}:10809/${volume}`);
  await fillVolume(uris[0] as string, volumeBytes);
  // The disk shall not be retired for what is done to it.
  await lab.anyApi().changeSettings({ diskErrorsMax: 0 });
  const before = await healthOf(lab);
  const mendedBefore = await metadataMended(lab);
  const eventsBefore = toldHealed(await lab.anyApi().events());
  const begun = performance.now();
  const all = places(lab);
  const chosen = choose(all, options);
  const load = new Load(uris, volumeBytes / BLOCK);
  try {
    let scrubbedMs = Number.NEGATIVE_INFINITY;
    for (const [index, place] of chosen.entries()) {
      flip(place, 64 + ((index * 977) % (BLOCK - 64)));
      if (performance.now() - scrubbedMs > SCRUB_EVERY_MS) {
        scrubbedMs = performance.now();
        await scrubAll(lab, true);
      }
      await pause(options.everyMs);
      for (const unit of lab.units) unit.stillRuns();
      if (load.wrong.length > 0) break;
    }
    options.say?.(`${chosen.length} bytes flipped, ${load.reads} reads, ${load.writes} writes`);
    const flips = chosen.filter((place) => place.block !== null);
    await allHealed(lab, { flips, before: sum(before, "healed"), limitMs: options.limitMs });
    await load.stop();
    if (load.wrong.length > 0) throw new Error(load.wrong.slice(0, 5).join("; "));
    const now = await healthOf(lab);
    const told = await allTold(lab, eventsBefore + flips.length, options.limitMs);
    return {
      flips: flips.length,
      healed: sum(now, "healed") - sum(before, "healed"),
      metadataFlips: chosen.length - flips.length,
      metadataMended: (await metadataMended(lab)) - mendedBefore,
      reads: load.reads,
      writes: load.writes,
      seconds: (performance.now() - begun) / 1000,
      told: told - eventsBefore,
    };
  } finally {
    await load.stop();
  }
}

/** Each block once, on either of its disks; metadata in between. */
function choose(all: { data: Place[]; metadata: Place[] }, options: CorruptOptions): Place[] {
  const byBlock = new Map<number, Place[]>();
  for (const place of all.data) {
    const block = place.block as number;
    byBlock.set(block, [...(byBlock.get(block) ?? []), place]);
  }
  const blocks = [...byBlock.keys()].sort((a, b) => a - b);
  const dataFlips = options.flips;
  if (blocks.length < dataFlips) throw new Error(`only ${blocks.length} blocks to flip`);
  const chosen: Place[] = [];
  const step = Math.floor(blocks.length / dataFlips);
  for (let index = 0; index < dataFlips; index++) {
    const copies = byBlock.get(blocks[index * step] as number) as Place[];
    chosen.push(copies[index % copies.length] as Place);
  }
  for (let index = 0; index < options.metadata; index++) {
    const place = all.metadata[(index * 31) % Math.max(1, all.metadata.length)];
    if (place === undefined) throw new Error("no metadata was found on the disks");
    chosen.splice(Math.floor((index * chosen.length) / Math.max(1, options.metadata)), 0, place);
  }
  return chosen;
}

async function allHealed(
  lab: Lab,
  wanted: { flips: readonly Place[]; before: number; limitMs: number },
): Promise<void> {
  let askedMs = Number.NEGATIVE_INFINITY;
  const look = async () => {
    if (performance.now() - askedMs > 4 * SCRUB_EVERY_MS) {
      askedMs = performance.now();
      await scrubAll(lab, true);
    }
    const left = wanted.flips.filter((place) => !isRight(place));
    const [first] = left;
    if (first !== undefined) {
      const place = `${first.unit.name} byte ${first.offsetBytes}`;
      throw new NotYet(`${left.length} of ${wanted.flips.length} not healed, first ${place}`);
    }
    const disks = await healthOf(lab);
    const healed = sum(disks, "healed") - wanted.before;
    need(healed >= wanted.flips.length, `${healed} of ${wanted.flips.length} counted as healed`);
    need(sum(disks, "unhealed") === 0, `${sum(disks, "unhealed")} counted as not healed`);
    return true as const;
  };
  await lab.until("every flip healed and counted", look, wanted.limitMs);
}

/** Events are told together, some seconds later. */
async function allTold(lab: Lab, wanted: number, limitMs: number): Promise<number> {
  const look = async () => {
    const told = toldHealed(await lab.anyApi().events());
    need(told >= wanted, `events tell of ${told} of ${wanted} healed blocks`);
    return told;
  };
  return lab.until("every flip told in the events", look, limitMs);
}

async function metadataMended(lab: Lab): Promise<number> {
  let pages = 0;
  for (const unit of lab.running) {
    const answer = await fetch("http://localhost/metrics", {
      unix: `${unit.stateFolder}/api.sock`,
      signal: AbortSignal.timeout(ATTACH_MS),
    });
    const text = await answer.text();
    for (const line of text.matchAll(/^cairn_disk_metadata_mended_pages\{[^}]*\} (\d+)$/gm)) {
      pages += Number(line[1]);
    }
  }
  return pages;
}

/** One more scrub of every disk, from its beginning to its end, finds nothing any more. */
export async function findsNothing(lab: Lab, limitMs: number): Promise<void> {
  for (const round of [1, 2]) {
    const before = await healthOf(lab);
    const mended = await metadataMended(lab);
    await scrubAll(lab, true);
    const look = async () => {
      const now = await healthOf(lab);
      for (const { disk, health } of now) {
        const was = before.find((one) => one.disk === disk)?.health?.scrub.endedAtMs ?? 0;
        need((health?.scrub.endedAtMs ?? 0) > was, `disk ${disk} is not through`);
      }
      return now;
    };
    const now = await lab.until("a scrub of every disk", look, limitMs);
    // The first may be one that was under way.
    if (round === 1) continue;
    const found = sum(now, "found") - sum(before, "found");
    const pages = (await metadataMended(lab)) - mended;
    if (found + pages > 0) throw new Error(`${found} blocks and ${pages} pages are still wrong`);
  }
}

/** All of the volume as it was filled, where hosts only read it; through one unit. */
export async function readAll(unit: LabUnit, volume: string, volumeBytes: number): Promise<void> {
  using client = await NbdClient.open({ host: unit.address, port: 10809, name: volume }, ATTACH_MS);
  for (let at = 0; at < volumeBytes; at += MIB) {
    const bytes = await client.read(at, MIB);
    for (let page = 0; page < MIB; page += BLOCK) {
      const block = (at + page) / BLOCK;
      if (isWritten(block)) continue;
      if (!bytes.subarray(page, page + BLOCK).equals(content(block, 1))) {
        throw new Error(`block ${block} is wrong through ${unit.name}`);
      }
    }
  }
}
