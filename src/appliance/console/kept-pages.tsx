// SPDX-License-Identifier: Apache-2.0
//
// What an owner decides about a volume that stands still for want of a copy (R3), what it then
// keeps of before (R8), and the two pages that ask whether that is meant.

/** @jsxImportSource hono/jsx */

import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import type { VolumeView } from "#appliance/backend.ts";
import type { KeptView } from "#appliance/volume-lineages.ts";
import { Copyable, Field, Form, Notice, State, Table } from "./frame.tsx";
import { volumePath } from "./health.ts";
import { type Reading, unitName } from "./reading.ts";
import type { Session } from "./sessions.ts";

export function StandsStill({ volume }: { volume: VolumeView }) {
  const { goOn, name } = volume;
  if (goOn === null) return null;
  return (
    <section class="card" aria-labelledby="still">
      <h2 id="still">
        <State tone="bad" words={`${name} stands still`} />
      </h2>
      <p>
        It serves again by itself once the missing copy is back, and loses nothing. If that does not
        come back, it can go on from what {goOn.from} holds.
      </p>
      <p>
        <a class="button danger" href={`${volumePath(volume)}/go-on`}>
          Go on without the missing copy…
        </a>
      </p>
    </section>
  );
}

export function KeptSections({ volume, seen }: { volume: VolumeView; seen: Reading }) {
  return (
    <div>
      {volume.kept.map((kept) => (
        <KeptSection kept={kept} volume={volume} seen={seen} />
      ))}
    </div>
  );
}

function KeptSection({
  kept,
  volume,
  seen,
}: {
  kept: KeptView;
  volume: VolumeView;
  seen: Reading;
}) {
  const id = `kept-${kept.number}`;
  const until =
    kept.untilMs === null ? "" : ` It was written until ${timeInWords(kept.untilMs)} UTC at least.`;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>Kept: {kept.name}</h2>
      <p>
        What {volume.name} was on other disks when you went on without it, at{" "}
        {timeInWords(kept.wentOnAtMs)} UTC.{until} {kept.sentence}.
      </p>
      {kept.uris.length === 0 ? null : (
        <div>
          <p>Hosts of {volume.name} read it here, and never write it:</p>
          <Copyable
            id={`${id}-uri`}
            label={`Where to read ${kept.name}`}
            text={kept.uris[0] ?? ""}
          />
        </div>
      )}
      <Table
        id={`${id}-table`}
        caption="Slices and the disks that keep them"
        columns={["Slice", "Kept on", "State", { head: "Holds", isNumber: true }]}
        empty="Nothing is kept any more."
        rows={kept.slices.map((one) => [
          String(one.index + 1),
          `disk ${one.disk} of ${unitName(seen.units, one.unit)}`,
          <State tone={one.there ? "good" : "notice"} words={one.there ? "there" : "away"} />,
          one.bytes === null ? "not known" : sizeInWords(one.bytes),
        ])}
      />
      <p>
        <a class="button danger" href={`${volumePath(volume)}/discard/${kept.number}`}>
          Give {kept.name} up…
        </a>
      </p>
    </section>
  );
}

interface AskOptions {
  volume: VolumeView;
  session: Session;
  fault: string | null;
}

export function GoOnPage({ volume, session, fault }: AskOptions) {
  const { goOn, name } = volume;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Notice
        tone="bad"
        text={
          goOn === null
            ? `${name} does not stand still for want of a copy: there is nothing to decide.`
            : `${name} would go on from what ${goOn.from} holds: ${goOn.costs}.`
        }
      />
      {goOn === null ? null : (
        <TypedName {...{ volume, session, act: "go-on", name, what: "Go on without it" }} />
      )}
    </div>
  );
}

export function DiscardPage({ volume, session, fault, kept }: AskOptions & { kept: KeptView }) {
  const act = `discard/${kept.number}`;
  return (
    <div>
      {fault === null ? null : <Notice tone="bad" text={fault} isNews />}
      <Notice
        tone="bad"
        text={
          `What only ${kept.name} holds will be gone: ${kept.sentence}. ` +
          `${volume.name} itself stays as it is.`
        }
      />
      <TypedName {...{ volume, session, act, name: kept.name, what: "Give it up" }} />
    </div>
  );
}

function TypedName(options: {
  volume: VolumeView;
  session: Session;
  act: string;
  name: string;
  what: string;
}) {
  const { volume, session, act, name, what } = options;
  return (
    <Form session={session} action={`${volumePath(volume)}/${act}`} class="card form">
      <Field
        id="confirm"
        label="Its name"
        hint={`Type ${name} to say that you mean it.`}
        required
        autocomplete="off"
      />
      <p class="actions">
        <button type="submit" class="danger">
          {what}
        </button>
        <a href={volumePath(volume)}>Leave it as it is</a>
      </p>
    </Form>
  );
}
