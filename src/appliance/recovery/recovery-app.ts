// SPDX-License-Identifier: Apache-2.0
//
// The recovery over HTTP: a few pages and forms, on the API's port while the daemon cannot have it.
// It knows no socket and no machine; run-recovery.ts gives it both.
//
// Invariants
// - Before somebody has signed in nothing is told but that this is the recovery, and nothing can be
//   done. Pages of other origins and foreign names of hosts are refused as the API does.
// - A reset needs the unit's name typed as well.
// - Programs that ask the API's paths are told in its own words that it is not ready.

import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { getCookie, setCookie } from "hono/cookie";
import type { Context } from "hono";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { faultOf, faultResponse } from "#appliance/api/fault-answer.ts";
import { placeFault } from "#appliance/api/serve.ts";
import type { ResetLevel } from "#machine/reset-marks.ts";
import type { RecoveryEntry } from "./recovery-entry.ts";
import { type RecoveryFacts, begunPage, recoveryPage, signInPage } from "./recovery-page.tsx";

const COOKIE = "cairn-recovery";
export const RECOVERY_BODY_BYTES_MAX = 4096;
// Server-rendered pages without a script: nothing else may load or run in them.
const PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; " +
  "base-uri 'none'";

export interface RecoveryOutside {
  log: Log;
  name: string;
  /** Names of hosts that are ours, besides addresses, localhost and cairn.local. */
  names: readonly string[];
  entry: RecoveryEntry;
  /** Whether the API token opens the page as well. */
  hasToken: boolean;
  facts(): Promise<RecoveryFacts>;
  /** The whole log of this boot, without secrets. */
  wholeLog(): Promise<string>;
  startAgain(): Promise<void>;
  reboot(): Promise<void>;
  useSlot(version: string): Promise<void>;
  reset(level: ResetLevel): Promise<void>;
}

export function createRecoveryApp(outside: RecoveryOutside): Hono {
  const app = new Hono();
  addEdges(app, outside);
  addSignIn(app, outside);
  app.use(async (context, next) => {
    const refusal = await refusalOf(context, outside);
    return refusal ?? next();
  });
  addReading(app, outside);
  addChanges(app, outside);
  app.all("/api/*", () => {
    throw new Fault("notReady", "this unit is in recovery; its page at / says why");
  });
  return app;
}

function addEdges(app: Hono, { log, names }: RecoveryOutside): void {
  app.use(async (context, next) => {
    const fault = placeFault(context.req.raw, names);
    if (fault !== null) return faultResponse(fault);
    await next();
    context.header("cache-control", "no-store");
    context.header("content-security-policy", PAGE_POLICY);
    context.header("x-content-type-options", "nosniff");
    // Not "no-referrer": a form would then come without its origin.
    context.header("referrer-policy", "same-origin");
    return;
  });
  app.use(
    bodyLimit({
      maxSize: RECOVERY_BODY_BYTES_MAX,
      onError: () => {
        throw new Fault("tooLarge", `at most ${RECOVERY_BODY_BYTES_MAX} bytes`);
      },
    }),
  );
  app.onError((error, context) =>
    faultResponse(faultOf(error, log, `${context.req.method} ${context.req.path}`)),
  );
  app.notFound((context) =>
    faultResponse(
      new Fault("notFound", `no ${context.req.method} ${context.req.path.slice(0, 100)}`),
    ),
  );
}

function addSignIn(app: Hono, outside: RecoveryOutside): void {
  app.post("/sign-in", async (context) => {
    const found = outside.entry.signIn(await field(context, "code"));
    if (found === "wrong") return entrance(context, outside, "That is not the code.");
    if ("waitMs" in found) {
      const seconds = Math.ceil(found.waitMs / 1000);
      return entrance(context, outside, `Too many wrong codes: try again in ${seconds} seconds.`);
    }
    // Not "secure": there is no TLS yet, and the cookie would be dropped.
    setCookie(context, COOKIE, found.session, { httpOnly: true, sameSite: "Strict", path: "/" });
    return context.redirect("/", 303);
  });
}

/** Null: who asks may go on. */
async function refusalOf(context: Context, outside: RecoveryOutside): Promise<Response | null> {
  const { entry } = outside;
  if (entry.isSession(getCookie(context, COOKIE) ?? "")) return null;
  const bearer = /^bearer +(\S{1,256})$/i.exec(context.req.header("authorization") ?? "")?.[1];
  if (bearer !== undefined && entry.isToken(bearer)) return null;
  if (context.req.path.startsWith("/api/") || bearer !== undefined) {
    return faultResponse(new Fault("unauthorised", "no token was shown, or a wrong one"));
  }
  return entrance(context, outside, null);
}

function entrance(context: Context, outside: RecoveryOutside, problem: string | null) {
  const { name, hasToken } = outside;
  return context.html(signInPage({ name, problem, token: hasToken }), 401);
}

function addReading(app: Hono, outside: RecoveryOutside): void {
  app.get("/", async (context) => context.html(recoveryPage(await outside.facts(), null)));
  app.get("/log", async (context) =>
    context.body(await outside.wholeLog(), 200, {
      "content-type": "text/plain; charset=utf-8",
      "content-disposition": 'attachment; filename="cairn-log.txt"',
    }),
  );
}

function addChanges(app: Hono, outside: RecoveryOutside): void {
  /** Does it and says so, or shows the page with the reason why not. */
  const begin = async (context: Context, said: string, act: () => Promise<void>) => {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const problem = `It was not done: ${error.message}.`;
      const status = error.httpStatus as 400;
      return context.html(recoveryPage(await outside.facts(), problem), status);
    }
    return context.html(begunPage({ name: outside.name, said }));
  };
  app.post("/try-again", (context) =>
    begin(context, "Cairn is started again.", () => outside.startAgain()),
  );
  app.post("/reboot", (context) => begin(context, "The box restarts.", () => outside.reboot()));
  app.post("/use-slot", async (context) => {
    const version = await field(context, "version");
    const said = `The box restarts with version ${version}.`;
    return begin(context, said, () => outside.useSlot(version));
  });
  app.post("/reset", async (context) => {
    const level = await field(context, "level");
    const name = await field(context, "name");
    const said =
      level === "everything"
        ? "The box restarts and erases everything."
        : "The box restarts and forgets its settings.";
    return begin(context, said, async () => {
      if (level !== "settings" && level !== "everything") {
        throw new Fault("badRequest", "level is settings or everything");
      }
      if (name.trim() !== outside.name) {
        throw new Fault("badRequest", `the name typed is not ${outside.name}`);
      }
      await outside.reset(level);
    });
  });
}

async function field(context: Context, name: string): Promise<string> {
  const body = await context.req.parseBody();
  const value = body[name];
  return typeof value === "string" ? value : "";
}
