// SPDX-License-Identifier: Apache-2.0
//
// The shapes that REST speaks, as zod schemas: requests are checked by them, answers are described
// by them in the OpenAPI document. At the foot the compiler holds each answer's schema against
// backend.ts, so that the document cannot drift from what is sent.

import { z } from "@hono/zod-openapi";
import { BLOCK_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { VOLUME_SLICES_MAX } from "#base/limits.ts";
import { TLS_RULES, TLS_RULE_DEFAULT } from "#base/tls.ts";
import { VOLUME_HOSTS_MAX } from "#cluster/host-state.ts";
import { nameSchema, spokenNameSchema } from "#cluster/name-schema.ts";
import { FIRST_POOL } from "#cluster/pool-state.ts";
import { ACTOR_CHARACTERS_MAX, settingShapes } from "#cluster/state.ts";
import { GRACE_MS_MAX } from "#cluster/volume-ends.ts";
import type {
  AuthorityView,
  DiskView,
  EventView,
  ResyncView,
  SettingsView,
  UnitStatus,
  UnitView,
  VolumeView,
} from "#appliance/backend.ts";

/** Events in one answer. */
export const EVENTS_MAX = 1000;
const EVENTS_USUAL = 100;
/** Characters of a volume's name or number in a path. */
const REFERENCE_CHARACTERS_MAX = 63;

const number = z.number().int().min(0);
const numberOrNull = number.nullable();
const protectionNames = Object.keys(layouts) as [Protection, ...Protection[]];

export const UnitStatusSchema = z
  .object({
    name: z.string(),
    unitId: z.string(),
    unit: number.describe("0: in no cluster yet"),
    version: z.string(),
    sentence: z.string().describe("what it is doing or waiting for"),
    phase: z.enum(["starting", "listening", "waiting", "joining", "joined", "stopping"]),
    cluster: z
      .object({ uuid: z.string(), name: z.string(), state: z.string(), generation: z.number() })
      .nullable(),
    role: z.enum(["member", "spare", "witness"]),
    pool: z.string().nullable(),
    controlStation: numberOrNull,
    voter: z.boolean(),
    voters: z.array(number),
    words: z.array(z.string()).describe("to compare when a unit is admitted by hand"),
    staleMs: z.number().describe("age of what this unit knows of the control state"),
    ports: z.record(z.string(), z.number()),
    claim: z.object({
      claimed: z.boolean().describe("whether the cluster has an owner"),
      code: z
        .string()
        .nullable()
        .describe("claims the cluster at this unit; told only through the socket"),
    }),
    otherClusters: z
      .array(z.string())
      .describe("others in use with the same join secret that are near; they never merge"),
    wrongMedium: z.string().nullable().describe("what is wrong with the boot medium"),
    searched: z.boolean().describe("somebody at the console looks for this box"),
  })
  .openapi("UnitStatus");

export const UnitSchema = z
  .object({
    unit: number,
    unitId: z.string(),
    name: z.string(),
    role: z.string(),
    pool: z.string().nullable(),
    alive: z.boolean(),
    addresses: z.array(z.string()),
    version: z.string(),
    voter: z.boolean(),
    controlStation: z.boolean(),
    link: z.enum(["up", "down", "self"]).describe("peer link from the unit that answers"),
    words: z.array(z.string()).describe("as its screen shows them, to compare"),
    evacuation: z
      .object({
        thenRemove: z.boolean(),
        slices: number.describe("slices with a member on it as it began"),
        left: number.describe("slices with a member on it now"),
        leftMs: z.number().nullable().describe("at the pace so far; null: not known yet"),
        isStuck: z.boolean().describe("it waits for room, or for a further unit"),
        sentence: z.string(),
      })
      .nullable()
      .describe("how far it is emptied, to leave or for a move; null: it stays where it is"),
    maintenance: z
      .object({
        by: z.enum(["owner", "update"]),
        untilMs: number.describe("when it ends by itself, ms since 1970"),
        leftMs: number,
        heads: number.describe("slices that it heads still"),
        sentence: z.string(),
      })
      .nullable()
      .describe("it is taken out for work, and its copies are waited for; null: it is not"),
  })
  .openapi("Unit");

export const DiskSchema = z
  .object({
    disk: number.describe("0: not ours (yet)"),
    unit: number,
    path: z.string(),
    uuid: z.string(),
    sizeBytes: number,
    freeBytes: number,
    state: z.string(),
    reason: z.string().describe("why it is used, or why it is left alone"),
    health: z
      .object({
        found: number.describe("blocks found wrong since the disk was made"),
        healed: number,
        unhealed: number.describe("wrong and not healed"),
        recentPlaces: number.describe("places that were wrong within a day"),
        scrub: z.object({
          running: z.boolean().nullable().describe("null: only the disk's own unit knows"),
          percent: numberOrNull,
          endedAtMs: z.number().nullable().describe("when the last one ended; null: never yet"),
          late: z.boolean().describe("it cannot keep to the time that is set"),
        }),
      })
      .nullable(),
    slices: z.array(z.object({ slice: number, volume: number, state: z.string() })),
  })
  .openapi("Disk");

export const VolumeSchema = z
  .object({
    volume: number,
    uuid: z.string(),
    name: z.string(),
    sizeBytes: number,
    growingToBytes: numberOrNull.describe("it is growing to this size; null: it is not"),
    usedBytes: numberOrNull,
    protection: z.enum(protectionNames),
    pool: z.string().describe("the pool that it lies in"),
    availability: z.enum(["online", "waiting", "read-only", "offline"]),
    state: z.enum(["protected", "degraded", "at-risk", "rebuilding"]),
    rebuildingPercent: z.number().nullable(),
    sentence: z.string().describe("what it waits for, or what would lose it"),
    hosts: z
      .array(z.object({ host: number, name: z.string() }))
      .describe("hosts that it is assigned to; nobody else sees it"),
    tls: z.enum(TLS_RULES).describe("whether hosts attach without TLS, over it, or either way"),
    front: numberOrNull.describe("the unit where hosts should attach"),
    deletedAtMs: z
      .number()
      .nullable()
      .describe("deleted, and gone for good then; null: it is not deleted"),
    kept: z
      .array(
        z.object({
          number: z.number().describe("which override it is from before"),
          name: z.string().describe("hosts of the volume read it under this name"),
          wentOnAtMs: z.number(),
          untilMs: z.number().nullable().describe("written until then at least"),
          readable: z.boolean(),
          sentence: z.string(),
          bytes: numberOrNull,
          slices: z.array(
            z.object({
              slice: number,
              index: number,
              disk: number,
              unit: number,
              bytes: numberOrNull,
              there: z.boolean(),
            }),
          ),
          uris: z.array(z.string()),
        }),
      )
      .describe("what is kept of it from before its owner went on without a copy"),
    goOn: z
      .object({ from: z.string(), costs: z.string() })
      .nullable()
      .describe("where it stands still for want of a copy: what it could go on from"),
    uris: z.array(z.string()).describe("NBD URIs, the front's first"),
    paths: z.array(z.object({ unit: number, uri: z.string() })).describe("whose each of them is"),
    slices: z.array(
      z.object({
        slice: number,
        index: number,
        epoch: number,
        head: number,
        members: z.array(
          z.object({ disk: number, unit: number, state: z.enum(["in-sync", "resyncing"]) }),
        ),
      }),
    ),
  })
  .openapi("Volume");

export const EventSchema = z
  .object({
    number,
    atMs: z.number(),
    severity: z.enum(["info", "warning", "alarm"]),
    kind: z.string(),
    sentence: z.string(),
    actor: z.string().nullable().describe("who asked for it; null: nobody did"),
  })
  .openapi("Event");

export const SettingsSchema = z
  .object({
    reprotectAfterMs: settingShapes.reprotectAfterMs.describe(
      "how long a slice may lack a copy before another disk takes its place",
    ),
    protectWithinMs: settingShapes.protectWithinMs.describe(
      "how long after a loss all copies are to be there again; 0: no such promise",
    ),
    scrubEveryMs: settingShapes.scrubEveryMs.describe(
      "every block of every disk is read at least this often; 0: only when asked",
    ),
    scrubBytesPerSecondMax: settingShapes.scrubBytesPerSecondMax.describe(
      "the most that a scrub reads of a disk",
    ),
    diskErrorsMax: settingShapes.diskErrorsMax.describe(
      "a disk that was wrong in so many places within a day is retired; 0: never by itself",
    ),
    groupAddress: settingShapes.groupAddress.describe(
      "an address that the control station answers besides its own; null: there is none",
    ),
    httpsOnly: settingShapes.httpsOnly.describe(
      "whether pages and API on TCP are answered over TLS alone",
    ),
    syslogTarget: settingShapes.syslogTarget.describe(
      "where logs and events are sent by syslog over UDP, such as 10.0.0.5:514; null: nowhere",
    ),
    timeServers: settingShapes.timeServers.describe(
      "who tells boxes the time by NTP, such as 10.0.0.1,ntp.example.org; null: whom DHCP names",
    ),
    clusterName: nameSchema.describe("what the cluster is called"),
  })
  .openapi("Settings");

export const AuthoritySchema = z
  .object({
    pem: z.string().describe("the authority's certificate, to be trusted by browsers and --ca"),
    fingerprint: z.string().describe("SHA-256 of it, as browsers show it"),
  })
  .openapi("Authority");
export const ChangeSettingsSchema = z
  .strictObject(SettingsSchema.shape)
  .partial()
  .refine((changes) => Object.keys(changes).length > 0, "at least one setting")
  .openapi("ChangeSettings");

const ResyncSchema = z
  .object({
    slice: number,
    volume: number,
    target: number.describe("the disk that is brought up"),
    doneBytes: number,
    totalBytes: number,
  })
  .openapi("Resync");

export const UnitsSchema = z.object({ units: z.array(UnitSchema) }).openapi("Units");
export const DisksSchema = z.object({ disks: z.array(DiskSchema) }).openapi("Disks");
export const VolumesSchema = z.object({ volumes: z.array(VolumeSchema) }).openapi("Volumes");
export const EventsSchema = z.object({ events: z.array(EventSchema) }).openapi("Events");
export const RecoverySchema = z
  .object({
    resyncs: z.array(ResyncSchema),
    resyncedBytes: number,
    deadline: z
      .object({
        withinMs: number.describe("protectWithinMs; 0: none is set"),
        problems: z.array(z.string()).describe("why it could not be kept after some loss"),
        unknown: z.array(z.string()).describe("what keeps it from being judged"),
      })
      .describe("whether all copies would be there again in time, were a unit lost now"),
  })
  .openapi("Recovery");

export const FaultSchema = z
  .object({
    error: z.object({
      code: z.string().describe("stable name"),
      number: z.number().describe("stable number"),
      message: z.string(),
      hint: z.string().describe("what the operator can do"),
    }),
  })
  .openapi("Fault");

export const DryRunSchema = z
  .object({
    dryRun: z.literal(true),
    sentences: z
      .array(z.string())
      .describe("what would be done, as the history would say it; empty: nothing would change"),
  })
  .openapi("DryRun");

export const CreateVolumeSchema = z
  .strictObject({
    name: spokenNameSchema,
    sizeBytes: z
      .number()
      .int()
      .min(BLOCK_BYTES)
      .max(VOLUME_SLICES_MAX * SLICE_BYTES_MAX)
      .multipleOf(BLOCK_BYTES),
    protection: z.enum(protectionNames).default("mirror-2"),
    hosts: z
      .array(z.string().min(1).max(REFERENCE_CHARACTERS_MAX))
      .max(VOLUME_HOSTS_MAX)
      .optional()
      .describe("hosts that it is assigned to from the start, by name or number"),
    tls: z.enum(TLS_RULES).optional().describe(`${TLS_RULE_DEFAULT}, if not said`),
    pool: nameSchema.optional().describe(`${FIRST_POOL}, if not said`),
  })
  .openapi("CreateVolume");

export const GrowVolumeSchema = z
  .strictObject({
    sizeBytes: CreateVolumeSchema.shape.sizeBytes.describe(
      "of the whole volume then; it is never made smaller",
    ),
  })
  .openapi("GrowVolume");

export const ChangeVolumeSchema = z
  .strictObject({
    tls: z.enum(TLS_RULES).optional(),
    name: spokenNameSchema.optional().describe("another one: hosts attach by it from now on"),
  })
  .refine(({ tls, name }) => (tls === undefined) !== (name === undefined), "one of tls and name")
  .openapi("ChangeVolume");

export const ClaimSchema = z
  .strictObject({
    code: z
      .string()
      .max(200)
      .nullable()
      .default(null)
      .describe("the code on this unit's screen or boot medium; not needed with a token"),
    replace: z
      .boolean()
      .default(false)
      .describe("with a token: of a claimed cluster too; the owner's token is void then"),
    password: z
      .string()
      .max(1000)
      .nullable()
      .default(null)
      .describe("for the pages; null: none, or as it was"),
    tokenHash: z
      .string()
      .regex(/^[0-9a-f]{64}$/, "SHA-256 as 64 hexadecimal digits")
      .nullable()
      .default(null)
      .describe(
        "SHA-256 of an owner's token that you made (32 random bytes or more) and keep: the claim " +
          "may then be sent again, as when an answer was lost; null: one is made and told once",
      ),
  })
  .openapi("Claim");

export const ClaimedSchema = z
  .object({
    token: z
      .string()
      .nullable()
      .describe("the owner's, valid through every unit; null: it is the one that you brought"),
  })
  .openapi("Claimed");

/** A thing in a path, by its name or number. */
export function reference(name: string, example: string) {
  const param = { name, in: "path" as const };
  return z
    .string()
    .min(1)
    .max(REFERENCE_CHARACTERS_MAX)
    .openapi({ param, description: "name or number", example });
}

export const VolumePathSchema = z.object({ id: reference("id", "v1") });

export const KeptPathSchema = VolumePathSchema.extend({
  number: z
    .string()
    .regex(/^[1-9]\d{0,8}$/, "a kept copy's number")
    .openapi({
      param: { name: "number", in: "path" },
      description: "of the kept copy: 1 of v1@before-1",
      example: "1",
    }),
});

export const DiskPathSchema = z.object({
  disk: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, "a disk's number")
    .openapi({ param: { name: "disk", in: "path" }, description: "its number", example: "1" }),
});

