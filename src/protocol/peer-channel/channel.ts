// SPDX-License-Identifier: Apache-2.0
//
// PeerChannel: the authenticated, encrypted link between two units as a state machine over bytes;
// no I/O. Noise_XXpsk3_25519_AESGCM_SHA256 (noise.ts) in the frames of channel.wire.ts; the psk
// comes from the join secret, and each side's payload binds its X25519 key to its Ed25519 identity
// by a signature over the running hash, so that it is worth nothing in any other handshake.
//
// Invariants
// - nothing of the stream is given up or taken before both sides have proved themselves and the
//   responder has admitted the initiator (its `accept`);
// - every length from outside is held against a maximum before it sizes or waits for anything;
// - a channel refuses once, says why in one sentence, and is dead from then on;
// - counters are nonces: a record that was changed, repeated, dropped or reordered ends the
//   channel.

import { assert } from "#base/assert.ts";
import type { World } from "#base/world.ts";
import { FRAME, FrameKind, HANDSHAKE_MS_MAX, HELLO, RECORD_BYTES_MAX } from "./channel.wire.ts";
import { CHANNEL_VERSION, HELLO_MAGIC, IDENTITY, Purpose, REKEY_RECORDS } from "./channel.wire.ts";
import { checkPeer, readIdentity, readRefusal, writeIdentity, writeRefusal } from "./identity.ts";
import type { OwnIdentity, PeerIdentity } from "./identity.ts";
import { Handshake, HANDSHAKE_MESSAGE_BYTES_MAX, TAG_BYTES } from "./noise.ts";
import type { CipherState } from "./noise.ts";
import { refusalTable } from "./refusal.ts";
import type { Refusal, RefusalCode } from "./refusal.ts";

const EMPTY = new Uint8Array(0);
const FRAME_BYTES_MAX = FRAME.size + RECORD_BYTES_MAX + TAG_BYTES;
const HELLO_BYTES_MAX = HELLO.size + HANDSHAKE_MESSAGE_BYTES_MAX;
const RECORD_OVERHEAD_BYTES = FRAME.size + TAG_BYTES;

export interface ChannelOptions {
  /** What the initiator wants; null makes this end the responder. */
  readonly call: Purpose | null;
  /** What the responder offers where it listens. */
  readonly offers: readonly Purpose[];
  readonly own: OwnIdentity;
  /** JoinKeys.link, or what a purpose has in its place. */
  readonly preSharedKey: Uint8Array | ((purpose: Purpose) => Uint8Array);
  /** The unit that is being called, where it is known: another one that answers is refused. */
  readonly expectUnitId?: Uint8Array;
  /** Only for tests: both ends must have the same. */
  readonly rekeyRecords?: number;
}

/** Why a proved unit is not welcome: a sentence, with a code where it tells that unit something. */
export type Unwelcome = string | { code: RefusalCode; sentence: string };

export interface ChannelEffects {
  /** Bytes of the handshake, to be written to the stream. */
  send(bytes: Uint8Array): void;
  /** Is this proved unit welcome here? What says why not. Called on both ends. */
  authenticate(peer: PeerIdentity): Unwelcome | null;
  /** From now on `seal` and `plain` work. */
  open(peer: PeerIdentity): void;
  /** The stream's next bytes, as they were sealed by the other end; overwritten by the next. */
  plain(bytes: Uint8Array): void;
  /** The channel is dead. Close the stream once what was given to `send` is out. */
  refused(refusal: Refusal): void;
}

/** Bytes that `plainBytes` of the stream take once sealed. */
export function sealedLengthBytes(plainBytes: number): number {
  return plainBytes + RECORD_OVERHEAD_BYTES * Math.ceil(plainBytes / RECORD_BYTES_MAX);
}

type State = "hello" | "second" | "third" | "accept" | "open" | "dead";

