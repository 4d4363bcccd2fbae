// SPDX-License-Identifier: Apache-2.0
//
// Opening a disk: superblock, checkpoint, log; then the incarnation is raised, durably, before
// anything else is said of the disk (R0); then what a crash left in the descriptors of active
// regions is made whole (descriptor.ts). Where only the process died, what it had not made durable
// comes from its keepsake (keepsake.ts): entries as if they stood in the log, then blocks. Every
// step is a callback; nothing is written before the metadata was understood completely, so a disk
// that cannot be opened is left as it is.

import { NO_BUFFER } from "#base/memory.ts";
import type { Memory } from "#base/memory.ts";
import { BLOCKS_PER_EXTENT, EXTENTS_PER_REGION } from "#base/grains.ts";
import type { Area } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { World } from "#base/world.ts";
import { CheckpointLoad } from "./checkpoint-load.ts";
import type { LoadedCheckpoint } from "./checkpoint-load.ts";
import { Checkpointer } from "./checkpoint.ts";
import type { Descriptor } from "./descriptor.ts";
import { DiskIo } from "./disk-io.ts";
import { DiskStore } from "./disk-store.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import { EntryKind, PAGE_BYTES } from "./format.wire.ts";
import { FreeSpace } from "./free-space.ts";
import { LogReplay } from "./log-replay.ts";
import type { ReplayedLog } from "./log-replay.ts";
import { COMMIT_BUFFER_BYTES } from "./metadata-log.ts";
import { Keepsake } from "./keepsake.ts";
import type { Inheritance, KeptBlocks, KeptEntry } from "./keepsake.ts";
import type { Metadata, SliceState } from "./metadata.ts";
import type { PageIdentity } from "./page.ts";
import { STORE_LIMITS, StoreCore } from "./store-core.ts";
import type { StoreLimits } from "./store-core.ts";
import { decodeSuperblock, encodeSuperblock, identityOf } from "./superblock.ts";
import type { Superblock } from "./superblock.ts";

export interface OpenOptions {
  /** Where the usual ones do not fit: the simulator, tests, small boxes. */
  limits?: Partial<StoreLimits>;
  /**
   * Memory that outlives the process but not the machine's power (keepsake.ts), of this disk alone.
   * Without it the death of the process loses what was not flushed (H6).
   */
  keepsake?: Uint8Array;
}

/** The store, or null with a status and the reason in words. */
export type OpenDone = (store: DiskStore | null, status: Status, reason: string) => void;

export function openDisk(
  world: Pick<World, "log">,
  memory: Memory,
  area: Area,
  options: OpenOptions,
  done: OpenDone,
): void {
  const limits = { ...STORE_LIMITS, ...options.limits };
  const keepsake = options.keepsake === undefined ? null : new Keepsake(options.keepsake);
  new Opening(world, { memory, area, limits, keepsake }, done).begin();
}

/** Descriptors looked at in one go when opening settles a crash. */
const SETTLE_IN_FLIGHT = 16;

class Opening {
  readonly #world: Pick<World, "log">;
  readonly #memory: Memory;
  readonly #area: Area;
  readonly #limits: StoreLimits;
  readonly #keepsake: Keepsake | null;
  readonly #done: OpenDone;
  readonly #io: DiskIo;
  #logBuffer = NO_BUFFER;
  #checkpointBuffer = NO_BUFFER;
  #superblock: Superblock | null = null;
  #core: StoreCore | null = null;
  /** What the keepsake says of blocks. */
  #blocks: readonly KeptBlocks[] = [];

  constructor(
    world: Pick<World, "log">,
    parts: { memory: Memory; area: Area; limits: StoreLimits; keepsake: Keepsake | null },
    done: OpenDone,
  ) {
    this.#world = world;
    this.#memory = parts.memory;
    this.#area = parts.area;
    this.#limits = parts.limits;
    this.#keepsake = parts.keepsake;
    this.#done = done;
    this.#io = new DiskIo(parts.area, parts.memory);
  }

