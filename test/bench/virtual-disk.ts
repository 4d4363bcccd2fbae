// SPDX-License-Identifier: Apache-2.0
//
// A disk in virtual time, for what takes too many bytes to be kept: it stores metadata, and of the
// rest only takes the time. And the world of a data path on it.

import type { Memory } from "#base/memory.ts";
import { type Area, FLAG_FUA, type Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import type { World } from "#base/world.ts";
import type { Simulation } from "#test/sim/simulation.ts";

const PAGE_BYTES = 4096;
/** A quick disk with a slow flush: some operations at once, each for so long, ms. */
const CHANNELS = 8;
const ACCESS_MS = 0.08;
/** Of every byte beyond the first page. */
const BYTE_MS = 1 / (2 << 20);
const FLUSH_MS = 1;

export class VirtualDisk implements Area {
  readonly sizeBytes: number;
  readonly alignBytes = PAGE_BYTES;
  /** From here on content is not kept. */
  dataFromBytes = Number.POSITIVE_INFINITY;
  readonly #simulation: Simulation;
  readonly #memory: Memory;
  readonly #pages = new Map<number, Uint8Array>();
  readonly #freeAtMs = new Array<number>(CHANNELS).fill(0);

  constructor(simulation: Simulation, memory: Memory, sizeBytes: number) {
    this.#simulation = simulation;
    this.#memory = memory;
    this.sizeBytes = sizeBytes;
  }

  submit(operation: Operation): void {
    if (operation.kind === OperationKind.flush) {
      this.#simulation.after(FLUSH_MS, () => operation.complete(Status.ok));
      return;
    }
    const { nowMs } = this.#simulation;
    let channel = 0;
    for (let other = 1; other < CHANNELS; other++) {
      if ((this.#freeAtMs[other] as number) < (this.#freeAtMs[channel] as number)) channel = other;
    }
    const flushMs = (operation.flags & FLAG_FUA) === 0 ? 0 : FLUSH_MS;
    const takesMs = ACCESS_MS + (operation.lengthBytes - PAGE_BYTES) * BYTE_MS + flushMs;
    const endMs = Math.max(nowMs, this.#freeAtMs[channel] as number) + takesMs;
    this.#freeAtMs[channel] = endMs;
    this.#simulation.after(endMs - nowMs, () => {
      this.#move(operation);
      operation.complete(Status.ok);
    });
  }

  #move({ kind, offsetBytes, lengthBytes, bufferOffset }: Operation): void {
    const { bytes } = this.#memory;
    for (let done = 0; done < lengthBytes; done += PAGE_BYTES) {
      const at = offsetBytes + done;
      const buffer = bytes.subarray(bufferOffset + done, bufferOffset + done + PAGE_BYTES);
      if (kind === OperationKind.read) {
        const page = this.#pages.get(at);
        if (page === undefined) buffer.fill(0);
        else buffer.set(page);
      } else if (at < this.dataFromBytes) this.#pages.set(at, buffer.slice());
    }
  }
}

/** Its clock is the simulation's; its log fails on errors. */
export function createFixedWorld(simulation: Simulation): Pick<World, "clock" | "random" | "log"> {
  const prng = new Prng(3);
  return {
    clock: { nowMs: () => simulation.nowMs, wallMs: () => 0 },
    random: {
      fraction: () => prng.fraction(),
      fill: (bytes) => {
        for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
      },
    },
    log: {
      write: (level, sentence) => {
        if (level === "error") throw new Error(sentence);
      },
    },
  };
}
