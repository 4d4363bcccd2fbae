// SPDX-License-Identifier: Apache-2.0
//
// A storm over one slice from one seed, for this room's tests: hosts that write, trim, flush and
// read single blocks while units are killed, lose power, links and the control store, and disks
// stall or fail. Each block has one host, which knows what a read may legally answer (contract.md,
// H1, H4 to H7). The simulator in test/sim does the same for whole units; this one runs in
// milliseconds.

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { FLAG_FUA, FLAG_RESENT, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Cluster } from "./cluster-fixture.ts";
import type { Request } from "./cluster-fixture.ts";

interface Host {
  block: number;
  /** What a read may answer now. */
  legal: Set<number>;
  /** What may come back when all memory is lost (H6). */
  since: Set<number>;
  /** Of these, what was written since the last flush was sent. */
  after: Set<number>;
  request: Request | null;
  kind: OperationKind;
  tag: number;
  node: number;
  run: number;
  flags: number;
  origin: number;
  /** A write whose outcome is not known, to be sent again as a forwarder would (H7). */
  again: { tag: number; origin: number; observed: boolean } | null;
  isAgain: boolean;
}

export interface StormResult {
  acked: number;
  reads: number;
  unknown: number;
  again: number;
  faults: number;
  epochs: number;
}

const BLOCKS = [0, 1, 2, 255, 256, 1023, 1024, 2500];

export class Storm {
  readonly #prng: Prng;
  readonly cluster: Cluster;
  readonly #hosts: Host[];
  readonly #failed = new Set<number>();
  readonly #releasing = new Set<number>();
  readonly #maintained = new Set<number>();
  #nextTag = 1;
  #origin = 2 ** 40;
  #flush: { request: Request; node: number; run: number; legal: Set<number>[] } | null = null;
  readonly result: StormResult = { acked: 0, reads: 0, unknown: 0, again: 0, faults: 0, epochs: 0 };

