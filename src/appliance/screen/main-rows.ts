// SPDX-License-Identifier: Apache-2.0
//
// The rows of the main view: addresses, cluster, volumes, disks, software; each a label and a few
// plain words. Pure.

import type { DiskView, VolumeView } from "#appliance/backend.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import { FIRST_POOL } from "#cluster/pool-state.ts";
import { nextSlot } from "#machine/slot-choice.ts";
import { type ScreenFacts, type UnitFacts, shownAddresses } from "./facts.ts";
import { type Tone, clipStart } from "./frame.ts";

export interface Row {
  /** Null: a sentence over the whole width. */
  label: string | null;
  text: string;
  tone: Tone;
  /** Told where only news are; not said: the text. Empty: never told. */
  news?: string;
  /** Columns before what may go on in a second line. */
  hang?: number;
}

const DISK_NAME_COLUMNS_MAX = 16;

const VOLUMES_NAMED_MAX = 3;
const UNITS_NAMED_MAX = 3;

/** Addresses one under the other, those that reach further first. */
export function addressRows(facts: ScreenFacts, rowsMax: number): Row[] {
  const texts: { text: string; tone: Tone; rank: number; hang?: number }[] = [];
  for (const card of facts.cards) {
    const addresses = shownAddresses(facts, card);
    for (const { address, family, linkLocal } of addresses) {
      const rank = (linkLocal ? 2 : 0) + (family === 4 ? 0 : 1);
      texts.push({ text: `${address}  ${card.name}`, tone: "plain", rank, hang: 2 });
    }
    if (card.cable === false) {
      texts.push({ text: `${card.name}: no cable`, tone: "quiet", rank: 5 });
    } else if (addresses.length === 0) {
      texts.push({ text: `${card.name}: no address yet`, tone: "quiet", rank: 4 });
    }
  }
  texts.sort((one, other) => one.rank - other.rank);
  const more = (left: number) => ({ text: `and ${left} more`, tone: "quiet" as Tone, rank: 6 });
  const rows = firstOf(texts, rowsMax, more);
  if (rows.length === 0) rows.push({ text: "no network interface", tone: "warning", rank: 0 });
  return labelled("Address", rows, (text) => `Address ${text}`);
}

export function clusterRows(unit: UnitFacts): Row[] {
  const { status, units } = unit;
  const rows: Row[] = [];
  if (status.cluster === null || units === null) {
    return [{ label: "Cluster", text: "none yet", tone: "plain", news: "" }];
  }
  const away = units.filter((one) => !one.alive).map((one) => one.name);
  const count = units.length === 1 ? "1 unit" : `${units.length} units`;
  const { name } = status.cluster;
  const health =
    away.length === 0 ? (units.length === 1 ? "" : ", all up") : `, away: ${someOf(away)}`;
  const cluster = `${name}: ${count}${health}`;
  const tone = away.length === 0 ? "plain" : "warning";
  rows.push({ label: "Cluster", text: cluster, tone, news: `Cluster ${cluster}` });
  rows.push(poolRow(unit));
  return rows;
}

function poolRow({ status, units, disks }: UnitFacts): Row {
  const { pool } = status;
  if (status.role === "spare" || pool === null) {
    const text = pool === null ? "none: this unit is a spare" : `${pool}: this unit is its spare`;
    return { label: "Pool", text, tone: "plain", news: "" };
  }
  const members = new Set((units ?? []).filter((one) => one.pool === pool).map((one) => one.unit));
  const own = disks.filter((disk) => disk.disk !== 0 && members.has(disk.unit));
  const usable = own.filter((disk) => !["refused", "failed", "away"].includes(disk.state));
  const sum = (of: (disk: DiskView) => number) => usable.reduce((all, disk) => all + of(disk), 0);
  const space =
    usable.length === 0
      ? "no disk yet"
      : `${sizeInWords(sum((disk) => disk.freeBytes))} of ` +
        `${sizeInWords(sum((disk) => disk.sizeBytes))} free`;
  // The first pool has no name of its own worth a mention.
  const text = pool === FIRST_POOL ? space : `${pool}: ${space}`;
  return { label: "Pool", text, tone: "plain", news: "" };
}

