// SPDX-License-Identifier: Apache-2.0
//
// Several units' share of one slice for this room's tests: virtual time, ordered links that can be
// cut or held up verb by verb, a record with compare-and-swap that can be away, kills, power cuts
// and restarts. Payload is read from the sender's memory only when it is delivered, so a buffer
// given back too early shows.

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Outcome, supersedes } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { PeerVerb } from "#base/verbs.ts";
import type { Happening } from "./happening.ts";
import { FixtureDisk, FixtureStore } from "./member-store-fixture.ts";
import { Slice } from "./slice.ts";
import type { SliceOptions } from "./slice.ts";

const TICK_MS = 50;
const SLICE_BYTES = 16 << 20;

interface Event {
  atMs: number;
  order: number;
  act: () => void;
}

export interface Node {
  readonly disk: FixtureDisk;
  memory: Memory;
  store: FixtureStore;
  slice: Slice;
  alive: boolean;
  /** Reaches the control store. */
  hasControl: boolean;
  run: number;
}

interface Sent {
  from: Node;
  to: Node;
  verb: PeerVerb;
  epochOfLink: number;
}

/** A host's request and its end. */
export interface Request {
  operation: Operation;
  status: Status | null;
  /** Of a read: the first byte of each block. */
  tags: number[];
  endedMs: number;
}

export interface ClusterOptions {
  disks?: number;
  copies?: number;
  seed?: number;
  slice?: SliceOptions;
  linkMs?: number;
  sizeBytes?: number;
}

export class Cluster {
  readonly prng: Prng;
  readonly nodes = new Map<number, Node>();
  readonly #options: ClusterOptions;
  readonly #events: Event[] = [];
  #order = 0;
  nowMs = 1000;
  record: SliceRecord;
  /** All that was committed, in order. */
  readonly history: SliceRecord[] = [];
  storeAway = false;
  #waitingForStore: (() => void)[] = [];
  readonly #cuts = new Set<string>();
  readonly #linkRuns = new Map<string, number>();
  readonly #laneFreeMs = new Map<string, number>();
  /** Verbs for which this holds stay on the wire until `deliverHeld`. */
  hold: ((verb: PeerVerb) => boolean) | null = null;
  held: Sent[] = [];
  readonly takeovers: { from: number; pauseMs: number }[] = [];
  readonly happenings: Happening[] = [];
  /** Every verb delivered. */
  onDelivered: ((verb: PeerVerb) => void) | null = null;
  /** Every verb delivered is delivered again right after. */
  duplicates = false;

  constructor(options: ClusterOptions = {}) {
    this.#options = options;
    this.prng = new Prng(options.seed ?? 1);
    const copies = options.copies ?? 2;
    const sizeBytes = options.sizeBytes ?? SLICE_BYTES;
    const disks = options.disks ?? copies;
    for (let number = 1; number <= disks; number++) this.#addNode(number, sizeBytes);
    const inSync = [...this.nodes.keys()].slice(0, copies);
    this.record = {
      slice: 7,
      volume: 1,
      index: 0,
      sizeBytes,
      copies,
      lineage: 1,
      ancestry: [],
      epoch: 1,
      head: 1,
      inSync: inSync.map((disk) => ({ disk, incarnation: 1 })),
      resyncing: [],
    };
    this.history.push(this.record);
    for (const node of this.nodes.values()) this.#linkAll(node);
    for (const disk of inSync) this.node(disk).slice.recordChanged(this.record);
    this.#tick();
  }

  node(disk: number): Node {
    const node = this.nodes.get(disk);
    assert(node !== undefined, "a node of the cluster");
    return node;
  }

  get head(): Node {
    return this.node(this.record.head);
  }

  /** The disks in sync by the committed record. */
  get inSync(): number[] {
    return this.record.inSync.map((member) => member.disk).sort((a, b) => a - b);
  }

  // Time.

