// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides when it is asked: admission, disks, volumes, settings. Each
// function reads a view and fills a draft, or throws the Fault that is the answer. Nothing here
// does I/O; what was decided by an old view fails at the compare.

import { Fault } from "#base/fault.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { UnitNumber } from "#base/record.ts";
import { TLS_RULE_DEFAULT } from "#base/tls.ts";
import type { TlsRule } from "#base/tls.ts";
import { letIn, tellWindow } from "./arrival-changes.ts";
import { isCommandName, parseArguments } from "./commands.ts";
import type { CommandArguments, CommandName } from "./commands.ts";
import {
  diskInWords,
  loseDisk,
  reportDisk,
  retireDisk,
  returnDisk,
  scrubDisk,
  tellBlocks,
  tellTakeover,
} from "./disk-changes.ts";
import type { CanaryRecord } from "./canary.ts";
import type { Draft } from "./draft.ts";
import { beginDrill, endDrill, failDrill } from "./drill-changes.ts";
import { levelRefusal } from "./feature-level.ts";
import { joinable, noteGivenWay, useCluster } from "./giving-way.ts";
import * as hosts from "./host-changes.ts";
import { discardCopy, goOn, tellKept } from "./lineages.ts";
import { endMaintenance, maintainUnit } from "./maintenance.ts";
import { bytesInWords, placeVolume, sliceSizes } from "./placement.ts";
import type { PlacedSlice } from "./placement.ts";
import { createPool, deletePool, moveUnit } from "./pool-changes.ts";
import { FIRST_POOL } from "./pool-state.ts";
import { headedBytes, poolRooms } from "./rooms.ts";
import * as requests from "./request-changes.ts";
import { acceptVolume, endGathering, tellHeld } from "./restored-changes.ts";
import { ADMITTED_UNITS_MAX, keys, ownerRecord } from "./state.ts";
import type { CommandRecord, DiskRecord, UnitRecord, VolumeRecord } from "./state.ts";
import { evacuateUnit, keepUnit, removeUnit, replaceUnit, tellLead } from "./unit-changes.ts";
import { announceUpdate, startUpdate, stopUpdate } from "./update-changes.ts";
import type { KnownVoters } from "./update-plan.ts";
import * as users from "./user-changes.ts";
import { OWNER } from "./user-state.ts";
import type { ClusterView } from "./view.ts";
import { deleteVolume, restoreVolume } from "./volume-ends.ts";
import { growVolume } from "./volume-growth.ts";

export interface ChangeFacts {
  /** The unit whose command it is. */
  asker: UnitNumber;
  wallMs: number;
  /** Fresh 16-byte ids, hex. */
  newId(): string;
  voters: KnownVoters;
}

type Decide<N extends CommandName> = (
  draft: Draft,
  args: CommandArguments<N>,
  facts: ChangeFacts,
) => Record<string, unknown>;

/** One function per command: fills the draft, answers what the asker is told. */
export const decisions: { readonly [N in CommandName]: Decide<N> } = {
  admitUnit,
  removeUnit: (draft, args, facts) => removeUnit(draft, args, facts.voters),
  evacuateUnit: (draft, args, facts) => evacuateUnit(draft, args, facts.wallMs),
  keepUnit,
  maintainUnit,
  endMaintenance,
  tellLead: (draft, args, facts) => tellLead(draft, args, facts.asker),
  letIn: (draft, args, facts) => letIn(draft, args, facts.asker),
  tellWindow: (draft, args, facts) => tellWindow(draft, args, facts.asker),
  replaceUnit: (draft, args, facts) => replaceUnit(draft, args, facts.wallMs),
  createPool,
  deletePool,
  moveUnit: (draft, args, facts) => moveUnit(draft, args, facts.wallMs),
  registerDisk,
  createVolume,
  growVolume,
  deleteVolume: (draft, args, facts) => deleteVolume(draft, args, facts.wallMs),
  restoreVolume,
  goOn,
  discardCopy,
  tellKept: (draft, args, facts) => tellKept(draft, args, facts.asker),
  setTls,
  renameVolume,
  claimCluster,
  setSettings,
  announceUpdate,
  startUpdate: (draft, args, facts) => startUpdate(draft, args, facts.voters),
  stopUpdate,
  reportDisk,
  tellBlocks,
  tellTakeover: (draft, args, facts) => tellTakeover(draft, args, facts.asker),
  scrubDisk,
  loseDisk: (draft, args, facts) => loseDisk(draft, args, facts.asker),
  retireDisk,
  returnDisk,
  beginDrill: (draft, args, facts) =>
    beginDrill(draft, args, {
      asker: facts.asker,
      create: (wish) => createVolume(draft, wish, facts),
    }),
  failDrill: (draft, args, facts) => failDrill(draft, args, facts.asker),
  endDrill: (draft, args, facts) => endDrill(draft, args, facts.asker),
  addHost: hosts.addHost,
  changeHost: hosts.changeHost,
  removeHost: hosts.removeHost,
  assignVolume: hosts.assignVolume,
  revokeVolume: hosts.revokeVolume,
  addCertificate: hosts.addCertificate,
  revokeCertificate: hosts.revokeCertificate,
  setHostToken: requests.setHostToken,
  setHostPolicy: requests.setHostPolicy,
  requestVolume: (draft, args, facts) =>
    requests.requestVolume(draft, args, requestFacts(draft, facts)),
  answerRequest: (draft, args, facts) =>
    requests.answerRequest(draft, args, requestFacts(draft, facts)),
  tellHeld,
  endGathering,
  acceptVolume,
  addUser: users.addUser,
  changeUser: users.changeUser,
  removeUser: users.removeUser,
  setPassword: users.setPassword,
  addToken: users.addToken,
  removeToken: users.removeToken,
};

