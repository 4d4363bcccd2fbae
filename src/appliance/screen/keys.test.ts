// SPDX-License-Identifier: Apache-2.0
//
// Keys out of bytes: what they mean, wherever the bytes are split, and that nothing makes it fail.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Decoded, type Key, KeyDecoder } from "./keys.ts";

const bytesOf = (text: string) => Uint8Array.from(text, (sign) => sign.charCodeAt(0));

function decoded(...pieces: string[]): Decoded {
  const decoder = new KeyDecoder();
  const all: Decoded = { keys: [], size: null };
  for (const piece of pieces) {
    const { keys, size } = decoder.decode(bytesOf(piece));
    all.keys.push(...keys);
    all.size = size ?? all.size;
  }
  all.keys.push(...decoder.flush());
  return all;
}

describe("what is pressed", () => {
  test("signs and the keys that mean something", () => {
    const keys: Key[] = [{ sign: "a" }, "enter", "erase", "interrupt", "redraw", { sign: "~" }];
    expect(decoded("a\r\x7f\x03\x0c~").keys).toEqual(keys);
    expect(decoded("\n\b").keys).toEqual(["enter", "erase"]);
  });

  test("other control signs and bytes past ASCII → nothing", () => {
    expect(decoded("\0\x01\x09\x80\xff").keys).toEqual([]);
  });

  test("arrows, function keys, home → nothing; the letters in them are none", () => {
    expect(decoded("\x1b[A\x1b[15~\x1bOH\x1b[1;5Cx").keys).toEqual([{ sign: "x" }]);
  });

  test("escape alone → escape, once nothing follows; before a letter → both", () => {
    const decoder = new KeyDecoder();
    expect(decoder.decode(bytesOf("\x1b")).keys).toEqual([]);
    expect(decoder.waits).toBe(true);
    expect(decoder.flush()).toEqual(["escape"]);
    expect([decoder.waits, decoder.flush()]).toEqual([false, []]);
    expect(decoded("\x1b\x1bq").keys).toEqual(["escape", "escape", { sign: "q" }]);
  });

  test("a terminal's answer about its cursor → its size, and no key", () => {
    expect(decoded("\x1b[24;80R")).toEqual({ keys: [], size: { columns: 80, rows: 24 } });
    expect(decoded("\x1b[0;0R").size).toBe(null);
    expect(decoded("\x1b[9999;80R").size).toBe(null);
  });
});

test("split anywhere → the same keys", () => {
  const text = "a\x1b[A\x1b[24;132Rb\x1bOP\rq";
  const whole = decoded(text);
  expect(whole.keys).toEqual([{ sign: "a" }, { sign: "b" }, "enter", { sign: "q" }]);
  for (let at = 0; at <= text.length; at++) {
    expect(decoded(text.slice(0, at), text.slice(at))).toEqual(whole);
  }
  expect(decoded(...text)).toEqual(whole);
});

test("any bytes in any pieces → no failure, and nothing kept for ever", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }), (pieces) => {
      const decoder = new KeyDecoder();
      for (const piece of pieces) decoder.decode(piece);
      decoder.flush();
      expect(decoder.waits).toBe(false);
    }),
  );
});
