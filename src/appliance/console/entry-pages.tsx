// SPDX-License-Identifier: Apache-2.0
//
// The ways in: claiming the cluster, signing in, the first steps after the claim, and the account.

/** @jsxImportSource hono/jsx */

import { NAME_CHARACTERS_MAX } from "#base/limits.ts";
import { PASSWORD_CHARACTERS_MIN } from "#appliance/password-rule.ts";
import type { UnitStatus, VolumeView } from "#appliance/backend.ts";
import { FIRST_USER } from "#cluster/user-state.ts";
import type { BoxView } from "#appliance/box-view.ts";
import { BoxSection } from "./box-section.tsx";
import { Copyable, Field, Form, FormToken, Notice, Live } from "./frame.tsx";
import { capacityOf, volumePath } from "./health.ts";
import { DiskTable, Strangers, UnitTable, WitnessOffer } from "./pages.tsx";
import type { Reading } from "./reading.ts";
import type { Session } from "./sessions.ts";
import { USERS_PLACE } from "./user-pages.tsx";
import { NewVolumePage } from "./volume-pages.tsx";
import { firstForm } from "./volume-form.ts";

const NEW_PASSWORD_HINT = `At least ${PASSWORD_CHARACTERS_MIN} characters; length is what counts.`;
const OPEN_WIRE =
  "The connection to this page is not encrypted yet: use it on a network that you trust.";

/** So that a password keeper knows what it keeps. */
function UserName({ name }: { name: string }) {
  return <input type="text" name="user" value={name} autocomplete="username" hidden readonly />;
}

export function ClaimPage(options: {
  status: UnitStatus;
  fault: string | null;
  /** As it was typed; null: nothing was. */
  clusterName: string | null;
}) {
  const { status, fault, clusterName } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      {status.cluster === null ? (
        <WaitingBox status={status} />
      ) : (
        <form method="post" action="/claim" class="card form">
          <p>
            {status.cluster.name} belongs to nobody yet. It is made yours by the code on the screen
            of {status.name}.
          </p>
          <UserName name={FIRST_USER} />
          <Field
            id="cluster"
            label="Name of the cluster"
            value={clusterName ?? status.cluster.name}
            maxlength={NAME_CHARACTERS_MAX}
            required
            autocomplete="off"
            hint="Letters, digits, dot, dash and underscore. It can be changed later."
          />
          <Field
            id="code"
            label="Claim code"
            required
            autocomplete="off"
            hint="As the box's screen shows it; case and dashes do not count."
          />
          <NewPassword />
          <p class="actions">
            <button type="submit">Claim this cluster</button>
          </p>
        </form>
      )}
      <p class="hint">{OPEN_WIRE}</p>
      <p class="hint">
        You have a token already? <a href="/login">Sign in with it</a>.
      </p>
    </div>
  );
}

function NewPassword() {
  return (
    <Field
      id="password"
      label="New password"
      type="password"
      required
      minlength={PASSWORD_CHARACTERS_MIN}
      autocomplete="new-password"
      hint={NEW_PASSWORD_HINT}
    />
  );
}

function WaitingBox({ status }: { status: UnitStatus }) {
  return (
    <section class="card" aria-labelledby="waits">
      <h2 id="waits">{status.name} is in no cluster yet</h2>
      <p>{status.sentence}</p>
      <p>
        Its words, to compare with its screen: <span class="words">{status.words.join(" ")}</span>
      </p>
      <p class="hint">Look again in a moment: once there is a cluster, it can be claimed here.</p>
    </section>
  );
}

export function LoginPage(options: {
  status: UnitStatus;
  fault: string | null;
  hasPassword: boolean;
  /** The name that is offered. */
  user: string;
}) {
  const { status, fault, hasPassword, user } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <form method="post" action="/login" class="card form">
        {hasPassword ? (
          <Field
            id="user"
            label="Name"
            value={user}
            required
            autocomplete="username"
            hint={`Whoever claimed the cluster is ${FIRST_USER}. With a token any name will do.`}
          />
        ) : (
          <UserName name={FIRST_USER} />
        )}
        <Field
          id="password"
          label={hasPassword ? "Password" : "Token"}
          type="password"
          required
          autocomplete="current-password"
          hint={
            hasPassword
              ? "The password of that name, or a token."
              : "No password is set yet: sign in with the owner's token, then set one."
          }
        />
        <p class="actions">
          <button type="submit">Sign in</button>
        </p>
      </form>
      <p class="hint">{OPEN_WIRE}</p>
      {status.claim.claimed ? null : (
        <p class="hint">
          This cluster belongs to nobody yet. <a href="/claim">Claim it</a>.
        </p>
      )}
    </div>
  );
}

