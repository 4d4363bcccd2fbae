// SPDX-License-Identifier: Apache-2.0
//
// The HostBackend of a unit: hosts and assignments from its view of the control state, sessions
// from its reactor's last report, changes by commands to the control station.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { isAllowed } from "#cluster/address-range.ts";
import { askedBytes, hostByName, volumesByHost, volumesOfHost } from "#cluster/host-state.ts";
import type { HostRecord, RequestRecord } from "#cluster/host-state.ts";
import type { VolumeRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { HostCertificateMade } from "#machine/web-certificates.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { VolumeView } from "./backend.ts";
import type {
  AddHost,
  AskVolume,
  ChangeHost,
  HostBackend,
  HostPolicyView,
  HostView,
  MadeCertificateView,
  OwnHostView,
  RequestView,
} from "./host-backend.ts";
import type { AttachedFrom } from "./reactor-messages.ts";
import { freshToken } from "./unit-users.ts";
import { untilHolds } from "./view-wait.ts";

/** What the rest of a unit gives it. */
export interface HostParts {
  /** A Fault notReady while the unit is in no cluster. */
  life(): ClusterLife;
  attached(): readonly AttachedFrom[];
  volume(volume: VolumeRecord): VolumeView;
  /** Issues one of the cluster's authority, and its own; null: this unit has none. */
  issue(name: string): { made: HostCertificateMade; authority: string } | null;
}

type HostWorld = Pick<World, "clock" | "random" | "seal">;

export class UnitHosts implements HostBackend {
  readonly #world: HostWorld;
  readonly #parts: HostParts;

  constructor(world: HostWorld, parts: HostParts) {
    this.#world = world;
    this.#parts = parts;
  }

  list(): HostView[] {
    const { view } = this.#parts.life().follower;
    const byHost = volumesByHost(view);
    return [...view.hosts.values()]
      .sort((left, right) => left.number - right.number)
      .map((host) => this.#view(view, host, byHost.get(host.number) ?? []));
  }

  one(nameOrNumber: string): HostView {
    const { view } = this.#parts.life().follower;
    const host = this.find(nameOrNumber);
    return this.#view(view, host, volumesOfHost(view, host.number));
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
    const { policy, ...where } = change;
    if (where.name !== undefined || where.addresses !== undefined) {
      await this.#rewritten(life, number, () =>
        life.commands.ask("changeHost", { host: number, ...where }),
      );
    }
    if (policy !== undefined) {
      await this.#rewritten(life, number, () =>
        life.commands.ask("setHostPolicy", { host: number, policy: { ...policy } }),
      );
    }
    return this.one(String(number));
  }

  /** Every change of a host that is carried out writes its record anew. */
  async #rewritten(life: ClusterLife, host: number, act: () => Promise<unknown>): Promise<void> {
    const before = life.follower.view.hosts.get(host);
    await act();
    await this.#until(life, (view) => view.hosts.get(host) !== before);
  }

  async makeToken(nameOrNumber: string): Promise<{ token: string }> {
    const life = this.#parts.life();
    const { number } = this.find(nameOrNumber);
    const { token, tokenHash } = freshToken(this.#world);
    await this.#rewritten(life, number, () =>
      life.commands.ask("setHostToken", { host: number, tokenHash }),
    );
    return { token };
  }

  async voidToken(nameOrNumber: string): Promise<void> {
    const life = this.#parts.life();
    const { number } = this.find(nameOrNumber);
    await this.#rewritten(life, number, () =>
      life.commands.ask("setHostToken", { host: number, tokenHash: null }),
    );
  }

  async makeCertificate(nameOrNumber: string): Promise<MadeCertificateView> {
    const life = this.#parts.life();
    const { number, name } = this.find(nameOrNumber);
    const issued = this.#parts.issue(name);
    if (issued === null) {
      throw new Fault("notFound", "this unit has no join secret, and so no authority of a cluster");
    }
    const { cert, key, ...certificate } = issued.made;
    await this.#rewritten(life, number, () =>
      life.commands.ask("addCertificate", { host: number, certificate }),
    );
    return { ...certificate, certificate: cert, key, authority: issued.authority };
  }

  async revokeCertificate(nameOrNumber: string, fingerprint: string): Promise<void> {
    const life = this.#parts.life();
    const { number } = this.find(nameOrNumber);
    await this.#rewritten(life, number, () =>
      life.commands.ask("revokeCertificate", { host: number, fingerprint }),
    );
  }

  requests(): RequestView[] {
    const { view } = this.#parts.life().follower;
    return [...view.requests.values()]
      .sort((left, right) => left.number - right.number)
      .map((request) => requestView(view, request));
  }

  async answer(number: number, answer: { grant: boolean; why: string }): Promise<RequestView> {
    const life = this.#parts.life();
    await life.commands.ask("answerRequest", { request: number, ...answer });
    return this.#request(life, number);
  }

  own(host: number): OwnHostView {
    const { view } = this.#parts.life().follower;
    const known = this.find(String(host));
    return {
      host,
      name: known.name,
      policy: policyView(known),
      askedBytes: askedBytes(view, host),
      volumes: volumesOfHost(view, host).map((volume) => {
        const shown = this.#parts.volume(volume);
        const { uuid, name, sizeBytes, protection, availability, tls, uris } = shown;
        return {
          volume: volume.number,
          uuid,
          name,
          sizeBytes,
          protection,
          availability,
          tls,
          uris,
        };
      }),
      requests: this.requests().filter((request) => request.host === host),
      apis: apisOf(view),
    };
  }

  async ask(host: number, wish: AskVolume): Promise<RequestView> {
    const life = this.#parts.life();
    const { request } = await life.commands.ask("requestVolume", { host, ...wish });
    return this.#request(life, request);
  }

  /** As it stands once its answer is here, and the volume that it brought can be attached. */
  async #request(life: ClusterLife, number: number): Promise<RequestView> {
    const isThere = (view: ClusterView) => {
      const request = view.requests.get(number);
      if (request?.volume === undefined) return request !== undefined;
      // Taken back meanwhile, or deleted: nothing is to be waited for.
      return view.volumes.get(request.volume)?.state !== "creating";
    };
    await this.#until(life, isThere);
    const { view } = life.follower;
    const request = view.requests.get(number);
    if (request === undefined) throw new Fault("notFound", `there is no request ${number}`);
    return requestView(view, request);
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

  #view(view: ClusterView, host: HostRecord, volumes: readonly VolumeRecord[]): HostView {
    const { number, name, addresses, createdAtMs } = host;
    const assigned = new Set(volumes.map((volume) => volume.number));
    return {
      host: number,
      name,
      addresses,
      createdAtMs,
      volumes: volumes.map((volume) => ({ volume: volume.number, name: volume.name })),
      sessions: this.#parts
        .attached()
        .filter((one) => assigned.has(one.volume) && isOf(host, one))
        .map((one) => ({ ...one })),
      policy: policyView(host),
      // Looks at every volume, and lists do not show it.
      get askedBytes() {
        return askedBytes(view, number);
      },
      hasToken: host.tokenHash !== undefined,
      certificates: host.certificates.map(({ fingerprint, fromMs, untilMs }) => {
        return { fingerprint, fromMs, untilMs };
      }),
    };
  }
}

