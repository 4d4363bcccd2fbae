// SPDX-License-Identifier: Apache-2.0
//
// The volumes: the list, the form for a new one with a preview of where it would lie, one volume
// with its slices and members, how to attach to it, who may, its size and name, and its deletion.

/** @jsxImportSource hono/jsx */

import { layouts } from "#base/layout.ts";
import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { UnitView, VolumeView } from "#appliance/backend.ts";
import { type PoolView, fitsInWords } from "#appliance/pools.ts";
import type { VolumeChart } from "#appliance/unit-neighbours.ts";
import { attachWays } from "./attach.ts";
import { VolumeCharts } from "./charts.tsx";
import {
  Choice,
  Copyable,
  Field,
  Form,
  Live,
  Notice,
  Pages,
  Search,
  State,
  Table,
} from "./frame.tsx";
import { type Growth, GrowSection } from "./grow-pages.tsx";
import { volumePath, volumeTone, volumeWords } from "./health.ts";
import { HostChoice, VolumeHosts } from "./host-pages.tsx";
import type { ListQuery } from "./pages.tsx";
import { partOf, type Reading, unitName } from "./reading.ts";
import { RemovalPage } from "./removal-form.tsx";
import { KeptSections, StandsStill } from "./kept-pages.tsx";
import type { Session } from "./sessions.ts";
import { Preview, SliceFigure } from "./slice-figure.tsx";
import type { VolumeForm } from "./volume-form.ts";

/** Pools whose room is said beside the size. */
const POOLS_SHOWN_MAX = 4;

export function VolumesPage({ seen, query }: { seen: Reading; query: ListQuery }) {
  const wanted = query.q.toLowerCase();
  const found = (seen.volumes ?? []).filter((one) => one.name.toLowerCase().includes(wanted));
  const part = partOf(found, query.page);
  return (
    <div>
      <p class="actions">
        <a class="button" href="/volumes/new">
          New volume
        </a>
      </p>
      <Search path="/volumes" query={query.q} label="Name" />
      <Live id="volumes">
        <Table
          id="volume-table"
          caption="Volumes"
          columns={[
            "Name",
            "State",
            { head: "Size", isNumber: true },
            "Protection",
            "Attach at",
            "Who may attach",
          ]}
          empty={query.q === "" ? "There is no volume yet." : "No volume has such a name."}
          rows={part.rows.map((volume) => [
            <a href={volumePath(volume)}>{volume.name}</a>,
            volume.deletedAtMs === null ? (
              <State tone={volumeTone(volume)} words={volumeWords(volume)} />
            ) : (
              <State tone="notice" words="deleted, can be taken back" />
            ),
            sizeInWords(volume.sizeBytes),
            volume.protection,
            unitName(seen.units, volume.front),
            volume.hosts.map(({ name }) => name).join(", ") || "nobody yet",
          ])}
        />
        <Pages part={part} path="/volumes" query={{ q: query.q }} />
      </Live>
    </div>
  );
}

export interface NewVolumeOptions {
  seen: Reading;
  session: Session;
  form: VolumeForm;
  /** Why it was refused, or null. */
  fault: string | null;
  /** As the dry run places it. */
  preview: VolumeView | null;
  /** The browser's own address, to offer. */
  from: string;
}

export function NewVolumePage(options: NewVolumeOptions) {
  const { seen, session, form, fault, preview, from } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      {preview === null ? null : <Preview preview={preview} seen={seen} />}
      <Form session={session} action="/volumes/new" class="card form">
        <Field
          id="name"
          label="Name"
          value={form.name}
          required
          autocomplete="off"
          hint="Letters, digits, dot, dash and underscore; hosts ask for it by this name."
        />
        <Field
          id="size"
          label="Size"
          value={form.size}
          required
          autocomplete="off"
          hint={`Such as 100G or 1.5T. ${roomWords(seen.pools ?? [])}`}
        />
        <ProtectionChoice chosen={form.protection} units={seen.units ?? []} />
        <PoolChoice chosen={form.pool} pools={seen.pools ?? []} />
        <HostChoice
          hosts={seen.hosts ?? []}
          chosen={form.hosts}
          address={form.address}
          from={from}
        />
        <p class="actions">
          <button type="submit" name="intent" value="create">
            Create volume
          </button>
          <button type="submit" name="intent" value="preview" class="second">
            Preview
          </button>
        </p>
      </Form>
    </div>
  );
}

/** What fits now, of every pool where there are several. */
function roomWords(pools: readonly PoolView[]): string {
  const words = pools.slice(0, POOLS_SHOWN_MAX).map((pool) => {
    const where = pools.length === 1 ? "Now at most" : `In ${pool.name} at most`;
    return `${where} ${fitsInWords(pool)}.`;
  });
  return words.join(" ");
}

