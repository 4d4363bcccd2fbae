// SPDX-License-Identifier: Apache-2.0
//
// What the console asks of a unit about hosts: the interface behind REST, CLI and pages. Answers
// are plain objects, failures are Faults.

import type { Protection } from "#base/layout.ts";
import type { HostNumber, VolumeNumber } from "#base/record.ts";
import type { VolumeView } from "./backend.ts";

export interface HostView {
  host: HostNumber;
  name: string;
  /** Addresses and ranges that it comes from. */
  addresses: string[];
  /** Wall clock; 0: not known. */
  createdAtMs: number;
  /** What it is assigned, by name. */
  volumes: { volume: VolumeNumber; name: string }[];
  /** What it has attached through the unit that answers. */
  sessions: HostSessionView[];
  /** What it may have by asking for it. */
  policy: HostPolicyView;
  /** What counts towards its quota: what it asked for and has, or waits for. */
  askedBytes: number;
  /** Whether it has a token to ask with. */
  hasToken: boolean;
  /** Those that it may show over TLS, wherever it comes from. */
  certificates: HostCertificateView[];
}

export interface HostCertificateView {
  /** SHA-256 of it, hex. */
  fingerprint: string;
  /** Wall clock. */
  fromMs: number;
  untilMs: number;
}

/** Told once; the key is kept nowhere else. PEM. */
export interface MadeCertificateView extends HostCertificateView {
  certificate: string;
  key: string;
  /** Whose certificates units show that have none of their own. */
  authority: string;
}

export interface HostPolicyView {
  /** 0: it may ask for nothing. */
  quotaBytes: number;
  /** Empty: any. */
  protections: Protection[];
  /** Pools that it may ask in, the one meant when none is said first; empty: the first pool. */
  pools: string[];
  /** Whether what keeps to the policy is granted at once; else a person is asked. */
  grants: boolean;
}

export interface RequestView {
  request: number;
  host: HostNumber;
  hostName: string;
  /** Of the volume. */
  name: string;
  sizeBytes: number;
  protection: Protection;
  pool: string;
  state: "waiting" | "granted" | "refused";
  /** Why it was refused; empty: it was not, or no reason was given. */
  why: string;
  /** What was made of it; null: nothing yet. */
  volume: VolumeNumber | null;
  askedAtMs: number;
}

/** What a host is told of a volume that it may use. */
export type OwnVolumeView = Pick<
  VolumeView,
  "volume" | "uuid" | "name" | "sizeBytes" | "protection" | "availability" | "tls" | "uris"
>;

/** What a host is told of itself. */
export interface OwnHostView {
  host: HostNumber;
  name: string;
  policy: HostPolicyView;
  askedBytes: number;
  volumes: OwnVolumeView[];
  requests: RequestView[];
  /** Where the units' API is, as URLs: any of them answers the same. */
  apis: string[];
}

export interface AskVolume {
  /** Not said: made of the host's name. */
  name?: string | undefined;
  sizeBytes: number;
  protection: Protection;
  /** Not said: the first that its policy names. */
  pool?: string | undefined;
}

export interface HostSessionView {
  volume: VolumeNumber;
  address: string;
  tls: boolean;
  /** Of the certificate that it showed, as in `certificates`; null: known by its address. */
  certificate: string | null;
  connections: number;
}

export interface AddHost {
  name: string;
  addresses: string[];
}

/** What is not said stays. */
export interface ChangeHost {
  name?: string | undefined;
  addresses?: string[] | undefined;
  policy?: HostPolicyView | undefined;
}

export interface HostBackend {
  list(): HostView[];
  /** By name or number; a Fault notFound. */
  one(nameOrNumber: string): HostView;
  add(request: AddHost): Promise<HostView>;
  change(nameOrNumber: string, change: ChangeHost): Promise<HostView>;
  /** What it has attached ends at once, on every unit. */
  remove(nameOrNumber: string): Promise<void>;
  /** Volume and host by name or number. */
  assign(volume: string, host: string): Promise<void>;
  /** What the host has attached of it ends at once, on every unit. */
  revoke(volume: string, host: string): Promise<void>;
  /** One that the cluster's authority issues; a Fault notFound where the unit cannot. */
  makeCertificate(nameOrNumber: string): Promise<MadeCertificateView>;
  /** What was attached by it ends at once, on every unit. */
  revokeCertificate(nameOrNumber: string, fingerprint: string): Promise<void>;
  /** A token for the host to ask with, told once; the one before is void. */
  makeToken(nameOrNumber: string): Promise<{ token: string }>;
  /** It has none any more. */
  voidToken(nameOrNumber: string): Promise<void>;
  /** What hosts asked for: waiting, and lately answered. */
  requests(): RequestView[];
  /** By a person, who may go beyond the quota. */
  answer(request: number, answer: { grant: boolean; why: string }): Promise<RequestView>;
  /** What a host itself is told; a Fault notFound. */
  own(host: HostNumber): OwnHostView;
  /** A host asks by itself; a Fault overQuota, or a request that was granted or waits. */
  ask(host: HostNumber, wish: AskVolume): Promise<RequestView>;
}
