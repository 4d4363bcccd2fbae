// SPDX-License-Identifier: Apache-2.0
//
// The command that rehearses a failover: it says what will be done, has it done, and says what was
// seen.

import { Fault } from "#base/fault.ts";
import { DrillSchema, DrillStateSchema } from "#appliance/api/drill-schemas.ts";
import { ASKING_FLAGS, type Command, DRY_RUN_FLAG } from "./command.ts";

const LOOK_EVERY_MS = 500;
const PATH = "/api/v1/drill";

const drill: Command = {
  words: ["drill"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
    { name: "unit", kind: "text", value: "UNIT", sentence: "who is to fall silent to the canary" },
    DRY_RUN_FLAG,
  ],
  sentence: "fail over a canary volume for real, and say how long a host would have waited",
  run: async (call) => {
    const unit = call.flags.word("unit");
    const query = unit === null ? "" : `?unit=${encodeURIComponent(unit)}`;
    const { value, body } = await call.ask(DrillSchema, "GET", `${PATH}${query}`);
    const { plan, refusal } = value;
    const isDry = call.flags.isSet("dry-run");
    if (isDry) {
      if (plan === null) await call.print(body, () => `no drill can be done: ${refusal}\n`);
      else await call.print(body, () => planText(plan.sentences));
      return plan === null ? 1 : 0;
    }
    // Said before anything is done, also to whoever reads the result as JSON.
    for (const sentence of plan?.sentences ?? []) await call.note(sentence);
    const request = unit === null ? {} : { unit };
    let { value: state } = await call.ask(DrillStateSchema, "POST", PATH, request);
    let said = "";
    while (state.phase !== "over") {
      if (state.sentence !== said) await call.note(state.sentence);
      said = state.sentence;
      await call.machine.pause(LOOK_EVERY_MS);
      const { value: seen } = await call.ask(DrillSchema, "GET", PATH);
      if (seen.state === null) throw new Fault("notReady", "the unit began anew meanwhile");
      state = seen.state;
    }
    const { passed, sentence } = state;
    await call.print(state, () => `${passed === true ? "passed" : "FAILED"}: ${sentence}\n`);
    return passed === true ? 0 : 1;
  },
};

function planText(sentences: readonly string[]): string {
  return sentences.map((sentence, at) => `${at + 1}. ${sentence}\n`).join("");
}

export const drillCommands: readonly Command[] = [drill];
