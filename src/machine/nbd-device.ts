// SPDX-License-Identifier: Apache-2.0
//
// The kernel's NBD client: block devices /dev/nbdN that speak over a socket which is handed to
// them, by generic netlink (linux/nbd-netlink.h, drivers/block/nbd.c of Linux 6.1).
//
// A device outlives who made it. When its connection dies it keeps what is asked of it for
// `deadSeconds`, and takes another connection meanwhile (RECONFIGURE); requests that were under way
// are sent again over that one, each once it is `requestSeconds` old. A request of that age also
// ends a connection that still stands.
//
// `mark` is the backend identifier: the kernel shows it in sysfs and changes a device only for who
// knows it, so that a device of somebody else's is never touched.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { Fault } from "#base/fault.ts";
import { cString, ERRNO, errno, errnoName, libc } from "./libc.ts";
import { type Attribute, type NetlinkMessage, NetlinkSocket, u32In } from "./netlink.ts";
import type { Family } from "./netlink.ts";
import {
  NBD_FAMILY,
  NBD_GROUP,
  NBD_VERSION,
  NbdAttribute,
  NbdCommand,
  NbdSocketAttribute,
} from "./netlink.wire.ts";
import { runProgram } from "./program.ts";

const SYSFS = "/sys/block";
const MARK_BYTES_MAX = 256;
const O_RDONLY = 0;
const O_EXCL = 0o200;

export interface NbdShape {
  sizeBytes: number;
  blockBytes: number;
  /** The server's transmission flags. */
  flags: number;
  requestSeconds: number;
  deadSeconds: number;
}

export interface NbdDevice {
  index: number;
  /** Such as /dev/nbd0. */
  path: string;
  mark: string;
  sizeBytes: number;
}

export class NbdDevices implements Disposable {
  readonly #socket = new NetlinkSocket();
  readonly #news = new NetlinkSocket();
  readonly #family: Family;

  private constructor() {
    const family = this.#socket.family(NBD_FAMILY);
    if (family === null) throw new Fault("badMachine", "the kernel has no NBD client (module nbd)");
    this.#family = family;
    this.#news.listen(family.groups.get(NBD_GROUP) ?? 0);
  }

  /** Loads the kernel's module where it is not there. Throws Fault badMachine. */
  static async open(): Promise<NbdDevices> {
    if (statSync("/sys/module/nbd", { throwIfNoEntry: false }) === undefined) {
      await runProgram("modprobe", ["nbd"], { debianPackage: "kmod" });
    }
    return new NbdDevices();
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
    this.#news[Symbol.dispose]();
  }

  /** A free device, or `index`, speaks over `fd` from now on; the caller may close its `fd`. */
  connect(mark: string, fd: number, shape: NbdShape, index: number | null): NbdDevice {
    const answer = this.#ask(NbdCommand.CONNECT, [
      ...(index === null ? [] : [[NbdAttribute.INDEX, { u32: index }] as const]),
      [NbdAttribute.SIZE_BYTES, { u64: shape.sizeBytes }],
      [NbdAttribute.BLOCK_SIZE_BYTES, { u64: shape.blockBytes }],
      [NbdAttribute.SERVER_FLAGS, { u64: shape.flags }],
      ...limits(shape),
      [NbdAttribute.BACKEND_IDENTIFIER, { text: mark }],
      sockets(fd),
    ]);
    if (answer.error === ERRNO.EBUSY) {
      const which = index === null ? "every NBD device" : `/dev/nbd${index}`;
      throw new Fault("conflict", `${which} is in use`);
    }
    if (answer.error !== 0) throw refused("does not attach", answer.error);
    const made = u32In(answer.attributes, NbdAttribute.INDEX) ?? index;
    if (made === null) throw new Fault("badMachine", "the kernel names no device");
    return { index: made, path: `/dev/nbd${made}`, mark, sizeBytes: shape.sizeBytes };
  }

  /** Gives a device whose connection is dead another one; one that is not goes on with its own. */
  reconnect(device: NbdDevice, fd: number, shape: NbdShape): void {
    const answer = this.#ask(NbdCommand.RECONFIGURE, [
      [NbdAttribute.INDEX, { u32: device.index }],
      [NbdAttribute.SIZE_BYTES, { u64: shape.sizeBytes }],
      ...limits(shape),
      [NbdAttribute.BACKEND_IDENTIFIER, { text: device.mark }],
      sockets(fd),
    ]);
    if (answer.error !== 0) throw refused(`does not reconnect ${device.path}`, answer.error);
    device.sizeBytes = shape.sizeBytes;
  }

  /** What is asked of it from now on fails. */
  disconnect(device: NbdDevice): void {
    const answer = this.#ask(NbdCommand.DISCONNECT, [[NbdAttribute.INDEX, { u32: device.index }]]);
    if (answer.error !== 0) throw refused(`does not detach ${device.path}`, answer.error);
  }

  /** Devices whose connection died since it was asked last. */
  dead(): Set<number> {
    return new Set(this.#news.news().flatMap((one) => this.#deadIn(one)));
  }

  #deadIn(message: NetlinkMessage): number[] {
    if (message.type !== this.#family.id || message.command !== NbdCommand.LINK_DEAD) return [];
    const index = u32In(message.attributes, NbdAttribute.INDEX);
    return index === null ? [] : [index];
  }

  #ask(command: number, attributes: readonly Attribute[]) {
    const head = { type: this.#family.id, command, version: NBD_VERSION };
    return this.#socket.request(head, attributes);
  }
}

/** Devices of this machine that were attached with a mark that begins so. */
export function markedDevices(beginning: string): NbdDevice[] {
  const found: NbdDevice[] = [];
  for (const name of readdirSync(SYSFS)) {
    const index = /^nbd(\d{1,6})$/.exec(name)?.[1];
    if (index === undefined) continue;
    const mark = attribute(name, "backend");
    if (mark === null || !mark.startsWith(beginning)) continue;
    const sizeBytes = Number(attribute(name, "size") ?? 0) * 512;
    found.push({ index: Number(index), path: `/dev/${name}`, mark, sizeBytes });
  }
  return found.sort((one, other) => one.index - other.index);
}

function attribute(device: string, name: string): string | null {
  try {
    return readFileSync(`${SYSFS}/${device}/${name}`, "utf8").trim().slice(0, MARK_BYTES_MAX);
  } catch {
    return null; // it has none, or was just detached
  }
}

/** Whether something on this machine uses it: a file system, a volume group, another device. */
export function isInUse(device: NbdDevice): boolean {
  const fd = libc.open(cString(device.path), O_RDONLY | O_EXCL, 0);
  if (fd < 0) {
    const why = errno();
    if (why === ERRNO.EBUSY) return true;
    throw new Fault("badMachine", `${device.path} cannot be opened (${errnoName(why)})`);
  }
  libc.close(fd);
  return false;
}

function limits({ requestSeconds, deadSeconds }: NbdShape): Attribute[] {
  return [
    [NbdAttribute.TIMEOUT, { u64: requestSeconds }],
    [NbdAttribute.DEAD_CONN_TIMEOUT, { u64: deadSeconds }],
  ];
}

function sockets(fd: number): Attribute {
  const item: Attribute = [NbdSocketAttribute.FD, { u32: fd }];
  return [NbdAttribute.SOCKETS, { nested: [[NbdSocketAttribute.ITEM, { nested: [item] }]] }];
}

function refused(what: string, error: number): Fault {
  return new Fault("badMachine", `the kernel ${what} (${errnoName(error)})`);
}
