// SPDX-License-Identifier: Apache-2.0
//
// What the control state knows of hosts, and of who may use which volume: one record per host; a
// volume's record names the hosts that it is assigned to.
//
// Invariants
// - Deny by default: an address that no assigned host has sees and opens nothing.
// - A number of a host is never given again, so that what still names a host that was removed
//   names nobody (upkeep forgets it).
// - The same range belongs to one host at most. Where ranges of two hosts overlap, an address is
//   both, and may use what either is assigned.

import { z } from "zod";
import type { HostNumber, VolumeNumber } from "#base/record.ts";
import type { VolumeRecord } from "./state.ts";
import { nameSchema } from "./name-schema.ts";
import type { ClusterView } from "./view.ts";

/** Hosts of a cluster. */
export const HOSTS_MAX = 1024;
/** Addresses and ranges of one host. */
export const HOST_ADDRESSES_MAX = 64;
/** Hosts that one volume is assigned to. */
export const VOLUME_HOSTS_MAX = 64;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
export const hostAddressesSchema = z.array(z.string().max(64)).max(HOST_ADDRESSES_MAX);

export const HostSchema = z.looseObject({
  number: positive,
  name: nameSchema,
  /** Addresses and ranges that it comes from, each as `rangeText` writes it. */
  addresses: hostAddressesSchema,
  /** Wall clock, for people only. */
  createdAtMs: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type HostRecord = z.infer<typeof HostSchema>;

export const hostKeys = {
  hosts: "/hosts/",
  host: (number: HostNumber) => `/hosts/${number}`,
  hostName: (name: string) => `/host-names/${name}`,
} as const;

export function hostByName(view: ClusterView, name: string): HostRecord | null {
  for (const host of view.hosts.values()) if (host.name === name) return host;
  return null;
}

/** Those that a volume is assigned to and that are there, by number. */
export function hostsOfVolume(view: ClusterView, volume: VolumeRecord): HostRecord[] {
  return volume.hosts.flatMap((number) => view.hosts.get(number) ?? []);
}

/** The volumes that are assigned to a host. */
export function volumesOfHost(view: ClusterView, host: HostNumber): VolumeRecord[] {
  return [...view.volumes.values()].filter(
    (volume) => volume.state !== "deleting" && volume.hosts.includes(host),
  );
}

export type { HostNumber, VolumeNumber };
