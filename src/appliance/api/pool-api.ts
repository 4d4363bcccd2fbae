// SPDX-License-Identifier: Apache-2.0
//
// The routes about pools: their shapes, and what they do. Units are moved by fleet-routes.ts.

import { createRoute, z } from "@hono/zod-openapi";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import type { Backend } from "#appliance/backend.ts";
import type { PoolView } from "#appliance/pools.ts";
import type { Api } from "./api.ts";
import { body, faults, json } from "./routes.ts";
import { type Same, reference } from "./schemas.ts";
import { tried } from "./trial.ts";

const number = z.number().int().min(0);

export const PoolSchema = z
  .object({
    name: z.string(),
    isFirst: z.boolean().describe("units join it, and who names no pool means it"),
    units: z.array(number).describe("its members"),
    spares: z.array(number).describe("spares of it alone; those for every pool are in none"),
    volumes: number,
    sizeBytes: number.describe("of its members' disks that take slices now"),
    freeBytes: number.describe("what of it is promised to no slice"),
    fits: z
      .array(
        z.object({
          protection: z.enum(Object.keys(layouts) as [Protection, ...Protection[]]),
          sizeBytes: number,
        }),
      )
      .describe("the largest volume that could be made now"),
  })
  .openapi("Pool");
export const PoolsSchema = z.object({ pools: z.array(PoolSchema) }).openapi("Pools");
export const CreatePoolSchema = z.strictObject({ name: nameSchema }).openapi("CreatePool");

const PoolPathSchema = z.object({ pool: reference("pool", "archive") });

const listRoute = createRoute({
  method: "get",
  path: "/api/v1/pools",
  summary: "The pools, with the room that each has",
  responses: { 200: json(PoolsSchema, "all pools"), ...faults },
});

const createPoolRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/pools",
    summary: "Create a pool; units are moved into it then",
    request: { body: body(CreatePoolSchema) },
    responses: { 201: json(PoolSchema, "created"), ...faults },
  }),
);

const deletePoolRoute = tried(
  createRoute({
    method: "delete",
    path: "/api/v1/pools/{pool}",
    summary: "Delete an empty pool; the first one stays",
    request: { params: PoolPathSchema },
    responses: { 204: { description: "deleted" }, ...faults },
  }),
);

export function addPools(api: Api, backend: Backend): void {
  const { pools } = backend;
  api.openapi(listRoute, (context) => context.json({ pools: pools.list() }, 200));
  api.openapi(createPoolRoute, async (context) => {
    const { name } = context.req.valid("json");
    return context.json(await pools.create(name), 201);
  });
  api.openapi(deletePoolRoute, async (context) => {
    await pools.remove(context.req.valid("param").pool);
    return context.body(null, 204);
  });
}

/** Compiles only while the answer's schema says exactly what is answered. */
export const SCHEMA_MATCHES_POOL: Same<z.infer<typeof PoolSchema>, PoolView> = true;
