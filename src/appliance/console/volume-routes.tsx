// SPDX-License-Identifier: Apache-2.0
//
// What the volumes' pages do: create and grow (with a preview first, if wanted), rename, assign to
// hosts, delete.
// A refusal shows the form again, as it was typed, with the reason.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import { ChangeVolumeSchema } from "#appliance/api/schemas.ts";
import { GRACE_MS } from "#appliance/api/words.ts";
import type { Backend, CreateVolume, VolumeView } from "#appliance/backend.ts";
import { type Call, type ConsoleApp, type Desk, fromOf, listQuery } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import type { Growth } from "./grow-pages.tsx";
import { volumePath } from "./health.ts";
import { hostTyped } from "./host-form.ts";
import { ifAnswered, ifReady, readAll } from "./reading.ts";
import { nameTyped } from "./removal-form.tsx";
import { addDiscarding, addGoingOn } from "./kept-routes.tsx";
import type { Session } from "./sessions.ts";
import { emptyForm, typedForm, type VolumeForm, wantedSize, wantedVolume } from "./volume-form.ts";
import { DeletePage, NewVolumePage, VolumePage, VolumesPage } from "./volume-pages.tsx";

const PLACE = "/volumes";

export function addVolumePages(app: ConsoleApp, desk: Desk): void {
  app.get(
    PLACE,
    desk.guarded((call) => {
      const content = <VolumesPage seen={readAll(desk.backend)} query={listQuery(call)} />;
      return desk.show(call, { title: "Volumes", place: PLACE, content });
    }),
  );
  addCreation(app, desk);
  addOne(app, desk);
  addGrowth(app, desk);
  addGoingOn(app, desk);
  addDiscarding(app, desk);
  addDeletion(app, desk);
}

function addCreation(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (
    call: Call,
    session: Session,
    made: { form: VolumeForm; fault: Fault | null; preview: VolumeView | null },
  ) => {
    const fault = made.fault === null ? null : sentenceOf(made.fault);
    const seen = readAll(backend);
    const content = <NewVolumePage {...{ seen, session, ...made, fault, from: fromOf(call) }} />;
    return desk.show(call, { title: "New volume", place: PLACE, content, fault: made.fault });
  };
  app.get(
    `${PLACE}/new`,
    desk.guarded((call, session) => {
      const form = emptyForm((ifReady(() => backend.units()) ?? []).length);
      return show(call, session, { form, fault: null, preview: null });
    }),
  );
  app.post(
    `${PLACE}/new`,
    desk.guarded(async (call, session) => {
      const typed = await desk.form(call, session);
      const form = typedForm(typed);
      const dryRun = typed.get("intent") !== "create";
      let made: VolumeView | null = null;
      const fault = await desk.attempt(call, async () => {
        const wanted = wantedVolume(form);
        const host = hostTyped(backend.hosts, form.address);
        const tried = await backend.createVolume(wanted, { dryRun: true });
        // Only now is a host added: a volume that cannot be made leaves none behind.
        made = dryRun ? tried : await createFor(backend, wanted, host);
      });
      const volume = made as VolumeView | null;
      if (volume === null || dryRun) return show(call, session, { form, fault, preview: volume });
      session.note = `${volume.name} is there.`;
      return desk.lead(call, volumePath(volume));
    }),
  );
}

async function createFor(
  backend: Backend,
  wanted: CreateVolume,
  host: ReturnType<typeof hostTyped>,
): Promise<VolumeView> {
  const hosts = [...(wanted.hosts ?? [])];
  if (host !== null) {
    hosts.push(String("host" in host ? host.host : (await backend.hosts.add(host)).host));
  }
  return backend.createVolume({ ...wanted, hosts }, { dryRun: false });
}

/** One volume's page, with what was refused, or what a new size would come to. */
function showing(desk: Desk) {
  const { backend } = desk;
  return async (
    call: Call,
    session: Session,
    made: { volume: VolumeView; fault: Fault | null; growth?: Growth },
  ) => {
    const { volume, growth = null } = made;
    const fault = made.fault === null ? null : sentenceOf(made.fault);
    const { page } = listQuery(call);
    const chart = await ifAnswered(backend.neighbours.chart(volume.volume));
    const seen = readAll(backend);
    const content = <VolumePage {...{ seen, session, volume, fault, page, chart, growth }} />;
    return desk.show(call, { title: volume.name, place: PLACE, content, fault: made.fault });
  };
}

