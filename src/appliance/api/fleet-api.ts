// SPDX-License-Identifier: Apache-2.0
//
// What the routes about units that are to go do, and those about what a loss would mean.

import type { Backend } from "#appliance/backend.ts";
import type { Api } from "./api.ts";
import * as routes from "./fleet-routes.ts";

export function addFleet(api: Api, backend: Backend): void {
  const { fleet } = backend;
  api.openapi(routes.whatIfRoute, (context) => {
    const { unit, disk, link, maintenance } = context.req.valid("query");
    const units = link?.split(",");
    const question = {
      unit,
      maintenance,
      disk: disk === undefined ? undefined : Number(disk),
      link:
        units === undefined ? undefined : ([units[0] ?? "", units[1] ?? ""] as [string, string]),
    };
    return context.json(fleet.whatIf(question), 200);
  });
  api.openapi(routes.lossesRoute, (context) => context.json({ losses: fleet.losses() }, 200));
  api.openapi(routes.questionsRoute, (context) =>
    context.json({ questions: fleet.questions() }, 200),
  );
  api.openapi(routes.evacuateUnitRoute, async (context) => {
    const options = context.req.valid("json");
    const answer = await fleet.evacuate(context.req.valid("param").unit, options);
    return options.dryRun ? context.json(answer, 200) : context.json(answer, 202);
  });
  api.openapi(routes.moveUnitRoute, async (context) => {
    const { role, pool, ...options } = context.req.valid("json");
    const answer = await fleet.move(context.req.valid("param").unit, { role, pool }, options);
    return options.dryRun ? context.json(answer, 200) : context.json(answer, 202);
  });
  api.openapi(routes.maintainUnitRoute, async (context) => {
    const options = context.req.valid("json");
    const answer = await fleet.maintain(context.req.valid("param").unit, options);
    return options.dryRun ? context.json(answer, 200) : context.json(answer, 202);
  });
  api.openapi(routes.endMaintenanceRoute, async (context) => {
    await fleet.endMaintenance(context.req.valid("param").unit);
    return context.body(null, 204);
  });
  api.openapi(routes.keepUnitRoute, async (context) => {
    await fleet.keep(context.req.valid("param").unit);
    return context.body(null, 204);
  });
  api.openapi(routes.replaceUnitRoute, async (context) => {
    const { by } = context.req.valid("json");
    return context.json(await fleet.replace(context.req.valid("param").unit, by), 202);
  });
  api.openapi(routes.removeUnitRoute, async (context) => {
    const force = context.req.valid("query").force === "true";
    await fleet.remove(context.req.valid("param").unit, { force });
    return context.body(null, 204);
  });
}
