// SPDX-License-Identifier: Apache-2.0
//
// One host's NBD connection, from its first byte to the end of its last request. A state machine
// over a StreamSocket handed in: handshake.ts speaks until an export is chosen, transmission.ts
// after that. STARTTLS changes the socket: the old one is given away as it is, the new one carries
// the same conversation decrypted.
//
// Invariants
// - In the handshake one option is worked on at a time: the next is looked at when the kernel has
//   taken the reply. A connection without an export holds at most one option's bytes and one part
//   of a reply.
// - Nothing that came in the clear is taken for what comes by TLS: a byte behind STARTTLS, before
//   its reply was sent, ends the connection.
// - `finished` is called exactly once, after the connection ended and the last request of it did
//   too: from then on nothing of this connection takes effect (H7).

import { HOST_UNHEARD_MS } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { HostAccount, HostCredit } from "./credit.ts";
import type { Negotiated, NbdExport, NbdExports, NbdPeer, Next, TlsMode } from "./handshake.ts";
import { Handshake } from "./handshake.ts";
import {
  CLIENT_FLAGS,
  HANDSHAKE_MS,
  OPTION,
  OPTIONS_MAX,
  OPTION_BYTES_MAX,
  OPTION_MAGIC,
  OPTION_SKIP_BYTES_MAX,
  STALL_CONTENDED_MS,
  STALL_MS,
} from "./nbd.wire.ts";
import type { TransmissionCounters } from "./transmission.ts";
import { SLAB_BYTES, Transmission } from "./transmission.ts";

/** How often it is looked whether the host can be reached: sooner than it could give us up. */
const HEARD_EVERY_MS = 250;

export interface NbdSessionOptions {
  exports: NbdExports;
  /** Shared by all connections of the reactor. */
  credit: HostCredit;
  /** "Server-side requirements", for this connection. */
  tls: TlsMode;
  /** Runs `act` in a later turn of the loop. */
  defer(act: () => void): void;
  /** Whether whoever chose that export is to be served elsewhere; not there: never. */
  isElsewhere?(volume: NbdExport): boolean;
}

/** What was agreed on with a host whose connection comes from elsewhere. */
export interface TakenOver {
  negotiated: Negotiated;
  secured: boolean;
  certificate: string | null;
}

export type Secured = (plain: StreamSocket | null, certificate: string | null) => void;

export interface NbdSessionEffects {
  /** The host chose an export. */
  entered(session: NbdSession): void;
  /**
   * The host is told that TLS begins: `socket`, with nothing queued, is the callee's from now on.
   * `done` with what carries its plain side, or null where there can be none, and with the
   * certificate that the host showed, if one was asked for.
   */
  secure(socket: StreamSocket, done: Secured): void;
  /**
   * Its connection, on which nothing was asked yet, is the callee's, to be served elsewhere or, if
   * the session `isOver`, closed. `finished` follows.
   */
  givenAway?(session: NbdSession, handle: number): void;
  /** The connection and everything it asked for is over; `reason` is for the log. */
  finished(session: NbdSession, reason: string): void;
}

type Phase =
  "flags" | "option" | "optionData" | "optionSkip" | "securing" | "transmission" | "over";

/** Where a reply leads; `finish` is left when it was sent. */
const PHASE_AFTER = {
  option: "option",
  transmission: "transmission",
  secure: "securing",
  finish: "option",
} as const satisfies Record<Exclude<Next, "close">, Phase>;

