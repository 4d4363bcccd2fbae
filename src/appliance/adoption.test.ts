// SPDX-License-Identifier: Apache-2.0
//
// A unit without a join secret is given one, over real sockets on the loopback: to the unit whose
// key the words stand for, kept sealed before it is acknowledged, and to nobody else.

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { makeIdentity } from "#cluster/identity.ts";
import type { UnitIdentity } from "#cluster/identity.ts";
import { createClock } from "#machine/clock.ts";
import { listenControl } from "#machine/control-socket.ts";
import { createSeal } from "#machine/seal.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { createTimers } from "#machine/timers.ts";
import { ClusterState } from "#protocol/peer-channel/identity.ts";
import type { OwnIdentity } from "#protocol/peer-channel/identity.ts";
import { NO_SECRET, answerOffer, giveSecret, readAdopted } from "./adoption.ts";
import { answerUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";

const SECRET = "a join secret that nobody guesses";
const world = { clock: createClock(), seal: createSeal(), log: { write: () => {} } };

const open: Disposable[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one[Symbol.dispose]();
});

function ownOf(identity: UnitIdentity, isMember: boolean): OwnIdentity {
  const clusterId = new Uint8Array(16).fill(isMember ? 7 : 0);
  const clusterState = isMember ? ClusterState.used : ClusterState.none;
  return { ...identity, clusterId, clusterState, unitNumber: isMember ? 1 : 0, featureLevel: 1 };
}

function security(own: OwnIdentity, preSharedKey: Uint8Array): PipeSecurity {
  return { timers: createTimers(), own: () => own, preSharedKey, authenticate: () => null };
}

/** A unit that waits without a join secret. */
function waiting(preSharedKey = NO_SECRET) {
  const identity = makeIdentity(world.seal);
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-adoption-"));
  const state = new StateDirectory(folder);
  const taken: string[] = [];
  const made = security(ownOf(identity, false), preSharedKey);
  const listener = listenControl({ address: "127.0.0.1", port: 0 }, (socket) =>
    answerUnit(world, made, socket, (pipe) =>
      answerOffer(pipe, state, (clusterName) => taken.push(clusterName)),
    ),
  );
  open.push({
    [Symbol.dispose]: () => {
      listener.close();
      state.close();
      rmSync(folder, { recursive: true });
    },
  });
  const where = { address: "127.0.0.1", port: 1 };
  const to = { publicKey: identity.publicKey, where, channelPort: listener.port };
  return { to, state, folder, taken };
}

function give(to: ReturnType<typeof waiting>["to"], secret = SECRET): Promise<void> {
  const own = ownOf(makeIdentity(world.seal), true);
  const ours = security(own, new Uint8Array(32).fill(3));
  return giveSecret(world, ours, to, { secret, clusterName: "attic" });
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

test("given → kept sealed before it is acknowledged, and told once", async () => {
  const box = waiting();
  expect(await readAdopted(box.state)).toBeNull();
  await give(box.to);
  expect(await readAdopted(box.state)).toBe(SECRET);
  expect(box.taken).toEqual(["attic"]);
  for (const name of readdirSync(box.folder)) {
    const bytes = readFileSync(path.join(box.folder, name));
    expect([name, bytes.includes(Buffer.from(SECRET))]).toEqual([name, false]);
  }
});

test("another unit answers at that address → it gets nothing", async () => {
  const box = waiting();
  const { publicKey } = makeIdentity(world.seal);
  expect(await codeOf(give({ ...box.to, publicKey }))).toBe("notAuthentic");
  expect([await readAdopted(box.state), box.taken]).toEqual([null, []]);
});

test("a unit that has a secret → the two do not even understand each other", async () => {
  const box = waiting(new Uint8Array(32).fill(9));
  expect(await codeOf(give(box.to))).toBe("notAuthentic");
  expect(await readAdopted(box.state)).toBeNull();
});

test("a secret that is too short, or none → refused, nothing kept", async () => {
  const box = waiting();
  expect(await codeOf(give(box.to, "short"))).toBe("conflict");
  expect(await codeOf(give(box.to, "s".repeat(513)))).toBe("conflict");
  expect([await readAdopted(box.state), box.taken]).toEqual([null, []]);
});
