// SPDX-License-Identifier: Apache-2.0
//
// What stands before each head that one reactor sends to another one of its unit. Of this process
// alone: it has no version.

import { f64, reserved, struct, u32 } from "#base/wire.ts";

export const SIBLING_NOTE = 1;
export const SIBLING_VERB = 2;
export const SIBLING_FLAT_VERB = 3;

export const SIBLING_HEAD = struct("head between siblings", 16, "little", {
  kind: u32(0), // what follows; NOTE: JSON, VERB: a verb's head as on a link, FLAT_VERB: FLAT_VERB
  unit: u32(4), // the other unit that the verb comes from or goes to; 0: none, it is a sibling's
  linkCount: u32(8), // which link to that unit, counted by the door
  pad: reserved(12, 4),
});

/**
 * A verb without lists, that is nearly every one: its numbers as they are, held against nothing.
 */
export const FLAT_VERB = struct("verb between siblings", 168, "little", {
  kind: f64(0),
  slice: f64(8),
  fromDisk: f64(16),
  toDisk: f64(24),
  sequence: f64(32),
  epoch: f64(40),
  lineage: f64(48),
  class: f64(56),
  flags: f64(64),
  status: f64(72),
  operation: f64(80),
  offsetBytes: f64(88),
  lengthBytes: f64(96),
  stamp: f64(104),
  tickMs: f64(112),
  origin: f64(120),
  credit: f64(128),
  incarnation: f64(136),
  syncedEpoch: f64(144),
  syncedLineage: f64(152),
  payloadBytes: f64(160),
});
