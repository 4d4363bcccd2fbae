// SPDX-License-Identifier: Apache-2.0
//
// Judged: packets that somebody changed on their way, a million of them, on every port that hosts
// and units speak to; a host that behaves beside them.

import { readFileSync } from "node:fs";
import { heldMiB, slopeOf } from "#test/bench/figures.ts";
import { MutantStorm } from "#test/fuzz/mutant-storm.ts";
import { SteadyHost } from "#test/fuzz/steady-host.ts";
import { assembled, createVolume } from "./assembled.ts";
import { LIMIT_MS, MIB } from "./cluster-fixture.ts";
import type { Judgement } from "./judge-figures.ts";
import { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { pause } from "./until.ts";

const STEPS = 10;
/** Of each ten packets; the rest are of NBD. */
const DISCOVERY_SHARE = 0.5;
const PEER_SHARE = 0.1;
const SLICE_BYTES = 32 * MIB;
const STEADY_BLOCKS = 2048;
const SEED = 31;
/** Garbage is no leak: what counts is what a unit holds when it has been quiet for a while. */
const QUIET_MS = 20_000;
/** What the collector may leave, MiB per million packets. */
const SLOPE_MAX = 8;

export async function judgeMutants(judgement: Judgement, packets: number): Promise<void> {
  await using lab = new Lab();
  const heard: Buffer[] = [];
  const udp = await Bun.udpSocket({
    hostname: lab.hostAddress,
    port: 0,
    socket: { data: (_, bytes) => void heard.push(Buffer.from(bytes)) },
  });
  lab.atEnd(() => udp.close());
  const unit = lab.add({
    diskBytes: 512 * MIB,
    settings: { sliceBytes: SLICE_BYTES, unicastPeers: [`${lab.hostAddress}:${udp.port}`] },
  });
  unit.start();
  await lab.until("one cluster", () => assembled(lab), LIMIT_MS);
  for (const name of ["steady", "mangled"]) {
    await createVolume(lab, { name, sizeBytes: SLICE_BYTES, protection: "none" }, LIMIT_MS);
  }
  await lab.until("a packet of the unit", () => (heard.length > 0 ? true : null), LIMIT_MS);
  const { ports } = await unit.api.status();
  const storm = new MutantStorm(
    {
      address: unit.address,
      nbdPort: 10809,
      peerPort: ports.peer as number,
      discoveryPort: ports.autoconfig as number,
      volume: { name: "mangled", sizeBytes: SLICE_BYTES },
      joinSecret: lab.joinSecret,
      heard,
      settled: async () => void (await unit.api.status()),
    },
    SEED,
  );
  const host = { host: unit.address, port: 10809, name: "steady" };
  const pid = unit.pid ?? 0;
  // The first step warms up what is made once: it counts for nothing but crashes.
  const step = Math.ceil(packets / STEPS);
  const held: number[] = [];
  let longestMs = 0;
  for (let index = 0; index <= STEPS; index++) {
    const steady = await SteadyHost.begin(host, SEED + index, STEADY_BLOCKS);
    await storm.discovery(step * DISCOVERY_SHARE);
    await storm.peers(step * PEER_SHARE);
    await storm.nbd(step * (1 - DISCOVERY_SHARE - PEER_SHARE));
    unit.stillRuns();
    const peak = heldMiB(pid);
    const beside = await steady.finish();
    longestMs = Math.max(longestMs, beside.longestMs);
    await pause(QUIET_MS);
    const quiet = heldMiB(pid);
    if (index > 0) held.push(quiet);
    judgement.note(
      `  ${storm.sent} packets, ${beside.writes} blocks written beside and ${beside.reads} ` +
        `compared; ${peak.toFixed(1)} MiB held, ${quiet.toFixed(1)} at rest`,
    );
  }
  judgement.add("mutated packets", storm.sent, { unit: "", most: null });
  judgement.add("restarts", unit.pid === pid ? 0 : 1, { unit: "", most: 0 });
  judgement.add("errors in the unit's log", errorsIn(unit), { unit: "", most: 0 });
  const perMillion = slopeOf(held) * (1_000_000 / step);
  judgement.add("memory slope", perMillion, { unit: "MiB per million", most: SLOPE_MAX });
  judgement.add("longest wait of the host beside", longestMs, { unit: "ms", most: null });
}

function errorsIn(unit: LabUnit): number {
  const lines = readFileSync(unit.logFile, "utf8").trim().split("\n");
  return lines.filter((line) => !line.startsWith("{") || line.includes('"level":"error"')).length;
}
