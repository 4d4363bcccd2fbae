// SPDX-License-Identifier: Apache-2.0
//
// Generic netlink messages: bytes to attributes and back, and a socket to the kernel
// (netlink.wire.ts). Requests block: the kernel answers at once or says why not.
//
// Invariants
// - A length that the kernel tells is held against what was received before it is followed.

import { Fault } from "#base/fault.ts";
import { SOCK_CLOEXEC } from "./io-uring.wire.ts";
import { ERRNO, errno, errnoName, libc } from "./libc.ts";
import {
  AF_NETLINK,
  ATTRIBUTE,
  ATTRIBUTE_TYPE_MASK,
  CONTROL,
  ERROR_AT,
  MESSAGE,
  MESSAGE_ERROR,
  MessageFlag,
  NESTED,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_GENERIC,
  SOL_NETLINK,
} from "./netlink.wire.ts";
import { setNonBlocking } from "./socket-pair.ts";

const SOCK_RAW = 3;
/** What the kernel sends in one piece is smaller. */
const RECEIVE_BYTES = 64 << 10;
/** A request has a few dozen attributes at most. */
const REQUEST_BYTES_MAX = 4096;

export type AttributeValue =
  | { u16: number }
  | { u32: number }
  /** Whole numbers below 2^53. */
  | { u64: number }
  | { text: string }
  | { nested: readonly Attribute[] };
export type Attribute = readonly [type: number, value: AttributeValue];

export interface NetlinkMessage {
  type: number;
  sequence: number;
  command: number;
  /** Of MESSAGE_ERROR: an errno, or 0; else null. */
  error: number | null;
  /** Payloads by type; of several of one type the last. */
  attributes: Map<number, Uint8Array>;
}

/** A request, with a head. */
export function encodeMessage(
  head: { type: number; command: number; version: number; sequence: number },
  attributes: readonly Attribute[],
): Uint8Array<ArrayBuffer> {
  const body = encodeAttributes(attributes);
  const bytes = new Uint8Array(MESSAGE.size + body.length);
  if (bytes.length > REQUEST_BYTES_MAX) throw new Fault("internal", "a netlink request too long");
  const view = MESSAGE.view().at(bytes, 0);
  view.lengthBytes = bytes.length;
  view.type = head.type;
  view.flags = MessageFlag.REQUEST | MessageFlag.ACK;
  view.sequence = head.sequence;
  view.command = head.command;
  view.version = head.version;
  bytes.set(body, MESSAGE.size);
  return bytes;
}

function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const parts = attributes.map(([type, value]) => {
    const payload = payloadOf(value);
    const part = new Uint8Array(padded(ATTRIBUTE.size + payload.length));
    const view = ATTRIBUTE.view().at(part, 0);
    view.lengthBytes = ATTRIBUTE.size + payload.length;
    view.type = "nested" in value ? type | NESTED : type;
    part.set(payload, ATTRIBUTE.size);
    return part;
  });
  return new Uint8Array(Buffer.concat(parts));
}

function payloadOf(value: AttributeValue): Uint8Array {
  if ("nested" in value) return encodeAttributes(value.nested);
  if ("text" in value) return new TextEncoder().encode(`${value.text}\0`);
  if ("u16" in value) return new Uint8Array(Uint16Array.of(value.u16).buffer);
  if ("u32" in value) return new Uint8Array(Uint32Array.of(value.u32).buffer);
  return new Uint8Array(BigUint64Array.of(BigInt(value.u64)).buffer);
}

/** The messages in what was received; a Fault where they do not hold together. */
export function decodeMessages(bytes: Uint8Array): NetlinkMessage[] {
  const found: NetlinkMessage[] = [];
  const view = MESSAGE.view();
  for (let at = 0; at + MESSAGE.size <= bytes.length;) {
    const { lengthBytes, type, sequence, command } = view.at(bytes, at);
    if (lengthBytes < MESSAGE.size || at + lengthBytes > bytes.length) throw odd();
    const isError = type === MESSAGE_ERROR;
    found.push({
      type,
      sequence,
      command,
      error: isError
        ? -new DataView(bytes.buffer, bytes.byteOffset + at).getInt32(ERROR_AT, true)
        : null,
      attributes: isError
        ? new Map()
        : decodeAttributes(bytes.subarray(at + MESSAGE.size, at + lengthBytes)),
    });
    at += padded(lengthBytes);
  }
  return found;
}

