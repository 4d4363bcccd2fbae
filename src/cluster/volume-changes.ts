// SPDX-License-Identifier: Apache-2.0
//
// What several decisions do to a volume.

import type { Draft } from "./draft.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";

/** From here on nobody may attach, and its name is free; its slices go in parts. */
export function startDeleting(draft: Draft, volume: VolumeRecord): void {
  draft.put(keys.volume(volume.number), { ...volume, state: "deleting", hosts: [], allow: [] });
  draft.delete(keys.volumeName(volume.name));
}