  begin(): void {
    this.#logBuffer = this.#memory.allocate(COMMIT_BUFFER_BYTES);
    this.#checkpointBuffer = this.#memory.allocate(COMMIT_BUFFER_BYTES);
    if (this.#logBuffer === NO_BUFFER || this.#checkpointBuffer === NO_BUFFER) {
      return this.#fail(Status.busy, "no memory for the disk's buffers");
    }
    this.#readSuperblock(0, (first) => {
      const lastAt = Math.floor(this.#area.sizeBytes / PAGE_BYTES) * PAGE_BYTES - PAGE_BYTES;
      // The area may have grown since: the second copy is where the first says.
      const at = typeof first === "string" ? lastAt : first.plan.areaBytes - PAGE_BYTES;
      this.#readSuperblock(at, (second) => this.#chooseSuperblock(first, second));
    });
  }

  #readSuperblock(at: number, done: (found: Superblock | string) => void): void {
    if (at < 0 || at + PAGE_BYTES > this.#area.sizeBytes) return done("the area is too small");
    this.#io.read(at, PAGE_BYTES, this.#logBuffer, (status) => {
      if (status !== Status.ok) return done("the superblock cannot be read");
      done(decodeSuperblock(this.#memory.bytes, this.#logBuffer));
    });
  }

  #chooseSuperblock(first: Superblock | string, second: Superblock | string): void {
    const chosen = typeof first === "string" ? second : first;
    if (typeof chosen === "string") return this.#fail(Status.notFound, first as string);
    if (chosen.plan.areaBytes > this.#area.sizeBytes) {
      return this.#fail(Status.invalid, "the area is smaller than the store made for it");
    }
    this.#superblock = chosen;
    const damaged = typeof first === "string" ? 0 : typeof second === "string" ? 1 : null;
    const identity = identityOf(chosen);
    new CheckpointLoad(this.#io, chosen.plan, {
      identity,
      buffer: this.#logBuffer,
      done: (loaded) => {
        if (loaded === null) return this.#fail(Status.invalid, "both checkpoints are damaged");
        this.#replay(chosen, loaded, { identity, damaged });
      },
    }).begin();
  }

  #replay(
    superblock: Superblock,
    loaded: LoadedCheckpoint,
    found: { identity: PageIdentity; damaged: 0 | 1 | null },
  ): void {
    new LogReplay(this.#io, superblock.plan, {
      identity: found.identity,
      metadata: loaded.metadata,
      buffer: this.#logBuffer,
      from: loaded.log,
      throughEntry: loaded.throughEntry,
      done: (replayed) => {
        if (replayed.damage !== null) return this.#fail(Status.invalid, replayed.damage);
        const { incarnation } = loaded.metadata;
        const left = this.#keepsake?.inherit(found.identity.seed, incarnation) ?? null;
        const space = new FreeSpace(superblock.plan.extents);
        if (!claimMapped(loaded.metadata, space)) {
          return this.#fail(Status.invalid, "an extent has two owners");
        }
        if (replayed.halfRecords > 0) {
          this.#world.log.write("warn", "log records with one damaged twin", {
            records: replayed.halfRecords,
          });
        }
        this.#start(superblock, loaded, { ...found, replayed, space, left });
      },
    }).begin();
  }

  #start(
    superblock: Superblock,
    loaded: LoadedCheckpoint,
    found: {
      identity: PageIdentity;
      damaged: 0 | 1 | null;
      replayed: ReplayedLog;
      space: FreeSpace;
      left: Inheritance | null;
    },
  ): void {
    const { position } = found.replayed;
    const older = loaded.olderLogFrom ?? loaded.position.logFrom;
    const held = position.sequence - older <= superblock.plan.logSlots / 2;
    const core = new StoreCore({
      io: this.#io,
      plan: superblock.plan,
      identity: found.identity,
      metadata: loaded.metadata,
      health: loaded.health,
      space: found.space,
      position,
      tail: held ? older : loaded.position.logFrom,
      logBuffer: this.#logBuffer,
      limits: this.#limits,
    });
    this.#core = core;
    core.bootIncarnation = found.left?.bootIncarnation ?? core.metadata.incarnation + 1;
    this.#blocks = found.left?.blocks ?? [];
    if (!core.openBuffers()) return this.#fail(Status.busy, "no memory for the disk's buffers");
    const checkpointer = new Checkpointer(core, loaded.position, this.#checkpointBuffer);
    this.#io.onFailed = () => {
      core.fail();
      checkpointer.fail();
    };
    core.log.onFull = () => checkpointer.force();
    // What was replayed may stand in the disk's cache only, if the last run died before its flush.
    // From here on it counts as durable, also in what is written next.
    this.#io.flush((status) => {
      if (status !== Status.ok) return this.#fail(status, this.#io.failure);
      this.#heal(superblock, found, { core, checkpointer });
    });
  }

  #heal(
    superblock: Superblock,
    found: { damaged: 0 | 1 | null; left: Inheritance | null },
    parts: { core: StoreCore; checkpointer: Checkpointer },
  ): void {
    const { core, checkpointer } = parts;
    this.#healSuperblock(superblock, found.damaged, () => {
      // A crash may have left the ring full; what was replayed is durable, so a checkpoint of it
      // needs no room in it. What the keepsake adds does: it comes only behind that.
      const entries = found.left?.entries ?? [];
      const goOn = () => {
        if (!takeEntries(core, entries)) {
          return this.#fail(Status.invalid, "an extent has two owners");
        }
        this.#raiseIncarnation(core, checkpointer, superblock);
      };
      if (core.log.usedSlots <= superblock.plan.logSlots / 2) return goOn();
      checkpointer.request((status) => {
        if (status !== Status.ok) return this.#fail(status, this.#io.failure);
        goOn();
      });
    });
  }

  #raiseIncarnation(core: StoreCore, checkpointer: Checkpointer, superblock: Superblock): void {
    const next = core.metadata.incarnation + 1;
    const entry = core.log.append((pages) => pages.putValue(EntryKind.incarnation, next));
    // R0: durable before anybody hears of it.
    core.log.sync(entry, (status) => {
      if (status !== Status.ok) return this.#fail(status, this.#io.failure);
      this.#settle(core, checkpointer, superblock);
    });
  }

  #healSuperblock(superblock: Superblock, damaged: 0 | 1 | null, next: () => void): void {
    if (damaged === null) return next();
    const at = damaged === 0 ? 0 : superblock.plan.areaBytes - PAGE_BYTES;
    this.#world.log.write("warn", "one superblock is damaged, written again", { copy: damaged });
    encodeSuperblock(this.#memory.bytes, this.#checkpointBuffer, superblock, damaged);
    this.#io.write(at, PAGE_BYTES, this.#checkpointBuffer, (status) => {
      if (status !== Status.ok) return this.#fail(status, this.#io.failure);
      next();
    });
  }

  #settle(core: StoreCore, checkpointer: Checkpointer, superblock: Superblock): void {
    const active: [SliceState, number][] = [];
    for (const state of core.metadata.slices.values()) {
      for (const region of state.active) {
        const end = (region + 1) * EXTENTS_PER_REGION;
        let extent = state.map.next(region * EXTENTS_PER_REGION, end);
        for (; extent !== NOT_MAPPED; extent = state.map.next(extent + 1, end)) {
          active.push([state, extent]);
        }
      }
    }
    core.cache.afterCrash = true;
    settleExtents(core, active, () => {
      restoreBlocks(core, this.#blocks, (isRead) => {
        core.cache.afterCrash = false;
        if (!isRead) return this.#fail(Status.ioError, "a descriptor cannot be read");
        this.#finish(core, checkpointer, superblock);
      });
    });
  }

  #finish(core: StoreCore, checkpointer: Checkpointer, superblock: Superblock): void {
    core.cycle.request((status) => {
      if (status !== Status.ok) return this.#fail(status, this.#io.failure);
      if (this.#keepsake !== null) {
        // All that was inherited is on stable media: empty, and ours.
        const { incarnation } = core.metadata;
        this.#keepsake.begin(core.identity.seed, incarnation, core.bootIncarnation);
        core.note(this.#keepsake);
      }
      const buffers = [this.#logBuffer, this.#checkpointBuffer];
      const store = new DiskStore(core, checkpointer, { superblock, buffers });
      this.#done(store, Status.ok, "");
    });
  }

  #fail(status: Status, reason: string): void {
    this.#core?.closeBuffers();
    for (const buffer of [this.#logBuffer, this.#checkpointBuffer]) {
      if (buffer !== NO_BUFFER) this.#memory.release(buffer);
    }
    this.#world.log.write("error", "a disk was not opened", { reason });
    this.#done(null, status, reason);
  }
}

