// SPDX-License-Identifier: Apache-2.0
//
// Drills in memory, for the tests of API, page and CLI: one begins, goes on as its test says, and
// ends; refused where a unit would refuse it.

import { Fault } from "#base/fault.ts";
import type { DrillPlan, DrillState, Drills } from "#appliance/drills.ts";

export class MemoryDrills implements Drills {
  /** While set no drill can be planned. */
  refusal: string | null = null;
  begun: (string | undefined)[] = [];
  /** Each look takes the next one. */
  next: DrillState[] = [];
  #state: DrillState | null = null;

  plan(unit?: string): DrillPlan {
    if (this.refusal !== null) throw new Fault("noSpace", this.refusal);
    if (unit === "nowhere") throw new Fault("notFound", "there is no unit nowhere");
    const sentences = ["A volume is made.", "Its head falls silent."];
    return { protection: "mirror-2", sizeBytes: 16 << 20, head: unit ?? null, sentences };
  }

  begin(unit?: string): DrillState {
    this.plan(unit);
    if (this.#state !== null && this.#state.phase !== "over") {
      throw new Fault("conflict", "a drill is under way on this unit");
    }
    this.begun.push(unit);
    const sentence = "making the canary volume";
    const state: DrillState = {
      phase: "making",
      sentence,
      startedAtMs: 1_700_000_000_000,
      outcome: null,
      passed: null,
    };
    this.#state = state;
    return state;
  }

  state(): DrillState | null {
    this.#state = this.next.shift() ?? this.#state;
    return this.#state;
  }
}

export function drillOver(change: Partial<DrillState["outcome"]> = {}): DrillState {
  const outcome = {
    gapMs: 2600,
    fromUnit: 1,
    toUnit: 2,
    writes: 900,
    reads: 850,
    verifiedBlocks: 1024,
    wrongBlocks: 0,
    errors: 0,
    protectedMs: 12_000,
    failure: null,
    ...change,
  };
  const passed = outcome.wrongBlocks === 0;
  const sentence = "cairn-0001 fell silent to a canary volume; a host waited 2.6 s";
  return { phase: "over", sentence, startedAtMs: 1_700_000_000_000, outcome, passed };
}
