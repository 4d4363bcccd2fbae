// SPDX-License-Identifier: Apache-2.0
//
// The forwarder between hosts and heads: how requests are split, what is sent again and what never
// is (H7), and who owns which buffer when. Heads, links and time are the test's.

import { describe, expect, test } from "bun:test";
import { FORWARD_RESENDS_MAX, REACTORS_MAX } from "#base/limits.ts";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_RESENT,
  FLAG_WARM,
  Operation,
  OperationKind,
  TrafficClass,
} from "#base/operation.ts";
import type { OperationTarget, StatusRun } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import type { SliceNumber, UnitNumber } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import { Forwarder, forwarderOf } from "./forwarder.ts";
import type { HeadPlace, VolumeShape } from "./forwarder.ts";

const SLICE = 1 << 20;
const SHAPE: VolumeShape = {
  volume: 1,
  sizeBytes: 3 * SLICE,
  sliceBytes: SLICE,
  slices: [11, 12, 13],
};
const UNKNOWN: HeadPlace = { at: "unknown" };

interface Sent {
  unit: UnitNumber;
  verb: PeerVerb;
}

class Bench {
  readonly memory = new Memory(new ArrayBuffer(16 << 20));
  readonly heads = new Map<SliceNumber, HeadPlace>();
  readonly sent: Sent[] = [];
  readonly local: Operation[] = [];
  readonly ended: Operation[] = [];
  linkTakes = true;
  shape: VolumeShape | null = SHAPE;
  readonly forwarder: Forwarder;
  readonly target: OperationTarget;

  constructor(fraction = 0.25, reactor = 0) {
    const random = { fill: () => {}, fraction: () => fraction };
    this.forwarder = new Forwarder({ random }, this.memory, reactor, {
      headOf: (slice) => this.heads.get(slice) ?? UNKNOWN,
      send: (unit, verb) => {
        if (this.linkTakes) this.sent.push({ unit, verb });
        return this.linkTakes;
      },
    });
    this.target = this.forwarder.target(() => this.shape);
  }

  get here(): HeadPlace {
    return { at: "here", target: { submit: (operation) => void this.local.push(operation) } };
  }
  /** All slices are headed there, and its clock was heard. */
  headedAt(unit: UnitNumber, tickMs = 1000): this {
    for (const slice of SHAPE.slices) this.heads.set(slice, { at: "unit", unit });
    this.forwarder.tickHeard(unit, tickMs);
    return this;
  }

  submit(kind: OperationKind, fields: Partial<Operation> = {}): Operation {
    const operation = Object.assign(new Operation(), { kind, lengthBytes: 4096 }, fields);
    if (kind === OperationKind.flush) operation.lengthBytes = 0;
    const hasBuffer = kind === OperationKind.read || kind === OperationKind.write;
    if (hasBuffer) operation.bufferOffset = this.memory.allocate(operation.lengthBytes);
    operation.done = (ended) => {
      expect(this.ended).not.toContain(ended); // once
      this.ended.push(ended);
    };
    this.target.submit(operation);
    return operation;
  }
  write(fields: Partial<Operation> = {}): Operation {
    return this.submit(OperationKind.write, fields);
  }

  /** The newest verb, its payload gone out. */
  out(): Sent {
    const newest = this.sent.at(-1) as Sent;
    newest.verb.sent?.();
    return newest;
  }
  answer({ verb }: Sent, status: Status, more: Partial<PeerVerb> = {}): void {
    const { slice, sequence } = verb;
    const fields = { kind: VerbKind.forwarded, slice, sequence, status };
    this.forwarder.forwarded(Object.assign(new PeerVerb(), fields, more));
  }
  /** The link ends: every `sent` first, as links promise. */
  loseLink(unit: UnitNumber): void {
    for (const one of this.sent) if (one.unit === unit) one.verb.sent?.();
    this.forwarder.linkDown(unit);
  }
  linkBack(unit: UnitNumber, tickMs = 2000): void {
    this.forwarder.tickHeard(unit, tickMs);
  }
}