/** Fills the draft as a command asks, and answers what the asker is told; or a Fault. */
export function decide(
  draft: Draft,
  { name, arguments: told }: Pick<CommandRecord, "name" | "arguments">,
  facts: ChangeFacts,
): Record<string, unknown> {
  if (!isCommandName(name)) throw new Fault("badRequest", `no command ${name}`);
  const args = parseArguments(name, told);
  // Each decision takes the arguments of its own name; that they belong together was just parsed.
  const answer = decisions[name](draft, args as never, facts);
  if (draft.actor !== null) {
    const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    draft.tellUnlessTold({ kind: "asked", severity: "info", sentence: `asked for: ${words}` });
  }
  return answer;
}

function requestFacts(draft: Draft, facts: ChangeFacts): requests.RequestFacts {
  return { wallMs: facts.wallMs, create: (wish) => createVolume(draft, wish, facts).volume };
}

function admitUnit(
  draft: Draft,
  args: CommandArguments<"admitUnit">,
  facts: ChangeFacts,
): { unit: UnitNumber } {
  const { view } = draft;
  if (view.cluster?.state === "yielding") {
    throw new Fault("notReady", "this cluster is giving way to another one");
  }
  const { left, ...told } = args;
  noteGivenWay(draft, left ?? []);
  const known = view.unitById(args.id);
  if (known?.state === "removed") {
    // R12: a removed unit comes back with a new identity or not at all.
    throw new Fault("removed", `${known.name} was removed from this cluster by its owner`);
  }
  if (known !== null) {
    if (known.publicKey !== args.publicKey) throw new Fault("notAuthentic", "another key");
    return { unit: known.number };
  }
  const refusal = levelRefusal(args.featureLevel, view.cluster?.featureLevel ?? args.featureLevel);
  if (refusal !== null) throw new Fault("versionMismatch", refusal);
  const admitted = [...view.units.values()].filter((unit) => unit.state === "admitted");
  if (admitted.length >= ADMITTED_UNITS_MAX) {
    throw new Fault("tooLarge", `a cluster has at most ${ADMITTED_UNITS_MAX} units`);
  }
  const number = draft.take("unit");
  const pool = args.role === "member" ? FIRST_POOL : null;
  const unit: UnitRecord = {
    ...told,
    name: freeName(args.name, admitted),
    number,
    pool,
    state: "admitted",
    admittedAtMs: Math.max(0, Math.floor(facts.wallMs)),
  };
  draft.put(keys.unit(number), unit);
  draft.put(keys.unitId(args.id), { unit: number });
  if (pool !== null) draft.relyOn(keys.pool(pool));
  const alone = {
    member: "in no pool yet",
    spare: "as a spare, in no pool yet",
    witness: "as a witness: a vote, and no disks",
  } as const;
  const where = pool === null ? alone[args.role] : `to the pool ${pool}`;
  draft.tell({
    kind: "unit-admitted",
    severity: "info",
    sentence: `${unit.name} was admitted ${where}`,
    unit: number,
  });
  return { unit: number };
}

/** Names are for people; two boxes of one name get told apart. */
function freeName(wanted: string, units: readonly UnitRecord[]): string {
  const taken = new Set(units.map((unit) => unit.name));
  if (!taken.has(wanted)) return wanted;
  for (let count = 2; ; count++) {
    const name = `${wanted.slice(0, 56)}-${count}`;
    if (!taken.has(name)) return name;
  }
}

