// SPDX-License-Identifier: Apache-2.0
//
// The host of a drill in a reactor (decision 0040): one at a time; earlier ones are over once their
// last answers came.

import type { Memory } from "#base/memory.ts";
import type { OperationTarget } from "#base/operation.ts";
import type { Clock } from "#base/world.ts";
import { DrillProbe, type ProbeFacts } from "./drill-probe.ts";

/** Between two words of a drill's host, ms. */
const PROBED_EVERY_MS = 250;

export class DrillProbes {
  readonly #parts: { clock: Clock; memory: Memory };
  readonly #tell: (facts: ProbeFacts | null) => void;
  /** The newest is the drill's. */
  #probes: DrillProbe[] = [];
  #toldMs = Number.NEGATIVE_INFINITY;

  /** `tell`: how far the newest is; null: there was no memory for one. */
  constructor(parts: { clock: Clock; memory: Memory }, tell: (facts: ProbeFacts | null) => void) {
    this.#parts = parts;
    this.#tell = tell;
  }

  start(target: OperationTarget, sizeBytes: number): void {
    this.abandon();
    const { clock, memory } = this.#parts;
    const made = DrillProbe.start({ clock, memory, target }, sizeBytes);
    if (made === null) this.#tell(null);
    else this.#probes.push(made);
  }

  finish(): void {
    this.#probes.at(-1)?.finish();
  }

  abandon(): void {
    this.#probes.at(-1)?.abandon();
  }

  tick(nowMs: number): void {
    const current = this.#probes.at(-1);
    if (current === undefined) return;
    for (const probe of this.#probes) probe.tick();
    if (current.isOver || nowMs - this.#toldMs >= PROBED_EVERY_MS) {
      this.#toldMs = nowMs;
      this.#tell(current.facts());
    }
    this.#probes = this.#probes.filter((probe) => !probe.isOver);
  }
}
