// SPDX-License-Identifier: Apache-2.0
//
// A store on a simulated disk, with every call made and awaited in one line, for the store's tests.

import type { MemberStore } from "#base/member-store.ts";
import { Memory } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import type { Area } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import type { SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { World } from "#base/world.ts";
import type { DiskStore } from "./disk-store.ts";
import { formatDisk } from "./format-disk.ts";
import { openDisk } from "./open-disk.ts";
import type { PlanOptions } from "./disk-plan.ts";
import { SimDisk } from "./sim-disk-fixture.ts";
import type { Image } from "./sim-disk-fixture.ts";
import type { StoreLimits } from "./store-core.ts";

export const MIB = 1 << 20;
export const CLUSTER = "00112233445566778899aabbccddeeff";
export const DISK = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf";

/** Few buffers and little memory, so that waiting is tested too. */
export const SMALL_LIMITS: StoreLimits = {
  descriptorBytesMax: 16 * 1536,
  descriptorBuffers: 2,
  edgeBuffers: 2,
  bounceBuffers: 1,
};

const arena = new ArrayBuffer(8 * MIB);

export class Bench {
  readonly memory = new Memory(arena);
  readonly prng: Prng;
  readonly world: Pick<World, "random" | "log">;
  disk: SimDisk;
  store: DiskStore | null = null;
  reason = "";
  limits: StoreLimits = SMALL_LIMITS;
  /** Given to whoever opens the disk; a power cut is to zero it. */
  keepsake: Uint8Array | null = null;
  readonly log: string[] = [];

  constructor(
    sizeBytes: number,
    options: { seed?: number; alignBytes?: number; image?: Image } = {},
  ) {
    this.prng = new Prng(options.seed ?? 1);
    this.disk = new SimDisk(this.memory, sizeBytes, options);
    this.world = {
      random: {
        fill: (bytes) => {
          for (let at = 0; at < bytes.length; at++) bytes[at] = this.prng.below(256);
        },
        fraction: () => this.prng.fraction(),
      },
      log: { write: (_level, sentence) => this.log.push(sentence) },
    };
  }

  /** Runs the disk until `start` has called back; its status, or null when it never did. */
  wait(start: (done: (status: Status) => void) => void): Status | null {
    let answer: Status | null = null;
    start((status) => {
      answer = status;
    });
    while (answer === null && this.disk.step());
    return answer;
  }

  format(options: PlanOptions = { logSlots: 16, slicesMax: 8 }, area: Area = this.disk): Status {
    const identity = { clusterId: CLUSTER, uuid: DISK };
    return this.wait((done) =>
      formatDisk(this.world, this.memory, area, identity, options, done),
    ) as Status;
  }

  open(): DiskStore | null {
    this.store = null;
    this.wait((done) =>
      openDisk(
        this.world,
        this.memory,
        this.disk,
        { limits: this.limits, ...(this.keepsake === null ? {} : { keepsake: this.keepsake }) },
        (store, status, why) => {
          this.store = store;
          this.reason = why;
          done(status);
        },
      ),
    );
    return this.store;
  }

  /** Starts opening and leaves it there. */
  begin(): void {
    const keepsake = this.keepsake === null ? {} : { keepsake: this.keepsake };
    openDisk(this.world, this.memory, this.disk, { limits: this.limits, ...keepsake }, () => {});
  }

  /** The same disk in a new process, after a power cut or only a death. */
  again(image: Image): DiskStore | null {
    const { sizeBytes, alignBytes } = this.disk;
    // A new process: nobody holds buffers of the old one.
    const memory = new Memory(arena);
    Object.assign(this, { memory });
    this.disk = new SimDisk(memory, sizeBytes, { alignBytes, image });
    return this.open();
  }

  /** Only the process dies: the disk keeps what it was given, flushed or not. */
  restart(): DiskStore | null {
    this.#newProcess();
    return this.open();
  }

  /** The same; the next process starts opening and is left there. */
  beginAgain(): void {
    this.#newProcess();
    this.begin();
  }

  #newProcess(): void {
    const memory = new Memory(arena);
    Object.assign(this, { memory });
    this.disk.restart(memory);
    this.disk.order = null;
  }

  member(slice = 1): MemberStore {
    const member = this.store?.member(slice) ?? null;
    if (member === null) throw new Error(`no member of slice ${slice}`);
    return member;
  }

  create(slice: number, sizeBytes: number): Status | null {
    return this.wait((done) => this.store?.createMember(slice, sizeBytes, done));
  }

  /** Submits and runs; null when it never ended. */
  io(
    member: MemberStore,
    kind: OperationKind,
    offsetBytes: number,
    lengthBytes: number,
    rest: { flags?: number; epoch?: number; bufferOffset?: number } = {},
  ): Operation {
    const operation = new Operation();
    operation.kind = kind;
    operation.offsetBytes = offsetBytes;
    operation.lengthBytes = lengthBytes;
    operation.flags = rest.flags ?? 0;
    operation.epoch = rest.epoch ?? 1;
    if (rest.bufferOffset !== undefined) operation.bufferOffset = rest.bufferOffset;
    operation.status = Status.unknownOutcome;
    let ended = false;
    operation.done = () => {
      ended = true;
    };
    member.submit(operation);
    while (!ended && this.disk.step());
    return operation;
  }

  write(
    member: MemberStore,
    offsetBytes: number,
    bytes: Uint8Array,
    rest: { flags?: number; epoch?: number; shift?: number } = {},
  ): Status {
    const buffer = this.memory.allocate(bytes.length + 4096);
    const bufferOffset = buffer + (rest.shift ?? 0);
    this.memory.bytes.set(bytes, bufferOffset);
    const { status } = this.io(member, OperationKind.write, offsetBytes, bytes.length, {
      ...rest,
      bufferOffset,
    });
    this.memory.release(buffer);
    return status;
  }

  read(
    member: MemberStore,
    offsetBytes: number,
    lengthBytes: number,
    rest: { flags?: number; shift?: number } = {},
  ): { status: Status; fault: number; bytes: Uint8Array<ArrayBuffer> } {
    const buffer = this.memory.allocate(lengthBytes + 4096);
    const bufferOffset = buffer + (rest.shift ?? 0);
    this.memory.bytes.fill(0xee, bufferOffset, bufferOffset + lengthBytes);
    const operation = this.io(member, OperationKind.read, offsetBytes, lengthBytes, {
      ...rest,
      bufferOffset,
    });
    const bytes = new Uint8Array(lengthBytes);
    bytes.set(this.memory.bytes.subarray(bufferOffset, bufferOffset + lengthBytes));
    this.memory.release(buffer);
    return { status: operation.status, fault: operation.faultOffsetBytes, bytes };
  }

  flush(member: MemberStore): Status {
    return this.io(member, OperationKind.flush, 0, 0).status;
  }

  activate(member: MemberStore, ...regions: number[]): Status | null {
    return this.wait((done) => member.activate(regions, done));
  }

  put(member: MemberStore, record: SliceRecord): Status | null {
    return this.wait((done) => member.putRecord(record, done));
  }
}

export function filled(lengthBytes: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(lengthBytes).fill(value);
}

export function sampleRecord(epoch: number, rest: Partial<SliceRecord> = {}): SliceRecord {
  return {
    slice: 1,
    volume: 7,
    index: 0,
    sizeBytes: 8 * MIB,
    copies: 2,
    lineage: 1,
    ancestry: [],
    epoch,
    head: 5,
    inSync: [
      { disk: 5, incarnation: 1 },
      { disk: 6, incarnation: 3 },
    ],
    resyncing: [],
    ...rest,
  };
}
