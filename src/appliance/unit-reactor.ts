// SPDX-License-Identifier: Apache-2.0
//
// What runs in a reactor's Worker: ring, disks and slices, and in that of a unit's first reactor
// its links and listeners, told what to do by the control thread (reactor-messages.ts). Everything
// here is a callback on one thread. What several reactors of a unit have with each other is the
// mesh's (reactor-mesh.ts), an orderly stop orderly-end.ts's.

import type { OperationTarget } from "#base/operation.ts";
import type { DiskNumber, SliceRecord, UnitNumber, VolumeNumber } from "#base/record.ts";
import { HOST_ASKED_EVERY_MS } from "#base/limits.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { World } from "#base/world.ts";
import type { ReactorEnd } from "#machine/control-channel.ts";
import { Listener, type StreamOptions, connect } from "#machine/listener.ts";
import type { Reactor } from "#machine/reactor.ts";
import { closeDescriptor } from "#machine/socket-pair.ts";
import { receiveIdentity } from "#machine/relay-identity.ts";
import { socketToRelay } from "#machine/relay-socket.ts";
import { RingSocket } from "#machine/stream-socket.ts";
import { ClusterState, unitIdOf } from "#protocol/peer-channel/identity.ts";
import { DataPlane } from "./data-plane.ts";
import type { ProposeDone } from "./data-plane.ts";
import { DrillProbes } from "./drill-probes.ts";
import { HeldDisks, describe } from "./held-disks.ts";
import type { HeldDisk } from "./held-disks.ts";
import type { Secured } from "#protocol/nbd/session.ts";
import { NbdPortal } from "./nbd-portal.ts";
import type { PortalSiblings } from "./nbd-portal.ts";
import { OrderlyEnd } from "./orderly-end.ts";
import { PeerLinks } from "./peer-links.ts";
import { DOOR, ReactorMesh, reactorOf, siblingNode } from "./reactor-mesh.ts";
import type { SiblingNote } from "./reactor-mesh.ts";
import type {
  BlocksTold,
  FromReactor,
  ReactorReport,
  TakeoverTold,
  ToReactor,
} from "./reactor-messages.ts";
import type { SliceHappening, Takeover } from "./slice-happenings.ts";
import { FEATURE_LEVEL } from "./version.ts";

/** Between reports while something changes, and while nothing does, ms. */
const REPORT_BUSY_MS = 500;
const REPORT_IDLE_MS = 5000;
/** Buffers taken between two ticks up to which nothing counts as under way. */
const QUIET_ALLOCATIONS = 16;
/** A peer whose host is gone is noticed by TCP. */
const PEERS = { aliveWithinSeconds: 3 };
/**
 * One that takes nothing of what it asked for, and so says no word of itself, may stay a minute.
 */
const HOSTS = { aliveWithinSeconds: 60, askedEverySeconds: HOST_ASKED_EVERY_MS / 1000 };

type Message<K extends ToReactor["kind"]> = Extract<ToReactor, { kind: K }>;

/** Which of its unit's reactors it is, and what it shares with each that was there before. */
export interface ReactorPlace {
  reactor: number;
  rings: ReadonlyMap<number, SharedArrayBuffer>;
}

const ALONE: ReactorPlace = { reactor: DOOR, rings: new Map() };

export class UnitReactor {
  readonly #world: World;
  readonly #reactor: Reactor;
  readonly #channel: ReactorEnd;
  readonly #disks: HeldDisks;
  readonly #listeners: Listener[] = [];
  readonly #proposals = new Map<number, ProposeDone>();
  /** Not told yet. */
  readonly #blocks = new Map<string, BlocksTold>();
  readonly #takeovers = new Map<string, TakeoverTold>();
  readonly #early: ToReactor[] = [];
  readonly #reactorNumber: number;
  readonly #mesh: ReactorMesh;
  readonly #end: OrderlyEnd;
  readonly #probes: DrillProbes;
  #plane: DataPlane | null = null;
  /** The cluster of the plane. */
  #clusterId = "";
  #links: PeerLinks | null = null;
  #portal: NbdPortal | null = null;
  #proposalId = 0;
  #changed = true;
  #allocations = 0;
  #reportedMs = Number.NEGATIVE_INFINITY;
  #countedMs = 0;
  /** The unit's, once it has joined. */
  #unit: UnitNumber = 0;

