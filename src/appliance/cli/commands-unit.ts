// SPDX-License-Identifier: Apache-2.0
//
// Commands about units that are to go or to move, and about what a loss would mean.

import { MAINTENANCE_MS_DEFAULT } from "#cluster/maintenance.ts";
import { placeInWords } from "#cluster/pool-state.ts";
import type { Question } from "#cluster/questions.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import { LossesSchema, QuestionsSchema, WhatIfSchema } from "#appliance/api/fleet-schemas.ts";
import { parseDuration, sizeInWords } from "#appliance/api/words.ts";
import type { VolumeOutcome, WhatIf } from "#appliance/what-if.ts";
import {
  ASKING_FLAGS,
  type Call,
  type Command,
  DRY_RUN_FLAG,
  type Operand,
  WATCH_FLAG,
} from "./command.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

const UNIT: Operand = { name: "UNIT", kind: "one" };

const outcomeColumns: Column<VolumeOutcome>[] = [
  { head: "VOLUME", cell: (volume) => volume.name },
  { head: "THEN", cell: (volume) => `${volume.availability}, ${volume.protection}` },
  { head: "LATER", cell: (volume) => volume.later },
  { head: "IN WORDS", cell: (volume) => volume.sentence },
];

function whatIfText(answer: WhatIf): string {
  const { volumes, untouched, copiesBytesMax, afterMs } = answer;
  const table = volumes.length === 0 ? "" : tableText(volumes, outcomeColumns, { wide: false });
  const others = untouched === 1 ? "one other volume goes" : `${untouched} other volumes go`;
  const lines = [...answer.sentences];
  if (copiesBytesMax > 0) {
    const wait = afterMs === 0 ? "at once" : `after ${Math.ceil(afterMs / 1000)} s`;
    lines.push(`at most ${sizeInWords(copiesBytesMax)} would be copied, ${wait}`);
  }
  if (untouched > 0 && volumes.length > 0) lines.push(`${others} on as now`);
  return `${table}${lines.map((line) => `${line}\n`).join("")}`;
}

const whatIf: Command = {
  words: ["what-if"],
  operands: [
    { name: "unit|disk|link|maintenance", kind: "one" },
    { name: "WHICH", kind: "rest" },
  ],
  flags: ASKING_FLAGS,
  sentence: "what the loss of a unit, a disk or a link, or a unit's maintenance would mean",
  run: async (call) => {
    const query = whatIfQuery(call.operands);
    const { value, body } = await call.ask(WhatIfSchema, "GET", `/api/v1/what-if?${query}`);
    await call.print(body, () => whatIfText(value));
    return 0;
  },
};

function whatIfQuery(operands: readonly string[]): string {
  const [kind = "", one = "", other = "", ...more] = operands;
  const isLink = kind === "link";
  const isKnown = ["unit", "disk", "link", "maintenance"].includes(kind);
  if (!isKnown || one === "" || (other !== "") !== isLink || more.length > 0) {
    const ways = "cairn what-if unit UNIT, disk DISK, link UNIT UNIT, or maintenance UNIT";
    throw new Misuse("what-if takes a unit, a disk, a link's two units, or a maintenance", ways);
  }
  const value = isLink ? `${one},${other}` : one;
  return `${kind}=${encodeURIComponent(value)}`;
}

const lossColumns: Column<LossRow>[] = [
  { head: "IF IT FAILS", cell: (row) => row.name },
  { head: "THEN", cell: (row) => row.sentences.join("; ") },
];

const losses: Command = {
  words: ["unit", "losses"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "for each unit, what would be lost or stop if it failed now",
  run: async (call) => {
    const { value, body } = await call.ask(LossesSchema, "GET", "/api/v1/losses");
    await call.print(body, () => tableText(value.losses, lossColumns, { wide: false }));
    return 0;
  },
};

const questions: Command = {
  words: ["question", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what you must decide, and what each answer loses; the worst first",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(QuestionsSchema, "GET", "/api/v1/questions");
      await call.print(body, () => questionsText(value.questions));
    }),
};

function questionsText(open: readonly Question[]): string {
  if (open.length === 0) return "nothing is to be decided\n";
  const blocks = open.map(({ sentence, answers }) => {
    const lines = answers.map(({ answer, costs }) => `  - ${answer}\n    loses: ${costs}\n`);
    return `${sentence}\n${lines.join("")}`;
  });
  return blocks.join("\n");
}

const evacuate: Command = {
  words: ["unit", "evacuate"],
  operands: [UNIT],
  flags: [
    ...ASKING_FLAGS,
    { name: "then-remove", kind: "yesno", sentence: "once it holds nothing, remove it" },
    { name: "force", kind: "yesno", sentence: "begin also where not everything finds room" },
    DRY_RUN_FLAG,
  ],
  sentence: "move what a unit holds, heads and votes for to others, while volumes stay up",
  run: async (call) => {
    const request = {
      thenRemove: call.flags.isSet("then-remove"),
      force: call.flags.isSet("force"),
      dryRun: call.flags.isSet("dry-run"),
    };
    const path = `${unitPath(call)}/evacuate`;
    const { value, body } = await call.ask(WhatIfSchema, "POST", path, request);
    await call.print(body, () => whatIfText(value));
    if (request.dryRun) await call.note("dry run: nothing was changed");
    else await call.note(progressNote(call));
    return 0;
  },
};

