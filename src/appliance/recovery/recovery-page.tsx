// SPDX-License-Identifier: Apache-2.0
//
// The pages of the recovery: signing in, what is wrong and what can be done, and what was done.
// Rendered here and shown without a script. hono/jsx escapes every text and attribute it is given.

/** @jsxImportSource hono/jsx */

import type { Child } from "hono/jsx";
import { logLineInWords } from "#appliance/screen/log-lines.ts";
import { nextSlot } from "#machine/slot-choice.ts";
import type { Slot } from "#machine/slots.ts";

// Plain CSS without quotes or angle brackets, so that escaping leaves it as it is.
const STYLE = `
  :root { color-scheme: light dark; --ink: #1c2326; --paper: #fbfaf7; --quiet: #566064;
    --line: #cfc9bb; --bad: #a3260f; --button: #1f4e63; --on: #ffffff }
  @media (prefers-color-scheme: dark) { :root { --ink: #e8e6e1; --paper: #14181a; --quiet: #a3adb0;
    --line: #3d464a; --bad: #ff9a85; --button: #8fc7e0; --on: #10181c } }
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem;
    padding: 0 1rem; color: var(--ink); background: var(--paper) }
  h1 { font-size: 1.5rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem }
  p { margin: .3rem 0 .8rem } .quiet { color: var(--quiet) } .bad { color: var(--bad) }
  pre { border: 1px solid var(--line); padding: .8rem; overflow-x: auto; white-space: pre-wrap;
    overflow-wrap: anywhere; font-size: .85rem; line-height: 1.4 }
  form { margin: .6rem 0 1.2rem } label { display: block; font-weight: 600 }
  input { font: inherit; padding: .4rem .6rem; border: 1px solid var(--quiet); border-radius: 4px;
    background: transparent; color: inherit; width: 100%; max-width: 24rem; box-sizing: border-box;
    margin: .2rem 0 .6rem }
  button { font: inherit; padding: .4rem 1rem; border: 1px solid var(--button); border-radius: 4px;
    background: var(--button); color: var(--on); cursor: pointer }
  button.grave { background: transparent; color: var(--bad); border-color: var(--bad) }
  :focus-visible { outline: 3px solid var(--button); outline-offset: 2px }
  a { color: var(--button) } section { border-top: 1px solid var(--line) }
`;

export interface RecoveryFacts {
  name: string;
  version: string;
  /** In one sentence or two. */
  reason: string;
  /** For how long, in words. */
  forWords: string;
  /** In how long Cairn is started again without a hand, in words; null: it is not. */
  againWords: string | null;
  /** Newest last, without secrets. */
  logLines: readonly string[];
  slots: readonly Slot[];
}

interface PageOptions {
  name: string;
  title: string;
  children: Child;
}

function page({ name, title, children }: PageOptions): string {
  const whole = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{`${title} · ${name} · Cairn`}</title>
        <style>{STYLE}</style>
      </head>
      <body>
        <main>{children}</main>
      </body>
    </html>
  );
  return `<!DOCTYPE html>${String(whole)}`;
}

/** Says that this is the recovery, and nothing else before somebody has shown the code. */
export function signInPage(options: { name: string; problem: string | null; token: boolean }) {
  const { name, problem, token } = options;
  const where = token ? ", or the API token from the unit's state directory" : "";
  return page({
    name,
    title: "Recovery",
    children: (
      <>
        <h1>{name} is in recovery</h1>
        <p>Cairn does not run on this unit. Sign in to see why, and what can be done.</p>
        {problem === null ? null : (
          <p class="bad" role="alert">
            {problem}
          </p>
        )}
        <form method="post" action="/sign-in">
          <label for="code">Code</label>
          <p class="quiet" id="code-hint">
            The code that the unit's own screen shows{where}.
          </p>
          <input
            id="code"
            name="code"
            type="password"
            autocomplete="off"
            aria-describedby="code-hint"
            required
            autofocus
          />
          <div>
            <button type="submit">Sign in</button>
          </div>
        </form>
      </>
    ),
  });
}

