// SPDX-License-Identifier: Apache-2.0
//
// The history says why, where that is known.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { StationFixture } from "./station-fixture.ts";

function rack(units: number): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  for (let unit = 1; unit <= units; unit++) {
    if (unit > 1) made.admit();
    made.addDisk(unit, 10);
  }
  made.time.pass(1000);
  return made;
}
const stations = (made: StationFixture) =>
  [...made.view().events.values()]
    .filter(({ kind }) => kind === "control-station")
    .map(({ sentence }) => sentence);

describe("another control station", () => {
  test("the first one → no reason; after a death → who does not answer", () => {
    const made = rack(3);
    expect(stations(made)).toEqual(["box1 is the control station now"]);
    made.kill(1);
    made.time.pass(20_000);
    const said = stations(made).at(-1);
    expect(said).toMatch(/^box[23] is the control station now: box1 does not answer$/);
    expect(stations(made)).toHaveLength(2);
  });

  test("it gave the lead up in order, and is up → said as that", () => {
    const made = rack(2);
    const [leader] = made.leaders();
    const first = made.units.get(leader ?? 0);
    if (first === undefined) throw new Error("somebody leads");
    // A daemon that begins anew: its lease is given back, another one of it comes.
    made.wait(first.lease.stop());
    first.station.stop();
    made.time.pass(200);
    const lease = made.start(first.unit);
    made.time.pass(5000);
    expect(lease.lease.leads).toBe(false);
    expect(stations(made).at(-1)).toContain("is the control station now: box1 ");
  });
});
