// SPDX-License-Identifier: Apache-2.0
//
// TLS for hosts at this unit's NBD port: the relay's Worker, from the start where the configuration
// names a certificate, else once the cluster gives one and somebody wants it (a host that is known
// by a certificate, a volume that is served over TLS alone). It costs memory, so it is not there
// before.

import type { ClusterView } from "#cluster/view.ts";
import type { TlsEnd } from "#machine/tls-channel.ts";
import type { ClusterTls } from "#machine/tls-files.ts";
import type { Upgrade } from "#machine/tls-relay.ts";

export class NbdTls {
  #end: TlsEnd | null;
  readonly #start: () => Promise<TlsEnd>;
  #starting: Promise<TlsEnd> | null = null;

  /** `end`: it runs already. `start`: makes one without files. */
  constructor(end: TlsEnd | null, start: () => Promise<TlsEnd>) {
    this.#end = end;
    this.#start = start;
  }

  /** Whether it takes connections. */
  get isThere(): boolean {
    return this.#end !== null;
  }

  /** A connection to secure; only where `isThere`. */
  take(upgrade: Upgrade): void {
    this.#end?.take(upgrade);
  }

  /** What the cluster gives from now on. */
  async setCluster(cluster: ClusterTls): Promise<void> {
    this.#starting ??= this.#end === null ? this.#start() : Promise.resolve(this.#end);
    const end = await this.#starting;
    end.setCluster(cluster);
    this.#end = end;
  }

  close(): void {
    this.#end?.close();
  }
}

/** Whether any host is to be known by a certificate. */
export function hasHostCertificates(view: ClusterView): boolean {
  for (const { certificates } of view.hosts.values()) if (certificates.length > 0) return true;
  return false;
}

/** Whether hosts may want TLS at a unit that has no certificate of its own. */
export function wantsTls(view: ClusterView): boolean {
  if (hasHostCertificates(view)) return true;
  for (const { tls } of view.volumes.values()) if (tls === "required") return true;
  return false;
}
