// SPDX-License-Identifier: Apache-2.0
//
// The figures of the machine's memory, read from a text of a kernel and from this machine.

import { describe, expect, test } from "bun:test";
import { machineMemory, memoryFrom } from "./load.ts";

const TEXT = `MemTotal:         988208 kB
MemFree:          420944 kB
MemAvailable:     707512 kB
Buffers:           12016 kB
`;

describe("machine memory", () => {
  test("kernel's text → bytes", () => {
    expect(memoryFrom(TEXT)).toEqual({
      sizeBytes: 988_208 * 1024,
      availableBytes: 707_512 * 1024,
    });
  });

  test("a line missing → fails with its name", () => {
    expect(() => memoryFrom(TEXT.replace("MemAvailable", "MemElse"))).toThrow("MemAvailable");
  });

  test("this machine → some is available, not more than there is", () => {
    const { sizeBytes, availableBytes } = machineMemory();
    expect(availableBytes).toBeGreaterThan(0);
    expect(availableBytes).toBeLessThan(sizeBytes);
  });
});
