// SPDX-License-Identifier: Apache-2.0
//
// What an appliance runs by: `cairn.json` on its EFI system partition, overruled setting by setting
// by the one on a stick, and what the state directory keeps of earlier starts. The files are
// outside input: anybody with a stick can write them.
//
// Invariants
// - A wrong file never keeps the box from coming up. Its settings count as not said, and the unit
//   then neither joins nor claims a blank disk: whatever the owner wanted, it was not the default.
// - A unit that is in a cluster goes on with what it ran by before, whatever becomes of the medium;
//   its join secret is forgotten only with its state.
// - What is wrong is said in one sentence, with file and setting, and without any secret.

import { Fault } from "#base/fault.ts";
import {
  CONFIGURATION_BYTES_MAX,
  configurationFrom,
  fileSource,
  MEDIUM_FILE,
  settingsOf,
} from "./configuration.ts";
import type {
  Configuration,
  ConfigurationSource,
  ReadText,
  SourceSettings,
} from "./configuration.ts";

/** Where the two files lie on a booted box, and where the unit keeps its own. */
export const ESP_DIRECTORY = "/efi";
export const STICK_DIRECTORY = "/run/cairn-medium";
/** What the screen reads of the files. */
export const RUN_DIRECTORY = "/run/cairn";
export const REPORT_FILE = "boot-medium.json";
/** In the state directory: the settings of the last start with a sound medium, sealed. */
export const KEPT_FILE = "boot-medium.sealed";
const KEPT_ORIGIN = "the settings kept from an earlier start";

/**
 * Not for a medium: where the state lies is the image's, and what a medium says is kept there.
 */
const NOT_ON_A_MEDIUM = ["stateDirectory", "memoryDirectory"] as const;

export interface MediumPlaces {
  /** Directory of the EFI system partition. */
  esp: string;
  /** Directory where a stick is mounted, if one is there. */
  stick: string;
}

export interface MediumFile {
  /** The file's path. */
  origin: string;
  state: "absent" | "used" | "wrong";
  /** What is wrong; empty when nothing is. */
  message: string;
}

/** Whether the owner gave up the fixed addresses of a medium with this text (network reset). */
export type PassesOver = (mediumText: string) => boolean;

export interface MediumReading {
  /** The sound ones, weakest first. */
  sources: ConfigurationSource[];
  files: MediumFile[];
}

/** Reads both files. Never fails: what cannot be used is said in `files`. */
export function readMedium(
  places: MediumPlaces,
  readText: ReadText,
  passesOver: PassesOver = () => false,
): MediumReading {
  const reading: MediumReading = { sources: [], files: [] };
  for (const directory of [places.esp, places.stick]) {
    const origin = `${directory.replace(/\/+$/, "")}/${MEDIUM_FILE}`;
    try {
      const source = fileSource(origin, readText);
      if (source === null) {
        reading.files.push({ origin, state: "absent", message: "" });
        continue;
      }
      mediumSettings([source], readText);
      const isPassedOver = passesOver(readText(origin, CONFIGURATION_BYTES_MAX) ?? "");
      const taken = isPassedOver ? withoutNetwork(source) : source;
      mediumSettings([...reading.sources, taken], readText);
      reading.sources.push(taken);
      reading.files.push({ origin, state: "used", message: "" });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      reading.files.push({ origin, state: "wrong", message: error.message });
    }
  }
  return reading;
}

function withoutNetwork(source: ConfigurationSource): ConfigurationSource {
  const { network: _, ...value } = source.value as Record<string, unknown>;
  return { ...source, value };
}

/** The settings of a medium's sources, checked as the box will check them. */
export function mediumSettings(
  sources: readonly ConfigurationSource[],
  readText: ReadText,
): SourceSettings {
  const settings = settingsOf(sources, readText);
  for (const name of NOT_ON_A_MEDIUM) {
    if (settings[name] === undefined) continue;
    const origin = sources.at(-1)?.origin ?? "the medium";
    throw new Fault(
      "badConfiguration",
      `${name} in ${origin}: the image decides that, not a medium`,
    );
  }
  return settings;
}

export interface ApplianceInputs {
  reading: MediumReading;
  /** What was kept; null: nothing, or nothing that can be read. */
  kept: SourceSettings | null;
  /** Whether the unit is in a cluster. */
  isMember: boolean;
  /** Stronger than all. */
  flags: ConfigurationSource;
}

export interface ApplianceSettings {
  configuration: Configuration;
  /** To be kept for the next start; null: what is kept stays. */
  keep: SourceSettings | null;
  /** What is wrong with the medium, in one sentence; null: nothing. */
  wrong: string | null;
}

/** Pure but for the secret's file, which is read through `readText`. */
export function applianceSettings(inputs: ApplianceInputs, readText: ReadText): ApplianceSettings {
  const { reading, isMember, flags } = inputs;
  const { kept, refused } = usableKept(inputs.kept, readText);
  const wrong = wrongSentence(reading.files) ?? refused;
  const keptSources = kept === null ? [] : [keptSource(kept)];
  if (wrong !== null) {
    if (isMember && kept !== null) {
      return {
        configuration: configurationFrom([...keptSources, flags], readText),
        keep: null,
        wrong,
      };
    }
    const configuration = configurationFrom([...reading.sources, flags], readText);
    return { configuration: withoutJoining(configuration), keep: null, wrong };
  }
  if (reading.sources.length === 0) {
    return {
      configuration: configurationFrom([...keptSources, flags], readText),
      keep: null,
      wrong,
    };
  }
  // A member without its secret would be lost to its cluster: a file that is silent takes none.
  const secret = isMember ? (kept?.joinSecret ?? null) : null;
  const under = secret === null ? [] : [keptSource({ joinSecret: secret })];
  const sources = [...under, ...reading.sources];
  return {
    configuration: configurationFrom([...sources, flags], readText),
    keep: mediumSettings(sources, readText),
    wrong,
  };
}

function keptSource(settings: SourceSettings): ConfigurationSource {
  return { origin: KEPT_ORIGIN, directory: "/", value: settings };
}

/** Settings that another version kept may mean nothing to this one. */
function usableKept(
  kept: SourceSettings | null,
  readText: ReadText,
): { kept: SourceSettings | null; refused: string | null } {
  if (kept === null) return { kept, refused: null };
  try {
    mediumSettings([keptSource(kept)], readText);
    return { kept, refused: null };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return { kept: null, refused: error.message };
  }
}

function wrongSentence(files: readonly MediumFile[]): string | null {
  const messages = files.filter((file) => file.state === "wrong").map((file) => file.message);
  return messages.length === 0 ? null : messages.join("; ");
}

function withoutJoining(configuration: Configuration): Configuration {
  const nothing = { joinSecret: null, joinSecretFile: null, claimCode: null, adminTokenHash: null };
  return { ...configuration, ...nothing };
}

/** The file that the screen reads: what the unit runs by, and what is wrong. No secrets. */
export function reportText(files: readonly MediumFile[], wrong: string | null): string {
  const message = wrong === null ? null : mediumSentence(wrong);
  return `${JSON.stringify({ format: 1, message, files }, null, 2)}\n`;
}

/** For people: what is wrong, and what follows. */
export function mediumSentence(wrong: string): string {
  const sentence = wrong.slice(0, 1).toUpperCase() + wrong.slice(1);
  return `${sentence}. This unit joins nothing new and claims no disk until that is corrected.`;
}
