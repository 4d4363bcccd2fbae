// SPDX-License-Identifier: Apache-2.0
//
// The status page at `/`: the pool in plain words, rendered here and shown without a script. It
// looks again by itself. hono/jsx escapes every text and attribute it is given; nothing here is
// inserted raw. The pragma is for Bun, which reads the tsconfig of the directory it is called in.

/** @jsxImportSource hono/jsx */

import type { Child } from "hono/jsx";
import { Fault } from "#base/fault.ts";
import type { Backend, DiskView, EventView, UnitView, VolumeView } from "#appliance/backend.ts";
import { sizeInWords, timeInWords } from "./words.ts";

const LOOK_AGAIN_SECONDS = 5;
const EVENTS_SHOWN = 20;

// Plain CSS without quotes or angle brackets, so that escaping leaves it as it is.
const STYLE = `
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
    color: #1c2326; background: #fbfaf7 }
  h1 { margin-bottom: 0 } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd8cc;
    vertical-align: top }
  th { font-weight: 600; color: #5b6467 } .quiet { color: #5b6467 }
  .bad { color: #a3260f; font-weight: 600 } code { font-size: .9em }
`;

/** The whole page. */
export function statusPage(backend: Backend): string {
  const status = backend.status();
  const volumes = ifReady(() => backend.volumes());
  const units = ifReady(() => backend.units());
  const events = ifReady(() => backend.events(0, EVENTS_SHOWN));
  const title = status.cluster === null ? status.name : status.cluster.name;
  const page = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="refresh" content={String(LOOK_AGAIN_SECONDS)} />
        <title>{`${title} · Cairn`}</title>
        <style>{STYLE}</style>
      </head>
      <body>
        <h1>{title}</h1>
        <p>
          {status.name}: {status.sentence}
        </p>
        <Age staleMs={status.staleMs} />
        {status.words.length > 0 && status.phase === "waiting" ? (
          <p>
            To admit this unit by hand, compare these words: <code>{status.words.join(" ")}</code>
          </p>
        ) : null}
        {volumes === null ? null : <Volumes volumes={volumes} units={units ?? []} />}
        {units === null ? null : <Units units={units} />}
        <Disks disks={backend.disks()} units={units ?? []} />
        {events === null ? null : <Events events={events.reverse()} />}
        <p class="quiet">
          Cairn {status.version}. The same answers for programs:{" "}
          <a href="/api/v1/openapi.json">API</a>, <a href="/metrics">metrics</a>; on the command
          line: <code>cairn help</code>.
        </p>
      </body>
    </html>
  );
  return `<!DOCTYPE html>${String(page)}`;
}

/**
 * Null while the unit is in no cluster: the page then says what it waits for, and its own disks.
 */
function ifReady<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof Fault && error.code === "notReady") return null;
    throw error;
  }
}

function Age({ staleMs }: { staleMs: number }) {
  if (staleMs < 1000) return null;
  const seconds = Math.round(staleMs / 1000);
  return (
    <p class="bad">
      The control store does not answer; what follows is {seconds} s old. Healthy volumes go on.
    </p>
  );
}

function Table({ title, heads, empty, rows }: TableOptions) {
  return (
    <section>
      <h2>{title}</h2>
      {rows.length === 0 ? (
        <p class="quiet">{empty}</p>
      ) : (
        <table>
          <thead>
            <tr>
              {heads.map((head) => (
                <th>{head}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((cells) => (
              <tr>
                {cells.map((cell) => (
                  <td>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

interface TableOptions {
  title: string;
  heads: string[];
  /** Said instead of an empty table. */
  empty: string;
  rows: Child[][];
}

function Volumes({ volumes, units }: { volumes: VolumeView[]; units: UnitView[] }) {
  return (
    <Table
      title="Volumes"
      heads={["Name", "Size", "Protection", "State", "Attach at", "Who may"]}
      empty="None yet. Create one: cairn volume create NAME --size 10G --allow RANGE"
      rows={volumes.map((volume) => [
        volume.name,
        sizeInWords(volume.sizeBytes),
        volume.protection,
        <VolumeState volume={volume} />,
        <span>
          {nameOf(units, volume.front)} <code>{volume.uris[0] ?? ""}</code>
        </span>,
        volume.allow.length === 0 ? "nobody yet" : volume.allow.join(", "),
      ])}
    />
  );
}

function VolumeState({ volume }: { volume: VolumeView }) {
  const percent = volume.rebuildingPercent === null ? "" : ` ${volume.rebuildingPercent} %`;
  const words = `${volume.availability}, ${volume.state}${percent}`;
  const well = volume.availability === "online" && volume.state === "protected";
  return (
    <span>
      <span class={well ? "" : "bad"}>{words}</span> {volume.sentence}
    </span>
  );
}

function Units({ units }: { units: UnitView[] }) {
  return (
    <Table
      title="Units"
      heads={["Unit", "State", "Role", "Addresses", "Version"]}
      empty="This unit is in no cluster yet."
      rows={units.map((unit) => [
        `${unit.unit} ${unit.name}`,
        <span class={unit.alive ? "" : "bad"}>{unit.alive ? "up" : "away"}</span>,
        unitRole(unit),
        unit.addresses.join(", "),
        unit.version,
      ])}
    />
  );
}

function unitRole(unit: UnitView): string {
  const words = [unit.pool === null ? unit.role : `${unit.role} of ${unit.pool}`];
  if (unit.controlStation) words.push("control station");
  if (unit.voter) words.push("voter");
  return words.join(", ");
}

function Disks({ disks, units }: { disks: DiskView[]; units: UnitView[] }) {
  return (
    <Table
      title="Disks"
      heads={["Disk", "Unit", "Path", "Free of", "State", "Slices"]}
      empty="None. A disk is named by --disk, or disks in the configuration."
      rows={disks.map((disk) => [
        disk.disk === 0 ? "–" : String(disk.disk),
        nameOf(units, disk.unit),
        <code>{disk.path}</code>,
        `${sizeInWords(disk.freeBytes)} of ${sizeInWords(disk.sizeBytes)}`,
        disk.reason === "" ? disk.state : `${disk.state}: ${disk.reason}`,
        String(disk.slices.length),
      ])}
    />
  );
}

function Events({ events }: { events: EventView[] }) {
  return (
    <Table
      title="Events, newest first"
      heads={["Time (UTC)", "", ""]}
      empty="Nothing has happened yet."
      rows={events.map((event) => [
        timeInWords(event.atMs),
        <span class={event.severity === "alarm" ? "bad" : "quiet"}>{event.severity}</span>,
        event.sentence,
      ])}
    />
  );
}

function nameOf(units: UnitView[], unit: number | null): string {
  if (unit === null) return "–";
  return units.find((one) => one.unit === unit)?.name ?? `unit ${unit}`;
}
