// SPDX-License-Identifier: Apache-2.0
//
// Every state a power cut can leave while an operation runs: after each prefix of what the disk was
// sent, with every subset of up to 8 of the sectors that were written and not flushed (in windows
// of 8 where there are more, the others all lost or all landed), and every subset of the last 8
// writes whole.

import { Image, SECTOR } from "./sim-disk-fixture.ts";
import type { DiskEvent } from "./sim-disk-fixture.ts";

export interface CrashState {
  image: Image;
  /** What the test had noted by then: what was acked. */
  notes: string[];
}

interface PendingSector {
  /** Counts the sectors of the record. */
  id: number;
  offset: number;
  bytes: Uint8Array;
  /** The write it came with, counted over the whole record. */
  write: number;
}

const WINDOW_SECTORS = 8;

/** Calls `check` with every state; answers how many there were. */
export function eachCrash(
  base: Image,
  events: readonly DiskEvent[],
  check: (state: CrashState) => void,
  windowSectors = WINDOW_SECTORS,
): number {
  const stable = base.over();
  let pending: PendingSector[] = [];
  const notes: string[] = [];
  let writes = 0;
  let states = 0;
  let flushedIds = 0;
  /** Writes that were stable by themselves: they leave gaps in the count of sectors. */
  let stables = 0;
  const ids = { next: 0 };
  const seen = new Set<string>();
  const visit = (kept: readonly PendingSector[]) => {
    const key = stateKey(notes.length, stables, flushedIds, kept);
    if (seen.has(key)) return;
    seen.add(key);
    states++;
    const image = stable.over();
    for (const { offset, bytes } of kept) image.write(offset, bytes);
    check({ image, notes: [...notes] });
  };
  visit([]);
  for (const event of events) {
    if (event.what === "flush") {
      for (const { offset, bytes, write, id } of pending) {
        if (write >= event.through) continue;
        stable.write(offset, bytes);
        flushedIds = id + 1;
      }
      pending = pending.filter(({ write }) => write >= event.through);
      continue;
    }
    if (event.what === "note") notes.push(event.note);
    else {
      addSectors(stable, pending, { ...event, write: writes }, ids);
      writes++;
    }
    eachSubset(pending, windowSectors, visit);
    if (event.what === "note" || !event.isStable) continue;
    // While it was under way it was one of many; now nothing older lies there any more.
    const { offset, bytes } = event;
    stable.write(offset, bytes);
    stables++;
    pending = pending.filter((one) => one.offset < offset || one.offset >= offset + bytes.length);
    eachSubset(pending, windowSectors, visit);
  }
  return states;
}

/**
 * Names a state by what of the record it holds: everything up to some sector, and these behind it.
 */
function stateKey(
  notes: number,
  stables: number,
  flushedIds: number,
  kept: readonly PendingSector[],
): string {
  let whole = flushedIds;
  let at = 0;
  for (; kept[at]?.id === whole; at++) whole++;
  const rest = kept.slice(at).map(({ id }) => id);
  return `${notes} ${stables} ${whole} ${rest.join()}`;
}

/** The sectors of a write that change anything: the others are on the disk already. */
function addSectors(
  stable: Image,
  pending: PendingSector[],
  write: { offset: number; bytes: Uint8Array; write: number },
  ids: { next: number },
): void {
  const now = stable.over();
  for (const { offset, bytes } of pending) now.write(offset, bytes);
  const before = new Uint8Array(SECTOR);
  for (let at = 0; at < write.bytes.length; at += SECTOR) {
    const bytes = write.bytes.subarray(at, at + SECTOR);
    now.read(write.offset + at, before);
    if (bytes.every((byte, index) => byte === before[index])) continue;
    pending.push({ id: ids.next++, offset: write.offset + at, bytes, write: write.write });
  }
}

function eachSubset(
  pending: readonly PendingSector[],
  windowSectors: number,
  visit: (kept: readonly PendingSector[]) => void,
): void {
  for (let from = 0; from === 0 || from < pending.length; from += windowSectors) {
    const window = pending.slice(from, from + windowSectors);
    const before = pending.slice(0, from);
    const behind = pending.slice(from + windowSectors);
    for (let subset = 0; subset < 1 << window.length; subset++) {
      const chosen = window.filter((_, index) => ((subset >> index) & 1) === 1);
      visit([...before, ...chosen, ...behind]);
      if (before.length + behind.length > 0) visit(chosen);
    }
  }
  // Whole writes too: one may land long before another that was sent first.
  const writes = [...new Set(pending.map(({ write }) => write))].slice(-WINDOW_SECTORS);
  for (let subset = 0; subset < 1 << writes.length; subset++) {
    const lost = writes.filter((_, index) => ((subset >> index) & 1) === 0);
    visit(pending.filter(({ write }) => !lost.includes(write)));
  }
}
