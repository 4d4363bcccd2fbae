// SPDX-License-Identifier: Apache-2.0
//
// How long pages and the API take in a large cluster: 100 units, 1,000 disks, 2,000 volumes, 500
// hosts, made up as control state, read by a unit's own backend and rendered by its own console. A
// report for a person; no test passes or fails by it.
//
//   bun test/bench/console-scale.ts [--rounds 5] [--only /volumes]

import { parseArgs } from "node:util";
import { createApi } from "#appliance/api/api.ts";
import { UNIT_TOKEN, consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { sessionCookie } from "#appliance/console/sessions.ts";
import { IoHistory } from "#appliance/io-history.ts";
import { MemoryUpdates } from "#appliance/api/memory-updates-fixture.ts";
import { MemoryNeighbours } from "#appliance/api/memory-neighbours-fixture.ts";
import { UnitBackend } from "#appliance/unit-backend.ts";
import type { Unit } from "#appliance/unit.ts";
import { firstState, keys, valueText } from "#cluster/state.ts";
import { ClusterView } from "#cluster/view.ts";
import { createSeal } from "#machine/seal.ts";

const UNITS = 100;
const DISKS = 1000;
const VOLUMES = 2000;
const HOSTS = 500;
const SLICES_OF_VOLUME = 4;
const GIB = 2 ** 30;
const LIMIT_MS = 300;
const HOST = "box1:7480";
const PATHS = [
  "/",
  "/volumes",
  "/volumes?page=20",
  "/volumes?q=volume-1999",
  "/volumes/volume-1000",
  "/volumes/new",
  "/hosts",
  "/hosts/500",
  "/pools",
  "/units",
  "/units/7",
  "/disks",
  "/disks?page=10",
  "/disks/500",
  "/recovery",
  "/events",
  "/events?q=1999",
  "/settings",
  "/settings/users",
  "/account",
  "/setup",
  "/api/v1/units",
  "/api/v1/disks",
  "/api/v1/volumes",
  "/api/v1/hosts",
  "/api/v1/losses",
  "/api/v1/questions",
  "/api/v1/jobs",
  "/api/v1/pools",
  "/metrics",
];

const hex = (number: number, digits: number) => number.toString(16).padStart(digits, "0");

/** The whole control state, as a reading of the store gives it. */
function largeView(): ClusterView {
  const puts = firstState({ uuid: hex(1, 32), name: "large", featureLevel: 1, sliceBytes: GIB });
  const put = (key: string, record: object) => puts.push({ key, value: valueText(record) });
  for (let unit = 1; unit <= UNITS; unit++) {
    const addresses = [`10.0.${unit}.1`, `10.1.${unit}.1`];
    const ports = { peer: 10810, nbd: 10809, api: 7480, control: 7481 };
    const ula = `fd00::${hex(unit, 4)}`;
    const named = { number: unit, name: `box${unit}`, addresses, ports, ula };
    const identity = { id: hex(unit, 32), publicKey: hex(unit, 64), featureLevel: 1 };
    const place = { role: unit > 96 ? "spare" : "member", pool: unit > 96 ? null : "pool" };
    const rest = { version: "0.1.0", state: "admitted", admittedAtMs: 0 };
    put(keys.unit(unit), { ...named, ...identity, ...place, ...rest });
    if (unit !== 50) put(keys.aliveOf(unit), { unit, run: hex(unit, 32) });
  }
  for (let disk = 1; disk <= DISKS; disk++) {
    const unit = ((disk - 1) % UNITS) + 1;
    const of = { number: disk, unit, uuid: hex(disk, 32), path: `/dev/disk${disk}` };
    put(keys.disk(disk), { ...of, sizeBytes: 4096 * GIB, incarnation: 1, state: "ready" });
  }
  for (let host = 1; host <= HOSTS; host++) {
    const addresses = [`10.2.${host >> 8}.${host & 255}`];
    put(keys.host(host), { number: host, name: `host${host}`, addresses, createdAtMs: 0 });
  }
  for (let volume = 1; volume <= VOLUMES; volume++) putVolume(put, volume);
  const view = new ClusterView();
  const known = { modRevision: 1, createRevision: 1, lease: "" };
  view.reset({ entries: puts.map((entry) => ({ ...entry, ...known })), revision: 1 });
  return view;
}

function putVolume(put: (key: string, record: object) => void, volume: number): void {
  const first = (volume - 1) * SLICES_OF_VOLUME + 1;
  const slices = Array.from({ length: SLICES_OF_VOLUME }, (_, at) => first + at);
  put(keys.volume(volume), {
    number: volume,
    uuid: hex(volume, 32),
    name: `volume-${volume}`,
    sizeBytes: SLICES_OF_VOLUME * GIB,
    protection: "mirror-2",
    sliceBytes: GIB,
    slices,
    pool: "pool",
    hosts: [(volume % HOSTS) + 1],
    state: "ready",
  });
  for (const [index, slice] of slices.entries()) {
    const head = (slice % (DISKS - 1)) + 1;
    const inSync = [head, head + 1].map((disk) => ({ disk, incarnation: 1 }));
    const shape = { slice, volume, index, sizeBytes: GIB, copies: 2, lineage: 1, epoch: 1 };
    put(keys.slice(slice), { ...shape, ancestry: [], head, inSync, resyncing: [] });
  }
}

/** As much of a unit as its backend reads. */
function unitOf(view: ClusterView): Unit {
  const events = Array.from({ length: 1000 }, (_, at) => ({
    number: at + 1,
    atMs: at * 1000,
    severity: at % 10 === 0 ? "warning" : "info",
    kind: "volume-state",
    sentence: `volume volume-${at} serves; it has all its copies`,
  }));
  const voters = [1, 2, 3, 4, 5];
  return {
    life: {
      unit: 1,
      follower: { view },
      voters,
      knownVoters: voters,
      staleMs: 0,
      voter: { votes: true },
    },
    reactor: {
      report: { slices: [], disks: [], links: [], connections: 0, attached: [], waiting: 0 },
      io: new IoHistory(),
    },
    disks: { disks: [] },
    state: { read: () => null },
    discovery: { strangers: [], words: "a b c d", formation: { state: "member" } },
    identity: { unitId: new Uint8Array(16) },
    configuration: { role: "member" },
    claims: { code: null },
    catalog: { events: ({ limit }: { limit: number }) => events.slice(-limit) },
    name: "box1",
    ports: {},
    sentence: "serves",
    stopping: false,
    exportsUnclaimed: true,
    wrongMedium: null,
    uptimeSeconds: () => 1000,
  } as unknown as Unit;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: "string", default: "5" }, only: { type: "string" } },
  });
  const view = largeView();
  const world = {
    clock: { nowMs: () => performance.now(), wallMs: () => Date.now() },
    seal: createSeal(),
    log: { write: () => undefined },
    random: { fill: () => undefined, fraction: () => 0.5 },
  };
  const neighbours = new MemoryNeighbours();
  const timers = { after: () => () => undefined };
  const backend = new UnitBackend(world, unitOf(view), {
    health: { health: () => ({ healthy: true, sentence: "" }) } as never,
    update: new MemoryUpdates(),
    passwords: { verify: async () => true, hash: async () => "" },
    neighbours,
    timers,
    authority: () => null,
    issue: () => null,
  });
  const parts = consoleParts(backend);
  const api = createApi(backend, { ...parts, timers });
  const { token } = parts.sessions.begin(
    (await parts.credentials.prove("admin", UNIT_TOKEN)) ?? "",
  );
  const cookie = sessionCookie(new Request(`http://${HOST}`), token).split(";")[0] ?? "";
  const headers = { host: HOST, cookie };
  console.log("path                              median     worst CPU (mean)    KiB; times in ms");
  for (const path of values.only === undefined ? PATHS : [values.only]) {
    const took: number[] = [];
    const cpu = process.cpuUsage();
    let bytes = 0;
    for (let round = 0; round < Number(values.rounds); round++) {
      const beganMs = performance.now();
      const answer = await api.request(path, { headers }, { asker: "token", from: "" });
      bytes = (await answer.arrayBuffer()).byteLength;
      took.push(performance.now() - beganMs);
      if (answer.status !== 200) throw new Error(`${path}: ${answer.status}`);
    }
    took.sort((one, other) => one - other);
    const median = took[took.length >> 1] ?? 0;
    const worst = took.at(-1) ?? 0;
    const late = worst > LIMIT_MS ? `  over ${LIMIT_MS} ms` : "";
    const used = process.cpuUsage(cpu);
    const cpuMs = (used.user + used.system) / 1000 / took.length;
    const sizes = [cpuMs, bytes / 1024].map((figure) => figure.toFixed(0));
    const figures = [median.toFixed(0), worst.toFixed(0), ...sizes];
    console.log(`${path.padEnd(30)}${figures.map((one) => one.padStart(10)).join("")}${late}`);
  }
}

await main();
