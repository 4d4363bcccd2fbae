// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench -- --cold`: 4k random writes over a volume of 64 GiB that was never written, with
// an empty log, beside the same when all of it is mapped and active. The unit's own data path over
// a simulated disk whose flush takes a millisecond, in virtual time: what the path waits for, not
// what it computes. The same figures on every machine of the same memory.
//
// The disk keeps what is metadata; host data is only timed, as nobody reads it.

import { createFixedWorld, VirtualDisk } from "./virtual-disk.ts";
import { Memory } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status, statusName } from "#base/status.ts";
import { DataPlane } from "#appliance/data-plane.ts";
import { planDisk } from "#store/disk-plan.ts";
import { formatDisk } from "#store/format-disk.ts";
import { openDisk } from "#store/open-disk.ts";
import type { DiskStore } from "#store/disk-store.ts";
import { Simulation } from "#test/sim/simulation.ts";
import { KEEPSAKE_BYTES } from "#machine/keepsake-memory.ts";

const GIB = 2 ** 30;
const VOLUME_BYTES = 64 * GIB;
const DISK_BYTES = 66 * GIB;
const ARENA_BYTES = 128 << 20;
const EXTENT_BYTES = 1 << 20;
const BLOCK_BYTES = 4096;
const DEPTH = 32;
const WRITES = 100_000;
const TICK_MS = 50;
/** Between an answer and the host's next request. */
const HOST_MS = 0.02;
const RATIO_MIN = 0.5;
const STALL_MS_MAX = 50;
const VOLUME = 1;
const DISK = 1;
const END_MS = 600_000;

interface Phase {
  perSecond: number;
  /** The longest time without an answer. */
  stallMs: number;
}

export function cold(tell: (line: string) => void): void {
  const simulation = new Simulation(1);
  const memory = new Memory(new ArrayBuffer(ARENA_BYTES));
  const world = createFixedWorld(simulation);
  const disk = new VirtualDisk(simulation, memory, DISK_BYTES);
  const store = storeOn(disk, simulation, memory, world);
  const plan = planDisk(DISK_BYTES);
  if (plan === null) throw new Error("no plan for the disk");
  disk.dataFromBytes = plan.dataOffset;
  const plane = planeWith(store, simulation, memory, world);
  const host = new Host(simulation, memory, plane);
  host.awaitHead();
  const first = host.run(WRITES, (prng) => prng.below(VOLUME_BYTES / BLOCK_BYTES));
  let extent = 0;
  host.run(VOLUME_BYTES / EXTENT_BYTES, () => extent++ * (EXTENT_BYTES / BLOCK_BYTES));
  const warm = host.run(WRITES, (prng) => prng.below(VOLUME_BYTES / BLOCK_BYTES));
  const ratio = first.perSecond / warm.perSecond;
  tell(
    "\n## 4k random write over 64 GiB with an empty log, a simulated disk whose flush takes 1 ms\n",
  );
  tell("| Volume | writes per second | longest stall, ms |");
  tell("|---|---:|---:|");
  for (const [name, phase] of [["never written", first] as const, ["warm", warm] as const]) {
    tell(`| ${name} | ${Math.round(phase.perSecond)} | ${phase.stallMs.toFixed(1)} |`);
  }
  const isMet = ratio >= RATIO_MIN && first.stallMs < STALL_MS_MAX;
  const floors = `at least ${RATIO_MIN}, stalls under ${STALL_MS_MAX} ms`;
  tell(`\nRatio ${ratio.toFixed(2)} (${floors}: ${isMet ? "met" : "missed"}).`);
}

type FixedWorld = ReturnType<typeof createFixedWorld>;