export class NbdSession {
  readonly peer: NbdPeer;
  readonly #memory: Memory;
  readonly #options: NbdSessionOptions;
  readonly #effects: NbdSessionEffects;
  readonly #account: HostAccount;
  readonly #handshake: Handshake;
  readonly #flagsView = CLIENT_FLAGS.view();
  readonly #optionView = OPTION.view();
  #socket: StreamSocket;
  #phase: Phase = "flags";
  #transmission: Transmission | null = null;
  #slab = NO_BUFFER;
  /** The option at work: its number, its data so far, and how many bytes of it are to come. */
  #option = 0;
  #optionData = new Uint8Array(0);
  #optionBytesLeft = 0;
  #optionCount = 0;
  /** A reply is on its way; nothing more is looked at until it left. */
  #replying = false;
  /** Bytes of the host's that came and nobody used up. */
  #unusedBytes = 0;
  /** The socket is being secured, and nobody's here. */
  #isAway = false;
  #draining = false;
  #closed = false;
  #reason = "";
  /** Whether a byte moved since the last tick, and when one last did. */
  #moved = true;
  #movedMs = 0;
  #startedMs = -1;
  #heardMs = 0;

  constructor(
    memory: Memory,
    options: NbdSessionOptions,
    effects: NbdSessionEffects,
    socket: StreamSocket,
    taken: TakenOver | null = null,
  ) {
    this.peer = { address: socket.peerAddress, certificate: taken?.certificate ?? null };
    this.#memory = memory;
    this.#options = options;
    this.#effects = effects;
    this.#account = options.credit.open(socket.peerAddress, () => this.#transmission?.resume());
    const { exports, tls } = options;
    this.#handshake = new Handshake({ exports, peer: this.peer, tls });
    this.#socket = socket;
    this.#listen(socket);
    if (taken === null) this.#send(this.#handshake.greeting(), null);
    else this.#takeOver(taken);
  }

  #takeOver({ negotiated, secured }: TakenOver): void {
    this.#handshake.negotiated = negotiated;
    this.#handshake.secured = secured;
    if (this.#enter()) this.#phase = "transmission";
  }

