// SPDX-License-Identifier: Apache-2.0
//
// Network and clock of a unit's box, on its page and among the first steps: what it has now, fixed
// addresses that are tried before they are kept, and the clock set by hand where nobody keeps it.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { parseTime, timeInWords } from "#appliance/api/words.ts";
import type { UnitView } from "#appliance/backend.ts";
import { type BoxView, isFixed, wallSchema, withCard } from "#appliance/box-view.ts";
import { networkSchema } from "#appliance/network-settings.ts";
import type { Neighbours } from "#appliance/unit-neighbours.ts";
import { Field, Form, Notice, Table } from "./frame.tsx";
import type { Session } from "./sessions.ts";
import { unitPath } from "./unit-pages.tsx";

type Act = (unit: UnitView, form: URLSearchParams) => Promise<string>;

/** What the forms below ask for, by the word in their path. */
export function boxActs(neighbours: Neighbours): Record<string, Act> {
  return {
    network: async ({ unit, name }, form) => {
      await neighbours.tryNetwork(unit, wantedNetwork(await neighbours.box(unit), form));
      return `The network of ${name} changes now: keep it, or it is taken back in two minutes.`;
    },
    "keep-network": async ({ unit, name }) => {
      await neighbours.endTrial(unit, { keep: true });
      return `${name} keeps its new network.`;
    },
    "undo-network": async ({ unit, name }) => {
      await neighbours.endTrial(unit, { keep: false });
      return `${name} has its old network again.`;
    },
    clock: async ({ unit, name }, form) => {
      const wall = wallSchema.safeParse(parseTime(form.get("time") ?? ""));
      if (!wall.success) throw new Fault("badRequest", "a time is such as 2026-11-28 20:15:00");
      await neighbours.setClock(unit, wall.data);
      return `The clock of ${name} is set.`;
    },
  };
}

function wantedNetwork(box: BoxView, form: URLSearchParams): BoxView["network"] {
  const name = form.get("card") ?? "";
  const card = box.cards.find((one) => one.name === name);
  if (card === undefined) throw new Fault("badRequest", "choose one of its cards");
  const words = (field: string) => (form.get(field) ?? "").split(/[\s,]+/).filter(Boolean);
  const [addresses, gateways, dns] = [words("addresses"), words("gateways"), words("dns")];
  if (form.get("by") !== "fixed") return withCard(box, card, null);
  if (addresses.length === 0) throw new Fault("badRequest", "say at least one fixed address");
  const network = networkSchema.safeParse(withCard(box, card, { addresses, gateways, dns }));
  if (network.success) return network.data;
  const issue = network.error.issues[0];
  const [, field = "", at] = issue?.path ?? [];
  const typed = form.get(String(field)) === null ? "" : words(String(field))[Number(at)];
  const what = typed === undefined || typed === "" ? String(field) : `${String(field)} ${typed}`;
  throw new Fault("badRequest", `${what}: ${issue?.message ?? ""}`);
}

interface SectionOptions {
  unit: UnitView;
  /** Null: it does not answer. */
  box: BoxView | null;
  session: Session;
  /** Of its pages. */
  port: number;
  /** What was typed and refused; not there: nothing was. */
  typed?: URLSearchParams | null;
}

export function BoxSection({ unit, box, session, port, typed = null }: SectionOptions) {
  if (box === null) return <p class="empty">{unit.name} does not tell of its network and clock.</p>;
  return (
    <div>
      <Cards box={box} />
      <p>
        Its clock says {timeInWords(box.wallMs)} UTC,{" "}
        {box.isClockKept ? "and a time server keeps it right." : "and nobody keeps it right."}
      </p>
      {box.isAppliance ? (
        <div>
          <Trial {...{ unit, box, session, port }} />
          <details class="card" open={typed?.has("card") === true}>
            <summary>Change its network</summary>
            <NetworkForm {...{ unit, box, session, typed }} />
          </details>
          {box.isClockKept ? null : (
            <details class="card" open={typed?.has("time") === true}>
              <summary>Set its clock by hand</summary>
              <ClockForm {...{ unit, box, session, typed }} />
            </details>
          )}
        </div>
      ) : (
        <p class="hint">
          {unit.name} is a program on somebody's machine: network and clock are that machine's.
        </p>
      )}
    </div>
  );
}

function Cards({ box: { cards, network } }: { box: BoxView }) {
  return (
    <Table
      id="card-table"
      caption="Its network cards"
      columns={["Card", "Cable", "Addresses by", "Addresses"]}
      empty="It has no network card."
      rows={cards.map((card) => [
        <span>
          <span class="name">{card.name}</span> <code>{card.mac}</code>
        </span>,
        card.cable === null ? "not told" : card.cable ? "in" : "out",
        isFixed(network, card) ? "you" : "DHCP, else link-local",
        <ul class="bare">
          {card.addresses.map((address) => (
            <li>
              <code>{address}</code>
            </li>
          ))}
        </ul>,
      ])}
    />
  );
}

