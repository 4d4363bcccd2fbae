// SPDX-License-Identifier: Apache-2.0
//
// Waiting for something to become true on real machines: looked at again and again, up to a limit,
// with a failure that says what was awaited and what was seen last. Not a test: tests wait by it.

/** Between two looks. */
const LOOK_MS_DEFAULT = 100;

/** What was awaited did not happen. `trail` adds what the units wrote last. */
export class WaitedInVain extends Error {
  override name = "WaitedInVain";
}

export interface UntilOptions {
  limitMs: number;
  lookMs?: number;
  /** Ends the wait early: the person at the terminal, or a unit that died. Throws its reason. */
  stillWorthIt?: () => void;
  /** More for the message of a failure: the last lines of logs. */
  trail?: () => string | Promise<string>;
}

/**
 * Resolves with the first answer of `look` that is not null. What `look` throws counts as "not
 * yet", and is told when the time is over.
 */
export async function until<T>(
  what: string,
  look: () => T | null | Promise<T | null>,
  options: UntilOptions,
): Promise<T> {
  const start = performance.now();
  let last = "nothing yet";
  for (;;) {
    options.stillWorthIt?.();
    try {
      const found = await look();
      if (found !== null) return found;
      last = "looked, and it was not so";
    } catch (error) {
      if (!(error instanceof NotYet) && !isWorthRetrying(error)) throw error;
      last = error instanceof Error ? error.message : String(error);
    }
    const passedMs = performance.now() - start;
    if (passedMs > options.limitMs) {
      const seconds = (passedMs / 1000).toFixed(1);
      const trail = (await options.trail?.()) ?? "";
      throw new WaitedInVain(`${what}: not within ${seconds} s; last seen: ${last}\n${trail}`);
    }
    await pause(options.lookMs ?? LOOK_MS_DEFAULT);
  }
}

/** Thrown by a look to say why it is not so yet. */
export class NotYet extends Error {
  override name = "NotYet";
}

/** Thrown by a look when waiting longer makes no sense. */
export class Hopeless extends Error {
  override name = "Hopeless";
}

/** For looks: goes on when it holds, else says why not. */
export function need(holds: boolean, otherwise: string): void {
  if (!holds) throw new NotYet(otherwise);
}

function isWorthRetrying(error: unknown): boolean {
  // Mistakes of our own must not hide behind a time limit.
  const ours = [TypeError, ReferenceError, RangeError, SyntaxError, WaitedInVain, Hopeless];
  return !ours.some((kind) => error instanceof kind);
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
