// SPDX-License-Identifier: Apache-2.0
//
// Who votes: how many voters the control store has and which units they are. A pure decision, one
// step at a time, and the keeper that carries steps out on the control station (design section 6,
// R12).
//
// - 1 unit: 1 voter. 2 units: 1 voter and a learner, since two voters are worse than one. 3 or
//   more: 3; 5 or more: 5, since a volume of three copies outlives any two units only if the
//   control store does. Spares and witnesses may vote.
// - A unit joins as a learner with a one-time ticket, starts, and is promoted once etcd finds it
//   ready (strict reconfiguration wants every member connected for 5 s: asked again, never switched
//   off).
// - A dead voter is removed after the time after which lost copies are made anew, and only when
//   another unit can take its place, or where fewer voters bear more losses (five, two of them
//   dead: three bear one more); a learner that does not come to vote makes way for another unit; a
//   removed from the cluster, and one that lost its data, at once. Removal comes before the
//   replacement's add.
// - A unit that is being evacuated gives its vote to another one first, and then leaves; where that
//   would leave two voters it keeps it, until it is removed.
// - From one voter to three it has two for some seconds, and the loss of either stops the control
//   store until it is back: etcd takes one learner at a time. So the second is promoted only once
//   there is a third unit, and that one is added in the same step.
// - Two stations at once are harmless: etcd takes one change at a time and checks each one, and a
//   ticket is written only where none is (compare-and-swap).

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import type { ControlStore, StoreMember } from "./control-store.ts";
import { leavesCluster } from "./pool-state.ts";
import { VoterSchema, keys, parseValue, valueText } from "./state.ts";
import type { UnitRecord, UnitRole, VoterRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** A voter silent this long is replaced, where nobody says otherwise; and the least that counts. */
export const VOTER_DEAD_MS = 300_000;
export const VOTER_DEAD_MS_MIN = 10_000;
/** A learner that does not come up this long makes way for another unit. */
export const LEARNER_DEAD_MS = 60_000;
/** One that is to vote and does not get there this long makes way too, though its unit is up. */
export const LEARNER_STUCK_MS = 300_000;
/** Its unit goes after all others for so long. */
const HESITATES_MS = 3_600_000;

export interface VoterUnit {
  unit: UnitNumber;
  role: UnitRole;
  alive: boolean;
  /** How long it has been away, ms; 0 while it is alive. */
  awayMs: number;
  admitted: boolean;
  /** It is being evacuated. */
  leaves: boolean;
  /** Its learner did not come to vote lately, though the unit was up: others go before it. */
  hesitates: boolean;
}

export interface VoterMember {
  id: string;
  /** The unit whose member it is; null when no unit is known for it. */
  unit: UnitNumber | null;
  learner: boolean;
  /** It has been up at least once. */
  started: boolean;
  /** Its unit says that its data is gone. */
  lost: boolean;
  /** How long it has been a learner, as far as this station has seen, ms. */
  learnsMs: number;
}

export type VoterStep =
  | { kind: "none" }
  | { kind: "add"; unit: UnitNumber }
  | { kind: "promote"; member: VoterMember }
  | { kind: "remove"; member: VoterMember; reason: string };

/** How many voters a cluster of so many units has. */
export function voterTarget(units: number): number {
  if (units >= 5) return 5;
  return units >= 3 ? 3 : 1;
}

/** The next change, if any. Pure; the same answer from whoever asks with the same view. */
export function nextVoterStep(
  units: readonly VoterUnit[],
  members: readonly VoterMember[],
  deadMs: number = VOTER_DEAD_MS,
): VoterStep {
  const unitOf = (member: VoterMember) => units.find((unit) => unit.unit === member.unit);
  const fit = units.filter((unit) => unit.admitted && unit.alive && !unit.leaves);
  const target = voterTarget(fit.length);
  const holds = new Set(members.map((member) => member.unit));
  const candidates = fit.filter((unit) => !holds.has(unit.unit)).sort(byFitness);

  const replaceable = candidates.length > 0;
  const voting = members.filter((member) => !member.learner);
  const dead = voting.filter((member) => {
    const unit = unitOf(member);
    return unit !== undefined && !unit.alive && unit.awayMs >= deadMs;
  });
  const removal: RemovalGround = {
    replaceable,
    isLighter: isLighter(voting.length, dead.length),
    isWanted: voting.length - dead.length < target,
    deadMs,
  };
  const reasons = new Map<VoterMember, string>();
  for (const member of members) {
    const reason = removalReason(member, unitOf(member), removal);
    if (reason !== null) reasons.set(member, reason);
  }
  for (const [member, reason] of reasons) {
    // The last voter is never removed: there would be no control store.
    if (!member.learner && members.filter((other) => !other.learner).length === 1) continue;
    return { kind: "remove", member, reason };
  }
  const leaves = (member: VoterMember) => unitOf(member)?.leaves === true;
  const kept = members.filter((member) => !member.learner && !reasons.has(member));
  const voters = kept.filter((member) => !leaves(member));
  const learner = members.find((member) => member.learner);
  if (learner !== undefined) {
    const mayVote = voters.length < target && learner.started && unitOf(learner)?.alive === true;
    return mayVote ? { kind: "promote", member: learner } : { kind: "none" };
  }
  const next = candidates[0];
  // With two units the second one learns, so that it can vote as soon as there is a third.
  const wanted = fit.length === 2 ? 2 : target;
  if (next !== undefined && voters.length < wanted) return { kind: "add", unit: next.unit };
  const leaving = kept.find(leaves);
  // Two voters are worse than three, one of which leaves.
  const isEnough = voters.length >= target && voters.length !== 2;
  if (leaving === undefined || !isEnough) return { kind: "none" };
  return { kind: "remove", member: leaving, reason: "its unit is being evacuated" };
}

interface RemovalGround {
  /** Another unit could take its place. */
  replaceable: boolean;
  /** Without those that are dead fewer of the others need to agree. */
  isLighter: boolean;
  /** A further voter is wanted. */
  isWanted: boolean;
  deadMs: number;
}

/** Five voters, two of them dead, need all three others: without the dead ones, two of them. */
function isLighter(voting: number, dead: number): boolean {
  const majority = (count: number) => Math.floor(count / 2) + 1;
  return voting - dead >= 3 && majority(voting - dead) < majority(voting);
}

function removalReason(
  member: VoterMember,
  unit: VoterUnit | undefined,
  { replaceable, isLighter: lighter, isWanted, deadMs }: RemovalGround,
): string | null {
  if (member.lost) return "its data is gone";
  if (unit === undefined || !unit.admitted) return "its unit is not in the cluster any more";
  if (unit.alive) {
    const isStuck = member.learner && isWanted && member.learnsMs >= LEARNER_STUCK_MS;
    return isStuck && replaceable ? "it does not come to vote" : null;
  }
  if (member.learner && unit.awayMs >= LEARNER_DEAD_MS && replaceable) return "it does not come up";
  if (unit.awayMs >= deadMs && (replaceable || (lighter && !member.learner)))
    return "its unit has been away too long";
  return null;
}

const FITNESS: Record<UnitRole, number> = { member: 0, witness: 1, spare: 2 };
function byFitness(left: VoterUnit, right: VoterUnit): number {
  const hesitates = Number(left.hesitates) - Number(right.hesitates);
  if (hesitates !== 0) return hesitates;
  return FITNESS[left.role] - FITNESS[right.role] || left.unit - right.unit;
}

/** What the keeper needs of etcd beside the control store's own interface. */
export interface VoterChanges {
  addLearner(peerUrl: string): Promise<string>;
  /** False: not ready yet. */
  promote(id: string): Promise<boolean>;
  removeMember(id: string): Promise<void>;
}

/** The name of a unit's etcd member. */
export function voterName(unit: UnitNumber): string {
  return `unit-${unit}`;
}

/** Where a unit's etcd is reached by its peers. */
export function peerUrlOf(unit: UnitRecord): string {
  return `https://[${unit.ula}]:${unit.ports.etcd ?? ETCD_PEER_PORT}`;
}
export const ETCD_PEER_PORT = 2380;

/** Carries out one step per call; the control station calls it every second or so. */
export class VoterKeeper {
  readonly #world: Pick<World, "clock" | "log" | "random">;
  readonly #store: ControlStore;
  readonly #changes: VoterChanges;
  readonly #awaySinceMs = new Map<UnitNumber, number>();
  /** By member id. */
  readonly #learnsSinceMs = new Map<string, number>();
  readonly #hesitatesUntilMs = new Map<UnitNumber, number>();
  #busy = false;
  #settledAt: string | null = null;
  /** Called with a sentence when the voters changed. */
  onEvent: (sentence: string, unit: UnitNumber | null) => void = () => {};

  constructor(
    world: Pick<World, "clock" | "log" | "random">,
    store: ControlStore,
    changes: VoterChanges,
  ) {
    this.#world = world;
    this.#store = store;
    this.#changes = changes;
  }

  /** Nothing was left to do at the last step, and nobody came, went or lost its data since. */
  isSettled(view: ClusterView): boolean {
    return this.#settledAt === situation(view);
  }

  /** One step at most; true when something was changed. */
  async step(view: ClusterView): Promise<boolean> {
    if (this.#busy) return false;
    this.#busy = true;
    this.#settledAt = null;
    try {
      return await this.#step(view);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      // Away, unknown or refused: the next step starts from what is then there.
      this.#world.log.write("debug", "the voters were not changed", { reason: error.message });
      return false;
    } finally {
      this.#busy = false;
    }
  }

  async #step(view: ClusterView): Promise<boolean> {
    const members = await this.#store.members();
    this.#lookAtLearners(members);
    const nowMs = this.#world.clock.nowMs();
    const known = members.map((member) => {
      return voterMember(view, member, nowMs - (this.#learnsSinceMs.get(member.id) ?? nowMs));
    });
    const unticketed = await this.#issueMissingTicket(view, members, known);
    if (unticketed) return true;
    const deadMs = Math.max(VOTER_DEAD_MS_MIN, view.settings.reprotectAfterMs);
    const step = nextVoterStep(this.#units(view), known, deadMs);
    switch (step.kind) {
      case "none":
        this.#settledAt = situation(view);
        return false;
      case "add":
        return this.#add(view, step.unit);
      case "promote":
        return this.#promote(view, step.member);
      case "remove":
        return this.#remove(view, step.member, step.reason);
    }
  }

  #lookAtLearners(members: readonly StoreMember[]): void {
    const learners = new Set(members.filter(({ learner }) => learner).map(({ id }) => id));
    for (const id of this.#learnsSinceMs.keys()) {
      if (!learners.has(id)) this.#learnsSinceMs.delete(id);
    }
    for (const id of learners) {
      if (!this.#learnsSinceMs.has(id)) this.#learnsSinceMs.set(id, this.#world.clock.nowMs());
    }
  }

  #units(view: ClusterView): VoterUnit[] {
    const nowMs = this.#world.clock.nowMs();
    return [...view.units.values()].map((unit) => {
      const alive = view.isAlive(unit.number);
      if (alive) this.#awaySinceMs.delete(unit.number);
      else if (!this.#awaySinceMs.has(unit.number)) this.#awaySinceMs.set(unit.number, nowMs);
      const awayMs = nowMs - (this.#awaySinceMs.get(unit.number) ?? nowMs);
      const admitted = unit.state === "admitted";
      const leaves = leavesCluster(unit);
      const hesitates = (this.#hesitatesUntilMs.get(unit.number) ?? 0) > nowMs;
      return { unit: unit.number, role: unit.role, alive, awayMs, admitted, leaves, hesitates };
    });
  }

  async #add(view: ClusterView, number: UnitNumber): Promise<boolean> {
    const unit = view.units.get(number);
    if (unit === undefined) return false;
    const id = await this.#changes.addLearner(peerUrlOf(unit));
    this.onEvent(`${unit.name} is to keep the control state too`, number);
    // Died here, the member stands without a ticket: #issueMissingTicket writes it.
    const members = await this.#store.members();
    await this.#writeTicket(view, unit, { id, members });
    return true;
  }

  /** A member that never started and has no ticket of its own was added by a station that died. */
  async #issueMissingTicket(
    view: ClusterView,
    members: readonly StoreMember[],
    known: readonly VoterMember[],
  ): Promise<boolean> {
    for (const member of known) {
      if (member.started || member.unit === null) continue;
      const unit = view.units.get(member.unit);
      if (unit === undefined) continue;
      const current = await this.#recordOf(member.unit);
      if (current?.record.memberId === member.id) continue;
      return this.#writeTicket(view, unit, { id: member.id, members });
    }
    return false;
  }

  async #writeTicket(
    view: ClusterView,
    unit: UnitRecord,
    added: { id: string; members: readonly StoreMember[] },
  ): Promise<boolean> {
    const key = keys.voter(unit.number);
    const { entry } = await this.#store.get(key);
    const record = newVoter(this.#world, unit, {
      memberId: added.id,
      others: added.members.filter((member) => member.id !== added.id),
    });
    const result = await this.#store.transaction({
      ifs: [{ key, modRevision: entry?.modRevision ?? 0 }, view.compare(keys.cluster)],
      puts: [{ key, value: valueText(record) }],
    });
    return result.committed;
  }

  async #promote(view: ClusterView, member: VoterMember): Promise<boolean> {
    if (!(await this.#changes.promote(member.id))) return false;
    const name = nameOf(view, member.unit);
    this.onEvent(`${name} votes in the control store now`, member.unit);
    // etcd takes one learner at a time: with two voters the next one is wanted at once.
    await this.#step(view);
    return true;
  }

  async #remove(view: ClusterView, member: VoterMember, reason: string): Promise<boolean> {
    await this.#changes.removeMember(member.id);
    const verb = member.learner ? "is not to vote" : "does not vote";
    this.onEvent(`${nameOf(view, member.unit)} ${verb} any more: ${reason}`, member.unit);
    if (member.unit === null) return true;
    if (member.learner) {
      this.#hesitatesUntilMs.set(member.unit, this.#world.clock.nowMs() + HESITATES_MS);
    }
    const current = await this.#recordOf(member.unit);
    if (current?.record.memberId === member.id) {
      const key = keys.voter(member.unit);
      const ifs = [{ key, modRevision: current.modRevision }];
      await this.#store.transaction({ ifs, deletes: [key] });
    }
    return true;
  }

  async #recordOf(unit: UnitNumber): Promise<{ record: VoterRecord; modRevision: number } | null> {
    const key = keys.voter(unit);
    const { entry } = await this.#store.get(key);
    if (entry === null) return null;
    return { record: parseValue(VoterSchema, key, entry.value), modRevision: entry.modRevision };
  }
}