/** Appends the entries that go on where the log ends; false when they make no sense. */
function takeEntries(core: StoreCore, entries: readonly KeptEntry[]): boolean {
  const { log, metadata, space } = core;
  let taken = 0;
  for (const { number, bytes } of entries) {
    if (number <= log.appended) continue;
    // Behind a gap nothing was acked (keepsake.ts).
    if (number !== log.appended + 1 || !log.restage(bytes)) break;
    taken++;
  }
  if (taken === 0) return true;
  if (!claimMapped(metadata, new FreeSpace(space.extents))) return false;
  // Whatever they mapped was free: a freed extent is given out only when that is durable (H9).
  for (const state of metadata.slices.values()) {
    for (let extent = state.map.next(0); extent !== NOT_MAPPED;) {
      const physical = state.map.physicalOf(extent);
      if (!space.isUsed(physical)) space.claim(physical);
      extent = state.map.next(extent + 1);
    }
  }
  return true;
}

/** Tells the descriptors what became of their blocks; all of them lie in active regions. */
function restoreBlocks(
  core: StoreCore,
  blocks: readonly KeptBlocks[],
  done: (isRead: boolean) => void,
): void {
  const byMapping = new Map<number, KeptBlocks[]>();
  for (const kept of blocks) {
    const state = core.metadata.slices.get(kept.slice);
    const { extent, mapping } = kept;
    // Freed since, or mapped anew.
    if (state === undefined || extent >= state.map.extents) continue;
    if (state.map.physicalOf(extent) === NOT_MAPPED) continue;
    if (state.map.mappingOf(extent) !== mapping) continue;
    const known = byMapping.get(mapping);
    if (known === undefined) byMapping.set(mapping, [kept]);
    else known.push(kept);
  }
  let left = byMapping.size + 1;
  let isRead = true;
  const one = () => {
    left--;
    if (left === 0) done(isRead);
  };
  for (const [mapping, list] of byMapping) {
    const { slice, extent } = list[0] as KeptBlocks;
    const physical = core.metadata.slices.get(slice)?.map.physicalOf(extent) as number;
    const descriptorReady = (descriptor: Descriptor | null) => {
      isRead &&= descriptor !== null;
      if (descriptor !== null) {
        for (const kept of list) takeBlocks(descriptor, kept);
        core.cache.markDirty(descriptor);
        core.unpin(descriptor);
      }
      one();
    };
    core.cache.use(slice, extent, { physical, mapping }, { descriptorReady });
  }
  one();
}