function registerDisk(
  draft: Draft,
  args: CommandArguments<"registerDisk">,
  facts: ChangeFacts,
): { disk: number } {
  const { view } = draft;
  const unit = view.units.get(facts.asker);
  if (unit === undefined || unit.state !== "admitted") throw new Fault("forbidden", "no such unit");
  draft.relyOn(keys.unit(unit.number));
  const known = view.diskByUuid(args.uuid);
  if (known === null) {
    const number = formerNumber(draft, args.number) ?? draft.take("disk");
    const disk: DiskRecord = { ...args, number, unit: unit.number, state: "ready" };
    draft.put(keys.disk(number), disk);
    draft.put(keys.diskUuid(args.uuid), { disk: number });
    draft.tell({
      kind: "disk-added",
      severity: "info",
      sentence: `${unit.name} brings in disk ${number}, ${bytesInWords(args.sizeBytes)}`,
      unit: unit.number,
    });
    return { disk: number };
  }
  if (known.state === "gone") {
    throw new Fault("diskRefused", `disk ${known.number} was removed from this cluster`);
  }
  const isElsewhere = known.unit !== unit.number;
  if (args.incarnation < known.incarnation + (isElsewhere ? 1 : 0)) {
    // R0: every opening has a higher one than the last; this is an older copy of the disk.
    throw new Fault("diskRefused", `disk ${known.number} is known in a later state: a clone?`);
  }
  if (isElsewhere) {
    const isOut = known.state === "failed" && known.lost?.isOut === true;
    if (view.isAlive(known.unit) && !isOut) {
      const other = view.units.get(known.unit)?.name ?? `unit ${known.unit}`;
      throw new Fault("diskRefused", `disk ${known.number} is in ${other} as well: a clone?`);
    }
    draft.tell({
      kind: "disk-moved",
      severity: "info",
      sentence: `disk ${known.number} moved to ${unit.name}`,
      unit: unit.number,
    });
  }
  // One that was retired stays so, whatever starts again.
  const isRetired = known.state === "leaving" || known.why !== undefined;
  const { lost: _, ...kept } = known;
  const { number } = known;
  const state = isRetired ? "leaving" : "ready";
  draft.put(keys.disk(number), { ...kept, ...args, number, unit: unit.number, state });
  if (known.state === "failed" && known.unit === unit.number) {
    draft.tell({
      kind: "disk-back",
      severity: "info",
      sentence: `${diskInWords(view, known.number)} is back in use; what it missed is copied to it`,
      unit: unit.number,
    });
  }
  return { disk: known.number };
}

/**
 * The number that a disk had before a restore which does not know it: records on other disks name
 * it by that.
 */
function formerNumber(draft: Draft, number: number | undefined): number | null {
  const { view } = draft;
  if (number === undefined || view.cluster?.generationId === undefined) return null;
  if (view.disks.has(number)) return null;
  draft.relyOn(keys.disk(number));
  draft.raise("disk", number + 1);
  return number;
}

/** What an owner or a host asks for, and what makes it a drill's. */
export type VolumeWish = CommandArguments<"createVolume"> & { canary?: CanaryRecord };

export type PlannedVolume = Pick<
  VolumeRecord,
  "name" | "sizeBytes" | "protection" | "sliceBytes" | "pool" | "tls" | "state"
>;

