// SPDX-License-Identifier: Apache-2.0
//
// What is a list of time servers, and what would be something else in a file.

import { expect, test } from "bun:test";
import { parseTimeServers, timeServersSchema } from "./time-servers.ts";

test("names and addresses → each; blanks around them do not count", () => {
  expect(parseTimeServers("10.0.0.1")).toEqual(["10.0.0.1"]);
  expect(parseTimeServers("10.0.0.1, ntp.example.org,fd00::1")).toEqual([
    "10.0.0.1",
    "ntp.example.org",
    "fd00::1",
  ]);
});

test.each([
  ["nothing", ""],
  ["an empty place", "10.0.0.1,"],
  ["no address", "10.0.0.999"],
  ["a group", "224.0.1.1"],
  ["another line of the file", "a\nFallbackNTP=evil.example"],
  ["another value", "a b"],
  ["a path", "/etc/passwd"],
  ["five", "a,b,c,d,e"],
  ["a label too long", `${"a".repeat(64)}.example`],
])("%s → refused", (_, text) => {
  expect(parseTimeServers(text)).toBeNull();
  expect(timeServersSchema.safeParse(text).success).toBe(false);
});
