// SPDX-License-Identifier: Apache-2.0
//
// All that an update touches on this machine, in one place for the update agent: the payloads it
// keeps, the keys it trusts, the slots, the restart; and a note that outlives the restart, so that
// the next run can say how a trial ended.

import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { PayloadStore } from "./payload-store.ts";
import { runProgram } from "./program.ts";
import { findBootDisk } from "./slot-disk.ts";
import { armSlot, withdrawSlot, writeSlot } from "./slot-writer.ts";
import type { SlotPayload, SlotWriterOptions } from "./slot-writer.ts";
import { SLOT_PLACES, listSlots, readBootId, runningSystem } from "./slots.ts";
import type { RunningSystem, Slot, SlotPlaces } from "./slots.ts";
import { writeWhole } from "./state-directory.ts";

/** Whom an image trusts to sign updates. */
export const UPDATE_KEYS_FILE = "/usr/share/cairn/update-keys.json";
const KEYS_BYTES_MAX = 64 << 10;
const NOTE_FILE = "trial.json";
const RESTART_MS_MAX = 60_000;

/** A trial that was begun. */
export interface TrialNote {
  version: string;
  from: string;
}

export interface UpdateMachine {
  readonly payloads: PayloadStore;
  /** As manifests call it. */
  readonly architecture: string;
  /** 32 hex digits; another one after every boot. */
  readonly bootId: string;
  /** Null: this machine is no appliance. */
  readonly system: RunningSystem | null;
  slots(): Slot[];
  /** Text of the trusted keys; null where there are none. */
  trustedKeys(): string | null;
  write(payload: SlotPayload, onStep: (step: string) => void): Promise<void>;
  arm(payload: SlotPayload): Promise<void>;
  withdraw(): void;
  /** Begins an orderly restart of the machine. */
  restart(): Promise<void>;
  /** The trial that was begun last and not looked at yet. */
  readNote(): string | null;
  writeNote(note: TrialNote): void;
  removeNote(): void;
}

export interface UpdateMachineOptions {
  /** Where payloads are kept: the unit's state directory. */
  folder: string;
  places?: SlotPlaces;
  keysFile?: string;
  /** The disk that the slots lie on; else the one of the running root. */
  disk?: string;
  restart?: () => Promise<void>;
}

export function createUpdateMachine(options: UpdateMachineOptions): UpdateMachine {
  const { folder, places = SLOT_PLACES, keysFile = UPDATE_KEYS_FILE } = options;
  const system = runningSystem(places);
  const note = path.join(folder, NOTE_FILE);
  const writing = async (): Promise<SlotWriterOptions> => {
    if (system === null) throw new Fault("notAppliance", "its system has no second slot");
    return { disk: options.disk ?? (await findBootDisk(system.rootHash)), places };
  };
  return {
    payloads: new PayloadStore(folder),
    architecture: architectureName(),
    bootId: readBootId(places),
    system,
    slots: () => (system === null ? [] : listSlots(places)),
    trustedKeys: () => readText(keysFile, KEYS_BYTES_MAX),
    write: async (payload, onStep) => writeSlot(payload, { ...(await writing()), onStep }),
    arm: async (payload) => armSlot(payload, await writing()),
    withdraw: () => withdrawSlot({ places }),
    restart: options.restart ?? restartMachine,
    readNote: () => readText(note, KEYS_BYTES_MAX),
    writeNote: (trial) => writeWhole(note, new TextEncoder().encode(`${JSON.stringify(trial)}\n`)),
    removeNote: () => rmSync(note, { force: true }),
  };
}

/** systemd ends the daemon in order, so that heads leave before the machine goes. */
async function restartMachine(): Promise<void> {
  await runProgram("systemctl", ["reboot"], {
    timeoutMs: RESTART_MS_MAX,
    debianPackage: "systemd",
  });
}

function architectureName(): string {
  return process.arch === "x64" ? "x86-64" : process.arch;
}

function readText(file: string, bytesMax: number): string | null {
  try {
    return readFileSync(file, "utf8").slice(0, bytesMax);
  } catch (cause) {
    if ((cause as { code?: string }).code === "ENOENT") return null;
    throw new Fault("badMachine", `${file} cannot be read`, { cause });
  }
}
