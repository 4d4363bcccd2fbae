// SPDX-License-Identifier: Apache-2.0
//
// How a command fails: a Fault of ours, one that a unit answered, or a word that makes no sense.
// Each has a code (and so an exit code), a message and what to do about it.

import { Fault } from "#base/fault.ts";
import { exitCodeOf } from "./exit-codes.ts";

/** A command line that makes no sense; nothing was tried. */
export class Misuse extends Error {
  override name = "Misuse";
  readonly hint: string;

  constructor(message: string, hint = "cairn help") {
    super(message);
    this.hint = hint;
  }
}

/** A fault that a unit answered, as it told it; or that none answered. */
export class UnitFault extends Error {
  override name = "UnitFault";
  readonly code: string;
  readonly hint: string;

  constructor(told: { code: string; message: string; hint: string }) {
    super(told.message);
    this.code = told.code;
    this.hint = told.hint;
  }
}

export interface Failure {
  code: string;
  message: string;
  hint: string;
  exitCode: number;
}

/**
 * What a thrown thing is to the user. Our own bugs come out as they are: the caller rethrows them.
 */
export function failureOf(thrown: unknown): Failure | null {
  if (thrown instanceof Misuse) {
    const { message, hint } = thrown;
    return { code: "usage", message, hint, exitCode: exitCodeOf("badRequest") };
  }
  if (thrown instanceof Fault || thrown instanceof UnitFault) {
    const { code, message, hint } = thrown;
    return { code, message, hint, exitCode: exitCodeOf(code) };
  }
  return null;
}
