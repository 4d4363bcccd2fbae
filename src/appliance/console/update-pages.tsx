// SPDX-License-Identifier: Apache-2.0
//
// Updates: which version each unit runs, loading a signed one onto the unit that answers, what
// starting it would do, and how it rolls over the cluster. What goes offline meanwhile is named
// before it begins, and wants a tick.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import {
  AutomaticUpdateSchema,
  LoadUpdateSchema,
  StartUpdateSchema,
} from "#appliance/api/update-schemas.ts";
import type { UpdateBackend, UpdatePlanView, UpdateStatusView } from "#appliance/update-backend.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Bar, Choice, Field, Form, Live, Notice, Pages, State, Table } from "./frame.tsx";
import { partOf } from "./reading.ts";
import type { Session } from "./sessions.ts";

export const UPDATE_PLACE = "/settings/update";

export function addUpdatePages(app: ConsoleApp, desk: Desk): void {
  const { update } = desk.backend;
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const state = update.status();
    const words = fault === null ? null : sentenceOf(fault);
    const page = call.req.query("page");
    const content = (
      <UpdatePage {...{ state, plan: planOf(update, state), session, page, fault: words }} />
    );
    return desk.show(call, { title: "Update", place: "/settings", content, fault });
  };
  app.get(
    UPDATE_PLACE,
    desk.guarded((call, session) => show(call, session, null)),
  );
  for (const [word, act] of Object.entries(actsOn(update))) {
    app.post(
      `${UPDATE_PLACE}/${word}`,
      desk.guarded(async (call, session) => {
        const form = await desk.form(call, session);
        let note = "";
        const fault = await desk.attempt(call, async () => {
          note = await act(form);
        });
        if (fault !== null) return show(call, session, fault);
        session.note = note;
        return desk.lead(call, UPDATE_PLACE);
      }),
    );
  }
}

/** Null: nothing is loaded that could be started. */
function planOf(update: UpdateBackend, { roll }: UpdateStatusView): UpdatePlanView | null {
  if (roll === null || roll.state === "rolling" || roll.state === "done") return null;
  try {
    return update.plan(StartUpdateSchema.parse({}));
  } catch (error) {
    if (error instanceof Fault) return null;
    throw error;
  }
}

type Act = (form: URLSearchParams) => Promise<string>;

/** By the word in the form's path; answers what is said then. */
function actsOn(update: UpdateBackend): Record<string, Act> {
  const isSet = (form: URLSearchParams, name: string) => form.get(name) === "yes";
  return {
    load: async (form) => {
      const wish = LoadUpdateSchema.safeParse({ source: (form.get("source") ?? "").trim() });
      if (!wish.success) throw new Fault("badRequest", "say from which URL or folder it comes");
      await update.load(wish.data.source);
      return "It is being loaded: this page says how far it is.";
    },
    start: async (form) => {
      const accept = isSet(form, "accept");
      await update.start(StartUpdateSchema.parse({ accept, downgrade: isSet(form, "downgrade") }));
      return "The update has begun, one unit at a time.";
    },
    stop: async () => {
      await update.stop();
      return "No further unit is restarted.";
    },
    automatic: async (form) => {
      const [from, to] = [form.get("from") ?? "", form.get("to") ?? ""].map((word) => word.trim());
      const window = from === "" && to === "" ? null : { from, to };
      const wish = AutomaticUpdateSchema.safeParse({ auto: isSet(form, "auto"), window });
      if (!wish.success) throw new Fault("badRequest", "times are such as 02:00, or both empty");
      await update.setAutomatic(wish.data);
      return wish.data.auto
        ? "A loaded update starts by itself, where nothing is to be accepted."
        : "An update starts by hand alone.";
    },
  };
}

interface PageOptions {
  state: UpdateStatusView;
  plan: UpdatePlanView | null;
  session: Session;
  page: string | undefined;
  fault: string | null;
}

function UpdatePage({ state, plan, session, page, fault }: PageOptions) {
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <p class="lead">
        A new version goes into a box's second slot, is tried there, and stays only once the unit is
        healthy in it. Units are restarted one after the other, while volumes stay up.
      </p>
      <Live id="update">
        <Roll state={state} />
        <Units state={state} page={page} />
      </Live>
      {plan === null ? null : <StartForm {...{ plan, session }} />}
      {state.roll?.state === "rolling" ? <StopForm session={session} /> : null}
      <LoadForm {...{ state, session }} />
      <AutomaticForm {...{ state, session }} />
    </div>
  );
}

const ROLL_TONES = { loaded: "good", rolling: "notice", stopped: "bad", done: "good" } as const;

