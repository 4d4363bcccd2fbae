// SPDX-License-Identifier: Apache-2.0
//
// The hosts: the list with the form for a new one, one host with what it is assigned and what it
// has attached here, its removal; and a volume's own list of hosts.

/** @jsxImportSource hono/jsx */

import { FIRST_POOL } from "#cluster/pool-state.ts";
import { layouts } from "#base/layout.ts";
import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { VolumeView } from "#appliance/backend.ts";
import type { HostView, MadeCertificateView, RequestView } from "#appliance/host-backend.ts";
import { Bar, Copyable, Field, Form, Live, Notice, Pages, Search, State, Table } from "./frame.tsx";
import { PolicyPools } from "./pool-pages.tsx";
import { volumePath } from "./health.ts";
import type { HostForm } from "./host-form.ts";
import type { ListQuery } from "./pages.tsx";
import { partOf, type Reading } from "./reading.ts";
import { Assignments } from "./assignments.tsx";
import { CertificateSection } from "./certificate-section.tsx";
import type { Session } from "./sessions.ts";

export function hostPath({ host }: Pick<HostView, "host">): string {
  return `/hosts/${host}`;
}

export interface HostsPageOptions {
  seen: Reading;
  session: Session;
  query: ListQuery;
  form: HostForm;
  fault: string | null;
  from: string;
}

export function HostsPage(options: HostsPageOptions) {
  const { seen, session, query, form, fault, from } = options;
  const wanted = query.q.toLowerCase();
  const found = (seen.hosts ?? []).filter((host) =>
    `${host.name} ${host.addresses.join(" ")}`.toLowerCase().includes(wanted),
  );
  const part = partOf(found, query.page);
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <p class="lead">
        A host is a machine that uses volumes, known by where it comes from. It sees the volumes
        that are assigned to it, and nothing else.
      </p>
      <Search path="/hosts" query={query.q} label="Name or address" />
      <Live id="hosts">
        <Table
          id="host-table"
          caption="Hosts"
          columns={["Host", "Comes from", "Volumes", "Attached here"]}
          empty={query.q === "" ? "There is no host yet." : "No host has such a name or address."}
          rows={part.rows.map((host) => [
            <a href={hostPath(host)}>{host.name}</a>,
            <AddressWords addresses={host.addresses} />,
            host.volumes.length === 0 ? "none" : host.volumes.map(({ name }) => name).join(", "),
            String(host.sessions.reduce((sum, session) => sum + session.connections, 0)),
          ])}
        />
        <Pages part={part} path="/hosts" query={{ q: query.q }} />
      </Live>
      <Requests requests={seen.requests ?? []} session={session} />
      <section aria-labelledby="new-host">
        <h2 id="new-host">New host</h2>
        <Form session={session} action="/hosts" class="card form">
          <Field
            id="name"
            label="Name of the host"
            value={form.name}
            required
            autocomplete="off"
            hint="Letters, digits, dot, dash and underscore."
          />
          <AddressField value={form.addresses} from={from} />
          <p class="actions">
            <button type="submit">Add host</button>
          </p>
        </Form>
      </section>
    </div>
  );
}

function AddressWords({ addresses }: { addresses: readonly string[] }) {
  const [first, ...more] = addresses;
  if (first === undefined) return <span>by certificate alone</span>;
  return (
    <span>
      <code>{first}</code>
      {more.length === 0 ? "" : ` and ${more.length} more`}
    </span>
  );
}

function AddressField({ value, from }: { value: string; from: string }) {
  return (
    <div class="field">
      <label for="addresses">Addresses and ranges</label>
      <p class="hint" id="addresses-hint">
        One a line, such as 10.0.0.7 or 10.0.0.0/24. None: it is known by certificates alone.
        {from === "" ? "" : ` You ask from ${from}.`}
      </p>
      <textarea id="addresses" name="addresses" rows={3} aria-describedby="addresses-hint">
        {value}
      </textarea>
    </div>
  );
}

