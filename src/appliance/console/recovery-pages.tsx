// SPDX-License-Identifier: Apache-2.0
//
// Recovery: what is copied in the whole cluster and how long it takes, volumes that lack copies,
// failovers with the pauses that were measured, and what a loss would mean.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { durationInWords, sizeInWords } from "#appliance/api/words.ts";
import type { EventView } from "#appliance/backend.ts";
import { leftInWords } from "#appliance/figure-words.ts";
import type { Drills } from "#appliance/drills.ts";
import type { WhatIfQuestion } from "#appliance/fleet.ts";
import type { CopyingView } from "#appliance/unit-neighbours.ts";
import type { WhatIf } from "#appliance/what-if.ts";
import type { ConsoleApp, Desk } from "./console.tsx";
import { DrillSection } from "./drill-section.tsx";
import { EventTable } from "./event-pages.tsx";
import { sentenceOf } from "./fault-words.ts";
import { Bar, Live, Notice, Table } from "./frame.tsx";
import { volumePath } from "./health.ts";
import { type Reading, ifAnswered, partOf, readAll, readEvents, unitName } from "./reading.ts";
import type { Session } from "./sessions.ts";

const PLACE = "/recovery";
const EVENTS_READ = 1000;
const FAILOVERS_SHOWN = 20;
const SHOWN_MAX = 50;

export function addRecoveryPage(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  app.get(
    PLACE,
    desk.guarded(async (call, session) => {
      const copying = await ifAnswered(backend.neighbours.copying());
      const seen = readAll(backend);
      const events = readEvents(backend, EVENTS_READ) ?? [];
      const failovers = events.filter(({ kind }) => kind === "failover").reverse();
      const asked = call.req.query("lose") ?? "";
      const loss = asked === "" ? null : lossOf(desk, asked);
      const page = { seen, copying, failovers, asked, loss, drills: backend.drills, session };
      const content = <RecoveryPage {...page} />;
      return desk.show(call, { title: "Recovery", place: PLACE, content });
    }),
  );
}

