// SPDX-License-Identifier: Apache-2.0
//
// The judged figures as they are collected: every single measurement, the promise it is held
// against, and a table for people.

export interface Judged {
  name: string;
  unit: string;
  /** Null: told, not judged. */
  most: number | null;
  values: number[];
}

export class Judgement {
  readonly figures: Judged[] = [];
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /** One more measurement of a figure. */
  add(name: string, value: number, promise: { unit: string; most: number | null }): void {
    let figure = this.figures.find((one) => one.name === name);
    if (figure === undefined) {
      figure = { name, ...promise, values: [] };
      this.figures.push(figure);
    }
    figure.values.push(value);
    this.#say(`  ${name}: ${shown(value)} ${promise.unit}`);
  }

  note(line: string): void {
    this.#say(line);
  }

  get allKept(): boolean {
    return this.figures.every(isKept);
  }

  table(): string {
    const rows = this.figures.map((figure) => {
      const sorted = [...figure.values].sort((one, other) => one - other);
      const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
      return [
        figure.name,
        String(sorted.length),
        shown(median),
        shown(sorted.at(-1) ?? 0),
        figure.most === null ? "" : shown(figure.most),
        figure.unit,
        figure.most === null ? "" : isKept(figure) ? "kept" : "NOT KEPT",
      ];
    });
    const all = [["figure", "times", "median", "maximum", "promised", "", ""], ...rows];
    const widths = all[0]?.map((_, column) =>
      Math.max(...all.map((row) => row[column]?.length ?? 0)),
    );
    return all
      .map((row) => row.map((cell, column) => cell.padEnd(widths?.[column] ?? 0)).join("  "))
      .map((line) => line.trimEnd())
      .join("\n");
  }
}

function isKept({ most, values }: Judged): boolean {
  return most === null || values.every((value) => value <= most);
}

function shown(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}
