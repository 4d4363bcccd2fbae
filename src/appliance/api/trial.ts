// SPDX-License-Identifier: Apache-2.0
//
// Routes that can be tried: with `dryRun=true` in the query they answer what would be done, or
// refuse what would be refused, and change nothing (dry-run.ts). Of all others a dry run is
// refused, before anything is done.

import { type RouteConfig, z } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import { Fault } from "#base/fault.ts";
import { type DryRunEnd, runDry } from "#appliance/dry-run.ts";
import { DryRunSchema } from "./schemas.ts";

const word = z
  .enum(["true", "false"])
  .default("false")
  .openapi({ description: "true: say what would be done, change nothing" });

/** Method and path as hono has them, of every route that can be tried. */
const triable = new Set<string>();

/** The same route, with a dry run. */
export function tried<R extends RouteConfig & { getRoutingPath(): string }>(route: R): R {
  const { request, responses } = route as RouteConfig;
  const query = (request?.query ?? z.object({})) as z.ZodObject;
  const known = responses["200"] as
    { content?: Record<string, { schema: z.ZodType }>; description: string } | undefined;
  const own = known?.content?.["application/json"]?.schema;
  const schema = own === undefined ? DryRunSchema : z.union([own, DryRunSchema]);
  const said = "dry run: what would be done";
  const description = known === undefined ? said : `${known.description}; ${said}`;
  Object.assign(route, {
    request: { ...request, query: query.extend({ dryRun: word }) },
    responses: {
      ...responses,
      200: { description, content: { "application/json": { schema } } },
    },
  });
  triable.add(`${route.method.toUpperCase()} ${route.getRoutingPath()}`);
  return route;
}

/** Before every route: what is tried does not get past the point where it would be done. */
export function trials(ownWay: ReadonlySet<string>): MiddlewareHandler {
  return async (context, next) => {
    const { method } = context.req;
    const isAsked = context.req.query("dryRun") === "true";
    if (!isAsked || method === "GET" || method === "HEAD") return next();
    const names = matchedRoutes(context).map((route) => `${route.method} ${route.path}`);
    if (names.some((name) => ownWay.has(name))) return next();
    if (!names.some((name) => triable.has(name))) {
      throw new Fault("badRequest", "this cannot be tried: leave dryRun out");
    }
    await runDry(async () => next());
    if (context.error === undefined && context.res.ok) {
      throw new Fault("internal", "a dry run that did not end where it should");
    }
  };
}

export function dryRunAnswer(context: Context, { sentences }: DryRunEnd): Response {
  return context.json({ dryRun: true, sentences }, 200);
}
