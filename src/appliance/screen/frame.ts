// SPDX-License-Identifier: Apache-2.0
//
// What a view is made of: lines of text with a tone, cut to a width. Pure.
//
// Invariants
// - Nothing from outside steers the terminal: whatever is no printable sign of the alphabet comes
//   out as a question mark, so that each sign takes one column.
// - A tone only underlines what the words say already: on a serial line there is none.

/** console: what the kernel's own font can draw. ascii: any terminal there is. */
export type Alphabet = "console" | "ascii";

/** `code`: bright on black whatever the terminal's colours are, for QR codes. */
export type Tone = "plain" | "strong" | "quiet" | "warning" | "alarm" | "code";

export interface Span {
  text: string;
  tone: Tone;
}

export interface Line {
  spans: readonly Span[];
  /** What is told where only news are (a serial line); empty: this line is never news. */
  news: string;
}

export interface Shape {
  columns: number;
  rows: number;
  alphabet: Alphabet;
}

/**
 * Signs of the kernel's font (code page 437) that we use besides ASCII, and how ASCII says them.
 */
const SIGNS: Readonly<Record<string, string>> = {
  "─": "-",
  "·": "-",
  "█": "#",
  "▀": "'",
  "▄": ".",
};
/** Signs that texts hold and that not every font has. */
const REPLACED: Readonly<Record<string, string>> = { "–": "-", "—": "-", "…": "...", "’": "'" };

const MINUTE_MS = 60_000;

export const BLANK: Line = { spans: [], news: "" };

export function line(text: string, tone: Tone = "plain", news = ""): Line {
  return { spans: [{ text, tone }], news };
}

export function textOf({ spans }: Line): string {
  return spans.map((span) => span.text).join("");
}

/** A text of which every sign takes one column. */
export function inAlphabet(text: string, alphabet: Alphabet): string {
  let shown = "";
  for (const sign of text) {
    if (sign >= " " && sign <= "~") shown += sign;
    else if (Object.hasOwn(SIGNS, sign)) shown += alphabet === "console" ? sign : SIGNS[sign];
    else shown += REPLACED[sign] ?? "?";
  }
  return shown;
}

/** At most `width` columns; what was cut shows. */
export function clip(text: string, width: number): string {
  if (text.length <= width) return text;
  return width <= 3 ? text.slice(0, Math.max(0, width)) : `${text.slice(0, width - 3)}...`;
}

/** The end of a text is what tells paths apart. */
export function clipStart(text: string, width: number): string {
  if (text.length <= width) return text;
  return width <= 3 ? text.slice(-Math.max(1, width)) : `...${text.slice(3 - width)}`;
}

/**
 * Lines of at most `width`, broken at blanks, and within words that are longer than a line; the
 * last one of `linesMax` shows that it was cut.
 */
export function wrap(text: string, width: number, linesMax: number): string[] {
  const lines: string[] = [];
  let current = "";
  const words = text.split(/\s+/).filter((one) => one !== "");
  for (const word of words.flatMap((one) => pieces(one, width))) {
    if (current !== "" && current.length + 1 + word.length > width) {
      lines.push(current);
      current = word;
    } else {
      current = current === "" ? word : `${current} ${word}`;
    }
  }
  if (current !== "") lines.push(current);
  const kept = lines.slice(0, linesMax);
  if (lines.length > linesMax) {
    kept[linesMax - 1] = lines.slice(linesMax - 1).join(" ");
  }
  return kept.map((one) => clip(one, width));
}

function pieces(word: string, width: number): string[] {
  const found: string[] = [];
  for (let at = 0; at < word.length; at += width) found.push(word.slice(at, at + width));
  return found;
}

/** A line's text cut to `width` and, by `fill`, padded to it. */
export function fitted({ spans, news }: Line, width: number, fill: boolean): Line {
  const cut: Span[] = [];
  let left = width;
  for (const { text, tone } of spans) {
    if (left === 0) break;
    const shown = text.slice(0, left);
    left -= shown.length;
    cut.push({ text: shown, tone });
  }
  if (fill && left > 0) cut.push({ text: " ".repeat(left), tone: "plain" });
  return { spans: cut, news };
}

/** Two lines side by side, the second from column `width` on. */
export function beside(left: Line, width: number, right: readonly Span[]): Line {
  const { spans, news } = fitted(left, width, true);
  return { spans: [...spans, ...right], news };
}

/** Exactly `rows` lines, none of which reaches the last column: no terminal scrolls by it. */
export function page(lines: readonly Line[], shape: Shape): Line[] {
  const width = shape.columns - 1;
  return Array.from({ length: shape.rows }, (_, at) => fitted(lines[at] ?? BLANK, width, false));
}

/** For a clock that is looked at: seconds only in the first minutes, when somebody counts them. */
export function uptimeInWords(ms: number): string {
  const minutes = Math.floor(ms / MINUTE_MS);
  return minutes < 10 || minutes >= 60 ? durationInWords(ms) : `${minutes} min`;
}

/** `4 min 12 s`, `3 h 5 min`, `2 d 4 h`. */
export function durationInWords(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes === 0) return `${seconds} s`;
  if (hours === 0) return `${minutes} min ${seconds % 60} s`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
