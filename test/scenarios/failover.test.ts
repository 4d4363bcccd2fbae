// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: heads that are lost, cut off, paused or come back (R2, R3, R4, H7).

import { expect } from "bun:test";
import { MIRROR_3, scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

scenario("isolate-head: another member takes over, the old head comes back by resync", {}, (s) => {
  s.isolate(1);
  s.until("disk 2 takes over", () => s.head(1) === 2);
  s.writesGoOn();
  s.run(3000);
  s.join(1);
  s.until("disk 1 is in sync again", () => s.inSync(1).includes(1), 30_000);
});

scenario("isolate-head while it reaches the voters: one of the two goes on alone", {}, (s) => {
  s.isolate(1, "both", false);
  s.until("one member is left", () => s.inSync(1).length === 1);
  s.writesGoOn();
  s.join(1);
  s.until("both again", () => s.inSync(1).length === 2, 30_000);
});

for (const ways of ["out", "in"] as const) {
  scenario(`isolate-head-one-way (${ways}): writes go on, nothing is lost`, {}, (s) => {
    s.isolate(1, ways, false);
    s.until("one member is left", () => s.inSync(1).length === 1);
    s.writesGoOn();
    s.run(2000);
    s.join(1);
    s.until("both again", () => s.inSync(1).length === 2, 30_000);
  });
}

scenario("suspend-failover-busy and stale-head-wakes: never a stale read (R4)", {}, (s) => {
  s.unit(1).pause();
  s.until("disk 2 takes over", () => s.head(1) === 2);
  s.writesGoOn();
  s.run(2000);
  // Reads that hosts sent to it while it slept are answered by what it knows now.
  s.unit(1).resume();
  s.run(3000);
  expect(s.head(1)).toBe(2);
});

scenario("a head paused for less than its grants: wakes as head or learns better", {}, (s) => {
  for (const pauseMs of [300, 900, 1500, 1900, 2100, 2600]) {
    s.unit(1).pause();
    s.run(pauseMs);
    s.unit(1).resume();
    s.run(1500);
  }
});

scenario("vm-paused: every unit stands still, all at once", {}, (s) => {
  for (const unit of s.cluster.units) unit.pause();
  s.run(5000);
  for (const unit of s.cluster.units) unit.resume();
  s.writesGoOn(8000);
});

scenario("failover-reconnect: there and back again", {}, (s) => {
  s.unit(1).kill();
  s.until("disk 2 heads both", () => s.head(1) === 2);
  s.writesGoOn();
  s.unit(1).boot();
  s.whole();
  s.unit(2).kill();
  s.until("disk 1 heads both", () => s.head(1) === 1 && s.head(2) === 1);
  s.writesGoOn();
});

const LOSSES = ["kill", "cut", "hang"] as const;

/** The head of slice 1 is gone until another serves, and some moments longer. */
function lose(s: Scenario, how: (typeof LOSSES)[number]): void {
  const head = s.head(1);
  if (how === "kill") s.unit(head).kill();
  else if (how === "cut") s.isolate(head);
  else s.unit(head).pause();
  s.until(`slice 1 is not headed by ${head}`, () => s.head(1) !== head);
  s.writesGoOn();
  if (how === "kill") s.unit(head).boot();
  else if (how === "cut") s.join(head);
  else s.unit(head).resume();
  s.whole();
}

for (const how of LOSSES) {
  scenario(`the head is lost ten times under load, by ${how}: nothing is`, { seeds: 2 }, (s) => {
    for (let time = 0; time < 10; time++) lose(s, how);
  });
}

scenario("double-promote: two members want the same slice, one gets it (R3)", MIRROR_3, (s) => {
  s.isolate(1);
  s.until("another heads slice 1", () => s.head(1) !== 1);
  s.writesGoOn();
  expect(s.inSync(1)).not.toContain(1);
  s.join(1);
  s.until("all three again", () => s.inSync(1).length === 3, 30_000);
});

scenario("head-reboots-and-resumes: back before anybody missed it (R0)", {}, (s) => {
  for (let time = 0; time < 3; time++) {
    s.unit(1).kill();
    s.run(100);
    s.unit(1).boot();
    s.writesGoOn(10_000);
    s.run(1500);
  }
});

scenario("head-reboots-and-resumes after a power cut: its memory is not missed (R0)", {}, (s) => {
  for (let time = 0; time < 3; time++) {
    s.unit(1).powerCut();
    s.run(100);
    s.unit(1).boot();
    s.writesGoOn(10_000);
    s.run(1500);
  }
});

scenario("unknown-write-then-failover: at most once, and never late (H7)", {}, (s) => {
  for (let time = 0; time < 3; time++) {
    s.run(700);
    s.unit(s.head(1)).kill();
    s.writesGoOn();
    for (const unit of s.cluster.units) unit.boot();
    s.until("both in sync", () => s.inSync(1).length === 2, 30_000);
  }
});

scenario(
  "forwarder-paused: what it held is refused or done once (H7)",
  { mix: { roam: 1 } },
  (s) => {
    for (let time = 0; time < 4; time++) {
      s.unit(3).pause();
      s.run([900, 1900, 2100, 4000][time] as number);
      s.unit(3).resume();
      s.run(1500);
    }
    s.writesGoOn();
  },
);

scenario(
  "forwarder-paused, its hosts gone meanwhile: nothing of theirs afterwards (H7)",
  { mix: { roam: 1, patienceMs: 700 } },
  (s) => {
    for (let time = 0; time < 4; time++) {
      s.unit(3).pause();
      s.run(3000);
      s.unit(3).resume();
      s.run(1500);
    }
    s.writesGoOn();
  },
);

scenario(
  "clock drift at the edge of what R4 allows: still no stale read",
  { clockRates: [0.99951, 1.00049, 1] },
  (s) => {
    s.isolate(1);
    s.until("disk 2 takes over", () => s.head(1) === 2);
    s.writesGoOn();
    s.join(1);
    s.whole();
    s.isolate(2);
    s.until("disk 1 takes over", () => s.head(1) === 1);
    s.writesGoOn();
  },
);

scenario("flapping-link: drops and comes back, never stops for good", {}, (s) => {
  for (let time = 0; time < 15; time++) {
    s.cluster.net.reset(1, 2);
    s.run(350);
  }
  s.writesGoOn(10_000);
});

scenario("orderly stop of a head: takeover without the wait for grants (R4)", {}, (s) => {
  const { simulation } = s.cluster;
  s.cluster.stopInOrder(s.unit(1));
  const begun = simulation.nowMs;
  s.until("disk 2 heads slice 1", () => s.head(1) === 2, 5000);
  expect(simulation.nowMs - begun).toBeLessThan(1500);
  s.writesGoOn();
  s.until("its process ended", () => s.unit(1).process === null, 10_000);
  s.unit(1).boot();
});

scenario(
  "a head cut off as its record lets a member in: that member's grant counts already (R4)",
  { mix: { roam: 0.5, patienceMs: 900 } },
  (s) => {
    s.unit(2).kill();
    s.until("disk 1 is alone", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
    s.unit(2).boot();
    // The commit that names disk 2 in sync: its answer never reaches the head.
    const strike = () => {
      s.cluster.onNextCommit = (record) => {
        if (record.inSync.length === 2) s.isolate(1);
        else strike();
      };
    };
    strike();
    s.until("disk 2 takes a slice over", () => s.head(1) === 2 || s.head(2) === 2, 30_000);
    s.writesGoOn();
    s.run(1500);
    s.join(1);
    s.whole();
  },
);

for (const copies of ["mirror-2", "mirror-3"] as const) {
  scenario(
    `a drill: the head's unit is dead to the slice (${copies}) → another heads it, then all again`,
    { ...(copies === "mirror-3" ? MIRROR_3 : {}), seeds: 3 },
    (s) => {
      const before = s.inSync(1).length;
      s.unit(1).process?.plane.silence(1, 10_000);
      s.until("another head", () => s.head(1) !== 1, 10_000);
      s.writesGoOn();
      s.until("the silent one is back", () => s.inSync(1).length === before, 40_000);
      expect(s.inSync(1)).toContain(1);
    },
  );
}

scenario("a drill, and nobody may take over: the head goes on afterwards", {}, (s) => {
  s.unit(2).kill();
  s.until("disk 1 is alone", () => s.inSync(1).join() === "1");
  s.unit(1).process?.plane.silence(1, 3000);
  s.run(3500);
  expect(s.head(1)).toBe(1);
  s.writesGoOn();
  s.unit(2).boot();
  s.whole();
});
