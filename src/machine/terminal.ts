// SPDX-License-Identifier: Apache-2.0
//
// A terminal that is drawn on and read key by key: the machine's own console (tty1), a serial line
// (ttyS0), or the one somebody sits at. Control thread only.
//
// Invariants
// - What was found is put back: the line settings before anything else, also when the process ends
//   by itself (`restore` is synchronous and may be called again).
// - At most one write is under way; what cannot be written in time is dropped whole, and `onLost`
//   says so, so that a serial line without a listener stops nobody.
// - Keys are asked for by poll(2) again and again: a waiting read would keep a thread of the
//   runtime's pool, of which there may be two, and epoll is not offered for a terminal.
// - A serial line is opened without waiting for a modem's carrier.

import { closeSync, constants, openSync, readSync, readlinkSync, write, writeSync } from "node:fs";
import { Fault } from "#base/fault.ts";
import { libc } from "./libc.ts";
import { CONTROL, POLL, POLL_FD, TERMIOS, TIOCGWINSZ } from "./terminal.wire.ts";
import { WHEN, WINDOW_SIZE } from "./terminal.wire.ts";

/** Written and not taken yet; a screen is far smaller. */
const PENDING_CHARACTERS_MAX = 64 << 10;
const STANDARD_INPUT = 0;
/** A key is answered so soon; nobody notices, and an idle box does not either. */
const KEYS_EVERY_MS = 50;
const KEY_BYTES_MAX = 1024;

export type TerminalKind = "console" | "serial" | "window";

export interface TerminalSize {
  columns: number;
  rows: number;
}

export class Terminal {
  readonly path: string;
  readonly kind: TerminalKind;
  readonly #fd: number;
  readonly #before = new Uint8Array(TERMIOS.size);
  readonly #asked = new Uint8Array(POLL_FD.size);
  readonly #cancelKeys: () => void;
  #farewell = "";
  #restored = false;
  #pending = "";
  #writing = false;
  /** Bytes of keys, as they come. */
  onInput: (bytes: Uint8Array) => void = () => {};
  /** The line is gone: hung up, or its device was taken away. */
  onEnd: () => void = () => {};
  /** Something that was written did not get out. */
  onLost: () => void = () => {};
  /** A window got another size. */
  onResize: () => void = () => {};

