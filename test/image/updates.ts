// SPDX-License-Identifier: Apache-2.0
//
// Updates of a box as its owner does them: releases lie on a web server of this machine, the box is
// told to load one and to start it, and is asked how it stands.

import path from "node:path";
import type { UpdateStatusView } from "#appliance/update-backend.ts";
import { Hopeless, need } from "#test/cluster/until.ts";
import { CHANGE_MS, send, type Owner } from "./appliances.ts";
import type { Box } from "./box.ts";
import type { Rack } from "./rack.ts";

const PATH = "/api/v1/update";

/**
 * Serves the folders below `folder` on the wire, as long as the rack lives; `asked` is told each
 * address that asks.
 */
export function serveReleases(
  rack: Rack,
  folder: string,
  asked: (address: string) => void = () => {},
): (release: string) => string {
  const server = Bun.serve({
    hostname: rack.hostAddress,
    port: 0,
    fetch(request, its) {
      asked(its.requestIP(request)?.address ?? "unknown");
      const place = path.normalize(decodeURIComponent(new URL(request.url).pathname));
      const file = Bun.file(path.join(folder, place));
      return new Response(file);
    },
    error: () => new Response("no such file", { status: 404 }),
  });
  rack.atEnd(() => server.stop(true));
  return (release) => `${server.url.href}${path.basename(release)}`;
}

export async function updateStatus(box: Box, owner: Owner): Promise<UpdateStatusView> {
  return (await send(box, owner, { method: "GET", path: PATH })) as UpdateStatusView;
}

/** Begins to load a release; how that ended is told by `loaded`. */
export async function load(box: Box, owner: Owner, url: string): Promise<void> {
  await send(box, owner, { method: "POST", path: `${PATH}/load`, body: { source: url } });
}

/** Waits until the box is done with loading; how it stands then. */
export function loaded(rack: Rack, box: Box, owner: Owner): Promise<UpdateStatusView> {
  const look = async () => {
    if (!box.running) throw new Hopeless(`${box.name} is off`);
    const status = await updateStatus(box, owner);
    need(status.work === null, `${status.work?.sentence}`);
    return status;
  };
  return rack.until("the release loaded or refused", look, CHANGE_MS, { lookMs: 1000 });
}

/** Starts what is loaded; accepts, unless said, that a lone box is away while it restarts. */
export async function start(
  box: Box,
  owner: Owner,
  wish: { version: string; downgrade?: boolean; accept?: boolean },
): Promise<void> {
  const body = { only: null, downgrade: false, accept: true, ...wish };
  await send(box, owner, { method: "POST", path: `${PATH}/start`, body });
}

/** In words, for a person and for a failure. */
export function slotsInWords(status: UpdateStatusView): string {
  const slots = status.slots.map(
    ({ version, state, running }) => `${version} ${state}${running ? " runs" : ""}`,
  );
  return slots.join(", ");
}

/** It runs this version, which counts as good, and nothing rolls. */
export async function settledOn(
  box: Box,
  owner: Owner,
  version: string,
): Promise<UpdateStatusView> {
  const status = await updateStatus(box, owner);
  const how = `${status.version}, slots ${slotsInWords(status)}; ${status.sentence}`;
  need(status.version === version && !status.trial, how);
  const slot = status.slots.find((one) => one.version === version);
  need(slot?.state === "good" && slot.running, how);
  need(status.roll?.state !== "rolling", `${how}; ${status.roll?.sentence}`);
  return status;
}
