// SPDX-License-Identifier: Apache-2.0
//
// The pools: each with its units, spares and room, the spares of none, and what their owner does:
// make a pool, delete an empty one, move a unit or a spare.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import type { HostPolicyView } from "#appliance/host-backend.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import { type PlaceInPools, placeInWords } from "#cluster/pool-state.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import type { UnitView } from "#appliance/backend.ts";
import type { PoolView } from "#appliance/pools.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Bar, Choice, Field, Form, Live, Notice, State } from "./frame.tsx";
import { type Reading, readAll } from "./reading.ts";
import type { Session } from "./sessions.ts";
import { unitPath } from "./unit-pages.tsx";

const PLACE = "/pools";

export function addPoolPages(app: ConsoleApp, desk: Desk): void {
  const { pools, fleet } = desk.backend;
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const seen = readAll(desk.backend);
    const words = fault === null ? null : sentenceOf(fault);
    const content = <PoolsPage {...{ seen, session, fault: words }} />;
    return desk.show(call, { title: "Pools", place: PLACE, content, fault });
  };
  const doing = (path: string, act: (form: URLSearchParams, call: Call) => Promise<string>) => {
    app.post(path, desk.doing({ act, show, to: () => PLACE }));
  };
  app.get(
    PLACE,
    desk.guarded((call, session) => show(call, session, null)),
  );
  doing(PLACE, async (form) => {
    const name = nameSchema.safeParse((form.get("name") ?? "").trim());
    if (!name.success) throw new Fault("badRequest", `name: ${name.error.issues[0]?.message}`);
    await pools.create(name.data);
    return `The pool ${name.data} is there; move units into it.`;
  });
  doing(`${PLACE}/move`, async (form) => {
    const unit = form.get("unit") ?? "";
    const to = placeOf(form.get("place") ?? "");
    await fleet.move(unit, to, { force: form.get("force") === "yes", dryRun: false });
    return `${unit} is ${placeInWords(to)} now, or once it is emptied.`;
  });
  doing(`${PLACE}/:pool/delete`, async (_form, call) => {
    const name = call.req.param("pool") ?? "";
    await pools.remove(name);
    return `The pool ${name} is deleted.`;
  });
}

/** As the form writes it: `member:fast`, `spare:fast`, `spare:`. */
function placeOf(word: string): PlaceInPools {
  const [role = "", pool = ""] = word.split(":");
  if (role !== "member" && role !== "spare") throw new Fault("badRequest", "choose a place");
  return { role, pool: pool === "" ? null : pool };
}

interface PageOptions {
  seen: Reading;
  session: Session;
  fault: string | null;
}

function PoolsPage({ seen, session, fault }: PageOptions) {
  const { pools, units } = seen;
  const isAlone = (units ?? []).every((unit) => unit.pool !== null);
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <p class="lead">
        A volume lies in one pool, on that pool's units. New units join the first one. A spare is
        empty until a pool lacks a copy; then it becomes a member there by itself.
      </p>
      <Live id="pools">
        <div class="cards">
          {(pools ?? []).map((pool) => (
            <PoolCard {...{ pool, seen, session }} />
          ))}
          {isAlone ? null : <SharedSpares units={units ?? []} />}
        </div>
      </Live>
      {pools === null ? (
        <p class="empty">This unit is in no cluster yet.</p>
      ) : (
        <div class="cards">
          <MoveForm {...{ units: units ?? [], pools, session }} />
          <NewPoolForm session={session} />
        </div>
      )}
    </div>
  );
}

function PoolCard({ pool, seen, session }: { pool: PoolView; seen: Reading; session: Session }) {
  const { name, isFirst, sizeBytes, freeBytes, volumes } = pool;
  const inIt = (seen.units ?? []).filter((unit) => unit.pool === name);
  const isEmpty = inIt.length === 0 && volumes === 0;
  return (
    <section class="card" aria-labelledby={`pool-${name}`}>
      <h2 id={`pool-${name}`}>
        {name}
        {isFirst ? <span class="hint"> new units join it</span> : null}
      </h2>
      <p class="figure">
        {sizeInWords(freeBytes)} <span>free of {sizeInWords(sizeBytes)}</span>
      </p>
      <Bar label="Promised" partBytes={sizeBytes - freeBytes} wholeBytes={sizeBytes} />
      <dl>
        <div>
          <dt>Units</dt>
          <dd>
            <UnitNames units={inIt} />
          </dd>
        </div>
        <div>
          <dt>Volumes</dt>
          <dd>{String(volumes)}</dd>
        </div>
        <div>
          <dt>Room for</dt>
          <dd>
            <Fits pool={pool} />
          </dd>
        </div>
      </dl>
      {isFirst || !isEmpty ? null : (
        <Form session={session} action={`${PLACE}/${encodeURIComponent(name)}/delete`}>
          <button type="submit" class="danger">
            Delete the pool {name}
          </button>
        </Form>
      )}
    </section>
  );
}