describe("how a request becomes parts", () => {
  test("a write over two slice borders → three parts, in place, done once after the last", () => {
    const bench = new Bench().headedAt(2);
    const whole = bench.write({ offsetBytes: SLICE - 4096, lengthBytes: SLICE + 8192 });
    const parts = bench.sent.map(({ verb }) => [
      ...[verb.slice, verb.offsetBytes, verb.lengthBytes, verb.payloadBytes],
      verb.bufferOffset - whole.bufferOffset,
    ]);
    expect(parts).toEqual([
      [11, SLICE - 4096, 4096, 4096, 0],
      [12, 0, SLICE, SLICE, 4096],
      [13, 0, 4096, 4096, 4096 + SLICE],
    ]);
    for (const one of [...bench.sent].reverse()) {
      expect(bench.ended).toEqual([]);
      one.verb.sent?.();
      bench.answer(one, Status.ok);
    }
    expect(bench.ended).toEqual([whole]);
    expect(whole.status).toBe(Status.ok);
  });

  test("a flush → one part for every slice, whatever its offset", () => {
    const bench = new Bench().headedAt(2);
    bench.submit(OperationKind.flush, { offsetBytes: 0 });
    expect(bench.sent.map(({ verb }) => verb.slice)).toEqual([11, 12, 13]);
    expect(bench.sent.every(({ verb }) => verb.origin === 0)).toBe(true);
  });

  test("beyond the end, of nothing, of a volume that is gone → answered, nothing sent", () => {
    const bench = new Bench().headedAt(2);
    const status = (fields: Partial<Operation>) => bench.write(fields).status;
    expect(status({ offsetBytes: 3 * SLICE - 512, lengthBytes: 1024 })).toBe(Status.outOfRange);
    expect(status({ offsetBytes: Number.MAX_SAFE_INTEGER, lengthBytes: 512 })).toBe(
      Status.outOfRange,
    );
    expect(bench.submit(OperationKind.trim, { lengthBytes: 0 }).status).toBe(Status.ok);
    bench.shape = null;
    expect(status({})).toBe(Status.notFound);
    expect(bench.ended).toHaveLength(4);
    expect(bench.sent).toEqual([]);
  });

  test("one part fails, then another → the first failure, once all have ended", () => {
    const bench = new Bench().headedAt(2);
    const whole = bench.write({ lengthBytes: 3 * SLICE });
    const [first, second, third] = bench.sent as [Sent, Sent, Sent];
    for (const { verb } of bench.sent) verb.sent?.();
    bench.answer(second, Status.noSpace);
    bench.answer(first, Status.mediumError);
    expect(bench.ended).toEqual([]);
    bench.answer(third, Status.ok);
    expect(whole.status).toBe(Status.noSpace);
  });

  test("H9: a part tells too little, too much or nothing → allocated, the rest in place", () => {
    const hole = (lengthBytes: number): StatusRun => ({ lengthBytes, allocated: false });
    for (const [told, want] of [
      [[hole(4096)], [hole(4096), { lengthBytes: SLICE - 4096, allocated: true }]],
      [[hole(SLICE + 4096)], [{ lengthBytes: SLICE, allocated: true }]],
      [null, [{ lengthBytes: SLICE, allocated: true }]],
    ] as const) {
      const bench = new Bench().headedAt(2);
      const whole = bench.submit(OperationKind.blockStatus, { lengthBytes: 2 * SLICE });
      const [first, second] = bench.sent as [Sent, Sent];
      bench.answer(first, Status.ok, { runs: told === null ? null : [...told] });
      bench.answer(second, Status.ok, { runs: [hole(SLICE)] });
      expect(whole.runs).toEqual([...want, hole(SLICE)]);
    }
  });

  test("a read only to warm → done without payload, and with that of an older unit", () => {
    const bench = new Bench().headedAt(2);
    for (const payloadBytes of [0, 4096]) {
      const whole = bench.submit(OperationKind.read, { flags: FLAG_WARM });
      expect(bench.out().verb.flags).toBe(FLAG_WARM);
      const bufferOffset = payloadBytes === 0 ? NO_BUFFER : bench.memory.allocate(payloadBytes);
      bench.answer(bench.out(), Status.ok, { payloadBytes, bufferOffset });
      expect(whole.status).toBe(Status.ok);
      bench.memory.release(whole.bufferOffset);
    }
    expect(bench.memory.usedBytes).toBe(0);
    const short = bench.submit(OperationKind.read, {});
    bench.answer(bench.out(), Status.ok);
    expect(short.status).toBe(Status.ioError);
  });

  test("block status → runs in the volume's order, joined where alike", () => {
    const bench = new Bench().headedAt(2);
    const whole = bench.submit(OperationKind.blockStatus, { lengthBytes: 3 * SLICE });
    const run = (lengthBytes: number, allocated: boolean): StatusRun => ({
      lengthBytes,
      allocated,
    });
    const answers = [
      [run(SLICE, false)],
      [run(4096, false), run(SLICE - 4096, true)],
      [run(SLICE, true)],
    ];
    for (const index of [2, 0, 1]) {
      const runs = answers[index] as StatusRun[];
      bench.answer(bench.sent[index] as Sent, Status.ok, { runs });
    }
    expect(whole.runs).toEqual([run(SLICE + 4096, false), run(2 * SLICE - 4096, true)]);
  });

  test("flags, class and origin → what a head needs; every change has an origin of its own", () => {
    const bench = new Bench().headedAt(2, 1234);
    bench.write({ lengthBytes: 2 * SLICE, flags: FLAG_FUA });
    bench.submit(OperationKind.trim);
    bench.submit(OperationKind.read);
    const [first, second, trim, read] = bench.sent.map(({ verb }) => verb) as PeerVerb[];
    expect(first).toMatchObject({
      kind: VerbKind.forward,
      class: TrafficClass.forwarded,
      operation: OperationKind.write,
      flags: FLAG_FUA,
      tickMs: 1234,
    });
    expect(read).toMatchObject({ origin: 0, payloadBytes: 0, bufferOffset: NO_BUFFER });
    const origins = [first, second, trim].map((verb) => verb?.origin as number);
    expect(new Set(origins).size).toBe(3);
    expect(origins.every((origin) => origin > 0)).toBe(true);
  });

  test("origins at the end of the exact numbers → they start anew and stay exact", () => {
    const bench = new Bench(1 - 2 ** -52).headedAt(2);
    for (let count = 0; count < 10; count++) bench.submit(OperationKind.trim);
    const origins = bench.sent.map(({ verb }) => verb.origin);
    expect(new Set(origins).size).toBe(10);
    expect(origins.every(Number.isSafeInteger)).toBe(true);
  });

  test("each reactor of a unit → sequences of its own, also where they start anew", () => {
    for (const reactor of [0, 1, REACTORS_MAX - 1]) {
      for (const fraction of [0, 0.3, 1 - 2 ** -52]) {
        const bench = new Bench(fraction, reactor).headedAt(2);
        for (let count = 0; count < 10; count++) bench.submit(OperationKind.trim);
        const verbs = bench.sent.map(({ verb }) => verb);
        expect(verbs.map(forwarderOf)).toEqual(verbs.map(() => reactor));
        const numbers = verbs.flatMap(({ sequence, origin }) => [sequence, origin]);
        expect([new Set(numbers).size, numbers.includes(0)]).toEqual([20, false]);
      }
    }
  });
});

