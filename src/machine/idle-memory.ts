// SPDX-License-Identifier: Apache-2.0
//
// What a reactor gives back to the system when nothing goes on: free pages of the arena, garbage of
// its heap, and pages of the program's text that were needed once (start, joining). A unit that
// served a burst is as small afterwards as one that did not.
//
// Invariants:
// - Only free blocks of the arena lose their pages (MADV_DONTNEED): they read zero afterwards, and
//   whoever allocates them must not count on their content anyway (Memory: "not zeroed").
// - Of the program only mappings without one changed page are let go; what is needed of them comes
//   back from the page cache. Relocated data ("Anonymous" in smaps) would be lost, so a mapping
//   that has any is left alone.
// - Nothing of this happens while there is I/O: each of them costs the reactor milliseconds. All
//   that is done then is to have the heap gone through by the engine's own thread, which takes the
//   reactor a tenth of one. By itself the engine would wait for hundreds of MiB of garbage: it
//   counts the arena as heap.

import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import type { Memory } from "#base/memory.ts";
import { findSection } from "./elf.ts";
import { IO_VECTOR, SYS_PIDFD_OPEN, SYS_PROCESS_MADVISE } from "./io-uring.wire.ts";
import { address, libc } from "./libc.ts";
import type { Reactor } from "./reactor.ts";
import { faultSingly } from "./single-faults.ts";

const LOOK_EVERY_MS = 2000;
/** Buffers handed out between two looks up to which a reactor is quiet: beacons and reports. */
const QUIET_ALLOCATIONS = 200;
/**
 * Quiet looks in a row before something is given back, and before the heap is gone through once
 * more: what the first collection freed often leaves its pages with the allocator until the second.
 */
const QUIET_LOOKS = 3;
const SECOND_LOOKS = 6;
/** While it stays quiet: leases, reports and pages make a little garbage too. */
const AGAIN_EVERY_MS = 60_000;
/** And while it is busy: a little per tick and per thousand requests. */
const BUSY_EVERY_MS = 10_000;
/** Its text again, in which something is needed now and then. */
const TEXT_EVERY_MS = 20_000;
/** Shorter free ranges are not worth a call. */
const RANGE_BYTES_MIN = 64 << 10;
const PAGE_BYTES = 4096;
const MADV_DONTNEED = 4;
const MADV_PAGEOUT = 21;
const PROT_READ = 1;
/** Where Bun puts what it compiled in: our JavaScript, and the archive of etcd. */
const BUNDLE_SECTION = ".bun";

/** Gives back what is not needed whenever `reactor` has been quiet for a while; busy: garbage. */
export function giveBackWhenQuiet(reactor: Reactor): void {
  const { memory } = reactor;
  let lookMs = reactor.clock.nowMs() + LOOK_EVERY_MS;
  let allocations = memory.allocations;
  let quietLooks = 0;
  let againMs = Number.NEGATIVE_INFINITY;
  let busyMs = 0;
  let textMs = 0;
  let text: ReturnType<typeof unchangedText> | null = null;
  reactor.onTick((nowMs) => {
    if (nowMs < lookMs) return;
    lookMs = nowMs + LOOK_EVERY_MS;
    const quiet = memory.allocations - allocations <= QUIET_ALLOCATIONS;
    allocations = memory.allocations;
    quietLooks = quiet ? quietLooks + 1 : 0;
    if (!quiet) {
      againMs = Number.NEGATIVE_INFINITY;
      if (nowMs < busyMs) return;
      busyMs = nowMs + BUSY_EVERY_MS;
      Bun.gc(false);
    }
    if (quietLooks < QUIET_LOOKS) return;
    if (nowMs >= againMs || quietLooks === SECOND_LOOKS) {
      againMs = nowMs + AGAIN_EVERY_MS;
      giveBackArena(memory);
      Bun.gc(true);
      Bun.shrink();
    } else if (nowMs < textMs) return;
    textMs = nowMs + TEXT_EVERY_MS;
    if (text === null) {
      text = unchangedText(readFileSync("/proc/self/smaps", "latin1"), process.execPath);
      faultSingly(text);
    }
    for (const { start, lengthBytes } of text) {
      libc.madvise(address(start), lengthBytes, MADV_DONTNEED);
    }
  });
}

