// SPDX-License-Identifier: Apache-2.0
//
// What the console asks of a unit about hosts: the interface behind REST, CLI and pages. Answers
// are plain objects, failures are Faults.

import type { HostNumber, VolumeNumber } from "#base/record.ts";

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
}

export interface HostSessionView {
  volume: VolumeNumber;
  address: string;
  tls: boolean;
  connections: number;
}

export interface AddHost {
  name: string;
  addresses: string[];
}

/** What is not said stays. */
export type ChangeHost = { [K in keyof AddHost]?: AddHost[K] | undefined };

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
}
