// SPDX-License-Identifier: Apache-2.0
//
// What is assigned to what, seen from either side: the volumes of a host, the hosts of a volume.

/** @jsxImportSource hono/jsx */

import type { Child } from "hono/jsx";
import { Form, Table } from "./frame.tsx";
import type { Session } from "./sessions.ts";

/** Of a longer list a form offers so many; the rest by the other side's page. */
const OFFERED_MAX = 200;

interface OtherSide {
  number: number;
  name: string;
  href: string;
}

export interface AssignmentWords {
  /** Of the forms: what is assigned or revoked, by number. */
  field: "volume" | "host";
  head: string;
  caption: string;
  empty: string;
  assign: string;
  /** Where nothing is left to assign. */
  rest: Child;
}

export function Assignments(options: {
  session: Session;
  /** Of the page; `/assign` and `/revoke` below it. */
  place: string;
  assigned: readonly OtherSide[];
  all: readonly OtherSide[];
  words: AssignmentWords;
}) {
  const { session, place, assigned, all, words } = options;
  const has = new Set(assigned.map(({ number }) => number));
  const free = all.filter(({ number }) => !has.has(number)).slice(0, OFFERED_MAX);
  const { field, head, caption, empty, assign, rest } = words;
  return (
    <div>
      <Table
        id="assigned-table"
        caption={caption}
        columns={[head, "Assignment"]}
        empty={empty}
        rows={assigned.map(({ number, name, href }) => [
          <a href={href}>{name}</a>,
          <Form session={session} action={`${place}/revoke`}>
            <input type="hidden" name={field} value={String(number)} />
            <button type="submit" class="second" aria-label={`Revoke ${name}`}>
              Revoke
            </button>
          </Form>,
        ])}
      />
      {free.length === 0 ? (
        <p class="hint">{rest}</p>
      ) : (
        <Form session={session} action={`${place}/assign`} class="search">
          <label for={field}>{head}</label>
          <select id={field} name={field}>
            {free.map(({ number, name }) => (
              <option value={String(number)}>{name}</option>
            ))}
          </select>
          <button type="submit" class="second">
            {assign}
          </button>
        </Form>
      )}
    </div>
  );
}
