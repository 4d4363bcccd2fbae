// SPDX-License-Identifier: Apache-2.0
//
// Pools as the console has them: which units, spares and volumes each has, and how large a volume
// it could take now. The interface behind REST, CLI and pages, and the unit's implementation of it.

import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import type { UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import { bytesInWords, largestVolume } from "#cluster/placement.ts";
import { FIRST_POOL } from "#cluster/pool-state.ts";
import { poolRooms } from "#cluster/rooms.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { ClusterLife } from "./cluster-life.ts";
import { untilHolds } from "./view-wait.ts";

export interface PoolView {
  name: string;
  /** The one that units join and that who names none means. */
  isFirst: boolean;
  /** Its members, by number. */
  units: UnitNumber[];
  /** Spares of it alone. Those for every pool are in none. */
  spares: UnitNumber[];
  volumes: number;
  /** Of its members' disks that take slices now: in all, and not promised to any slice. */
  sizeBytes: number;
  freeBytes: number;
  /** The largest volume that could be made now, per protection, bytes; 0: none. */
  fits: { protection: Protection; sizeBytes: number }[];
}

export interface Pools {
  /** The first one first, then by name. */
  list(): PoolView[];
  create(name: string): Promise<PoolView>;
  /** Only an empty one, and never the first. */
  remove(name: string): Promise<void>;
}

export class UnitPools implements Pools {
  readonly #world: Pick<World, "clock">;
  /** Throws while the unit is in no cluster. */
  readonly #life: () => ClusterLife;

  constructor(world: Pick<World, "clock">, life: () => ClusterLife) {
    this.#world = world;
    this.#life = life;
  }

  list(): PoolView[] {
    const { view } = this.#life().follower;
    const names = [...view.pools.keys()].sort();
    const first = names.filter((name) => name === FIRST_POOL);
    return [...first, ...names.filter((name) => name !== FIRST_POOL)].map((name) =>
      poolView(view, name),
    );
  }

  async create(name: string): Promise<PoolView> {
    const life = this.#life();
    const { view } = life.follower;
    await life.commands.ask("createPool", { name });
    await untilHolds(this.#world.clock, life, () => view.pools.has(name));
    return poolView(view, name);
  }

  async remove(name: string): Promise<void> {
    const life = this.#life();
    const { pools } = life.follower.view;
    await life.commands.ask("deletePool", { name });
    await untilHolds(this.#world.clock, life, () => !pools.has(name));
  }
}

function poolView(view: ClusterView, name: string): PoolView {
  const units = [...view.units.values()].filter(
    (unit) => unit.state === "admitted" && unit.pool === name,
  );
  const numbers = (role: string) =>
    units
      .filter((unit) => unit.role === role)
      .map((unit) => unit.number)
      .sort((left, right) => left - right);
  // Each is worked out when it is read: it looks at every disk, and most readers count pools only.
  const rooms = () => poolRooms(view, name);
  const sliceBytes = view.cluster?.sliceBytes ?? 0;
  return {
    name,
    isFirst: name === FIRST_POOL,
    units: numbers("member"),
    spares: numbers("spare"),
    volumes: [...view.volumes.values()].filter((volume) => volume.pool === name).length,
    get sizeBytes() {
      return rooms().reduce((sum, room) => sum + (view.disks.get(room.disk)?.sizeBytes ?? 0), 0);
    },
    get freeBytes() {
      return rooms().reduce((sum, room) => sum + room.freeBytes, 0);
    },
    get fits() {
      const found = rooms();
      return Object.values(layouts).map(({ name: protection }) => {
        const wish = { sizeBytes: 0, sliceBytes, protection };
        return { protection, sizeBytes: sliceBytes === 0 ? 0 : largestVolume(found, wish) };
      });
    },
  };
}

/** `1.5 TiB as mirror-2`, of each protection that finds room. */
export function fitsInWords({ fits }: Pick<PoolView, "fits">): string {
  const said = fits
    .filter(({ sizeBytes }) => sizeBytes > 0)
    .map(({ protection, sizeBytes }) => `${bytesInWords(sizeBytes)} as ${protection}`);
  return said.join(", ") || "no volume";
}
