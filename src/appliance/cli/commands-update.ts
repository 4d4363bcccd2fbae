// SPDX-License-Identifier: Apache-2.0
//
// Commands about updates: status, load, start, stop, one unit, automatic ones; and health, which a
// slot on trial is blessed by.

import { Fault } from "#base/fault.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import { UnitStatusSchema } from "#appliance/api/schemas.ts";
import {
  HealthSchema,
  UPLOAD_PIECE_BYTES_MAX,
  UpdatePlanSchema,
  UpdateStatusSchema,
  UploadStateSchema,
} from "#appliance/api/update-schemas.ts";
import type { UpdatePlanView, UpdateStatusView } from "#appliance/update-backend.ts";
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  SIGNATURE_BYTES_MAX,
  SIGNATURE_FILE,
} from "#cluster/update-manifest.ts";
import {
  ASKING_FLAGS,
  CHANGING_FLAGS,
  type Call,
  type Command,
  DRY_RUN_FLAG,
  WATCH_FLAG,
} from "./command.ts";
import { EXIT } from "./exit-codes.ts";
import { failureOf, Misuse, UnitFault } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, factsText, tableText } from "./table.ts";

const PATH = "/api/v1/update";
const POLL_MS = 1000;
const HEALTH_POLL_MS = 2000;
/** Looks in a row at which a unit that is waited for must be healthy. */
const HEALTHY_LOOKS = 3;
/** A unit that restarts may take so long before it knows the owner's token again. */
const STRANGER_MS_MAX = 900_000;

const YES_FLAG: FlagDefinition = {
  name: "yes",
  kind: "yesno",
  sentence: "do not ask: accept what goes offline meanwhile",
};
const DOWNGRADE_FLAG: FlagDefinition = {
  name: "downgrade",
  kind: "yesno",
  sentence: "an older version than the one that runs is wanted",
};
const FOLLOW_FLAG: FlagDefinition = {
  name: "watch",
  kind: "yesno",
  sentence: "follow it until it has ended; exit code 1 if it stopped before its end",
};

// Status.

const status: Command = {
  words: ["update", "status"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "versions and slots, and how the update stands",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(UpdateStatusSchema, "GET", PATH);
      await call.print(body, () => statusText(value));
    }),
};

function statusText(state: UpdateStatusView): string {
  const { roll, automatic } = state;
  const trial = state.trial ? ", on trial" : "";
  const facts: [string, string][] = [["Version", `${state.version}${trial}`]];
  if (!state.appliance) facts.push(["Appliance", "no: it is updated where it came from"]);
  for (const slot of state.slots) facts.push(["Slot", slotInWords(slot)]);
  facts.push(["Loaded here", state.holds ?? "nothing"]);
  if (state.work !== null) facts.push(["Now", workInWords(state.work)]);
  if (state.sentence !== "") facts.push(["Last", state.sentence]);
  facts.push(["Update", roll === null ? "none is loaded" : `${roll.state}: ${roll.sentence}`]);
  facts.push(["By itself", automaticInWords(automatic)]);
  const table = tableText(state.units, unitColumns, { wide: false });
  return state.units.length === 0 ? factsText(facts) : `${factsText(facts)}\n${table}`;
}

function slotInWords(slot: UpdateStatusView["slots"][number]): string {
  const tries = slot.triesLeft === null ? "" : `, ${slot.triesLeft} tries left`;
  return `${slot.version} (${slot.state}${tries}${slot.running ? ", runs" : ""})`;
}

function workInWords({ sentence, doneBytes, totalBytes }: NonNullable<UpdateStatusView["work"]>) {
  if (totalBytes === 0) return sentence;
  return `${sentence}: ${sizeInWords(doneBytes)} of ${sizeInWords(totalBytes)}`;
}

function automaticInWords({ auto, window }: UpdateStatusView["automatic"]): string {
  if (!auto) return "no";
  return window === null ? "yes, at any time" : `yes, from ${window.from} to ${window.to} UTC`;
}

