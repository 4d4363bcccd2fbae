// SPDX-License-Identifier: Apache-2.0
//
// What is looked at when a simulated cluster was healed (contract.md, C, "at the end"): writable
// and protected again, scrubbed until a scrub finds nothing, read through every portal and from
// every member, idle in the end.

import { BLOCKS_PER_EXTENT, BLOCK_BYTES, EXTENT_BYTES, SECTOR_BYTES } from "#base/grains.ts";
import type { MemberStore } from "#base/member-store.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import type { DiskNumber, SliceNumber, SliceRecord } from "#base/record.ts";
import { Status, statusName } from "#base/status.ts";
import { PATIENT, SCRUB_AT_END } from "./sim-cluster.ts";
import type { SimCluster } from "./sim-cluster.ts";
import { SimHost } from "./sim-host.ts";
import type { HostVolume } from "./sim-host.ts";
import type { UnitProcess } from "./sim-unit.ts";
import type { Simulation } from "./simulation.ts";

/** Liveness (C): once all is whole again, every volume is writable within this. */
const WRITABLE_MS = 10_000;
const PROTECTED_MS = 60_000;
const SCRUB_MS = 90_000;
/** From the healing of a block until its disk has counted it. */
const COUNTED_MS = 1000;

/** A block's. */
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;

