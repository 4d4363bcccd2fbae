// SPDX-License-Identifier: Apache-2.0
//
// TLS for connections of the reactor, which has no event loop, and of a host's kernel, which has no
// TLS: a Worker of its own takes a connection's descriptor in the moment when TLS begins, and one
// end of a socket pair whose other end the reactor, or the kernel's NBD client, goes on with. X.509
// by Bun's TLS, version 1.2 or 1.3 (docs/decisions/0020). "The host" is the other side below; where
// we are the host it is the unit.
//
// Invariants
// - Nothing is passed on before the handshake ended well, a client's certificate included: one that
//   is shown must be good, and where one must be shown it is. What the reactor gets first is whose
//   certificate that is (relay-identity.ts).
// - Back-pressure: of each direction at most what one read gave is held here; while the one side
//   does not take it, the other one is not read. So a host that does not read holds up nobody, and
//   the reactor sees it as on a plain connection.
// - What came before an orderly end is passed on before the end is; after an error nothing is.
// - Both descriptors are this side's from `take` on, and closed together.

import { X509Certificate } from "node:crypto";
import { checkServerIdentity } from "node:tls";
import { Fault } from "#base/fault.ts";
import { HOST_ASKED_EVERY_MS, HOST_UNHEARD_MS } from "#base/limits.ts";
import type { Log, Timers } from "#base/world.ts";
import { identityBytes } from "./relay-identity.ts";
import { closeDescriptor, setNonBlocking } from "./socket-pair.ts";
import type { ClusterTls, TlsClientFiles, TlsFiles, TlsIdentity } from "./tls-files.ts";
import { readTlsFiles, serverTls, tlsFilesMark } from "./tls-files.ts";

/** A handshake that takes longer is given up. */
const HANDSHAKE_MS = 15_000;
/** Between an orderly end here and a cut, where the host does not end it too. */
const ENDING_MS = 5000;
/** How often changed files are looked for, at most. */
const LOOK_EVERY_MS = 1000;

/** A connection to be secured. */
export interface Upgrade {
  /** The host's connection, its TLS handshake still to come. */
  encrypted: number;
  /** Carries what is in it, decrypted. */
  plain: number;
  /** For the log. */
  peer: string;
  /** Where we are the client: the name or address that the server's certificate must be for. */
  serverName?: string;
}

export interface TlsRelayParts {
  log: Log;
  timers: Timers;
  nowMs(): number;
  /** For how long the other machine of a connection has not been heard (tcp-info.ts). */
  unheardMs(descriptor: number): number;
}

type Socket = Bun.Socket<undefined>;
type PeerCertificate = { raw?: Uint8Array<ArrayBuffer> };

function hasShown(socket: Socket): boolean {
  return (socket.getPeerCertificate() as PeerCertificate | undefined)?.raw !== undefined;
}

/** What Bun offers and its types do not know: a descriptor to connect by, TLS as the server. */
interface Adopting {
  connect(options: { fd: number; socket: Bun.SocketHandler<undefined> }): Promise<Socket>;
}
interface Upgrading {
  upgradeTLS(options: {
    isServer: boolean;
    tls: TlsIdentity & { isServer: boolean; serverName?: string };
    socket: Bun.SocketHandler<undefined>;
  }): [Socket, Socket];
}

export class TlsRelay {
  /** Null: the cluster gives a unit what it shows. */
  readonly #files: TlsFiles | TlsClientFiles | null;
  readonly #parts: TlsRelayParts;
  readonly #relays = new Set<Relay>();
  #identity: TlsIdentity | null = null;
  #cluster: ClusterTls | null = null;
  #mark = "";
  #lookedMs: number;

  /** Throws Fault badConfiguration. */
  constructor(files: TlsFiles | TlsClientFiles | null, parts: TlsRelayParts) {
    this.#files = files;
    this.#parts = parts;
    this.#lookedMs = parts.nowMs();
    if (files === null) return;
    this.#mark = tlsFilesMark(files);
    this.#identity = this.#read(files);
  }

  /** What the cluster gives from now on; connections that stand go on. */
  setCluster(cluster: ClusterTls): void {
    this.#cluster = cluster;
    const files = this.#files;
    if (files === null) this.#identity = serverTls(null, cluster);
    else this.#readAgain(files);
  }

  #read(files: TlsFiles | TlsClientFiles): TlsIdentity | null {
    return "authorityFile" in files ? readTlsFiles(files) : serverTls(files, this.#cluster);
  }

  /** Connections in its hands. */
  get count(): number {
    return this.#relays.size;
  }

