// SPDX-License-Identifier: Apache-2.0
//
// Hosts, assignments and requests of the Backend in memory (memory-backend-fixture.ts); it refuses
// what a unit would refuse, by the same Faults.

import { Fault } from "#base/fault.ts";
import { createSeal } from "#machine/seal.ts";
import type { CreateVolume, VolumeView } from "#appliance/backend.ts";
import type {
  AddHost,
  AskVolume,
  ChangeHost,
  HostBackend,
  HostView,
  MadeCertificateView,
  OwnHostView,
  RequestView,
} from "#appliance/host-backend.ts";

const seal = createSeal();
type Create = (wish: CreateVolume) => Promise<VolumeView>;

export class MemoryHosts implements HostBackend {
  readonly #hosts: Omit<HostView, "volumes">[] = [];
  readonly #volumes: () => readonly VolumeView[];
  readonly #create: Create;
  readonly #requests: RequestView[] = [];
  /** By host, as SHA-256, hex. */
  readonly #tokens = new Map<number, string>();
  #next = 1;

  constructor(volumes: () => readonly VolumeView[], create: Create) {
    this.#volumes = volumes;
    this.#create = create;
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
    const policy = { quotaBytes: 0, protections: [], pools: [], grants: false };
    const asked = { askedBytes: 0, hasToken: false };
    const nothing = { createdAtMs: 0, sessions: [], certificates: [], ...asked };
    this.#hosts.push({ host, name, addresses, policy, ...nothing });
    return this.one(name);
  }

  async change(nameOrNumber: string, change: ChangeHost): Promise<HostView> {
    const { host } = this.one(nameOrNumber);
    if (change.addresses !== undefined) this.#check(change.addresses, host);
    const known = this.#known(host);
    known.name = change.name ?? known.name;
    known.addresses = change.addresses ?? known.addresses;
    known.policy = change.policy ?? known.policy;
    return this.one(String(host));
  }

  #known(host: number): Omit<HostView, "volumes"> {
    const known = this.#hosts.find((one) => one.host === host);
    if (known === undefined) throw new Fault("notFound", `there is no host ${host}`);
    return known;
  }

  #issued = 0;
  async makeCertificate(nameOrNumber: string): Promise<MadeCertificateView> {
    const { host } = this.one(nameOrNumber);
    const fingerprint = String(++this.#issued).padStart(64, "0");
    const certificate = { fingerprint, fromMs: 0, untilMs: 397 * 86_400_000 };
    this.#known(host).certificates.push(certificate);
    const pem = (what: string) =>
      `-----BEGIN ${what}-----\n${this.#issued}\n-----END ${what}-----\n`;
    return {
      ...certificate,
      certificate: pem("CERTIFICATE"),
      key: pem("PRIVATE KEY"),
      authority: pem("CERTIFICATE"),
    };
  }

  async revokeCertificate(nameOrNumber: string, fingerprint: string): Promise<void> {
    const { certificates } = this.#known(this.one(nameOrNumber).host);
    const at = certificates.findIndex((one) => one.fingerprint === fingerprint);
    if (at < 0) throw new Fault("notFound", "the host has no such certificate");
    certificates.splice(at, 1);
  }

  async makeToken(nameOrNumber: string): Promise<{ token: string }> {
    const { host } = this.one(nameOrNumber);
    const token = `${host}${this.#tokens.size}`.repeat(32).slice(0, 64);
    this.#tokens.set(host, seal.sha256(new TextEncoder().encode(token)).toHex());
    this.#known(host).hasToken = true;
    return { token };
  }

  async voidToken(nameOrNumber: string): Promise<void> {
    const { host } = this.one(nameOrNumber);
    this.#tokens.delete(host);
    this.#known(host).hasToken = false;
  }

  hostOf(tokenHash: string): number | null {
    for (const [host, hash] of this.#tokens) if (hash === tokenHash) return host;
    return null;
  }

  requests(): RequestView[] {
    return this.#requests;
  }

  async answer(number: number, { grant, why }: { grant: boolean; why: string }) {
    const request = this.#requests.find((one) => one.request === number);
    if (request === undefined) throw new Fault("notFound", `no request ${number}`);
    if (request.state !== "waiting") {
      throw new Fault("conflict", `request ${number} was ${request.state} already`);
    }
    if (!grant) return Object.assign(request, { state: "refused", why });
    return this.#grant(request);
  }

  async #grant(request: RequestView): Promise<RequestView> {
    const { name, sizeBytes, protection, pool, host } = request;
    const made = await this.#create({ name, sizeBytes, protection, pool, hosts: [String(host)] });
    return Object.assign(request, { state: "granted", volume: made.volume });
  }

  own(host: number): OwnHostView {
    const { name, policy, askedBytes } = this.#known(host);
    const volumes = this.#volumes()
      .filter((volume) => volume.hosts.some((one) => one.host === host))
      .map(({ volume, uuid, name: called, sizeBytes, protection, availability, tls, uris }) => {
        return { volume, uuid, name: called, sizeBytes, protection, availability, tls, uris };
      });
    const requests = this.#requests.filter((request) => request.host === host);
    const apis = ["http://10.0.0.1:7480", "http://10.0.0.2:7480"];
    return { host, name, policy, askedBytes, volumes, requests, apis };
  }

  async ask(host: number, wish: AskVolume): Promise<RequestView> {
    const known = this.#known(host);
    if (known.askedBytes + wish.sizeBytes > known.policy.quotaBytes) {
      throw new Fault("overQuota", `host ${known.name} may not have so much`);
    }
    const pools = known.policy.pools.length === 0 ? ["pool"] : known.policy.pools;
    const pool = wish.pool ?? pools[0] ?? "";
    if (!pools.includes(pool)) {
      const may = pools.join(" or ");
      throw new Fault("forbidden", `host ${known.name} may ask in the pool ${may}, not in ${pool}`);
    }
    const number = this.#requests.length + 1;
    const request: RequestView = {
      request: number,
      host,
      hostName: known.name,
      name: wish.name ?? `${known.name}-${number}`,
      sizeBytes: wish.sizeBytes,
      protection: wish.protection,
      pool,
      state: "waiting",
      why: "",
      volume: null,
      askedAtMs: 1_767_225_600_000,
    };
    if (known.policy.grants) await this.#grant(request);
    known.askedBytes += wish.sizeBytes;
    this.#requests.push(request);
    return request;
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
