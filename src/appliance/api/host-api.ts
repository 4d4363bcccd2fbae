// SPDX-License-Identifier: Apache-2.0
//
// What the routes about hosts, assignments and requests do, and what hosts themselves may ask.

import { Fault } from "#base/fault.ts";
import type { Asker, Backend } from "#appliance/backend.ts";
import type { RequestView } from "#appliance/host-backend.ts";
import type { Api } from "./api.ts";
import { AnswersByKey } from "./idempotency.ts";
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
  api.openapi(routes.makeCertificateRoute, async (context) =>
    context.json(await hosts.makeCertificate(context.req.valid("param").host), 201),
  );
  api.openapi(routes.revokeCertificateRoute, async (context) => {
    const { host, fingerprint } = context.req.valid("param");
    await hosts.revokeCertificate(host, fingerprint);
    return context.body(null, 204);
  });
  addRequests(api, backend);
  addOwn(api, backend);
}

function addRequests(api: Api, { hosts }: Backend): void {
  api.openapi(routes.makeTokenRoute, async (context) =>
    context.json(await hosts.makeToken(context.req.valid("param").host), 201),
  );
  api.openapi(routes.voidTokenRoute, async (context) => {
    await hosts.voidToken(context.req.valid("param").host);
    return context.body(null, 204);
  });
  api.openapi(routes.requestsRoute, (context) => context.json({ requests: hosts.requests() }, 200));
  api.openapi(routes.grantRoute, async (context) => {
    const { request } = context.req.valid("param");
    return context.json(await hosts.answer(Number(request), { grant: true, why: "" }), 200);
  });
  api.openapi(routes.refuseRoute, async (context) => {
    const { request } = context.req.valid("param");
    const { why } = context.req.valid("json");
    return context.json(await hosts.answer(Number(request), { grant: false, why }), 200);
  });
}

function addOwn(api: Api, { hosts }: Backend): void {
  const answers = new AnswersByKey<RequestView>();
  api.openapi(routes.ownHostRoute, (context) => context.json(hosts.own(hostOf(context.env)), 200));
  api.openapi(routes.askVolumeRoute, async (context) => {
    const host = hostOf(context.env);
    const wish = context.req.valid("json");
    const ask = () => hosts.ask(host, wish);
    const key = context.req.valid("header")["idempotency-key"];
    const made =
      key === undefined
        ? await ask()
        : await answers.once(`${host} ${key}`, JSON.stringify(wish), ask);
    return made.state === "waiting" ? context.json(made, 202) : context.json(made, 201);
  });
}

function hostOf(env: { asker?: Asker } | undefined): number {
  const asker = env?.asker ?? "anybody";
  if (typeof asker !== "string" && "host" in asker) return asker.host;
  throw new Fault(
    "forbidden",
    "this is for hosts: a host's own token is needed (cairn host token)",
  );
}
