// SPDX-License-Identifier: Apache-2.0
//
// Tests that build on each other: boots are dear, so that one box goes through a whole story. A
// stage that failed fails all that come after it at once, with its name, instead of letting each
// wait in vain.

import { test } from "bun:test";

/** Never the limit: every wait has its own. A test that Bun ends loses its children unseen. */
const STAGE_MS = 4 * 3600_000;

export class Stages {
  #failed: string | null = null;

  stage(name: string, run: () => Promise<void>): void {
    test(
      name,
      async () => {
        if (this.#failed !== null) throw new Error(`not tried, since this failed: ${this.#failed}`);
        try {
          await run();
        } catch (error) {
          this.#failed = name;
          throw error;
        }
      },
      STAGE_MS,
    );
  }
}
