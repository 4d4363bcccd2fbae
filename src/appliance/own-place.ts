// SPDX-License-Identifier: Apache-2.0
//
// Where this unit is: its address among units, taken again where somebody took it away (a link that
// was set down, a network set up anew), and its record's addresses and ports, which hosts attach
// by, kept what they are now (DHCP, another configuration).
//
// Invariants: what changes for a moment only is not written; a unit without any address keeps those
// it had, since nobody could be told anyway.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import { keys, valueText } from "#cluster/state.ts";
import type { UnitRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";

const LOOK_EVERY_MS = 2000;

/** What a unit says of where it is. */
export type Place = Pick<UnitRecord, "addresses" | "ports">;

export interface PlaceParts {
  unit: UnitNumber;
  view: ClusterView;
  store: Pick<ControlStore, "transaction">;
  /** As it is now. */
  place(): Place;
  /** Whether some link has the unit's address among units; also while none is up. */
  hasOwnAddress(): boolean;
  takeOwnAddress(): Promise<void>;
}

export class OwnPlace {
  readonly #log: World["log"];
  readonly #parts: PlaceParts;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #seen = "";
  #isBusy = false;

  constructor(log: World["log"], parts: PlaceParts) {
    this.#log = log;
    this.#parts = parts;
  }

  /** A few times a second. */
  look(nowMs: number): void {
    if (this.#isBusy || nowMs - this.#lookedMs < LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    this.#isBusy = true;
    this.#look().then(
      () => {
        this.#isBusy = false;
      },
      (error: unknown) => {
        this.#isBusy = false;
        if (!(error instanceof Fault)) throw error;
        this.#log.write("debug", "where this unit is could not be told", { reason: error.message });
      },
    );
  }

  async #look(): Promise<void> {
    const { unit, view, store } = this.#parts;
    if (!this.#parts.hasOwnAddress()) {
      this.#log.write("warn", "this unit's address among units was gone; it is taken again");
      await this.#parts.takeOwnAddress();
    }
    const record = view.units.get(unit);
    const { addresses, ports } = this.#parts.place();
    const place = { addresses, ports };
    if (record === undefined || record.state !== "admitted" || place.addresses.length === 0) return;
    const isSame = sameText(record.addresses, place.addresses) && samePorts(record, place);
    const isSteady = this.#seen === JSON.stringify(place);
    this.#seen = JSON.stringify(place);
    if (isSame || !isSteady) return;
    const key = keys.unit(unit);
    const { committed } = await store.transaction({
      ifs: [view.compare(key)],
      puts: [{ key, value: valueText({ ...record, ...place }) }],
    });
    if (committed) this.#log.write("info", "this unit is elsewhere now", { ...place });
  }
}

function sameText(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, index) => text === other[index]);
}

function samePorts(one: Place, other: Place): boolean {
  const names = new Set([...Object.keys(one.ports), ...Object.keys(other.ports)]);
  return [...names].every((name) => one.ports[name] === other.ports[name]);
}
