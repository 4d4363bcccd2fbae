// SPDX-License-Identifier: Apache-2.0
//
// The settings of the cluster: shown and changed in the words of people (setting-words.ts). Only
// what was typed anew is changed. Under them the ways to all else that is set up once: updates,
// backups, people, trust, metrics, help.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { ChangeSettingsSchema } from "#appliance/api/schemas.ts";
import { SETTINGS, type SettingWords, settingOf } from "#appliance/api/setting-words.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import type { ControlBackend } from "#appliance/control-desk.ts";
import type { SettingsView } from "#appliance/backend.ts";
import { BUNDLE_CHARACTERS_MAX } from "#appliance/support-bundle.ts";
import { BackupSection, addBackups } from "./backup-section.tsx";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Field, Form, Notice } from "./frame.tsx";
import type { Session } from "./sessions.ts";
import { UPDATE_PLACE } from "./update-pages.tsx";
import { USERS_PLACE } from "./user-pages.tsx";

const PLACE = "/settings";
const BUNDLE_PLACE = `${PLACE}/support-bundle`;
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
/** What belongs together, under a heading of its own; each setting is in one of them. */
const GROUPS: readonly (readonly [heading: string, names: readonly (keyof SettingsView)[]])[] = [
  ["Cluster", ["clusterName", "timeServers", "syslogTarget"]],
  ["Ways in", ["groupAddress", "httpsOnly"]],
  ["Copies", ["reprotectAfterMs", "protectWithinMs"]],
  ["Disks", ["scrubEveryMs", "scrubBytesPerSecondMax", "diskErrorsMax"]],
];

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
  app.get(
    BUNDLE_PLACE,
    desk.guarded((call) =>
      call.body(JSON.stringify(backend.supportBundle()), 200, {
        "content-type": "application/json",
        "content-disposition": 'attachment; filename="cairn-support.json"',
        "cache-control": "no-store",
      }),
    ),
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
        {GROUPS.map(([heading, names]) => (
          <fieldset class="group">
            <legend>{heading}</legend>
            {SETTINGS.filter(({ name }) => names.includes(name)).map((setting) => (
              <SettingField {...{ setting, values, typed }} />
            ))}
          </fieldset>
        ))}
        <p class="actions">
          <button type="submit">Save the settings</button>
        </p>
      </Form>
      <section class="card" aria-labelledby="update">
        <h2 id="update">Update</h2>
        <p>
          Which version each unit runs, and <a href={UPDATE_PLACE}>how to bring in another</a>.
        </p>
      </section>
      <BackupSection {...{ control, session }} />
      <section class="card" aria-labelledby="people">
        <h2 id="people">Users and tokens</h2>
        <p>
          Who may sign in here or ask the API, and as what:{" "}
          <a href={USERS_PLACE}>users and tokens</a>.
        </p>
      </section>
      <TrustSection />
      <WatchSections />
    </div>
  );
}

function SettingField(options: {
  setting: SettingWords;
  values: SettingsView;
  typed: URLSearchParams;
}) {
  const { setting, values, typed } = options;
  const { name, sentence, show } = setting;
  const value = typed.get(name) ?? show(values[name]);
  const hint = `${sentence.slice(0, 1).toUpperCase()}${sentence.slice(1)}.`;
  if (typeof values[name] !== "boolean") {
    return (
      <Field id={name} label={LABELS[name]} {...{ value, hint }} autocomplete="off" required />
    );
  }
  return (
    <div class="field">
      <label for={name}>{LABELS[name]}</label>
      <p class="hint" id={`${name}-hint`}>
        {hint}
      </p>
      <select id={name} name={name} aria-describedby={`${name}-hint`}>
        {["no", "yes"].map((word) => (
          <option value={word} selected={word === value}>
            {word}
          </option>
        ))}
      </select>
    </div>
  );
}

/** For programs that watch, and for people who help. */
function WatchSections() {
  return (
    <div>
      <section class="card" aria-labelledby="metrics">
        <h2 id="metrics">Metrics</h2>
        <p>
          Prometheus reads <a href="/metrics">/metrics</a> of every unit, with a viewer's token. A
          dashboard for Grafana and alert rules come with Cairn, in <code>docs/monitoring</code>.
        </p>
      </section>
      <section class="card" aria-labelledby="support">
        <h2 id="support">Support bundle</h2>
        <p>
          What this unit knows and what its control station decided lately, in one file of{" "}
          {sizeInWords(BUNDLE_CHARACTERS_MAX)} at most. Secrets are not in it; names and addresses
          are.
        </p>
        <p>
          <a class="button second" href={BUNDLE_PLACE} download>
            Get the bundle
          </a>
        </p>
      </section>
    </div>
  );
}
