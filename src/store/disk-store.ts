// SPDX-License-Identifier: Apache-2.0
//
// DiskStore: one open disk (design.md section 4). Members live in it; what the unit asks of the
// disk as a whole is here. Made by openDisk (open-disk.ts).
//
// R10, crash-only: after a write or a flush that failed, `failed` is true, `onFailed` was called
// once, and every operation and verb ends with ioError. There is no way back but opening the disk
// again.

import { assert } from "#base/assert.ts";
import type { StoreDone } from "#base/member-store.ts";
import type { DiskNumber, Incarnation, SliceNumber } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { Checkpointer } from "./checkpoint.ts";
import { EntryKind } from "./format.wire.ts";
import { COMMIT_BUFFER_BYTES } from "./metadata-log.ts";
import { Member } from "./member.ts";
import { validSliceSize } from "./metadata.ts";
import { identityText } from "./page.ts";
import { Scrubber } from "./scrubber.ts";
import type { StoreCore } from "./store-core.ts";
import type { Superblock } from "./superblock.ts";

export interface DiskTotals {
  /** 1 MiB extents the disk has. */
  extents: number;
  /** Free to be given out, reserved ones included. */
  free: number;
  /** Of the free ones, held back for members (R10). */
  reserved: number;
}

export class DiskStore {
  /** 32 hexadecimal digits. */
  readonly uuid: string;
  readonly clusterId: string;
  /** R9: reads it all through in its time. */
  readonly scrub: Scrubber;
  /** Called once, when the disk is ejected (R10). */
  onFailed: (reason: string) => void = () => {};
  readonly #core: StoreCore;
  readonly #checkpointer: Checkpointer;
  readonly #buffers: readonly number[];
  readonly #members = new Map<SliceNumber, Member>();

  constructor(
    core: StoreCore,
    checkpointer: Checkpointer,
    rest: { superblock: Superblock; buffers: readonly number[] },
  ) {
    this.#core = core;
    this.#checkpointer = checkpointer;
    this.#buffers = rest.buffers;
    this.uuid = identityText(rest.superblock.disk);
    this.clusterId = identityText(rest.superblock.cluster);
    this.scrub = new Scrubber(core, checkpointer, rest.superblock);
    for (const slice of core.metadata.slices.keys()) this.#addMember(slice);
    const onDurable = core.log.onDurable;
    core.log.onDurable = () => {
      onDurable();
      checkpointer.maybe();
    };
    core.io.onFailed = (reason) => {
      core.fail();
      checkpointer.fail();
      this.scrub.stop();
      this.onFailed(reason);
    };
    checkpointer.maybe();
  }

  /** In the cluster; 0 until it was registered. */
  get number(): DiskNumber {
    return this.#core.metadata.number;
  }
  /** R0: of this opening. */
  get incarnation(): Incarnation {
    return this.#core.metadata.incarnation;
  }
  /** H6: the first incarnation that had this cache of the disk. */
  get bootIncarnation(): Incarnation {
    return this.#core.bootIncarnation;
  }
  get failed(): boolean {
    return this.#core.io.failed;
  }
  /** What failed, in words; empty while nothing did. */
  get failure(): string {
    return this.#core.io.failure;
  }
  get totals(): DiskTotals {
    const { extents, free, reserved } = this.#core.space;
    return { extents, free, reserved };
  }
  /** Of Memory, for as long as it is open. */
  get heldBytes(): number {
    return this.#core.heldBytes + this.#buffers.length * COMMIT_BUFFER_BYTES;
  }
  /** Descriptors found with a damaged slot since the disk was opened. */
  get damagedDescriptors(): number {
    return this.#core.cache.damaged;
  }

