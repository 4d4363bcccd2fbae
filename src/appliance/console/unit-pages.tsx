// SPDX-License-Identifier: Apache-2.0
//
// One unit: its figures and drives, how far its evacuation is, what its loss would mean now, and
// what its owner may do about it: take it out for work, evacuate it, keep it, have another one take
// its place, remove it. It is moved between pools at theirs (pool-pages.tsx).

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import type { Backend, UnitView } from "#appliance/backend.ts";
import { placeInWords } from "#cluster/pool-state.ts";
import { driveInWords, figureFacts, smartInWords } from "#appliance/figure-words.ts";
import type { BoxView } from "#appliance/box-view.ts";
import type { UnitFigures } from "#appliance/unit-figures.ts";
import type { WhatIf } from "#appliance/what-if.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { MaintainSchema } from "#appliance/api/fleet-schemas.ts";
import { BoxSection, boxActs } from "./box-section.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Bar, Choice, Form, Live, Notice, State, Table } from "./frame.tsx";
import { unitTone } from "./health.ts";
import { Loss } from "./recovery-pages.tsx";
import { type Reading, ifAnswered, partOf, readAll } from "./reading.ts";
import { RemovalForm, nameTyped } from "./removal-form.tsx";
import type { Session } from "./sessions.ts";

const PLACE = "/units";
/** Volumes up to which a page says unasked what a loss would mean. */
const REHEARSED_UNASKED_MAX = 200;
const HOUR_MS = 3_600_000;
/** Hours of maintenance to choose from. */
const MAINTENANCE_HOURS = [0.5, 1, 2, 4, 8, 24];

export function addUnitPages(app: ConsoleApp, desk: Desk): void {
  const { fleet, neighbours } = desk.backend;
  const show = async (
    call: Call,
    session: Session,
    fault: Fault | null,
    typed: URLSearchParams | null = null,
  ) => {
    const { unit: number } = unitIn(call, desk.backend);
    const [figures, box] = await Promise.all([
      ifAnswered(neighbours.figures(number)),
      ifAnswered(neighbours.box(number)),
    ]);
    const seen = readAll(desk.backend);
    const unit = unitIn(call, desk.backend);
    // Of many volumes it takes a while: a click asks for it then.
    const isSmall = (seen.volumes ?? []).length <= REHEARSED_UNASKED_MAX;
    const loss = isSmall ? fleet.whatIf({ unit: unit.name }) : null;
    const isAsked = isSmall && unit.maintenance === null;
    const away = isAsked ? fleet.whatIf({ maintenance: unit.name }) : null;
    const words = fault === null ? null : sentenceOf(fault);
    const known = { unit, figures, box, typed, loss, away, seen, session, fault: words };
    const content = <UnitPage {...known} />;
    return desk.show(call, { title: unit.name, place: PLACE, content, fault });
  };
  for (const [word, act] of Object.entries(actsOn(desk.backend))) {
    app.post(
      `${PLACE}/:unit/${word}`,
      desk.doing({
        act: (form, call) => act(unitIn(call, desk.backend), form),
        show,
        to: (call) => (word === "remove" ? PLACE : `${PLACE}/${call.req.param("unit") ?? ""}`),
      }),
    );
  }
  app.get(
    `${PLACE}/:unit`,
    desk.guarded((call, session) => show(call, session, null)),
  );
}

type Act = (unit: UnitView, form: URLSearchParams) => Promise<string>;

/** What may be done with a unit, by the word in its path; answers what is said then. */
function actsOn({ fleet, neighbours }: Backend): Record<string, Act> {
  const isSet = (form: URLSearchParams, name: string) => form.get(name) === "yes";
  return {
    evacuate: async (unit, form) => {
      const thenRemove = isSet(form, "remove");
      await fleet.evacuate(unit.name, { thenRemove, force: isSet(form, "force"), dryRun: false });
      return `${unit.name} is being evacuated.`;
    },
    locate: async (unit, form) => {
      const on = !isSet(form, "off");
      await neighbours.search(unit.unit, on);
      return on
        ? `The screen of ${unit.name} says for 15 minutes that it is the one you look for.`
        : `The screen of ${unit.name} is as usual again.`;
    },
    maintain: async (unit, form) => {
      const forMs = Number(form.get("hours") ?? "") * HOUR_MS;
      const wish = MaintainSchema.safeParse({ forMs, force: isSet(form, "force"), dryRun: false });
      if (!wish.success) throw new Fault("badRequest", "say for how many hours, 24 at most");
      await fleet.maintain(unit.name, wish.data);
      return `${unit.name} is in maintenance. This page says when it may be switched off.`;
    },
    "end-maintenance": async (unit) => {
      await fleet.endMaintenance(unit.name);
      return `${unit.name} is not in maintenance any more.`;
    },
    keep: async (unit) => {
      await fleet.keep(unit.name);
      return `${unit.name} stays.`;
    },
    ...boxActs(neighbours),
    replace: async (unit, form) => {
      const by = form.get("by") ?? "";
      await fleet.replace(unit.name, by);
      return `${by} takes the place of ${unit.name}.`;
    },
    remove: async (unit, form) => {
      nameTyped(form, unit.name);
      await fleet.remove(unit.name, { force: isSet(form, "force") });
      return `${unit.name} is removed.`;
    },
  };
}

