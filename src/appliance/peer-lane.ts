// SPDX-License-Identifier: Apache-2.0
//
// One lane of a link between two units: a connection, the channel that proves and encrypts it, and
// the verbs on it. A link has two, so that leases and acks never wait behind payload (R13).
//
// Invariants
// - Verbs of one turn leave together, in order, in as few sealed records as they fill.
// - A verb's `sent` is called exactly once: after its payload was sealed into a buffer of the
//   lane's own, or when the lane ends. Never from within `send`.
// - The lane ends once (`ended`), after which nothing is received and everything queued is let go.

import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { PeerVerb } from "#base/verbs.ts";
import type { World } from "#base/world.ts";
import { PeerChannel, sealedLengthBytes } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { VerbDecoder, encodeHead, headBytes } from "#protocol/peer/codec.ts";

/** Plain bytes sealed into one buffer at most, unless a single verb is longer. */
const BATCH_BYTES = 256 << 10;
/** Sealed bytes the kernel has not taken, beyond which the lane waits before it seals more. */
const UNSENT_BYTES_MAX = 8 << 20;

export interface LaneEffects {
  /** Is this proved unit welcome on this lane? Null, or a sentence why not. */
  authenticate(peer: PeerIdentity): string | null;
  opened(lane: PeerLane, peer: PeerIdentity): void;
  /** A verb came; its payload's buffer is the callee's. */
  verb(lane: PeerLane, verb: PeerVerb): void;
  /** The lane is over; every `sent` has been called. */
  ended(lane: PeerLane, reason: string): void;
  /** Runs `act` once, at the end of this turn. */
  atTurnEnd(act: () => void): void;
}

export interface LaneOptions {
  /** The purpose to call for, or null where the other side called. */
  call: Purpose | null;
  own: OwnIdentity;
  preSharedKey: Uint8Array;
  expectUnitId: Uint8Array | null;
}

export class PeerLane {
  /** When bytes last came, clock.nowMs. */
  heardMs: number;
  purpose: Purpose | null = null;
  readonly #clock: World["clock"];
  readonly #memory: Memory;
  readonly #socket: StreamSocket;
  readonly #effects: LaneEffects;
  readonly #channel: PeerChannel;
  readonly #decoder: VerbDecoder;
  #queue: PeerVerb[] = [];
  #flushAsked = false;
  /** Plain bytes that the decoder had no memory for. */
  #held: Uint8Array[] = [];
  #over = false;

