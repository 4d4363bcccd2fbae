// SPDX-License-Identifier: Apache-2.0
//
// What the console needs besides a Backend, for tests: a clock that is moved by hand, real
// randomness and hashes, sessions and credentials as a unit makes them.

import type { World } from "#base/world.ts";
import type { Backend } from "#appliance/backend.ts";
import type { KnownTokens } from "#appliance/api/tokens.ts";
import { ActorScope } from "#machine/actor-scope.ts";
import { createRandom } from "#machine/random.ts";
import { createSeal } from "#machine/seal.ts";
import { Credentials } from "./credentials.ts";
import { Sessions, signedIn } from "./sessions.ts";

export const UNIT_TOKEN = "0123456789abcdef".repeat(4);

export class HandClock {
  atMs = 1_000_000;
  nowMs(): number {
    return this.atMs;
  }
  wallMs(): number {
    return this.atMs;
  }
}

export function consoleParts(
  backend: Backend,
  tokens: { token?: string; tokens?: KnownTokens["tokens"] } = {},
  log: World["log"] = { write: () => undefined },
) {
  const clock = new HandClock();
  const world = { clock, random: createRandom(), seal: createSeal(), log };
  const own = { token: UNIT_TOKEN, tokens: () => [], ...tokens };
  const known = { seal: world.seal, unitName: "cairn-0001", ...own };
  const credentials = new Credentials(backend.users, known);
  const sessions = new Sessions(world, (credential) => credentials.whose(credential));
  return {
    world,
    clock,
    credentials,
    sessions,
    actors: new ActorScope(),
    signedIn: (request: Request) => signedIn(sessions, request),
  };
}
