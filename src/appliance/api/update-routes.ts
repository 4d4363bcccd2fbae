// SPDX-License-Identifier: Apache-2.0
//
// The routes about updates and health, as the OpenAPI document shows them. What they do is in
// update-api.ts.

import { createRoute, z } from "@hono/zod-openapi";
import { body, faults, json } from "./routes.ts";
import {
  AutomaticUpdateSchema,
  BeginUploadSchema,
  HealthSchema,
  LoadUpdateSchema,
  StartAloneSchema,
  StartUpdateSchema,
  UPLOAD_PIECE_BYTES_MAX,
  UpdatePlanSchema,
  UpdateStatusSchema,
  UploadPathSchema,
  UploadQuerySchema,
  UploadStateSchema,
} from "./update-schemas.ts";
import { tried } from "./trial.ts";

const status = json(UpdateStatusSchema, "updates, as they stand then");

export const healthRoute = createRoute({
  method: "get",
  path: "/api/v1/health",
  summary: "Whether this version does its part here: what a slot on trial is blessed by",
  responses: { 200: json(HealthSchema, "healthy or not, and why"), ...faults },
});

export const updateStatusRoute = createRoute({
  method: "get",
  path: "/api/v1/update",
  summary: "Updates: this unit's slots and files, the cluster's update, every unit's version",
  responses: { 200: status, ...faults },
});

export const loadUpdateRoute = createRoute({
  method: "post",
  path: "/api/v1/update/load",
  summary: "Begin to load a signed update from a folder of the unit or a web server",
  request: { body: body(LoadUpdateSchema) },
  responses: { 202: status, ...faults },
});

export const beginUploadRoute = createRoute({
  method: "post",
  path: "/api/v1/update/upload",
  summary: "Begin to upload a signed update: its manifest and signature",
  request: { body: body(BeginUploadSchema) },
  responses: { 200: json(UploadStateSchema, "what the unit wants next"), ...faults },
});

export const uploadPieceRoute = createRoute({
  method: "put",
  path: "/api/v1/update/upload/{name}",
  summary: `Upload the next piece of a file, at most ${UPLOAD_PIECE_BYTES_MAX} bytes`,
  request: {
    params: UploadPathSchema,
    query: UploadQuerySchema,
    body: {
      content: { "application/octet-stream": { schema: z.string().openapi({ format: "binary" }) } },
      required: true,
    },
  },
  responses: { 200: json(UploadStateSchema, "what the unit wants next"), ...faults },
});

export const planUpdateRoute = createRoute({
  method: "post",
  path: "/api/v1/update/plan",
  summary: "What starting the loaded update would do; changes nothing",
  request: { body: body(StartUpdateSchema) },
  responses: { 200: json(UpdatePlanSchema, "order, consequences, refusals"), ...faults },
});

export const startUpdateRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/update/start",
    summary: "Start the loaded update: over the cluster, one unit at a time, or on units named",
    request: { body: body(StartUpdateSchema) },
    responses: { 202: status, ...faults },
  }),
);

export const stopUpdateRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/update/stop",
    summary: "Stop: no further unit is restarted",
    responses: { 200: status, ...faults },
  }),
);

export const startAloneRoute = createRoute({
  method: "post",
  path: "/api/v1/update/alone",
  summary: "Update this unit without asking its cluster: for one that cannot reach it",
  request: { body: body(StartAloneSchema) },
  responses: { 202: status, ...faults },
});

export const automaticUpdateRoute = tried(
  createRoute({
    method: "put",
    path: "/api/v1/update/automatic",
    summary: "Whether and when a loaded update starts by itself",
    request: { body: body(AutomaticUpdateSchema) },
    responses: { 200: status, ...faults },
  }),
);
