// SPDX-License-Identifier: Apache-2.0
//
// A unit's REST API as a lab asks it: over the unix socket in the unit's state directory, or from
// the wire with a token, as an administrator's machine does.

import type { HostView } from "#appliance/host-backend.ts";
import type {
  ChangeVolume,
  CreateVolume,
  DiskView,
  EventView,
  ResyncView,
  SettingsView,
  UnitStatus,
  UnitView,
  VolumeView,
} from "#appliance/backend.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { RebuildView, RestoreView } from "#appliance/control-desk.ts";
import type { DrillState } from "#appliance/drills.ts";
import type { ArrivalsView } from "#appliance/arrivals.ts";
import type { WhatIf } from "#appliance/what-if.ts";
import { pause } from "./until.ts";

/** Longest wait for an answer; creating a volume may take as long as CREATE_MS. */
const ANSWER_MS = 5_000;
const CREATE_MS = 30_000;
const DRILL_LOOK_MS = 500;

/** The unit refused, with a code of base/fault.ts. */
export class Refused extends Error {
  override name = "Refused";
  readonly code: string;
  constructor(code: string, text: string) {
    super(text);
    this.code = code;
  }
}

export interface Recovery {
  resyncs: ResyncView[];
  resyncedBytes: number;
}

export type Door =
  | { socket: string }
  /** The token is asked for each time: a box gives it only once it is claimed. */
  | { url: string; token: () => string | null; answerMs: number };

export class UnitApi {
  readonly #door: Door;
  readonly #unit: string;

  constructor(door: Door, unit: string) {
    this.#door = door;
    this.#unit = unit;
  }

