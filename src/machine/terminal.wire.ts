// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's terminal calls read and write: struct termios as glibc 2.36 lays it out on
// x86-64 and arm64 (bits/termios-struct.h), struct winsize (asm-generic/termios.h), and the few
// constants that are used. No logic.

import { bytes, struct, u16, u32 } from "#base/wire.ts";

/** struct termios. */
export const TERMIOS = struct("termios", 60, "little", {
  inputFlags: u32(0), // c_iflag
  outputFlags: u32(4), // c_oflag
  controlFlags: u32(8), // c_cflag
  localFlags: u32(12), // c_lflag
  rest: bytes(16, 44), // c_line, c_cc, c_ispeed, c_ospeed
});

/** c_cflag (bits/termios-c_cflag.h): receives, and does not wait for a modem's carrier. */
export const CONTROL = { read: 0x80, local: 0x800 } as const;

/** struct winsize; 0 by 0 where nobody said. */
export const WINDOW_SIZE = struct("winsize", 8, "little", {
  rows: u16(0),
  columns: u16(2),
  widthPixels: u16(4),
  heightPixels: u16(6),
});

/** struct pollfd, poll(2). */
export const POLL_FD = struct("pollfd", 8, "little", {
  fd: u32(0),
  events: u16(4),
  happened: u16(6), // revents
});

/** asm-generic/poll.h. What else may happen, a hang-up and an error, is told unasked. */
export const POLL = { readable: 1 } as const;

/** asm-generic/ioctls.h */
export const TIOCGWINSZ = 0x5413;
/** tcsetattr(3): when the change happens. */
export const WHEN = { now: 0, drained: 1 } as const;