/** `unit:box1`, `maintenance:box1` or `disk:3`, as the form writes it. */
function lossOf(desk: Desk, asked: string): WhatIf | Fault {
  const [kind = "", which = ""] = asked.split(":");
  const question: WhatIfQuestion =
    kind === "disk"
      ? { disk: Number(which) }
      : kind === "maintenance"
        ? { maintenance: which }
        : { unit: which };
  try {
    return desk.backend.fleet.whatIf(question);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

interface PageOptions {
  seen: Reading;
  /** Null: it is not known. */
  copying: CopyingView | null;
  failovers: readonly EventView[];
  asked: string;
  loss: WhatIf | Fault | null;
  drills: Drills;
  session: Session;
}

function RecoveryPage(options: PageOptions) {
  const { seen, copying, failovers, asked, loss, drills, session } = options;
  return (
    <div>
      <Live id="recovery">
        <section aria-labelledby="copying">
          <h2 id="copying">Being copied now</h2>
          <Copying copying={copying} seen={seen} />
        </section>
        <Deadline deadline={seen.recovery.deadline} />
        <section aria-labelledby="lacking">
          <h2 id="lacking">Volumes without all their copies</h2>
          <Lacking seen={seen} />
        </section>
        <section aria-labelledby="failovers">
          <h2 id="failovers">Failovers</h2>
          <p class="lead">
            Each with the time from when the head before was heard last until the new one served:
            what hosts waited at most.
          </p>
          <EventTable
            events={failovers.slice(0, FAILOVERS_SHOWN)}
            id="failover-table"
            empty="No failover is known yet."
          />
        </section>
      </Live>
      <LossForm {...{ seen, asked, loss }} />
      {seen.units === null ? null : <DrillSection {...{ drills, units: seen.units, session }} />}
    </div>
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

function Copying({ copying, seen }: Pick<PageOptions, "copying" | "seen">) {
  if (copying === null) return <p class="empty">It is not known at the moment.</p>;
  const names = new Map((seen.volumes ?? []).map((volume) => [volume.volume, volume.name]));
  const { missing } = copying;
  const part = partOf(copying.resyncs, "1");
  return (
    <div>
      {missing.length === 0 ? null : (
        <Notice
          tone="notice"
          text={
            `Not listed: what ${missing.map((unit) => unitName(seen.units, unit)).join(", ")} ` +
            "copies. It does not answer at the moment."
          }
        />
      )}
      <Table
        id="resync-table"
        caption="Slices that are brought up to date, in the whole cluster"
        columns={[
          "Volume",
          "Slice",
          "From unit",
          "To disk",
          "Done",
          { head: "To copy", isNumber: true },
          "Time left",
        ]}
        empty="Nothing is copied at the moment."
        rows={part.rows.map((one) => [
          names.get(one.volume) ?? String(one.volume),
          String(one.slice),
          <span class="name">{unitName(seen.units, one.unit)}</span>,
          String(one.target),
          <span class="progress">
            <Bar label="Done" partBytes={one.doneBytes} wholeBytes={one.totalBytes} />
            {sizeInWords(one.doneBytes)}
          </span>,
          sizeInWords(one.totalBytes),
          leftInWords(one.leftMs),
        ])}
      />
      {part.pages === 1 ? null : (
        <p class="hint">
          {part.total} slices in all; the first {part.rows.length} are shown.
        </p>
      )}
    </div>
  );
}

function Lacking({ seen }: { seen: Reading }) {
  const lacking = (seen.volumes ?? []).filter((volume) => volume.state !== "protected");
  if (lacking.length === 0) return <p class="empty">None: every volume has all its copies.</p>;
  return (
    <ul>
      {lacking.slice(0, SHOWN_MAX).map((volume) => (
        <li>
          <a href={volumePath(volume)}>{volume.name}</a>: {volume.state}
          {volume.sentence === "" ? "" : `, ${volume.sentence}`}
        </li>
      ))}
      {lacking.length > SHOWN_MAX ? <li>and {lacking.length - SHOWN_MAX} more</li> : null}
    </ul>
  );
}

function LossForm({ seen, asked, loss }: Pick<PageOptions, "seen" | "asked" | "loss">) {
  const disks = seen.disks.filter((disk) => disk.disk !== 0);
  return (
    <section aria-labelledby="what-if">
      <h2 id="what-if">What if it were lost?</h2>
      <form class="search" method="get" action={PLACE}>
        <label for="lose">Lose</label>
        <select id="lose" name="lose">
          {(seen.units ?? []).map(({ name }) => (
            <option value={`unit:${name}`} selected={asked === `unit:${name}`}>
              unit {name}
            </option>
          ))}
          {(seen.units ?? []).map(({ name }) => (
            <option value={`maintenance:${name}`} selected={asked === `maintenance:${name}`}>
              {name} for a while (maintenance)
            </option>
          ))}
          {disks.map(({ disk, unit }) => (
            <option value={`disk:${disk}`} selected={asked === `disk:${disk}`}>
              disk {disk} of {unitName(seen.units, unit)}
            </option>
          ))}
        </select>
        <button type="submit" class="second">
          Say what would happen
        </button>
        <span class="hint">Nothing is changed.</span>
      </form>
      {loss === null ? null : loss instanceof Fault ? (
        <Notice tone="notice" text={sentenceOf(loss)} />
      ) : (
        <Loss loss={loss} />
      )}
    </section>
  );
}

/** What a loss would mean; also on a unit's own page. */
export function Loss(options: {
  loss: WhatIf;
  /** Of its table: of two on one page each has its own, and another caption. */
  id?: string;
  caption?: string;
}) {
  const { loss, id = "loss-table", caption = "Volumes that would notice" } = options;
  const { volumes, copiesBytesMax } = loss;
  return (
    <div>
      <ul>
        {loss.sentences.map((sentence) => (
          <li>{sentence}</li>
        ))}
        {copiesBytesMax === 0 ? null : <li>at most {sizeInWords(copiesBytesMax)} to copy</li>}
      </ul>
      {volumes.length === 0 ? null : (
        <Table
          id={id}
          caption={caption}
          columns={["Volume", "What would happen"]}
          empty=""
          rows={volumes.slice(0, SHOWN_MAX).map((volume) => [volume.name, volume.sentence])}
        />
      )}
    </div>
  );
}
