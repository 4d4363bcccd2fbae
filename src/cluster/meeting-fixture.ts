// SPDX-License-Identifier: Apache-2.0
//
// Units whose clusters meet, in virtual time, for tests: each cluster has a control store in
// memory, each unit the real formation, follower, lease, control station and commands, put together
// as the daemon does it. What one unit hears of another comes as facts, without packets (the wire
// to the byte is in discovery-wire-fixture.ts); a call reaches whoever is on the same side of the
// cuts.
//
// What a unit keeps over a restart is what the daemon keeps: membership, clusters left, its disk's
// mark and the slices on it. A control store answers while most of its voters are there.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import type { World } from "#base/world.ts";
import { CommandClient } from "./commands.ts";
import type { CommandArguments } from "./commands.ts";
import { ControlStation } from "./control-station.ts";
import { Draft } from "./draft.ts";
import { Formation } from "./formation.ts";
import type { ClusterWord, FormationEffects, MembershipFact, StationFact } from "./formation.ts";
import { giveWay, hasGivenWay } from "./giving-way.ts";
import { NO_ID } from "./identity.ts";
import { MemoryControlStore } from "./memory-control-store.ts";
import type { MemoryControlClient } from "./memory-control-store.ts";
import { firstState, keys } from "./state.ts";
import { unitArguments } from "./station-fixture.ts";
import { decisions } from "./station-changes.ts";
import { UnitLease } from "./unit-lease.ts";
import { ViewFollower } from "./view-follower.ts";
import { ClusterView } from "./view.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

const GIB = 2 ** 30;
const TICK_MS = 200;
const SAY_EVERY_MS = 1000;
const VOTERS_MAX = 3;

interface MetCluster {
  id: string;
  core: MemoryControlStore;
  /** The first units that came in. */
  voters: MeetingUnit[];
}

/** What a unit has while it is in a cluster. */
interface Life {
  cluster: MetCluster;
  number: number;
  client: MemoryControlClient;
  follower: ViewFollower;
  lease: UnitLease;
  station: ControlStation;
  commands: CommandClient;
}

/** A volume whose creation was answered. */
export interface Accepted {
  name: string;
  clusterId: string;
}

export class Meeting {
  readonly time: VirtualTime;
  readonly prng: Prng;
  readonly units: MeetingUnit[] = [];
  readonly clusters: MetCluster[] = [];
  readonly accepted: Accepted[] = [];

  constructor(drain: () => void, seed: number) {
    this.time = new VirtualTime(drain);
    this.prng = new Prng(seed);
  }

  /** A unit alone on a side of its own, switched on. */
  add(side: number): MeetingUnit {
    const unit = new MeetingUnit(this, this.units.length + 1, side);
    this.units.push(unit);
    unit.start();
    return unit;
  }

  connected(one: MeetingUnit, other: MeetingUnit): boolean {
    return one.isOn && other.isOn && one.side === other.side;
  }

  until(what: string, holds: () => boolean, limitMs: number): void {
    for (let passed = 0; passed < limitMs; passed += TICK_MS) {
      if (holds()) return;
      this.time.pass(TICK_MS);
    }
    assert(false, `came to pass: ${what}`);
  }

  /** The cluster's control store answers while most voters are on and have not left. */
  votersChanged(): void {
    for (const cluster of this.clusters) {
      const there = cluster.voters.filter((unit) => unit.isOn && unit.cluster === cluster);
      cluster.core.setAway(2 * there.length <= cluster.voters.length);
      for (const unit of this.units) {
        const reaches = there.some((voter) => voter === unit || this.connected(voter, unit));
        if (unit.cluster === cluster) unit.reaches(reaches);
      }
    }
  }

  /** Puts all units of one side on another: a wire is plugged in. */
  join(side: number, to: number): void {
    for (const unit of this.units) if (unit.side === side) unit.side = to;
    this.votersChanged();
  }

  /** Clusters that somebody is in. */
  get living(): MetCluster[] {
    return this.clusters.filter((cluster) => this.units.some((unit) => unit.cluster === cluster));
  }

