// SPDX-License-Identifier: Apache-2.0
//
// The gap probe: a host that writes one 4 KiB block every 50 ms, connects again when it loses its
// unit, and measures the longest time between two successful writes. At the end it reads its
// blocks back and judges them.
//
// What a block may hold (H1, H7): the last write that was acked to it, or a later one whose
// outcome is unknown; never an older one, a torn one or another block's.
// It is the host of one volume at one place: nobody else writes into its area.

import { Errno, Lost, NbdClient, nbdAddress } from "./nbd-client.ts";
import { pause } from "./until.ts";

export const PROBE_BLOCK_BYTES = 4096;
const PERIOD_MS = 50;
/** A host of ours looks elsewhere when a unit is silent for so long. */
const CONNECT_MS = 500;
const SILENT_MS = 4_000;
const RETRY_MS = 20;
const READ_BACK_MS = 30_000;
const BLOCKS = 64;
/** "CAIRNPRB". */
const MAGIC = 0x434149524e505242n;

export interface ProbeOptions {
  /** Where to attach, best first; asked again at every attempt. */
  uris: () => Promise<string[]>;
  /** Where its blocks begin. */
  offsetBytes: number;
  blocks?: number;
  /** In bytes of the area it writes to, for several probes of one volume. */
  identity?: number;
}

export interface Gap {
  /** Longest time between two successful writes. */
  gapMs: number;
  /** When it began, on the clock of performance.now(). */
  fromMs: number;
  writes: number;
  failures: number;
  connects: number;
}

export class GapProbe implements AsyncDisposable {
  readonly #options: ProbeOptions;
  readonly #blocks: number;
  readonly #identity: number;
  readonly #ended: Promise<void>;
  #stopping = false;
  #client: NbdClient | null = null;
  /** Per block: sequence of the last acked write, and of those after it with unknown outcome. */
  readonly #acked: number[];
  readonly #unknown: number[][];
  #sequence = 0;
  #attempt = 0;
  #lastSuccessMs = 0;
  #gap: Gap = noGap();
  #gaps: { fromMs: number; lengthMs: number }[] = [];
  #lastFailure = "nothing written yet";
  #startedAt = "";

  constructor(options: ProbeOptions) {
    this.#options = options;
    this.#blocks = options.blocks ?? BLOCKS;
    this.#identity = options.identity ?? 1;
    this.#acked = new Array<number>(this.#blocks).fill(0);
    this.#unknown = Array.from({ length: this.#blocks }, () => []);
    this.#ended = this.#run();
  }

  get areaBytes(): number {
    return this.#blocks * PROBE_BLOCK_BYTES;
  }
  get writes(): number {
    return this.#gap.writes;
  }
  get lastFailure(): string {
    return this.#lastFailure;
  }
  /** The URI it is attached to, or was last. */
  get attachedTo(): string {
    return this.#startedAt;
  }

