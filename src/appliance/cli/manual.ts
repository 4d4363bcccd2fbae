// SPDX-License-Identifier: Apache-2.0
//
// The manual page, made from the table of commands like the help (man(7), roff): `cairn man` prints
// it for `man -l -` or a file in man1.

import type { Command } from "./command.ts";
import { EXIT } from "./exit-codes.ts";
import { flagUsage, usageOf } from "./help.ts";

export function manualPage(commands: readonly Command[], version: string): string {
  const listed = commands.flatMap(({ flags, sentence, ...command }) => [
    ".TP",
    `.B ${roff(`cairn ${usageOf({ flags, sentence, ...command })}`)}`,
    roff(`${sentence.slice(0, 1).toUpperCase()}${sentence.slice(1)}.`),
    ...flags.flatMap((flag) => [".br", `\\fB${roff(flagUsage(flag))}\\fR  ${roff(flag.sentence)}`]),
  ]);
  const codes = Object.values(EXIT).flatMap(([number, sentence]) => [
    ".TP",
    `.B ${number}`,
    roff(sentence),
  ]);
  return [
    `.TH CAIRN 1 "" "cairn ${roff(version)}" "Cairn"`,
    ".SH NAME",
    "cairn \\- storage boxes become one distributed virtual SAN",
    ".SH SYNOPSIS",
    ".B cairn",
    "NOUN VERB [OPERAND ...] [FLAG ...]",
    ".SH DESCRIPTION",
    "Asks the unit of this machine by its socket, or any other by",
    ".B \\-\\-url",
    "with a token. Flags may stand anywhere.",
    ".SH COMMANDS",
    ...listed,
    ".SH EXIT STATUS",
    ...codes,
    "",
  ].join("\n");
}

/** Nothing in it is taken for a request or an escape; a dash stays one that can be copied. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(?=[.'])/, "\\&");
}
