// SPDX-License-Identifier: Apache-2.0
//
// The drill's part of the recovery page: what one does is told before it is begun, then how far it
// is, then what was seen.

/** @jsxImportSource hono/jsx */

import { drillView } from "#appliance/api/drill-api.ts";
import { timeInWords } from "#appliance/api/words.ts";
import type { UnitView } from "#appliance/backend.ts";
import type { DrillState, Drills } from "#appliance/drills.ts";
import type { ConsoleApp, Desk } from "./console.tsx";
import { Form, Live, State, Words } from "./frame.tsx";
import type { Session } from "./sessions.ts";

const PLACE = "/recovery";

export function addDrill(app: ConsoleApp, desk: Desk): void {
  const { drills } = desk.backend;
  app.post(
    `${PLACE}/drill`,
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const unit = form.get("unit") ?? "";
      drills.begin(unit === "" ? undefined : unit);
      session.note = "The drill has begun.";
      return desk.lead(call, PLACE);
    }),
  );
}

export function DrillSection(options: {
  drills: Drills;
  units: readonly UnitView[];
  session: Session;
}) {
  const { drills, units, session } = options;
  const { plan, refusal, state } = drillView(drills);
  const isUnderWay = state !== null && state.phase !== "over";
  return (
    <section aria-labelledby="drill">
      <h2 id="drill">Rehearse a failover</h2>
      <Live id="drill-state">{state === null ? null : <LastDrill state={state} />}</Live>
      {plan === null ? (
        isUnderWay ? null : (
          <p class="empty">No drill can be done now: {refusal}.</p>
        )
      ) : (
        <Form session={session} action={`${PLACE}/drill`} class="card form">
          <ol>
            {plan.sentences.map((sentence) => (
              <li>
                <Words text={sentence} />
              </li>
            ))}
          </ol>
          <div class="field">
            <label for="drill-unit">Who falls silent</label>
            <select id="drill-unit" name="unit">
              <option value="">whoever heads the volume</option>
              {units
                .filter((unit) => unit.alive && unit.role === "member")
                .map((unit) => (
                  <option value={unit.name}>{unit.name}</option>
                ))}
            </select>
          </div>
          <p class="actions">
            <button type="submit">Begin the drill</button>
          </p>
        </Form>
      )}
    </section>
  );
}

function LastDrill({ state }: { state: DrillState }) {
  const { passed, sentence, startedAtMs } = state;
  const [tone, word] =
    passed === null
      ? (["notice", "under way"] as const)
      : passed
        ? (["good", "passed"] as const)
        : (["bad", "failed"] as const);
  return (
    <p>
      <State tone={tone} words={`The drill of ${timeInWords(startedAtMs)} UTC: ${word}`} />.{" "}
      {sentence}.
    </p>
  );
}