// Which frames may come in which state, and how long they may be.
const EXPECTED: Record<State, Partial<Record<FrameKind, number>>> = {
  hello: { [FrameKind.hello]: HELLO_BYTES_MAX },
  second: { [FrameKind.handshake]: HANDSHAKE_MESSAGE_BYTES_MAX, [FrameKind.refusal]: 256 },
  third: { [FrameKind.handshake]: HANDSHAKE_MESSAGE_BYTES_MAX, [FrameKind.refusal]: 256 },
  accept: {
    [FrameKind.accept]: TAG_BYTES,
    [FrameKind.sealedRefusal]: 256 + TAG_BYTES,
    [FrameKind.refusal]: 256,
  },
  open: { [FrameKind.record]: RECORD_BYTES_MAX + TAG_BYTES },
  dead: {},
};

// Records of several pieces are gathered here; sealing is synchronous, so one is enough for all.
const gathered = new Uint8Array(RECORD_BYTES_MAX);

export class PeerChannel {
  readonly #world: Pick<World, "clock" | "seal">;
  readonly #options: ChannelOptions;
  readonly #effects: ChannelEffects;
  readonly #rekeyRecords: number;
  readonly #startedMs: number;
  readonly #frame = FRAME.view();
  readonly #outHeader = new Uint8Array(FRAME.size);
  readonly #outFrame = FRAME.view();
  #state: State;
  #handshake: Handshake | null = null;
  #purpose: Purpose;
  #peer: PeerIdentity | null = null;
  #send: CipherState | null = null;
  #receive: CipherState | null = null;
  /** A frame of which only the first `#partialBytes` have come. */
  #partial: Uint8Array = EMPTY;
  #partialBytes = 0;
  /** The record opened last: one at a time. */
  #opened: Uint8Array = EMPTY;

  /** The initiator's hello leaves at once. */
  constructor(
    world: Pick<World, "clock" | "seal">,
    options: ChannelOptions,
    effects: ChannelEffects,
  ) {
    this.#world = world;
    this.#options = options;
    this.#effects = effects;
    this.#rekeyRecords = options.rekeyRecords ?? REKEY_RECORDS;
    this.#startedMs = world.clock.nowMs();
    this.#purpose = options.call ?? Purpose.join;
    this.#state = options.call === null ? "hello" : "second";
    if (options.call !== null) this.#call(options.call);
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }
  get isDead(): boolean {
    return this.#state === "dead";
  }
  get peer(): PeerIdentity | null {
    return this.#state === "open" ? this.#peer : null;
  }

