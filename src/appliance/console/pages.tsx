// SPDX-License-Identifier: Apache-2.0
//
// The pages that only show: overview, units, disks, recovery, events. Each takes what was read and
// answers its content; frame.tsx puts it into a page.

/** @jsxImportSource hono/jsx */

import { durationInWords, sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { Question } from "#cluster/questions.ts";
import type { DiskView, EventView, StrangerView, UnitView } from "#appliance/backend.ts";
import { Bar, Live, Mark, Notice, Pages, Search, State, Table } from "./frame.tsx";
import { capacityOf, diskTone, healthOf, nextSteps, volumePath, type Step } from "./health.ts";
import { partOf, type Reading, unitName } from "./reading.ts";
import { unitPath } from "./unit-pages.tsx";

export interface ListQuery {
  q: string;
  page: string | undefined;
}

export function Overview(options: {
  seen: Reading;
  events: EventView[] | null;
  hasPassword: boolean;
}) {
  const { seen, events, hasPassword } = options;
  const health = healthOf(seen);
  return (
    <Live id="overview">
      <section class={`card health ${health.tone}`} aria-labelledby="health">
        <h2 id="health">
          <Mark tone={health.tone} />
          {health.sentence}
        </h2>
        {health.because.length === 0 ? null : (
          <ul>
            {health.because.map((reason) => (
              <li>{reason}</li>
            ))}
          </ul>
        )}
      </section>
      <Questions questions={seen.questions} />
      <div class="cards">
        <Capacity disks={seen.disks} />
        <Counts seen={seen} />
        <Steps steps={nextSteps(seen, hasPassword)} />
        <Now seen={seen} />
      </div>
      <section aria-labelledby="latest">
        <h2 id="latest">Latest events</h2>
        <EventTable events={events ?? []} id="latest-events" />
      </section>
    </Live>
  );
}

/** What only the owner can decide. */
function Questions({ questions }: { questions: readonly Question[] }) {
  if (questions.length === 0) return null;
  return (
    <section class="card" aria-labelledby="questions">
      <h2 id="questions">For you to decide</h2>
      {questions.map(({ sentence, answers }) => (
        <div>
          <p>{sentence}</p>
          <ul>
            {answers.map(({ answer, costs }) => (
              <li>
                {answer}. <span class="hint">Loses: {costs}.</span>
              </li>
            ))}
          </ul>
        </div>
      ))}
    </section>
  );
}

function Capacity({ disks }: { disks: DiskView[] }) {
  const { totalBytes, freeBytes, usedBytes, disks: count } = capacityOf(disks);
  return (
    <section class="card" aria-labelledby="capacity">
      <h2 id="capacity">Capacity</h2>
      <p class="figure">
        {sizeInWords(freeBytes)} <span>free of {sizeInWords(totalBytes)}</span>
      </p>
      <Bar label="Promised to volumes" partBytes={usedBytes} wholeBytes={totalBytes} />
      <p class="hint">
        {sizeInWords(usedBytes)} promised to volumes, every copy counted, on {count}{" "}
        {count === 1 ? "disk" : "disks"}.
      </p>
    </section>
  );
}

function Counts({ seen }: { seen: Reading }) {
  const { units, volumes, disks } = seen;
  const alive = (units ?? []).filter((unit) => unit.alive).length;
  const rows: [href: string, word: string, value: string][] = [
    ["/units", "Units", units === null ? "–" : `${alive} of ${units.length} up`],
    ["/disks", "Disks", `${disks.filter((disk) => disk.disk !== 0).length} in use`],
    ["/volumes", "Volumes", volumes === null ? "–" : String(volumes.length)],
  ];
  return (
    <section class="card" aria-labelledby="counts">
      <h2 id="counts">What there is</h2>
      <dl>
        {rows.map(([href, word, value]) => (
          <div>
            <dt>
              <a href={href}>{word}</a>
            </dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Steps({ steps }: { steps: readonly Step[] }) {
  return (
    <section class="card" aria-labelledby="next">
      <h2 id="next">What to do next</h2>
      {steps.length === 0 ? (
        <p>Nothing. Come back when you like.</p>
      ) : (
        <ul class="steps">
          {steps.map((step) => (
            <li>
              {step.text} <a href={step.href}>{step.label}</a>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Now({ seen }: { seen: Reading }) {
  const { resyncs } = seen.recovery;
  return (
    <section class="card" aria-labelledby="now">
      <h2 id="now">Happening now</h2>
      {resyncs.length === 0 ? (
        <p>This unit copies nothing at the moment.</p>
      ) : (
        <p>
          {resyncs.length} {resyncs.length === 1 ? "slice is" : "slices are"} brought up to date by
          this unit. <a href="/recovery">See how far it is</a>
        </p>
      )}
      <p class="hint">{seen.status.sentence}</p>
    </section>
  );
}

/** R5, said beforehand. */
export function Losses({ losses }: { losses: Reading["losses"] }) {
  if (losses.length === 0) return null;
  return (
    <section aria-labelledby="losses">
      <h2 id="losses">If one of them failed now</h2>
      <Table
        id="loss-rows"
        caption="What would stop or be lost, by unit"
        columns={["Unit", "Then"]}
        empty=""
        rows={losses.map((row) => [row.name, row.sentences.join("; ")])}
      />
    </section>
  );
}

/** With exactly two units; also among the first steps. */
export function WitnessOffer() {
  return (
    <section class="card" aria-labelledby="witness">
      <h2 id="witness">A third vote</h2>
      <p>
        Two units cannot tell a dead partner from a cut cable: one of them has the only vote, and
        without it nothing that needs a new record goes on. A third box does away with that, and so
        does a witness: the same program on any Linux machine that both reach, without disks.
      </p>
      <p>
        <code>cairn witness --state-directory DIRECTORY --join-secret-file FILE</code>
      </p>
    </section>
  );
}

export function UnitTable({ units, sentence }: { units: UnitView[]; sentence: string }) {
  return (
    <Table
      id="unit-table"
      caption="Units of the cluster"
      columns={["Unit", "State", "Words to compare", "Part it plays", "Addresses", "Version"]}
      empty={`This unit is in no cluster yet: ${sentence}`}
      rows={units.map((unit) => [
        <a class="name" href={unitPath(unit)}>
          {unit.name}
        </a>,
        <State tone={unit.alive ? "good" : "bad"} words={unitWords(unit)} />,
        <span class="words">{unit.words.join(" ")}</span>,
        unitPart(unit),
        <AddressList addresses={unit.addresses} />,
        unit.version,
      ])}
    />
  );
}

function unitWords({ alive, evacuation }: UnitView): string {
  const word = alive ? "up" : "away";
  if (evacuation === null) return word;
  return `${word}, ${evacuation.slices - evacuation.left} of ${evacuation.slices} slices moved`;
}

function AddressList({ addresses }: { addresses: readonly string[] }) {
  return (
    <ul class="bare">
      {addresses.map((address) => (
        <li>
          <code>{address}</code>
        </li>
      ))}
    </ul>
  );
}

function unitPart(unit: UnitView): string {
  const { role, pool } = unit;
  const words = [
    pool === null ? (role === "spare" ? "spare for all" : role) : `${role} of ${pool}`,
  ];
  if (unit.controlStation) words.push("control station");
  if (unit.voter) words.push("voter");
  return words.join(", ");
}

export function Strangers({ strangers }: { strangers: readonly StrangerView[] }) {
  if (strangers.length === 0) return null;
  return (
    <section aria-labelledby="strangers">
      <h2 id="strangers">Waiting without a join secret</h2>
      <p class="lead">
        These boxes cannot prove that they are yours. If a box's screen shows the same words, let it
        in on the page of units, or stamp its boot medium with your join secret.
      </p>
      <Table
        id="stranger-table"
        caption="Units that wait without a join secret"
        columns={["Unit", "Words to compare", "Address", "Version"]}
        empty=""
        rows={strangers.map((one) => [
          one.name,
          <span class="words">{one.words.join(" ")}</span>,
          <code>{one.address}</code>,
          one.version,
        ])}
      />
    </section>
  );
}

export function DisksPage({ seen, query }: { seen: Reading; query: ListQuery }) {
  const wanted = query.q.toLowerCase();
  const found = seen.disks.filter((disk) =>
    `${disk.path} ${disk.state} ${unitName(seen.units, disk.unit)}`.toLowerCase().includes(wanted),
  );
  const part = partOf(found, query.page);
  return (
    <div>
      <p class="lead">
        Nothing is written to a disk that holds something. Each one says why it is used or left
        alone.
      </p>
      <Search path="/disks" query={query.q} label="Unit, path or state" />
      <Live id="disks">
        <DiskTable disks={part.rows} units={seen.units} />
        <Pages part={part} path="/disks" query={{ q: query.q }} />
      </Live>
    </div>
  );
}

export function DiskTable({ disks, units }: { disks: DiskView[]; units: UnitView[] | null }) {
  return (
    <Table
      id="disk-table"
      caption="Disks, and why each is used or left alone"
      columns={[
        "Disk",
        "Unit",
        "State",
        "Why",
        { head: "Free", isNumber: true },
        { head: "Size", isNumber: true },
        { head: "Slices", isNumber: true },
      ]}
      empty="There is no disk here that this answer knows of."
      rows={disks.map((disk) => [
        <span>
          {disk.disk === 0 ? null : <a href={`/disks/${disk.disk}`}>Disk {disk.disk}</a>}{" "}
          <code>{disk.path}</code>
        </span>,
        <span class="name">{unitName(units, disk.unit)}</span>,
        <State tone={diskTone(disk)} words={disk.state} />,
        <span class="why">{disk.reason === "" ? "in use by this cluster" : disk.reason}</span>,
        disk.disk === 0 ? "–" : sizeInWords(disk.freeBytes),
        sizeInWords(disk.sizeBytes),
        disk.disk === 0 ? "–" : String(disk.slices.length),
      ])}
    />
  );
}

export function RecoveryPage({ seen }: { seen: Reading }) {
  const { resyncs, resyncedBytes } = seen.recovery;
  const volumes = new Map((seen.volumes ?? []).map((volume) => [volume.volume, volume]));
  const shown = partOf(resyncs, "1").rows;
  const lacking = (seen.volumes ?? []).filter((volume) => volume.state !== "protected");
  return (
    <Live id="recovery">
      <p class="lead">
        A copy that was away is brought up to date by the unit that heads its slice. This list is
        that of {seen.status.name}; other units have their own.
      </p>
      <h2>Under way on this unit</h2>
      <Table
        id="resync-table"
        caption="Slices that are brought up to date"
        columns={["Slice", "Volume", "To disk", "Done", { head: "To copy", isNumber: true }]}
        empty="Nothing is copied at the moment."
        rows={shown.map((one) => [
          String(one.slice),
          volumes.get(one.volume)?.name ?? String(one.volume),
          String(one.target),
          <span class="progress">
            <Bar label="Done" partBytes={one.doneBytes} wholeBytes={one.totalBytes} />
            {sizeInWords(one.doneBytes)}
          </span>,
          sizeInWords(one.totalBytes),
        ])}
      />
      <p class="hint">Copied since this unit started: {sizeInWords(resyncedBytes)}.</p>
      <Deadline deadline={seen.recovery.deadline} />
      <h2>Volumes without all their copies</h2>
      {lacking.length === 0 ? (
        <p class="empty">None: every volume has all its copies.</p>
      ) : (
        <ul>
          {lacking.slice(0, 50).map((volume) => (
            <li>
              <a href={volumePath(volume)}>{volume.name}</a>: {volume.state}
              {volume.sentence === "" ? "" : `, ${volume.sentence}`}
            </li>
          ))}
        </ul>
      )}
    </Live>
  );
}

/** Whether what was promised about a loss could be kept, said beforehand. */
function Deadline({ deadline }: { deadline: Reading["recovery"]["deadline"] }) {
  const { withinMs, problems, unknown } = deadline;
  if (withinMs === 0) return null;
  const said = [...problems, ...unknown];
  return (
    <section aria-labelledby="deadline">
      <h2 id="deadline">Protected again within {durationInWords(withinMs)}</h2>
      {said.length === 0 ? (
        <p>It could be kept after the loss of any unit, at the pace measured.</p>
      ) : (
        <ul>
          {said.map((sentence) => (
            <li>{sentence}</li>
          ))}
        </ul>
      )}
    </section>
  );
}

export const SEVERITIES = ["info", "warning", "alarm"] as const;
const TONES = { info: "good", warning: "notice", alarm: "bad" } as const;

export interface EventQuery extends ListQuery {
  severity: string;
}

export function EventsPage({ events, query }: { events: EventView[] | null; query: EventQuery }) {
  const wanted = query.q.toLowerCase();
  const least = Math.max(0, SEVERITIES.indexOf(query.severity as (typeof SEVERITIES)[number]));
  const found = (events ?? [])
    .filter((one) => SEVERITIES.indexOf(one.severity) >= least)
    .filter((one) => `${one.kind} ${one.sentence}`.toLowerCase().includes(wanted))
    .reverse();
  const part = partOf(found, query.page);
  return (
    <div>
      <form class="search" method="get" action="/events" role="search">
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
        <button type="submit" class="second">
          Filter
        </button>
      </form>
      <Live id="events">
        <EventTable events={part.rows} id="event-table" />
        <Pages part={part} path="/events" query={{ q: query.q, severity: query.severity }} />
      </Live>
    </div>
  );
}

function EventTable({ events, id }: { events: readonly EventView[]; id: string }) {
  return (
    <Table
      id={id}
      caption="Events, newest first"
      columns={["Time (UTC)", "Weight", "What happened"]}
      empty="No event is known that fits."
      rows={events.map((event) => [
        <time datetime={`${timeInWords(event.atMs).replace(" ", "T")}Z`}>
          {timeInWords(event.atMs)}
        </time>,
        <State tone={TONES[event.severity]} words={event.severity} />,
        event.sentence,
      ])}
    />
  );
}

export function NotFoundPage({ what }: { what: string }) {
  return (
    <div>
      <Notice tone="notice" text={what} />
      <p>
        <a href="/">Go to the overview</a>
      </p>
    </div>
  );
}