  later(delayMs: number, act: () => void): void {
    const event = { atMs: this.nowMs + delayMs, order: this.#order++, act };
    const heap = this.#events;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as Event)) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    const end = this.nowMs + ms;
    for (let event = this.#next(end); event !== null; event = this.#next(end)) {
      this.nowMs = Math.max(this.nowMs, event.atMs);
      event.act();
    }
    this.nowMs = end;
  }

  /** Runs until `what` holds; fails the test after `limitMs`. */
  until(what: () => boolean, limitMs = 20_000): void {
    const end = this.nowMs + limitMs;
    while (!what()) {
      assert(this.nowMs < end, `within ${limitMs} ms: ${what}`);
      this.run(5);
    }
  }

  #next(endMs: number): Event | null {
    const first = this.#events[0];
    if (first === undefined || first.atMs > endMs) return null;
    const last = this.#events.pop() as Event;
    if (this.#events.length > 0) this.#sink(last);
    return first;
  }

  /** Puts an event in the place of the heap's first and lets it sink. */
  #sink(event: Event): void {
    const heap = this.#events;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, event)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = event;
  }

  #tick(): void {
    for (const node of this.nodes.values()) if (node.alive) node.slice.tick(this.nowMs);
    this.later(TICK_MS, () => this.#tick());
  }

  // Nodes.

