// SPDX-License-Identifier: Apache-2.0
//
// The REST API of a unit (design section 9) over a Backend: the same through every unit, used by
// CLI and page alike. It serves nothing by itself and knows no socket; serve.ts does that, and who
// may ask.
//
// Invariants
// - Every failure is a Fault with its table's status; nothing else about our insides gets out.
// - Every answer says how old the unit's knowledge of the cluster is.
// - What a client can make us hold is bounded: body, idempotency keys, event streams.

import { OpenAPIHono } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { Fault } from "#base/fault.ts";
import type { Log, Timers, World } from "#base/world.ts";
import type { Asker, Backend, UnitStatus, VolumeView } from "#appliance/backend.ts";
import { type Console, createConsole } from "#appliance/console/console.tsx";
import { isConsolePath } from "#appliance/console/paths.ts";
import type { Credentials } from "#appliance/console/credentials.ts";
import type { Sessions } from "#appliance/console/sessions.ts";
import { DryRunEnd } from "#appliance/dry-run.ts";
import { VERSION } from "#appliance/version.ts";
import type { ActorScope } from "#machine/actor-scope.ts";
import { BODY_BYTES_MAX, STALE_HEADER } from "./convention.ts";
import { eventStream, STREAMS_MAX } from "./event-stream.ts";
import { faultOf, faultResponse } from "./fault-answer.ts";
import { addControl } from "./control-api.ts";
import { addDrills } from "./drill-api.ts";
import { addArrivals } from "./arrival-api.ts";
import { addBoxes } from "./box-api.ts";
import { addFigures } from "./figure-api.ts";
import { addFleet } from "./fleet-api.ts";
import { addHosts } from "./host-api.ts";
import { AnswersByKey } from "./idempotency.ts";
import { addPools } from "./pool-api.ts";
import { METRICS_CONTENT_TYPE, metricsText } from "./prometheus.ts";
import * as routes from "./routes.ts";
import { askerOf, byRole } from "./roles.ts";
import { addSupport } from "./support-api.ts";
import { dryRunAnswer, trials } from "./trial.ts";
import { addUpdates } from "./update-api.ts";
import { addUsers } from "./user-api.ts";

/** Routes that have a dry run with an answer of its own. */
const TRIED_BY_THEMSELVES: ReadonlySet<string> = new Set([
  "POST /api/v1/volumes",
  "POST /api/v1/volumes/:id/grow",
]);

export interface ApiOptions {
  world: Pick<World, "clock" | "log">;
  timers: Timers;
  /** Of people at the pages. */
  sessions: Sessions;
  credentials: Credentials;
  /** For whom this unit acts. */
  actors: Pick<ActorScope, "run">;
}

/** What serve.ts knows of a request. */
export interface Asking {
  asker: Asker;
  /** The peer's address; empty on the unix socket. */
  from: string;
  /** Whether who asks may still ask: what goes on for long looks again. Not said: it may. */
  holds?(): boolean;
}

export type Api = OpenAPIHono<{ Bindings: Asking }>;

export function createApi(backend: Backend, options: ApiOptions): Api {
  const api: Api = new OpenAPIHono({
    defaultHook: (result) => {
      if (!result.success) throw requestFault(result.target, result.error.issues[0]);
    },
  });
  addEdges(api, backend);
  api.use(byRole(backend, options));
  addReading(api, backend);
  addDiskChanges(api, backend);
  addSettings(api, backend);
  addVolumeChanges(api, backend);
  addHosts(api, backend);
  addClaim(api, backend);
  addUpdates(api, backend);
  addFleet(api, backend);
  addDrills(api, backend.drills);
  addControl(api, backend.control);
  addPools(api, backend);
  addArrivals(api, backend);
  addSupport(api, backend);
  addFigures(api, backend, options.world.clock);
  addBoxes(api, backend);
  addUsers(api, backend.users, () => backend.status().name);
  addEventStream(api, backend, options.timers);
  addDocuments(api, backend);
  const pages = createConsole(backend, options);
  addRefusals(api, pages, options.world.log);
  api.route("/", pages.app);
  return api;
}

