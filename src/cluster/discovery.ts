// SPDX-License-Identifier: Apache-2.0
//
// Discovery: a unit's side of the auto-configuration protocol, a state machine without I/O: packets
// and ticks in, packets and decisions out. It announces itself on every link, hears the others,
// feeds Formation, and once in a cluster plays the control station's or a unit's part: heartbeats
// both ways, enquiries and storage information, storage changed, registered, unit shutdown.
//
// Invariants
// - a packet gets past the guards (rate, authenticity, freshness) before anything is remembered;
// - what did not come with our join secret changes nothing but the list of strangers, and is never
//   answered, so that it cannot be made larger either;
// - all of it is a hint: see Formation for what a hint may do.

import type { World } from "#base/world.ts";
import { formatAddress, NO_ADDRESS, parseAddress } from "#protocol/autoconfig/address.ts";
import * as wire from "#protocol/autoconfig/autoconfig.wire.ts";
import { decodePacket, encodePacket } from "#protocol/autoconfig/codec.ts";
import type { Packet, PacketFault } from "#protocol/autoconfig/codec.ts";
import { RateGuard, ReplayGuard } from "#protocol/autoconfig/guard.ts";
import type * as messages from "#protocol/autoconfig/message-types.ts";
import { storagePages } from "#protocol/autoconfig/storage-pages.ts";
import type { UnitStorage } from "#protocol/autoconfig/storage-pages.ts";
import { sameBytes, unitIdOf } from "#protocol/peer-channel/identity.ts";
import { comparingWords } from "#protocol/peer-channel/secret.ts";
import { LinkTable } from "./discovery-links.ts";
import type { Destination, Link, Where } from "./discovery-links.ts";
import { HeardUnits, STAGE_WORDS, callingAddresses, factOf } from "./discovery-units.ts";
import type { HeardUnit, Stranger } from "./discovery-units.ts";
import { Formation } from "./formation.ts";
import type { FormationEffects, MembershipFact } from "./formation.ts";
import { idBytes, idText, NO_ID } from "./identity.ts";
import type { UnitIdentity } from "./identity.ts";

export const STARTUP_EVERY_MS = 1000;
export const STARTUP_MEMBER_EVERY_MS = 30_000;
export const STATION_EVERY_MS = 1000;
export const HEARTBEAT_EVERY_MS = 2000;
export const ENQUIRY_EVERY_MS = 30_000;
/** An answer to the same unit's startups no more often than this. */
const ANSWER_EVERY_MS = 900;
const PAGES_PER_TICK = 8;
/** How long a secret that does not fit is worth a sentence. */
const SECRET_TROUBLE_MS = 10_000;
/** A unit without a join secret says so every second; one that was silent so long is gone. */
const STRANGER_MS = 15_000;
/** A unit that was silent so long gets no more heartbeats and enquiries. */
const SILENT_MS = 60_000;

export interface DiscoveryOptions {
  identity: UnitIdentity;
  /** JoinKeys.autoconfig; null: no secret. */
  joinKey: Uint8Array | null;
  /** Rises at every start of the daemon, durably. */
  bootCounter: number;
  name: string;
  softwareVersion: string;
  featureLevel: number;
  joinOnly: boolean;
  spare: boolean;
  /** The cluster that removed this unit; null: none. */
  removedFrom: string | null;
  udpPort: number;
  channelPort: number;
  apiPort: number;
  /** Units that multicast does not reach. */
  peers: Where[];
}

/** What the unit is in its cluster, from the control state. */
export interface Membership extends MembershipFact {
  term: number;
  revision: number;
  /** The cluster's committed feature level. */
  featureLevel: number;
  /** Text; null: none. */
  groupAddress: string | null;
  /** Admitted units by id, as hex text. */
  units: ReadonlyMap<string, { number: number; role: keyof typeof wire.Role; pool: string | null }>;
}

/** What this unit says of itself when asked. */
export interface OwnReport {
  vitals(): Omit<messages.Heartbeat, "type" | "clusterId" | "term" | "revision">;
  storage(): { disks: messages.StoreDisk[]; slices: messages.StoreSlice[] };
}

