// SPDX-License-Identifier: Apache-2.0
//
// What the routes about hosts and assignments do.

import type { Backend } from "#appliance/backend.ts";
import type { Api } from "./api.ts";
import * as routes from "./host-routes.ts";

export function addHosts(api: Api, backend: Backend): void {
  const { hosts } = backend;
  api.openapi(routes.hostsRoute, (context) => context.json({ hosts: hosts.list() }, 200));
  api.openapi(routes.hostRoute, (context) =>
    context.json(hosts.one(context.req.valid("param").host), 200),
  );
  api.openapi(routes.addHostRoute, async (context) =>
    context.json(await hosts.add(context.req.valid("json")), 201),
  );
  api.openapi(routes.changeHostRoute, async (context) => {
    const { host } = context.req.valid("param");
    return context.json(await hosts.change(host, context.req.valid("json")), 200);
  });
  api.openapi(routes.removeHostRoute, async (context) => {
    await hosts.remove(context.req.valid("param").host);
    return context.body(null, 204);
  });
  api.openapi(routes.assignRoute, async (context) => {
    const { id, host } = context.req.valid("param");
    await hosts.assign(id, host);
    return context.json(backend.volume(id), 200);
  });
  api.openapi(routes.revokeRoute, async (context) => {
    const { id, host } = context.req.valid("param");
    await hosts.revoke(id, host);
    return context.json(backend.volume(id), 200);
  });
}
