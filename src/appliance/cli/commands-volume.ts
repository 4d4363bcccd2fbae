// SPDX-License-Identifier: Apache-2.0
//
// Commands about volumes: list, show, create, grow, rename, say how hosts attach, go on without a
// missing copy, give up what that left, delete. Which hosts may is said by commands-host.ts.

import { layouts } from "#base/layout.ts";
import { TLS_RULES } from "#base/tls.ts";
import { parseCopyName } from "#cluster/lineages.ts";
import type { VolumeView } from "#appliance/backend.ts";
import { VolumeSchema, VolumesSchema } from "#appliance/api/schemas.ts";
import { GRACE_MS, parseSize, sizeInWords, timeInWords } from "#appliance/api/words.ts";
import {
  ASKING_FLAGS,
  type Call,
  type Command,
  CHANGING_FLAGS,
  DRY_RUN_FLAG,
  DRY_RUN_NOTE,
  type Operand,
  WATCH_FLAG,
  WIDE_FLAG,
} from "./command.ts";
import { Misuse } from "./failure.ts";
import { confirmByName, removeNamed, yesFlag } from "./removal.ts";
import { type Column, factsText, tableText } from "./table.ts";

const VOLUME: Operand = { name: "VOLUME", kind: "one" };

const columns: Column<VolumeView>[] = [
  { head: "VOLUME", cell: (volume) => String(volume.volume) },
  { head: "NAME", cell: (volume) => volume.name },
  { head: "SIZE", cell: (volume) => sizeInWords(volume.sizeBytes) },
  { head: "PROTECTION", cell: (volume) => volume.protection },
  { head: "STATE", cell: (volume) => (isDeleted(volume) ? "deleted" : stateInWords(volume)) },
  { head: "ATTACH AT", cell: (volume) => volume.uris[0] ?? "" },
  { head: "HOSTS", cell: hostsInWords, wide: true },
  { head: "POOL", cell: (volume) => volume.pool, wide: true },
  { head: "TLS", cell: (volume) => volume.tls, wide: true },
  { head: "USED", cell: usedInWords, wide: true },
  { head: "SENTENCE", cell: (volume) => volume.sentence, wide: true },
];

function isDeleted({ deletedAtMs }: VolumeView): boolean {
  return deletedAtMs !== null;
}

function hostsInWords(volume: VolumeView): string {
  return volume.hosts.map(({ name }) => name).join(", ") || "nobody";
}

function stateInWords(volume: VolumeView): string {
  const percent = volume.rebuildingPercent === null ? "" : ` ${volume.rebuildingPercent} %`;
  return `${volume.availability}, ${volume.state}${percent}`;
}

function usedInWords(volume: VolumeView): string {
  return volume.usedBytes === null ? "" : sizeInWords(volume.usedBytes);
}

const list: Command = {
  words: ["volume", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WIDE_FLAG, WATCH_FLAG],
  sentence: "the volumes, and how they are",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(VolumesSchema, "GET", "/api/v1/volumes");
      const wide = call.flags.isSet("wide");
      await call.print(body, () => tableText(value.volumes, columns, { wide }));
    }),
};

const show: Command = {
  words: ["volume", "show"],
  operands: [VOLUME],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "one volume, by name or number, with its slices",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(VolumeSchema, "GET", pathOf(call));
      await call.print(body, () => volumeText(value));
    }),
};

function pathOf(call: Call): string {
  return `/api/v1/volumes/${encodeURIComponent(call.operands[0] ?? "")}`;
}

/** Facts that are left out where there is nothing to say. */
const MAY_LACK: ReadonlySet<string> = new Set(["", "Grows to"]);

