// SPDX-License-Identifier: Apache-2.0
//
// Formation: how units that know nothing of each other become one cluster. A state machine without
// I/O: what was heard, ticks and outcomes come in, effects leave. design: Formation.
//
//   noSecret    waits to be admitted by a person
//   removed     its owner removed it from its cluster: it stays out until it is made new
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
import { levelRefusal } from "./feature-level.ts";
import { clusterInWords, goesBefore, HEARD_MS, HeardStations, remember } from "./heard-stations.ts";
import type { Heard } from "./heard-stations.ts";
import { NO_ID } from "./identity.ts";

export const LISTEN_MS = 3000;
export const LISTEN_JITTER_MS = 1000;
/** What a founder gets beyond the end of its own listening before the next takes its place. */
export const FOUNDER_GRACE_MS = 2500;
/** A founder that keeps saying that it is founding is waited for so long. */
export const FOUNDING_MS_MAX = 20_000;
/** A founder that did not show up is passed over so long. */
export const NO_SHOW_MS = 30_000;
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

export type ClusterWord = "virgin" | "used" | "yielding";
export type FormationState =
  "noSecret" | "removed" | "listening" | "waiting" | "founding" | "joining" | "member" | "leaving";

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
  /** The one it has committed to. */
  featureLevel: number;
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

export interface FormationOptions {
  unitId: string;
  hasSecret: boolean;
  mayFound: boolean;
  /** The highest that this unit speaks. */
  featureLevel: number;
  /** The name of the cluster that this unit was removed from; null: of none. */
  removedFrom: string | null;
}

export class Formation {
  readonly #world: Pick<World, "clock" | "random">;
  readonly #options: FormationOptions;
  readonly #effects: FormationEffects;
  readonly #units = new Map<string, Heard<UnitFact>>();
  readonly #stations = new HeardStations();
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
    options: FormationOptions,
    effects: FormationEffects,
  ) {
    this.#world = world;
    this.#options = options;
    this.#effects = effects;
    this.#bornAtMs = world.clock.nowMs();
    this.#state = "listening";
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
      case "removed":
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
    return this.#stations.inUse(now, NEAR_MS).filter(({ clusterId }) => clusterId !== own);
  }

  /** The control station of a cluster; null: none is heard at the moment. */
  stationOf(clusterId: string): StationFact | null {
    return this.#stations.there(this.#now()).find((fact) => fact.clusterId === clusterId) ?? null;
  }

  // What was heard
  // ----------------------------------------------------------------------------------

  heardUnit(fact: UnitFact): void {
    if (fact.unitId === this.#options.unitId || !this.#options.hasSecret) return;
    const heard = { atMs: this.#now(), countMax: UNITS_HEARD_MAX };
    remember(this.#units, fact.unitId, fact, heard);
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
    this.#stations.hear(fact, this.#now());
    switch (this.#state) {
      case "listening":
      case "waiting":
        this.#joinIfAny();
        return;
      case "member":
        return this.#met(fact);
      case "noSecret":
      case "removed":
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
      case "removed":
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
      this.#stations.forget(this.#target.clusterId);
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
      this.#stations.forget(old.clusterId);
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
    this.#state = "listening";
    if (!this.#options.hasSecret) this.#state = "noSecret";
    if (this.#options.removedFrom !== null) this.#state = "removed";
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
    let best: StationFact | null = null;
    for (const fact of this.#stations.there(this.#now())) {
      if (this.#isPassedOver(fact.clusterId) || fact.clusterState === "yielding") continue;
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
    // There it would be refused: better two clusters than units of none.
    if (levelRefusal(this.#options.featureLevel, other.featureLevel) !== null) return;
    this.#isYielding = true;
    this.#effects.yieldTo(other);
  }

  // The others may have gone to another cluster while this unit was away; that one knows.
  #askIfOrphaned(now: number): void {
    const own = this.#membership;
    if (own === null || this.#storeAwaySinceMs === null) return;
    if (now - this.#storeAwaySinceMs < ORPHAN_MS) return;
    if (this.#stations.isThere(own.clusterId, now)) return;
    for (const fact of this.#stations.there(now)) {
      const { clusterId, clusterState } = fact;
      if (clusterId === own.clusterId || clusterState === "yielding") continue;
      if (this.#isPassedOver(`asked ${clusterId}`)) continue;
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
      case "removed":
        return (
          `This unit was removed from the cluster ${this.#options.removedFrom ?? ""} and stays ` +
          "out of it; what its disks hold is left alone. Once it is made new it may join again."
        );
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
    if (own.clusterState !== "used") return sentence;
    const near = this.#stations.inUse(this.#now(), HEARD_MS);
    const [other] = near.filter(({ clusterId }) => clusterId !== own.clusterId);
    if (other === undefined) return sentence;
    const words = clusterInWords(other);
    const said = `Another cluster in use with the same join secret is near: ${words}.`;
    return `${sentence} ${said} They do not merge by themselves.`;
  }
}
