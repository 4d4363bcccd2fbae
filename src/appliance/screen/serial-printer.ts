// SPDX-License-Identifier: Apache-2.0
//
// Lines onto a serial line, which somebody may read later as a log: text that scrolls, one line for
// each piece of news with the time since power-on before it, and the whole view only when somebody
// pressed a key. No cursor movements, no colours. Pure, but for what it remembers of the last view.

import { type Line, durationInWords, textOf } from "./frame.ts";

const STAMP_COLUMNS = 12;

export class SerialPrinter {
  #told = new Map<string, Line>();

  /** The whole view; what it says is no news afterwards. */
  whole(lines: readonly Line[]): string {
    this.#remember(lines);
    return `\r\n${lines.map((one) => `${rowText(one)}\r\n`).join("")}`;
  }

  /** What is new since the last time, and which alarms are over; empty when nothing is. */
  news(lines: readonly Line[], sincePowerOnMs: number): string {
    const before = this.#told;
    this.#remember(lines);
    const fresh = [...this.#told.keys()].filter((text) => !before.has(text));
    const over = [...before].filter(([text, one]) => !this.#told.has(text) && isGrave(one));
    const stamp = `[${durationInWords(sincePowerOnMs).padStart(STAMP_COLUMNS)}] `;
    return [...over.map(([text]) => `Over: ${text}`), ...fresh]
      .map((text) => `${stamp}${text}\r\n`)
      .join("");
  }

  #remember(lines: readonly Line[]): void {
    this.#told = new Map(lines.flatMap((one) => (one.news === "" ? [] : [[one.news, one]])));
  }
}

function isGrave({ spans }: Line): boolean {
  return spans.some(({ tone }) => tone === "warning" || tone === "alarm");
}

/** Only a QR code needs more than letters: its light modules are in reverse. */
function rowText(line: Line): string {
  if (!line.spans.some(({ tone }) => tone === "code")) return textOf(line).trimEnd();
  let text = "";
  for (const { text: part, tone } of line.spans) {
    text += tone === "code" && part.trim() === "" ? `\x1b[7m${part}\x1b[0m` : part;
  }
  return text;
}
