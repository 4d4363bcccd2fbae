// SPDX-License-Identifier: Apache-2.0
//
// The shape of names that people give: cluster, units, pools, volumes, hosts.

import { z } from "zod";
import { NAME_CHARACTERS_MAX } from "#base/limits.ts";

export const nameSchema = z
  .string()
  .max(NAME_CHARACTERS_MAX)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "letters, digits, dot, dash and underscore");

/** Of what may also be meant by its number, where either is taken. */
export const spokenNameSchema = nameSchema.refine((name) => !/^\d+$/.test(name), "not digits only");
