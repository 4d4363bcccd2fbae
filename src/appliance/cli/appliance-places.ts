// SPDX-License-Identifier: Apache-2.0
//
// Where an appliance's commands find what the image has laid out: the EFI system partition, the
// stick, the state directory, what the screen reads. Usual places, and flags for trials.

import { ESP_DIRECTORY, RUN_DIRECTORY, STICK_DIRECTORY } from "#appliance/boot-medium.ts";
import { configurationFrom, flagsSource } from "#appliance/configuration.ts";
import type { ApplianceStart } from "#appliance/run-appliance.ts";
import { ResetMarks } from "#machine/reset-marks.ts";
import type { Call } from "./command.ts";
import type { FlagDefinition } from "./flags.ts";

export const MEDIUM_FLAG: FlagDefinition = {
  name: "medium",
  kind: "path",
  value: "DIRECTORY",
  sentence: `the boot medium; on an appliance the stick, usually ${STICK_DIRECTORY}`,
};
export const PLACE_FLAGS: readonly FlagDefinition[] = [
  {
    name: "esp",
    kind: "path",
    value: "DIRECTORY",
    sentence: `an appliance's EFI system partition, usually ${ESP_DIRECTORY}`,
  },
  {
    name: "run-directory",
    kind: "path",
    value: "DIRECTORY",
    sentence: `where an appliance tells its screen what is wrong, usually ${RUN_DIRECTORY}`,
  },
];

/** From the flags of a command; those of `cairn unit` that are given count as settings. */
export function applianceStart(call: Call): ApplianceStart {
  const { machine, flags } = call;
  const settings = flagsSource(flags.given, machine.directory);
  const at = (name: string, usual: string) => fromHere(call, flags.word(name) ?? usual);
  return {
    places: {
      esp: at("esp", ESP_DIRECTORY),
      stick: at("medium", STICK_DIRECTORY),
      runDirectory: at("run-directory", RUN_DIRECTORY),
      stateDirectory: configurationFrom([settings], machine.readText).stateDirectory,
    },
    flags: settings,
    passesOver: (text) => new ResetMarks("/").passesOverNetworkOf(text),
  };
}

export function fromHere(call: Call, path: string): string {
  return path.startsWith("/") ? path : `${call.machine.directory}/${path}`;
}
