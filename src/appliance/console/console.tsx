// SPDX-License-Identifier: Apache-2.0
//
// The console: pages for people, over the same Backend as the API. Rendered here; a little client
// code looks again by itself, and everything works without it.
//
// Invariants
// - But for claim, sign-in and the assets nothing is shown without a session of this unit.
// - What changes something comes from a page of our own (Origin, always there) and from a form
//   that was made for this session (its token). A session is begun by a proof, never by a cookie.
// - No page may load or run anything but what comes from this unit itself (the policy below).

/** @jsxImportSource hono/jsx */

import { Hono } from "hono";
import type { Context } from "hono";
import type { Child } from "hono/jsx";
import { Fault } from "#base/fault.ts";
import { NAME_CHARACTERS_MAX } from "#base/limits.ts";
import type { World } from "#base/world.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import { FIRST_USER } from "#cluster/user-state.ts";
import type { Asking } from "#appliance/api/api.ts";
import { jobsOf } from "#appliance/jobs.ts";
import { faultOf } from "#appliance/api/fault-answer.ts";
import { originOf } from "#appliance/api/origin.ts";
import { STALE_HEADER } from "#appliance/api/convention.ts";
import { ChangeSettingsSchema } from "#appliance/api/schemas.ts";
import type { Backend } from "#appliance/backend.ts";
import { passwordFault } from "#appliance/password-rule.ts";
import { addAssets } from "./assets.ts";
import type { Credentials } from "./credentials.ts";
import { addDiskPages } from "./disk-pages.tsx";
import { addDrill } from "./drill-section.tsx";
import { AccountPage, ClaimPage, LoginPage, SetupPage } from "./entry-pages.tsx";
import { addEventPages } from "./event-pages.tsx";
import { Notice, page } from "./frame.tsx";
import { addHostPages } from "./host-routes.tsx";
import * as pages from "./pages.tsx";
import { addRecoveryPage } from "./recovery-pages.tsx";
import { ifAnswered, ifReady, readAll, readEvents } from "./reading.ts";
import { addPoolPages } from "./pool-pages.tsx";
import type { Session, Sessions } from "./sessions.ts";
import { sessionCookie, shownSession } from "./sessions.ts";
import { addSettingsPage } from "./settings-pages.tsx";
import { sentenceOf } from "./fault-words.ts";
import { TryLimit } from "./try-limit.ts";
import { addArrivalPages } from "./arrival-pages.tsx";
import { addUnitPages } from "./unit-pages.tsx";
import { addUpdatePages } from "./update-pages.tsx";
import { addUserPages } from "./user-pages.tsx";
import { addVolumePages } from "./volume-routes.tsx";

const POLICY = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** A page that looks again by itself says so: that is no person's doing. */
const LOOK_HEADER = "x-cairn-look";
const EVENTS_LATEST = 8;

export interface ConsoleOptions {
  world: Pick<World, "clock" | "log">;
  sessions: Sessions;
  credentials: Credentials;
}

export type ConsoleApp = Hono<{ Bindings: Asking }>;
export type Call = Context<{ Bindings: Asking }>;

export interface Console {
  app: ConsoleApp;
  /** The page that says why another one is not shown, or something not done. */
  refuse(error: Error, call: Call): Response;
}

export function createConsole(backend: Backend, options: ConsoleOptions): Console {
  const app: ConsoleApp = new Hono<{ Bindings: Asking }>();
  const desk = new Desk(backend, options);
  const refuse = (error: Error, call: Call) => {
    const fault = faultOf(error, options.world.log, `${call.req.method} ${call.req.path}`);
    const content = <pages.NotFoundPage what={sentenceOf(fault)} />;
    return desk.show(call, { title: "That did not work", place: "", content, fault });
  };
  app.onError(refuse);
  addAssets(app);
  // A certificate is no secret; whoever adds it compares its fingerprint.
  app.get("/ca.pem", (call) =>
    call.body(backend.authority().pem, 200, {
      "content-type": "application/x-x509-ca-cert",
      "content-disposition": 'attachment; filename="cairn-ca.pem"',
    }),
  );
  addClaim(app, desk);
  addSignIn(app, desk);
  addAccount(app, desk);
  addReading(app, desk);
  addSetup(app, desk);
  addVolumePages(app, desk);
  addDiskPages(app, desk);
  addArrivalPages(app, desk);
  addUnitPages(app, desk);
  addPoolPages(app, desk);
  addHostPages(app, desk);
  addDrill(app, desk);
  addRecoveryPage(app, desk);
  addEventPages(app, desk);
  addSettingsPage(app, desk);
  addUserPages(app, desk);
  addUpdatePages(app, desk);
  return { app, refuse };
}

