// SPDX-License-Identifier: Apache-2.0
//
// Assertions: our own bugs only, never outside bytes. Always on, also in production: a process that
// finds itself wrong dies and is restarted, since a wrong write is worse than a pause.

/** Thrown by a failed assertion; nothing catches it but the process's last handler. */
export class AssertionFailure extends Error {
  override name = "AssertionFailure";
}

/** Dies when `condition` does not hold. State the condition positively, one per call. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unreachable: ${String(value)}`);
}
