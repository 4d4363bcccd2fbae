// SPDX-License-Identifier: Apache-2.0
//
// Repair of blocks whose bytes do not match their stored checksum (R9). The caller holds the range
// exclusively, so that content read from one member is not old when it is written to another.
//
// - A bad block of the head's disk: another in-sync member's matching one, the record's order
//   first.
// - None matches, in an active range after a crash: the head's bytes as they are, counted and
//   reported (they are a mix of sectors that were being written; H3 keeps each of them whole).
// - None matches elsewhere: mediumError; never stale or zero data (H8).

import { BLOCK_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_KEEP_STAMP, FLAG_UNVERIFIED, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { VerbKind } from "#base/verbs.ts";
import { STAMP_OWN } from "./applier.ts";
import type { Head } from "./head.ts";
import type { Asker, Replica } from "./replica.ts";
import type { Spread } from "./spread.ts";

export type HealDone = (status: Status) => void;

/** One question to one member; null: the session ended first. */
export class Once implements Asker {
  readonly #then: (verb: PeerVerb | null) => void;
  constructor(then: (verb: PeerVerb | null) => void) {
    this.#then = then;
  }
  answered(_replica: Replica, verb: PeerVerb): void {
    this.#then(verb);
  }
  lost(): void {
    this.#then(null);
  }
}

export class Heal {
  readonly #head: Head;

  constructor(head: Head) {
    this.#head = head;
  }

  /** Reads from the head's disk into `bufferOffset`, repairing what does not match. */
  read(
    range: { offsetBytes: number; lengthBytes: number; bufferOffset: number; acceptOwn: boolean },
    done: HealDone,
  ): void {
    const { offsetBytes, lengthBytes, bufferOffset, acceptOwn } = range;
    let repairs = 0;
    const attempt = () => {
      if (this.#head.ended) return done(Status.cancelled);
      this.#head.readHere(range, 0, (status, fault) => {
        if (status !== Status.checksumMismatch) return done(status);
        repairs++;
        // Each repair makes one block good; more than there are blocks means they do not stay so.
        if (repairs > lengthBytes / BLOCK_BYTES + 1 || fault < offsetBytes) {
          return done(Status.mediumError);
        }
        this.block(fault - (fault % BLOCK_BYTES), acceptOwn, (outcome) => {
          if (outcome === Status.ok) return attempt();
          done(outcome);
        });
      });
    };
    if (bufferOffset === NO_BUFFER) return done(Status.busy);
    attempt();
  }

  /** Makes one block of the head's disk good. */
  block(offsetBytes: number, acceptOwn: boolean, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    // Not all in-sync members can be asked: it is not yet known that none has it.
    if (!head.ready) return head.whenReady(() => this.block(offsetBytes, acceptOwn, done));
    const peers = head.inSyncPeers();
    let index = 0;
    const askNext = () => {
      const replica = peers[index++];
      if (replica === undefined) {
        if (acceptOwn) return this.#acceptOwn(offsetBytes, done);
        head.counters.unreadable++;
        return done(Status.mediumError);
      }
      const verb = head.verb(VerbKind.read, replica.disk);
      verb.offsetBytes = offsetBytes;
      verb.lengthBytes = BLOCK_BYTES;
      const asker = new Once((answer) => {
        if (answer === null) return this.block(offsetBytes, acceptOwn, done);
        if (answer.status === Status.busy) {
          return head.onNextTick(() => this.block(offsetBytes, acceptOwn, done));
        }
        const good = answer.status === Status.ok && answer.payloadBytes === BLOCK_BYTES;
        if (!good) return askNext();
        const { bufferOffset } = answer;
        answer.bufferOffset = NO_BUFFER; // Ours now.
        this.#rewrite(offsetBytes, bufferOffset, (status) => {
          head.memory.release(bufferOffset);
          if (status === Status.ok) head.counters.healed++;
          done(status);
        });
      });
      if (head.ask(replica, verb, asker, false)) return;
      head.onNextTick(() => this.block(offsetBytes, acceptOwn, done));
    };
    askNext();
  }

  /** Makes the blocks good that a write merges with at its edges, on the head's disk. */
  edges(spread: Spread, done: HealDone): void {
    this.#eachEdge(spread, done, (offsetBytes, bufferOffset, next) => {
      this.read({ offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset, acceptOwn: false }, next);
    });
  }

  /** The same on a member: the head's block is written there whole. */
  peerEdges(replica: Replica, spread: Spread, done: HealDone): void {
    const head = this.#head;
    this.#eachEdge(spread, done, (offsetBytes, bufferOffset, next) => {
      const range = { offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset, acceptOwn: false };
      this.read(range, (status) => {
        if (status !== Status.ok) return next(status);
        if (head.ended || replica.state !== "open") return next(Status.linkLost);
        const verb = head.verb(VerbKind.write, replica.disk);
        verb.offsetBytes = offsetBytes;
        verb.lengthBytes = BLOCK_BYTES;
        verb.flags = FLAG_KEEP_STAMP;
        verb.stamp = head.stampFor(offsetBytes);
        verb.bufferOffset = bufferOffset;
        verb.payloadBytes = BLOCK_BYTES;
        // The buffer is free once the link let go of it and the answer is there.
        let outcome: Status | null = null;
        let isSent = false;
        const both = () => {
          if (outcome !== null && isSent) next(outcome);
        };
        verb.sent = () => {
          isSent = true;
          both();
        };
        const asker = new Once((answer) => {
          outcome = answer === null ? Status.linkLost : answer.status;
          if (outcome === Status.ok) head.counters.healed++;
          both();
        });
        if (head.ask(replica, verb, asker, false)) return;
        isSent = true;
        asker.lost();
      });
    });
  }

  /** Runs `act` for the first and last block of a change where it covers only part of them. */
  #eachEdge(
    spread: Spread,
    done: HealDone,
    act: (offsetBytes: number, bufferOffset: number, next: HealDone) => void,
  ): void {
    const end = spread.offsetBytes + spread.lengthBytes;
    const edges: number[] = [];
    const first = spread.offsetBytes - (spread.offsetBytes % BLOCK_BYTES);
    const last = end - (end % BLOCK_BYTES);
    if (first !== spread.offsetBytes) edges.push(first);
    if (last !== end && edges[0] !== last) edges.push(last);
    // Nothing is merged, so nothing can mismatch: the disk talks nonsense.
    if (edges.length === 0) return done(Status.ioError);
    const bufferOffset = this.#head.memory.allocate(BLOCK_BYTES);
    if (bufferOffset === NO_BUFFER) {
      return this.#head.onNextTick(() => {
        if (this.#head.ended) return done(Status.cancelled);
        this.#eachEdge(spread, done, act);
      });
    }
    const step = (status: Status) => {
      const edge = edges.shift();
      if (status === Status.ok && edge !== undefined) return act(edge, bufferOffset, step);
      this.#head.memory.release(bufferOffset);
      done(status);
    };
    step(Status.ok);
  }

  #acceptOwn(offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    const bufferOffset = head.memory.allocate(BLOCK_BYTES);
    if (bufferOffset === NO_BUFFER) {
      return head.onNextTick(() => this.block(offsetBytes, true, done));
    }
    const range = { offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset };
    const finish = (status: Status) => {
      head.memory.release(bufferOffset);
      done(status);
    };
    head.readHere(range, FLAG_UNVERIFIED, (status) => {
      if (status !== Status.ok || head.ended) return finish(head.ended ? Status.cancelled : status);
      head.counters.accepted++;
      head.log.write("warn", "a block torn by a crash was taken as it is", {
        slice: head.store.slice,
        disk: head.store.disk,
        offsetBytes,
      });
      this.#rewrite(offsetBytes, bufferOffset, finish);
    });
  }

  #rewrite(offsetBytes: number, bufferOffset: number, done: HealDone): void {
    const head = this.#head;
    const region = head.regionAt(offsetBytes);
    head.activity.enterAnyway(region, region);
    const change = {
      kind: OperationKind.write,
      offsetBytes,
      lengthBytes: BLOCK_BYTES,
      flags: 0,
      bufferOffset,
      stamp: STAMP_OWN,
    };
    head.applier.apply(change, head, (status) => {
      head.activity.leave(region, region);
      done(status);
    });
  }
}
