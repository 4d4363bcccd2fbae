// SPDX-License-Identifier: Apache-2.0
//
// Policies: how a slice of each protection acks and what it says of itself. One descriptor per
// policy; picked by table lookup from the record's promised copies, never by subclass. The slice
// owns the life cycle and asks the descriptor.

import { assert } from "#base/assert.ts";
import { layouts } from "#base/layout.ts";
import type { Layout } from "#base/layout.ts";
import type { SliceRecord } from "#base/record.ts";

export type ProtectionWord = "protected" | "degraded" | "at-risk" | "rebuilding";

export interface Policy {
  readonly layout: Layout;
  /** R1: whether a plain ack waits for media with the record's present members. */
  ackNeedsMedia(record: SliceRecord): boolean;
  /** The worst protection word that holds. */
  protection(record: SliceRecord): ProtectionWord;
}

const none: Policy = {
  layout: layouts.none,
  ackNeedsMedia: () => false, // R1: `none` acks plain.
  protection: (record) => (record.resyncing.length > 0 ? "rebuilding" : "protected"),
};

function mirror(layout: Layout): Policy {
  return {
    layout,
    // R1: more than one was promised and one is left: its loss would lose acked bytes.
    ackNeedsMedia: (record) => record.inSync.length === 1,
    protection(record) {
      if (record.inSync.length === 1) return "at-risk";
      if (record.inSync.length < layout.copies) return "degraded";
      return record.resyncing.length > 0 ? "rebuilding" : "protected";
    },
  };
}

export const policies = {
  none,
  "mirror-2": mirror(layouts["mirror-2"]),
  "mirror-3": mirror(layouts["mirror-3"]),
} as const satisfies Record<string, Policy>;

const byCopies: readonly (Policy | undefined)[] = [
  undefined,
  policies.none,
  policies["mirror-2"],
  policies["mirror-3"],
];

/** The policy of a record: by the copies it promises. */
export function policyOf(record: SliceRecord): Policy {
  const policy = byCopies[record.copies];
  assert(policy !== undefined, "a record promises one to three copies");
  return policy;
}
