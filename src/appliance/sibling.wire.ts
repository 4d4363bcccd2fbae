// SPDX-License-Identifier: Apache-2.0
//
// What stands before each head that one reactor sends to another one of its unit. Of this process
// alone: it has no version.

import { struct, u32 } from "#base/wire.ts";

export const SIBLING_NOTE = 1;
export const SIBLING_VERB = 2;

export const SIBLING_HEAD = struct("head between siblings", 12, "little", {
  kind: u32(0), // SIBLING_NOTE: JSON follows; SIBLING_VERB: a verb's head
  unit: u32(4), // the other unit that the verb comes from or goes to; 0: none, it is a sibling's
  linkCount: u32(8), // which link to that unit, counted by the door
});