  constructor(seed: number) {
    this.#prng = new Prng(seed);
    const copies = this.#prng.pick([1, 2, 2, 2, 3, 3]);
    this.cluster = new Cluster({
      copies,
      seed: seed + 1,
      linkMs: this.#prng.pick([1, 5, 20]),
      slice: { rejoinDelayMs: 200, rejoinDelayMaxMs: 1000 },
    });
    this.cluster.duplicates = this.#prng.chance(0.3);
    for (const node of this.cluster.nodes.values()) this.#slowDown(node.disk.disk);
    this.#hosts = BLOCKS.map((block) => ({
      block,
      legal: new Set([0]),
      since: new Set([0]),
      after: new Set<number>(),
      request: null,
      kind: OperationKind.read,
      tag: 0,
      node: 0,
      run: 0,
      flags: 0,
      origin: 0,
      again: null,
      isAgain: false,
    }));
  }

  run(): StormResult {
    const steps = this.#prng.between(200, 500);
    for (let step = 0; step < steps; step++) {
      if (this.#prng.chance(0.06)) this.#misfortune();
      for (const host of this.#hosts) this.#act(host);
      this.#flushSometimes();
      this.cluster.run(this.#prng.pick([1, 3, 10, 10, 40]));
      this.#harvest();
    }
    this.#calm();
    this.result.epochs = this.cluster.record.epoch;
    return this.result;
  }

  // Hosts.

  #act(host: Host): void {
    if (host.request !== null || this.#prng.chance(0.5)) return;
    const { record } = this.cluster;
    const disks = [...this.cluster.nodes.keys()];
    host.node = this.#prng.chance(0.95) ? record.head : this.#prng.pick(disks);
    const node = this.cluster.node(host.node);
    if (!node.alive) return;
    host.run = node.run;
    host.kind = this.#prng.pick([
      OperationKind.read,
      OperationKind.read,
      OperationKind.write,
      OperationKind.write,
      OperationKind.write,
      OperationKind.trim,
    ]);
    host.flags = this.#prng.chance(0.1) ? FLAG_FUA : 0;
    host.isAgain = host.again !== null && this.#prng.chance(0.4);
    host.origin = 0;
    if (host.isAgain && host.again !== null) {
      host.kind = OperationKind.write;
      host.tag = host.again.tag;
      host.origin = host.again.origin;
      host.flags |= FLAG_RESENT;
      host.since.add(host.tag);
      host.after.add(host.tag);
    } else if (host.kind !== OperationKind.read) {
      host.origin = ++this.#origin;
      host.tag = host.kind === OperationKind.trim ? 0 : this.#takeTag();
      host.since.add(host.tag);
      host.after.add(host.tag);
    }
    const lengthBytes =
      !host.isAgain && host.kind === OperationKind.write && this.#prng.chance(0.3)
        ? 1024
        : BLOCK_BYTES;
    host.request = this.cluster.submit(
      host.node,
      host.kind,
      host.block * BLOCK_BYTES,
      lengthBytes,
      { tag: host.tag, flags: host.flags, origin: host.origin },
    );
  }

  /** Tags come again only long after. */
  #takeTag(): number {
    this.#nextTag = (this.#nextTag % 250) + 1;
    return this.#nextTag;
  }

  #harvest(): void {
    for (const host of this.#hosts) {
      const { request } = host;
      if (request === null) continue;
      const node = this.cluster.node(host.node);
      const isGone = !node.alive || node.run !== host.run;
      if (request.status === null && !isGone) continue;
      host.request = null;
      this.#ended(host, request, request.status ?? Status.linkLost);
    }
    const flush = this.#flush;
    if (flush === null) return;
    const node = this.cluster.node(flush.node);
    if (flush.request.status === null && node.alive && node.run === flush.run) return;
    this.#flush = null;
    if (flush.request.status === Status.ok) this.#flushed(flush.legal);
  }

  #ended(host: Host, request: Request, status: Status): void {
    const isRead = host.kind === OperationKind.read;
    switch (status) {
      case Status.ok:
        if (isRead) {
          const tag = request.tags[0] as number;
          this.result.reads++;
          assert(
            host.legal.has(tag),
            `block ${host.block} read ${tag}, legal ${[...host.legal]}, at ${this.cluster.nowMs}`,
          );
          host.legal = new Set([tag]);
          if (host.again?.tag === tag) host.again.observed = true;
          return;
        }
        if (host.isAgain) return this.#acknowledgedAgain(host);
        this.result.acked++;
        host.legal = new Set([host.tag]);
        if ((host.flags & FLAG_FUA) !== 0) host.since = new Set([host.tag]);
        return;
      case Status.notHead:
      case Status.shuttingDown:
      case Status.cancelled:
        return; // Nothing was done.
      default:
        if (isRead) return;
        this.result.unknown++;
        if (host.isAgain && host.again?.observed === true) return;
        host.legal.add(host.tag);
        if (host.kind !== OperationKind.write || host.isAgain || host.again !== null) return;
        if (request.operation.lengthBytes !== BLOCK_BYTES) return;
        host.again = { tag: host.tag, origin: host.origin, observed: false };
    }
  }

  /** H7: what was observed before is not written a second time over what came after. */
  #acknowledgedAgain(host: Host): void {
    this.result.again++;
    if (host.again?.observed !== true) host.legal.add(host.tag);
    host.again = null;
  }

  #flushSometimes(): void {
    if (this.#flush !== null || !this.#prng.chance(0.1)) return;
    const node = this.cluster.head;
    if (!node.alive) return;
    const legal = this.#hosts.map((host) => {
      const values = new Set(host.legal);
      if (host.request !== null && host.kind !== OperationKind.read) values.add(host.tag);
      return values;
    });
    for (const host of this.#hosts) host.after = new Set();
    const request = this.cluster.submit(node.disk.disk, OperationKind.flush, 0, 0);
    this.#flush = { request, node: node.disk.disk, run: node.run, legal };
  }

  /** What is written after a flush was sent may come back as well; what was superseded may not. */
  #flushed(legal: Set<number>[]): void {
    this.#hosts.forEach((host, index) => {
      const kept = legal[index] as Set<number>;
      host.since = new Set([...kept, ...host.after, ...host.legal]);
    });
  }

  // The nemesis.

  #misfortune(): void {
    const cluster = this.cluster;
    const disks = [...cluster.nodes.keys()];
    const disk = this.#prng.pick(disks);
    const node = cluster.node(disk);
    this.result.faults++;
    switch (this.#prng.below(9)) {
      case 0:
        if (node.alive) this.#kill(disk, this.#prng.chance(0.6));
        return;
      case 1:
        if (!node.alive) return;
        if (this.#prng.chance(0.5)) return this.#kill(disk, this.#prng.chance(0.6));
        if (!this.#releasing.has(disk)) this.#release(disk);
        return;
      case 2:
      case 3:
        if (!node.alive) this.#restart(disk);
        return;
      case 4: {
        const other = this.#prng.pick(disks);
        if (other === disk) return;
        if (cluster.isCut(disk, other)) cluster.heal(disk, other);
        else cluster.cut(disk, other);
        return;
      }
      case 5:
        node.hasControl = !node.hasControl;
        if (node.hasControl) cluster.storeBack();
        return;
      case 6:
        cluster.storeAway = !cluster.storeAway;
        if (!cluster.storeAway) cluster.storeBack();
        return;
      case 7:
        return this.#maintain(disk);
      default:
        if (!node.alive) return;
        if (this.#prng.chance(0.7)) node.store.stuck = !node.store.stuck;
        else {
          node.store.fault = () => Status.ioError;
          this.#failed.add(disk);
        }
    }
  }

  /** In and out of maintenance; as all hints, what each process knows of it may be old. */
  #maintain(disk: number): void {
    if (!this.#maintained.delete(disk)) this.#maintained.add(disk);
    const plans = { leaving: new Set<number>(), maintained: new Set(this.#maintained) };
    for (const node of this.cluster.nodes.values()) {
      if (this.#prng.chance(0.8)) node.slice.setPlans(plans);
    }
  }

  #kill(disk: number, power: boolean): void {
    const { record, nodes } = this.cluster;
    this.cluster.kill(disk, { power, tears: true });
    // H6: has any in-sync member kept the cache it had when it was named?
    const isKept = record.inSync.some((member) => {
      return (nodes.get(member.disk)?.disk.bootIncarnation ?? 0) <= member.incarnation;
    });
    this.#harvest();
    if (isKept) return;
    for (const host of this.#hosts) {
      for (const tag of host.since) host.legal.add(tag);
      if (host.again !== null) host.again.observed = false;
    }
  }

  /** An orderly stop; its process ends once it says so. */
  #release(disk: number): void {
    const node = this.cluster.node(disk);
    const { run } = node;
    this.#releasing.add(disk);
    node.slice.release(() => {
      this.cluster.later(1, () => {
        if (node.alive && node.run === run) this.#kill(disk, false);
      });
    });
  }

  #restart(disk: number): void {
    this.#releasing.delete(disk);
    this.#failed.delete(disk);
    this.cluster.restart(disk);
    this.#slowDown(disk);
  }

  #slowDown(disk: number): void {
    const most = this.#prng.pick([1, 1, 5, 30]);
    this.cluster.node(disk).store.delayMs = () => 1 + this.#prng.fraction() * most;
  }

  // The end.

  #calm(): void {
    const cluster = this.cluster;
    for (const [disk, node] of cluster.nodes) {
      node.hasControl = true;
      node.store.stuck = false;
      const isUseless = this.#failed.has(disk) || this.#releasing.has(disk);
      if (node.alive && isUseless) this.#kill(disk, false);
      if (!node.alive) this.#restart(disk);
      for (const other of cluster.nodes.keys()) if (other !== disk) cluster.heal(disk, other);
    }
    cluster.storeBack();
    cluster.settle();
    this.#harvest();
    for (const host of this.#hosts) {
      host.kind = OperationKind.read;
      const tag = cluster.read(host.block);
      assert(
        host.legal.has(tag),
        `at the end block ${host.block} read ${tag}, legal ${[...host.legal]}`,
      );
    }
    cluster.settle();
    this.#compare();
    for (const [disk, node] of cluster.nodes) {
      assert(node.disk.bad.size === 0, `disk ${disk} matches its checksums`);
      assert(node.memory.usedBytes === 0, `disk ${disk}'s unit gave all its buffers back`);
    }
  }

  /** All members equal, block by block. */
  #compare(): void {
    const [first, ...others] = this.cluster.inSync;
    for (const host of this.#hosts) {
      const tag = this.cluster.tagOn(first as number, host.block);
      for (const disk of others) {
        assert(
          this.cluster.tagOn(disk, host.block) === tag,
          `block ${host.block} alike on ${first} and ${disk}`,
        );
      }
    }
  }
}