function volumeText(volume: VolumeView): string {
  const facts: [string, string][] = [
    ["Volume", `${volume.name}, number ${volume.volume}`],
    ["Size", sizeInWords(volume.sizeBytes)],
    ["Grows to", volume.growingToBytes === null ? "" : sizeInWords(volume.growingToBytes)],
    ["Used", usedInWords(volume)],
    ["Protection", `${volume.protection}: ${layouts[volume.protection].sentence}`],
    ["Pool", volume.pool],
    ["State", stateInWords(volume)],
    ...deletionFacts(volume),
    ["", volume.sentence],
    ["Hosts", hostsInWords(volume)],
    ["TLS", volume.tls],
    ["Front", volume.front === null ? "none" : `unit ${volume.front}`],
    ...volume.uris.map((uri, at): [string, string] => [at === 0 ? "Attach at" : "or", uri]),
  ];
  const shown = facts.filter(([word, text]) => text !== "" || !MAY_LACK.has(word));
  const slices = tableText(volume.slices, sliceColumns, { wide: false });
  const kept = volume.kept.map((one) => `\n${keptText(one)}`).join("");
  return `${factsText(shown)}\n${slices}${kept}`;
}

function keptText(kept: VolumeView["kept"][number]): string {
  const until = kept.untilMs === null ? "" : `${timeInWords(kept.untilMs)} UTC, at least`;
  const facts: [string, string][] = [
    ["Kept", kept.name],
    ["From before", `${timeInWords(kept.wentOnAtMs)} UTC, when you went on without it`],
    ["Written until", until],
    ["", kept.sentence],
    ...kept.uris.map((uri, at): [string, string] => [at === 0 ? "Read it at" : "or", uri]),
    ["Give it up by", `cairn volume discard ${kept.name}`],
  ];
  const held = tableText(kept.slices, keptColumns, { wide: false });
  return `${factsText(facts.filter(([, text]) => text !== ""))}\n${held}`;
}

const keptColumns: Column<VolumeView["kept"][number]["slices"][number]>[] = [
  { head: "PLACE", cell: (one) => String(one.index) },
  { head: "SLICE", cell: (one) => String(one.slice) },
  { head: "KEPT ON", cell: (one) => `disk ${one.disk} on unit ${one.unit}` },
  { head: "HOLDS", cell: (one) => (one.bytes === null ? "not known" : sizeInWords(one.bytes)) },
  { head: "STATE", cell: (one) => (one.there ? "there" : "away") },
];

function deletionFacts({ deletedAtMs }: VolumeView): [string, string][] {
  if (deletedAtMs === null) return [];
  return [["Deleted", `gone for good at ${timeInWords(deletedAtMs)} UTC, unless it is restored`]];
}

const sliceColumns: Column<VolumeView["slices"][number]>[] = [
  { head: "PLACE", cell: (slice) => String(slice.index) },
  { head: "SLICE", cell: (slice) => String(slice.slice) },
  { head: "EPOCH", cell: (slice) => String(slice.epoch) },
  { head: "HEAD", cell: (slice) => `disk ${slice.head}` },
  { head: "MEMBERS", cell: (slice) => slice.members.map(memberInWords).join(", ") },
];

function memberInWords(member: VolumeView["slices"][number]["members"][number]): string {
  return `disk ${member.disk} on unit ${member.unit} (${member.state})`;
}

const create: Command = {
  words: ["volume", "create"],
  operands: [{ name: "NAME", kind: "one" }],
  flags: [
    ...ASKING_FLAGS,
    { name: "size", kind: "size", value: "SIZE", sentence: "such as 100G or 1.5T (binary units)" },
    {
      name: "protection",
      kind: "text",
      value: Object.keys(layouts).join("|"),
      sentence: "copies on different units; mirror-2 if not said",
    },
    {
      name: "host",
      kind: "texts",
      value: "HOST",
      sentence: "assigned to it from the start (cairn host add); may be repeated; none: nobody",
    },
    {
      name: "tls",
      kind: "text",
      value: TLS_RULES.join("|"),
      sentence: "whether hosts attach without TLS, over it, or either way; optional if not said",
    },
    { name: "pool", kind: "text", value: "POOL", sentence: "where it lies; the first if not said" },
    DRY_RUN_FLAG,
  ],
  sentence: "create a volume; done when it can be attached",
  run: createVolume,
};

function sizeOf(call: Call): number {
  const size = call.flags.word("size");
  if (size === null) throw new Misuse("--size is needed, such as --size 100G");
  const sizeBytes = parseSize(size);
  if (sizeBytes === null) throw new Misuse(`--size ${size}: needs a size such as 100G`);
  return sizeBytes;
}

