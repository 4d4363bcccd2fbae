// SPDX-License-Identifier: Apache-2.0
//
// The owner's token as its owner makes and keeps it: the one in a file, or a fresh one that goes
// there. Units and boot media get its hash alone.

import { Fault } from "#base/fault.ts";
import { CONFIGURATION_BYTES_MAX } from "#appliance/configuration.ts";
import type { CliMachine } from "./machine.ts";

/** As long as a unit's own token, in hex. */
const TOKEN_BYTES = 32;
const TOKEN_CHARACTERS_MIN = 32;

export interface OwnerToken {
  text: string;
  /** Whether it was made just now. */
  isFresh: boolean;
  /** Writes it down, if it was made just now: durable when it resolves. */
  keep(): Promise<void>;
  /** Takes away what `keep` wrote. */
  discard(): Promise<void>;
}

/** A Fault where the file holds something else. */
export function ownerToken(machine: CliMachine, file: string): OwnerToken {
  const there = machine.readText(file, CONFIGURATION_BYTES_MAX)?.trim() ?? null;
  if (there === null) return freshToken(machine, file);
  if (!/^[\x21-\x7e]+$/.test(there) || there.length < TOKEN_CHARACTERS_MIN) {
    const allowed = `at least ${TOKEN_CHARACTERS_MIN} visible characters without blanks`;
    throw new Fault("badConfiguration", `${file} holds no token: ${allowed}`);
  }
  const nothing = async () => {};
  return { text: there, isFresh: false, keep: nothing, discard: nothing };
}

/** A Fault conflict when it is kept where there is a file. */
export function freshToken(machine: CliMachine, file: string): OwnerToken {
  const text = machine.randomBytes(TOKEN_BYTES).toHex();
  let discard = async () => {};
  const keep = async () => {
    const reserved = await machine.reserveSecretFile(file);
    discard = () => reserved.discard();
    await reserved.fill(`${text}\n`);
  };
  return { text, isFresh: true, keep, discard: () => discard() };
}