export interface HostPageOptions {
  host: HostView;
  seen: Reading;
  session: Session;
  /** As typed, when it was refused. */
  form: HostForm | null;
  fault: string | null;
  from: string;
  /** A certificate that was just issued, shown this once. */
  made: MadeCertificateView | null;
}

export function HostPage(options: HostPageOptions) {
  const { host, seen, session, form, fault, from, made } = options;
  const { name, addresses } = form ?? { name: host.name, addresses: host.addresses.join("\n") };
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <section aria-labelledby="assigned">
        <h2 id="assigned">What it may use</h2>
        <AssignedVolumes host={host} volumes={seen.volumes ?? []} session={session} />
      </section>
      <section aria-labelledby="sessions">
        <h2 id="sessions">What it has attached</h2>
        <Live id="host-sessions">
          <Sessions host={host} />
        </Live>
        <p class="hint">
          Through {seen.status.name} alone; what goes through other units stands on their pages.
        </p>
      </section>
      <CertificateSection page={hostPath(host)} {...{ host, made, session }} />
      <AskingSection {...{ host, seen, session }} />
      <section aria-labelledby="change">
        <h2 id="change">Name and addresses</h2>
        <Form session={session} action={hostPath(host)} class="card form">
          <Field id="name" label="Name of the host" value={name} required autocomplete="off" />
          <AddressField value={addresses} from={from} />
          <p class="actions">
            <button type="submit">Save</button>
          </p>
        </Form>
      </section>
      <section aria-labelledby="end">
        <h2 id="end">Remove</h2>
        <p>
          <a class="button danger" href={`${hostPath(host)}/remove`}>
            Remove this host…
          </a>
        </p>
      </section>
    </div>
  );
}

function AssignedVolumes(options: {
  host: HostView;
  volumes: readonly VolumeView[];
  session: Session;
}) {
  const { host, volumes, session } = options;
  const one = ({ volume, name }: { volume: number; name: string }) => {
    return { number: volume, name, href: volumePath({ volume, name }) };
  };
  return (
    <Assignments
      session={session}
      place={hostPath(host)}
      assigned={host.volumes.map(one)}
      all={volumes.map(one)}
      words={{
        field: "volume",
        head: "Volume",
        caption: "Volumes that are assigned to it",
        empty: "No volume is assigned to it: it sees nothing.",
        assign: "Assign the volume",
        rest: "There is no other volume to assign.",
      }}
    />
  );
}

function Sessions({ host }: { host: HostView }) {
  const names = new Map(host.volumes.map(({ volume, name }) => [volume, name]));
  return (
    <Table
      id="session-table"
      caption="Volumes that it has attached here"
      columns={["Volume", "From", "TLS", "Known by", { head: "Connections", isNumber: true }]}
      empty="Nothing at the moment."
      rows={host.sessions.map((session) => [
        names.get(session.volume) ?? String(session.volume),
        <code>{session.address}</code>,
        session.tls ? "yes" : "no",
        session.certificate === null ? "its address" : "its certificate",
        String(session.connections),
      ])}
    />
  );
}

const REQUEST_TONES = { waiting: "notice", granted: "good", refused: "bad" } as const;

/** What hosts asked for: those that wait first, with the two answers. */
function Requests({ requests, session }: { requests: readonly RequestView[]; session: Session }) {
  const newest = [...requests].reverse();
  const waiting = newest.filter((request) => request.state === "waiting");
  const rest = newest.filter((request) => request.state !== "waiting");
  return (
    <section aria-labelledby="requests">
      <h2 id="requests">Requests of hosts</h2>
      <Table
        id="request-table"
        caption="Volumes that hosts asked for by themselves"
        columns={[
          "Volume",
          "Host",
          { head: "Size", isNumber: true },
          "Protection",
          "State",
          "Asked (UTC)",
          "Answer",
        ]}
        empty="No host has asked for a volume."
        rows={[...waiting, ...rest]
          .slice(0, REQUESTS_SHOWN_MAX)
          .map((request) => [
            request.name,
            request.hostName,
            sizeInWords(request.sizeBytes),
            request.pool === FIRST_POOL
              ? request.protection
              : `${request.protection}, in ${request.pool}`,
            <State
              tone={REQUEST_TONES[request.state]}
              words={request.why === "" ? request.state : `${request.state}: ${request.why}`}
            />,
            timeInWords(request.askedAtMs),
            request.state === "waiting" ? <AnswerForm request={request} session={session} /> : "–",
          ])}
      />
    </section>
  );
}

