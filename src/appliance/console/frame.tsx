// SPDX-License-Identifier: Apache-2.0
//
// What all pages share: head, navigation, and the pieces that tables, forms and notices are made
// of. hono/jsx escapes every text and attribute it is given; nothing is inserted raw, and no style
// or script stands in a page (the policy in console.tsx forbids it).

/** @jsxImportSource hono/jsx */

import type { Child } from "hono/jsx";
import { sizeInWords } from "#appliance/api/words.ts";
import type { UnitStatus } from "#appliance/backend.ts";
import { STALE_MS, type Tone } from "./health.ts";
import type { Part } from "./reading.ts";
import type { Session } from "./sessions.ts";

export interface Frame {
  title: string;
  /** The path of the navigation's entry that is open. */
  place: string;
  status: UnitStatus;
  /** Null: nobody is signed in, and there is no navigation. */
  session: Session | null;
  children?: Child;
}

const ENTRIES: readonly (readonly [path: string, word: string])[] = [
  ["/", "Overview"],
  ["/volumes", "Volumes"],
  ["/hosts", "Hosts"],
  ["/pools", "Pools"],
  ["/units", "Units"],
  ["/disks", "Disks"],
  ["/recovery", "Recovery"],
  ["/events", "Events"],
  ["/settings", "Settings"],
  ["/account", "Account"],
];

export function page(frame: Frame): string {
  return `<!DOCTYPE html>${String(<Page {...frame} />)}`;
}

function Page({ title, place, status, session, children }: Frame) {
  const name = clusterName(status);
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{`${title} · ${name} · Cairn`}</title>
        <link rel="stylesheet" href="/assets/console.css" />
        <link rel="icon" href="/assets/cairn.svg" type="image/svg+xml" />
        <script type="module" src="/assets/console.js" />
      </head>
      <body class={session === null ? "plain" : "framed"}>
        <a class="skip" href="#content">
          Skip to the content
        </a>
        {session === null ? (
          <PlainHead name={name} />
        ) : (
          <Navigation {...{ place, session, name }} />
        )}
        <main id="content" tabindex={-1}>
          <h1>{title}</h1>
          {session?.note == null ? null : <Notice tone="good" text={session.note} isNews />}
          {session === null ? null : <Age staleMs={status.staleMs} />}
          {session?.who.role === "viewer" ? <Notice tone="notice" text={VIEWER} /> : null}
          {children}
        </main>
        <footer>
          <p>
            Answered by {status.name} · Cairn {status.version}
            {session === null ? null : (
              <span>
                {" "}
                · <a href="/api/v1/openapi.json">API</a> · <a href="/metrics">Metrics</a>
              </span>
            )}
          </p>
          <p id="live-state" role="status"></p>
        </footer>
      </body>
    </html>
  );
}

export function clusterName(status: UnitStatus): string {
  return status.cluster?.name ?? status.name;
}

function Brand({ name }: { name: string }) {
  return (
    <div class="brand">
      <img src="/assets/cairn.svg" alt="" width="28" height="28" />
      <span>{name}</span>
    </div>
  );
}

function PlainHead({ name }: { name: string }) {
  return (
    <header>
      <Brand name={name} />
    </header>
  );
}

