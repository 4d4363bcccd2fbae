// SPDX-License-Identifier: Apache-2.0
//
// The verbs between units about slices: what the head says to members, members to the head,
// forwarders to heads. One flat class, so that the data path's objects have one shape; which fields
// a verb uses stands at its kind. `protocol/peer` encodes them; the simulator sends them through
// the same codec.
//
// Every verb names its slice, and `toDisk`: the member it is for (0: the slice's head, whoever it
// is). `fromDisk` is the sending member, 0 for a forwarder. Links are in order and authenticated; a
// verb that comes twice is harmless: answers are matched by `sequence`, which its sender never uses
// again.

import { NO_BUFFER } from "./memory.ts";
import type { DiskNumber, Incarnation, SliceNumber, SliceRecord } from "./record.ts";
import { Status } from "./status.ts";
import { TrafficClass } from "./operation.ts";
import type { StatusRun } from "./operation.ts";
import type { MapEntry } from "./member-store.ts";

export const VerbKind = {
  // Head to member.
  /** Stores `record`, answers attached. Opens a new epoch, also after a link came back (R2, R4). */
  attach: 1,
  /** Payload at offset/length, flags FUA and KEEP_STAMP, epoch, stamp. Answered by done. */
  write: 2,
  /**
   * offset/length, epoch, stamp. Answered by done. With FLAG_LOST nothing is trimmed: `regions` are
   * blocks of the extent at `offset` that read as damaged from now on (H8); its length is 0.
   */
  trim: 3,
  /** offset/length, flags NO_HOLE and FUA, epoch, stamp. Answered by done. */
  writeZeroes: 4,
  /** epoch. The member's disk is flushed whole. Answered by done. */
  flush: 5,
  /** regions, epoch: the order to make them inactive (R6). Not answered. */
  deactivate: 6,
  /**
   * offset/length, epoch, flags PAST_CACHE and those of raid/digest.ts. Answered by done with
   * payload, or with the offset of the first wrong block (heal, reconcile, scrub).
   */
  read: 7,
  /** From extent `offset / EXTENT_BYTES`; answered by map. epoch. */
  mapRead: 8,
  /** tickMs is the head's clock as it sent this. Answered by grant. epoch (R4). */
  beacon: 9,
  /** The head gives up its headship in order and will not answer reads again. epoch (R4). */
  release: 10,

  // Member to head.
  /**
   * epoch, incarnation, syncedEpoch, syncedLineage, regions (active), status, credit; its record.
   */
  attached: 16,
  /** sequence, status, credit; payload where a read is answered. */
  done: 17,
  /** entries, ascending; `flags` 1 when there are more. sequence. */
  map: 18,
  /** tickMs echoes the beacon's. epoch (R4). entries: blocks in doubt (R9, raid/doubt.ts). */
  grant: 19,

  // Between members when the head is away (R3).
  /** Asks what the other holds. Answered by state. sequence. */
  enquire: 24,
  /**
   * Like attached, but promises nothing; `record` is the newest it stored, `stamp` its disk's
   * bootIncarnation (base/member-store.ts). Enquire carries the same. With status ioError and no
   * incarnation: the disk is out of use (R10), and its head need not wait for it.
   */
  state: 25,

  // Forwarder to head and back (in-band). tickMs echoes the head's last tick on this link,
  // flags and origin are the operation's (H7).
  forward: 32,
  /** sequence, status, payload or runs; tickMs is the head's clock now. */
  forwarded: 33,
  /** tickMs is the sender's clock: what a forwarder may echo. No slice. */
  tick: 34,
} as const;
export type VerbKind = (typeof VerbKind)[keyof typeof VerbKind];

export class PeerVerb {
  kind: VerbKind = VerbKind.tick;
  slice: SliceNumber = 0;
  fromDisk: DiskNumber = 0;
  toDisk: DiskNumber = 0;
  sequence = 0;
  epoch = 0;
  lineage = 0;
  class: TrafficClass = TrafficClass.replica;
  flags = 0;
  status: Status = Status.ok;
  /** OperationKind of a forward. */
  operation = 0;
  offsetBytes = 0;
  lengthBytes = 0;
  /** Stamp to store with KEEP_STAMP. */
  stamp = 0;
  tickMs = 0;
  /** H7: of write, trim, writeZeroes and forward: the request's Operation.origin, or 0. */
  origin = 0;
  credit = 0;
  incarnation: Incarnation = 0;
  syncedEpoch = 0;
  syncedLineage = 0;
  /** Payload in the Memory of whoever holds the verb, `payloadBytes` long; NO_BUFFER: none. */
  bufferOffset = NO_BUFFER;
  payloadBytes = 0;
  record: SliceRecord | null = null;
  regions: number[] | null = null;
  entries: MapEntry[] | null = null;
  runs: StatusRun[] | null = null;
  /**
   * Called by the link once the payload's bytes are no longer needed (sent, or the link is gone).
   */
  sent: (() => void) | null = null;
}

/**
 * Which kinds travel on the control lane, so that leases and acks never wait behind payload (R13).
 */
export function onControlLane(verb: PeerVerb): boolean {
  return verb.payloadBytes === 0;
}

/** The sender's clock, for who forwards to it. */
export function tickVerb(nowMs: number): PeerVerb {
  const verb = new PeerVerb();
  verb.kind = VerbKind.tick;
  verb.class = TrafficClass.control;
  verb.tickMs = nowMs;
  return verb;
}
