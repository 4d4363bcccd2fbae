// SPDX-License-Identifier: Apache-2.0
//
// Again and again the head of a volume with three copies is cut off, or stands still and wakes as
// a head of the past, while hosts write directly and in-band. They go on, and nothing that was
// acked is lost. Root only.
//
// Guards H1, H6 and R2 to R4 of the contract on real processes. Three copies: a member that left
// soon before waits longer each time before it comes back (R13), and another can take over
// meanwhile.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { headOf } from "./assembled.ts";
import {
  LIMIT_MS,
  MIB,
  Probes,
  SLICE_BYTES,
  VOLUME,
  anotherHead,
  safeAgain,
  startCluster,
} from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { Lost, NbdClient } from "./nbd-client.ts";
import { PROBE_BLOCK_BYTES } from "./probe.ts";

const TIMES = 10;
const NBD_PORT = 10809;
/** Beside what the probes write to. */
const LATE_AT = 8 * MIB;
/** More than the kernels between two machines hold. */
const READ_BYTES = 4 * MIB;
const READS = 8;
/** A patience that hosts have (the probes' own). */
const HOST_GIVES_UP_MS = 4000;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ volumeBytes: SLICE_BYTES, protection: "mirror-3" });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

function attached(unit: LabUnit): Promise<NbdClient> {
  return NbdClient.open({ host: unit.address, port: NBD_PORT, name: VOLUME }, LIMIT_MS);
}

/** Whether this machine's kernel still has bytes for the unit of a connection that was given up. */
function isStillSending(unit: LabUnit): boolean {
  const words = ["-Htn", "state", "fin-wait-1", "dst", `${unit.address}:${NBD_PORT}`];
  const seen = spawnSync("ss", words, { encoding: "utf8" });
  if (seen.status !== 0) throw new Error(`ss: ${seen.stderr}`);
  return seen.stdout.trim() !== "";
}

/** Whether the unit's kernel knows of a connection that a program there still has. */
function hasHost(unit: LabUnit): boolean {
  const ask = ["ss", "-Htn", "state", "established", "sport", `:${NBD_PORT}`];
  const words = ["netns", "exec", unit.namespace, ...ask];
  const seen = spawnSync("ip", words, { encoding: "utf8" });
  if (seen.status !== 0) throw new Error(`ss in ${unit.namespace}: ${seen.stderr}`);
  return seen.stdout.trim() !== "";
}

const ways = [
  {
    name: "its cable is pulled",
    away: (unit: LabUnit) => lab.network.cut(unit.place),
    back: (unit: LabUnit) => lab.network.heal(unit.place),
  },
  {
    name: "it stands still",
    away: (unit: LabUnit) => unit.freeze(),
    back: (unit: LabUnit) => unit.thaw(),
  },
];
test(
  "a host gave up a unit, wrote elsewhere → what its network still brings is void (H7)",
  async () => {
    const head = await lab.until("the head", () => headOf(lab, VOLUME), LIMIT_MS);
    const block = (words: string) => Buffer.alloc(PROBE_BLOCK_BYTES, words);
    const first = await attached(head);
    await first.write(LATE_AT, block("first "));
    lab.network.cut(head.place);
    // Its bytes stay in this machine's kernel, which goes on sending them, also after the end.
    first.abandonAfter(HOST_GIVES_UP_MS);
    const late = await first.write(LATE_AT, block("late ")).catch((error: unknown) => error);
    expect(late).toBeInstanceOf(Lost);
    const other = await lab.until("another head", () => anotherHead(lab, head), LIMIT_MS);
    using second = await attached(other);
    await second.write(LATE_AT, block("newer "));
    expect(isStillSending(head)).toBe(true);
    lab.network.heal(head.place);
    await lab.until("all sent", async () => (isStillSending(head) ? null : true), LIMIT_MS);
    await safeAgain(lab);
    expect(await second.read(LATE_AT, PROBE_BLOCK_BYTES)).toEqual(block("newer "));
  },
  3 * LIMIT_MS,
);

test(
  "a host waits for replies that a cut took → it hears that its connection ended",
  async () => {
    const head = await lab.until("the head", () => headOf(lab, VOLUME), LIMIT_MS);
    const host = await attached(head);
    // All asked for and acknowledged before: its kernel has nothing more to send, and learns
    // nothing.
    const ask = () => host.read(0, READ_BYTES).catch((error: unknown) => error);
    const reads = Array.from({ length: READS }, ask);
    await Promise.race(reads);
    lab.network.cut(head.place);
    const letGo = async () => (hasHost(head) ? null : true);
    await lab.until("the unit let it go", letGo, LIMIT_MS);
    expect(host.lost).toBe(false);
    lab.network.heal(head.place);
    await lab.until("the host heard", async () => host.lost || null, LIMIT_MS);
    expect((await Promise.all(reads)).at(-1)).toBeInstanceOf(Lost);
    await safeAgain(lab);
  },
  3 * LIMIT_MS,
);

for (const { name, away, back } of ways) {
  test(
    `${name}, ${TIMES} times → another takes over each time, nothing acked is lost`,
    async () => {
      await using probes = new Probes(lab, lab.units);
      const heads = new Set<string>();
      for (let time = 1; time <= TIMES; time++) {
        const head = await lab.until("the head", () => headOf(lab, VOLUME), LIMIT_MS);
        heads.add(head.name);
        await probes.write();
        away(head);
        await lab.until("another head", () => anotherHead(lab, head), LIMIT_MS);
        await probes.write();
        back(head);
        // A daemon that finds itself wrong about the time may end; then it is started, as on a box.
        if (!head.running) head.start();
        await safeAgain(lab);
      }
      expect(heads.size).toBeGreaterThan(1);
      await probes.finish();
    },
    TIMES * LIMIT_MS,
  );
}
