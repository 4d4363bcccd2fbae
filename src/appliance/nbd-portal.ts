// SPDX-License-Identifier: Apache-2.0
//
// The NBD portal: every volume of the cluster through this unit's NBD port, for the hosts that it
// is assigned to. Joins NBD sessions (protocol) to volumes (the data plane).
//
// Invariants
// - Whoever is none of a volume's hosts, by address or by the certificate that was shown, neither
//   sees nor enters it; when it is none any more, its connections to the volume end at once. So do
//   those that a volume's rule about TLS no longer allows, and those whose certificate was revoked.
// - One host takes no more than its share of the connections, and fewer that have not entered a
//   volume; when there is no room, those that have not entered give way to new ones.
// - Host payload in memory is bounded by HostCredit, whatever hosts do (R13).
// - A connection that was given to a sibling (decision 0060) counts here until the sibling says
//   that it is over; there it has all rights looked at anew.

import {
  CONNECTIONS_MAX,
  CONNECTIONS_PER_HOST_MAX,
  HANDSHAKES_PER_HOST_MAX,
} from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import type { OperationTarget } from "#base/operation.ts";
import { RequestMeter } from "#base/request-meter.ts";
import type { HostNumber, VolumeNumber } from "#base/record.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { Log } from "#base/world.ts";
import { addressBytes, parseRange, rangeHolds } from "#cluster/address-range.ts";
import type { AddressRange } from "#cluster/address-range.ts";
import { HostCredit } from "#protocol/nbd/credit.ts";
import type { HeaderStyle, NbdExport, NbdPeer, TlsMode } from "#protocol/nbd/handshake.ts";
import { NbdSession } from "#protocol/nbd/session.ts";
import type { NbdSessionEffects, NbdSessionOptions, Secured } from "#protocol/nbd/session.ts";
import type { IoTold } from "./io-history.ts";
import type { AttachedFrom, ExportedVolume, KnownHost } from "./reactor-messages.ts";

/** A connection through the unix socket has no address; hosts have it as this. */
const LOCAL_ADDRESS = "127.0.0.1";
const NOT_ASSIGNED = "the volume is not its host's any more";
/** A sibling that was busy may not have heard of a volume or host yet, ms. */
const ADOPT_MS_MAX = 2000;

/** A host's connection that another reactor of this unit goes on with. */
export interface AdoptedHost {
  /** By which its end is told. */
  id: number;
  /** Of this process; the receiver's. */
  descriptor: number;
  address: string;
  port: number;
  certificate: string | null;
  secured: boolean;
  volume: VolumeNumber;
  headers: HeaderStyle;
  allocationContext: boolean;
}

/** The other reactors of this unit, where there are any. */
export interface PortalSiblings {
  /** Whether one of them is nearer to the volume. */
  isNearer(volume: VolumeNumber): boolean;
  /** False: none is any more. */
  give(host: AdoptedHost): boolean;
  /** One that was given to this reactor is over. */
  ended(id: number): void;
  /** Null: there is no memory. */
  take(host: AdoptedHost): StreamSocket | null;
  closeDescriptor(descriptor: number): void;
}

interface PortalOptions {
  /** Payload bytes that hosts may hold in memory. */
  creditBytes: number;
  /** Runs `act` in a later turn of the loop. */
  defer(act: () => void): void;
  /** Secures a connection by TLS, or answers null at once or later. */
  secure(socket: StreamSocket, done: Secured): void;
  /** A host attached, or what was attached ended. */
  changed(): void;
  /** When the turn of the loop that runs now began, ms: for what is counted, decides nothing. */
  turnMs(): number;
  /** Where a volume's requests go. */
  target(volume: VolumeNumber): OperationTarget;
  /** Where those of what is kept of it go. */
  keptCopy(volume: VolumeNumber, number: number): OperationTarget;
  siblings?: PortalSiblings;
}

interface Shown {
  volume: ExportedVolume;
  shown: NbdExport;
  /** R8: what is kept of it from before overrides, by number; only read. */
  copies: Map<number, NbdExport>;
  meter: RequestMeter;
}

