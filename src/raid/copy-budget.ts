// SPDX-License-Identifier: Apache-2.0
//
// How many extents a unit's heads copy to targets at once (R13: a class waits only for a higher
// one). Shared by all slices of a unit, so that many small resyncs yield to hosts as one large one
// does. Whoever owns it counts what is really under way now and then: a copy whose end nobody told
// is not missed for long.

/** Of one slice: alone, and beside host I/O. */
const SLICE_COPIES_MAX = 4;
const SLICE_COPIES_BESIDE_HOST_MAX = 2;
/** Of a unit: alone or in a hurry, and beside host I/O. Each holds a buffer of an extent. */
export const UNIT_COPIES_MAX = 32;
export const UNIT_COPIES_BESIDE_HOST_MAX = 8;

export class CopyBudget {
  /** A deadline would be missed: it yields to nobody. */
  isHurried = false;
  #left = Number.POSITIVE_INFINITY;

  /** Copies that a slice may have under way; `hostInFlight`: requests of hosts on it. */
  sliceMost(hostInFlight: number): number {
    const yields = hostInFlight > 0 && !this.isHurried;
    return yields ? SLICE_COPIES_BESIDE_HOST_MAX : SLICE_COPIES_MAX;
  }

  /** One more copy; false: not now. */
  take(): boolean {
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }
  give(): void {
    this.#left++;
  }

  /** What is under way on the unit; `isBesideHosts`: some host uses one of its heads. */
  counted(copies: number, { isBesideHosts }: { isBesideHosts: boolean }): void {
    const yields = isBesideHosts && !this.isHurried;
    this.#left = (yields ? UNIT_COPIES_BESIDE_HOST_MAX : UNIT_COPIES_MAX) - copies;
  }
}
