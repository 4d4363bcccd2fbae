// SPDX-License-Identifier: Apache-2.0
//
// How the cluster is, in plain words, and what its administrator may do next. Pure: it judges what
// was read, worst first, and says where it does not know.

import type { DiskView, UnitView, VolumeView } from "#appliance/backend.ts";
import { CANARY_NAME } from "#cluster/drill-changes.ts";
import type { Reading } from "./reading.ts";

export type Tone = "good" | "notice" | "bad";

export interface Health {
  tone: Tone;
  sentence: string;
  because: string[];
}

export interface Step {
  text: string;
  href: string;
  label: string;
}

/** From here on the pages say how old their knowledge is. */
export const STALE_MS = 1000;
const NAMED_MAX = 3;

export function healthOf(seen: Reading): Health {
  const { status, volumes } = seen;
  if (status.cluster === null) {
    return { tone: "notice", sentence: "This unit is in no cluster yet.", because: [] };
  }
  const bad = unreachable(volumes ?? []);
  const notices = noticesOf(seen);
  if (bad.length > 0) {
    return {
      tone: "bad",
      sentence: "Hosts cannot use all volumes.",
      because: [...bad, ...notices],
    };
  }
  if (notices.length > 0) {
    const sentence = "Hosts are served, but something needs attention.";
    return { tone: "notice", sentence, because: notices };
  }
  const sentence =
    volumes === null || volumes.length === 0
      ? "All is well: the cluster is ready for its first volume."
      : "All is well: every volume is served and has all its copies.";
  return { tone: "good", sentence, because: [] };
}

function unreachable(volumes: readonly VolumeView[]): string[] {
  const words = { offline: "offline", waiting: "waiting", "read-only": "read-only" } as const;
  return Object.entries(words).flatMap(([availability, word]) => {
    const named = volumes.filter((one) => one.availability === availability);
    return named.length === 0 ? [] : [`${counted(named, "volume")} ${isAre(named)} ${word}`];
  });
}

function noticesOf({ status, units, disks, volumes, recovery }: Reading): string[] {
  const found: string[] = [];
  if (status.staleMs >= STALE_MS) found.push("the control station does not answer");
  if (status.wrongMedium !== null) found.push(`a boot medium is wrong: ${status.wrongMedium}`);
  if (status.otherClusters.length > 0) {
    const named = status.otherClusters.slice(0, NAMED_MAX).join(", ");
    found.push(`another cluster in use has the same join secret and is near: ${named}`);
  }
  for (const { name, maintenance } of units ?? []) {
    if (maintenance !== null) found.push(`${name} is in maintenance: ${maintenance.sentence}`);
  }
  const away = (units ?? []).filter((unit) => !unit.alive && unit.maintenance === null);
  if (away.length > 0) found.push(`${counted(away, "unit")} ${isAre(away)} away`);
  const failed = disks.filter((disk) => disk.state === "failed");
  if (failed.length > 0) found.push(`${failed.length} ${plural(failed, "disk")} failed`);
  const lacking = (volumes ?? []).filter((one) => one.state !== "protected");
  if (lacking.length > 0) {
    const lack = lacking.length === 1 ? "lacks" : "lack";
    found.push(`${counted(lacking, "volume")} ${lack} copies`);
  }
  return [...found, ...recovery.deadline.problems];
}

/** `2 volumes (one, two)`; of many only the first ones by name. */
function counted(named: readonly { name: string }[], word: string): string {
  const names = named.slice(0, NAMED_MAX).map((one) => one.name);
  if (named.length > NAMED_MAX) names.push("…");
  return `${named.length} ${plural(named, word)} (${names.join(", ")})`;
}
function plural(list: readonly unknown[], word: string): string {
  return list.length === 1 ? word : `${word}s`;
}
function isAre(list: readonly unknown[]): string {
  return list.length === 1 ? "is" : "are";
}

/** How a unit is, for its mark: one in maintenance may be away. */
export function unitTone({ alive, maintenance }: UnitView): Tone {
  if (maintenance !== null) return "notice";
  return alive ? "good" : "bad";
}

