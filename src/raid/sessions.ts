// SPDX-License-Identifier: Apache-2.0
//
// A head's sessions with the members that its record names, and who of them must leave or may come
// in.
//
// Invariants
// - R0: a member in sync must attach in the incarnation named; else it is dropped by a commit.
// - R2: who is lost is dropped before anything else is proposed.
// - R7: a target is proposed only by its resync, flushed; a former member comes back only while the
//   promised copies are not reached by others.
// - A member whose unit is in maintenance keeps a target's place while it is away.

import { BEACON_EVERY_MS } from "#base/limits.ts";
import type { DiskNumber } from "#base/record.ts";
import { Status, statusName } from "#base/status.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { VerbKind } from "#base/verbs.ts";
import type { Head, HeadHost } from "./head.ts";
import { nextRecord } from "./membership.ts";
import type { HeadChange } from "./membership.ts";
import { Replica } from "./replica.ts";
import { Resync } from "./resync.ts";

/** A proposal to drop a member unanswered for this long: others may be able to commit; let them. */
const STEP_BACK_MS = 2000;
/** How often a member that does not answer is asked to attach. */
const ATTACH_EVERY_MS = 250;
/** How long a target that failed is left alone. */
const TARGET_REST_MS = 5000;
/** How long a target may be away before its place is free for another. */
const TARGET_AWAY_MS = 10_000;

export class Sessions {
  readonly #head: Head;
  readonly #host: HeadHost;
  /** The epoch in which the headship began. */
  readonly #firstEpoch: number;
  readonly replicas = new Map<DiskNumber, Replica>();

  constructor(head: Head, host: HeadHost, firstEpoch: number) {
    this.#head = head;
    this.#host = host;
    this.#firstEpoch = firstEpoch;
  }

