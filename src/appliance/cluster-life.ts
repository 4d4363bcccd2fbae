// SPDX-License-Identifier: Apache-2.0
//
// A unit's life in its cluster, on the control thread: its way to the control store, its view of
// the state, its liveness lease, the control station it may be, its vote, its slice records, its
// disks. Made when the unit knows its cluster and number; ends with the unit's run.
// Long because all that a unit is in its cluster is wired together here.

import { Fault } from "#base/fault.ts";
import type { SliceRecord, UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import { CommandClient } from "#cluster/commands.ts";
import { ControlProxyServer } from "#cluster/control-proxy-server.ts";
import { ControlProxyClient } from "#cluster/control-proxy.ts";
import { ControlStation } from "#cluster/control-station.ts";
import type { StoreMember } from "#cluster/control-store.ts";
import { DeathProof } from "#cluster/death-proof.ts";
import type { Journal } from "#cluster/decision-journal.ts";
import { JournalRecorder } from "#cluster/journal-recorder.ts";
import type { EarlierJournal, JournalLines } from "#cluster/journal-recorder.ts";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import type { NearCluster, StationFact } from "#cluster/formation.ts";
import type { Generation } from "#cluster/generation.ts";
import { giveWay } from "#cluster/giving-way.ts";
import { type UnitIdentity, idBytes, idText, unitAddress } from "#cluster/identity.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { pipePair } from "#cluster/message-pipe.ts";
import { proxyRules } from "#cluster/proxy-rules.ts";
import { RecordKeeper } from "#cluster/record-keeper.ts";
import { type DiskRecord, StationSchema, keys, parseValue } from "#cluster/state.ts";
import { mayLead } from "#cluster/unit-changes.ts";
import { UnitLease } from "#cluster/unit-lease.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import type { ViewChange } from "#cluster/view.ts";
import type { UnitFigures } from "#cluster/deadline.ts";
import { roughly } from "#cluster/deadline.ts";
import { newsOf } from "#cluster/volume-state.ts";
import { VoterKeeper, newId, voterName } from "#cluster/voters.ts";
import type { EtcdCertificates } from "#machine/etcd-certificates.ts";
import { isRefused } from "#machine/control-socket.ts";
import { type EtcdChild, etcdDirectoryState, etcdSocketPath } from "#machine/etcd-child.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { Unwelcome } from "#protocol/peer-channel/channel.ts";
import type { PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { refusalTable } from "#protocol/peer-channel/refusal.ts";
import { decideDry } from "./dry-run.ts";
import { type UnitFacts, voterPlaces } from "./assembly.ts";
import { ControlBackups } from "./control-backups.ts";
import { callUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";
import { type Coming, GenerationWatch, otherUnits, stationPlaces } from "./generation-watch.ts";
import { HeldTelling } from "./held-telling.ts";
import type { SavedMembership, VoterPlace } from "./membership.ts";
import { headReports } from "./head-reports.ts";
import type { ReactorClient } from "./reactor-client.ts";
import { CopyRate } from "./copy-rate.ts";
import type { SliceReport } from "./data-plane.ts";
import { KeptTeller } from "./kept-teller.ts";
import type { ReactorReport } from "./reactor-messages.ts";
import { VERSION } from "./version.ts";
import { DiskWatch } from "./disk-watch.ts";
import { ReactorFeed } from "./reactor-feed.ts";
import { Voter } from "./voter.ts";

/** A reading through the leader on every unit; between two, a change of the records brings one. */
const MEMBERS_EVERY_MS = 15_000;
const METRICS_MS_MAX = 3000;
/** While voters come or go. */
const MEMBERS_UNSETTLED_MS = 2000;

export interface LifeParts {
  membership: SavedMembership;
  identity: UnitIdentity;
  security: PipeSecurity;
  child: EtcdChild;
  certificates: EtcdCertificates;
  reactor: ReactorClient;
  /** Whether volumes are exported while the cluster is nobody's. */
  exportsUnclaimed: boolean;
  /** For whom this unit acts at the moment; null: for itself. */
  actor(): string | null;
  /** The owner wants a disk here taken again that is out of use. */
  takeDiskAgain(uuid: string): void;
  /** Where decisions are kept beyond this run. */
  journalLines: JournalLines;
  /** Other clusters in use with our join secret that this unit hears; null: not known. */
  near(): readonly NearCluster[] | null;
  /** The control station of this cluster, of whatever generation; null: none is heard. */
  stationHeard(): StationFact | null;
  /** This unit was removed from the cluster. */
  removed(): void;
  /** A disk here is to leave, or not any more. */
  diskRetired(disk: DiskRecord): void;
  /** Keeps backups of the control state, sealed by this key. */
  state: Pick<StateDirectory, "read" | "write">;
  backupKey: Uint8Array;
  /** What this unit says of itself to whoever admits it. */
  facts(): UnitFacts;
  /** The cluster is in a later generation: this unit is to enter it. */
  come(coming: Coming & { clusterId: string }): void;
  /** Where voters are has changed: to be saved. */
  saveVoters(voters: VoterPlace[]): void;
}

export class ClusterLife {
  readonly unit: UnitNumber;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly generation: Generation;
  /** Told when this unit begins or ends to be the control station. */
  onLead: () => void = () => {};
  readonly store: ControlProxyClient;
  readonly follower: ViewFollower;
  readonly commands: CommandClient;
  readonly lease: UnitLease;
  readonly deaths: DeathProof;
  readonly voter: Voter;
  readonly watch: DiskWatch;
  readonly backups: ControlBackups;
  readonly generations: GenerationWatch;
  readonly #world: World;
  readonly #timers: Timers;
  readonly #parts: LifeParts;
  readonly #local: EtcdControlStore;
  readonly #station: ControlStation;
  readonly #records: RecordKeeper;
  readonly #servers = new Set<ControlProxyServer>();
  readonly #held: HeldTelling;
  readonly #copyRate = new CopyRate();
  readonly #keptTeller: KeptTeller;
  #isHurried = false;
  #members: StoreMember[] = [];
  #membersAtMs = Number.NEGATIVE_INFINITY;
  /** When the control store was last known to be within reach. */
  #reachedAtMs: number;
  /** Voters as saved, until the view knows better. */
  #places: VoterPlace[];

  constructor(world: World, timers: Timers, parts: LifeParts) {
    const { membership, child } = parts;
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    const unit = (this.unit = membership.unit);
    this.clusterId = membership.clusterId;
    this.clusterName = membership.clusterName;
    this.generation = membership.generation;
    this.#places = membership.voters;
    this.#reachedAtMs = world.clock.nowMs();
    this.store = new ControlProxyClient(world, timers, {
      voters: () => this.#voters(),
      dial: (number) => this.#dialVoter(number),
    });
    this.follower = new ViewFollower(world, timers, this.store);
    this.commands = this.#makeCommands();
    this.#keptTeller = new KeptTeller(this.commands, this.follower.view);
    const transport = new EtcdUnixTransport(etcdSocketPath(child.place.directory));
    this.#local = new EtcdControlStore(timers, transport);
    this.voter = this.#makeVoter(transport);
    this.lease = new UnitLease(world, timers, {
      store: this.store,
      follower: this.follower,
      options: {
        unit,
        run: newId(world),
        mayLead: () => mayLead(this.follower.view, this.unit),
        deadSince: (other) => this.deaths.deadSince(other),
        news: () => newsOf(headReports(this.follower.view, parts.reactor.report)),
        figures: () => this.#figures(),
      },
    });
    this.deaths = this.#watchDeaths();
    this.#station = this.#makeStation();
    this.lease.onLead = (leads, term) => this.#led(leads, term);
    this.#records = new RecordKeeper(world, timers, this.store, {
      recordChanged: (record) => parts.reactor.send({ kind: "records", records: [record] }),
      recordRemoved: (slice) => parts.reactor.send({ kind: "sliceGone", slice }),
    });
    this.watch = new DiskWatch(world, timers, {
      commands: this.commands,
      view: this.follower.view,
      reactor: parts.reactor,
      unit,
      takeAgain: (uuid) => parts.takeDiskAgain(uuid),
      retired: (disk) => parts.diskRetired(disk),
    });
    this.#held = this.#makeHeldTelling();
    this.backups = this.#makeBackups();
    this.generations = this.#watchGenerations();
    new ReactorFeed(parts.reactor, this.follower.view, {
      ownUnit: unit,
      exportsUnclaimed: parts.exportsUnclaimed,
    });
    this.follower.view.onChange((changes) => this.#viewChanged(changes));
  }

  #makeStation(): ControlStation {
    const { near, journalLines } = this.#parts;
    return new ControlStation(this.#world, this.#timers, {
      store: this.store,
      follower: this.follower,
      voters: new VoterKeeper(this.#world, this.store, this.store),
      leads: () => this.lease.leads,
      votingUnits: () => this.knownVoters,
      near,
      recorder: new JournalRecorder(journalLines, this.#world.log, {
        version: VERSION,
        leads: () => this.lease.leads,
        wallMs: () => this.#world.clock.wallMs(),
      }),
    });
  }

  #makeCommands(): CommandClient {
    const { unit, store, follower } = this;
    const facts = () => ({
      asker: unit,
      wallMs: this.#world.clock.wallMs(),
      newId: () => newId(this.#world),
      voters: this.knownVoters,
    });
    return new CommandClient(this.#world, this.#timers, {
      ...{ store, follower, unit },
      actor: () => this.#parts.actor(),
      before: (name, args) => decideDry(follower.view, name, args, facts),
    });
  }

  #makeVoter(transport: EtcdUnixTransport): Voter {
    const { child, certificates } = this.#parts;
    return new Voter(this.#world, this.#timers, {
      unit: this.unit,
      child,
      certificates,
      local: this.#local,
      vouchedAgoMs: () => transport.vouchedAgoMs,
      store: this.store,
      view: this.follower.view,
      members: () => this.#members,
      metrics: () => transport.metrics(METRICS_MS_MAX),
      handedOver: (why) => this.#handedOver(why),
    });
  }

  #makeHeldTelling(): HeldTelling {
    const { unit, commands, follower } = this;
    const parts = { unit, commands, view: follower.view, reactor: this.#parts.reactor };
    return new HeldTelling(this.#world, this.#timers, parts);
  }

  #makeBackups(): ControlBackups {
    const { state, backupKey: key } = this.#parts;
    const parts = { unit: this.unit, state, key, store: this.store, view: this.follower.view };
    return new ControlBackups(this.#world, this.#timers, parts);
  }

  #watchGenerations(): GenerationWatch {
    const { membership, facts, come, identity, stationHeard } = this.#parts;
    const { view } = this.follower;
    // Nobody here may know the unit that began a later generation.
    const known = () => [...this.#places, ...stationPlaces(stationHeard())];
    return new GenerationWatch(this.#world, this.#timers, {
      generation: membership.generation,
      facts,
      storeAway: () => this.store.voter === null,
      leads: () => this.lease.leads,
      others: () => otherUnits(view, known(), idText(identity.unitId)),
      call: (place) => this.#callPlace(place, Purpose.generation),
      admit: async (unit) => (await this.commands.ask("admitUnit", unit)).unit,
      voters: () => voterPlaces(view),
      clusterName: () => view.cluster?.name ?? this.clusterName,
      come: (coming) => come({ clusterId: this.clusterId, ...coming }),
    });
  }

  #watchDeaths(): DeathProof {
    const deaths = new DeathProof(this.#world, this.#timers, (other) => this.#refuses(other));
    deaths.onProven = (other) => {
      if (this.follower.view.station?.unit === other) this.lease.wake();
    };
    return deaths;
  }

  #viewChanged(changes: readonly ViewChange[]): void {
    this.#held.look();
    if (this.follower.view.units.get(this.unit)?.state === "removed") this.#parts.removed();
    if (changes.some((change) => change.kind === "voter" || change.kind === "unit")) {
      this.#membersAtMs = Number.NEGATIVE_INFINITY;
      this.#placesChanged();
    }
  }

  start(): void {
    this.voter.start();
    this.follower.start();
    this.lease.start();
    this.#station.start();
    this.#records.start();
    this.generations.start();
  }

  /** In order: the lead and the liveness are given back, so that nobody waits for them. */
  async stop(): Promise<void> {
    this.#station.stop();
    this.deaths.stop();
    this.watch.stop();
    this.backups.stop();
    this.generations.stop();
    this.#held.stop();
    await this.lease.stop();
    this.#records.stop();
    this.follower.stop();
    this.store.stop();
    for (const server of this.#servers) server.close("this unit stops");
    await this.voter.stop();
  }

  /** Units that vote, as the control store last said. */
  get voters(): UnitNumber[] {
    return this.#members
      .filter((member) => !member.learner && member.name !== "")
      .map((member) => Number(member.name.slice(voterName(0).length - 1)))
      .sort((left, right) => left - right);
  }

  /** What this unit decided lately as the control station, and by what. */
  get journal(): Journal {
    return this.#station.journal.journal();
  }

  /** What earlier runs of this unit left of that. */
  get earlierJournals(): EarlierJournal[] {
    return this.#station.journal.earlier();
  }

  /** As `voters`; null: the control store has not said yet. */
  get knownVoters(): UnitNumber[] | null {
    return this.#members.length === 0 ? null : this.voters;
  }

  /** Where voters are, as far as this unit knows. */
  get voterPlaces(): readonly VoterPlace[] {
    return this.#places;
  }

  /** How this unit's own voter is, for its health. */
  get voterFacts(): { expected: boolean; hasData: boolean; runs: boolean; answers: boolean } {
    const { child } = this.#parts;
    return {
      expected: this.voters.includes(this.unit),
      hasData: etcdDirectoryState(child.place.directory).hasData,
      runs: child.running,
      answers: this.voter.votes,
    };
  }

  /** Age of what this unit knows of the control state, ms; 0 while the store is within reach. */
  get staleMs(): number {
    return Math.round(this.#world.clock.nowMs() - this.#reachedAtMs);
  }

  /** A few times a second: keeps `voters` and `staleMs` true. */
  tick(nowMs: number): void {
    if (this.store.voter !== null) this.#reachedAtMs = nowMs;
    const everyMs = this.#votersSettled() ? MEMBERS_EVERY_MS : MEMBERS_UNSETTLED_MS;
    if (nowMs - this.#membersAtMs < everyMs || this.store.voter === null) return;
    this.#membersAtMs = nowMs;
    this.store.members().then(
      (members) => {
        this.#members = members;
      },
      (error: unknown) => {
        if (!(error instanceof Fault)) throw error; // away: asked again
      },
    );
  }

  /** Whether etcd's members, as last read, are just the voters of the records. */
  #votersSettled(): boolean {
    const { voters } = this;
    const records = this.follower.view.voters;
    return voters.length === records.size && voters.every((unit) => records.has(unit));
  }

  /** The reactor wants a slice's record changed. */
  propose(id: number, next: SliceRecord, expected: SliceRecord): void {
    this.#records.propose(next, expected, (outcome, current) => {
      this.#parts.reactor.send({ kind: "proposalEnded", id, outcome, current });
    });
  }

  /** The cluster gives way to another; only from virgin, whatever happens meanwhile. */
  async giveWay(): Promise<void> {
    await giveWay(this.store, this.follower.view);
  }

  /** Whether a slice lies on a disk of this unit, as control state or reactor know. */
  get holdsSlices(): boolean {
    const { view } = this.follower;
    const own = view.disksOfUnit(this.unit);
    const placed = own.some((disk) => view.slicesOfDisk(disk.number).length > 0);
    return placed || this.#parts.reactor.report.slices.length > 0;
  }

  /** The reactor's newest words on the slices here. */
  reported({ slices, kept }: Pick<ReactorReport, "slices" | "kept">): void {
    this.#dropDeleted(slices);
    this.#held.look();
    this.#keptTeller.reported(kept);
    const nowMs = this.#world.clock.nowMs();
    this.#copyRate.reported(nowMs, slices, this.#lacking(slices));
    const { protectWithinMs } = this.follower.view.settings;
    const isHurried = this.#copyRate.mustHurry(nowMs, protectWithinMs);
    if (isHurried === this.#isHurried) return;
    this.#isHurried = isHurried;
    this.#world.log.write("info", isHurried ? "copying hurries: a deadline" : "copying is calm");
    this.#parts.reactor.send({ kind: "hurry", isHurried });
  }

  /** Slices headed here that lack a copy. */
  #lacking(slices: readonly SliceReport[]): Set<number> {
    const lacking = new Set<number>();
    for (const { slice, role } of slices) {
      const record = this.follower.view.slices.get(slice);
      if (role !== "head" || record === undefined) continue;
      if (record.inSync.length < record.copies) lacking.add(slice);
    }
    return lacking;
  }

  #figures(): UnitFigures {
    const { slices } = this.#parts.reactor.report;
    const heldBytes = roughly(slices.reduce((sum, slice) => sum + slice.mappedBytes, 0));
    const rate = this.#copyRate.bytesPerSecond;
    const backupAtMs = this.backups.newest?.takenAtMs;
    return {
      heldBytes,
      ...(rate === null ? {} : { copyBytesPerSecond: roughly(rate) }),
      ...(backupAtMs === undefined ? {} : { backupAtMs }),
    };
  }

  /** Gives back what slices on this unit's disks hold whose volumes were deleted meanwhile. */
  #dropDeleted(slices: readonly { slice: number }[]): void {
    for (const { slice } of slices) {
      if (!this.follower.view.sliceIsDeleted(slice)) continue;
      this.#parts.reactor.send({ kind: "sliceGone", slice });
    }
  }

  /** Another unit of the cluster asks for the control store. */
  serve(pipe: MessagePipe, peer: PeerIdentity): void {
    if (!this.voter.votes) return pipe.close("this unit does not vote");
    this.#serveUnit(pipe, peer.unitNumber);
  }

  /** Whether a proved unit is one of this cluster; what says why not. */
  refusalOf(peer: PeerIdentity): Unwelcome | null {
    const { view } = this.follower;
    // Before the first reading nobody is known; the rules look again at every write.
    if (view.revision === 0) return null;
    const unit = view.units.get(peer.unitNumber);
    if (unit === undefined) return "this unit is not in the cluster";
    if (unit.publicKey !== peer.publicKey.toHex()) return "the cluster knows another key";
    // It was away then: nobody else tells it.
    if (unit.state === "removed") return { code: "removed", sentence: refusalTable.removed[1] };
    return null;
  }

  #serveUnit(pipe: MessagePipe, unit: UnitNumber): void {
    const server = new ControlProxyServer(
      {
        store: this.#local,
        voters: this.#local,
        mayWrite: proxyRules(this.#local, this.follower),
        isStation: async (number) => {
          const { entry } = await this.#local.get(keys.station);
          if (entry === null) return false;
          return parseValue(StationSchema, keys.station, entry.value).unit === number;
        },
      },
      unit,
      pipe,
    );
    this.#servers.add(server);
    const { onClose } = pipe;
    pipe.onClose = (reason) => {
      this.#servers.delete(server);
      onClose(reason);
    };
  }

  /** Voters to try: ourselves, then those in use, then those that were known once. */
  #voters(): UnitNumber[] {
    const others = this.#places.map((place) => place.unit).filter((unit) => unit !== this.unit);
    // Different units begin with different voters.
    const turn = others.length === 0 ? 0 : this.unit % others.length;
    const list = [...others.slice(turn), ...others.slice(0, turn)];
    return this.voter.votes ? [this.unit, ...list] : list;
  }

  async #dialVoter(voter: UnitNumber): Promise<MessagePipe> {
    if (voter === this.unit) {
      const [ours, served] = pipePair();
      this.#serveUnit(served, this.unit);
      return ours;
    }
    const place = this.#places.find((known) => known.unit === voter);
    if (place === undefined) {
      throw new Fault("controlStoreAway", `no address of voter ${voter} is known`);
    }
    return this.#call(place, Purpose.controlProxy);
  }

  /** Whether the unit's box says that no daemon listens; asked at the address that is its alone. */
  async #refuses(unit: UnitNumber): Promise<boolean> {
    const record = this.follower.view.units.get(unit);
    const port = record?.ports.control;
    return record === undefined || port === undefined ? false : isRefused(record.ula, port);
  }

  /** A pipe to another unit of the cluster. */
  async dial(number: UnitNumber, purpose: Purpose): Promise<MessagePipe> {
    const unit = this.follower.view.units.get(number);
    const port = unit?.ports.control;
    if (unit?.state !== "admitted" || port === undefined) {
      throw new Fault("notFound", `unit ${number} is not in the cluster`);
    }
    const { id, ula, addresses } = unit;
    const place = { unit: number, unitId: id, addresses: [ula, ...addresses], port };
    return this.#call(place, purpose);
  }

  async #call(place: VoterPlace, purpose: Purpose): Promise<MessagePipe> {
    return (await this.#callPlace(place, purpose)).pipe;
  }

  async #callPlace(
    place: VoterPlace,
    purpose: Purpose,
  ): Promise<{ pipe: MessagePipe; peer: PeerIdentity }> {
    let failure: unknown = new Fault("notReady", `no address of unit ${place.unit} is known`);
    for (const address of place.addresses) {
      try {
        return await callUnit(this.#world, this.#parts.security, {
          address,
          port: place.port,
          purpose,
          unitId: idBytes(place.unitId),
        });
      } catch (error) {
        if (error instanceof Fault && error.code === "removed") this.#parts.removed();
        failure = error;
      }
    }
    throw failure;
  }

  /** For the history; lost where nobody takes it up: the log has it. */
  #handedOver(why: string): void {
    this.commands.ask("tellLead", { why }).catch((error: unknown) => {
      if (!(error instanceof Fault)) throw error;
    });
  }

  #placesChanged(): void {
    const { view } = this.follower;
    const places: VoterPlace[] = [];
    for (const voter of view.voters.values()) {
      const unit = view.units.get(voter.unit);
      if (unit?.state !== "admitted" || voter.state !== "used") continue;
      const port = unit.ports.control;
      if (port === undefined) continue;
      places.push({
        unit: unit.number,
        unitId: unit.id,
        addresses: [unit.ula, ...unit.addresses],
        port,
      });
    }
    if (places.length === 0 || JSON.stringify(places) === JSON.stringify(this.#places)) return;
    this.#places = places;
    this.#parts.saveVoters(places);
  }

  #led(leads: boolean, term: number): void {
    this.#world.log.write("info", leads ? "control station" : "control station no more", { term });
    if (leads) this.#station.beganToLead();
    this.onLead();
  }
}

/** The address of a unit among the units of a cluster. */
export function addressInCluster(
  world: Pick<World, "seal">,
  clusterId: string,
  identity: UnitIdentity,
): string {
  return unitAddress(world.seal, idBytes(clusterId), identity.unitId);
}
