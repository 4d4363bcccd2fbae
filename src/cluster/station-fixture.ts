// SPDX-License-Identifier: Apache-2.0
//
// Several units' control threads over one control store in memory, in virtual time: followers,
// leases, stations and command clients, as the daemon wires them. For tests.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import type { SliceRecord } from "#base/record.ts";
import type { World } from "#base/world.ts";
import { CommandClient } from "./commands.ts";
import type { CommandAnswers, CommandArguments, CommandName } from "./commands.ts";
import { ControlStation } from "./control-station.ts";
import { JournalRecorder } from "./journal-recorder.ts";
import type { JournalLines } from "./journal-recorder.ts";
import { MemoryControlStore } from "./memory-control-store.ts";
import type { MemoryControlClient } from "./memory-control-store.ts";
import { firstState, keys, valueText } from "./state.ts";
import type { SliceNews } from "./slice-news.ts";
import type { SettingsRecord, UnitRole } from "./state.ts";
import type { UpdateLimits } from "./update-roll.ts";
import { mayLead } from "./unit-changes.ts";
import { UnitLease } from "./unit-lease.ts";
import { ViewFollower } from "./view-follower.ts";
import type { ClusterView } from "./view.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

export interface FixtureUnit {
  unit: number;
  client: MemoryControlClient;
  follower: ViewFollower;
  lease: UnitLease;
  station: ControlStation;
  commands: CommandClient;
  /** What it tells of its slices. */
  news: SliceNews[];
}

export const GIB = 2 ** 30;

export class StationFixture {
  readonly time: VirtualTime;
  readonly core: MemoryControlStore;
  readonly proven = new Map<number, number>();
  readonly units = new Map<number, FixtureUnit>();
  readonly prng: Prng;
  /** Who votes in the control store, as stations are told. */
  voters: number[] | null = [1];
  updateLimits: UpdateLimits | null = null;
  /** Where a unit's station keeps its decisions; null: nowhere. */
  lines: ((unit: number) => JournalLines) | null = null;
  readonly #world: Pick<World, "clock" | "log" | "random">;

