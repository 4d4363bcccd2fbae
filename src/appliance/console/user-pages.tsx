// SPDX-License-Identifier: Apache-2.0
//
// Users and tokens: who may sign in at the pages or ask the API, and as what. A token is shown
// once, on the page after it was made.

/** @jsxImportSource hono/jsx */

import { ROLES, roleSchema } from "#cluster/user-state.ts";
import { Fault } from "#base/fault.ts";
import { timeInWords } from "#appliance/api/words.ts";
import type { Backend } from "#appliance/backend.ts";
import type { TokenView, UserView } from "#appliance/user-backend.ts";
import { PASSWORD_CHARACTERS_MIN } from "#appliance/password-rule.ts";
import { type Call, type ConsoleApp, type Desk, isByPerson } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Copyable, Field, Form, Notice, Table } from "./frame.tsx";
import type { Session } from "./sessions.ts";

export const USERS_PLACE = "/settings/users";
const SETTINGS_PLACE = "/settings";

type Posted = (typed: URLSearchParams, session: Session) => Promise<string>;

export function addUserPages(app: ConsoleApp, desk: Desk): void {
  const { users } = desk.backend;
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = <UsersPage {...{ users, session, fault: words }} />;
    const shown = desk.show(call, {
      title: "Users and tokens",
      place: SETTINGS_PLACE,
      content,
      fault,
    });
    if (isByPerson(call)) session.madeToken = null;
    return shown;
  };
  app.get(
    USERS_PLACE,
    desk.guarded((call, session) => show(call, session, null)),
  );
  /** What was asked for, and the sentence that is said of it on the page after. */
  const posts = (path: string, act: Posted) =>
    app.post(
      `${USERS_PLACE}${path}`,
      desk.doing({
        act: (typed, _, session) => act(typed, session),
        show,
        to: () => USERS_PLACE,
      }),
    );
  posts("", async (typed) => {
    const password = typed.get("password") ?? "";
    const { name } = await users.add({ name: nameIn(typed), role: roleIn(typed), password });
    return `${name} can sign in.`;
  });
  posts("/role", async (typed) => {
    const { name, role } = await users.changeRole(nameIn(typed), roleIn(typed));
    return `${name} is ${role} from now on.`;
  });
  posts("/password", async (typed) => {
    await users.setPassword(nameIn(typed), typed.get("password") ?? "");
    return `The password of ${nameIn(typed)} is set; what was open by the old one has ended.`;
  });
  posts("/remove", async (typed) => {
    await users.remove(nameIn(typed));
    return `${nameIn(typed)} cannot sign in any more.`;
  });
  posts("/tokens", async (typed, session) => {
    const { token } = await users.addToken({ name: nameIn(typed), role: roleIn(typed) });
    session.madeToken = { name: nameIn(typed), token };
    return "The token is made.";
  });
  posts("/tokens/remove", async (typed) => {
    await users.removeToken(nameIn(typed));
    return `The token ${nameIn(typed)} is void.`;
  });
}

function nameIn(typed: URLSearchParams): string {
  return (typed.get("name") ?? "").trim();
}

function roleIn(typed: URLSearchParams) {
  const role = roleSchema.safeParse(typed.get("role"));
  if (role.success) return role.data;
  throw new Fault("badRequest", `a role is one of ${ROLES.join(", ")}`);
}

function UsersPage(options: { users: Backend["users"]; session: Session; fault: string | null }) {
  const { users, session, fault } = options;
  const people = users.list();
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <p class="lead">
        An admin may do everything; a viewer sees everything and changes nothing. What each of them
        did stands in the <a href="/events">events</a>.
      </p>
      <MadeToken made={session.madeToken} />
      <section aria-labelledby="users">
        <h2 id="users">Users</h2>
        <Table
          id="user-table"
          caption="Who can sign in"
          columns={["Name", "Role", "Since (UTC)", "What they did"]}
          empty="Nobody has a password yet; sign in with a token and set one under Account."
          rows={people.map((one) => [one.name, one.role, since(one), <Deeds actor={one.name} />])}
        />
        <AddUser session={session} />
        {people.length === 0 ? null : <ChangeUser {...{ people, session }} />}
      </section>
      <section aria-labelledby="tokens">
        <h2 id="tokens">Tokens</h2>
        <Table
          id="token-table"
          caption="What opens the API"
          columns={["Name", "Role", "Since (UTC)", "What it did", "Void it"]}
          empty="There is none."
          rows={users
            .tokens()
            .map((one, at) => [
              one.name,
              one.role,
              since(one),
              <Deeds actor={`token ${one.name}`} />,
              at === 0 ? "by another claim" : <VoidToken {...{ name: one.name, session }} />,
            ])}
        />
        <AddToken session={session} />
      </section>
    </div>
  );
}

