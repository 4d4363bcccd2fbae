// SPDX-License-Identifier: Apache-2.0
//
// What each role may do, decided here alone, before any route of API or pages is reached; and in
// whose name it is done from there on.
//
// Invariants
// - Whatever is no GET or HEAD changes something, and needs an administrator. A route that is added
//   is under this rule without saying so; those that are not are listed below.
// - A page acts by its session and nothing else, whatever token a request shows beside it.

import type { Context, MiddlewareHandler } from "hono";
import { Fault } from "#base/fault.ts";
import type { Asker, Backend, Known } from "#appliance/backend.ts";
import { isConsolePath } from "#appliance/console/paths.ts";
import { type Sessions, signedIn } from "#appliance/console/sessions.ts";
import type { ActorScope } from "#machine/actor-scope.ts";
import type { Asking } from "./api.ts";
import { CLAIM_PATH, HOST_PATH } from "./convention.ts";

/** Open to everybody: they bring a proof of their own, or end or change what is one's own. */
const BY_PROOF: readonly string[] = [CLAIM_PATH, "/claim", "/login", "/logout", "/account"];

export interface RoleParts {
  sessions: Sessions;
  actors: Pick<ActorScope, "run">;
}

type Env = { Bindings: Asking };

export function byRole(backend: Backend, parts: RoleParts): MiddlewareHandler<Env> {
  return async (context, next) => {
    if (isReading(context.req)) return next();
    const who = whoAsks(context, backend, parts.sessions);
    const fault = changeFault(context.req.path, who);
    if (fault !== null) throw fault;
    await parts.actors.run(who?.actor ?? null, next);
  };
}

export function isReading({ method }: { method: string }): boolean {
  return method === "GET" || method === "HEAD";
}

/** Somebody known, or a host under its own path. */
interface Who {
  role: Known["role"] | "host";
  actor: string;
}

function whoAsks(context: Context<Env>, backend: Backend, sessions: Sessions): Who | null {
  if (isConsolePath(context.req.path)) return signedIn(sessions, context.req.raw);
  const asker = askerOf(context.env as Partial<Asking> | undefined);
  if (asker === "anybody") return null;
  if (typeof asker === "string" || !("host" in asker)) return knownOf(asker, backend.status().name);
  return { role: "host", actor: `host ${backend.hosts.one(String(asker.host)).name}` };
}

/** Who it is by name; a Fault unauthorised: nobody that is known. */
export function knownOf(asker: Asker, unitName: string): Known {
  if (asker === "local") return { role: "admin", actor: `root on ${unitName}` };
  if (typeof asker === "object" && "role" in asker) return asker;
  throw new Fault("unauthorised", "no token was shown");
}

/** Whoever is not known to be more is anybody. */
export function askerOf(env: Partial<Asking> | undefined): Asker {
  return env?.asker ?? "anybody";
}

/** Why somebody may not change what this path changes, or null. */
function changeFault(path: string, who: Who | null): Fault | null {
  if (who?.role === "admin" || BY_PROOF.includes(path)) return null;
  // The pages lead to the way in whoever is not signed in.
  if (who === null) {
    return isConsolePath(path) ? null : new Fault("unauthorised", "no token was shown");
  }
  if (who.role === "host") {
    const isOwn = path === HOST_PATH || path.startsWith(`${HOST_PATH}/`);
    return isOwn ? null : new Fault("forbidden", `a host's token opens ${HOST_PATH} alone`);
  }
  return new Fault(
    "adminOnly",
    `${who.actor} is a viewer, who sees everything and changes nothing`,
  );
}
