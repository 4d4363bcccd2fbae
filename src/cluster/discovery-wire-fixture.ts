// SPDX-License-Identifier: Apache-2.0
//
// One in-memory wire with machines on it, for the tests of discovery and formation: virtual time,
// seeded loss, delay and duplication, cuts. The protocol is the real one to the byte, packets and
// channel handshakes alike; only what lies behind a cluster (etcd, admission) is a record in this
// file with the one property that matters here: it changes by compare-and-swap.

import { assert } from "#base/assert.ts";
import { Prng } from "#base/prng.ts";
import type { Seal } from "#base/world.ts";
import { GROUP_IPV4, GROUP_IPV6, Health } from "#protocol/autoconfig/autoconfig.wire.ts";
import { DiskState, SliceState } from "#protocol/autoconfig/autoconfig.wire.ts";
import type { StorageChanged, UnitShutdown } from "#protocol/autoconfig/message-types.ts";
import type { UnitStorage } from "#protocol/autoconfig/storage-pages.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState } from "#protocol/peer-channel/identity.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import type { Refusal } from "#protocol/peer-channel/refusal.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import { Discovery } from "./discovery.ts";
import type { DiscoveryEffects, Membership } from "./discovery.ts";
import type { Destination, Link, Where } from "./discovery-links.ts";
import type { StationFact } from "./formation.ts";
import { idBytes, idText, makeIdentity, NO_ID } from "./identity.ts";
import type { UnitIdentity } from "./identity.ts";

const UDP_PORT = 10811;
const TICK_MS = 100;

/** What a control store would hold. */
export interface ClusterModel {
  id: string;
  name: string;
  state: "virgin" | "used" | "yielding";
  station: Machine | null;
  members: Map<string, Machine>;
  /** Clusters that gave way, as units said that came from there. */
  gaveWay: Set<string>;
  revision: number;
}

export interface WireOptions {
  seed: number;
  seal: Seal;
  lossShare?: number;
  duplicateShare?: number;
}

export interface MachineOptions {
  secret?: string | null;
  joinOnly?: boolean;
  spare?: boolean;
  name?: string;
  /** Founding hangs: the machine died in the middle. */
  neverFounds?: boolean;
  disks?: number;
}

interface Sent {
  bytes: Uint8Array;
  from: Machine;
  destination: Destination;
}

export class Wire {
  readonly prng: Prng;
  readonly seal: Seal;
  readonly machines: Machine[] = [];
  readonly clusters: ClusterModel[] = [];
  /** Every packet sent, for replays. */
  readonly recorded: Sent[] = [];
  readonly #lossShare: number;
  readonly #duplicateShare: number;
  readonly #events: { atMs: number; order: number; act: () => void }[] = [];
  #order = 0;
  nowMs = 0;

  constructor(options: WireOptions) {
    this.prng = new Prng(options.seed);
    this.seal = options.seal;
    this.#lossShare = options.lossShare ?? 0;
    this.#duplicateShare = options.duplicateShare ?? 0;
  }

  after(delayMs: number, act: () => void): void {
    this.#events.push({ atMs: this.nowMs + delayMs, order: this.#order++, act });
  }

  run(forMs: number): void {
    const endMs = this.nowMs + forMs;
    for (;;) {
      this.#events.sort((one, other) => one.atMs - other.atMs || one.order - other.order);
      const next = this.#events[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#events.shift();
      this.nowMs = next.atMs;
      next.act();
    }
    this.nowMs = endMs;
  }

  /** Milliseconds until `done`, or null when it did not come true within `atMostMs`. */
  until(done: () => boolean, atMostMs: number): number | null {
    const startMs = this.nowMs;
    while (!done()) {
      if (this.nowMs - startMs >= atMostMs) return null;
      this.run(50);
    }
    return this.nowMs - startMs;
  }

  add(options: MachineOptions = {}): Machine {
    const machine = new Machine(this, this.machines.length + 1, options);
    this.machines.push(machine);
    return machine;
  }

  /** Clusters that still have somebody. */
  get alive(): ClusterModel[] {
    return this.clusters.filter((cluster) => cluster.members.size > 0);
  }
  allIn(cluster: ClusterModel | undefined, machines: readonly Machine[] = this.machines): boolean {
    return cluster !== undefined && machines.every((machine) => machine.cluster === cluster);
  }
  oneCluster(): boolean {
    return this.alive.length === 1 && this.allIn(this.alive[0]);
  }

