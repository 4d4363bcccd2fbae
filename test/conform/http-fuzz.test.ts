// SPDX-License-Identifier: Apache-2.0
//
// The walk and the HTTP fuzz over the OpenAPI document (test/fuzz) against real units: the same
// questions, with disks, a control store and a console behind them.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import { assembled, createVolume } from "#test/cluster/assembled.ts";
import { Lab, executable, requireMachine } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { need } from "#test/cluster/until.ts";
import { walk } from "#test/fuzz/contract-walk.ts";
import { HttpFuzz } from "#test/fuzz/http-fuzz.ts";
import { run } from "./programs.ts";

const LIMIT_MS = 45_000;
setDefaultTimeout(110_000);

/** What a success cannot be seen of on these units, and why. */
const REFUSED: Record<string, string> = {
  "POST /api/v1/disks/{disk}/locate": "a disk that is a file has no bay with a light",
  "POST /api/v1/units/{unit}/claim-disk": "no such disk is there (disk-keeper.test.ts)",
  "POST /api/v1/arrivals/admit": "no unit without a join secret waits (test/cluster/assembly)",
  "POST /api/v1/volumes/{id}/go-on": "it does not stand still (test/cluster/rejoin)",
  "DELETE /api/v1/volumes/{id}/kept/{number}": "nothing is kept (test/cluster/rejoin)",
  "POST /api/v1/control/restore": "the control store answers (test/cluster/all-off)",
  "POST /api/v1/control/rebuild": "as above",
  "POST /api/v1/control/settle": "nothing was rebuilt (test/cluster/all-off)",
  "POST /api/v1/volumes/{id}/accept": "nothing was restored (test/cluster/all-off)",
  "POST /api/v1/renew": "the asked unit was not removed (test/cluster/evacuate)",
  ...Object.fromEntries(
    ["PUT clock", "PUT network", "POST network/keep", "POST network/undo"].map((words) => [
      words.replace(" ", " /api/v1/units/{unit}/"),
      "no appliance: network and clock are the machine's (src/appliance/unit-box.test.ts)",
    ]),
  ),
  ...Object.fromEntries(
    ["upload", "load", "plan", "start", "alone"].map((word) => [
      `POST /api/v1/update/${word}`,
      "no appliance: nothing is loaded there (test/update, test/image)",
    ]),
  ),
  "PUT /api/v1/update/upload/{name}": "as above",
};
const UNASKED: Record<string, string> = {
  "POST /api/v1/drill": "it holds up the units for half a minute (test/cluster/evacuate)",
};

let lab: Lab;
/** The one that founded the cluster, and votes alone: the other may be removed at once. */
let unit: LabUnit;
let other: LabUnit;
beforeAll(async () => {
  requireMachine();
  lab = new Lab({ unit: { diskBytes: 256 << 20, settings: { sliceBytes: 32 << 20 } } });
  for (let place = 0; place < 2; place++) lab.add().start();
  await lab.until("one cluster", () => assembled(lab), LIMIT_MS);
  const { unit: number } = await lab.unit(1).api.status();
  unit = lab.unit(number === 1 ? 1 : 2);
  other = lab.unit(number === 1 ? 2 : 1);
}, 110_000);
afterAll(() => lab?.end());

test("real units, asked each operation once → a success, as documented", async () => {
  const { unit: number } = await unit.api.status();
  const ready = async () => {
    const disks = await unit.api.disks();
    const used = disks.filter(({ disk, state }) => disk > 0 && state === "ready");
    need(used.length === 2, `${used.length} disks are in use`);
    return used.find((one) => one.unit === number)?.disk ?? 0;
  };
  const disk = await lab.until("both disks in use", ready, LIMIT_MS);
  const door = {
    url: `http://${unit.address}:7480`,
    socket: path.join(unit.stateFolder, "api.sock"),
    token: unit.token(),
  };
  const facts = {
    units: [unit.name, other.name] as [string, string],
    ...{ disk, volumeBytes: 32 << 20, protection: "mirror-2", words: null },
  };
  const unreached = await walk(door, facts, {
    refused: Object.keys(REFUSED),
    unasked: Object.keys(UNASKED),
  });
  expect(unreached).toEqual([...Object.keys(REFUSED), ...Object.keys(UNASKED)].sort());
  await other.stop();
});

test("a real unit, asked everything wrongly → no 5xx; strangers change nothing", async () => {
  await createVolume(lab, { name: "kept", sizeBytes: 32 << 20, protection: "none" }, LIMIT_MS);
  const [known] = await unit.api.hosts();
  const tokenFile = path.join(lab.folder, "host-token");
  const place = ["--state-directory", unit.stateFolder, "--save", tokenFile];
  await run(executable(), ["host", "token", String(known?.host), ...place]);

  const url = `http://${unit.address}:7480`;
  const hostToken = readFileSync(tokenFile, "utf8").trim();
  const fuzz = await HttpFuzz.of({ url, token: unit.token(), hostToken }, 11);
  const state = async () => {
    const [volumes, hosts] = [await unit.api.volumes(), await unit.api.hosts()];
    const units = await unit.api.units();
    const kept = volumes.map(({ volume, name, tls, hosts: who }) => ({ volume, name, tls, who }));
    return JSON.stringify([kept, hosts, units.map(({ evacuation }) => evacuation)]);
  };
  const before = await state();
  await fuzz.byStrangers();
  expect(await state()).toBe(before);

  const tries: number[] = [];
  for (let guess = 0; guess < 8; guess++) {
    const body = JSON.stringify({ code: `guess-${guess}` });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${url}/api/v1/claim`, { method: "POST", headers, body });
    tries.push(answer.status);
  }
  expect(tries).toContain(429);
  expect(tries.every((status) => status === 403 || status === 429)).toBe(true);

  await fuzz.byOwner(8);
  expect((await unit.api.status()).phase).toBe("joined");
  await unit.stop();
});
