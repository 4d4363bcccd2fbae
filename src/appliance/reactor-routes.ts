// SPDX-License-Identifier: Apache-2.0
//
// Which of a unit's reactors a message of the control thread's is for, and which of them has which
// disk.
//
// Invariants
// - A disk stays with its reactor for this process's life, by its identity, and so does whatever is
//   found at its path: two stores on one disk would undo each other, and only within one reactor
//   does the later opening wait for the end of the earlier one.
// - A disk that is new goes to the reactor that was given the fewest; of several to the last: the
//   first has the links to do. Where none that runs is without one, and another may, to that.

import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { DiskAt, OpenedDisk, ToReactor } from "./reactor-messages.ts";

export class ReactorRoutes {
  readonly #most: number;
  #running = 0;
  readonly #byUuid = new Map<string, number>();
  readonly #byPath = new Map<string, number>();
  readonly #byNumber = new Map<DiskNumber, number>();
  /** The own one, once it is known. */
  #unit: UnitNumber = 0;

  /** `most`: reactors that may run. */
  constructor(most: number) {
    this.#most = most;
  }

  /** So many run; a disk is given to the next if there is need. */
  started(running: number): void {
    this.#running = running;
  }

  /** Null: it is for all. */
  of(message: ToReactor): number | null {
    switch (message.kind) {
      case "openDisk":
        return this.#place(message.identity.uuid, message.place.path);
      case "numberDisk":
      case "closeDisk":
      case "dropDisk":
        return this.#byUuid.get(message.uuid) ?? 0;
      case "tellHeld":
        return this.#byNumber.get(message.disk) ?? 0;
      case "peers":
      case "probe":
        return 0;
      case "join":
        this.#unit = message.unit;
        return null;
      default:
        return null;
    }
  }

  #place(uuid: string, path: string): number {
    const found = this.#byUuid.get(uuid) ?? this.#byPath.get(path) ?? this.#emptiest();
    this.#byUuid.set(uuid, found);
    this.#byPath.set(path, found);
    return found;
  }

  #emptiest(): number {
    const loads = new Array<number>(this.#running).fill(0);
    for (const reactor of this.#byUuid.values()) loads[reactor] = (loads[reactor] ?? 0) + 1;
    const least = Math.min(...loads);
    return least > 0 && this.#running < this.#most ? this.#running : loads.lastIndexOf(least);
  }

  /** What lies at a path may have another identity than was thought. */
  opened({ uuid, number }: OpenedDisk, reactor: number): void {
    this.#byUuid.set(uuid, reactor);
    if (number !== 0) this.#byNumber.set(number, reactor);
  }

  /** Its slices are alive; where siblings find it now. */
  ready(number: DiskNumber, reactor: number): DiskAt {
    this.#byNumber.set(number, reactor);
    return { disk: number, unit: this.#unit, reactor };
  }

  /** Of disks here it is said which reactor has them. */
  located(places: readonly DiskAt[]): DiskAt[] {
    return places.map((place) => {
      const isHere = place.unit === this.#unit;
      return isHere ? { ...place, reactor: this.#byNumber.get(place.disk) } : place;
    });
  }
}
