// SPDX-License-Identifier: Apache-2.0
//
// Allow-lists: who is in, who is not, what is no address.

import { expect, test } from "bun:test";
import { addressBytes, isAllowed, isHostAddress, parseRange, rangeKey } from "./address-range.ts";

test("an empty list allows nobody", () => {
  expect(isAllowed([], "127.0.0.1")).toBe(false);
});

test("ranges hold what they should", () => {
  expect(isAllowed(["10.0.0.0/8"], "10.200.3.4")).toBe(true);
  expect(isAllowed(["10.0.0.0/8"], "11.0.0.1")).toBe(false);
  expect(isAllowed(["10.0.0.0/8"], "::ffff:10.1.2.3")).toBe(true);
  expect(isAllowed(["192.168.1.128/25"], "192.168.1.127")).toBe(false);
  expect(isAllowed(["192.168.1.7"], "192.168.1.7")).toBe(true);
  expect(isAllowed(["fd00::/8"], "fd12:3456::1")).toBe(true);
  expect(isAllowed(["fe80::/10"], "fe80::1%eth0")).toBe(true);
  expect(isAllowed(["::/0"], "1.2.3.4")).toBe(true);
  expect(isAllowed(["0.0.0.0/0"], "fd00::1")).toBe(false);
  expect(isAllowed(["2001:db8::/33"], "2001:db8:8000::1")).toBe(false);
});

test("what is no range is refused and allows nobody", () => {
  const bad = ["", "x", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4/33", "::/129", "1::2::3", "/8"];
  for (const text of [...bad, "1:2:3:4:5:6:7:8:9", "1.2.3.4/-1", "fd00::/8/8", ":::"]) {
    expect([text, parseRange(text)]).toEqual([text, null]);
    expect(isAllowed([text], "1.2.3.4")).toBe(false);
  }
});

test("addresses as bytes", () => {
  expect(addressBytes("::1")?.[15]).toBe(1);
  expect([...(addressBytes("1.2.3.4") ?? [])].slice(10)).toEqual([255, 255, 1, 2, 3, 4]);
  expect(addressBytes("1::8")?.[1]).toBe(1);
});

test("what a machine may have as its address", () => {
  for (const text of ["10.0.0.50", "198.51.100.7", "fd00::50", "2001:db8::1"]) {
    expect([text, isHostAddress(text)]).toEqual([text, true]);
  }
  const none = ["", "x", "10.0.0.0/24", "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1"];
  for (const text of [...none, "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%e", "ff02::1"]) {
    expect([text, isHostAddress(text)]).toEqual([text, false]);
  }
});

test("one range → one key, however it is written", () => {
  const same = ["10.1.9.9/16", "10.1.0.0/16", "::ffff:10.1.2.3/112"];
  expect(new Set(same.map(rangeKey)).size).toBe(1);
  const others = ["10.1.0.0/17", "10.1.0.0", "10.0.0.0/16", "::/0", "0.0.0.0/0", "fd00::/7"];
  expect(new Set([...same, ...others].map(rangeKey)).size).toBe(1 + others.length);
  expect(rangeKey("10.0.0.7")).toBe(rangeKey("10.0.0.7/32"));
  expect(rangeKey("fc00::/7")).toBe(rangeKey("fdff::1/7"));
  expect(rangeKey("x")).toBeNull();
});