function Navigation({ place, session, name }: { place: string; session: Session; name: string }) {
  return (
    <header class="side">
      <Brand name={name} />
      <nav aria-label="Console">
        <ul>
          {ENTRIES.map(([path, word]) => (
            <li>
              <a href={path} aria-current={path === place ? "page" : undefined}>
                {word}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <form method="post" action="/logout">
        <FormToken session={session} />
        <p class="who">{whoInWords(session)}</p>
        <button class="quiet-button" type="submit">
          Sign out
        </button>
      </form>
    </header>
  );
}

/** `anna (viewer)`; whoever is called as the role is said once. */
function whoInWords({ who: { actor, role } }: Session): string {
  return actor === role ? actor : `${actor} (${role})`;
}

const VIEWER = "A viewer sees everything and changes nothing: ask an administrator.";

/** A form that changes something. A viewer sees it and cannot use it, and is told why. */
export function Form(options: {
  session: Session;
  action: string;
  class?: string;
  children?: Child;
}) {
  const { session, action, children } = options;
  return (
    <form method="post" action={action} class={options.class}>
      <FormToken session={session} />
      {session.who.role === "admin" ? (
        children
      ) : (
        <fieldset class="barred" disabled>
          <legend class="unseen">{VIEWER}</legend>
          {children}
        </fieldset>
      )}
    </form>
  );
}

export function FormToken({ session }: { session: Session }) {
  return <input type="hidden" name="token" value={session.formToken} />;
}

function Age({ staleMs }: { staleMs: number }) {
  if (staleMs < STALE_MS) return null;
  const seconds = Math.round(staleMs / 1000);
  const text =
    `The control station does not answer: what stands here is ${seconds} s old. ` +
    "Healthy volumes go on; changes have to wait.";
  return <Notice tone="notice" text={text} />;
}

/** `isNews`: told by a screen reader at once. */
export function Notice(options: { tone: Tone; text: Child; isNews?: boolean }) {
  const { tone, text, isNews = false } = options;
  return (
    <div class={`note ${tone}`} role={isNews ? (tone === "bad" ? "alert" : "status") : undefined}>
      <Mark tone={tone} />
      <p>{typeof text === "string" ? <Words text={text} /> : text}</p>
    </div>
  );
}

/** The colour is never alone: words stand beside it. */
export function Mark({ tone }: { tone: Tone }) {
  return <span class={`mark ${tone}`} aria-hidden="true" />;
}

export function State({ tone, words }: { tone: Tone; words: string }) {
  return (
    <span class="state">
      <Mark tone={tone} />
      {words}
    </span>
  );
}

/** A sentence, with what stands between backticks in it as code. */
export function Words({ text }: { text: string }) {
  return (
    <span>{text.split("`").map((part, at) => (at % 2 === 1 ? <code>{part}</code> : part))}</span>
  );
}

/** Is looked at again by itself, where the browser can (console.client.js). */
export function Live({ id, children }: { id: string; children?: Child }) {
  return (
    <div id={id} data-live>
      {children}
    </div>
  );
}

export interface Column {
  head: string;
  /** Numbers stand to the right. */
  isNumber?: boolean;
}

export interface TableOptions {
  id: string;
  caption: string;
  columns: readonly (Column | string)[];
  /** The first cell of a row is its head. */
  rows: readonly (readonly Child[])[];
  /** Said instead of an empty table. */
  empty: Child;
}

/**
 * On a phone each row becomes a box of its own (console.css), which takes a table's meaning from
 * its elements; the roles keep it.
 */
export function Table({ id, caption, columns, rows, empty }: TableOptions) {
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const heads = columns.map((column) => (typeof column === "string" ? { head: column } : column));
  return (
    <div class="scroll" role="region" aria-labelledby={`${id}-caption`} tabindex={0}>
      <table role="table">
        <caption id={`${id}-caption`} class="unseen">
          {caption}
        </caption>
        <thead role="rowgroup">
          <tr role="row">
            {heads.map((column) => (
              <th scope="col" role="columnheader" class={classOf(column)}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((cells) => (
            <tr role="row">
              {cells.map((cell, at) => (
                <Cell column={heads[at]} isHead={at === 0}>
                  {cell}
                </Cell>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classOf(column: Column | undefined): string | undefined {
  return column?.isNumber === true ? "number" : undefined;
}

function Cell(options: { column: Column | undefined; isHead: boolean; children?: Child }) {
  const { column, isHead, children } = options;
  const shared = { class: classOf(column), "data-head": column?.head };
  return isHead ? (
    <th scope="row" role="rowheader" {...shared}>
      {children}
    </th>
  ) : (
    <td role="cell" {...shared}>
      {children}
    </td>
  );
}

/** Where one stands in a long list, and the way to the rest of it. */
export function Pages<T>(options: { part: Part<T>; path: string; query?: Record<string, string> }) {
  const { part, path, query = {} } = options;
  if (part.pages === 1) return null;
  const to = (page: number) =>
    `${path}?${new URLSearchParams({ ...query, page: String(page) }).toString()}`;
  return (
    <nav class="pages" aria-label="Pages of the list">
      {part.page > 1 ? <a href={to(part.page - 1)}>Before</a> : null}
      <span>
        Page {part.page} of {part.pages}, {part.total} in all
      </span>
      {part.page < part.pages ? <a href={to(part.page + 1)}>After</a> : null}
    </nav>
  );
}

/** A search in a list, by a plain form. */
export function Search({ path, query, label }: { path: string; query: string; label: string }) {
  return (
    <form class="search" method="get" action={path} role="search">
      <label for="q">{label}</label>
      <input id="q" name="q" type="search" value={query} maxlength={100} />
      <button type="submit" class="second">
        Search
      </button>
    </form>
  );
}

export interface FieldOptions {
  id: string;
  /** Of what is sent; not said: as the id. */
  name?: string;
  label: string;
  hint?: Child;
  type?: string;
  value?: string;
  autocomplete?: string;
  required?: boolean;
  minlength?: number;
  maxlength?: number;
}

export function Field(options: FieldOptions) {
  const { id, name = id, label, hint, type = "text", value = "", ...more } = options;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {hint === undefined ? null : (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      <input
        id={id}
        name={name}
        type={type}
        value={type === "password" ? undefined : value}
        aria-describedby={hint === undefined ? undefined : `${id}-hint`}
        {...more}
      />
    </div>
  );
}

export function Choice(options: { id: string; name: string; label: string; checked?: boolean }) {
  const { id, name, label, checked = false } = options;
  return (
    <p class="choice">
      <input type="checkbox" id={id} name={name} value="yes" checked={checked} />
      <label for={id}>{label}</label>
    </p>
  );
}

/** A part of a whole, as a bar; the words say what it shows. */
export function Bar(options: { label: string; partBytes: number; wholeBytes: number }) {
  const { label, partBytes, wholeBytes } = options;
  const share = wholeBytes === 0 ? 0 : Math.min(1, partBytes / wholeBytes);
  const words = `${label}: ${sizeInWords(partBytes)} of ${sizeInWords(wholeBytes)}`;
  return (
    <svg class="bar" viewBox="0 0 1000 1" preserveAspectRatio="none" role="img" aria-label={words}>
      <rect class="whole" width="1000" height="1" />
      <rect class="part" width={Math.round(share * 1000)} height="1" />
    </svg>
  );
}

export function Copyable({ id, label, text }: { id: string; label: string; text: string }) {
  return (
    <div class="copyable">
      <pre id={id} tabindex={0} role="region" aria-label={label}>
        <code>{text}</code>
      </pre>
      <button type="button" class="second" data-copy={id} hidden>
        Copy
      </button>
    </div>
  );
}
