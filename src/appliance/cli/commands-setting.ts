// SPDX-License-Identifier: Apache-2.0
//
// Commands for the settings of the cluster. Names are those of the REST API; durations and sizes
// are said as people say them.

import { SettingsSchema } from "#appliance/api/schemas.ts";
import { durationInWords, parseDuration, parseSize, sizeInWords } from "#appliance/api/words.ts";
import type { SettingsView } from "#appliance/backend.ts";
import { ASKING_FLAGS } from "./command.ts";
import type { Command } from "./command.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

type Name = keyof SettingsView;

interface SettingWords {
  name: Name;
  sentence: string;
  parse(word: string): number | null;
  show(value: number): string;
}

const duration = {
  parse: (word: string) => (word === "0" ? 0 : parseDuration(word)),
  show: durationInWords,
};
const whole = {
  parse: (word: string) => (/^\d{1,15}$/.test(word) ? Number(word) : null),
  show: String,
};

const SETTINGS: readonly SettingWords[] = [
  {
    name: "reprotectAfterMs",
    sentence: "how long a copy may be missing before another disk takes its place",
    ...duration,
  },
  {
    name: "scrubEveryMs",
    sentence: "every block of every disk is read at least this often; 0: only when asked",
    ...duration,
  },
  {
    name: "scrubBytesPerSecondMax",
    sentence: "the most that a scrub reads of a disk, per second",
    parse: parseSize,
    show: sizeInWords,
  },
  {
    name: "diskErrorsMax",
    sentence: "a disk that was wrong in so many places within a day is retired; 0: never",
    ...whole,
  },
];

const columns: Column<[SettingWords, SettingsView]>[] = [
  { head: "SETTING", cell: ([setting]) => setting.name },
  { head: "VALUE", cell: ([setting, values]) => setting.show(values[setting.name]) },
  { head: "WHAT IT IS", cell: ([setting]) => setting.sentence },
];

function settingsText(values: SettingsView): string {
  const rows = SETTINGS.map((setting): [SettingWords, SettingsView] => [setting, values]);
  return tableText(rows, columns, { wide: false });
}

const list: Command = {
  words: ["setting", "list"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "the settings of the cluster",
  run: async (call) => {
    const { value, body } = await call.ask(SettingsSchema, "GET", "/api/v1/settings");
    await call.print(body, () => settingsText(value));
    return 0;
  },
};

const set: Command = {
  words: ["setting", "set"],
  operands: [
    { name: "SETTING", kind: "one" },
    { name: "VALUE", kind: "one" },
  ],
  flags: ASKING_FLAGS,
  sentence: "change one, such as: setting set scrubEveryMs 7d",
  run: async (call) => {
    const [name = "", word = ""] = call.operands;
    const setting = SETTINGS.find((one) => one.name === name);
    if (setting === undefined) {
      const names = SETTINGS.map((one) => one.name).join(", ");
      throw new Misuse(`there is no setting ${JSON.stringify(name)}; there are: ${names}`);
    }
    const value = setting.parse(word);
    if (value === null) {
      throw new Misuse(`${name} is not ${JSON.stringify(word)}: such as 14d, 50M or a number`);
    }
    const changes = { [setting.name]: value };
    const answer = await call.ask(SettingsSchema, "PATCH", "/api/v1/settings", changes);
    await call.print(answer.body, () => settingsText(answer.value));
    return 0;
  },
};

export const settingCommands: readonly Command[] = [list, set];
