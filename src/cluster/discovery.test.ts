// SPDX-License-Identifier: Apache-2.0
//
// Machines on one wire: they become one cluster whatever is lost, merge when two virgin clusters
// meet, never merge used ones, and are not led astray by replays, strangers or garbage.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseAddress } from "#protocol/autoconfig/address.ts";
import { MessageType, PACKET, ShutdownKind } from "#protocol/autoconfig/autoconfig.wire.ts";
import { StorageChange, Wanted } from "#protocol/autoconfig/autoconfig.wire.ts";
import { encodePacket } from "#protocol/autoconfig/codec.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import { seededSeal } from "#protocol/peer-channel/node-seal.test.ts";
import { changed, Wire } from "./discovery-wire-fixture.ts";
import type { ClusterModel, Machine, WireOptions } from "./discovery-wire-fixture.ts";

function wireOf(seed: number, options: Partial<WireOptions> = {}): Wire {
  return new Wire({ seed, seal: seededSeal(seed), ...options });
}
function addMany(wire: Wire, count: number): Machine[] {
  return Array.from({ length: count }, () => wire.add());
}
function lowest(machines: readonly Machine[]): Machine {
  return machines.toSorted((one, other) => (one.id < other.id ? -1 : 1))[0] as Machine;
}
function use(cluster: ClusterModel): void {
  cluster.state = "used";
  changed(cluster);
}
/** Two halves that formed apart. */
function halves(wire: Wire, each: number): [ClusterModel, ClusterModel] {
  for (const machine of addMany(wire, 2 * each)) machine.side = machine.number <= each ? 1 : 2;
  const formed = () =>
    wire.alive.length === 2 && wire.machines.every((machine) => machine.cluster !== null);
  expect(wire.until(formed, 15_000)).not.toBeNull();
  return wire.alive as [ClusterModel, ClusterModel];
}
function connect(wire: Wire): void {
  for (const machine of wire.machines) machine.side = 0;
}

function isStorage(packet: Uint8Array): boolean {
  return PACKET.view().at(packet, 0).messageType === MessageType.storageInformation;
}
/** As if that machine had asked. */
function enquiryOf(wire: Wire, from: Machine, to: Machine): Uint8Array {
  const joinKey = joinKeys(wire.seal, "the wire's join secret").autoconfig;
  const envelope = {
    unitId: from.identity.unitId,
    bootCounter: 2,
    sequence: 1,
    sourceAddress: parseAddress(from.addresses[0] as string) as Uint8Array,
    destinationAddress: parseAddress(to.addresses[0] as string) as Uint8Array,
    sourcePort: 10811,
    destinationPort: 10811,
  };
  const type = MessageType.enquiry;
  const enquiry = { type, enquiryNumber: 1, wanted: Wanted.storage, term: 1 } as const;
  return encodePacket(wire.seal, { ...from.identity, joinKey }, envelope, enquiry);
}

describe("formation", () => {
  test("four at once → one cluster, founded by the lowest id, within 8 s", () => {
    for (let seed = 1; seed <= 25; seed++) {
      const wire = wireOf(seed);
      const machines = addMany(wire, 4);
      const tookMs = wire.until(() => wire.oneCluster(), 8000);
      expect([seed, tookMs]).not.toEqual([seed, null]);
      expect(wire.clusters.length).toBe(1);
      expect(wire.clusters[0]?.station).toBe(lowest(machines));
    }
  });

  test("four within 3 s, half of all packets lost, some doubled → one cluster", () => {
    for (let seed = 1; seed <= 15; seed++) {
      const wire = wireOf(seed, { lossShare: 0.5, duplicateShare: 0.2 });
      for (let machine = 0; machine < 4; machine++) {
        wire.add();
        wire.run(wire.prng.below(1000));
      }
      expect([seed, wire.until(() => wire.oneCluster(), 60_000)]).not.toEqual([seed, null]);
      wire.run(20_000);
      expect(wire.oneCluster()).toBe(true);
    }
  });

  test("a late joiner → in the cluster within 2.5 s of its start", () => {
    const wire = wireOf(3);
    addMany(wire, 3);
    wire.until(() => wire.oneCluster(), 10_000);
    wire.run(60_000);
    const late = wire.add();
    expect(wire.until(() => late.cluster === wire.clusters[0], 2500)).not.toBeNull();
    expect(wire.clusters.length).toBe(1);
  });

  test("one alone → its own cluster after the listening window", () => {
    const wire = wireOf(4);
    wire.add();
    const tookMs = wire.until(() => wire.oneCluster(), 6000) ?? 0;
    expect(tookMs).toBeGreaterThan(3000);
  });

  test("the founder hangs or dies → the next in line founds", () => {
    for (const dies of [true, false]) {
      const wire = wireOf(5);
      const machines = addMany(wire, 3);
      const first = lowest(machines);
      first.options.neverFounds = true;
      wire.until(() => first.discovery.formation.state === "founding", 6000);
      if (dies) first.powerOff();
      const others = machines.filter((machine) => machine !== first);
      const formed = () => wire.allIn(wire.alive[0], others);
      expect(wire.until(formed, dies ? 12_000 : 35_000)).not.toBeNull();
      expect(wire.clusters.length).toBe(1);
      expect(wire.clusters[0]?.station).toBe(lowest(others));
    }
  });

  test("join-only and spare → never found, say so, and join who does", () => {
    const wire = wireOf(6);
    const waiting = [wire.add({ joinOnly: true }), wire.add({ spare: true })];
    wire.run(30_000);
    expect(wire.clusters.length).toBe(0);
    for (const machine of waiting) expect(machine.sentence).toContain("does not found one");
    wire.add();
    expect(wire.until(() => wire.oneCluster(), 10_000)).not.toBeNull();
    wire.run(40_000);
    expect(waiting[1]?.sentence).toContain("It is a spare.");
    expect(waiting[0]?.sentence).not.toContain("spare");
  });
});

