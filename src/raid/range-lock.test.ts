// SPDX-License-Identifier: Apache-2.0
//
// The range lock (R1): overlapping goes in order of arrival, the rest does not wait.

import { expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import { RangeLock, Ticket } from "./range-lock.ts";

function range(offsetBytes: number, lengthBytes: number, exclusive: boolean) {
  return { offsetBytes, lengthBytes, exclusive };
}

test("overlapping, one exclusive → waits; readers together; apart → at once", () => {
  const lock = new RangeLock();
  const order: string[] = [];
  const write = lock.acquire(range(0, 8192, true), () => order.push("write"));
  const first = lock.acquire(range(4096, 4096, false), () => order.push("read 1"));
  const second = lock.acquire(range(0, 4096, false), () => order.push("read 2"));
  const later = lock.acquire(range(4096, 512, true), () => order.push("later write"));
  lock.acquire(range(8192, 4096, true), () => order.push("apart"));
  expect(order).toEqual(["write", "apart"]);
  lock.release(write);
  expect(order).toEqual(["write", "apart", "read 1", "read 2"]);
  lock.release(second);
  expect(order).toHaveLength(4);
  lock.release(first);
  expect(order.at(-1)).toBe("later write");
  lock.release(later);
});

test("ranges within one block → they overlap", () => {
  const lock = new RangeLock();
  let granted = false;
  const held = lock.acquire(range(0, 512, true), () => {});
  lock.acquire(range(1024, 512, true), () => {
    granted = true;
  });
  expect(granted).toBe(false);
  lock.release(held);
  expect(granted).toBe(true);
});

test("released twice → an assertion", () => {
  const lock = new RangeLock();
  const ticket = lock.acquire(range(0, 512, true), () => {});
  lock.release(ticket);
  expect(() => lock.release(ticket)).toThrow("once");
});

test("2,000 waiters one after the other → no deep stack", () => {
  const lock = new RangeLock();
  let done = 0;
  const tickets: Ticket[] = [];
  const first = lock.acquire(range(0, 512, true), () => {});
  for (let index = 0; index < 2000; index++) {
    tickets.push(
      lock.acquire(range(0, 512, true), () => {
        done++;
        lock.release(tickets[index] as Ticket);
      }),
    );
  }
  lock.release(first);
  expect(done).toBe(2000);
  expect(lock.count).toBe(0);
});

test("random ranges → never two overlapping with an exclusive one, and all are granted", () => {
  const prng = new Prng(5);
  const lock = new RangeLock();
  const held = new Set<Ticket>();
  let granted = 0;
  let asked = 0;
  for (let step = 0; step < 5000; step++) {
    if (held.size > 0 && prng.chance(0.5)) {
      const ticket = prng.pick([...held]);
      held.delete(ticket);
      lock.release(ticket);
      continue;
    }
    asked++;
    const want = range(prng.below(64) * 4096, (1 + prng.below(16)) * 4096, prng.chance(0.5));
    let ticket: Ticket | null = null;
    let isGranted = false;
    const take = (mine: Ticket) => {
      granted++;
      for (const other of held) {
        const overlaps = other.fromBytes < mine.endBytes && mine.fromBytes < other.endBytes;
        expect(overlaps && (other.exclusive || mine.exclusive)).toBe(false);
      }
      held.add(mine);
    };
    ticket = lock.acquire(want, () => {
      isGranted = true;
      if (ticket !== null) take(ticket);
    });
    if (isGranted) take(ticket);
  }
  for (let next = [...held][0]; next !== undefined; next = [...held][0]) {
    held.delete(next);
    lock.release(next);
  }
  expect(granted).toBe(asked);
  expect(lock.count).toBe(0);
});

test("a ticket used again → waits and is granted there; while held → an assertion", () => {
  const lock = new RangeLock();
  let granted = 0;
  const ticket = new Ticket(() => granted++);
  lock.enter(ticket, 0, 4096, true);
  expect(granted).toBe(1);
  expect(() => lock.enter(ticket, 8192, 4096, true)).toThrow("one range at a time");
  lock.release(ticket);
  const reader = lock.acquire(range(8192, 4096, false), () => {});
  lock.enter(ticket, 8192, 4096, true);
  expect(granted).toBe(1);
  expect(() => lock.enter(ticket, 0, 4096, true)).toThrow("one range at a time");
  lock.release(reader);
  expect(granted).toBe(2);
  lock.release(ticket);
  expect(lock.count).toBe(0);
});

test("readers while nobody writes, then a writer over all → it waits for each of them", () => {
  const lock = new RangeLock();
  const readers = [0, 1, 2].map((index) =>
    lock.acquire(range(index * 4096, 4096, false), () => {}),
  );
  let granted = false;
  const writer = lock.acquire(range(0, 3 * 4096, true), () => {
    granted = true;
  });
  const late = lock.acquire(range(4096, 4096, false), () => {});
  expect(late.blockers).toBe(1);
  for (const reader of readers) {
    expect(granted).toBe(false);
    lock.release(reader);
  }
  expect(granted).toBe(true);
  lock.release(writer);
  expect(late.blockers).toBe(0);
});