/** What holds for every request: size, age, headers, faults. */
function addEdges(api: Api, backend: Backend): void {
  api.use(async (context, next) => {
    await next();
    context.header(STALE_HEADER, String(Math.round(backend.status().staleMs)));
    context.header("x-content-type-options", "nosniff");
    const { headers } = context.res;
    // The pages say for themselves.
    if (!headers.has("cache-control")) context.header("cache-control", "no-store");
    if (!headers.has("referrer-policy")) context.header("referrer-policy", "no-referrer");
  });
  api.use(
    bodyLimit({
      maxSize: BODY_BYTES_MAX,
      onError: () => {
        throw new Fault("tooLarge", `a request's body is at most ${BODY_BYTES_MAX} bytes`);
      },
    }),
  );
  api.use("/api/v1/*", trials(TRIED_BY_THEMSELVES));
}

/** What is refused before a page is reached is a page all the same. */
function addRefusals(api: Api, { refuse }: Console, log: Log): void {
  api.onError((error, context) => {
    if (error instanceof DryRunEnd) return dryRunAnswer(context, error);
    if (isConsolePath(context.req.path)) return refuse(error, context);
    return faultResponse(faultOf(error, log, `${context.req.method} ${context.req.path}`));
  });
  api.notFound((context) => {
    const asked = `no ${context.req.method} ${context.req.path.slice(0, 200)}`;
    if (isConsolePath(context.req.path)) return refuse(new Fault("notFound", asked), context);
    const { path } = routes.openApiRoute;
    return faultResponse(new Fault("notFound", `${asked}; ${path} lists what there is`));
  });
}

function requestFault(
  target: string,
  issue: { path: readonly PropertyKey[]; message: string } | undefined,
): Fault {
  const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")} `;
  const part = target === "json" ? "body" : target;
  return new Fault("badRequest", `${part}: ${where}${issue?.message ?? "cannot be used"}`);
}

function addReading(api: Api, backend: Backend): void {
  api.openapi(routes.statusRoute, (context) =>
    context.json(statusFor(askerOf(context.env), backend.status()), 200),
  );
  api.openapi(routes.unitsRoute, (context) => context.json({ units: backend.units() }, 200));
  api.openapi(routes.disksRoute, (context) => context.json({ disks: backend.disks() }, 200));
  api.openapi(routes.volumesRoute, (context) => context.json({ volumes: backend.volumes() }, 200));
  api.openapi(routes.volumeRoute, (context) =>
    context.json(backend.volume(context.req.valid("param").id), 200),
  );
  api.openapi(routes.eventsRoute, (context) => {
    const { since, limit, actor } = context.req.valid("query");
    return context.json({ events: backend.events(Number(since), Number(limit), actor) }, 200);
  });
  api.openapi(routes.recoveryRoute, (context) => context.json(backend.recovery(), 200));
}

/** The claim code is for whoever stands before the box, or is root on it. */
function statusFor(asker: Asker, status: UnitStatus): UnitStatus {
  const isShown = asker === "local" && !status.claim.claimed;
  return isShown ? status : { ...status, claim: { ...status.claim, code: null } };
}

function addClaim(api: Api, backend: Backend): void {
  api.openapi(routes.claimRoute, async (context) => {
    const request = context.req.valid("json");
    return context.json(await backend.claim(request, askerOf(context.env)), 201);
  });
}

function addDiskChanges(api: Api, backend: Backend): void {
  api.openapi(routes.scrubDiskRoute, async (context) => {
    const { disk } = context.req.valid("param");
    await backend.scrubDisk(Number(disk), context.req.valid("json"));
    return context.body(null, 202);
  });
  api.openapi(routes.retireDiskRoute, async (context) => {
    await backend.retireDisk(Number(context.req.valid("param").disk));
    return context.body(null, 202);
  });
  api.openapi(routes.returnDiskRoute, async (context) => {
    await backend.returnDisk(Number(context.req.valid("param").disk));
    return context.body(null, 202);
  });
}

