// SPDX-License-Identifier: Apache-2.0
//
// RingSocket: StreamSocket (base/stream.ts) on the ring.
//
// Receiving: one receive under way at most. It fills the receive buffer, from where onBytes takes
// whole messages, many at a time; a large payload asked for by receiveInto goes straight to its
// place. Where such payloads follow each other, only the head of the next one is received with each
// (`#headBytes`), so that none has to be copied, and what is there is taken by a plain call at
// once. Sending: one send under way at most, so that order holds; what was queued meanwhile, and
// within one turn of the loop, leaves in the next one as a single sendmsg.
//
// Invariants:
// - The kernel holds at most four submissions of a socket (receive, send, watch, connect). The
//   descriptor and the buffers are given back when it holds none and the socket is ending.
// - While receiving is paused, a watch notices that the peer went away (H7: who forwards for a host
//   stops when the host's connection has ended).
// - A socket that ends tells its pending `done`s first, then onClose, all from a deferred call.
//   What is sent after that is answered with linkLost.

import { assert } from "#base/assert.ts";
import { HOST_UNHEARD_MS } from "#base/limits.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import {
  CANCEL_ALL,
  CANCEL_FD,
  CQE_FLAG,
  IOVEC,
  IOVEC_BYTES,
  MSGHDR,
  MSG_NOSIGNAL,
  MSG_WAITALL,
  POLL_GONE,
  RECEIVE_POLL_FIRST,
  RING_OP,
  LINGER_BYTES,
  SHUT_RDWR,
  SOL_SOCKET,
  SO_LINGER,
  SQE,
} from "./io-uring.wire.ts";
import { sendInBulk } from "./congestion.ts";
import { ERRNO, address, errnoName, libc } from "./libc.ts";
import type { Reactor, TurnEnd } from "./reactor.ts";
import type { RingTarget } from "./ring.ts";
import { RECEIVE_NOW_BYTES, receiveNow } from "./receive-now.ts";
import { unheardMs } from "./tcp-info.ts";

export const RECEIVE_BYTES_DEFAULT = 64 << 10;
/** A payload's rest at least this long goes straight to its place; a shorter one rides along. */
const DIRECT_BYTES_MIN = 16 << 10;
/** Sends queued at once; whoever queues more ignored queuedBytes. */
const SENDS_MAX = 65536;
const CONTROL_BYTES = 4096;
const IOVECS_AT = 64;
const RECEIVE_NOW_AT = CONTROL_BYTES - RECEIVE_NOW_BYTES;
const IOVECS_MAX = (RECEIVE_NOW_AT - IOVECS_AT) / IOVEC_BYTES;
/** Bytes taken by plain calls in one turn: answers wait for its end. */
const RECEIVE_NOW_BYTES_MAX = 256 << 10;
/** Who sends so much in one piece sends in bulk. */
const BULK_BYTES_MIN = 32 << 10;
/** Bytes one sendmsg takes at most, so that `done`s do not wait for each other too long. */
const SEND_BYTES_MAX = 4 << 20;

const TAG_RECEIVE = 0;
const TAG_RECEIVE_INTO = 1;
const TAG_SEND = 2;
const TAG_WATCH = 3;

type Done = (status: Status) => void;
const header = MSGHDR.view();

export class RingSocket implements StreamSocket, RingTarget, TurnEnd {
  readonly peerAddress: string;
  readonly peerPort: number;
  onBytes: (bufferOffset: number, lengthBytes: number) => number = unset;
  onClose: (reason: string) => void = () => {};
  readonly #reactor: Reactor;
  readonly #fd: number;
  #inKernel = 0;
  /** Null while open; then why it ends. */
  #ending: string | null = null;
  #finishing = false;
  #closeDeferred = false;
  #closed = false;
  #detaching: ((handle: number | null) => void) | null = null;

  // Receiving: unread bytes lie at [#readFrom, #readTo) of the receive buffer.
  readonly #receiveAt: number;
  readonly #receiveBytes: number;
  #readFrom = 0;
  #readTo = 0;
  #receiving = false;
  #moreWaits = false;
  #paused = false;
  #watching = false;
  #presenting = false;
  #presentDeferred = false;
  #intoAt = NO_BUFFER;
  #intoBytes = 0;
  #intoDone: Done | null = null;
  /** Used up by onBytes in front of the last payload; 0: something came without one since. */
  #headBytes = 0;
  /** Left of what plain calls may receive in this turn. */
  #nowBytesLeft = 0;

