// SPDX-License-Identifier: Apache-2.0
//
// What units ask of the control station: a record under `/commands/`, on a lease of who asks. The
// station carries it out and writes the answer in the same transaction as the effect, so a command
// is done once or not at all, whichever station does it and whoever dies in between. It needs no
// link of its own: whoever reaches the control store reaches the station.

import { z } from "zod";
import { Fault, faultTable } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import type { UnitNumber } from "#base/record.ts";
import { TLS_RULES } from "#base/tls.ts";
import type { Timers, World } from "#base/world.ts";
import type { ControlStore } from "./control-store.ts";
import { arrivalCommands } from "./arrival-changes.ts";
import { diskCommands } from "./disk-changes.ts";
import { drillCommands } from "./drill-changes.ts";
import { LEFT_MAX } from "./giving-way.ts";
import { hostCommands } from "./host-changes.ts";
import type { HostAnswers } from "./host-changes.ts";
import { VOLUME_HOSTS_MAX } from "./host-state.ts";
import { lineageCommands } from "./lineages.ts";
import type { LineageAnswers } from "./lineages.ts";
import { maintenanceCommands } from "./maintenance.ts";
import { nameSchema } from "./name-schema.ts";
import { poolCommands } from "./pool-changes.ts";
import { restoredCommands } from "./restored-changes.ts";
import { requestCommands } from "./request-changes.ts";
import type { RequestAnswers } from "./request-changes.ts";
import { ACTOR_CHARACTERS_MAX, UNIT_ROLES, UnitSchema, settingShapes } from "./state.ts";
import { CommandSchema, idSchema, keys, parseValue, valueText } from "./state.ts";
import type { CommandRecord } from "./state.ts";
import { unitCommands } from "./unit-changes.ts";
import { UpdateSchema, UpdateSettingsSchema } from "./update-state.ts";
import { userCommands } from "./user-changes.ts";
import type { UserAnswers } from "./user-changes.ts";
import { passwordHashSchema, tokenHashSchema } from "./user-state.ts";
import type { ViewFollower } from "./view-follower.ts";
import { endCommands } from "./volume-ends.ts";
import { growthCommands } from "./volume-growth.ts";
import { newId } from "./voters.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Every command with the shape of its arguments. */
export const commandArguments = {
  /** A unit that proved itself on its link to the asking unit is to be admitted. */
  admitUnit: UnitSchema.pick({
    id: true,
    publicKey: true,
    name: true,
    addresses: true,
    ula: true,
    ports: true,
    featureLevel: true,
    version: true,
  }).extend({
    role: z.enum(UNIT_ROLES),
    /** Clusters that it left because they gave way. */
    left: z.array(idSchema).max(LEFT_MAX).optional(),
  }),
  ...unitCommands,
  ...maintenanceCommands,
  ...poolCommands,
  ...arrivalCommands,
  /** The asking unit has claimed a disk, or found one of ours. */
  registerDisk: z.object({
    uuid: idSchema,
    path: z.string().max(4096),
    sizeBytes: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    incarnation: positive,
    /** The number that it has; one of a generation before is kept. */
    number: positive.optional(),
  }),
  createVolume: z.object({
    name: nameSchema,
    sizeBytes: positive,
    protection: z.enum(Object.keys(layouts) as [Protection, ...Protection[]]),
    hosts: z.array(positive).max(VOLUME_HOSTS_MAX).optional(),
    /** The host that asked for it by itself. */
    requestedBy: positive.optional(),
    tls: z.enum(TLS_RULES).optional(),
    pool: nameSchema.optional(),
  }),
  ...endCommands,
  ...growthCommands,
  ...lineageCommands,
  setTls: z.object({ volume: positive, tls: z.enum(TLS_RULES) }),
  renameVolume: z.object({ volume: positive, name: nameSchema }),
  /**
   * The asking unit has seen the claim code, a token, or its boot medium: whoever holds the token
   * with this hash administers the cluster.
   */
  claimCluster: z.object({
    tokenHash: tokenHashSchema,
    /** An owner's token is voided by it; else a claimed cluster refuses. */
    replaces: z.boolean(),
    /**
     * By the boot medium, which may found several clusters at once that merge by themselves yet.
     * Else the cluster is never merged by itself from now on.
     */
    byMedium: z.boolean(),
    /** Of the first user. Not said: it stays as it is, if there is one. */
    passwordHash: passwordHashSchema.optional(),
  }),
  setSettings: z
    .object({ ...settingShapes, update: UpdateSettingsSchema, clusterName: nameSchema })
    .partial(),
  /** The asking unit holds the whole payload of a signed manifest. */
  announceUpdate: UpdateSchema.pick({ digest: true, manifest: true, signature: true }),
  startUpdate: z.object({
    /** Null: the one that is loaded. */
    version: UpdateSchema.shape.version.nullable(),
    accept: z.boolean(),
    downgrade: z.boolean(),
    only: UpdateSchema.shape.only,
  }),
  stopUpdate: z.object({}),
  ...diskCommands,
  ...drillCommands,
  ...hostCommands,
  ...requestCommands,
  ...restoredCommands,
  ...userCommands,
} as const;