  constructor(world: World, reactor: Reactor, channel: ReactorEnd, place: ReactorPlace = ALONE) {
    this.#world = world;
    this.#reactor = reactor;
    this.#channel = channel;
    this.#reactorNumber = place.reactor;
    this.#mesh = this.#makeMesh(place);
    this.#end = this.#makeEnd();
    this.#probes = new DrillProbes(reactor, (facts) => this.#post({ kind: "probed", facts }));
    this.#disks = new HeldDisks(world, reactor, {
      opened: (held) => {
        this.#post({ kind: "diskOpened", disk: describe(held) });
        if (held.store.number !== 0) this.#ready(held);
      },
      refused: (path, sentence, ofCluster) =>
        this.#post({ kind: "diskRefused", path, sentence, ofCluster }),
      failed: (held) => this.#diskFailed(held),
    });
    channel.onMessage = (message) => this.#take(message as ToReactor);
    channel.onControlSilent = () => this.#controlSilent();
    reactor.onTick((nowMs) => this.#tick(nowMs));
  }

  #post(message: FromReactor): void {
    // A full channel means a control thread that does not turn; it is accused by its silence.
    if (!this.#channel.post(message)) this.#changed = true;
  }

  #take(message: ToReactor): void {
    switch (message.kind) {
      case "start":
        return this.#start(message);
      case "sibling":
        return this.#addSibling(message.reactor, message.ring);
      case "openDisk":
        return this.#disks.open(message);
      case "numberDisk":
        return this.#numberDisk(message.uuid, message.number);
      case "closeDisk":
        return this.#disks.close(message.uuid, () => {});
      case "dropDisk":
        return this.#dropDisk(message.uuid, message.reason);
      case "join":
        return this.#join(message);
      case "stop":
        return this.#end.begin();
      default:
        this.#takeClusterMessage(message);
    }
  }

  /** Messages that need a data plane; kept until there is one. */
  #takeClusterMessage(message: ToReactor): void {
    const plane = this.#plane;
    if (plane === null) {
      this.#early.push(message);
      return;
    }
    this.#changed = true;
    switch (message.kind) {
      case "peers":
        return this.#links?.setPeers(message.peers);
      case "records":
        for (const record of message.records) plane.recordChanged(record);
        return;
      case "sliceGone":
        return plane.sliceRemoved(message.slice);
      case "places":
        for (const { disk, unit, reactor } of message.places) {
          plane.placeDisk(disk, this.#nodeOf(unit, reactor));
        }
        return;
      case "tellHeld": {
        const { disk, from } = message;
        const { records, next } = plane.heldRecords(disk, from) ?? { records: null, next: null };
        return this.#post({ kind: "held", disk, from, records, next });
      }
      case "scrubPace":
        return plane.setScrubPace(message.pace);
      case "scrub":
        plane.startScrub(message.disk, { urgent: message.urgent });
        return;
      case "plans": {
        const { leaving, maintained } = message;
        return plane.setPlans({ leaving: new Set(leaving), maintained: new Set(maintained) });
      }
      case "hurry":
        return plane.setHurried(message.isHurried);
      case "silence":
        return plane.silence(message.slice, message.forMs);
      case "probe":
        return this.#takeProbe(plane, message);
      case "volume":
        plane.volumeChanged(message.volume);
        this.#portal?.setVolume(message.volume);
        return;
      case "volumeGone":
        plane.volumeRemoved(message.volume);
        this.#portal?.removeVolume(message.volume);
        return;
      case "host":
        this.#portal?.setHost(message.host);
        return;
      case "tls":
        if (this.#portal !== null) this.#portal.hasTls = message.isThere;
        return;
      case "hostGone":
        this.#portal?.removeHost(message.host);
        return;
      case "proposalEnded": {
        const done = this.#proposals.get(message.id);
        this.#proposals.delete(message.id);
        done?.(message.outcome, message.current);
        return;
      }
      default:
        this.#world.log.write("error", "an unknown message", { kind: message.kind });
    }
  }

  #start(message: Message<"start">): void {
    this.#disks.memoryDirectory = message.memoryDirectory;
    try {
      this.#portal = new NbdPortal(this.#reactor.memory, this.#world.log, {
        creditBytes: this.#creditBytes,
        defer: (act) => this.#reactor.defer(act),
        turnMs: () => this.#reactor.turnMs,
        changed: () => {
          this.#changed = true;
        },
        secure: (socket, done) => this.#secure(socket, done),
        siblings: this.#portalSiblings(),
        target: (volume) => this.#lateTarget((plane) => plane.volume(volume)),
        keptCopy: (volume, number) => this.#lateTarget((plane) => plane.keptCopy(volume, number)),
      });
      this.#portal.hasTls = message.tls;
      const accept = (socket: StreamSocket) => this.#portal?.accepted(socket);
      const nbdPort = this.#listen(message.nbd, HOSTS, accept);
      const peerPort = this.#listen(message.peer, PEERS, (socket) => {
        if (this.#links !== null) return this.#links.accepted(socket);
        socket.onBytes = (_offset, length) => length;
        socket.close(); // in no cluster yet
      });
      if (message.nbdUnixPath !== null) {
        const endpoint = { path: message.nbdUnixPath };
        this.#listeners.push(new Listener(this.#reactor, endpoint, {}, accept));
      }
      this.#post({ kind: "started", nbdPort, peerPort });
    } catch (cause) {
      this.#post({ kind: "startFailed", sentence: sentenceOf(cause) });
    }
  }

  /** Joining makes the plane, once; looked up again by every request it would cost more. */
  #lateTarget(of: (plane: DataPlane) => OperationTarget): OperationTarget {
    let target: OperationTarget | null = null;
    return {
      submit: (operation) => {
        target ??= this.#plane === null ? null : of(this.#plane);
        if (target === null) operation.complete(Status.notFound);
        else target.submit(operation);
      },
    };
  }

  /**
   * Hands the connection to the TLS relay (docs/decisions/0020) and goes on with its plain side.
   */
  #secure(socket: StreamSocket, done: Secured): void {
    const { peerAddress, peerPort } = socket;
    socket.detach((encrypted) => {
      if (encrypted === null) return done(null, null);
      const plain = socketToRelay(this.#reactor, { address: peerAddress, port: peerPort });
      if (plain === null) {
        closeDescriptor(encrypted);
        return done(null, null);
      }
      const { socket: own, other } = plain;
      const message = { kind: "secure", encrypted, plain: other, peer: peerAddress } as const;
      if (!this.#channel.post(message)) {
        // A control thread that does not turn: nobody else would close them.
        closeDescriptor(encrypted);
        closeDescriptor(other);
      }
      receiveIdentity(this.#reactor.memory, own, done);
    });
  }

  /**
   * Listens on every endpoint with one port: a port that was free for the first serves the others.
   */
  #listen(
    endpoints: readonly { address: string; port: number }[],
    options: StreamOptions,
    accept: (socket: StreamSocket) => void,
  ): number {
    let port = 0;
    for (const endpoint of endpoints) {
      const wanted = { address: endpoint.address, port: port === 0 ? endpoint.port : port };
      const listener = new Listener(this.#reactor, wanted, options, accept);
      this.#listeners.push(listener);
      port = listener.port;
    }
    return port;
  }

  // Disks.

  #ready(held: HeldDisk): void {
    // A disk of a cluster that was left has another's number until it is formatted anew.
    if (held.ready || this.#plane === null || held.store.clusterId !== this.#clusterId) return;
    held.ready = true;
    this.#changed = true;
    this.#plane.addDisk(held.store);
    this.#post({ kind: "diskReady", uuid: held.store.uuid, number: held.store.number });
  }

  #diskFailed(held: HeldDisk): void {
    this.#changed = true;
    const sentence = held.area.failure ?? "an I/O error";
    this.#post({ kind: "diskFailed", uuid: held.store.uuid, sentence });
  }

  #numberDisk(uuid: string, number: DiskNumber): void {
    const held = this.#disks.get(uuid);
    if (held === undefined || held.store.number === number) return;
    held.store.setNumber(number, (status) => {
      if (status === Status.ok) this.#ready(held);
      else this.#diskFailed(held);
    });
  }

  #dropDisk(uuid: string, reason: string): void {
    const held = this.#disks.get(uuid);
    if (held !== undefined) this.#plane?.dropDisk(held.store.number, reason);
    this.#changed = true;
    this.#disks.drop(uuid, reason, () => this.#post({ kind: "diskDropped", uuid }));
  }

  // The cluster.

  #join(message: Message<"join">): void {
    if (this.#plane !== null) return;
    this.#clusterId = message.clusterId;
    this.#unit = message.unit;
    if (this.#mesh.isDoor) this.#links = this.#makeLinks(message);
    const { memory } = this.#reactor;
    this.#plane = new DataPlane(
      this.#world,
      memory,
      { unit: message.unit, slice: {}, reactor: this.#reactorNumber },
      {
        send: (unit, verb) => this.#mesh.send(unit, verb),
        propose: (next, expected, done) => this.#propose(next, expected, done),
        sliceChanged: () => {
          this.#changed = true;
        },
        happened: (happening) => this.#noteBlocks(happening),
        tookOver: (takeover) => this.#noteTakeover(takeover),
        scrubbed: () => {
          this.#changed = true;
        },
      },
    );
    for (const held of this.#disks.all()) if (held.store.number !== 0) this.#ready(held);
    for (const early of this.#early.splice(0)) this.#takeClusterMessage(early);
    this.#mesh.join();
  }

  #makeLinks(message: Message<"join">): PeerLinks {
    const { seal } = this.#world;
    const publicKey = Uint8Array.fromHex(message.publicKey);
    const own = {
      unitId: unitIdOf(seal, publicKey),
      publicKey,
      privateKey: Uint8Array.fromHex(message.privateKey),
      linkKeys: seal.x25519KeyPair(),
      clusterId: Uint8Array.fromHex(message.clusterId),
      clusterState: ClusterState.used,
      unitNumber: message.unit,
      featureLevel: FEATURE_LEVEL,
    };
    const preSharedKey = Uint8Array.fromHex(message.linkKey);
    return new PeerLinks(
      this.#world,
      this.#reactor.memory,
      { own, preSharedKey },
      {
        connect: (endpoint, done) => connect(this.#reactor, endpoint, PEERS, done),
        linkUp: (unit) => this.#linkChanged(unit, true, ""),
        linkDown: (unit, reason) => this.#linkChanged(unit, false, reason),
        receive: (unit, verb) => this.#mesh.fromUnit(unit, verb),
        atTurnEnd: (act) => this.#reactor.atTurnEnd({ turnEnds: act }),
      },
    );
  }

  // Siblings.

  #makeMesh({ reactor, rings }: ReactorPlace): ReactorMesh {
    return new ReactorMesh(this.#reactor, reactor, rings, {
      linkUp: (node) => this.#plane?.linkUp(node),
      linkDown: (node) => this.#plane?.linkDown(node),
      receive: (from, verb) => this.#plane?.receive(from, verb),
      sendToUnit: (unit, verb) => this.#links?.send(unit, verb) === true,
      placeOf: (verb) => this.#plane?.placeOf(verb) ?? this.#unit,
      noted: (sibling, note) => this.#noted(sibling, note),
    });
  }

  #addSibling(sibling: number, ring: SharedArrayBuffer): void {
    this.#mesh.add(sibling, ring);
    this.#end.siblingAdded(sibling);
    this.#portal?.setCredit(this.#creditBytes);
  }

  /** What all hosts of the unit hold may meet in one reactor's memory, and half of it is theirs. */
  get #creditBytes(): number {
    const reactors = 1 + this.#mesh.siblings.length;
    return Math.floor(this.#reactor.memory.bytes.length / (2 * reactors));
  }

  /** A disk of a sibling's is as in another unit. */
  #nodeOf(unit: UnitNumber, reactor: number | undefined): UnitNumber {
    const isSiblings = reactor !== undefined && reactor !== this.#reactorNumber;
    return unit === this.#unit && isSiblings ? siblingNode(reactor) : unit;
  }

  #noted(sibling: number, note: SiblingNote): void {
    switch (note.kind) {
      case "host":
        return this.#portal?.adopt(note.host);
      case "hostEnded":
        return this.#portal?.givenEnded(note.id);
      case "drained":
        return this.#end.siblingDrained(sibling);
      case "over":
        return this.#end.siblingOver(sibling);
      default:
    }
  }

  #portalSiblings(): PortalSiblings {
    const nearer = (volume: VolumeNumber) => reactorOf(this.#plane?.frontOf(volume) ?? 0);
    return {
      isNearer: (volume) => nearer(volume) !== null,
      give: (host) => {
        const sibling = nearer(host.volume);
        if (sibling !== null) this.#mesh.note(sibling, { kind: "host", host });
        return sibling !== null;
      },
      ended: (id) => this.#mesh.note(DOOR, { kind: "hostEnded", id }),
      take: ({ descriptor, address, port }) =>
        RingSocket.create(this.#reactor, descriptor, { address, port }),
      closeDescriptor,
    };
  }

  /** Blocks of one kind, disk and volume are told together. */
  #noteBlocks({ kind, disk, volume, blocks, volumeOffsetBytes }: SliceHappening): void {
    const key = `${kind}:${disk}:${volume}`;
    const known = this.#blocks.get(key);
    this.#changed = true;
    if (known !== undefined) {
      known.blocks += blocks;
      known.offsetBytes = Math.min(known.offsetBytes, volumeOffsetBytes);
      return;
    }
    this.#blocks.set(key, { kind, disk, volume, blocks, offsetBytes: volumeOffsetBytes });
  }

  #noteTakeover({ volume, from, pauseMs }: Takeover): void {
    const key = `${volume}:${from}`;
    const known = this.#takeovers.get(key) ?? { volume, from, slices: 0, pauseMs: 0 };
    known.slices++;
    known.pauseMs = Math.max(known.pauseMs, Math.round(pauseMs));
    this.#takeovers.set(key, known);
    this.#changed = true;
  }

  #linkChanged(unit: UnitNumber, up: boolean, reason: string): void {
    this.#changed = true;
    if (up) this.#mesh.unitUp(unit);
    else this.#mesh.unitDown(unit);
    this.#post({ kind: "link", unit, up, reason });
  }

  #propose(next: SliceRecord, expected: SliceRecord, done: ProposeDone): void {
    const id = ++this.#proposalId;
    this.#proposals.set(id, done);
    this.#post({ kind: "propose", id, next, expected });
  }

  // Drills.

  #takeProbe(plane: DataPlane, message: Message<"probe">): void {
    if (message.act === "finish") return this.#probes.finish();
    if (message.act === "abandon") return this.#probes.abandon();
    this.#probes.start(plane.volume(message.volume), message.sizeBytes);
  }

  // Time.

  #tick(nowMs: number): void {
    this.#probes.tick(nowMs);
    this.#links?.tick(nowMs);
    this.#plane?.tick(nowMs);
    this.#portal?.tick(nowMs);
    this.#tellCounts(nowMs);
    this.#lookWhetherQuiet();
    const sinceMs = nowMs - this.#reportedMs;
    if (sinceMs < REPORT_BUSY_MS || (!this.#changed && sinceMs < REPORT_IDLE_MS)) return;
    const { report, resyncing } = this.#report();
    this.#changed = resyncing;
    if (this.#blocks.size > 0) this.#post({ kind: "blocks", told: [...this.#blocks.values()] });
    this.#blocks.clear();
    if (this.#takeovers.size > 0) {
      this.#post({ kind: "takeovers", told: [...this.#takeovers.values()] });
    }
    this.#takeovers.clear();
    this.#reportedMs = nowMs;
    this.#post({ kind: "report", atMs: nowMs, report });
  }

  #tellCounts(nowMs: number): void {
    if (nowMs - this.#countedMs < REPORT_IDLE_MS) return;
    this.#countedMs = nowMs;
    const told = this.#portal?.takeCounts() ?? [];
    if (told.length > 0) this.#post({ kind: "io", atMs: nowMs, told });
  }

  /** I/O, copying and reconciling take buffers; beacons and their answers take few. */
  #lookWhetherQuiet(): void {
    const { allocations } = this.#reactor.memory;
    const quiet = allocations - this.#allocations <= QUIET_ALLOCATIONS;
    this.#allocations = allocations;
    this.#reactor.setQuiet(quiet && !this.#changed && (this.#plane?.waitingCount ?? 0) === 0);
  }

  #report(): { report: ReactorReport; resyncing: boolean } {
    const slices = this.#plane?.sliceReports() ?? [];
    const report: ReactorReport = {
      slices,
      kept: this.#plane?.keptReports() ?? [],
      disks: this.#disks.all().map(describe),
      links: this.#links?.states() ?? [],
      connections: this.#portal?.connections ?? 0,
      attached: this.#portal?.attachedFrom() ?? [],
      waiting: this.#plane?.waitingCount ?? 0,
    };
    return { report, resyncing: slices.some((slice) => slice.resync !== null) };
  }

  /**
   * The control thread hangs: heads are given up, so that a healthy unit takes them (design, 3). A
   * data plane that was released serves no more, its copies neither: should the control thread come
   * back, it ends this run.
   */
  #controlSilent(): void {
    if (this.#end.hasBegun) return; // it does it anyway
    this.#world.log.write("error", "the control thread is silent; giving up heads", {});
    this.#plane?.release(() => this.#post({ kind: "released" }));
  }

  // The end.

  #makeEnd(): OrderlyEnd {
    const { isDoor, siblings } = this.#mesh;
    return new OrderlyEnd(
      this.#reactor,
      { isDoor, siblings },
      {
        drain: () => this.#portal?.drain(),
        isDrained: () => (this.#portal?.attached ?? 0) === 0,
        drained: () => this.#mesh.noteAll({ kind: "drained" }),
        release: (done) => {
          if (this.#plane === null) done();
          else this.#plane.release(done);
        },
        closeAll: () => this.#closeAll(),
      },
    );
  }

  #closeAll(): void {
    this.#portal?.close();
    this.#links?.close();
    this.#mesh.close();
    for (const listener of this.#listeners) listener.close();
    this.#closeDisks();
  }

  #closeDisks(): void {
    this.#disks.closeAll(() => {
      this.#post({ kind: "stopped" });
      this.#reactor.stop();
    });
  }
}

function sentenceOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