export class NbdPortal {
  readonly #memory: Memory;
  readonly #log: Log;
  readonly #options: PortalOptions;
  readonly #credit: HostCredit;
  readonly #sessions = new Set<NbdSession>();
  /** Addresses of connections that siblings go on with, by id. */
  readonly #given = new Map<number, string>();
  #lastId = 0;
  /** Taken over, but not known to be allowed yet; since when, once a tick saw it. */
  #early: { host: AdoptedHost; sinceMs: number | null }[] = [];
  readonly #volumes = new Map<VolumeNumber, Shown>();
  readonly #hosts = new Map<HostNumber, { ranges: AddressRange[]; certificates: string[] }>();
  /** Whether TLS is offered: this unit has a certificate to show. */
  hasTls = false;
  #draining = false;

  constructor(memory: Memory, log: Log, options: PortalOptions) {
    this.#memory = memory;
    this.#log = log;
    this.#options = options;
    this.#credit = new HostCredit(options.creditBytes);
  }

  /** What hosts may hold from now on; what they hold already they keep. */
  setCredit(creditBytes: number): void {
    this.#credit.limitBytes = creditBytes;
  }

  /** A volume is there, or changed. */
  setVolume(volume: ExportedVolume): void {
    const known = this.#volumes.get(volume.volume);
    if (known === undefined) {
      const meter = new RequestMeter(() => this.#options.turnMs());
      const shown = this.#show(volume, meter);
      const made: Shown = { volume, meter, shown, copies: new Map() };
      this.#volumes.set(volume.volume, made);
      this.#setCopies(made);
      return;
    }
    known.volume = volume;
    this.#setCopies(known);
    for (const session of this.#sessions) {
      if (!isOf(known, session.volume)) continue;
      if (!this.#mayAttach(volume, session.peer)) session.close(NOT_ASSIGNED);
      else if (volume.tls === "required" && !session.secured) session.close("only over TLS now");
      else if (volume.tls === "off" && session.secured) session.close("not over TLS any more");
    }
  }

  #setCopies(known: Shown): void {
    const { volume, copies } = known;
    for (const [number, shown] of copies) {
      if (volume.copies.some((copy) => copy.number === number)) continue;
      copies.delete(number);
      for (const session of this.#sessions) {
        if (session.volume === shown) session.close("the copy was given up");
      }
    }
    for (const { number, name } of volume.copies) {
      if (!copies.has(number)) copies.set(number, this.#showCopy(volume, { number, name }));
    }
  }

  removeVolume(number: VolumeNumber): void {
    const known = this.#volumes.get(number);
    if (known === undefined) return;
    this.#volumes.delete(number);
    for (const session of this.#sessions) {
      if (isOf(known, session.volume)) session.close("the volume was deleted");
    }
  }

  /** A host is there, or comes from elsewhere now, or shows other certificates. */
  setHost({ host, addresses, certificates }: KnownHost): void {
    const ranges = addresses.map(parseRange).filter((range) => range !== null);
    this.#hosts.set(host, { ranges, certificates });
    this.#lookAgain(host);
  }

  removeHost(host: HostNumber): void {
    this.#hosts.delete(host);
    this.#lookAgain(host);
  }

  /** Ends what was that host's and is nobody's now. */
  #lookAgain(host: HostNumber): void {
    for (const known of this.#volumes.values()) {
      const { volume } = known;
      if (!volume.hosts.includes(host)) continue;
      for (const session of this.#sessions) {
        const isOther = !isOf(known, session.volume);
        if (isOther || this.#mayAttach(volume, session.peer)) continue;
        session.close(NOT_ASSIGNED);
      }
    }
  }

  accepted(socket: StreamSocket): void {
    if (this.#draining || !this.#makeRoom(socket.peerAddress)) {
      socket.onBytes = (_offset, length) => length;
      socket.close();
      return;
    }
    const tls = this.#tlsMode({ address: socket.peerAddress, certificate: null });
    const session = new NbdSession(
      this.#memory,
      { ...this.#sessionOptions(tls), isElsewhere: (volume) => this.#isElsewhere(volume) },
      {
        secure: (encrypted, done) => this.#secure(session, encrypted, done),
        entered: (entered) => {
          this.#options.changed();
          this.#log.write("info", "host attached", {
            host: entered.peerAddress,
            volume: entered.volume?.name,
            tls: entered.secured,
            ...(entered.peer.certificate === null ? {} : { certificate: entered.peer.certificate }),
          });
        },
        givenAway: (given, descriptor) => {
          this.#sessions.delete(given);
          this.#give(given, { descriptor, port: socket.peerPort });
        },
        finished: (ended, reason) => this.#finished(ended, reason),
      },
      socket,
    );
    this.#sessions.add(session);
  }

  #sessionOptions(tls: TlsMode): NbdSessionOptions {
    return {
      credit: this.#credit,
      tls,
      defer: (act) => this.#options.defer(act),
      exports: {
        find: (name, peer) => this.#find(name, peer),
        list: (peer) => this.#list(peer),
      },
    };
  }