  /** A member answered that our epoch is old. */
  doubted(replica: Replica): void {
    this.close(replica);
    replica.attachSentMs = this.#head.nowMs();
    this.attach(replica);
  }
  /** A member failed what it was asked (R10: an I/O error ejects the disk). */
  failed(replica: Replica, status: Status): void {
    replica.failedMs = this.#head.nowMs();
    replica.failure = `answered ${statusName(status)}`;
    this.close(replica);
    this.evaluate();
  }
  /** Its unit says that the disk is out of use (R10), whether it was asked anything or not. */
  out(disk: DiskNumber): void {
    const replica = this.replicas.get(disk);
    if (replica !== undefined && replica.failure === null) this.failed(replica, Status.ioError);
  }
  /** The replica as the present record has it. */
  name(disk: DiskNumber, incarnation: number): void {
    let replica = this.replicas.get(disk);
    if (replica === undefined) {
      replica = new Replica(disk, this.#head.nowMs(), this.#host.links.has(disk));
      this.replicas.set(disk, replica);
    }
    const isTarget = incarnation === 0;
    if (isTarget && replica.inSync) {
      replica.known = false;
      replica.resync = null;
    }
    if (!isTarget && !replica.inSync) {
      // Its resync came to its end; its incarnation is the one named, or it must go again.
      replica.known = replica.resync?.incarnation === incarnation;
      if (replica.resync !== null) this.#host.returns.came(disk, this.#head.nowMs());
      replica.resync = null;
      replica.failure = null;
    }
    if (isTarget && replica.promoting) replica.resync?.notCommitted();
    replica.inSync = !isTarget;
    replica.namedIncarnation = incarnation;
    replica.promoting = false;
  }

  /** The record names it no more. */
  drop(replica: Replica): void {
    replica.inSync = false;
    replica.promoting = false;
    this.close(replica);
    this.replicas.delete(replica.disk);
  }

  /** Ends the session; who need not be waited for is not. */
  close(replica: Replica): void {
    replica.close();
    if (replica.required) return;
    for (const spread of this.#head.spreads.list()) spread.drop(replica);
  }

  attach(replica: Replica): void {
    if (!replica.linked || replica.failure !== null || this.#head.released) return;
    if (!this.#head.isStoredHere || replica.state !== "closed") return;
    const verb = this.#head.verb(VerbKind.attach, replica.disk);
    verb.record = this.#head.record;
    // H7: what names of requests were heard before the member is let in.
    verb.entries = this.#head.origins.marks().map((stamp, extent) => ({ extent, stamp }));
    replica.attachSequence = verb.sequence;
    replica.attachAgainMs = this.#head.nowMs() + ATTACH_EVERY_MS;
    replica.state = "attaching";
    if (!this.#host.send(verb)) replica.state = "closed";
  }

  tick(nowMs: number): void {
    for (const replica of this.replicas.values()) {
      if (nowMs >= replica.beaconDueMs) this.beacon(replica, nowMs);
      const isTarget = !replica.inSync && !replica.promoting;
      if (isTarget && replica.failure !== null && nowMs - replica.failedMs > TARGET_REST_MS) {
        replica.failure = null;
      }
      if (isTarget && replica.stalled(nowMs)) this.close(replica);
      // Its unit may not have had the member yet when it was asked first.
      const isAsked = replica.state === "attaching" && nowMs < replica.attachAgainMs;
      if (replica.state === "open") replica.openMs = nowMs;
      if (replica.state === "open" || isAsked) continue;
      const since = replica.state === "closed" ? nowMs : replica.attachSentMs;
      replica.state = "closed";
      this.attach(replica);
      replica.attachSentMs = since;
    }
  }

  attached(replica: Replica, verb: PeerVerb): void {
    if (verb.sequence !== replica.attachSequence || replica.state !== "attaching") return;
    replica.state = "closed";
    if (verb.status === Status.staleEpoch && verb.record !== null) {
      this.#host.learned(verb.record);
      return;
    }
    replica.incarnation = verb.incarnation;
    if (replica.inSync && verb.incarnation !== replica.namedIncarnation) {
      replica.failure = "restarted"; // R0: not in the set, whatever its unit says.
    } else if (verb.status !== Status.ok) {
      replica.failure = `refused to attach: ${statusName(verb.status)}`;
    }
    if (replica.failure !== null) return this.evaluate();
    replica.sessionEpoch = verb.epoch;
    replica.state = "open";
    replica.credit = verb.credit;
    if (replica.inSync) this.#memberAttached(replica, verb);
    else this.#targetAttached(replica, verb);
    this.beacon(replica, this.#head.nowMs());
    for (const spread of this.#head.spreads.list()) spread.offer(replica);
    this.#head.progress();
  }

  #memberAttached(replica: Replica, verb: PeerVerb): void {
    const regions = verb.regions ?? [];
    if (!replica.known) {
      if (this.#head.established) this.#head.reconcile.recover(regions);
      else for (const region of regions) this.#head.reported.add(region);
    }
    replica.known = true;
    this.#head.activity.report(regions);
  }

  #targetAttached(replica: Replica, verb: PeerVerb): void {
    if (replica.resync !== null && replica.resync.incarnation === verb.incarnation) {
      replica.resync.reattached(verb);
    } else if (replica.proposed) {
      // The record may name its former run any moment: until that is known it stays required.
      replica.failure = "restarted";
      this.close(replica);
    } else {
      this.#unpromote(replica);
      replica.resync = new Resync(this.#head, replica, verb);
      // R7: changes under way that began without the target; their stamps may not show yet.
      for (const spread of this.#head.spreads) {
        if (spread.kind === "flush" || spread.waitsFor(replica)) continue;
        replica.resync.miss(spread.offsetBytes, spread.lengthBytes);
      }
    }
    this.#host.changed();
  }

  /** A target in flushing went away before anybody proposed it. */
  #unpromote(replica: Replica): void {
    if (!replica.promoting) return;
    replica.resync?.notCommitted();
    for (const spread of this.#head.spreads.list()) spread.drop(replica);
  }

  granted(replica: Replica, verb: PeerVerb): void {
    const isOurs = verb.lineage === this.#head.record.lineage && verb.epoch >= this.#firstEpoch;
    if (!isOurs || verb.tickMs > this.#head.nowMs()) return;
    replica.grantTickMs = Math.max(replica.grantTickMs, verb.tickMs);
    if (replica.allocating === 0) replica.credit = verb.credit;
    this.#head.wakeReaders();
    if (verb.entries !== null) this.#head.mender.heard(replica, verb.entries);
  }

  /** A member of the set, or one that was, said which run of its disk is there. */
  heard(disk: DiskNumber, incarnation: number): void {
    const replica = this.replicas.get(disk);
    if (replica === undefined) {
      if (disk !== this.#head.store.disk) this.#host.returns.heard(disk, this.#head.nowMs());
      return;
    }
    if (!replica.inSync || incarnation === replica.namedIncarnation) return;
    if (replica.failure !== null) return;
    replica.failure = "restarted";
    this.close(replica);
    this.evaluate();
  }

  linkUp(disk: DiskNumber): void {
    const replica = this.replicas.get(disk);
    if (replica === undefined) return;
    replica.linked = true;
    replica.linkChangedMs = this.#head.nowMs();
    if (!replica.inSync) replica.failure = null;
    if (replica.state !== "closed") this.close(replica);
    replica.attachSentMs = replica.linkChangedMs;
    this.attach(replica);
  }

  linkDown(disk: DiskNumber): void {
    const replica = this.replicas.get(disk);
    if (replica === undefined || !replica.linked) return;
    replica.linked = false;
    replica.linkChangedMs = this.#head.nowMs();
    this.close(replica);
  }

  // Membership.

  /** Whether anything about the membership must change, and proposes it. */
  evaluate(): void {
    if (this.#head.ended || this.#head.released || this.#host.proposingSinceMs() !== null) return;
    const nowMs = this.#head.nowMs();
    const lost: DiskNumber[] = [];
    for (const replica of this.replicas.values()) {
      const reason = this.#reasonToDrop(replica, nowMs);
      if (reason === null) continue;
      if (replica.inSync) {
        lost.push(replica.disk);
        this.#host.returns.left(replica.disk, nowMs);
        this.#head.log.write("warn", "dropping a member of a slice", {
          slice: this.#head.record.slice,
          disk: replica.disk,
          reason,
        });
      } else this.#unpromote(replica);
    }
    // R2: a drop goes before everything else; acks wait for it.
    const { maintained } = this.#host.plans();
    if (lost.length > 0) {
      return this.#propose({ lost, awaited: lost.filter((disk) => maintained.has(disk)) });
    }
    for (const replica of this.replicas.values()) {
      if (replica.resync?.phase !== "ready" || !replica.promoting) continue;
      const { disk } = replica;
      return this.#propose({ ready: { disk, incarnation: replica.resync.incarnation } });
    }
    if (!this.#head.established || !this.#head.ready) return;
    const { record } = this.#head;
    const gone = record.resyncing.filter((disk) => {
      const replica = this.replicas.get(disk);
      const isAway = replica !== undefined && nowMs - replica.openMs > TARGET_AWAY_MS;
      return isAway && !maintained.has(disk);
    });
    if (gone.length > 0) return this.#propose({ gone });
    if (record.inSync.length > record.copies && this.#letGo()) return;
    const isShort = record.inSync.length + record.resyncing.length < record.copies;
    const { returns, links } = this.#host;
    if (!isShort) return;
    const returning = returns.next(nowMs, record, links) ?? returns.awaited(record, maintained);
    if (returning !== null) this.#propose({ returning });
  }

  /**
   * More are in sync than promised: one that is being retired goes. Where that is the head's own
   * disk, another takes over (R3), as after any release.
   */
  #letGo(): boolean {
    const { record, store } = this.#head;
    const { leaving } = this.#host.plans();
    const going = record.inSync.find(({ disk }) => leaving.has(disk) && disk !== store.disk);
    if (going !== undefined) {
      this.#head.log.write("info", "a retired disk is let go", {
        slice: record.slice,
        disk: going.disk,
      });
      this.#propose({ lost: [going.disk] });
      return true;
    }
    if (!leaving.has(store.disk)) return false;
    this.#head.giveUp("its disk is being retired, and others hold all copies");
    return true;
  }

  #reasonToDrop(replica: Replica, nowMs: number): string | null {
    if (replica.failure !== null) return replica.failure;
    const awayMs = nowMs - replica.linkChangedMs;
    if (!replica.linked && awayMs >= this.#host.linkGraceMs) return "no link";
    if (replica.stalled(nowMs)) return "no progress"; // R13
    return null;
  }

  #propose(change: HeadChange): void {
    const { ready } = change;
    const target = ready === undefined ? undefined : this.replicas.get(ready.disk);
    if (target !== undefined) target.proposed = true;
    this.#host.propose(nextRecord(this.#head.record, change), (isCommitted) => {
      if (target === undefined) return;
      target.proposed = false;
      if (isCommitted || this.#head.ended || target.inSync) return;
      target.failure = null;
      target.resync?.notCommitted();
      if (target.state === "open") return;
      for (const spread of this.#head.spreads.list()) spread.drop(target);
    });
  }

  /** R4: asks for the right to answer reads, in the epoch the member has stored. */
  beacon(replica: Replica, nowMs: number): void {
    if (!replica.linked || replica.sessionEpoch === 0 || this.#head.released) return;
    const since = this.#host.proposingSinceMs();
    // Perhaps only we cannot reach the control store: let another take over.
    replica.beaconDueMs = nowMs + BEACON_EVERY_MS;
    if (since !== null && nowMs - since > STEP_BACK_MS && !this.#head.ready) {
      // And let whoever did tell us.
      return this.#host.enquire(replica.disk);
    }
    const verb = this.#head.verb(VerbKind.beacon, replica.disk);
    verb.epoch = replica.sessionEpoch;
    verb.tickMs = this.#head.nowMs();
    this.#host.send(verb);
  }
}
