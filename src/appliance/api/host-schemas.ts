// SPDX-License-Identifier: Apache-2.0
//
// The shapes that REST speaks about hosts and assignments, held against host-backend.ts at the foot
// (see schemas.ts).

import { z } from "@hono/zod-openapi";
import { parseRange } from "#cluster/address-range.ts";
import { HOST_ADDRESSES_MAX } from "#cluster/host-state.ts";
import { spokenNameSchema } from "#cluster/name-schema.ts";
import type { HostView } from "#appliance/host-backend.ts";
import { type Same, VolumePathSchema, reference } from "./schemas.ts";

const number = z.number().int().min(0);

export const HostSchema = z
  .object({
    host: number,
    name: z.string(),
    addresses: z.array(z.string()).describe("addresses and ranges that it comes from"),
    createdAtMs: number.describe("0: not known"),
    volumes: z
      .array(z.object({ volume: number, name: z.string() }))
      .describe("what it is assigned; it sees nothing else"),
    sessions: z
      .array(
        z.object({ volume: number, address: z.string(), tls: z.boolean(), connections: number }),
      )
      .describe("what it has attached through the unit that answers"),
  })
  .openapi("Host");
export const HostsSchema = z.object({ hosts: z.array(HostSchema) }).openapi("Hosts");

const addresses = z
  .array(
    z
      .string()
      .max(64)
      .refine((text) => parseRange(text) !== null, "an address or range, such as 10.0.0.0/24"),
  )
  .min(1)
  .max(HOST_ADDRESSES_MAX);

export const AddHostSchema = z
  .strictObject({ name: spokenNameSchema, addresses })
  .openapi("AddHost");

export const ChangeHostSchema = z
  .strictObject({ name: spokenNameSchema.optional(), addresses: addresses.optional() })
  .refine((change) => Object.keys(change).length > 0, "name or addresses, or both")
  .openapi("ChangeHost");

export const HostPathSchema = z.object({ host: reference("host", "host-1") });
export const AssignmentPathSchema = VolumePathSchema.extend(HostPathSchema.shape);

/** Compiles only while the answer's schema says exactly what the backend's type says. */
export const HOST_SCHEMAS_MATCH_BACKEND: [Same<z.infer<typeof HostSchema>, HostView>] = [true];
