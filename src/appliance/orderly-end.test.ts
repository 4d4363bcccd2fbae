// SPDX-License-Identifier: Apache-2.0
//
// The orderly end: its order, what it waits for of siblings, and that it waits for nobody for ever.

import { expect, test } from "bun:test";
import type { Reactor } from "#machine/reactor.ts";
import { runReactor } from "#machine/reactor-fixture.ts";
import { type EndSteps, OrderlyEnd } from "./orderly-end.ts";

interface Told {
  steps: string[];
  end: OrderlyEnd;
}

/** An end whose steps are told; hosts and heads are gone at once, unless said otherwise. */
function makeEnd(
  reactor: Reactor,
  place: { siblings: number[]; isDoor: boolean },
  done: () => void,
  other: Partial<EndSteps> = {},
): Told {
  const steps: string[] = [];
  const end = new OrderlyEnd(reactor, place, {
    drain: () => steps.push("drain"),
    isDrained: () => true,
    drained: () => steps.push("drained"),
    release: (released) => {
      steps.push("release");
      released();
    },
    closeAll: () => {
      steps.push("close");
      done();
    },
    ...other,
  });
  return { steps, end };
}

const ORDER = ["drain", "drained", "release", "close"];

test("alone → drained, released, closed, each once", () => {
  let steps: string[] = [];
  runReactor((reactor, finish) => {
    const told = makeEnd(reactor, { siblings: [], isDoor: true }, finish);
    ({ steps } = told);
    expect(told.end.hasBegun).toBe(false);
    told.end.begin();
    told.end.begin();
    expect(told.end.hasBegun).toBe(true);
  });
  expect(steps).toEqual(ORDER);
});

test("a sibling has not drained → heads stay until then; the door waits for its end", () => {
  let steps: string[] = [];
  runReactor((reactor, finish) => {
    const { end, steps: told } = makeEnd(reactor, { siblings: [1, 2], isDoor: true }, finish);
    steps = told;
    end.begin();
    end.siblingOver(1);
    reactor.defer(() => {
      expect(told).toEqual(["drain", "drained"]);
      end.siblingDrained(2);
    });
    let ticks = 0;
    reactor.onTick(() => {
      // It speaks on for some ticks after the heads are gone.
      if (!told.includes("release") || ++ticks !== 3) return;
      expect(told).toEqual(["drain", "drained", "release"]);
      end.siblingOver(2);
    });
  });
  expect(steps).toEqual(ORDER);
});

test("a sibling that started later → waited for like the others", () => {
  let steps: string[] = [];
  runReactor((reactor, finish) => {
    const { end, steps: told } = makeEnd(reactor, { siblings: [], isDoor: true }, finish);
    steps = told;
    end.siblingAdded(1);
    end.begin();
    reactor.defer(() => {
      expect(told).toEqual(["drain", "drained"]);
      end.siblingDrained(1);
    });
    reactor.onTick(() => {
      if (told.includes("release")) end.siblingOver(1);
    });
  });
  expect(steps).toEqual(ORDER);
});

test("not the door → it ends as soon as its heads are gone, whoever speaks yet", () => {
  let steps: string[] = [];
  runReactor((reactor, finish) => {
    const { end, steps: told } = makeEnd(reactor, { siblings: [0], isDoor: false }, finish);
    steps = told;
    end.begin();
    end.siblingDrained(0);
  });
  expect(steps).toEqual(ORDER);
});

test("hosts that stay, siblings that say nothing, heads too → it ends all the same", () => {
  let steps: string[] = [];
  runReactor((reactor, finish) => {
    const stuck = { isDrained: () => false, release: () => void steps.push("release") };
    const { end, steps: told } = makeEnd(reactor, { siblings: [1], isDoor: true }, finish, stuck);
    steps = told;
    end.begin();
  });
  expect(steps).toEqual(ORDER);
});
