// SPDX-License-Identifier: Apache-2.0
//
// The HostBackend of a unit: hosts and assignments from its view of the control state, sessions
// from its reactor's last report, changes by commands to the control station.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { isAllowed } from "#cluster/address-range.ts";
import { hostByName, volumesOfHost } from "#cluster/host-state.ts";
import type { HostRecord } from "#cluster/host-state.ts";
import type { VolumeRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { AddHost, ChangeHost, HostBackend, HostView } from "./host-backend.ts";
import type { AttachedFrom } from "./reactor-messages.ts";
import { untilHolds } from "./view-wait.ts";

/** What the rest of a unit gives it. */
export interface HostParts {
  /** A Fault notReady while the unit is in no cluster. */
  life(): ClusterLife;
  attached(): readonly AttachedFrom[];
}

export class UnitHosts implements HostBackend {
  readonly #world: Pick<World, "clock">;
  readonly #parts: HostParts;

  constructor(world: Pick<World, "clock">, parts: HostParts) {
    this.#world = world;
    this.#parts = parts;
  }

  list(): HostView[] {
    const { view } = this.#parts.life().follower;
    return [...view.hosts.values()]
      .sort((left, right) => left.number - right.number)
      .map((host) => this.#view(view, host));
  }

  one(nameOrNumber: string): HostView {
    const { view } = this.#parts.life().follower;
    return this.#view(view, this.find(nameOrNumber));
  }

  async add(request: AddHost): Promise<HostView> {
    const life = this.#parts.life();
    const { host } = await life.commands.ask("addHost", request);
    await this.#until(life, (view) => view.hosts.has(host));
    return this.one(String(host));
  }

  async change(nameOrNumber: string, change: ChangeHost): Promise<HostView> {
    const life = this.#parts.life();
    const { number } = this.find(nameOrNumber);
    const before = life.follower.view.hosts.get(number);
    await life.commands.ask("changeHost", { host: number, ...change });
    // Every change that was carried out wrote the record anew.
    await this.#until(life, (view) => view.hosts.get(number) !== before);
    return this.one(String(number));
  }

  async remove(nameOrNumber: string): Promise<void> {
    const life = this.#parts.life();
    const { number } = this.find(nameOrNumber);
    await life.commands.ask("removeHost", { host: number });
    await this.#until(life, (view) => !view.hosts.has(number));
  }

  async assign(volume: string, host: string): Promise<void> {
    const life = this.#parts.life();
    const pair = { volume: this.findVolume(volume).number, host: this.find(host).number };
    await life.commands.ask("assignVolume", pair);
    await this.#until(life, (view) => isAssigned(view, pair) !== false);
  }

  async revoke(volume: string, host: string): Promise<void> {
    const life = this.#parts.life();
    const pair = { volume: this.findVolume(volume).number, host: this.find(host).number };
    await life.commands.ask("revokeVolume", pair);
    await this.#until(life, (view) => isAssigned(view, pair) !== true);
  }

  /** By name or number; a Fault notFound. */
  find(nameOrNumber: string): HostRecord {
    const { view } = this.#parts.life().follower;
    const found = hostByName(view, nameOrNumber) ?? view.hosts.get(numberIn(nameOrNumber));
    if (found === undefined) throw new Fault("notFound", `there is no host ${nameOrNumber}`);
    return found;
  }

  /** By name or number; a Fault notFound. */
  findVolume(nameOrNumber: string): VolumeRecord {
    const { view } = this.#parts.life().follower;
    const found = view.volumeByName(nameOrNumber) ?? view.volumes.get(numberIn(nameOrNumber));
    if (found === undefined) throw new Fault("notFound", `there is no volume ${nameOrNumber}`);
    return found;
  }

  #until(life: ClusterLife, holds: (view: ClusterView) => boolean): Promise<void> {
    return untilHolds(this.#world.clock, life, () => holds(life.follower.view));
  }

  #view(view: ClusterView, host: HostRecord): HostView {
    const { number, name, addresses, createdAtMs } = host;
    const volumes = volumesOfHost(view, number);
    const assigned = new Set(volumes.map((volume) => volume.number));
    return {
      host: number,
      name,
      addresses,
      createdAtMs,
      volumes: volumes.map((volume) => ({ volume: volume.number, name: volume.name })),
      sessions: this.#parts
        .attached()
        .filter((one) => assigned.has(one.volume) && isAllowed(addresses, addressOf(one)))
        .map((one) => ({ ...one })),
    };
  }
}

/** Null: one of them is gone meanwhile, and nothing is to be waited for. */
function isAssigned(view: ClusterView, pair: { volume: number; host: number }): boolean | null {
  return view.volumes.get(pair.volume)?.hosts.includes(pair.host) ?? null;
}

/** Through the unix socket one comes from the unit itself. */
function addressOf({ address }: AttachedFrom): string {
  return address === "unix" ? "127.0.0.1" : address;
}

function numberIn(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : 0;
}
