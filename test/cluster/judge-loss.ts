// SPDX-License-Identifier: Apache-2.0
//
// Judged: the service gap when the head is killed (among them head, control station and etcd's
// leader in one), when it is stopped in order, cut off and when it stands still; what a unit that
// was away has to catch up; and that a unit that was wiped is another one. Every round ends with
// all bytes read back.

import { headOf, protectedEverywhere, resyncedBytes } from "./assembled.ts";
import { LIMIT_MS, MIB, Probes, SLICE_BYTES, VOLUME } from "./cluster-fixture.ts";
import { arrange, healed, leads, startCluster } from "./cluster-fixture.ts";
import { moveEtcdLead } from "./etcd-leader.ts";
import type { Judgement } from "./judge-figures.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NbdClient } from "./nbd-client.ts";
import { need, pause } from "./until.ts";

const KILL_GAP = { unit: "s", most: 5 };
const STOP_GAP = { unit: "s", most: 2 };
const CUT_GAP = { unit: "s", most: 8 };
const HANG_GAP = { unit: "s", most: 12 };
const HANG_MS = 60_000;
/** In sync so long, a member has shown that it stays (src/raid/membership.ts). */
const STEADY_MS = 60_000;
const ALL_IN_ONE_EVERY = 4;
/** Regions without writes become inactive within this (R6). */
const QUIET_MS = 8_000;
const CHANGED_EXTENTS = 40;
const BLOCK_BYTES = 4096;
const GIB = 1024 * MIB;

interface Loss {
  name: string;
  act: (unit: LabUnit) => Promise<void>;
  restore?: (unit: LabUnit) => Promise<void>;
  promise: typeof KILL_GAP;
}

/** The gap of one loss, both ways; everything is whole again afterwards. */
async function lose(judgement: Judgement, lab: Lab, victim: LabUnit, how: Loss): Promise<void> {
  const doors = lab.units.filter((unit) => unit !== victim);
  await using probes = new Probes(lab, doors);
  await probes.write();
  const since = performance.now();
  await how.act(victim);
  await probes.write();
  const { directMs, inbandMs } = probes.gapsSince(since);
  await how.restore?.(victim);
  // A daemon that finds itself wrong about the time may end; then it is started, as on a box.
  if (!victim.running) victim.start();
  await healed(lab);
  await probes.write();
  await probes.finish();
  judgement.add(`${how.name}, direct`, directMs / 1000, how.promise);
  judgement.add(`${how.name}, in-band`, inbandMs / 1000, how.promise);
}

export async function judgeKills(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  for (let time = 1; time <= times; time++) {
    const isAllInOne = time % ALL_IN_ONE_EVERY === 0;
    if (isAllInOne) {
      const { head } = await arrange(lab, "head and station in one", (now) => {
        return now.head === now.station;
      });
      await moveEtcdLead(lab, head);
    }
    const now = await leads(lab);
    const parts = [now.head === now.station ? "station" : "", now.head === now.etcd ? "etcd" : ""];
    judgement.note(`kill ${time} of ${times}: ${now.head.name}, head ${parts.join(" ")}`);
    const name = isAllInOne ? "gap, head, station and etcd leader killed" : "gap, head killed";
    await lose(judgement, lab, now.head, {
      name,
      act: (unit) => unit.kill(),
      promise: KILL_GAP,
    });
  }
}

export async function judgeStops(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  for (let time = 1; time <= times; time++) {
    const { head } = await leads(lab);
    judgement.note(`orderly stop ${time} of ${times}: ${head.name}`);
    await lose(judgement, lab, head, {
      name: "gap, head stopped in order",
      act: (unit) => unit.stop(),
      promise: STOP_GAP,
    });
  }
}

/** Its cable is pulled while hosts write, and put back when they go on. */
export async function judgeCuts(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  for (let time = 1; time <= times; time++) {
    const { head } = await leads(lab);
    judgement.note(`cut ${time} of ${times}: ${head.name}`);
    await lose(judgement, lab, head, {
      name: "gap, head cut off",
      act: async (unit) => lab.network.cut(unit.place),
      restore: async (unit) => lab.network.heal(unit.place),
      promise: CUT_GAP,
    });
    // A member that left soon before waits longer each time before it comes back (R13).
    await pause(STEADY_MS);
  }
}

/** It stands still (SIGSTOP) for a minute, and wakes as a head of the past. */
export async function judgeHangs(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  for (let time = 1; time <= times; time++) {
    const { head } = await leads(lab);
    judgement.note(`hang ${time} of ${times}: ${head.name}`);
    const start = performance.now();
    await lose(judgement, lab, head, {
      name: "gap, head stood still",
      act: async (unit) => unit.freeze(),
      restore: async (unit) => {
        await pause(Math.max(0, start + HANG_MS - performance.now()));
        unit.thaw();
      },
      promise: HANG_GAP,
    });
  }
}