const REQUESTS_SHOWN_MAX = 50;

function AnswerForm({ request, session }: { request: RequestView; session: Session }) {
  const what = `${request.name} for ${request.hostName}`;
  return (
    <Form session={session} action="/hosts/requests" class="actions">
      <input type="hidden" name="request" value={String(request.request)} />
      <button type="submit" name="answer" value="grant" aria-label={`Grant ${what}`}>
        Grant
      </button>
      <button
        type="submit"
        name="answer"
        value="refuse"
        class="second"
        aria-label={`Refuse ${what}`}
      >
        Refuse
      </button>
    </Form>
  );
}

interface AskingOptions {
  host: HostView;
  seen: Reading;
  session: Session;
}

/** What a host may have by asking for it, and the token to ask with. */
function AskingSection({ host, seen, session }: AskingOptions) {
  const { policy, askedBytes } = host;
  return (
    <section aria-labelledby="asking">
      <h2 id="asking">Asking for volumes by itself</h2>
      <p class="lead">
        With a token of its own a host asks by <code>cairn host request --size 100G</code>. What is
        over its quota is refused.
      </p>
      <HostToken host={host} session={session} />
      {policy.quotaBytes === 0 ? null : (
        <p>
          <Bar label="Asked for" partBytes={askedBytes} wholeBytes={policy.quotaBytes} />
          {sizeInWords(askedBytes)} of {sizeInWords(policy.quotaBytes)}
        </p>
      )}
      <PolicyForm {...{ host, seen, session }} />
    </section>
  );
}

function PolicyForm({ host, seen, session }: AskingOptions) {
  const { policy } = host;
  return (
    <Form session={session} action={`${hostPath(host)}/policy`} class="card form">
      <Field
        id="quota"
        label="Quota"
        value={policy.quotaBytes === 0 ? "0" : sizeWord(policy.quotaBytes)}
        autocomplete="off"
        hint="Of all that it asks for, such as 500G. 0: it may ask for nothing."
      />
      <fieldset class="field">
        <legend>Protections that it may ask for; none ticked: any</legend>
        {Object.values(layouts).map((layout) => (
          <p class="choice">
            <input
              type="checkbox"
              id={`may-ask-${layout.name}`}
              name="may-ask"
              value={layout.name}
              checked={policy.protections.includes(layout.name)}
            />
            <label for={`may-ask-${layout.name}`}>
              <strong>{layout.name}</strong> <span>{layout.sentence}</span>
            </label>
          </p>
        ))}
      </fieldset>
      <PolicyPools policy={policy} pools={(seen.pools ?? []).map(({ name }) => name)} />
      <p class="choice">
        <input type="checkbox" id="grants" name="grants" value="yes" checked={policy.grants} />
        <label for="grants">
          <strong>At once</strong> <span>what keeps to this is granted without a person</span>
        </label>
      </p>
      <p class="actions">
        <button type="submit">Save what it may ask for</button>
      </p>
    </Form>
  );
}

/** A size as it is typed: exact, so that saving a form unchanged changes nothing. */
function sizeWord(bytes: number): string {
  const units = ["", "K", "M", "G", "T"];
  let at = 0;
  let rest = bytes;
  while (at + 1 < units.length && rest % 1024 === 0) {
    rest /= 1024;
    at++;
  }
  return `${rest}${units[at]}`;
}