describe("where parts go", () => {
  test("the head is here → the local slice; its status is the answer", () => {
    const bench = new Bench();
    bench.heads.set(11, bench.here);
    const write = bench.write();
    expect(bench.sent).toEqual([]);
    bench.local[0]?.complete(Status.noSpace);
    expect(write.status).toBe(Status.noSpace);
  });

  test("no head known → it waits, however long, and goes once there is one", () => {
    const bench = new Bench();
    bench.write();
    for (let count = 0; count < 100; count++) bench.forwarder.tick();
    expect([bench.forwarder.waitingCount, bench.ended.length]).toEqual([1, 0]);
    bench.heads.set(11, bench.here);
    bench.forwarder.headChanged(11);
    expect([bench.forwarder.waitingCount, bench.local.length]).toEqual([0, 1]);
  });

  test("H7: no clock of the head heard yet, or no longer → nothing is sent until one is", () => {
    const bench = new Bench();
    bench.heads.set(11, { at: "unit", unit: 2 });
    bench.write();
    bench.forwarder.tick();
    expect(bench.sent).toEqual([]);
    bench.forwarder.tickHeard(2, 77);
    expect(bench.out().verb.tickMs).toBe(77);
    bench.forwarder.tickHeard(2, 99);
    bench.loseLink(2);
    bench.forwarder.tick();
    expect(bench.sent).toHaveLength(1);
    bench.forwarder.tickHeard(2, 111);
    expect(bench.out().verb.tickMs).toBe(111);
  });

  test("the link takes nothing → it waits for the next tick, as if never sent", () => {
    const bench = new Bench().headedAt(2);
    bench.linkTakes = false;
    bench.write();
    expect([bench.forwarder.waitingCount, bench.forwarder.pendingCount]).toEqual([1, 0]);
    bench.linkTakes = true;
    bench.forwarder.tick();
    expect(bench.out().verb.flags & FLAG_RESENT).toBe(0);
  });

  for (const status of [
    Status.notHead,
    Status.staleEpoch,
    Status.expired,
    Status.busy,
    Status.shuttingDown,
  ]) {
    test(`nothing was done (status ${status}) → sent again, any number of times`, () => {
      const bench = new Bench().headedAt(2);
      const write = bench.write();
      const { origin } = (bench.sent[0] as Sent).verb;
      for (let count = 0; count < 5; count++) {
        bench.answer(bench.out(), status);
        expect(bench.ended).toEqual([]);
        bench.forwarder.tick();
        const { verb } = bench.out();
        expect([verb.origin, verb.flags & FLAG_RESENT]).toEqual([origin, 0]);
      }
      bench.answer(bench.out(), Status.ok);
      expect(write.status).toBe(Status.ok);
    });
  }
});