async function attached(lab: Lab): Promise<NbdClient> {
  const open = async () => {
    const door = await headOf(lab, VOLUME);
    return NbdClient.open({ host: door.address, port: 10809, name: VOLUME }, LIMIT_MS);
  };
  return lab.until("a host attached", open, LIMIT_MS);
}

/** The unit of the first slice's copy that is not its head. */
async function otherCopy(lab: Lab): Promise<LabUnit> {
  const head = await headOf(lab, VOLUME);
  const first = (await lab.anyApi().volume(VOLUME)).slices.find(({ index }) => index === 0);
  for (const { unit } of first?.members ?? []) {
    const holder = await lab.unitOfNumber(unit);
    if (holder !== head) return holder;
  }
  throw new Error("no second copy");
}

export async function judgeResync(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster({ volumeBytes: SLICE_BYTES });
  {
    using host = await attached(lab);
    const before = Buffer.alloc(MIB, "before ");
    for (let at = 0; at < SLICE_BYTES; at += MIB) await host.write(at, before);
    await host.flush();
  }
  for (let time = 1; time <= times; time++) {
    await healed(lab);
    await pause(QUIET_MS);
    const isHead = time % 2 === 0;
    const unit = isHead ? await headOf(lab, VOLUME) : await otherCopy(lab);
    await unit.kill();
    {
      using host = await attached(lab);
      for (let extent = 0; extent < CHANGED_EXTENTS; extent++) {
        await host.write(extent * MIB, Buffer.alloc(BLOCK_BYTES, `round ${time} `));
      }
      await host.flush();
    }
    const before = await resyncedBytes(lab);
    unit.start();
    await healed(lab);
    const ratio = ((await resyncedBytes(lab)) - before) / (CHANGED_EXTENTS * MIB);
    const promise = { unit: "x changed", most: 1.1 };
    judgement.add(`resync, ${isHead ? "head" : "copy"} came back`, ratio, promise);
  }
}

/**
 * A volume of 100 GiB with 1 GiB written, on sparse disks: a unit with a copy stays away, another
 * takes its place.
 */
export async function judgeThin(judgement: Judgement): Promise<void> {
  const [volumeBytes, writtenBytes] = [100 * GIB, GIB];
  const sliceBytes = 64 * GIB;
  const diskBytes = 256 * GIB;
  const shape = { reprotectAfterMs: 5_000, volumeBytes, sliceBytes, diskBytes };
  await using lab = await startCluster(shape);
  {
    using host = await attached(lab);
    // Spread over both slices.
    for (let extent = 0; extent < writtenBytes / MIB; extent++) {
      await host.write(thinAt(extent), Buffer.alloc(MIB, `extent ${extent} `));
    }
    await host.flush();
  }
  await pause(QUIET_MS);
  const before = await resyncedBytes(lab);
  const unit = await otherCopy(lab);
  await unit.kill();
  const start = performance.now();
  const isMissed = async () => {
    const { state } = await lab.anyApi().volume(VOLUME);
    need(state !== "protected", "the loss was not noticed yet");
    return true;
  };
  await lab.until("the loss noticed", isMissed, LIMIT_MS);
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), 4 * LIMIT_MS);
  judgement.add("thin volume protected anew", (performance.now() - start) / 1000, {
    unit: "s",
    most: null,
  });
  const copied = ((await resyncedBytes(lab)) - before) / writtenBytes;
  judgement.add("copied of a thin 100 GiB volume", copied, { unit: "x written", most: 1 });
  using host = await attached(lab);
  for (let extent = 0; extent < writtenBytes / MIB; extent++) {
    const found = await host.read(thinAt(extent), MIB);
    if (!found.equals(Buffer.alloc(MIB, `extent ${extent} `))) {
      throw new Error(`extent ${extent} differs`);
    }
  }
}

/** Every hundredth MiB. */
function thinAt(extent: number): number {
  return extent * 100 * MIB;
}

export async function judgeWiped(judgement: Judgement): Promise<void> {
  await using lab = await startCluster({ reprotectAfterMs: 5_000, volumeBytes: SLICE_BYTES });
  const unit = await otherCopy(lab);
  const before = await unit.api.status();
  await unit.kill();
  unit.wipe();
  const start = performance.now();
  unit.start();
  const look = async () => {
    const status = await unit.api.status();
    need(status.phase === "joined", status.sentence);
    need(
      status.unitId !== before.unitId && status.unit > before.unit,
      "it came back as the old one",
    );
    await protectedEverywhere(lab, VOLUME);
    return true;
  };
  await lab.until("the wiped unit is a new one, the volume whole", look, LIMIT_MS);
  const seconds = (performance.now() - start) / 1000;
  judgement.add("wiped unit back as a new one", seconds, { unit: "s", most: null });
}
