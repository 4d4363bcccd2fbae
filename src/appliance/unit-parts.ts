// SPDX-License-Identifier: Apache-2.0
//
// What a unit is made of: the machine and process around it, and what is ready before it can be.

import type { Timers, World } from "#base/world.ts";
import type { Catalog } from "#cluster/catalog.ts";
import type { UnitIdentity } from "#cluster/identity.ts";
import type { ActorScope } from "#machine/actor-scope.ts";
import type { ControlEnd } from "#machine/control-channel.ts";
import type { ControlListener } from "#machine/control-socket.ts";
import type { LinkDatagrams } from "#machine/datagram.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import type { JoinKeys } from "#protocol/peer-channel/secret.ts";
import type { ApplianceRole } from "./appliance-disks.ts";
import type { Configuration } from "./configuration.ts";
import type { NbdTls } from "./nbd-tls.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { ReactorPlace } from "./unit-reactor.ts";

/** What a reactor's Worker is started with. */
export interface ReactorStart {
  memoryBytes: number;
  place: ReactorPlace;
}

export interface UnitOutside {
  world: World;
  timers: Timers;
  /** Of which reactors take their part. */
  machine: { cores: number; memoryBytes: number };
  /** Starts a reactor's Worker. */
  startReactor(options: ReactorStart): ControlEnd;
  /** Of hosts' connections. */
  tls: NbdTls;
  /** Unpacks the etcd that came with us; answers its path. */
  unpackEtcd(directory: string): Promise<string>;
  /** For whom it acts at the moment. */
  actors: Pick<ActorScope, "current">;
  /** The process must end: it is wrong about itself. */
  fatal(error: unknown): void;
  /** Null: the unit is a process on somebody's machine. */
  appliance: ApplianceRole | null;
}

/** What is ready before a Unit can be: directory, identity, sockets. */
export interface MadeUnit {
  configuration: Configuration;
  state: StateDirectory;
  identity: UnitIdentity;
  bootCounter: number;
  keys: JoinKeys | null;
  udp: LinkDatagrams;
  reactor: ReactorClient;
  catalog: Catalog;
  control: ControlListener;
  ports: Record<string, number>;
}
