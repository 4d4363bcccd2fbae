// SPDX-License-Identifier: Apache-2.0
//
// Routes about a unit's box: its network, tried before it is kept, its clock, and a disk of it that
// is used although something is on it.

import { createRoute, z } from "@hono/zod-openapi";
import type { Backend } from "#appliance/backend.ts";
import { BoxSchema as BoxShape, wallSchema } from "#appliance/box-view.ts";
import { networkSchema } from "#appliance/network-settings.ts";
import type { Api } from "./api.ts";
import { unitNamed } from "./figure-api.ts";
import { UnitPathSchema } from "./fleet-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { tried } from "./trial.ts";

export const BoxSchema = z.object(BoxShape.shape).openapi("Box");
const NetworkSchema = z
  .strictObject({
    network: networkSchema.describe("fixed addresses, by card; cards not named take DHCP"),
  })
  .openapi("SetNetwork");
const ClockSchema = z.strictObject({ wallMs: wallSchema }).openapi("SetClock");

const EraseSchema = z
  .strictObject({
    path: z.string().min(1).max(4096).describe("as the unit's list of disks has it"),
    erase: z.literal(true).describe("all that is on the disk is lost: said on purpose"),
  })
  .openapi("ClaimDisk");

const eraseRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/units/{unit}/claim-disk",
    summary: "Erase a disk that was left alone because something is on it, and use it",
    request: { params: UnitPathSchema, body: body(EraseSchema) },
    responses: { 202: { description: "erased; it comes into use by itself" }, ...faults },
  }),
);

const boxRoute = createRoute({
  method: "get",
  path: "/api/v1/units/{unit}/box",
  summary: "A unit's network cards and addresses, what is fixed of them, and its clock",
  request: { params: UnitPathSchema },
  responses: { 200: json(BoxSchema, "asked of it now"), ...faults },
});

const networkRoute = tried(
  createRoute({
    method: "put",
    path: "/api/v1/units/{unit}/network",
    summary: "Try other fixed addresses: taken back after two minutes, unless they are kept",
    request: { params: UnitPathSchema, body: body(NetworkSchema) },
    responses: { 202: json(BoxSchema, "it changes two seconds from now"), ...faults },
  }),
);

const keepRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/units/{unit}/network/keep",
    summary: "Keep the network that is tried, after restarts too",
    request: { params: UnitPathSchema },
    responses: { 200: json(BoxSchema, "kept"), ...faults },
  }),
);

const undoRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/units/{unit}/network/undo",
    summary: "Take back the network that is tried",
    request: { params: UnitPathSchema },
    responses: { 200: json(BoxSchema, "as before"), ...faults },
  }),
);

const clockRoute = tried(
  createRoute({
    method: "put",
    path: "/api/v1/units/{unit}/clock",
    summary: "Set a box's clock by hand; refused while a time server keeps it right",
    request: { params: UnitPathSchema, body: body(ClockSchema) },
    responses: { 200: json(BoxSchema, "set"), ...faults },
  }),
);

export function addBoxes(api: Api, backend: Backend): void {
  const { neighbours } = backend;
  api.openapi(eraseRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    await neighbours.eraseDisk(unit, context.req.valid("json").path);
    return context.body(null, 202);
  });
  api.openapi(boxRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    return context.json(await neighbours.box(unit), 200);
  });
  api.openapi(networkRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    const { network } = context.req.valid("json");
    return context.json(await neighbours.tryNetwork(unit, network), 202);
  });
  api.openapi(keepRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    return context.json(await neighbours.endTrial(unit, { keep: true }), 200);
  });
  api.openapi(undoRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    return context.json(await neighbours.endTrial(unit, { keep: false }), 200);
  });
  api.openapi(clockRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    return context.json(await neighbours.setClock(unit, context.req.valid("json").wallMs), 200);
  });
}
