// SPDX-License-Identifier: Apache-2.0
//
// What the hosts' pages do: add, change, remove, assign and revoke. A refusal shows the form again,
// as it was typed, with the reason.

/** @jsxImportSource hono/jsx */

import { Fault } from "#base/fault.ts";
import type { HostView, MadeCertificateView } from "#appliance/host-backend.ts";
import {
  type Call,
  type ConsoleApp,
  type Desk,
  fromOf,
  isByPerson,
  listQuery,
} from "./console.tsx";
import { sentenceOf } from "./fault-words.ts";
import { type HostForm, typedHost, wantedHost, wantedPolicy } from "./host-form.ts";
import { HostPage, HostsPage, RemoveHostPage, hostPath } from "./host-pages.tsx";
import { readAll } from "./reading.ts";
import type { Session } from "./sessions.ts";

const PLACE = "/hosts";

export function addHostPages(app: ConsoleApp, desk: Desk): void {
  addList(app, desk);
  // Before the hosts themselves: its path is no host's.
  addAnswers(app, desk);
  addOne(app, desk);
  addAssignments(app, desk);
  addAsking(app, desk);
  addCertificates(app, desk);
  addRemoval(app, desk);
}

const NOTHING: HostForm = { name: "", addresses: "" };

function showList(
  desk: Desk,
  call: Call,
  session: Session,
  { form, fault }: { form: HostForm; fault: Fault | null },
): Response {
  const words = fault === null ? null : sentenceOf(fault);
  const parts = { seen: readAll(desk.backend), session, form, query: listQuery(call) };
  const content = <HostsPage {...parts} fault={words} from={fromOf(call)} />;
  return desk.show(call, { title: "Hosts", place: PLACE, content, fault });
}

function addList(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  app.get(
    PLACE,
    desk.guarded((call, session) => showList(desk, call, session, { form: NOTHING, fault: null })),
  );
  app.post(
    PLACE,
    desk.guarded(async (call, session) => {
      const form = typedHost(await desk.form(call, session));
      let made: HostView | null = null;
      const fault = await desk.attempt(call, async () => {
        made = await backend.hosts.add(wantedHost(form));
      });
      const host = made as HostView | null;
      if (host === null) return showList(desk, call, session, { form, fault });
      session.note = `${host.name} is added. It sees nothing before a volume is assigned to it.`;
      return desk.lead(call, hostPath(host));
    }),
  );
}

interface ShownHost {
  host: HostView;
  form: HostForm | null;
  fault: Fault | null;
  /** A certificate that was just issued. */
  made?: MadeCertificateView;
}

function showHost(desk: Desk, call: Call, session: Session, made: ShownHost): Response {
  const { host, form, fault } = made;
  const words = fault === null ? null : sentenceOf(fault);
  const parts = { host, form, session, seen: readAll(desk.backend), from: fromOf(call) };
  const content = <HostPage {...parts} fault={words} made={made.made ?? null} />;
  const shown = desk.show(call, { title: host.name, place: PLACE, content, fault });
  if (isByPerson(call)) session.hostToken = null;
  return shown;
}

function addOne(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  app.get(
    `${PLACE}/:id`,
    desk.guarded((call, session) => {
      const host = hosts.one(nameIn(call));
      return showHost(desk, call, session, { host, form: null, fault: null });
    }),
  );
  app.post(
    `${PLACE}/:id`,
    desk.guarded(async (call, session) => {
      const form = typedHost(await desk.form(call, session));
      const host = hosts.one(nameIn(call));
      const fault = await desk.attempt(call, async () => {
        await hosts.change(String(host.host), wantedHost(form));
      });
      if (fault !== null) return showHost(desk, call, session, { host, form, fault });
      session.note = "Name and addresses are saved.";
      return desk.lead(call, hostPath(host));
    }),
  );
}

function addAssignments(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  for (const act of ["assign", "revoke"] as const) {
    app.post(
      `${PLACE}/:id/${act}`,
      desk.guarded(async (call, session) => {
        const volume = (await desk.form(call, session)).get("volume") ?? "";
        const host = hosts.one(nameIn(call));
        const fault = await desk.attempt(call, () => hosts[act](volume, String(host.host)));
        if (fault !== null) return showHost(desk, call, session, { host, form: null, fault });
        session.note = act === "assign" ? "It may use the volume." : "The volume is taken from it.";
        return desk.lead(call, hostPath(host));
      }),
    );
  }
}

