// SPDX-License-Identifier: Apache-2.0
//
// What the control station writes down when an owner lets units in that have no join secret: each
// of them by its words, or whatever asks within a while. The unit that was asked hands the secret
// over (appliance/arrivals.ts) once this is committed, so that there is no arrival without its
// event.

import { z } from "zod";
import type { UnitNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { useCluster } from "./giving-way.ts";
import { idSchema } from "./state.ts";

/** The longest and the largest window in which whatever asks is let in. */
export const WINDOW_SECONDS_MAX = 600;
export const WINDOW_UNITS_MAX = 64;

const WORDS_CHARACTERS_MAX = 64;

export const arrivalCommands = {
  /** A unit without a join secret is about to be given ours: a person's act. */
  letIn: z.object({
    unitId: idSchema,
    name: z.string().max(63),
    words: z.string().max(WORDS_CHARACTERS_MAX),
    by: z.enum(["words", "window"]),
  }),
  /** A window was opened at the asking unit, or is closed again. */
  tellWindow: z.discriminatedUnion("kind", [
    z.object({
      kind: z.literal("opened"),
      seconds: z.number().int().min(1).max(WINDOW_SECONDS_MAX),
      units: z.number().int().min(1).max(WINDOW_UNITS_MAX),
    }),
    z.object({
      kind: z.literal("closed"),
      came: z.number().int().min(0).max(WINDOW_UNITS_MAX),
    }),
  ]),
} as const;

export function letIn(
  draft: Draft,
  args: CommandArguments<"letIn">,
  asker: UnitNumber,
): Record<string, never> {
  useCluster(draft);
  const { name, words, by } = args;
  const how = by === "words" ? "by its words" : "through the open window";
  draft.tell({
    kind: "unit-let-in",
    severity: "info",
    sentence: `${name} (${words}) is let in ${how}: it is given the join secret`,
    unit: asker,
  });
  return {};
}

export function tellWindow(
  draft: Draft,
  args: CommandArguments<"tellWindow">,
  asker: UnitNumber,
): Record<string, never> {
  const name = draft.view.units.get(asker)?.name ?? `unit ${asker}`;
  if (args.kind === "opened") {
    useCluster(draft);
    const many = args.units === 1 ? "one unit" : `up to ${args.units} units`;
    draft.tell({
      kind: "window-opened",
      severity: "warning",
      sentence: `${name} lets in ${many} without a join secret, for ${args.seconds} s from now`,
      unit: asker,
    });
    return {};
  }
  const came = args.came === 1 ? "one unit was" : `${args.came} units were`;
  draft.tell({
    kind: "window-closed",
    severity: "info",
    sentence: `${name} lets in nobody without a join secret any more: ${came} let in`,
    unit: asker,
  });
  return {};
}