/** Names alone where there are many; a word for each that is no plain member. */
function UnitNames({ units }: { units: readonly UnitView[] }) {
  if (units.length === 0) return <span>none yet</span>;
  return (
    <ul class="bare units">
      {units.map((unit) => (
        <li>
          <a href={unitPath(unit)}>{unit.name}</a> <UnitMark unit={unit} />
        </li>
      ))}
    </ul>
  );
}

function UnitMark({ unit }: { unit: UnitView }) {
  if (!unit.alive) return <State tone="bad" words="away" />;
  if (unit.evacuation !== null) return <State tone="notice" words="being emptied" />;
  return unit.role === "spare" ? <span class="hint">spare</span> : null;
}

export function Fits({ pool }: { pool: PoolView }) {
  const rooms = pool.fits.filter(({ sizeBytes }) => sizeBytes > 0);
  if (rooms.length === 0) return <span>no volume now</span>;
  return (
    <ul class="bare">
      {rooms.map(({ protection, sizeBytes }) => (
        <li>
          {sizeInWords(sizeBytes)} as {protection}
        </li>
      ))}
    </ul>
  );
}

function SharedSpares({ units }: { units: readonly UnitView[] }) {
  return (
    <section class="card" aria-labelledby="spares">
      <h2 id="spares">Spares for all pools</h2>
      <p>Whichever pool lacks a copy first gets one of these.</p>
      <UnitNames units={units.filter((unit) => unit.pool === null)} />
    </section>
  );
}

function MoveForm(options: {
  units: readonly UnitView[];
  pools: readonly PoolView[];
  session: Session;
}) {
  const { units, pools, session } = options;
  const movable = units.filter((unit) => unit.role !== "witness");
  return (
    <section class="card form" aria-labelledby="move">
      <h2 id="move">Move a unit</h2>
      <p>
        One that holds slices is emptied first, while hosts go on; it keeps its vote. An empty one,
        or a spare, moves at once.
      </p>
      <Form session={session} action={`${PLACE}/move`}>
        <div class="field">
          <label for="unit">Unit</label>
          <select id="unit" name="unit">
            {movable.map((unit) => (
              <option value={unit.name}>
                {unit.name} ({unitWords(unit)})
              </option>
            ))}
          </select>
        </div>
        <PlaceChoice pools={pools} />
        <Choice id="force" name="force" label="Begin also where not all finds room" />
        <p class="actions">
          <button type="submit">Move the unit</button>
        </p>
      </Form>
    </section>
  );
}

function unitWords({ role, pool }: UnitView): string {
  return pool === null ? "spare for all" : `${role} of ${pool}`;
}

function PlaceChoice({ pools }: { pools: readonly PoolView[] }) {
  return (
    <div class="field">
      <label for="place">To be</label>
      <select id="place" name="place">
        {pools.map(({ name }) => (
          <option value={`member:${name}`}>a member of {name}</option>
        ))}
        {pools.map(({ name }) => (
          <option value={`spare:${name}`}>a spare of {name} alone</option>
        ))}
        <option value="spare:">a spare for all pools</option>
      </select>
    </div>
  );
}

function NewPoolForm({ session }: { session: Session }) {
  return (
    <section class="card form" aria-labelledby="new-pool">
      <h2 id="new-pool">New pool</h2>
      <Form session={session} action={PLACE}>
        <Field
          id="name"
          label="Name of the pool"
          hint="Letters, digits, dot, dash and underscore, such as archive."
          required
          autocomplete="off"
        />
        <p class="actions">
          <button type="submit">Create pool</button>
        </p>
      </Form>
    </section>
  );
}

/** Pools that a host may ask in: only where there is a choice, or one was made. */
export function PolicyPools({
  policy,
  pools,
}: {
  policy: HostPolicyView;
  pools: readonly string[];
}) {
  if (pools.length < 2 && policy.pools.length === 0) return null;
  // In the order of the policy: the first is the one meant when a request names none.
  const names = [...new Set([...policy.pools, ...pools])];
  return (
    <fieldset class="field">
      <legend>Pools that it may ask in; none ticked: the first pool</legend>
      {names.map((name) => (
        <p class="choice">
          <input
            type="checkbox"
            id={`in-pool-${name}`}
            name="in-pool"
            value={name}
            checked={policy.pools.includes(name)}
          />
          <label for={`in-pool-${name}`}>
            <strong>{name}</strong>
          </label>
        </p>
      ))}
    </fieldset>
  );
}