  wordOf({ core }: MetCluster): ClusterWord {
    const entry = core.readOne(keys.cluster);
    assert(entry !== null, "a cluster has its record");
    return (JSON.parse(entry.value) as { state: ClusterWord }).state;
  }

  stateOf(cluster: MetCluster): ClusterView {
    const view = new ClusterView();
    view.reset(cluster.core.read("/"));
    return view;
  }
}

export class MeetingUnit implements FormationEffects {
  readonly meeting: Meeting;
  readonly index: number;
  side: number;
  isOn = false;
  formation: Formation;
  sentence = "";
  life: Life | null = null;
  // What outlives a restart.
  saved: { cluster: MetCluster; number: number } | null = null;
  readonly left: string[] = [];
  readonly disk = { uuid: "", mark: null as string | null, slices: new Set<number>() };
  readonly #world: Pick<World, "clock" | "log" | "random">;
  /** A start of the daemon; what an earlier one began means nothing any more. */
  #run = 0;
  #saidAtMs = 0;

  constructor(meeting: Meeting, index: number, side: number) {
    this.meeting = meeting;
    this.index = index;
    this.side = side;
    this.disk.uuid = String(index).padStart(32, "d");
    const chance = meeting.prng.fork();
    this.#world = {
      clock: meeting.time,
      log: { write: () => {} },
      random: {
        fill: (bytes) => {
          for (let at = 0; at < bytes.length; at++) bytes[at] = chance.below(256);
        },
        fraction: () => chance.fraction(),
      },
    };
    this.formation = this.#newFormation();
  }

  get cluster(): MetCluster | null {
    return this.saved?.cluster ?? null;
  }
  get unitId(): string {
    return unitArguments(this.index, "member").id;
  }

  // Power.

  start(): void {
    this.isOn = true;
    const run = ++this.#run;
    this.formation = this.#newFormation();
    this.meeting.votersChanged();
    if (this.saved !== null) this.#enter(this.saved.cluster, this.saved.number);
    const tick = () => {
      if (run !== this.#run || !this.isOn) return;
      this.#tick();
      this.meeting.time.after(TICK_MS, tick);
    };
    tick();
  }

  powerOff(): void {
    this.isOn = false;
    this.#run++;
    this.#endLife();
    this.meeting.votersChanged();
  }

  #endLife(): void {
    const { life } = this;
    this.life = null;
    if (life === null) return;
    life.client.setConnected(false);
    life.follower.stop();
    life.station.stop();
    void life.lease.stop();
  }

  reaches(isConnected: boolean): void {
    this.life?.client.setConnected(isConnected);
  }

  #newFormation(): Formation {
    const options = { unitId: this.unitId, hasSecret: true, mayFound: true };
    const usual = { removedFrom: null, featureLevel: 1 };
    return new Formation(this.#world, { ...options, ...usual }, this);
  }

  #tick(): void {
    const { time, units } = this.meeting;
    this.formation.tick();
    const { life } = this;
    if (life !== null) {
      const isAway = life.cluster.core.away || !this.#reachesVoter(life.cluster);
      this.formation.storeAway(isAway);
      for (const slice of life.follower.view.slicesOfUnit(life.number)) {
        this.disk.slices.add(slice.slice);
      }
    }
    if (time.nowMs() - this.#saidAtMs < SAY_EVERY_MS) return;
    this.#saidAtMs = time.nowMs();
    const fact = this.#stationFact();
    for (const unit of units) {
      if (unit === this || !this.meeting.connected(this, unit)) continue;
      time.after(1 + this.meeting.prng.below(20), () => {
        if (!this.meeting.connected(this, unit)) return;
        if (fact !== null) unit.formation.heardStation(fact);
        unit.formation.heardUnit({
          unitId: this.unitId,
          name: `box${this.index}`,
          clusterId: this.cluster?.id ?? NO_ID,
          stage: this.formation.stage,
          mayFound: true,
          listeningMs: this.formation.listeningMs,
        });
      });
    }
  }

  #reachesVoter(cluster: MetCluster): boolean {
    return cluster.voters.some((voter) => {
      const isThere = voter.cluster === cluster && voter.isOn;
      return isThere && (voter === this || this.meeting.connected(voter, this));
    });
  }

  #stationFact(): StationFact | null {
    const { life } = this;
    const cluster = life?.follower.view.cluster ?? null;
    if (life === null || cluster === null || !life.lease.leads) return null;
    return {
      clusterId: cluster.uuid,
      clusterName: cluster.name,
      clusterState: cluster.state,
      featureLevel: cluster.featureLevel,
      stationUnitId: this.unitId,
      publicKey: new Uint8Array(32),
      addresses: [`10.0.0.${this.index}`],
      channelPort: 1,
      term: life.lease.term,
    };
  }

  // Effects.

  say(sentence: string): void {
    this.sentence = sentence;
  }

  found(): void {
    this.#later(300, () => {
      const { meeting } = this;
      const { time: clock, time: timers } = meeting;
      const latencyMs = { least: 0, most: 5 };
      const prng = meeting.prng.fork();
      const core = new MemoryControlStore({ clock, timers, prng, latencyMs });
      // Ids in the order of units, so that a test says which one is lower.
      const id = `${this.index.toString(16)}${String(meeting.clusters.length).padStart(31, "0")}`;
      const cluster = { id, core, voters: [this] };
      meeting.clusters.push(cluster);
      core.commit({
        ifs: [],
        puts: firstState({ uuid: id, name: "cairn", featureLevel: 1, sliceBytes: GIB }),
      });
      const draft = new Draft(meeting.stateOf(cluster));
      const facts = { asker: 1, wallMs: 0, newId: () => id, voters: null };
      decisions.admitUnit(draft, this.#facts(), facts);
      core.commit(draft.transaction(0));
      this.saved = { cluster, number: 1 };
      this.#enter(cluster, 1);
    });
  }

  join(station: StationFact): void {
    this.#later(50, () => {
      const target = this.#called(station)?.life ?? null;
      if (target === null) return this.#joinFailed(new Fault("notReady", "no answer"));
      target.commands.ask("admitUnit", this.#facts()).then(
        ({ unit }) => {
          // The answer may come too late, or be lost with the link.
          if (this.formation.state !== "joining" || !this.isOn) return;
          if (this.#called(station) === null) {
            return this.#joinFailed(new Fault("notReady", "the link ended"));
          }
          const { cluster } = target;
          if (cluster.voters.length < VOTERS_MAX) cluster.voters.push(this);
          this.saved = { cluster, number: unit };
          this.#enter(cluster, unit);
        },
        (error: unknown) => {
          if (!(error instanceof Fault)) throw error;
          this.#joinFailed(error);
        },
      );
    });
  }

  #joinFailed(fault: Fault): void {
    const reached = fault.code !== "notReady" && fault.code !== "notAuthentic";
    this.formation.joinFailed({ reached, reason: fault.message });
  }

  yieldTo(other: StationFact): void {
    this.#later(50, () => {
      const met = this.#called(other)?.life?.follower.view.cluster ?? null;
      const { life, formation } = this;
      const stands = met?.uuid === other.clusterId && met.state !== "yielding";
      if (life === null || !stands) return formation.yieldFailed("not as it was heard");
      giveWay(life.client, life.follower.view).catch((error: unknown) => {
        if (!(error instanceof Fault)) throw error;
        formation.yieldFailed(error.message);
      });
    });
  }

  askAbout(other: StationFact): void {
    this.#later(50, () => {
      const view = this.#called(other)?.life?.follower.view;
      const own = this.cluster?.id ?? "";
      this.formation.toldWhetherItGaveWay(view !== undefined && hasGivenWay(view, own));
    });
  }

  leave(): void {
    const { life, saved } = this;
    const isHolding = this.disk.slices.size > 0;
    if (life === null || saved === null || isHolding) {
      return this.formation.leaveRefused("slices lie here");
    }
    this.left.push(...(life.follower.view.cluster?.gaveWay ?? []), saved.cluster.id);
    // The run ends, and another one begins without a membership.
    this.powerOff();
    this.saved = null;
    this.meeting.time.after(this.meeting.prng.below(300), () => {
      if (!this.isOn) this.start();
    });
  }

  // Life.

  #later(mostMs: number, act: () => void): void {
    const run = this.#run;
    this.meeting.time.after(1 + this.meeting.prng.below(mostMs), () => {
      if (run === this.#run && this.isOn) act();
    });
  }

  /** Whoever a call to that station reaches: the proof that it is in that cluster. */
  #called(station: StationFact): MeetingUnit | null {
    const { units } = this.meeting;
    const unit = units.find((one) => one.unitId === station.stationUnitId);
    if (unit === undefined || !this.meeting.connected(this, unit)) return null;
    return unit.cluster?.id === station.clusterId ? unit : null;
  }

  #facts(): CommandArguments<"admitUnit"> {
    return { ...unitArguments(this.index, "member"), left: this.left.slice(-16) };
  }

  #membership(life: Life): MembershipFact {
    const { view } = life.follower;
    return {
      clusterId: life.cluster.id,
      clusterName: "cairn",
      clusterState: view.cluster?.state ?? "used",
      unitNumber: life.number,
      isStation: life.lease.leads,
      isVoter: life.cluster.voters.includes(this),
    };
  }

  #enter(cluster: MetCluster, number: number): void {
    const { time } = this.meeting;
    const world = this.#world;
    const client = cluster.core.client(`box${this.index}`);
    const follower = new ViewFollower(world, time, client);
    const run = String(this.meeting.prng.u32()).padStart(32, "0");
    const lease = new UnitLease(world, time, {
      store: client,
      follower,
      options: { unit: number, run, mayLead: () => true },
    });
    const station = new ControlStation(world, time, {
      store: client,
      follower,
      voters: null,
      leads: () => lease.leads,
      votingUnits: () => [1],
      near: () => this.formation.near,
    });
    const commands = new CommandClient(world, time, { store: client, follower, unit: number });
    const life: Life = { cluster, number, client, follower, lease, station, commands };
    this.life = life;
    this.meeting.votersChanged();
    lease.onLead = (leads) => {
      if (leads) station.beganToLead();
      if (this.life === life) this.formation.clusterChanged(this.#membership(life));
    };
    follower.start();
    lease.start();
    station.start();
    this.formation.entered(this.#membership(life));
    follower.view.onChange((changes) => {
      if (this.life !== life) return;
      if (changes.some((change) => change.kind !== "event" && change.kind !== "slice")) {
        this.formation.clusterChanged(this.#membership(life));
      }
    });
    void this.#registerDisk(life);
  }

  /** As DiskKeeper: another cluster's disk is left alone, unless that one was left empty. */
  async #registerDisk(life: Life): Promise<void> {
    const { disk, left } = this;
    const isFree = disk.mark === null || (left.includes(disk.mark) && disk.slices.size === 0);
    if (disk.mark !== life.cluster.id && !isFree) return;
    disk.mark = life.cluster.id;
    while (this.life === life) {
      try {
        const place = { uuid: disk.uuid, path: "/disk", sizeBytes: 64 * GIB };
        await life.commands.ask("registerDisk", { ...place, incarnation: this.#run });
        return;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
      }
      await new Promise<void>((resolve) => this.meeting.time.after(1000, resolve));
    }
  }

  /** A host's administrator asks this unit for a volume; it is written down once it is answered. */
  ask(name: string): void {
    const { life } = this;
    if (life === null) return;
    const wish = { name, sizeBytes: GIB, protection: "none" as const };
    life.commands.ask("createVolume", wish).then(
      () => this.meeting.accepted.push({ name, clusterId: life.cluster.id }),
      (error: unknown) => {
        if (!(error instanceof Fault)) throw error;
      },
    );
  }
}
