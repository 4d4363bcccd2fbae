// SPDX-License-Identifier: Apache-2.0
//
// Tables on a terminal: aligned, headed, and without anything from outside that a terminal would
// obey.

/** A column: its head, and what stands in it. `wide` ones are shown only by --wide. */
export interface Column<T> {
  head: string;
  cell: (row: T) => string;
  wide?: boolean;
}

export function tableText<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  options: { wide: boolean },
): string {
  const shown = columns.filter((column) => options.wide || column.wide !== true);
  const lines = [
    shown.map((column) => column.head),
    ...rows.map((row) => shown.map((column) => plain(column.cell(row)) || "-")),
  ];
  const widths = shown.map((_, at) => Math.max(...lines.map((line) => width(line[at] ?? ""))));
  return lines.map((line) => alignedLine(line, widths)).join("");
}

/** Facts, one per line: `Name    value`. */
export function factsText(facts: readonly (readonly [string, string])[]): string {
  const widest = Math.max(...facts.map(([name]) => width(name)));
  return facts.map((fact) => alignedLine([fact[0], plain(fact[1]) || "-"], [widest, 0])).join("");
}

function alignedLine(cells: readonly string[], widths: readonly number[]): string {
  // The last cell of a fact is longer than its width says; trailing blanks help nobody.
  const padded = cells.map(
    (cell, at) => cell + " ".repeat(Math.max(0, (widths[at] ?? 0) - width(cell))),
  );
  return `${padded.join("  ").trimEnd()}\n`;
}

function width(text: string): number {
  return [...text].length;
}

/**
 * Control characters, also the C1 set, could steer the terminal; names and sentences come from
 * afar.
 */
export function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}