describe("H7: what may have been done", () => {
  test("a write whose link is lost → again with FLAG_RESENT and its origin", () => {
    const bench = new Bench().headedAt(2);
    const write = bench.write({ flags: FLAG_FUA });
    const first = bench.out().verb;
    bench.loseLink(2);
    expect(bench.ended).toEqual([]);
    bench.linkBack(2);
    const again = bench.out().verb;
    expect(again.origin).toBe(first.origin);
    expect(again.sequence).not.toBe(first.sequence);
    expect(again.flags).toBe(FLAG_FUA | FLAG_RESENT);
    bench.answer(bench.out(), Status.ok);
    expect(write.status).toBe(Status.ok);
  });

  test("lost more often than it may be sent again → ioError, and no further sending", () => {
    const bench = new Bench().headedAt(2);
    const write = bench.write();
    for (let count = 0; count <= FORWARD_RESENDS_MAX; count++) {
      expect(bench.ended).toEqual([]);
      bench.out();
      bench.loseLink(2);
      bench.linkBack(2);
    }
    expect(bench.sent).toHaveLength(1 + FORWARD_RESENDS_MAX);
    expect([bench.ended, write.status]).toEqual([[write], Status.ioError]);
  });

  test("unknownOutcome from the head → counts as lost", () => {
    const bench = new Bench().headedAt(2);
    bench.write();
    bench.answer(bench.out(), Status.unknownOutcome);
    bench.forwarder.tick();
    expect(bench.out().verb.flags & FLAG_RESENT).toBe(FLAG_RESENT);
  });

  test("reads and flushes → sent again without limit and without the flag", () => {
    for (const kind of [OperationKind.read, OperationKind.flush]) {
      const bench = new Bench().headedAt(2);
      bench.submit(kind);
      for (let count = 0; count < 6; count++) {
        bench.loseLink(2);
        bench.linkBack(2);
        expect(bench.sent.every(({ verb }) => (verb.flags & FLAG_RESENT) === 0)).toBe(true);
      }
      expect(bench.ended).toEqual([]);
    }
  });

  test("its host's connection ended → never sent again, cancelled", () => {
    const bench = new Bench().headedAt(2);
    const write = bench.write();
    bench.out();
    write.cancelled = true;
    bench.loseLink(2);
    bench.linkBack(2);
    expect(bench.sent).toHaveLength(1);
    expect(write.status).toBe(Status.cancelled);
  });

  test("cancelled while it waits for a head → ended at the next tick, never sent", () => {
    const bench = new Bench();
    const write = bench.write();
    write.cancelled = true;
    bench.forwarder.tick();
    expect([bench.ended, write.status]).toEqual([[write], Status.cancelled]);
  });

  test("the head is here after a loss elsewhere → the local slice is told", () => {
    const bench = new Bench().headedAt(2);
    bench.write();
    const { origin } = bench.out().verb;
    bench.heads.set(11, bench.here);
    bench.forwarder.headChanged(11);
    expect(bench.local[0]).toMatchObject({ origin, flags: FLAG_RESENT });
  });

  test("a late answer to the sending before → ignored, its payload released", () => {
    const bench = new Bench().headedAt(2);
    const read = bench.submit(OperationKind.read);
    const late = bench.out();
    bench.loseLink(2);
    bench.linkBack(2);
    const used = bench.memory.usedBytes;
    const bufferOffset = bench.memory.allocate(4096);
    bench.answer(late, Status.ok, { bufferOffset, payloadBytes: 4096 });
    expect(bench.memory.usedBytes).toBe(used);
    expect(bench.ended).toEqual([]);
    bench.answer(bench.out(), Status.mediumError);
    expect(read.status).toBe(Status.mediumError);
  });
});