function HostToken({ host, session }: { host: HostView; session: Session }) {
  const made = session.hostToken?.host === host.host ? session.hostToken.token : null;
  return (
    <div>
      {made === null ? null : (
        <section class="card" aria-labelledby="host-token">
          <h3 id="host-token">The token of {host.name}</h3>
          <p>Shown this once. Keep it on that host, where only root can read it.</p>
          <Copyable id="host-token-text" label="The host's token" text={made} />
        </section>
      )}
      <Form session={session} action={`${hostPath(host)}/token`} class="actions">
        <button type="submit" name="intent" value="make" class="second">
          {host.hasToken ? "Make another token" : "Make a token"}
        </button>
        {host.hasToken ? (
          <button type="submit" name="intent" value="void" class="second">
            Void the token
          </button>
        ) : null}
      </Form>
    </div>
  );
}

export function RemoveHostPage(options: {
  host: HostView;
  session: Session;
  fault: string | null;
}) {
  const { host, session, fault } = options;
  const what = host.volumes.map(({ name }) => name).join(", ");
  const warning =
    what === ""
      ? `${host.name} uses nothing. No volume is touched.`
      : `${host.name} is cut off at once from ${what}. The volumes and what is on them stay.`;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Notice tone={what === "" ? "notice" : "bad"} text={warning} />
      <Form session={session} action={`${hostPath(host)}/remove`} class="card form">
        <Field
          id="confirm"
          label="Name of the host"
          hint={`Type ${host.name} to say that you mean it.`}
          required
          autocomplete="off"
        />
        <p class="actions">
          <button type="submit" class="danger">
            Remove
          </button>
          <a href={hostPath(host)}>Keep it</a>
        </p>
      </Form>
    </div>
  );
}

/** A volume's hosts, on its own page. */
export function VolumeHosts(options: {
  volume: VolumeView;
  hosts: readonly HostView[];
  session: Session;
}) {
  const { volume, hosts, session } = options;
  const one = ({ host, name }: { host: number; name: string }) => {
    return { number: host, name, href: hostPath({ host }) };
  };
  return (
    <section aria-labelledby="hosts">
      <h2 id="hosts">Who may attach</h2>
      <Assignments
        session={session}
        place={volumePath(volume)}
        assigned={volume.hosts.map(one)}
        all={hosts.map(one)}
        words={{
          field: "host",
          head: "Host",
          caption: "Hosts that it is assigned to",
          empty: "No host yet: nobody sees it.",
          assign: "Assign to the host",
          rest: (
            <span>
              There is no other host to assign it to. <a href="/hosts">Add a host</a>.
            </span>
          ),
        }}
      />
    </section>
  );
}

/** In the form of a new volume: hosts that there are, and one that is not there yet. */
export function HostChoice(options: {
  hosts: readonly HostView[];
  chosen: readonly string[];
  address: string;
  from: string;
}) {
  const { hosts, chosen, address, from } = options;
  return (
    <fieldset class="field">
      <legend>Who may attach</legend>
      {hosts.slice(0, CHOICES_MAX).map(({ host, name, addresses }) => (
        <p class="choice">
          <input
            type="checkbox"
            id={`host-${host}`}
            name="host"
            value={String(host)}
            checked={chosen.includes(String(host))}
          />
          <label for={`host-${host}`}>
            <strong>{name}</strong> <AddressWords addresses={addresses} />
          </label>
        </p>
      ))}
      <Field
        id="address"
        label="Address of a new host"
        value={address}
        autocomplete="off"
        hint={
          `Such as 10.0.0.7 or 10.0.0.0/24. Empty: no new one.` +
          (from === "" ? "" : ` You ask from ${from}.`)
        }
      />
    </fieldset>
  );
}

/** More of them are assigned on the volume's page. */
const CHOICES_MAX = 12;