  #listen(socket: StreamSocket): void {
    socket.onBytes = (at, lengthBytes) => this.#feed(at, lengthBytes);
    socket.onClose = (reason) => this.#onClose(reason);
  }

  get peerAddress(): string {
    return this.peer.address;
  }
  /** The export in use; null before one was chosen. */
  get volume(): NbdExport | null {
    return this.#transmission === null ? null : (this.#handshake.negotiated?.volume ?? null);
  }
  /** What was agreed on; null before an export was chosen. */
  get negotiated(): Negotiated | null {
    return this.#handshake.negotiated;
  }
  get counters(): Readonly<TransmissionCounters> | null {
    return this.#transmission?.counters ?? null;
  }
  /** TLS is there, or about to be. */
  get secured(): boolean {
    return this.#handshake.secured;
  }
  /** Nothing of it is heard any more; what it asked for may still be under way. */
  get isOver(): boolean {
    return this.#phase === "over";
  }
  /** Requests under way, also after the connection ended. */
  get inFlight(): number {
    return this.#transmission?.inFlight ?? 0;
  }

  /**
   * An orderly end: no further request is taken, what is under way is answered, then the connection
   * is closed. Requests not taken are not refused: the host sends them again where it reconnects,
   * and sees a pause instead of an error. A host that is still haggling is told so by the reply to
   * its next option.
   */
  drain(): void {
    if (this.#draining || this.#phase === "over") return;
    this.#draining = true;
    this.#handshake.shuttingDown = true;
    this.#transmission?.drain();
  }

  /** Ends the connection now: the host lost its right, or the volume is gone. */
  close(reason: string): void {
    this.#close(reason);
    // Given away: whoever secures it is told when it asks for the session to go on.
    if (!this.#isAway) this.#socket.close();
  }

  /** Every second or so: ends what does not get on, and retries what waited for memory. */
  tick(nowMs: number): void {
    if (this.#startedMs < 0) this.#startedMs = this.#movedMs = nowMs;
    if (this.#moved) this.#movedMs = nowMs;
    this.#moved = false;
    if (this.#phase === "over") return;
    if (nowMs - this.#heardMs >= HEARD_EVERY_MS) {
      this.#heardMs = nowMs;
      const isUnheard = !this.#isAway && this.#socket.unheardMs >= HOST_UNHEARD_MS;
      if (isUnheard) return this.#close("its host cannot be reached"); // H7
    }
    if (this.#transmission === null) {
      if (nowMs - this.#startedMs >= HANDSHAKE_MS) this.#close("no export chosen in time");
      return;
    }
    this.#transmission.resume();
    // Receiving half a payload or not taking replies: either holds memory that others want.
    const holds = this.#transmission.receiving || this.#socket.queuedBytes > 0;
    const stalledMs = nowMs - this.#movedMs;
    if (holds && stalledMs >= STALL_MS) return this.#close("no byte moved for a minute");
    const isWanted = this.#options.credit.isContended && this.#transmission.heldBytes > 0;
    if (holds && isWanted && stalledMs >= STALL_CONTENDED_MS) {
      this.#close("no byte moved while others waited for memory");
    }
  }

  #close(reason: string): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#reason = reason;
    if (!this.#isAway) this.#socket.close();
  }

  #onClose(reason: string): void {
    this.#phase = "over";
    this.#closed = true;
    if (this.#reason === "") this.#reason = reason;
    if (this.#transmission === null) this.#finish();
    else this.#transmission.end();
  }

  #finish(): void {
    if (this.#slab !== NO_BUFFER) this.#memory.release(this.#slab);
    this.#slab = NO_BUFFER;
    this.#account.close();
    this.#effects.finished(this, this.#reason);
  }

  /** Copies a handshake message into Memory and sends it; false when there is no memory. */
  #send(bytes: Uint8Array, sent: (() => void) | null): boolean {
    if (bytes.length === 0) {
      sent?.();
      return true;
    }
    const at = this.#memory.allocate(bytes.length);
    if (at === NO_BUFFER) {
      this.#close("no memory for the handshake");
      return false;
    }
    this.#memory.bytes.set(bytes, at);
    this.#socket.send(at, bytes.length, () => {
      this.#memory.release(at);
      this.#moved = true;
      sent?.();
    });
    return true;
  }

  #feed(at: number, lengthBytes: number): number {
    this.#moved = true;
    let used = 0;
    while (this.#phase !== "over") {
      const took =
        this.#transmission === null
          ? this.#feedHandshake(at + used, lengthBytes - used)
          : this.#transmission.feed(at + used, lengthBytes - used);
      used += took;
      if (took === 0 || this.#transmission !== null) break;
    }
    this.#unusedBytes = lengthBytes - used;
    return this.#phase === "over" ? lengthBytes : used;
  }

  /** One step of the handshake; 0 when it needs more bytes, or a reply has to leave first. */
  #feedHandshake(at: number, lengthBytes: number): number {
    switch (this.#phase) {
      case "flags":
        return this.#feedFlags(at, lengthBytes);
      case "option":
        return this.#replying ? 0 : this.#feedOption(at, lengthBytes);
      case "optionData":
      case "optionSkip":
        return this.#feedOptionData(at, lengthBytes);
      case "securing":
        if (lengthBytes > 0) this.#close("bytes in the clear behind STARTTLS");
        return 0;
      case "transmission":
      case "over":
        return 0;
    }
  }

  #feedFlags(at: number, lengthBytes: number): number {
    if (lengthBytes < CLIENT_FLAGS.size) return 0;
    const { flags } = this.#flagsView.at(this.#memory.bytes, at);
    if (!this.#handshake.clientFlags(flags)) this.#close("unknown client flags");
    else this.#phase = "option";
    return CLIENT_FLAGS.size;
  }

  #feedOption(at: number, lengthBytes: number): number {
    if (lengthBytes < OPTION.size) return 0;
    const view = this.#optionView.at(this.#memory.bytes, at);
    const { magicHigh, magicLow, option, length } = view;
    this.#optionCount++;
    if (magicHigh !== OPTION_MAGIC[0] || magicLow !== OPTION_MAGIC[1]) {
      this.#close("not an NBD option");
    } else if (length > OPTION_SKIP_BYTES_MAX) {
      this.#close("option data longer than 1 MiB");
    } else if (this.#optionCount > OPTIONS_MAX) {
      this.#close("too many options");
    } else {
      this.#option = option;
      this.#optionBytesLeft = length;
      const tooLong = length > OPTION_BYTES_MAX;
      this.#optionData = new Uint8Array(tooLong ? 0 : length);
      this.#phase = tooLong ? "optionSkip" : "optionData";
      if (length === 0) this.#optionComplete();
    }
    return OPTION.size;
  }

  #feedOptionData(at: number, lengthBytes: number): number {
    const took = Math.min(lengthBytes, this.#optionBytesLeft);
    if (this.#phase === "optionData") {
      const have = this.#optionData.length - this.#optionBytesLeft;
      this.#optionData.set(this.#memory.bytes.subarray(at, at + took), have);
    }
    this.#optionBytesLeft -= took;
    if (this.#optionBytesLeft === 0) this.#optionComplete();
    return took;
  }

  #optionComplete(): void {
    const skipped = this.#phase === "optionSkip";
    const next = skipped
      ? this.#handshake.tooLong(this.#option)
      : this.#handshake.option(this.#option, this.#optionData);
    this.#optionData = new Uint8Array(0);
    if (next === "close") return this.#close("no such export");
    // Before the reply: the host may send its first request as soon as it has it.
    if (next === "transmission" && !this.#enter()) return;
    this.#phase = PHASE_AFTER[next];
    this.#replying = true;
    if (this.#reply(next)) this.#socket.pauseReceive();
  }

  #reply(next: Next): boolean {
    return this.#send(this.#handshake.reply, () => this.#replied(next));
  }

  #replied(next: Next): void {
    if (this.#closed || this.#phase === "over") return;
    if (this.#handshake.continueReply()) return void this.#reply(next);
    this.#replying = false;
    switch (next) {
      case "finish":
        this.#phase = "over";
        this.#reason = "the host ended the handshake";
        return this.#socket.finish();
      case "secure":
        return this.#secure();
      case "transmission":
        return this.#begin();
      default:
        this.#socket.resumeReceive();
    }
  }

  /** The export was entered, and the host knows. */
  #begin(): void {
    const { volume } = this;
    const mayLeave = volume !== null && this.#unusedBytes === 0 && !this.#draining;
    if (mayLeave && this.#options.isElsewhere?.(volume) === true) this.#giveAway();
    else this.#socket.resumeReceive();
  }

  #giveAway(): void {
    this.#isAway = true;
    this.#socket.detach((handle) => {
      if (handle !== null) this.#effects.givenAway?.(this, handle);
      this.#onClose("the host disconnected");
    });
  }

  #secure(): void {
    this.#isAway = true;
    this.#effects.secure(this.#socket, (plain, certificate) => {
      this.#isAway = false;
      if (plain === null) return this.#onClose(this.#reason || "no TLS");
      this.peer.certificate = certificate;
      this.#socket = plain;
      this.#listen(plain);
      if (this.#phase === "over") return plain.close();
      this.#phase = "option";
    });
  }

  #enter(): boolean {
    const { negotiated } = this.#handshake;
    this.#slab = this.#memory.allocate(SLAB_BYTES);
    if (negotiated === null || this.#slab === NO_BUFFER) {
      this.#close("no memory for another connection");
      return false;
    }
    const options = {
      memory: this.#memory,
      socket: this.#socket,
      account: this.#account,
      negotiated,
      defer: (act: () => void) => this.#options.defer(act),
      broken: (reason: string) => this.#close(reason),
      idle: () => this.#idle(),
    };
    this.#transmission = new Transmission(options, this.#slab);
    this.#effects.entered(this);
    return true;
  }

  #idle(): void {
    if (this.#closed) return this.#finish();
    // Drained: by DISC or by us. The socket's end follows, with it onClose, and then `finished`.
    if (this.#reason === "") {
      this.#reason = this.#draining ? "the unit is going down" : "the host disconnected";
    }
    this.#phase = "over";
    this.#socket.finish();
  }
}
