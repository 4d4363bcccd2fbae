// SPDX-License-Identifier: Apache-2.0
//
// The route that hands out a support bundle.

import { createRoute } from "@hono/zod-openapi";
import type { Backend } from "#appliance/backend.ts";
import { SupportBundleSchema } from "#appliance/support-bundle.ts";
import type { Api } from "./api.ts";
import { faults, json } from "./routes.ts";

const supportRoute = createRoute({
  method: "get",
  path: "/api/v1/support-bundle",
  summary: "What this unit knows and what its control station decided lately, without secrets",
  responses: { 200: json(SupportBundleSchema, "the bundle"), ...faults },
});

export function addSupport(api: Api, backend: Backend): void {
  api.openapi(supportRoute, (context) => context.json(backend.supportBundle(), 200));
}
