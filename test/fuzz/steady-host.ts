// SPDX-License-Identifier: Apache-2.0
//
// A host that behaves: on one connection it writes a block, reads another back and compares, over
// and over, while others do what they like to the same unit. It never connects again: a connection
// that ends, an error, or a byte that is not its own is a finding.

import { Prng } from "#base/prng.ts";
import { NbdClient, type NbdAddress } from "#test/cluster/nbd-client.ts";

const BLOCK_BYTES = 4096;
const OPEN_MS = 10_000;
const FLUSH_EVERY = 64;

export interface SteadyFigures {
  /** Blocks written, and read back as they were written. */
  writes: number;
  reads: number;
  /** The longest that one request took, ms. */
  longestMs: number;
}

export class SteadyHost {
  readonly #client: NbdClient;
  readonly #prng: Prng;
  /** Per block the round it was written in last; 0: not by this host. */
  readonly #rounds: Uint32Array;
  readonly #figures: SteadyFigures = { writes: 0, reads: 0, longestMs: 0 };
  readonly #ended: Promise<void>;
  #isStopping = false;
  #failure: unknown = null;

  private constructor(client: NbdClient, seed: number, blocks: number) {
    this.#client = client;
    this.#prng = new Prng(seed);
    this.#rounds = new Uint32Array(blocks);
    // Nobody waits for it before `finish`, which tells.
    this.#ended = this.#run().catch((reason: unknown) => {
      this.#failure = reason;
    });
  }

  /** Begins on the first `blocks` blocks of a volume that is nobody else's. */
  static async begin(address: NbdAddress, seed: number, blocks: number): Promise<SteadyHost> {
    return new SteadyHost(await NbdClient.open(address, OPEN_MS), seed, blocks);
  }

  /** Ends it, after as many writes as it has blocks; reads all it wrote, throws what it found. */
  async finish(): Promise<SteadyFigures> {
    this.#isStopping = true;
    await this.#ended;
    if (this.#failure !== null) throw this.#failure;
    for (let block = 0; block < this.#rounds.length; block++) await this.#check(block);
    this.#client.close();
    return this.#figures;
  }

  async #run(): Promise<void> {
    const least = this.#rounds.length;
    for (let round = 1; !this.#isStopping || round <= least; round++) {
      const block = this.#prng.below(this.#rounds.length);
      await this.#timed(this.#client.write(block * BLOCK_BYTES, blockOf(block, round)));
      this.#rounds[block] = round;
      this.#figures.writes++;
      await this.#check(this.#prng.below(this.#rounds.length));
      if (round % FLUSH_EVERY === 0) await this.#timed(this.#client.flush());
    }
  }

  async #check(block: number): Promise<void> {
    const round = this.#rounds[block] as number;
    if (round === 0) return;
    const found = await this.#timed(this.#client.read(block * BLOCK_BYTES, BLOCK_BYTES));
    if (!found.equals(blockOf(block, round))) {
      throw new Error(`block ${block} is not as it was written in round ${round}`);
    }
    this.#figures.reads++;
  }

  async #timed<T>(asked: Promise<T>): Promise<T> {
    const start = performance.now();
    const answer = await asked;
    this.#figures.longestMs = Math.max(this.#figures.longestMs, performance.now() - start);
    return answer;
  }
}

/** Every word of it says which write it is of. */
function blockOf(block: number, round: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 8) {
    bytes.writeUInt32LE(block, at);
    bytes.writeUInt32LE((round ^ at) >>> 0, at + 4);
  }
  return bytes;
}