const unitColumns: Column<UpdateStatusView["units"][number]>[] = [
  { head: "UNIT", cell: (unit) => String(unit.unit) },
  { head: "NAME", cell: (unit) => unit.name },
  { head: "STATE", cell: (unit) => (unit.alive ? "up" : "away") },
  { head: "VERSION", cell: (unit) => `${unit.version}${unit.trial ? " (on trial)" : ""}` },
  { head: "HAS FILES", cell: (unit) => (unit.holds ? "yes" : "") },
  {
    head: "DOES",
    cell: (unit) => (unit.appliance ? unit.sentence : "no appliance: not updated from here"),
  },
];

// Load.

const load: Command = {
  words: ["update", "load"],
  operands: [{ name: "FOLDER-OR-URL", kind: "one" }],
  flags: [...ASKING_FLAGS],
  sentence: "load a signed update onto the unit, and tell the cluster of it",
  run: loadUpdate,
};

async function loadUpdate(call: Call): Promise<number> {
  const [place = ""] = call.operands;
  const isUrl = /^https?:\/\//.test(place);
  // A unit elsewhere cannot read this machine's folders: they are sent to it.
  if (!isUrl && call.flags.word("url") !== null) return upload(call, fromHere(call, place));
  const source = isUrl ? place : fromHere(call, place);
  await call.ask(UpdateStatusSchema, "POST", `${PATH}/load`, { source });
  for (;;) {
    const { value, body } = await call.ask(UpdateStatusSchema, "GET", PATH);
    if (value.work !== null) {
      await call.machine.pause(POLL_MS);
      continue;
    }
    if (value.failed !== null) throw asFailure(value.failed);
    await call.print(body, () => `${value.sentence}\n`);
    return EXIT.ok[0];
  }
}

function asFailure({ code, message }: { code: string; message: string }): UnitFault {
  return new UnitFault({ code, message, hint: "cairn update status" });
}

function fromHere(call: Call, place: string): string {
  return place.startsWith("/") ? place : `${call.machine.directory}/${place}`;
}

async function upload(call: Call, folder: string): Promise<number> {
  const paper = (name: string, bytesMax: number) => {
    const text = call.machine.readText(`${folder}/${name}`, bytesMax);
    if (text === null) throw new Fault("notFound", `${folder} has no ${name}`);
    return text;
  };
  const manifest = paper(MANIFEST_FILE, MANIFEST_BYTES_MAX);
  const signature = paper(SIGNATURE_FILE, SIGNATURE_BYTES_MAX);
  const request = { manifest, signature };
  const begun = await call.ask(UploadStateSchema, "POST", `${PATH}/upload`, request);
  let state = begun.value;
  while (state.wants !== null) {
    const { name, offsetBytes, leftBytes } = state.wants;
    const length = Math.min(UPLOAD_PIECE_BYTES_MAX, leftBytes);
    const piece = call.machine.readPiece(`${folder}/${name}`, offsetBytes, length);
    if (piece === null || piece.length === 0) {
      throw new Fault("notFound", `${folder} has no ${name}, or too little of it`);
    }
    const path = `${PATH}/upload/${encodeURIComponent(name)}?offset=${offsetBytes}`;
    const parsed = UploadStateSchema.safeParse(await call.put(path, piece));
    if (!parsed.success) {
      throw new Fault("versionMismatch", "the unit's answer is not understood");
    }
    state = parsed.data;
  }
  const { version } = state;
  await call.print({ version }, () => `version ${version} is loaded on this unit\n`);
  return EXIT.ok[0];
}

// Start and stop.

const start: Command = {
  words: ["update", "start"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
    { name: "version", kind: "text", value: "VERSION", sentence: "only if this one is loaded" },
    YES_FLAG,
    DOWNGRADE_FLAG,
    FOLLOW_FLAG,
    DRY_RUN_FLAG,
  ],
  sentence: "update the whole cluster, one unit at a time, while every volume stays online",
  run: (call) => startRoll(call, null),
};