/** Only where there is a choice. */
function PoolChoice({ chosen, pools }: { chosen: string; pools: readonly PoolView[] }) {
  if (pools.length < 2) return null;
  return (
    <div class="field">
      <label for="pool">Pool</label>
      <select id="pool" name="pool">
        {pools.map(({ name }) => (
          <option value={name} selected={name === chosen}>
            {name}
          </option>
        ))}
      </select>
    </div>
  );
}

function ProtectionChoice({ chosen, units }: { chosen: string; units: readonly UnitView[] }) {
  return (
    <fieldset class="field">
      <legend>Protection</legend>
      {Object.values(layouts).map((layout) => (
        <p class="choice">
          <input
            type="radio"
            id={`protection-${layout.name}`}
            name="protection"
            value={layout.name}
            checked={layout.name === chosen}
          />
          <label for={`protection-${layout.name}`}>
            <strong>{layout.name}</strong>{" "}
            <span>
              {layout.sentence}
              {layout.copies > units.length ? ` (needs ${layout.copies} units)` : ""}
            </span>
          </label>
        </p>
      ))}
    </fieldset>
  );
}

export interface VolumePageOptions {
  volume: VolumeView;
  seen: Reading;
  session: Session;
  fault: string | null;
  page: string | undefined;
  /** Null: nobody tells. */
  chart: VolumeChart | null;
  /** Null: no new size was typed. */
  growth: Growth | null;
}

export function VolumePage(options: VolumePageOptions) {
  const { volume, seen, session, fault, page, chart, growth } = options;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Deleted volume={volume} session={session} />
      <StandsStill volume={volume} />
      <Live id="volume">
        <VolumeFacts volume={volume} seen={seen} />
      </Live>
      <section aria-labelledby="hour">
        <h2 id="hour">The last hour</h2>
        <Live id="volume-charts">
          <VolumeCharts shown={chart} seen={seen} />
        </Live>
      </section>
      {volume.deletedAtMs !== null ? null : (
        <div>
          <AttachSection volume={volume} />
          <PathSection volume={volume} seen={seen} />
          <GrowSection {...{ volume, seen, session, growth }} />
          <VolumeHosts volume={volume} hosts={seen.hosts ?? []} session={session} />
          <NameSection volume={volume} session={session} />
        </div>
      )}
      <SliceSection volume={volume} seen={seen} page={page} />
      <KeptSections volume={volume} seen={seen} />
      <section aria-labelledby="end">
        <h2 id="end">{volume.deletedAtMs === null ? "Delete" : "Delete for good"}</h2>
        <p>
          <a class="button danger" href={`${volumePath(volume)}/delete`}>
            Delete this volume…
          </a>
        </p>
      </section>
    </div>
  );
}

function NameSection({ volume, session }: { volume: VolumeView; session: Session }) {
  return (
    <section aria-labelledby="rename">
      <h2 id="rename">Name</h2>
      <Form session={session} action={`${volumePath(volume)}/rename`} class="form">
        <Field
          id="name"
          label="Name"
          value={volume.name}
          required
          autocomplete="off"
          hint="Hosts attach by it: one that knows another is refused when it connects anew."
        />
        <button type="submit">Rename</button>
      </Form>
    </section>
  );
}

function Deleted({ volume, session }: { volume: VolumeView; session: Session }) {
  const { deletedAtMs, name } = volume;
  if (deletedAtMs === null) return null;
  return (
    <section class="card" aria-labelledby="deleted">
      <h2 id="deleted">
        <State tone="bad" words={`${name} is deleted`} />
      </h2>
      <p>
        Nobody may attach. It is gone for good at {timeInWords(deletedAtMs)} UTC; until then it
        comes back whole, with its hosts.
      </p>
      <Form session={session} action={`${volumePath(volume)}/restore`}>
        <button type="submit">Take {name} back</button>
      </Form>
    </section>
  );
}

function sizeWords({ sizeBytes, growingToBytes }: VolumeView): string {
  if (growingToBytes === null) return sizeInWords(sizeBytes);
  return `${sizeInWords(sizeBytes)}, growing to ${sizeInWords(growingToBytes)}`;
}

const STATE_SENTENCES: Record<VolumeView["state"], string> = {
  protected: "All its copies are there and up to date.",
  rebuilding: "A copy is being brought up to date; hosts go on meanwhile.",
  degraded: "A copy is missing; another loss can still be borne.",
  "at-risk": "Part of it has one copy left: if that is lost now, so is what is on it.",
};

