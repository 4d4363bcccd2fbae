// SPDX-License-Identifier: Apache-2.0
//
// Netlink messages, and the kernel of this machine as the other side: it has the family of
// families, whatever modules it has.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  NetlinkSocket,
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  u32In,
} from "./netlink.ts";
import { ATTRIBUTE, MESSAGE } from "./netlink.wire.ts";

const head = { type: 0x1b, command: 1, version: 1, sequence: 7 };

describe("bytes", () => {
  // Written down by hand from linux/netlink.h; that a kernel takes it is shown by test/host.
  test("a request to attach → as the kernel's headers lay it out", () => {
    const bytes = encodeMessage(head, [
      [1, { u32: 3 }],
      [2, { u64: 0x1_0000_0000 }],
      [7, { nested: [[1, { nested: [[1, { u32: 9 }]] }]] }],
      [10, { text: "cairn" }],
    ]);
    expect(Buffer.from(bytes).toString("hex")).toBe(
      "440000001b000500070000000000000001010000" +
        "0800010003000000" +
        "0c0002000000000001000000" +
        "100007800c0001800800010009000000" +
        "0a000a00636169726e000000",
    );
  });

  test("decoded again → the same attributes", () => {
    const bytes = encodeMessage(head, [
      [1, { u32: 0xfffffffe }],
      [10, { text: "a" }],
    ]);
    const [message] = decodeMessages(bytes);
    expect(message).toMatchObject({ type: 0x1b, command: 1, sequence: 7, error: null });
    expect(u32In(message?.attributes ?? new Map(), 1)).toBe(0xfffffffe);
    expect(message?.attributes.get(10)).toEqual(new Uint8Array([97, 0]));
    expect(u32In(message?.attributes ?? new Map(), 10)).toBeNull();
  });

  test("any bytes → messages, or a fault; never past the end", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const read of [decodeMessages, decodeAttributes]) {
          try {
            read(bytes);
          } catch (error) {
            expect((error as { code?: string }).code).toBe("badMachine");
          }
        }
      }),
    );
  });

  test("lengths shorter than their head → a fault, not an endless look", () => {
    const message = new Uint8Array(MESSAGE.size);
    expect(() => decodeMessages(message)).toThrow("does not hold together");
    expect(() => decodeAttributes(new Uint8Array(ATTRIBUTE.size))).toThrow("hold together");
  });
});

describe("this machine's kernel", () => {
  test("knows the family of families and its group; none that is not there", () => {
    using socket = new NetlinkSocket();
    const family = socket.family("nlctrl");
    expect(family?.id).toBe(0x10);
    expect(family?.groups.get("notify")).toBeGreaterThan(0);
    expect(socket.family("no-such-family")).toBeNull();
  });

  test("a group that nothing is told to → no news, at once", () => {
    using socket = new NetlinkSocket();
    socket.listen(socket.family("nlctrl")?.groups.get("notify") ?? 0);
    expect(socket.news()).toEqual([]);
  });
});