async function createVolume(call: Call): Promise<number> {
  const sizeBytes = sizeOf(call);
  const protection = call.flags.word("protection");
  const tls = call.flags.word("tls");
  const pool = call.flags.word("pool");
  const request = {
    name: call.operands[0],
    sizeBytes,
    ...(protection === null ? {} : { protection }),
    hosts: call.flags.words("host") ?? [],
    ...(tls === null ? {} : { tls }),
    ...(pool === null ? {} : { pool }),
  };
  const dryRun = call.flags.isSet("dry-run");
  const path = `/api/v1/volumes?dryRun=${dryRun}`;
  const { value, body } = await call.ask(VolumeSchema, "POST", path, request);
  await call.print(body, () => volumeText(value));
  if (dryRun) await call.note(DRY_RUN_NOTE);
  else if (value.hosts.length === 0) {
    await call.note(`nobody may attach yet; say who: cairn volume assign ${value.name} HOST`);
  }
  return 0;
}

const grow: Command = {
  words: ["volume", "grow"],
  operands: [VOLUME],
  flags: [
    ...ASKING_FLAGS,
    { name: "size", kind: "size", value: "SIZE", sentence: "of the whole volume then, such as 2T" },
    DRY_RUN_FLAG,
  ],
  sentence: "make a volume larger; hosts see it as they attach anew, the others go on as they are",
  run: growVolume,
};

async function growVolume(call: Call): Promise<number> {
  const sizeBytes = sizeOf(call);
  const dryRun = call.flags.isSet("dry-run");
  const path = `${pathOf(call)}/grow?dryRun=${dryRun}`;
  const { value, body } = await call.ask(VolumeSchema, "POST", path, { sizeBytes });
  await call.print(body, () => volumeText(value));
  await call.note(dryRun ? DRY_RUN_NOTE : GROWN_NOTE);
  return 0;
}

const GROWN_NOTE =
  "hosts that are attached see the new size once they detach and attach again; " +
  "then their file system is grown";

const tls: Command = {
  words: ["volume", "tls"],
  operands: [VOLUME, { name: TLS_RULES.join("|"), kind: "one" }],
  flags: CHANGING_FLAGS,
  sentence: "say whether hosts attach without TLS, over it, or either way",
  run: changeTls,
};

async function changeTls(call: Call): Promise<number> {
  const rule = TLS_RULES.find((one) => one === call.operands[1]);
  if (rule === undefined) throw new Misuse(`say one of ${TLS_RULES.join(", ")}`);
  if (await call.tried("PATCH", pathOf(call), { tls: rule })) return 0;
  const { value, body } = await call.ask(VolumeSchema, "PATCH", pathOf(call), { tls: rule });
  await call.print(body, () => `${value.name}: TLS is ${value.tls}\n`);
  return 0;
}

const rename: Command = {
  words: ["volume", "rename"],
  operands: [VOLUME, { name: "NAME", kind: "one" }],
  flags: CHANGING_FLAGS,
  sentence: "give a volume another name: hosts attach by that from now on",
  run: async (call) => {
    const name = call.operands[1] ?? "";
    if (await call.tried("PATCH", pathOf(call), { name })) return 0;
    const { value, body } = await call.ask(VolumeSchema, "PATCH", pathOf(call), { name });
    await call.print(body, () => `it is called ${value.name}\n`);
    return 0;
  },
};

const remove: Command = {
  words: ["volume", "delete"],
  operands: [VOLUME],
  flags: [
    ...CHANGING_FLAGS,
    yesFlag("all that is on it is lost"),
    { name: "now", kind: "yesno", sentence: "at once: it cannot be taken back" },
  ],
  sentence: "delete a volume and all that is on it; it can be taken back for a day",
  run: deleteVolume,
};