export function unitPath(unit: Pick<UnitView, "unit">): string {
  return `${PLACE}/${unit.unit}`;
}

function unitIn(call: Call, backend: Pick<Backend, "units">): UnitView {
  const word = call.req.param("unit") ?? "";
  const found = backend.units().find((unit) => String(unit.unit) === word);
  if (found === undefined) throw new Fault("notFound", `there is no unit ${word.slice(0, 40)}`);
  return found;
}

interface PageOptions {
  unit: UnitView;
  /** Null: it does not answer. */
  figures: UnitFigures | null;
  /** Its network and clock; null: it does not answer. */
  box: BoxView | null;
  /** What was typed and refused. */
  typed: URLSearchParams | null;
  /** What its loss would mean now; null: not asked yet. */
  loss: WhatIf | null;
  /** The same for its absence in maintenance; null: not asked, or it is in maintenance. */
  away: WhatIf | null;
  seen: Reading;
  session: Session;
  fault: string | null;
}

function UnitPage({ unit, figures, box, typed, loss, away, seen, session, fault }: PageOptions) {
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Live id="unit">
        <section class="card" aria-labelledby="state">
          <h2 id="state">
            <State tone={unitTone(unit)} words={unit.alive ? "up" : "away"} />
          </h2>
          <p>It is {placeInWords(unit)}.</p>
          <Progress unit={unit} />
          {unit.maintenance === null ? null : (
            <p>It is in maintenance: {unit.maintenance.sentence}.</p>
          )}
          <p class="words">{unit.words.join(" ")}</p>
        </section>
        <Figures unit={unit} figures={figures} />
        <section aria-labelledby="loss">
          <h2 id="loss">If it were lost now</h2>
          {loss === null ? (
            <p>
              <a href={`/recovery?lose=${encodeURIComponent(`unit:${unit.name}`)}#what-if`}>
                Say what would happen
              </a>
            </p>
          ) : (
            <Loss loss={loss} />
          )}
        </section>
      </Live>
      <section aria-labelledby="box">
        <h2 id="box">Network and clock</h2>
        <BoxSection {...{ unit, box, typed, session }} port={seen.status.ports["api"] ?? 0} />
      </section>
      <LocateForm {...{ unit, figures, session }} />
      <MaintenanceForm {...{ unit, session, away }} />
      {unit.evacuation === null ? (
        <GoingForms {...{ unit, seen, session }} />
      ) : (
        <KeepForm {...{ unit, session }} />
      )}
      <RemoveForm {...{ unit, session }} />
    </div>
  );
}

function Progress({ unit }: { unit: UnitView }) {
  const { evacuation } = unit;
  if (evacuation === null) return <p>It takes slices, and votes where it is wanted.</p>;
  const { slices, left, sentence } = evacuation;
  return (
    <p class="progress">
      <Bar label="Slices moved" partBytes={slices - left} wholeBytes={slices} />
      It is being evacuated: {sentence}.
    </p>
  );
}

function Figures({ unit, figures }: Pick<PageOptions, "unit" | "figures">) {
  if (figures === null) {
    return <p class="empty">{unit.name} does not tell how it is at the moment.</p>;
  }
  const part = partOf(figures.drives, "1");
  return (
    <section aria-labelledby="figures">
      <h2 id="figures">How it is</h2>
      <div class="card">
        <dl>
          {[...figureFacts(figures), ["Addresses", unit.addresses.join(", ")]].map(
            ([word, value]) => (
              <div>
                <dt>{word}</dt>
                <dd>{value}</dd>
              </div>
            ),
          )}
        </dl>
      </div>
      <Table
        id="drive-table"
        caption="Its drives, as they tell of themselves"
        columns={["Drive", "Bay", "What it is", "How it is"]}
        empty="It has no drive in use."
        rows={part.rows.map((drive) => [
          <span>
            {drive.disk === 0 ? null : <a href={`/disks/${drive.disk}`}>Disk {drive.disk}</a>}{" "}
            <code>{drive.path}</code>
          </span>,
          drive.bay ?? "not told",
          driveInWords(drive),
          smartInWords(drive),
        ])}
      />
    </section>
  );
}

