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

/** Of the terminal that is written to, characters; null: there is none. One process has one. */
let columnsMax: number | null = null;

/** Tables are fitted into so many characters from now on; null: they are as wide as they are. */
export function fitTables(columns: number | null): void {
  columnsMax = columns;
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
  // Whoever wants it all says so, and gets lines that are longer than the terminal.
  if (!options.wide && columnsMax !== null) {
    squeeze(widths, { heads: lines[0] ?? [], columns: columnsMax });
  }
  const cutLines = lines.map((line) => line.map((cell, at) => cut(cell, widths[at] ?? 0)));
  return cutLines.map((line) => alignedLine(line, widths)).join("");
}

/** A column is not made narrower than this, nor than its head. */
const COLUMN_MIN = 8;
const GAP = 2;

/** Takes from the widest columns first, a character at a time, as long as anything can be taken. */
function squeeze(
  widths: number[],
  { heads, columns }: { heads: readonly string[]; columns: number },
): void {
  const least = heads.map((head) => Math.max(COLUMN_MIN, width(head)));
  const gaps = GAP * Math.max(0, widths.length - 1);
  let surplus = widths.reduce((sum, each) => sum + each, gaps) - columns;
  for (; surplus > 0; surplus--) {
    let widest = -1;
    for (const [at, each] of widths.entries()) {
      const canGive = each > (least[at] ?? 0);
      if (canGive && each > (widths[widest] ?? 0)) widest = at;
    }
    if (widest < 0) return;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
}

function cut(cell: string, most: number): string {
  const characters = [...cell];
  return characters.length <= most ? cell : `${characters.slice(0, most - 1).join("")}…`;
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
