// SPDX-License-Identifier: Apache-2.0
//
// The view for a state of the dialogue, as lines. Pure.

import { type Surroundings, type View, confirmView, footerOf } from "./dialogue.ts";
import { type ScreenFacts, consoleUrl } from "./facts.ts";
import { BLANK, type Line, type Shape, inAlphabet, line, wrap } from "./frame.ts";
import { logLineInWords } from "./log-lines.ts";
import { mainView } from "./main-view.ts";
import { halfBlockCode, reverseCode } from "./qr-code.ts";

const BACK = " Any other key goes back.";
/** Lines that one entry of the log may take. */
const WRAPPED_MAX = 3;

/** `fill`: to the last row, as where the cursor goes anywhere. */
export function viewLines(
  view: View,
  facts: ScreenFacts,
  surroundings: Surroundings,
  shape: Shape & { fill: boolean },
): Line[] {
  switch (view.kind) {
    case "main":
      return mainView(facts, shape, {
        code: true,
        footer: footerOf(surroundings, shape.columns - 2),
        fill: shape.fill,
      });
    case "code":
      return codeView(facts, shape);
    case "log":
      return logView(view.lines, shape);
    case "confirm":
      return confirmView(view, surroundings, shape);
    case "done":
      return [
        BLANK,
        ...wrap(inAlphabet(view.said, shape.alphabet), shape.columns - 3, 6).map((text) =>
          line(` ${text}`, "strong"),
        ),
        BLANK,
        line(" Any key goes back.", "quiet"),
      ];
  }
}

/** As large as there is room; ASCII where the whole code can be seen at once. */
function codeView(facts: ScreenFacts, shape: Shape): Line[] {
  const url = consoleUrl(facts);
  if (url === null) return [line(" There is no address yet."), BLANK, line(BACK, "quiet")];
  const large = reverseCode(url);
  const fits = large.length + 2 <= shape.rows && large.length * 2 < shape.columns;
  const code = fits ? large : halfBlockCode(url);
  return [
    ...code.map((spans): Line => ({ spans, news: "" })),
    line(` ${url}`, "strong"),
    line(BACK, "quiet"),
  ];
}

function logView(lines: readonly string[] | null, shape: Shape): Line[] {
  const head = [line(" Last lines of the log, newest last", "strong"), BLANK];
  const foot = [BLANK, line(" l reads again, q goes back.", "quiet")];
  if (lines === null) return [...head, line(" Reading ..."), ...foot];
  if (lines.length === 0) return [...head, line(" Nothing was written since the start."), ...foot];
  const room = shape.rows - head.length - foot.length;
  const shown: Line[] = [];
  for (const one of [...lines].reverse()) {
    const text = inAlphabet(logLineInWords(one), shape.alphabet);
    const parts = wrap(text, shape.columns - 4, WRAPPED_MAX);
    if (shown.length + parts.length > room) break;
    const entry = parts.map((part, at) => line(at === 0 ? ` ${part}` : `   ${part}`));
    shown.unshift(...entry);
  }
  return [...head, ...shown, ...foot];
}
