// SPDX-License-Identifier: Apache-2.0
//
// What a box shows in one case after the other, as text files for people to look at and for a test
// to hold against: `bun test/vectors/screen/screens.ts` writes them anew. Tones are not in them.

import { readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { ScreenFacts } from "#appliance/screen/facts.ts";
import {
  aCard,
  aDisk,
  aDiskLeftAlone,
  aStatus,
  aUnit,
  aVolume,
  facts,
  factsWithoutDaemon,
  unitFacts,
} from "#appliance/screen/facts-fixture.ts";
import { MAIN, type View } from "#appliance/screen/dialogue.ts";
import { page, textOf } from "#appliance/screen/frame.ts";
import { viewLines } from "#appliance/screen/views.ts";

const FOLDER = import.meta.dir;


const FOREIGN_GPT = "it holds a partition table (GPT) that is not ours";
const LONG_ADDRESS = "2001:db8:1234:5678:9abc:def0:1234:5678";

interface Case {
  name: string;
  facts: ScreenFacts;
  view?: View;
  columns?: number;
  rows?: number;
  /** As a serial line gets it when a key is pressed. */
  serial?: boolean;
}

const many = (count: number) =>
  Array.from({ length: count }, (_, at) => aDisk(`/dev/sd${"abcdefghijklmnopqrstuvwxyz"[at]}`));

const joining = {
  phase: "listening",
  cluster: null,
  unit: 0,
  pool: null,
  sentence: "Listening for other units.",
} as const;

const CASES: readonly Case[] = [
  { name: "healthy", facts: facts() },
  { name: "healthy-serial", facts: facts(), serial: true },
  { name: "healthy-narrow", facts: facts(), columns: 50, rows: 18 },
  { name: "healthy-large", facts: facts(), columns: 128, rows: 48 },
  {
    name: "first-boot",
    facts: facts({
      slots: [],
      claimCode: "K7QWM-2XHDA",
      unit: unitFacts({
        status: aStatus(joining),
        units: null,
        volumes: null,
        disks: [aDisk("/dev/sda", { unit: 0, disk: 0, state: "examining", reason: "blank" })],
      }),
    }),
  },
  {
    name: "no-secret",
    facts: facts({
      slots: [],
      unit: unitFacts({
        status: aStatus({
          ...joining,
          phase: "waiting",
          sentence: "This unit has no join secret and waits to be admitted.",
        }),
        units: null,
        volumes: null,
        disks: [],
      }),
    }),
  },
  { name: "starting", facts: factsWithoutDaemon({ cards: [aCard("eno1", [])] }) },
  { name: "silent", facts: facts({ silentMs: 134_000 }) },
  {
    name: "recovery",
    facts: factsWithoutDaemon({
      recovery: {
        forMs: 190_000,
        reason: "Cairn ended 6 times in a row, the last time with exit status 70.",
        code: "K7QWM-2XHDA",
      },
    }),
  },
  {
    name: "wrong-medium",
    facts: facts({
      medium: {
        ok: false,
        message:
          "the configuration is wrong: network.0.addresses in /efi/cairn.json: an address with " +
          "its prefix length, such as 192.168.1.10/24. This unit joins nothing new and claims no " +
          "disk until that is corrected.",
      },
    }),
  },
  {
    name: "degraded",
    facts: facts({
      unit: unitFacts({
        units: [aUnit(1), aUnit(2), aUnit(3, { alive: false })],
        volumes: [
          aVolume("mail"),
          aVolume("backup", { state: "degraded", sentence: "a copy on unit 3 is away" }),
          aVolume("films", { state: "rebuilding", rebuildingPercent: 40 }),
          aVolume("scratch", {
            availability: "offline",
            state: "at-risk",
            sentence: "disk 7 on unit 3 is needed",
          }),
        ],
        disks: [
          aDisk("/dev/sda"),
          aDisk("/dev/sdb", {
            state: "failed",
            reason: "taken out of use: it could not be read (EIO)",
          }),
        ],
      }),
    }),
  },
  { name: "no-disks", facts: facts({ unit: unitFacts({ disks: [] }) }) },
  {
    name: "many-disks",
    facts: facts({
      unit: unitFacts({
        disks: [
          ...many(24),
          aDiskLeftAlone("/dev/sdy", `left alone: ${FOREIGN_GPT}`),
          aDisk("/dev/sdz", { state: "failed", reason: "taken out of use: I/O error" }),
        ],
      }),
    }),
  },
  {
    name: "long-names",
    facts: facts({
      cards: [
        aCard("enp129s0f0np0", [LONG_ADDRESS, "fe80::ae1f:6bff:fe12:3456"]),
        aCard("enp129s0f1np1", ["169.254.250.250"]),
        aCard("enp130s0f0np0", ["fe80::ae1f:6bff:fe12:3458"]),
        aCard("enp130s0f1np1", [], false),
      ],
      unit: unitFacts({
        status: aStatus({
          name: "a-name-of-a-storage-box-that-somebody-made-as-long-as-names-may-be",
          sentence:
            "In the cluster a-cluster-with-a-long-name-too as unit 1. Another cluster in use " +
            "with the same join secret is near: attic. They do not merge by themselves.",
          pool: "the-second-pool-of-it",
        }),
        units: [1, 2, 3, 4, 5, 6].map((unit) =>
          aUnit(unit, {
            pool: "the-second-pool-of-it",
            name: `a-name-of-a-storage-box-number-${unit}`,
            alive: unit === 1,
          }),
        ),
        disks: [
          aDisk("/dev/disk/by-id/scsi-35000c500a1b2c3d4"),
          aDiskLeftAlone(
            "/dev/disk/by-id/scsi-35000c500a1b2c3d5",
            "left alone: it holds a member of a Linux RAID; it, or a partition of it, is mounted " +
              "or in use",
          ),
        ],
      }),
    }),
  },
  {
    name: "stale",
    facts: facts({ unit: unitFacts({ status: aStatus({ staleMs: 31_000 }) }) }),
  },
  {
    name: "after-reset",
    facts: facts({
      reset: {
        level: "everything",
        failures: ["the disk failed: /dev/sdd cannot be emptied (EIO)"],
      },
    }),
  },
  {
    name: "update",
    facts: facts({
      update: "0.2.0 is being fetched (43 %)",
      slots: [
        {
          version: "0.2.0",
          tries: { left: 2, done: 1 },
          file: "cairn_0.2.0+2-1.efi",
          bytes: 1,
          state: "trial",
          running: false,
        },
        {
          version: "0.1.0",
          tries: null,
          file: "cairn_0.1.0.efi",
          bytes: 1,
          state: "good",
          running: true,
        },
      ],
    }),
  },
  { name: "code", facts: facts(), view: { kind: "code" } },
  { name: "code-serial", facts: facts(), view: { kind: "code" }, serial: true },
  {
    name: "log",
    facts: facts(),
    view: {
      kind: "log",
      lines: [
        '{"time":"2026-03-01T12:34:55.123Z","level":"info","sentence":"this unit starts"}',
        '{"time":"2026-03-01T12:34:56.1Z","level":"warn","sentence":"disk refused","disk":"sdc"}',
        "cairn: the configuration is wrong: role in /efi/cairn.json",
      ],
    },
  },
  {
    name: "confirm-restart",
    facts: facts(),
    view: { kind: "confirm", action: "restart", typed: "rest", said: "" },
  },
  {
    name: "confirm-network",
    facts: facts(),
    view: { kind: "confirm", action: "network", typed: "", said: "" },
  },
  {
    name: "confirm-factory",
    facts: facts(),
    view: {
      kind: "confirm",
      action: "factory",
      typed: "",
      said: "That is none of these words: nothing was done.",
    },
  },
];

export interface ScreenFile {
  path: string;
  print(): string;
}

export const SCREENS: readonly ScreenFile[] = CASES.map((one) => ({
  path: path.join(FOLDER, `${one.name}.txt`),
  print: () => printed(one),
}));

/** Every row between bars, so that its end is seen and blanks at it are not lost. */
function printed({ facts: known, view = MAIN, serial = false, ...size }: Case): string {
  const { columns = 80, rows = serial ? 24 : 25 } = size;
  const shape = { columns, rows, alphabet: serial ? "ascii" : "console" } as const;
  const surroundings = {
    unitName: known.unit?.status.name ?? known.hostName,
    isAppliance: known.isAppliance,
    mayLeave: false,
  };
  const lines = viewLines(view, known, surroundings, { ...shape, fill: !serial });
  const shown = serial ? lines : page(lines, shape);
  return shown.map((line) => `|${textOf(line).padEnd(columns)}|\n`).join("");
}

if (import.meta.main) {
  for (const name of readdirSync(FOLDER)) {
    if (name.endsWith(".txt")) rmSync(path.join(FOLDER, name));
  }
  for (const { path: file, print } of SCREENS) writeFileSync(file, print());
}