describe("two clusters meet", () => {
  test("both virgin → one, the lower id stays, no third is founded", () => {
    for (let seed = 1; seed <= 12; seed++) {
      const wire = wireOf(seed, { lossShare: seed % 3 === 0 ? 0.3 : 0 });
      const clusters = halves(wire, 2);
      const stays = clusters.toSorted((one, other) => (one.id < other.id ? -1 : 1))[0];
      const madeBefore = wire.clusters.length;
      connect(wire);
      expect([seed, wire.until(() => wire.oneCluster(), 20_000)]).not.toEqual([seed, null]);
      wire.run(10_000);
      expect(wire.alive[0]?.id).toBe(stays?.id as string);
      expect([wire.alive.length, wire.clusters.length]).toEqual([1, madeBefore]);
    }
  });

  test("one used → the virgin one yields whatever the ids", () => {
    for (const index of [0, 1] as const) {
      const wire = wireOf(7);
      const used = halves(wire, 2)[index];
      use(used);
      wire.run(100);
      connect(wire);
      expect(wire.until(() => wire.oneCluster(), 20_000)).not.toBeNull();
      expect(wire.alive[0]).toBe(used);
    }
  });

  test("both used → they stay two, and say so", () => {
    const wire = wireOf(8);
    for (const cluster of halves(wire, 2)) use(cluster);
    wire.run(100);
    connect(wire);
    wire.run(60_000);
    expect(wire.alive.length).toBe(2);
    expect(wire.alive.map((cluster) => cluster.members.size)).toEqual([2, 2]);
    for (const machine of wire.machines) {
      expect(machine.sentence).toContain("They do not merge by themselves.");
    }
  });

  test("used while it is about to yield → the compare-and-swap fails, nobody leaves", () => {
    const wire = wireOf(9);
    const [one, other] = halves(wire, 1);
    const yields = one.id > other.id ? one : other;
    // Used in the store, but its station has not seen it yet: what UDP made it want must not
    // happen.
    yields.state = "used";
    connect(wire);
    const left = wire.until(() => yields.members.size === 0, 15_000);
    expect(left).toBeNull();
    expect(yields.state).toBe("used");
  });

  test("away while its cluster gave way → follows by the other's word alone", () => {
    const wire = wireOf(10);
    const [one, other] = halves(wire, 2);
    const yields = one.id > other.id ? one : other;
    const stays = yields === one ? other : one;
    const orphan = [...yields.members.values()].find(
      (machine) => machine !== yields.station,
    ) as Machine;
    orphan.powerOff();
    connect(wire);
    const gone = () => yields.members.size === 1;
    expect(wire.until(gone, 20_000)).not.toBeNull();
    // What it last knew: its store is away, and nobody tells it.
    yields.state = "virgin";
    orphan.restart();
    wire.run(20_000);
    expect(orphan.cluster).toBe(yields);
    orphan.discovery.formation.storeAway(true);
    orphan.isHoldingData = true;
    wire.run(20_000);
    expect(orphan.cluster).toBe(yields);
    orphan.isHoldingData = false;
    expect(wire.until(() => orphan.cluster === stays, 60_000)).not.toBeNull();
  });

  test("a unit cut off from its cluster → stays, though others are near", () => {
    const wire = wireOf(18);
    const [one, other] = halves(wire, 2);
    const lost = one.id > other.id ? one : other;
    const orphan = [...lost.members.values()].find(
      (machine) => machine !== lost.station,
    ) as Machine;
    const side = [...(lost === one ? other : one).members.values()][0]?.side ?? 0;
    orphan.side = side;
    orphan.discovery.formation.storeAway(true);
    wire.run(60_000);
    expect(orphan.cluster).toBe(lost);
  });
});

