// SPDX-License-Identifier: Apache-2.0
//
// What a demo measures, and the table it prints at its end. Limits are the figures the project
// promises; whether they were met does not decide the demo's exit status, only what happened does.

export interface Figure {
  name: string;
  value: string;
  /** The promise it is held against, or what it means. */
  remark: string;
}

export class Figures {
  readonly rows: Figure[] = [];

  add(name: string, value: string, remark = ""): void {
    this.rows.push({ name, value, remark });
  }

  table(): string {
    const width = (pick: (row: Figure) => string) =>
      Math.max(0, ...this.rows.map((row) => pick(row).length));
    const names = width((row) => row.name);
    const values = width((row) => row.value);
    const lines = this.rows.map(({ name, value, remark }) =>
      `  ${name.padEnd(names)}  ${value.padStart(values)}   ${remark}`.trimEnd(),
    );
    return lines.join("\n");
  }
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

export function mebibytes(bytes: number): string {
  const amount = bytes / 2 ** 20;
  return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)} MiB`;
}
