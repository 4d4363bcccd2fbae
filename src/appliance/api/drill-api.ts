// SPDX-License-Identifier: Apache-2.0
//
// Routes about drills, and what they do.

import { createRoute } from "@hono/zod-openapi";
import type { z } from "@hono/zod-openapi";
import { Fault } from "#base/fault.ts";
import type { Drills } from "#appliance/drills.ts";
import type { Api } from "./api.ts";
import {
  DrillQuerySchema,
  DrillRequestSchema,
  DrillSchema,
  DrillStateSchema,
} from "./drill-schemas.ts";
import { body, faults, json } from "./routes.ts";

const drillRoute = createRoute({
  method: "get",
  path: "/api/v1/drill",
  summary: "What a drill would do, and what the last one of this unit saw; nothing is changed",
  request: { query: DrillQuerySchema },
  responses: { 200: json(DrillSchema, "plan and state"), ...faults },
});

const beginDrillRoute = createRoute({
  method: "post",
  path: "/api/v1/drill",
  summary: "Fail over a canary volume for real, and measure what a host would have noticed",
  request: { body: body(DrillRequestSchema) },
  responses: { 202: json(DrillStateSchema, "begun; look again for how far it is"), ...faults },
});

export function addDrills(api: Api, drills: Drills): void {
  api.openapi(drillRoute, (context) => {
    return context.json(drillView(drills, context.req.valid("query").unit), 200);
  });
  api.openapi(beginDrillRoute, (context) =>
    context.json(drills.begin(context.req.valid("json").unit), 202),
  );
}

/** A plan, or why there can be none. */
export function drillView(drills: Drills, unit?: string): z.infer<typeof DrillSchema> {
  const state = drills.state();
  try {
    return { plan: drills.plan(unit), refusal: null, state };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return { plan: null, refusal: error.message, state };
  }
}