  /** Null: standard input. Throws Fault badMachine when there is no terminal. */
  constructor(path: string | null) {
    this.#fd = path === null ? STANDARD_INPUT : openTerminal(path);
    if (libc.tcgetattr(this.#fd, this.#before) !== 0) {
      throw new Fault("badMachine", `${path ?? "standard input"} is no terminal`);
    }
    this.path = nameOf(this.#fd);
    this.kind = kindOf(this.path);
    const keys = setInterval(() => this.#readKeys(), KEYS_EVERY_MS);
    this.#cancelKeys = () => clearInterval(keys);
    process.on("SIGWINCH", this.#resized);
    process.on("exit", this.#ending);
  }

  /**
   * Key by key and without echo. `farewell` is written when the terminal is given back; none for a
   * serial line, which may keep us waiting for ever.
   */
  takeOver(farewell: string): void {
    const raw = this.#before.slice();
    libc.cfmakeraw(raw);
    if (this.kind === "serial") {
      const view = TERMIOS.view().at(raw, 0);
      view.controlFlags |= CONTROL.local | CONTROL.read;
    }
    this.#farewell = farewell;
    libc.tcsetattr(this.#fd, WHEN.now, raw);
  }

  /** What the kernel knows of its size; null for most serial lines. */
  size(): TerminalSize | null {
    const bytes = new Uint8Array(WINDOW_SIZE.size);
    if (libc.ioctl(this.#fd, TIOCGWINSZ, bytes) !== 0) return null;
    const { columns, rows } = WINDOW_SIZE.view().at(bytes, 0);
    return columns === 0 || rows === 0 ? null : { columns, rows };
  }

  #readKeys(): void {
    const view = POLL_FD.view().at(this.#asked, 0);
    [view.fd, view.events, view.happened] = [this.#fd, POLL.readable, 0];
    if (libc.poll(this.#asked, 1, 0) <= 0) return;
    const { happened } = POLL_FD.view().at(this.#asked, 0);
    const bytes = new Uint8Array(KEY_BYTES_MAX);
    const count = (happened & POLL.readable) === 0 ? 0 : readSome(this.#fd, bytes);
    if (count > 0) this.onInput(bytes.subarray(0, count));
    else this.onEnd(); // hung up
  }

  write(text: string): void {
    if (this.#restored) return;
    if (this.#pending.length + text.length > PENDING_CHARACTERS_MAX) {
      this.#pending = "";
      this.onLost();
      return;
    }
    this.#pending += text;
    this.#writeOn();
  }

  #writeOn(): void {
    if (this.#writing || this.#pending === "" || this.#restored) return;
    const bytes = Buffer.from(this.#pending);
    this.#pending = "";
    this.#writing = true;
    this.#writeAll(bytes, (failed) => {
      this.#writing = false;
      if (this.#restored) this.#close();
      else if (failed) this.onEnd();
      else this.#writeOn();
    });
  }

  /** A pool's thread waits for the line, not ours. */
  #writeAll(bytes: Buffer, done: (failed: boolean) => void): void {
    write(this.#fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null) done(true);
      else if (written < bytes.length) this.#writeAll(bytes.subarray(written), done);
      else done(false);
    });
  }

  readonly #resized = () => this.onResize();
  readonly #ending = () => this.restore();

  /** Puts everything back as it was found. */
  restore(): void {
    if (this.#restored) return;
    this.#restored = true;
    process.off("SIGWINCH", this.#resized);
    process.off("exit", this.#ending);
    libc.tcsetattr(this.#fd, WHEN.now, this.#before);
    this.#cancelKeys();
    if (this.#farewell !== "") this.#sayFarewell();
    if (!this.#writing) this.#close();
  }

  #sayFarewell(): void {
    try {
      writeSync(this.#fd, this.#farewell);
    } catch {
      return; // nobody is there to see it
    }
  }

  /** Never under a write: its number may be another file's by then. */
  #close(): void {
    if (this.#fd !== STANDARD_INPUT) closeSync(this.#fd);
  }
}

/** 0: the line is gone. */
function readSome(fd: number, bytes: Uint8Array): number {
  try {
    return readSync(fd, bytes);
  } catch {
    return 0; // EIO, of a line that was hung up
  }
}

function openTerminal(path: string): number {
  const flags = constants.O_RDWR | constants.O_NOCTTY;
  try {
    // Opened twice: without O_NONBLOCK a serial line waits for a carrier until it is told not to.
    const first = openSync(path, flags | constants.O_NONBLOCK);
    try {
      const settings = new Uint8Array(TERMIOS.size);
      if (libc.tcgetattr(first, settings) !== 0) {
        throw new Fault("badMachine", `${path} is no terminal`);
      }
      TERMIOS.view().at(settings, 0).controlFlags |= CONTROL.local | CONTROL.read;
      if (kindOf(nameOf(first)) === "serial") libc.tcsetattr(first, WHEN.now, settings);
      return openSync(path, flags);
    } finally {
      closeSync(first);
    }
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    const code = String((cause as { code?: unknown }).code);
    throw new Fault("badMachine", `the terminal ${path} cannot be opened (${code})`, { cause });
  }
}

function nameOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

/** By its device's name: which ones show a picture at once, and which pass characters on slowly. */
export function kindOf(path: string): TerminalKind {
  if (/^\/dev\/(tty\d+|console)$/.test(path)) return "console";
  return /^\/dev\/(tty[A-Z]+|hvc|xvc|sclp_line)\d+$/.test(path) ? "serial" : "window";
}
