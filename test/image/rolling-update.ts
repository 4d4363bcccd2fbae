// SPDX-License-Identifier: Apache-2.0
//
// A rolling update of booted boxes, watched from outside as their owner would: which boxes were
// restarted and in which order, what was away at once, whether the volume was ever not online, and
// who fetched the release. Some ten minutes of two cores, so that CI leaves it out:
// CAIRN_ROLLING_UPDATE=1 asks for it.

import path from "node:path";
import type { UpdateStatusView } from "#appliance/update-backend.ts";
import { Hopeless, need } from "#test/cluster/until.ts";
import { BOOT_MS, CHANGE_MS, apiOf, type Owner } from "./appliances.ts";
import type { Box } from "./box.ts";
import { ReleaseWorkshop } from "./next-release.ts";
import type { Rack } from "./rack.ts";
import { load, loaded, serveReleases, settledOn, start, updateStatus } from "./updates.ts";

/** Of the whole roll: three boxes, each of which may take as long as a boot. */
const ROLL_MS = 4 * BOOT_MS;

export function rollingUpdateWanted(): boolean {
  const wish = process.env["CAIRN_ROLLING_UPDATE"] ?? "0";
  if (!["0", "1"].includes(wish)) throw new Error("CAIRN_ROLLING_UPDATE is 0 or 1");
  return wish === "1";
}

export interface RollSeen {
  /** Names, in the order in which they were restarted. */
  restarted: string[];
  /** The most that were away at once. */
  awayMax: number;
  /** Each look at which the volume was not online, in words. */
  notOnline: string[];
  /** Addresses that asked the web server for the release. */
  fetchedBy: ReadonlySet<string>;
  seconds: number;
}

/** Makes the next release, loads it onto the first box alone, and lets the cluster roll to it. */
export async function rollOver(rack: Rack, owner: Owner, volume: string): Promise<RollSeen> {
  const version = nextOf(rack.release.version);
  const folder = path.join(rack.folder, "releases");
  const release = new ReleaseWorkshop(rack.release, folder).make(version);
  const fetchedBy = new Set<string>();
  const urlOf = serveReleases(rack, folder, (address) => fetchedBy.add(address));
  const first = rack.box(1);
  await load(first, owner, urlOf(release));
  const status = await loaded(rack, first, owner);
  if (status.holds !== version) throw new Error(`not loaded: ${JSON.stringify(status.failed)}`);
  const resets = new Map(rack.boxes.map((box) => [box, box.resets().byGuest]));
  const beganMs = performance.now();
  // Nothing goes offline in a cluster of three with a mirrored volume: there is nothing to accept.
  await start(first, owner, { version, accept: false });
  const seen: RollSeen = { restarted: [], awayMax: 0, notOnline: [], fetchedBy, seconds: 0 };
  const look = async () => {
    const now = await byAny(rack.boxes, (box) => updateStatus(box, owner));
    for (const [box, before] of resets) {
      const isNew = box.resets().byGuest > before && !seen.restarted.includes(box.name);
      if (isNew) seen.restarted.push(box.name);
    }
    seen.awayMax = Math.max(seen.awayMax, now.units.filter((unit) => !unit.alive).length);
    const { availability, sentence } = await byAny(rack.boxes, (box) =>
      apiOf(box, owner).volume(volume),
    );
    if (availability !== "online") seen.notOnline.push(`${availability}: ${sentence}`);
    return rolled(now);
  };
  await rack.until(`all boxes on ${version}`, look, ROLL_MS, { lookMs: 1000 });
  for (const box of rack.boxes) {
    const settled = () => settledOn(box, owner, version);
    await rack.until(`${box.name} settled on ${version}`, settled, CHANGE_MS, { lookMs: 1000 });
  }
  return { ...seen, seconds: (performance.now() - beganMs) / 1000 };
}

function nextOf(version: string): string {
  const [major, minor, patch] = version.split(".").map(Number);
  return `${major}.${minor}.${(patch ?? 0) + 1}`;
}

/** Throws for good where the roll has stopped. */
function rolled({ roll }: UpdateStatusView): true {
  if (roll?.state === "stopped") throw new Hopeless(`the roll has stopped: ${roll.sentence}`);
  need(roll?.state === "done", `${roll?.state}: ${roll?.sentence} ${roll?.current?.phase ?? ""}`);
  return true;
}

/** The answer of the first box that gives one: one of them may be restarting. */
async function byAny<T>(boxes: readonly Box[], ask: (box: Box) => Promise<T>): Promise<T> {
  const silent: string[] = [];
  for (const box of boxes) {
    try {
      return await ask(box);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      silent.push(`${box.name}: ${error.message}`);
    }
  }
  throw new Error(`no box answers: ${silent.join("; ")}`);
}