/** What is wrong, and what can be done about it. `problem`: of what was just tried. */
export function recoveryPage(facts: RecoveryFacts, problem: string | null): string {
  const { name, version, reason, forWords, againWords } = facts;
  return page({
    name,
    title: "Recovery",
    children: (
      <>
        <h1>{name} is in recovery</h1>
        <p>{reason}</p>
        <p class="quiet">
          Cairn {version}; in recovery for {forWords}. Volumes with a copy on another unit stay
          online.
        </p>
        {againWords === null ? null : (
          <p class="quiet">
            Cairn is started again by itself in {againWords}, later while you do something here.
          </p>
        )}
        {problem === null ? null : (
          <p class="bad" role="alert">
            {problem}
          </p>
        )}
        <Button action="/try-again" label="Start Cairn again" />
        <Log lines={facts.logLines} />
        <OtherSlots slots={facts.slots} />
        <section>
          <h2>Restart the box</h2>
          <Button action="/reboot" label="Restart" />
        </section>
        <Resets name={name} />
      </>
    ),
  });
}

function Button({ action, label }: { action: string; label: string }) {
  return (
    <form method="post" action={action}>
      <button type="submit">{label}</button>
    </form>
  );
}

function Log({ lines }: { lines: readonly string[] }) {
  return (
    <section>
      <h2>Last lines of its log</h2>
      {lines.length === 0 ? (
        <p class="quiet">Nothing was written since the start.</p>
      ) : (
        <pre tabindex={0} aria-label="Last lines of the log">
          {lines.map(logLineInWords).join("\n")}
        </pre>
      )}
      <p>
        <a href="/log" download="cairn-log.txt">
          Download the log of this start
        </a>
      </p>
    </section>
  );
}

function OtherSlots({ slots }: { slots: readonly Slot[] }) {
  const running = slots.find((slot) => slot.running);
  const others = slots.filter((slot) => !slot.running);
  const next = nextSlot(slots);
  return (
    <section>
      <h2>Another version</h2>
      {others.length === 0 ? (
        <p class="quiet">
          There is no other version on this box
          {running === undefined ? "" : ` than ${running.version}, which runs`}.
        </p>
      ) : (
        others.map((slot) => (
          <form method="post" action="/use-slot">
            <p>
              Version {slot.version} lies in the other slot{slot === next ? " and is next" : ""}
              {slot.state === "bad" ? "; it failed, or was set aside" : ""}.
            </p>
            <input type="hidden" name="version" value={slot.version} />
            <button type="submit">Restart with version {slot.version}</button>
          </form>
        ))
      )}
    </section>
  );
}

function Resets({ name }: { name: string }) {
  return (
    <section>
      <h2>Factory reset</h2>
      <p>
        The unit restarts as a new one. Its identity, settings and history are lost; what the boot
        medium says stays.
      </p>
      <ResetForm
        name={name}
        level="settings"
        text="The disks keep their data; another cluster than this one leaves them alone."
        label="Reset the settings"
      />
      <ResetForm
        name={name}
        level="everything"
        text="All data on Cairn's disks in this box is lost, and what was stamped on its boot disk."
        label="Erase everything"
      />
    </section>
  );
}

function ResetForm(options: { name: string; level: string; text: string; label: string }) {
  const { name, level, text, label } = options;
  const field = `name-${level}`;
  return (
    <form method="post" action="/reset">
      <p id={`${field}-text`}>{text}</p>
      <input type="hidden" name="level" value={level} />
      <label for={field}>Type {name} to confirm</label>
      <input
        id={field}
        name="name"
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        aria-describedby={`${field}-text`}
        required
      />
      <div>
        <button type="submit" class="grave">
          {label}
        </button>
      </div>
    </form>
  );
}

/** What was begun; this page may be the last thing that is heard of the box for a while. */
export function begunPage(options: { name: string; said: string }): string {
  const { name, said } = options;
  return page({
    name,
    title: "Recovery",
    children: (
      <>
        <h1>{said}</h1>
        <p>
          <a href="/">Look again</a> after a minute or two. The unit's own screen says meanwhile how
          it goes.
        </p>
      </>
    ),
  });
}