/** One row when all is well, else the counts and the worst ones by name. */
export function volumeRows({ volumes }: UnitFacts): Row[] {
  if (volumes === null) return [];
  if (volumes.length === 0) {
    return [{ label: "Volumes", text: "none yet", tone: "plain", news: "" }];
  }
  const ranked = [...volumes].sort((one, other) => rankOf(other) - rankOf(one));
  const bad = ranked.filter((volume) => rankOf(volume) > 0);
  if (bad.length === 0) {
    const text = volumes.length === 1 ? "1, protected" : `${volumes.length}, all protected`;
    const unprotected = volumes.filter((volume) => volume.protection === "none").length;
    const shown =
      unprotected === 0 ? text : `${volumes.length} online, ${unprotected} with a single copy`;
    return [{ label: "Volumes", text: shown, tone: "plain", news: `Volumes ${shown}` }];
  }
  const counts = new Map<string, number>();
  for (const volume of ranked) {
    const word = wordOf(volume);
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const text = [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
  const tone = toneOf(rankOf(bad[0] as VolumeView));
  const rows: Row[] = [{ label: "Volumes", text, tone, news: `Volumes ${text}` }];
  const named = bad.map((volume) => ({
    hang: 2,
    text: `${volume.name}: ${detailOf(volume)}`,
    tone: toneOf(rankOf(volume)),
    news: `Volume ${volume.name} ${wordOf(volume)}`,
  }));
  const more = (left: number) => ({
    hang: 0,
    text: `and ${left} more`,
    tone: "plain" as Tone,
    news: "",
  });
  for (const row of firstOf(named, VOLUMES_NAMED_MAX, more)) rows.push({ label: "", ...row });
  return rows;
}

/** 0: well. The higher, the sooner somebody should come. */
function rankOf(volume: VolumeView): number {
  if (volume.availability === "offline") return 5;
  if (volume.availability !== "online") return 4;
  return { protected: 0, rebuilding: 1, degraded: 2, "at-risk": 3 }[volume.state];
}

function toneOf(rank: number): Tone {
  return rank >= 3 ? "alarm" : "warning";
}

function wordOf(volume: VolumeView): string {
  return volume.availability === "online" ? volume.state : volume.availability;
}

function detailOf(volume: VolumeView): string {
  const { rebuildingPercent, sentence } = volume;
  const percent = rebuildingPercent === null ? "" : ` ${rebuildingPercent} %`;
  return `${wordOf(volume)}${percent}${sentence === "" ? "" : `, ${sentence}`}`;
}

/** This unit's own disks. Those that are left alone or failed are never counted together. */
export function diskRows(facts: ScreenFacts, rowsMax: number): Row[] {
  const { unit } = facts;
  if (unit === null || facts.silentMs !== null || facts.recovery !== null) return [];
  const own = unit.disks.filter((disk) => disk.unit === unit.status.unit);
  if (own.length === 0) {
    return [{ label: "Disks", text: "none found", tone: "warning", news: "No disk was found" }];
  }
  const names = own.map((disk) => shortName(disk.path));
  const nameColumns = Math.max(...names.map((name) => name.length));
  const sizeColumns = Math.max(...own.map((disk) => sizeInWords(disk.sizeBytes).length));
  const rowOf = (disk: DiskView) => {
    const { text, tone } = diskWords(disk);
    const name = shortName(disk.path);
    const size = sizeInWords(disk.sizeBytes).padStart(sizeColumns);
    const before = `${name.padEnd(nameColumns)}  ${size}  `;
    return {
      text: before + text,
      hang: before.length,
      tone,
      news: `Disk ${name} (${sizeInWords(disk.sizeBytes)}) ${text}`,
    };
  };
  if (own.length <= rowsMax) return labelled("Disks", own.map(rowOf));
  const inUse = own.filter((disk) => disk.state === "ready");
  const others = own.filter((disk) => disk.state !== "ready");
  others.sort((one, other) => Number(other.state === "failed") - Number(one.state === "failed"));
  const bytes = inUse.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  const summary = { text: `${inUse.length} in use, ${sizeInWords(bytes)}`, tone: "plain" as Tone };
  const more = (left: number) => ({ text: `and ${left} more not in use`, tone: "plain" as Tone });
  const named = firstOf(others.map(rowOf), Math.max(1, rowsMax - 1), more);
  return labelled("Disks", [{ ...summary, news: `Disks ${summary.text}` }, ...named]);
}

function shortName(path: string): string {
  return clipStart(path.replace(/^\/dev\//, ""), DISK_NAME_COLUMNS_MAX);
}

function diskWords({ state, reason }: DiskView): { text: string; tone: Tone } {
  switch (state) {
    case "ready":
      return { text: "in use", tone: "plain" };
    case "open":
      return { text: "joins the pool", tone: "plain" };
    case "opening":
      return { text: "being opened", tone: "plain" };
    case "refused":
      return { text: `left alone: ${shortReason(reason)}`, tone: "quiet" };
    case "failed":
      return { text: `failed: ${shortReason(reason)}`, tone: "alarm" };
    default:
      return { text: shortReason(reason), tone: "plain" };
  }
}

/** "left alone: it holds a signature of ext4" → "holds ext4" */
function shortReason(reason: string): string {
  return reason
    .replace(/^(left alone|taken out of use): /, "")
    .replaceAll(/(^|; )it /g, "$1")
    .replaceAll("a signature of ", "");
}

/** Which version runs, and what the other slot is good for. */
export function softwareRows(facts: ScreenFacts): Row[] {
  const rows: Row[] = [];
  const { slots, update } = facts;
  const running = slots.find((slot) => slot.running);
  if (running !== undefined) {
    const other = slots.find((slot) => !slot.running);
    const trial = running.state === "trial" ? " on trial" : "";
    let text = `${running.version}${trial}`;
    if (other?.state === "bad") text += `; ${other.version} is set aside`;
    else if (other !== undefined && nextSlot(slots) === other) {
      text += `; ${other.version} begins with the next restart`;
    } else if (other !== undefined) text += `; ${other.version} to fall back to`;
    rows.push({ label: "Software", text, tone: "plain", news: `Software ${text}` });
  }
  if (update !== null) {
    // A percentage is no news.
    const news = `Update: ${update.replace(/ \(\d+ %\)$/, "")}`;
    rows.push({ label: "Update", text: update, tone: "plain", news });
  }
  return rows;
}

function someOf(names: readonly string[]): string {
  const shown = names.slice(0, UNITS_NAMED_MAX).join(", ");
  const left = names.length - UNITS_NAMED_MAX;
  return left > 0 ? `${shown} and ${left} more` : shown;
}

/** All of them, or as many as leave a row to say how many are left. */
function firstOf<T>(all: readonly T[], countMax: number, more: (left: number) => T): T[] {
  if (all.length <= countMax) return [...all];
  const kept = all.slice(0, Math.max(0, countMax - 1));
  return [...kept, more(all.length - kept.length)];
}

/** The label stands before the first of them. */
function labelled(
  label: string,
  rows: readonly { text: string; tone: Tone; news?: string; hang?: number }[],
  newsOf: (text: string) => string = (text) => text,
): Row[] {
  return rows.map((row, at) => ({
    label: at === 0 ? label : "",
    news: newsOf(row.text),
    ...row,
  }));
}
