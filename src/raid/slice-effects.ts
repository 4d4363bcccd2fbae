// SPDX-License-Identifier: Apache-2.0
//
// What a slice is given besides its disk: how it is set, and the one object by which it acts.

import type { DiskNumber, Outcome, SliceRecord } from "#base/record.ts";
import type { PeerVerb } from "#base/verbs.ts";
import type { CopyBudget } from "./copy-budget.ts";
import type { Happening } from "./happening.ts";

export interface SliceOptions {
  /** How long a link may be away before its member is dropped (R2). */
  linkGraceMs?: number;
  /** Default ACTIVE_REGIONS_MAX. */
  activeRegionsMax?: number;
  /** A member that had to leave twice within a minute comes back after this, doubling. */
  rejoinDelayMs?: number;
  /** Of the unit: shared by its slices. Default: this slice's own, without an end. */
  copyBudget?: CopyBudget;
  rejoinDelayMaxMs?: number;
}

export interface SliceEffects {
  /**
   * To verb.toDisk. False: no link now, and `sent` will not be called. Delivered later, never at
   * once.
   */
  send(verb: PeerVerb): boolean;
  /**
   * Compare-and-swap on (lineage, epoch); may take for ever while the control store is away (R14).
   */
  propose(
    next: SliceRecord,
    expected: SliceRecord,
    done: (outcome: Outcome, current: SliceRecord | null) => void,
  ): void;
  statusChanged?(): void;
  /** Of wrong blocks, told by the head (R9). */
  happened?(happening: Happening): void;
  /** It took over from another disk, and serves: how long after that one was heard last, ms. */
  tookOver?(from: DiskNumber, pauseMs: number): void;
}
