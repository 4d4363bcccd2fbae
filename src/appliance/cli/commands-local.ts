// SPDX-License-Identifier: Apache-2.0
//
// Commands that ask no unit: the daemon itself, its configuration, the version.

import { Fault } from "#base/fault.ts";
import {
  type Configuration,
  type ConfigurationFlag,
  configurationFlags,
  configurationFrom,
  configurationJsonSchema,
  type ConfigurationSource,
  fileSource,
  type FlagKind,
  flagsSource,
  MEDIUM_FILE,
  redacted,
} from "#appliance/configuration.ts";
import { VERSION } from "#appliance/version.ts";
import { applianceStart, fromHere, MEDIUM_FLAG, PLACE_FLAGS } from "./appliance-places.ts";
import { type Call, type Command, OUTPUT_FLAG } from "./command.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";

/** What stands for a flag's value in help. */
const VALUE_WORDS = {
  text: "WORD",
  path: "PATH",
  yesno: null,
  size: "SIZE",
  whole: "NUMBER",
  texts: "WORD",
  paths: "PATH",
} as const satisfies Record<FlagKind, string | null>;

const SOURCE_FLAGS: readonly FlagDefinition[] = [
  {
    name: "config",
    kind: "path",
    value: "FILE",
    sentence: "settings as JSON: cairn config schema",
  },
  MEDIUM_FLAG,
];

const UNIT_FLAGS: readonly FlagDefinition[] = [
  ...SOURCE_FLAGS,
  ...configurationFlags().map(settingFlag),
];

/** A setting of the configuration as a flag of a command. */
export function settingFlag({ flag, kind, sentence }: ConfigurationFlag): FlagDefinition {
  const value = VALUE_WORDS[kind];
  const common = { name: flag, kind, sentence };
  return value === null ? common : { ...common, value };
}

const APPLIANCE_FLAGS: readonly FlagDefinition[] = [
  {
    name: "appliance",
    kind: "yesno",
    sentence: "this box is the unit's own: settings from its boot medium, disks that it finds",
  },
  ...PLACE_FLAGS,
  {
    name: "disks-in",
    kind: "path",
    value: "DIRECTORY",
    sentence: "on an appliance, only disks that links in this directory point to (for trials)",
  },
];

const unit: Command = {
  words: ["unit"],
  operands: [],
  flags: [...UNIT_FLAGS, ...APPLIANCE_FLAGS],
  sentence: "run a unit here until it is told to stop (SIGTERM or SIGINT: in order)",
  run: async (call) => {
    const { machine, flags } = call;
    if (flags.isSet("appliance")) {
      if (flags.word("config") !== null) throw new Misuse("--config does not go with --appliance");
      const disksIn = flags.word("disks-in");
      const links = disksIn === null ? null : fromHere(call, disksIn);
      await machine.runApplianceUnit(applianceStart(call), links);
      return 0;
    }
    const stray = APPLIANCE_FLAGS.find(({ name }) => name !== "appliance" && flags.word(name));
    if (stray !== undefined) throw new Misuse(`--${stray.name} goes with --appliance`);
    await machine.runUnit(configurationOf(call));
    return 0;
  },
};

/** What a witness does not have, or is not asked. */
const NOT_OF_A_WITNESS = ["disk", "role", "may-found", "cluster-name", "slice-size"];

const witness: Command = {
  words: ["witness"],
  operands: [],
  flags: UNIT_FLAGS.filter(({ name }) => !NOT_OF_A_WITNESS.includes(name)),
  sentence: "run a witness here: a third vote, without disks, for a cluster of two units",
  run: async (call) => {
    const configuration = configurationOf(call, [{ role: "witness", disks: [] }]);
    if (configuration.joinSecret === null) {
      throw new Misuse("a witness joins by the cluster's join secret: --join-secret-file FILE");
    }
    await call.machine.runUnit(configuration);
    return 0;
  },
};

/** `fixed`: settings that no source changes. */
function configurationOf(call: Call, fixed: readonly object[] = []): Configuration {
  const { machine, flags } = call;
  const sources: ConfigurationSource[] = [];
  const medium = flags.word("medium");
  if (medium !== null) {
    const found = fileSource(`${fromHere(call, medium)}/${MEDIUM_FILE}`, machine.readText);
    if (found !== null) sources.push(found);
  }
  const file = flags.word("config");
  if (file !== null) {
    const found = fileSource(fromHere(call, file), machine.readText);
    if (found === null) throw new Fault("badConfiguration", `--config ${file}: no such file`);
    sources.push(found);
  }
  sources.push(flagsSource(flags.given, machine.directory));
  for (const value of fixed) {
    sources.push({ origin: "the command", directory: machine.directory, value });
  }
  return configurationFrom(sources, machine.readText);
}

const configSchema: Command = {
  words: ["config", "schema"],
  operands: [],
  flags: [],
  sentence: `the JSON schema of ${MEDIUM_FILE}`,
  run: async (call) => {
    await call.machine.write(`${JSON.stringify(configurationJsonSchema(), null, 2)}\n`);
    return 0;
  },
};

const configShow: Command = {
  words: ["config", "show"],
  operands: [],
  flags: UNIT_FLAGS,
  sentence: "what cairn unit would run by with the same flags; the secret is not shown",
  run: async (call) => {
    await call.machine.write(`${JSON.stringify(redacted(configurationOf(call)), null, 2)}\n`);
    return 0;
  },
};

const version: Command = {
  words: ["version"],
  operands: [],
  flags: [OUTPUT_FLAG],
  sentence: "the version of this executable",
  run: async (call) => {
    await call.print({ version: VERSION }, () => `cairn ${VERSION}\n`);
    return 0;
  },
};

export const localCommands: readonly Command[] = [unit, witness, configSchema, configShow, version];
