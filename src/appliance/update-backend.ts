// SPDX-License-Identifier: Apache-2.0
//
// What the console asks of a unit about updates: the interface behind REST and CLI. Answers are
// plain objects, failures are Faults. Implemented by the update agent (update-agent.ts).

import type { UnitNumber } from "#base/record.ts";

export interface UpdateSlotView {
  version: string;
  state: "good" | "trial" | "bad";
  running: boolean;
  /** Null once it is good. */
  triesLeft: number | null;
}

export interface UpdateUnitView {
  unit: UnitNumber;
  name: string;
  alive: boolean;
  version: string;
  appliance: boolean;
  trial: boolean;
  /** Whether it has the files of the loaded update. */
  holds: boolean;
  /** What it does for the update, or why it failed; empty: nothing. */
  sentence: string;
}

/** The cluster's update: loaded, rolling, stopped or done. */
export interface UpdateRollView {
  version: string;
  state: "loaded" | "rolling" | "stopped" | "done";
  sentence: string;
  current: { unit: UnitNumber; name: string; phase: string } | null;
  done: UnitNumber[];
  waiting: UnitNumber[];
}

export interface UpdateStatusView {
  /** False: a process on some other system; it is updated where it came from. */
  appliance: boolean;
  version: string;
  trial: boolean;
  slots: UpdateSlotView[];
  /** The version whose files are whole on this unit. */
  holds: string | null;
  /** What goes on here; null: nothing. */
  work: { sentence: string; doneBytes: number; totalBytes: number } | null;
  /** How the last work or trial here ended; empty: nothing to say. */
  sentence: string;
  /** Why the last work here failed; null: it did not. */
  failed: { code: string; message: string } | null;
  roll: UpdateRollView | null;
  units: UpdateUnitView[];
  automatic: { auto: boolean; window: { from: string; to: string } | null };
}

export interface UpdatePlanView {
  version: string;
  /** First to last. */
  order: { unit: UnitNumber; name: string }[];
  /** What goes offline meanwhile, for the owner to accept. */
  consequences: string[];
  /** Why it may not begin now. */
  refusals: string[];
}

export interface UpdateStart {
  /** Null: the one that is loaded. */
  version: string | null;
  /** Only these units; null: the whole cluster. */
  only: UnitNumber[] | null;
  accept: boolean;
  downgrade: boolean;
}

export interface UploadState {
  version: string;
  /** What comes next; null: the update is whole. */
  wants: { name: string; offsetBytes: number; leftBytes: number } | null;
}

export interface UpdateBackend {
  status(): UpdateStatusView;
  /** Begins to load from a folder of the unit or a web server; `status` tells how it goes on. */
  load(place: string): Promise<void>;
  /** Begins to take the files of a signed manifest piece by piece. */
  beginUpload(signed: { manifest: string; signature: string }): Promise<UploadState>;
  uploadPiece(name: string, offsetBytes: number, piece: Uint8Array): Promise<UploadState>;
  plan(start: UpdateStart): UpdatePlanView;
  start(start: UpdateStart): Promise<void>;
  stop(): Promise<void>;
  /** This unit only and without its cluster's consent: for one that cannot reach it. */
  startAlone(options: { downgrade: boolean }): Promise<void>;
  setAutomatic(settings: UpdateStatusView["automatic"]): Promise<void>;
}
