// SPDX-License-Identifier: Apache-2.0
//
// What the console asks of a unit: the one interface behind REST, CLI and pages. The daemon
// implements it (unit.ts); answers are plain objects, failures are Faults.

import type { Protection } from "#base/layout.ts";
import type { TlsRule } from "#base/tls.ts";
import type {
  DiskNumber,
  HostNumber,
  SliceNumber,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import type { DeadlineJudgement } from "#cluster/deadline.ts";
import type { EvacuationState } from "#cluster/evacuation.ts";
import type { ControlBackend } from "./control-desk.ts";
import type { MaintenanceState } from "#cluster/maintenance.ts";
import type { Role } from "#cluster/user-state.ts";
import type { Drills } from "./drills.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Fleet } from "./fleet.ts";
import type { Health } from "./health.ts";
import type { GoOnView, KeptView } from "./volume-lineages.ts";
import type { Neighbours } from "./unit-neighbours.ts";
import type { Pools } from "./pools.ts";
import type { HostBackend } from "./host-backend.ts";
import type { SupportBundle } from "./support-bundle.ts";
import type { UpdateBackend } from "./update-backend.ts";
import type { UserBackend } from "./user-backend.ts";

export type Availability = "online" | "waiting" | "read-only" | "offline";
/** `protection` in words, with the percentage where it rebuilds. */
export type ProtectionWord = "protected" | "degraded" | "at-risk" | "rebuilding";

export interface UnitStatus {
  name: string;
  unitId: string;
  /** 0: in no cluster yet. */
  unit: UnitNumber;
  version: string;
  /** What it is doing or waiting for, for a person. */
  sentence: string;
  phase: "starting" | "listening" | "waiting" | "joining" | "joined" | "stopping";
  cluster: { uuid: string; name: string; state: string; generation: number } | null;
  role: "member" | "spare" | "witness";
  pool: string | null;
  controlStation: UnitNumber | null;
  voter: boolean;
  /** Votes in the control store: its voters' unit numbers, and learners on their way. */
  voters: UnitNumber[];
  /** Words to compare when a unit is admitted by hand. */
  words: string[];
  /** Age of what this unit knows of the control state, ms; 0 while the store answers. */
  staleMs: number;
  ports: Record<string, number>;
  claim: {
    /** Whether the cluster has an owner. */
    claimed: boolean;
    /**
     * What claims it at this unit; null where none does, and to everybody but the machine itself.
     */
    code: string | null;
  };
  /** Other clusters in use with the same join secret that are near, in words. */
  otherClusters: string[];
  /** What is wrong with the boot medium, in a sentence; null: nothing. */
  wrongMedium: string | null;
  /** Somebody at the console looks for this box. */
  searched: boolean;
}

/** Somebody who has shown a token, or is signed in at the pages. */
export interface Known {
  role: Role;
  /** Who it is, for the audit trail: such as "anna" or "token backup-script". */
  actor: string;
}

/**
 * Who asks: this machine itself through the socket, somebody known, a host with its own token, or
 * anybody on the network.
 */
export type Asker = "local" | "anybody" | { host: HostNumber } | Known;

/** May do all that the owner may. */
export function isAdmin(asker: Asker): boolean {
  if (typeof asker === "string") return asker === "local";
  return "role" in asker && asker.role === "admin";
}

export interface ClaimRequest {
  /** As typed; null: by the right of who asks. */
  code: string | null;
  /** A claimed cluster's owner gets another token, and the one before is void. */
  replace: boolean;
  /** For the pages; null: none, or as it was. */
  password: string | null;
  /**
   * SHA-256 of the owner's token, hex, where the claimer brings one: the same claim may then be
   * made again, as when its answer was lost. Null: one is made, and told once.
   */
  tokenHash: string | null;
}

export interface UnitView {
  unit: UnitNumber;
  unitId: string;
  name: string;
  role: string;
  pool: string | null;
  alive: boolean;
  addresses: string[];
  version: string;
  voter: boolean;
  controlStation: boolean;
  /** Peer link from the unit that answers. */
  link: "up" | "down" | "self";
  /** As its screen shows them, to compare. */
  words: string[];
  /** Null: it stays where it is. */
  evacuation: EvacuationState | null;
  /** Null: it is not in maintenance. */
  maintenance: MaintenanceState | null;
}

/** A unit without a join secret that waits to be admitted, as this unit hears it. */
export interface StrangerView {
  unitId: string;
  name: string;
  version: string;
  address: string;
  words: string[];
}

export interface DiskView {
  /** 0: not ours (yet). */
  disk: DiskNumber;
  unit: UnitNumber;
  path: string;
  uuid: string;
  sizeBytes: number;
  freeBytes: number;
  state: string;
  /** Why it is used, or why it is left alone, in a sentence. */
  reason: string;
  /** How well it keeps what it is given; null: not known (not ours, or nothing said yet). */
  health: DiskHealthView | null;
  /** Original figure 5: the slices on it. */
  slices: { slice: SliceNumber; volume: VolumeNumber; state: string }[];
}

export interface DiskHealthView {
  /** Blocks found wrong since the disk was made, and what became of them. */
  found: number;
  healed: number;
  /** Wrong and not healed. */
  unhealed: number;
  /** Places that were wrong within a day; a disk with too many is retired. */
  recentPlaces: number;
  scrub: {
    /** Null: only the disk's own unit knows. */
    running: boolean | null;
    /** Of the running scrub; null as above. */
    percent: number | null;
    /** When the last one ended; null: never yet. */
    endedAtMs: number | null;
    /** It cannot keep to the time that is set, at the rate that is set. */
    late: boolean;
  };
}

export interface VolumeView {
  volume: VolumeNumber;
  uuid: string;
  name: string;
  sizeBytes: number;
  /** It is growing to this size; null: it is not. */
  growingToBytes: number | null;
  usedBytes: number | null;
  protection: Protection;
  /** The pool that it lies in. */
  pool: string;
  availability: Availability;
  state: ProtectionWord;
  /** Percent done while rebuilding. */
  rebuildingPercent: number | null;
  /** What it waits for or what would lose it, in a sentence. */
  sentence: string;
  /** Hosts that it is assigned to; nobody else sees it. */
  hosts: { host: HostNumber; name: string }[];
  /** Whether hosts attach without TLS, over it, or either way. */
  tls: TlsRule;
  /** The unit where hosts should attach. */
  front: UnitNumber | null;
  /** Deleted, and gone for good then, by the wall clock; null: it is not deleted. */
  deletedAtMs: number | null;
  /** R8: what is kept of it from before its owner went on without a copy; the newest first. */
  kept: KeptView[];
  /** R3: where it stands still for want of a copy, what it could go on from; null: not so. */
  goOn: GoOnView | null;
  /** NBD URIs, the front's first; at most eight, though every unit takes the volume. */
  uris: string[];
  /** Whose each of them is. */
  paths: { unit: UnitNumber; uri: string }[];
  slices: {
    slice: SliceNumber;
    index: number;
    epoch: number;
    head: DiskNumber;
    members: { disk: DiskNumber; unit: UnitNumber; state: "in-sync" | "resyncing" }[];
  }[];
}

export interface EventView {
  number: number;
  atMs: number;
  severity: "info" | "warning" | "alarm";
  kind: string;
  sentence: string;
  /** Who asked for it; null: nobody did. */
  actor: string | null;
}

export interface CreateVolume {
  name: string;
  sizeBytes: number;
  protection: Protection;
  /** Hosts that it is assigned to from the start, by name or number. */
  hosts?: string[] | undefined;
  /** TLS_RULE_DEFAULT, if not said. */
  tls?: TlsRule | undefined;
  /** The first pool, if not said. */
  pool?: string | undefined;
}

/** One of them. */
export interface ChangeVolume {
  tls?: TlsRule | undefined;
  name?: string | undefined;
}

/** What the cluster's owner may set. */
export interface SettingsView {
  /** How long a slice may lack a copy before another disk takes its place, ms. */
  reprotectAfterMs: number;
  /** How long after a loss all copies are to be there again, ms; 0: no such promise. */
  protectWithinMs: number;
  /** Every block of every disk is read at least this often, ms; 0: only when asked. */
  scrubEveryMs: number;
  /** The most that a scrub reads of a disk, bytes per second. */
  scrubBytesPerSecondMax: number;
  /** A disk that was wrong in so many places within a day is retired; 0: never by itself. */
  diskErrorsMax: number;
  /** An address that the control station answers besides its own; null: there is none. */
  groupAddress: string | null;
  /** Whether pages and API on TCP are answered over TLS alone. */
  httpsOnly: boolean;
  /** Where logs and events are sent besides, by syslog; null: nowhere. */
  syslogTarget: string | null;
  /** Who tells boxes the time, with commas between; null: whom DHCP names, else Debian's. */
  timeServers: string | null;
  /** What the cluster is called. */
  clusterName: string;
}

/** Whose certificates units show over HTTPS, where no other were given to them. */
export interface AuthorityView {
  /** The authority's own certificate. */
  pem: string;
  /** SHA-256 of it, as browsers show it. */
  fingerprint: string;
}

/** Those not named stay. */
export type SettingsChange = { [K in keyof SettingsView]?: SettingsView[K] | undefined };

export interface Backend {
  status(): UnitStatus;
  units(): UnitView[];
  disks(): DiskView[];
  /** The cluster's own authority; a Fault notFound while there is none. */
  authority(): AuthorityView;
  /** Starts a scrub of a disk of any unit; `urgent`: without yielding to hosts. */
  scrubDisk(disk: DiskNumber, options: { urgent: boolean }): Promise<void>;
  /** Its copies are made anew elsewhere; then it is out of use. */
  retireDisk(disk: DiskNumber): Promise<void>;
  /** One that is being retired stays; one that failed or was taken out is opened anew. */
  returnDisk(disk: DiskNumber): Promise<void>;
  settings(): SettingsView;
  changeSettings(changes: SettingsChange): Promise<SettingsView>;
  volumes(): VolumeView[];
  /** By name or number; a Fault notFound. */
  volume(nameOrNumber: string): VolumeView;
  /** Resolves when it can be attached. `dryRun` checks and places, changes nothing. */
  createVolume(request: CreateVolume, options: { dryRun: boolean }): Promise<VolumeView>;
  /**
   * Resolves when hosts that attach here see its new size; done already where it has that. `dryRun`
   * checks and places, changes nothing.
   */
  growVolume(
    nameOrNumber: string,
    sizeBytes: number,
    options: { dryRun: boolean },
  ): Promise<VolumeView>;
  /** It can be taken back for `graceMs`; 0: it is gone at once. */
  deleteVolume(nameOrNumber: string, options: { graceMs: number }): Promise<void>;
  /** After a restore of the control state: what was found of it is taken as it is. */
  acceptVolume(nameOrNumber: string): Promise<VolumeView>;
  restoreVolume(nameOrNumber: string): Promise<VolumeView>;
  changeVolume(nameOrNumber: string, change: ChangeVolume): Promise<VolumeView>;
  /** R3: goes on without a copy that is missing; a Fault conflict where it does not stand still. */
  goOnVolume(nameOrNumber: string): Promise<VolumeView>;
  /** Gives up what is kept from before an override: it is gone. */
  discardCopy(nameOrNumber: string, number: number): Promise<void>;
  /**
   * Makes whoever asks the cluster's owner: a token valid through every unit; null where the
   * claimer brought it. Durable when it answers.
   */
  claim(request: ClaimRequest, asker: Asker): Promise<{ token: string | null }>;
  /**
   * At most `limit`, newest last: the first ones after `since` (an event's number), or the newest
   * ones when `since` is 0; `actor`: only what somebody of that name asked for.
   */
  events(since: number, limit: number, actor?: string): EventView[];
  /** Resyncs and rebuilds under way on this unit, and bytes moved since it started. */
  recovery(): RecoveryView;
  metrics(): MetricSample[];
  /** Whether this version does its part here: what a slot on trial is blessed by. */
  health(): Health;
  /** What this unit knows and decided lately, without secrets; bounded. */
  supportBundle(): SupportBundle;
  readonly update: UpdateBackend;
  readonly fleet: Fleet;
  readonly drills: Drills;
  readonly control: ControlBackend;
  readonly pools: Pools;
  readonly arrivals: Arrivals;
  readonly hosts: HostBackend;
  readonly users: UserBackend;
  /** What any unit tells of itself. */
  readonly neighbours: Neighbours;
}

export interface RecoveryView {
  resyncs: ResyncView[];
  resyncedBytes: number;
  /** Whether the promise of protectWithinMs could be kept after a loss now. */
  deadline: DeadlineJudgement;
}

export interface ResyncView {
  slice: SliceNumber;
  volume: VolumeNumber;
  target: DiskNumber;
  doneBytes: number;
  totalBytes: number;
}

export interface MetricSample {
  /** `cairn_<object>_<quantity>_<unit>`. */
  name: string;
  help: string;
  type: "gauge" | "counter";
  labels: Record<string, string>;
  value: number;
}
