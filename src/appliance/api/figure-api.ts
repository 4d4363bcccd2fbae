// SPDX-License-Identifier: Apache-2.0
//
// The routes about figures: what a unit sees of itself, a volume's last hour, what is copied in the
// whole cluster; and the lights that show which box or drive is meant.

import { createRoute, z } from "@hono/zod-openapi";
import { Fault } from "#base/fault.ts";
import type { Clock } from "#base/world.ts";
import { JOB_KINDS, type JobView, jobsOf } from "#appliance/jobs.ts";
import { ifAnswered } from "#appliance/console/reading.ts";
import type { Backend, UnitView } from "#appliance/backend.ts";
import { IoChartSchema, UnitFiguresSchema } from "#appliance/unit-figures.ts";
import type { CopyingView, VolumeChart } from "#appliance/unit-neighbours.ts";
import type { Api } from "./api.ts";
import { UnitPathSchema } from "./fleet-schemas.ts";
import { body, faults, json } from "./routes.ts";
import { DiskPathSchema, type Same, VolumePathSchema } from "./schemas.ts";
import { tried } from "./trial.ts";

const number = z.number().int().min(0);
const unitNumbers = z.array(number);

export const FiguresSchema = z.object(UnitFiguresSchema.shape).openapi("UnitFigures");
export const ChartSchema = z
  .object({
    chart: z.object(IoChartSchema.shape),
    from: unitNumbers.describe("units whose counts are in it"),
    missing: unitNumbers.describe("units that may have served it, and were not asked or answered"),
  })
  .openapi("VolumeChart");
export const CopyingSchema = z
  .object({
    resyncs: z.array(
      UnitFiguresSchema.shape.resyncs.element.extend({
        unit: number.describe("whose head copies"),
      }),
    ),
    missing: unitNumbers.describe("units that copy something and did not answer"),
  })
  .openapi("Copying");
const OnSchema = z.strictObject({ on: z.boolean().default(true) }).openapi("Light");

const figuresRoute = createRoute({
  method: "get",
  path: "/api/v1/units/{unit}/figures",
  summary: "What a unit sees of itself: load, memory, links, copying, drives",
  request: { params: UnitPathSchema },
  responses: { 200: json(FiguresSchema, "its figures, asked of it now"), ...faults },
});

const chartRoute = createRoute({
  method: "get",
  path: "/api/v1/volumes/{id}/chart",
  summary: "What hosts asked of a volume in the last hour, and how long it took",
  request: { params: VolumePathSchema },
  responses: { 200: json(ChartSchema, "counts in steps, oldest first"), ...faults },
});

const copyingRoute = createRoute({
  method: "get",
  path: "/api/v1/copying",
  summary: "Resyncs and rebuilds under way in the whole cluster, with the time they take",
  responses: { 200: json(CopyingSchema, "what is copied"), ...faults },
});

export const JobsSchema = z
  .object({
    jobs: z.array(
      z.object({
        id: z.string().describe("the same as long as it lasts"),
        kind: z.enum(JOB_KINDS),
        about: z.string(),
        percent: number.nullable(),
        leftMs: number.nullable().describe("at the pace so far; null: not known"),
        sentence: z.string(),
      }),
    ),
  })
  .openapi("Jobs");

const jobsRoute = createRoute({
  method: "get",
  path: "/api/v1/jobs",
  summary: "What takes a while: emptying, copying, scrubbing, deletions to come; with progress",
  responses: { 200: json(JobsSchema, "what is under way"), ...faults },
});

const lightDiskRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/disks/{disk}/locate",
    summary: "Switch the light at a disk's bay",
    request: { params: DiskPathSchema, body: body(OnSchema) },
    responses: { 204: { description: "switched" }, ...faults },
  }),
);

const searchUnitRoute = tried(
  createRoute({
    method: "post",
    path: "/api/v1/units/{unit}/locate",
    summary: "Have a unit's screen say that it is the one looked for, for 15 minutes",
    request: { params: UnitPathSchema, body: body(OnSchema) },
    responses: { 204: { description: "its screen says so" }, ...faults },
  }),
);

/** What takes a while now. */
export async function readJobs(backend: Backend, wallMs: number): Promise<JobView[]> {
  const copying = await ifAnswered(backend.neighbours.copying());
  const units = backend.units();
  const volumes = backend.volumes();
  return jobsOf({ units, disks: backend.disks(), volumes, copying, wallMs });
}

export function addFigures(api: Api, backend: Backend, clock: Pick<Clock, "wallMs">): void {
  const { neighbours } = backend;
  api.openapi(jobsRoute, async (context) =>
    context.json({ jobs: await readJobs(backend, clock.wallMs()) }, 200),
  );
  api.openapi(figuresRoute, async (context) => {
    const { unit } = unitNamed(backend, context.req.valid("param").unit);
    return context.json(await neighbours.figures(unit), 200);
  });
  api.openapi(chartRoute, async (context) => {
    const { volume } = backend.volume(context.req.valid("param").id);
    return context.json(await neighbours.chart(volume), 200);
  });
  api.openapi(copyingRoute, async (context) => context.json(await neighbours.copying(), 200));
  api.openapi(lightDiskRoute, async (context) => {
    const { on } = context.req.valid("json");
    await neighbours.lightDisk(Number(context.req.valid("param").disk), on);
    return context.body(null, 204);
  });
  api.openapi(searchUnitRoute, async (context) => {
    const { on } = context.req.valid("json");
    await neighbours.search(unitNamed(backend, context.req.valid("param").unit).unit, on);
    return context.body(null, 204);
  });
}

/** By name or number; a Fault notFound. */
export function unitNamed(backend: Backend, word: string): UnitView {
  const units = backend.units();
  const found =
    units.find((unit) => unit.name === word) ?? units.find((unit) => String(unit.unit) === word);
  if (found === undefined) throw new Fault("notFound", `there is no unit ${word}`);
  return found;
}

/** Compiles only while the answers' schemas say exactly what is answered. */
export const SCHEMAS_MATCH_FIGURES: [
  Same<z.infer<typeof ChartSchema>, VolumeChart>,
  Same<z.infer<typeof CopyingSchema>, CopyingView>,
  Same<z.infer<typeof JobsSchema>["jobs"][number], JobView>,
] = [true, true, true];
