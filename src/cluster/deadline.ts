// SPDX-License-Identifier: Apache-2.0
//
// The promise "protected again within so long", judged beforehand: for each unit, what its loss now
// would have copied, by what units say they hold and how fast they were measured to copy. Pure: it
// reads a view. Where nothing was measured it says so, and promises nothing.

import { z } from "zod";
import { disksOf } from "#base/record.ts";
import type { SliceRecord, UnitNumber } from "#base/record.ts";
import { bytesInWords } from "./placement.ts";
import { poolRooms, spareRooms } from "./rooms.ts";
import { roughTime } from "./rough-time.ts";
import type { UnitRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

const DAY_MS = 24 * 3600 * 1000;
/** How long after a loss all copies are to be there again, ms; 0: no such promise is asked for. */
export const protectWithinShape = z
  .number()
  .int()
  .min(0)
  .max(30 * DAY_MS);

/** Whether it could be kept, as was told last; "": it was not to be judged. */
export const toldDeadline = z.enum(["", "kept", "missed"]);

const figure = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional();
/** What a unit tells of itself with its liveness, rounded (`roughly`). */
export const unitFigures = {
  /** Space that members on its disks take. */
  heldBytes: figure,
  /** What it copied per second as a head, when it last did. */
  copyBytesPerSecond: figure,
  /** When it last kept a backup of the control state, by its wall clock. */
  backupAtMs: figure,
} as const;
export interface UnitFigures {
  heldBytes?: number | undefined;
  copyBytesPerSecond?: number | undefined;
  backupAtMs?: number | undefined;
}

/** Up to the next eighth of its power of two: told anew only when it changes much. */
export function roughly(value: number): number {
  if (value <= 0) return 0;
  const step = 2 ** Math.max(0, Math.floor(Math.log2(value)) - 3);
  return Math.ceil(value / step) * step;
}

export interface DeadlineJudgement {
  /** 0: none is set. */
  withinMs: number;
  /** Why it could not be kept after some loss; empty: nothing is known against it. */
  problems: string[];
  /** What keeps it from being judged. */
  unknown: string[];
}

/** Sentences of a kind: the worst first. */
const SAID_MAX = 4;

export function judgeDeadline(view: ClusterView): DeadlineJudgement {
  const withinMs = view.settings.protectWithinMs;
  if (withinMs === 0) return { withinMs, problems: [], unknown: [] };
  const late: { ms: number; sentence: string }[] = [];
  const roomless: string[] = [];
  const unknown: string[] = [];
  const waitMs = view.settings.reprotectAfterMs;
  if (waitMs >= withinMs) {
    const sentence =
      `copies are made anew only ${roughTime(waitMs)} after a loss (reprotectAfterMs), ` +
      `and are to be there within ${roughTime(withinMs)}`;
    return { withinMs, problems: [sentence], unknown: [] };
  }
  for (const unit of view.units.values()) {
    if (unit.state !== "admitted" || !view.isAlive(unit.number)) continue;
    const records = view.slicesOfUnit(unit.number).filter((record) => isCopied(view, record, unit));
    if (records.length === 0) continue;
    if (lacksRoom(view, unit, records)) {
      roomless.push(`were ${unit.name} lost, there would not be room for all copies it holds`);
      continue;
    }
    const copyMs = copyingMs(view, unit, records);
    if (copyMs === null) {
      unknown.push(`how fast copies of what ${unit.name} holds are made was not measured yet`);
      continue;
    }
    if (waitMs + copyMs <= withinMs) continue;
    late.push({ ms: copyMs, sentence: lateSentence(view, unit, { copyMs, waitMs, withinMs }) });
  }
  late.sort((left, right) => right.ms - left.ms);
  const problems = [...roomless, ...late.map((one) => one.sentence)].slice(0, SAID_MAX);
  return { withinMs, problems, unknown: unknown.slice(0, SAID_MAX) };
}

/** Whether the unit's loss takes one of several copies, and others can be copied from. */
function isCopied(view: ClusterView, record: SliceRecord, unit: UnitRecord): boolean {
  // What is kept of before an override (R8) is not made anew.
  const isMember = disksOf(record).some((disk) => view.disks.get(disk)?.unit === unit.number);
  if (record.copies < 2 || !isMember) return false;
  return sourceOf(view, record, unit.number) !== null;
}

/** Who heads the slice once the unit is lost. */
function sourceOf(view: ClusterView, record: SliceRecord, lost: UnitNumber): UnitNumber | null {
  const units = [record.head, ...record.inSync.map((member) => member.disk)]
    .filter((disk) => view.diskServes(disk))
    .map((disk) => view.disks.get(disk)?.unit ?? lost);
  return units.find((unit) => unit !== lost) ?? null;
}

function lacksRoom(view: ClusterView, unit: UnitRecord, records: readonly SliceRecord[]): boolean {
  const pools = new Set(records.map((record) => view.volumes.get(record.volume)?.pool ?? ""));
  const rooms = [...pools].flatMap((pool) => [...poolRooms(view, pool), ...spareRooms(view, pool)]);
  // A spare for all counts once.
  const byDisk = new Map(rooms.map((room) => [room.disk, room]));
  const others = [...byDisk.values()].filter((room) => room.unit !== unit.number);
  const freeBytes = others.reduce((sum, room) => sum + room.freeBytes, 0);
  const neededBytes = records.reduce((sum, record) => sum + record.sizeBytes, 0);
  const copies = Math.max(...records.map((record) => record.copies));
  return freeBytes < neededBytes || new Set(others.map((room) => room.unit)).size < copies;
}

/** The longest that any head copies; null: not known. */
function copyingMs(
  view: ClusterView,
  unit: UnitRecord,
  records: readonly SliceRecord[],
): number | null {
  const held = view.alive.get(unit.number)?.heldBytes;
  const rates = [...view.alive.values()].flatMap(({ copyBytesPerSecond }) =>
    copyBytesPerSecond === undefined || copyBytesPerSecond === 0 ? [] : [copyBytesPerSecond],
  );
  if (held === undefined || rates.length === 0) return held === 0 ? 0 : null;
  const all = view.slicesOfUnit(unit.number).reduce((sum, record) => sum + record.sizeBytes, 0);
  const bySource = new Map<UnitNumber, number>();
  for (const record of records) {
    const source = sourceOf(view, record, unit.number) ?? 0;
    bySource.set(source, (bySource.get(source) ?? 0) + record.sizeBytes);
  }
  let longestMs = 0;
  for (const [source, promisedBytes] of bySource) {
    // Thin: what is held is spread over the slices by their size. One not measured: as the slowest.
    const bytes = (held * promisedBytes) / all;
    const rate = view.alive.get(source)?.copyBytesPerSecond ?? Math.min(...rates);
    longestMs = Math.max(longestMs, (1000 * bytes) / rate);
  }
  return longestMs;
}

function lateSentence(
  view: ClusterView,
  unit: UnitRecord,
  at: { copyMs: number; waitMs: number; withinMs: number },
): string {
  const held = bytesInWords(view.alive.get(unit.number)?.heldBytes ?? 0);
  const { copyMs, waitMs, withinMs } = at;
  return (
    `were ${unit.name} lost (${held} on its disks), all copies would be there again after about ` +
    `${roughTime(waitMs + copyMs)}, not within ${roughTime(withinMs)}: ${roughTime(waitMs)} of ` +
    `waiting (reprotectAfterMs), then ${roughTime(copyMs)} of copying at the pace measured`
  );
}
