// SPDX-License-Identifier: Apache-2.0
//
// Commands about the control state itself: backups, and a restore for when the majority of the
// voters is gone for good.

import {
  BackupFileSchema,
  BackupsSchema,
  KeptBackupSchema,
  RestoreSchema,
} from "#appliance/api/control-schemas.ts";
import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { KeptBackup } from "#appliance/control-backups.ts";
import type { UnitBackup } from "#appliance/control-desk.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, type Call, type Command, DRY_RUN_FLAG } from "./command.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

const BACKUPS = "/api/v1/control/backups";
const RESTORE = "/api/v1/control/restore";

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

const restore: Command = {
  words: ["control", "restore"],
  operands: [{ name: "FILE", kind: "rest" }],
  flags: [
    ...ASKING_FLAGS,
    { name: "yes", kind: "yesno", sentence: "do not ask: the majority of the voters is gone" },
    DRY_RUN_FLAG,
  ],
  sentence: "begin a new control store on this unit from a backup, the newest kept here or FILE",
  run: restoreControl,
};

async function restoreControl(call: Call): Promise<number> {
  const [file, ...more] = call.operands;
  if (more.length > 0) throw new Misuse("control restore takes one FILE");
  const from = file === undefined ? {} : { file: fromHere(call, file) };
  const wish = { ...from, dryRun: true };
  const { value: plan, body } = await call.ask(RestoreSchema, "POST", RESTORE, wish);
  const steps = plan.sentences.map((sentence, at) => `${at + 1}. ${sentence}\n`).join("");
  if (call.flags.isSet("dry-run")) {
    await call.print(body, () => steps);
    return 0;
  }
  for (const sentence of plan.sentences) await call.note(sentence);
  if (!call.flags.isSet("yes")) {
    const answer = await call.machine.ask("Type yes to go on: ");
    if (answer === null) throw new Misuse("restoring needs --yes where nobody can be asked");
    if (answer.trim() !== "yes") throw new Misuse("nothing was restored");
  }
  const { body: begun } = await call.ask(RestoreSchema, "POST", RESTORE, {
    ...from,
    dryRun: false,
  });
  await call.print(begun, () => "the unit starts anew; see cairn status and cairn question list\n");
  return 0;
}

export const controlCommands: readonly Command[] = [backup, list, restore];