const one: Command = {
  words: ["update", "unit"],
  operands: [{ name: "NUMBER", kind: "rest" }],
  flags: [
    ...ASKING_FLAGS,
    YES_FLAG,
    DOWNGRADE_FLAG,
    FOLLOW_FLAG,
    DRY_RUN_FLAG,
    {
      name: "alone",
      kind: "yesno",
      sentence: "without asking the cluster: for a unit that is in none, or cannot reach it",
    },
  ],
  sentence: "update only this unit, or the units named by number",
  run: updateUnits,
};

async function updateUnits(call: Call): Promise<number> {
  if (call.flags.isSet("alone")) return updateAlone(call);
  const numbers = call.operands.map((word) => {
    if (!/^[1-9]\d{0,8}$/.test(word)) throw new Misuse(`${word} is no unit's number`);
    return Number(word);
  });
  if (numbers.length > 0) return startRoll(call, numbers);
  const { value } = await call.ask(UnitStatusSchema, "GET", "/api/v1/status");
  if (value.unit === 0) {
    throw new Fault("notReady", "this unit is in no cluster yet; say --alone to update it");
  }
  return startRoll(call, [value.unit]);
}

async function updateAlone(call: Call): Promise<number> {
  if (call.operands.length > 0) throw new Misuse("--alone is for the unit that is asked");
  await confirm(call, ["what only this unit has is offline while it restarts"]);
  const request = { downgrade: call.flags.isSet("downgrade") };
  const { value, body } = await call.ask(UpdateStatusSchema, "POST", `${PATH}/alone`, request);
  await call.print(body, () => `${workInWords(value.work ?? NO_WORK)}; then it restarts\n`);
  return EXIT.ok[0];
}

const NO_WORK = { sentence: "it is under way", doneBytes: 0, totalBytes: 0 };

async function startRoll(call: Call, only: number[] | null): Promise<number> {
  const request = {
    version: call.flags.word("version"),
    only,
    downgrade: call.flags.isSet("downgrade"),
    accept: call.flags.isSet("yes"),
  };
  const { value, body } = await call.ask(UpdatePlanSchema, "POST", `${PATH}/plan`, request);
  const isDry = call.flags.isSet("dry-run");
  if (isDry || !call.asJson) await call.print(body, () => planText(value));
  if (value.refusals.length > 0) throw asFailure(notNow(value));
  if (isDry) return EXIT.ok[0];
  if (value.consequences.length > 0) {
    await confirm(call, value.consequences);
    request.accept = true;
  }
  const started = await call.ask(UpdateStatusSchema, "POST", `${PATH}/start`, request);
  if (call.flags.isSet("watch")) return follow(call);
  await call.print(started.body, () => "it has begun: cairn update status --watch\n");
  return EXIT.ok[0];
}

function notNow(plan: UpdatePlanView): { code: string; message: string } {
  return { code: "notFitting", message: `not now: ${plan.refusals.join("; ")}` };
}

function planText(plan: UpdatePlanView): string {
  const order = plan.order.map(({ unit, name }) => `${name} (unit ${unit})`).join(", then ");
  return [
    `version ${plan.version}: ${order || "no unit"}`,
    ...plan.consequences.map((sentence) => `meanwhile: ${sentence}`),
    "",
  ].join("\n");
}

async function confirm(call: Call, consequences: readonly string[]): Promise<void> {
  if (call.flags.isSet("yes")) return;
  const answer = await call.machine.ask(`Accept that ${consequences.join("; ")}? Type yes: `);
  if (answer === null) {
    throw new Misuse(`--yes is needed to accept that ${consequences.join("; ")}`);
  }
  if (answer.trim().toLowerCase() !== "yes") throw new Misuse("not started: it was not accepted");
}

/**
 * Prints what changes until the roll has ended; units restart meanwhile, also the one asked. Until
 * that one has read its cluster's state again, it knows no owner's token.
 */
