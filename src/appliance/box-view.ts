// SPDX-License-Identifier: Apache-2.0
//
// A unit's box as its owner may steer it: network cards with their addresses, the fixed addresses
// that it goes by, a network on trial, and its clock. Asked by pages and CLI of any unit, by way of
// unit-questions.ts.

import { z } from "zod";
import { WALL_MS_MAX, WALL_MS_MIN } from "#base/limits.ts";
import { type NetworkEntry, networkSchema } from "./network-settings.ts";

const CARDS_MAX = 256;
const ADDRESSES_MAX = 256;
const count = z.number().min(0);

/** A time that a clock may be set to, ms since 1970. */
export const wallSchema = z
  .number()
  .int()
  .min(WALL_MS_MIN)
  .max(WALL_MS_MAX - 1);

export const BoxSchema = z.object({
  unit: count,
  isAppliance: z.boolean().describe("false: a program on somebody's machine, which keeps its own"),
  wallMs: count.describe("its clock, ms since 1970"),
  isClockKept: z.boolean().describe("a time server keeps it right"),
  cards: z
    .array(
      z.object({
        name: z.string().max(64),
        mac: z.string().max(64),
        cable: z.boolean().nullable(),
        addresses: z.array(z.string().max(64)).max(ADDRESSES_MAX).describe("with prefix lengths"),
      }),
    )
    .max(CARDS_MAX),
  network: networkSchema.describe("fixed addresses in force; cards not named take DHCP"),
  trial: z
    .object({
      network: networkSchema,
      leftMs: count.describe("until it is taken back, unless it is kept"),
      problem: z.string().max(1024).describe("why it could not be applied; empty: it was, or is"),
    })
    .nullable()
    .describe("a network that is tried"),
});
export type BoxView = z.infer<typeof BoxSchema>;

type Card = Pick<BoxView["cards"][number], "name" | "mac">;

export function isFixed(network: readonly NetworkEntry[], { name, mac }: Card): boolean {
  return network.some(
    (entry) => entry.interface === name || entry.mac?.toLowerCase() === mac.toLowerCase(),
  );
}

/**
 * The network with a card's fixed addresses, or without (null); those of the other cards stay. What
 * was typed is still to be checked (networkSchema).
 */
export function withCard(
  { network }: Pick<BoxView, "network">,
  card: Card,
  fixed: Pick<NetworkEntry, "addresses" | "gateways" | "dns"> | null,
): NetworkEntry[] {
  const others = network.filter((entry) => !isFixed([entry], card));
  if (fixed === null) return others;
  return [...others, { interface: card.name, ...fixed }];
}
