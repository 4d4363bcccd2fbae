// SPDX-License-Identifier: Apache-2.0
//
// Facts for the tests of the screen: a healthy unit of a cluster of three, and what to change of
// it.

import type { DiskView, UnitStatus, UnitView, VolumeView } from "#appliance/backend.ts";
import type { NetworkCard } from "#machine/network-cards.ts";
import type { ScreenFacts, UnitFacts } from "./facts.ts";

const TIB = 2 ** 40;
const MINUTE_MS = 60_000;

export function aStatus(more: Partial<UnitStatus> = {}): UnitStatus {
  return {
    name: "box-a",
    unitId: "ab".repeat(16),
    unit: 1,
    version: "0.1.0",
    sentence: "In the cluster attic as unit 1.",
    phase: "joined",
    cluster: { uuid: "cd".repeat(16), name: "attic", state: "used", generation: 1 },
    role: "member",
    pool: "pool",
    controlStation: 2,
    voter: true,
    voters: [1, 2, 3],
    words: ["tohin", "mirut", "jotuz", "pavin", "fijan"],
    staleMs: 0,
    ports: { nbd: 10809, api: 7480 },
    claim: { claimed: true, code: null },
    otherClusters: [],
    wrongMedium: null,
    searched: false,
    ...more,
  };
}

export function aDisk(path: string, more: Partial<DiskView> = {}): DiskView {
  return {
    disk: 1,
    unit: 1,
    path,
    uuid: "ef".repeat(16),
    sizeBytes: 4 * TIB,
    freeBytes: 3 * TIB,
    state: "ready",
    reason: "in use by this cluster",
    health: null,
    slices: [],
    ...more,
  };
}

/** One that is not ours. */
export function aDiskLeftAlone(path: string, reason: string): DiskView {
  const sizeBytes = TIB / 2;
  return aDisk(path, { disk: 0, sizeBytes, freeBytes: 0, state: "refused", reason });
}

export function aUnit(unit: number, more: Partial<UnitView> = {}): UnitView {
  return {
    unit,
    unitId: `${unit}`.repeat(32),
    name: `box-${"abcdefgh"[unit - 1]}`,
    role: "member",
    pool: "pool",
    alive: true,
    addresses: [`fdca:1::${unit}`, `192.168.1.2${unit}`],
    version: "0.1.0",
    voter: true,
    controlStation: unit === 2,
    link: unit === 1 ? "self" : "up",
    words: ["tohin", "mirut", "jotuz", "pavin", `fija${unit}`],
    evacuation: null,
    maintenance: null,
    ...more,
  };
}

export function aVolume(name: string, more: Partial<VolumeView> = {}): VolumeView {
  return {
    volume: 1,
    uuid: "01".repeat(16),
    name,
    sizeBytes: TIB,
    growingToBytes: null,
    usedBytes: null,
    protection: "mirror-2",
    pool: "pool",
    availability: "online",
    state: "protected",
    rebuildingPercent: null,
    sentence: "",
    hosts: [],
    tls: "off",
    front: 1,
    deletedAtMs: null,
    kept: [],
    goOn: null,
    uris: [],
    paths: [],
    slices: [],
    ...more,
  };
}

export function aCard(name: string, addresses: readonly string[], cable = true): NetworkCard {
  return {
    name,
    mac: "52:54:00:12:34:56",
    cable,
    addresses: addresses.map((address) => ({
      address,
      family: address.includes(":") ? 6 : 4,
      prefixBits: address.includes(":") ? 64 : 24,
      linkLocal: /^(fe80:|169\.254\.)/.test(address),
    })),
  };
}

export function unitFacts(more: Partial<UnitFacts> = {}): UnitFacts {
  return {
    status: aStatus(),
    disks: [
      aDisk("/dev/sda"),
      aDisk("/dev/sdb"),
      aDiskLeftAlone("/dev/sdc", "left alone: it holds a signature of ext4"),
      aDisk("/dev/nvme0n1", { unit: 2 }),
    ],
    units: [aUnit(1), aUnit(2), aUnit(3)],
    volumes: [aVolume("mail"), aVolume("backup")],
    ...more,
  };
}

export function facts(more: Partial<ScreenFacts> = {}): ScreenFacts {
  return {
    version: "0.1.0",
    hostName: "cairn-abab",
    isAppliance: true,
    sincePowerOnMs: 4 * MINUTE_MS + 12_345,
    cards: [
      aCard("eno1", ["192.168.1.21", "fe80::5054:ff:fe12:3456", "fdca:1::1"]),
      aCard("eno2", [], false),
    ],
    unit: unitFacts(),
    silentMs: null,
    recovery: null,
    medium: { ok: true, message: "" },
    claimCode: null,
    slots: [
      {
        version: "0.1.0",
        tries: null,
        file: "cairn_0.1.0.efi",
        bytes: 1,
        state: "good",
        running: true,
      },
      {
        version: "0.0.9",
        tries: null,
        file: "cairn_0.0.9.efi",
        bytes: 1,
        state: "good",
        running: false,
      },
    ],
    update: null,
    reset: null,
    ...more,
  };
}

/** Nothing is known but the machine. */
export function factsWithoutDaemon(more: Partial<ScreenFacts> = {}): ScreenFacts {
  return facts({ unit: null, silentMs: 5000, ...more });
}