async function follow(call: Call): Promise<number> {
  let said = "";
  let allowedAtMs = call.machine.nowMs();
  for (;;) {
    try {
      const { value, body } = await call.ask(UpdateStatusSchema, "GET", PATH);
      allowedAtMs = call.machine.nowMs();
      const { roll } = value;
      if (roll !== null && roll.sentence !== said) {
        said = roll.sentence;
        await call.print(body, () => `${said}\n`);
      }
      if (roll?.state === "done") return EXIT.ok[0];
      if (roll?.state === "stopped") return EXIT.failed[0];
    } catch (thrown) {
      const code = failureOf(thrown)?.exitCode;
      const isStranger = call.machine.nowMs() - allowedAtMs > STRANGER_MS_MAX;
      const passes = code === EXIT.notReady[0] || (code === EXIT.notAllowed[0] && !isStranger);
      if (!passes) throw thrown;
    }
    await call.machine.pause(POLL_MS);
  }
}

const stop: Command = {
  words: ["update", "stop"],
  operands: [],
  flags: CHANGING_FLAGS,
  sentence: "stop: a unit that restarts comes back, and no other follows",
  run: async (call) => {
    if (await call.tried("POST", `${PATH}/stop`)) return EXIT.ok[0];
    const { value, body } = await call.ask(UpdateStatusSchema, "POST", `${PATH}/stop`);
    await call.print(body, () => `${value.roll?.sentence ?? "no update is loaded"}\n`);
    return EXIT.ok[0];
  },
};

const auto: Command = {
  words: ["update", "auto"],
  operands: [{ name: "on|off", kind: "one" }],
  flags: [
    ...CHANGING_FLAGS,
    { name: "from", kind: "text", value: "HH:MM", sentence: "not before this time of day, UTC" },
    { name: "to", kind: "text", value: "HH:MM", sentence: "not after this time of day, UTC" },
  ],
  sentence: "whether a loaded update starts by itself, where nothing is to be accepted",
  run: setAutomatic,
};

async function setAutomatic(call: Call): Promise<number> {
  const [word] = call.operands;
  if (word !== "on" && word !== "off") throw new Misuse("say update auto on, or update auto off");
  const [from, to] = [call.flags.word("from"), call.flags.word("to")];
  if ((from === null) !== (to === null)) throw new Misuse("--from and --to go together");
  const window = from === null ? null : { from, to };
  const request = { auto: word === "on", window };
  if (await call.tried("PUT", `${PATH}/automatic`, request)) return EXIT.ok[0];
  const { value, body } = await call.ask(UpdateStatusSchema, "PUT", `${PATH}/automatic`, request);
  await call.print(body, () => `by itself: ${automaticInWords(value.automatic)}\n`);
  return EXIT.ok[0];
}

// Health.

const health: Command = {
  words: ["health"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
    {
      name: "wait",
      kind: "whole",
      value: "SECONDS",
      sentence: "wait so long for it; without: one look",
    },
  ],
  sentence: "whether this unit's version does its part: exit code 0 or 1",
  run: lookAtHealth,
};

async function lookAtHealth(call: Call): Promise<number> {
  const word = call.flags.word("wait");
  if (word !== null && !/^\d{1,6}$/.test(word)) throw new Misuse("--wait needs whole seconds");
  const untilMs = call.machine.nowMs() + Number(word ?? 0) * 1000;
  const needed = word === null ? 1 : HEALTHY_LOOKS;
  for (let looks = 0; ;) {
    const { healthy, sentence } = await oneLook(call);
    looks = healthy ? looks + 1 : 0;
    const isWell = looks >= needed;
    if (isWell || call.machine.nowMs() >= untilMs) {
      const text = isWell ? `healthy: ${sentence}\n` : `not healthy: ${sentence}\n`;
      await call.print({ healthy: isWell, sentence }, () => text);
      return isWell ? EXIT.ok[0] : EXIT.failed[0];
    }
    await call.machine.pause(HEALTH_POLL_MS);
  }
}

/** A unit that does not answer is not healthy, whatever the reason. */
async function oneLook(call: Call): Promise<{ healthy: boolean; sentence: string }> {
  try {
    return (await call.ask(HealthSchema, "GET", "/api/v1/health")).value;
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (failure === null || thrown instanceof Misuse) throw thrown;
    return { healthy: false, sentence: failure.message };
  }
}

export const updateCommands: readonly Command[] = [status, load, start, one, stop, auto, health];