  /** Ends a handshake that takes too long. Not needed once open. */
  tick(): void {
    if (this.#state === "open" || this.#state === "dead") return;
    if (this.#world.clock.nowMs() - this.#startedMs > HANDSHAKE_MS_MAX) this.#refuse("tooSlow");
  }

  /** Bytes of the stream, cut anywhere. All are taken; `bytes` may be reused afterwards. */
  receive(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#state !== "dead") {
      at = this.#partialBytes === 0 ? this.#takeWhole(bytes, at) : this.#takePart(bytes, at);
    }
  }

  /**
   * Seals pieces of the stream, one after the other, into fresh bytes to be written to the stream.
   */
  seal(pieces: readonly Uint8Array[]): Uint8Array {
    const target = new Uint8Array(sealedLengthBytes(totalBytes(pieces)));
    this.sealInto(target, 0, pieces);
    return target;
  }

  /**
   * As `seal`, into `target` from `start`; answers how many bytes: sealedLengthBytes of the whole.
   */
  sealInto(target: Uint8Array, start: number, pieces: readonly Uint8Array[]): number {
    assert(this.#state === "open", "the channel is open");
    assert(
      start + sealedLengthBytes(totalBytes(pieces)) <= target.length,
      "the sealed bytes fit their buffer",
    );
    let at = start;
    let filled = 0;
    for (const piece of pieces) {
      let from = 0;
      while (from < piece.length) {
        const room = RECORD_BYTES_MAX - filled;
        const part = piece.subarray(from, from + Math.min(room, piece.length - from));
        from += part.length;
        // A lone piece is sealed where it lies.
        if (filled === 0 && (part.length === RECORD_BYTES_MAX || pieces.length === 1)) {
          at += this.#sealFrame(target, at, FrameKind.record, part);
          continue;
        }
        gathered.set(part, filled);
        filled += part.length;
        if (filled < RECORD_BYTES_MAX) continue;
        at += this.#sealFrame(target, at, FrameKind.record, gathered);
        filled = 0;
      }
    }
    if (filled > 0) {
      at += this.#sealFrame(target, at, FrameKind.record, gathered.subarray(0, filled));
    }
    return at - start;
  }

  // Frames
  // ------------------------------------------------------------------------------------------

  #takeWhole(bytes: Uint8Array, at: number): number {
    const left = bytes.length - at;
    if (left >= FRAME.size) {
      const bodyBytes = this.#checkHeader(bytes, at);
      if (bodyBytes < 0) return bytes.length;
      const end = at + FRAME.size + bodyBytes;
      if (end <= bytes.length) {
        this.#act(bytes.subarray(at, end));
        return end;
      }
    }
    // Whoever has not proved itself does not make us hold a whole record's room.
    const roomBytes = this.#state === "open" ? FRAME_BYTES_MAX : FRAME.size + HELLO_BYTES_MAX;
    if (this.#partial.length < roomBytes) this.#partial = new Uint8Array(roomBytes);
    this.#partial.set(bytes.subarray(at), 0);
    this.#partialBytes = left;
    return bytes.length;
  }

  #takePart(bytes: Uint8Array, at: number): number {
    let next = at;
    if (this.#partialBytes < FRAME.size) {
      next = this.#fill(bytes, next, FRAME.size);
      if (this.#partialBytes < FRAME.size) return next;
    }
    const bodyBytes = this.#checkHeader(this.#partial, 0);
    if (bodyBytes < 0) return bytes.length;
    const wanted = FRAME.size + bodyBytes;
    next = this.#fill(bytes, next, wanted);
    if (this.#partialBytes < wanted) return next;
    this.#partialBytes = 0;
    this.#act(this.#partial.subarray(0, wanted));
    return next;
  }

  #fill(bytes: Uint8Array, at: number, upTo: number): number {
    const part = bytes.subarray(at, at + Math.min(upTo - this.#partialBytes, bytes.length - at));
    this.#partial.set(part, this.#partialBytes);
    this.#partialBytes += part.length;
    return at + part.length;
  }

  /** The body's length, or -1: refused. */
  #checkHeader(bytes: Uint8Array, at: number): number {
    const frame = this.#frame.at(bytes, at);
    const longest = EXPECTED[this.#state][frame.kind as FrameKind];
    if (longest === undefined || frame.lengthBytes > longest || !frame.reservedIsZero()) {
      this.#refuse(this.#state === "open" ? "brokenRecord" : "malformed");
      return -1;
    }
    return frame.lengthBytes;
  }

  #act(frame: Uint8Array): void {
    const body = frame.subarray(FRAME.size);
    switch (this.#frame.at(frame, 0).kind as FrameKind) {
      case FrameKind.hello:
        return this.#answerCall(body);
      case FrameKind.handshake:
        return this.#state === "second" ? this.#readSecond(body) : this.#readThird(body);
      case FrameKind.refusal:
        return this.#refusedBy(body, false);
      case FrameKind.accept:
      case FrameKind.sealedRefusal:
      case FrameKind.record:
        return this.#unseal(frame);
    }
  }

  #write(kind: FrameKind, body: Uint8Array): void {
    const frame = new Uint8Array(FRAME.size + body.length);
    this.#writeHeader(frame, kind, body.length);
    frame.set(body, FRAME.size);
    this.#effects.send(frame);
  }

  #writeHeader(target: Uint8Array, kind: FrameKind, bodyBytes: number): void {
    const header = this.#outFrame.at(target, 0).clear();
    header.lengthBytes = bodyBytes;
    header.kind = kind;
  }

  // Handshake
  // ---------------------------------------------------------------------------------------

  #newHandshake(hello: Uint8Array): Handshake {
    const { preSharedKey } = this.#options;
    const purpose = HELLO.view().at(hello, 0).purpose as Purpose;
    return new Handshake(this.#world.seal, {
      pattern: "XXpsk3",
      initiator: this.#options.call !== null,
      prologue: hello,
      staticKeys: this.#options.own.linkKeys,
      preSharedKey: typeof preSharedKey === "function" ? preSharedKey(purpose) : preSharedKey,
    });
  }

  #call(purpose: Purpose): void {
    const hello = new Uint8Array(HELLO.size);
    const view = HELLO.view().at(hello, 0);
    view.magic = HELLO_MAGIC;
    view.version = CHANNEL_VERSION;
    view.purpose = purpose;
    this.#handshake = this.#newHandshake(hello);
    const first = this.#handshake.write(EMPTY);
    assert(first !== null, "the first message mixes no key of the other's");
    const body = new Uint8Array(hello.length + first.length);
    body.set(hello);
    body.set(first, hello.length);
    this.#write(FrameKind.hello, body);
  }

  #answerCall(body: Uint8Array): void {
    if (body.length < HELLO.size) return this.#refuse("malformed");
    const hello = HELLO.view().at(body, 0);
    if (hello.magic !== HELLO_MAGIC || !hello.reservedIsZero()) return this.#refuse("malformed");
    if (hello.version !== CHANNEL_VERSION) return this.#refuse("unknownVersion");
    const purpose = this.#options.offers.find((offered) => offered === hello.purpose);
    if (purpose === undefined) return this.#refuse("wrongPurpose");
    this.#purpose = purpose;
    this.#handshake = this.#newHandshake(body.slice(0, HELLO.size));
    if (this.#handshake.read(body.slice(HELLO.size)) === null) return this.#refuse("malformed");
    if (!this.#writeHandshake()) return;
    this.#state = "third";
  }

  /** Our next handshake message, our identity in it. */
  #writeHandshake(): boolean {
    const handshake = this.#handshake as Handshake;
    const payload = writeIdentity(this.#world.seal, this.#options.own, {
      purpose: this.#purpose,
      initiator: this.#options.call !== null,
      handshakeHash: handshake.hash,
    });
    const message = handshake.write(payload);
    if (message === null) {
      this.#refuse("malformed");
      return false;
    }
    this.#write(FrameKind.handshake, message);
    return true;
  }

  /** The other's identity from its handshake message; null: refused. */
  #readHandshake(body: Uint8Array): PeerIdentity | null {
    const handshake = this.#handshake as Handshake;
    const handshakeHash = handshake.hash;
    const payload = handshake.read(body.slice());
    if (payload === null) {
      this.#refuse("notAuthentic");
      return null;
    }
    const peer = readIdentity(this.#world.seal, payload, {
      initiator: this.#options.call === null,
      handshakeHash,
      staticKey: handshake.remoteStatic as Uint8Array,
    });
    if (peer === null)
      this.#refuse(payload.length === IDENTITY.size ? "wrongIdentity" : "malformed");
    return peer;
  }

  #readSecond(body: Uint8Array): void {
    const peer = this.#readHandshake(body);
    if (peer === null) return;
    // Before our own identity leaves: is this the one we want to talk to?
    const fault = this.#faultOf(peer);
    if (fault !== null) return this.#refuse(fault.code, fault.sentence);
    if (!this.#writeHandshake()) return;
    this.#split(peer);
    this.#state = "accept";
  }

  #readThird(body: Uint8Array): void {
    const peer = this.#readHandshake(body);
    if (peer === null) return;
    this.#split(peer);
    const fault = this.#faultOf(peer);
    if (fault !== null) return this.#refuse(fault.code, fault.sentence);
    this.#sendSealed(FrameKind.accept, EMPTY);
    this.#open();
  }

  #faultOf(peer: PeerIdentity): { code: RefusalCode; sentence: string } | null {
    const code = checkPeer(this.#options.own, peer, {
      purpose: this.#purpose,
      initiator: this.#options.call !== null,
      expectUnitId: this.#options.expectUnitId ?? null,
    });
    if (code !== null) return { code, sentence: refusalTable[code][1] };
    const why = this.#effects.authenticate(peer);
    return typeof why === "string" ? { code: "notAdmitted", sentence: why } : why;
  }

  #split(peer: PeerIdentity): void {
    const { send, receive } = (this.#handshake as Handshake).split();
    this.#send = send;
    this.#receive = receive;
    this.#peer = peer;
    this.#handshake = null;
  }

  #open(): void {
    this.#state = "open";
    this.#effects.open(this.#peer as PeerIdentity);
  }

  // Records
  // -----------------------------------------------------------------------------------------

  #unseal(frame: Uint8Array): void {
    const cipher = this.#receive as CipherState;
    this.#rekeyIfDue(cipher);
    const kind = this.#frame.at(frame, 0).kind;
    const header = frame.subarray(0, FRAME.size);
    const plainBytes = frame.length - FRAME.size - TAG_BYTES;
    if (this.#opened.length < plainBytes) this.#opened = new Uint8Array(RECORD_BYTES_MAX);
    const isAuthentic = cipher.decryptInto(header, frame.subarray(FRAME.size), this.#opened);
    if (!isAuthentic) return this.#refuse("brokenRecord");
    const plain = this.#opened.subarray(0, plainBytes);
    if (kind === FrameKind.accept) return this.#open();
    if (kind === FrameKind.sealedRefusal) return this.#refusedBy(plain, true);
    if (plain.length === 0) return this.#refuse("brokenRecord");
    this.#effects.plain(plain);
  }

  #sealFrame(target: Uint8Array, at: number, kind: FrameKind, plain: Uint8Array): number {
    const cipher = this.#send as CipherState;
    this.#rekeyIfDue(cipher);
    this.#writeHeader(this.#outHeader, kind, plain.length + TAG_BYTES);
    target.set(this.#outHeader, at);
    cipher.encryptInto(this.#outHeader, plain, target, at + FRAME.size);
    return FRAME.size + plain.length + TAG_BYTES;
  }

  #sendSealed(kind: FrameKind, plain: Uint8Array): void {
    const frame = new Uint8Array(RECORD_OVERHEAD_BYTES + plain.length);
    this.#sealFrame(frame, 0, kind, plain);
    this.#effects.send(frame);
  }

  // Both ends count the same records of a direction, so both change the key before the same one.
  #rekeyIfDue(cipher: CipherState): void {
    if (cipher.counter > 0 && cipher.counter % this.#rekeyRecords === 0) cipher.rekey();
  }

  // The end
  // -----------------------------------------------------------------------------------------

  #refuse(code: RefusalCode, sentence: string = refusalTable[code][1]): void {
    const wasOpen = this.#state === "open";
    const canSeal = this.#send !== null;
    // An open channel that breaks just ends; nothing is said in clear about a sealed stream.
    if (!wasOpen) {
      if (canSeal) this.#sendSealed(FrameKind.sealedRefusal, writeRefusal(code, sentence));
      else this.#write(FrameKind.refusal, writeRefusal(code, refusalTable[code][1]));
    }
    this.#end({ code, sentence, byPeer: false, proved: this.#peer !== null });
  }

  #refusedBy(body: Uint8Array, proved: boolean): void {
    const { code, sentence } = readRefusal(body);
    this.#end({ code, sentence, byPeer: true, proved });
  }

  #end(refusal: Refusal): void {
    this.#state = "dead";
    this.#partial = EMPTY;
    this.#partialBytes = 0;
    this.#opened = EMPTY;
    this.#handshake = null;
    this.#effects.refused(refusal);
  }
}

function totalBytes(pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) sum += piece.length;
  return sum;
}
