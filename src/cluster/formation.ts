// SPDX-License-Identifier: Apache-2.0
//
// Formation: how units that know nothing of each other become one cluster. A state machine without
// I/O: what was heard, ticks and outcomes come in, effects leave. design: Formation.
//
//   noSecret    waits to be admitted by a person
//   listening   3 s and jitter; a cluster heard is joined at once
//   waiting     a unit of lower id is to found the cluster, or none that may found is there
//   founding    this unit makes the cluster, `virgin`
//   joining     asks a cluster to admit it, over the authenticated channel
//   member      in a cluster
//   leaving     its cluster yields to another; when it has left, listening starts anew
//
// Invariants
// - UDP is a hint: nothing heard changes more than whom this unit calls. `join`, `yieldTo` and
//   `leave` are asked of the caller, who proves the other side over TCP and decides by
//   compare-and-swap;
// - only packets made with our join secret get here;
// - a used cluster never yields. A unit that was away when its cluster gave way leaves by the word
//   of another cluster that knows it (giving-way.ts), never by a guess: the others of its cluster
//   may just be behind a cut, and in use meanwhile. After leaving, the whole listening window is
//   kept, else a third cluster is founded beside the two that merge (measured).

import { unreachable } from "#base/assert.ts";
import type { World } from "#base/world.ts";
import { NO_ID } from "./identity.ts";

export const LISTEN_MS = 3000;
export const LISTEN_JITTER_MS = 1000;
/** What a founder gets beyond the end of its own listening before the next takes its place. */
export const FOUNDER_GRACE_MS = 2500;
/** A founder that keeps saying that it is founding is waited for so long. */
export const FOUNDING_MS_MAX = 20_000;
/** A founder that did not show up is passed over so long. */
export const NO_SHOW_MS = 30_000;
/** A unit or a station counts as there for so long after it was last heard. */
export const HEARD_MS = 3500;
/** Calls to a cluster that fails to answer, before it is passed over. */
export const JOIN_ATTEMPTS_MAX = 3;
export const UNREACHABLE_MS = 30_000;
/** After a refusal by a proved station, or a failed attempt to yield. */
export const REFUSED_RETRY_MS = 5000;
/** Voters of a yielding cluster stay so long for those that learn of it through them. */
export const LEAVE_LAST_MS = 3000;
/** A member whose control store is gone so long asks other clusters whether its own gave way. */
export const ORPHAN_MS = 10_000;
/** Another cluster in use counts as near for so long after it was last heard. */
export const NEAR_MS = 60_000;
/** Another cluster is asked about ours no more often than this. */
const ASK_AGAIN_MS = 15_000;

const UNITS_HEARD_MAX = 512;
const CLUSTERS_HEARD_MAX = 64;

export type ClusterWord = "virgin" | "used" | "yielding";
export type FormationState =
  "noSecret" | "listening" | "waiting" | "founding" | "joining" | "member" | "leaving";

/** A unit that was heard, proved. Ids are hex text. */
export interface UnitFact {
  unitId: string;
  name: string;
  /** NO_ID: of none. */
  clusterId: string;
  stage: "waiting" | "listening" | "founding" | "joining" | "member";
  mayFound: boolean;
  listeningMs: number;
}

/** A control station that was heard, proved to know the secret. Where to call it. */
export interface StationFact {
  clusterId: string;
  clusterName: string;
  clusterState: ClusterWord;
  stationUnitId: string;
  publicKey: Uint8Array;
  addresses: string[];
  channelPort: number;
  term: number;
}

/** The cluster this unit is in, as the control state says. */
export interface MembershipFact {
  clusterId: string;
  clusterName: string;
  clusterState: ClusterWord;
  unitNumber: number;
  isStation: boolean;
  isVoter: boolean;
}

/** Another cluster in use that shares our join secret. */
export type NearCluster = Pick<StationFact, "clusterId" | "clusterName">;

