// SPDX-License-Identifier: Apache-2.0
//
// Making an area a store: an empty checkpoint first, then the two superblocks. Until a superblock
// is whole the area is no store; when one is, so is all it points to.

import { NO_BUFFER } from "#base/memory.ts";
import type { Memory } from "#base/memory.ts";
import type { Area } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { World } from "#base/world.ts";
import { DiskIo } from "./disk-io.ts";
import { planDisk } from "./disk-plan.ts";
import type { PlanOptions } from "./disk-plan.ts";
import { CHECKPOINT_HEADER, NONCE_BYTES, PAGE_BYTES, PageKind, UUID_BYTES } from "./format.wire.ts";
import { identityBytes, sealPage } from "./page.ts";
import { encodeSuperblock, identityOf } from "./superblock.ts";
import type { Superblock } from "./superblock.ts";

export interface DiskIdentity {
  /** The cluster the disk belongs to: 32 hexadecimal digits. */
  clusterId: string;
  /** The disk's own: 32 hexadecimal digits; drawn when left out. */
  uuid?: string;
}

/** `reason` is empty when the status is ok. */
export type FormatDone = (status: Status, reason: string) => void;

const header = CHECKPOINT_HEADER.view();
/** The empty checkpoint's sequence, so that it lies in slot 1. */
const FIRST_CHECKPOINT = 1;

export function formatDisk(
  world: Pick<World, "random">,
  memory: Memory,
  area: Area,
  identity: DiskIdentity,
  options: PlanOptions,
  done: FormatDone,
): void {
  const cluster = identityBytes(identity.clusterId);
  const disk = identity.uuid === undefined ? drawn(world) : identityBytes(identity.uuid);
  if (cluster === null || disk === null) return done(Status.invalid, "an identity is malformed");
  const plan = planDisk(area.sizeBytes, options);
  if (plan === null) return done(Status.invalid, "the area is too small for a store");
  const buffer = memory.allocate(2 * PAGE_BYTES);
  if (buffer === NO_BUFFER) return done(Status.busy, "no memory for buffers");
  const nonce = new Uint8Array(NONCE_BYTES);
  world.random.fill(nonce);
  const io = new DiskIo(area, memory);
  write(io, { cluster, disk, nonce, plan }, buffer, (status) => {
    memory.release(buffer);
    done(status, status === Status.ok ? "" : io.failure);
  });
}

function drawn(world: Pick<World, "random">): Uint8Array {
  const uuid = new Uint8Array(UUID_BYTES);
  world.random.fill(uuid);
  return uuid;
}

function write(
  io: DiskIo,
  superblock: Superblock,
  buffer: number,
  done: (status: Status) => void,
): void {
  const { bytes } = io.memory;
  const { plan } = superblock;
  const lastAt = plan.areaBytes - PAGE_BYTES;
  const steps: ((next: (status: Status) => void) => void)[] = [
    (next) => {
      bytes.fill(0, buffer, buffer + PAGE_BYTES);
      io.write(plan.checkpointOffset, PAGE_BYTES, buffer, next);
    },
    (next) => {
      encodeEmptyCheckpoint(bytes, buffer, superblock);
      io.write(plan.checkpointOffset + plan.checkpointBytes, PAGE_BYTES, buffer, next);
    },
    (next) => io.flush(next),
    (next) => {
      encodeSuperblock(bytes, buffer, superblock, 0);
      io.write(0, PAGE_BYTES, buffer, next);
    },
    (next) => {
      encodeSuperblock(bytes, buffer, superblock, 1);
      io.write(lastAt, PAGE_BYTES, buffer, next);
    },
    (next) => io.flush(next),
  ];
  const run = (index: number) => {
    const step = steps[index];
    if (step === undefined) return done(Status.ok);
    step((status) => (status === Status.ok ? run(index + 1) : done(status)));
  };
  run(0);
}

function encodeEmptyCheckpoint(target: Uint8Array, start: number, superblock: Superblock): void {
  target.fill(0, start, start + PAGE_BYTES);
  header.at(target, start);
  header.sequence = FIRST_CHECKPOINT;
  header.logFrom = 1;
  header.nextMapping = 1;
  const used = CHECKPOINT_HEADER.size;
  sealPage(target, start, PageKind.checkpointHeader, used, identityOf(superblock));
}
