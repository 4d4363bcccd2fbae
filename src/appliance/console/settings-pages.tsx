// SPDX-License-Identifier: Apache-2.0
//
// The settings of the cluster: shown and changed in the words of people (setting-words.ts). Only
// what was typed anew is changed.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { ChangeSettingsSchema } from "#appliance/api/schemas.ts";
import { SETTINGS, settingOf } from "#appliance/api/setting-words.ts";
import type { ControlBackend } from "#appliance/control-desk.ts";
import type { SettingsView } from "#appliance/backend.ts";
import { BackupSection, addBackups } from "./backup-section.tsx";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Field, Form, Notice } from "./frame.tsx";
import type { Session } from "./sessions.ts";
import { USERS_PLACE } from "./user-pages.tsx";

const PLACE = "/settings";
const LABELS: Record<keyof SettingsView, string> = {
  clusterName: "Name of the cluster",
  reprotectAfterMs: "Make a missing copy anew after",
  protectWithinMs: "Protected again within",
  scrubEveryMs: "Read every block at least every",
  scrubBytesPerSecondMax: "Read at most, per second",
  diskErrorsMax: "Retire a disk after so many wrong places a day",
  groupAddress: "Group address",
  httpsOnly: "Answer over TLS alone",
  syslogTarget: "Send logs and events to",
  timeServers: "Time servers",
};

export function addSettingsPage(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  addBackups(app, desk);
  const show = (call: Call, session: Session, typed: URLSearchParams, fault: Fault | null) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = (
      <SettingsPage
        {...{ session, typed, values: backend.settings(), control: backend.control }}
        fault={words}
      />
    );
    return desk.show(call, { title: "Settings", place: PLACE, content, fault });
  };
  app.get(
    PLACE,
    desk.guarded((call, session) => show(call, session, new URLSearchParams(), null)),
  );
  app.post(
    PLACE,
    desk.guarded(async (call, session) => {
      const typed = await desk.form(call, session);
      const fault = await desk.attempt(call, async () => {
        const changes = wantedChanges(typed, backend.settings());
        session.note = "Nothing was changed.";
        if (Object.keys(changes).length === 0) return;
        await backend.changeSettings(changes);
        session.note = "The settings are saved.";
      });
      if (fault === null) return desk.lead(call, PLACE);
      session.note = null;
      return show(call, session, typed, fault);
    }),
  );
}

/** What was typed otherwise than it was shown, or a Fault that names the field. */
function wantedChanges(typed: URLSearchParams, values: SettingsView) {
  let changes = {};
  for (const { name, show } of SETTINGS) {
    const word = typed.get(name)?.trim();
    if (word === undefined || word === show(values[name])) continue;
    const change = settingOf(name, word);
    if (typeof change === "string") throw new Fault("badRequest", `${LABELS[name]}: ${change}`);
    changes = { ...changes, ...change };
  }
  if (Object.keys(changes).length === 0) return {};
  const parsed = ChangeSettingsSchema.safeParse(changes);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const label = LABELS[String(issue?.path[0]) as keyof SettingsView] ?? "";
  throw new Fault("badRequest", `${label}: ${issue?.message ?? ""}`);
}

/** How a browser comes to believe the units' certificates. */
function TrustSection() {
  return (
    <section class="card" aria-labelledby="trust">
      <h2 id="trust">Pages over TLS</h2>
      <p>
        Every unit answers at <code>https://UNIT:7443</code> too, with a certificate of this
        cluster's own authority, unless it was given another one. To trust it, get{" "}
        <a href="/ca.pem">the authority's certificate</a>, compare its fingerprint with what{" "}
        <code>cairn authority show</code> says on a unit, and add it to the authorities of your
        browser or system; for the command line say <code>--ca FILE</code>.
      </p>
    </section>
  );
}

function SettingsPage(options: {
  session: Session;
  values: SettingsView;
  control: ControlBackend;
  /** What was typed, when it was refused. */
  typed: URLSearchParams;
  fault: string | null;
}) {
  const { session, values, control, typed, fault } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Form session={session} action={PLACE} class="card form">
        {SETTINGS.map(({ name, sentence, show }) => (
          <Field
            id={name}
            label={LABELS[name]}
            value={typed.get(name) ?? show(values[name])}
            hint={`${sentence.slice(0, 1).toUpperCase()}${sentence.slice(1)}.`}
            autocomplete="off"
            required
          />
        ))}
        <p class="actions">
          <button type="submit">Save the settings</button>
        </p>
      </Form>
      <BackupSection {...{ control, session }} />
      <section class="card" aria-labelledby="people">
        <h2 id="people">Users and tokens</h2>
        <p>
          Who may sign in here or ask the API, and as what:{" "}
          <a href={USERS_PLACE}>users and tokens</a>.
        </p>
      </section>
      <TrustSection />
    </div>
  );
}
