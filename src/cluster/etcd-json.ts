// SPDX-License-Identifier: Apache-2.0
//
// Reading and writing what etcd's JSON gateway speaks (proto3's JSON mapping): absent is zero,
// 64-bit integers are strings, bytes are base64. What does not fit reads as absent.

import { Fault } from "#base/fault.ts";

export type Fields = Record<string, unknown>;

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

export function listOf(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A 64-bit integer that counts something: revisions and times stay far below 2^53. */
export function integerOf(value: unknown): number {
  const number = typeof value === "string" ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) ? number : 0;
}

const encoder = new TextEncoder();

export function toBase64(text: string): string {
  return encoder.encode(text).toBase64();
}

/** Bytes in base64 as text; absent is empty. Throws a Fault where it is no base64. */
export function textOfBase64(value: unknown): string {
  return decoder.decode(bytesOfBase64(value));
}

export function bytesOfBase64(value: unknown): Uint8Array {
  try {
    return Uint8Array.fromBase64(textOf(value));
  } catch (cause) {
    throw new Fault("corrupt", "an answer of etcd's is no base64", { cause });
  }
}
const decoder = new TextDecoder();

/** The range of every key with a prefix, as `key` and `range_end` of a request. */
export function prefixRange(prefix: string): { key: string; range_end: string } {
  const bytes = encoder.encode(prefix);
  for (let at = bytes.length - 1; at >= 0; at--) {
    const value = bytes[at] ?? 0;
    if (value === 0xff) continue;
    const end = bytes.slice(0, at + 1);
    end[at] = value + 1;
    return { key: bytes.toBase64(), range_end: end.toBase64() };
  }
  // Every key: from the zero byte to the end of all.
  return { key: "AA==", range_end: "AA==" };
}
