// SPDX-License-Identifier: Apache-2.0
//
// The HTTP fuzz (test/fuzz) against a real unit: the same questions, with a disk, a control store
// and a console behind them.

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import { assembled, createVolume } from "#test/cluster/assembled.ts";
import { Lab, executable, requireMachine } from "#test/cluster/lab.ts";
import { HttpFuzz } from "#test/fuzz/http-fuzz.ts";
import { run } from "./programs.ts";

const LIMIT_MS = 45_000;
setDefaultTimeout(110_000);

test("a real unit, asked everything wrongly → no 5xx; strangers change nothing", async () => {
  requireMachine();
  await using lab = new Lab({ unit: { diskBytes: 256 << 20, settings: { sliceBytes: 32 << 20 } } });
  lab.add().start();
  const unit = lab.unit(1);
  await lab.until("one cluster", () => assembled(lab), LIMIT_MS);
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