describe("secrets", () => {
  test("without a secret → waits, says its words, which the station shows too; never joins", () => {
    const wire = wireOf(11);
    const stranger = wire.add({ secret: null, name: "stranger" });
    addMany(wire, 2);
    wire.run(30_000);
    expect(stranger.cluster).toBeNull();
    expect(stranger.sentence).toContain("has no join secret and waits to be admitted");
    expect(stranger.sentence).toContain("Units with a join secret are near.");
    const station = wire.clusters[0]?.station as Machine;
    const [shown] = station.discovery.strangers;
    expect(shown?.name).toBe("stranger");
    expect(stranger.sentence).toContain(shown?.words as string);
    expect(station.discovery.units.length).toBe(1);
  });

  test("another secret → clusters of their own, and both say that the secrets differ", () => {
    const wire = wireOf(12);
    const ours = addMany(wire, 2);
    const other = wire.add({ secret: "some other join secret" });
    wire.run(30_000);
    expect(wire.alive.length).toBe(2);
    expect(other.cluster?.members.size).toBe(1);
    for (const machine of [...ours, other])
      expect(machine.sentence).toContain("compare the secrets");
    expect(other.discovery.units.length).toBe(0);
  });
});

describe("attackers on the wire", () => {
  test("packets of a dissolved cluster replayed to new units → they form their own", () => {
    const old = wireOf(13);
    addMany(old, 3);
    old.until(() => old.oneCluster(), 10_000);
    old.run(10_000);
    const wire = wireOf(14);
    // Same secret; the old units are gone, the attacker spoofs their addresses.
    for (let number = 1; number <= 6; number++) wire.add({ name: `new-${number}` });
    for (const machine of wire.machines.slice(0, 3)) machine.powerOff();
    const fresh = wire.machines.slice(3);
    const replay = () => {
      const sent = old.recorded[wire.prng.below(old.recorded.length)];
      if (sent === undefined) return;
      const zone = sent.destination.source.startsWith("fe80") ? "%eth0" : "";
      const from = { address: sent.destination.source + zone, port: 10811 };
      for (const machine of fresh) machine.receive(sent.bytes.slice(), from);
      wire.after(50, replay);
    };
    replay();
    const formed = () => wire.alive.length === 1 && wire.allIn(wire.alive[0], fresh);
    expect(wire.until(formed, 120_000)).not.toBeNull();
    wire.run(30_000);
    expect(formed()).toBe(true);
  });

  test("own packets and a wire's packets played again → dropped by name, nothing changes", () => {
    const wire = wireOf(15);
    const [machine] = addMany(wire, 3) as [Machine];
    wire.until(() => wire.oneCluster(), 10_000);
    const before = machine.discovery.units.map((unit) => unit.heardAtMs);
    for (const sent of wire.recorded.slice(0, 150)) {
      const zone = sent.destination.source.startsWith("fe80") ? "%eth0" : "";
      machine.receive(sent.bytes, { address: sent.destination.source + zone, port: 10811 });
    }
    expect(machine.discovery.units.map((unit) => unit.heardAtMs)).toEqual(before);
    expect(machine.discovery.dropped.get("replayed")).toBeGreaterThan(10);
    expect(machine.discovery.dropped.get("ownPacket")).toBeGreaterThan(10);
  });

  test("garbage and changed packets → no throw, nobody remembered, nothing sent", () => {
    const wire = wireOf(16);
    const [machine] = addMany(wire, 2) as [Machine];
    wire.until(() => wire.oneCluster(), 10_000);
    const known = machine.discovery.units.length;
    const sentBefore = wire.recorded.length;
    const source = fc.integer({ min: 1, max: 2 ** 24 }).map((value) => {
      return `10.${(value >> 16) & 255}.${(value >> 8) & 255}.${value & 255}`;
    });
    const edits = fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
    });
    fc.assert(
      fc.property(source, fc.nat(sentBefore - 1), edits, (address, index, changes) => {
        const bytes = (wire.recorded[index]?.bytes as Uint8Array).slice();
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        machine.receive(bytes, { address, port: 10811 });
        machine.receive(bytes.subarray(0, index % bytes.length), { address, port: 10811 });
      }),
      { numRuns: 3000 },
    );
    machine.receive(new Uint8Array(0), { address: "not an address", port: 1 });
    expect(machine.discovery.units.length).toBe(known);
    expect(machine.discovery.strangers.length).toBe(0);
    expect(wire.recorded.length).toBe(sentBefore);
  });
});

