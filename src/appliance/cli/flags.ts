// SPDX-License-Identifier: Apache-2.0
//
// Flags and operands of a command line, held against what the command takes. Flags may stand
// anywhere, also before the command's words; the names mean the same everywhere, so one table
// splits them all.

import type { FlagKind } from "#appliance/configuration.ts";
import { Misuse } from "./failure.ts";
import type { ArgumentOptions, CliMachine } from "./machine.ts";

export interface FlagDefinition {
  name: string;
  short?: string;
  kind: FlagKind;
  /** What stands for the value in help. */
  value?: string;
  sentence: string;
}

/** A yes-or-no flag holds "yes" or "no"; `texts` and `paths` hold every word given. */
export class Flags {
  readonly given: ReadonlyMap<string, readonly string[]>;

  constructor(given: ReadonlyMap<string, readonly string[]>) {
    this.given = given;
  }

  isSet(name: string): boolean {
    return this.given.get(name)?.[0] === "yes";
  }
  /** The word, or null when the flag was not given. */
  word(name: string): string | null {
    return this.given.get(name)?.[0] ?? null;
  }
  words(name: string): readonly string[] | null {
    return this.given.get(name) ?? null;
  }
}

export interface SplitLine {
  words: string[];
  flags: Flags;
}

/** Splits arguments by all flags there are. */
export function splitLine(
  machine: Pick<CliMachine, "splitArguments">,
  args: readonly string[],
  all: readonly FlagDefinition[],
): SplitLine {
  const byName = new Map(all.map((flag) => [flag.name, flag]));
  const given = new Map<string, string[]>();
  const words: string[] = [];
  for (const token of machine.splitArguments(args, optionsOf(all))) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const { flag, word } = flagWord(byName, token);
    const before = given.get(flag.name);
    const many = flag.kind === "texts" || flag.kind === "paths";
    if (before !== undefined && !many) throw new Misuse(`${token.rawName} is said twice`);
    if (before === undefined) given.set(flag.name, [word]);
    else before.push(word);
  }
  return { words, flags: new Flags(given) };
}

function optionsOf(all: readonly FlagDefinition[]): ArgumentOptions {
  const options: ArgumentOptions = {};
  for (const { name, kind, short } of all) {
    const type = kind === "yesno" ? "boolean" : "string";
    options[name] = short === undefined ? { type } : { type, short };
    if (kind === "yesno") options[`no-${name}`] = { type };
  }
  return options;
}

function flagWord(
  byName: ReadonlyMap<string, FlagDefinition>,
  token: { name: string; rawName: string; value: string | undefined },
): { flag: FlagDefinition; word: string } {
  const { name, rawName, value } = token;
  const flag = byName.get(name);
  if (flag === undefined) {
    const turned = byName.get(name.replace(/^no-/, ""));
    if (turned?.kind !== "yesno") {
      throw new Misuse(`there is no flag ${rawName}`, hintFor(name, [...byName.keys()]));
    }
    if (value !== undefined) throw new Misuse(`${rawName} takes no value`);
    return { flag: turned, word: "no" };
  }
  if (flag.kind === "yesno") return { flag, word: yesOrNo(rawName, value ?? "yes") };
  if (value === undefined || value === "" || /^-./.test(value)) {
    throw new Misuse(`${rawName} needs a value: ${flag.sentence}`);
  }
  return { flag, word: value };
}

function yesOrNo(rawName: string, word: string): string {
  if (["yes", "true"].includes(word)) return "yes";
  if (["no", "false"].includes(word)) return "no";
  throw new Misuse(`${rawName} is yes or no, not ${JSON.stringify(word)}`);
}

function hintFor(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  return near === null ? "cairn help" : `did you mean --${near}?`;
}

/** The word that begins like this one, or is at most two typing errors away; or null. */
export function nearest(word: string, words: readonly string[]): string | null {
  let best: string | null = null;
  let least = 3;
  for (const other of words) {
    const begins = word.length > 1 && other.startsWith(word);
    const steps = begins ? 1 : typingErrors(word, other);
    if (steps < least) [best, least] = [other, steps];
  }
  return best;
}

/** Levenshtein distance, for the short words of a command line. */
function typingErrors(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let at = 1; at <= one.length; at++) {
    const next = [at];
    for (let column = 1; column <= other.length; column++) {
      const change = one[at - 1] === other[column - 1] ? 0 : 1;
      const replaced = (row[column - 1] ?? 0) + change;
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}
