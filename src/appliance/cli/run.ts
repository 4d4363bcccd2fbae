// SPDX-License-Identifier: Apache-2.0
//
// The command line: finds the command, checks its words and flags, runs it, and turns whatever goes
// wrong into a message with advice and a documented exit code.

import { VERSION } from "#appliance/version.ts";
import { type Command, Call, checkOutput } from "./command.ts";
import { attachCommands } from "./commands-attach.ts";
import { bootCommands } from "./commands-boot.ts";
import { certificateCommands } from "./commands-certificate.ts";
import { claimCommands } from "./commands-claim.ts";
import { applianceCommands } from "./commands-appliance.ts";
import { clusterCommands } from "./commands-cluster.ts";
import { figureCommands } from "./commands-figures.ts";
import { hostCommands } from "./commands-host.ts";
import { imageCommands } from "./commands-image.ts";
import { localCommands } from "./commands-local.ts";
import { poolCommands } from "./commands-pool.ts";
import { requestCommands } from "./commands-request.ts";
import { boxCommands } from "./commands-box.ts";
import { settingCommands } from "./commands-setting.ts";
import { controlCommands } from "./commands-control.ts";
import { drillCommands } from "./commands-drill.ts";
import { arrivalCommands } from "./commands-arrival.ts";
import { supportCommands } from "./commands-support.ts";
import { unitCommands } from "./commands-unit.ts";
import { updateCommands } from "./commands-update.ts";
import { userCommands } from "./commands-user.ts";
import { volumeCommands } from "./commands-volume.ts";
import { bashCompletion } from "./completion.ts";
import { EXIT } from "./exit-codes.ts";
import { failureOf, Misuse } from "./failure.ts";
import { type FlagDefinition, Flags, nearest, splitLine } from "./flags.ts";
import { commandHelp, exitCodesHelp, overview } from "./help.ts";
import { manualPage } from "./manual.ts";
import type { CliMachine } from "./machine.ts";
import { fitTables, plain } from "./table.ts";

const completion: Command = {
  words: ["completion"],
  operands: [],
  flags: [],
  sentence: "a script for bash that completes commands and flags: source <(cairn completion)",
  run: async (call) => {
    await call.machine.write(bashCompletion(commands));
    return EXIT.ok[0];
  },
};

const manual: Command = {
  words: ["man"],
  operands: [],
  flags: [],
  sentence: "the manual page: cairn man | man -l -",
  run: async (call) => {
    await call.machine.write(manualPage(commands, VERSION));
    return EXIT.ok[0];
  },
};

/** Every command, in the order of the overview. */
export const commands: readonly Command[] = [
  ...localCommands,
  ...clusterCommands,
  ...unitCommands,
  ...drillCommands,
  ...controlCommands,
  ...poolCommands,
  ...arrivalCommands,
  ...supportCommands,
  ...figureCommands,
  ...volumeCommands,
  ...hostCommands,
  ...certificateCommands,
  ...requestCommands,
  ...attachCommands,
  ...settingCommands,
  ...boxCommands,
  ...claimCommands,
  ...userCommands,
  ...bootCommands,
  ...imageCommands,
  ...applianceCommands,
  ...updateCommands,
  completion,
  manual,
];

const HELP_FLAG: FlagDefinition = { name: "help", short: "h", kind: "yesno", sentence: "this" };

/** Every flag of every command, once. Same names mean the same kind everywhere (tested). */
export function allFlags(): FlagDefinition[] {
  const byName = new Map<string, FlagDefinition>([[HELP_FLAG.name, HELP_FLAG]]);
  for (const { flags } of commands) for (const flag of flags) byName.set(flag.name, flag);
  return [...byName.values()];
}

/** Runs one command line; resolves with the exit code. Only our own bugs are thrown. */
export async function runCli(machine: CliMachine, args: readonly string[]): Promise<number> {
  let flags = new Flags(new Map());
  fitTables(machine.isTerminal ? machine.columns : null);
  try {
    const line = splitLine(machine, args, allFlags());
    flags = line.flags;
    checkOutput(flags);
    return await runLine(machine, line.words, flags);
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (failure === null) throw thrown;
    const { code, message, hint, exitCode } = failure;
    const json = JSON.stringify({ error: { code, message, hint, exitCode } });
    const text = `cairn: ${plain(message)}\n  ${plain(hint)}`;
    await machine.complain(`${flags.word("output") === "json" ? json : text}\n`);
    return exitCode;
  }
}

async function runLine(machine: CliMachine, words: string[], flags: Flags): Promise<number> {
  const [first] = words;
  if (first === "help" || flags.isSet("help")) {
    await machine.write(helpFor(first === "help" ? words.slice(1) : words));
    return EXIT.ok[0];
  }
  if (first === undefined) {
    await machine.complain(overview(commands));
    return EXIT.usage[0];
  }
  const command = commandOf(words);
  const operands = words.slice(command.words.length);
  checkOperands(command, operands);
  checkFlags(command, flags);
  return command.run(new Call(machine, flags, operands));
}

function helpFor(words: readonly string[]): string {
  const [first] = words;
  if (first === undefined) return overview(commands);
  if (first === "exit-codes") return exitCodesHelp();
  const found = commands.filter((one) => words.every((word, at) => one.words[at] === word));
  return found.length > 0 ? found.map(commandHelp).join("\n") : commandHelp(commandOf(words));
}

/** The command whose words the line begins with; the longest one, so `unit list` is not `unit`. */
function commandOf(words: readonly string[]): Command {
  const matches = commands.filter((one) => one.words.every((word, at) => words[at] === word));
  const [best] = matches.sort((one, other) => other.words.length - one.words.length);
  if (best !== undefined && (best.operands.length > 0 || best.words.length === words.length)) {
    return best;
  }
  const [noun = "", verb] = words;
  const verbs = commands.filter((one) => one.words[0] === noun && one.words.length > 1);
  if (verbs.length > 0) {
    const known = verbs.map((one) => one.words[1]).join(", ");
    const what = verb === undefined ? "needs a verb" : `has no verb ${JSON.stringify(verb)}`;
    throw new Misuse(`${noun} ${what}; there are: ${known}`, `cairn help ${noun}`);
  }
  if (best !== undefined) throw new Misuse(`${noun} takes no ${JSON.stringify(verb)}`);
  const near = nearest(noun, [...new Set(commands.map((one) => one.words[0] ?? ""))]);
  const hint = near === null ? "cairn help" : `did you mean ${near}?`;
  throw new Misuse(`there is no command ${JSON.stringify(noun)}`, hint);
}

function checkOperands(command: Command, operands: readonly string[]): void {
  const name = command.words.join(" ");
  const needed = command.operands.filter((operand) => operand.kind === "one");
  const missing = needed[operands.length];
  if (missing !== undefined)
    throw new Misuse(`${name} needs ${missing.name}`, `cairn help ${name}`);
  const takesRest = command.operands.some((operand) => operand.kind === "rest");
  const extra = operands[needed.length];
  if (extra !== undefined && !takesRest) {
    throw new Misuse(`${name} takes no ${JSON.stringify(extra)}`, `cairn help ${name}`);
  }
}

function checkFlags(command: Command, flags: Flags): void {
  const known = new Set(command.flags.map((flag) => flag.name));
  const name = command.words.join(" ");
  for (const flag of flags.given.keys()) {
    if (known.has(flag) || flag === HELP_FLAG.name) continue;
    throw new Misuse(`${name} takes no --${flag}`, `cairn help ${name}`);
  }
}
