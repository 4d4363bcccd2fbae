// SPDX-License-Identifier: Apache-2.0
//
// Messages over a byte stream: every split point, lengths that lie, bytes that are no JSON.

import { expect, test } from "bun:test";
import { MESSAGE_BYTES_MAX, StreamPipe } from "./message-pipe.ts";

function made(queuedBytes = 0) {
  const sent: Uint8Array[] = [];
  const got: unknown[] = [];
  const closed: string[] = [];
  const pipe = new StreamPipe({
    send: (bytes) => sent.push(bytes),
    queuedBytes: () => queuedBytes,
    close: () => {},
  });
  pipe.onMessage = (message) => got.push(message);
  pipe.onClose = (reason) => closed.push(reason);
  return { pipe, sent, got, closed };
}

function bytesOf(...messages: object[]): Uint8Array {
  const { pipe, sent } = made();
  for (const message of messages) pipe.send(message);
  return Uint8Array.from(sent.flatMap((bytes) => [...bytes]));
}

const MESSAGES = [{ a: 1 }, {}, { text: "ä\u{1f5c4}".repeat(20) }, { list: [1, [2, null]] }];

test("every split point of a stream gives the same messages", () => {
  const bytes = bytesOf(...MESSAGES);
  for (let at = 0; at <= bytes.length; at++) {
    const { pipe, got, closed } = made();
    pipe.received(bytes.subarray(0, at));
    pipe.received(bytes.subarray(at));
    expect(got).toEqual(MESSAGES);
    expect(closed).toEqual([]);
  }
  const { pipe, got } = made();
  for (const byte of bytes) pipe.received(Uint8Array.of(byte));
  expect(got).toEqual(MESSAGES);
});

test("a length past the maximum → closed before anything is kept for it", () => {
  const { pipe, closed } = made();
  const head = new Uint8Array(4);
  new DataView(head.buffer).setUint32(0, MESSAGE_BYTES_MAX + 1, true);
  pipe.received(head);
  expect(closed).toEqual(["a message that is too long"]);
  pipe.received(new Uint8Array(100));
  pipe.ended("later");
  expect(closed.length).toBe(1);
  expect(pipe.send({})).toBe(false);
});

test("no JSON, no UTF-8 → closed", () => {
  for (const body of [Uint8Array.of(0x7b), Uint8Array.of(0xff, 0xfe), new Uint8Array(0)]) {
    const { pipe, closed } = made();
    const bytes = new Uint8Array(4 + body.length);
    new DataView(bytes.buffer).setUint32(0, body.length, true);
    bytes.set(body, 4);
    pipe.received(bytes);
    expect(closed).toEqual(["a message that is no JSON"]);
  }
});

test("the other end does not keep up → closed, nothing grows", () => {
  const { pipe, sent, closed } = made(64 << 20);
  expect(pipe.send({ a: 1 })).toBe(false);
  expect([sent.length, closed.length]).toEqual([0, 1]);
});
