// SPDX-License-Identifier: Apache-2.0
//
// What a guest has written on a serial line, which QEMU keeps in a file. A terminal's control
// sequences are taken out, so that lines can be matched and read.

import { existsSync, readFileSync, statSync } from "node:fs";

// ECMA-48: CSI and OSC sequences, two-byte escapes, and the controls that move the cursor.
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

/** Of a line in a trail: menus are drawn without line ends. */
const WIDTH = 300;

export class ConsoleLog {
  readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  /** Where it ends now: what comes later is looked for from here. */
  mark(): number {
    return existsSync(this.file) ? statSync(this.file).size : 0;
  }

  text(sinceByte = 0): string {
    if (!existsSync(this.file)) return "";
    return plain(readFileSync(this.file).subarray(sinceByte).toString("utf8"));
  }

  lines(sinceByte = 0): string[] {
    return this.text(sinceByte).split("\n");
  }

  /** The first line that matches, or null. */
  find(pattern: RegExp, sinceByte = 0): RegExpExecArray | null {
    for (const line of this.lines(sinceByte)) {
      const found = pattern.exec(line);
      if (found !== null) return found;
    }
    return null;
  }

  /** The last lines with anything on them. */
  trail(count: number): string {
    const lines = this.lines().map((line) => line.replace(/ {4,}/g, "   ").trimEnd());
    const filled = lines.filter((line) => line !== "");
    return filled
      .slice(-count)
      .map((line) => line.slice(0, WIDTH))
      .join("\n");
  }
}

/** A carriage return ends a line too: screens draw by it. */
export function plain(text: string): string {
  return text
    .replace(ESCAPES, "")
    .replace(/\r+\n?/g, "\n")
    .replace(CONTROLS, "");
}
