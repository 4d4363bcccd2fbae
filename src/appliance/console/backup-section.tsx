// SPDX-License-Identifier: Apache-2.0
//
// The control state's part of the settings page: when and where its last backups were kept, one
// more, and a way to download what is kept on this unit; after a rebuild, the owner's word that all
// disks are there.

/** @jsxImportSource hono/jsx */

import { timeInWords } from "#appliance/api/words.ts";
import type { ControlBackend } from "#appliance/control-desk.ts";
import type { ConsoleApp, Desk } from "./console.tsx";
import { Form } from "./frame.tsx";
import type { Session } from "./sessions.ts";

const PLACE = "/settings";

export function addBackups(app: ConsoleApp, desk: Desk): void {
  const { control } = desk.backend;
  app.post(
    `${PLACE}/backup`,
    desk.guarded(async (call, session) => {
      await desk.form(call, session);
      await control.takeBackup();
      session.note = "The control state is backed up on this unit.";
      return desk.lead(call, PLACE);
    }),
  );
  app.post(
    `${PLACE}/settle`,
    desk.guarded(async (call, session) => {
      await desk.form(call, session);
      const { disks } = await control.settle();
      session.note = `Volumes go on by what ${disks} ${disks === 1 ? "disk" : "disks"} told.`;
      return desk.lead(call, PLACE);
    }),
  );
  app.get(
    `${PLACE}/backups/:name`,
    desk.guarded(async (call) => {
      const name = call.req.param("name") ?? "";
      const file = new Uint8Array(control.readBackup(name));
      return call.body(file, 200, {
        "content-type": "application/octet-stream",
        "content-disposition": `attachment; filename="${name}"`,
      });
    }),
  );
}

export function BackupSection({ control, session }: { control: ControlBackend; session: Session }) {
  const { here, units } = control.backups();
  const kept = units.filter(({ keptAtMs }) => keptAtMs !== null);
  return (
    <section class="card" aria-labelledby="backups">
      <h2 id="backups">Backups of the control state</h2>
      <p>
        Names, placement, hosts and settings are kept on several units by themselves. Should a
        majority of the voters be gone for good, <code>cairn control restore</code> on a unit begins
        a new control store from the newest. A backup opens with the join secret alone. Where none
        is left, <code>cairn control rebuild</code> begins one from what disks hold; users, hosts,
        assignments and settings are lost then.
      </p>
      {control.gathering ? <Gathering session={session} /> : null}
      {kept.length === 0 ? (
        <p class="empty">No unit has kept one yet.</p>
      ) : (
        <ul>
          {kept.map(({ name, keptAtMs }) => (
            <li>
              {name}: {timeInWords(keptAtMs ?? 0)} UTC
            </li>
          ))}
        </ul>
      )}
      {here.length === 0 ? null : (
        <ul>
          {here.map(({ name, takenAtMs }) => (
            <li>
              On this unit: <a href={`${PLACE}/backups/${name}`}>{timeInWords(takenAtMs)} UTC</a>
            </li>
          ))}
        </ul>
      )}
      <Form session={session} action={`${PLACE}/backup`} class="actions">
        <button type="submit">Back up now</button>
      </Form>
    </section>
  );
}

function Gathering({ session }: { session: Session }) {
  return (
    <Form session={session} action={`${PLACE}/settle`} class="actions">
      <p>
        The control state is being rebuilt from disks. Nothing is served before you say that all
        units and disks are there that are left: what a disk tells that comes later changes nothing
        any more. <a href="/">For you to decide</a> says what has told, and what is missing.
      </p>
      <button type="submit">All that are left are there</button>
    </Form>
  );
}