  /** The longest gap since `sinceMs`, up to now: an open one counts. */
  gapSince(sinceMs: number): Gap {
    const now = performance.now();
    let best = { fromMs: sinceMs, lengthMs: 0 };
    const open = { fromMs: this.#lastSuccessMs, lengthMs: now - this.#lastSuccessMs };
    for (const one of [...this.#gaps, open]) {
      if (one.fromMs + one.lengthMs >= sinceMs && one.lengthMs > best.lengthMs) best = one;
    }
    return { ...this.#gap, gapMs: best.lengthMs, fromMs: best.fromMs };
  }

  /** Ends it, reads everything back, and fails when a byte is not what it may be. */
  async finish(): Promise<Gap> {
    await this.stop();
    await this.verify();
    return this.gapSince(0);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
    this.#client?.close();
    this.#client = null;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    this.#client?.abandon("the probe is over");
    await this.#ended;
  }

  /** Through any unit the options name. To be called when it is stopped. */
  async verify(): Promise<void> {
    const start = performance.now();
    for (;;) {
      const client = await this.#connect();
      try {
        if (client !== null) return await this.#readBack(client);
      } catch (error) {
        if (!(error instanceof Lost || error instanceof Errno)) throw error;
        this.#lastFailure = error.message;
      } finally {
        client?.close();
      }
      if (performance.now() - start > READ_BACK_MS) {
        throw new Error(`the probe cannot read its blocks: ${this.#lastFailure}`);
      }
      await pause(RETRY_MS);
    }
  }

  async #readBack(client: NbdClient): Promise<void> {
    for (let block = 0; block < this.#blocks; block++) {
      // Never acked by this probe: it may hold what another one left there.
      if (this.#acked[block] === 0) continue;
      const bytes = await client.read(this.#offsetOf(block), PROBE_BLOCK_BYTES);
      const found = sequenceIn(bytes, { block, identity: this.#identity });
      const acked = this.#acked[block] ?? 0;
      const unknown = this.#unknown[block] ?? [];
      if (found === acked || unknown.includes(found)) continue;
      throw new Error(
        `probe block ${block}: found write ${found}, acked was ${acked}, ` +
          `unknown ${unknown.join(" ") || "none"}`,
      );
    }
  }

  async #run(): Promise<void> {
    this.#lastSuccessMs = performance.now();
    let next = performance.now();
    while (!this.#stopping) {
      const client = this.#client ?? (await this.#connect());
      this.#client = client;
      if (client === null) {
        await pause(RETRY_MS);
        continue;
      }
      await this.#writeOnce(client);
      next = Math.max(next + PERIOD_MS, performance.now());
      await pause(Math.max(0, next - performance.now()));
    }
  }

  async #connect(): Promise<NbdClient | null> {
    try {
      const uris = await this.#options.uris();
      // After a loss the next one on the list: the first may be the dead one.
      const uri = uris[this.#attempt % Math.max(1, uris.length)];
      if (uri === undefined) throw new Lost("no unit offers the volume");
      const client = await NbdClient.open(nbdAddress(uri), CONNECT_MS);
      this.#startedAt = uri;
      this.#gap.connects++;
      this.#attempt = 0;
      return client;
    } catch (error) {
      // Whatever keeps it from connecting is part of the gap, and is told when it lasts.
      this.#attempt++;
      this.#lastFailure = error instanceof Error ? error.message : String(error);
      return null;
    }
  }

  async #writeOnce(client: NbdClient): Promise<void> {
    const sequence = ++this.#sequence;
    const block = sequence % this.#blocks;
    const silent = setTimeout(() => client.abandon("silent for too long"), SILENT_MS);
    // Unknown from the moment it is sent until it is acked.
    this.#unknown[block]?.push(sequence);
    try {
      const bytes = probeBlock({ block, sequence, identity: this.#identity });
      await client.write(this.#offsetOf(block), bytes);
      this.#acked[block] = sequence;
      this.#unknown[block] = [];
      this.#succeeded();
    } catch (error) {
      if (!(error instanceof Lost || error instanceof Errno)) throw error;
      this.#gap.failures++;
      this.#lastFailure = error.message;
      this.#attempt = 1;
      client.abandon("a write failed");
      this.#client = null;
    } finally {
      clearTimeout(silent);
    }
  }

  #succeeded(): void {
    const now = performance.now();
    const lengthMs = now - this.#lastSuccessMs;
    // Those of a healthy period are of no interest and would fill the memory.
    if (lengthMs > 3 * PERIOD_MS) this.#gaps.push({ fromMs: this.#lastSuccessMs, lengthMs });
    if (lengthMs > this.#gap.gapMs) {
      this.#gap.gapMs = lengthMs;
      this.#gap.fromMs = this.#lastSuccessMs;
    }
    this.#lastSuccessMs = now;
    this.#gap.writes++;
  }

  #offsetOf(block: number): number {
    return this.#options.offsetBytes + block * PROBE_BLOCK_BYTES;
  }
}

function noGap(): Gap {
  return { gapMs: 0, fromMs: 0, writes: 0, failures: 0, connects: 0 };
}

interface Tag {
  block: number;
  sequence: number;
  identity: number;
}

/** Every sector of it says which write it is of, so that a torn block shows. */
export function probeBlock(tag: Tag): Buffer {
  const bytes = Buffer.alloc(PROBE_BLOCK_BYTES);
  for (let at = 0; at < bytes.length; at += 32) {
    bytes.writeBigUInt64BE(MAGIC, at);
    bytes.writeUInt32BE(tag.identity, at + 8);
    bytes.writeUInt32BE(tag.block, at + 12);
    bytes.writeUInt32BE(tag.sequence, at + 16);
    bytes.writeUInt32BE(at, at + 20);
    bytes.writeBigUInt64BE(BigInt(Bun.hash.xxHash32(bytes.subarray(at, at + 24))), at + 24);
  }
  return bytes;
}

/** The write a block holds; 0 where it was never written. Anything else throws. */
export function sequenceIn(bytes: Buffer, place: { block: number; identity: number }): number {
  if (bytes.every((byte) => byte === 0)) return 0;
  const sequence = bytes.readUInt32BE(16);
  if (bytes.equals(probeBlock({ ...place, sequence }))) return sequence;
  const head = bytes.subarray(0, 32).toString("hex");
  throw new Error(`probe block ${place.block} is torn or foreign: ${head}`);
}
