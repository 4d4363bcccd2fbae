// SPDX-License-Identifier: Apache-2.0
//
// The events: filtered by weight and words, and taken away as CSV (RFC 4180) or JSON, just as they
// are filtered.

/** @jsxImportSource hono/jsx */

import { timeInWords } from "#appliance/api/words.ts";
import type { EventView } from "#appliance/backend.ts";
import { ACTOR_CHARACTERS_MAX } from "#cluster/state.ts";
import { type Call, type ConsoleApp, type Desk, listQuery } from "./console.tsx";
import { Live, Pages, State, Table } from "./frame.tsx";
import { partOf, readEvents } from "./reading.ts";

const PLACE = "/events";
/** The newest ones that a page looks through, and that an export holds. */
const EVENTS_READ = 1000;
export const SEVERITIES = ["info", "warning", "alarm"] as const;
const TONES = { warning: "notice", alarm: "bad" } as const;

interface EventQuery {
  q: string;
  severity: string;
  /** Empty: of whoever asked, or nobody. */
  actor: string;
}

export function addEventPages(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const queryOf = (call: Call): EventQuery => {
    const actor = (call.req.query("actor") ?? "").slice(0, ACTOR_CHARACTERS_MAX).trim();
    return { q: listQuery(call).q, severity: call.req.query("severity") ?? "info", actor };
  };
  const foundBy = (query: EventQuery) => {
    const of = query.actor === "" ? undefined : query.actor;
    return filtered(readEvents(backend, EVENTS_READ, of) ?? [], query);
  };
  app.get(
    PLACE,
    desk.guarded((call) => {
      const query = queryOf(call);
      const { page } = listQuery(call);
      const content = <EventsPage {...{ events: foundBy(query), query, page }} />;
      return desk.show(call, { title: "Events", place: PLACE, content });
    }),
  );
  app.get(
    `${PLACE}/export`,
    desk.guarded((call) => {
      const events = foundBy(queryOf(call));
      const isCsv = call.req.query("format") !== "json";
      const text = isCsv ? csvText(events) : JSON.stringify({ events }, null, 2);
      return new Response(text, {
        headers: {
          "content-type": isCsv ? "text/csv; charset=utf-8" : "application/json",
          "content-disposition": `attachment; filename="cairn-events.${isCsv ? "csv" : "json"}"`,
          "cache-control": "no-store",
        },
      });
    }),
  );
}

/** Newest first. */
function filtered(events: readonly EventView[], { q, severity }: EventQuery): EventView[] {
  const wanted = q.toLowerCase();
  const least = leastOf(severity);
  return events
    .filter((one) => SEVERITIES.indexOf(one.severity) >= least)
    .filter((one) => {
      const words = `${one.kind} ${one.sentence} ${one.actor ?? ""}`;
      return words.toLowerCase().includes(wanted);
    })
    .reverse();
}

function leastOf(severity: string): number {
  return Math.max(0, SEVERITIES.indexOf(severity as (typeof SEVERITIES)[number]));
}

function csvText(events: readonly EventView[]): string {
  const rows = events.map(({ number, atMs, severity, kind, sentence, actor }) => {
    const time = `${timeInWords(atMs).replace(" ", "T")}Z`;
    return [String(number), time, severity, kind, sentence, actor ?? ""];
  });
  const head = ["number", "time", "severity", "kind", "sentence", "actor"];
  return [head, ...rows].map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
}

/** Names in sentences come from afar: nothing that a spreadsheet would take for a formula. */
function csvCell(text: string): string {
  const plain = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${plain.replaceAll('"', '""')}"`;
}

function EventsPage(options: {
  events: readonly EventView[];
  query: EventQuery;
  page: string | undefined;
}) {
  const { events, query, page } = options;
  const part = partOf(events, page);
  const least = leastOf(query.severity);
  const asked = new URLSearchParams({ ...query }).toString();
  return (
    <div>
      <form class="search" method="get" action={PLACE} role="search">
        <label for="severity">At least</label>
        <select id="severity" name="severity">
          {SEVERITIES.map((severity, at) => (
            <option value={severity} selected={at === least}>
              {severity}
            </option>
          ))}
        </select>
        <label for="q">Words</label>
        <input id="q" name="q" type="search" value={query.q} maxlength={100} />
        <label for="actor">By</label>
        <input
          id="actor"
          name="actor"
          type="search"
          value={query.actor}
          maxlength={ACTOR_CHARACTERS_MAX}
          placeholder="anybody"
        />
        <button type="submit" class="second">
          Filter
        </button>
        <span class="hint">
          Take them away: <a href={`${PLACE}/export?format=csv&${asked}`}>CSV</a>,{" "}
          <a href={`${PLACE}/export?format=json&${asked}`}>JSON</a>
        </span>
      </form>
      <Live id="events">
        <EventTable events={part.rows} id="event-table" />
        <Pages part={part} path={PLACE} query={{ ...query }} />
      </Live>
    </div>
  );
}

export function EventTable(options: {
  events: readonly EventView[];
  id: string;
  /** Said where there is none. */
  empty?: string;
}) {
  const { events, id, empty = "No event is known that fits." } = options;
  return (
    <Table
      id={id}
      caption="Events, newest first"
      columns={["Time (UTC)", "Weight", "What happened", "By"]}
      empty={empty}
      rows={events.map((event) => [
        <time class="when" datetime={`${timeInWords(event.atMs).replace(" ", "T")}Z`}>
          {timeInWords(event.atMs)}
        </time>,
        // What is as it should be stands back.
        event.severity === "info" ? (
          <span class="quiet">info</span>
        ) : (
          <State tone={TONES[event.severity]} words={event.severity} />
        ),
        event.sentence,
        event.actor ?? "",
      ])}
    />
  );
}
