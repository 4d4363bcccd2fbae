// SPDX-License-Identifier: Apache-2.0
//
// The judge is judged: histories made by hand, good ones it must let pass and bad ones it must
// refuse. Sector 5 of volume 1 unless said otherwise.

import { describe, expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import { History, NEVER } from "./history.ts";
import type { HostAct } from "./history.ts";
import { judge } from "./judge.ts";
import { FOREIGN, GARBAGE, MISDIRECTED, SectorTags, TORN, ZERO, valueName } from "./sector-tags.ts";

/** Short words for histories. A write or read in one go is begun and ended at once. */
class Story {
  readonly history = new History();
  readonly #place = { volume: 1, firstSector: 5, count: 1 };

  beginWrite(tag: number, fua = false): HostAct {
    return this.history.begin("write", { ...this.#place, tag, fua });
  }
  ack(act: HostAct): this {
    this.history.acked(act);
    return this;
  }
  write(tag: number, fua = false): this {
    return this.ack(this.beginWrite(tag, fua));
  }
  refused(tag: number): this {
    this.history.refused(this.beginWrite(tag));
    return this;
  }
  unknown(tag: number): HostAct {
    return this.beginWrite(tag);
  }
  beginRead(): HostAct {
    return this.history.begin("read", this.#place);
  }
  sees(act: HostAct, value: number): this {
    this.history.acked(act, [value]);
    return this;
  }
  read(value: number): this {
    return this.sees(this.beginRead(), value);
  }
  zero(): this {
    return this.ack(this.history.begin("zero", this.#place));
  }
  flush(): this {
    return this.ack(this.history.begin("flush", { volume: 1, firstSector: 0, count: 0 }));
  }
  loss(): this {
    this.history.lost(1, 0, 100);
    return this;
  }
  sentences(): string[] {
    return judge(this.history).violations.map((violation) => violation.sentence);
  }
  isGood(): void {
    expect(this.sentences()).toEqual([]);
  }
  isBad(part: string): void {
    const sentences = this.sentences();
    expect(sentences.length).toBeGreaterThan(0);
    expect(sentences.join("; ")).toContain(part);
  }
}

describe("H1 one register per sector", () => {
  test("reads of the last write → good; of the one before → violation", () => {
    new Story().read(ZERO).write(1).read(1).write(2).read(2).read(2).isGood();
    new Story().write(1).write(2).read(1).isBad("H1");
    new Story().write(1).read(ZERO).isBad("zero");
  });

  test("overlapping writes → either order, but one order", () => {
    const two = (first: number, second: number) => {
      const story = new Story();
      const [a, b] = [story.beginWrite(1), story.beginWrite(2)];
      return story.ack(a).ack(b).read(first).read(second);
    };
    two(1, 1).isGood();
    two(2, 2).isGood();
    two(1, 2).isBad("H1");
    two(2, 1).isBad("H1");
  });

  test("while a write is under way → old, then new, never old again", () => {
    const during = (...values: number[]) => {
      const story = new Story().write(1);
      const write = story.beginWrite(2);
      for (const value of values) story.read(value);
      return story.ack(write);
    };
    during(1, 1, 2, 2).isGood();
    during(1, 2, 1).isBad("H1");
  });

  test("a value read before its write was sent, or never written → violation", () => {
    const story = new Story();
    const read = story.beginRead();
    story.sees(read, 7).write(7).isBad("seen early");
    new Story().write(1).read(9).isBad("cannot stand there");
    const untouched = new Story();
    const elsewhere = untouched.history.begin("read", { volume: 1, firstSector: 6, count: 1 });
    untouched.sees(elsewhere, 3).isBad("never written");
  });

  test("a stale read at another portal after a failover → violation", () => {
    const story = new Story().write(1);
    const slow = story.beginRead();
    story.write(2).read(2);
    story.sees(slow, 1).isGood();
    story.read(1).isBad("H1");
  });

  test("10,000 random histories of a register → all good; one answer changed → found", () => {
    const prng = new Prng(11);
    let changed = 0;
    let found = 0;
    for (let round = 0; round < 10_000; round++) {
      const story = randomRegister(prng);
      story.isGood();
      const reads = story.history.acts.filter((act) => act.kind === "read");
      const [act, tags] = [prng.pick(reads), story.history.acts.map((write) => write.tag)];
      const values = act?.values;
      const value = prng.pick(tags);
      if (values === undefined || values === null || values[0] === value || value === 0) continue;
      // Only where the register itself could not have said so: an exhaustive search tells.
      values[0] = value;
      const legal = linearizable(story.history.acts);
      expect(story.sentences().length === 0).toBe(legal);
      changed++;
      if (!legal) found++;
    }
    expect(changed).toBeGreaterThan(3000);
    expect(found).toBeGreaterThan(500);
  });
});

/** Up to seven operations on a register, overlapping at random, answered truly. */
function randomRegister(prng: Prng): Story {
  const story = new Story();
  const open: { act: HostAct; seen: number }[] = [];
  let register = ZERO;
  let tag = 1;
  let started = 0;
  while (started < 7 || open.length > 0) {
    if (started < 7 && (open.length === 0 || prng.chance(0.5))) {
      started++;
      const act = prng.chance(0.5) ? story.beginWrite(tag++) : story.beginRead();
      open.push({ act, seen: -1 });
      continue;
    }
    const at = prng.below(open.length);
    const entry = open[at] as { act: HostAct; seen: number };
    if (entry.seen === -1) {
      if (entry.act.kind === "write") register = entry.act.tag;
      entry.seen = register;
      continue;
    }
    open.splice(at, 1);
    if (entry.act.kind === "write") story.ack(entry.act);
    else story.sees(entry.act, entry.seen);
  }
  return story;
}

/** The definition itself, by trying every order: what the judge's zones must agree with. */
function linearizable(acts: readonly HostAct[]): boolean {
  const search = (left: readonly HostAct[], register: number): boolean => {
    if (left.length === 0) return true;
    const firstAck = Math.min(...left.map((act) => act.ack));
    for (const act of left) {
      if (act.invoke > firstAck) continue;
      if (act.kind === "read" && act.values?.[0] !== register) continue;
      const next = act.kind === "read" ? register : act.tag;
      if (
        search(
          left.filter((other) => other !== act),
          next,
        )
      )
        return true;
    }
    return false;
  };
  return search(acts, ZERO);
}

describe("H3 sectors do not tear, and belong where they are", () => {
  test("torn, foreign, misdirected, garbage → each a violation at once", () => {
    for (const value of [TORN, FOREIGN, MISDIRECTED, GARBAGE]) {
      new Story().write(1).read(value).isBad(valueName(value));
    }
  });

  test("a filled sector decodes to its tag; changed, moved or of another volume → told", () => {
    const arena = new ArrayBuffer(8192);
    const tags = new SectorTags(arena);
    const bytes = new Uint8Array(arena);
    expect(tags.decode(0, 1, 5)).toBe(ZERO);
    tags.fill(0, 1, 5, 4, 77);
    expect([0, 1, 2, 3].map((index) => tags.decode(index * 512, 1, 5 + index))).toEqual([
      77, 77, 77, 77,
    ]);
    expect(tags.decode(0, 1, 6)).toBe(MISDIRECTED);
    expect(tags.decode(0, 2, 5)).toBe(FOREIGN);
    for (const at of [0, 3, 4, 17, 40, 511]) {
      bytes[at] = (bytes[at] as number) ^ 1;
      expect(tags.decode(0, 1, 5)).toBe(TORN);
      bytes[at] = (bytes[at] as number) ^ 1;
    }
    tags.fill(4096, 1, 5, 1, 78);
    bytes.copyWithin(256, 4096 + 256, 4096 + 512);
    expect(tags.decode(0, 1, 5)).toBe(TORN);
    bytes.fill(0xaa, 0, 512);
    expect(tags.decode(0, 1, 5)).toBe(GARBAGE);
    bytes.fill(0, 0, 256);
    expect(tags.decode(0, 1, 5)).toBe(TORN);
  });
});

describe("H6 volatile cache", () => {
  test("unflushed and acked, then a loss → either value may be there, but only one of them", () => {
    new Story().write(1).flush().write(2).loss().read(1).read(1).isGood();
    new Story().write(1).flush().write(2).loss().read(2).read(2).isGood();
    new Story().write(1).flush().write(2).loss().read(2).read(1).isBad("H6");
    new Story().write(1).write(2).loss().read(ZERO).isGood();
    new Story().write(1).write(2).loss().read(ZERO).read(1).isBad("zero");
  });

  test("flushed or FUA, then a loss → it or later, never older", () => {
    new Story().write(1).write(2).flush().loss().read(2).isGood();
    new Story().write(1).write(2).flush().loss().read(1).isBad("H6");
    new Story().write(1).write(2, true).loss().read(1).isBad("H6");
    new Story().write(1, true).loss().read(ZERO).isBad("zero");
    new Story().write(1).flush().loss().read(1).loss().read(ZERO).isBad("zero");
  });

  test("a flush sent before the write's ack, or not acked before the loss → does not count", () => {
    const early = new Story();
    const write = early.beginWrite(1);
    early.flush().ack(write).loss().read(ZERO).isGood();
    const late = new Story().write(1);
    const flush = late.history.begin("flush", { volume: 1, firstSector: 0, count: 0 });
    late.loss().ack(flush).read(ZERO).isGood();
    const other = new Story().write(1);
    other.ack(other.history.begin("flush", { volume: 2, firstSector: 0, count: 0 }));
    other.loss().read(ZERO).isGood();
  });

  test("no loss of all memory (kills, cuts) → nothing acked may go", () => {
    new Story().write(1).write(2).read(1).isBad("H1");
  });

  test("concurrent with a stable write → may survive it; ordered before it by a read → not", () => {
    const both = () => {
      const story = new Story();
      const [a, b] = [story.beginWrite(1), story.beginWrite(2, true)];
      return { story, a, b };
    };
    const free = both();
    free.story.ack(free.a).ack(free.b).loss().read(1).isGood();
    const bound = both();
    bound.story.ack(bound.a).read(1).ack(bound.b).read(2).loss().read(1).isBad("H6");
  });

  test("what survived is the next era's first value, and may be lost only by its rules", () => {
    new Story().write(1).flush().write(2).loss().read(2).flush().loss().read(1).isBad("H6");
    new Story().write(1).flush().write(2).loss().write(3).read(3).read(2).isBad("H1");
    new Story().write(1).flush().write(2).loss().write(3, true).loss().read(1).isBad("H6");
  });

  test("a loss elsewhere → no boundary here", () => {
    const story = new Story().write(1).write(2);
    story.history.lost(1, 6, 10);
    story.history.lost(2, 0, 10);
    story.read(1).isBad("H1");
  });

  test("under way over a loss → may be there or not; once seen it stays", () => {
    const over = () => {
      const story = new Story().write(1, true);
      const write = story.beginWrite(2);
      return { story: story.loss(), write };
    };
    const absent = over();
    absent.story.read(1).read(1).isGood();
    const late = over();
    late.story.read(1).ack(late.write).read(2).isGood();
    const flips = over();
    flips.story.read(2).read(1).isBad("H1");
  });
});

describe("H7 unknown outcome", () => {
  test("never answered → seen late or never, but once seen it stays", () => {
    const story = new Story().write(1);
    story.unknown(2);
    story.read(1).read(2).read(2).isGood();
    const never = new Story().write(1);
    never.unknown(2);
    never.read(1).read(1).isGood();
    const flips = new Story().write(1);
    flips.unknown(2);
    flips.read(2).read(1).isBad("H1");
  });

  test("taking effect twice → violation", () => {
    const story = new Story().write(1);
    story.unknown(2);
    story.read(2).write(3).read(3).read(2).isBad("H1");
  });

  test("taking effect after its fence → violation; before it → good", () => {
    const ghost = new Story().write(1);
    ghost.history.fenced(ghost.unknown(2));
    ghost.read(1).read(2).isBad("H1");
    const fine = new Story().write(1);
    fine.history.fenced(fine.unknown(2));
    fine.read(2).isGood();
  });

  test("refused (nothing was done), then seen → violation", () => {
    new Story().write(1).refused(2).read(1).isGood();
    new Story().write(1).refused(2).read(2).isBad("refused");
  });
});

describe("H9 trim and zeroing", () => {
  test("read after it → zero; the old value again → violation; overwritten → the new one", () => {
    new Story().write(1).zero().read(ZERO).write(2).read(2).isGood();
    new Story().write(1).zero().read(1).isBad("H1");
    new Story().write(1).zero().read(ZERO).read(1).isBad("H1");
    new Story().write(1).zero().write(2).read(2).read(ZERO).isBad("zero");
  });

  test("over a loss → zero or the old value, one of them; flushed → zero", () => {
    new Story().write(1).flush().zero().loss().read(1).isGood();
    new Story().write(1).flush().zero().loss().read(ZERO).isGood();
    new Story().write(1).flush().zero().loss().read(ZERO).read(1).isBad("zero");
    new Story().write(1).zero().flush().loss().read(1).isBad("H6");
  });

  test("several zeroings that explain a read → counted as weak, no violation", () => {
    const story = new Story().write(1);
    story.history.begin("zero", { volume: 1, firstSector: 5, count: 1 });
    story.zero().read(ZERO);
    const verdict = judge(story.history);
    expect([verdict.violations.length, verdict.weakReads]).toEqual([0, 1]);
  });
});

test("an act without an answer keeps NEVER; moments rise and never tie", () => {
  const story = new Story();
  const act = story.unknown(1);
  expect([act.ack, act.fence, act.effect]).toEqual([NEVER, NEVER, "unknown"]);
  expect(story.history.moment()).toBeGreaterThan(act.invoke);
});