/** What the decision depends on, beside etcd's own members. */
function situation(view: ClusterView): string {
  const units = [...view.units.values()].map((unit) => {
    const voter = view.voters.get(unit.number)?.state ?? "";
    const leaves = leavesCluster(unit);
    return `${unit.number} ${unit.state} ${view.isAlive(unit.number)} ${leaves} ${voter}`;
  });
  return units.join(";");
}

function nameOf(view: ClusterView, unit: UnitNumber | null): string {
  return unit === null ? "an unknown voter" : (view.units.get(unit)?.name ?? `unit ${unit}`);
}

/** Members belong to units by their peer URL, which holds the unit's own address. */
function voterMember(view: ClusterView, member: StoreMember, learnsMs: number): VoterMember {
  let unit: UnitNumber | null = null;
  for (const record of view.units.values()) {
    if (member.peerUrls.includes(peerUrlOf(record))) unit = record.number;
  }
  const record = unit === null ? undefined : view.voters.get(unit);
  return {
    id: member.id,
    unit,
    learner: member.learner,
    started: member.name !== "",
    lost: record?.state === "lost" && record.memberId === member.id,
    learnsMs,
  };
}

/** A voter's record with a fresh ticket. `others`: the members that are there already. */
export function newVoter(
  world: Pick<World, "random">,
  unit: UnitRecord,
  member: { memberId: string; others: readonly StoreMember[] },
): VoterRecord {
  const name = voterName(unit.number);
  const peerUrl = peerUrlOf(unit);
  const cluster = member.others
    .filter((other) => other.name !== "")
    .map((other) => `${other.name}=${other.peerUrls[0] ?? ""}`);
  return {
    unit: unit.number,
    memberId: member.memberId,
    ticket: newId(world),
    state: "fresh",
    name,
    peerUrl,
    initialCluster: [...cluster, `${name}=${peerUrl}`].join(","),
  };
}