  take(upgrade: Upgrade): void {
    this.#lookForChanges();
    const gone = () => this.#relays.delete(relay);
    const authority = this.#cluster?.authority ?? null;
    const relay: Relay = new Relay(this.#parts, { ...upgrade, authority }, gone);
    this.#relays.add(relay);
    if (this.#identity === null) relay.refuse("this unit has no certificate yet");
    else relay.start(this.#identity);
  }

  /** Cuts all connections. */
  close(): void {
    for (const relay of this.#relays) relay.cut("the unit is going down");
  }

  #lookForChanges(): void {
    const nowMs = this.#parts.nowMs();
    if (nowMs - this.#lookedMs < LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    const files = this.#files;
    const mark = files === null ? this.#mark : tlsFilesMark(files);
    if (files === null || mark === this.#mark) return;
    this.#mark = mark;
    this.#readAgain(files);
  }

  #readAgain(files: TlsFiles | TlsClientFiles): void {
    try {
      this.#identity = this.#read(files);
      this.#parts.log.write("info", "the certificate for TLS was read anew", {});
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const reason = error.message;
      this.#parts.log.write("error", "changed files for TLS cannot be used", { reason });
    }
  }
}

/** One direction: what came from `from` and was not taken by `to` yet. */
class Lane {
  #from: Socket | null = null;
  #to: Socket | null = null;
  #rest: Uint8Array[] = [];
  #ending = false;

  join(from: Socket, to: Socket): void {
    this.#from = from;
    this.#to = to;
  }

  /** `bytes` may be kept. */
  data(bytes: Uint8Array): void {
    const took = this.#rest.length > 0 ? 0 : this.#write(bytes);
    if (took === bytes.length) return;
    this.#rest.push(took === 0 ? bytes : bytes.subarray(took));
    this.#from?.pause();
  }

  /** `to` takes more. */
  drain(): void {
    while (this.#rest.length > 0) {
      const first = this.#rest[0] as Uint8Array;
      const took = this.#write(first);
      if (took < first.length) {
        this.#rest[0] = first.subarray(took);
        return;
      }
      this.#rest.shift();
    }
    if (this.#ending) this.#to?.end();
    else this.#from?.resume();
  }

  /** Nothing more comes: the end follows what is left. */
  end(): void {
    this.#ending = true;
    if (this.#rest.length === 0) this.#to?.end();
  }

  #write(bytes: Uint8Array): number {
    return Math.max(0, this.#to?.write(bytes) ?? 0);
  }
}

class Relay {
  readonly #parts: TlsRelayParts;
  readonly #upgrade: Upgrade & { authority: string | null };
  readonly #gone: () => void;
  readonly #inward = new Lane();
  readonly #outward = new Lane();
  #host: Socket | null = null;
  #tls: Socket | null = null;
  #plain: Socket | null = null;
  #secured = false;
  #over = false;
  #cancelTimer: () => void = () => {};

  constructor(
    parts: TlsRelayParts,
    upgrade: Upgrade & { authority: string | null },
    gone: () => void,
  ) {
    this.#parts = parts;
    this.#upgrade = upgrade;
    this.#gone = gone;
  }

  /** Instead of a start. */
  refuse(reason: string): void {
    closeDescriptor(this.#upgrade.encrypted);
    closeDescriptor(this.#upgrade.plain);
    this.cut(reason);
  }

  start(identity: TlsIdentity): void {
    const { encrypted, plain } = this.#upgrade;
    this.#cancelTimer = this.#parts.timers.after(HANDSHAKE_MS, () => this.cut("no TLS in time"));
    setNonBlocking(encrypted);
    setNonBlocking(plain);
    // The plain side is listened to from the start: its end means that the reactor gave up.
    void this.#adopt(identity);
  }

  /** Never rejects: a descriptor that cannot be adopted ends the relay. */
  async #adopt(identity: TlsIdentity): Promise<void> {
    const { encrypted, plain } = this.#upgrade;
    const bun = Bun as unknown as Adopting;
    // Without `data`: what TLS takes from below would be handed out too, a buffer each time.
    const ignoring = {
      drain: () => {},
      error: () => {},
      close: () => this.cut("the host is gone"),
    };
    try {
      this.#plain = await bun.connect({ fd: plain, socket: this.#plainHandler() });
      this.#host = await bun.connect({ fd: encrypted, socket: ignoring });
    } catch (error) {
      if (this.#plain === null) closeDescriptor(plain);
      if (this.#host === null) closeDescriptor(encrypted);
      return this.cut(`a connection could not be taken over: ${String(error)}`);
    }
    if (this.#over) return this.#terminate();
    const { serverName } = this.#upgrade;
    const isServer = serverName === undefined;
    // Bun holds the certificate against it, and against "localhost" where it is not said: so it is
    // said of an address too, which is no name to send (RFC 6066 section 3); our units look at
    // none.
    const named = isServer ? {} : { serverName };
    const options = {
      isServer,
      tls: { ...identity, isServer, ...named },
      socket: this.#tlsHandler(identity),
    };
    this.#tls = (this.#host as unknown as Upgrading).upgradeTLS(options)[1];
    this.#inward.join(this.#tls, this.#plain);
  }

  #tlsHandler(identity: TlsIdentity): Bun.SocketHandler<undefined> {
    return {
      handshake: (socket, isDone, error) => {
        // Where none is asked for, or none has to be shown, `error` complains that there is none.
        const mayLack = !identity.requestCert || !identity.rejectUnauthorized;
        const isKnown = (error === null && socket.authorized) || (mayLack && !hasShown(socket));
        const other = this.#otherThanWanted(socket);
        if (isDone && isKnown && other === null) return this.#begin(socket);
        this.cut(`TLS failed: ${error?.message ?? other ?? "the host is not authorized"}`);
      },
      data: (_, bytes) => {
        if (this.#secured) this.#inward.data(bytes);
      },
      drain: () => this.#outward.drain(),
      end: () => this.#inward.end(),
      error: (_, error) => this.cut(`TLS failed: ${error.message}`),
      close: () => this.cut("the host ended the connection"),
    };
  }

  /**
   * Why a server's certificate is not the one's that was meant (RFC 9110 section 4.3.4), or null.
   */
  #otherThanWanted(socket: Socket): string | null {
    const { serverName } = this.#upgrade;
    if (serverName === undefined) return null;
    const certificate = socket.getPeerCertificate() as Parameters<typeof checkServerIdentity>[1];
    return checkServerIdentity(serverName, certificate)?.message ?? null;
  }

  #plainHandler(): Bun.SocketHandler<undefined> {
    return {
      data: (_, bytes) => {
        // A host's first option may be there before TLS is; the reactor speaks when it is asked.
        const mayWait = this.#upgrade.serverName !== undefined;
        if (this.#secured || mayWait) this.#outward.data(bytes);
        else this.cut("the reactor spoke before there was TLS");
      },
      drain: () => this.#inward.drain(),
      end: () => this.#end(),
      error: (_, error) => this.cut(`the reactor's side failed: ${error.message}`),
      close: () => this.#end(),
    };
  }

  #begin(socket: Socket): void {
    this.#cancelTimer();
    // The first bytes into an empty pair of sockets: taken whole.
    if (this.#upgrade.serverName === undefined)
      this.#plain?.write(identityBytes(this.#who(socket)));
    this.#secured = true;
    this.#watch();
    if (this.#plain !== null) this.#outward.join(this.#plain, socket);
    this.#outward.drain();
    const subject = socket.getPeerCertificate()?.subject as { CN?: string } | undefined;
    this.#parts.log.write("info", "TLS begins", {
      host: this.#upgrade.peer,
      version: String(socket.getTLSVersion()),
      ...(subject?.CN === undefined ? {} : { certificate: subject.CN }),
    });
  }

  /** H7: as the reactor does with a connection that is its own. */
  #watch(): void {
    this.#cancelTimer = this.#parts.timers.after(HOST_ASKED_EVERY_MS, () => {
      if (this.#parts.unheardMs(this.#upgrade.encrypted) < HOST_UNHEARD_MS) return this.#watch();
      this.cut("its host cannot be reached");
    });
  }

  /** The certificate that was shown, if it is of the cluster's own authority. */
  #who(socket: Socket): string | null {
    const { authority } = this.#upgrade;
    const raw = (socket.getPeerCertificate() as PeerCertificate | undefined)?.raw;
    if (authority === null || raw === undefined) return null;
    const shown = new X509Certificate(raw);
    if (!shown.verify(new X509Certificate(authority).publicKey)) return null;
    return shown.fingerprint256.replaceAll(":", "").toLowerCase();
  }

  /** The reactor is done with the host: what it said last goes out first. */
  #end(): void {
    if (!this.#secured) return this.cut("the handshake was given up");
    this.#cancelTimer();
    this.#cancelTimer = this.#parts.timers.after(ENDING_MS, () => this.cut("ended"));
    this.#outward.end();
  }

  cut(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer();
    if (!this.#secured) {
      const { peer } = this.#upgrade;
      this.#parts.log.write("info", "TLS did not come about", { host: peer, reason });
    }
    this.#terminate();
    this.#gone();
  }

  #terminate(): void {
    this.#tls?.terminate();
    this.#host?.terminate();
    this.#plain?.terminate();
  }
}