  constructor(drain: () => void, options: { seed?: number; latencyMs?: number } = {}) {
    this.prng = new Prng(options.seed ?? 1);
    this.time = new VirtualTime(drain);
    const most = options.latencyMs ?? 2;
    this.core = new MemoryControlStore({
      clock: this.time,
      timers: this.time,
      prng: this.prng.fork(),
      latencyMs: { least: 0, most },
    });
    const chance = this.prng.fork();
    this.#world = {
      clock: this.time,
      log: { write: () => {} },
      random: {
        fill: (bytes) => {
          for (let at = 0; at < bytes.length; at++) bytes[at] = chance.below(256);
        },
        fraction: () => chance.fraction(),
      },
    };
  }

  /** For whom units ask from now on. */
  actor: string | null = null;

  /** Founds the cluster with unit 1, as formation does. */
  found(settings: Partial<SettingsRecord> = {}, sliceBytes = GIB): void {
    const puts = firstState({
      uuid: "c".repeat(32),
      name: "test",
      featureLevel: 1,
      sliceBytes,
      settings,
    });
    const numbers = puts.find((put) => put.key === keys.numbers);
    assert(numbers !== undefined, "the first state counts");
    numbers.value = valueText({ ...JSON.parse(numbers.value), unit: 2 });
    const unit = { ...unitArguments(1, "member"), number: 1, pool: "pool" };
    puts.push(
      { key: keys.unit(1), value: valueText({ ...unit, state: "admitted", admittedAtMs: 0 }) },
      { key: keys.unitId(unit.id), value: valueText({ unit: 1 }) },
    );
    this.wait(this.core.client("founder").transaction({ ifs: [], puts }));
    this.start(1);
    this.time.pass(1000);
  }

  /** Starts a unit's control thread. */
  start(unit: number): FixtureUnit {
    const client = this.core.client(`unit ${unit}`);
    const follower = new ViewFollower(this.#world, this.time, client);
    const run = String(this.prng.u32()).padStart(32, "0");
    const lease = new UnitLease(this.#world, this.time, {
      store: client,
      follower,
      options: {
        ...{
          unit,
          run,
          mayLead: () => mayLead(follower.view, unit),
          news: () => this.units.get(unit)?.news ?? [],
        },
        deadSince: (other) => this.proven.get(other) ?? null,
      },
    });
    const station = new ControlStation(this.#world, this.time, {
      store: client,
      follower,
      voters: null,
      leads: () => lease.leads,
      votingUnits: () => this.voters,
      recorder: this.#recorder(unit, () => lease.leads),
      ...(this.updateLimits === null ? {} : { updateLimits: this.updateLimits }),
    });
    lease.onLead = (leads) => {
      if (leads) station.beganToLead();
    };
    const actor = () => this.actor;
    const asking = { store: client, follower, unit, actor };
    const commands = new CommandClient(this.#world, this.time, asking);
    const made = { unit, client, follower, lease, station, commands, news: [] };
    this.units.set(unit, made);
    follower.start();
    lease.start();
    station.start();
    return made;
  }

  #recorder(unit: number, leads: () => boolean): JournalRecorder | null {
    if (this.lines === null) return null;
    const { log } = this.#world;
    const how = { version: "test", leads, wallMs: () => this.time.wallMs() };
    return new JournalRecorder(this.lines(unit), log, how);
  }

  /** Since when a unit is known to be dead, and every unit that runs looks at once. */
  prove(unit: number): void {
    this.proven.set(unit, this.time.nowMs());
    for (const one of this.units.values()) one.lease.wake();
  }

  /** Pulls the plug: nothing of the unit runs any more, its lease runs out. */
  kill(unit: number): void {
    const gone = this.units.get(unit);
    assert(gone !== undefined, "the unit runs");
    this.units.delete(unit);
    gone.client.setConnected(false);
    gone.follower.stop();
    gone.station.stop();
    void gone.lease.stop();
  }

  /** Admits a unit by the command of another, and starts it. */
  admit(role: UnitRole = "member"): number {
    const asker = this.any();
    const number = (asker.follower.view.numbers?.unit ?? 0) as number;
    const { unit } = this.ask("admitUnit", unitArguments(number, role), asker);
    this.start(unit);
    this.time.pass(500);
    return unit;
  }

  addDisk(unit: number, gib: number, incarnation = 1): number {
    const uuid = String(this.prng.u32()).padStart(32, "d");
    const args = { uuid, path: `/disk-${uuid.slice(-6)}`, sizeBytes: gib * GIB, incarnation };
    return this.ask("registerDisk", args, this.units.get(unit)).disk;
  }

  createVolume(
    name: string,
    gib: number,
    protection: CommandArguments<"createVolume">["protection"],
  ): number {
    const args = { name, sizeBytes: gib * GIB, protection };
    const { volume } = this.ask("createVolume", args);
    this.until("it is ready", () => this.view().volumes.get(volume)?.state === "ready");
    return volume;
  }

  ask<N extends CommandName>(
    name: N,
    args: CommandArguments<N>,
    from: FixtureUnit = this.any(),
  ): CommandAnswers[N] {
    return this.wait(from.commands.ask(name, args));
  }

  any(): FixtureUnit {
    const first = this.units.values().next().value;
    assert(first !== undefined, "a unit runs");
    return first;
  }

  view(): ClusterView {
    return this.any().follower.view;
  }

  leaders(): number[] {
    return [...this.units.values()].filter((unit) => unit.lease.leads).map((unit) => unit.unit);
  }

  /** What a slice's head would do: commits a record through some client. */
  propose(next: SliceRecord): void {
    const view = this.view();
    const key = keys.slice(next.slice);
    const { committed } = this.wait(
      this.any().client.transaction({
        ifs: [view.compare(key)],
        puts: [{ key, value: valueText(next) }],
      }),
    );
    assert(committed, "the record was as the view had it");
    this.time.pass(50);
  }

  until(what: string, holds: () => boolean, limitMs = 60_000): void {
    for (let passed = 0; passed < limitMs; passed += 20) {
      if (holds()) return;
      this.time.pass(20);
    }
    assert(false, `came to pass: ${what}`);
  }

  /** Lets time pass until a promise has ended. */
  wait<T>(promise: Promise<T>, limitMs = 60_000): T {
    let ended: { value: T } | { cause: unknown } | null = null;
    promise.then(
      (value) => {
        ended = { value };
      },
      (cause: unknown) => {
        ended = { cause };
      },
    );
    for (let passed = 0; passed < limitMs && ended === null; passed += 5) this.time.pass(5);
    const result = ended as { value: T } | { cause: unknown } | null;
    if (result === null) throw new Fault("internal", "it never ended");
    if ("cause" in result) throw result.cause;
    return result.value;
  }
}

export function unitArguments(number: number, role: UnitRole): CommandArguments<"admitUnit"> {
  return {
    id: String(number).padStart(32, "0"),
    publicKey: String(number).padStart(64, "0"),
    name: `box${number}`,
    addresses: [`10.0.0.${number}`],
    ula: `fd00::${number}`,
    ports: { peer: 10810 },
    featureLevel: 1,
    version: "0.1.0",
    role,
  };
}
