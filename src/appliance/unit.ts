// SPDX-License-Identifier: Apache-2.0
//
// The unit daemon's control thread: from a configuration to a unit that finds its cluster, joins or
// founds it, and serves. Machine and Worker are handed in by the composition root (main.ts).
//
// Order of an orderly stop: the others are told, heads are released and disks closed (reactor),
// then the lead and liveness are given back, then this unit's voter ends: the takeover of what it
// headed needs the control store, so that goes last.

import { Fault } from "#base/fault.ts";
import { DECISION_FILES_MAX, DECISION_FILE_BYTES_MAX } from "#base/limits.ts";
import type { Timers, World } from "#base/world.ts";
import type { Catalog } from "#cluster/catalog.ts";
import { Discovery } from "#cluster/discovery.ts";
import type { Stranger } from "#cluster/discovery-units.ts";
import type { StationFact } from "#cluster/formation.ts";
import { type UnitIdentity, idBytes, idText } from "#cluster/identity.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { FIRST_GENERATION } from "#cluster/generation.ts";
import { ETCD_PEER_PORT, newId } from "#cluster/voters.ts";
import type { ControlListener, ControlSocket } from "#machine/control-socket.ts";
import type { LinkDatagrams } from "#machine/datagram.ts";
import { clearEtcdDirectory } from "#machine/etcd-child.ts";
import { type Link as MachineLink, hasAddress } from "#machine/network.ts";
import { LineFiles } from "#machine/line-files.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { ShutdownKind } from "#protocol/autoconfig/autoconfig.wire.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { Unwelcome } from "#protocol/peer-channel/channel.ts";
import { ClusterState } from "#protocol/peer-channel/identity.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { generationKey } from "#protocol/peer-channel/secret.ts";
import type { JoinKeys } from "#protocol/peer-channel/secret.ts";
import { endDryRun } from "./dry-run.ts";
import { NO_SECRET, answerOffer, giveSecret } from "./adoption.ts";
import { type UnitFacts, admitJoining, foundCluster, joinCluster } from "./assembly.ts";
import { ClaimDesk } from "./claim-desk.ts";
import { ClusterLife, addressInCluster } from "./cluster-life.ts";
import { membershipOf } from "./cluster-membership.ts";
import { answerMeeting, askWhetherItGaveWay, meetCluster } from "./cluster-meeting.ts";
import type { Configuration } from "./configuration.ts";
import { restoreControl } from "./control-restore.ts";
import { OF_UNITS, answerUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";
import { applianceDisks } from "./appliance-disks.ts";
import { DiskKeeper } from "./disk-keeper.ts";
import { MEMBERSHIP_FILE, membershipText, parseMembership } from "./membership.ts";
import type { SavedMembership } from "./membership.ts";
import { planNext, takeNext } from "./next-generation.ts";
import { addLeft, readLeft } from "./left-clusters.ts";
import { claimCodeOf, claimForOwner } from "./owner-claim.ts";
import { OwnPlace, type Place } from "./own-place.ts";
import type { ReactorClient } from "./reactor-client.ts";
import { type Removal, makeNew, readRemoval, writeRemoval } from "./removal.ts";
import { storageFacts, tellRetired, tellStorage } from "./storage-news.ts";
import { UnitEtcd } from "./unit-etcd.ts";
import type { ReadyEtcd } from "./unit-etcd.ts";
import type { MadeUnit, UnitOutside } from "./unit-parts.ts";
import { ownReport } from "./unit-report.ts";
import { unitName } from "./unit-identity.ts";
import { peersOf, toldAddresses, usableLinks } from "./unit-links.ts";
import { FEATURE_LEVEL, VERSION } from "./version.ts";

const DECISION_FILES = { filesMax: DECISION_FILES_MAX, bytesMax: DECISION_FILE_BYTES_MAX };
const TICK_MS = 100;
/** In a cluster nothing that hangs on a tick is more urgent. */
const TICK_MEMBER_MS = 500;
const LINKS_EVERY_MS = 2000;
const STOP_MS_MAX = 6000;
const NO_CLUSTER = new Uint8Array(16);

export class Unit {
  readonly configuration: Configuration;
  readonly state: StateDirectory;
  readonly identity: UnitIdentity;
  readonly disks: DiskKeeper;
  readonly catalog: Catalog;
  readonly reactor: ReactorClient;
  readonly discovery: Discovery;
  readonly claims: ClaimDesk;
  readonly ports: Record<string, number>;
  readonly startedMs: number;
  /** The cluster that it was removed from, until it is made new. */
  readonly removal: Removal | null;
  /** What it is about, for a person. */
  sentence = "starting";
  life: ClusterLife | null = null;
  stopping = false;
  /** What other units of the cluster may want here, by what they call for. */
  readonly services = new Map<Purpose, (pipe: MessagePipe) => void>();
  readonly #outside: UnitOutside;
  readonly #world: World;
  readonly #timers: Timers;
  readonly #keys: JoinKeys | null;
  readonly #security: PipeSecurity;
  readonly #udp: LinkDatagrams;
  readonly #listener: ControlListener;
  readonly #etcd: UnitEtcd;
  #place: OwnPlace | null = null;
  /** Of the cluster as this run knows it. */
  #generation = FIRST_GENERATION;
  #leaving = false;
  readonly #end = Promise.withResolvers<string>();
  /** The run ends or has ended: what is still under way decides nothing any more. */
  #isOver = false;
  /** Resolves with the reason when this run ends by itself, so that the unit begins anew. */
  readonly ended = this.#end.promise;
  #links: readonly MachineLink[] = [];
  #linksAtMs = 0;
  #linksText = "";

  constructor(outside: UnitOutside, made: MadeUnit) {
    const { configuration } = made;
    this.#outside = outside;
    this.#world = outside.world;
    this.#timers = outside.timers;
    this.configuration = configuration;
    this.state = made.state;
    this.identity = made.identity;
    this.catalog = made.catalog;
    this.reactor = made.reactor;
    this.ports = made.ports;
    this.claims = new ClaimDesk(
      outside.world,
      claimCodeOf(outside.world, made.state, configuration),
    );
    this.#keys = made.keys;
    this.#udp = made.udp;
    this.removal = readRemoval(made.state);
    this.startedMs = outside.world.clock.nowMs();
    this.disks = new DiskKeeper(outside.world, outside.timers, made.reactor, {
      paths: configuration.disks,
      directFiles: configuration.directFiles,
      unitName: this.name,
      leftClusters: readLeft(made.state),
      ...applianceDisks(configuration, made.state, outside.appliance),
    });
    this.#security = {
      timers: outside.timers,
      own: () => this.#own(),
      preSharedKey: made.keys?.link ?? NO_SECRET,
      generationKey: () => this.#generationKey(),
      authenticate: (peer) => this.#authenticate(peer),
    };
    this.#etcd = new UnitEtcd(outside.world, {
      state: made.state,
      name: this.name,
      clusterSecret: made.keys?.certificates ?? NO_SECRET,
      firstLink: () => usableLinks(made.udp.refreshLinks(), configuration.interfaces)[0]?.name,
      addressTaken: () => this.#refreshLinks(),
      unpackEtcd: (directory) => outside.unpackEtcd(directory),
    });
    this.discovery = this.#makeDiscovery(made);
    this.disks.onChange = (disk, why) => {
      tellStorage({ discovery: this.discovery, watch: this.life?.watch ?? null }, disk, why);
    };
    this.#listenReactor();
    this.#listener = made.control;
  }

  get name(): string {
    return unitName(this.configuration.name, this.identity);
  }

  /** Whether hosts may attach before somebody owns the cluster: never on an appliance. */
  get exportsUnclaimed(): boolean {
    return this.#outside.appliance === null;
  }

  /** What is wrong with the boot medium; null: nothing, or there is none. */
  get wrongMedium(): string | null {
    return this.#outside.appliance?.wrongMedium ?? null;
  }

  uptimeSeconds(): number {
    return Math.floor((this.#world.clock.nowMs() - this.startedMs) / 1000);
  }

  #makeDiscovery(made: MadeUnit): Discovery {
    const { configuration, ports } = made;
    return new Discovery(
      this.#world,
      {
        identity: this.identity,
        joinKey: made.keys?.autoconfig ?? null,
        bootCounter: made.bootCounter,
        name: this.name,
        softwareVersion: VERSION,
        featureLevel: FEATURE_LEVEL,
        joinOnly: !configuration.mayFound || configuration.role === "witness",
        spare: configuration.role === "spare",
        removedFrom: this.removal?.clusterName ?? null,
        udpPort: ports.autoconfig ?? 0,
        channelPort: ports.control ?? 0,
        apiPort: ports.api ?? 0,
        peers: peersOf(configuration, ports.autoconfig ?? 0),
      },
      {
        report: ownReport({
          disks: () => this.disks.disks,
          reactor: () => this.reactor.report,
          view: () => this.life?.follower.view ?? null,
          uptimeSeconds: () => this.uptimeSeconds(),
        }),
        effects: {
          found: () => void this.#found(),
          join: (station) => void this.#join(station),
          yieldTo: (other) => void this.#yieldTo(other),
          askAbout: (other) => void this.#askAbout(other),
          leave: () => this.#leave(),
          say: (sentence) => this.#say(sentence),
          send: (packet, to) => {
            const isFour = !to.address.includes(":");
            const address = isFour && to.link !== null ? `${to.address}%${to.link}` : to.address;
            this.#udp.send(packet, address, to.port);
          },
          unitStorage: () => {},
          unitStorageChanged: (...what) =>
            this.#world.log.write("info", "storage of a unit changed", storageFacts(...what)),
          unitShutdown: (unitId, shutdown) =>
            this.#world.log.write("info", "a unit goes down", { unitId, reason: shutdown.reason }),
        },
      },
    );
  }

  #say(about: string): void {
    const sentence = this.wrongMedium === null ? about : `${about} ${this.wrongMedium}`;
    if (sentence === this.sentence) return;
    this.sentence = sentence;
    this.#world.log.write("info", sentence);
  }

  // Start.

  /** Looks at the disks, goes back to the cluster or looks for one. */
  async start(): Promise<void> {
    this.#refreshLinks();
    await this.disks.examine();
    // A stop came before it had forgotten the cluster that it was removed from.
    if (this.removal !== null) this.#forgetCluster();
    await takeNext(this.state, this.#world.log, (next, backup) => this.#restore(next, backup));
    const saved = this.state.readText(MEMBERSHIP_FILE);
    if (saved !== null) await this.#enter(parseMembership(saved));
    // Heard before that, the own cluster's station would have it join, and enter, a second time.
    this.#udp.onPacket = (bytes, from) => this.discovery.packet(bytes, from);
    this.#tick();
  }

  #tick(): void {
    if (this.stopping) return;
    const nowMs = this.#world.clock.nowMs();
    if (nowMs - this.#linksAtMs >= LINKS_EVERY_MS) this.#refreshLinks();
    this.discovery.tick();
    this.life?.tick(nowMs);
    if (this.life !== null) this.discovery.formation.storeAway(this.life.store.voter === null);
    this.#place?.look(nowMs);
    const tickMs = this.life === null ? TICK_MS : TICK_MEMBER_MS;
    this.#timers.after(tickMs, () => this.#tick());
  }

  #refreshLinks(): void {
    this.#linksAtMs = this.#world.clock.nowMs();
    this.#links = this.#udp.refreshLinks();
    const links = usableLinks(this.#links, this.configuration.interfaces);
    const text = JSON.stringify(links.map(({ name, addresses }) => ({ name, addresses })));
    if (text === this.#linksText) return;
    this.#linksText = text;
    this.discovery.linksChanged(links);
  }

  #listenReactor(): void {
    this.reactor.listeners = {
      diskOpened: (disk) => this.disks.opened(disk),
      diskRefused: (...told) => this.disks.refused(...told),
      diskReady: (uuid, number) => this.disks.ready(uuid, number),
      diskFailed: (uuid, sentence) => this.disks.failed(uuid, sentence),
      diskDropped: (uuid) => this.disks.dropped(uuid),
      link: ({ unit, up, reason }) => {
        this.#world.log.write("info", up ? "link up" : "link down", { unit, reason });
        this.life?.deaths.linkChanged(unit, { up });
      },
      propose: ({ id, next, expected }) => this.life?.propose(id, next, expected),
      reported: (report) => {
        this.disks.refresh(report.disks);
        this.life?.reported(report);
        this.life?.watch.reported(report.disks);
      },
      blocks: (told) => this.life?.watch.blocks(told),
      takeovers: (told) => this.life?.watch.takeovers(told),
    };
  }

  // The control port.

  /** Another unit's connection to the control port. */
  acceptControl(socket: ControlSocket): void {
    answerUnit(this.#world, this.#security, socket, (pipe, peer) => {
      const { life } = this;
      if (peer.purpose === Purpose.adopt) {
        const given = "it was given the join secret of the cluster";
        return answerOffer(pipe, this.state, (name) => this.#endRun(`${given} ${name}`));
      }
      if (life === null) return pipe.close("in no cluster");
      if (peer.purpose === Purpose.generation) return life.generations.meet(pipe, peer);
      if (peer.purpose === Purpose.meet) return answerMeeting(pipe, peer, life.follower.view);
      if (peer.purpose === Purpose.controlProxy) return life.serve(pipe, peer);
      const serve = this.services.get(peer.purpose);
      if (serve !== undefined) return serve(pipe);
      if (peer.purpose !== Purpose.join) return pipe.close("there is no such thing here");
      admitJoining(pipe, peer, { commands: life.commands, view: life.follower.view });
    });
  }

  #own(): OwnIdentity {
    const { life } = this;
    const state = life?.follower.view.cluster?.state ?? "used";
    return {
      ...this.identity,
      clusterId: life === null ? NO_CLUSTER : idBytes(life.clusterId),
      clusterState: life === null ? ClusterState.none : ClusterState[state],
      unitNumber: life?.unit ?? 0,
      featureLevel: FEATURE_LEVEL,
    };
  }

  #authenticate(peer: PeerIdentity): Unwelcome | null {
    if (peer.purpose === Purpose.adopt) {
      return this.#keys === null ? null : "this unit has a join secret already";
    }
    if (this.#keys === null) return "this unit has no join secret";
    if (OF_UNITS.includes(peer.purpose)) return this.life?.refusalOf(peer) ?? null;
    return null;
  }

  // Founding, joining, entering.

  #facts(clusterId: string): UnitFacts {
    const ula = this.#ownAddress(clusterId);
    return {
      id: idText(this.identity.unitId),
      publicKey: this.identity.publicKey.toHex(),
      name: this.name,
      ...this.#placeBut(ula),
      ula,
      featureLevel: FEATURE_LEVEL,
      version: VERSION,
      role: this.configuration.role,
      left: readLeft(this.state),
    };
  }

  /** Where it can be reached, besides its address among units. */
  #placeBut(ula: string): Place {
    const links = usableLinks(this.#links, this.configuration.interfaces);
    const ports = { ...this.ports, etcd: ETCD_PEER_PORT };
    return { addresses: toldAddresses(links, ula), ports };
  }

  async #found(): Promise<void> {
    try {
      const clusterId = newId(this.#world);
      const etcd = await this.#prepareEtcd(clusterId, 1);
      const saved = await foundCluster(this.#world, this.#timers, etcd, {
        clusterId,
        clusterName: this.configuration.clusterName,
        sliceBytes: this.configuration.sliceBytes,
        featureLevel: FEATURE_LEVEL,
        settings: { reprotectAfterMs: this.configuration.reprotectAfterMs },
        adminTokenHash: this.configuration.adminTokenHash,
        unit: this.#facts(clusterId),
      });
      this.state.write(MEMBERSHIP_FILE, membershipText(saved));
      await this.#enter(saved);
    } catch (error) {
      this.discovery.formation.foundFailed(this.#reasonOf(error));
    }
  }

  async #join(station: StationFact): Promise<void> {
    try {
      const facts = this.#facts(station.clusterId);
      const saved = await joinCluster(this.#world, this.#security, station, facts);
      if (this.#isOver) return;
      this.state.write(MEMBERSHIP_FILE, membershipText(saved));
      await this.#enter(saved);
    } catch (error) {
      if (error instanceof Fault && error.code === "removed") return this.#wasRemoved(station);
      const reached =
        error instanceof Fault && error.code !== "notReady" && error.code !== "notAuthentic";
      this.discovery.formation.joinFailed({ reached, reason: this.#reasonOf(error) });
    }
  }

  /** Two clusters met, and ours is to give way: virgin ones only, by compare-and-swap. */
  async #yieldTo(other: StationFact): Promise<void> {
    try {
      await meetCluster(this.#world, this.#security, other);
      await this.life?.giveWay();
    } catch (error) {
      this.discovery.formation.yieldFailed(this.#reasonOf(error));
    }
  }

  /** Our cluster does not answer: perhaps it gave way while this unit was away. */
  async #askAbout(other: StationFact): Promise<void> {
    try {
      const gaveWay = await askWhetherItGaveWay(this.#world, this.#security, other);
      if (gaveWay) this.#world.log.write("info", "our cluster gave way while this unit was away");
      this.discovery.formation.toldWhetherItGaveWay(gaveWay);
    } catch (error) {
      this.#reasonOf(error);
    }
  }

  /** The cluster is given up; the unit begins anew. Never while a slice lies here. */
  #leave(): void {
    const { life } = this;
    if (life === null || life.holdsSlices) {
      return this.discovery.formation.leaveRefused("slices of volumes lie on this unit's disks");
    }
    const { cluster } = life.follower.view;
    addLeft(this.state, [...(cluster?.gaveWay ?? []), life.clusterId]);
    this.#leaving = true;
    this.#endRun("its cluster gives way to another");
  }

  #endRun(reason: string): void {
    this.#isOver = true;
    this.#end.resolve(reason);
  }

  /** The owner removed this unit from the cluster: it stays out, and says so. */
  #wasRemoved({ clusterId, clusterName }: Removal): void {
    // Told again by a call of a run that ended: the unit may have been made new since.
    if (this.#isOver) return;
    writeRemoval(this.state, { clusterId, clusterName });
    this.#leaving = true;
    this.#endRun("it was removed from its cluster");
  }

  /** Hands the join secret to a unit that waits without one, as the owner ordered. */
  async giveSecret(to: Stranger): Promise<void> {
    const secret = this.configuration.joinSecret;
    if (secret === null) throw new Fault("notReady", "this unit has no join secret itself");
    const clusterName = this.life?.clusterName ?? "";
    await giveSecret(this.#world, this.#security, to, { secret, clusterName });
  }

  /** Makes a removed unit new: its run ends, and begins anew as another unit. */
  renew(): void {
    if (this.removal === null) {
      const why = "only a unit that was removed from its cluster is made new; this one was not";
      throw new Fault("conflict", why);
    }
    endDryRun("it begins anew, as another unit");
    makeNew(this.state);
    this.#endRun("its owner makes it new");
  }

  /** Seals backups of the control state. */
  get backupKey(): Uint8Array {
    return this.#keys?.backup ?? NO_SECRET;
  }

  #generationKey(): Uint8Array {
    const link = this.#keys?.link ?? NO_SECRET;
    return generationKey(this.#world.seal, link, this.#generation.id);
  }

  /**
   * Ends this run; the next one is in a later generation, with the backup where it restores it. For
   * another cluster, that its disks are of, it leaves its own.
   */
  enterNext(membership: SavedMembership, backup: Uint8Array | null): void {
    planNext(this.state, membership, backup);
    const { clusterId: own } = this.life ?? membership;
    this.#leaving = own !== membership.clusterId;
    if (this.#leaving) addLeft(this.state, [own]);
    this.#endRun("its cluster begins a new generation");
  }

  #restore(next: SavedMembership, backup: Uint8Array): Promise<SavedMembership> {
    return restoreControl(this.#world, this.#timers, {
      ...{ next, backup, key: this.backupKey, facts: this.#facts(next.clusterId) },
      etcd: (unit) => this.#prepareEtcd(next.clusterId, unit),
    });
  }

  /** Faults are answers; anything else is our bug and ends the process. */
  #reasonOf(error: unknown): string {
    if (!(error instanceof Fault)) {
      this.#outside.fatal(error);
      return "an error of our own";
    }
    this.#world.log.write("warn", error.message);
    return error.message;
  }

  #prepareEtcd(clusterId: string, unit: number): Promise<ReadyEtcd> {
    return this.#etcd.prepare(clusterId, unit, this.#ownAddress(clusterId));
  }

  #ownAddress(clusterId: string): string {
    return addressInCluster(this.#world, clusterId, this.identity);
  }

  async #enter(saved: SavedMembership): Promise<void> {
    const { child, certificates } = await this.#prepareEtcd(saved.clusterId, saved.unit);
    this.#generation = saved.generation;
    const life = new ClusterLife(this.#world, this.#timers, {
      membership: saved,
      identity: this.identity,
      security: this.#security,
      child,
      certificates,
      reactor: this.reactor,
      exportsUnclaimed: this.exportsUnclaimed,
      actor: () => this.#outside.actors.current,
      near: () => this.discovery.formation.near,
      stationHeard: () => this.discovery.formation.stationOf(saved.clusterId),
      journalLines: new LineFiles(this.state, "decisions", DECISION_FILES),
      takeDiskAgain: (uuid) => this.disks.takeAgain(uuid),
      removed: () => this.#wasRemoved(saved),
      diskRetired: (disk) => tellRetired(this.discovery, disk),
      state: this.state,
      backupKey: this.backupKey,
      facts: () => this.#facts(saved.clusterId),
      come: (coming) => this.enterNext(coming, null),
      saveVoters: (voters) =>
        this.state.write(MEMBERSHIP_FILE, membershipText({ ...saved, voters })),
    });
    this.life = life;
    this.#watchPlace(life);
    this.reactor.send({
      kind: "join",
      unit: saved.unit,
      clusterId: saved.clusterId,
      publicKey: this.identity.publicKey.toHex(),
      privateKey: this.identity.privateKey.toHex(),
      linkKey: this.#generationKey().toHex(),
    });
    life.start();
    this.discovery.entered(membershipOf(life));
    life.follower.view.onChange((changes) => {
      if (changes.some((change) => change.kind !== "event" && change.kind !== "slice")) {
        this.discovery.clusterChanged(membershipOf(life));
      }
    });
    life.onLead = () => this.discovery.clusterChanged(membershipOf(life));
    this.catalog.follow(life.follower.view, () => this.#world.clock.wallMs());
    const { adminTokenHash: tokenHash } = this.configuration;
    if (tokenHash !== null) {
      const { commands, follower } = life;
      claimForOwner(this.#world, this.#timers, { view: follower.view, commands, tokenHash });
    }
    void this.disks.enter(saved.clusterId, life.commands);
  }

  #watchPlace({ unit, clusterId, store, follower }: ClusterLife): void {
    const ula = this.#ownAddress(clusterId);
    this.#place = new OwnPlace(this.#world.log, {
      ...{ unit, store, view: follower.view },
      place: () => this.#placeBut(ula),
      hasOwnAddress: () => this.#links.length === 0 || hasAddress(this.#links, ula),
      takeOwnAddress: () => this.#etcd.takeAddress(ula),
    });
  }

  // Stop.

  /** In order; resolves when the process may end. */
  async stop(reason: string): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.#isOver = true;
    this.#say(`stopping: ${reason}`);
    this.discovery.shuttingDown({ kind: ShutdownKind.planned, expectedReturnSeconds: 0, reason });
    this.disks.stop();
    await Promise.race([this.reactor.stop(), this.#delay(STOP_MS_MAX)]);
    this.reactor.close();
    this.#listener.close();
    await Promise.race([this.life?.stop() ?? Promise.resolve(), this.#delay(STOP_MS_MAX)]);
    // After the voter ended: a stop before this is a stop in the old cluster.
    if (this.#leaving) this.#forgetCluster();
    this.#udp.close();
    this.state.close();
  }

  #forgetCluster(): void {
    this.state.remove(MEMBERSHIP_FILE);
    clearEtcdDirectory(this.state.pathOf("etcd"));
  }

  #delay(ms: number): Promise<void> {
    return new Promise((resolve) => this.#timers.after(ms, resolve));
  }
}