export interface Shown {
  title: string;
  place: string;
  content: Child;
  /** Why the page is shown again, or instead; null: all is well. */
  fault?: Fault | null;
}

/** What every handler needs: who is signed in, what was typed, and how a page is answered. */
export class Desk {
  readonly backend: Backend;
  readonly credentials: Credentials;
  readonly limit: TryLimit;
  readonly #sessions: Sessions;
  readonly #log: ConsoleOptions["world"]["log"];
  readonly wallMs: () => number;

  constructor(backend: Backend, { world, sessions, credentials }: ConsoleOptions) {
    this.backend = backend;
    this.credentials = credentials;
    this.limit = new TryLimit(world.clock);
    this.#sessions = sessions;
    this.#log = world.log;
    this.wallMs = () => world.clock.wallMs();
  }

  session(call: Call): Session | null {
    const token = shownSession(call.req.raw);
    if (token === null) return null;
    return this.#sessions.find(token, { byPerson: isByPerson(call) });
  }

  /** Runs for a person who is signed in; others are led to the way in. */
  guarded(act: (call: Call, session: Session) => Response | Promise<Response>) {
    return async (call: Call): Promise<Response> => {
      const session = this.session(call);
      if (session === null) return this.lead(call, this.#wayIn());
      return act(call, session);
    };
  }

  #wayIn(): string {
    const { claim, cluster } = this.backend.status();
    return claim.claimed || (cluster !== null && this.credentials.hasPassword)
      ? "/login"
      : "/claim";
  }

  /** What was typed into a page of ours; with a session, into a form made for it. */
  async form(call: Call, session: Session | null): Promise<URLSearchParams> {
    if (originOf(call.req.raw) !== "own") {
      throw new Fault("forbidden", "a form is taken from a page of this unit alone");
    }
    const type = call.req.header("content-type") ?? "";
    if (!type.startsWith("application/x-www-form-urlencoded")) {
      throw new Fault("badRequest", "a form is sent as application/x-www-form-urlencoded");
    }
    const form = new URLSearchParams(await call.req.text());
    if (session !== null && !this.#sessions.isFormToken(session, form.get("token") ?? "")) {
      throw new Fault("forbidden", "the page is from another session; load it again");
    }
    return form;
  }

  /** Within the limit of tries; `refusal` is thrown where user and password do not fit. */
  async signIn(call: Call, who: { user: string; typed: string }, refusal: Fault): Promise<void> {
    this.limit.take(fromOf(call));
    const credential = await this.credentials.prove(who.user, who.typed);
    if (credential === null) throw refusal;
    this.limit.forget(fromOf(call));
    this.begin(call, credential);
  }

  /** A new session, whatever cookie was shown before. */
  begin(call: Call, credential: string): Session {
    this.end(call);
    const { token, session } = this.#sessions.begin(credential);
    call.header("set-cookie", sessionCookie(call.req.raw, token));
    return session;
  }

  end(call: Call): void {
    const token = shownSession(call.req.raw);
    if (token !== null) this.#sessions.end(token);
    call.header("set-cookie", sessionCookie(call.req.raw, null));
  }

  lead(call: Call, path: string): Response {
    call.header("cache-control", "no-store");
    return call.redirect(path, 303);
  }

  show(call: Call, { title, place, content, fault = null }: Shown): Response {
    const status = this.backend.status();
    const session = this.session(call);
    const html = page({ title, place, status, session, children: content });
    if (session !== null && isByPerson(call)) session.note = null;
    return new Response(html, {
      status: fault?.httpStatus ?? 200,
      headers: {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": POLICY,
        "cache-control": "no-store",
        // Not no-referrer: a browser would then send no Origin with our own forms.
        "referrer-policy": "same-origin",
        [STALE_HEADER]: String(Math.round(status.staleMs)),
      },
    });
  }