function policyView({ policy }: HostRecord): HostPolicyView {
  const { quotaBytes, protections, pools, grants } = policy;
  return { quotaBytes, protections, pools, grants };
}

function requestView(view: ClusterView, request: RequestRecord): RequestView {
  const { number, host, name, sizeBytes, protection, pool, state, why, volume } = request;
  const { askedAtMs } = request;
  const hostName = view.hosts.get(host)?.name ?? `host ${host}`;
  const made = volume ?? null;
  const what = { name, sizeBytes, protection, pool, state, why, volume: made, askedAtMs };
  return { request: number, host, hostName, ...what };
}

/** Null: one of them is gone meanwhile, and nothing is to be waited for. */
function isAssigned(view: ClusterView, pair: { volume: number; host: number }): boolean | null {
  return view.volumes.get(pair.volume)?.hosts.includes(pair.host) ?? null;
}

/** As the portal has it: who shows a certificate is its host alone. */
function isOf({ addresses, certificates }: HostRecord, one: AttachedFrom): boolean {
  if (one.certificate === null) return isAllowed(addresses, addressOf(one));
  return certificates.some(({ fingerprint }) => fingerprint === one.certificate);
}

/** Through the unix socket one comes from the unit itself. */
function addressOf({ address }: AttachedFrom): string {
  return address === "unix" ? "127.0.0.1" : address;
}

function numberIn(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : 0;
}

function apisOf(view: ClusterView): string[] {
  const urls: string[] = [];
  for (const { state, addresses, ula, ports } of view.units.values()) {
    if (state !== "admitted" || ports.api === undefined) continue;
    const address = addresses[0] ?? ula;
    urls.push(`http://${address.includes(":") ? `[${address}]` : address}:${ports.api}`);
  }
  return urls;
}
