// SPDX-License-Identifier: Apache-2.0
//
// The judge is judged (contract.md, C): mutants, each a mistake that a build could make, made here
// by patching the product's classes from outside. A simulation that does not find one of them
// within a bounded number of seeds is worth nothing, so this runs in CI.

import type { Memory } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_KEEP_STAMP,
  FLAG_MENDS,
  Operation,
  OperationKind,
} from "#base/operation.ts";
import type { OperationTarget } from "#base/operation.ts";
import { Outcome } from "#base/record.ts";
import { EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { DataPlane } from "#appliance/data-plane.ts";
import type { VolumeShape } from "#appliance/forwarder.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import { keys, parseSlice } from "#cluster/state.ts";
import { RecordKeeper } from "#cluster/record-keeper.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import { Head } from "#raid/head.ts";
import { Mender } from "#raid/mender.ts";
import { RangeLock, Ticket } from "#raid/range-lock.ts";
import { planDisk } from "#store/disk-plan.ts";
import type { DiskPlan } from "#store/disk-plan.ts";
import { DiskStore } from "#store/disk-store.ts";
import { Member } from "#store/member.ts";
import { Doubts } from "#store/scrub-doubts.ts";
import { growing } from "./growth-mutants.ts";
import { type Mutant, type MutantWorld, patch, patchGetter } from "./mutant.ts";
import { SimDisk } from "./sim-disk.ts";
import { UnitProcess } from "./sim-unit.ts";

type Submit = (operation: Operation) => void;
/** Members' stores do something else with some operations; `instead` answers whether it took it. */
function patchMember(instead: (this: Member, operation: Operation) => boolean): () => void {
  return patch(
    Member.prototype,
    "submit",
    (original) =>
      function (this: Member, operation: Operation) {
        if (!instead.call(this, operation)) (original as Submit).call(this, operation);
      },
  );
}

function isCopy(operation: Operation): boolean {
  return operation.kind === OperationKind.write && (operation.flags & FLAG_KEEP_STAMP) !== 0;
}

function isHostWrite(operation: Operation): boolean {
  return operation.kind === OperationKind.write && (operation.flags & FLAG_KEEP_STAMP) === 0;
}

const stable: Mutant[] = [
  {
    name: "stale-voter",
    sentence: "a voter that is behind refuses what a unit writes, and that never hears of it",
    install: installStaleVoter,
  },
  {
    name: "lost-flush",
    sentence: "a flush is acked and not done",
    install: () =>
      patchMember((operation) => {
        if (operation.kind !== OperationKind.flush) return false;
        operation.complete(Status.ok);
        return true;
      }),
  },
  {
    name: "ignored-fsync",
    sentence: "the disk is never flushed, whatever is acked",
    install: () =>
      patch(
        SimDisk.prototype,
        "perform",
        (original) =>
          function (this: SimDisk, operation, memory, completedBefore) {
            if (operation.kind === OperationKind.flush) return;
            original.call(this, operation, memory, completedBefore);
          },
      ),
  },
  {
    name: "lost-fua",
    sentence: "FUA is ignored",
    install: () =>
      patchMember((operation) => {
        operation.flags &= ~FLAG_FUA;
        return false;
      }),
  },
];

const replication: Mutant[] = [
  {
    name: "half-replicated-write",
    sentence: "a member answers a write that it did not do",
    install: () => {
      let count = 0;
      return patchMember(function (operation) {
        const { record } = this;
        if (!isHostWrite(operation) || record === null || record.head === this.disk) return false;
        if (++count % 12 !== 0) return false;
        operation.complete(Status.ok);
        return true;
      });
    },
  },
  {
    name: "lagging-member-serves-reads",
    sentence: "a unit reads from its own member, whoever is head and whatever its state",
    install: () => installLaggingReads(),
  },
  {
    name: "ghost-write",
    sentence: "a write that was done is done once more, later, in the epoch of then",
    install: (world) => installGhostWrites(world),
  },
  {
    name: "overlapping-io",
    sentence: "writes wait neither for each other nor for reads",
    install: () =>
      patch(
        RangeLock.prototype,
        "enter",
        (original) =>
          function (this: RangeLock, ticket, offsetBytes, lengthBytes, isExclusive) {
            // Copies and reconciliation, an extent at a time, keep their order.
            const exclusive = isExclusive && lengthBytes === EXTENT_BYTES;
            original.call(this, ticket, offsetBytes, lengthBytes, exclusive);
          },
      ),
  },
  {
    name: "unknown-taken-for-success",
    sentence: "a proposal whose answer did not come counts as committed (R2)",
    install: () => installHastyProposals(),
  },
];

const remembering: Mutant[] = [
  {
    name: "no-resync-after-kill",
    sentence: "a member comes back without any copy being done",
    install: () =>
      patchMember((operation) => {
        if (!isCopy(operation)) return false;
        operation.complete(Status.ok);
        return true;
      }),
  },
  {
    name: "wrong-resync-after-cut",
    sentence: "of each copy only the first half is written",
    install: () =>
      patchMember((operation) => {
        if (!isCopy(operation) || operation.lengthBytes < 8192) return false;
        const { lengthBytes, done } = operation;
        operation.lengthBytes = Math.floor(lengthBytes / 8192) * 4096;
        operation.done = (ended) => {
          ended.lengthBytes = lengthBytes;
          ended.done = done;
          done(ended);
        };
        return false;
      }),
  },
  {
    name: "reboot-forgets",
    sentence: "a disk's incarnation does not rise, so who lost its memory still counts as in sync",
    install: () => {
      const undo = [
        patchGetter(Member.prototype, "incarnation", () => 1),
        patchGetter(DiskStore.prototype, "incarnation", () => 1),
      ];
      return () => undo.forEach((one) => one());
    },
  },
  {
    name: "early-deactivation",
    sentence: "a region counts as active in memory only; the log does not know",
    install: () =>
      patch(
        Member.prototype,
        "activate",
        () =>
          function (this: Member, regions, done) {
            for (const region of regions) this.state.active.add(region);
            done(Status.ok);
          },
      ),
  },
  {
    name: "late-dirt",
    sentence: "what is active when a member leaves does not become dirty for it (R2, R6)",
    install: () =>
      patch(
        Member.prototype,
        "putRecord",
        (original) =>
          function (this: Member, record, done) {
            // Storing the record re-stamps the extents of active regions: it sees none.
            const { active } = this.state;
            const regions = [...active];
            active.clear();
            original.call(this, record, done);
            for (const region of regions) active.add(region);
          },
      ),
  },
];

const scrubbing: Mutant[] = [
  {
    name: "scrub-sees-nothing",
    sentence: "a scrub passes over what does not match (R9)",
    install: () =>
      patch(
        Doubts.prototype,
        "add",
        () =>
          function (this: Doubts) {
            // Nobody hears of it.
          },
      ),
  },
  {
    name: "heal-outside-the-lock",
    sentence: "what a scrub doubts is healed without the range's lock, in its own time (R1)",
    install: (world) => installLocklessHeals(world),
  },
  {
    name: "heal-from-the-wrong-member",
    sentence: "blocks are healed from, and compared with, whoever is linked, in sync or not",
    install: () =>
      patch(
        Head.prototype,
        "inSyncPeers",
        () =>
          function (this: Head) {
            return [...this.replicas.values()].filter((replica) => replica.state === "open");
          },
      ),
  },
  {
    name: "heal-keeps-the-wrong-bytes",
    sentence: "a member that is told to heal a block gives its own bytes a new checksum (R9)",
    install: () => installSelfHeals(),
  },
];

export const mutants: readonly Mutant[] = [
  ...stable,
  ...replication,
  ...remembering,
  ...scrubbing,
  ...growing,
];

function installLaggingReads(): () => void {
  const shapes = new WeakMap<DataPlane, VolumeShape[]>();
  const stores = new WeakMap<DataPlane, DiskStore[]>();
  const undo = [
    patch(
      DataPlane.prototype,
      "volumeChanged",
      (original) =>
        function (this: DataPlane, shape) {
          shapes.set(this, [...(shapes.get(this) ?? []), shape]);
          original.call(this, shape);
        },
    ),
    patch(
      DataPlane.prototype,
      "addDisk",
      (original) =>
        function (this: DataPlane, store) {
          stores.set(this, [...(stores.get(this) ?? []), store]);
          original.call(this, store);
        },
    ),
    patch(
      DataPlane.prototype,
      "volume",
      (original) =>
        function (this: DataPlane, volume): OperationTarget {
          const target = original.call(this, volume);
          const shape = shapes.get(this)?.find((other) => other.volume === volume);
          const submit = (operation: Operation) => {
            const own = shape && ownMember(shape, stores.get(this) ?? [], operation);
            if (!own) return target.submit(operation);
            const sliceStart = operation.offsetBytes - (operation.offsetBytes % shape.sliceBytes);
            const inner = new Operation();
            Object.assign(inner, { ...operation, offsetBytes: operation.offsetBytes - sliceStart });
            inner.done = () => operation.complete(inner.status);
            own.submit(inner);
          };
          return { submit };
        },
    ),
  ];
  return () => undo.forEach((one) => one());
}

/** The unit's own member for a read within one slice. */
function ownMember(
  shape: VolumeShape,
  stores: readonly DiskStore[],
  operation: Operation,
): OperationTarget | null {
  if (operation.kind !== OperationKind.read) return null;
  const index = Math.floor(operation.offsetBytes / shape.sliceBytes);
  const end = operation.offsetBytes + operation.lengthBytes;
  if (end > (index + 1) * shape.sliceBytes) return null;
  for (const store of stores) {
    const member = store.member(shape.slices[index] as number);
    if (member !== null && member.record !== null) return member;
  }
  return null;
}

function installStaleVoter(): () => void {
  const undo = [
    patch(ViewFollower.prototype, "reached", () => () => Promise.resolve(true)),
    patch(
      RecordKeeper.prototype,
      "propose",
      (original) =>
        function (this: RecordKeeper, next, expected, done, proposer) {
          const told: typeof done = (outcome, current) => {
            if (outcome !== Outcome.refused) done(outcome, current);
          };
          original.call(this, next, expected, told, proposer);
        },
    ),
  ];
  return () => undo.forEach((one) => one());
}

/** One attempt; no answer is taken for a good one. */
function installHastyProposals(): () => void {
  const clients = new WeakMap<RecordKeeper, ControlStore>();
  const undo = [
    patch(
      UnitProcess.prototype,
      "start",
      (original) =>
        function (this: UnitProcess) {
          clients.set(this.keeper, this.client);
          original.call(this);
        },
    ),
    patch(
      RecordKeeper.prototype,
      "propose",
      () =>
        function (this: RecordKeeper, next, expected, done) {
          const store = clients.get(this) as ControlStore;
          const key = keys.slice(next.slice);
          const attempt = async () => {
            const { entry } = await store.get(key);
            if (entry === null) return done(Outcome.refused, null);
            const current = parseSlice(key, entry.value);
            if (current.epoch !== expected.epoch) return done(Outcome.conflict, current);
            const ifs = [{ key, modRevision: entry.modRevision }];
            const puts = [{ key, value: JSON.stringify(next) }];
            const { committed } = await store.transaction({ ifs, puts });
            done(committed ? Outcome.committed : Outcome.conflict, committed ? next : current);
          };
          attempt().catch(() => done(Outcome.committed, next));
        },
    ),
  ];
  return () => undo.forEach((one) => one());
}

function installGhostWrites(world: MutantWorld): () => void {
  let count = 0;
  return patch(
    UnitProcess.prototype,
    "receive",
    (original) =>
      function (this: UnitProcess, from, verb) {
        const { kind, slice, toDisk, offsetBytes, bufferOffset, payloadBytes } = verb;
        if (kind === VerbKind.write && ++count % 10 === 0) {
          const bytes = this.memory.bytes.slice(bufferOffset, bufferOffset + payloadBytes);
          world.after(700, () =>
            this.deliver(() => {
              const member = this.stores.get(toDisk)?.member(slice);
              if (member?.record && member.isActive(Math.floor(offsetBytes / REGION_BYTES))) {
                doOnceMore(this.memory, member, offsetBytes, bytes);
              }
            }),
          );
        }
        original.call(this, from, verb);
      },
  );
}

function doOnceMore(memory: Memory, member: Member, offsetBytes: number, bytes: Uint8Array): void {
  const ghost = new Operation();
  ghost.kind = OperationKind.write;
  ghost.offsetBytes = offsetBytes;
  ghost.lengthBytes = bytes.length;
  ghost.epoch = member.record?.epoch ?? 1;
  ghost.bufferOffset = memory.allocate(bytes.length);
  memory.bytes.set(bytes, ghost.bufferOffset);
  ghost.done = () => memory.release(ghost.bufferOffset);
  member.submit(ghost);
}

const SLOW_HEAL_MS = 300;

/**
 * Locks asked for while the mender begins a job are granted at once, and hold nobody up; what is
 * healed on a member is written a while after it was read.
 */
function installLocklessHeals(world: MutantWorld): () => void {
  const loose = new WeakSet<Ticket>();
  let isMending = false;
  const undo = [
    patch(
      Mender.prototype,
      "doubted",
      (original) =>
        function (this: Mender, replica, range) {
          isMending = true;
          original.call(this, replica, range);
          isMending = false;
        },
    ),
    patch(
      RangeLock.prototype,
      "acquire",
      (original) =>
        function (this: RangeLock, range, granted) {
          // What is to be reconciled there first keeps its order.
          const isOther = range.lengthBytes === EXTENT_BYTES;
          if (!isMending || isOther) return original.call(this, range, granted);
          isMending = false;
          const ticket = new Ticket(granted);
          ticket.released = false;
          loose.add(ticket);
          granted();
          return ticket;
        },
    ),
    patch(
      RangeLock.prototype,
      "release",
      (original) =>
        function (this: RangeLock, ticket) {
          if (loose.has(ticket)) ticket.released = true;
          else original.call(this, ticket);
        },
    ),
    patch(
      UnitProcess.prototype,
      "receive",
      (original) =>
        function (this: UnitProcess, from, verb) {
          const isHeal = verb.kind === VerbKind.write && (verb.flags & FLAG_MENDS) !== 0;
          const act = () => original.call(this, from, verb);
          if (isHeal) world.after(SLOW_HEAL_MS, () => this.deliver(act));
          else act();
        },
    ),
  ];
  return () => undo.forEach((one) => one());
}

function installSelfHeals(): () => void {
  const disks = new WeakMap<Memory, SimDisk>();
  const undo = [
    patch(
      SimDisk.prototype,
      "attach",
      (original) =>
        function (this: SimDisk, memory, deliver) {
          disks.set(memory, this);
          return original.call(this, memory, deliver);
        },
    ),
    patch(
      UnitProcess.prototype,
      "receive",
      (original) =>
        function (this: UnitProcess, from, verb) {
          const mends = verb.kind === VerbKind.write && (verb.flags & FLAG_MENDS) !== 0;
          const map = this.stores.get(verb.toDisk)?.member(verb.slice)?.state.map;
          const physical = map?.physicalOf(Math.floor(verb.offsetBytes / EXTENT_BYTES)) ?? -1;
          const disk = disks.get(this.memory);
          if (mends && physical >= 0 && disk !== undefined) {
            const { dataOffset } = planDisk(disk.sizeBytes) as DiskPlan;
            const at = dataOffset + physical * EXTENT_BYTES + (verb.offsetBytes % EXTENT_BYTES);
            const { bufferOffset, payloadBytes } = verb;
            disk.read(at, this.memory.bytes.subarray(bufferOffset, bufferOffset + payloadBytes));
          }
          original.call(this, from, verb);
        },
    ),
  ];
  return () => undo.forEach((one) => one());
}