  /** Does what may be refused; null, or the Fault to show beside the form. */
  async attempt(call: Call, act: () => Promise<void>): Promise<Fault | null> {
    try {
      await act();
      return null;
    } catch (error) {
      return faultOf(error, this.#log, `${call.req.method} ${call.req.path}`);
    }
  }
}

/** Whether a person looks, and no page that looks again by itself. */
export function isByPerson(call: Call): boolean {
  return call.req.header(LOOK_HEADER) === undefined;
}

/** The address the browser asks from, as a person would write it. */
export function fromOf(call: Call): string {
  const from = (call.env as Partial<Asking> | undefined)?.from ?? "";
  return from.replace(/^::ffff:/i, "").replace(/%.*$/, "");
}

function wordsOf(fault: Fault | null): string | null {
  return fault === null ? null : sentenceOf(fault);
}

function addClaim(app: ConsoleApp, desk: Desk): void {
  const { backend, credentials } = desk;
  const claimPage = (call: Call, fault: Fault | null, clusterName: string | null = null) => {
    const content = (
      <ClaimPage {...{ status: backend.status(), fault: wordsOf(fault), clusterName }} />
    );
    return desk.show(call, { title: "Claim this cluster", place: "", content, fault });
  };

  app.get("/claim", (call) => {
    if (backend.status().claim.claimed) return desk.lead(call, "/login");
    return claimPage(call, null);
  });
  app.post("/claim", async (call) => {
    const form = await desk.form(call, null);
    const code = form.get("code") ?? "";
    const name = (form.get("cluster") ?? backend.status().cluster?.name ?? "").trim();
    const password = form.get("password") ?? "";
    const fault = await desk.attempt(call, async () => {
      // Before the code, so that a password too short costs no try.
      const wrong = passwordFault(password);
      if (wrong !== null) throw new Fault("badRequest", wrong);
      if (!nameSchema.safeParse(name).success) {
        throw new Fault(
          "badRequest",
          "a cluster's name has letters, digits, dots, dashes and underscores, and no blanks",
        );
      }
      if (backend.status().claim.claimed) {
        // Sent again, when the first answer was lost: the password tells who it is.
        const already = new Fault("conflict", "this cluster is claimed already: sign in");
        return desk.signIn(call, { user: FIRST_USER, typed: password }, already);
      }
      const request = { code, password, replace: false, tokenHash: null };
      const { token } = await backend.claim(request, "anybody");
      const credential =
        credentials.ofUser(FIRST_USER) ?? (await credentials.prove(FIRST_USER, token ?? ""));
      if (credential === null) throw new Fault("notReady", "it is claimed; sign in in a moment");
      const session = desk.begin(call, credential);
      session.ownerToken = token;
      session.note = "The cluster is yours.";
      if (name === backend.status().cluster?.name) return;
      // It is claimed by now: a name that does not get through is no reason to stay out.
      const unnamed = await desk.attempt(call, async () => {
        await backend.changeSettings({ clusterName: name });
      });
      if (unnamed !== null) session.note += ` It has its old name: ${sentenceOf(unnamed)}`;
    });
    return fault === null ? desk.lead(call, "/setup") : claimPage(call, fault, name);
  });
}

function addSignIn(app: ConsoleApp, desk: Desk): void {
  const { backend, credentials } = desk;
  const loginPage = (call: Call, fault: Fault | null, user = FIRST_USER) => {
    const { hasPassword } = credentials;
    const content = (
      <LoginPage {...{ hasPassword, status: backend.status(), fault: wordsOf(fault), user }} />
    );
    return desk.show(call, { title: "Sign in", place: "", content, fault });
  };

  app.get("/login", (call) => {
    if (desk.session(call) !== null) return desk.lead(call, "/");
    return loginPage(call, null);
  });
  app.post("/login", async (call) => {
    const form = await desk.form(call, null);
    const user = (form.get("user") ?? FIRST_USER).trim().slice(0, NAME_CHARACTERS_MAX);
    const fault = await desk.attempt(call, async () => {
      const typed = form.get("password") ?? "";
      await desk.signIn(call, { user, typed }, new Fault("forbidden", "that is not it"));
    });
    return fault === null ? desk.lead(call, "/") : loginPage(call, fault, user);
  });
  app.post(
    "/logout",
    desk.guarded(async (call, session) => {
      await desk.form(call, session);
      desk.end(call);
      return desk.lead(call, "/login");
    }),
  );
}

function addAccount(app: ConsoleApp, desk: Desk): void {
  const { backend, credentials, limit } = desk;
  /** Whose password it would be; a token has none, but the first one can be set by it. */
  const userOf = ({ who }: Session) => who.user ?? (credentials.hasPassword ? null : FIRST_USER);
  const show = (call: Call, session: Session, fault: Fault | null) => {
    const { hasPassword } = credentials;
    const user = userOf(session);
    const fields = { session, hasPassword, fault: wordsOf(fault), user };
    const content = <AccountPage {...fields} />;
    return desk.show(call, { title: "Account", place: "/account", content, fault });
  };
  app.get(
    "/account",
    desk.guarded((call, session) => show(call, session, null)),
  );
  app.post(
    "/account",
    desk.guarded(async (call, session) => {
      const form = await desk.form(call, session);
      const fault = await desk.attempt(call, async () => {
        const user = userOf(session);
        if (user === null) throw new Fault("conflict", "a token has no password");
        const password = form.get("password") ?? "";
        const wrong = passwordFault(password);
        if (wrong !== null) throw new Fault("badRequest", wrong);
        limit.take(fromOf(call));
        const proof = await credentials.prove(user, form.get("current") ?? "");
        const who = proof === null ? null : credentials.whose(proof);
        // Another one's password or token proves nothing, unless it may set passwords anyway.
        if (who === null || (who.user !== user && who.role !== "admin")) {
          throw new Fault("forbidden", "the present password is not that");
        }
        limit.forget(fromOf(call));
        await backend.users.setPassword(user, password);
        const credential = credentials.ofUser(user);
        if (credential === null) throw new Fault("notReady", "it is set; sign in in a moment");
        desk.begin(call, credential).note = "The password is set.";
      });
      return fault === null ? desk.lead(call, "/account") : show(call, session, fault);
    }),
  );
}

function addReading(app: ConsoleApp, desk: Desk): void {
  const { backend, credentials } = desk;
  app.get(
    "/",
    desk.guarded(async (call) => {
      const copying = await ifAnswered(backend.neighbours.copying());
      const seen = readAll(backend);
      const { units, volumes, disks } = seen;
      const known = { units: units ?? [], volumes: volumes ?? [], disks, copying };
      const jobs = jobsOf({ ...known, wallMs: desk.wallMs() });
      const events = readEvents(backend, EVENTS_LATEST)?.reverse() ?? null;
      const { hasPassword } = credentials;
      const content = <pages.Overview {...{ seen, events, hasPassword, jobs }} />;
      return desk.show(call, { title: "Overview", place: "/", content });
    }),
  );
  app.get(
    "/disks",
    desk.guarded((call) => {
      const content = <pages.DisksPage seen={readAll(backend)} query={listQuery(call)} />;
      return desk.show(call, { title: "Disks", place: "/disks", content });
    }),
  );
}

function addSetup(app: ConsoleApp, desk: Desk): void {
  const { backend } = desk;
  const show = async (call: Call, session: Session, fault: Fault | null) => {
    const { unit } = backend.status();
    const box = unit === 0 ? null : await ifAnswered(backend.neighbours.box(unit));
    const seen = readAll(backend);
    const timeServers = ifReady(() => backend.settings())?.timeServers ?? null;
    const content = (
      <div>
        {fault === null ? null : <Notice tone="bad" text={sentenceOf(fault)} isNews />}
        <SetupPage {...{ seen, session, from: fromOf(call), box, timeServers }} />
      </div>
    );
    const shown = desk.show(call, { title: "First steps", place: "/", content, fault });
    if (isByPerson(call)) session.ownerToken = null;
    return shown;
  };
  app.get(
    "/setup",
    desk.guarded((call, session) => show(call, session, null)),
  );
  app.post(
    "/setup/time",
    desk.guarded(async (call, session) => {
      const servers = ((await desk.form(call, session)).get("servers") ?? "").trim();
      const fault = await desk.attempt(call, async () => {
        const wish = ChangeSettingsSchema.safeParse({ timeServers: servers || null });
        if (!wish.success) throw new Fault("badRequest", wish.error.issues[0]?.message ?? "");
        await backend.changeSettings(wish.data);
      });
      if (fault !== null) return show(call, session, fault);
      session.note = "The time servers are saved.";
      return desk.lead(call, "/setup#box");
    }),
  );
}

const QUERY_CHARACTERS_MAX = 100;

export function listQuery(call: Call): pages.ListQuery {
  const q = (call.req.query("q") ?? "").slice(0, QUERY_CHARACTERS_MAX).trim();
  return { q, page: call.req.query("page") };
}
