// SPDX-License-Identifier: Apache-2.0
//
// Sealing and opening of pages (format.wire.ts, PAGE): the prefix, the checksum, and why a page is
// refused. Also identities: 32 hexadecimal digits for people, 16 bytes on disk.

import { assert } from "#base/assert.ts";
import { crc32 } from "#base/checksum.ts";
import {
  FORMAT_VERSION,
  PAGE,
  PAGE_BYTES,
  PAGE_CHECKED_FROM,
  PAGE_MAGIC,
  type PageKind,
  UUID_BYTES,
} from "./format.wire.ts";

/** Who a disk is, as far as its pages are concerned. */
export interface PageIdentity {
  readonly disk: Uint8Array;
  /** What every page's checksum but a superblock's starts from. */
  readonly seed: number;
}

const page = PAGE.view();

/** Fills in the prefix of a page whose other bytes are final. Answers the checksum. */
export function sealPage(
  source: Uint8Array,
  start: number,
  kind: PageKind,
  usedBytes: number,
  identity: PageIdentity,
): number {
  assert(usedBytes <= PAGE_BYTES, "a page's content fits the page");
  page.at(source, start);
  page.magic = PAGE_MAGIC;
  page.version = FORMAT_VERSION;
  page.kind = kind;
  page.usedBytes = usedBytes;
  page.disk = identity.disk;
  page.checksum = pageChecksum(source, start, identity.seed);
  return page.checksum;
}

export const PageState = {
  ok: 0,
  /** No magic: never written, or not ours. */
  blank: 1,
  /** The checksum is wrong: torn or rotten. */
  damaged: 2,
  /** Sound, but of another disk or another kind: misdirected. */
  foreign: 3,
  /** Sound, but of a format this program does not know. */
  newer: 4,
} as const;
export type PageState = (typeof PageState)[keyof typeof PageState];

/** What a page is, before anything in it is believed. */
export function examinePage(
  source: Uint8Array,
  start: number,
  kind: PageKind,
  identity: PageIdentity,
): PageState {
  page.at(source, start);
  if (page.magic !== PAGE_MAGIC) return PageState.blank;
  if (page.checksum !== pageChecksum(source, start, identity.seed)) return PageState.damaged;
  if (page.version !== FORMAT_VERSION) return PageState.newer;
  if (page.kind !== kind || !sameBytes(page.disk, identity.disk)) return PageState.foreign;
  return page.usedBytes <= PAGE_BYTES ? PageState.ok : PageState.foreign;
}

/** The used bytes of a page that was examined. */
export function pageUsedBytes(source: Uint8Array, start: number): number {
  return page.at(source, start).usedBytes;
}

/** The checksum a page carries. */
export function pageChecksumField(source: Uint8Array, start: number): number {
  return page.at(source, start).checksum;
}

function pageChecksum(source: Uint8Array, start: number, seed: number): number {
  return crc32(source, start + PAGE_CHECKED_FROM, PAGE_BYTES - PAGE_CHECKED_FROM, seed);
}

/** The seed of a disk's pages: cluster, disk and nonce of the formatting. */
export function pageSeed(cluster: Uint8Array, disk: Uint8Array, nonce: Uint8Array): number {
  return crc32(nonce, 0, nonce.length, crc32(disk, 0, disk.length, crc32(cluster)));
}

/** A little-endian u32 of a list behind a structure. */
export function u32At(source: Uint8Array, at: number): number {
  const high = ((source[at + 3] as number) << 8) | (source[at + 2] as number);
  return ((high << 16) | ((source[at + 1] as number) << 8) | (source[at] as number)) >>> 0;
}

export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let at = 0; at < left.length; at++) if (left[at] !== right[at]) return false;
  return true;
}

/**
 * The bytes of an identity written as 32 hexadecimal digits, dashes ignored; null: it is not one.
 */
export function identityBytes(text: string): Uint8Array | null {
  const digits = text.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(digits)) return null;
  const made = new Uint8Array(UUID_BYTES);
  for (let at = 0; at < UUID_BYTES; at++) {
    made[at] = Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16);
  }
  return made;
}

/** An identity as 32 lower-case hexadecimal digits. */
export function identityText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