  /** Numbers of the slices that have a member here, ascending. */
  slices(): SliceNumber[] {
    return [...this.#members.keys()].sort((left, right) => left - right);
  }

  member(slice: SliceNumber): Member | null {
    return this.#members.get(slice) ?? null;
  }

  /** Registers the disk's number, durably; once for ever. */
  setNumber(number: DiskNumber, done: StoreDone): void {
    assert(number > 0, "disks are numbered from 1");
    if (this.#unusable(done)) return;
    const { log, metadata } = this.#core;
    if (metadata.number !== 0 && metadata.number !== number) return done(Status.invalid);
    if (metadata.number === number) return log.sync(log.appended, done);
    log.sync(
      log.append((pages) => pages.putValue(EntryKind.number, number)),
      done,
    );
  }

  /**
   * Makes an empty member, durably; one that is there with this size is left as it is. It grows by
   * the records that it stores.
   */
  createMember(slice: SliceNumber, sizeBytes: number, done: StoreDone): void {
    if (this.#unusable(done)) return;
    const { log, metadata, plan } = this.#core;
    if (slice < 1 || slice > 0xffffffff || !validSliceSize(sizeBytes)) return done(Status.invalid);
    const state = metadata.slices.get(slice);
    if (state !== undefined && state.sizeBytes !== sizeBytes) return done(Status.invalid);
    if (state === undefined && metadata.slices.size >= plan.slicesMax) return done(Status.noSpace);
    if (state === undefined) log.append((pages) => pages.putCreate(slice, sizeBytes));
    log.sync(log.appended, (status) => {
      if (status === Status.ok && !this.#members.has(slice)) this.#addMember(slice);
      done(status);
    });
  }

  /**
   * Background work: commits what waits lazily, checkpoints before the log is full, scrubs. The
   * wall clock is for people (0: not known).
   */
  tick(nowMs: number, wallMs = 0): void {
    if (this.#core.io.failed || this.#core.closing) return;
    this.#core.log.commit();
    this.#checkpointer.maybe();
    this.scrub.tick(nowMs, wallMs);
  }

  /** All on stable media: what the members wrote, and what the log says, in a checkpoint too. */
  checkpoint(done: StoreDone): void {
    if (this.#unusable(done)) return;
    this.#core.cycle.request((status) => {
      if (status !== Status.ok) return done(status);
      this.#checkpointer.request(done);
    });
  }

  /** Takes the disk out of use as after an I/O error (R10); it is still to be closed. */
  eject(reason: string): void {
    this.#core.io.fail(reason);
  }

  /**
   * Ends the store: no more operations are taken (shuttingDown), those in flight end, everything is
   * flushed and checkpointed, and the buffers go back to Memory. Activity stays as it is: only a
   * head ends that.
   */
  close(done: StoreDone): void {
    const core = this.#core;
    assert(!core.closing, "a store is closed once");
    core.closing = true;
    this.scrub.stop();
    const flushed = () => {
      core.onIdle = () => {};
      core.cycle.request(() => {
        this.#checkpointer.request((status) => this.#giveBuffers(status, done));
      });
    };
    if (core.idle) flushed();
    else core.onIdle = flushed;
  }

  /** Once the area has answered every call: until then the buffers are its own. */
  #giveBuffers(status: Status, done: StoreDone): void {
    const { io } = this.#core;
    io.onIdle = () => {
      if (!this.#core.log.idle && !io.failed) return;
      io.onIdle = () => {};
      this.#core.closeBuffers();
      for (const buffer of this.#buffers) io.memory.release(buffer);
      done(io.failed ? Status.ioError : status);
    };
    if (io.inFlight === 0) io.onIdle();
  }

  #unusable(done: StoreDone): boolean {
    if (this.#core.io.failed) done(Status.ioError);
    else if (this.#core.closing) done(Status.shuttingDown);
    else return false;
    return true;
  }

  #addMember(slice: SliceNumber): void {
    const state = this.#core.metadata.slices.get(slice);
    // Dropped again before its creation was durable.
    if (state === undefined) return;
    const onDropped = () => {
      this.#members.delete(slice);
      this.scrub.dropped(slice);
    };
    this.#members.set(slice, new Member(this.#core, state, onDropped));
  }
}