function storeOn(
  disk: VirtualDisk,
  simulation: Simulation,
  memory: Memory,
  world: FixedWorld,
): DiskStore {
  const identity = { clusterId: "0".repeat(32), uuid: "1".repeat(32) };
  let made: DiskStore | null = null;
  formatDisk(world, memory, disk, identity, {}, (formatted) => {
    if (formatted !== Status.ok) throw new Error(`format: ${statusName(formatted)}`);
    const keepsake = new Uint8Array(KEEPSAKE_BYTES);
    openDisk(world, memory, disk, { keepsake }, (store, status) => {
      if (store === null) throw new Error(`open: ${statusName(status)}`);
      store.setNumber(DISK, () => {
        made = store;
      });
    });
  });
  simulation.run(END_MS, () => made !== null);
  if (made === null) throw new Error("the disk did not open");
  return made;
}

/** One slice of one copy, all of the volume. */
function planeWith(
  store: DiskStore,
  simulation: Simulation,
  memory: Memory,
  world: FixedWorld,
): DataPlane {
  const plane = new DataPlane(
    world,
    memory,
    { unit: 1, slice: {} },
    { send: () => false, propose: () => {}, sliceChanged: () => {} },
  );
  plane.addDisk(store);
  const slice = 1;
  const shape = { volume: VOLUME, sizeBytes: VOLUME_BYTES, sliceBytes: VOLUME_BYTES };
  plane.volumeChanged({ ...shape, slices: [slice] });
  plane.recordChanged({
    slice,
    volume: VOLUME,
    index: 0,
    sizeBytes: VOLUME_BYTES,
    copies: 1,
    lineage: 1,
    ancestry: [],
    epoch: 1,
    head: DISK,
    inSync: [{ disk: DISK, incarnation: store.incarnation }],
    resyncing: [],
  });
  const tick = () => {
    plane.tick(simulation.nowMs);
    simulation.after(TICK_MS, tick);
  };
  tick();
  return plane;
}

/** Keeps DEPTH writes under way. */
class Host {
  readonly #simulation: Simulation;
  readonly #plane: DataPlane;
  readonly #prng = new Prng(7);
  readonly #buffers: number[];

  constructor(simulation: Simulation, memory: Memory, plane: DataPlane) {
    this.#simulation = simulation;
    this.#plane = plane;
    this.#buffers = Array.from({ length: DEPTH }, () => memory.allocate(BLOCK_BYTES));
    for (const at of this.#buffers) memory.bytes.fill(0x5a, at, at + BLOCK_BYTES);
  }

  /** A read, which leaves no trace: the slice is served from then on. */
  awaitHead(): void {
    const operation = new Operation();
    operation.kind = OperationKind.read;
    operation.lengthBytes = BLOCK_BYTES;
    operation.bufferOffset = this.#buffers[0] as number;
    let isServed = false;
    operation.done = ({ status }) => {
      if (status !== Status.ok) throw new Error(`a read ended: ${statusName(status)}`);
      isServed = true;
    };
    this.#plane.volume(VOLUME).submit(operation);
    this.#simulation.run(END_MS, () => isServed);
  }

  run(writes: number, blockOf: (prng: Prng) => number): Phase {
    const simulation = this.#simulation;
    const target = this.#plane.volume(VOLUME);
    const startMs = simulation.nowMs;
    let [begun, ended, lastMs, stallMs] = [0, 0, startMs, 0];
    const submit = (operation: Operation) => {
      if (begun === writes) return;
      begun++;
      operation.offsetBytes = blockOf(this.#prng) * BLOCK_BYTES;
      target.submit(operation);
    };
    for (const bufferOffset of this.#buffers) {
      const operation = new Operation();
      operation.kind = OperationKind.write;
      operation.lengthBytes = BLOCK_BYTES;
      operation.bufferOffset = bufferOffset;
      operation.done = ({ status }) => {
        if (status !== Status.ok) throw new Error(`a write ended: ${statusName(status)}`);
        ended++;
        stallMs = Math.max(stallMs, simulation.nowMs - lastMs);
        lastMs = simulation.nowMs;
        simulation.after(HOST_MS, () => submit(operation));
      };
      submit(operation);
    }
    simulation.run(startMs + END_MS, () => ended === writes);
    if (ended < writes) throw new Error(`${ended} of ${writes} writes ended`);
    return { perSecond: (writes * 1000) / (simulation.nowMs - startMs), stallMs };
  }
}