export type CommandName = keyof typeof commandArguments;
export type CommandArguments<N extends CommandName> = z.infer<(typeof commandArguments)[N]>;

export interface CommandAnswers extends HostAnswers, RequestAnswers, LineageAnswers, UserAnswers {
  admitUnit: { unit: number };
  removeUnit: Record<string, never>;
  evacuateUnit: Record<string, never>;
  keepUnit: Record<string, never>;
  maintainUnit: Record<string, never>;
  endMaintenance: Record<string, never>;
  tellLead: Record<string, never>;
  letIn: Record<string, never>;
  tellWindow: Record<string, never>;
  replaceUnit: Record<string, never>;
  createPool: Record<string, never>;
  deletePool: Record<string, never>;
  moveUnit: Record<string, never>;
  registerDisk: { disk: number };
  createVolume: { volume: number };
  growVolume: Record<string, never>;
  deleteVolume: Record<string, never>;
  restoreVolume: Record<string, never>;
  setTls: Record<string, never>;
  renameVolume: Record<string, never>;
  claimCluster: Record<string, never>;
  setSettings: Record<string, never>;
  announceUpdate: Record<string, never>;
  startUpdate: Record<string, never>;
  stopUpdate: Record<string, never>;
  reportDisk: Record<string, never>;
  tellBlocks: Record<string, never>;
  tellTakeover: Record<string, never>;
  scrubDisk: Record<string, never>;
  loseDisk: Record<string, never>;
  retireDisk: Record<string, never>;
  returnDisk: Record<string, never>;
  beginDrill: { volume: number };
  failDrill: { unit: number };
  endDrill: Record<string, never>;
  tellHeld: Record<string, never>;
  endGathering: { disks: number };
  acceptVolume: { slices: number; left: number };
}

/** What units find and ask for by themselves, also while somebody waits for something of them. */
const OF_UNITS: ReadonlySet<CommandName> = new Set([
  "registerDisk",
  "reportDisk",
  "tellBlocks",
  "tellTakeover",
  "tellLead",
  "tellWindow",
  "letIn",
  "loseDisk",
  "failDrill",
  "endDrill",
] as const);

/** Commands that may be waiting at once in the whole cluster. */
export const COMMANDS_MAX = 256;
const TIMEOUT_MS = 15_000;
/** The lease outlives the question, so that a late answer still finds it. */
const LEASE_SLACK_MS = 15_000;

export interface CommandParts {
  store: ControlStore;
  follower: ViewFollower;
  unit: UnitNumber;
  /** For whom this unit acts at the moment; null, or not said: for itself. */
  actor?: () => string | null;
  /** Called before anything is asked; throws where it is not to be. */
  before?: <N extends CommandName>(name: N, args: CommandArguments<N>) => void;
}

/** Asks the control station from one unit. */
export class CommandClient {
  readonly #world: Pick<World, "random">;
  readonly #timers: Timers;
  readonly #store: ControlStore;
  readonly #follower: ViewFollower;
  readonly #unit: UnitNumber;
  readonly #actor: () => string | null;
  readonly #before: CommandParts["before"];

