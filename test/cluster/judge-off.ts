// SPDX-License-Identifier: Apache-2.0
//
// Judged: all power off, all on. An idle volume serves with any one of its members; one that was
// written to names the unit it waits for, and serves once that is back (R3).

import { attachedTo, expectFilled, fill, holders, powerOff, saysItWaitsFor } from "./all-off.ts";
import { QUIET_MS } from "./all-off.ts";
import { LIMIT_MS, Probes, SLICE_BYTES, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import type { Judgement } from "./judge-figures.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { need, pause } from "./until.ts";

const SERVES = { unit: "s", most: 30 };
const NAMED = { unit: "s", most: 10 };
const EXTENTS = 16;

export async function judgeAllOff(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster({ volumeBytes: SLICE_BYTES });
  for (let time = 1; time <= times; time++) {
    judgement.note(`all off ${time} of ${times}`);
    for (const away of [0, 1]) await idle(judgement, lab, { away, text: `round ${time}` });
    await busy(judgement, lab, `round ${time}, under load`);
  }
}

/** Starts all but one at one moment; answers seconds since then. */
function startWithout(lab: Lab, away: LabUnit | null): () => number {
  for (const unit of lab.units) if (unit !== away && !unit.running) unit.start();
  const start = performance.now();
  return () => (performance.now() - start) / 1000;
}

async function idle(
  judgement: Judgement,
  lab: Lab,
  how: { away: number; text: string },
): Promise<void> {
  await fill(lab, EXTENTS, how.text);
  await pause(QUIET_MS);
  const away = (await holders(lab))[how.away] ?? null;
  await powerOff(lab);
  const since = startWithout(lab, away);
  const online = async () => {
    const { availability, sentence } = await lab.anyApi().volume(VOLUME);
    need(availability === "online", sentence);
    return true;
  };
  await lab.until("the volume serves by one copy", online, LIMIT_MS);
  (await attachedTo(lab))[Symbol.dispose]();
  judgement.add("all off while idle, one copy stays away: serves", since(), SERVES);
  await expectFilled(lab, EXTENTS, how.text);
  startWithout(lab, null);
  await healed(lab);
}

async function busy(judgement: Judgement, lab: Lab, text: string): Promise<void> {
  await using probes = new Probes(lab, lab.units);
  await probes.write();
  await fill(lab, EXTENTS, text);
  await probes.write();
  const [, other] = await holders(lab);
  if (other === undefined) throw new Error("the volume has no second copy");
  await powerOff(lab);
  const sinceMost = startWithout(lab, other);
  await saysItWaitsFor(lab, other);
  judgement.add("all off under load, one copy stays away: named", sinceMost(), NAMED);
  const sinceAll = startWithout(lab, null);
  await probes.write();
  judgement.add("all off under load, all on: hosts write again", sinceAll(), SERVES);
  await healed(lab);
  // What the probes wrote was not flushed: of that all power off may take the last (H6).
  await probes.stop();
  await expectFilled(lab, EXTENTS, text);
}