  constructor(
    world: Pick<World, "clock" | "seal">,
    memory: Memory,
    socket: StreamSocket,
    options: LaneOptions,
    effects: LaneEffects,
  ) {
    this.#clock = world.clock;
    this.heardMs = world.clock.nowMs();
    this.#memory = memory;
    this.#socket = socket;
    this.#effects = effects;
    this.#decoder = new VerbDecoder(memory, (verb) => effects.verb(this, verb));
    socket.onBytes = (offset, length) => this.#received(offset, length);
    socket.onClose = (reason) => this.end(reason);
    this.#channel = new PeerChannel(
      world,
      {
        call: options.call,
        offers: [Purpose.controlLane, Purpose.dataLane],
        own: options.own,
        preSharedKey: options.preSharedKey,
        ...(options.expectUnitId === null ? {} : { expectUnitId: options.expectUnitId }),
      },
      {
        send: (bytes) => this.#sendCopy(bytes),
        authenticate: (peer) => effects.authenticate(peer),
        open: (peer) => {
          this.purpose = peer.purpose;
          effects.opened(this, peer);
        },
        plain: (bytes) => this.#plain(bytes),
        refused: (refusal) => {
          this.#socket.finish();
          this.end(refusal.sentence);
        },
      },
    );
  }

  get isOpen(): boolean {
    return !this.#over && this.#channel.isOpen;
  }

  /** Queues a verb; it leaves at the end of the turn. */
  send(verb: PeerVerb): void {
    this.#queue.push(verb);
    this.#askFlush();
  }

  /** Every 50 ms: retries what had no memory, ends a handshake that takes too long. */
  tick(): void {
    if (this.#over) return;
    this.#channel.tick();
    if (this.#held.length > 0) this.#release();
    if (this.#queue.length > 0) this.#askFlush();
  }

  /** Ends the lane; idempotent. */
  end(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#decoder.end();
    this.#held = [];
    const queue = this.#queue;
    this.#queue = [];
    this.#socket.finish();
    for (const verb of queue) verb.sent?.();
    this.#effects.ended(this, reason);
  }

  #askFlush(): void {
    if (this.#flushAsked) return;
    this.#flushAsked = true;
    this.#effects.atTurnEnd(() => {
      this.#flushAsked = false;
      while (this.isOpen && this.#queue.length > 0) if (!this.#sealBatch()) return;
    });
  }

  /** Seals the queue's first verbs; false: no memory or too much unsent, the next tick goes on. */
  #sealBatch(): boolean {
    if (this.#socket.queuedBytes > UNSENT_BYTES_MAX) return false;
    let count = 0;
    let headsBytes = 0;
    let plainBytes = 0;
    for (const verb of this.#queue) {
      const head = headBytes(verb);
      if (count > 0 && plainBytes + head + verb.payloadBytes > BATCH_BYTES) break;
      headsBytes += head;
      plainBytes += head + verb.payloadBytes;
      count++;
    }
    const sealedBytes = sealedLengthBytes(plainBytes);
    const buffer = this.#memory.allocate(sealedBytes);
    if (buffer === NO_BUFFER) return false;
    const batch = this.#queue.splice(0, count);
    const heads = new Uint8Array(headsBytes);
    const pieces: Uint8Array[] = [];
    let at = 0;
    for (const verb of batch) {
      const end = encodeHead(verb, heads, at);
      pieces.push(heads.subarray(at, end));
      at = end;
      if (verb.payloadBytes === 0) continue;
      const from = verb.bufferOffset;
      pieces.push(this.#memory.bytes.subarray(from, from + verb.payloadBytes));
    }
    const length = this.#channel.sealInto(this.#memory.bytes, buffer, pieces);
    for (const verb of batch) verb.sent?.();
    this.#socket.send(buffer, length, () => this.#memory.release(buffer));
    return true;
  }

  #sendCopy(bytes: Uint8Array): void {
    const buffer = this.#memory.allocate(bytes.length);
    if (buffer === NO_BUFFER) return this.end("no memory for the handshake");
    this.#memory.bytes.set(bytes, buffer);
    this.#socket.send(buffer, bytes.length, () => this.#memory.release(buffer));
  }

  #received(offset: number, length: number): number {
    if (this.#over) return length;
    this.heardMs = this.#clock.nowMs();
    this.#channel.receive(this.#memory.bytes.subarray(offset, offset + length));
    return length;
  }

  #plain(bytes: Uint8Array): void {
    if (this.#over) return;
    if (this.#held.length > 0) {
      this.#held.push(bytes.slice());
      return;
    }
    const took = this.#decoder.feed(bytes);
    if (this.#decoder.failure !== null) return this.end(this.#decoder.failure);
    if (took === bytes.length) return;
    // No buffer for the payload (R13): the other end is held back by its window until there is.
    this.#held.push(bytes.slice(took));
    this.#socket.pauseReceive();
  }

  #release(): void {
    while (this.#held.length > 0 && !this.#over) {
      const bytes = this.#held[0] as Uint8Array;
      const took = this.#decoder.feed(bytes);
      if (this.#decoder.failure !== null) return this.end(this.#decoder.failure);
      if (took < bytes.length) {
        this.#held[0] = bytes.subarray(took);
        return;
      }
      this.#held.shift();
    }
    if (!this.#over) this.#socket.resumeReceive();
  }
}
