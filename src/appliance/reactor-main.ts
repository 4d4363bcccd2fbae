// SPDX-License-Identifier: Apache-2.0
//
// Entry of a reactor's Worker. It blocks in the kernel until the unit stops; an exception out of
// it ends the process (its daemon is restarted, its disks are crash-only).

import { Fault } from "#base/fault.ts";
import { ReactorEnd, onReactorSeed } from "#machine/control-channel.ts";
import { giveBackWhenQuiet } from "#machine/idle-memory.ts";
import { createReactorWorld } from "#machine/main-world.ts";
import { Reactor } from "#machine/reactor.ts";
import type { WriteLaneSeed } from "#machine/write-lane.ts";
import type { ReactorStart } from "./unit-parts.ts";
import { UnitReactor } from "./unit-reactor.ts";

onReactorSeed((seed) => {
  const { memoryBytes, place } = seed.options as ReactorStart;
  const reactor = makeReactor(memoryBytes);
  if (reactor === null) return;
  const channel = new ReactorEnd(seed, reactor);
  reactor.onLane = (lane) => self.postMessage(lane);
  const world = createReactorWorld(reactor.clock, (level, sentence, facts) => {
    channel.post({ kind: "log", level, sentence, ...(facts === undefined ? {} : { facts }) });
  });
  new UnitReactor(world, reactor, channel, place);
  giveBackWhenQuiet(reactor);
  reactor.run();
});

declare const self: { postMessage(message: string | WriteLaneSeed): void };

/** Null where the kernel lacks what is needed; the control thread has been told. */
function makeReactor(memoryBytes: number): Reactor | null {
  try {
    return new Reactor({ memoryBytes });
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    self.postMessage(error.message.slice(error.message.indexOf(": ") + 2));
    return null;
  }
}
