// SPDX-License-Identifier: Apache-2.0
//
// Units that wait to be let in, in memory, for the tests of API, pages and CLI.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import type { Arrivals, ArrivalsView, WindowView } from "#appliance/arrivals.ts";
import type { StrangerView } from "#appliance/backend.ts";

export class MemoryArrivals implements Arrivals {
  waiting: StrangerView[] = [];
  window: WindowView | null = null;
  /** Whether this unit was removed from its cluster. */
  isRemoved = false;

  list(): ArrivalsView {
    return { waiting: this.waiting, window: this.window };
  }

  async admit(words: string): Promise<StrangerView> {
    const found = this.waiting.find((one) => one.words.join(" ") === words.replaceAll("-", " "));
    if (found === undefined) throw new Fault("notFound", "no unit with these words waits here");
    endDryRun(`${found.name} is given the join secret`);
    this.waiting = this.waiting.filter((one) => one !== found);
    return found;
  }

  async openWindow({ seconds, units }: { seconds: number; units: number }): Promise<WindowView> {
    endDryRun(`whatever asks is let in for ${seconds} s`);
    this.window = { secondsLeft: seconds, unitsLeft: units };
    return this.window;
  }

  async closeWindow(): Promise<void> {
    endDryRun("nobody is let in any more");
    this.window = null;
  }

  renew(): void {
    if (!this.isRemoved) throw new Fault("conflict", "this unit was not removed");
    endDryRun("it begins anew, as another unit");
    this.isRemoved = false;
  }
}