export interface DiscoveryEffects extends FormationEffects {
  /** May fail unseen: everything is said again. */
  send(packet: Uint8Array, destination: Destination): void;
  /** Station: a unit's whole answer to an enquiry. */
  unitStorage(unitId: string, storage: UnitStorage): void;
  /** Station: a disk came, went, or fails. */
  unitStorageChanged(unitId: string, change: messages.StorageChanged): void;
  unitShutdown(unitId: string, shutdown: messages.UnitShutdown): void;
}

const CLUSTER_WORDS = [null, "virgin", "used", "yielding"] as const;

export class Discovery {
  readonly #world: Pick<World, "clock" | "random" | "seal">;
  readonly #options: DiscoveryOptions;
  readonly #report: OwnReport;
  readonly #effects: DiscoveryEffects;
  readonly #ownId: string;
  readonly #formation: Formation;
  readonly #units = new HeardUnits();
  readonly #rate = new RateGuard();
  readonly #replay = new ReplayGuard();
  readonly #dropped = new Map<PacketFault, number>();
  #links = new LinkTable([]);
  #membership: Membership | null = null;
  #registered: messages.Registered | null = null;
  /** The control station of our cluster, as last heard. */
  #station: { unitId: string; term: number; where: Where; atMs: number } | null = null;
  #sequence = 0;
  #isSilent = false;
  #enquiryNumber = 0;
  #pages: { page: messages.StorageInformation; to: Where }[] = [];
  #startupAtMs = 0;
  #stationAtMs = 0;
  #heartbeatAtMs = 0;
  #secretTroubleAtMs = Number.NEGATIVE_INFINITY;
  #formationSentence = "";
  #said = "";