  // Sending: a queue of [offset, length, done], the first #sendBytes of it under way.
  readonly #controlAt: number;
  #sendOffsets: number[] = [];
  #sendLengths: number[] = [];
  #sendDones: (Done | null)[] = [];
  #sendHead = 0;
  /** Bytes of the first entry that the kernel has already taken. */
  #sendHeadTaken = 0;
  #sending = false;
  #turnEndAsked = false;
  #queuedBytes = 0;
  #isBulk: boolean;

  /** Takes over a connected descriptor. Null when Memory has no room for its buffers (R13). */
  static create(
    reactor: Reactor,
    fd: number,
    peer: { address: string; port: number },
    receiveBytes = RECEIVE_BYTES_DEFAULT,
  ): RingSocket | null {
    const control = reactor.memory.allocate(CONTROL_BYTES);
    const receive = control === NO_BUFFER ? NO_BUFFER : reactor.memory.allocate(receiveBytes);
    if (receive === NO_BUFFER) {
      if (control !== NO_BUFFER) reactor.memory.release(control);
      return null;
    }
    return new RingSocket(reactor, fd, peer, control, receive, receiveBytes);
  }

  private constructor(
    reactor: Reactor,
    fd: number,
    peer: { address: string; port: number },
    controlAt: number,
    receiveAt: number,
    receiveBytes: number,
  ) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.peerAddress = peer.address;
    this.peerPort = peer.port;
    this.#controlAt = controlAt;
    this.#receiveAt = receiveAt;
    this.#receiveBytes = receiveBytes;
    this.#isBulk = peer.port === 0; // a unix socket has no congestion
    // The first receive is armed at the turn's end, when onBytes has been set.
    this.#askTurnEnd();
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }
  get unheardMs(): number {
    return this.#closed ? 0 : unheardMs(this.#fd);
  }

  receiveInto(bufferOffset: number, lengthBytes: number, done: Done): void {
    assert(this.#intoDone === null, "one receiveInto at a time");
    assert(lengthBytes > 0 && bufferOffset >= 0, "receiveInto has somewhere to go");
    if (this.#closed) {
      this.#reactor.defer(() => done(Status.linkLost));
      return;
    }
    this.#intoAt = bufferOffset;
    this.#intoBytes = lengthBytes;
    this.#intoDone = done;
    if (this.#ending !== null) this.#deferClose();
    else this.#presentSoon();
  }

  pauseReceive(): void {
    this.#paused = true;
    this.#askTurnEnd();
  }

  resumeReceive(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#presentSoon();
  }

  send(bufferOffset: number, lengthBytes: number, done: Done | null): void {
    assert(lengthBytes > 0 && bufferOffset >= 0, "a send has bytes");
    if (this.#closed) {
      if (done !== null) this.#reactor.defer(() => done(Status.linkLost));
      return;
    }
    assert(!this.#finishing, "nothing is sent after finish");
    assert(this.#sendOffsets.length - this.#sendHead < SENDS_MAX, "queued sends are bounded");
    this.#sendOffsets.push(bufferOffset);
    this.#sendLengths.push(lengthBytes);
    this.#sendDones.push(done);
    this.#queuedBytes += lengthBytes;
    if (!this.#isBulk && lengthBytes >= BULK_BYTES_MIN) {
      this.#isBulk = true;
      sendInBulk(this.#reactor, this.#fd, this.#controlAt + RECEIVE_NOW_AT);
    }
    if (this.#ending !== null) this.#deferClose();
    else this.#askTurnEnd();
  }

  detach(done: (handle: number | null) => void): void {
    const idle = this.#sendHead === this.#sendOffsets.length && this.#intoDone === null;
    assert(idle && this.#paused, "given away when nothing is under way");
    this.onClose = () => {};
    if (this.#closed) {
      this.#reactor.defer(() => done(null));
      return;
    }
    this.#detaching = done;
    if (this.#ending === null && this.#inKernel > 0) this.#cancel();
    this.#deferClose();
  }

  close(): void {
    this.#end("closed here");
  }

  finish(): void {
    this.#finishing = true;
    this.#askTurnEnd();
  }

  /** From the reactor, once before the next submission. */
  turnEnds(): void {
    this.#turnEndAsked = false;
    if (this.#ending !== null || this.#detaching !== null) return;
    if (!this.#sending && this.#sendHead < this.#sendOffsets.length) this.#startSend();
    if (this.#finishing && !this.#sending) {
      this.#end("finished here");
      return;
    }
    this.#armReceive();
  }

  ringDone(tag: number, result: number, flags: number): void {
    this.#inKernel--;
    switch (tag) {
      case TAG_SEND:
        this.#sent(result);
        break;
      case TAG_WATCH:
        this.#watching = false;
        if (this.#paused && result !== -ERRNO.ECANCELED) this.#end("the peer went away");
        break;
      default:
        this.#receiving = false;
        this.#moreWaits = (flags & CQE_FLAG.socketNonEmpty) !== 0;
        this.#received(tag, result);
    }
    if (this.#ending !== null || this.#detaching !== null) this.#deferClose();
  }

  // ---- receiving ----------------------------------------------------------------------------

  #received(tag: number, result: number): void {
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#askTurnEnd();
      return;
    }
    if (result <= 0) return this.#endReceiving(result);
    this.#reactor.movedBytes += result;
    if (tag === TAG_RECEIVE_INTO) this.#intoTook(result);
    else this.#readTo += result;
    this.#present();
  }

  #endReceiving(result: number): void {
    if (this.#ending !== null) return;
    this.#end(result === 0 ? "the peer closed" : `receiving failed: ${errnoName(-result)}`);
  }

  #intoTook(bytes: number): void {
    this.#intoAt += bytes;
    this.#intoBytes -= bytes;
  }

  /** From a call of the owner's: what it causes comes in a later turn. */
  #presentSoon(): void {
    if (this.#presenting || this.#presentDeferred) return;
    this.#presentDeferred = true;
    this.#reactor.defer(() => {
      this.#presentDeferred = false;
      this.#present();
    });
  }

  /** Hands out what has been received, until nobody wants it; then arms the next receive. */
  #present(): void {
    if (this.#presenting) return;
    this.#presenting = true;
    while (this.#ending === null) {
      const unread = this.#readTo - this.#readFrom;
      if (this.#intoDone !== null) {
        if (this.#intoBytes > 0 && unread > 0) this.#copyInto(Math.min(unread, this.#intoBytes));
        if (this.#intoBytes > 0 && this.#mayTakeNow) this.#takeNow();
        if (this.#intoBytes > 0) break;
        const done = this.#intoDone;
        this.#intoDone = null;
        done(Status.ok);
        continue;
      }
      if (this.#paused) break;
      if (unread === 0) {
        if (this.#moreWaits && this.#mayTakeNow) this.#takeNow();
        if (this.#readFrom === this.#readTo) break;
        continue;
      }
      const used = this.onBytes(this.#receiveAt + this.#readFrom, unread);
      assert(used >= 0 && used <= unread, "a handler uses up at most what is there");
      this.#readFrom += used;
      this.#learnHead(used);
      if (used > 0 || this.#intoDone !== null || this.#paused) continue;
      if (unread === this.#receiveBytes) this.#end("a message is larger than the receive buffer");
      break;
    }
    this.#presenting = false;
    if (this.#ending === null) this.#askTurnEnd();
  }

  #copyInto(bytes: number): void {
    const from = this.#receiveAt + this.#readFrom;
    this.#reactor.memory.bytes.copyWithin(this.#intoAt, from, from + bytes);
    this.#readFrom += bytes;
    this.#intoTook(bytes);
  }

  /** What came in front of a payload is likely to come in front of the next one too. */
  #learnHead(usedBytes: number): void {
    if (this.#intoDone !== null) {
      this.#headBytes = this.#intoBytes >= DIRECT_BYTES_MIN ? usedBytes : 0;
    } else if (usedBytes > 0) this.#headBytes = 0;
  }

  get #mayTakeNow(): boolean {
    return this.#headBytes > 0 && this.#nowBytesLeft > 0 && !this.#receiving;
  }

  /** The rest of the payload that is asked for, if any, and the next head, as far as they came. */
  #takeNow(): void {
    this.#readFrom = 0;
    this.#readTo = 0;
    const head = this.#headBytes;
    const wanted = this.#intoDone === null ? 0 : this.#intoBytes;
    const result = receiveNow(
      this.#reactor,
      this.#fd,
      this.#controlAt + RECEIVE_NOW_AT,
      this.#intoAt,
      wanted,
      this.#receiveAt,
      head,
    );
    this.#moreWaits = result === wanted + head;
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) return;
    if (result <= 0) return this.#endReceiving(result);
    this.#reactor.movedBytes += result;
    this.#nowBytesLeft -= result;
    const took = Math.min(result, wanted);
    this.#intoTook(took);
    this.#readTo = result - took;
  }

  #armReceive(): void {
    this.#nowBytesLeft = RECEIVE_NOW_BYTES_MAX;
    if (this.#receiving) return;
    if (this.#intoDone !== null && this.#intoBytes >= DIRECT_BYTES_MIN) {
      // Nothing unread is left here: #present has copied it before it asked for more.
      if (this.#readFrom < this.#readTo) return; // a present is due
      this.#receive(TAG_RECEIVE_INTO, this.#intoAt, this.#intoBytes, MSG_WAITALL);
      return;
    }
    if (this.#paused && this.#intoDone === null) {
      this.#watch();
      return;
    }
    if (this.#readFrom === this.#readTo) {
      this.#readFrom = 0;
      this.#readTo = 0;
    } else if (this.#readFrom > 0 && this.#readTo > this.#receiveBytes / 2) {
      const at = this.#receiveAt;
      this.#reactor.memory.bytes.copyWithin(at, at + this.#readFrom, at + this.#readTo);
      this.#readTo -= this.#readFrom;
      this.#readFrom = 0;
    }
    let room = this.#receiveBytes - this.#readTo;
    const unread = this.#readTo - this.#readFrom;
    const foreseen = this.#headBytes + (this.#intoDone === null ? 0 : this.#intoBytes);
    if (this.#headBytes > 0 && unread < foreseen) room = Math.min(room, foreseen - unread);
    if (room > 0) this.#receive(TAG_RECEIVE, this.#receiveAt + this.#readTo, room, 0);
  }

  #receive(tag: number, bufferOffset: number, lengthBytes: number, messageFlags: number): void {
    const { ring } = this.#reactor;
    const entry = ring.prepare(RING_OP.recv, this.#fd, this, tag);
    this.#reactor.setAddress(entry, bufferOffset);
    ring.words[entry + SQE.length] = lengthBytes;
    ring.words[entry + SQE.opFlags] = messageFlags;
    // The last receive emptied the socket: a try now would only fail first.
    if (!this.#moreWaits && tag === TAG_RECEIVE) {
      ring.words[entry + SQE.opcode] = RING_OP.recv | (RECEIVE_POLL_FIRST << 16);
    }
    this.#receiving = true;
    this.#inKernel++;
  }

  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#inKernel++;
    const { ring } = this.#reactor;
    const entry = ring.prepare(RING_OP.pollAdd, this.#fd, this, TAG_WATCH);
    ring.words[entry + SQE.opFlags] = POLL_GONE;
  }

  // ---- sending ------------------------------------------------------------------------------

  #startSend(): void {
    const { ring, memory } = this.#reactor;
    this.#reactor.sendPrepared();
    const first = this.#sendHead;
    const firstOffset = (this.#sendOffsets[first] as number) + this.#sendHeadTaken;
    let lengthBytes = (this.#sendLengths[first] as number) - this.#sendHeadTaken;
    let pieces = 1;
    this.#writePiece(0, firstOffset, lengthBytes);
    let pieceStart = firstOffset;
    let pieceBytes = lengthBytes;
    for (let i = first + 1; i < this.#sendOffsets.length; i++) {
      const offset = this.#sendOffsets[i] as number;
      const length = this.#sendLengths[i] as number;
      if (lengthBytes + length > SEND_BYTES_MAX) break;
      if (offset === pieceStart + pieceBytes) {
        pieceBytes += length; // header and payload lie together: one piece
      } else {
        if (pieces === IOVECS_MAX) break;
        pieces++;
        pieceStart = offset;
        pieceBytes = length;
      }
      this.#writePiece(pieces - 1, pieceStart, pieceBytes);
      lengthBytes += length;
    }
    this.#sending = true;
    this.#inKernel++;
    const flags = MSG_NOSIGNAL | MSG_WAITALL;
    if (pieces === 1) {
      const entry = ring.prepare(RING_OP.send, this.#fd, this, TAG_SEND);
      this.#reactor.setAddress(entry, pieceStart);
      ring.words[entry + SQE.length] = pieceBytes;
      ring.words[entry + SQE.opFlags] = flags;
      return;
    }
    const message = header.at(memory.bytes, this.#controlAt).clear();
    message.iov = memory.baseAddress + this.#controlAt + IOVECS_AT;
    message.iovCount = pieces;
    const entry = ring.prepare(RING_OP.sendmsg, this.#fd, this, TAG_SEND);
    this.#reactor.setAddress(entry, this.#controlAt);
    ring.words[entry + SQE.length] = 1;
    ring.words[entry + SQE.opFlags] = flags;
  }

  #writePiece(index: number, bufferOffset: number, lengthBytes: number): void {
    const at = this.#controlAt + IOVECS_AT + index * IOVEC_BYTES;
    const { view } = this.#reactor.memory;
    view.setUint32(at + IOVEC.addressLow, this.#reactor.addressLow(bufferOffset), true);
    view.setUint32(at + IOVEC.addressHigh, this.#reactor.addressHigh, true);
    view.setUint32(at + IOVEC.lengthLow, lengthBytes, true);
    view.setUint32(at + IOVEC.lengthHigh, 0, true);
  }

  #sent(result: number): void {
    this.#sending = false;
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#askTurnEnd();
      return;
    }
    if (result < 0) {
      this.#end(`sending failed: ${errnoName(-result)}`);
      return;
    }
    this.#reactor.movedBytes += result;
    this.#queuedBytes -= result;
    let taken = result + this.#sendHeadTaken;
    while (this.#sendHead < this.#sendOffsets.length) {
      const length = this.#sendLengths[this.#sendHead] as number;
      if (taken < length) break;
      taken -= length;
      const done = this.#sendDones[this.#sendHead] as Done | null;
      this.#sendHead++;
      if (done !== null) done(Status.ok);
    }
    this.#sendHeadTaken = taken;
    this.#compactSends();
    if (this.#finishing || this.#sendHead < this.#sendOffsets.length) this.#askTurnEnd();
  }

  #compactSends(): void {
    if (this.#sendHead === this.#sendOffsets.length) {
      this.#sendOffsets.length = 0;
      this.#sendLengths.length = 0;
      this.#sendDones.length = 0;
      this.#sendHead = 0;
    } else if (this.#sendHead >= 1024) {
      this.#sendOffsets = this.#sendOffsets.slice(this.#sendHead);
      this.#sendLengths = this.#sendLengths.slice(this.#sendHead);
      this.#sendDones = this.#sendDones.slice(this.#sendHead);
      this.#sendHead = 0;
    }
  }

  // ---- ending -------------------------------------------------------------------------------

  #askTurnEnd(): void {
    if (this.#turnEndAsked || this.#ending !== null) return;
    this.#turnEndAsked = true;
    this.#reactor.atTurnEnd(this);
  }

  #end(reason: string): void {
    if (this.#ending !== null) return;
    this.#ending = reason;
    if (this.#inKernel > 0) {
      // Both wake what waits in the kernel; a half of them may find nothing to do.
      libc.shutdown(this.#fd, SHUT_RDWR);
      this.#cancel();
    }
    this.#deferClose();
  }

  #cancel(): void {
    const entry = this.#reactor.ring.prepareIgnored(RING_OP.asyncCancel, this.#fd);
    this.#reactor.ring.words[entry + SQE.opFlags] = CANCEL_ALL | CANCEL_FD;
  }

  #deferClose(): void {
    if (this.#inKernel > 0 || this.#closeDeferred) return;
    this.#closeDeferred = true;
    this.#reactor.defer(() => {
      if (this.#detaching === null) this.#finishClose();
      else this.#finishDetach(this.#detaching);
    });
  }

  #finishDetach(done: (handle: number | null) => void): void {
    if (this.#ending === null && this.#readFrom < this.#readTo) this.#ending = "bytes nobody used";
    if (this.#ending !== null) {
      this.#finishClose();
      return done(null);
    }
    this.#ending = "given away";
    this.#closed = true;
    this.#reactor.memory.release(this.#controlAt);
    this.#reactor.memory.release(this.#receiveAt);
    done(this.#fd);
  }

  #finishClose(): void {
    // What was queued is dropped, not left to the kernel: a peer that does not read would not learn
    // of the end behind it. One that is not heard would not either: a reset is said once and may be
    // lost, the end behind what is queued is said again until its machine has it.
    if (this.#queuedBytes > 0 && unheardMs(this.#fd) < HOST_UNHEARD_MS) {
      this.#reactor.memory.view.setUint32(this.#controlAt, 1, true);
      this.#reactor.memory.view.setUint32(this.#controlAt + 4, 0, true);
      const linger = address(this.#reactor.memory.baseAddress + this.#controlAt);
      libc.setsockopt(this.#fd, SOL_SOCKET, SO_LINGER, linger, LINGER_BYTES);
    }
    this.#closed = true; // what the calls below send or ask for is answered by a deferred call
    const into = this.#intoDone;
    this.#intoDone = null;
    if (into !== null) into(Status.linkLost);
    for (let i = this.#sendHead; i < this.#sendDones.length; i++) {
      this.#sendDones[i]?.(Status.linkLost);
    }
    this.#sendDones.length = 0;
    this.#sendOffsets.length = 0;
    this.#sendLengths.length = 0;
    this.#sendHead = 0;
    this.#queuedBytes = 0;
    libc.close(this.#fd);
    this.#reactor.memory.release(this.#controlAt);
    this.#reactor.memory.release(this.#receiveAt);
    this.onClose(this.#ending as string);
  }
}

function unset(): number {
  throw new Error("a socket without onBytes");
}
