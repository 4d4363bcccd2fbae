// SPDX-License-Identifier: Apache-2.0
//
// The control state: which keys the control store holds and what stands in each (design section 6).
// Values are JSON; every one is checked by its schema when it is read, and fields that this version
// does not know survive a rewrite, so that a newer unit's additions are not lost by an older one.
// Long because every record stands here, beside its key.
//
// Invariants:
// - Numbers of units, disks, volumes and slices come from `/numbers` by compare-and-swap, in the
//   same transaction that creates what is numbered: given out once, never again, also after a
//   deletion.
// - A name or an identity is taken by creating its index key (`/volume-names/x`, `/unit-ids/x`,
//   `/disk-uuids/x`) in that transaction, so two control stations cannot both create one.
// - `/cluster` changes seldom (claimed, yielding, feature level, generation), so every change
//   compares its revision: a restored backup's generation, or yielding, refuses all that was
//   decided before it.
// - `/alive/<n>` and `/control-station` hang on a lease of the unit they name and are hints:
//   nothing is safe because of them (safety is the compare-and-swap on each record).

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { REGION_BYTES, SLICE_BYTES_DEFAULT, SLICE_BYTES_MAX } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import {
  DISK_ERRORS_MAX,
  SCRUB_BYTES_PER_SECOND_MAX,
  SCRUB_EVERY_MS,
  UNITS_MAX,
  VOLUME_SLICES_MAX,
} from "#base/limits.ts";
import type {
  DiskNumber,
  SliceNumber,
  SliceRecord,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import { TLS_RULES, TLS_RULE_DEFAULT } from "#base/tls.ts";
import { isHostAddress } from "./address-range.ts";
import { CanarySchema } from "./canary.ts";
import { VALUE_CHARACTERS_MAX } from "./control-store.ts";
import { protectWithinShape, toldDeadline, unitFigures } from "./deadline.ts";
import { HostSchema, RequestSchema, VOLUME_HOSTS_MAX, hostKeys } from "./host-state.ts";
import type { HostNumber, HostRecord, RequestRecord } from "./host-state.ts";
import { nameSchema } from "./name-schema.ts";
import { FIRST_POOL, PlaceInPoolsSchema, PoolSchema } from "./pool-state.ts";
import type { PoolRecord } from "./pool-state.ts";
import { RestoredSliceSchema } from "./restored-slices.ts";
import type { RestoredSlice } from "./restored-slices.ts";
import { SLICE_NEWS_MAX, SliceNewsSchema } from "./slice-news.ts";
import { SliceSchema } from "./slice-state.ts";
import { syslogTargetSchema } from "./syslog-target.ts";
import { timeServersSchema } from "./time-servers.ts";
import { UnitUpdateSchema, UpdateSchema, UpdateSettingsSchema } from "./update-state.ts";
import type { UnitUpdateRecord, UpdateRecord } from "./update-state.ts";
import {
  OWNER,
  TokenSchema,
  UserSchema,
  passwordHashSchema,
  tokenHashSchema,
  userKeys,
} from "./user-state.ts";
import type { TokenRecord, UserRecord } from "./user-state.ts";

/** Addresses, allowed ranges and the like in one record. */
const LIST_MAX = 64;

export const keys = {
  cluster: "/cluster",
  numbers: "/numbers",
  settings: "/settings",
  station: "/control-station",
  /** The last term given out; the station's own key goes with its lease. */
  term: "/control-station-term",
  told: "/told",
  units: "/units/",
  alive: "/alive/",
  disks: "/disks/",
  volumes: "/volumes/",
  slices: "/slices/",
  restoredSlices: "/restored-slices/",
  pools: "/pools/",
  voters: "/voters/",
  commands: "/commands/",
  events: "/events/",
  administrators: "/administrators/",
  update: "/update",
  unitUpdates: "/update-units/",
  ...hostKeys,
  ...userKeys,
  unitUpdate: (unit: UnitNumber) => `/update-units/${unit}`,
  unit: (number: UnitNumber) => `/units/${number}`,
  aliveOf: (number: UnitNumber) => `/alive/${number}`,
  disk: (number: DiskNumber) => `/disks/${number}`,
  volume: (number: VolumeNumber) => `/volumes/${number}`,
  slice: (number: SliceNumber) => `/slices/${number}`,
  restoredSlice: (number: SliceNumber) => `/restored-slices/${number}`,
  voter: (unit: UnitNumber) => `/voters/${unit}`,
  pool: (name: string) => `/pools/${name}`,
  unitId: (id: string) => `/unit-ids/${id}`,
  diskUuid: (uuid: string) => `/disk-uuids/${uuid}`,
  volumeName: (name: string) => `/volume-names/${name}`,
  command: (id: string) => `/commands/${id}`,
  administrator: (name: string) => `/administrators/${name}`,
  /** Padded, so that the keys' order is the events' order. */
  event: (number: number) => `/events/${String(number).padStart(12, "0")}`,
} as const;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const countOrZero = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
/** 16 bytes as 32 hex digits. */
export const idSchema = z.string().regex(/^[0-9a-f]{32}$/);
const addressSchema = z.string().max(64);

export const ClusterSchema = z.looseObject({
  uuid: idSchema,
  name: nameSchema,
  /** A restored backup starts a new one. */
  generation: positive,
  /** Tells two of one number apart; the first generation has none. */
  generationId: idSchema.optional(),
  /** Slices from this number on were made in this generation; not said: all of them. */
  sliceFrom: positive.optional(),
  /** Rebuilt from disks, and its owner has not said yet that all that are left are there. */
  gathering: z.boolean().optional(),
  state: z.enum(["virgin", "used", "yielding"]),
  featureLevel: positive,
  sliceBytes: z.number().int().min(REGION_BYTES).max(SLICE_BYTES_MAX).multipleOf(REGION_BYTES),
  /** Clusters that gave way while they were virgin, as units say that came from there. */
  gaveWay: z.array(idSchema).max(LIST_MAX).optional(),
});
export type ClusterRecord = z.infer<typeof ClusterSchema>;

/** The next number of each kind to give out. */
export const NumbersSchema = z.looseObject({
  unit: positive,
  disk: positive,
  volume: positive,
  slice: positive,
  event: positive,
  /** Records of before there were hosts say nothing. */
  host: positive.default(1),
  request: positive.default(1),
});
export type NumbersRecord = z.infer<typeof NumbersSchema>;

export const UNIT_ROLES = ["member", "spare", "witness"] as const;
export type UnitRole = (typeof UNIT_ROLES)[number];

export const UnitSchema = z.looseObject({
  number: positive,
  /** First half of the SHA-256 of the public key. */
  id: idSchema,
  /** Ed25519, 64 hex digits. */
  publicKey: z.string().regex(/^[0-9a-f]{64}$/),
  name: nameSchema,
  /** Where it was last seen; without ports. */
  addresses: z.array(addressSchema).max(LIST_MAX),
  /** Its address among units, derived from cluster and unit id: does not change with DHCP. */
  ula: addressSchema,
  /** TCP ports by purpose, such as peer, nbd, api. */
  ports: z.record(z.string().max(32), z.number().int().min(1).max(65535)),
  role: z.enum(UNIT_ROLES),
  /** Null: in no pool, as a spare for all of them. */
  pool: nameSchema.nullable(),
  /** `removed`: its key is no longer admitted, its number is never given again (R12). */
  state: z.enum(["admitted", "removed"]),
  featureLevel: positive,
  version: z.string().max(64),
  /** Wall clock, for people only. */
  admittedAtMs: countOrZero,
  /** Its copies, heads and vote go to other units. */
  evacuation: z
    .looseObject({
      /** Once it holds nothing it is removed. */
      thenRemove: z.boolean(),
      /** Once it holds nothing it has this place; it stays in the cluster, and keeps its vote. */
      thenMove: PlaceInPoolsSchema.optional(),
      /** When it began, by the wall clock, and the slices with a member on it then: for people. */
      sinceMs: countOrZero,
      slices: countOrZero,
      /** That it holds nothing any more was told. */
      emptied: z.boolean().optional(),
    })
    .optional(),
  /** Others take over what it heads, and its copies are waited for (maintenance.ts). */
  maintenance: z
    .looseObject({
      /** When it began, by the wall clock. */
      sinceMs: countOrZero,
      forMs: positive,
      by: z.enum(["owner", "update"]),
    })
    .optional(),
});
export type UnitRecord = z.infer<typeof UnitSchema>;

export const AliveSchema = z.looseObject({
  unit: positive,
  /** Random per start of the daemon: tells a restart from a hiccup. */
  run: idSchema,
  slices: z.array(SliceNewsSchema).max(SLICE_NEWS_MAX).optional(),
  ...unitFigures,
});
export type AliveRecord = z.infer<typeof AliveSchema>;

export const StationSchema = z.looseObject({ unit: positive, term: positive });
export type StationRecord = z.infer<typeof StationSchema>;

/** How a disk is, as its unit last reported it (R9). */
export const DiskHealthSchema = z.looseObject({
  /** Blocks found wrong since the disk was made, and what became of them. */
  found: countOrZero,
  healed: countOrZero,
  unhealed: countOrZero,
  /** Places that were wrong lately (DISK_ERRORS_WITHIN_MS). */
  recentPlaces: countOrZero,
  /** When its last scrub ended, by its unit's wall clock; 0: never. */
  scrubEndedAtMs: countOrZero,
});
export type DiskHealthRecord = z.infer<typeof DiskHealthSchema>;

export const DiskSchema = z.looseObject({
  number: positive,
  uuid: idSchema,
  unit: positive,
  /** As its unit names it. */
  path: z.string().max(4096),
  /** What slices may use of it: its extents, without its own metadata. */
  sizeBytes: countOrZero,
  /**
   * R0: of its present run; written by its unit at every start, before anything is placed there.
   */
  incarnation: positive,
  /**
   * `failed`: an I/O error ejected it (R10), or it was taken out. `leaving`: takes nothing new.
   * `gone`: never comes back.
   */
  state: z.enum(["ready", "failed", "leaving", "gone"]),
  /** Why it is leaving, or is to leave once it is back: the rest of a sentence about it. */
  why: z.string().max(256).optional(),
  /** While failed: it was taken out, or why it was ejected. */
  lost: z.looseObject({ isOut: z.boolean(), reason: z.string().max(256) }).optional(),
  /** Its owner wants it taken again; its unit acts when the number rises. */
  returnAsked: countOrZero.optional(),
  /** Wrong places that its owner has seen and returned it to use all the same. */
  pardonedPlaces: countOrZero.optional(),
  /** It is leaving, and that it holds nothing any more was told. */
  emptied: z.boolean().optional(),
  /** The generation (its id) in which its unit has told all the slices that it holds. */
  toldGeneration: idSchema.optional(),
  health: DiskHealthSchema.optional(),
  /** Asked by a person; its unit acts when the number rises. */
  scrubAsked: z.looseObject({ number: positive, urgent: z.boolean() }).optional(),
});
export type DiskRecord = z.infer<typeof DiskSchema>;

export const VolumeSchema = z.looseObject({
  number: positive,
  uuid: idSchema,
  name: nameSchema,
  sizeBytes: positive,
  protection: z.enum(Object.keys(layouts) as [Protection, ...Protection[]]),
  sliceBytes: positive,
  slices: z.array(positive).min(1).max(VOLUME_SLICES_MAX),
  pool: nameSchema,
  /** The host that asked for it by itself: it counts towards that one's quota. */
  requestedBy: positive.optional(),
  /** Hosts that it is assigned to, by number; empty: nobody may attach. */
  hosts: z.array(positive).max(VOLUME_HOSTS_MAX).default([]),
  /**
   * Of before there were hosts: ranges that may attach, until upkeep makes a host of them. Written
   * empty since, for units of an older version.
   */
  allow: z.array(addressSchema).max(LIST_MAX).default([]),
  /** Records of before there was TLS say nothing. */
  tls: z.enum(TLS_RULES).default(TLS_RULE_DEFAULT),
  state: z.enum(["creating", "ready", "deleting"]),
  /** The restored control state did not know it: made anew by what disks hold of it. */
  foundOnDisks: z.boolean().optional(),
  /** How often its owner went on without a copy (lineages.ts). */
  overrides: countOrZero.optional(),
  /**
   * It is to have this size (volume-growth.ts): slices that are placed for it, in order, and no
   * part of it before all of them are there. `ended`: they could not be, and are taken back.
   */
  growth: z
    .looseObject({
      sizeBytes: positive,
      slices: z.array(positive).max(VOLUME_SLICES_MAX),
      ended: z.boolean().optional(),
    })
    .optional(),
  /** Slices from this index on were found on disks after a restore, which did not know them. */
  foundFrom: countOrZero.optional(),
  /** It is made for a drill, and goes with it. */
  canary: CanarySchema.optional(),
  /** Deleted, and can be taken back until then, with its hosts (volume-ends.ts). */
  trash: z
    .looseObject({ untilMs: countOrZero, hosts: z.array(positive).max(VOLUME_HOSTS_MAX) })
    .optional(),
});
export type VolumeRecord = z.infer<typeof VolumeSchema>;

/**
 * Its owner, by the token that a claim gave out. A cluster without one is unclaimed.
 */
export const AdministratorSchema = z.looseObject({
  name: nameSchema,
  tokenHash: tokenHashSchema,
  /** Of before there were users: Argon2id of the password for the pages. */
  passwordHash: passwordHashSchema.optional(),
  /** Wall clock, for people only. */
  createdAtMs: countOrZero,
});
export type AdministratorRecord = z.infer<typeof AdministratorSchema>;

const DAY_MS = 24 * 3600 * 1000;
/** Every setting of the cluster with its bounds. */
export const settingShapes = {
  /** How long a slice may lack a member before another disk takes its place, ms. */
  reprotectAfterMs: z
    .number()
    .int()
    .min(0)
    .max(7 * DAY_MS),
  protectWithinMs: protectWithinShape,
  /** R9: every block of every disk is read at least this often, ms; 0: only when asked. */
  scrubEveryMs: z
    .number()
    .int()
    .min(0)
    .max(3650 * DAY_MS),
  /** The most that a scrub reads of a disk, bytes per second. */
  scrubBytesPerSecondMax: z
    .number()
    .int()
    .min(1 << 20)
    .max(2 ** 40),
  /** A disk that was wrong in so many places within a day is retired; 0: never by itself. */
  diskErrorsMax: z.number().int().min(0).max(1_000_000),
  /** An address that the control station answers besides its own; null: there is none. */
  groupAddress: z
    .string()
    .max(45)
    .refine(isHostAddress, "one address of a machine, such as 10.0.0.50")
    .nullable(),
  /** Whether pages and API on TCP are answered over TLS alone. */
  httpsOnly: z.boolean(),
  /** Where logs and events are sent besides, by syslog; null: nowhere. */
  syslogTarget: syslogTargetSchema.nullable(),
  /** Who tells appliances the time; null: whom DHCP names, else Debian's servers. */
  timeServers: timeServersSchema.nullable(),
} as const;
// Those that came later have their defaults where an older version wrote the record.
export const SettingsSchema = z.looseObject({
  reprotectAfterMs: settingShapes.reprotectAfterMs,
  protectWithinMs: protectWithinShape.default(0),
  scrubEveryMs: settingShapes.scrubEveryMs.default(SCRUB_EVERY_MS),
  scrubBytesPerSecondMax: settingShapes.scrubBytesPerSecondMax.default(SCRUB_BYTES_PER_SECOND_MAX),
  diskErrorsMax: settingShapes.diskErrorsMax.default(DISK_ERRORS_MAX),
  groupAddress: settingShapes.groupAddress.default(null),
  httpsOnly: settingShapes.httpsOnly.default(false),
  syslogTarget: settingShapes.syslogTarget.default(null),
  timeServers: settingShapes.timeServers.default(null),
  /** Absent: as UPDATE_SETTINGS_DEFAULT says. */
  update: UpdateSettingsSchema.optional(),
});
export type SettingsRecord = z.infer<typeof SettingsSchema>;
export const SETTINGS_DEFAULT: SettingsRecord = SettingsSchema.parse({
  reprotectAfterMs: 600_000,
});

/** A unit's place among the voters, and the one-time ticket for its empty etcd directory (R12). */
export const VoterSchema = z.looseObject({
  unit: positive,
  /** The etcd member's id, as etcd gives it. */
  memberId: z.string().max(32),
  ticket: idSchema,
  /**
   * `fresh`: its unit may start an empty directory, after making it `used`. `used`: it has. `lost`:
   * its unit says that the data is gone; the control station removes the member.
   */
  state: z.enum(["fresh", "used", "lost"]),
  /** What etcd's first start wants to be told. */
  name: nameSchema,
  peerUrl: z.string().max(256),
  initialCluster: z.string().max(4096),
});
export type VoterRecord = z.infer<typeof VoterSchema>;

/** A person, a token, a host, or root on a unit, by a name for people. */
export const ACTOR_CHARACTERS_MAX = 96;
const actorSchema = z.string().min(1).max(ACTOR_CHARACTERS_MAX);

/** Something asked of the control station (commands.ts); hangs on a lease of who asks. */
export const CommandSchema = z.looseObject({
  id: idSchema,
  /** The unit that asks, or vouches for who asked it. */
  unit: positive,
  name: z.string().max(64),
  /** Who asked the unit for it, as it vouches; not there: nobody, the unit asks by itself. */
  actor: actorSchema.optional(),
  arguments: z.record(z.string(), z.unknown()),
  lease: z.string().max(64),
  state: z.enum(["asked", "done", "failed"]),
  answer: z.record(z.string(), z.unknown()).optional(),
  fault: z.object({ code: z.string().max(64), detail: z.string().max(1024) }).optional(),
});
export type CommandRecord = z.infer<typeof CommandSchema>;

/** What the event history has said last, so that every change is told once, by whoever leads. */
export const ToldSchema = z.looseObject({
  units: z.record(z.string(), z.boolean()),
  volumes: z.record(z.string(), z.string().max(64)),
  station: countOrZero,
  /** Other clusters in use with our join secret that are near: names by id. */
  others: z.record(idSchema, z.string().max(63)).optional(),
  deadline: toldDeadline.optional(),
});
export type ToldRecord = z.infer<typeof ToldSchema>;

export const EventSchema = z.looseObject({
  number: positive,
  /** Wall clock of who wrote it, for people only. */
  atMs: countOrZero,
  kind: z.string().max(64),
  severity: z.enum(["info", "warning", "alarm"]),
  sentence: z.string().max(1024),
  /** Who asked for it; not there: nobody did, or a version that did not say wrote it. */
  actor: actorSchema.optional(),
  unit: positive.nullable(),
  volume: positive.nullable(),
});
export type EventRecord = z.infer<typeof EventSchema>;

/** What stands under which key. */
export type StateEntry =
  | { kind: "cluster"; value: ClusterRecord }
  | { kind: "numbers"; value: NumbersRecord }
  | { kind: "settings"; value: SettingsRecord }
  | { kind: "station"; value: StationRecord }
  | { kind: "unit"; number: UnitNumber; value: UnitRecord }
  | { kind: "alive"; number: UnitNumber; value: AliveRecord }
  | { kind: "disk"; number: DiskNumber; value: DiskRecord }
  | { kind: "volume"; number: VolumeNumber; value: VolumeRecord }
  | { kind: "slice"; number: SliceNumber; value: SliceRecord }
  | { kind: "restored"; number: SliceNumber; value: RestoredSlice }
  | { kind: "voter"; number: UnitNumber; value: VoterRecord }
  | { kind: "term"; value: number }
  | { kind: "told"; value: ToldRecord }
  | { kind: "command"; id: string; value: CommandRecord }
  | { kind: "pool"; name: string; value: PoolRecord }
  | { kind: "administrator"; name: string; value: AdministratorRecord }
  | { kind: "user"; name: string; value: UserRecord }
  | { kind: "token"; name: string; value: TokenRecord }
  | { kind: "host"; number: HostNumber; value: HostRecord }
  | { kind: "request"; number: number; value: RequestRecord }
  | { kind: "update"; value: UpdateRecord }
  | { kind: "unitUpdate"; number: UnitNumber; value: UnitUpdateRecord }
  | { kind: "event"; number: number; value: EventRecord };
export type StateKind = StateEntry["kind"];

/**
 * A value of the control state; a Fault `corrupt` that names the key when it is not what it should
 * be.
 */
export function parseValue<T>(schema: z.ZodType<T>, key: string, text: string): T {
  if (text.length > VALUE_CHARACTERS_MAX) {
    throw new Fault("corrupt", `${key} in the control store is ${text.length} characters long`);
  }
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new Fault("corrupt", `${key} in the control store is no JSON`, { cause });
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue === undefined ? "" : `: ${issue.path.join(".")} ${issue.message}`;
  throw new Fault("corrupt", `${key} in the control store${where}`);
}

export function parseSlice(key: string, text: string): SliceRecord {
  return parseValue(SliceSchema as z.ZodType<SliceRecord>, key, text);
}

/** The kind of a key and its number or name; null for keys that are no part of the view. */
export function keyParts(key: string): { kind: StateKind; rest: string } | null {
  const whole = WHOLE_KEYS[key];
  if (whole !== undefined) return { kind: whole, rest: "" };
  const slash = key.indexOf("/", 1);
  if (slash < 0) return null;
  const kind = PREFIXES[key.slice(0, slash + 1)];
  return kind === undefined ? null : { kind, rest: key.slice(slash + 1) };
}

const WHOLE_KEYS: Record<string, StateKind | undefined> = {
  [keys.cluster]: "cluster",
  [keys.numbers]: "numbers",
  [keys.settings]: "settings",
  [keys.station]: "station",
  [keys.term]: "term",
  [keys.told]: "told",
  [keys.update]: "update",
};
const PREFIXES: Record<string, StateKind | undefined> = {
  [keys.units]: "unit",
  [keys.alive]: "alive",
  [keys.disks]: "disk",
  [keys.volumes]: "volume",
  [keys.slices]: "slice",
  [keys.restoredSlices]: "restored",
  [keys.pools]: "pool",
  [keys.voters]: "voter",
  [keys.commands]: "command",
  [keys.events]: "event",
  [keys.administrators]: "administrator",
  [keys.users]: "user",
  [keys.tokens]: "token",
  [keys.hosts]: "host",
  [keys.requests]: "request",
  [keys.unitUpdates]: "unitUpdate",
};

/** Reads one key of the control state; null when the key belongs to no kind. */
export function parseEntry(key: string, text: string): StateEntry | null {
  const parts = keyParts(key);
  if (parts === null) return null;
  switch (parts.kind) {
    case "cluster":
      return { kind: "cluster", value: parseValue(ClusterSchema, key, text) };
    case "numbers":
      return { kind: "numbers", value: parseValue(NumbersSchema, key, text) };
    case "settings":
      return { kind: "settings", value: parseValue(SettingsSchema, key, text) };
    case "station":
      return { kind: "station", value: parseValue(StationSchema, key, text) };
    case "term":
      return { kind: "term", value: parseValue(positive, key, text) };
    case "told":
      return { kind: "told", value: parseValue(ToldSchema, key, text) };
    case "command":
      return { kind: "command", id: parts.rest, value: parseValue(CommandSchema, key, text) };
    case "pool":
      return { kind: "pool", name: parts.rest, value: parseValue(PoolSchema, key, text) };
    case "administrator": {
      const value = parseValue(AdministratorSchema, key, text);
      return { kind: "administrator", name: parts.rest, value };
    }
    case "user":
      return { kind: "user", name: parts.rest, value: parseValue(UserSchema, key, text) };
    case "token":
      return { kind: "token", name: parts.rest, value: parseValue(TokenSchema, key, text) };
    case "host":
      return numbered("host", key, parts.rest, parseValue(HostSchema, key, text));
    case "request":
      return numbered("request", key, parts.rest, parseValue(RequestSchema, key, text));
    case "update":
      return { kind: "update", value: parseValue(UpdateSchema, key, text) };
    case "unitUpdate":
      return numbered("unitUpdate", key, parts.rest, parseValue(UnitUpdateSchema, key, text));
    case "event":
      return numbered("event", key, parts.rest, parseValue(EventSchema, key, text));
    case "voter":
      return numbered("voter", key, parts.rest, parseValue(VoterSchema, key, text));
    case "unit":
      return numbered("unit", key, parts.rest, parseValue(UnitSchema, key, text));
    case "alive":
      return numbered("alive", key, parts.rest, parseValue(AliveSchema, key, text));
    case "disk":
      return numbered("disk", key, parts.rest, parseValue(DiskSchema, key, text));
    case "volume":
      return numbered("volume", key, parts.rest, parseValue(VolumeSchema, key, text));
    case "slice":
      return numbered("slice", key, parts.rest, parseSlice(key, text));
    case "restored":
      return numbered("restored", key, parts.rest, parseValue(RestoredSliceSchema, key, text));
  }
}

function numbered<K extends StateKind, V>(kind: K, key: string, rest: string, value: V) {
  const number = Number(rest);
  if (!Number.isSafeInteger(number) || number < 1) {
    throw new Fault("corrupt", `the key ${key} in the control store has no number`);
  }
  return { kind, number, value };
}

/** A record as it is stored. */
export function valueText(record: object): string {
  return JSON.stringify(record);
}

/** What a founder writes into an empty control store. */
export function firstState(options: {
  uuid: string;
  name: string;
  featureLevel: number;
  sliceBytes?: number;
  settings?: Partial<SettingsRecord>;
  /** Claimed from the start by whoever holds the token with this hash. */
  adminTokenHash?: string | null;
  wallMs?: number;
}): { key: string; value: string }[] {
  const cluster: ClusterRecord = {
    uuid: options.uuid,
    name: options.name,
    generation: 1,
    state: "virgin",
    featureLevel: options.featureLevel,
    sliceBytes: options.sliceBytes ?? SLICE_BYTES_DEFAULT,
  };
  const numbers: NumbersRecord = {
    unit: 1,
    disk: 1,
    volume: 1,
    slice: 1,
    event: 1,
    host: 1,
    request: 1,
  };
  const pool: PoolRecord = { name: FIRST_POOL };
  const settings: SettingsRecord = { ...SETTINGS_DEFAULT, ...options.settings };
  const records: [string, unknown, z.ZodType][] = [
    [keys.cluster, cluster, ClusterSchema],
    [keys.numbers, numbers, NumbersSchema],
    [keys.pool(pool.name), pool, PoolSchema],
    [keys.settings, settings, SettingsSchema],
  ];
  if (options.adminTokenHash != null) {
    const owner = ownerRecord(options.adminTokenHash, options.wallMs ?? 0);
    records.push([keys.administrator(OWNER), owner, AdministratorSchema]);
  }
  return records.map(([key, record, schema]) => {
    const checked = schema.safeParse(record);
    if (!checked.success) throw new Fault("badConfiguration", `${key} ${checked.error.message}`);
    return { key, value: JSON.stringify(record) };
  });
}

export function ownerRecord(tokenHash: string, wallMs: number): AdministratorRecord {
  return { name: OWNER, tokenHash, createdAtMs: Math.max(0, Math.floor(wallMs)) };
}

/** Units that may be admitted. */
export const ADMITTED_UNITS_MAX = UNITS_MAX;
