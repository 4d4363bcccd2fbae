// SPDX-License-Identifier: Apache-2.0
//
// The steady state of a unit's whole data path: a volume of one copy, from the forwarder to the
// disk and back, as the unit composes it. Whatever a host asks for again and again makes nothing on
// the heap: its capacity counts garbage too, until it is collected. The protocol's part:
// src/protocol/nbd/steady.test.ts.

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { DataPlane } from "#appliance/data-plane.ts";
import { Memory } from "#base/memory.ts";
import { type Area, Operation, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { KEEPSAKE_BYTES } from "#machine/keepsake-memory.ts";
import { planDisk } from "#store/disk-plan.ts";
import { formatDisk } from "#store/format-disk.ts";
import { openDisk } from "#store/open-disk.ts";
import type { DiskStore } from "#store/disk-store.ts";
import { createFixedWorld } from "#test/bench/virtual-disk.ts";
import { Simulation } from "./simulation.ts";

const DISK_BYTES = 64 << 20;
const VOLUME_BYTES = 32 << 20;
const BLOCK_BYTES = 4096;
const BLOCKS = VOLUME_BYTES / BLOCK_BYTES;
const DEPTH = 32;
const WARM_UP = 64_000;
const ROUNDS_MAX = 8;
const REQUESTS = 32_000;
/** One object of 16 bytes per request would be twice as much. */
const GROWTH_BYTES_MAX = 256 << 10;
const VOLUME = 1;

/** A disk in memory: what is submitted is done when `work` is called, in order. */
class QueuedDisk implements Area {
  readonly sizeBytes = DISK_BYTES;
  readonly alignBytes = BLOCK_BYTES;
  readonly #memory: Uint32Array;
  readonly #words = new Uint32Array(DISK_BYTES / 4);
  #first: Operation | null = null;
  #last: Operation | null = null;

  constructor(arena: ArrayBuffer) {
    this.#memory = new Uint32Array(arena);
  }

  submit(operation: Operation): void {
    operation.next = null;
    if (this.#last === null) this.#first = operation;
    else this.#last.next = operation;
    this.#last = operation;
  }

  work(): void {
    for (let operation = this.#first; operation !== null; operation = this.#first) {
      this.#first = operation.next;
      if (this.#first === null) this.#last = null;
      operation.next = null;
      this.#carryOut(operation);
    }
  }

  /** By words, so that nothing is made here either. */
  #carryOut(operation: Operation): void {
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    const disk = offsetBytes / 4;
    const buffer = bufferOffset / 4;
    const words = lengthBytes / 4;
    if (kind === OperationKind.read) {
      for (let at = 0; at < words; at++) {
        this.#memory[buffer + at] = this.#words[disk + at] as number;
      }
    } else if (kind === OperationKind.write) {
      for (let at = 0; at < words; at++) {
        this.#words[disk + at] = this.#memory[buffer + at] as number;
      }
    }
    operation.complete(Status.ok);
  }
}

interface Path {
  memory: Memory;
  disk: QueuedDisk;
  plane: DataPlane;
}

function unitPath(): Path {
  const simulation = new Simulation(1);
  const world = createFixedWorld(simulation);
  const arena = new ArrayBuffer(64 << 20);
  const memory = new Memory(arena);
  const disk = new QueuedDisk(arena);
  let store: DiskStore | null = null;
  const identity = { clusterId: "0".repeat(32), uuid: "1".repeat(32) };
  expect(planDisk(DISK_BYTES)).not.toBe(null);
  formatDisk(world, memory, disk, identity, {}, (formatted) => {
    expect(formatted).toBe(Status.ok);
    const keepsake = new Uint8Array(KEEPSAKE_BYTES);
    openDisk(world, memory, disk, { keepsake }, (made) => {
      made?.setNumber(1, () => {
        store = made;
      });
    });
  });
  disk.work();
  const own = store as DiskStore | null;
  if (own === null) throw new Error("the disk did not open");
  const effects = { send: () => false, propose: () => {}, sliceChanged: () => {} };
  const plane = new DataPlane(world, memory, { unit: 1, slice: {} }, effects);
  plane.addDisk(own);
  const shape = { volume: VOLUME, sizeBytes: VOLUME_BYTES, sliceBytes: VOLUME_BYTES };
  plane.volumeChanged({ ...shape, slices: [1] });
  plane.recordChanged({
    ...{ slice: 1, volume: VOLUME, index: 0, sizeBytes: VOLUME_BYTES, copies: 1 },
    ...{ lineage: 1, ancestry: [], epoch: 1, head: 1, resyncing: [] },
    inSync: [{ disk: 1, incarnation: own.incarnation }],
  });
  for (let turn = 0; turn < 4; turn++) {
    disk.work();
    plane.tick(simulation.nowMs);
  }
  disk.work();
  return { memory, disk, plane };
}

/** So many requests of one kind, DEPTH at a time, one block each, all over the volume. */
function repeater({ memory, disk, plane }: Path, kind: OperationKind) {
  const target = plane.volume(VOLUME);
  let ended = 0;
  const operations = Array.from({ length: DEPTH }, () => {
    const operation = new Operation();
    operation.bufferOffset = memory.allocate(BLOCK_BYTES);
    operation.done = ({ status }) => {
      if (status === Status.ok) ended++;
    };
    return operation;
  });
  return (requests: number) => {
    const before = ended;
    for (let count = 0; count < requests; count += DEPTH) {
      for (let index = 0; index < DEPTH; index++) {
        const operation = operations[index] as Operation;
        operation.kind = kind;
        operation.flags = 0;
        operation.lengthBytes = BLOCK_BYTES;
        operation.offsetBytes = (((count + index) * 97) % BLOCKS) * BLOCK_BYTES;
        target.submit(operation);
      }
      disk.work();
    }
    expect(ended - before).toBe(requests);
  };
}

/** Until the engine has compiled what runs, it makes objects that it spares later. */
function leastGrowth(repeat: (requests: number) => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS_MAX && least >= GROWTH_BYTES_MAX; round++) {
    repeat(WARM_UP);
    Bun.gc(true);
    const before = heapStats().heapCapacity;
    repeat(REQUESTS);
    least = Math.min(least, heapStats().heapCapacity - before);
  }
  return least;
}

test("reads and writes of one block, whole data path → nothing on the heap, no garbage", () => {
  const path = unitPath();
  for (const kind of [OperationKind.write, OperationKind.read]) {
    expect(leastGrowth(repeater(path, kind))).toBeLessThan(GROWTH_BYTES_MAX);
  }
});
