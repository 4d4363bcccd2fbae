// SPDX-License-Identifier: Apache-2.0
//
// Routes about units that are to go, and about what a loss would mean. What they do: fleet-api.ts.

import { createRoute } from "@hono/zod-openapi";
import {
  EvacuateSchema,
  MoveSchema,
  LossesSchema,
  MaintainSchema,
  QuestionsSchema,
  RemoveQuerySchema,
  ReplaceSchema,
  UnitPathSchema,
  WhatIfQuerySchema,
  WhatIfSchema,
} from "./fleet-schemas.ts";
import { body, faults, json } from "./routes.ts";

export const whatIfRoute = createRoute({
  method: "get",
  path: "/api/v1/what-if",
  summary: "What the loss of a unit, a disk or a link would mean now; nothing is changed",
  request: { query: WhatIfQuerySchema },
  responses: { 200: json(WhatIfSchema, "what would happen"), ...faults },
});

export const lossesRoute = createRoute({
  method: "get",
  path: "/api/v1/losses",
  summary: "For each unit, what would be lost or stop if it failed now",
  responses: { 200: json(LossesSchema, "a row per unit"), ...faults },
});

export const questionsRoute = createRoute({
  method: "get",
  path: "/api/v1/questions",
  summary: "What the owner must decide now, with what each answer loses; the worst first",
  responses: { 200: json(QuestionsSchema, "open questions"), ...faults },
});

export const evacuateUnitRoute = createRoute({
  method: "post",
  path: "/api/v1/units/{unit}/evacuate",
  summary: "Move what a unit holds, heads and votes for to other units, while it serves",
  request: { params: UnitPathSchema, body: body(EvacuateSchema) },
  responses: {
    200: json(WhatIfSchema, "dry run: what it comes to"),
    202: json(WhatIfSchema, "begun; the unit says how far it is"),
    ...faults,
  },
});

export const moveUnitRoute = createRoute({
  method: "post",
  path: "/api/v1/units/{unit}/move",
  summary: "Put a unit into a pool, or make it a spare; one that holds slices is emptied first",
  request: { params: UnitPathSchema, body: body(MoveSchema) },
  responses: {
    200: json(WhatIfSchema, "dry run: what emptying it comes to"),
    202: json(WhatIfSchema, "moved, or begun; the unit says how far it is"),
    ...faults,
  },
});

export const maintainUnitRoute = createRoute({
  method: "post",
  path: "/api/v1/units/{unit}/maintenance",
  summary: "Take a unit out for work: others head its slices, its copies are waited for",
  request: { params: UnitPathSchema, body: body(MaintainSchema) },
  responses: {
    200: json(WhatIfSchema, "dry run: what its absence comes to"),
    202: json(WhatIfSchema, "begun; the unit says when it may be switched off"),
    ...faults,
  },
});

export const endMaintenanceRoute = createRoute({
  method: "delete",
  path: "/api/v1/units/{unit}/maintenance",
  summary: "End a unit's maintenance",
  request: { params: UnitPathSchema },
  responses: { 204: { description: "ended" }, ...faults },
});

export const keepUnitRoute = createRoute({
  method: "post",
  path: "/api/v1/units/{unit}/keep",
  summary: "Take an evacuation back, or a move that waits for one",
  request: { params: UnitPathSchema },
  responses: { 204: { description: "it stays" }, ...faults },
});

export const replaceUnitRoute = createRoute({
  method: "post",
  path: "/api/v1/units/{unit}/replace",
  summary: "Have another unit take its place; then it is evacuated and removed",
  request: { params: UnitPathSchema, body: body(ReplaceSchema) },
  responses: { 202: json(WhatIfSchema, "begun; the unit says how far it is"), ...faults },
});

export const removeUnitRoute = createRoute({
  method: "delete",
  path: "/api/v1/units/{unit}",
  summary: "Remove a unit; refused with the reason while it would cost protection",
  request: { params: UnitPathSchema, query: RemoveQuerySchema },
  responses: { 204: { description: "removed" }, ...faults },
});
