// SPDX-License-Identifier: Apache-2.0
//
// What the commands share that take something away for good: it is shown, tried by --dry-run, asked
// back by its name unless --yes is said, and then meant by its number: what took the name since is
// another one.

import type { Call } from "./command.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";

export function yesFlag(cost: string): FlagDefinition {
  return { name: "yes", kind: "yesno", sentence: `do not ask: ${cost}` };
}

export interface Removed {
  name: string;
  /** By number, with all that is asked of it. */
  path: string;
  /** What a person is told before; null: nobody needs to be asked. */
  cost: string | null;
}

/** False: it was tried only. */
export async function removeNamed(call: Call, { name, path, cost }: Removed): Promise<boolean> {
  if (await call.tried("DELETE", path)) return false;
  if (cost !== null) await confirmByName(call, { name, cost });
  await call.askPlain("DELETE", path);
  return true;
}

/** Unless --yes is said: a person reads what it costs and types the name, or nothing is done. */
export async function confirmByName(
  call: Call,
  { name, cost }: { name: string; cost: string },
): Promise<void> {
  if (call.flags.isSet("yes")) return;
  const answer = await call.machine.ask(`${cost}. Type its name to go on: `);
  if (answer === null) throw new Misuse("this needs --yes where nobody can be asked");
  if (answer.trim() !== name) throw new Misuse("nothing was changed: that is not its name");
}