/** What a host may ask for, and its token. */
function addAsking(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  const posts = (
    verb: string,
    act: (host: HostView, form: URLSearchParams, session: Session) => Promise<string>,
  ) =>
    app.post(
      `${PLACE}/:id/${verb}`,
      desk.guarded(async (call, session) => {
        const form = await desk.form(call, session);
        const host = hosts.one(nameIn(call));
        const fault = await desk.attempt(call, async () => {
          session.note = await act(host, form, session);
        });
        if (fault !== null) return showHost(desk, call, session, { host, form: null, fault });
        return desk.lead(call, hostPath(host));
      }),
    );
  posts("policy", async (host, form) => {
    await hosts.change(String(host.host), { policy: wantedPolicy(form) });
    return "What it may ask for is saved.";
  });
  posts("token", async (host, form, session) => {
    if (form.get("intent") === "void") {
      await hosts.voidToken(String(host.host));
      return "It has no token any more.";
    }
    const { token } = await hosts.makeToken(String(host.host));
    session.hostToken = { host: host.host, token };
    return "A token is made.";
  });
}

function addCertificates(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  app.post(
    `${PLACE}/:id/certificate`,
    desk.guarded(async (call, session) => {
      await desk.form(call, session);
      const name = nameIn(call);
      const issued: MadeCertificateView[] = [];
      const fault = await desk.attempt(call, async () => {
        issued.push(await hosts.makeCertificate(name));
      });
      const [made] = issued;
      const host = hosts.one(name);
      return showHost(desk, call, session, {
        ...{ host, form: null, fault },
        ...(made === undefined ? {} : { made }),
      });
    }),
  );
  app.post(
    `${PLACE}/:id/certificate/revoke`,
    desk.guarded(async (call, session) => {
      const fingerprint = (await desk.form(call, session)).get("fingerprint") ?? "";
      const host = hosts.one(nameIn(call));
      const fault = await desk.attempt(call, async () => {
        await hosts.revokeCertificate(String(host.host), fingerprint);
      });
      if (fault !== null) return showHost(desk, call, session, { host, form: null, fault });
      session.note = "The certificate is revoked; what was attached by it has ended.";
      return desk.lead(call, hostPath(host));
    }),
  );
}

function addAnswers(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  app.post(
    `${PLACE}/requests`,
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const number = Number(/^\d{1,15}$/.exec(form.get("request") ?? "")?.[0] ?? 0);
      const grant = form.get("answer") === "grant";
      const fault = await desk.attempt(call, async () => {
        const { hostName, name } = await hosts.answer(number, { grant, why: "" });
        session.note = `${hostName} ${grant ? "has" : "does not get"} ${name}.`;
      });
      if (fault === null) return desk.lead(call, PLACE);
      return showList(desk, call, session, { form: NOTHING, fault });
    }),
  );
}

function addRemoval(app: ConsoleApp, desk: Desk): void {
  const { hosts } = desk.backend;
  const show = (call: Call, session: Session, host: HostView, fault: Fault | null) => {
    const words = fault === null ? null : sentenceOf(fault);
    const content = <RemoveHostPage {...{ host, session, fault: words }} />;
    return desk.show(call, { title: `Remove ${host.name}`, place: PLACE, content, fault });
  };
  app.get(
    `${PLACE}/:id/remove`,
    desk.guarded((call, session) => show(call, session, hosts.one(nameIn(call)), null)),
  );
  app.post(
    `${PLACE}/:id/remove`,
    desk.guarded(async (call, session) => {
      const typed = (await desk.form(call, session)).get("confirm") ?? "";
      const host = hosts.one(nameIn(call));
      const fault = await desk.attempt(call, async () => {
        if (typed.trim() !== host.name) {
          throw new Fault("badRequest", `nothing was removed: the name is ${host.name}`);
        }
        await hosts.remove(String(host.host));
      });
      if (fault !== null) return show(call, session, host, fault);
      session.note = `${host.name} is removed.`;
      return desk.lead(call, PLACE);
    }),
  );
}

function nameIn(call: Call): string {
  return call.req.param("id") ?? "";
}