export interface FormationEffects {
  /** Make a cluster. Answer by `founded` or `failed`. */
  found(): void;
  /**
   * Call the station over a channel of purpose `join`, expecting its unit id, and ask to be
   * admitted. Answer by `joined` or `joinFailed`.
   */
  join(station: StationFact): void;
  /**
   * Prove the other cluster over a channel of purpose `meet`; then compare-and-swap our cluster's
   * record from virgin to yielding. Answer by `clusterChanged`, or `yieldFailed`.
   */
  yieldTo(other: StationFact): void;
  /**
   * Ask the station of another cluster, over a channel of purpose `meet`, whether ours gave way.
   * Answer by `toldWhetherItGaveWay`.
   */
  askAbout(other: StationFact): void;
  /**
   * Forget the cluster: stop etcd, wipe its directory, drop the cluster id. The caller must refuse
   * while a disk of this unit holds a slice. Answer by `left` or `leaveRefused`.
   */
  leave(): void;
  /** What the unit is about, for screen and console; only when it changes. */
  say(sentence: string): void;
}

interface Heard<T> {
  fact: T;
  atMs: number;
}

export class Formation {
  readonly #world: Pick<World, "clock" | "random">;
  readonly #options: { unitId: string; hasSecret: boolean; mayFound: boolean };
  readonly #effects: FormationEffects;
  readonly #units = new Map<string, Heard<UnitFact>>();
  readonly #stations = new Map<string, Heard<StationFact>>();
  /** Founders, clusters, clusters that were asked, and until when they are passed over. */
  readonly #passedOver = new Map<string, number>();
  #state: FormationState;
  #listeningSinceMs = 0;
  #deadlineMs = 0;
  #awaited: string | null = null;
  #awaitedSinceMs = 0;
  #target: StationFact | null = null;
  #attempts = 0;
  #retryAtMs: number | null = null;
  #membership: MembershipFact | null = null;
  #yieldBlockedUntilMs = 0;
  #isYielding = false;
  #storeAwaySinceMs: number | null = null;
  readonly #bornAtMs: number;
  #reason = "";
  #said = "";

  constructor(
    world: Pick<World, "clock" | "random">,
    options: { unitId: string; hasSecret: boolean; mayFound: boolean },
    effects: FormationEffects,
  ) {
    this.#world = world;
    this.#options = options;
    this.#effects = effects;
    this.#bornAtMs = world.clock.nowMs();
    this.#state = options.hasSecret ? "listening" : "noSecret";
    this.#listen();
  }

