// SPDX-License-Identifier: Apache-2.0
//
// Commands that show the cluster: status, units, disks, events, recovery.

import type { z } from "zod";
import type {
  DiskView,
  EventView,
  RecoveryView,
  ResyncView,
  UnitStatus,
  UnitView,
} from "#appliance/backend.ts";
import {
  DisksSchema,
  EVENTS_MAX,
  EventsSchema,
  RecoverySchema,
  UnitStatusSchema,
  UnitsSchema,
} from "#appliance/api/schemas.ts";
import { durationInWords, sizeInWords, timeInWords } from "#appliance/api/words.ts";
import {
  ASKING_FLAGS,
  CHANGING_FLAGS,
  type Call,
  type Command,
  WATCH_FLAG,
  WIDE_FLAG,
} from "./command.ts";
import { Misuse } from "./failure.ts";
import { confirmByName, yesFlag } from "./removal.ts";
import { type Column, factsText, tableText } from "./table.ts";

const LISTING_FLAGS = [...ASKING_FLAGS, WIDE_FLAG, WATCH_FLAG];
const FOLLOW_EVERY_MS = 1000;
const EVENTS_USUAL = 20;

const status: Command = {
  words: ["status"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what this unit is, and what it is doing or waiting for",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(UnitStatusSchema, "GET", "/api/v1/status");
      await call.print(body, () => factsText(statusFacts(value)));
    }),
};

function statusFacts(unit: UnitStatus): [string, string][] {
  const { cluster } = unit;
  const number = unit.unit === 0 ? "" : `, unit ${unit.unit}`;
  const voters = unit.voters.length === 0 ? "none yet" : `units ${unit.voters.join(", ")}`;
  const facts: [string, string][] = [
    ["Unit", `${unit.name}${number} (${unit.role}), version ${unit.version}`],
    ["State", `${unit.phase}: ${unit.sentence}`],
    ["Cluster", cluster === null ? "none yet" : `${cluster.name} (${cluster.state})`],
    ["Pool", unit.pool ?? "none"],
    ["Control", unit.controlStation === null ? "nobody yet" : `unit ${unit.controlStation}`],
    ["Voters", voters],
    [
      "Ports",
      Object.entries(unit.ports)
        .map((pair) => pair.join(" "))
        .join(", "),
    ],
  ];
  if (cluster !== null && !unit.claim.claimed) {
    const how = unit.claim.code === null ? "" : `; claim code ${unit.claim.code}`;
    facts.push(["Owner", `nobody yet${how}`]);
  } else if (cluster === null && unit.claim.code !== null) {
    facts.push(["Claim", unit.claim.code]);
  }
  if (unit.words.length > 0) facts.push(["Words", unit.words.join(" ")]);
  return facts;
}

/** A command that prints one list of a GET as a table. */
function listing<S extends z.ZodType, T>(options: {
  words: string[];
  path: string;
  schema: S;
  rows: (answer: z.infer<S>) => readonly T[];
  columns: readonly Column<T>[];
  sentence: string;
}): Command {
  const { words, path, schema, rows, columns, sentence } = options;
  return {
    words,
    operands: [],
    flags: LISTING_FLAGS,
    sentence,
    run: (call) =>
      call.show(async () => {
        const { value, body } = await call.ask(schema, "GET", path);
        const wide = call.flags.isSet("wide");
        await call.print(body, () => tableText(rows(value), columns, { wide }));
      }),
  };
}

const yes = (value: boolean) => (value ? "yes" : "");

const unitColumns: Column<UnitView>[] = [
  { head: "UNIT", cell: (unit) => String(unit.unit) },
  { head: "NAME", cell: (unit) => unit.name },
  { head: "STATE", cell: unitState },
  { head: "ROLE", cell: (unit) => unit.role },
  { head: "POOL", cell: (unit) => unit.pool ?? "" },
  { head: "CONTROL", cell: (unit) => yes(unit.controlStation) },
  { head: "VOTER", cell: (unit) => yes(unit.voter) },
  { head: "LINK", cell: (unit) => unit.link },
  { head: "VERSION", cell: (unit) => unit.version, wide: true },
  { head: "ADDRESSES", cell: (unit) => unit.addresses.join(", "), wide: true },
  { head: "IDENTITY", cell: (unit) => unit.unitId, wide: true },
  { head: "EVACUATION", cell: (unit) => unit.evacuation?.sentence ?? "", wide: true },
  { head: "MAINTENANCE", cell: (unit) => unit.maintenance?.sentence ?? "", wide: true },
];