async function deleteVolume(call: Call): Promise<number> {
  const { value } = await call.ask(VolumeSchema, "GET", pathOf(call));
  const isNow = call.flags.isSet("now");
  const path = `/api/v1/volumes/${value.volume}?graceMs=${isNow ? 0 : GRACE_MS}`;
  const cost = `All data on ${value.name} (${sizeInWords(value.sizeBytes)}) is lost`;
  if (!(await removeNamed(call, { name: value.name, path, cost }))) return 0;
  await call.print({ deleted: value }, () => `${value.name} is deleted\n`);
  if (!isNow) await call.note(`for a day it comes back by: cairn volume restore ${value.name}`);
  return 0;
}

const restore: Command = {
  words: ["volume", "restore"],
  operands: [VOLUME],
  flags: CHANGING_FLAGS,
  sentence: "take a deleted volume back, with its hosts, as long as it is kept",
  run: async (call) => {
    if (await call.tried("POST", `${pathOf(call)}/restore`)) return 0;
    const { value, body } = await call.ask(VolumeSchema, "POST", `${pathOf(call)}/restore`);
    await call.print(body, () => `${value.name} is back\n`);
    return 0;
  },
};

const accept: Command = {
  words: ["volume", "accept"],
  operands: [VOLUME],
  flags: [...CHANGING_FLAGS, yesFlag("what only missing disks hold is lost")],
  sentence: "after a restore, go on with what was found of a volume: the missing disks never come",
  run: async (call) => {
    const { value } = await call.ask(VolumeSchema, "GET", pathOf(call));
    const path = `/api/v1/volumes/${value.volume}/accept`;
    if (await call.tried("POST", path)) return 0;
    const cost = `Writes to ${value.name} that only the missing disks hold are lost`;
    await confirmByName(call, { name: value.name, cost });
    const { value: after, body } = await call.ask(VolumeSchema, "POST", path);
    await call.print(body, () => `${after.name} goes on with what was found of it\n`);
    return 0;
  },
};

const goOn: Command = {
  words: ["volume", "go-on"],
  operands: [VOLUME],
  flags: [...CHANGING_FLAGS, yesFlag("what only the missing copy has is left")],
  sentence: "have a volume that stands still go on without the copy that is missing; it is kept",
  run: goOnWithout,
};

async function goOnWithout(call: Call): Promise<number> {
  const { value } = await call.ask(VolumeSchema, "GET", pathOf(call));
  const { name, goOn: offer } = value;
  const path = `/api/v1/volumes/${value.volume}/go-on`;
  if (await call.tried("POST", path)) return 0;
  if (offer !== null) await confirmByName(call, { name, cost: offerText(name, offer) });
  const went = await call.ask(VolumeSchema, "POST", path);
  await call.print(went.body, () => `${name} goes on\n`);
  const [kept] = went.value.kept;
  if (kept !== undefined)
    await call.note(`what was missing is kept, once it is back: ${kept.name}`);
  return 0;
}

function offerText(name: string, { from, costs }: { from: string; costs: string }): string {
  return `${name} would go on from what ${from} holds: ${costs}`;
}

const discard: Command = {
  words: ["volume", "discard"],
  operands: [{ name: "VOLUME@before-N", kind: "one" }],
  flags: [...CHANGING_FLAGS, yesFlag("what only that copy holds is lost")],
  sentence: "give up what is kept of a volume from before it went on without it",
  run: discardKept,
};

async function discardKept(call: Call): Promise<number> {
  const text = call.operands[0] ?? "";
  const wanted = parseCopyName(text);
  if (wanted === null) throw new Misuse(`${text}: needs a kept copy's name, such as v1@before-1`);
  const path = `/api/v1/volumes/${encodeURIComponent(wanted.volume)}`;
  const { value } = await call.ask(VolumeSchema, "GET", path);
  const kept = value.kept.find(({ number }) => number === wanted.number);
  const cost = kept === undefined ? null : `What only ${kept.name} holds is lost`;
  const place = `/api/v1/volumes/${value.volume}/kept/${wanted.number}`;
  const name = kept?.name ?? text;
  if (!(await removeNamed(call, { name, path: place, cost }))) return 0;
  await call.print({ discarded: text }, () => `${text} is given up\n`);
  return 0;
}

export const volumeCommands: readonly Command[] = [
  list,
  show,
  create,
  grow,
  rename,
  tls,
  remove,
  restore,
  accept,
  goOn,
  discard,
];
