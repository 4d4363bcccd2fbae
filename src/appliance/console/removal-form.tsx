// SPDX-License-Identifier: Apache-2.0
//
// What is taken away for good is meant by its name, typed in full: the form of volumes, hosts and
// units, and the check of what was typed.

/** @jsxImportSource hono/jsx */

import type { Child } from "hono/jsx";
import { Fault } from "#base/fault.ts";
import { Field, Form, Notice } from "./frame.tsx";
import type { Session } from "./sessions.ts";

interface RemovalOptions {
  /** `volume`, `host`, `unit`: whose name it is. */
  noun: string;
  name: string;
  action: string;
  label: string;
  session: Session;
  /** Where it leads who thinks better of it; not said: nowhere. */
  keep?: string;
  /** Further choices of the form. */
  children?: Child;
}

export function RemovalForm(options: RemovalOptions) {
  const { noun, name, action, label, session, keep, children } = options;
  return (
    <Form session={session} action={action} class="card form">
      <Field
        id="confirm"
        label={`Name of the ${noun}`}
        hint={`Type ${name} to say that you mean it.`}
        required
        autocomplete="off"
      />
      {children}
      <p class="actions">
        <button type="submit" class="danger">
          {label}
        </button>
        {keep === undefined ? null : <a href={keep}>Keep it</a>}
      </p>
    </Form>
  );
}

/** A page of its own for it: what went wrong, what it costs, and the form. */
export function RemovalPage(
  options: RemovalOptions & { fault: string | null; warning: string; isCostly: boolean },
) {
  const { fault, warning, isCostly, ...form } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Notice tone={isCostly ? "bad" : "notice"} text={warning} />
      <RemovalForm {...form} />
    </div>
  );
}

/** A Fault unless the name was typed. */
export function nameTyped(form: URLSearchParams, name: string): void {
  if ((form.get("confirm") ?? "").trim() === name) return;
  throw new Fault("badRequest", `nothing was changed: the name is ${name}`);
}