  constructor(world: Pick<World, "random">, timers: Timers, parts: CommandParts) {
    this.#before = parts.before;
    this.#world = world;
    this.#timers = timers;
    this.#store = parts.store;
    this.#follower = parts.follower;
    this.#unit = parts.unit;
    this.#actor = () => parts.actor?.() ?? null;
  }

  /**
   * Resolves with the answer; rejects with the station's Fault, with badRequest before anything is
   * asked, with notReady when nobody took it up (it is taken back then: surely not done), and with
   * unknownOutcome when the control store does not say.
   */
  async ask<N extends CommandName>(
    name: N,
    args: CommandArguments<N>,
    timeoutMs = TIMEOUT_MS,
  ): Promise<CommandAnswers[N]> {
    const checked = parseArguments(name, args);
    this.#before?.(name, checked);
    const actor = OF_UNITS.has(name) ? null : this.#actor()?.slice(0, ACTOR_CHARACTERS_MAX);
    if (this.#follower.view.commands.size >= COMMANDS_MAX) {
      throw new Fault("notReady", "too many requests wait for the control station");
    }
    const { lease } = await this.#store.grantLease(timeoutMs + LEASE_SLACK_MS);
    const id = newId(this.#world);
    const record: CommandRecord = {
      id,
      unit: this.#unit,
      name,
      ...(actor == null ? {} : { actor }),
      arguments: checked as Record<string, unknown>,
      lease,
      state: "asked",
    };
    const key = keys.command(id);
    const put = { key, value: valueText(record), lease };
    try {
      const ifs = [{ key, modRevision: 0 }];
      const { committed } = await this.#store.transaction({ ifs, puts: [put] });
      if (!committed) throw new Fault("internal", "a command's id came twice");
      const ended = (await this.#ended(id, timeoutMs)) ?? (await this.#takeBack(id));
      return answerOf(ended) as CommandAnswers[N];
    } finally {
      // Its key goes with the lease now or later; nobody waits for it.
      this.#store.revokeLease(lease).catch(() => undefined);
    }
  }

  #ended(id: string, timeoutMs: number): Promise<CommandRecord | null> {
    const view = this.#follower.view;
    return new Promise((resolve) => {
      const look = () => {
        const record = view.commands.get(id);
        if (record !== undefined && record.state !== "asked") end(record);
      };
      const end = (record: CommandRecord | null) => {
        cancel();
        unlisten();
        resolve(record);
      };
      const cancel = this.#timers.after(timeoutMs, () => end(null));
      const unlisten = view.onChange(look);
      look();
    });
  }

  /** Nobody answered in time: take the question back, unless it was answered just now. */
  async #takeBack(id: string): Promise<CommandRecord> {
    const key = keys.command(id);
    const { entry } = await this.#store.get(key);
    if (entry === null) throw new Fault("unknownOutcome", "the request's lease ran out");
    const record = parseValue(CommandSchema, key, entry.value);
    if (record.state !== "asked") return record;
    const ifs = [{ key, modRevision: entry.modRevision }];
    const { committed } = await this.#store.transaction({ ifs, deletes: [key] });
    if (!committed) return this.#takeBack(id); // answered in between: at most once more
    throw new Fault("notReady", "no control station took up the request");
  }
}

export function parseArguments<N extends CommandName>(name: N, args: unknown): CommandArguments<N> {
  const parsed = commandArguments[name].safeParse(args);
  if (parsed.success) return parsed.data as CommandArguments<N>;
  const issue = parsed.error.issues[0];
  throw new Fault("badRequest", `${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`.trim());
}

function answerOf(record: CommandRecord): Record<string, unknown> {
  if (record.state === "done") return record.answer ?? {};
  const code = record.fault?.code ?? "internal";
  const known = Object.hasOwn(faultTable, code) ? (code as FaultCode) : "internal";
  throw new Fault(known, record.fault?.detail ?? "the control station gave no reason");
}

export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(commandArguments, name);
}
