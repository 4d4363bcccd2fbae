// SPDX-License-Identifier: Apache-2.0
//
// Routes about the control state itself: its backups, and its restore.

import { createRoute } from "@hono/zod-openapi";
import { Fault } from "#base/fault.ts";
import type { ControlBackend } from "#appliance/control-desk.ts";
import type { Api } from "./api.ts";
import {
  BackupFileSchema,
  BackupPathSchema,
  BackupsSchema,
  KeptBackupSchema,
  RebuildRequestSchema,
  RebuildSchema,
  RestoreRequestSchema,
  RestoreSchema,
  SettleSchema,
} from "./control-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { tried } from "./trial.ts";

const backupsRoute = createRoute({
  method: "get",
  path: "/api/v1/control/backups",
  summary: "Backups of the control state: on this unit, and when each unit last kept one",
  responses: { 200: json(BackupsSchema, "backups"), ...faults },
});

const takeBackupRoute = createRoute({
  method: "post",
  path: "/api/v1/control/backups",
  summary: "Take a backup of the control state now, and keep it on this unit",
  responses: { 201: json(KeptBackupSchema, "the backup"), ...faults },
});

const readBackupRoute = createRoute({
  method: "get",
  path: "/api/v1/control/backups/{name}",
  summary: "A backup that is kept on this unit; it opens with the cluster's join secret alone",
  request: { params: BackupPathSchema },
  responses: { 200: json(BackupFileSchema, "the backup"), ...faults },
});

const restoreRoute = createRoute({
  method: "post",
  path: "/api/v1/control/restore",
  summary:
    "Begin a new control store on this unit from a backup, when a majority of the voters is " +
    "gone for good; refused while the control store answers",
  request: { body: body(RestoreRequestSchema) },
  responses: {
    200: json(RestoreSchema, "dry run: what it would do"),
    202: json(RestoreSchema, "begun: the unit starts anew"),
    ...faults,
  },
});

const rebuildRoute = createRoute({
  method: "post",
  path: "/api/v1/control/rebuild",
  summary:
    "Begin a new control store on this unit without a backup, from what it remembers and what " +
    "disks hold, when a majority of the voters is gone for good; refused while one answers",
  request: { body: body(RebuildRequestSchema) },
  responses: {
    200: json(RebuildSchema, "dry run: what it would do"),
    202: json(RebuildSchema, "begun: the unit starts anew"),
    ...faults,
  },
});

const settleRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/control/settle",
    summary:
      "After a rebuild: all disks are there that are left; volumes go on by what these have told",
    responses: { 200: json(SettleSchema, "settled"), ...faults },
  }),
);

export function addControl(api: Api, control: ControlBackend): void {
  api.openapi(backupsRoute, (context) => context.json(control.backups(), 200));
  api.openapi(takeBackupRoute, async (context) => context.json(await control.takeBackup(), 201));
  api.openapi(readBackupRoute, (context) => {
    const { name } = context.req.valid("param");
    return context.json({ name, base64: control.readBackup(name).toBase64() }, 200);
  });
  api.openapi(restoreRoute, (context) => {
    const request = context.req.valid("json");
    const { env } = context as { env?: { asker?: unknown } };
    if (request.file !== undefined && env?.asker !== "local") {
      throw new Fault("forbidden", "a file is named on the unit's own machine only");
    }
    const answer = control.restore(request);
    return request.dryRun ? context.json(answer, 200) : context.json(answer, 202);
  });
  api.openapi(rebuildRoute, (context) => {
    const request = context.req.valid("json");
    const answer = control.rebuild(request);
    return request.dryRun ? context.json(answer, 200) : context.json(answer, 202);
  });
  api.openapi(settleRoute, async (context) => context.json(await control.settle(), 200));
}