describe("the head changes", () => {
  test("to another unit → what is with the old one is lost there, and sent to the new one", () => {
    const bench = new Bench().headedAt(2);
    bench.forwarder.tickHeard(3, 500);
    bench.write();
    bench.write({ offsetBytes: SLICE });
    for (const { verb } of bench.sent) verb.sent?.();
    bench.heads.set(11, { at: "unit", unit: 3 });
    bench.forwarder.headChanged(11);
    expect(bench.sent.map(({ unit, verb }) => [unit, verb.slice])).toEqual([
      [2, 11],
      [2, 12],
      [3, 11],
    ]);
    expect(bench.out().verb).toMatchObject({ flags: FLAG_RESENT, tickMs: 500 });
  });

  test("not at all, or to nobody yet → what is under way stays under way", () => {
    const bench = new Bench().headedAt(2);
    bench.write();
    bench.forwarder.headChanged(11);
    bench.heads.set(11, UNKNOWN);
    bench.forwarder.headChanged(11);
    expect([bench.sent.length, bench.forwarder.pendingCount]).toEqual([1, 1]);
  });

  test("while the old link still holds the host's buffer → it waits for that", () => {
    const bench = new Bench().headedAt(2);
    const write = bench.write();
    const held = bench.sent[0] as Sent;
    bench.forwarder.tickHeard(3, 1);
    bench.heads.set(11, { at: "unit", unit: 3 });
    bench.forwarder.headChanged(11);
    write.cancelled = true;
    bench.forwarder.tick();
    // Its owner would use the buffer for something else, and the old link would send that.
    expect([bench.sent.length, bench.ended.length]).toEqual([1, 0]);
    held.verb.sent?.();
    bench.forwarder.tick();
    expect(write.status).toBe(Status.cancelled);
  });
});

describe("payload of reads", () => {
  test("the answer's bytes → in the host's buffer, the link's buffer released", () => {
    const bench = new Bench().headedAt(2);
    const read = bench.submit(OperationKind.read);
    const used = bench.memory.usedBytes;
    const bufferOffset = bench.memory.allocate(4096);
    bench.memory.bytes.fill(9, bufferOffset, bufferOffset + 4096);
    bench.answer(bench.out(), Status.ok, { bufferOffset, payloadBytes: 4096 });
    const got = bench.memory.bytes.subarray(read.bufferOffset, read.bufferOffset + 4096);
    expect(got.every((byte) => byte === 9)).toBe(true);
    expect([read.status, bench.memory.usedBytes]).toEqual([Status.ok, used]);
  });

  test("too few, too many or none → ioError, nothing outside the host's buffer is touched", () => {
    for (const payloadBytes of [512, 8192, 0]) {
      const bench = new Bench().headedAt(2);
      const read = bench.submit(OperationKind.read);
      const before = bench.memory.bytes.slice(0, 65536);
      const bufferOffset = payloadBytes === 0 ? NO_BUFFER : bench.memory.allocate(8192);
      bench.answer(bench.out(), Status.ok, { bufferOffset, payloadBytes });
      expect([payloadBytes, read.status]).toEqual([payloadBytes, Status.ioError]);
      expect(bench.memory.bytes.slice(0, 65536)).toEqual(before);
    }
  });
});

