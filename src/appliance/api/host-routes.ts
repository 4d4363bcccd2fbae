// SPDX-License-Identifier: Apache-2.0
//
// The routes about hosts and assignments, as the OpenAPI document shows them. What they do is in
// host-api.ts.

import { createRoute } from "@hono/zod-openapi";
import {
  AddHostSchema,
  AssignmentPathSchema,
  ChangeHostSchema,
  HostPathSchema,
  HostSchema,
  HostsSchema,
} from "./host-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { VolumeSchema } from "./schemas.ts";

export const hostsRoute = createRoute({
  method: "get",
  path: "/api/v1/hosts",
  summary: "The hosts, what each is assigned, and what it has attached here",
  responses: { 200: json(HostsSchema, "all hosts"), ...faults },
});

export const hostRoute = createRoute({
  method: "get",
  path: "/api/v1/hosts/{host}",
  summary: "One host, by name or number",
  request: { params: HostPathSchema },
  responses: { 200: json(HostSchema, "the host"), ...faults },
});

export const addHostRoute = createRoute({
  method: "post",
  path: "/api/v1/hosts",
  summary: "Add a host; it sees nothing before a volume is assigned to it",
  request: { body: body(AddHostSchema) },
  responses: { 201: json(HostSchema, "added"), ...faults },
});

export const changeHostRoute = createRoute({
  method: "patch",
  path: "/api/v1/hosts/{host}",
  summary: "Say where a host comes from, or rename it; what is not its address any more is cut off",
  request: { params: HostPathSchema, body: body(ChangeHostSchema) },
  responses: { 200: json(HostSchema, "the host"), ...faults },
});

export const removeHostRoute = createRoute({
  method: "delete",
  path: "/api/v1/hosts/{host}",
  summary: "Remove a host; what it has attached ends at once, on every unit",
  request: { params: HostPathSchema },
  responses: { 204: { description: "removed" }, ...faults },
});

export const assignRoute = createRoute({
  method: "put",
  path: "/api/v1/volumes/{id}/hosts/{host}",
  summary: "Assign a volume to a host",
  request: { params: AssignmentPathSchema },
  responses: { 200: json(VolumeSchema, "the volume"), ...faults },
});

export const revokeRoute = createRoute({
  method: "delete",
  path: "/api/v1/volumes/{id}/hosts/{host}",
  summary: "Take a volume from a host; what it has attached ends at once, on every unit",
  request: { params: AssignmentPathSchema },
  responses: { 200: json(VolumeSchema, "the volume"), ...faults },
});
