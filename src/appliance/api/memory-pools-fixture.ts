// SPDX-License-Identifier: Apache-2.0
//
// Pools in memory, for the tests of API, page and CLI. They refuse what a unit would refuse, by the
// same Faults.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import type { VolumeView } from "#appliance/backend.ts";
import type { PoolView, Pools } from "#appliance/pools.ts";
import type { MemoryFleet } from "./memory-fleet-fixture.ts";

const DISK_BYTES = 10 * 2 ** 30;

export class MemoryPools implements Pools {
  readonly #names = ["pool"];
  readonly #volumes: () => readonly VolumeView[];
  readonly #fleet: Pick<MemoryFleet, "placeOf">;

  constructor(volumes: () => readonly VolumeView[], fleet: Pick<MemoryFleet, "placeOf">) {
    this.#volumes = volumes;
    this.#fleet = fleet;
  }

  list(): PoolView[] {
    return this.#names.map((name) => this.one(name));
  }

  one(name: string): PoolView {
    if (!this.#names.includes(name)) throw new Fault("notFound", `no pool named ${name}`);
    const of = (role: string) =>
      [1, 2].filter((unit) => {
        const place = this.#fleet.placeOf(unit);
        return place.role === role && place.pool === name;
      });
    const units = of("member");
    return {
      name,
      isFirst: name === "pool",
      units,
      spares: of("spare"),
      volumes: this.#volumes().filter((volume) => volume.pool === name).length,
      sizeBytes: units.length * DISK_BYTES,
      freeBytes: units.length * DISK_BYTES,
      fits: [
        { protection: "none", sizeBytes: units.length * DISK_BYTES },
        { protection: "mirror-2", sizeBytes: units.length < 2 ? 0 : DISK_BYTES },
        { protection: "mirror-3", sizeBytes: 0 },
      ],
    };
  }

  async create(name: string): Promise<PoolView> {
    if (this.#names.includes(name)) throw new Fault("conflict", `a pool named ${name} exists`);
    endDryRun(`the pool ${name} was created`);
    this.#names.push(name);
    return this.one(name);
  }

  async remove(name: string): Promise<void> {
    const { units, spares, isFirst } = this.one(name);
    if (isFirst) throw new Fault("conflict", `${name} is the pool that new units join: it stays`);
    if (units.length + spares.length > 0) {
      throw new Fault("conflict", `the pool ${name} is not empty`);
    }
    endDryRun(`the pool ${name} was deleted`);
    this.#names.splice(this.#names.indexOf(name), 1);
  }
}
