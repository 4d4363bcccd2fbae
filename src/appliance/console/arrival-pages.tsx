// SPDX-License-Identifier: Apache-2.0
//
// The units of the cluster, and those that wait to come in: let in by their words, or whatever asks
// within a while.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { WINDOW_SECONDS_MAX, WINDOW_UNITS_MAX } from "#cluster/arrival-changes.ts";
import type { WindowView } from "#appliance/arrivals.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { StrangerView } from "#appliance/backend.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Field, Form, Live, Notice, Pages } from "./frame.tsx";
import { Losses, Strangers, UnitTable, WitnessOffer } from "./pages.tsx";
import { type Reading, partOf, readAll, readLosses } from "./reading.ts";
import type { Session } from "./sessions.ts";

const PLACE = "/units";
const UNITS_USUAL = 8;

export function addArrivalPages(app: ConsoleApp, desk: Desk): void {
  const { arrivals } = desk.backend;
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const seen = readAll(desk.backend);
    const { window } = arrivals.list();
    const words = fault === null ? null : sentenceOf(fault);
    const losses = readLosses(desk.backend);
    const page = call.req.query("page");
    const content = <UnitsPage {...{ seen, session, window, losses, page, fault: words }} />;
    return desk.show(call, { title: "Units", place: PLACE, content, fault });
  };
  const doing = (path: string, act: (form: URLSearchParams) => Promise<string>) => {
    app.post(
      `/arrivals/${path}`,
      desk.guarded(async (call, session) => {
        const form = await desk.form(call, session);
        let note = "";
        const fault = await desk.attempt(call, async () => {
          note = await act(form);
        });
        if (fault !== null) return show(call, session, fault);
        session.note = note;
        return desk.lead(call, PLACE);
      }),
    );
  };
  app.get(
    PLACE,
    desk.guarded((call, session) => show(call, session, null)),
  );
  doing("admit", async (form) => {
    const { name } = await arrivals.admit((form.get("words") ?? "").slice(0, 100));
    return `${name} has the join secret and joins by itself.`;
  });
  doing("open", async (form) => {
    const units = wholeIn(form, "limit");
    await arrivals.openWindow({ seconds: WINDOW_SECONDS_MAX, units });
    return "Whatever asks is let in for ten minutes.";
  });
  doing("close", async () => {
    await arrivals.closeWindow();
    return "Nobody is let in without a join secret any more.";
  });
}

function wholeIn(form: URLSearchParams, name: string): number {
  const word = (form.get(name) ?? "").trim();
  if (!/^\d{1,4}$/.test(word)) throw new Fault("badRequest", `${name} is a whole number`);
  return Number(word);
}

interface UnitsPageOptions {
  seen: Reading;
  session: Session;
  /** Open at this unit; null: closed. */
  window: WindowView | null;
  losses: readonly LossRow[];
  /** As asked for; of those that there are. */
  page: string | undefined;
  fault: string | null;
}

function UnitsPage({ seen, session, window, losses, page, fault }: UnitsPageOptions) {
  const { units, strangers, status } = seen;
  const part = partOf(units ?? [], page);
  const shown = new Set(part.rows.map(({ unit }) => unit));
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Live id="units">
        <p class="lead">
          A new box joins by itself when it is stamped with the same join secret. Two boxes are told
          apart by their words: each shows its own on its screen.
        </p>
        <UnitTable units={part.rows} sentence={status.sentence} />
        <Pages part={part} path={PLACE} />
        <Strangers strangers={strangers} />
        <Losses losses={losses.filter(({ unit }) => shown.has(unit))} />
        {losses.length === 2 ? <WitnessOffer /> : null}
      </Live>
      {units === null ? null : <ArrivalForms {...{ strangers, session, window }} />}
    </div>
  );
}

interface FormsOptions {
  strangers: readonly StrangerView[];
  session: Session;
  window: WindowView | null;
}

function ArrivalForms({ strangers, session, window }: FormsOptions) {
  return (
    <section aria-labelledby="arrivals">
      <h2 id="arrivals">Let a box in</h2>
      {strangers.length === 0 ? (
        <p>No box without a join secret is heard at the moment.</p>
      ) : (
        <Form session={session} action="/arrivals/admit" class="card form">
          <div class="field">
            <label for="words">The box whose screen shows these words</label>
            <select id="words" name="words">
              {strangers.map((one) => (
                <option value={one.words.join(" ")}>
                  {one.words.join(" ")} ({one.name})
                </option>
              ))}
            </select>
          </div>
          <p class="actions">
            <button type="submit">Give it the join secret</button>
          </p>
        </Form>
      )}
      {window === null ? <OpenForm session={session} /> : <CloseForm {...{ session, window }} />}
    </section>
  );
}

function OpenForm({ session }: { session: Session }) {
  return (
    <Form session={session} action="/arrivals/open" class="card form">
      <p>
        Or let in whatever asks within ten minutes, without comparing words: on a network where
        nobody else can plug in a box.
      </p>
      <Field
        id="limit"
        label="Units at most"
        value={String(UNITS_USUAL)}
        hint={`1 to ${WINDOW_UNITS_MAX}; each is told in the history.`}
        required
      />
      <p class="actions">
        <button type="submit" class="second">
          Let in whatever asks
        </button>
      </p>
    </Form>
  );
}

function CloseForm({ session, window }: { session: Session; window: WindowView }) {
  const { secondsLeft, unitsLeft } = window;
  return (
    <Form session={session} action="/arrivals/close" class="card form">
      <p>
        Whatever asks is let in for {secondsLeft} seconds more, {unitsLeft} at most.
      </p>
      <p class="actions">
        <button type="submit">Let in nobody any more</button>
      </p>
    </Form>
  );
}
