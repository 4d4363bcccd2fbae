// SPDX-License-Identifier: Apache-2.0
//
// Password hashes: Argon2id (RFC 9106) by Bun.password, off the control thread.
//
// Invariants
// - One hash at a time in the process, and at most WAITING_MAX that wait: what it takes of memory
//   and cores on a small box is bounded, whoever asks. More are refused.
// - A password is in no message and no log.

import { Fault } from "#base/fault.ts";

/** KiB and rounds: 0.1 to 0.2 s on a small core, and less memory than the daemon has anyway. */
const MEMORY_KIB = 32_768;
const ROUNDS = 3;
export const WAITING_MAX = 8;

export interface Passwords {
  /** In PHC form. */
  hash(password: string): Promise<string>;
  verify(password: string, hash: string): Promise<boolean>;
}

export function createPasswords(): Passwords {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    if (waiting >= WAITING_MAX) {
      throw new Fault("rateLimited", "too many passwords are being looked at");
    }
    waiting++;
    const turn = last.then(act).finally(() => {
      waiting--;
    });
    last = turn.catch(() => undefined); // whoever asked hears of it
    return turn;
  };
  return {
    hash: async (password) =>
      inTurn(() =>
        Bun.password.hash(password, {
          algorithm: "argon2id",
          memoryCost: MEMORY_KIB,
          timeCost: ROUNDS,
        }),
      ),
    verify: async (password, hash) => inTurn(() => Bun.password.verify(password, hash)),
  };
}