  #addNode(number: number, sizeBytes: number): void {
    const disk = new FixtureDisk(number, 7, sizeBytes);
    const memory = new Memory(new ArrayBuffer(64 << 20));
    const node: Node = {
      disk,
      memory,
      store: null as unknown as FixtureStore,
      slice: null as unknown as Slice,
      alive: true,
      hasControl: true,
      run: 0,
    };
    this.nodes.set(number, node);
    this.#start(node);
  }

  #start(node: Node): void {
    node.run++;
    node.alive = true;
    // A new process has new memory; what its run before held is nobody's.
    if (node.run > 1) node.memory = new Memory(new ArrayBuffer(64 << 20));
    node.store = new FixtureStore(node.disk, node.memory, (ms, act) => this.later(ms, act));
    const world = {
      clock: { nowMs: () => this.nowMs, wallMs: () => 0 },
      random: { fill: () => {}, fraction: () => this.prng.fraction() },
      log: { write: () => {} },
    };
    const { run } = node;
    const isLive = () => node.alive && node.run === run;
    node.slice = new Slice(world, node.memory, this.#options.slice ?? {}, node.store, {
      send: (verb) => isLive() && this.#send(node, verb),
      propose: (next, expected, done) => this.#propose(node, isLive, next, expected, done),
      happened: (happening) => void this.happenings.push(happening),
      tookOver: (from, pauseMs) => void this.takeovers.push({ from, pauseMs }),
    });
  }

  kill(disk: number, options: { power: boolean; tears?: boolean } = { power: false }): void {
    const node = this.node(disk);
    assert(node.alive, "killed once");
    node.alive = false;
    node.store.die();
    node.disk.crash(options, this.prng);
    for (const other of this.nodes.values()) this.#unlink(node, other);
  }

  restart(disk: number): void {
    const node = this.node(disk);
    assert(!node.alive, "only the dead restart");
    this.#start(node);
    this.#linkAll(node);
    if (node.hasControl) this.later(2, () => node.slice.recordChanged(this.record));
  }

  // Links.

  cut(a: number, b: number): void {
    this.#cuts.add(pair(a, b));
    this.#unlink(this.node(a), this.node(b));
  }

  heal(a: number, b: number): void {
    if (!this.#cuts.delete(pair(a, b))) return;
    this.#link(this.node(a), this.node(b));
  }

  isCut(a: number, b: number): boolean {
    return this.#cuts.has(pair(a, b));
  }

  #linkAll(node: Node): void {
    for (const other of this.nodes.values()) if (other !== node) this.#link(node, other);
  }

  #link(a: Node, b: Node): void {
    const key = pair(a.disk.disk, b.disk.disk);
    if (!a.alive || !b.alive || this.#cuts.has(key)) return;
    this.#linkRuns.set(key, (this.#linkRuns.get(key) ?? 0) + 1);
    a.slice.linkUp(b.disk.disk);
    b.slice.linkUp(a.disk.disk);
  }

  #unlink(a: Node, b: Node): void {
    if (a === b) return;
    const key = pair(a.disk.disk, b.disk.disk);
    this.#linkRuns.set(key, (this.#linkRuns.get(key) ?? 0) + 1);
    // What is held on it is lost; the link lets go of its payload before it says that it is down.
    const isOf = ({ from, to }: Sent) => (from === a && to === b) || (from === b && to === a);
    const lost = this.held.filter(isOf);
    this.held = this.held.filter((sent) => !isOf(sent));
    for (const { verb } of lost) verb.sent?.();
    if (a.alive) a.slice.linkDown(b.disk.disk);
    if (b.alive) b.slice.linkDown(a.disk.disk);
  }

  /** Holds nothing any more; what was held arrives. */
  letGo(): void {
    this.hold = null;
    this.deliverHeld();
  }

  #send(from: Node, verb: PeerVerb): boolean {
    const to = this.nodes.get(verb.toDisk);
    if (to === undefined || !to.alive) return false;
    const key = pair(from.disk.disk, verb.toDisk);
    if (this.#cuts.has(key)) return false;
    const sent: Sent = { from, to, verb, epochOfLink: this.#linkRuns.get(key) ?? 0 };
    if (this.hold?.(verb)) {
      this.held.push(sent);
      return true;
    }
    // Two lanes per direction, each in order.
    const lane = `${from.disk.disk}>${verb.toDisk}${verb.payloadBytes > 0 ? "p" : "c"}`;
    const jitter = this.prng.fraction() * (this.#options.linkMs ?? 1);
    const atMs = Math.max(this.#laneFreeMs.get(lane) ?? 0, this.nowMs + 0.5 + jitter);
    this.#laneFreeMs.set(lane, atMs);
    this.later(atMs - this.nowMs, () => this.#deliver(sent));
    return true;
  }

  deliverHeld(which: (verb: PeerVerb) => boolean = () => true): void {
    const due = this.held.filter((sent) => which(sent.verb));
    this.held = this.held.filter((sent) => !which(sent.verb));
    for (const sent of due) this.#deliver(sent);
  }

  #deliver({ from, to, verb, epochOfLink }: Sent): void {
    const key = pair(from.disk.disk, to.disk.disk);
    const isLive = this.#linkRuns.get(key) === epochOfLink && to.alive;
    const copies: PeerVerb[] = [];
    if (isLive) {
      for (let copy = 0; copy < (this.duplicates ? 2 : 1); copy++) {
        copies.push(this.#received(from, to, verb));
      }
    }
    verb.sent?.();
    for (const received of copies) {
      if (!to.alive) return;
      this.onDelivered?.(received);
      to.slice.receive(received);
    }
  }

  #received(from: Node, to: Node, verb: PeerVerb): PeerVerb {
    const received = Object.assign(new PeerVerb(), verb);
    received.sent = null;
    received.record = verb.record === null ? null : structuredClone(verb.record);
    if (verb.payloadBytes > 0) {
      received.bufferOffset = to.memory.allocate(verb.payloadBytes);
      assert(received.bufferOffset !== NO_BUFFER, "memory for a verb's payload");
      const { bufferOffset: at } = verb;
      to.memory.bytes.set(
        from.memory.bytes.subarray(at, at + verb.payloadBytes),
        received.bufferOffset,
      );
    }
    return received;
  }

  // The control store.

  #propose(
    node: Node,
    isLive: () => boolean,
    next: SliceRecord,
    expected: SliceRecord,
    done: (outcome: Outcome, current: SliceRecord | null) => void,
  ): void {
    const attempt = () => {
      if (!isLive()) return;
      if (this.storeAway || !node.hasControl) {
        this.#waitingForStore.push(attempt);
        return;
      }
      const isCurrent =
        this.record.epoch === expected.epoch && this.record.lineage === expected.lineage;
      if (isCurrent) this.commit(structuredClone(next));
      const outcome = isCurrent ? Outcome.committed : Outcome.conflict;
      const { record } = this;
      this.later(2, () => {
        if (isLive()) done(outcome, record);
      });
    };
    this.later(2, attempt);
  }

  /** The control store, or a test in its place, commits a record. */
  commit(record: SliceRecord): void {
    assert(supersedes(record, this.record), "records only go forward");
    this.record = record;
    this.history.push(record);
    for (const node of this.nodes.values()) {
      this.later(1 + this.prng.fraction() * 20, () => {
        if (node.alive && node.hasControl) node.slice.recordChanged(record);
      });
    }
  }

  /** The control station makes the slice larger. */
  grow(sizeBytes: number): void {
    const { epoch } = this.record;
    this.commit({ ...this.record, epoch: epoch + 1, sizeBytes });
  }

  storeBack(): void {
    this.storeAway = false;
    const waiting = this.#waitingForStore;
    this.#waitingForStore = [];
    for (const attempt of waiting) this.later(1, attempt);
    for (const node of this.nodes.values()) {
      if (node.alive && node.hasControl) node.slice.recordChanged(this.record);
    }
  }

  // Hosts.

  /** A request at `disk`'s unit; `tag` fills what is written. */
  submit(
    disk: number,
    kind: OperationKind,
    offsetBytes: number,
    lengthBytes: number,
    extra: { tag?: number; flags?: number; origin?: number } = {},
  ): Request {
    const node = this.node(disk);
    const operation = new Operation();
    const request: Request = { operation, status: null, tags: [], endedMs: 0 };
    operation.kind = kind;
    operation.offsetBytes = offsetBytes;
    operation.lengthBytes = lengthBytes;
    operation.flags = extra.flags ?? 0;
    operation.origin = extra.origin ?? 0;
    const hasBuffer = kind === OperationKind.read || kind === OperationKind.write;
    if (hasBuffer) operation.bufferOffset = node.memory.allocate(lengthBytes);
    const at = operation.bufferOffset;
    if (kind === OperationKind.write) node.memory.bytes.fill(extra.tag ?? 0, at, at + lengthBytes);
    const { run, memory } = node;
    operation.done = (ended) => {
      if (node.run !== run || !node.alive) return;
      assert(request.status === null, "a request ends once");
      request.status = ended.status;
      request.endedMs = this.nowMs;
      if (!hasBuffer) return;
      if (kind === OperationKind.read && ended.status === Status.ok) {
        for (let from = 0; from < lengthBytes; from += BLOCK_BYTES) {
          request.tags.push(memory.bytes[at + from] as number);
        }
      }
      // Whoever still sends from it sends nonsense.
      memory.bytes.fill(0xee, at, at + lengthBytes);
      memory.release(at);
    };
    node.slice.submit(operation);
    return request;
  }

  /** Writes one block at the present head and waits for the ack. */
  write(block: number, tag: number, flags = 0): void {
    const request = this.submit(this.record.head, OperationKind.write, block * BLOCK_BYTES, 4096, {
      tag,
      flags,
    });
    this.until(() => request.status !== null);
    assert(request.status === Status.ok, `write acked, not ${request.status}`);
  }

  /** Reads one block at the present head, wherever that is by then. */
  read(block: number): number {
    let request: Request | null = null;
    this.until(() => {
      if (request?.status === Status.notHead) request = null;
      if (request === null) {
        if (!this.head.alive) return false;
        const offsetBytes = block * BLOCK_BYTES;
        request = this.submit(this.record.head, OperationKind.read, offsetBytes, BLOCK_BYTES);
      }
      return request.status !== null && request.status !== Status.notHead;
    });
    const { status, tags } = request as unknown as Request;
    assert(status === Status.ok, `read answered, not ${status}`);
    return tags[0] as number;
  }

  flush(): void {
    const request = this.submit(this.record.head, OperationKind.flush, 0, 0);
    this.until(() => request.status !== null);
    assert(request.status === Status.ok, `flush acked, not ${request.status}`);
  }

  /** What lies on a disk now, as its own unit would read it. */
  tagOn(disk: number, block: number): number {
    const extent = Math.floor((block * BLOCK_BYTES) / (1 << 20));
    return this.node(disk).disk.cache.get(extent)?.blocks.get(block)?.[0] ?? 0;
  }

  /** Waits until the promised copies are in sync and nothing is active any more. */
  settle(limitMs = 60_000): void {
    this.until(() => {
      if (this.record.inSync.length < this.record.copies || this.record.resyncing.length > 0) {
        return false;
      }
      return this.record.inSync.every(({ disk, incarnation }) => {
        const node = this.node(disk);
        const isThere = node.alive && node.disk.incarnation === incarnation;
        return isThere && node.store.activeRegions().length === 0;
      });
    }, limitMs);
  }
}

function isBefore(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

function pair(a: number, b: number): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`;
}
