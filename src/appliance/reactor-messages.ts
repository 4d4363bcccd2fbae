// SPDX-License-Identifier: Apache-2.0
//
// What control thread and reactor say to each other: small, bounded, plain objects over the control
// channel (src/machine). The reactor knows nothing of names, events or the control store; it is
// told records, places and volumes, and tells proposals, link states and what its slices are doing.

import type {
  DiskNumber,
  HostNumber,
  Outcome,
  SliceNumber,
  SliceRecord,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import type { TlsRule } from "#base/tls.ts";
import type { DiskHealth, ScrubPace } from "#base/disk-health.ts";
import type { HappeningKind } from "#raid/happening.ts";
import type { SliceReport } from "./data-plane.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import type { IoTold } from "./io-history.ts";
import type { ShapeWithCopies } from "./forwarder.ts";
import type { KeptReport } from "./kept-members.ts";

/** A disk's place to open: a file or block device and the area in it that is ours, bytes. */
export interface DiskPlace {
  path: string;
  offsetBytes: number;
  sizeBytes: number;
  /** Direct I/O: always for block devices; for files if the file system can. */
  direct: boolean;
}

/** Where a disk is: in which unit, and in this one at which reactor, once one has it open. */
export interface DiskAt {
  disk: DiskNumber;
  unit: UnitNumber;
  reactor?: number | undefined;
}

/** Another unit of the cluster, as links need it. */
export interface PeerUnit {
  unit: UnitNumber;
  /** Ed25519, hex: what the other end must prove. */
  publicKey: string;
  /** Addresses in the order to try. */
  addresses: string[];
  port: number;
}

/** A volume as the portals export it. */
export interface ExportedVolume extends ShapeWithCopies {
  name: string;
  /** 32 hex digits; the same through every unit, for the volume's life. */
  uuid: string;
  /** Hosts that it is assigned to; empty: nobody may attach. */
  hosts: HostNumber[];
  tls: TlsRule;
  /** R8: what is kept of it from before its owner's overrides: exports of their own, only read. */
  copies: { number: number; name: string; lineages: number[] }[];
}

/** A host as the portals know it: where it comes from, and what it shows. */
export interface KnownHost {
  host: HostNumber;
  /** Addresses and ranges (CIDR). */
  addresses: string[];
  /** SHA-256 of its certificates, hex. */
  certificates: string[];
}

export type ToReactor =
  /** First message. Opens the portals; port 0 takes any. */
  | {
      kind: "start";
      nbd: { address: string; port: number }[];
      peer: { address: string; port: number }[];
      nbdUnixPath: string | null;
      /** Whether `secure` leads to TLS from the start. */
      tls: boolean;
      /** Where disks' keepsakes lie (configuration: memoryDirectory). */
      memoryDirectory: string;
    }
  /** One more reactor of this unit starts; what they share (machine/thread-ring.ts). */
  | { kind: "sibling"; reactor: number; ring: SharedArrayBuffer }
  /**
   * Opens a claimed disk, closed before if it is open. Where no store begins one is made first,
   * with this identity; with `anew` in any case. One of a cluster that is neither ours nor among
   * `leftClusters` is refused untouched. `cacheLost`: what it had not made durable is gone,
   * whatever this machine's memory says (R10). Answered by diskOpened/diskRefused.
   */
  | {
      kind: "openDisk";
      place: DiskPlace;
      identity: { clusterId: string; uuid: string };
      leftClusters: readonly string[];
      anew: boolean;
      cacheLost: boolean;
    }
  /**
   * The number the cluster gave it; stored durably, then its slices come alive. Answered by
   * diskReady.
   */
  | { kind: "numberDisk"; uuid: string; number: DiskNumber }
  | { kind: "closeDisk"; uuid: string }
  /** Which slices a disk holds, from this number on. Answered by held. */
  | { kind: "tellHeld"; disk: DiskNumber; from: SliceNumber }
  /**
   * It was taken out, or is to be opened anew after it failed: its slices give it up, and it is
   * closed as it is. Answered by diskDropped, also when it is not open.
   */
  | { kind: "dropDisk"; uuid: string; reason: string }
  /** Who we are in the cluster, once: peer links open. Keys hex. */
  | {
      kind: "join";
      unit: UnitNumber;
      clusterId: string;
      publicKey: string;
      privateKey: string;
      linkKey: string;
    }
  | { kind: "peers"; peers: PeerUnit[] }
  | { kind: "records"; records: SliceRecord[] }
  | { kind: "sliceGone"; slice: SliceNumber }
  | { kind: "places"; places: DiskAt[] }
  | { kind: "volume"; volume: ExportedVolume }
  | { kind: "volumeGone"; volume: VolumeNumber }
  | { kind: "host"; host: KnownHost }
  /** From now on, or not any more, `secure` leads to TLS. */
  | { kind: "tls"; isThere: boolean }
  | { kind: "hostGone"; host: HostNumber }
  | { kind: "proposalEnded"; id: number; outcome: Outcome; current: SliceRecord | null }
  /** R9: how often disks are scrubbed, and how fast; from the cluster's settings. */
  | { kind: "scrubPace"; pace: ScrubPace }
  /** Scrubs a disk at once; urgent: without yielding to hosts. */
  | { kind: "scrub"; disk: DiskNumber; urgent: boolean }
  /** A drill: this unit is dead to the slice so long (DataPlane.silence). Canaries only. */
  | { kind: "silence"; slice: SliceNumber; forMs: number }
  /**
   * A drill's host, one at a time: `start` ends one that runs. Told by `probed` until it is over.
   */
  | { kind: "probe"; act: "start"; volume: VolumeNumber; sizeBytes: number }
  | { kind: "probe"; act: "finish" }
  | { kind: "probe"; act: "abandon" }
  /** Before a deadline that would be missed, copies yield to hosts no more. */
  | { kind: "hurry"; isHurried: boolean }
  /** What the control station plans with disks (DiskPlans). */
  | { kind: "plans"; leaving: DiskNumber[]; maintained: DiskNumber[] }
  /** Orderly stop: heads released, disks closed, then stopped is said and the Worker ends. */
  | { kind: "stop" };

export interface OpenedDisk {
  path: string;
  place: DiskPlace;
  uuid: string;
  clusterId: string;
  /** 0: not numbered yet. */
  number: DiskNumber;
  incarnation: number;
  /** Slices with a member on it. */
  slices: number;
  /** What slices may use, and what is free of it. */
  sizeBytes: number;
  freeBytes: number;
  /** How well it keeps what it is given, and how far its scrub is. */
  health: DiskHealth;
}

/** What heads here met of wrong blocks since this was last told, by kind, disk and volume. */
export interface BlocksTold {
  kind: HappeningKind;
  disk: DiskNumber;
  volume: VolumeNumber;
  blocks: number;
  /** The first of them, in the volume. */
  offsetBytes: number;
}

/** Slices of one volume that heads here took over from one disk since this was last told. */
export interface TakeoverTold {
  volume: VolumeNumber;
  from: DiskNumber;
  slices: number;
  /** The longest of their pauses, ms. */
  pauseMs: number;
}

/** Connections from one address that use one volume here. */
export interface AttachedFrom {
  volume: VolumeNumber;
  address: string;
  tls: boolean;
  /** SHA-256 of the certificate that it showed, hex; null: none. */
  certificate: string | null;
  connections: number;
}

export interface ReactorReport {
  slices: SliceReport[];
  /** Copies of lineages that lost, on disks here. */
  kept: KeptReport[];
  disks: OpenedDisk[];
  links: { unit: UnitNumber; up: boolean }[];
  connections: number;
  /** Of those, what is attached to volumes; at most CONNECTIONS_MAX. */
  attached: AttachedFrom[];
  waiting: number;
}

export type FromReactor =
  | { kind: "started"; nbdPort: number; peerPort: number }
  | { kind: "startFailed"; sentence: string }
  | { kind: "diskOpened"; disk: OpenedDisk }
  | { kind: "diskRefused"; path: string; sentence: string; ofCluster: string | null }
  | { kind: "diskReady"; uuid: string; number: DiskNumber }
  | { kind: "diskFailed"; uuid: string; sentence: string }
  | { kind: "diskDropped"; uuid: string }
  /**
   * A part of what a disk holds, by the records that it has stored; slices that never had one are
   * left out. `next`: where the rest begins; null: that was all. `records` null: it is not open.
   */
  | {
      kind: "held";
      disk: DiskNumber;
      from: SliceNumber;
      records: SliceRecord[] | null;
      next: SliceNumber | null;
    }
  | { kind: "link"; unit: UnitNumber; up: boolean; reason: string }
  | { kind: "propose"; id: number; next: SliceRecord; expected: SliceRecord }
  /**
   * A host begins TLS: its connection, and one end of a pair whose other end the portal goes on
   * with. Descriptors of this process, the receiver's from now on.
   */
  | { kind: "secure"; encrypted: number; plain: number; peer: string }
  /** At most twice a second. */
  | { kind: "blocks"; told: BlocksTold[] }
  /** At most twice a second. */
  | { kind: "takeovers"; told: TakeoverTold[] }
  /** Every five seconds, of volumes that hosts asked something of. */
  | { kind: "io"; atMs: number; told: IoTold[] }
  /** Twice a second when something changed, else every five seconds. */
  | { kind: "report"; atMs: number; report: ReactorReport }
  /** Four times a second while a drill's host runs; null: there was no memory for one. */
  | { kind: "probed"; facts: ProbeFacts | null }
  | { kind: "log"; level: "debug" | "info" | "warn" | "error"; sentence: string; facts?: object }
  /** The control thread was silent, and all slices of this unit were given up for good. */
  | { kind: "released" }
  | { kind: "stopped" };