  status(): Promise<UnitStatus> {
    return this.#ask("GET", "status");
  }
  async units(): Promise<UnitView[]> {
    return (await this.#ask<{ units: UnitView[] }>("GET", "units")).units;
  }
  async disks(): Promise<DiskView[]> {
    return (await this.#ask<{ disks: DiskView[] }>("GET", "disks")).disks;
  }
  async scrubDisk(disk: number, urgent: boolean): Promise<void> {
    await this.#ask("POST", `disks/${disk}/scrub`, { body: { urgent } });
  }
  evacuate(unit: string, options: Partial<Record<"thenRemove" | "force" | "dryRun", boolean>>) {
    return this.#ask<WhatIf>("POST", `units/${unit}/evacuate`, { body: options });
  }
  maintain(unit: string, options: { forMs?: number; force?: boolean } = {}): Promise<WhatIf> {
    return this.#ask<WhatIf>("POST", `units/${unit}/maintenance`, { body: options });
  }
  async endMaintenance(unit: string): Promise<void> {
    await this.#ask("DELETE", `units/${unit}/maintenance`);
  }
  replace(unit: string, by: string): Promise<WhatIf> {
    return this.#ask("POST", `units/${unit}/replace`, { body: { by } });
  }
  async remove(unit: string, force = false): Promise<void> {
    await this.#ask("DELETE", `units/${unit}?force=${force}`);
  }
  arrivals(): Promise<ArrivalsView> {
    return this.#ask("GET", "arrivals");
  }
  /** Lets in the waiting unit with these words. */
  async admit(words: string): Promise<void> {
    await this.#ask("POST", "arrivals/admit", { body: { words } });
  }
  /** Makes a removed unit new. */
  async renew(): Promise<void> {
    await this.#ask("POST", "renew");
  }
  async losses(): Promise<LossRow[]> {
    return (await this.#ask<{ losses: LossRow[] }>("GET", "losses")).losses;
  }
  whatIf(question: string): Promise<WhatIf> {
    return this.#ask("GET", `what-if?${question}`);
  }
  /** Fails over a canary volume; answers once it is over. */
  async drill(unit: string, untilMs: number): Promise<DrillState> {
    let state = await this.#ask<DrillState>("POST", "drill", { body: { unit } });
    while (state.phase !== "over" && performance.now() < untilMs) {
      await pause(DRILL_LOOK_MS);
      const seen = await this.#ask<{ state: DrillState | null }>("GET", "drill");
      state = seen.state ?? state;
    }
    return state;
  }
  async takeBackup(): Promise<void> {
    await this.#ask("POST", "control/backups");
  }
  /** Begins a new control store on this unit from its newest backup. */
  restoreControl(dryRun: boolean): Promise<RestoreView> {
    return this.#ask("POST", "control/restore", { body: { dryRun } });
  }
  /** Begins a new control store on this unit without a backup. */
  rebuildControl(dryRun: boolean): Promise<RebuildView> {
    return this.#ask("POST", "control/rebuild", { body: { dryRun } });
  }
  /** All disks are there that are left, after a rebuild. */
  async settleControl(): Promise<void> {
    await this.#ask("POST", "control/settle");
  }
  /** Makes whoever asks the owner, with a password for the pages: the owner's token. */
  async claim(password: string): Promise<string> {
    const body = { password };
    return (await this.#ask<{ token: string }>("POST", "claim", { body })).token;
  }
  async retireDisk(disk: number): Promise<void> {
    await this.#ask("POST", `disks/${disk}/retire`);
  }
  async returnDisk(disk: number): Promise<void> {
    await this.#ask("POST", `disks/${disk}/return`);
  }
  changeSettings(changes: Partial<SettingsView>): Promise<SettingsView> {
    return this.#ask("PATCH", "settings", { body: changes });
  }
  volume(name: string): Promise<VolumeView> {
    return this.#ask("GET", `volumes/${name}`);
  }
  async volumes(): Promise<VolumeView[]> {
    return (await this.#ask<{ volumes: VolumeView[] }>("GET", "volumes")).volumes;
  }
  createVolume(request: CreateVolume, options = { dryRun: false }): Promise<VolumeView> {
    const query = options.dryRun ? "?dryRun=true" : "";
    return this.#ask("POST", `volumes${query}`, { body: request, limitMs: CREATE_MS });
  }
  growVolume(name: string, sizeBytes: number): Promise<VolumeView> {
    return this.#ask("POST", `volumes/${name}/grow`, { body: { sizeBytes }, limitMs: CREATE_MS });
  }
  changeVolume(name: string, change: ChangeVolume): Promise<VolumeView> {
    return this.#ask("PATCH", `volumes/${name}`, { body: change });
  }
  async deleteVolume(name: string): Promise<void> {
    await this.#ask("DELETE", `volumes/${name}`);
  }
  /** On without the copy that is missing. */
  goOn(name: string): Promise<VolumeView> {
    return this.#ask("POST", `volumes/${name}/go-on`);
  }
  async discardCopy(name: string, number: number): Promise<void> {
    await this.#ask("DELETE", `volumes/${name}/kept/${number}`);
  }
  async hosts(): Promise<HostView[]> {
    return (await this.#ask<{ hosts: HostView[] }>("GET", "hosts")).hosts;
  }
  host(name: string): Promise<HostView> {
    return this.#ask("GET", `hosts/${name}`);
  }
  /** The name of the host that comes from these addresses, added if there is none. */
  async hostFrom(...addresses: string[]): Promise<string> {
    const known = (await this.hosts()).find((host) => host.addresses.join() === addresses.join());
    if (known !== undefined) return known.name;
    const name = `host-${addresses[0]?.replaceAll(/[^0-9a-z.]/g, "-")}`;
    return (await this.#ask<HostView>("POST", "hosts", { body: { name, addresses } })).name;
  }
  async assign(volume: string, host: string): Promise<void> {
    await this.#ask("PUT", `volumes/${volume}/hosts/${host}`);
  }
  async revoke(volume: string, host: string): Promise<void> {
    await this.#ask("DELETE", `volumes/${volume}/hosts/${host}`);
  }
  async events(since = 0): Promise<EventView[]> {
    const query = `events?since=${since}&limit=1000`;
    return (await this.#ask<{ events: EventView[] }>("GET", query)).events;
  }
  recovery(): Promise<Recovery> {
    return this.#ask("GET", "recovery");
  }

  async #ask<T>(
    method: string,
    route: string,
    options: { body?: object; limitMs?: number } = {},
  ): Promise<T> {
    const { ok, status, text } = await this.#fetch(method, route, options);
    if (ok) return (text === "" ? null : JSON.parse(text)) as T;
    throw this.#refused(text, `${method} ${route}: HTTP ${status}`);
  }

  async #fetch(method: string, route: string, options: { body?: object; limitMs?: number }) {
    const body =
      options.body === undefined
        ? { headers: {} }
        : { body: JSON.stringify(options.body), headers: { "content-type": "application/json" } };
    try {
      const { url, answerMs, ...how } = this.#way();
      const answer = await fetch(`${url}/api/v1/${route}`, {
        method,
        signal: AbortSignal.timeout(options.limitMs ?? answerMs),
        ...body,
        ...how,
        headers: { ...body.headers, ...how.headers },
      });
      return { ok: answer.ok, status: answer.status, text: await answer.text() };
    } catch (cause) {
      // A TypeError as a rule: of the unit's making, not of ours.
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${this.#unit} does not answer ${method} ${route}: ${why}`, { cause });
    }
  }

  #way(): { url: string; answerMs: number; unix?: string; headers?: Record<string, string> } {
    const door = this.#door;
    if ("socket" in door) {
      return { url: "http://localhost", answerMs: ANSWER_MS, unix: door.socket };
    }
    const token = door.token();
    const headers = token === null ? {} : { headers: { authorization: `Bearer ${token}` } };
    return { url: door.url, answerMs: door.answerMs, ...headers };
  }

  #refused(text: string, asked: string): Error {
    let error: { code?: string; message?: string };
    try {
      error = (JSON.parse(text) as { error: typeof error }).error;
    } catch {
      return new Error(`${this.#unit}: ${asked}, no fault but: ${text.slice(0, 200)}`);
    }
    return new Refused(error.code ?? "", `${this.#unit}: ${asked}: ${error.message}`);
  }
}
