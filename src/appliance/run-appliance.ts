// SPDX-License-Identifier: Apache-2.0
//
// The appliance's start, beside the daemon: reading the boot medium together with what the state
// directory keeps, saying what is wrong with it, and the network from it, before systemd-networkd
// starts. Everything is done as far as it can be: a box that is not reachable helps nobody.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { createMainWorld } from "#machine/main-world.ts";
import { replaceFiles, replaceReadable, setHostName } from "#machine/network-setup.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { applianceSettings, readMedium, REPORT_FILE, reportText } from "./boot-medium.ts";
import type { ApplianceSettings, MediumFile, MediumPlaces, PassesOver } from "./boot-medium.ts";
import type { ConfigurationSource, ReadText, SourceSettings } from "./configuration.ts";
import { readKept, writeKept } from "./kept-settings.ts";
import { MEMBERSHIP_FILE } from "./membership.ts";
import { hostNameOf, NETWORK_FILE_PREFIX, networkFiles } from "./network-files.ts";
import type { NetworkEntry } from "./network-settings.ts";
import { networkInForce } from "./own-network.ts";
import { loadIdentity, unitName } from "./unit-identity.ts";

/** What the network phase goes by, in the run directory. */
export const NETWORK_FILE = "network.json";

export interface AppliancePlaces extends MediumPlaces {
  stateDirectory: string;
  /** For what the screen reads. */
  runDirectory: string;
}

export interface ApplianceStart {
  places: AppliancePlaces;
  flags: ConfigurationSource;
  passesOver: PassesOver;
}

export interface ApplianceFound extends ApplianceSettings {
  files: MediumFile[];
  /**
   * Fixed addresses that the boot medium says, or said; others may be in force (own-network.ts).
   */
  said: NetworkEntry[];
}

/** The settings of this start, with the state directory open; keeps them for the next. */
export async function findSettings(
  start: ApplianceStart,
  state: StateDirectory,
  readText: ReadText,
): Promise<ApplianceFound> {
  const { places, flags, passesOver } = start;
  const reading = readMedium(places, readText, passesOver);
  const kept = withoutGivenUp(await readKept(state), passesOver);
  const isMember = state.readText(MEMBERSHIP_FILE) !== null;
  const settings = applianceSettings({ reading, kept, isMember, flags }, readText);
  if (settings.keep !== null) await writeKept(state, settings.keep);
  const said = settings.configuration.network;
  const network = networkInForce(said, state, passesOver);
  const configuration = { ...settings.configuration, network };
  return { ...settings, configuration, files: reading.files, said };
}

/** What an earlier medium said, less the fixed addresses that a network reset gave up. */
function withoutGivenUp(
  kept: SourceSettings | null,
  passesOver: PassesOver,
): SourceSettings | null {
  if (kept?.network === undefined || !passesOver(JSON.stringify(kept.network))) return kept;
  const { network: _, ...others } = kept;
  return others;
}

/** Tells the screen, which reads a file; what cannot be told there is in the log. */
export function report(
  world: Pick<World, "log">,
  places: AppliancePlaces,
  found: ApplianceFound,
): void {
  for (const { origin, state, message } of found.files) {
    if (state === "wrong") world.log.write("warn", "a boot medium is wrong", { origin, message });
  }
  try {
    replaceReadable(`${places.runDirectory}/${REPORT_FILE}`, reportText(found.files, found.wrong));
    // For a network reset, which gives up what is in force (src/machine/reset-marks.ts).
    const inForce = JSON.stringify(found.configuration.network);
    replaceReadable(`${places.runDirectory}/${NETWORK_FILE}`, inForce);
  } catch (error) {
    world.log.write("warn", "the screen is not told of the boot medium", { error });
  }
}

export interface NetworkStart extends ApplianceStart {
  networkdDirectory: string;
  hostNameFile: string;
}

export interface NetworkFound {
  hostName: string;
  files: string[];
  /** Interfaces with fixed addresses. */
  fixed: number;
  wrong: string | null;
}

/** `cairn appliance network`: networkd's files and the host name. */
export async function setUpNetwork(
  start: NetworkStart,
  readText: ReadText,
  world: World = createMainWorld(),
): Promise<NetworkFound> {
  const { found, hostName } = await settingsAndName(start, readText, world);
  const { network } = found.configuration;
  const files = networkFiles(network);
  replaceFiles(start.networkdDirectory, NETWORK_FILE_PREFIX, files);
  report(world, start.places, found);
  setHostName(hostName, start.hostNameFile);
  return { hostName, files: [...files.keys()], fixed: network.length, wrong: found.wrong };
}

/** Without a state directory that can be used, the box has a network all the same. */
async function settingsAndName(
  start: NetworkStart,
  readText: ReadText,
  world: World,
): Promise<{ found: ApplianceFound; hostName: string }> {
  try {
    const state = new StateDirectory(start.places.stateDirectory);
    try {
      const found = await findSettings(start, state, readText);
      const identity = await loadIdentity(world, state);
      return { found, hostName: hostNameOf(unitName(found.configuration.name, identity)) };
    } finally {
      state.close();
    }
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    world.log.write("warn", "the state directory cannot be used", { reason: error.message });
    const reading = readMedium(start.places, readText, start.passesOver);
    const inputs = { reading, kept: null, isMember: false, flags: start.flags };
    const settings = applianceSettings(inputs, readText);
    const said = settings.configuration.network;
    const found = { ...settings, files: reading.files, said };
    return { found, hostName: hostNameOf(found.configuration.name ?? "") };
  }
}