export class AtEnd {
  readonly #cluster: SimCluster;
  readonly #simulation: Simulation;
  #probesEndMs = 0;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.#simulation = cluster.simulation;
  }

  /** Every deviation is a violation of the cluster's run. */
  check(): void {
    const cluster = this.#cluster;
    this.#checkWritable();
    cluster.rest();
    this.#checkProtected();
    cluster.run(4000);
    this.#scrubAll();
    cluster.run(4000);
    this.#readAll();
    const { revision } = cluster.controlStore;
    cluster.run(6000);
    if (cluster.controlStore.revision !== revision) {
      cluster.violation("idle slices change the control store (R14)");
    }
    this.#checkIdle();
    this.#compareMembers();
  }

  /** Liveness: a write on every slice through every portal within 10 s. */
  #checkWritable(): void {
    const simulation = this.#simulation;
    const begun = simulation.nowMs;
    const allUp = () => this.#cluster.portals().length === this.#cluster.units.length;
    simulation.run(begun + WRITABLE_MS, () => allUp() || this.#cluster.exhausted());
    if (!allUp()) return this.#cluster.violation("units do not come up after healing");
    this.#probesEndMs = begun + WRITABLE_MS;
    const waiting = new Set<string>();
    for (const process of this.#cluster.portals()) {
      for (const volume of this.#cluster.hostVolumes) {
        for (let first = 0; first < volume.sectors; first += volume.sliceSectors) {
          const name = `volume ${volume.volume} sector ${first} through unit ${process.unit}`;
          waiting.add(name);
          this.#probe(process, volume, first + process.unit, () => waiting.delete(name));
        }
      }
    }
    simulation.run(begun + WRITABLE_MS, () => waiting.size === 0 || this.#cluster.exhausted());
    if (waiting.size === 0) return;
    this.#cluster.violation(
      `not writable ${WRITABLE_MS} ms after healing: ${[...waiting].join(", ")}`,
    );
    this.#describe();
  }

  /**
   * One write; again, as a host would, when it fails. Part of a block that no member can read
   * cannot be written (H8): a host then writes the whole of it.
   */
  #probe(process: UnitProcess, volume: HostVolume, sector: number, done: () => void): void {
    const part = { firstSector: sector, count: 1 };
    const block = { firstSector: sector - (sector % SECTORS), count: SECTORS };
    const write = (place: typeof part): void => {
      if (this.#probesEndMs < this.#simulation.nowMs) return;
      const host = new SimHost(this.#cluster.hostWorld(), 0, PATIENT);
      const wish = { kind: OperationKind.write, volume, flags: 0, ...place };
      host.act(process, wish, (acked, status) => {
        if (acked) return done();
        const next = status === Status.mediumError ? block : place;
        this.#simulation.after(100, () => write(next));
      });
    };
    write(part);
  }

  /** For people: what every slice says of itself. */
  #describe(): void {
    for (const unit of this.#cluster.units) {
      const used = unit.process?.memory.usedBytes ?? 0;
      const waits = this.#cluster.net.counts.noMemory;
      this.#simulation.say(() => `  unit ${unit.number}: ${used} bytes of memory, ${waits} waits`);
      for (const report of unit.process?.plane.sliceReports() ?? []) {
        this.#simulation.say(() => `  unit ${unit.number} ${JSON.stringify(report)}`);
      }
    }
  }

  #checkProtected(): void {
    const simulation = this.#simulation;
    this.#cluster.growth.protect();
    const whole = () => this.#cluster.losses.records().every((record) => this.#isWhole(record));
    simulation.run(simulation.nowMs + PROTECTED_MS, () => whole() || this.#cluster.exhausted());
    if (whole()) return;
    const short = this.#cluster.losses.records().filter((record) => !this.#isWhole(record));
    this.#cluster.violation(
      `not protected ${PROTECTED_MS} ms after healing: ${JSON.stringify(short)}`,
    );
    this.#describe();
  }

  #isWhole(record: SliceRecord): boolean {
    return record.inSync.length >= record.copies && record.resyncing.length === 0;
  }

  /** C: scrub finds nothing, once it has been through and what it found is healed. */
  #scrubAll(): void {
    const simulation = this.#simulation;
    // The first may be one that had begun before the last harm.
    for (const round of [1, 2, 3]) {
      const stores = this.#cluster.units.flatMap(({ process }) => [
        ...(process?.stores.values() ?? []),
      ]);
      const before = stores.map((store) => store.scrub.report());
      for (const { process } of this.#cluster.units) process?.plane.setScrubPace(SCRUB_AT_END);
      for (const store of stores) store.scrub.start({ urgent: true });
      const isThrough = () =>
        stores.every((store, index) => {
          const { scrub } = store.scrub.report();
          const was = before[index]?.scrub;
          return scrub.count > (was?.count ?? 0) && !scrub.running && store.scrub.doubted === 0;
        });
      simulation.run(simulation.nowMs + SCRUB_MS, () => isThrough() || this.#cluster.exhausted());
      if (!isThrough()) return this.#cluster.violation(`scrub ${round} of all disks does not end`);
      // A block that reads right again may not be counted yet: its head reads it back first.
      simulation.run(simulation.nowMs + COUNTED_MS, () => this.#cluster.exhausted());
      if (round < 3) continue;
      for (const [index, store] of stores.entries()) {
        const found = store.scrub.report().found - (before[index]?.found ?? 0);
        if (found > 0)
          this.#cluster.violation(`a third scrub finds ${found} blocks on ${store.number}`);
      }
    }
  }

  /** Every written place through every portal: into the history, for the judge. */
  #readAll(): void {
    const reader = new SimHost(this.#cluster.hostWorld(), 99, PATIENT);
    for (const process of this.#cluster.portals()) {
      for (const volume of this.#cluster.hostVolumes) {
        for (const [firstSector, count] of this.#writtenRuns(volume.volume)) {
          let acked = false;
          const wish = { kind: OperationKind.read, volume, firstSector, count, flags: 0 };
          reader.act(process, wish, (ok, status) => {
            const isHonest =
              this.#cluster.rotten ||
              this.#cluster.rot.mayBeUnreadable(volume.volume, firstSector, count);
            acked = ok || (isHonest && status === Status.mediumError);
          });
          const { nowMs } = this.#simulation;
          this.#simulation.run(nowMs + 5000, () => acked || this.#cluster.exhausted());
          if (acked) continue;
          const place = `volume ${volume.volume} sector ${firstSector} (${count})`;
          this.#cluster.violation(`${place} is not read through unit ${process.unit} at the end`);
          return;
        }
      }
    }
  }

  #writtenRuns(volume: number): [number, number][] {
    const written = new Set<number>();
    for (const act of this.#cluster.history.acts) {
      if (act.kind !== "write" || act.volume !== volume) continue;
      for (let at = 0; at < act.count; at++) written.add(act.firstSector + at);
    }
    const runs: [number, number][] = [];
    for (const sector of [...written].sort((a, b) => a - b)) {
      const last = runs.at(-1);
      if (last !== undefined && sector - (last[0] + last[1]) < 16 && last[1] < 1000) {
        last[1] = sector - last[0] + 1;
      } else {
        runs.push([sector, 1]);
      }
    }
    return runs;
  }

  /** R6, R13: an idle slice ends with no active region and no buffer held, on any member. */
  #checkIdle(): void {
    for (const { number, process } of this.#cluster.units) {
      let held = process?.memory.usedBytes ?? 0;
      for (const store of process?.stores.values() ?? []) held -= store.heldBytes;
      if (held > 0)
        this.#cluster.violation(`unit ${number} holds ${held} bytes of buffers though idle`);
    }
    for (const record of this.#cluster.losses.records()) {
      for (const { disk } of record.inSync) {
        const active = this.#member(disk, record.slice)?.activeRegions() ?? [];
        if (active.length === 0) continue;
        const where = `slice ${record.slice} on disk ${disk}`;
        this.#cluster.violation(`${where}: regions ${active.join()} active though idle (R6)`);
      }
    }
  }

  #member(disk: DiskNumber, slice: SliceNumber): MemberStore | null {
    return this.#cluster.unitOf(disk).process?.stores.get(disk)?.member(slice) ?? null;
  }

  /** H2, C: all members equal, checksums right, in every extent that any of them maps. */
  #compareMembers(): void {
    for (const record of this.#cluster.losses.records()) {
      const extents = new Set<number>();
      for (const { disk } of record.inSync) {
        const map = this.#member(disk, record.slice)?.mapFrom(0, Number.MAX_SAFE_INTEGER) ?? [];
        for (const { extent } of map) extents.add(extent);
      }
      for (const extent of [...extents].sort((a, b) => a - b)) {
        const seen = record.inSync.map(({ disk }) => this.#readExtent(disk, record.slice, extent));
        this.#checkReadable(record, extent, seen);
        const first = seen[0];
        for (let at = 1; at < seen.length; at++) {
          if (first === null || seen[at] === null) continue;
          if (Buffer.compare(first as Uint8Array, seen[at] as Uint8Array) === 0) continue;
          const disks = `${record.inSync[0]?.disk} and ${record.inSync[at]?.disk}`;
          const from = firstDifference(first as Uint8Array, seen[at] as Uint8Array);
          this.#cluster.violation(
            `slice ${record.slice} extent ${extent} differs at byte ${from} on disks ${disks} (H2)`,
          );
        }
      }
    }
  }

  /** R9: a block that one member has is right on all of them; one that none has was harmed. */
  #checkReadable(record: SliceRecord, extent: number, seen: (Uint8Array | null)[]): void {
    if (!seen.includes(null)) return;
    const good = new Set<number>();
    const bad = new Map<number, DiskNumber>();
    for (const { disk } of record.inSync) {
      for (let at = 0; at < BLOCKS_PER_EXTENT; at++) {
        const block = extent * BLOCKS_PER_EXTENT + at;
        if (this.#readBlock(disk, record.slice, block)) good.add(block);
        else bad.set(block, disk);
      }
    }
    for (const [block, disk] of bad) {
      const where = `slice ${record.slice} block ${block}`;
      if (good.has(block))
        this.#cluster.violation(`${where} is wrong on disk ${disk} though another has it`);
      else if (!this.#cluster.rotten && !this.#cluster.rot.has(record.slice, block)) {
        this.#cluster.violation(`${where} is unreadable on all, though it was never harmed (H8)`);
      }
    }
  }

  #readBlock(disk: DiskNumber, slice: SliceNumber, block: number): boolean {
    const process = this.#cluster.unitOf(disk).process as UnitProcess;
    const buffer = process.memory.allocate(BLOCK_BYTES);
    const operation = new Operation();
    operation.kind = OperationKind.read;
    operation.offsetBytes = block * BLOCK_BYTES;
    operation.lengthBytes = BLOCK_BYTES;
    operation.bufferOffset = buffer;
    let ended = false;
    operation.done = () => {
      ended = true;
    };
    this.#member(disk, slice)?.submit(operation);
    this.#simulation.run(this.#simulation.nowMs + 5000, () => ended);
    process.memory.release(buffer);
    return operation.status === Status.ok;
  }

  #readExtent(disk: DiskNumber, slice: SliceNumber, extent: number): Uint8Array | null {
    const process = this.#cluster.unitOf(disk).process as UnitProcess;
    const member = this.#member(disk, slice);
    const buffer = process.memory.allocate(EXTENT_BYTES);
    if (member === null || buffer === NO_BUFFER) {
      this.#cluster.violation(`slice ${slice} cannot be read on disk ${disk} at the end`);
      return null;
    }
    const operation = new Operation();
    operation.kind = OperationKind.read;
    operation.offsetBytes = extent * EXTENT_BYTES;
    operation.lengthBytes = EXTENT_BYTES;
    operation.bufferOffset = buffer;
    let ended = false;
    operation.done = () => {
      ended = true;
    };
    member.submit(operation);
    this.#simulation.run(this.#simulation.nowMs + 5000, () => ended);
    const bytes = process.memory.bytes.slice(buffer, buffer + EXTENT_BYTES);
    if (ended) process.memory.release(buffer);
    if (ended && operation.status === Status.ok) return bytes;
    // Which of its blocks, and whether that may be, is looked at by itself.
    if (ended && operation.status === Status.checksumMismatch) return null;
    const status = ended ? statusName(operation.status) : "no answer";
    this.#cluster.violation(
      `slice ${slice} extent ${extent} on disk ${disk}: ${status} at the end (R9)`,
    );
    return null;
  }
}

function firstDifference(left: Uint8Array, right: Uint8Array): number {
  for (let at = 0; at < left.length; at++) if (left[at] !== right[at]) return at;
  return -1;
}
