// SPDX-License-Identifier: Apache-2.0
//
// The disks that a unit's reactor has open: opening, formatting where there is no store yet, and
// closing, with the memory that each keeps for the next process (H6).
//
// Invariants
// - A disk is opened again only when an earlier opening of it has been closed: two stores on one
//   disk would undo each other.
// - A keepsake is one disk's alone, and counts for nothing once the disk lost its cache (R10).
// - The end waits for what is being opened, and closes it: its descriptor would outlive the
//   reactor's thread, and keep the disk from this unit's next run.

import { Fault } from "#base/fault.ts";
import { EXTENT_BYTES } from "#base/grains.ts";
import { Status, statusName } from "#base/status.ts";
import type { World } from "#base/world.ts";
import { FileArea } from "#machine/file-area.ts";
import {
  attachmentOf,
  dropKeepsake,
  keepsakeDirectory,
  openKeepsake,
} from "#machine/keepsake-memory.ts";
import type { Reactor } from "#machine/reactor.ts";
import type { DiskStore } from "#store/disk-store.ts";
import { formatDisk } from "#store/format-disk.ts";
import { openDisk } from "#store/open-disk.ts";
import { lookAtArea } from "./area-look.ts";
import type { AreaLook } from "./area-look.ts";
import type { DiskPlace, OpenedDisk, ToReactor } from "./reactor-messages.ts";

export interface HeldDisk {
  area: FileArea;
  store: DiskStore;
  path: string;
  place: DiskPlace;
  /** Its slices are alive. */
  ready: boolean;
  /** Whose keepsake it has; null: none. */
  named: string | null;
}

export interface HeldDisksEffects {
  opened(held: HeldDisk): void;
  /** `ofCluster`: the other cluster whose disk it is; null: it is not, or that is not known. */
  refused(path: string, sentence: string, ofCluster: string | null): void;
  /** An I/O error ejected it (R10). */
  failed(held: HeldDisk): void;
}

type OpenMessage = Extract<ToReactor, { kind: "openDisk" }>;

export class HeldDisks {
  /** Where keepsakes lie; not said: as the machine has it. */
  memoryDirectory: string | undefined;
  readonly #world: World;
  readonly #reactor: Reactor;
  readonly #effects: HeldDisksEffects;
  readonly #disks = new Map<string, HeldDisk>();
  /** Disks whose keepsake is in use. */
  readonly #keepsakes = new Set<string>();
  /** Disks that are being closed, with what waits for it. */
  readonly #closing = new Map<string, (() => void)[]>();
  /** Disks that are being looked at, formatted or opened. */
  #opening = 0;
  /** Called when none is any more; not null: nothing is opened from now on. */
  #ended: (() => void) | null = null;

  constructor(world: World, reactor: Reactor, effects: HeldDisksEffects) {
    this.#world = world;
    this.#reactor = reactor;
    this.#effects = effects;
  }