  get state(): FormationState {
    return this.#state;
  }
  get membership(): MembershipFact | null {
    return this.#membership;
  }
  /** What unit startups say of this unit. */
  get stage(): UnitFact["stage"] {
    switch (this.#state) {
      case "noSecret":
      case "waiting":
      case "leaving":
        return "waiting";
      case "listening":
      case "founding":
      case "joining":
      case "member":
        return this.#state;
      default:
        return unreachable(this.#state);
    }
  }
  get listeningMs(): number {
    return this.#world.clock.nowMs() - this.#listeningSinceMs;
  }

  /** Clusters in use other than ours that were heard lately; null: not listened long enough. */
  get near(): NearCluster[] | null {
    const now = this.#now();
    if (now - this.#bornAtMs < NEAR_MS) return null;
    const own = this.#membership?.clusterId;
    return [...this.#stations.values()]
      .filter(({ fact, atMs }) => {
        const isOther = fact.clusterId !== own && fact.clusterState === "used";
        return isOther && now - atMs <= NEAR_MS;
      })
      .map(({ fact }) => fact)
      .sort((one, other) => (one.clusterId < other.clusterId ? -1 : 1));
  }

  // What was heard
  // ----------------------------------------------------------------------------------

  heardUnit(fact: UnitFact): void {
    if (fact.unitId === this.#options.unitId || !this.#options.hasSecret) return;
    remember(this.#units, fact.unitId, fact, this.#now(), UNITS_HEARD_MAX);
    const atOnce = this.#state === "waiting" && this.#awaited === null && fact.stage === "founding";
    if (atOnce) this.#await(fact.unitId);
  }

  /** A unit goes down: nobody waits for it. */
  heardShutdown(unitId: string): void {
    this.#units.delete(unitId);
    if (this.#state === "waiting" && this.#awaited === unitId) this.#decide();
  }

  heardStation(fact: StationFact): void {
    if (!this.#options.hasSecret) return;
    remember(this.#stations, fact.clusterId, fact, this.#now(), CLUSTERS_HEARD_MAX);
    switch (this.#state) {
      case "listening":
      case "waiting":
        this.#joinIfAny();
        return;
      case "member":
        return this.#met(fact);
      case "noSecret":
      case "founding":
      case "joining":
      case "leaving":
        return;
      default:
        return unreachable(this.#state);
    }
  }

  tick(): void {
    const now = this.#now();
    switch (this.#state) {
      case "listening":
        if (now >= this.#deadlineMs) this.#decide();
        break;
      case "waiting":
        if (now >= this.#founderDeadline()) this.#giveUpFounder();
        break;
      case "joining":
        if (this.#retryAtMs !== null && now >= this.#retryAtMs) this.#retry();
        break;
      case "member":
        this.#askIfOrphaned(now);
        break;
      case "leaving":
        if (this.#retryAtMs !== null && now >= this.#retryAtMs) this.#leaveNow();
        break;
      case "noSecret":
      case "founding":
        break;
      default:
        unreachable(this.#state);
    }
    this.#say();
  }

  // Outcomes
  // ----------------------------------------------------------------------------------------

  /** The unit is in a cluster: founded, joined, or found on its own disks at the start. */
  entered(membership: MembershipFact): void {
    this.#state = "member";
    this.#membership = membership;
    this.#target = null;
    this.#awaited = null;
    this.#attempts = 0;
    this.#retryAtMs = null;
    this.#isYielding = false;
    this.#storeAwaySinceMs = null;
    this.#reason = "";
    this.clusterChanged(membership);
  }

  foundFailed(reason: string): void {
    if (this.#state !== "founding") return;
    this.#listen();
    this.#reason = reason;
    this.#say();
  }

  /** `reached`: a proved station refused; else it did not answer or proved nothing. */
  joinFailed(failure: { reached: boolean; reason: string }): void {
    if (this.#state !== "joining" || this.#target === null) return;
    const now = this.#now();
    this.#reason = failure.reason;
    if (failure.reached) this.#retryAtMs = now + REFUSED_RETRY_MS;
    else if (++this.#attempts < JOIN_ATTEMPTS_MAX) {
      this.#retryAtMs = now + 500 * 2 ** this.#attempts;
    } else {
      // Perhaps it was never there: an old packet played again must not hold a unit for ever.
      this.#passOver(this.#target.clusterId, UNREACHABLE_MS);
      this.#stations.delete(this.#target.clusterId);
      this.#listen();
    }
    this.#say();
  }

  /** The control state says so: the only thing that makes a unit leave. */
  clusterChanged(membership: MembershipFact): void {
    if (this.#state !== "member") return;
    this.#membership = membership;
    if (membership.clusterState !== "yielding") return this.#say();
    this.#state = "leaving";
    const stays = membership.isVoter || membership.isStation;
    this.#retryAtMs = this.#now() + (stays ? LEAVE_LAST_MS : 0);
    this.tick();
  }

  yieldFailed(reason: string): void {
    this.#isYielding = false;
    this.#yieldBlockedUntilMs = this.#now() + REFUSED_RETRY_MS;
    this.#reason = reason;
    this.#say();
  }

  left(): void {
    if (this.#state !== "leaving") return;
    const old = this.#membership;
    this.#membership = null;
    this.#isYielding = false;
    if (old !== null) {
      this.#stations.delete(old.clusterId);
      this.#passOver(old.clusterId, UNREACHABLE_MS);
    }
    this.#listen();
    this.#say();
  }

  /** A disk holds data: this unit stays what it is, and says so. */
  leaveRefused(reason: string): void {
    if (this.#state !== "leaving") return;
    this.#reason = reason;
    this.#retryAtMs = this.#now() + UNREACHABLE_MS;
    this.#say();
  }

  /** Whether the control store answers, as whoever uses it sees it. */
  storeAway(isAway: boolean): void {
    if (!isAway) this.#storeAwaySinceMs = null;
    else this.#storeAwaySinceMs ??= this.#now();
  }

  /** What another cluster knows of ours, which does not answer. */
  toldWhetherItGaveWay(gaveWay: boolean): void {
    // Back by now, it speaks for itself.
    if (this.#state !== "member" || this.#storeAwaySinceMs === null || !gaveWay) return;
    this.#state = "leaving";
    this.#leaveNow();
  }

  // Decisions
  // ---------------------------------------------------------------------------------------

  #now(): number {
    return this.#world.clock.nowMs();
  }

  #listen(): void {
    const now = this.#now();
    this.#state = this.#options.hasSecret ? "listening" : "noSecret";
    this.#listeningSinceMs = now;
    this.#deadlineMs = now + LISTEN_MS + this.#world.random.fraction() * LISTEN_JITTER_MS;
    this.#awaited = null;
    this.#target = null;
    this.#attempts = 0;
    this.#retryAtMs = null;
  }

  /** The window is over and no cluster was heard that can be joined. */
  #decide(): void {
    if (this.#joinIfAny()) return;
    const founding = this.#founders().find((fact) => fact.stage === "founding");
    if (founding !== undefined) return this.#await(founding.unitId);
    const ids = this.#founders().map((fact) => fact.unitId);
    if (this.#options.mayFound) ids.push(this.#options.unitId);
    const lowest = ids.sort()[0] ?? null;
    if (lowest === this.#options.unitId) {
      this.#state = "founding";
      this.#say();
      return this.#effects.found();
    }
    this.#await(lowest);
  }

  /** Units of no cluster that may found one and are still heard. */
  #founders(): UnitFact[] {
    const now = this.#now();
    const facts: UnitFact[] = [];
    for (const { fact, atMs } of this.#units.values()) {
      const isThere = now - atMs <= HEARD_MS && !this.#isPassedOver(fact.unitId);
      if (isThere && fact.mayFound && fact.clusterId === NO_ID) facts.push(fact);
    }
    return facts;
  }

  #await(unitId: string | null): void {
    this.#state = "waiting";
    if (this.#awaited !== unitId) this.#awaitedSinceMs = this.#now();
    this.#awaited = unitId;
    this.#say();
  }

  #founderDeadline(): number {
    // Nobody here may found: look again every so often.
    if (this.#awaited === null) return this.#awaitedSinceMs + LISTEN_MS;
    const heard = this.#units.get(this.#awaited);
    if (heard === undefined) return this.#now();
    if (heard.fact.stage === "founding" && this.#now() - heard.atMs <= HEARD_MS) {
      return this.#awaitedSinceMs + FOUNDING_MS_MAX;
    }
    const beganMs = heard.atMs - heard.fact.listeningMs;
    const endsMs = Math.max(this.#awaitedSinceMs, beganMs + LISTEN_MS + LISTEN_JITTER_MS);
    return endsMs + FOUNDER_GRACE_MS;
  }

  #giveUpFounder(): void {
    if (this.#awaited !== null) this.#passOver(this.#awaited, NO_SHOW_MS);
    this.#awaited = null;
    this.#awaitedSinceMs = this.#now();
    this.#decide();
  }

  /** A cluster that may be joined: a used one first, then the lowest id. */
  #joinable(): StationFact | null {
    const now = this.#now();
    let best: StationFact | null = null;
    for (const { fact, atMs } of this.#stations.values()) {
      if (now - atMs > HEARD_MS || this.#isPassedOver(fact.clusterId)) continue;
      if (fact.clusterState === "yielding") continue;
      if (best === null || goesBefore(fact, best)) best = fact;
    }
    return best;
  }

  #joinIfAny(): boolean {
    const station = this.#joinable();
    if (station === null) return false;
    this.#state = "joining";
    this.#target = station;
    this.#retryAtMs = null;
    this.#reason = "";
    this.#say();
    this.#effects.join(station);
    return true;
  }

  /** Again, at whoever is control station by now. */
  #retry(): void {
    this.#retryAtMs = null;
    const attempts = this.#attempts;
    const reason = this.#reason;
    if (!this.#joinIfAny()) return this.#listen();
    this.#attempts = attempts;
    this.#reason = reason;
  }

  #passOver(id: string, forMs: number): void {
    const now = this.#now();
    for (const [one, untilMs] of this.#passedOver) {
      if (untilMs <= now) this.#passedOver.delete(one);
    }
    this.#passedOver.set(id, now + forMs);
  }

  #isPassedOver(id: string): boolean {
    return (this.#passedOver.get(id) ?? 0) > this.#now();
  }

  /** Another cluster with our join secret is on the wire. */
  #met(other: StationFact): void {
    const own = this.#membership;
    if (own === null || other.clusterId === own.clusterId) return;
    if (!own.isStation || this.#isYielding || this.#now() < this.#yieldBlockedUntilMs) return;
    if (own.clusterState !== "virgin" || other.clusterState === "yielding") return;
    if (!goesBefore(other, { clusterState: "virgin", clusterId: own.clusterId })) return;
    this.#isYielding = true;
    this.#effects.yieldTo(other);
  }

  // The others may have gone to another cluster while this unit was away; that one knows.
  #askIfOrphaned(now: number): void {
    const own = this.#membership;
    if (own === null || this.#storeAwaySinceMs === null) return;
    if (now - this.#storeAwaySinceMs < ORPHAN_MS) return;
    const ownStation = this.#stations.get(own.clusterId);
    if (ownStation !== undefined && now - ownStation.atMs <= HEARD_MS) return;
    for (const { fact, atMs } of this.#stations.values()) {
      const { clusterId, clusterState } = fact;
      if (clusterId === own.clusterId || clusterState === "yielding") continue;
      if (now - atMs > HEARD_MS || this.#isPassedOver(`asked ${clusterId}`)) continue;
      this.#passOver(`asked ${clusterId}`, ASK_AGAIN_MS);
      return this.#effects.askAbout(fact);
    }
  }

  #leaveNow(): void {
    this.#retryAtMs = null;
    this.#say();
    this.#effects.leave();
  }

  // Sentences
  // ---------------------------------------------------------------------------------------

  #say(): void {
    const sentence = this.#sentence();
    if (sentence === this.#said) return;
    this.#said = sentence;
    this.#effects.say(sentence);
  }

  #sentence(): string {
    const because = this.#reason === "" ? "" : ` (${this.#reason})`;
    switch (this.#state) {
      case "noSecret":
        return "This unit has no join secret and waits to be admitted.";
      case "listening":
        return `Listening for other units${because}.`;
      case "waiting":
        return this.#waitingSentence();
      case "founding":
        return "Founding a cluster.";
      case "joining":
        return `Joining the cluster ${this.#target?.clusterName ?? ""}${because}.`;
      case "member":
        return this.#memberSentence();
      case "leaving":
        return `Leaving the cluster ${this.#membership?.clusterName ?? ""}${because}.`;
      default:
        return unreachable(this.#state);
    }
  }

  #waitingSentence(): string {
    const awaited = this.#awaited === null ? undefined : this.#units.get(this.#awaited);
    if (awaited !== undefined) return `Waiting for ${awaited.fact.name} to found the cluster.`;
    return "Waiting for a cluster to join; this unit does not found one.";
  }

  #memberSentence(): string {
    const own = this.#membership;
    if (own === null) return "";
    const sentence = `In the cluster ${own.clusterName} as unit ${own.unitNumber}.`;
    const other = own.clusterState === "used" ? this.#otherUsed(own.clusterId) : null;
    if (other === null) return sentence;
    const near = `Another cluster in use with the same join secret is near: ${other}.`;
    return `${sentence} ${near} They do not merge by themselves.`;
  }

  #otherUsed(own: string): string | null {
    const now = this.#now();
    for (const { fact, atMs } of this.#stations.values()) {
      const isOther = fact.clusterId !== own && fact.clusterState === "used";
      if (isOther && now - atMs <= HEARD_MS) return clusterInWords(fact);
    }
    return null;
  }
}

/** Two clusters may have one name: the first digits of the id tell them apart. */
export function clusterInWords({ clusterId, clusterName }: NearCluster): string {
  return `${clusterName} (id ${clusterId.slice(0, 8)})`;
}

type Rank = Pick<StationFact, "clusterState" | "clusterId">;

/** Used clusters stay; among virgin ones the lowest id does. */
function goesBefore(one: Rank, other: Rank): boolean {
  const [first, second] = [one, other].map((rank) => (rank.clusterState === "used" ? 0 : 1));
  if (first !== second) return (first as number) < (second as number);
  return one.clusterId < other.clusterId;
}

function remember<T>(
  map: Map<string, Heard<T>>,
  id: string,
  fact: T,
  atMs: number,
  countMax: number,
): void {
  // Last in the map is heard last; the first is forgotten when there are too many.
  map.delete(id);
  map.set(id, { fact, atMs });
  if (map.size <= countMax) return;
  const [first] = map.keys();
  if (first !== undefined) map.delete(first);
}
