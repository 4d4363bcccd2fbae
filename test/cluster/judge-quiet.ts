// SPDX-License-Identifier: Apache-2.0
//
// Judged: how soon a cluster is there, what it costs when idle, and that a machine that is busy
// with other things makes nobody fail over.

import path from "node:path";
import { assembled, createVolume, oneCluster, voters } from "./assembled.ts";
import { LIMIT_MS, MIB, Probes, VOLUME, healed, leads, startCluster } from "./cluster-fixture.ts";
import type { Judgement } from "./judge-figures.ts";
import { Lab } from "./lab.ts";
import { pause } from "./until.ts";

const SETTLE_MS = 40_000;
const IDLE_MS = 60_000;
const TRAFFIC_MS = 30_000;
const MEGABYTE = 1_000_000;
const BUSY_LOOPS = 8;
const LOOK_MS = 1_000;
const SLICE_BYTES = 64 * MIB;

export async function judgeStarts(judgement: Judgement, times: number): Promise<void> {
  for (let time = 1; time <= times; time++) {
    judgement.note(`start ${time} of ${times}`);
    await using lab = new Lab({
      unit: { diskBytes: 512 * MIB, settings: { sliceBytes: SLICE_BYTES } },
    });
    for (const role of ["member", "member", "member", "spare"] as const) lab.add({ role });
    for (const unit of lab.units) unit.start();
    const start = performance.now();
    const passed = () => (performance.now() - start) / 1000;
    const wish = {
      name: VOLUME,
      sizeBytes: SLICE_BYTES,
      protection: "mirror-2" as const,
    };
    const tryIt = () => lab.anyApi().createVolume(wish, { dryRun: true });
    await lab.until("a first volume is possible", tryIt, LIMIT_MS, { lookMs: 50 });
    judgement.add("first volume possible", passed(), { unit: "s", most: 15 });
    await createVolume(lab, wish, LIMIT_MS);
    judgement.add("first volume created", passed(), { unit: "s", most: null });
    await lab.until("three voters", () => voters(lab, 3), LIMIT_MS, { lookMs: 50 });
    judgement.add("three voters", passed(), { unit: "s", most: 25 });
    await lab.until("all assembled", () => assembled(lab), LIMIT_MS);
  }
}

/** As it came up, after it served, and after every unit was started again: the same promise. */
export async function judgeIdle(judgement: Judgement): Promise<void> {
  await using lab = await startCluster({ spares: 1 });
  await measureIdle(judgement, lab, "");
  {
    await using probes = new Probes(lab, lab.units);
    await probes.write();
    await pause(TRAFFIC_MS);
    await probes.finish();
  }
  await measureIdle(judgement, lab, " after traffic");
  for (const unit of lab.units) {
    await unit.stop();
    unit.start();
    await healed(lab);
  }
  await measureIdle(judgement, lab, " after restarts");
}

async function measureIdle(judgement: Judgement, lab: Lab, when: string): Promise<void> {
  judgement.note(`idle${when}: ${SETTLE_MS / 1000} s to settle, ${IDLE_MS / 1000} s measured`);
  await pause(SETTLE_MS);
  const before = lab.units.map((unit) => unit.usage().cpuSeconds);
  await pause(IDLE_MS);
  const states = await oneCluster(lab);
  for (const [index, unit] of lab.units.entries()) {
    const { rssBytes, pssBytes, cpuSeconds } = unit.usage();
    const votes = states.find((status) => status.name === unit.name)?.voter === true;
    const who = `${votes ? "with a voter" : "without a voter"}${when}`;
    const percent = (100 * (cpuSeconds - (before[index] ?? 0))) / (IDLE_MS / 1000);
    judgement.add(`idle memory ${who}`, rssBytes / MEGABYTE, {
      unit: "MB RSS",
      most: votes ? 150 : 80,
    });
    judgement.add(`idle memory, shared once, ${who}`, pssBytes / MEGABYTE, {
      unit: "MB",
      most: null,
    });
    judgement.add(`idle CPU ${who}`, percent, { unit: "% of a core", most: votes ? 3 : 1 });
  }
}

/** Nobody fails over while the machine is busy: same heads, control station, etcd leader. */
export async function judgeStorm(judgement: Judgement, minutes: number): Promise<void> {
  await using lab = await startCluster();
  const first = await leads(lab);
  const doors = lab.units.filter((unit) => unit !== first.head);
  await using probes = new Probes(lab, doors);
  await probes.write();
  for (let loop = 0; loop < BUSY_LOOPS; loop++) {
    lab.spawn("busy", "sh", ["-c", "while :; do :; done"]);
  }
  const file = path.join(lab.folder, "fsync");
  const write = `dd if=/dev/zero of=${file} bs=4k count=1 conv=fsync`;
  lab.spawn("fsync", "sh", ["-c", `while :; do ${write} 2>/dev/null; done`]);
  judgement.note(`${BUSY_LOOPS} busy loops and an fsync loop for ${minutes} minutes`);
  const start = performance.now();
  let seen = await lookAtLeads(lab);
  let failovers = 0;
  let memberships = 0;
  while (performance.now() - start < minutes * 60_000) {
    await pause(LOOK_MS);
    const now = await lookAtLeads(lab);
    if (now.leads !== seen.leads) failovers++;
    else if (now.epochs !== seen.epochs) memberships++;
    else continue;
    const at = ((performance.now() - start) / 1000).toFixed(0);
    judgement.note(`  at ${at} s: ${seen.leads} ${seen.epochs} -> ${now.leads} ${now.epochs}`);
    seen = now;
  }
  const { directMs, inbandMs } = probes.gapsSince(start);
  await probes.finish();
  judgement.add("failovers under load", failovers, { unit: "", most: 0 });
  // A member that made no progress for 5 s was dropped, or came back (R13).
  judgement.add("changes of membership under load", memberships, { unit: "", most: null });
  judgement.add("longest gap under load", Math.max(directMs, inbandMs) / 1000, {
    unit: "s",
    most: null,
  });
}

/** Who leads what, and each slice's epoch. */
async function lookAtLeads(lab: Lab): Promise<{ leads: string; epochs: string }> {
  const look = async () => {
    const { slices } = await lab.anyApi().volume(VOLUME);
    const { station, etcd } = await leads(lab);
    const heads = slices.map(({ head }) => head).join(" ");
    return {
      leads: `heads ${heads}, station ${station.name}, etcd ${etcd.name}`,
      epochs: slices.map(({ epoch }) => epoch).join(" "),
    };
  };
  return lab.until("who leads", look, LIMIT_MS);
}
