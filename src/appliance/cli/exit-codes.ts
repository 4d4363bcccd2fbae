// SPDX-License-Identifier: Apache-2.0
//
// Exit codes: documented, stable, and derived from the codes of Faults in one table. `cairn help
// exit-codes` prints them.

import type { FaultCode } from "#base/fault.ts";

export const EXIT = {
  ok: [0, "it was done"],
  failed: [1, "it failed"],
  usage: [2, "the command, a flag or the configuration is wrong; nothing was tried"],
  machine: [3, "this machine lacks something: root, a kernel feature, a program"],
  notFound: [4, "there is no such thing"],
  conflict: [5, "it exists already, changed in the meantime, or is used otherwise"],
  notReady: [6, "not ready: no unit answers, or it waits, or the control store is away"],
  notAllowed: [7, "not allowed: no token, a wrong one, or not authentic"],
  unknown: [8, "the answer did not come; it may have happened"],
  noSpace: [9, "not enough free space"],
} as const satisfies Record<string, readonly [number, string]>;

export type ExitName = keyof typeof EXIT;

const exitOfFault: Record<FaultCode, ExitName> = {
  badRequest: "usage",
  unauthorised: "notAllowed",
  adminOnly: "notAllowed",
  forbidden: "notAllowed",
  notFound: "notFound",
  conflict: "conflict",
  tooLarge: "usage",
  noSpace: "noSpace",
  overQuota: "notAllowed",
  notReady: "notReady",
  controlStoreAway: "notReady",
  unknownOutcome: "unknown",
  badConfiguration: "usage",
  badMachine: "machine",
  diskRefused: "conflict",
  diskFailed: "failed",
  corrupt: "failed",
  wrongCluster: "conflict",
  removed: "conflict",
  notAuthentic: "notAllowed",
  versionMismatch: "conflict",
  programFailed: "failed",
  internal: "failed",
  rateLimited: "notReady",
  wrongHost: "usage",
  notTrusted: "notAllowed",
  notFitting: "conflict",
  notAppliance: "machine",
};

/** The exit code of a fault's code; a code that a newer unit invented is a plain failure. */
export function exitCodeOf(code: string): number {
  return EXIT[Object.hasOwn(exitOfFault, code) ? exitOfFault[code as FaultCode] : "failed"][0];
}

export function exitCodesInWords(): string {
  return Object.values(EXIT)
    .map(([number, sentence]) => `  ${number}  ${sentence}\n`)
    .join("");
}
