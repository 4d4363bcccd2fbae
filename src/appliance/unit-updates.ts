// SPDX-License-Identifier: Apache-2.0
//
// Puts updates and health to a unit: the agent with the machine it works on, what other units may
// have of it, what the console asks.

import type { Timers, World } from "#base/world.ts";
import { createUpdateMachine } from "#machine/update-machine.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { FORMAT_VERSION } from "#store/format.wire.ts";
import { artefactServer } from "./artefact-pipe.ts";
import { UnitHealth } from "./unit-health.ts";
import type { Unit } from "./unit.ts";
import { UpdateAgent } from "./update-agent.ts";
import type { AgentCluster } from "./update-agent.ts";
import { UpdateConsole } from "./update-console.ts";
import { FEATURE_LEVEL, VERSION } from "./version.ts";

const UPDATE_FOLDER = "update";
const LOOK_EVERY_MS = 5000;

export interface UnitUpdates {
  readonly health: UnitHealth;
  readonly update: UpdateConsole;
  stop(): void;
}

export function startUpdates(unit: Unit, world: World, timers: Timers): UnitUpdates {
  const agent = new UpdateAgent(world, timers, {
    machine: createUpdateMachine({ folder: unit.state.pathOf(UPDATE_FOLDER) }),
    cluster: () => clusterOf(unit),
    // The one format that this version knows is that of every disk it has open.
    diskFormat: () => (unit.disks.disks.some((disk) => disk.opened !== null) ? FORMAT_VERSION : 0),
    version: VERSION,
    featureLevel: FEATURE_LEVEL,
  });
  const server = artefactServer(agent.payloads);
  unit.services.set(Purpose.artefacts, (pipe) => server.serve(pipe));
  agent.refreshSlots();
  agent.start();
  const health = new UnitHealth(world, unit, () => agent.isOnTrial);
  let stopped = false;
  const look = () => {
    if (stopped) return;
    health.look();
    timers.after(LOOK_EVERY_MS, look);
  };
  look();
  return {
    health,
    update: new UpdateConsole(agent),
    stop: () => {
      stopped = true;
      agent.stop();
    },
  };
}

function clusterOf(unit: Unit): AgentCluster | null {
  const { life } = unit;
  if (life === null || life.follower.view.revision === 0) return null;
  return {
    unit: life.unit,
    store: life.store,
    view: life.follower.view,
    commands: life.commands,
    voters: life.knownVoters,
    dialArtefacts: (number) => life.dial(number, Purpose.artefacts),
  };
}
