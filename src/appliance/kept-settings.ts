// SPDX-License-Identifier: Apache-2.0
//
// What a boot medium said, kept in the state directory for starts without it, sealed because of the
// secrets in it.

import { Fault } from "#base/fault.ts";
import { SecretBox } from "#machine/secret-box.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { KEPT_FILE } from "./boot-medium.ts";
import type { SourceSettings } from "./configuration.ts";

/** Null when nothing is kept, or what is kept does not open: then the medium must speak again. */
export async function readKept(state: StateDirectory): Promise<SourceSettings | null> {
  const sealed = state.read(KEPT_FILE);
  if (sealed === null) return null;
  const box = await SecretBox.open(state);
  try {
    const text = new TextDecoder().decode(box.openSecret(sealed));
    // Checked by whoever uses it, as any other source of settings.
    return JSON.parse(text) as SourceSettings;
  } catch (error) {
    if (error instanceof Fault || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Does nothing when just that is kept already. */
export async function writeKept(state: StateDirectory, settings: SourceSettings): Promise<void> {
  const before = await readKept(state);
  if (before !== null && JSON.stringify(before) === JSON.stringify(settings)) return;
  const box = await SecretBox.open(state);
  state.write(KEPT_FILE, box.sealSecret(new TextEncoder().encode(JSON.stringify(settings))));
}
