// SPDX-License-Identifier: Apache-2.0
//
// The pages that only show: overview, units, disks. Each takes what was read and
// answers its content; frame.tsx puts it into a page.

/** @jsxImportSource hono/jsx */

import { sizeInWords } from "#appliance/api/words.ts";
import type { Question } from "#cluster/questions.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { DiskView, EventView, StrangerView, UnitView } from "#appliance/backend.ts";
import { spanInWords } from "#appliance/figure-words.ts";
import type { JobView } from "#appliance/jobs.ts";
import { EventTable } from "./event-pages.tsx";
import { Bar, Live, Mark, Notice, Pages, Search, State, Table } from "./frame.tsx";
import {
  capacityOf,
  claimPath,
  diskTone,
  healthOf,
  nextSteps,
  type Step,
  unitTone,
} from "./health.ts";
import { partOf, type Reading, unitName } from "./reading.ts";
import { unitPath } from "./unit-pages.tsx";

/** What takes a while, on the overview. */
const JOBS_SHOWN_MAX = 6;

export interface ListQuery {
  q: string;
  page: string | undefined;
}

export function Overview(options: {
  seen: Reading;
  events: EventView[] | null;
  hasPassword: boolean;
  jobs: readonly JobView[];
}) {
  const { seen, events, hasPassword, jobs } = options;
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
        <Now seen={seen} jobs={jobs} />
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
    ["/pools", "Pools", seen.pools === null ? "–" : String(seen.pools.length)],
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

function Now({ seen, jobs }: { seen: Reading; jobs: readonly JobView[] }) {
  const shown = jobs.slice(0, JOBS_SHOWN_MAX);
  const more = jobs.length - shown.length;
  return (
    <section class="card" aria-labelledby="now">
      <h2 id="now">Happening now</h2>
      {shown.length === 0 ? <p>Nothing is moved, copied or read through.</p> : null}
      <ul class="jobs">
        {shown.map(({ about, percent, leftMs, sentence }) => (
          <li>
            <strong>{about}</strong>
            {percent === null ? "" : `, ${percent} %`}: {sentence}
            {leftMs === null ? "" : `; about ${spanInWords(leftMs)}`}
          </li>
        ))}
      </ul>
      {more > 0 ? <p class="hint">and {more} more</p> : null}
      <p class="hint">
        {seen.status.cluster === null ? `${seen.status.sentence} ` : null}
        <a href="/recovery">Recovery</a> shows what is copied, and what failed over when.
      </p>
    </section>
  );
}

/** R5, said beforehand. */
export function Losses({ losses }: { losses: readonly LossRow[] }) {
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
        <State tone={unitTone(unit)} words={unitWords(unit)} />,
        <span class="words">{unit.words.join(" ")}</span>,
        unitPart(unit),
        <AddressList addresses={unit.addresses} />,
        unit.version,
      ])}
    />
  );
}

function unitWords({ alive, evacuation, maintenance }: UnitView): string {
  const word = `${alive ? "up" : "away"}${maintenance === null ? "" : ", in maintenance"}`;
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
        Nothing is written to a disk that holds something, unless you say so. Each one says why it
        is used or left alone.
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
        <span class="why">
          {disk.reason === "" ? "in use by this cluster" : disk.reason}
          {disk.disk === 0 && disk.reason.startsWith("left alone: ") ? (
            <span>
              {" "}
              <a href={claimPath(disk.path)}>Use it all the same…</a>
            </span>
          ) : null}
        </span>,
        disk.disk === 0 ? "–" : sizeInWords(disk.freeBytes),
        sizeInWords(disk.sizeBytes),
        disk.disk === 0 ? "–" : String(disk.slices.length),
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
