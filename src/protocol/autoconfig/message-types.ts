// SPDX-License-Identifier: Apache-2.0
//
// The messages of auto-configuration as objects: what the state machines say and hear. Ids are 16
// bytes, addresses too (address.ts), keys 32. messages.ts turns them into data areas and back.

import type * as wire from "./autoconfig.wire.ts";

export interface NetworkCard {
  name: string;
  hardwareAddress: Uint8Array;
  speedMegabits: number;
  mtuBytes: number;
}
export interface NetworkAddress {
  address: Uint8Array;
  prefixBits: number;
  /** Index in the list of cards. */
  card: number;
}

export interface UnitStartup {
  type: typeof wire.MessageType.unitStartup;
  name: string;
  softwareVersion: string;
  publicKey: Uint8Array;
  clusterId: Uint8Array;
  clusterState: number;
  stage: wire.Stage;
  joinOnly: boolean;
  spare: boolean;
  featureLevel: number;
  channelPort: number;
  listeningMs: number;
  cards: NetworkCard[];
  addresses: NetworkAddress[];
}
export interface Enquiry {
  type: typeof wire.MessageType.enquiry;
  enquiryNumber: number;
  /** Bits of Wanted. */
  wanted: number;
  term: number;
}
export interface StoreDisk {
  diskNumber: number;
  diskId: Uint8Array;
  state: wire.DiskState;
  health: wire.Health;
  sizeBytes: number;
  usedBytes: number;
  freeBytes: number;
  path: string;
}
export interface StoreSlice {
  diskNumber: number;
  slice: number;
  volume: number;
  index: number;
  mappedBytes: number;
  state: wire.SliceState;
}
export interface StorageInformation {
  type: typeof wire.MessageType.storageInformation;
  enquiryNumber: number;
  page: number;
  pageCount: number;
  leftOut: number;
  revision: number;
  disks: StoreDisk[];
  slices: StoreSlice[];
}
export interface Registered {
  type: typeof wire.MessageType.registered;
  clusterId: Uint8Array;
  clusterName: string;
  /** Empty: in none. */
  pool: string;
  role: wire.Role;
  unitNumber: number;
  term: number;
  apiAddress: Uint8Array;
  apiPort: number;
  channelPort: number;
  featureLevel: number;
}
export interface Heartbeat {
  type: typeof wire.MessageType.heartbeat;
  clusterId: Uint8Array;
  term: number;
  revision: number;
  sizeBytes: number;
  freeBytes: number;
  uptimeSeconds: number;
  loadPermille: number;
  health: wire.Health;
}
export interface StorageChanged {
  type: typeof wire.MessageType.storageChanged;
  change: wire.StorageChange;
  diskId: Uint8Array;
  diskNumber: number;
  sizeBytes: number;
  path: string;
  reason: string;
}
export interface ControlStationIs {
  type: typeof wire.MessageType.controlStationIs;
  clusterId: Uint8Array;
  clusterName: string;
  clusterState: number;
  stationUnitId: Uint8Array;
  publicKey: Uint8Array;
  groupAddress: Uint8Array;
  term: number;
  featureLevel: number;
  channelPort: number;
  apiPort: number;
  unitCount: number;
  addresses: Uint8Array[];
}
export interface UnitShutdown {
  type: typeof wire.MessageType.unitShutdown;
  clusterId: Uint8Array;
  kind: wire.ShutdownKind;
  expectedReturnSeconds: number;
  reason: string;
}
export type Message =
  | UnitStartup
  | Enquiry
  | StorageInformation
  | Registered
  | Heartbeat
  | StorageChanged
  | ControlStationIs
  | UnitShutdown;