function VolumeFacts({ volume, seen }: { volume: VolumeView; seen: Reading }) {
  const facts: [string, string][] = [
    ["Size", sizeWords(volume)],
    ["Protection", `${volume.protection}: ${layouts[volume.protection].sentence}`],
    ["Pool", volume.pool],
    ["Attach at", unitName(seen.units, volume.front)],
    ["Identity", volume.uuid],
  ];
  return (
    <section class="card" aria-labelledby="state">
      <h2 id="state">
        <State tone={volumeTone(volume)} words={volumeWords(volume)} />
      </h2>
      <p>{STATE_SENTENCES[volume.state]}</p>
      {volume.sentence === "" ? null : <p>{volume.sentence}</p>}
      <dl>
        {facts.map(([word, value]) => (
          <div>
            <dt>{word}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function AttachSection({ volume }: { volume: VolumeView }) {
  const ways = attachWays(volume);
  return (
    <section aria-labelledby="attach">
      <h2 id="attach">Attach a host</h2>
      {volume.hosts.length === 0 ? (
        <Notice
          tone="notice"
          text={
            <span>
              Nobody may attach yet: <a href="#hosts">say which hosts may</a>.
            </span>
          }
        />
      ) : null}
      {ways.length === 0 ? <p class="empty">No unit offers it at the moment.</p> : null}
      <div class="cards">
        {ways.map((way) => (
          <section class="card" aria-labelledby={`way-${way.id}`}>
            <h3 id={`way-${way.id}`}>{way.title}</h3>
            <p class="hint">{way.note}</p>
            <Copyable id={`text-${way.id}`} label={`For ${way.title}`} text={way.text} />
          </section>
        ))}
      </div>
      <p class="hint">iSCSI is to join NBD here.</p>
    </section>
  );
}

/** Every unit takes any volume; only from its front the way is straight. */
function PathSection({ volume, seen }: { volume: VolumeView; seen: Reading }) {
  const units = seen.units ?? [];
  const heads = new Set(volume.slices.map(({ head }) => unitOfDisk(head, seen)));
  const part = partOf(
    volume.paths.flatMap(({ unit, uri }) => {
      const known = units.find((one) => one.unit === unit);
      return known === undefined ? [] : [{ known, uri }];
    }),
    "1",
  );
  return (
    <section aria-labelledby="paths">
      <h2 id="paths">Paths</h2>
      <Live id="volume-paths">
        <Table
          id="path-table"
          caption="Ways to the volume, the best first"
          columns={["Unit", "State", "Way", "Address"]}
          empty="No unit offers it at the moment."
          rows={part.rows.map(({ known, uri }) => [
            <span class="name">{known.name}</span>,
            <State tone={known.alive ? "good" : "bad"} words={known.alive ? "up" : "away"} />,
            wayWords(known.unit, volume, heads),
            <code>{uri}</code>,
          ])}
        />
        {units.length <= volume.paths.length ? null : (
          <p class="hint">
            Every other unit takes it as well: {units.length - volume.paths.length} more.
          </p>
        )}
      </Live>
    </section>
  );
}

function wayWords(unit: number, { front }: VolumeView, heads: ReadonlySet<number | null>): string {
  if (unit === front) return "straight: it heads most slices";
  return heads.has(unit) ? "straight to its own slices, else passed on" : "passed on to the head";
}

function SliceSection(options: { volume: VolumeView; seen: Reading; page: string | undefined }) {
  const { volume, seen, page } = options;
  const part = partOf(volume.slices, page);
  return (
    <section aria-labelledby="slices">
      <h2 id="slices">Slices and their copies</h2>
      <Live id="slice-figure">
        <SliceFigure slices={part.rows} disks={seen.disks} units={seen.units} />
        <Table
          id="slice-table"
          caption="Slices and the disks that hold them"
          columns={["Slice", "Head", "Copies", { head: "Epoch", isNumber: true }]}
          empty="Its slices are not placed yet."
          rows={part.rows.map((slice) => [
            String(slice.index + 1),
            diskWords(slice.head, seen),
            slice.members
              .filter((member) => member.disk !== slice.head)
              .map(
                (one) =>
                  `${diskWords(one.disk, seen)}${one.state === "in-sync" ? "" : " (catching up)"}`,
              )
              .join(", ") || "none",
            String(slice.epoch),
          ])}
        />
        <Pages part={part} path={volumePath(volume)} />
      </Live>
    </section>
  );
}

function unitOfDisk(disk: number, seen: Reading): number | null {
  return seen.disks.find((one) => one.disk === disk)?.unit ?? null;
}

function diskWords(disk: number, seen: Reading): string {
  return `disk ${disk} of ${unitName(seen.units, unitOfDisk(disk, seen))}`;
}

export function DeletePage(options: {
  volume: VolumeView;
  session: Session;
  fault: string | null;
}) {
  const { volume, session, fault } = options;
  const what = `${volume.name} (${sizeInWords(volume.sizeBytes)})`;
  const warning =
    `All that is on ${what} will be gone, and hosts that use it are cut off. ` +
    "For a day it can be taken back, unless you say otherwise below.";
  const form = { noun: "volume", name: volume.name, label: "Delete the volume" };
  const place = { action: `${volumePath(volume)}/delete`, keep: volumePath(volume) };
  return (
    <RemovalPage {...{ ...form, ...place, session, fault, warning }} isCostly>
      <Choice id="now" name="now" label="At once: it cannot be taken back" />
    </RemovalPage>
  );
}
