// SPDX-License-Identifier: Apache-2.0
//
// What the routes about updates and health do. A file of an update comes in pieces no larger than
// any other request's body, so that nobody makes the unit hold more.

import { Fault } from "#base/fault.ts";
import type { Backend } from "#appliance/backend.ts";
import type { Api } from "./api.ts";
import * as routes from "./update-routes.ts";
import { UPLOAD_PIECE_BYTES_MAX } from "./update-schemas.ts";

export function addUpdates(api: Api, backend: Backend): void {
  const { update } = backend;
  api.openapi(routes.healthRoute, (context) => context.json(backend.health(), 200));
  api.openapi(routes.updateStatusRoute, (context) => context.json(update.status(), 200));
  api.openapi(routes.loadUpdateRoute, async (context) => {
    await update.load(context.req.valid("json").source);
    return context.json(update.status(), 202);
  });
  api.openapi(routes.planUpdateRoute, (context) =>
    context.json(update.plan(context.req.valid("json")), 200),
  );
  api.openapi(routes.startUpdateRoute, async (context) => {
    await update.start(context.req.valid("json"));
    return context.json(update.status(), 202);
  });
  api.openapi(routes.stopUpdateRoute, async (context) => {
    await update.stop();
    return context.json(update.status(), 200);
  });
  api.openapi(routes.startAloneRoute, async (context) => {
    await update.startAlone(context.req.valid("json"));
    return context.json(update.status(), 202);
  });
  api.openapi(routes.automaticUpdateRoute, async (context) => {
    await update.setAutomatic(context.req.valid("json"));
    return context.json(update.status(), 200);
  });
  addUpload(api, backend);
}

function addUpload(api: Api, { update }: Backend): void {
  api.openapi(routes.beginUploadRoute, async (context) =>
    context.json(await update.beginUpload(context.req.valid("json")), 200),
  );
  api.openapi(routes.uploadPieceRoute, async (context) => {
    const piece = new Uint8Array(await context.req.arrayBuffer());
    if (piece.length === 0 || piece.length > UPLOAD_PIECE_BYTES_MAX) {
      throw new Fault("badRequest", `a piece has 1 to ${UPLOAD_PIECE_BYTES_MAX} bytes`);
    }
    const { name } = context.req.valid("param");
    const offsetBytes = Number(context.req.valid("query").offset);
    return context.json(await update.uploadPiece(name, offsetBytes, piece), 200);
  });
}
