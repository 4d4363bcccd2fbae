// SPDX-License-Identifier: Apache-2.0
//
// Choosing the slot that the next boots take, by the boot loader's own means: it takes the newest
// version that has not run out of tries. So the chosen one gets tries where it had none left, and a
// newer one that shall not be taken loses its own. Nothing is written into the firmware's
// variables: a default set there would be taken even when it fails, and an update would not be
// booted.
//
// Order: first the chosen one can be booted, then the other is set aside. A power cut in between
// leaves two slots that can be.

import { renameSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { compareVersions } from "#base/release.ts";
import {
  type Slot,
  SLOT_PLACES,
  type SlotPlaces,
  TRIES_MAX,
  type UkiName,
  listSlots,
  ukiFileName,
} from "./slots.ts";
import { syncFolder } from "./state-directory.ts";

/** The slot that was chosen, as it is now. Throws Fault notFound. */
export function chooseSlot(version: string, places: SlotPlaces = SLOT_PLACES): Slot {
  const slots = listSlots(places);
  const chosen = slots.find((slot) => slot.version === version);
  if (chosen === undefined) {
    const there = slots.map((slot) => slot.version).join(", ");
    throw new Fault("notFound", `no slot holds version ${version}; there are: ${there || "none"}`);
  }
  const tries = triesOfChosen(chosen);
  if (tries !== chosen.tries) rename(places, chosen, tries);
  for (const slot of slots) {
    if (slot.tries?.left === 0 || compareVersions(slot.version, version) <= 0) continue;
    rename(places, slot, { left: 0, done: slot.tries?.done ?? 0 });
  }
  const now = listSlots(places).find((slot) => slot.version === version);
  if (now === undefined) throw new Fault("badMachine", `slot ${version} vanished while choosing`);
  return now;
}

/** No try left and none done: it was good, and put last for another one. */
function triesOfChosen({ tries, running }: Slot): UkiName["tries"] {
  if (tries === null || tries.left > 0) return tries;
  if (tries.done === 0) return null;
  // The one that runs is blessed by the name it has, or fails by it.
  return running ? tries : { left: TRIES_MAX, done: 0 };
}

/** The slot the boot loader takes next: the newest with tries left, else the newest. */
export function nextSlot(slots: readonly Slot[]): Slot | null {
  return slots.find((slot) => slot.tries?.left !== 0) ?? slots[0] ?? null;
}

function rename(places: SlotPlaces, slot: Slot, tries: UkiName["tries"]): void {
  const to = ukiFileName({ version: slot.version, tries });
  try {
    renameSync(path.join(places.ukiDirectory, slot.file), path.join(places.ukiDirectory, to));
    syncFolder(places.ukiDirectory);
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    throw new Fault("badMachine", `${slot.file} could not be renamed (${code})`, { cause });
  }
}

/** The same places below another root. */
export function placesBelow(root: string): SlotPlaces {
  const below = (file: string) => path.join(root, file);
  return {
    ukiDirectory: below(SLOT_PLACES.ukiDirectory),
    commandLineFile: below(SLOT_PLACES.commandLineFile),
    versionFile: below(SLOT_PLACES.versionFile),
    bootIdFile: below(SLOT_PLACES.bootIdFile),
  };
}
