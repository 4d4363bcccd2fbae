// SPDX-License-Identifier: Apache-2.0
//
// The QR code as a phone would see it: the terminal's signs are drawn as pixels, and another
// implementation reads them.

import { describe, expect, test } from "bun:test";
import jsQr from "jsqr";
import type { Span } from "./frame.ts";
import { halfBlockCode, reverseCode } from "./qr-code.ts";

const URLS = [
  "http://192.168.1.21:7480/",
  "http://192.168.100.100:7480/",
  "http://[2001:db8:1234:5678:9abc:def0:1234:5678]:7480/",
];
const PIXELS = 4;

/** Rows of modules, true where the screen is lit. */
function read(lit: boolean[][]): string | null {
  // A dark screen around it, as on a real one.
  const width = (lit[0]?.length ?? 0) + 8;
  const height = lit.length + 8;
  const data = new Uint8ClampedArray(width * PIXELS * height * PIXELS * 4);
  for (let y = 0; y < height * PIXELS; y++) {
    for (let x = 0; x < width * PIXELS; x++) {
      const on = lit[Math.floor(y / PIXELS) - 4]?.[Math.floor(x / PIXELS) - 4] === true;
      data.fill(on ? 255 : 0, (y * width * PIXELS + x) * 4, (y * width * PIXELS + x) * 4 + 3);
      data[(y * width * PIXELS + x) * 4 + 3] = 255;
    }
  }
  return jsQr(data, width * PIXELS, height * PIXELS)?.data ?? null;
}

function litOfHalfBlocks(lines: Span[][]): boolean[][] {
  return lines.flatMap((spans) => {
    const signs = [...spans.map((span) => span.text).join("")];
    return [signs.map((sign) => "█▀".includes(sign)), signs.map((sign) => "█▄".includes(sign))];
  });
}

function litOfReverse(lines: Span[][]): boolean[][] {
  return lines.map((spans) => spans.map((span) => span.tone === "code"));
}

describe("another reader reads it", () => {
  for (const url of URLS) {
    test(`half blocks: ${url}`, () => {
      expect(read(litOfHalfBlocks(halfBlockCode(url)))).toBe(url);
    });
    test(`reverse blanks: ${url}`, () => {
      expect(read(litOfReverse(reverseCode(url)))).toBe(url);
    });
  }
});

test("any IPv4 address → small enough to stand beside the text on 80 by 25", () => {
  const lines = halfBlockCode("http://255.255.255.255:65535/");
  expect(lines.length).toBeLessThanOrEqual(17);
  expect(lines[0]?.[0]?.text.length).toBeLessThanOrEqual(33);
  expect(halfBlockCode("http://192.168.100.100:7480/")).toHaveLength(15);
});