describe("in a cluster", () => {
  function formed(): { wire: Wire; station: Machine; unit: Machine } {
    const wire = wireOf(17);
    for (const disks of [40, 40, 40]) wire.add({ disks });
    wire.until(() => wire.oneCluster(), 10_000);
    const station = wire.clusters[0]?.station as Machine;
    const unit = wire.machines.find((machine) => machine !== station) as Machine;
    return { wire, station, unit };
  }

  test("heartbeats both ways, and the station has the whole storage of every unit", () => {
    const { wire, station, unit } = formed();
    wire.run(10_000);
    expect([...station.storages.values()].map((storage) => storage.disks.length)).toEqual([40, 40]);
    expect(station.storages.get(unit.id)?.slices[0]?.slice).toBe(unit.number);
    const heard = station.discovery.units.find((one) => one.unitId === unit.id);
    expect(heard?.heartbeat?.sizeBytes).toBe(1000 * unit.number);
    const back = unit.discovery.units.find((one) => one.unitId === station.id);
    expect(back?.heartbeat?.sizeBytes).toBe(1000 * station.number);
    expect(unit.storages.size).toBe(0);
  });

  test("an enquiry that is not our station's → not answered, though it knows the secret", () => {
    const { wire, station, unit } = formed();
    wire.run(10_000);
    const other = wire.machines.find((one) => one !== station && one !== unit) as Machine;
    const ask = (from: Machine) => {
      const pages = () =>
        wire.recorded.filter((sent) => sent.from === unit && isStorage(sent.bytes));
      const before = pages().length;
      unit.receive(enquiryOf(wire, from, unit), {
        address: from.addresses[0] as string,
        port: 10811,
      });
      wire.run(500);
      return pages().length - before;
    };
    expect(ask(other)).toBe(0);
    expect(ask(station)).toBeGreaterThan(1);
  });

  test("storage changed → the station hears it, and asks that unit anew", () => {
    const { wire, station, unit } = formed();
    wire.run(10_000);
    station.storages.clear();
    const what = { diskNumber: 7, sizeBytes: 5, path: "/dev/sdx", reason: "does not answer" };
    const change = StorageChange.failing;
    unit.discovery.storageChanged({ change, diskId: new Uint8Array(16).fill(1), ...what });
    wire.run(5000);
    expect(station.storageChanges[0]).toMatchObject(what);
    expect([...station.storages.keys()]).toEqual([unit.id]);
  });

  test("unit shutdown → heard by all, and forgotten once the unit is back", () => {
    const { wire, station, unit } = formed();
    const kind = ShutdownKind.planned;
    unit.discovery.shuttingDown({ kind, expectedReturnSeconds: 60, reason: "update" });
    wire.run(100);
    expect(station.shutdowns.length).toBe(1);
    expect(station.shutdowns[0]).toMatchObject({ expectedReturnSeconds: 60, reason: "update" });
    const shown = () => station.discovery.units.find((one) => one.unitId === unit.id)?.shutdown;
    expect(shown()).not.toBeNull();
    unit.powerOff();
    wire.run(5000);
    expect(shown()).not.toBeNull();
    unit.restart();
    wire.run(5000);
    expect(shown()).toBeNull();
    expect(wire.oneCluster()).toBe(true);
  });

  test("an idle cluster → at most 5 packets a second from each unit", () => {
    const { wire } = formed();
    wire.run(60_000);
    const before = wire.recorded.length;
    wire.run(60_000);
    expect((wire.recorded.length - before) / 60 / wire.machines.length).toBeLessThan(5);
  });
});
