// SPDX-License-Identifier: Apache-2.0
//
// Completion for bash, made from the table of commands: words, flags, and the values of flags that
// have a few.

import type { Command } from "./command.ts";
import type { FlagDefinition } from "./flags.ts";

/** The script; `commands` in any order. */
export function bashCompletion(commands: readonly Command[]): string {
  return [
    "# Completion for cairn, by its version of now: source <(cairn completion)",
    "_cairn() {",
    '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}"',
    '  local line="" word words="" flags=""',
    "  local -i at",
    "  for ((at = 1; at < COMP_CWORD; at++)); do",
    '    word="${COMP_WORDS[at]}"',
    '    case "${COMP_WORDS[at - 1]}" in',
    `      ${valuedFlags(commands)}) continue ;;`,
    "    esac",
    '    [[ $word == -* ]] || line+="${line:+ }$word"',
    "  done",
    '  case "$before" in',
    ...valueCases(commands),
    "  esac",
    '  case "$line" in',
    ...wordCases(commands),
    "  esac",
    '  case "$line " in',
    ...flagCases(commands),
    "  esac",
    "  if [[ $current == -* ]]; then words=$flags; fi",
    '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")',
    "  if [[ ${#COMPREPLY[@]} -eq 0 && $current != -* ]]; then",
    '    mapfile -t COMPREPLY < <(compgen -f -- "$current")',
    "  fi",
    "}",
    "complete -o filenames -F _cairn cairn",
    "",
  ].join("\n");
}

/** Every flag once. */
function flagsOf(commands: readonly Command[]): FlagDefinition[] {
  const byName = new Map<string, FlagDefinition>();
  for (const { flags } of commands) for (const flag of flags) byName.set(flag.name, flag);
  return [...byName.values()];
}

function patternOf({ name, short }: FlagDefinition): string {
  return short === undefined ? `--${name}` : `--${name} | -${short}`;
}

/** Flags that take the next word. */
function valuedFlags(commands: readonly Command[]): string {
  const valued = flagsOf(commands).filter(({ kind }) => kind !== "yesno");
  return valued.map(patternOf).join(" | ");
}

/** What may follow a flag that takes one of a few words, or a file. */
function valueCases(commands: readonly Command[]): string[] {
  const cases: string[] = [];
  for (const flag of flagsOf(commands)) {
    const { kind, value = "" } = flag;
    const pattern = patternOf(flag);
    const choices = /^[a-z0-9-]+(\|[a-z0-9-]+)+$/.test(value) ? value.replaceAll("|", " ") : null;
    if (choices !== null) {
      const reply = `mapfile -t COMPREPLY < <(compgen -W "${choices}" -- "$current")`;
      cases.push(`    ${pattern}) ${reply}; return ;;`);
    } else if (kind === "path" || kind === "paths") {
      const reply = 'mapfile -t COMPREPLY < <(compgen -f -- "$current")';
      cases.push(`    ${pattern}) ${reply}; return ;;`);
    } else if (kind !== "yesno") {
      cases.push(`    ${pattern}) COMPREPLY=(); return ;;`);
    }
  }
  return cases;
}

/** Which words may come next, by the words before. */
function wordCases(commands: readonly Command[]): string[] {
  const next = new Map<string, Set<string>>();
  for (const { words } of commands) {
    for (const [at, word] of words.entries()) {
      const before = words.slice(0, at).join(" ");
      next.set(before, (next.get(before) ?? new Set()).add(word));
    }
  }
  next.get("")?.add("help");
  return [...next].map(([before, words]) => `    "${before}") words="${[...words].join(" ")}" ;;`);
}

/** The flags of the command that a line begins with; longer commands first. */
function flagCases(commands: readonly Command[]): string[] {
  return [...commands]
    .sort((left, right) => right.words.length - left.words.length)
    .map(({ words, flags }) => {
      const names = [...flags.map(({ name }) => `--${name}`), "--help"].join(" ");
      return `    "${words.join(" ")} "*) flags="${names}" ;;`;
    });
}