function unitState({ alive, evacuation, maintenance }: UnitView): string {
  const word = alive ? "up" : "away";
  const going = evacuation === null ? word : `${word}, leaving`;
  return maintenance === null ? going : `${going}, in maintenance`;
}

const diskColumns: Column<DiskView>[] = [
  { head: "DISK", cell: (disk) => (disk.disk === 0 ? "" : String(disk.disk)) },
  { head: "UNIT", cell: (disk) => String(disk.unit) },
  { head: "PATH", cell: (disk) => disk.path },
  { head: "SIZE", cell: (disk) => sizeInWords(disk.sizeBytes) },
  { head: "FREE", cell: (disk) => (disk.disk === 0 ? "" : sizeInWords(disk.freeBytes)) },
  { head: "STATE", cell: (disk) => disk.state },
  { head: "SLICES", cell: (disk) => String(disk.slices.length) },
  { head: "WRONG", cell: (disk) => wrongInWords(disk), wide: true },
  { head: "SCRUBBED (UTC)", cell: (disk) => scrubInWords(disk), wide: true },
  { head: "UUID", cell: (disk) => disk.uuid, wide: true },
  { head: "REASON", cell: (disk) => disk.reason, wide: true },
];

/** Blocks found wrong; those not healed said apart. */
function wrongInWords({ health }: DiskView): string {
  if (health === null) return "";
  const open = health.unhealed === 0 ? "" : `, ${health.unhealed} not healed`;
  return `${health.found}${open}`;
}

/** When it was last read through, and how far it is now. */
function scrubInWords({ health }: DiskView): string {
  if (health === null) return "";
  const { running, percent, endedAtMs, late } = health.scrub;
  const last = endedAtMs === null ? "never" : timeInWords(endedAtMs);
  const now = running === true ? `, now ${percent ?? 0} %` : "";
  return `${last}${now}${late ? ", too slow" : ""}`;
}

const scrubDisk: Command = {
  words: ["disk", "scrub"],
  operands: [{ name: "DISK", kind: "one" }],
  flags: [
    ...CHANGING_FLAGS,
    { name: "now", kind: "yesno", sentence: "do not yield to hosts; the limit of its rate holds" },
  ],
  sentence: "read a disk through at once, whatever is due, and heal what is wrong",
  run: async (call) => {
    const disk = diskIn(call);
    const urgent = call.flags.isSet("now");
    const path = `/api/v1/disks/${disk}/scrub`;
    if (await call.tried("POST", path, { urgent })) return 0;
    await call.askPlain("POST", path, { urgent });
    await call.print({ disk: Number(disk), urgent }, () => `disk ${disk} is being scrubbed\n`);
    return 0;
  },
};

function diskIn(call: Call): string {
  const [disk = ""] = call.operands;
  if (/^[1-9]\d{0,14}$/.test(disk)) return disk;
  throw new Misuse("DISK is a disk's number", "cairn disk list");
}

const retireDisk: Command = {
  words: ["disk", "retire"],
  operands: [{ name: "DISK", kind: "one" }],
  flags: CHANGING_FLAGS,
  sentence: "make a disk's copies anew on other disks, then take it out of use",
  run: async (call) => {
    const disk = diskIn(call);
    const path = `/api/v1/disks/${disk}/retire`;
    if (await call.tried("POST", path)) return 0;
    await call.askPlain("POST", path);
    const text = `disk ${disk} is being retired; it can be pulled once it holds no slices\n`;
    await call.print({ disk: Number(disk) }, () => text);
    return 0;
  },
};

const claimDisk: Command = {
  words: ["disk", "claim"],
  operands: [
    { name: "UNIT", kind: "one" },
    { name: "PATH", kind: "one" },
  ],
  flags: [...CHANGING_FLAGS, yesFlag("all that is on it is lost")],
  sentence: "erase a disk that was left alone because something is on it, and use it",
  run: async (call) => {
    const [unit = "", disk = ""] = call.operands;
    const path = `/api/v1/units/${encodeURIComponent(unit)}/claim-disk`;
    const request = { path: disk, erase: true };
    if (await call.tried("POST", path, request)) return 0;
    await confirmByName(call, { name: disk, cost: `All that is on ${disk} of ${unit} is lost` });
    await call.askPlain("POST", path, request);
    await call.print({ unit, path: disk }, () => `${disk} is erased, and comes into use\n`);
    return 0;
  },
};

