// SPDX-License-Identifier: Apache-2.0
//
// Figures of two units in memory, for the tests of API, page and CLI: the second is away, and says
// nothing.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import type { BoxView } from "#appliance/box-view.ts";
import type { NetworkEntry } from "#appliance/network-settings.ts";
import type { RequestCounts } from "#base/request-meter.ts";
import { STEPS, STEP_MS } from "#appliance/io-history.ts";
import type { UnitFigures } from "#appliance/unit-figures.ts";
import type { CopyingView, Neighbours, VolumeChart } from "#appliance/unit-neighbours.ts";

const GIB = 2 ** 30;
const NEW_YEAR_2026_MS = 1_767_225_600_000;

/** A load that rises and falls within the hour; its second quarter is quiet. */
function counts(step: number): RequestCounts | null {
  if (step >= STEPS / 4 && step < STEPS / 2) return null;
  const wave = 1 + Math.sin(step / 20);
  const reads = Math.round(1000 * wave) + 10;
  const writes = Math.round(400 * wave) + 10;
  return {
    reads,
    writes,
    others: 5,
    errors: 0,
    readBytes: reads * 16_384,
    writeBytes: writes * 65_536,
    readMs: reads * 0.4,
    writeMs: writes * 1.5,
    longestMs: step === STEPS - 40 ? 2480 : 6 + wave,
  };
}

export class MemoryNeighbours implements Neighbours {
  readonly lights = new Map<number, boolean>();
  readonly searched = new Map<number, boolean>();
  readonly isSearched = false;
  copied: CopyingView = { resyncs: [], missing: [] };

  async figures(unit: number): Promise<UnitFigures> {
    if (unit !== 1) throw new Fault("notReady", "the unit does not answer");
    return {
      unit,
      uptimeSeconds: 93_784,
      version: "0.1.0",
      kernel: "6.12.0",
      cores: 4,
      loadPermille: 180,
      memorySizeBytes: 8 * GIB,
      memoryAvailableBytes: 6 * GIB,
      linksUp: 0,
      links: 1,
      connections: 3,
      waitingRequests: 0,
      headedSlices: 2,
      resyncedBytes: 5 * GIB,
      resyncs: [],
      io: counts(0) as RequestCounts,
      isSearched: this.searched.get(unit) ?? false,
      cards: [
        { name: "eth0", cable: true },
        { name: "eth1", cable: false },
      ],
      drives: [
        {
          disk: 1,
          path: "/disks/1",
          model: "Samplium 4000",
          serial: "S4-0001",
          kind: "flash",
          bay: "Slot 03",
          light: this.lights.get(1) ?? false,
          smart: {
            passed: true,
            temperatureCelsius: 34,
            powerOnHours: 8123,
            wearPercent: 2,
            mediaErrors: 0,
          },
          smartMissing: "",
        },
      ],
    };
  }

  async chart(_volume: number): Promise<VolumeChart> {
    const steps = Array.from({ length: STEPS }, (_, step) => counts(step));
    const chart = { endsAtMs: NEW_YEAR_2026_MS, stepMs: STEP_MS, steps };
    return { chart, from: [1], missing: [2] };
  }

  async copying(): Promise<CopyingView> {
    return this.copied;
  }

  readonly erased: string[] = [];

  async eraseDisk(unit: number, path: string): Promise<void> {
    if (unit !== 1) throw new Fault("notReady", "the unit does not answer");
    if (path !== "/disks/other") throw new Fault("notFound", `no disk ${path} here`);
    endDryRun(`all that is on ${path} is erased`);
    this.erased.push(path);
  }

  /** The first unit's box; what no appliance refuses is refused where this is set. */
  isAppliance = true;
  isClockKept = false;
  wallMs = NEW_YEAR_2026_MS;
  network: NetworkEntry[] = [];
  trial: NetworkEntry[] | null = null;

  async box(unit: number): Promise<BoxView> {
    if (unit !== 1) throw new Fault("notReady", "the unit does not answer");
    const { isAppliance, isClockKept, wallMs, network, trial } = this;
    const card = { mac: "52:54:00:00:00:01", cable: true, addresses: ["10.0.0.1/24"] };
    return {
      ...{ unit, isAppliance, isClockKept, wallMs, network },
      cards: [
        { name: "eth0", ...card },
        { name: "eth1", mac: "52:54:00:00:00:02", cable: false, addresses: [] },
      ],
      trial: trial === null ? null : { network: trial, leftMs: 120_000, problem: "" },
    };
  }

  async tryNetwork(unit: number, network: NetworkEntry[]): Promise<BoxView> {
    endDryRun("it is tried");
    this.#requireAppliance();
    this.trial = network;
    return this.box(unit);
  }

  async endTrial(unit: number, { keep }: { keep: boolean }): Promise<BoxView> {
    endDryRun("the trial ends");
    if (this.trial === null) throw new Fault("conflict", "no network is tried");
    if (keep) this.network = this.trial;
    this.trial = null;
    return this.box(unit);
  }

  async setClock(unit: number, wallMs: number): Promise<BoxView> {
    endDryRun("its clock is set");
    this.#requireAppliance();
    if (this.isClockKept) throw new Fault("conflict", "a time server keeps its clock right");
    this.wallMs = wallMs;
    return this.box(unit);
  }

  #requireAppliance(): void {
    if (!this.isAppliance) throw new Fault("notAppliance", "it is a program on somebody's machine");
  }

  async lightDisk(disk: number, on: boolean): Promise<void> {
    if (disk !== 1) throw new Fault("notFound", `there is no light at disk ${disk}`);
    endDryRun(on ? "the light is on" : "the light is off");
    this.lights.set(disk, on);
  }

  async search(unit: number, on: boolean): Promise<void> {
    if (unit !== 1) throw new Fault("notReady", "the unit does not answer");
    endDryRun("its screen says so");
    this.searched.set(unit, on);
  }
}
