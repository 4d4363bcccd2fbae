// SPDX-License-Identifier: Apache-2.0
//
// The group address on a real network: a unit answers it, for pages and for NBD; when that unit's
// daemon is killed while its machine's kernel goes on, another one does, and the first no more.

import { expect, setDefaultTimeout, test } from "bun:test";
import { assembled, createVolume, voters } from "./assembled.ts";
import { Lab, requireMachine } from "./lab.ts";
import { NbdClient } from "./nbd-client.ts";
import { need } from "./until.ts";

const LIMIT_MS = 60_000;
setDefaultTimeout(240_000);

test("answered by the control station; killed → by another unit, at once", async () => {
  requireMachine();
  await using lab = new Lab({ unit: { diskBytes: 512 << 20, settings: { sliceBytes: 32 << 20 } } });
  for (let place = 1; place <= 3; place++) lab.add();
  for (const unit of lab.units) unit.start();
  await lab.until("one cluster", () => assembled(lab), LIMIT_MS);
  await createVolume(lab, { name: "one", sizeBytes: 32 << 20 }, LIMIT_MS);
  await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
  const group = lab.hostAddress.replace(/\d+$/, "200");

  /** The name of the unit that answers there. */
  const answers = async () => {
    const page = await fetch(`http://${group}:7480/claim`, { signal: AbortSignal.timeout(500) });
    return /Answered by ([^ ]+)/.exec(await page.text())?.[1] ?? "nobody";
  };
  const answered = (by: (name: string) => boolean) => async () => {
    const name = await answers().catch((error: unknown) => String(error));
    need(by(name), `it is answered by ${name}`);
    return name;
  };

  await lab.anyApi().changeSettings({ groupAddress: group });
  const station = (await lab.anyApi().units()).find((unit) => unit.controlStation)?.name;
  const first = await lab.until(
    "it answers",
    answered((name) => name.startsWith("unit-")),
    LIMIT_MS,
  );
  expect(first).toBe(station as string);
  const addresses = (await lab.anyApi().units()).flatMap((unit) => unit.addresses);
  expect(addresses).not.toContain(group);

  const holder = lab.units.find((unit) => unit.name === first);
  if (holder === undefined) throw new Error(`no unit ${first}`);
  await holder.kill();
  const start = performance.now();
  const others = answered((name) => name.startsWith("unit-") && name !== first);
  const second = await lab.until("another unit answers", others, LIMIT_MS, { lookMs: 50 });
  console.log(`${second} answers ${Math.round(performance.now() - start)} ms after the kill`);
  // Over TLS too, by the cluster's own authority, whichever unit answers.
  const ca = await (await fetch(`http://${group}:7480/ca.pem`)).text();
  const secured = async () => {
    const page = await fetch(`https://${group}:7443/login`, { tls: { ca } });
    need(page.status === 200, `the page over TLS has status ${page.status}`);
    return true;
  };
  await lab.until("the page over TLS", secured, LIMIT_MS);

  const place = { host: group, port: 10809, name: "one" };
  const attach = () => NbdClient.open(place, 5_000).catch(() => null);
  const client = await lab.until("NBD through it", attach, LIMIT_MS);
  await client.write(0, Buffer.alloc(4096, 3));
  expect((await client.read(0, 4096))[0]).toBe(3);
  client.close();

  await lab.anyApi().changeSettings({ groupAddress: null });
  const gone = async () => {
    const name = await answers().catch(() => null);
    need(name === null, `${name} answers still`);
    return true;
  };
  await lab.until("nobody answers it", gone, LIMIT_MS);
});
