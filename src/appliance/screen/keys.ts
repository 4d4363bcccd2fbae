// SPDX-License-Identifier: Apache-2.0
//
// Bytes of a terminal as keys. Arrow and function keys mean nothing here and are passed over; a
// terminal's answer about its cursor tells its size. Pure, but for what it keeps between two
// pieces.

import type { TerminalSize } from "#machine/terminal.ts";

/** A printable sign, or what a key is for. */
export type Key = { sign: string } | "enter" | "escape" | "erase" | "interrupt" | "redraw";

export interface Decoded {
  keys: Key[];
  /** The terminal's answer to where its cursor is. */
  size: TerminalSize | null;
}

/** A sequence that is longer is none. */
const SEQUENCE_CHARACTERS_MAX = 32;
const SIZE_MAX = 500;

export class KeyDecoder {
  #pending = "";

  /** Whether an escape sign waits for what follows it; after a while `flush` makes it a key. */
  get waits(): boolean {
    return this.#pending !== "";
  }

  decode(bytes: Uint8Array): Decoded {
    let text = this.#pending + new TextDecoder("latin1").decode(bytes);
    this.#pending = "";
    const found: Decoded = { keys: [], size: null };
    while (text !== "") {
      if (!text.startsWith("\x1b")) {
        const key = keyOf(text[0] as string);
        if (key !== null) found.keys.push(key);
        text = text.slice(1);
        continue;
      }
      // CSI: parameters, then one letter (ECMA-48, section 5.4); SS3: one letter.
      const sequence = /^\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])/.exec(text)?.[0];
      if (sequence !== undefined) {
        found.size = sizeOf(sequence) ?? found.size;
        text = text.slice(sequence.length);
      } else if (
        /^\x1b(?:\[[0-?]*[ -/]*|O)?$/.test(text) &&
        text.length < SEQUENCE_CHARACTERS_MAX
      ) {
        this.#pending = text;
        text = "";
      } else {
        found.keys.push("escape");
        text = text.slice(1);
      }
    }
    return found;
  }

  /** Nothing followed: the escape sign was the key. */
  flush(): Key[] {
    const had = this.#pending !== "";
    this.#pending = "";
    return had ? ["escape"] : [];
  }
}

// tidy: exhaustive switch
function keyOf(sign: string): Key | null {
  switch (sign) {
    case "\r":
    case "\n":
      return "enter";
    case "\x7f":
    case "\b":
      return "erase";
    case "\x03":
      return "interrupt";
    case "\x0c":
      return "redraw";
    default:
      return sign >= " " && sign <= "~" ? { sign } : null;
  }
}

/** `ESC [ rows ; columns R` (ECMA-48, CPR). */
function sizeOf(sequence: string): TerminalSize | null {
  const match = /^\x1b\[(\d{1,3});(\d{1,3})R$/.exec(sequence);
  if (match === null) return null;
  const [rows, columns] = [Number(match[1]), Number(match[2])];
  return rows < 1 || columns < 1 || rows > SIZE_MAX || columns > SIZE_MAX
    ? null
    : { columns, rows };
}