function addSettings(api: Api, backend: Backend): void {
  api.openapi(routes.authorityRoute, (context) => context.json(backend.authority(), 200));
  api.openapi(routes.settingsRoute, (context) => context.json(backend.settings(), 200));
  api.openapi(routes.changeSettingsRoute, async (context) => {
    const changes = context.req.valid("json");
    return context.json(await backend.changeSettings(changes), 200);
  });
}

function addVolumeChanges(api: Api, backend: Backend): void {
  const answers = new AnswersByKey<VolumeView>();
  api.openapi(routes.createVolumeRoute, async (context) => {
    const request = context.req.valid("json");
    if (context.req.valid("query").dryRun === "true") {
      return context.json(await backend.createVolume(request, { dryRun: true }), 200);
    }
    const create = () => backend.createVolume(request, { dryRun: false });
    const key = context.req.valid("header")["idempotency-key"];
    const volume =
      key === undefined ? await create() : await answers.once(key, JSON.stringify(request), create);
    return context.json(volume, 201);
  });
  api.openapi(routes.growVolumeRoute, async (context) => {
    const { id } = context.req.valid("param");
    const request = context.req.valid("json");
    const dryRun = context.req.valid("query").dryRun === "true";
    const grow = () => backend.growVolume(id, request.sizeBytes, { dryRun });
    const key = context.req.valid("header")["idempotency-key"];
    const isOnce = key !== undefined && !dryRun;
    const asked = JSON.stringify({ id, ...request });
    return context.json(isOnce ? await answers.once(key, asked, grow) : await grow(), 200);
  });
  api.openapi(routes.deleteVolumeRoute, async (context) => {
    const graceMs = Number(context.req.valid("query").graceMs);
    await backend.deleteVolume(context.req.valid("param").id, { graceMs });
    return context.body(null, 204);
  });
  api.openapi(routes.acceptVolumeRoute, async (context) =>
    context.json(await backend.acceptVolume(context.req.valid("param").id), 200),
  );
  api.openapi(routes.restoreVolumeRoute, async (context) =>
    context.json(await backend.restoreVolume(context.req.valid("param").id), 200),
  );
  api.openapi(routes.goOnRoute, async (context) =>
    context.json(await backend.goOnVolume(context.req.valid("param").id), 200),
  );
  api.openapi(routes.discardCopyRoute, async (context) => {
    const { id, number } = context.req.valid("param");
    await backend.discardCopy(id, Number(number));
    return context.body(null, 204);
  });
  api.openapi(routes.changeVolumeRoute, async (context) => {
    const { id } = context.req.valid("param");
    return context.json(await backend.changeVolume(id, context.req.valid("json")), 200);
  });
}

function addEventStream(api: Api, backend: Backend, timers: Timers): void {
  let streams = 0;
  api.openapi(routes.eventStreamRoute, (context) => {
    if (streams >= STREAMS_MAX) {
      throw new Fault("notReady", `${STREAMS_MAX} event streams are open already`);
    }
    // A browser's EventSource says where it was when it comes back.
    const last = context.req.header("last-event-id") ?? "";
    const since = /^\d{1,15}$/.test(last) ? last : context.req.valid("query").since;
    streams++;
    const { env } = context as { env?: Partial<Asking> };
    const stream = eventStream({
      mayGoOn: () => env?.holds?.() ?? true,
      events: (after, limit) => backend.events(after, limit),
      since: Number(since),
      timers,
      ended: () => streams--,
    });
    return context.body(stream, 200, { "content-type": "text/event-stream" });
  });
}

function addDocuments(api: Api, backend: Backend): void {
  api.openapi(routes.metricsRoute, (context) =>
    context.body(metricsText(backend.metrics()), 200, { "content-type": METRICS_CONTENT_TYPE }),
  );
  const document = { made: null as object | null };
  api.openapi(routes.openApiRoute, (context) => {
    document.made ??= api.getOpenAPI31Document({
      openapi: "3.1.0",
      info: { title: "Cairn", version: VERSION, license: { name: "Apache-2.0" } },
    });
    return context.json(document.made as { openapi: string }, 200);
  });
}