function LocateForm({ unit, figures, session }: Pick<PageOptions, "unit" | "figures" | "session">) {
  if (figures === null) return null;
  const { isSearched } = figures;
  return (
    <section aria-labelledby="locate">
      <h2 id="locate">Find the box</h2>
      <p>
        {isSearched
          ? "Its screen says that it is the one you look for."
          : "Its screen can say, for 15 minutes, that it is the one you look for."}
      </p>
      <Form session={session} action={`${unitPath(unit)}/locate`} class="card form">
        {isSearched ? <input type="hidden" name="off" value="yes" /> : null}
        <p class="actions">
          <button type="submit" class="second">
            {isSearched ? "Found: screen as usual" : "Show it on its screen"}
          </button>
        </p>
      </Form>
    </section>
  );
}

function MaintenanceForm({ unit, session, away }: Pick<PageOptions, "unit" | "session" | "away">) {
  if (unit.maintenance !== null) {
    return (
      <section aria-labelledby="maintenance">
        <h2 id="maintenance">Maintenance</h2>
        <Form session={session} action={`${unitPath(unit)}/end-maintenance`} class="card form">
          <p class="actions">
            <button type="submit">End the maintenance of {unit.name}</button>
          </p>
        </Form>
      </section>
    );
  }
  return (
    <section aria-labelledby="maintenance">
      <h2 id="maintenance">Take it out for work</h2>
      <p>
        What it heads goes to other units in order, and so does the lead. While it is away its
        copies are waited for instead of made anew, for the time you say at most; back, it copies
        only what was written meanwhile.
      </p>
      {away === null ? null : (
        <Loss loss={away} id="away-table" caption="Volumes that would notice it away for work" />
      )}
      <Form session={session} action={`${unitPath(unit)}/maintain`} class="card form">
        <div class="field">
          <label for="hours">For at most</label>
          <select id="hours" name="hours">
            {MAINTENANCE_HOURS.map((hours) => (
              <option value={String(hours)} selected={hours === 2}>
                {hours < 1 ? "30 minutes" : hours === 1 ? "1 hour" : `${hours} hours`}
              </option>
            ))}
          </select>
        </div>
        <Choice id="maintain-force" name="force" label="Also where something stops meanwhile" />
        <p class="actions">
          <button type="submit" class="second">
            Begin maintenance of {unit.name}
          </button>
        </p>
      </Form>
    </section>
  );
}

function GoingForms({ unit, seen, session }: Pick<PageOptions, "unit" | "seen" | "session">) {
  const others = (seen.units ?? []).filter((one) => one.unit !== unit.unit);
  const fit = others.filter((one) => one.alive && one.evacuation === null);
  return (
    <section aria-labelledby="going">
      <h2 id="going">Empty it</h2>
      <p>
        What it holds, heads and votes for goes to other units while hosts go on. Every slice keeps
        all its copies meanwhile.
      </p>
      <Form session={session} action={`${unitPath(unit)}/evacuate`} class="card form">
        <Choice id="evacuate-remove" name="remove" label="Then remove it from the cluster" />
        <Choice id="evacuate-force" name="force" label="Begin also where not all finds room" />
        <p class="actions">
          <button type="submit">Evacuate {unit.name}</button>
        </p>
      </Form>
      {fit.length === 0 ? null : (
        <Form session={session} action={`${unitPath(unit)}/replace`} class="card form">
          <div class="field">
            <label for="by">Replace it by</label>
            <select id="by" name="by">
              {fit.map((one) => (
                <option value={one.name} selected={one.role === "spare"}>
                  {one.name} ({one.role})
                </option>
              ))}
            </select>
          </div>
          <p class="actions">
            <button type="submit" class="second">
              Replace, then remove {unit.name}
            </button>
          </p>
        </Form>
      )}
    </section>
  );
}

function KeepForm({ unit, session }: Pick<PageOptions, "unit" | "session">) {
  return (
    <section aria-labelledby="keep">
      <h2 id="keep">Keep it after all</h2>
      <Form session={session} action={`${unitPath(unit)}/keep`} class="card form">
        <p class="actions">
          <button type="submit">Keep {unit.name}</button>
        </p>
      </Form>
    </section>
  );
}

function RemoveForm({ unit, session }: Pick<PageOptions, "unit" | "session">) {
  return (
    <section aria-labelledby="remove">
      <h2 id="remove">Remove it</h2>
      <p>
        Refused while it would cost protection, unless you insist; never done where data would be
        lost. A removed unit stays out until it is made new (<code>cairn unit renew</code>, or a
        factory reset).
      </p>
      <RemovalForm
        {...{ noun: "unit", name: unit.name, session }}
        action={`${unitPath(unit)}/remove`}
        label="Remove from the cluster"
      >
        <Choice id="remove-force" name="force" label="Accept fewer copies and votes" />
      </RemovalForm>
    </section>
  );
}