function progressNote(call: Call): string {
  const [unit = ""] = call.operands;
  return `cairn unit list --wide says how far it is; cairn unit keep ${unit} takes it back`;
}

const move: Command = {
  words: ["unit", "move"],
  operands: [UNIT, { name: "POOL|none", kind: "one" }],
  flags: [
    ...ASKING_FLAGS,
    { name: "spare", kind: "yesno", sentence: "as a spare: used when the pool lacks a copy" },
    { name: "force", kind: "yesno", sentence: "begin also where not everything finds room" },
    DRY_RUN_FLAG,
  ],
  sentence: "put a unit into a pool, or make it a spare for all (none); emptied first if need be",
  run: moveUnit,
};

async function moveUnit(call: Call): Promise<number> {
  const [unit = "", to = ""] = call.operands;
  const pool = to === "none" ? null : to;
  const role = pool === null || call.flags.isSet("spare") ? "spare" : "member";
  const dryRun = call.flags.isSet("dry-run");
  const request = { pool, role, force: call.flags.isSet("force"), dryRun };
  const path = `${unitPath(call)}/move`;
  const { value, body } = await call.ask(WhatIfSchema, "POST", path, request);
  await call.print(body, () => whatIfText(value));
  const place = placeInWords({ role, pool });
  if (dryRun) await call.note(`${unit} would be ${place}; dry run: nothing was changed`);
  else await call.note(`${unit} is ${place} now, or once it is emptied; ${progressNote(call)}`);
  return 0;
}

const maintenance: Command = {
  words: ["unit", "maintenance"],
  operands: [UNIT],
  flags: [
    ...ASKING_FLAGS,
    { name: "for", kind: "text", value: "TIME", sentence: "for so long at most; 2h if not said" },
    { name: "off", kind: "yesno", sentence: "end it: the unit is as any other again" },
    { name: "force", kind: "yesno", sentence: "accept what stops meanwhile" },
    DRY_RUN_FLAG,
  ],
  sentence: "take a unit out for work: others head its slices, its copies are waited for",
  run: async (call) => {
    const path = `${unitPath(call)}/maintenance`;
    const [unit = ""] = call.operands;
    if (call.flags.isSet("off")) {
      if (call.flags.isSet("dry-run")) throw new Misuse("--off has nothing to try: leave it out");
      await call.askPlain("DELETE", path);
      await call.print({ unit }, () => `${unit} is not in maintenance any more\n`);
      return 0;
    }
    const word = call.flags.word("for");
    const forMs = word === null ? MAINTENANCE_MS_DEFAULT : parseDuration(word);
    if (forMs === null) throw new Misuse(`--for ${word}: needs a time such as 30m or 2h`);
    const dryRun = call.flags.isSet("dry-run");
    const request = { forMs, force: call.flags.isSet("force"), dryRun };
    const { value, body } = await call.ask(WhatIfSchema, "POST", path, request);
    await call.print(body, () => whatIfText(value));
    if (dryRun) await call.note("dry run: nothing was changed");
    else await call.note("cairn unit list --wide says when it may be switched off; then --off");
    return 0;
  },
};

const keep: Command = {
  words: ["unit", "keep"],
  operands: [UNIT],
  flags: ASKING_FLAGS,
  sentence: "take an evacuation or a move back: the unit keeps what it still holds",
  run: async (call) => {
    await call.askPlain("POST", `${unitPath(call)}/keep`);
    await call.print({ unit: call.operands[0] }, () => `${call.operands[0]} stays\n`);
    return 0;
  },
};

const replace: Command = {
  words: ["unit", "replace"],
  operands: [UNIT, { name: "BY", kind: "one" }],
  flags: ASKING_FLAGS,
  sentence: "have another unit take its place; then it is evacuated and removed",
  run: async (call) => {
    const request = { by: call.operands[1] ?? "" };
    const path = `${unitPath(call)}/replace`;
    const { value, body } = await call.ask(WhatIfSchema, "POST", path, request);
    await call.print(body, () => whatIfText(value));
    await call.note(progressNote(call));
    return 0;
  },
};

const remove: Command = {
  words: ["unit", "remove"],
  operands: [UNIT],
  flags: [
    ...ASKING_FLAGS,
    { name: "force", kind: "yesno", sentence: "accept fewer copies and votes; never lost data" },
  ],
  sentence: "remove a unit; refused with the reason while it would cost protection",
  run: async (call) => {
    const force = call.flags.isSet("force");
    await call.askPlain("DELETE", `${unitPath(call)}?force=${force}`);
    await call.print({ unit: call.operands[0] }, () => `${call.operands[0]} is removed\n`);
    return 0;
  },
};

function unitPath(call: Call): string {
  return `/api/v1/units/${encodeURIComponent(call.operands[0] ?? "")}`;
}

export const unitCommands: readonly Command[] = [
  evacuate,
  move,
  maintenance,
  keep,
  replace,
  remove,
  whatIf,
  losses,
  questions,
];
