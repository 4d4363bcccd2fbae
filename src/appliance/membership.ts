// SPDX-License-Identifier: Apache-2.0
//
// What a unit keeps about its cluster in its state directory, so that after a restart it goes back
// by itself: which cluster, which number, which generation, and where voters were last seen. Hints
// all of it, but for cluster id, number and generation; nothing that data depends on (that is on
// the disks).

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { FIRST_GENERATION, GenerationSchema } from "#cluster/generation.ts";
import { idSchema } from "#cluster/state.ts";

export const MEMBERSHIP_FILE = "membership.json";
const VERSION = 1;

export const VoterPlaceSchema = z.object({
  unit: z.number().int().min(1),
  unitId: idSchema,
  addresses: z.array(z.string().max(64)).max(64),
  port: z.number().int().min(1).max(65535),
});
/** Where a voter's control port is. */
export type VoterPlace = z.infer<typeof VoterPlaceSchema>;

const MembershipSchema = z.object({
  version: z.literal(VERSION),
  clusterId: idSchema,
  clusterName: z.string().max(63),
  unit: z.number().int().min(1),
  voters: z.array(VoterPlaceSchema).max(16),
  /** Written before anything is told to anybody in it: the unit never goes back to an older one. */
  generation: GenerationSchema.default(FIRST_GENERATION),
});
export type SavedMembership = Omit<z.infer<typeof MembershipSchema>, "version">;

export function membershipText(membership: SavedMembership): string {
  return `${JSON.stringify({ version: VERSION, ...membership })}\n`;
}

/** Throws Fault corrupt where it is not ours: the operator decides, nothing is founded over it. */
export function parseMembership(text: string): SavedMembership {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new Fault("corrupt", `${MEMBERSHIP_FILE} is no JSON`, { cause });
  }
  const parsed = MembershipSchema.safeParse(raw);
  if (!parsed.success) throw new Fault("corrupt", `${MEMBERSHIP_FILE} is malformed`);
  const { version: _, ...membership } = parsed.data;
  return membership;
}
