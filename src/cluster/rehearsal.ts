// SPDX-License-Identifier: Apache-2.0
//
// A view of the control state that is changed without anybody knowing: drafts are applied to a
// copy, so that the very decisions the control station makes can be asked what they would do. Pure;
// time is said, not passed.

import type { SliceRecord } from "#base/record.ts";
import type { Draft } from "./draft.ts";
import { keys } from "./state.ts";
import { LackClock, protect } from "./upkeep.ts";
import type { ClusterView } from "./view.ts";

/**
 * Slices that are given members in one rehearsed draft: nothing is committed, so nothing bounds it.
 */
const UNBOUNDED = Number.POSITIVE_INFINITY;

export class Rehearsal {
  readonly view: ClusterView;
  readonly #lacks = new LackClock();

  constructor(from: ClusterView) {
    this.view = from.copy();
  }

  /** As a commit of it would be seen. */
  apply(draft: Draft): void {
    const { puts = [], deletes = [] } = draft.transaction(0);
    for (const { key, value } of puts) this.#event({ kind: "put", key, value });
    for (const key of deletes) this.#event({ kind: "delete", key, value: "" });
  }

  put(key: string, value: object): void {
    this.#event({ kind: "put", key, value: JSON.stringify(value) });
  }
  delete(key: string): void {
    this.#event({ kind: "delete", key, value: "" });
  }
  putSlice(record: SliceRecord): void {
    this.put(keys.slice(record.slice), record);
  }

  #event(event: { kind: "put" | "delete"; key: string; value: string }): void {
    const revision = this.view.revision + 1;
    this.view.apply([{ ...event, modRevision: revision }], revision);
  }

  /** From here on absences and lacks are counted from this time. */
  look(nowMs: number): void {
    this.#lacks.look(this.view, nowMs);
  }

  /** What the control station does about copies at this time, as one draft; null: nothing. */
  protection(nowMs: number): Draft | null {
    this.#lacks.look(this.view, nowMs);
    return protect(this.view, this.#lacks, nowMs, UNBOUNDED);
  }
}
