// SPDX-License-Identifier: Apache-2.0
//
// Commands about units that come in by their owner's word: those that wait without a join secret,
// and one that was removed.

import {
  AdmitSchema,
  ArrivalsSchema,
  OpenWindowSchema,
  WaitingSchema,
  WindowSchema,
} from "#appliance/api/arrival-schemas.ts";
import type { ArrivalsView, WindowView } from "#appliance/arrivals.ts";
import type { StrangerView } from "#appliance/backend.ts";
import { ASKING_FLAGS, CHANGING_FLAGS, type Command, WATCH_FLAG } from "./command.ts";
import { Misuse } from "./failure.ts";
import { type Column, tableText } from "./table.ts";

const columns: Column<StrangerView>[] = [
  { head: "NAME", cell: (unit) => unit.name },
  { head: "WORDS", cell: (unit) => unit.words.join(" ") },
  { head: "ADDRESS", cell: (unit) => unit.address },
  { head: "VERSION", cell: (unit) => unit.version },
];

const waiting: Command = {
  words: ["unit", "waiting"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "units that wait without a join secret, as the asked unit hears them",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(ArrivalsSchema, "GET", "/api/v1/arrivals");
      await call.print(body, () => arrivalsText(value));
    }),
};

function arrivalsText({ waiting: units, window }: ArrivalsView): string {
  const list =
    units.length === 0
      ? "no unit waits without a join secret\n"
      : tableText(units, columns, { wide: false });
  return window === null ? list : `${list}${windowText(window)}`;
}

function windowText({ secondsLeft, unitsLeft }: WindowView): string {
  return `whatever asks is let in for ${secondsLeft} s more, ${unitsLeft} at most\n`;
}

const admit: Command = {
  words: ["unit", "admit"],
  operands: [{ name: "WORDS", kind: "rest" }],
  flags: CHANGING_FLAGS,
  sentence: "give the join secret to the waiting unit with these words; compare its screen first",
  run: async (call) => {
    const words = call.operands.join(" ");
    const request = AdmitSchema.safeParse({ words });
    if (!request.success) throw new Misuse("unit admit takes the five words of a waiting unit");
    const path = "/api/v1/arrivals/admit";
    if (await call.tried("POST", path, request.data)) return 0;
    const { value, body } = await call.ask(WaitingSchema, "POST", path, request.data);
    await call.print(body, () => `${value.name} has the join secret and joins by itself\n`);
    return 0;
  },
};

const admitAll: Command = {
  words: ["unit", "admit-all"],
  operands: [],
  flags: [
    ...CHANGING_FLAGS,
    { name: "seconds", kind: "whole", value: "NUMBER", sentence: "for so long, at most 600" },
    { name: "limit", kind: "whole", value: "NUMBER", sentence: "so many units at most; 8" },
    { name: "close", kind: "yesno", sentence: "let in nobody any more" },
  ],
  sentence: "give the join secret to whatever asks for a while, on a network that is yours alone",
  run: async (call) => {
    const path = "/api/v1/arrivals/window";
    if (call.flags.isSet("close")) {
      if (await call.tried("DELETE", path)) return 0;
      await call.askPlain("DELETE", path);
      await call.print({ window: null }, () => "nobody is let in without a join secret any more\n");
      return 0;
    }
    const number = (name: string) => {
      const word = call.flags.word(name);
      return word === null ? undefined : Number(word);
    };
    const said = { seconds: number("seconds"), units: number("limit") };
    const request = OpenWindowSchema.safeParse(said);
    if (!request.success) {
      throw new Misuse("a window is open for 1 to 600 seconds, for 1 to 64 units");
    }
    if (await call.tried("PUT", path, request.data)) return 0;
    const { value, body } = await call.ask(WindowSchema, "PUT", path, request.data);
    await call.print(body, () => windowText(value));
    return 0;
  },
};

const renew: Command = {
  words: ["unit", "renew"],
  operands: [],
  flags: CHANGING_FLAGS,
  sentence: "make the asked unit new after it was removed: it joins again as another one",
  run: async (call) => {
    if (await call.tried("POST", "/api/v1/renew")) return 0;
    await call.askPlain("POST", "/api/v1/renew");
    await call.print({ renewed: true }, () => "it begins anew, as another unit\n");
    return 0;
  },
};

export const arrivalCommands: readonly Command[] = [waiting, admit, admitAll, renew];
