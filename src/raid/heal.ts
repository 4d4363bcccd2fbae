// SPDX-License-Identifier: Apache-2.0
//
// Repair of blocks whose bytes do not match their stored checksum (R9). The caller holds the range
// exclusively, so that content read from one member is not old when it is written to another.
//
// - A bad block of a disk: another in-sync member's matching one, the head's first, then in the
//   record's order. It is written through to the medium, and read back past the cache.
// - Failing that, a disk that is being brought up, where what it holds has the very checksum that
//   the head's disk has stored.
// - None matches, in an active range after a crash: the head's bytes as they are, counted and
//   reported (they are a mix of sectors that were being written; H3 keeps each of them whole).
// - None matches elsewhere: mediumError; never stale or zero data (H8).
// - A disk that does not give back what was written to it, several times in a row, is as good as
//   one that fails the write: it is used no more (R10).

import { blockChecksum } from "#base/checksum.ts";
import { Incident } from "#base/disk-health.ts";
import { BLOCK_BYTES, EXTENT_BYTES } from "#base/grains.ts";
import { LOST_CHECKSUM } from "#base/member-store.ts";
import { NO_BUFFER } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_KEEP_STAMP,
  FLAG_MENDS,
  FLAG_PAST_CACHE,
  FLAG_UNVERIFIED,
  OperationKind,
} from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { VerbKind } from "#base/verbs.ts";
import { STAMP_OWN } from "./applier.ts";
import { FLAG_DIGEST } from "./digest.ts";
import { HappeningKind } from "./happening.ts";
import type { Head } from "./head.ts";
import type { Asker, Replica } from "./replica.ts";
import type { Spread } from "./spread.ts";

export type HealDone = (status: Status) => void;

/** Times a block is written until it reads back right. */
const TRIES_MAX = 3;
/** Unreadable blocks told; more are only counted. */
const TOLD_MAX = 1024;

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

export interface HealRange {
  offsetBytes: number;
  lengthBytes: number;
  bufferOffset: number;
  acceptOwn: boolean;
  /**
   * Where given, a block that nobody can read is no error: it is zero in the buffer, and its offset
   * is added here.
   */
  unreadable?: number[];
}

/** What is left of a range without these blocks (offsets, ascending). */
export function runsAround(
  fromBytes: number,
  endBytes: number,
  blocks: readonly number[],
): { offsetBytes: number; lengthBytes: number }[] {
  const runs: { offsetBytes: number; lengthBytes: number }[] = [];
  let at = fromBytes;
  for (const block of [...blocks, endBytes]) {
    if (block > at) runs.push({ offsetBytes: at, lengthBytes: block - at });
    at = block + BLOCK_BYTES;
  }
  return runs;
}

export class Heal {
  readonly #head: Head;
  /** Offsets of unreadable blocks that were told. */
  readonly #told = new Set<number>();

  constructor(head: Head) {
    this.#head = head;
  }

