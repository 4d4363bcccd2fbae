// SPDX-License-Identifier: Apache-2.0
//
// Judged: how soon a revoked host is out, through every unit, and how soon the group address is
// answered again after its holder was killed, by one unit at a time.

import { spawnSync } from "node:child_process";
import { assembled } from "./assembled.ts";
import { LIMIT_MS, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import type { Judgement } from "./judge-figures.ts";
import type { Lab } from "./lab.ts";
import { NbdClient } from "./nbd-client.ts";
import { need, pause } from "./until.ts";

const LOOK_MS = 5;
const ANSWER_MS = 500;
const OPEN_MS = 5000;

/** From the moment when the revocation is asked for until no session of the host is left. */
export async function judgeRevocations(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  const host = await lab.anyApi().hostFrom(lab.hostAddress);
  for (let time = 1; time <= times; time++) {
    await lab.anyApi().assign(VOLUME, host);
    const open = async () => {
      const places = lab.units.map((unit) => ({ host: unit.address, port: 10809, name: VOLUME }));
      const tried = await Promise.allSettled(places.map((one) => NbdClient.open(one, OPEN_MS)));
      const there = tried.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      if (there.length === places.length) return there;
      for (const one of there) one.abandon("not all are open");
      return null;
    };
    const clients = await lab.until("attached through every unit", open, LIMIT_MS);
    const writing = clients.map((client) => writeOn(client));
    const start = performance.now();
    const revoked = lab.anyApi().revoke(VOLUME, host);
    const gone = () => clients.every((client) => client.lost) || null;
    await lab.until("every session is ended", gone, LIMIT_MS, { lookMs: LOOK_MS });
    judgement.add("sessions ended after a revocation", (performance.now() - start) / 1000, {
      unit: "s",
      most: 1,
    });
    await revoked;
    await Promise.all(writing);
    const again = await NbdClient.open(
      { host: lab.unit(1).address, port: 10809, name: VOLUME },
      OPEN_MS,
    ).catch(() => null);
    judgement.add("opened after a revocation", again === null ? 0 : 1, { unit: "", most: 0 });
    again?.abandon("only looked");
  }
}

/** Until the connection is lost. */
async function writeOn(client: NbdClient): Promise<void> {
  const data = Buffer.alloc(4096, 7);
  while (!client.lost) {
    try {
      await client.write(0, data);
    } catch {
      return; // lost, as it should be
    }
  }
}

export async function judgeGroup(judgement: Judgement, times: number): Promise<void> {
  await using lab = await startCluster();
  const group = lab.hostAddress.replace(/\d+$/, "200");
  await lab.anyApi().changeSettings({ groupAddress: group });
  const by = async () => {
    const url = `http://${group}:7480/claim`;
    const page = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
    const name = /Answered by ([^ ]+)/.exec(await page.text())?.[1];
    return lab.units.find((unit) => unit.name === name) ?? null;
  };
  const answering = (not: string | null) => async () => {
    const unit = await by().catch(() => null);
    need(unit !== null && unit.name !== not, `it is answered by ${unit?.name ?? "nobody"}`);
    return unit;
  };
  for (let time = 1; time <= times; time++) {
    const holder = await lab.until("it answers", answering(null), LIMIT_MS);
    if (holder === null) throw new Error("nobody answers");
    const watch = watchHolders(lab, group);
    await holder.kill();
    const start = performance.now();
    await lab.until("another answers", answering(holder.name), LIMIT_MS, { lookMs: 20 });
    judgement.add("group address answered again", (performance.now() - start) / 1000, {
      unit: "s",
      most: 5,
    });
    await pause(2000);
    judgement.add("units that had it at once", await watch.most(), { unit: "", most: 1 });
    holder.start();
    await healed(lab);
    await lab.until("all assembled", () => assembled(lab), LIMIT_MS);
  }
}

/** Looks at the units' kernels, which tell also when a daemon is dead. */
function watchHolders(lab: Lab, address: string): { most(): Promise<number> } {
  let most = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      const holders = lab.units.filter(({ namespace }) => {
        const words = ["-n", namespace, "-o", "address", "show"];
        return spawnSync("ip", words, { encoding: "utf8" }).stdout.includes(` ${address}/32 `);
      });
      most = Math.max(most, holders.length);
      await pause(50);
    }
  })();
  return {
    most: async () => {
      isOver = true;
      await watching;
      return most;
    },
  };
}
