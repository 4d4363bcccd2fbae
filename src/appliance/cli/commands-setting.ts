// SPDX-License-Identifier: Apache-2.0
//
// Commands for the settings of the cluster, in the words of setting-words.ts, and its authority.

import { AuthoritySchema, RecoverySchema, SettingsSchema } from "#appliance/api/schemas.ts";
import { SETTINGS, type SettingWords, settingOf } from "#appliance/api/setting-words.ts";
import type { SettingsView } from "#appliance/backend.ts";
import { ASKING_FLAGS, CHANGING_FLAGS, WATCH_FLAG } from "./command.ts";
import type { Command } from "./command.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

const DEADLINE_SETTINGS = ["protectWithinMs", "reprotectAfterMs"];

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
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "the settings of the cluster",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(SettingsSchema, "GET", "/api/v1/settings");
      await call.print(body, () => settingsText(value));
    }),
};

const set: Command = {
  words: ["setting", "set"],
  operands: [
    { name: "SETTING", kind: "one" },
    { name: "VALUE", kind: "one" },
  ],
  flags: CHANGING_FLAGS,
  sentence: "change one, such as: setting set scrubEveryMs 7d",
  run: async (call) => {
    const [name = "", word = ""] = call.operands;
    const changes = settingOf(name, word);
    if (typeof changes === "string") throw new Misuse(changes);
    if (await call.tried("PATCH", "/api/v1/settings", changes)) return 0;
    const answer = await call.ask(SettingsSchema, "PATCH", "/api/v1/settings", changes);
    await call.print(answer.body, () => settingsText(answer.value));
    // What cannot be kept is said when it is promised, not after the loss.
    if (Object.keys(changes).some((changed) => DEADLINE_SETTINGS.includes(changed))) {
      const { value } = await call.ask(RecoverySchema, "GET", "/api/v1/recovery");
      for (const sentence of value.deadline.problems) await call.note(sentence);
      for (const sentence of value.deadline.unknown) await call.note(sentence);
    }
    return 0;
  },
};

const authority: Command = {
  words: ["authority", "show"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "the authority whose certificates units show over https: for --ca and browsers",
  run: async (call) => {
    const { value, body } = await call.ask(AuthoritySchema, "GET", "/api/v1/authority");
    await call.print(body, () => `${value.pem}SHA-256 ${value.fingerprint}\n`);
    return 0;
  },
};

export const settingCommands: readonly Command[] = [list, set, authority];