export function decodeAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const view = ATTRIBUTE.view();
  for (let at = 0; at + ATTRIBUTE.size <= bytes.length;) {
    const { lengthBytes, type } = view.at(bytes, at);
    if (lengthBytes < ATTRIBUTE.size || at + lengthBytes > bytes.length) throw odd();
    found.set(type & ATTRIBUTE_TYPE_MASK, bytes.slice(at + ATTRIBUTE.size, at + lengthBytes));
    at += padded(lengthBytes);
  }
  return found;
}

/** Null where there is none, or not of four bytes. */
export function u32In(attributes: ReadonlyMap<number, Uint8Array>, type: number): number | null {
  const bytes = attributes.get(type);
  if (bytes?.length !== 4) return null;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function padded(lengthBytes: number): number {
  return (lengthBytes + 3) & ~3;
}

function odd(): Fault {
  return new Fault("badMachine", "the kernel's netlink message does not hold together");
}

/** A family that the kernel knows by name, and its groups. */
export interface Family {
  id: number;
  groups: Map<string, number>;
}

export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  #sequence = 0;

  constructor() {
    this.#fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    if (this.#fd < 0) {
      throw new Fault("badMachine", `no netlink socket (${errnoName(errno())})`);
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }

  /** Null where the kernel has none of this name: its module is not loaded. */
  family(name: string): Family | null {
    const head = { type: CONTROL.FAMILY, command: CONTROL.GET_FAMILY, version: 1 };
    const answer = this.request(head, [[CONTROL.ATTR_FAMILY_NAME, { text: name }]]);
    if (answer.error === ENOENT) return null;
    const told = answer.attributes;
    const id = told.get(CONTROL.ATTR_FAMILY_ID);
    if (answer.error !== 0 || id?.length !== 2) {
      throw new Fault("badMachine", `netlink family ${name} (${errnoName(answer.error)})`);
    }
    const groups = new Map<string, number>();
    const listed = decodeAttributes(told.get(CONTROL.ATTR_GROUPS) ?? new Uint8Array(0));
    for (const one of listed.values()) {
      const group = decodeAttributes(one);
      const words = group.get(CONTROL.ATTR_GROUP_NAME) ?? new Uint8Array(0);
      const number = u32In(group, CONTROL.ATTR_GROUP_ID);
      if (number !== null) groups.set(new TextDecoder().decode(words).replace(/\0$/, ""), number);
    }
    return { id: (id[0] as number) + (id[1] as number) * 256, groups };
  }

  /** The kernel's answer: its attributes, and the errno that it ended with, 0 for none. */
  request(
    head: { type: number; command: number; version: number },
    attributes: readonly Attribute[],
  ): { error: number; attributes: Map<number, Uint8Array> } {
    const sequence = ++this.#sequence;
    const bytes = encodeMessage({ ...head, sequence }, attributes);
    if (Number(libc.write(this.#fd, bytes, bytes.length)) !== bytes.length) {
      throw new Fault("badMachine", `netlink takes no request (${errnoName(errno())})`);
    }
    let told = new Map<number, Uint8Array>();
    for (;;) {
      for (const message of this.#receive()) {
        if (message.sequence !== sequence) continue;
        if (message.error !== null) return { error: message.error, attributes: told };
        told = message.attributes;
      }
    }
  }

  /** From now on `news` has what is told to a group; no more requests by this socket. */
  listen(group: number): void {
    const number = Int32Array.of(group);
    if (libc.setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, number, 4) !== 0) {
      throw new Fault("badMachine", `no place in a netlink group (${errnoName(errno())})`);
    }
    setNonBlocking(this.#fd);
  }

  /** What came since; does not wait. */
  news(): NetlinkMessage[] {
    const found: NetlinkMessage[] = [];
    for (;;) {
      const more = this.#receive();
      if (more.length === 0) return found;
      found.push(...more);
    }
  }

  #receive(): NetlinkMessage[] {
    for (;;) {
      const length = Number(libc.read(this.#fd, this.#buffer, this.#buffer.length));
      if (length >= 0) return decodeMessages(this.#buffer.subarray(0, length));
      const why = errno();
      if (why === ERRNO.EAGAIN) return [];
      // Something was lost of what was told to a group: whoever listens looks for itself as well.
      if (why === ENOBUFS || why === ERRNO.EINTR) continue;
      throw new Fault("badMachine", `netlink does not answer (${errnoName(why)})`);
    }
  }
}

const ENOENT = 2;
const ENOBUFS = 105;
