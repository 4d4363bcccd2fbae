// SPDX-License-Identifier: Apache-2.0
//
// What the control state knows of hosts, and of who may use which volume: one record per host; a
// volume's record names the hosts that it is assigned to; and one record per volume that a host
// has asked for by itself.
//
// Invariants
// - Deny by default: who comes from no address of an assigned host, and shows no certificate of
//   one, sees and opens nothing. Who shows a certificate is its host, wherever the address says it
//   is.
// - A certificate that was revoked is in no record, and so nobody's.
// - A number of a host is never given again, so that what still names a host that was removed
//   names nobody (upkeep forgets it).
// - The same range belongs to one host at most. Where ranges of two hosts overlap, an address is
//   both, and may use what either is assigned.
// - What a host has asked for, granted or waiting, never exceeds its quota but by a person's grant.

import { z } from "zod";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { POOLS_MAX } from "#base/limits.ts";
import type { HostNumber } from "#base/record.ts";
import type { VolumeRecord } from "./state.ts";
import { nameSchema, spokenNameSchema } from "./name-schema.ts";
import { FIRST_POOL } from "./pool-state.ts";
import type { ClusterView } from "./view.ts";

/** Hosts of a cluster. */
export const HOSTS_MAX = 1024;
/** Addresses and ranges of one host. */
export const HOST_ADDRESSES_MAX = 64;
/** Hosts that one volume is assigned to. */
export const VOLUME_HOSTS_MAX = 64;

/** Requests that wait for a person, of one host. */
export const REQUESTS_WAITING_MAX = 16;
/** Answered requests that are remembered. */
export const REQUESTS_KEPT = 128;
const WHY_CHARACTERS_MAX = 256;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
export const hostAddressesSchema = z.array(z.string().max(64)).max(HOST_ADDRESSES_MAX);

const protectionSchema = z.enum(Object.keys(layouts) as [Protection, ...Protection[]]);

/** What a host may have by asking for it with its token. */
export const HostPolicySchema = z.looseObject({
  /** Of all that it asked for and has; 0: it may ask for nothing. */
  quotaBytes: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** Which it may ask for; empty: any. */
  protections: z.array(protectionSchema).max(16),
  /** Pools that it may ask in, the one meant when none is said first; empty: the first pool. */
  pools: z.array(nameSchema).max(POOLS_MAX).default([]),
  /** Whether what keeps to the policy is granted at once; else a person is asked. */
  grants: z.boolean(),
});
export type HostPolicy = z.infer<typeof HostPolicySchema>;
export const NO_POLICY: HostPolicy = {
  quotaBytes: 0,
  protections: [],
  pools: [],
  grants: false,
};

/** Those that it may ask in, said in full. */
export function poolsOf({ pools }: HostPolicy): string[] {
  return pools.length === 0 ? [FIRST_POOL] : pools;
}

/** SHA-256 of a host's token, hex: the token itself is nowhere but with the host. */
export const tokenHashSchema = z.string().regex(/^[0-9a-f]{64}$/);

/** Certificates of one host at a time: an old one beside the new, on each of its machines. */
export const HOST_CERTIFICATES_MAX = 16;
/** SHA-256 of a certificate, hex. */
export const fingerprintSchema = z.string().regex(/^[0-9a-f]{64}$/);
const wallMs = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
/** One that the cluster's authority issued; its key is nowhere but with the host. */
export const HostCertificateSchema = z.looseObject({
  fingerprint: fingerprintSchema,
  /** Wall clock. The end is in the certificate too, and holds by that. */
  fromMs: wallMs,
  untilMs: wallMs,
});
export type HostCertificate = z.infer<typeof HostCertificateSchema>;

export const HostSchema = z.looseObject({
  number: positive,
  name: nameSchema,
  /** Addresses and ranges that it comes from, as they were written; none: it is known otherwise. */
  addresses: hostAddressesSchema,
  /** What it may show over TLS, wherever it comes from. */
  certificates: z.array(HostCertificateSchema).max(HOST_CERTIFICATES_MAX).default([]),
  /** Wall clock, for people only. */
  createdAtMs: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** Not there: it cannot ask. */
  tokenHash: tokenHashSchema.optional(),
  policy: HostPolicySchema.default(NO_POLICY),
});
export type HostRecord = z.infer<typeof HostSchema>;

export const REQUEST_STATES = ["waiting", "granted", "refused"] as const;

/** A volume that a host asked for. */
export const RequestSchema = z.looseObject({
  number: positive,
  host: positive,
  /** Of the volume. */
  name: nameSchema,
  sizeBytes: positive,
  protection: protectionSchema,
  /** Requests of before say nothing. */
  pool: nameSchema.default(FIRST_POOL),
  state: z.enum(REQUEST_STATES),
  /** Why it was refused; empty: it was not, or no reason was given. */
  why: z.string().max(WHY_CHARACTERS_MAX),
  /** What was made of it. */
  volume: positive.optional(),
  /** Wall clock, for people only. */
  askedAtMs: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type RequestRecord = z.infer<typeof RequestSchema>;
/** Arguments of a request. */
export const requestShape = {
  name: spokenNameSchema.optional(),
  sizeBytes: positive,
  protection: protectionSchema,
  /** Not said: the first that its policy names. */
  pool: nameSchema.optional(),
} as const;
export const whySchema = z.string().max(WHY_CHARACTERS_MAX);

export const hostKeys = {
  hosts: "/hosts/",
  requests: "/requests/",
  host: (number: HostNumber) => `/hosts/${number}`,
  hostName: (name: string) => `/host-names/${name}`,
  request: (number: number) => `/requests/${number}`,
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

/** The same of all hosts that have any, in one look at the volumes. */
export function volumesByHost(view: ClusterView): Map<HostNumber, VolumeRecord[]> {
  const found = new Map<HostNumber, VolumeRecord[]>();
  for (const volume of view.volumes.values()) {
    if (volume.state === "deleting") continue;
    for (const host of volume.hosts) {
      const known = found.get(host);
      if (known === undefined) found.set(host, [volume]);
      else known.push(volume);
    }
  }
  return found;
}

/** Whose token has this hash; null: no host's. */
export function hostByToken(view: ClusterView, tokenHash: string): HostRecord | null {
  for (const host of view.hosts.values()) if (host.tokenHash === tokenHash) return host;
  return null;
}

/** Bytes that count towards a host's quota: what it asked for and has, or waits for. */
export function askedBytes(view: ClusterView, host: HostNumber): number {
  let bytes = 0;
  for (const volume of view.volumes.values()) {
    if (volume.requestedBy !== host || volume.state === "deleting") continue;
    bytes += Math.max(volume.sizeBytes, volume.growth?.sizeBytes ?? 0);
  }
  for (const request of view.requests.values()) {
    if (request.host === host && request.state === "waiting") bytes += request.sizeBytes;
  }
  return bytes;
}

export type { HostNumber };
