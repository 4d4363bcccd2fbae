// SPDX-License-Identifier: Apache-2.0
//
// Commands for whoever looks for a fault: a unit's support bundle, and its decisions once more by
// the code of this executable.

import { Fault } from "#base/fault.ts";
import {
  BUNDLE_CHARACTERS_MAX,
  SupportBundleSchema,
  replayBundle,
} from "#appliance/support-bundle.ts";
import type { ReplayedRun } from "#appliance/support-bundle.ts";
import { timeInWords } from "#appliance/api/words.ts";
import type { Replayed } from "#cluster/replay.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, type Command, OUTPUT_FLAG } from "./command.ts";
import { type Column, tableText } from "./table.ts";

/** Bytes of a character in UTF-8, at most. */
const BYTES_PER_CHARACTER = 4;

const bundle: Command = {
  words: ["support", "bundle"],
  operands: [{ name: "FILE", kind: "one" }],
  flags: ASKING_FLAGS,
  sentence: "write what a unit knows and decided lately to a new file, without secrets",
  run: async (call) => {
    const [file = ""] = call.operands;
    const { value, body } = await call.ask(SupportBundleSchema, "GET", "/api/v1/support-bundle");
    const reserved = await call.machine.reserveSecretFile(fromHere(call, file));
    await reserved.fill(`${JSON.stringify(body)}\n`);
    for (const part of value.leftOut) await call.note(`${part} did not fit and is left out`);
    await call.print({ file, leftOut: value.leftOut }, () => `${file} is written\n`);
    return 0;
  },
};

const columns: Column<Replayed>[] = [
  { head: "DECISION", cell: (one) => String(one.number) },
  { head: "TIME (UTC)", cell: (one) => timeInWords(one.wallMs) },
  { head: "BY", cell: (one) => one.by },
  { head: "NOW", cell: (one) => one.outcome },
  { head: "WHAT IS OTHERWISE", cell: (one) => one.differences.join("; ") },
];

const replay: Command = {
  words: ["replay"],
  operands: [{ name: "FILE", kind: "one" }],
  flags: [
    OUTPUT_FLAG,
    { name: "all", kind: "yesno", sentence: "also decisions that are the same now" },
  ],
  sentence: "have this executable decide again what a support bundle holds, and compare",
  run: async (call) => {
    const [file = ""] = call.operands;
    const bytesMax = BUNDLE_CHARACTERS_MAX * BYTES_PER_CHARACTER;
    const text = call.machine.readText(fromHere(call, file), bytesMax);
    if (text === null) throw new Fault("notFound", `${file}: no such file`);
    const runs = replayBundle(text);
    const shown = runs.map(({ version, replayed }) => {
      const isShown = (one: Replayed) => call.flags.isSet("all") || one.outcome !== "same";
      return { version, decisions: replayed.filter(isShown) };
    });
    const words = runs.map((run, at) => runText(run, shown[at]?.decisions ?? []));
    await call.print({ runs: shown }, () => words.join("\n"));
    const isOther = ({ outcome }: Replayed) => outcome === "different";
    return runs.some(({ replayed }) => replayed.some(isOther)) ? 1 : 0;
  },
};

function runText({ version, replayed }: ReplayedRun, shown: readonly Replayed[]): string {
  const count = (outcome: Replayed["outcome"]) =>
    replayed.filter((one) => one.outcome === outcome).length;
  const sum =
    `${replayed.length} decisions of version ${version}: ${count("same")} the same now, ` +
    `${count("different")} different, ${count("not replayed")} not replayed\n`;
  const table = shown.length === 0 ? "" : tableText(shown, columns, { wide: false });
  return table + sum;
}

export const supportCommands: readonly Command[] = [bundle, replay];