function takeBlocks(descriptor: Descriptor, kept: KeptBlocks): void {
  const end = Math.min(kept.block + kept.count, BLOCKS_PER_EXTENT);
  for (let block = kept.block; block < end; block++) {
    const checksum = kept.checksums?.[block - kept.block];
    if (checksum === undefined) descriptor.setUnwritten(block);
    else descriptor.setWritten(block, checksum);
  }
}

/** False when an extent is mapped twice. */
function claimMapped(metadata: Metadata, space: FreeSpace): boolean {
  for (const state of metadata.slices.values()) {
    for (let extent = state.map.next(0); extent !== NOT_MAPPED;) {
      if (!space.claim(state.map.physicalOf(extent))) return false;
      extent = state.map.next(extent + 1);
    }
  }
  return true;
}

/** Loads the descriptors of these extents; the cache marks dirty what is not whole. */
function settleExtents(core: StoreCore, extents: [SliceState, number][], done: () => void): void {
  let next = 0;
  let inFlight = 1;
  const more = () => {
    while (next < extents.length && inFlight <= SETTLE_IN_FLIGHT) {
      const [state, extent] = extents[next++] as [SliceState, number];
      const physical = state.map.physicalOf(extent);
      const mapping = state.map.mappingOf(extent);
      inFlight++;
      const descriptorReady = (descriptor: Parameters<typeof core.unpin>[0] | null) => {
        if (descriptor !== null) core.unpin(descriptor);
        inFlight--;
        if (inFlight === 0) done();
        else more();
      };
      core.cache.use(state.slice, extent, { physical, mapping }, { descriptorReady });
    }
  };
  more();
  inFlight--;
  if (inFlight === 0) done();
}