function Roll({ state: { roll, work, failed, sentence } }: { state: UpdateStatusView }) {
  return (
    <section class="card" aria-labelledby="roll">
      <h2 id="roll">
        {roll === null ? (
          "No update is loaded"
        ) : (
          <State tone={ROLL_TONES[roll.state]} words={`Version ${roll.version}: ${roll.state}`} />
        )}
      </h2>
      {roll === null || roll.sentence === "" ? null : <p>{upper(roll.sentence)}.</p>}
      {roll?.current == null ? null : (
        <p>
          {roll.current.name} is at work ({roll.current.phase}); {roll.done.length} done,{" "}
          {roll.waiting.length} to come.
        </p>
      )}
      {work === null ? null : (
        <div>
          <p>Here: {work.sentence}.</p>
          {work.totalBytes === 0 ? null : (
            <Bar label="Loaded" partBytes={work.doneBytes} wholeBytes={work.totalBytes} />
          )}
        </div>
      )}
      {failed === null ? null : <Notice tone="bad" text={upper(failed.message)} />}
      {sentence === "" ? null : <p class="hint">{upper(sentence)}.</p>}
    </section>
  );
}

function upper(sentence: string): string {
  return `${sentence.slice(0, 1).toUpperCase()}${sentence.slice(1)}`.replace(/\.$/, "");
}

function Units({ state, page }: { state: UpdateStatusView; page: string | undefined }) {
  const part = partOf(state.units, page);
  return (
    <div>
      <Table
        id="update-table"
        caption="Which version each unit runs"
        columns={["Unit", "State", "Version", "Has the files", "What it does"]}
        empty={`This unit is in no cluster yet; it runs version ${state.version}.`}
        rows={part.rows.map((unit) => [
          <span class="name">{unit.name}</span>,
          <State tone={unit.alive ? "good" : "bad"} words={unit.alive ? "up" : "away"} />,
          `${unit.version}${unit.trial ? ", on trial" : ""}`,
          unit.holds ? "yes" : "no",
          unit.appliance ? unit.sentence : "no appliance: updated where it came from",
        ])}
      />
      <Pages part={part} path={UPDATE_PLACE} />
    </div>
  );
}

function StartForm({ plan, session }: { plan: UpdatePlanView; session: Session }) {
  const { version, order, consequences, refusals } = plan;
  return (
    <section aria-labelledby="start">
      <h2 id="start">Start version {version}</h2>
      <Form session={session} action={`${UPDATE_PLACE}/start`} class="card form">
        <p>
          In this order: {order.length === 0 ? "no unit" : order.map(({ name }) => name).join(", ")}
          .
        </p>
        {refusals.map((sentence) => (
          <Notice tone="bad" text={`Not now: ${sentence}`} />
        ))}
        {consequences.length === 0 ? (
          <p>Nothing goes offline meanwhile.</p>
        ) : (
          <div>
            <p>Goes offline meanwhile:</p>
            <ul>
              {consequences.map((sentence) => (
                <li>{sentence}</li>
              ))}
            </ul>
            <Choice id="accept" name="accept" label="I accept that" />
          </div>
        )}
        <Choice id="downgrade" name="downgrade" label="Also if it is older than what runs" />
        <p class="actions">
          <button type="submit">Update to {version}</button>
        </p>
      </Form>
    </section>
  );
}

function StopForm({ session }: { session: Session }) {
  return (
    <Form session={session} action={`${UPDATE_PLACE}/stop`} class="card form">
      <p>What has begun on a unit comes to its end; no further unit is restarted.</p>
      <p class="actions">
        <button type="submit" class="second">
          Stop the update
        </button>
      </p>
    </Form>
  );
}

function LoadForm({ state, session }: { state: UpdateStatusView; session: Session }) {
  return (
    <section aria-labelledby="load">
      <h2 id="load">Load an update</h2>
      {state.appliance ? (
        <Form session={session} action={`${UPDATE_PLACE}/load`} class="card form">
          <Field
            id="source"
            label="Where it comes from"
            required
            autocomplete="off"
            hint={
              <span>
                An http(s) URL of a release's folder, or a folder of this box such as a stick. From
                your own machine: <code>cairn update load FOLDER --url …</code>. Only what is signed
                by a key that the box trusts is taken.
              </span>
            }
          />
          <p class="actions">
            <button type="submit" class="second">
              Load it
            </button>
          </p>
        </Form>
      ) : (
        <p class="empty">
          The unit that answers is a program on somebody's machine, which is updated where it came
          from. Load an update on the page of a box.
        </p>
      )}
    </section>
  );
}

function AutomaticForm({ state, session }: { state: UpdateStatusView; session: Session }) {
  const { auto, window } = state.automatic;
  return (
    <section aria-labelledby="automatic">
      <h2 id="automatic">By itself</h2>
      <Form session={session} action={`${UPDATE_PLACE}/automatic`} class="card form">
        <Choice
          id="auto"
          name="auto"
          label="A loaded update starts by itself, where nothing is to be accepted"
          checked={auto}
        />
        <Field
          id="from"
          label="Not before (UTC)"
          value={window?.from ?? ""}
          autocomplete="off"
          hint="Such as 02:00. Both empty: at any time."
        />
        <Field id="to" label="Not after (UTC)" value={window?.to ?? ""} autocomplete="off" />
        <p class="actions">
          <button type="submit" class="second">
            Save
          </button>
        </p>
      </Form>
    </section>
  );
}