/**
 * What was compiled in lies in a writable mapping, all of it is read at the start, and nobody ever
 * writes there. Made unwritable it is a mapping of its own that is given back with the text; it is
 * done at the start, so that a runtime that did write there would fail in every test.
 */
export function protectBundle(): void {
  const section = findSection(process.execPath, BUNDLE_SECTION);
  if (section === null) return; // not compiled
  const start = Math.ceil(section.address / PAGE_BYTES) * PAGE_BYTES;
  const end = section.address + section.lengthBytes;
  const lengthBytes = Math.floor((end - start) / PAGE_BYTES) * PAGE_BYTES;
  if (lengthBytes > 0) libc.mprotect(address(start), lengthBytes, PROT_READ);
}

/** The same for the control thread's heap, which is never without a little to do. */
export function collectNowAndThen(): void {
  setInterval(() => Bun.gc(true), AGAIN_EVERY_MS).unref();
  setTimeout(() => Bun.gc(true), AGAIN_EVERY_MS / 4).unref();
}

/** Answers how many bytes of free blocks were given back. */
export function giveBackArena(memory: Memory): number {
  let bytes = 0;
  for (const { offset, lengthBytes } of memory.freeRanges()) {
    if (lengthBytes < RANGE_BYTES_MIN) continue;
    libc.madvise(address(memory.baseAddress + offset), lengthBytes, MADV_DONTNEED);
    bytes += lengthBytes;
  }
  return bytes;
}

/**
 * Asks the kernel to take back what the process `pid` has mapped of `file` (process_madvise(2),
 * MADV_PAGEOUT): nothing is lost, what is needed comes back. Answers whether it did; a kernel or a
 * sandbox that refuses is no fault.
 */
export function pageOut(pid: number, file: string): boolean {
  const pidfd = libc.syscall(SYS_PIDFD_OPEN, pid, 0, 0, 0, 0, 0) as number;
  if (pidfd < 0) return false;
  try {
    // After the pidfd: were the process another one by now, its maps would not have the file.
    const maps = readFileSync(`/proc/${pid}/maps`, "latin1").split("\n");
    const line = maps.find((each) => each.endsWith(` ${file}`));
    const [, from = "", to = ""] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line ?? "") ?? [];
    if (from === "") return false;
    const vector = new Uint8Array(new ArrayBuffer(PAGE_BYTES));
    const start = Number.parseInt(from, 16);
    const view = IO_VECTOR.view().at(vector, 0);
    view.address = start;
    view.lengthBytes = Number.parseInt(to, 16) - start;
    const done = libc.syscall(SYS_PROCESS_MADVISE, pidfd, ptr(vector), 1, MADV_PAGEOUT, 0, 0);
    return (done as number) >= 0;
  } finally {
    libc.close(pidfd);
  }
}

/**
 * The mappings of `program` that nobody can write to and nobody ever did, from the text of
 * /proc/<pid>/smaps (proc_pid_smaps(5)).
 */
export function unchangedText(
  smaps: string,
  program: string,
): { start: number; lengthBytes: number }[] {
  const found: { start: number; lengthBytes: number }[] = [];
  let range: { start: number; lengthBytes: number } | null = null;
  for (const line of smaps.split("\n")) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+\s+(.*)$/.exec(line);
    if (head !== null) {
      const [, from = "", to = "", rights = "", path] = head;
      const start = Number.parseInt(from, 16);
      const lengthBytes = Number.parseInt(to, 16) - start;
      const ours = path === program && /^r-[-x]p$/.test(rights);
      range = ours && lengthBytes % PAGE_BYTES === 0 ? { start, lengthBytes } : null;
    } else if (range !== null && line.startsWith("Anonymous:")) {
      if (/^Anonymous:\s+0 kB$/.test(line)) found.push(range);
      range = null;
    }
  }
  return found;
}
