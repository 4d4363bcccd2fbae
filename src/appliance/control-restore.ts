// SPDX-License-Identifier: Apache-2.0
//
// Restores the control state on this unit: an etcd of its own, of one voter, that begins with what
// a backup holds (cluster/restored-state.ts), in a new generation of the cluster. Where it is
// rebuilt without one (control-desk.ts), that holds what this unit remembers. Repeatable: what a
// stop interrupted is begun anew, since nobody has seen it.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import { openBackup } from "#cluster/control-backup.ts";
import type { Backup, BackupEntry } from "#cluster/control-backup.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import { Draft } from "#cluster/draft.ts";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { generationInWords } from "#cluster/generation.ts";
import type { Generation } from "#cluster/generation.ts";
import { restoredState } from "#cluster/restored-state.ts";
import { UnitSchema, keys } from "#cluster/state.ts";
import type { UnitRecord, VoterRecord } from "#cluster/state.ts";
import { decisions } from "#cluster/station-changes.ts";
import { ClusterView } from "#cluster/view.ts";
import { newId, newVoter, peerUrlOf, voterName } from "#cluster/voters.ts";
import type { EtcdCertificates } from "#machine/etcd-certificates.ts";
import { etcdSocketPath } from "#machine/etcd-child.ts";
import type { EtcdChild } from "#machine/etcd-child.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { timeInWords } from "./api/words.ts";
import { placeOf, untilAnswers } from "./assembly.ts";
import type { UnitFacts } from "./assembly.ts";
import type { SavedMembership } from "./membership.ts";

/** Of one transaction: etcd takes 128 operations and 1.5 MiB. */
const PUTS_MAX = 100;
const CHARACTERS_MAX = 256 << 10;

export interface RestoreParts {
  /** What it is to be in the new generation; voters and number are found out. */
  next: SavedMembership;
  backup: Uint8Array;
  /** Opens the backup. */
  key: Uint8Array;
  facts: UnitFacts;
  /** This unit's etcd, with an empty directory. */
  etcd(unit: number): Promise<{ child: EtcdChild; certificates: EtcdCertificates }>;
}

/** Answers what this unit is then; its etcd keeps running. */
export async function restoreControl(
  world: World,
  timers: Timers,
  parts: RestoreParts,
): Promise<SavedMembership> {
  const { next, facts } = parts;
  const backup = openBackup(world, parts.key, parts.backup, next.clusterId);
  const state = restoredState(backup.state, next.generation);
  const unit = ownNumber(state.entries, facts);
  const { child, certificates } = await parts.etcd(unit);
  const ticket = newId(world);
  const peer = `${voterName(unit)}=${peerUrlOf(asRecord(facts, unit))}`;
  // Not the token of the generation before: its voters would take this one for theirs.
  const token = `${next.clusterId}-${next.generation.id}`;
  child.start({ kind: "first", ticket, initialCluster: peer, found: true, token }, certificates);
  const transport = new EtcdUnixTransport(etcdSocketPath(child.place.directory));
  const store = new EtcdControlStore(timers, transport);
  try {
    await untilAnswers(world, timers, store);
    for (const puts of portions(state.entries)) await store.transaction({ ifs: [], puts });
    await enterOwn(world, store, { unit, facts, ticket, backup, generation: next.generation });
  } catch (error) {
    await child.stop();
    throw error;
  }
  const voters = [placeOf(asRecord(facts, unit))];
  return { ...next, unit, voters, clusterName: state.cluster.name };
}

/** In the backup, or the next that is given out where the unit came after it. */
function ownNumber(entries: readonly BackupEntry[], facts: UnitFacts): number {
  for (const [key, value] of entries) {
    if (!key.startsWith(keys.units)) continue;
    const parsed = UnitSchema.safeParse(JSON.parse(value));
    if (parsed.success && parsed.data.id === facts.id) return parsed.data.number;
  }
  const numbers = entries.find(([key]) => key === keys.numbers);
  const next = numbers === undefined ? undefined : JSON.parse(numbers[1]).unit;
  if (typeof next !== "number") throw new Fault("corrupt", "the backup lacks the numbers");
  return next;
}

function* portions(entries: readonly BackupEntry[]): Generator<{ key: string; value: string }[]> {
  let puts: { key: string; value: string }[] = [];
  let characters = 0;
  for (const [key, value] of entries) {
    const isFull = puts.length >= PUTS_MAX || characters + value.length > CHARACTERS_MAX;
    if (isFull && puts.length > 0) {
      yield puts;
      puts = [];
      characters = 0;
    }
    puts.push({ key, value });
    characters += key.length + value.length;
  }
  if (puts.length > 0) yield puts;
}

/** This unit's own record and vote, and a word in the history. */
async function enterOwn(
  world: World,
  store: ControlStore,
  own: {
    unit: number;
    facts: UnitFacts;
    ticket: string;
    backup: Backup;
    generation: Generation;
  },
): Promise<void> {
  const { unit, facts, ticket, backup, generation } = own;
  const view = new ClusterView();
  view.reset(await store.range("/"));
  const isRebuilt = view.cluster?.gathering === true;
  const draft = new Draft(view);
  const wallMs = world.clock.wallMs();
  const asking = { asker: unit, wallMs, newId: () => newId(world), voters: null };
  const admitted = decisions.admitUnit(draft, facts, asking);
  if (admitted["unit"] !== unit) throw new Fault("internal", "the unit got another number");
  const [member] = await store.members();
  if (member === undefined) throw new Fault("internal", "a fresh etcd has no member");
  const record: VoterRecord = {
    ...newVoter(world, asRecord(facts, unit), { memberId: member.id, others: [] }),
    ticket,
    state: "used",
  };
  draft.put(keys.voter(unit), record);
  draft.tell({
    kind: isRebuilt ? "control-rebuilt" : "control-restored",
    severity: "alarm",
    sentence: isRebuilt
      ? `the control state is rebuilt on ${facts.name}, without a backup: ` +
        `${generationInWords(generation)} begins; volumes serve again once their disks have ` +
        "told what they hold, and the owner says that all are there (cairn control settle)"
      : `the control state was restored on ${facts.name} from a backup of ` +
        `${timeInWords(backup.takenAtMs)} UTC: ${generationInWords(generation)} begins; ` +
        "volumes serve again once their disks have told what they hold",
    unit,
  });
  const { committed } = await store.transaction(draft.transaction(wallMs));
  if (!committed) throw new Fault("conflict", "the restored state changed while it was made");
}

function asRecord(facts: UnitFacts, number: number): UnitRecord {
  const { left: _, ...told } = facts;
  return { ...told, number, pool: null, state: "admitted", admittedAtMs: 0 };
}
