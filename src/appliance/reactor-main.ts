// SPDX-License-Identifier: Apache-2.0
//
// Entry of the reactor's Worker. It blocks in the kernel until the unit stops; an exception out of it
// ends the process (its daemon is restarted, its disks are crash-only).

import { ReactorEnd, onReactorSeed } from "#machine/control-channel.ts";
import { createReactorWorld } from "#machine/main-world.ts";
import { Reactor } from "#machine/reactor.ts";
import { UnitReactor } from "./unit-reactor.ts";

onReactorSeed((seed) => {
  const { memoryBytes } = seed.options as { memoryBytes: number };
  const reactor = new Reactor({ memoryBytes });
  const channel = new ReactorEnd(seed, reactor);
  const world = createReactorWorld(reactor.clock, (level, sentence, facts) => {
    channel.post({ kind: "log", level, sentence, ...(facts === undefined ? {} : { facts }) });
  });
  new UnitReactor(world, reactor, channel);
  reactor.run();
});
