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
import { headOf } from "./assembled.ts";
import {
  LIMIT_MS,
  Probes,
  SLICE_BYTES,
  VOLUME,
  anotherHead,
  safeAgain,
  startCluster,
} from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";

const TIMES = 10;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ volumeBytes: SLICE_BYTES, protection: "mirror-3" });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

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