function addOne(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = showing(desk);
  app.get(
    `${PLACE}/:id`,
    desk.guarded((call, session) => {
      const volume = backend.volume(nameIn(call));
      return show(call, session, { volume, fault: null });
    }),
  );
  app.post(
    `${PLACE}/:id/rename`,
    desk.guarded(async (call, session) => {
      const name = (await desk.form(call, session)).get("name") ?? "";
      let volume = backend.volume(nameIn(call));
      const before = volume.name;
      const fault = await desk.attempt(call, async () => {
        const change = ChangeVolumeSchema.safeParse({ name });
        if (!change.success) {
          throw new Fault("badRequest", "a name has letters, digits, dot, dash and underscore");
        }
        volume = await backend.changeVolume(String(volume.volume), change.data);
      });
      if (fault !== null) return show(call, session, { volume, fault });
      session.note = `${before} is called ${name}.`;
      return desk.lead(call, volumePath(volume));
    }),
  );
  for (const act of ["assign", "revoke"] as const) {
    app.post(
      `${PLACE}/:id/${act}`,
      desk.guarded(async (call, session) => {
        const host = (await desk.form(call, session)).get("host") ?? "";
        const volume = backend.volume(nameIn(call));
        const fault = await desk.attempt(call, () =>
          backend.hosts[act](String(volume.volume), host),
        );
        if (fault !== null) return show(call, session, { volume, fault });
        session.note = act === "assign" ? "The host may use it." : "It is taken from the host.";
        return desk.lead(call, volumePath(volume));
      }),
    );
  }
}

function addGrowth(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = showing(desk);
  app.post(
    `${PLACE}/:id/grow`,
    desk.guarded(async (call, session) => {
      const typed = await desk.form(call, session);
      const size = (typed.get("size") ?? "").trim();
      const dryRun = typed.get("intent") !== "grow";
      const volume = backend.volume(nameIn(call));
      let grown: VolumeView | null = null;
      const fault = await desk.attempt(call, async () => {
        const number = String(volume.volume);
        grown = await backend.growVolume(number, wantedSize(size), { dryRun });
      });
      if (fault !== null || dryRun) {
        return show(call, session, { volume, fault, growth: { size, preview: grown } });
      }
      session.note = `${volume.name} has ${size} now.`;
      return desk.lead(call, volumePath(volume));
    }),
  );
}

function addDeletion(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (call: Call, session: Session, volume: VolumeView, fault: Fault | null) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = <DeletePage {...{ volume, session, fault: words }} />;
    return desk.show(call, { title: `Delete ${volume.name}`, place: PLACE, content, fault });
  };
  app.get(
    `${PLACE}/:id/delete`,
    desk.guarded((call, session) => show(call, session, backend.volume(nameIn(call)), null)),
  );
  app.post(
    `${PLACE}/:id/delete`,
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const graceMs = form.get("now") === "yes" ? 0 : GRACE_MS;
      const volume = backend.volume(nameIn(call));
      const fault = await desk.attempt(call, async () => {
        nameTyped(form, volume.name);
        // By its number: a new one of the same name, made meanwhile, is not meant.
        await backend.deleteVolume(String(volume.volume), { graceMs });
      });
      if (fault !== null) return show(call, session, volume, fault);
      const isNow = graceMs === 0;
      session.note = `${volume.name} is deleted${isNow ? "" : "; for a day it can be taken back"}.`;
      return desk.lead(call, isNow ? PLACE : volumePath(volume));
    }),
  );
  app.post(
    `${PLACE}/:id/restore`,
    desk.guarded(async (call, session) => {
      await desk.form(call, session);
      const volume = backend.volume(nameIn(call));
      const fault = await desk.attempt(call, async () => {
        await backend.restoreVolume(String(volume.volume));
      });
      session.note = fault === null ? `${volume.name} is back.` : sentenceOf(fault);
      return desk.lead(call, volumePath(volume));
    }),
  );
}

function nameIn(call: Call): string {
  return call.req.param("id") ?? "";
}