  get(uuid: string): HeldDisk | undefined {
    return this.#disks.get(uuid);
  }
  all(): HeldDisk[] {
    return [...this.#disks.values()];
  }

  // Opening.

  open(message: OpenMessage): void {
    const { place } = message;
    if (this.#ended !== null) return; // the unit's run is over
    for (const held of this.#disks.values()) {
      if (held.path !== place.path) continue;
      return this.close(held.store.uuid, () => this.open(message));
    }
    const closing = this.#closing.get(message.identity.uuid);
    if (closing !== undefined) return void closing.push(() => this.open(message));
    let area: FileArea;
    try {
      area = new FileArea(this.#reactor, {
        path: place.path,
        offsetBytes: place.offsetBytes,
        sizeBytes: place.sizeBytes,
        direct: place.direct ? "auto" : "never",
      });
    } catch (cause) {
      return this.#effects.refused(place.path, sentenceOf(cause), null);
    }
    this.#opening++;
    if (message.anew) return this.#formatArea(area, message);
    lookAtArea(this.#reactor.memory, area, (look) => this.#looked(area, look, message));
  }

  #looked(area: FileArea, look: AreaLook, message: OpenMessage): void {
    const { place, identity, leftClusters } = message;
    switch (look.kind) {
      case "unformatted":
        return this.#formatArea(area, message);
      case "failed":
        return this.#refuse(area, place, `it cannot be read (${statusName(look.status)})`);
      case "store":
        if (look.clusterId === identity.clusterId || leftClusters.includes(look.clusterId)) break;
        return this.#refuse(area, place, "it belongs to another cluster", look.clusterId);
      case "unclear":
        break;
    }
    this.#openArea(area, message);
  }

  #formatArea(area: FileArea, message: OpenMessage): void {
    const { place, identity } = message;
    const { memory } = this.#reactor;
    formatDisk(this.#world, memory, area, identity, {}, (status, reason) => {
      if (status === Status.ok) return this.#openArea(area, message);
      this.#refuse(area, place, `it could not be formatted (${statusName(status)}: ${reason})`);
    });
  }

  #refuse(area: FileArea, place: DiskPlace, sentence: string, ofCluster: string | null = null) {
    const why = area.failure === null ? sentence : `${sentence}: ${area.failure}`;
    area.close(() => {
      this.#opening--;
      if (this.#ended === null) this.#effects.refused(place.path, why, ofCluster);
      else if (this.#opening === 0) this.#ended();
    });
  }

  #openArea(area: FileArea, message: OpenMessage): void {
    const { place, identity } = message;
    const kept = this.#keepsakeOf(message);
    const keepsake = kept === null ? {} : { keepsake: kept };
    const end = (sentence: string) => {
      if (kept !== null) this.#keepsakes.delete(identity.uuid);
      this.#refuse(area, place, sentence);
    };
    openDisk(this.#world, this.#reactor.memory, area, keepsake, (store, status, reason) => {
      if (store === null) return end(`it could not be opened (${statusName(status)}: ${reason})`);
      if (this.#ended !== null) {
        store.close(() => end("this unit's run is over"));
        return;
      }
      if (this.#disks.has(store.uuid)) {
        store.close(() => end("a disk with the same identity is open already"));
        return;
      }
      this.#opening--;
      const named = kept === null ? null : identity.uuid;
      const held: HeldDisk = { area, store, path: place.path, place, ready: false, named };
      this.#disks.set(store.uuid, held);
      store.onFailed = () => this.#effects.failed(held);
      this.#effects.opened(held);
    });
  }

  /** H6: memory for what the store has not made durable, that outlives this process. */
  #keepsakeOf({ identity: { uuid }, place, cacheLost }: OpenMessage): Uint8Array | null {
    // Of a copy of a disk that is open: it would be the other's.
    if (this.#keepsakes.has(uuid)) return null;
    try {
      const directory = keepsakeDirectory(this.memoryDirectory);
      if (directory === null) throw new Fault("badMachine", "no directory in memory");
      if (cacheLost) dropKeepsake({ directory, name: uuid });
      const bytes = openKeepsake({ directory, name: uuid, attachment: attachmentOf(place.path) });
      this.#keepsakes.add(uuid);
      return bytes;
    } catch (cause) {
      const sentence = "if this process dies, a disk loses what was not flushed";
      this.#world.log.write("warn", sentence, { path: place.path, reason: sentenceOf(cause) });
      return null;
    }
  }

  // Closing.

  close(uuid: string, done: () => void): void {
    const held = this.#disks.get(uuid);
    if (held === undefined) {
      const closing = this.#closing.get(uuid);
      if (closing === undefined) done();
      else closing.push(done);
      return;
    }
    this.#disks.delete(uuid);
    this.#closing.set(uuid, [done]);
    held.store.close(() => {
      if (held.named !== null) this.#keepsakes.delete(held.named);
      held.area.close(() => {
        const waiting = this.#closing.get(uuid) ?? [];
        this.#closing.delete(uuid);
        for (const act of waiting) act();
      });
    });
  }

  /** Closes it as it is, as after an I/O error (R10); `done` also when it is not open. */
  drop(uuid: string, reason: string, done: () => void): void {
    const held = this.#disks.get(uuid);
    if (held !== undefined) {
      held.store.onFailed = () => {}; // whoever asked for it knows
      held.store.eject(reason);
    }
    this.close(uuid, done);
  }

  /**
   * The end: those that are open, and those that are being opened as soon as they are. One that is
   * taken out already is not waited for.
   */
  closeAll(done: () => void): void {
    let left = this.#disks.size + (this.#opening > 0 ? 2 : 1);
    const one = () => {
      left--;
      if (left === 0) done();
    };
    this.#ended = one;
    for (const uuid of [...this.#disks.keys()]) this.close(uuid, one);
    one();
  }
}

/** As the control thread is told of it. */
export function describe(held: HeldDisk): OpenedDisk {
  const { store } = held;
  const { extents, free } = store.totals;
  return {
    path: held.path,
    place: held.place,
    slices: store.slices().length,
    uuid: store.uuid,
    clusterId: store.clusterId,
    number: store.number,
    incarnation: store.incarnation,
    sizeBytes: extents * EXTENT_BYTES,
    freeBytes: free * EXTENT_BYTES,
    health: store.scrub.report(),
  };
}

function sentenceOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
