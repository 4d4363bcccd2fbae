// SPDX-License-Identifier: Apache-2.0
//
// Updates of a backend in memory for the tests of API and CLI: one update that can be loaded,
// planned, started and stopped, and what was asked for.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import type {
  UpdateBackend,
  UpdatePlanView,
  UpdateStart,
  UpdateStatusView,
  UploadState,
} from "#appliance/update-backend.ts";

export class MemoryUpdates implements UpdateBackend {
  /** Null: this unit is no appliance. */
  state: UpdateStatusView = {
    appliance: true,
    version: "0.1.0",
    trial: false,
    slots: [{ version: "0.1.0", state: "good", running: true, triesLeft: null }],
    holds: null,
    work: null,
    sentence: "",
    failed: null,
    roll: null,
    units: [],
    automatic: { auto: false, window: null },
  };
  consequences: string[] = [];
  refusals: string[] = [];
  readonly loads: string[] = [];
  readonly starts: UpdateStart[] = [];
  readonly alone: { downgrade: boolean }[] = [];
  /** What an upload still wants, by name; and what came. */
  uploadFiles: { name: string; bytes: number }[] = [];
  readonly uploaded = new Map<string, number[]>();
  /** Told to every look at the status, to play what goes on meanwhile. */
  onStatus: () => void = () => {};

  status(): UpdateStatusView {
    this.onStatus();
    return structuredClone(this.state);
  }

  async load(place: string): Promise<void> {
    if (!this.state.appliance) throw new Fault("notAppliance", "its executable is not ours");
    this.loads.push(place);
    this.state.work = { sentence: `loads from ${place}`, doneBytes: 10, totalBytes: 100 };
  }

  async beginUpload(signed: { manifest: string; signature: string }): Promise<UploadState> {
    if (signed.signature !== "good") throw new Fault("notTrusted", "it was altered");
    for (const { name } of this.uploadFiles) this.uploaded.set(name, []);
    return this.#upload();
  }

  async uploadPiece(name: string, offsetBytes: number, piece: Uint8Array): Promise<UploadState> {
    const taken = this.uploaded.get(name);
    if (taken === undefined || taken.length !== offsetBytes) {
      throw new Fault("conflict", "another piece is awaited");
    }
    taken.push(...piece);
    return this.#upload();
  }

  #upload(): UploadState {
    for (const { name, bytes } of this.uploadFiles) {
      const offsetBytes = this.uploaded.get(name)?.length ?? 0;
      if (offsetBytes >= bytes) continue;
      return { version: "0.2.0", wants: { name, offsetBytes, leftBytes: bytes - offsetBytes } };
    }
    this.state.holds = "0.2.0";
    return { version: "0.2.0", wants: null };
  }

  plan(): UpdatePlanView {
    if (this.state.roll === null) throw new Fault("notFound", "no update is loaded");
    return {
      version: this.state.roll.version,
      order: [
        { unit: 2, name: "box2" },
        { unit: 1, name: "box1" },
      ],
      consequences: this.consequences,
      refusals: this.refusals,
    };
  }

  async start(start: UpdateStart): Promise<void> {
    endDryRun("it begins to roll");
    this.starts.push(start);
    if (this.state.roll !== null) this.state.roll.state = "rolling";
  }

  async stop(): Promise<void> {
    endDryRun("it stops");
    if (this.state.roll !== null) this.state.roll.state = "stopped";
  }

  async startAlone(options: { downgrade: boolean }): Promise<void> {
    this.alone.push(options);
  }

  async setAutomatic(settings: UpdateStatusView["automatic"]): Promise<void> {
    endDryRun("updates start by themselves, or do not");
    this.state.automatic = settings;
  }
}
