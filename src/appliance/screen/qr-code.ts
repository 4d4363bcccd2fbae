// SPDX-License-Identifier: Apache-2.0
//
// A QR code (ISO/IEC 18004) of a short text as lines of a terminal. Pure, but for
// remembering the last one.
//
// A terminal is dark and a code is dark on light, so light modules are drawn. In half blocks one
// sign holds two modules, one above the other, and modules come out about square; where there are
// no half blocks a module is two blanks, in reverse or not.

import { encode } from "uqr";
import type { Span } from "./frame.ts";

/** Modules around it; the standard asks for four, and readers are content with two on a screen. */
const BORDER = 2;

/** The last one, because a screen draws the same address every second. */
let last = { text: "", modules: [] as boolean[][] };

function modulesOf(text: string): boolean[][] {
  if (last.text !== text) {
    last = { text, modules: encode(text, { ecc: "L", boostEcc: true, border: BORDER }).data };
  }
  return last.modules;
}

/** One sign for two modules: `█` both light, `▀` the upper one, `▄` the lower one. */
export function halfBlockCode(text: string): Span[][] {
  const modules = modulesOf(text);
  const lines: Span[][] = [];
  for (let at = 0; at < modules.length; at += 2) {
    const upper = modules[at] ?? [];
    // Below the last line of an odd number there is nothing: dark, as the screen is.
    const lower = modules[at + 1] ?? upper.map(() => true);
    const signs = upper.map((dark, column) => {
      const below = lower[column] === true;
      if (dark) return below ? " " : "▄";
      return below ? "▀" : "█";
    });
    lines.push([{ text: signs.join(""), tone: "code" }]);
  }
  return lines;
}

/** Two blanks for a module, the light ones in reverse: works on a vt100. */
export function reverseCode(text: string): Span[][] {
  return modulesOf(text).map((row) =>
    row.map((dark) => ({ text: "  ", tone: dark ? "plain" : "code" })),
  );
}
