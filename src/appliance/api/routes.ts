// SPDX-License-Identifier: Apache-2.0
//
// The routes of the REST API as the OpenAPI document shows them: path, what they take, what they
// answer. What they do is in api.ts.

import { createRoute, z } from "@hono/zod-openapi";
import { CLAIM_PATH } from "./convention.ts";
import {
  AuthoritySchema,
  ChangeSettingsSchema,
  ChangeVolumeSchema,
  ClaimSchema,
  ClaimedSchema,
  CreateHeadersSchema,
  CreateQuerySchema,
  CreateVolumeSchema,
  DeleteQuerySchema,
  DiskPathSchema,
  DisksSchema,
  EventsQuerySchema,
  EventsSchema,
  GrowVolumeSchema,
  FaultSchema,
  KeptPathSchema,
  RecoverySchema,
  ScrubDiskSchema,
  SettingsSchema,
  UnitStatusSchema,
  UnitsSchema,
  VolumePathSchema,
  VolumeSchema,
  VolumesSchema,
} from "./schemas.ts";
import { tried } from "./trial.ts";

export function json<S extends z.ZodType>(schema: S, description: string) {
  return { content: { "application/json": { schema } }, description };
}

function text(mediaType: string, description: string) {
  return { content: { [mediaType]: { schema: z.string() } }, description };
}

export const body = <S extends z.ZodType>(schema: S) => ({
  content: { "application/json": { schema } },
  required: true,
});

/** Every route may answer a fault; the status follows from its code. */
export const faults = { default: json(FaultSchema, "a fault") };

export const statusRoute = createRoute({
  method: "get",
  path: "/api/v1/status",
  summary: "What this unit is, and what it is doing or waiting for",
  responses: { 200: json(UnitStatusSchema, "this unit"), ...faults },
});

export const unitsRoute = createRoute({
  method: "get",
  path: "/api/v1/units",
  summary: "The units of the cluster",
  responses: { 200: json(UnitsSchema, "all units"), ...faults },
});

export const disksRoute = createRoute({
  method: "get",
  path: "/api/v1/disks",
  summary: "The cluster's disks, those left alone with the reason, and the slices on each",
  responses: { 200: json(DisksSchema, "all disks"), ...faults },
});

export const scrubDiskRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/disks/{disk}/scrub",
    summary: "Read a disk through at once, and heal what is wrong; a running scrub goes on",
    request: { params: DiskPathSchema, body: body(ScrubDiskSchema) },
    responses: { 202: { description: "asked for" }, ...faults },
  }),
);

export const retireDiskRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/disks/{disk}/retire",
    summary: "Make a disk's copies anew on other disks, then take it out of use",
    request: { params: DiskPathSchema },
    responses: { 202: { description: "begun; the disk says how far it is" }, ...faults },
  }),
);

export const returnDiskRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/disks/{disk}/return",
    summary: "Use a disk again that is being retired, failed, or was taken out and put back",
    request: { params: DiskPathSchema },
    responses: { 202: { description: "asked for; a failed disk is opened anew" }, ...faults },
  }),
);

export const volumesRoute = createRoute({
  method: "get",
  path: "/api/v1/volumes",
  summary: "The volumes",
  responses: { 200: json(VolumesSchema, "all volumes"), ...faults },
});

export const volumeRoute = createRoute({
  method: "get",
  path: "/api/v1/volumes/{id}",
  summary: "One volume, by name or number",
  request: { params: VolumePathSchema },
  responses: { 200: json(VolumeSchema, "the volume"), ...faults },
});

export const createVolumeRoute = createRoute({
  method: "post",
  path: "/api/v1/volumes",
  summary: "Create a volume; the answer comes when it can be attached",
  request: {
    query: CreateQuerySchema,
    headers: CreateHeadersSchema,
    body: body(CreateVolumeSchema),
  },
  responses: {
    200: json(VolumeSchema, "dry run: the volume as it would be"),
    201: json(VolumeSchema, "created"),
    ...faults,
  },
});

export const growVolumeRoute = createRoute({
  method: "post",
  path: "/api/v1/volumes/{id}/grow",
  summary:
    "Make a volume larger; the answer comes when hosts that attach here anew see it. " +
    "Asked again for the size that it has: nothing is done",
  request: {
    params: VolumePathSchema,
    query: CreateQuerySchema,
    headers: CreateHeadersSchema,
    body: body(GrowVolumeSchema),
  },
  responses: { 200: json(VolumeSchema, "the volume; dry run: as it would be"), ...faults },
});

