// SPDX-License-Identifier: Apache-2.0
//
// Fault: how the control path fails. One class, its code from one table of number, HTTP status,
// text and operator hint. Thrown; caught once, at the API's or the supervisor's edge; `cause` is
// kept.

export const faultTable = {
  badRequest: [1, 400, "the request is malformed", "check the field named in the message"],
  unauthorised: [2, 401, "not signed in", "use the token in the unit's state directory"],
  forbidden: [3, 403, "not allowed", "ask an administrator of the cluster"],
  adminOnly: [
    28,
    403,
    "only an administrator may do this",
    "ask somebody with the role admin, or use a token of that role",
  ],
  notFound: [4, 404, "no such thing", "list what there is"],
  conflict: [5, 409, "it changed in the meantime, or exists already", "look again, then retry"],
  tooLarge: [6, 413, "too large", "see the limit named in the message"],
  overQuota: [25, 403, "over the quota", "ask for less, or have the quota raised"],
  noSpace: [7, 507, "not enough free space", "add a disk or a unit, or ask for less"],
  notReady: [8, 503, "not ready yet", "wait; the unit says what it waits for"],
  controlStoreAway: [9, 503, "the control store does not answer", "is a majority of voters up?"],
  unknownOutcome: [
    10,
    504,
    "the answer did not come; it may have happened",
    "look before retrying",
  ],
  badConfiguration: [11, 400, "the configuration is wrong", "correct the setting named"],
  badMachine: [12, 500, "this machine lacks something", "see the message"],
  diskRefused: [13, 409, "the disk is not blank", "wipe it yourself, or name another"],
  diskFailed: [14, 500, "the disk failed", "replace it"],
  corrupt: [15, 500, "stored bytes are wrong", "see the event history"],
  wrongCluster: [16, 409, "belongs to another cluster", "remove it there first"],
  notAuthentic: [17, 403, "could not prove who it is", "compare the join secret on both sides"],
  removed: [27, 409, "removed from the cluster", "make the unit new: it joins as another one"],
  versionMismatch: [18, 409, "versions too far apart", "update the older unit"],
  programFailed: [19, 500, "a program we started failed", "see its output in the message"],
  internal: [20, 500, "our own bug", "please report it with the support bundle"],
  rateLimited: [22, 429, "too many tries", "wait a minute, then try again"],
  wrongHost: [21, 421, "asked under a name that is not ours", "use the unit's address or own name"],
  notTrusted: [26, 403, "the update cannot be trusted", "get it again from where it is published"],
  notFitting: [
    23,
    409,
    "the update does not fit",
    "take a version that does; the message says why",
  ],
  notAppliance: [24, 409, "this unit is not an appliance", "replace its executable where it runs"],
} as const satisfies Record<string, readonly [number, number, string, string]>;

export type FaultCode = keyof typeof faultTable;

export class Fault extends Error {
  override name = "Fault";
  readonly code: FaultCode;

  /** `detail` completes the table's text; it must hold no secret. */
  constructor(code: FaultCode, detail: string, options?: { cause?: unknown }) {
    super(`${faultTable[code][2]}: ${detail}`, options);
    this.code = code;
  }

  get number(): number {
    return faultTable[this.code][0];
  }
  get httpStatus(): number {
    return faultTable[this.code][1];
  }
  /** What the operator can do. */
  get hint(): string {
    return faultTable[this.code][3];
  }
}