export const ScrubDiskSchema = z
  .strictObject({
    urgent: z.boolean().default(false).describe("true: hosts are not yielded to"),
  })
  .openapi("ScrubDisk");

export const CreateQuerySchema = z.object({
  dryRun: z
    .enum(["true", "false"])
    .default("false")
    .openapi({ description: "true: check and place, change nothing" }),
});

export const DeleteQuerySchema = z.object({
  graceMs: z
    .string()
    .regex(/^\d{1,10}$/, "milliseconds")
    .refine((word) => Number(word) <= GRACE_MS_MAX, `at most ${GRACE_MS_MAX}`)
    .default("0")
    .openapi({ description: "for so long it can be taken back; 0: gone at once" }),
});

/** A client's own name for one creation, so that sending it twice creates once. */
export const CreateHeadersSchema = z.object({
  "idempotency-key": z
    .string()
    .min(1)
    .max(128)
    .optional()
    .openapi({ description: "same key, same answer; kept for the last few hundred" }),
});

const countWord = z.string().regex(/^\d{1,15}$/, "a whole number");
export const EventsQuerySchema = z.object({
  since: countWord
    .default("0")
    .openapi({ description: "the first ones after this number; 0: the newest ones" }),
  limit: countWord
    .refine((word) => Number(word) >= 1 && Number(word) <= EVENTS_MAX, `1 to ${EVENTS_MAX}`)
    .default(String(EVENTS_USUAL)),
  actor: z
    .string()
    .min(1)
    .max(ACTOR_CHARACTERS_MAX)
    .optional()
    .openapi({ description: "only what somebody of this name asked for", example: "anna" }),
});

export type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while every answer's schema says exactly what the backend's type says. */
export const SCHEMAS_MATCH_BACKEND: [
  Same<z.infer<typeof UnitStatusSchema>, UnitStatus>,
  Same<z.infer<typeof UnitSchema>, UnitView>,
  Same<z.infer<typeof DiskSchema>, DiskView>,
  Same<z.infer<typeof VolumeSchema>, VolumeView>,
  Same<z.infer<typeof EventSchema>, EventView>,
  Same<z.infer<typeof ResyncSchema>, ResyncView>,
  Same<z.infer<typeof SettingsSchema>, SettingsView>,
  Same<z.infer<typeof AuthoritySchema>, AuthorityView>,
] = [true, true, true, true, true, true, true, true];
