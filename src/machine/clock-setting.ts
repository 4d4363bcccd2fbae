// SPDX-License-Identifier: Apache-2.0
//
// The machine's wall clock: whether something keeps it right, and setting it by hand, the hardware
// clock with it, so that the next start begins with the same time. Nothing in Cairn is decided by
// this clock; people read it in histories. Control thread only; setting needs root.

import { closeSync, openSync } from "node:fs";
import { Fault } from "#base/fault.ts";
import { WALL_MS_MAX, WALL_MS_MIN } from "#base/limits.ts";
import { errno, errnoName, libc } from "./libc.ts";

const CLOCK_REALTIME = 0;
const TIMESPEC_BYTES = 16;
/** struct timex (linux/timex.h), 64 bits; all zero: nothing is changed, it is only read. */
const TIMEX_BYTES = 208;
/** What adjtimex(2) answers while nobody disciplines the clock. */
const TIME_ERROR = 5;
const HARDWARE_CLOCK = "/dev/rtc0";
/** _IOW('p', 0x0a, struct rtc_time), linux/rtc.h. */
const RTC_SET_TIME = 0x4024_700a;
const RTC_TIME_BYTES = 36;

/** Whether the kernel was told lately how far its clock is off, as time servers do. */
export function isClockKept(): boolean {
  return libc.adjtimex(new Uint8Array(TIMEX_BYTES)) !== TIME_ERROR;
}

/** Throws a Fault badRequest outside the bounds, badMachine where the kernel refuses. */
export function setWallClock(wallMs: number): void {
  if (!(wallMs >= WALL_MS_MIN && wallMs < WALL_MS_MAX)) {
    throw new Fault("badRequest", "a time lies between the years 2020 and 2100");
  }
  const time = new Uint8Array(TIMESPEC_BYTES);
  const view = new DataView(time.buffer);
  view.setBigInt64(0, BigInt(Math.floor(wallMs / 1000)), true);
  view.setBigInt64(8, BigInt(Math.floor(wallMs % 1000)) * 1_000_000n, true);
  if (libc.clock_settime(CLOCK_REALTIME, time) !== 0) {
    throw new Fault("badMachine", `the clock cannot be set (${errnoName(errno())})`);
  }
  setHardwareClock(new Date(wallMs));
}

/** A machine without one begins with what its disk remembers; that is no failure. */
function setHardwareClock(time: Date): void {
  let fd: number;
  try {
    fd = openSync(HARDWARE_CLOCK, "r");
  } catch {
    return; // there is none
  }
  const bytes = new Uint8Array(RTC_TIME_BYTES);
  const view = new DataView(bytes.buffer);
  const fields = [
    time.getUTCSeconds(),
    time.getUTCMinutes(),
    time.getUTCHours(),
    time.getUTCDate(),
    time.getUTCMonth(),
    time.getUTCFullYear() - 1900,
  ];
  for (const [index, field] of fields.entries()) view.setInt32(index * 4, field, true);
  libc.ioctl(fd, RTC_SET_TIME, bytes);
  closeSync(fd);
}