const returnDisk: Command = {
  words: ["disk", "return"],
  operands: [{ name: "DISK", kind: "one" }],
  flags: CHANGING_FLAGS,
  sentence: "use a disk again that is being retired, failed, or was taken out and put back",
  run: async (call) => {
    const disk = diskIn(call);
    const path = `/api/v1/disks/${disk}/return`;
    if (await call.tried("POST", path)) return 0;
    await call.askPlain("POST", path);
    await call.print({ disk: Number(disk) }, () => `disk ${disk} is taken again\n`);
    return 0;
  },
};

const resyncColumns: Column<ResyncView>[] = [
  { head: "VOLUME", cell: (resync) => String(resync.volume) },
  { head: "SLICE", cell: (resync) => String(resync.slice) },
  { head: "ONTO DISK", cell: (resync) => String(resync.target) },
  { head: "DONE", cell: (resync) => sizeInWords(resync.doneBytes) },
  { head: "OF", cell: (resync) => sizeInWords(resync.totalBytes) },
];

const recovery: Command = {
  words: ["recovery", "show"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "resyncs and rebuilds under way on this unit",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(RecoverySchema, "GET", "/api/v1/recovery");
      await call.print(body, () => {
        const moved = `${sizeInWords(value.resyncedBytes)} moved since the unit started\n`;
        const said = deadlineText(value.deadline);
        return tableText(value.resyncs, resyncColumns, { wide: false }) + moved + said;
      });
    }),
};

function deadlineText({ withinMs, problems, unknown }: RecoveryView["deadline"]): string {
  if (withinMs === 0) return "";
  const said = [...problems, ...unknown];
  if (said.length === 0) said.push("it could be kept after the loss of any unit");
  const lines = said.map((sentence) => `  - ${sentence}\n`);
  return `protected again within ${durationInWords(withinMs)}:\n${lines.join("")}`;
}

const eventColumns: Column<EventView>[] = [
  { head: "NUMBER", cell: (event) => String(event.number) },
  { head: "TIME (UTC)", cell: (event) => timeInWords(event.atMs) },
  { head: "SEVERITY", cell: (event) => event.severity },
  { head: "KIND", cell: (event) => event.kind, wide: true },
  { head: "BY", cell: (event) => event.actor ?? "" },
  { head: "WHAT HAPPENED", cell: (event) => event.sentence },
];

const events: Command = {
  words: ["event", "list"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
    WIDE_FLAG,
    { name: "watch", kind: "yesno", sentence: "then go on with new ones until Ctrl-C" },
    { name: "since", kind: "whole", value: "NUMBER", sentence: "only after this event" },
    {
      name: "actor",
      kind: "text",
      value: "NAME",
      sentence: "only what somebody of this name asked for, such as anna or 'token backup'",
    },
    {
      name: "limit",
      kind: "whole",
      value: "COUNT",
      sentence: `at most so many, up to ${EVENTS_MAX}`,
    },
  ],
  sentence: "what happened, newest last",
  run: listEvents,
};

async function listEvents(call: Call): Promise<number> {
  let since = wholeNumber(call, "since") ?? 0;
  const limit = wholeNumber(call, "limit") ?? EVENTS_USUAL;
  const wide = call.flags.isSet("wide");
  const actor = call.flags.word("actor");
  const by = actor === null ? "" : `&actor=${encodeURIComponent(actor)}`;
  const look = async (): Promise<void> => {
    const path = `/api/v1/events?since=${since}&limit=${limit}${by}`;
    const { value, body } = await call.ask(EventsSchema, "GET", path);
    const last = value.events.at(-1);
    if (last === undefined && call.flags.isSet("watch")) return;
    since = last?.number ?? since;
    await call.print(body, () => tableText(value.events, eventColumns, { wide }));
  };
  return call.follow(look, FOLLOW_EVERY_MS);
}

function wholeNumber(call: Call, name: string): number | null {
  const word = call.flags.word(name);
  if (word === null) return null;
  if (!/^\d{1,15}$/.test(word)) throw new Misuse(`--${name} needs a whole number`);
  return Number(word);
}

export const clusterCommands: readonly Command[] = [
  status,
  listing({
    words: ["unit", "list"],
    path: "/api/v1/units",
    schema: UnitsSchema,
    rows: (answer) => answer.units,
    columns: unitColumns,
    sentence: "the units of the cluster",
  }),
  listing({
    words: ["disk", "list"],
    path: "/api/v1/disks",
    schema: DisksSchema,
    rows: (answer) => answer.disks,
    columns: diskColumns,
    sentence: "the disks; --wide says why one is left alone, what was wrong, and the last scrub",
  }),
  scrubDisk,
  retireDisk,
  returnDisk,
  claimDisk,
  events,
  recovery,
];