function since({ createdAtMs }: UserView | TokenView): string {
  return createdAtMs === 0 ? "not known" : timeInWords(createdAtMs);
}

function Deeds({ actor }: { actor: string }) {
  return (
    <a href={`/events?${new URLSearchParams({ actor }).toString()}`}>
      Events<span class="unseen"> of {actor}</span>
    </a>
  );
}

function MadeToken({ made }: { made: Session["madeToken"] }) {
  if (made === null) return null;
  return (
    <section class="card" aria-labelledby="made-token">
      <h2 id="made-token">A new token: {made.name}</h2>
      <p>Shown this once. Keep it where only who needs it can read it.</p>
      <Copyable id="made-token-text" label={`The token ${made.name}`} text={made.token} />
    </section>
  );
}

function RoleField({ id }: { id: string }) {
  return (
    <div class="field">
      <label for={id}>Role</label>
      <select id={id} name="role">
        {ROLES.toReversed().map((role) => (
          <option value={role}>{role}</option>
        ))}
      </select>
    </div>
  );
}

function NameField({ id, label }: { id: string; label: string }) {
  return (
    <Field
      id={id}
      name="name"
      label={label}
      required
      autocomplete="off"
      hint="Letters, digits, dot, dash and underscore."
    />
  );
}

function PasswordField({ id, isNeeded }: { id: string; isNeeded: boolean }) {
  return (
    <Field
      id={id}
      name="password"
      label="New password"
      type="password"
      required={isNeeded}
      minlength={PASSWORD_CHARACTERS_MIN}
      autocomplete="new-password"
      hint={`At least ${PASSWORD_CHARACTERS_MIN} characters; length is what counts.`}
    />
  );
}

function AddUser({ session }: { session: Session }) {
  return (
    <Form session={session} action={USERS_PLACE} class="card form">
      <h3>New user</h3>
      <NameField id="new-user" label="Name of the user" />
      <RoleField id="new-user-role" />
      <PasswordField id="new-user-password" isNeeded />
      <p class="actions">
        <button type="submit">Add user</button>
      </p>
    </Form>
  );
}

/** One form for all of them: what is asked for is the button that is pressed. */
function ChangeUser({ people, session }: { people: readonly UserView[]; session: Session }) {
  return (
    <Form session={session} action={`${USERS_PLACE}/role`} class="card form">
      <h3>Change a user</h3>
      <div class="field">
        <label for="known-user">User</label>
        <select id="known-user" name="name">
          {people.map(({ name }) => (
            <option value={name}>{name}</option>
          ))}
        </select>
      </div>
      <RoleField id="known-user-role" />
      <PasswordField id="known-user-password" isNeeded={false} />
      <p class="actions">
        <button type="submit">Give this role</button>
        <button type="submit" class="second" formaction={`${USERS_PLACE}/password`}>
          Set this password
        </button>
        <button type="submit" class="danger" formaction={`${USERS_PLACE}/remove`}>
          Remove this user
        </button>
      </p>
    </Form>
  );
}

function AddToken({ session }: { session: Session }) {
  return (
    <Form session={session} action={`${USERS_PLACE}/tokens`} class="card form">
      <h3>New token</h3>
      <NameField id="new-token" label="Name of the token" />
      <RoleField id="new-token-role" />
      <p class="actions">
        <button type="submit">Make a token</button>
      </p>
    </Form>
  );
}

function VoidToken({ name, session }: { name: string; session: Session }) {
  return (
    <Form session={session} action={`${USERS_PLACE}/tokens/remove`}>
      <input type="hidden" name="name" value={name} />
      <button type="submit" class="quiet-button">
        Void<span class="unseen"> the token {name}</span>
      </button>
    </Form>
  );
}
