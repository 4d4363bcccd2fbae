// SPDX-License-Identifier: Apache-2.0
//
// ClusterView: what this unit knows of the control state, in memory, as of one revision. Kept by
// reading the whole state once and then by watch (view-follower.ts); used by the control station,
// the API and the forwarding of I/O (slice -> record -> disk -> unit -> address).
//
// Invariants:
// - The view is never the authority: who changes something compares the revisions it decided by,
//   which the view keeps per key (`revisionOf`).
// - It moves only forward: a reset to an older revision than it holds is refused (a backup restored
//   under it is another generation and another view).
// - A value that does not parse is left out and listed in `unreadable`; it stops no other record.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { holdersOf } from "#base/record.ts";
import type {
  DiskNumber,
  HostNumber,
  SliceNumber,
  SliceRecord,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import type { Compare, Entry, Reading, WatchEvent } from "./control-store.ts";
import type { HostRecord, RequestRecord } from "./host-state.ts";
import type { PoolRecord } from "./pool-state.ts";
import type { RestoredSlice } from "./restored-slices.ts";
import { SETTINGS_DEFAULT, keyParts, keys, parseEntry } from "./state.ts";
import type {
  AdministratorRecord,
  AliveRecord,
  ClusterRecord,
  CommandRecord,
  DiskRecord,
  EventRecord,
  NumbersRecord,
  SettingsRecord,
  StateEntry,
  StateKind,
  StationRecord,
  ToldRecord,
  UnitRecord,
  VolumeRecord,
  VoterRecord,
} from "./state.ts";
import type { UnitUpdateRecord, UpdateRecord } from "./update-state.ts";
import type { TokenRecord, UserRecord } from "./user-state.ts";

/** One key that changed in the view: `value` is null after a deletion. */
export interface ViewChange {
  key: string;
  kind: StateKind;
  /** Number or name, as the key has it. */
  rest: string;
  value: StateEntry["value"] | null;
}

/** What decisions read, beside what is there once. */
const COPIED_MAPS = [
  "units",
  "alive",
  "disks",
  "volumes",
  "slices",
  "restored",
  "pools",
  "voters",
] as const;

export type ViewListener = (changes: readonly ViewChange[], revision: number) => void;

export class ClusterView {
  revision = 0;
  cluster: ClusterRecord | null = null;
  numbers: NumbersRecord | null = null;
  settings: SettingsRecord = SETTINGS_DEFAULT;
  station: StationRecord | null = null;
  term = 0;
  told: ToldRecord | null = null;
  update: UpdateRecord | null = null;
  readonly unitUpdates = new Map<UnitNumber, UnitUpdateRecord>();
  readonly commands = new Map<string, CommandRecord>();
  readonly units = new Map<UnitNumber, UnitRecord>();
  readonly alive = new Map<UnitNumber, AliveRecord>();
  readonly disks = new Map<DiskNumber, DiskRecord>();
  readonly volumes = new Map<VolumeNumber, VolumeRecord>();
  readonly slices = new Map<SliceNumber, SliceRecord>();
  /** After a restore: slices whose record the disks have yet to tell. */
  readonly restored = new Map<SliceNumber, RestoredSlice>();
  readonly hosts = new Map<HostNumber, HostRecord>();
  readonly requests = new Map<number, RequestRecord>();
  readonly pools = new Map<string, PoolRecord>();
  readonly voters = new Map<UnitNumber, VoterRecord>();
  readonly events = new Map<number, EventRecord>();
  readonly administrators = new Map<string, AdministratorRecord>();
  readonly users = new Map<string, UserRecord>();
  readonly tokens = new Map<string, TokenRecord>();
  /** Keys whose value does not parse, with the reason. */
  readonly unreadable = new Map<string, string>();
  readonly #revisions = new Map<string, number>();
  readonly #slicesOfDisk = new Map<DiskNumber, Set<SliceNumber>>();
  readonly #listeners = new Set<ViewListener>();

  /** Called after every change, with what changed; the answer ends it. */
  onChange(listener: ViewListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Takes a reading of the whole state; listeners hear only of what differs. */
  reset(reading: Reading): void {
    assert(reading.revision >= this.revision, "a view never goes back");
    const changes: ViewChange[] = [];
    const left = new Set(this.#revisions.keys());
    for (const entry of reading.entries) {
      left.delete(entry.key);
      if (this.#revisions.get(entry.key) === entry.modRevision) continue;
      this.#take(entry.key, entry.value, entry.modRevision, changes);
    }
    for (const key of left) this.#drop(key, changes);
    this.revision = reading.revision;
    this.#tell(changes);
  }

  /** A view of its own with all that decisions read: without listeners, history and commands. */
  copy(): ClusterView {
    const copy = new ClusterView();
    const { revision, cluster, numbers, settings, station, term } = this;
    Object.assign(copy, { revision, cluster, numbers, settings, station, term });
    for (const name of COPIED_MAPS) {
      const target: Map<unknown, unknown> = copy[name];
      for (const [key, value] of this[name]) target.set(key, value);
    }
    for (const [key, known] of this.#revisions) copy.#revisions.set(key, known);
    for (const [disk, slices] of this.#slicesOfDisk) copy.#slicesOfDisk.set(disk, new Set(slices));
    return copy;
  }

  /** Takes one revision's changes from a watch of everything. */
  apply(events: readonly WatchEvent[], revision: number): void {
    if (revision <= this.revision) return; // seen in a reading already
    const changes: ViewChange[] = [];
    for (const event of events) {
      if (event.kind === "delete") this.#drop(event.key, changes);
      else this.#take(event.key, event.value, event.modRevision, changes);
    }
    this.revision = revision;
    this.#tell(changes);
  }

  /** The revision of a key's last change, 0 when it is not there: for a transaction's compares. */
  revisionOf(key: string): number {
    return this.#revisions.get(key) ?? 0;
  }

  compare(key: string): Compare {
    return { key, modRevision: this.revisionOf(key) };
  }

  isAlive(unit: UnitNumber): boolean {
    return this.alive.has(unit) && this.units.get(unit)?.state === "admitted";
  }

  /** Whether somebody owns the cluster: until then an appliance exports nothing. */
  get isClaimed(): boolean {
    return this.administrators.size > 0;
  }

  /** The unit where a disk is at the moment. */
  unitOfDisk(disk: DiskNumber): UnitRecord | null {
    const record = this.disks.get(disk);
    return record === undefined ? null : (this.units.get(record.unit) ?? null);
  }

  /** Whether a disk works and its unit is up, as far as the view knows. */
  diskServes(disk: DiskNumber): boolean {
    const record = this.disks.get(disk);
    if (record === undefined || !this.isAlive(record.unit)) return false;
    return record.state === "ready" || record.state === "leaving";
  }

  /** Whether a disk takes nothing new and is to be let go: retired, or its unit is evacuated. */
  diskLeaves(disk: DiskNumber): boolean {
    const record = this.disks.get(disk);
    if (record === undefined) return false;
    return record.state === "leaving" || this.units.get(record.unit)?.evacuation !== undefined;
  }

  /** Whether a disk works or may, and its unit is in maintenance: waited for while it is away. */
  isMaintained(disk: DiskNumber): boolean {
    const record = this.disks.get(disk);
    if (record === undefined || record.state === "failed" || record.state === "gone") return false;
    const unit = this.units.get(record.unit);
    return unit?.state === "admitted" && unit.maintenance !== undefined;
  }

  /** Slices with a member on a unit, in sync or on its way, or a kept copy. */
  slicesOfUnit(unit: UnitNumber): SliceRecord[] {
    const found = this.disksOfUnit(unit).flatMap((disk) => this.slicesOfDisk(disk.number));
    return [...new Set(found)];
  }

  disksOfUnit(unit: UnitNumber): DiskRecord[] {
    return [...this.disks.values()].filter((disk) => disk.unit === unit);
  }

  /** Slices that a disk has, or keeps, a copy of. */
  slicesOfDisk(disk: DiskNumber): SliceRecord[] {
    const found: SliceRecord[] = [];
    for (const number of this.#slicesOfDisk.get(disk) ?? []) {
      const record = this.slices.get(number);
      if (record !== undefined) found.push(record);
    }
    return found;
  }

  /** A volume's slices in order; null where the record is not there (yet, or any more). */
  slicesOfVolume(volume: VolumeRecord): (SliceRecord | null)[] {
    return volume.slices.map((number) => this.slices.get(number) ?? null);
  }

  volumeByName(name: string): VolumeRecord | null {
    for (const volume of this.volumes.values()) if (volume.name === name) return volume;
    return null;
  }

  unitById(id: string): UnitRecord | null {
    for (const unit of this.units.values()) if (unit.id === id) return unit;
    return null;
  }

  diskByUuid(uuid: string): DiskRecord | null {
    for (const disk of this.disks.values()) if (disk.uuid === uuid) return disk;
    return null;
  }

  /** The unit that serves a slice now; null when the record or its disk is unknown. */
  headUnit(slice: SliceNumber): UnitRecord | null {
    const record = this.slices.get(slice);
    return record === undefined ? null : this.unitOfDisk(record.head);
  }

  /** Where a volume's hosts should attach: the unit that heads most of it. A hint. */
  frontOf(volume: VolumeRecord): UnitRecord | null {
    const counts = new Map<UnitNumber, number>();
    for (const slice of volume.slices) {
      const unit = this.headUnit(slice);
      if (unit === null || !this.isAlive(unit.number)) continue;
      counts.set(unit.number, (counts.get(unit.number) ?? 0) + 1);
    }
    let best: UnitNumber | null = null;
    for (const [unit, count] of counts) {
      const most = best === null ? 0 : (counts.get(best) ?? 0);
      if (count > most || (count === most && best !== null && unit < best)) best = unit;
    }
    return best === null ? null : (this.units.get(best) ?? null);
  }

  /** What the disk's slices may come to hold: thin members count in full, since they may fill. */
  promisedBytes(disk: DiskNumber): number {
    let bytes = 0;
    for (const slice of this.#slicesOfDisk.get(disk) ?? []) {
      bytes += this.slices.get(slice)?.sizeBytes ?? 0;
    }
    return bytes;
  }

  /**
   * Whether a slice that a disk still holds has been deleted with its volume. Its number was given
   * out and its record is gone: since numbers are never given twice, it cannot come back. Of a
   * slice made before a restored backup the disk knows better than the store; of all of them while
   * a rebuilt state gathers what disks hold.
   */
  sliceIsDeleted(slice: SliceNumber): boolean {
    if (this.cluster === null || this.numbers === null || this.cluster.gathering) return false;
    if (slice < (this.cluster.sliceFrom ?? 1) || slice >= this.numbers.slice) return false;
    return !this.slices.has(slice) && !this.unreadable.has(keys.slice(slice));
  }

  /**
   * Whether a disk's share of a slice is a leftover that may be given back: the slice has all its
   * promised members in sync and none of them, nor a target, is this disk.
   */
  isLeftover(slice: SliceNumber, disk: DiskNumber): boolean {
    const record = this.slices.get(slice);
    if (record === undefined || record.inSync.length < record.copies) return false;
    return !holdersOf(record).includes(disk);
  }

  #tell(changes: readonly ViewChange[]): void {
    for (const listener of this.#listeners) listener(changes, this.revision);
  }

  #take(key: string, text: string, modRevision: number, changes: ViewChange[]): void {
    let entry: StateEntry | null;
    try {
      entry = parseEntry(key, text);
      this.unreadable.delete(key);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#drop(key, changes);
      this.unreadable.set(key, error.message);
      entry = null;
    }
    this.#revisions.set(key, modRevision);
    if (entry === null) return;
    this.#store(entry);
    const rest = keyParts(key)?.rest ?? "";
    changes.push({ key, kind: entry.kind, rest, value: entry.value });
  }

  // tidy: exhaustive switch
  #store(entry: StateEntry): void {
    switch (entry.kind) {
      case "cluster":
        this.cluster = entry.value;
        return;
      case "numbers":
        this.numbers = entry.value;
        return;
      case "settings":
        this.settings = entry.value;
        return;
      case "station":
        this.station = entry.value;
        return;
      case "term":
        this.term = entry.value;
        return;
      case "told":
        this.told = entry.value;
        return;
      case "command":
        this.commands.set(entry.id, entry.value);
        return;
      case "unit":
        this.units.set(entry.number, entry.value);
        return;
      case "alive":
        this.alive.set(entry.number, entry.value);
        return;
      case "disk":
        this.disks.set(entry.number, entry.value);
        return;
      case "volume":
        this.volumes.set(entry.number, entry.value);
        return;
      case "host":
        this.hosts.set(entry.number, entry.value);
        return;
      case "request":
        this.requests.set(entry.number, entry.value);
        return;
      case "slice":
        this.#storeSlice(entry.number, entry.value);
        return;
      case "restored":
        this.restored.set(entry.number, entry.value);
        return;
      case "pool":
        this.pools.set(entry.name, entry.value);
        return;
      case "administrator":
        this.administrators.set(entry.name, entry.value);
        return;
      case "user":
        this.users.set(entry.name, entry.value);
        return;
      case "token":
        this.tokens.set(entry.name, entry.value);
        return;
      case "update":
        this.update = entry.value;
        return;
      case "unitUpdate":
        this.unitUpdates.set(entry.number, entry.value);
        return;
      case "voter":
        this.voters.set(entry.number, entry.value);
        return;
      case "event":
        this.events.set(entry.number, entry.value);
        return;
    }
  }

  #storeSlice(number: SliceNumber, record: SliceRecord | null): void {
    const old = this.slices.get(number);
    if (old !== undefined) {
      for (const disk of holdersOf(old)) this.#slicesOfDisk.get(disk)?.delete(number);
    }
    if (record === null) {
      this.slices.delete(number);
      return;
    }
    this.slices.set(number, record);
    for (const disk of holdersOf(record)) {
      const slices = this.#slicesOfDisk.get(disk) ?? new Set<SliceNumber>();
      slices.add(number);
      this.#slicesOfDisk.set(disk, slices);
    }
  }

  #drop(key: string, changes: ViewChange[]): void {
    this.#revisions.delete(key);
    this.unreadable.delete(key);
    const parts = keyParts(key);
    if (parts === null) return;
    this.#forget(parts.kind, parts.rest);
    changes.push({ key, kind: parts.kind, rest: parts.rest, value: null });
  }

  // tidy: exhaustive switch
  #forget(kind: StateKind, rest: string): void {
    const number = Number(rest);
    switch (kind) {
      case "cluster":
        this.cluster = null;
        return;
      case "numbers":
        this.numbers = null;
        return;
      case "settings":
        this.settings = SETTINGS_DEFAULT;
        return;
      case "station":
        this.station = null;
        return;
      case "term":
        this.term = 0;
        return;
      case "told":
        this.told = null;
        return;
      case "command":
        this.commands.delete(rest);
        return;
      case "unit":
        this.units.delete(number);
        return;
      case "alive":
        this.alive.delete(number);
        return;
      case "disk":
        this.disks.delete(number);
        return;
      case "volume":
        this.volumes.delete(number);
        return;
      case "host":
        this.hosts.delete(number);
        return;
      case "request":
        this.requests.delete(number);
        return;
      case "slice":
        this.#storeSlice(number, null);
        return;
      case "restored":
        this.restored.delete(number);
        return;
      case "pool":
        this.pools.delete(rest);
        return;
      case "administrator":
        this.administrators.delete(rest);
        return;
      case "user":
        this.users.delete(rest);
        return;
      case "token":
        this.tokens.delete(rest);
        return;
      case "update":
        this.update = null;
        return;
      case "unitUpdate":
        this.unitUpdates.delete(number);
        return;
      case "voter":
        this.voters.delete(number);
        return;
      case "event":
        this.events.delete(number);
        return;
    }
  }
}

/** The entries of a view's own reading, for tests and for the catalog. */
export function entryOf(key: string, value: object, modRevision: number): Entry {
  return {
    key,
    value: JSON.stringify(value),
    modRevision,
    createRevision: modRevision,
    lease: null,
  };
}