  send(sent: Sent): void {
    this.recorded.push(sent);
    const copies = this.prng.chance(this.#duplicateShare) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) this.#deliver(sent);
  }

  #deliver({ bytes, from, destination }: Sent): void {
    const address = destination.address.split("%")[0] as string;
    const isGroup = address === GROUP_IPV4 || address === GROUP_IPV6;
    for (const machine of this.machines) {
      const isFor = isGroup ? machine !== from : machine.addresses.includes(address);
      if (!isFor || !this.connected(from, machine)) continue;
      if (this.prng.chance(this.#lossShare)) continue;
      const copy = bytes.slice();
      const zone = destination.source.startsWith("fe80") ? "%eth0" : "";
      const source = { address: destination.source + zone, port: UDP_PORT };
      this.after(1 + this.prng.below(5), () => machine.receive(copy, source));
    }
  }

  connected(one: Machine, other: Machine): boolean {
    return one.isOn && other.isOn && one.side === other.side;
  }
}

export class Machine implements DiscoveryEffects {
  readonly wire: Wire;
  readonly number: number;
  readonly options: MachineOptions;
  readonly identity: UnitIdentity;
  readonly addresses: string[];
  readonly said: string[] = [];
  readonly storages = new Map<string, UnitStorage>();
  readonly storageChanges: StorageChanged[] = [];
  readonly shutdowns: UnitShutdown[] = [];
  discovery: Discovery;
  cluster: ClusterModel | null = null;
  unitNumber = 0;
  /** Machines on one side of a cut hear each other. */
  side = 0;
  isOn = true;
  isHoldingData = false;
  readonly left: string[] = [];
  #bootCounter = 1;
  readonly #secret: string | null;

  constructor(wire: Wire, number: number, options: MachineOptions) {
    this.wire = wire;
    this.number = number;
    this.options = options;
    this.identity = makeIdentity(wire.seal);
    this.#secret = options.secret === undefined ? "the wire's join secret" : options.secret;
    this.addresses = [`10.0.0.${number}`, `fe80::${number.toString(16)}`];
    this.discovery = this.#start();
    const tick = () => {
      if (this.isOn) this.discovery.tick();
      wire.after(TICK_MS, tick);
    };
    wire.after(wire.prng.below(TICK_MS), tick);
  }

  get id(): string {
    return idText(this.identity.unitId);
  }
  get sentence(): string {
    return this.said.at(-1) ?? "";
  }

  #start(): Discovery {
    const { wire } = this;
    const clock = { nowMs: () => wire.nowMs + 1e6 * this.number, wallMs: () => 0 };
    const random = { fill: () => assert(false, "unused"), fraction: () => wire.prng.fraction() };
    const joinKey = this.#secret === null ? null : joinKeys(wire.seal, this.#secret).autoconfig;
    const { joinOnly, spare, name } = this.options;
    const options = {
      identity: this.identity,
      joinKey,
      bootCounter: this.#bootCounter,
      name: name ?? `box-${this.number}`,
      softwareVersion: "test",
      featureLevel: 1,
      joinOnly: joinOnly ?? false,
      spare: spare ?? false,
      removedFrom: null,
      udpPort: UDP_PORT,
      channelPort: 10812,
      apiPort: 443,
      peers: [],
    };
    const report = { vitals: () => this.#vitals(), storage: () => this.#storage() };
    const discovery = new Discovery({ clock, random, seal: wire.seal }, options, {
      report,
      effects: this,
    });
    discovery.linksChanged([this.#link()]);
    return discovery;
  }

  #link(): Link {
    const [four, six] = this.addresses as [string, string];
    return {
      name: "eth0",
      hardwareAddress: new Uint8Array([2, 0, 0, 0, 0, this.number]),
      mtuBytes: 1500,
      speedMegabits: 1000,
      addresses: [
        { address: four, prefixBits: 24, broadcast: null },
        { address: six, prefixBits: 64, broadcast: null },
      ],
    };
  }

  #vitals() {
    const sizes = { sizeBytes: 1000 * this.number, freeBytes: 500 };
    return { ...sizes, uptimeSeconds: 1, loadPermille: 10, health: Health.good };
  }

  #storage() {
    const count = this.options.disks ?? 2;
    const disks = Array.from({ length: count }, (_, index) => ({
      diskNumber: index + 1,
      diskId: new Uint8Array(16).fill(index),
      state: DiskState.claimed,
      health: Health.good,
      sizeBytes: 1000,
      usedBytes: 500,
      freeBytes: 500,
      path: `/dev/disk-${index}`,
    }));
    const place = { diskNumber: 1, volume: 1, index: 0, mappedBytes: 9, state: SliceState.head };
    return { disks, slices: [{ slice: this.number, ...place }] };
  }

  receive(bytes: Uint8Array, from: Where): void {
    if (this.isOn) this.discovery.packet(bytes, from);
  }

  powerOff(): void {
    this.isOn = false;
  }
  /** A new process on the same state directory. */
  restart(): void {
    this.isOn = true;
    this.#bootCounter++;
    this.discovery = this.#start();
    if (this.cluster !== null) this.discovery.entered(this.membership(this.cluster));
  }

  // Effects
  // -----------------------------------------------------------------------------------------

  send(packet: Uint8Array, destination: Destination): void {
    assert(this.addresses.includes(destination.source), "it sends from an address of its own");
    this.wire.send({ bytes: packet, from: this, destination });
  }
  say(sentence: string): void {
    this.said.push(sentence);
  }
  unitStorage(unitId: string, storage: UnitStorage): void {
    this.storages.set(unitId, storage);
  }
  unitStorageChanged(_unitId: string, change: StorageChanged): void {
    this.storageChanges.push(change);
  }
  unitShutdown(_unitId: string, shutdown: UnitShutdown): void {
    this.shutdowns.push(shutdown);
  }

  found(): void {
    const { wire } = this;
    if (this.options.neverFounds === true) return;
    this.#later(300, 600, () => {
      const id = idText(wire.seal.x25519KeyPair().publicKey.subarray(0, 16));
      const name = `cluster-${wire.clusters.length + 1}`;
      const members = new Map([[this.id, this]]);
      const gaveWay = new Set(this.left);
      const made = { id, name, state: "virgin", station: this, members, gaveWay } as const;
      const cluster: ClusterModel = { ...made, revision: 1 };
      wire.clusters.push(cluster);
      this.#enter(cluster);
    });
  }

  join(station: StationFact): void {
    this.#later(20, 100, () => {
      const { reached, reason, machine } = this.#call(Purpose.join, station);
      const cluster = machine?.cluster ?? null;
      if (cluster === null || cluster.state === "yielding") {
        return this.discovery.formation.joinFailed({ reached, reason });
      }
      cluster.members.set(this.id, this);
      for (const one of this.left) cluster.gaveWay.add(one);
      this.#enter(cluster);
      changed(cluster);
    });
  }

  yieldTo(other: StationFact): void {
    this.#later(20, 100, () => {
      const cluster = this.cluster;
      if (cluster === null) return;
      const { machine, reason } = this.#call(Purpose.meet, other);
      const isProved = machine !== null && machine.cluster?.id === other.clusterId;
      const stays = machine?.cluster?.state === "yielding";
      if (!isProved || stays || cluster.state !== "virgin") {
        return this.discovery.formation.yieldFailed(reason);
      }
      cluster.state = "yielding";
      changed(cluster);
    });
  }

  askAbout(other: StationFact): void {
    this.#later(20, 100, () => {
      const { machine } = this.#call(Purpose.meet, other);
      const gaveWay = machine?.cluster?.gaveWay.has(this.cluster?.id ?? "") === true;
      this.discovery.formation.toldWhetherItGaveWay(gaveWay);
    });
  }

  leave(): void {
    if (this.isHoldingData) return this.discovery.formation.leaveRefused("a disk holds data");
    this.#later(50, 150, () => {
      this.cluster?.members.delete(this.id);
      if (this.cluster !== null) this.left.push(this.cluster.id);
      this.cluster = null;
      this.unitNumber = 0;
      this.discovery.left();
    });
  }

  // Clusters
  // ----------------------------------------------------------------------------------------

  #later(low: number, high: number, act: () => void): void {
    this.wire.after(this.wire.prng.between(low, high), () => {
      if (this.isOn) act();
    });
  }

  #enter(cluster: ClusterModel): void {
    this.cluster = cluster;
    this.unitNumber = [...cluster.members.keys()].indexOf(this.id) + 1;
    this.discovery.entered(this.membership(cluster));
  }

  membership(cluster: ClusterModel): Membership {
    const units: Membership["units"] = new Map(
      [...cluster.members.values()].map((machine) => {
        const role = machine.options.spare === true ? "spare" : "member";
        const pool = role === "spare" ? null : "pool";
        return [machine.id, { number: machine.unitNumber, role, pool }] as const;
      }),
    );
    return {
      clusterId: cluster.id,
      clusterName: cluster.name,
      clusterState: cluster.state,
      unitNumber: this.unitNumber,
      isStation: cluster.station === this,
      isVoter: this.unitNumber <= 3,
      term: 1,
      revision: cluster.revision,
      featureLevel: 1,
      groupAddress: null,
      units,
    };
  }

  /** A real handshake with whoever has the address, over a wire that only cuts can harm. */
  #call(
    purpose: Purpose,
    fact: StationFact,
  ): { machine: Machine | null; reached: boolean; reason: string } {
    const away = { machine: null, reached: false, reason: "no answer" };
    const addresses = fact.addresses.map((address) => address.split("%")[0] as string);
    const machine = this.wire.machines.find((one) =>
      one.addresses.some((address) => addresses.includes(address)),
    );
    if (machine === undefined || !this.wire.connected(this, machine)) return away;
    const expectUnitId = idBytes(fact.stationUnitId);
    const [refusal, isOpen] = handshake(this.wire, this, machine, { purpose, expectUnitId });
    if (isOpen) return { machine, reached: true, reason: "the cluster yields" };
    return { ...away, reached: refusal?.proved ?? false, reason: refusal?.sentence ?? "" };
  }

  channelOptions() {
    const state = this.cluster?.state;
    const own: OwnIdentity = {
      ...this.identity,
      clusterId: idBytes(this.cluster?.id ?? NO_ID),
      clusterState: state === undefined ? ClusterState.none : ClusterState[state],
      unitNumber: this.unitNumber,
      featureLevel: 1,
    };
    const preSharedKey = joinKeys(this.wire.seal, this.#secret ?? "nobody's join secret").link;
    return { own, preSharedKey, offers: [Purpose.join, Purpose.meet] };
  }
}

