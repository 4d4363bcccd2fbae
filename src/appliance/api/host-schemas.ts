// SPDX-License-Identifier: Apache-2.0
//
// The shapes that REST speaks about hosts and assignments, held against host-backend.ts at the foot
// (see schemas.ts).

import { z } from "@hono/zod-openapi";
import { parseRange } from "#cluster/address-range.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { POOLS_MAX } from "#base/limits.ts";
import { HOST_ADDRESSES_MAX, REQUEST_STATES, whySchema } from "#cluster/host-state.ts";
import { nameSchema, spokenNameSchema } from "#cluster/name-schema.ts";
import type {
  HostView,
  MadeCertificateView,
  OwnHostView,
  RequestView,
} from "#appliance/host-backend.ts";
import { CreateVolumeSchema, type Same, VolumePathSchema, VolumeSchema } from "./schemas.ts";
import { reference } from "./schemas.ts";

const number = z.number().int().min(0);

const protection = z.enum(Object.keys(layouts) as [Protection, ...Protection[]]);

const HostPolicySchema = z
  .strictObject({
    quotaBytes: number
      .max(Number.MAX_SAFE_INTEGER)
      .describe("of all that it asked for and has; 0: it may ask for nothing"),
    protections: z.array(protection).max(16).describe("which it may ask for; empty: any"),
    pools: z
      .array(nameSchema)
      .max(POOLS_MAX)
      .default([])
      .describe("pools that it may ask in, the one meant if none is said first; empty: the first"),
    grants: z.boolean().describe("true: at once, what keeps to this; false: a person is asked"),
  })
  .openapi("HostPolicy");

const certificateShape = {
  fingerprint: z.string().describe("SHA-256 of the certificate, hex"),
  fromMs: number,
  untilMs: number.describe("wall clock; it is worth nothing afterwards"),
};
export const HostCertificateSchema = z.object(certificateShape).openapi("HostCertificate");
export const MadeCertificateSchema = z
  .object({
    ...certificateShape,
    certificate: z.string().describe("PEM"),
    key: z.string().describe("PEM; told this once and kept nowhere"),
    authority: z.string().describe("PEM: of the units that have no certificates of their own"),
  })
  .openapi("MadeCertificate");

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
        z.object({
          volume: number,
          address: z.string(),
          tls: z.boolean(),
          certificate: z.string().nullable().describe("its fingerprint; null: by its address"),
          connections: number,
        }),
      )
      .describe("what it has attached through the unit that answers"),
    policy: HostPolicySchema.describe("what it may have by asking for it"),
    askedBytes: number.describe("counts towards its quota"),
    hasToken: z.boolean().describe("whether it has a token to ask with"),
    certificates: z
      .array(HostCertificateSchema)
      .describe("what it may show over TLS, wherever it comes from"),
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
  .max(HOST_ADDRESSES_MAX)
  .describe("empty: it is known by certificates alone");

export const AddHostSchema = z
  .strictObject({ name: spokenNameSchema, addresses })
  .openapi("AddHost");

export const ChangeHostSchema = z
  .strictObject({
    name: spokenNameSchema.optional(),
    addresses: addresses.optional(),
    policy: HostPolicySchema.optional(),
  })
  .refine((change) => Object.keys(change).length > 0, "name, addresses or policy")
  .openapi("ChangeHost");

export const CertificatePathSchema = z.object({
  host: reference("host", "host-1"),
  fingerprint: z
    .string()
    .regex(/^[0-9a-f]{64}$/, "64 hex digits")
    .openapi({
      param: { name: "fingerprint", in: "path" },
      description: "SHA-256 of the certificate, hex",
      example: "ab".repeat(32),
    }),
});
export const HostPathSchema = z.object({ host: reference("host", "host-1") });
export const AssignmentPathSchema = VolumePathSchema.extend(HostPathSchema.shape);

export const HostTokenSchema = z
  .object({ token: z.string().describe("the host's, valid through every unit; told once") })
  .openapi("HostToken");

export const RequestSchema = z
  .object({
    request: number,
    host: number,
    hostName: z.string(),
    name: z.string().describe("of the volume"),
    sizeBytes: number,
    protection,
    pool: z.string().describe("where it is to lie"),
    state: z.enum(REQUEST_STATES),
    why: z.string().describe("why it was refused; may be empty"),
    volume: number.nullable().describe("what was made of it"),
    askedAtMs: number,
  })
  .openapi("Request");
export const RequestsSchema = z.object({ requests: z.array(RequestSchema) }).openapi("Requests");

export const RequestPathSchema = z.object({
  request: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, "a request's number")
    .openapi({ param: { name: "request", in: "path" }, description: "number", example: "1" }),
});
export const RefuseSchema = z
  .strictObject({ why: whySchema.default("").describe("told to the host") })
  .openapi("Refuse");

export const OwnHostSchema = z
  .object({
    host: number,
    name: z.string(),
    policy: HostPolicySchema,
    askedBytes: number,
    volumes: z.array(
      VolumeSchema.pick({
        volume: true,
        uuid: true,
        name: true,
        sizeBytes: true,
        protection: true,
        availability: true,
        tls: true,
        uris: true,
      }),
    ),
    requests: z.array(RequestSchema),
    apis: z.array(z.string()).describe("URLs of the units' API; any of them answers the same"),
  })
  .openapi("OwnHost");

export const AskVolumeSchema = z
  .strictObject({
    name: spokenNameSchema.optional().describe("of the volume; not said: made of the host's"),
    sizeBytes: CreateVolumeSchema.shape.sizeBytes,
    protection: CreateVolumeSchema.shape.protection,
    pool: nameSchema.optional().describe("not said: the first that its policy names"),
  })
  .openapi("AskVolume");

/** Compiles only while each answer's schema says exactly what the backend's type says. */
export const HOST_SCHEMAS_MATCH_BACKEND: [
  Same<z.infer<typeof HostSchema>, HostView>,
  Same<z.infer<typeof RequestSchema>, RequestView>,
  Same<z.infer<typeof MadeCertificateSchema>, MadeCertificateView>,
  Same<z.infer<typeof OwnHostSchema>, OwnHostView>,
] = [true, true, true, true];
