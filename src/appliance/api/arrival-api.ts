// SPDX-License-Identifier: Apache-2.0
//
// Routes about units that come in by their owner's word, and what they do.

import { createRoute } from "@hono/zod-openapi";
import type { Backend } from "#appliance/backend.ts";
import type { Api } from "./api.ts";
import {
  AdmitSchema,
  ArrivalsSchema,
  OpenWindowSchema,
  WaitingSchema,
  WindowSchema,
} from "./arrival-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { tried } from "./trial.ts";

const arrivalsRoute = createRoute({
  method: "get",
  path: "/api/v1/arrivals",
  summary: "Units that wait without a join secret, and whether whatever asks is let in",
  responses: { 200: json(ArrivalsSchema, "as this unit hears them"), ...faults },
});

const admitRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/arrivals/admit",
    summary: "Give the join secret to the waiting unit with these words; compare them first",
    request: { body: body(AdmitSchema) },
    responses: { 202: json(WaitingSchema, "it has the secret and joins by itself"), ...faults },
  }),
);

const openWindowRoute = tried(
  createRoute({
    method: "put",
    path: "/api/v1/arrivals/window",
    summary: "Give the join secret to whatever waits or comes within a while",
    request: { body: body(OpenWindowSchema) },
    responses: { 200: json(WindowSchema, "open at this unit"), ...faults },
  }),
);

const closeWindowRoute = tried(
  createRoute({
    method: "delete",
    path: "/api/v1/arrivals/window",
    summary: "Close the window of this unit",
    responses: { 204: { description: "closed" }, ...faults },
  }),
);

const renewRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/renew",
    summary: "Make this unit new after it was removed from its cluster: it joins as another one",
    responses: { 202: { description: "it begins anew" }, ...faults },
  }),
);

export function addArrivals(api: Api, { arrivals }: Backend): void {
  api.openapi(arrivalsRoute, (context) => context.json(arrivals.list(), 200));
  api.openapi(admitRoute, async (context) => {
    return context.json(await arrivals.admit(context.req.valid("json").words), 202);
  });
  api.openapi(openWindowRoute, async (context) => {
    return context.json(await arrivals.openWindow(context.req.valid("json")), 200);
  });
  api.openapi(closeWindowRoute, async (context) => {
    await arrivals.closeWindow();
    return context.body(null, 204);
  });
  api.openapi(renewRoute, (context) => {
    arrivals.renew();
    return context.body(null, 202);
  });
}
