// SPDX-License-Identifier: Apache-2.0
//
// Status: how an operation on the data path ended. A small integer, returned and never thrown. Each
// protocol has one exhaustive function from Status to its own codes.

export const Status = {
  /** Done as asked. */
  ok: 0,
  /** A disk failed the call; the disk is ejected (R10). */
  ioError: 1,
  /** No member can give these sectors (H8). */
  mediumError: 2,
  /** A block does not match its stored checksum (R9); only between store and slice. */
  checksumMismatch: 3,
  /** No extent left, or no credit for one (R10). Refused before any member was touched. */
  noSpace: 4,
  /** Beyond the end of the volume, slice or disk. */
  outOfRange: 5,
  /** Malformed or not allowed in this state; nothing was done. */
  invalid: 6,
  /** This unit is not the head of that slice (any more); nothing was done. */
  notHead: 7,
  /** The sender's epoch or lineage is old (R4). */
  staleEpoch: 8,
  /** A forwarded request whose last sending is too old (H7); nothing was done. */
  expired: 9,
  /** It may or may not have taken effect: a timed-out write is not a failed write. */
  unknownOutcome: 10,
  /** The volume or assignment allows no writes. */
  readOnly: 11,
  /** Out of buffers or slots, or beyond the end that the slice has here yet; try again. */
  busy: 12,
  /** The unit is going down in order. */
  shuttingDown: 13,
  /** No such volume, slice, member or region. */
  notFound: 14,
  /** The link or connection ended before the answer. */
  linkLost: 15,
  /** The caller took it back before it started. */
  cancelled: 16,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

const names = Object.keys(Status) as (keyof typeof Status)[];

/** The status's name, for events and logs. */
export function statusName(status: Status): string {
  return names[status] ?? `status ${status}`;
}

/** A Status from a number that came over a wire; an unknown one counts as ioError. */
export function statusOf(value: number): Status {
  return value >= 0 && value < names.length ? (value as Status) : Status.ioError;
}
