// SPDX-License-Identifier: Apache-2.0
//
// Hosts and assignments of the Backend in memory (memory-backend-fixture.ts); it refuses what a
// unit would refuse, by the same Faults.

import { Fault } from "#base/fault.ts";
import type { VolumeView } from "#appliance/backend.ts";
import type { AddHost, ChangeHost, HostBackend, HostView } from "#appliance/host-backend.ts";

export class MemoryHosts implements HostBackend {
  readonly #hosts: Omit<HostView, "volumes">[] = [];
  readonly #volumes: () => readonly VolumeView[];
  #next = 1;

  constructor(volumes: () => readonly VolumeView[]) {
    this.#volumes = volumes;
  }

  list(): HostView[] {
    return this.#hosts.map((host) => ({
      ...host,
      volumes: this.#volumes()
        .filter((volume) => volume.hosts.some((one) => one.host === host.host))
        .map(({ volume, name }) => ({ volume, name })),
    }));
  }

  one(nameOrNumber: string): HostView {
    const found = this.list().find(
      (host) => host.name === nameOrNumber || String(host.host) === nameOrNumber,
    );
    if (found === undefined) throw new Fault("notFound", `there is no host ${nameOrNumber}`);
    return found;
  }

  async add({ name, addresses }: AddHost): Promise<HostView> {
    if (this.#hosts.some((host) => host.name === name)) {
      throw new Fault("conflict", `a host named ${name} exists`);
    }
    this.#check(addresses, 0);
    const host = this.#next++;
    this.#hosts.push({ host, name, addresses, createdAtMs: 0, sessions: [] });
    return this.one(name);
  }

  async change(nameOrNumber: string, change: ChangeHost): Promise<HostView> {
    const { host } = this.one(nameOrNumber);
    if (change.addresses !== undefined) this.#check(change.addresses, host);
    const known = this.#hosts.find((one) => one.host === host);
    if (known !== undefined) {
      known.name = change.name ?? known.name;
      known.addresses = change.addresses ?? known.addresses;
    }
    return this.one(String(host));
  }

  #check(addresses: readonly string[], own: number): void {
    for (const host of this.#hosts) {
      const same = host.addresses.find((one) => addresses.includes(one));
      if (host.host === own || same === undefined) continue;
      throw new Fault("conflict", `${same} is host ${host.name} already`);
    }
  }

  async remove(nameOrNumber: string): Promise<void> {
    const { host, volumes } = this.one(nameOrNumber);
    for (const { name } of volumes) await this.revoke(name, String(host));
    this.#hosts.splice(
      this.#hosts.findIndex((one) => one.host === host),
      1,
    );
  }

  /** As a host that has attached would be shown. */
  attach(name: string, session: HostView["sessions"][number]): void {
    this.#hosts.find((host) => host.name === name)?.sessions.push(session);
  }

  async assign(volume: string, host: string): Promise<void> {
    const known = this.#volume(volume);
    const { host: number, name } = this.one(host);
    if (!known.hosts.some((one) => one.host === number)) known.hosts.push({ host: number, name });
  }

  async revoke(volume: string, host: string): Promise<void> {
    const known = this.#volume(volume);
    const { host: number } = this.one(host);
    known.hosts = known.hosts.filter((one) => one.host !== number);
  }

  #volume(nameOrNumber: string): VolumeView {
    const found = this.#volumes().find(
      ({ name, volume }) => name === nameOrNumber || String(volume) === nameOrNumber,
    );
    if (found === undefined) throw new Fault("notFound", `there is no volume ${nameOrNumber}`);
    return found;
  }
}