/** 16 unpredictable bytes in hex. */
export function newId(world: Pick<World, "random">): string {
  const bytes = new Uint8Array(16);
  world.random.fill(bytes);
  return bytes.toHex();
}

/** What a unit does with its etcd directory, given what the control store says about it. */
export type VoterAct =
  | { kind: "none" }
  | { kind: "run" }
  /** Make the record `used` by compare-and-swap, and only then start the empty directory. */
  | { kind: "start"; ticket: string }
  /** Its membership has ended: stop etcd and forget its data. */
  | { kind: "clear" }
  /** R12: make the record `lost`; the control station removes the member and gives a new ticket. */
  | { kind: "report-lost" };

/**
 * R12. `record` is the unit's voter record as read from the control store through another voter,
 * null when it has none, undefined when the store cannot be read (or only through this very etcd).
 */
export function voterAct(
  local: { hasData: boolean; ticket: string | null },
  record: VoterRecord | null | undefined,
): VoterAct {
  if (record === undefined) return local.hasData ? { kind: "run" } : { kind: "none" };
  if (record === null) return local.hasData ? { kind: "clear" } : { kind: "none" };
  const own = local.ticket === record.ticket;
  if (local.hasData) return own ? { kind: "run" } : { kind: "clear" };
  if (record.state === "fresh" && !own) return { kind: "start", ticket: record.ticket };
  return record.state === "lost" ? { kind: "none" } : { kind: "report-lost" };
}