/** Everybody in the cluster sees the new record soon. */
export function changed(cluster: ClusterModel): void {
  cluster.revision++;
  for (const machine of cluster.members.values()) {
    const { wire } = machine;
    wire.after(wire.prng.between(5, 50), () => {
      if (!machine.isOn || machine.cluster !== cluster) return;
      machine.discovery.clusterChanged(machine.membership(cluster));
    });
  }
}

function handshake(
  wire: Wire,
  caller: Machine,
  called: Machine,
  call: { purpose: Purpose; expectUnitId: Uint8Array },
): [Refusal | null, boolean] {
  const clock = { nowMs: () => wire.nowMs, wallMs: () => 0 };
  const toCalled: Uint8Array[] = [];
  const toCaller: Uint8Array[] = [];
  let refusal: Refusal | null = null;
  const effects = (out: Uint8Array[], isCaller: boolean) => ({
    send: (bytes: Uint8Array) => void out.push(bytes),
    authenticate: (_peer: PeerIdentity) => null,
    open: () => undefined,
    plain: () => undefined,
    refused: (why: Refusal) => {
      if (isCaller) refusal = why;
    },
  });
  const world = { clock, seal: wire.seal };
  const { purpose, expectUnitId } = call;
  const callerOptions = { ...caller.channelOptions(), call: purpose, expectUnitId };
  const left = new PeerChannel(world, callerOptions, effects(toCalled, true));
  const calledOptions = { ...called.channelOptions(), call: null };
  const right = new PeerChannel(world, calledOptions, effects(toCaller, false));
  while (toCalled.length + toCaller.length > 0) {
    for (const bytes of toCalled.splice(0)) right.receive(bytes);
    for (const bytes of toCaller.splice(0)) left.receive(bytes);
  }
  return [refusal, left.isOpen && right.isOpen];
}