  /** Reads from the head's disk into `bufferOffset`, repairing what does not match. */
  read(range: HealRange, done: HealDone): void {
    if (range.bufferOffset === NO_BUFFER) return done(Status.busy);
    const { unreadable, offsetBytes, lengthBytes } = range;
    const budget = { repairs: lengthBytes / BLOCK_BYTES + 1 };
    const end = offsetBytes + lengthBytes;
    this.#readPart(range, { from: offsetBytes, end }, budget, (status) => {
      unreadable?.sort((left, right) => left - right);
      done(status);
    });
  }

  #readPart(
    range: HealRange,
    part: { from: number; end: number },
    budget: { repairs: number },
    done: HealDone,
  ): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    const { from, end } = part;
    if (from >= end) return done(Status.ok);
    const bufferOffset = range.bufferOffset + (from - range.offsetBytes);
    const here = { offsetBytes: from, lengthBytes: end - from, bufferOffset };
    head.readHere(here, 0, (status, fault) => {
      if (status !== Status.checksumMismatch) return done(status);
      // Each repair makes one block good; more than there are blocks means they do not stay so.
      budget.repairs--;
      if (budget.repairs < 0 || fault < from) return done(Status.mediumError);
      const block = fault - (fault % BLOCK_BYTES);
      this.block(block, range.acceptOwn, (outcome) => {
        if (outcome === Status.ok) return this.#readPart(range, part, budget, done);
        const { unreadable } = range;
        if (outcome !== Status.mediumError || unreadable === undefined || head.ended) {
          return done(outcome);
        }
        unreadable.push(block);
        const at = range.bufferOffset + (block - range.offsetBytes);
        head.memory.bytes.fill(0, at, at + BLOCK_BYTES);
        // What was read before it may not have been verified.
        this.#readPart(range, { from, end: block }, budget, (before) => {
          if (before !== Status.ok) return done(before);
          this.#readPart(range, { from: block + BLOCK_BYTES, end }, budget, done);
        });
      });
    });
  }

  /** Makes one block of the head's disk good. */
  block(offsetBytes: number, acceptOwn: boolean, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    // Not all in-sync members can be asked: it is not yet known that none has it.
    if (!head.ready) return head.whenReady(() => this.block(offsetBytes, acceptOwn, done));
    const found = (status: Status, bufferOffset: number) => {
      if (status === Status.mediumError) {
        head.store.noteIncident(Incident.unhealed, offsetBytes);
        return this.#unreadable(offsetBytes, done);
      }
      if (status !== Status.ok) return done(status);
      this.#mend(offsetBytes, bufferOffset, TRIES_MAX, (outcome) => {
        head.memory.release(bufferOffset);
        // What a crash may have torn is no fault of the disk.
        if (outcome === Status.ok && acceptOwn) head.counters.healed++;
        else if (outcome === Status.ok) this.#healed(head.store.disk, offsetBytes);
        done(outcome);
      });
    };
    this.#fromPeers(offsetBytes, null, (status, bufferOffset) => {
      if (status !== Status.mediumError) return found(status, bufferOffset);
      if (acceptOwn) this.#acceptOwn(offsetBytes, done);
      else this.#fromTargets(offsetBytes, found);
    });
  }

  /** Makes one block of a member's disk good. */
  peer(replica: Replica, offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    if (replica.state !== "open") return done(Status.linkLost);
    this.#right(offsetBytes, replica, (status, bufferOffset) => {
      if (status === Status.mediumError) return this.#perhapsRight(replica, offsetBytes, done);
      if (status !== Status.ok) return done(status);
      const flags = FLAG_MENDS;
      this.#mendPeer(replica, { offsetBytes, bufferOffset, flags }, TRIES_MAX, (outcome) => {
        head.memory.release(bufferOffset);
        if (outcome === Status.ok) this.#healed(replica.disk, offsetBytes);
        done(outcome);
      });
    });
  }

  /** Nobody else has it: perhaps it is right there, and wrong elsewhere. */
  #perhapsRight(replica: Replica, offsetBytes: number, done: HealDone): void {
    this.#readBackPeer(replica, offsetBytes, (seen) => {
      if (seen === Status.checksumMismatch) this.#unreadable(offsetBytes, done);
      else done(seen);
    });
  }

  /** Writes a block that is right once more: its descriptor goes to the disk with it. */
  again(replica: Replica | null, offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    this.#right(offsetBytes, replica, (status, bufferOffset) => {
      if (status !== Status.ok) return done(status);
      const finish = (outcome: Status) => {
        head.memory.release(bufferOffset);
        done(outcome);
      };
      if (replica === null) return this.#mend(offsetBytes, bufferOffset, TRIES_MAX, finish);
      const flags = 0;
      this.#mendPeer(replica, { offsetBytes, bufferOffset, flags }, TRIES_MAX, finish);
    });
  }

  /** Makes the blocks good that a write merges with at its edges, on the head's disk. */
  edges(spread: Spread, done: HealDone): void {
    this.#eachEdge(spread, done, (offsetBytes, bufferOffset, next) => {
      this.read({ offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset, acceptOwn: false }, next);
    });
  }

  /** The same on a member, which says which block is wrong (or, if it is older, does not). */
  peerEdges(replica: Replica, spread: Spread, fault: number, done: HealDone): void {
    const end = spread.offsetBytes + spread.lengthBytes;
    if (fault > spread.offsetBytes - BLOCK_BYTES && fault < end) {
      return this.peer(replica, fault - (fault % BLOCK_BYTES), done);
    }
    this.#eachEdge(spread, done, (offsetBytes, _bufferOffset, next) => {
      this.peer(replica, offsetBytes, next);
    });
  }

  // Where right bytes come from.

  /**
   * Bytes of a block that match, for anybody but `except` (null: also for the head): the head's
   * first. With ok the buffer is the caller's; mediumError: nobody has them.
   */
  #right(
    offsetBytes: number,
    except: Replica | null,
    done: (status: Status, bufferOffset: number) => void,
  ): void {
    const head = this.#head;
    const bufferOffset = head.memory.allocate(BLOCK_BYTES);
    if (bufferOffset === NO_BUFFER) {
      return head.onNextTick(() => {
        if (head.ended) done(Status.cancelled, NO_BUFFER);
        else this.#right(offsetBytes, except, done);
      });
    }
    const range = { offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset };
    head.readHere(range, 0, (status) => {
      if (status === Status.ok && !head.ended) return done(status, bufferOffset);
      head.memory.release(bufferOffset);
      if (head.ended) return done(Status.cancelled, NO_BUFFER);
      if (status !== Status.checksumMismatch) return done(status, NO_BUFFER);
      this.#fromPeers(offsetBytes, except, done);
    });
  }

  #fromPeers(
    offsetBytes: number,
    except: Replica | null,
    done: (status: Status, bufferOffset: number) => void,
  ): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled, NO_BUFFER);
    const restart = () => this.#fromPeers(offsetBytes, except, done);
    if (!head.ready) return head.whenReady(restart);
    const peers = head.inSyncPeers().filter((replica) => replica !== except);
    let index = 0;
    const askNext = () => {
      const replica = peers[index++];
      if (replica === undefined) return done(Status.mediumError, NO_BUFFER);
      const verb = head.verb(VerbKind.read, replica.disk);
      verb.offsetBytes = offsetBytes;
      verb.lengthBytes = BLOCK_BYTES;
      const asker = new Once((answer) => {
        switch (answer?.status) {
          case undefined:
            return restart();
          case Status.ok: {
            const { bufferOffset } = answer as PeerVerb;
            (answer as PeerVerb).bufferOffset = NO_BUFFER; // Ours now.
            return done(Status.ok, bufferOffset);
          }
          case Status.checksumMismatch:
          case Status.mediumError:
            return askNext();
          case Status.busy:
            return head.onNextTick(restart);
          case Status.staleEpoch:
            // H8: whoever does not answer the question may have it all the same.
            head.sessions.doubted(replica);
            return head.onNextTick(restart);
          default:
            head.sessions.failed(replica, (answer as PeerVerb).status);
            return head.onNextTick(restart);
        }
      });
      if (!head.ask(replica, verb, asker, false)) head.onNextTick(restart);
    };
    askNext();
  }

  /**
   * From disks that are being brought up: what they hold counts only where it is what the head's
   * own disk has a checksum of. So a block that rots while the other copy is away is not lost.
   */
  #fromTargets(offsetBytes: number, done: (status: Status, bufferOffset: number) => void): void {
    const head = this.#head;
    const targets = [...head.replicas.values()].filter((one) => !one.inSync);
    const none = () => done(head.ended ? Status.cancelled : Status.mediumError, NO_BUFFER);
    if (targets.length === 0) return none();
    head.store.checksumsOf(Math.floor(offsetBytes / EXTENT_BYTES), (checksums) => {
      const wanted = checksums?.[(offsetBytes % EXTENT_BYTES) / BLOCK_BYTES] ?? LOST_CHECKSUM;
      const askNext = () => {
        const replica = targets.shift();
        if (replica === undefined || head.ended || wanted === LOST_CHECKSUM) return none();
        if (replica.state !== "open") return askNext();
        const verb = head.verb(VerbKind.read, replica.disk);
        verb.offsetBytes = offsetBytes;
        verb.lengthBytes = BLOCK_BYTES;
        const asker = new Once((answer) => {
          const isThere = answer?.status === Status.ok && answer.payloadBytes === BLOCK_BYTES;
          if (answer === null || !isThere || head.ended) return askNext();
          const { bufferOffset } = answer;
          if (blockChecksum(head.memory.bytes, bufferOffset, BLOCK_BYTES) !== wanted) {
            return askNext();
          }
          answer.bufferOffset = NO_BUFFER; // Ours now.
          done(Status.ok, bufferOffset);
        });
        if (!head.ask(replica, verb, asker, false)) askNext();
      };
      askNext();
    });
  }

  // Writing them.

  #mend(offsetBytes: number, bufferOffset: number, tries: number, done: HealDone): void {
    const head = this.#head;
    this.#rewrite(offsetBytes, bufferOffset, (status) => {
      if (status !== Status.ok) return done(status);
      this.#readBack(offsetBytes, (seen) => {
        if (seen !== Status.checksumMismatch) return done(seen);
        if (tries > 1) return this.#mend(offsetBytes, bufferOffset, tries - 1, done);
        this.#keepsNothing(head.store.disk, offsetBytes);
        head.giveUp("its disk does not keep what is written to it");
        done(head.ended ? Status.cancelled : Status.mediumError);
      });
    });
  }

  #readBack(offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    const bufferOffset = head.memory.allocate(BLOCK_BYTES);
    if (bufferOffset === NO_BUFFER) return head.onNextTick(() => this.#readBack(offsetBytes, done));
    const range = { offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset };
    head.readHere(range, FLAG_PAST_CACHE, (status) => {
      head.memory.release(bufferOffset);
      done(head.ended ? Status.cancelled : status);
    });
  }

  #mendPeer(
    replica: Replica,
    block: { offsetBytes: number; bufferOffset: number; flags: number },
    tries: number,
    done: HealDone,
  ): void {
    const head = this.#head;
    const region = head.regionAt(block.offsetBytes);
    head.activity.enterAnyway(region, region);
    this.#writePeer(replica, block, (status) => {
      head.activity.leave(region, region);
      if (status !== Status.ok) return done(head.ended ? Status.cancelled : status);
      this.#readBackPeer(replica, block.offsetBytes, (seen) => {
        if (seen !== Status.checksumMismatch) return done(seen);
        if (tries > 1) return this.#mendPeer(replica, block, tries - 1, done);
        this.#keepsNothing(replica.disk, block.offsetBytes);
        head.sessions.failed(replica, Status.mediumError);
        done(Status.linkLost);
      });
    });
  }

  #writePeer(
    replica: Replica,
    block: { offsetBytes: number; bufferOffset: number; flags: number },
    done: HealDone,
  ): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    if (replica.state !== "open") return done(Status.linkLost);
    const verb = head.verb(VerbKind.write, replica.disk);
    verb.offsetBytes = block.offsetBytes;
    verb.lengthBytes = BLOCK_BYTES;
    verb.flags = FLAG_KEEP_STAMP | FLAG_FUA | block.flags;
    verb.stamp = head.stampFor(block.offsetBytes);
    verb.bufferOffset = block.bufferOffset;
    verb.payloadBytes = BLOCK_BYTES;
    // The buffer is free once the link let go of it and the answer is there.
    let outcome: Status | null = null;
    let isSent = false;
    const both = () => {
      if (outcome !== null && isSent) done(outcome);
    };
    verb.sent = () => {
      isSent = true;
      both();
    };
    const asker = new Once((answer) => {
      outcome = answer === null ? Status.linkLost : answer.status;
      both();
    });
    if (head.ask(replica, verb, asker, false)) return;
    isSent = true;
    asker.lost();
  }

  #readBackPeer(replica: Replica, offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
    if (replica.state !== "open") return done(Status.linkLost);
    const verb = head.verb(VerbKind.read, replica.disk);
    verb.offsetBytes = offsetBytes;
    verb.lengthBytes = BLOCK_BYTES;
    verb.flags = FLAG_DIGEST | FLAG_PAST_CACHE;
    const asker = new Once((answer) => {
      if (answer === null) return done(Status.linkLost);
      if (answer.status !== Status.busy) return done(answer.status);
      head.onNextTick(() => this.#readBackPeer(replica, offsetBytes, done));
    });
    if (!head.ask(replica, verb, asker, false)) done(Status.linkLost);
  }

  #rewrite(offsetBytes: number, bufferOffset: number, done: HealDone): void {
    const head = this.#head;
    const region = head.regionAt(offsetBytes);
    head.activity.enterAnyway(region, region);
    // H7: the other member may lack what was applied to the rotten block here, and is sent again.
    head.origins.copied(offsetBytes, BLOCK_BYTES);
    const change = {
      kind: OperationKind.write,
      offsetBytes,
      lengthBytes: BLOCK_BYTES,
      flags: FLAG_FUA,
      bufferOffset,
      stamp: STAMP_OWN,
    };
    head.applier.apply(change, head, (status) => {
      head.activity.leave(region, region);
      done(head.ended ? Status.cancelled : status);
    });
  }

  #acceptOwn(offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    if (head.ended) return done(Status.cancelled);
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
      if (head.ended) return finish(Status.cancelled);
      if (status === Status.mediumError) {
        head.memory.release(bufferOffset);
        return this.#unreadable(offsetBytes, done);
      }
      if (status !== Status.ok) return finish(status);
      head.counters.accepted++;
      head.log.write("warn", "a block torn by a crash was taken as it is", {
        slice: head.store.slice,
        disk: head.store.disk,
        offsetBytes,
      });
      this.#rewrite(offsetBytes, bufferOffset, finish);
    });
  }

  // What is told.

  #healed(disk: number, offsetBytes: number): void {
    const head = this.#head;
    head.counters.healed++;
    if (disk === head.store.disk) head.store.noteIncident(Incident.healed, offsetBytes);
    head.happened({ kind: HappeningKind.healed, disk, offsetBytes, blocks: 1 });
  }

  /** H8: no in-sync member has it. */
  #unreadable(offsetBytes: number, done: HealDone): void {
    const head = this.#head;
    head.counters.unreadable++;
    if (!this.#told.has(offsetBytes) && this.#told.size < TOLD_MAX) {
      this.#told.add(offsetBytes);
      const { volume, slice } = head.record;
      const facts = { volume, slice, offsetBytes };
      head.log.write("error", "no copy of a block can be read: it gives medium errors", facts);
      const { disk } = head.store;
      head.happened({ kind: HappeningKind.unreadable, disk, offsetBytes, blocks: 1 });
    }
    done(Status.mediumError);
  }

  #keepsNothing(disk: number, offsetBytes: number): void {
    const { volume, slice } = this.#head.record;
    this.#head.log.write("error", "a disk does not give back what was just written to it", {
      volume,
      slice,
      disk,
      offsetBytes,
    });
    this.#head.happened({ kind: HappeningKind.keepsNothing, disk, offsetBytes, blocks: 1 });
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
}
