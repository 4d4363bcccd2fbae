// SPDX-License-Identifier: Apache-2.0
//
// What an attached volume leaves on its host besides the kernel's device: a link by the volume's
// name, a systemd unit that attaches it at every boot, a rule by which udev knows the link; and how
// systemd is told that it is there (sd_notify(3)).

import {
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { AF_UNIX, SOCK_CLOEXEC } from "./io-uring.wire.ts";
import { libc } from "./libc.ts";
import { runProgram } from "./program.ts";
import { encodeEndpoint } from "./socket-address.ts";

const SOCK_DGRAM = 2;
const SYSTEMD_FOLDER = "/etc/systemd/system";
const UDEV_FOLDER = "/etc/udev/rules.d";
const UDEV_SOCKET = "/run/udev/control";
const KNOWN_UNITS = "/var/lib/cairn-host/units.json";
const KNOWN_CHARACTERS_MAX = 64 << 10;
const START_MS = 120_000;

/** Puts `link` on `device`, over a link that was there; never over a file. */
export function linkDevice(link: string, device: string): void {
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there !== undefined && !there.isSymbolicLink()) {
    throw new Fault("conflict", `${link} is there and is no link`);
  }
  mkdirSync(path.dirname(link), { recursive: true });
  const fresh = `${link}.${process.pid}.new`;
  rmSync(fresh, { force: true });
  symlinkSync(device, fresh);
  renameSync(fresh, link);
}

export function unlinkDevice(link: string): void {
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there?.isSymbolicLink() === true) rmSync(link, { force: true });
}

/** udev looks at the device again, where there is an udev: its marks came after its first look. */
export async function tellUdev(device: string): Promise<void> {
  if (statSync(UDEV_SOCKET, { throwIfNoEntry: false }) === undefined) return;
  await runProgram("udevadm", ["trigger", "--action=change", `--name-match=${device}`], {
    debianPackage: "udev",
  });
}

/** READY=1 to whoever started us, where somebody waits for it. */
export function tellSystemd(state: string): void {
  const place = process.env["NOTIFY_SOCKET"];
  if (place === undefined || place === "") return;
  const address = new Uint8Array(new ArrayBuffer(4096));
  const { lengthBytes } = encodeEndpoint({ path: place }, address, 0);
  // An abstract name begins with a zero, and is as long as it is.
  const isAbstract = place.startsWith("@");
  if (isAbstract) address[2] = 0;
  const length = isAbstract ? 2 + Buffer.byteLength(place) : lengthBytes;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const words = new TextEncoder().encode(state);
  if (libc.connect(fd, address, length) === 0) libc.write(fd, words, words.length);
  libc.close(fd);
}

/** What was kept of the units that were heard of; null: nothing that can be read. */
export function readKnownUnits(): string | null {
  try {
    return readFileSync(KNOWN_UNITS, "utf8").slice(0, KNOWN_CHARACTERS_MAX);
  } catch {
    return null; // none yet, or not ours to read: the unit that was named is asked
  }
}

/** Best effort: where nothing can be written, the next boot asks the unit that was named. */
export function keepKnownUnits(text: string): void {
  try {
    writeWhole(KNOWN_UNITS, text);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
  }
}

export interface BootFiles {
  /** Of the systemd unit, with its ending. */
  unitName: string;
  unitText: string;
  ruleName: string;
  ruleText: string;
}

/** Has systemd attach it now and at every boot; resolves when it is attached. Throws a Fault. */
export async function installAtBoot(files: BootFiles): Promise<void> {
  if (statSync("/run/systemd/system", { throwIfNoEntry: false }) === undefined) {
    throw new Fault("badMachine", "this machine does not run systemd");
  }
  writeWhole(path.join(UDEV_FOLDER, files.ruleName), files.ruleText);
  writeWhole(path.join(SYSTEMD_FOLDER, files.unitName), files.unitText);
  if (statSync(UDEV_SOCKET, { throwIfNoEntry: false }) !== undefined) {
    await runProgram("udevadm", ["control", "--reload"], { debianPackage: "udev" });
  }
  await runProgram("systemctl", ["daemon-reload"]);
  await runProgram("systemctl", ["enable", files.unitName]);
  await runProgram("systemctl", ["restart", files.unitName], { timeoutMs: START_MS });
}

/** Whether there was such a unit; it is stopped and gone then. */
export async function removeFromBoot(unitName: string): Promise<boolean> {
  const file = path.join(SYSTEMD_FOLDER, unitName);
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return false;
  await runProgram("systemctl", ["disable", "--now", unitName], { timeoutMs: START_MS });
  rmSync(file, { force: true });
  await runProgram("systemctl", ["daemon-reload"]);
  return true;
}

function writeWhole(file: string, text: string): void {
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    throw new Fault("badMachine", `${file} cannot be written (${code})`, { cause });
  }
}