  constructor(
    world: Pick<World, "clock" | "random" | "seal">,
    options: DiscoveryOptions,
    outside: { report: OwnReport; effects: DiscoveryEffects },
  ) {
    this.#world = world;
    this.#options = options;
    this.#report = outside.report;
    this.#effects = outside.effects;
    this.#ownId = idText(options.identity.unitId);
    const { effects } = outside;
    const mayFound = !options.joinOnly && !options.spare;
    const { removedFrom, featureLevel } = options;
    const hasSecret = options.joinKey !== null;
    const facts = { unitId: this.#ownId, hasSecret, mayFound, removedFrom, featureLevel };
    this.#formation = new Formation(world, facts, {
      found: () => effects.found(),
      join: (station) => effects.join(station),
      yieldTo: (other) => effects.yieldTo(other),
      askAbout: (other) => effects.askAbout(other),
      leave: () => effects.leave(),
      say: (sentence) => {
        this.#formationSentence = sentence;
        // A new stage is news for the others: do not let them wait for it.
        this.#startupAtMs = 0;
      },
    });
  }

  /** For the outcomes of found, join, yieldTo and leave. Membership goes by `entered` and so on. */
  get formation(): Omit<Formation, "entered" | "clusterChanged" | "left"> {
    return this.#formation;
  }
  /** Every proved unit that was heard, and every stranger; for the console. */
  get units(): HeardUnit[] {
    return this.#units.all();
  }
  get strangers(): Stranger[] {
    return this.#units.strangers(this.#world.clock.nowMs() - STRANGER_MS);
  }
  /** Packets that were dropped, by reason. */
  get dropped(): ReadonlyMap<PacketFault, number> {
    return this.#dropped;
  }
  /** The words of this unit, for its screen. */
  get words(): string {
    return wordsOf(this.#world, this.#options.identity.publicKey);
  }

  // What happens to this unit
  // -----------------------------------------------------------------------

  linksChanged(links: readonly Link[]): void {
    this.#links = new LinkTable(links);
    this.#startupAtMs = 0;
    this.#stationAtMs = 0;
  }

  /** The unit is in a cluster: founded, joined, or found on its own disks at the start. */
  entered(membership: Membership): void {
    this.#adopt(membership);
    this.#formation.entered(membership);
  }

  /** The control state changed, as far as this unit has seen it. */
  clusterChanged(membership: Membership): void {
    this.#adopt(membership);
    this.#formation.clusterChanged(membership);
  }

  /** The cluster is forgotten. */
  left(): void {
    this.#membership = null;
    this.#registered = null;
    this.#station = null;
    this.#pages = [];
    this.#formation.left();
  }

  /** A disk came, went, or fails. */
  storageChanged(change: Omit<messages.StorageChanged, "type">): void {
    if (this.#station === null || this.#membership === null) return;
    this.#sendTo(this.#station.where, { type: wire.MessageType.storageChanged, ...change });
  }

  /** Orderly end, or the last words of a dying unit: it sends nothing after them. */
  shuttingDown(options: {
    kind: wire.ShutdownKind;
    expectedReturnSeconds: number;
    reason: string;
  }): void {
    const type = wire.MessageType.unitShutdown;
    // Twice: there is no later sending that would make up for a lost one.
    for (let time = 0; time < 2; time++) {
      this.#sendToAll({ type, clusterId: this.#clusterId(), ...options });
    }
    this.#isSilent = true;
  }

  tick(): void {
    if (this.#isSilent) return;
    const now = this.#world.clock.nowMs();
    this.#formation.tick();
    this.#say(now);
    if (now >= this.#startupAtMs) this.#announce(now);
    if (this.#membership === null) return;
    this.#sendPages();
    if (this.#membership.isStation && now >= this.#stationAtMs) {
      this.#stationAtMs = now + STATION_EVERY_MS;
      this.#sendToAll(this.#stationIs(this.#membership));
    }
    if (now >= this.#heartbeatAtMs) this.#beat(now, this.#membership);
  }

  #adopt(membership: Membership): void {
    const wasStation = this.#membership?.isStation ?? false;
    const isNew = this.#membership?.clusterId !== membership.clusterId;
    this.#membership = membership;
    if (membership.isStation && (isNew || !wasStation)) this.#stationAtMs = 0;
    if (membership.isStation) this.#station = null;
  }

  // Packets in
  // --------------------------------------------------------------------------------------

  /** A datagram came in; `from.address` of link-local IPv6 has its zone. */
  packet(bytes: Uint8Array, from: Where): void {
    const now = this.#world.clock.nowMs();
    const sourceAddress = parseAddress(from.address);
    if (sourceAddress === null) return this.#drop("wrongSource", now);
    const source = formatAddress(sourceAddress);
    if (!this.#rate.admit(source, now)) return this.#drop("tooMany", now);
    const { identity, joinKey } = this.#options;
    const keys = { ...identity, joinKey };
    const packet = decodePacket(this.#world.seal, keys, bytes, {
      sourceAddress,
      sourcePort: from.port,
      isOurs: (address) => this.#links.isOurs(address),
    });
    if (typeof packet === "string") return this.#drop(packet, now);
    const unitId = idText(packet.unitId);
    // Units without a secret have their own place: their boot counter must not touch a proved
    // one's.
    const name = packet.proved ? unitId : `${unitId} unproved`;
    if (!this.#replay.accept(name, packet.bootCounter, packet.sequence)) {
      return this.#drop("replayed", now);
    }
    if (packet.proved) {
      this.#rate.proved(source, now);
      this.#act(packet, unitId, from, now);
    } else if (packet.message.type === wire.MessageType.unitStartup) {
      this.#meetStranger(packet, packet.message, from, now);
    }
  }

  #drop(fault: PacketFault, now: number): void {
    this.#dropped.set(fault, (this.#dropped.get(fault) ?? 0) + 1);
    if (fault === "noSecret" || fault === "notAuthentic") this.#secretTroubleAtMs = now;
  }

  #act(packet: Packet, unitId: string, from: Where, now: number): void {
    const unit = this.#units.heard(unitId, from, now);
    // A process that said goodbye does not come back; another start of the unit does.
    if (packet.bootCounter > unit.bootCounter) unit.shutdown = null;
    unit.bootCounter = packet.bootCounter;
    const { message } = packet;
    switch (message.type) {
      case wire.MessageType.unitStartup:
        return this.#heardStartup(unit, packet, message, now);
      case wire.MessageType.enquiry:
        return this.#heardEnquiry(unit, message);
      case wire.MessageType.storageInformation:
        return this.#heardStorage(unit, message);
      case wire.MessageType.registered:
        return this.#heardRegistered(message);
      case wire.MessageType.heartbeat:
        if (this.#isOurCluster(message.clusterId)) unit.heartbeat = message;
        return;
      case wire.MessageType.storageChanged:
        if (!this.#isAdmitted(unitId)) return;
        unit.askedAtMs = Number.NEGATIVE_INFINITY;
        return this.#effects.unitStorageChanged(unitId, message);
      case wire.MessageType.controlStationIs:
        return this.#heardStation(unit, packet, message, now);
      case wire.MessageType.unitShutdown:
        if (unit.shutdown !== null) return; // said twice, on every link
        unit.shutdown = message;
        this.#formation.heardShutdown(unitId);
        return this.#effects.unitShutdown(unitId, message);
    }
  }

  #heardStartup(unit: HeardUnit, packet: Packet, startup: messages.UnitStartup, now: number): void {
    if (!this.#isItsKey(packet, startup.publicKey)) return this.#drop("wrongUnit", now);
    unit.startup = startup;
    this.#formation.heardUnit(factOf(unit.unitId, startup));
    const own = this.#membership;
    if (own?.isStation !== true || now - unit.answeredAtMs < ANSWER_EVERY_MS) return;
    const clusterId = idText(startup.clusterId);
    if (clusterId !== NO_ID && clusterId !== own.clusterId) return;
    unit.answeredAtMs = now;
    this.#sendTo(unit.where, this.#stationIs(own));
    if (own.units.has(unit.unitId)) this.#sendTo(unit.where, this.#registeredFor(own, unit));
  }

  #heardStation(
    unit: HeardUnit,
    packet: Packet,
    station: messages.ControlStationIs,
    now: number,
  ): void {
    const isItself = sameBytes(station.stationUnitId, packet.unitId);
    if (!isItself || !this.#isItsKey(packet, station.publicKey)) {
      return this.#drop("wrongUnit", now);
    }
    const clusterId = idText(station.clusterId);
    const word = CLUSTER_WORDS[station.clusterState];
    if (word === null || word === undefined) return this.#drop("badData", now);
    if (clusterId === this.#membership?.clusterId) this.#follow(unit, station.term, now);
    this.#formation.heardStation({
      clusterId,
      clusterName: station.clusterName,
      clusterState: word,
      featureLevel: station.featureLevel,
      stationUnitId: unit.unitId,
      publicKey: station.publicKey,
      addresses: callingAddresses(unit.where, station.addresses),
      channelPort: station.channelPort,
      term: station.term,
    });
  }

  /** Two stations at once are harmless; we report to the one of the higher term. */
  #follow(unit: HeardUnit, term: number, now: number): void {
    if (this.#membership?.isStation === true) return;
    const known = this.#station;
    const isFresh = known !== null && now - known.atMs < 5 * STATION_EVERY_MS;
    if (isFresh && term < known.term) return;
    this.#station = { unitId: unit.unitId, term, where: unit.where, atMs: now };
  }

  #heardEnquiry(unit: HeardUnit, enquiry: messages.Enquiry): void {
    const own = this.#membership;
    // Only our own station may have us send pages.
    if (own === null || unit.unitId !== this.#station?.unitId) return;
    if ((enquiry.wanted & wire.Wanted.storage) !== 0) {
      const storage = { revision: own.revision, ...this.#report.storage() };
      const pages = storagePages(enquiry.enquiryNumber, storage);
      this.#pages = pages.map((page) => ({ page, to: unit.where }));
    }
    if ((enquiry.wanted & wire.Wanted.heartbeat) !== 0) {
      this.#sendTo(unit.where, this.#heartbeat(own));
    }
    if ((enquiry.wanted & wire.Wanted.startup) !== 0) this.#sendTo(unit.where, this.#startup());
  }

  #heardStorage(unit: HeardUnit, page: messages.StorageInformation): void {
    if (!this.#isAdmitted(unit.unitId)) return;
    const storage = unit.assembly.add(page);
    if (storage === null) return;
    unit.storage = storage;
    this.#effects.unitStorage(unit.unitId, storage);
  }

  #heardRegistered(registered: messages.Registered): void {
    if (this.#isOurCluster(registered.clusterId)) this.#registered = registered;
  }

  #meetStranger(packet: Packet, startup: messages.UnitStartup, where: Where, now: number): void {
    const publicKey = packet.publicKey;
    if (publicKey === null || !sameBytes(publicKey, startup.publicKey)) {
      return this.#drop("wrongUnit", now);
    }
    this.#units.stranger({
      unitId: idText(packet.unitId),
      publicKey,
      name: startup.name,
      softwareVersion: startup.softwareVersion,
      where,
      channelPort: startup.channelPort,
      heardAtMs: now,
      words: wordsOf(this.#world, publicKey),
    });
  }

  #isItsKey(packet: Packet, publicKey: Uint8Array): boolean {
    return sameBytes(unitIdOf(this.#world.seal, publicKey), packet.unitId);
  }
  #isOurCluster(clusterId: Uint8Array): boolean {
    return idText(clusterId) === this.#membership?.clusterId;
  }
  /** We are the station, and it is one of ours. */
  #isAdmitted(unitId: string): boolean {
    return this.#membership?.isStation === true && this.#membership.units.has(unitId);
  }

  // Packets out
  // -------------------------------------------------------------------------------------

  #announce(now: number): void {
    const everyMs = this.#membership === null ? STARTUP_EVERY_MS : STARTUP_MEMBER_EVERY_MS;
    this.#startupAtMs = now + everyMs * (0.9 + 0.2 * this.#world.random.fraction());
    this.#sendToAll(this.#startup());
  }

  /** Heartbeats both ways, and the station's enquiries. */
  #beat(now: number, own: Membership): void {
    this.#heartbeatAtMs = now + HEARTBEAT_EVERY_MS;
    if (!own.isStation) {
      if (this.#station !== null) this.#sendTo(this.#station.where, this.#heartbeat(own));
      return;
    }
    for (const unit of this.#units.all()) {
      if (!own.units.has(unit.unitId) || now - unit.heardAtMs > SILENT_MS) continue;
      this.#sendTo(unit.where, this.#heartbeat(own));
      if (now - unit.askedAtMs < ENQUIRY_EVERY_MS) continue;
      unit.askedAtMs = now;
      const type = wire.MessageType.enquiry;
      const enquiryNumber = ++this.#enquiryNumber;
      this.#sendTo(unit.where, { type, enquiryNumber, wanted: wire.WANTED_ALL, term: own.term });
    }
  }

  #sendPages(): void {
    for (const { page, to } of this.#pages.splice(0, PAGES_PER_TICK)) this.#sendTo(to, page);
  }

  #clusterId(): Uint8Array {
    return idBytes(this.#membership?.clusterId ?? NO_ID);
  }

  #startup(): messages.UnitStartup {
    const { name, softwareVersion, featureLevel, channelPort, spare } = this.#options;
    // Nobody is to wait for one that stays out.
    const joinOnly = this.#options.joinOnly || this.#options.removedFrom !== null;
    const state = this.#membership?.clusterState ?? null;
    return {
      type: wire.MessageType.unitStartup,
      name,
      softwareVersion,
      publicKey: this.#options.identity.publicKey,
      clusterId: this.#clusterId(),
      clusterState: CLUSTER_WORDS.indexOf(state),
      stage: STAGE_WORDS.indexOf(this.#formation.stage) as wire.Stage,
      joinOnly,
      spare,
      featureLevel,
      channelPort,
      listeningMs: this.#formation.listeningMs,
      ...this.#links.cards(),
    };
  }

  #stationIs(own: Membership): messages.ControlStationIs {
    const group = own.groupAddress === null ? null : parseAddress(own.groupAddress);
    return {
      type: wire.MessageType.controlStationIs,
      clusterId: this.#clusterId(),
      clusterName: own.clusterName,
      clusterState: CLUSTER_WORDS.indexOf(own.clusterState),
      stationUnitId: this.#options.identity.unitId,
      publicKey: this.#options.identity.publicKey,
      groupAddress: group ?? NO_ADDRESS,
      term: own.term,
      featureLevel: own.featureLevel,
      channelPort: this.#options.channelPort,
      apiPort: this.#options.apiPort,
      unitCount: own.units.size,
      addresses: this.#links.callable(),
    };
  }

  #registeredFor(own: Membership, unit: HeardUnit): messages.Registered {
    const entry = own.units.get(unit.unitId);
    const source = this.#links.towards(unit.where)?.source ?? null;
    return {
      type: wire.MessageType.registered,
      clusterId: this.#clusterId(),
      clusterName: own.clusterName,
      pool: entry?.pool ?? "",
      role: wire.Role[entry?.role ?? "member"],
      unitNumber: entry?.number ?? 0,
      term: own.term,
      apiAddress: (source === null ? null : parseAddress(source)) ?? NO_ADDRESS,
      apiPort: this.#options.apiPort,
      channelPort: this.#options.channelPort,
      featureLevel: own.featureLevel,
    };
  }

  #heartbeat(own: Membership): messages.Heartbeat {
    const { term, revision } = own;
    const type = wire.MessageType.heartbeat;
    return { type, clusterId: this.#clusterId(), term, revision, ...this.#report.vitals() };
  }

  #sendToAll(message: messages.Message): void {
    for (const destination of this.#links.everywhere(this.#options.udpPort)) {
      this.#send(message, destination);
    }
    for (const peer of this.#options.peers) this.#sendTo(peer, message);
  }

  #sendTo(where: Where, message: messages.Message): void {
    const destination = this.#links.towards(where);
    if (destination !== null) this.#send(message, destination);
  }

  #send(message: messages.Message, destination: Destination): void {
    if (this.#isSilent) return;
    const { identity, joinKey, bootCounter, udpPort } = this.#options;
    const sourceAddress = parseAddress(destination.source);
    const destinationAddress = parseAddress(destination.address);
    if (sourceAddress === null || destinationAddress === null) return;
    const envelope = {
      unitId: identity.unitId,
      bootCounter,
      sequence: ++this.#sequence,
      sourceAddress,
      destinationAddress,
      sourcePort: udpPort,
      destinationPort: destination.port,
    };
    const keys = { ...identity, joinKey };
    const packet = encodePacket(this.#world.seal, keys, envelope, message);
    this.#effects.send(packet, destination);
  }

  // Sentences
  // ---------------------------------------------------------------------------------------

  #say(now: number): void {
    const sentence = [this.#formationSentence, ...this.#additions(now)].join(" ");
    if (sentence === this.#said) return;
    this.#said = sentence;
    this.#effects.say(sentence);
  }

  #additions(now: number): string[] {
    const isTrouble = now - this.#secretTroubleAtMs < SECRET_TROUBLE_MS;
    if (this.#options.joinKey === null) {
      const near = isTrouble ? ["Units with a join secret are near."] : [];
      return [`Compare its words on console and screen: ${this.words}.`, ...near];
    }
    const additions: string[] = [];
    const registered = this.#membership === null ? null : this.#registered;
    if (registered?.role === wire.Role.spare) {
      additions.push("It is a spare.");
    }
    if (isTrouble) {
      additions.push("Units with another join secret are near: compare the secrets.");
    }
    return additions;
  }
}

/** What console and screen show of a unit, so that a person can tell it from others. */
export function wordsOf(world: Pick<World, "seal">, publicKey: Uint8Array): string {
  return comparingWords(world.seal, publicKey).join(" ");
}
