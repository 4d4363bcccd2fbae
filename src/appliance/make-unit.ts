// SPDX-License-Identifier: Apache-2.0
//
// Makes a unit from its configuration: state directory, identity, catalogue, sockets and reactor,
// all of which must be there before it can be one.

import { Catalog } from "#cluster/catalog.ts";
import { listenControl } from "#machine/control-socket.ts";
import { openDatabase } from "#machine/sqlite.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import { readAdopted } from "./adoption.ts";
import type { Configuration } from "./configuration.ts";
import { ReactorClient } from "./reactor-client.ts";
import { reactorCounts } from "./reactor-count.ts";
import { Unit } from "./unit.ts";
import type { UnitOutside } from "./unit-parts.ts";
import type { ReactorPlace } from "./unit-reactor.ts";
import { loadIdentity } from "./unit-identity.ts";
import { openAutoconfigPort } from "./unit-links.ts";

const CATALOG_FILE = "catalog.sqlite";
const BOOT_FILE = "boot-counter";

/** Makes a unit from its configuration; every failure is a Fault with a sentence. */
export async function makeUnit(settings: Configuration, outside: UnitOutside): Promise<Unit> {
  const { world } = outside;
  const state = new StateDirectory(settings.stateDirectory);
  // One that was given by hand holds as long as nobody configures another.
  const joinSecret = settings.joinSecret ?? (await readAdopted(state));
  const configuration = { ...settings, joinSecret };
  const identity = await loadIdentity(world, state);
  const bootCounter = Number(state.readText(BOOT_FILE) ?? "0") + 1;
  state.write(BOOT_FILE, `${bootCounter}\n`);
  const keys =
    configuration.joinSecret === null ? null : joinKeys(world.seal, configuration.joinSecret);
  const { database, putAside } = openDatabase(state.pathOf(CATALOG_FILE));
  if (putAside !== null) {
    world.log.write("warn", "the catalogue was damaged and is made anew", { putAside });
  }
  const catalog = new Catalog(database);
  const udp = await openAutoconfigPort(configuration.ports.autoconfig);
  const counts = reactorCounts(configuration.reactors, outside.machine);
  const open = (place: ReactorPlace) =>
    outside.startReactor({ memoryBytes: counts.arenaBytes, place });
  const reactor = new ReactorClient(open, counts, world.log);
  reactor.onFailed = (sentence) => outside.fatal(sentence);
  reactor.onSecure = (upgrade) => outside.tls.take(upgrade);
  reactor.onReleased = () => outside.fatal("the control thread was silent; heads were given up");
  const both = (port: number) => [
    { address: "0.0.0.0", port },
    { address: "::", port },
  ];
  const answer = await reactor.start({
    kind: "start",
    nbd: both(configuration.ports.nbd),
    peer: both(configuration.ports.peer),
    nbdUnixPath: state.pathOf("nbd.sock"),
    tls: outside.tls.isThere,
    memoryDirectory: configuration.memoryDirectory,
  });
  let unit: Unit | null = null;
  // One socket for both families.
  const place = { address: "::", port: configuration.ports.control };
  const control = listenControl(place, (socket) => {
    if (unit === null) socket.close();
    else unit.acceptControl(socket);
  });
  const ports = {
    autoconfig: udp.port,
    control: control.port,
    peer: answer.peerPort,
    nbd: answer.nbdPort,
    api: configuration.ports.api,
    apiTls: configuration.ports.apiTls,
  };
  unit = new Unit(outside, {
    configuration,
    state,
    identity,
    bootCounter,
    keys,
    udp,
    reactor,
    catalog,
    control,
    ports,
  });
  return unit;
}
