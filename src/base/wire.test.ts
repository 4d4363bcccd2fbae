// SPDX-License-Identifier: Apache-2.0
//
// struct: the table is checked when it is made; views read and write what the table says.

import { describe, expect, test } from "bun:test";
import { bytes, f64, reserved, struct, u8, u16, u32, u64 } from "./wire.ts";

const SAMPLE = struct("sample", 32, "big", {
  magic: u32(0),
  version: u8(4),
  pad: reserved(5, 1),
  type: u16(6),
  cookie: bytes(8, 8),
  offset: u64(16),
  length: u32(24),
  rest: reserved(28, 4),
});

describe("struct", () => {
  test("a gap, an overlap or a wrong sum → refused at load", () => {
    expect(() => struct("gap", 8, "big", { a: u16(0), b: u32(4) })).toThrow("gap.b");
    expect(() => struct("overlap", 6, "big", { a: u32(0), b: u16(2) })).toThrow("overlap.b");
    expect(() => struct("sum", 8, "big", { a: u32(0) })).toThrow("rows sum to 4");
  });

  test("fields written → the bytes the table says, and back", () => {
    const buffer = new Uint8Array(64);
    const view = SAMPLE.view().at(buffer, 16);
    view.magic = 0x25609513;
    view.type = 0x0102;
    view.cookie = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
    view.offset = 2 ** 52 + 5;
    view.length = 0xffffffff;
    expect(Buffer.from(buffer.subarray(16, 48)).toString("hex")).toBe(
      "256095130000010201020304050607080010000000000005ffffffff00000000",
    );
    expect(view.offset).toBe(2 ** 52 + 5);
    expect(view.reservedIsZero()).toBe(true);
    buffer[16 + 30] = 1;
    expect(view.reservedIsZero()).toBe(false);
    expect(view.clear().magic).toBe(0);
  });

  test("a 64-bit value past 2^53 → Infinity, so that every bound refuses it", () => {
    const buffer = new Uint8Array(32).fill(0xff);
    expect(SAMPLE.view().at(buffer, 0).offset).toBe(Number.POSITIVE_INFINITY);
  });

  test("little-endian → low byte first", () => {
    const little = struct("little", 8, "little", { value: u64(0) });
    const buffer = new Uint8Array(8);
    little.view().at(buffer, 0).value = 0x0102030405;
    expect([...buffer]).toEqual([5, 4, 3, 2, 1, 0, 0, 0]);
  });

  test("a float → its exact bits in the stated order, and back", () => {
    const buffer = new Uint8Array(8);
    const view = struct("float", 8, "little", { tick: f64(0) })
      .view()
      .at(buffer, 0);
    view.tick = 1234.5678;
    expect(Buffer.from(buffer).toString("hex")).toBe("adfa5c6d454a9340");
    expect(view.tick).toBe(1234.5678);
  });

  test("a view past its buffer → an assertion", () => {
    expect(() => SAMPLE.view().at(new Uint8Array(31), 0)).toThrow("lies within");
  });
});