/** How a volume is, for its mark. */
export function volumeTone(volume: VolumeView): Tone {
  if (volume.availability !== "online") return "bad";
  return volume.state === "protected" ? "good" : "notice";
}

export function volumeWords(volume: VolumeView): string {
  const percent = volume.rebuildingPercent === null ? "" : ` ${volume.rebuildingPercent} %`;
  return `${volume.availability}, ${volume.state}${percent}`;
}

export function diskTone(disk: DiskView): Tone {
  if (disk.state === "ready") return "good";
  return disk.state === "failed" ? "bad" : "notice";
}

export interface Capacity {
  disks: number;
  totalBytes: number;
  freeBytes: number;
  /** Promised to volumes, copies counted. */
  usedBytes: number;
}

/** Of the disks that take slices now. */
export function capacityOf(disks: readonly DiskView[]): Capacity {
  const ours = disks.filter((disk) => disk.disk !== 0 && disk.state === "ready");
  const totalBytes = ours.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  const freeBytes = ours.reduce((sum, disk) => sum + disk.freeBytes, 0);
  return { disks: ours.length, totalBytes, freeBytes, usedBytes: totalBytes - freeBytes };
}

export function nextSteps(seen: Reading, hasPassword: boolean): Step[] {
  const steps: Step[] = [];
  const { status, units, disks, volumes, strangers } = seen;
  if (status.cluster === null) {
    return [{ text: status.sentence, href: "/setup", label: "See what this unit found" }];
  }
  if (!hasPassword) {
    const text = "No password is set: only a token lets people in here.";
    steps.push({ text, href: "/account", label: "Set a password" });
  }
  if (volumes !== null && volumes.length === 0) {
    const text = "There is no volume yet.";
    steps.push({ text, href: "/setup", label: "Make the first volume" });
  }
  const waiting = (seen.requests ?? []).filter((request) => request.state === "waiting");
  if (waiting.length > 0) {
    const text = `${waiting.length} ${plural(waiting, "request")} of hosts for a volume.`;
    steps.push({ text, href: "/hosts#requests", label: "Grant or refuse" });
  }
  const meant = (volumes ?? []).filter(
    ({ name, deletedAtMs }) => name !== CANARY_NAME && deletedAtMs === null,
  );
  const closed = meant.find((volume) => volume.hosts.length === 0);
  if (closed !== undefined) {
    const text = `Nobody may attach to ${closed.name} yet.`;
    const href = `${volumePath(closed)}#hosts`;
    steps.push({ text, href, label: "Say which hosts may" });
  }
  if (strangers.length > 0) {
    const text = `${strangers.length} ${plural(strangers, "unit")} without a join secret nearby.`;
    steps.push({ text, href: "/setup", label: "Compare their words" });
  }
  const out = disks.find((disk) => disk.state === "failed" && disk.disk !== 0);
  if (out !== undefined) {
    const text = `Disk ${out.disk} is out of use. Put it back, return it to use, or replace it.`;
    steps.push({ text, href: `/disks/${out.disk}`, label: "See the disk" });
  }
  const unused = disks.filter((disk) => disk.disk === 0);
  if (unused.length > 0) {
    const text = `${unused.length} ${plural(unused, "disk")} not in use.`;
    steps.push({ text, href: "/disks", label: "See why" });
  }
  const stay = (units ?? []).filter((unit) => unit.evacuation === null);
  if (stay.length === 2) {
    const text =
      "With two units one of them has the only vote. A third vote, on any Linux machine, keeps " +
      "volumes going whichever fails.";
    steps.push({ text, href: "/units#losses", label: "See what stops when, and how to add one" });
  }
  if (units !== null && units.length === 1) {
    const text = "One unit alone keeps no second copy. Add one with the same join secret.";
    steps.push({ text, href: "/units", label: "See the units" });
  }
  return steps;
}

/** Where a disk that was left alone is used all the same. */
export function claimPath(path: string): string {
  return `/disks/claim?${new URLSearchParams({ path }).toString()}`;
}

/** By name; one named as the form for new ones by its number. */
export function volumePath({ name, volume }: Pick<VolumeView, "name" | "volume">): string {
  return `/volumes/${encodeURIComponent(name === "new" ? String(volume) : name)}`;
}
