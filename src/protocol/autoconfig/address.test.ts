// SPDX-License-Identifier: Apache-2.0
//
// Addresses in text and in bytes: RFC 5952's forms, refusals, and there and back.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatAddress, isFour, isLinkLocal, parseAddress } from "./address.ts";

describe("addresses", () => {
  const pairs = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["FE80:0:0:0:12:34FF:FE56:789A%eth0", "fe80::12:34ff:fe56:789a"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["::", "::"],
    ["::1", "::1"],
    ["ff12::4361:6972:6e31", "ff12::4361:6972:6e31"],
    ["fd00::", "fd00::"],
  ] as const;
  for (const [text, canonical] of pairs) {
    test(`${text} → ${canonical}`, () => {
      const address = parseAddress(text);
      expect(address?.length).toBe(16);
      expect(formatAddress(address as Uint8Array)).toBe(canonical);
    });
  }

  test("what is no address → null", () => {
    const wrong = [
      "",
      "1.2.3",
      "1.2.3.256",
      "01.2.3.4",
      "1.2.3.4.5",
      "::1::",
      ":::",
      "1:2:3:4:5:6:7",
    ];
    wrong.push("1:2:3:4:5:6:7:8:9", "12345::", "g::", "1:2:3:4:5:6:7::8:9", "::1.2.3", "1.2.3.4::");
    wrong.push("1:2:3:4:5:6:7:8::", "x".repeat(1000), "1.2.3.4:80", ":1");
    for (const text of wrong) expect([text, parseAddress(text)]).toEqual([text, null]);
  });

  test("any 16 bytes → text → the same bytes; any text → no throw", () => {
    const sixteen = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const sparse = sixteen.map((bytes) =>
      bytes.map((byte, at) => (bytes[at >> 1] as number) & byte & 1),
    );
    fc.assert(
      fc.property(fc.oneof(sixteen, sparse), (bytes) => {
        expect(parseAddress(formatAddress(bytes))).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
    const text = fc.array(fc.constantFrom(..."0123456789abf:.%".split("")), { maxLength: 45 });
    fc.assert(
      fc.property(text, (characters) => {
        const parsed = parseAddress(characters.join(""));
        if (parsed !== null) expect(parseAddress(formatAddress(parsed))).toEqual(parsed);
      }),
      { numRuns: 5000 },
    );
  });

  test("families → told apart", () => {
    const [four, local] = ["10.0.0.1", "fe80::1"].map((text) => parseAddress(text) as Uint8Array);
    expect([isFour(four as Uint8Array), isFour(local as Uint8Array)]).toEqual([true, false]);
    expect([isLinkLocal(four as Uint8Array), isLinkLocal(local as Uint8Array)]).toEqual([
      false,
      true,
    ]);
  });
});
