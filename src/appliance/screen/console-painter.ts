// SPDX-License-Identifier: Apache-2.0
//
// Lines onto a terminal whose cursor goes anywhere: the machine's console, or a window. Only rows
// that changed are written, each over its old self, so that nothing flickers. Escape sequences are
// those of ECMA-48 that the kernel's console knows (console_codes(4)). Pure, but for what it
// remembers of the last picture.

import type { Line, Tone } from "./frame.ts";

/** UTF-8 (for the kernel's console), a picture of its own (for windows), no cursor, no wrapping. */
export const ARRIVE = "\x1b%G\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J";
export const FAREWELL = "\x1b[0m\x1b[2J\x1b[H\x1b[?7h\x1b[?25h\x1b[?1049l";

const SGR: Readonly<Record<Tone, string>> = {
  plain: "0",
  strong: "0;1",
  quiet: "0;36",
  warning: "0;1;33",
  alarm: "0;1;31",
  code: "0;97;40",
};

export class ConsolePainter {
  #rows: string[] = [];

  /** Something else wrote on the terminal: the next picture is written whole. */
  forget(): void {
    this.#rows = [];
  }

  /** What has to be written so that the terminal shows these lines, from the first row on. */
  paint(lines: readonly Line[]): string {
    let text = "";
    for (const [at, line] of lines.entries()) {
      const row = rowText(line);
      if (row === this.#rows[at]) continue;
      this.#rows[at] = row;
      text += `\x1b[${at + 1};1H${row}`;
    }
    return text;
  }
}

function rowText({ spans }: Line): string {
  let text = "";
  let tone: Tone | null = null;
  for (const span of spans) {
    if (span.tone !== tone) text += `\x1b[${SGR[span.tone]}m`;
    tone = span.tone;
    text += span.text;
  }
  // To the end of the row in the usual colours; no row reaches the last column.
  return `${text}\x1b[0m\x1b[K`;
}