export const deleteVolumeRoute = tried(
  createRoute({
    method: "delete",
    path: "/api/v1/volumes/{id}",
    summary: "Delete a volume and all that is on it, at once or after a grace",
    request: { params: VolumePathSchema, query: DeleteQuerySchema },
    responses: { 204: { description: "deleted" }, ...faults },
  }),
);

export const restoreVolumeRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/volumes/{id}/restore",
    summary: "Take a deleted volume back within its grace, with its hosts",
    request: { params: VolumePathSchema },
    responses: { 200: json(VolumeSchema, "the volume"), ...faults },
  }),
);

export const acceptVolumeRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/volumes/{id}/accept",
    summary:
      "After a restore of the control state: go on with what the disks that answered hold; " +
      "writes that only missing disks hold are lost",
    request: { params: VolumePathSchema },
    responses: { 200: json(VolumeSchema, "the volume"), ...faults },
  }),
);

export const changeVolumeRoute = tried(
  createRoute({
    method: "patch",
    path: "/api/v1/volumes/{id}",
    summary: "Say whether hosts attach without TLS, over it, or either way; or rename it",
    request: { params: VolumePathSchema, body: body(ChangeVolumeSchema) },
    responses: { 200: json(VolumeSchema, "the volume"), ...faults },
  }),
);

export const goOnRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/volumes/{id}/go-on",
    summary:
      "Have a volume that stands still go on without the copy that is missing, which is kept",
    request: { params: VolumePathSchema },
    responses: { 200: json(VolumeSchema, "the volume"), ...faults },
  }),
);

export const discardCopyRoute = tried(
  createRoute({
    method: "delete",
    path: "/api/v1/volumes/{id}/kept/{number}",
    summary: "Give up what is kept of a volume from before it went on without a copy: it is gone",
    request: { params: KeptPathSchema },
    responses: { 204: { description: "given up" }, ...faults },
  }),
);

export const claimRoute = tried(
  createRoute({
    method: "post",
    path: CLAIM_PATH,
    summary: "Claim the cluster: with its code without a token, five wrong ones a minute",
    request: { body: body(ClaimSchema) },
    responses: { 201: json(ClaimedSchema, "claimed"), ...faults },
  }),
);

export const settingsRoute = createRoute({
  method: "get",
  path: "/api/v1/settings",
  summary: "The cluster's settings",
  responses: { 200: json(SettingsSchema, "the settings"), ...faults },
});

export const changeSettingsRoute = tried(
  createRoute({
    method: "patch",
    path: "/api/v1/settings",
    summary: "Change settings of the cluster; those not named stay",
    request: { body: body(ChangeSettingsSchema) },
    responses: { 200: json(SettingsSchema, "the settings"), ...faults },
  }),
);

export const authorityRoute = createRoute({
  method: "get",
  path: "/api/v1/authority",
  summary: "The cluster's own authority, whose certificates its units show over HTTPS",
  responses: { 200: json(AuthoritySchema, "its certificate and fingerprint"), ...faults },
});

export const eventsRoute = createRoute({
  method: "get",
  path: "/api/v1/events",
  summary: "Events, newest last",
  request: { query: EventsQuerySchema },
  responses: { 200: json(EventsSchema, "events"), ...faults },
});

export const eventStreamRoute = createRoute({
  method: "get",
  path: "/api/v1/events/stream",
  summary: "Events as they happen, as server-sent events; Last-Event-ID is understood",
  request: { query: EventsQuerySchema.pick({ since: true }) },
  responses: { 200: text("text/event-stream", "events"), ...faults },
});

export const recoveryRoute = createRoute({
  method: "get",
  path: "/api/v1/recovery",
  summary: "Resyncs and rebuilds under way on this unit",
  responses: { 200: json(RecoverySchema, "recovery"), ...faults },
});

export const openApiRoute = createRoute({
  method: "get",
  path: "/api/v1/openapi.json",
  summary: "This document",
  responses: {
    200: json(z.looseObject({ openapi: z.string() }), "OpenAPI 3.1"),
    ...faults,
  },
});

export const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  summary: "Metrics for Prometheus",
  responses: { 200: text("text/plain", "text exposition format"), ...faults },
});