test("H7 in a storm of losses and moves → each ends once, no change sent too often", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const prng = new Prng(seed);
    const bench = new Bench().headedAt(2);
    bench.forwarder.tickHeard(3, 1);
    const kinds = [OperationKind.write, OperationKind.trim, OperationKind.read];
    const asked: Operation[] = [];
    const open = new Set<Sent>();
    const settled = new Set<Sent>();
    const act = (chance: number, what: () => void) => {
      if (prng.chance(chance)) what();
      for (const one of bench.sent) if (!settled.has(one)) open.add(one);
    };
    const refused = new Map<number, number>();
    const settle = (one: Sent) => {
      one.verb.sent?.();
      settled.add(one);
      open.delete(one);
    };
    const lose = (unit: UnitNumber) => {
      for (const one of open) if (one.unit === unit) settle(one);
      bench.forwarder.linkDown(unit);
      bench.linkBack(unit);
    };
    const answerOne = (calm: boolean) => {
      const [one] = open;
      if (one === undefined) return;
      settle(one);
      const wild = prng.chance(0.3) ? Status.notHead : Status.unknownOutcome;
      const status = calm || prng.chance(0.5) ? Status.ok : wild;
      const { origin } = one.verb;
      if (status === Status.notHead) refused.set(origin, (refused.get(origin) ?? 0) + 1);
      const isRead = one.verb.operation === OperationKind.read && status === Status.ok;
      const { lengthBytes } = one.verb;
      const bufferOffset = isRead ? bench.memory.allocate(lengthBytes) : NO_BUFFER;
      const payloadBytes = isRead ? lengthBytes : 0;
      bench.answer(one, status, { bufferOffset, payloadBytes });
    };
    for (let step = 0; step < 150; step++) {
      act(0.4, () => {
        const kind = kinds[prng.below(3)] as OperationKind;
        const offsetBytes = prng.below(700) * 4096;
        asked.push(bench.submit(kind, { offsetBytes, lengthBytes: 4096 * prng.between(1, 8) }));
      });
      act(0.05, () => lose(prng.chance(0.5) ? 2 : 3));
      act(0.05, () => {
        const unit = prng.chance(0.5) ? 2 : 3;
        const slice = 11 + prng.below(3);
        bench.heads.set(slice, prng.chance(0.2) ? UNKNOWN : { at: "unit", unit });
        bench.forwarder.headChanged(slice);
      });
      act(0.6, () => answerOne(false));
      act(0.3, () => bench.forwarder.tick());
    }
    bench.headedAt(2);
    for (let step = 0; step < 2000 && bench.ended.length < asked.length; step++) {
      act(1, () => bench.forwarder.tick());
      answerOne(true);
    }
    expect([seed, bench.ended.length]).toEqual([seed, asked.length]);
    expect([bench.forwarder.waitingCount, bench.forwarder.pendingCount]).toEqual([0, 0]);
    expectFewSendings(bench.sent, refused);
  }
});

/** A change goes out once, again for every refusal, and FORWARD_RESENDS_MAX times more. */
function expectFewSendings(sent: readonly Sent[], refused: ReadonlyMap<number, number>): void {
  const sendings = new Map<number, number>();
  for (const { verb } of sent) {
    if (verb.origin === 0) continue;
    sendings.set(verb.origin, (sendings.get(verb.origin) ?? 0) + 1);
  }
  for (const [origin, count] of sendings) {
    expect(count).toBeLessThanOrEqual(1 + (refused.get(origin) ?? 0) + FORWARD_RESENDS_MAX);
  }
}
