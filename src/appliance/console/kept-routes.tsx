// SPDX-License-Identifier: Apache-2.0
//
// What the pages of kept-pages.tsx do: going on without a copy, and giving up what that left. Each
// is asked for by the name of what it concerns, typed.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import type { VolumeView } from "#appliance/backend.ts";
import type { KeptView } from "#appliance/volume-lineages.ts";
import type { Call, ConsoleApp, Desk } from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { volumePath } from "./health.ts";
import { DiscardPage, GoOnPage } from "./kept-pages.tsx";
import type { Session } from "./sessions.ts";

const PLACE = "/volumes";

export function addGoingOn(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (call: Call, session: Session, volume: VolumeView, fault: Fault | null) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = <GoOnPage {...{ volume, session, fault: words }} />;
    return desk.show(call, { title: `Go on with ${volume.name}`, place: PLACE, content, fault });
  };
  app.get(
    `${PLACE}/:id/go-on`,
    desk.guarded((call, session) => show(call, session, backend.volume(idIn(call)), null)),
  );
  app.post(
    `${PLACE}/:id/go-on`,
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const volume = backend.volume(idIn(call));
      const fault = await desk.attempt(call, async () => {
        checkTyped(form, volume.name);
        await backend.goOnVolume(String(volume.volume));
      });
      if (fault !== null) return show(call, session, volume, fault);
      session.note = `${volume.name} goes on. What was missing is kept, once it is back.`;
      return desk.lead(call, volumePath(volume));
    }),
  );
}

export function addDiscarding(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = (
    call: Call,
    session: Session,
    of: { volume: VolumeView; kept: KeptView },
    fault: Fault | null,
  ) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = <DiscardPage {...{ ...of, session, fault: words }} />;
    return desk.show(call, { title: `Give up ${of.kept.name}`, place: PLACE, content, fault });
  };
  const keptIn = (call: Call) => {
    const volume = backend.volume(idIn(call));
    const kept = volume.kept.find(({ number }) => String(number) === call.req.param("number"));
    if (kept === undefined) throw new Fault("notFound", `${volume.name} keeps no such copy`);
    return { volume, kept };
  };
  app.get(
    `${PLACE}/:id/discard/:number`,
    desk.guarded((call, session) => show(call, session, keptIn(call), null)),
  );
  app.post(
    `${PLACE}/:id/discard/:number`,
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const of = keptIn(call);
      const fault = await desk.attempt(call, async () => {
        checkTyped(form, of.kept.name);
        await backend.discardCopy(String(of.volume.volume), of.kept.number);
      });
      if (fault !== null) return show(call, session, of, fault);
      session.note = `${of.kept.name} is given up.`;
      return desk.lead(call, volumePath(of.volume));
    }),
  );
}

function checkTyped(form: URLSearchParams, name: string): void {
  if ((form.get("confirm") ?? "").trim() === name) return;
  throw new Fault("badRequest", `nothing was done: the name is ${name}`);
}

function idIn(call: Call): string {
  return call.req.param("id") ?? "";
}
