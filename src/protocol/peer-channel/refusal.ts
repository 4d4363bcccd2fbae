// SPDX-License-Identifier: Apache-2.0
//
// Why a channel was not opened, or ended: one table of number and sentence. The number travels; the
// sentence is what console and screen show, so it says what a person can do.

export const refusalTable = {
  malformed: [1, "the other end does not speak the channel's format"],
  unknownVersion: [2, "the other end speaks another version of the channel; update the older unit"],
  wrongPurpose: [3, "the link was opened for something this end does not offer there"],
  notAuthentic: [4, "the join secrets differ, or something on the way changed the bytes"],
  wrongIdentity: [5, "the other end could not prove that it is the unit it says it is"],
  ourselves: [6, "the other end is this unit itself"],
  wrongCluster: [7, "the other end belongs to another cluster"],
  notFormed: [8, "the other end is in no cluster yet"],
  versionsApart: [9, "the software of the two units is too far apart; update the older one"],
  notAdmitted: [10, "the other end does not admit this unit"],
  otherUnit: [11, "another unit answered than the one that was called"],
  tooSlow: [12, "the handshake took too long"],
  brokenRecord: [13, "a record was changed, repeated or left out on the way"],
  removed: [14, "this unit was removed from the cluster by its owner"],
} as const satisfies Record<string, readonly [number, string]>;

export type RefusalCode = keyof typeof refusalTable;

const codeByNumber = new Map<number, RefusalCode>(
  (Object.keys(refusalTable) as RefusalCode[]).map((code) => [refusalTable[code][0], code]),
);

/** Null for a number that this version does not know. */
export function refusalCodeOf(number: number): RefusalCode | null {
  return codeByNumber.get(number) ?? null;
}

export interface Refusal {
  readonly code: RefusalCode;
  /** For people; never a secret. */
  readonly sentence: string;
  /** The other end refused us, rather than we it. */
  readonly byPeer: boolean;
  /** Whether who refused has proved itself; else anybody on the way could have said so. */
  readonly proved: boolean;
}