/** Where a volume would lie, or the Fault that says why not. Pure: also what a dry run shows. */
export function planVolume(
  view: ClusterView,
  args: VolumeWish,
): { volume: PlannedVolume; placed: PlacedSlice[] } {
  const { cluster } = view;
  if (cluster === null) throw new Fault("notReady", "the control state is not read");
  if (cluster.state === "yielding") {
    throw new Fault("notReady", "this cluster is giving way to another one");
  }
  if (cluster.gathering === true) {
    const why = "the control state is being rebuilt from disks: cairn control settle, when all";
    throw new Fault("notReady", `${why} of them are there`);
  }
  if (view.volumeByName(args.name) !== null) {
    throw new Fault("conflict", `a volume named ${args.name} exists`);
  }
  const pool = args.pool ?? FIRST_POOL;
  if (!view.pools.has(pool)) throw new Fault("notFound", `no pool named ${pool}`);
  const sizeBytes = Math.ceil(args.sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
  const shape = {
    sizeBytes,
    sliceBytes: cluster.sliceBytes,
    protection: args.protection,
    headedBytes: headedBytes(view),
    head: args.canary?.head ?? null,
  };
  const answer = placeVolume(poolRooms(view, pool), shape);
  if (!answer.ok) throw new Fault("noSpace", answer.sentence);
  const { name, protection, tls } = args;
  return {
    volume: {
      name,
      sizeBytes,
      protection,
      sliceBytes: cluster.sliceBytes,
      pool,
      tls: tls ?? TLS_RULE_DEFAULT,
      state: "creating",
    },
    placed: answer.slices,
  };
}

/** Takes name and numbers; the slices follow in parts (volume-filling.ts), then it is `ready`. */
function createVolume(draft: Draft, args: VolumeWish, facts: ChangeFacts): { volume: number } {
  const { view } = draft;
  const { volume } = planVolume(view, args);
  const count = sliceSizes(volume.sizeBytes, volume.sliceBytes).length;
  const number = draft.take("volume");
  const first = draft.take("slice", count);
  const slices = Array.from({ length: count }, (_, index) => first + index);
  const { requestedBy, canary } = args;
  const assigned = {
    hosts: hosts.namedHosts(draft, args.hosts ?? []),
    allow: [],
    ...(requestedBy === undefined ? {} : { requestedBy }),
    ...(canary === undefined ? {} : { canary }),
  };
  draft.put(keys.volume(number), { ...volume, ...assigned, number, uuid: facts.newId(), slices });
  draft.put(keys.volumeName(args.name), { volume: number });
  draft.relyOn(keys.pool(volume.pool));
  useCluster(draft);
  draft.tell({
    kind: "volume-created",
    severity: "info",
    sentence:
      (args.canary === undefined ? "" : "a drill begins: ") +
      `volume ${args.name} was created: ${bytesInWords(volume.sizeBytes)}, ` +
      layouts[args.protection].sentence,
    volume: number,
  });
  return { volume: number };
}

function setTls(draft: Draft, args: CommandArguments<"setTls">): Record<string, never> {
  const volume = draft.view.volumes.get(args.volume);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${args.volume}`);
  }
  draft.put(keys.volume(volume.number), { ...volume, tls: args.tls });
  draft.tell({
    kind: "volume-tls",
    severity: "info",
    sentence: `volume ${volume.name} is served ${TLS_SENTENCES[args.tls]}`,
    volume: volume.number,
  });
  return {};
}

const TLS_SENTENCES: Record<TlsRule, string> = {
  off: "without TLS only",
  optional: "with or without TLS",
  required: "over TLS only",
};

function renameVolume(draft: Draft, args: CommandArguments<"renameVolume">): Record<string, never> {
  const { view } = draft;
  const volume = view.volumes.get(args.volume);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${args.volume}`);
  }
  const { name } = args;
  if (name === volume.name) return {};
  if (view.volumeByName(name) !== null) {
    throw new Fault("conflict", `a volume named ${name} exists`);
  }
  if (volume.canary !== undefined) throw new Fault("conflict", "it is a drill's, and goes with it");
  draft.put(keys.volume(volume.number), { ...volume, name });
  draft.delete(keys.volumeName(volume.name));
  draft.put(keys.volumeName(name), { volume: volume.number });
  draft.tell({
    kind: "volume-renamed",
    severity: "info",
    sentence:
      `volume ${volume.name} is called ${name}: hosts attach by that name from now on, ` +
      "those that are attached go on until they connect anew",
    volume: volume.number,
  });
  return {};
}

function claimCluster(
  draft: Draft,
  args: CommandArguments<"claimCluster">,
  facts: ChangeFacts,
): Record<string, never> {
  const { view } = draft;
  const { tokenHash, replaces, byMedium } = args;
  const known = view.administrators.get(OWNER);
  if (known?.tokenHash === tokenHash) return {};
  if (known !== undefined && !replaces) {
    throw new Fault(
      "conflict",
      "this cluster is claimed already: its token, its password or root on a unit is the way in",
    );
  }
  if (byMedium) joinable(draft);
  else useCluster(draft);
  users.claimPassword(draft, args.passwordHash ?? null, facts);
  draft.put(keys.administrator(OWNER), ownerRecord(tokenHash, facts.wallMs));
  const through = view.units.get(facts.asker)?.name ?? `unit ${facts.asker}`;
  draft.tell({
    kind: "cluster-claimed",
    severity: known === undefined ? "info" : "warning",
    sentence:
      known === undefined
        ? `the cluster was claimed through ${through}`
        : `the owner's token was replaced through ${through}; the one before is void`,
    unit: facts.asker,
  });
  return {};
}

function setSettings(draft: Draft, args: CommandArguments<"setSettings">): Record<string, never> {
  const { clusterName, ...settings } = args;
  const { cluster } = draft.view;
  if (clusterName !== undefined && cluster !== null) {
    draft.put(keys.cluster, { ...cluster, name: clusterName });
    const sentence = `the cluster ${cluster.name} is called ${clusterName} now`;
    draft.tell({ kind: "settings-changed", severity: "info", sentence });
  }
  if (Object.keys(settings).length === 0) return {};
  draft.put(keys.settings, { ...draft.view.settings, ...settings });
  const sentence = `settings were changed: ${Object.keys(settings).join(", ")}`;
  draft.tell({ kind: "settings-changed", severity: "info", sentence });
  return {};
}