  #finished(ended: NbdSession, reason: string): void {
    this.#options.changed();
    // Else it was given away, and goes on.
    if (!this.#sessions.delete(ended)) return;
    this.#log.write("info", "host connection ended", { host: ended.peerAddress, reason });
  }

  // Between siblings.

  #numberOf(attached: NbdExport): VolumeNumber | null {
    for (const [number, { shown }] of this.#volumes) if (shown === attached) return number;
    return null;
  }

  #isElsewhere(volume: NbdExport): boolean {
    const { siblings } = this.#options;
    if (siblings === undefined || this.#draining) return false;
    const number = this.#numberOf(volume);
    return number !== null && siblings.isNearer(number);
  }

  #give(session: NbdSession, { descriptor, port }: { descriptor: number; port: number }): void {
    const { siblings } = this.#options;
    const { peer, secured, negotiated, isOver } = session;
    const volume = negotiated === null ? null : this.#numberOf(negotiated.volume);
    if (negotiated !== null && volume !== null && !isOver && !this.#draining) {
      const { address, certificate } = peer;
      const { headers, allocationContext } = negotiated;
      const id = ++this.#lastId;
      const about = { id, descriptor, address, port, certificate, secured, volume };
      this.#given.set(id, address);
      if (siblings?.give({ ...about, headers, allocationContext }) === true) return;
      this.#given.delete(id);
    }
    siblings?.closeDescriptor(descriptor);
    this.#log.write("info", "host connection ended", { host: peer.address, reason: "given up" });
  }

  /** A connection that was given to a sibling is over. */
  givenEnded(id: number): void {
    if (this.#given.delete(id)) this.#options.changed();
  }

  /** A sibling's, which this reactor is nearer to. */
  adopt(host: AdoptedHost): void {
    if (!this.#tryAdopt(host)) this.#early.push({ host, sinceMs: null });
  }

  /** False: it is not known to be allowed, perhaps not yet. */
  #tryAdopt(host: AdoptedHost): boolean {
    if (this.#draining) return this.#refuse(host);
    const known = this.#volumes.get(host.volume);
    if (known === undefined || !this.#mayAttach(known.volume, host)) return false;
    if (known.volume.tls === (host.secured ? "off" : "required")) return false;
    const socket = this.#options.siblings?.take(host) ?? null;
    if (socket === null) return this.#refuse(host);
    const { headers, allocationContext, secured, certificate } = host;
    const negotiated = { volume: known.shown, headers, allocationContext };
    const effects: NbdSessionEffects = {
      secure: (_, done) => done(null, null), // behind GO nobody asks for it
      entered: () => this.#options.changed(),
      finished: (ended, reason) => {
        this.#finished(ended, reason);
        this.#options.siblings?.ended(host.id);
      },
    };
    const options = this.#sessionOptions("none");
    const taken = { negotiated, secured, certificate };
    this.#sessions.add(new NbdSession(this.#memory, options, effects, socket, taken));
    return true;
  }

  #refuse({ id, descriptor, address }: AdoptedHost): true {
    this.#options.siblings?.closeDescriptor(descriptor);
    this.#options.siblings?.ended(id);
    this.#log.write("info", "host connection ended", { host: address, reason: NOT_ASSIGNED });
    return true;
  }

  #adoptEarly(nowMs: number): void {
    const early = this.#early;
    this.#early = [];
    for (const { host, sinceMs } of early) {
      const isLate = sinceMs !== null && nowMs - sinceMs >= ADOPT_MS_MAX;
      if (this.#tryAdopt(host)) continue;
      if (isLate) this.#refuse(host);
      else this.#early.push({ host, sinceMs: sinceMs ?? nowMs });
    }
  }

  /**
   * "Server-side requirements": forced where all that the host may use asks for TLS; none where it
   * may use nothing, so that strangers cannot have us compute, unless some host is to be known by
   * what it shows over TLS.
   */
  #tlsMode(peer: NbdPeer): TlsMode {
    if (!this.hasTls) return "none";
    const seen = this.#list(peer);
    if (seen.length === 0) return this.#knowsCertificates ? "selective" : "none";
    return seen.every(({ tls }) => tls === "required") ? "forced" : "selective";
  }

  get #knowsCertificates(): boolean {
    for (const { certificates } of this.#hosts.values()) if (certificates.length > 0) return true;
    return false;
  }

  /** A certificate that is no host's was one, or never will be: with it nothing more is said. */
  #secure(session: NbdSession, encrypted: StreamSocket, done: Secured): void {
    this.#options.secure(encrypted, (plain, certificate) => {
      done(plain, certificate);
      if (certificate === null || this.#hostsOf(session.peer).size > 0) return;
      session.close("its certificate is no host's, or not any more");
    });
  }

  /** Whether one more connection of that host fits; where there is no room, some is made. */
  #makeRoom(address: string): boolean {
    let own = 0;
    for (const given of this.#given.values()) if (given === address) own++;
    let ownHaggling = 0;
    let oldest: NbdSession | null = null;
    let ownOldest: NbdSession | null = null;
    for (const session of this.#sessions) {
      const isHaggling = session.volume === null && !session.isOver;
      if (isHaggling) oldest ??= session;
      if (session.peerAddress !== address) continue;
      own++;
      if (!isHaggling) continue;
      ownHaggling++;
      ownOldest ??= session;
    }
    // A host's own forgotten connections must not lock it out.
    if (ownHaggling >= HANDSHAKES_PER_HOST_MAX) ownOldest?.close("its host has newer ones");
    else if (own >= CONNECTIONS_PER_HOST_MAX) return false;
    else if (this.#sessions.size + this.#given.size < CONNECTIONS_MAX) return true;
    else if (oldest === null) return false;
    else oldest.close("others wait to be let in");
    return true;
  }

  get connections(): number {
    return this.#sessions.size;
  }
  /** Those in transmission: an orderly end waits for them. */
  get attached(): number {
    let count = 0;
    for (const session of this.#sessions) if (session.volume !== null) count++;
    return count;
  }

  /** What is attached, by volume and address. */
  attachedFrom(): AttachedFrom[] {
    const numbers = new Map(
      [...this.#volumes].flatMap(([number, { shown, copies }]) =>
        [shown, ...copies.values()].map((one): [NbdExport, VolumeNumber] => [one, number]),
      ),
    );
    const found = new Map<string, AttachedFrom>();
    for (const session of this.#sessions) {
      const volume = session.volume === null ? undefined : numbers.get(session.volume);
      if (volume === undefined || session.isOver) continue;
      const { peer, secured: tls } = session;
      const { address, certificate } = peer;
      const key = `${volume} ${tls} ${address} ${certificate ?? ""}`;
      const known = found.get(key);
      if (known === undefined)
        found.set(key, { volume, address, tls, certificate, connections: 1 });
      else known.connections++;
    }
    return [...found.values()];
  }

  /** What was asked of each volume since this was last taken; those of which nothing was: none. */
  takeCounts(): IoTold[] {
    const told: IoTold[] = [];
    for (const [volume, { meter }] of this.#volumes) {
      const counts = meter.take();
      if (counts !== null) told.push({ volume, ...counts });
    }
    return told;
  }

  tick(nowMs: number): void {
    if (this.#early.length > 0) this.#adoptEarly(nowMs);
    for (const session of this.#sessions) session.tick(nowMs);
  }

  /** Orderly end: what is under way is answered, nothing new is taken. */
  drain(): void {
    this.#draining = true;
    for (const { host } of this.#early.splice(0)) this.#refuse(host);
    for (const session of [...this.#sessions]) session.drain();
  }

  /** Ends every connection now. */
  close(): void {
    this.#draining = true;
    for (const session of [...this.#sessions]) session.close("the unit is going down");
  }

  #find(name: string, peer: NbdPeer): NbdExport | null {
    if (name === "") {
      // "The default export": the one volume there is for that host; among several none is guessed.
      const [only, ...others] = this.#list(peer).filter(({ readOnly }) => !readOnly);
      return others.length === 0 ? (only ?? null) : null;
    }
    for (const { volume, shown, copies } of this.#volumes.values()) {
      const isVolume = volume.name === name || volume.uuid === name;
      const found = isVolume ? shown : [...copies.values()].find((copy) => copy.name === name);
      if (found !== undefined) return this.#mayAttach(volume, peer) ? found : null;
    }
    return null;
  }

  #list(peer: NbdPeer): NbdExport[] {
    const hosts = this.#hostsOf(peer);
    return [...this.#volumes.values()]
      .filter(({ volume }) => volume.hosts.some((host) => hosts.has(host)))
      .flatMap(({ shown, copies }) => [shown, ...copies.values()]);
  }

  #mayAttach(volume: ExportedVolume, { address, certificate }: NbdPeer): boolean {
    const bytes = bytesOf(address);
    return volume.hosts.some((host) => this.#isOne(host, bytes, certificate));
  }

  #hostsOf({ address, certificate }: NbdPeer): Set<HostNumber> {
    const bytes = bytesOf(address);
    const hosts = [...this.#hosts.keys()];
    return new Set(hosts.filter((host) => this.#isOne(host, bytes, certificate)));
  }

  /** Who shows a certificate is the host that it was issued to, wherever it comes from. */
  #isOne(host: HostNumber, bytes: Uint8Array | null, certificate: string | null): boolean {
    const known = this.#hosts.get(host);
    if (known === undefined) return false;
    if (certificate !== null) return known.certificates.includes(certificate);
    return bytes !== null && known.ranges.some((range) => rangeHolds(range, bytes));
  }

  #showCopy(first: ExportedVolume, copy: { number: number; name: string }): NbdExport {
    const newest = () => this.#volumes.get(first.volume)?.volume ?? first;
    return {
      name: copy.name,
      description: `Kept of Cairn volume ${first.uuid}, read-only`,
      get sizeBytes() {
        return newest().sizeBytes;
      },
      readOnly: true,
      multiConn: true,
      get tls() {
        return newest().tls;
      },
      target: this.#options.keptCopy(first.volume, copy.number),
      meter: new RequestMeter(() => this.#options.turnMs()),
    };
  }

  /** Reads through to the newest shape, so that a session sees a volume grow. */
  #show(first: ExportedVolume, meter: RequestMeter): NbdExport {
    const number = first.volume;
    const newest = () => this.#volumes.get(number)?.volume ?? first;
    return {
      get name() {
        return newest().name;
      },
      description: `Cairn volume ${first.uuid}`,
      get sizeBytes() {
        return newest().sizeBytes;
      },
      readOnly: false,
      multiConn: true,
      get tls() {
        return newest().tls;
      },
      target: this.#options.target(number),
      meter,
    };
  }
}

function isOf({ shown, copies }: Shown, attached: NbdExport | null): boolean {
  if (attached === null) return false;
  return attached === shown || [...copies.values()].includes(attached);
}

function bytesOf(address: string): Uint8Array | null {
  return addressBytes(address === "unix" ? LOCAL_ADDRESS : address);
}
