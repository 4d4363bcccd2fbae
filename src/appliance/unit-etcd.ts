// SPDX-License-Identifier: Apache-2.0
//
// What a unit needs before its etcd can run: its address among units on a link, certificates, the
// program, and the child that supervises it. Made once per run of the unit.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { ETCD_PEER_PORT, voterName } from "#cluster/voters.ts";
import { issueEtcdCertificates } from "#machine/etcd-certificates.ts";
import type { EtcdCertificates } from "#machine/etcd-certificates.ts";
import { EtcdChild } from "#machine/etcd-child.ts";
import { addAddress } from "#machine/network.ts";
import type { StateDirectory } from "#machine/state-directory.ts";

export interface ReadyEtcd {
  child: EtcdChild;
  certificates: EtcdCertificates;
}

export interface UnitEtcdParts {
  state: StateDirectory;
  /** Of the unit; in its certificate. */
  name: string;
  /** Seed of the certificates' authority. */
  clusterSecret: Uint8Array;
  /** The first link that may be used; undefined: none is up. */
  firstLink(): string | undefined;
  /** An address was taken. */
  addressTaken(): void;
  unpackEtcd(directory: string): Promise<string>;
}

export class UnitEtcd {
  readonly #world: World;
  readonly #parts: UnitEtcdParts;
  #certificates: EtcdCertificates | null = null;
  #child: EtcdChild | null = null;

  constructor(world: World, parts: UnitEtcdParts) {
    this.#world = world;
    this.#parts = parts;
  }

  /** `address`: the unit's own in that cluster. */
  async prepare(clusterId: string, unit: number, address: string): Promise<ReadyEtcd> {
    const { state, name, clusterSecret, unpackEtcd } = this.#parts;
    await this.takeAddress(address);
    this.#certificates ??= await issueEtcdCertificates({
      ...{ clusterSecret, clusterUuid: clusterId, keyId: 1, name, address },
    });
    const binary = await unpackEtcd(state.pathOf("programs"));
    this.#child ??= new EtcdChild(this.#world.log, {
      directory: state.pathOf("etcd"),
      binary,
      name: voterName(unit),
      address,
      peerPort: ETCD_PEER_PORT,
    });
    return { child: this.#child, certificates: this.#certificates };
  }

  /** The unit's address among units, on its first link; DHCP does not touch it. */
  async takeAddress(address: string): Promise<void> {
    const link = this.#parts.firstLink();
    if (link === undefined) throw new Fault("notReady", "no network link is up");
    await addAddress(link, address, 64);
    this.#parts.addressTaken();
  }
}
