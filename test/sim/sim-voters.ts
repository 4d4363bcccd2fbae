// SPDX-License-Identifier: Apache-2.0
//
// Voters between units and a simulated control store: what a unit writes goes through one of them,
// by the product's rules of who may write what (cluster/proxy-rules.ts) over that voter's own view,
// which may run behind the store, and behind the unit's. Each run of a unit has a voter of its own
// choice, as one whose own voter is not back.

import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { MemoryControlClient, MemoryControlStore } from "#cluster/memory-control-store.ts";
import { proxyRules } from "#cluster/proxy-rules.ts";
import type { MayWrite } from "#cluster/proxy-rules.ts";
import { keys } from "#cluster/state.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import type { Simulation } from "./simulation.ts";

/** Unless said otherwise: how far a voter is behind. */
const LAGS_MS = [0, 20, 300, 1500];

interface Voter {
  client: MemoryControlClient;
  follower: ViewFollower;
  mayWrite: MayWrite;
}

export class SimVoters {
  readonly #simulation: Simulation;
  readonly #store: MemoryControlStore;
  readonly #voters: Voter[] = [];
  /** A unit wrote through one whose view was behind. */
  onBehind: () => void = () => {};

  constructor(
    simulation: Simulation,
    store: MemoryControlStore,
    placement: ReadonlyMap<DiskNumber, UnitNumber>,
    units: number,
  ) {
    this.#simulation = simulation;
    this.#store = store;
    const prng = simulation.prng.fork();
    for (let unit = 1; unit <= units; unit++) this.#put(keys.unit(unit), unitRecord(unit));
    for (const [disk, unit] of placement) this.placed(disk, unit);
    const world = {
      clock: { nowMs: () => simulation.nowMs, wallMs: () => 0 },
      log: { write: () => {} },
      random: { fraction: () => prng.fraction(), fill: () => {} },
    };
    for (let voter = 1; voter <= Math.min(3, units); voter++) {
      const client = store.client(`voter ${voter}`);
      client.watchDelayMs = prng.pick(LAGS_MS);
      const follower = new ViewFollower(world, simulation, client);
      follower.start();
      this.#voters.push({ client, follower, mayWrite: proxyRules(client, follower) });
    }
  }

  /** A disk is in a unit, as the control station has registered it. */
  placed(number: DiskNumber, unit: UnitNumber): void {
    const uuid = number.toString(16).padStart(32, "0");
    const made = { number, uuid, unit, path: "/d", sizeBytes: 1, incarnation: 1, state: "ready" };
    this.#put(keys.disk(number), made);
  }

  #put(key: string, record: object): void {
    this.#store.commit({ ifs: [], puts: [{ key, value: JSON.stringify(record) }] });
  }

  /** From now on this unit's client goes through one of them. */
  join(unit: UnitNumber, client: MemoryControlClient): void {
    const { mayWrite, follower } = this.#simulation.prng.pick(this.#voters);
    client.mayWrite = (transaction) => {
      if (follower.view.revision < this.#store.revision) this.onBehind();
      return mayWrite(unit, transaction);
    };
  }

  /** One of them falls behind for a while; 0: it does not any more. */
  late(lagMs: number): () => void {
    const { client } = this.#simulation.prng.pick(this.#voters);
    client.watchDelayMs = lagMs;
    return () => {
      client.watchDelayMs = 0;
    };
  }

  heal(): void {
    for (const { client } of this.#voters) client.watchDelayMs = 0;
  }
}

function unitRecord(number: UnitNumber): object {
  const id = String(number).padStart(32, "0");
  const place = { addresses: [], ula: "fd00::1", ports: {}, role: "member", pool: "pool" };
  const what = { featureLevel: 1, version: "1", admittedAtMs: 0, state: "admitted" };
  return { ...place, ...what, number, id, publicKey: id + id, name: `unit${number}` };
}
