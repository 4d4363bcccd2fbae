// SPDX-License-Identifier: Apache-2.0
//
// The routes about hosts and assignments, as the OpenAPI document shows them. What they do is in
// host-api.ts.

import { createRoute } from "@hono/zod-openapi";
import { HOST_PATH } from "./convention.ts";
import {
  AddHostSchema,
  AskVolumeSchema,
  AssignmentPathSchema,
  CertificatePathSchema,
  ChangeHostSchema,
  HostPathSchema,
  HostSchema,
  HostTokenSchema,
  HostsSchema,
  MadeCertificateSchema,
  OwnHostSchema,
  RefuseSchema,
  RequestPathSchema,
  RequestSchema,
  RequestsSchema,
} from "./host-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { CreateHeadersSchema, VolumeSchema } from "./schemas.ts";

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

export const makeCertificateRoute = createRoute({
  method: "post",
  path: "/api/v1/hosts/{host}/certificates",
  summary: "Issue a certificate for a host to show over TLS; with its key, told this once",
  request: { params: HostPathSchema },
  responses: { 201: json(MadeCertificateSchema, "issued"), ...faults },
});

export const revokeCertificateRoute = createRoute({
  method: "delete",
  path: "/api/v1/hosts/{host}/certificates/{fingerprint}",
  summary: "Revoke a host's certificate; what was attached by it ends at once",
  request: { params: CertificatePathSchema },
  responses: { 204: { description: "revoked" }, ...faults },
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
  summary: "Say where a host comes from, its name, or what it may have by asking for it",
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

export const makeTokenRoute = createRoute({
  method: "post",
  path: "/api/v1/hosts/{host}/token",
  summary: "Make a token for the host to ask with; the one before is void",
  request: { params: HostPathSchema },
  responses: { 201: json(HostTokenSchema, "made"), ...faults },
});

export const voidTokenRoute = createRoute({
  method: "delete",
  path: "/api/v1/hosts/{host}/token",
  summary: "Void the host's token",
  request: { params: HostPathSchema },
  responses: { 204: { description: "void" }, ...faults },
});

export const requestsRoute = createRoute({
  method: "get",
  path: "/api/v1/requests",
  summary: "What hosts asked for: waiting, and lately answered",
  responses: { 200: json(RequestsSchema, "requests, newest last"), ...faults },
});

export const grantRoute = createRoute({
  method: "post",
  path: "/api/v1/requests/{request}/grant",
  summary: "Grant a request, also beyond the quota; the answer comes when it can be attached",
  request: { params: RequestPathSchema },
  responses: { 200: json(RequestSchema, "granted"), ...faults },
});

export const refuseRoute = createRoute({
  method: "post",
  path: "/api/v1/requests/{request}/refuse",
  summary: "Refuse a request",
  request: { params: RequestPathSchema, body: body(RefuseSchema) },
  responses: { 200: json(RequestSchema, "refused"), ...faults },
});

export const ownHostRoute = createRoute({
  method: "get",
  path: HOST_PATH,
  summary: "For a host, by its own token: its volumes and where to attach, its requests",
  responses: { 200: json(OwnHostSchema, "the host whose token it is"), ...faults },
});

export const askVolumeRoute = createRoute({
  method: "post",
  path: `${HOST_PATH}/requests`,
  summary: "For a host, by its own token: ask for a volume",
  request: { headers: CreateHeadersSchema, body: body(AskVolumeSchema) },
  responses: {
    201: json(RequestSchema, "granted: it can be attached"),
    202: json(RequestSchema, "it waits for a person"),
    ...faults,
  },
});
