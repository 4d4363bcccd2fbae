// SPDX-License-Identifier: Apache-2.0
//
// Commands about the control state itself: backups, and a restore for when the majority of the
// voters is gone for good, or a rebuild where no backup is left.

import {
  BackupFileSchema,
  BackupsSchema,
  KeptBackupSchema,
  RebuildSchema,
  RestoreSchema,
  SettleSchema,
} from "#appliance/api/control-schemas.ts";
import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { KeptBackup } from "#appliance/control-backups.ts";
import type { UnitBackup } from "#appliance/control-desk.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, CHANGING_FLAGS, type Call, type Command, DRY_RUN_FLAG } from "./command.ts";
import type { FlagDefinition } from "./flags.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

const BACKUPS = "/api/v1/control/backups";
const RESTORE = "/api/v1/control/restore";
const REBUILD = "/api/v1/control/rebuild";
const SETTLE = "/api/v1/control/settle";

const backup: Command = {
  words: ["control", "backup"],
  operands: [{ name: "FILE", kind: "rest" }],
  flags: ASKING_FLAGS,
  sentence:
    "keep a backup of the control state on the unit now, and write it to a new file if named",
  run: async (call) => {
    const [file, ...more] = call.operands;
    if (more.length > 0) throw new Misuse("control backup takes one FILE");
    const reserved =
      file === undefined ? null : await call.machine.reserveSecretFile(fromHere(call, file));
    try {
      const { value: kept, body } = await call.ask(KeptBackupSchema, "POST", BACKUPS);
      if (reserved === null) {
        await call.print(body, () => `${keptInWords(kept)} is kept on the unit\n`);
        return 0;
      }
      const { value } = await call.ask(BackupFileSchema, "GET", `${BACKUPS}/${kept.name}`);
      await reserved.fill(value.base64);
      await call.print({ file, backup: body }, () => `${file}: ${keptInWords(kept)}\n`);
      return 0;
    } catch (error) {
      await reserved?.discard();
      throw error;
    }
  },
};

function keptInWords({ takenAtMs, bytes, entries }: KeptBackup): string {
  return `backup of ${timeInWords(takenAtMs)} UTC, ${entries} keys, ${sizeInWords(bytes)}`;
}

const hereColumns: Column<KeptBackup>[] = [
  { head: "KEPT HERE", cell: ({ name }) => name },
  { head: "TAKEN (UTC)", cell: ({ takenAtMs }) => timeInWords(takenAtMs) },
  { head: "GENERATION", cell: ({ generation }) => String(generation.number) },
  { head: "KEYS", cell: ({ entries }) => String(entries) },
  { head: "SIZE", cell: ({ bytes }) => sizeInWords(bytes) },
];
const unitColumns: Column<UnitBackup>[] = [
  { head: "UNIT", cell: ({ name }) => name },
  {
    head: "LAST KEPT (UTC)",
    cell: ({ keptAtMs }) => (keptAtMs === null ? "not known" : timeInWords(keptAtMs)),
  },
];

const list: Command = {
  words: ["control", "backups"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "the backups of the control state on the unit, and when each unit last kept one",
  run: async (call) => {
    const { value, body } = await call.ask(BackupsSchema, "GET", BACKUPS);
    await call.print(body, () => {
      const here = tableText(value.here, hereColumns, { wide: false });
      return `${here}\n${tableText(value.units, unitColumns, { wide: false })}`;
    });
    return 0;
  },
};

/** Of what begins another control store. */
const BEGIN_FLAGS: readonly FlagDefinition[] = [
  ...ASKING_FLAGS,
  { name: "yes", kind: "yesno", sentence: "do not ask: the majority of the voters is gone" },
  DRY_RUN_FLAG,
];

const restore: Command = {
  words: ["control", "restore"],
  operands: [{ name: "FILE", kind: "rest" }],
  flags: BEGIN_FLAGS,
  sentence: "begin a new control store on this unit from a backup, the newest kept here or FILE",
  run: async (call) => {
    const [file, ...more] = call.operands;
    if (more.length > 0) throw new Misuse("control restore takes one FILE");
    const from = file === undefined ? {} : { file: fromHere(call, file) };
    return begin(call, (dryRun) => call.ask(RestoreSchema, "POST", RESTORE, { ...from, dryRun }));
  },
};

const rebuild: Command = {
  words: ["control", "rebuild"],
  operands: [],
  flags: BEGIN_FLAGS,
  sentence: "begin a new control store on this unit where no backup is left, from what disks hold",
  run: (call) => begin(call, (dryRun) => call.ask(RebuildSchema, "POST", REBUILD, { dryRun })),
};

const settle: Command = {
  words: ["control", "settle"],
  operands: [],
  flags: [
    ...CHANGING_FLAGS,
    { name: "yes", kind: "yesno", sentence: "do not ask: all disks that are left are there" },
  ],
  sentence: "after a rebuild, say that all disks that are left are there: volumes go on by them",
  run: async (call) => {
    if (await call.tried("POST", SETTLE)) return 0;
    const cost = "What a disk tells that comes later changes nothing any more";
    await mustSayYes(call, `${cost}; see cairn question list and cairn disk list. `);
    const { value, body } = await call.ask(SettleSchema, "POST", SETTLE);
    const told = `${value.disks} ${value.disks === 1 ? "disk has" : "disks have"} told`;
    await call.print(body, () => `settled: ${told}; see cairn volume list\n`);
    return 0;
  },
};

type Plan = { sentences: readonly string[] };

/** Says what it does and loses; does it after a yes. */
async function begin(
  call: Call,
  ask: (dryRun: boolean) => Promise<{ value: Plan; body: unknown }>,
): Promise<number> {
  const { value: plan, body } = await ask(true);
  const steps = plan.sentences.map((sentence, at) => `${at + 1}. ${sentence}\n`).join("");
  if (call.flags.isSet("dry-run")) {
    await call.print(body, () => steps);
    return 0;
  }
  for (const sentence of plan.sentences) await call.note(sentence);
  await mustSayYes(call, "");
  const { body: begun } = await ask(false);
  await call.print(begun, () => "the unit starts anew; see cairn status and cairn question list\n");
  return 0;
}

async function mustSayYes(call: Call, before: string): Promise<void> {
  if (call.flags.isSet("yes")) return;
  const answer = await call.machine.ask(`${before}Type yes to go on: `);
  if (answer === null) throw new Misuse("this needs --yes where nobody can be asked");
  if (answer.trim() !== "yes") throw new Misuse("nothing was changed");
}

export const controlCommands: readonly Command[] = [backup, list, restore, rebuild, settle];
