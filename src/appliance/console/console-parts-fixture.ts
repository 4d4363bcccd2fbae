// SPDX-License-Identifier: Apache-2.0
//
// What the console needs besides a Backend, for tests: a clock that is moved by hand, real
// randomness and hashes, sessions and credentials as a unit makes them.

import type { World } from "#base/world.ts";
import type { Backend } from "#appliance/backend.ts";
import { createRandom } from "#machine/random.ts";
import { createSeal } from "#machine/seal.ts";
import { Credentials } from "./credentials.ts";
import { Sessions, isSignedIn } from "./sessions.ts";

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
  tokens: { token?: string; administrators?: () => readonly string[] } = {},
  log: World["log"] = { write: () => undefined },
) {
  const clock = new HandClock();
  const world = { clock, random: createRandom(), seal: createSeal(), log };
  const { token = UNIT_TOKEN, administrators = () => [] } = tokens;
  const credentials = new Credentials(backend, { seal: world.seal, token, administrators });
  const sessions = new Sessions(world, (credential) => credentials.isValid(credential));
  return {
    world,
    clock,
    credentials,
    sessions,
    isSignedIn: (request: Request) => isSignedIn(sessions, request),
  };
}