/** First boot: what was found, what happens to the disks, the first volume. */
export function SetupPage(options: {
  seen: Reading;
  session: Session;
  from: string;
  /** Of the unit that answers; null: not known. */
  box: BoxView | null;
  /** As the setting has it. */
  timeServers: string | null;
}) {
  const { seen, session, from, box, timeServers } = options;
  const { units, volumes, status, strangers, disks } = seen;
  const own = units?.find(({ unit }) => unit === status.unit);
  const first = volumes?.[0] ?? null;
  return (
    <div>
      <OwnerToken token={session.ownerToken} />
      <section aria-labelledby="found">
        <h2 id="found">1. Units found</h2>
        <p class="lead">
          Each box shows the same words on its screen. If one does not, it is not the box you think
          it is.
        </p>
        <Live id="setup-units">
          <UnitTable units={units ?? []} sentence={status.sentence} />
          <Strangers strangers={strangers} />
          {units?.length === 2 ? <WitnessOffer /> : null}
        </Live>
      </section>
      <section aria-labelledby="plan">
        <h2 id="plan">2. Disks</h2>
        <p class="lead">
          Nothing on a disk is overwritten unless you say so. These are used or left alone:
        </p>
        <Live id="setup-disks">
          <DiskTable disks={disks.slice(0, 50)} units={units} />
        </Live>
      </section>
      {own === undefined ? null : (
        <section aria-labelledby="box">
          <h2 id="box">3. Network and time</h2>
          <p class="lead">
            As it is now it works. What you change of {own.name} here, other units have on pages of
            their own.
          </p>
          <BoxSection {...{ unit: own, box, session, port: status.ports["api"] ?? 0 }} />
          {box?.isAppliance === true ? <TimeServers {...{ session, timeServers }} /> : null}
        </section>
      )}
      <section aria-labelledby="first">
        <h2 id="first">{own === undefined ? 3 : 4}. First volume</h2>
        {first === null && status.cluster !== null ? (
          <NewVolumePage
            {...{ seen, session, from, fault: null, preview: null }}
            form={firstForm((units ?? []).length, capacityOf(disks).freeBytes, from)}
          />
        ) : (
          <FirstVolume volume={first} />
        )}
      </section>
    </div>
  );
}

/** Who tells all boxes the time. */
function TimeServers({ session, timeServers }: { session: Session; timeServers: string | null }) {
  return (
    <Form session={session} action="/setup/time" class="card form">
      <Field
        id="servers"
        label="Time servers of all boxes"
        value={timeServers ?? ""}
        autocomplete="off"
        hint="Such as 10.0.0.1,ntp.example.org. Empty: those that DHCP names, else Debian's."
      />
      <p class="actions">
        <button type="submit" class="second">
          Save the time servers
        </button>
      </p>
    </Form>
  );
}

function FirstVolume({ volume }: { volume: VolumeView | null }) {
  if (volume === null) return <p class="empty">It can be made once this unit is in a cluster.</p>;
  return (
    <p>
      It is there. <a href={`${volumePath(volume)}#attach`}>How to attach to {volume.name}</a>; or
      go to <a href="/">the overview</a>.
    </p>
  );
}

function OwnerToken({ token }: { token: string | null }) {
  if (token === null) return null;
  return (
    <section class="card" aria-labelledby="owner-token">
      <h2 id="owner-token">For the command line</h2>
      <p>
        The owner's token, shown this once. Keep it where only you can read it, or leave it: it can
        be replaced with <code>cairn claim --replace</code>.
      </p>
      <Copyable id="token-text" label="The owner's token" text={token} />
    </section>
  );
}

/** `user`: whose password it is; null: whoever is signed in has none. */
export function AccountPage(options: {
  session: Session;
  fault: string | null;
  hasPassword: boolean;
  user: string | null;
}) {
  const { session, fault, hasPassword, user } = options;
  if (user === null) {
    return (
      <p class="lead">
        You are signed in by {session.who.actor}, as {session.who.role}. Passwords belong to users:
        see <a href={USERS_PLACE}>users and tokens</a>.
      </p>
    );
  }
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <h2>{hasPassword ? "Change your password" : "Set a password"}</h2>
      <p class="lead">
        The password of {user}, the same through every unit. Whoever is signed in by the old one has
        to sign in again.
      </p>
      <form method="post" action="/account" class="card form">
        <FormToken session={session} />
        <UserName name={user} />
        <Field
          id="current"
          label={
            hasPassword ? "Present password, or an administrator's token" : "The owner's token"
          }
          type="password"
          required
          autocomplete="current-password"
        />
        <NewPassword />
        <p class="actions">
          <button type="submit">{hasPassword ? "Change" : "Set"} the password</button>
        </p>
      </form>
    </div>
  );
}
