// SPDX-License-Identifier: Apache-2.0
//
// Help, made from the table of commands: nothing is described twice.

import type { Command } from "./command.ts";
import { exitCodesInWords } from "./exit-codes.ts";
import type { FlagDefinition } from "./flags.ts";

export function overview(commands: readonly Command[]): string {
  const rows = commands.map((command): [string, string] => [usageOf(command), command.sentence]);
  return (
    "Cairn: storage boxes become one distributed virtual SAN\n\n" +
    `${aligned(rows)}\n` +
    "cairn help COMMAND    flags of one command\n" +
    "cairn help exit-codes what an exit code means\n"
  );
}

export function commandHelp(command: Command): string {
  const rows = command.flags.map((flag): [string, string] => [flagUsage(flag), flag.sentence]);
  const flags = rows.length === 0 ? "" : `\n${aligned(rows)}`;
  return `cairn ${usageOf(command)}\n\n  ${command.sentence}\n${flags}`;
}

export function exitCodesHelp(): string {
  return `Exit codes of cairn:\n\n${exitCodesInWords()}`;
}

export function usageOf(command: Command): string {
  const operands = command.operands.map(({ name, kind }) =>
    kind === "rest" ? `${name}...` : name,
  );
  return [...command.words, ...operands].join(" ");
}

export function flagUsage(flag: FlagDefinition): string {
  const name = flag.kind === "yesno" ? `--[no-]${flag.name}` : `--${flag.name}`;
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  const many = flag.kind === "texts" || flag.kind === "paths" ? " ..." : "";
  return `${short}${name}${flag.value === undefined ? "" : ` ${flag.value}`}${many}`;
}

function aligned(rows: readonly [string, string][]): string {
  const widest = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(widest)}  ${right}\n`).join("");
}