function Trial({ unit, box: { trial }, session, port }: SectionOptions & { box: BoxView }) {
  if (trial === null) return null;
  const addresses = trial.network.flatMap((entry) => entry.addresses);
  const urls = addresses.map((text) => {
    const [address = ""] = text.split("/");
    const host = address.includes(":") ? `[${address}]` : address;
    return `http://${host}:${port}${unitPath(unit)}#box`;
  });
  return (
    <section class="card" aria-labelledby="trial">
      <h3 id="trial">Another network is tried</h3>
      {trial.problem === "" ? null : (
        <Notice tone="bad" text={`It could not be applied: ${trial.problem}`} />
      )}
      <p>
        It is taken back in {Math.ceil(trial.leftMs / 1000)} seconds, unless you keep it. Open this
        page at the new address and keep it there: then you know that you reach it.
      </p>
      <ul class="bare">
        {urls.map((url) => (
          <li>
            <a href={url}>{url}</a>
          </li>
        ))}
      </ul>
      <Form session={session} action={`${unitPath(unit)}/keep-network`}>
        <p class="actions">
          <button type="submit">Keep this network</button>
        </p>
      </Form>
      <Form session={session} action={`${unitPath(unit)}/undo-network`}>
        <p class="actions">
          <button type="submit" class="second">
            Take it back now
          </button>
        </p>
      </Form>
    </section>
  );
}

type FormOptions = Omit<SectionOptions, "port" | "box"> & { box: BoxView };

function NetworkForm({ unit, box, session, typed }: FormOptions) {
  const first = box.cards.find(({ cable }) => cable === true) ?? box.cards[0];
  const entry = box.network.find((one) => first !== undefined && isFixed([one], first));
  const line = (field: "addresses" | "gateways" | "dns") =>
    typed?.get(field) ?? (entry?.[field] ?? []).join(" ");
  const chosen = typed?.get("card") ?? first?.name;
  const isByYou = typed?.has("by") === true ? typed.get("by") === "fixed" : entry !== undefined;
  return (
    <Form session={session} action={`${unitPath(unit)}/network`} class="form">
      <p>
        What is not kept within two minutes is taken back, so nothing is cut off for good. Hosts
        that attach with <code>cairn host attach</code> find the new address by themselves.
      </p>
      <div class="field">
        <label for="card">Card</label>
        <select id="card" name="card">
          {box.cards.map(({ name, mac }) => (
            <option value={name} selected={name === chosen}>
              {name} ({mac})
            </option>
          ))}
        </select>
      </div>
      <fieldset class="field">
        <legend>Its addresses</legend>
        <p class="choice">
          <input type="radio" id="by-dhcp" name="by" value="dhcp" checked={!isByYou} />
          <label for="by-dhcp">
            <strong>By DHCP</strong> and link-local where nobody answers
          </label>
        </p>
        <p class="choice">
          <input type="radio" id="by-you" name="by" value="fixed" checked={isByYou} />
          <label for="by-you">
            <strong>Fixed</strong> as follows
          </label>
        </p>
      </fieldset>
      <Field
        id="addresses"
        label="Fixed addresses"
        value={line("addresses")}
        autocomplete="off"
        hint="Each with its prefix length, such as 192.168.1.10/24; several with blanks between."
      />
      <Field
        id="gateways"
        label="Gateway"
        value={line("gateways")}
        autocomplete="off"
        hint="Such as 192.168.1.1; one each for IPv4 and IPv6. Empty: none."
      />
      <Field
        id="dns"
        label="Name servers"
        value={line("dns")}
        autocomplete="off"
        hint="Such as 192.168.1.1. Empty: none."
      />
      <p class="actions">
        <button type="submit">Try this network</button>
      </p>
    </Form>
  );
}

function ClockForm({ unit, box, session, typed }: FormOptions) {
  return (
    <Form session={session} action={`${unitPath(unit)}/clock`} class="form">
      <p>
        Better than by hand is a time server: <a href="/settings#timeServers">name one</a>. Times in
        the history, the day of grace of a deleted volume and the end of a maintenance go by it.
      </p>
      <Field
        id="time"
        label="Time (UTC)"
        value={typed?.get("time") ?? timeInWords(box.wallMs)}
        required
        autocomplete="off"
        hint="Such as 2026-11-28 20:15:00."
      />
      <p class="actions">
        <button type="submit">Set the clock</button>
      </p>
    </Form>
  );
}
