// SPDX-License-Identifier: Apache-2.0
//
// Extent credit (R10): members keep free extents in reserve for the head and say how many; the head
// spends one of each, its own disk included, before it sends a write that allocates. None left: no
// space, before any member was touched.

import type { Head } from "./head.ts";

/** Free extents a member keeps for its slice. */
export const CREDIT_EXTENTS = 8;

export class Credit {
  readonly #head: Head;
  /** Extents being allocated, and by how many changes. */
  readonly #allocating = new Map<number, number>();

  constructor(head: Head) {
    this.#head = head;
  }

  /**
   * Whether a change of this extent may go: "free" allocates nothing new, "spent" took credit. Both
   * are ended by `end`. "wait": credit is being spent right now, look again when an answer came.
   */
  begin(extent: number): "free" | "spent" | "wait" | "none" {
    if (this.#head.store.stampOf(extent) !== 0) return "free";
    const others = this.#allocating.get(extent);
    if (others === undefined) {
      const verdict = this.#verdict();
      if (verdict !== "spent") return verdict;
    }
    this.#allocating.set(extent, (others ?? 0) + 1);
    return "spent";
  }

  end(extent: number): void {
    const others = (this.#allocating.get(extent) ?? 1) - 1;
    if (others === 0) this.#allocating.delete(extent);
    else this.#allocating.set(extent, others);
  }

  #verdict(): "spent" | "wait" | "none" {
    const here = this.#head.store.reserve(CREDIT_EXTENTS);
    let verdict: "spent" | "wait" | "none" = "spent";
    if (here - this.#allocating.size <= 0) verdict = this.#allocating.size > 0 ? "wait" : "none";
    for (const replica of this.#head.replicas.values()) {
      if (!replica.required || replica.creditLeft > 0) continue;
      if (replica.allocating === 0) return "none";
      verdict = "wait";
    }
    return verdict;
  }
}
