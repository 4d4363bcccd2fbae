// SPDX-License-Identifier: Apache-2.0
//
// The control station under chance: units die and come back, answers are lost, heads change their
// records meanwhile. Whatever happens, members of a slice never share a unit, numbers are given
// once, and the station writes only what is its own to write; in the end every volume is protected
// again.

import { drainMicrotasks } from "bun:jsc";
import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { recordRefusal } from "./record-rules.ts";
import { StationFixture } from "./station-fixture.ts";
import { keys, valueText } from "./state.ts";
import { volumeState } from "./volume-state.ts";

const GIB = 2 ** 30;
const UNITS = 6;

class Chaos {
  readonly made: StationFixture;
  readonly #byHeads = new Set<string>();
  readonly #last = new Map<number, SliceRecord>();
  broken: string[] = [];

  constructor(seed: number) {
    this.made = new StationFixture(drainMicrotasks, { seed, latencyMs: 10 });
    this.made.found({ reprotectAfterMs: 3000 });
    this.made.addDisk(1, 30);
    for (let unit = 2; unit <= UNITS; unit++) {
      this.made.addDisk(this.made.admit(unit === UNITS ? "spare" : "member"), 30);
    }
    this.made.createVolume("a", 4, "mirror-2");
    this.made.createVolume("b", 3, "mirror-3");
    this.made.core.client("observer").watch(keys.slices, 1, {
      onEvents: (events) => {
        for (const { kind, value } of events) {
          if (kind === "put") this.#check(JSON.parse(value) as SliceRecord);
        }
      },
      onLost: (reason) => this.broken.push(reason),
    });
    this.made.time.pass(100);
  }

  #check(record: SliceRecord): void {
    const before = this.#last.get(record.slice);
    this.#last.set(record.slice, record);
    const disks = disksOf(record);
    const units = disks.map((disk) => this.made.view().disks.get(disk)?.unit ?? -disk);
    if (new Set(units).size !== units.length) this.broken.push(`shared: ${valueText(record)}`);
    if (before === undefined) return;
    const byHead = this.#byHeads.has(`${record.slice} ${record.epoch}`);
    const refusal = recordRefusal(before, record, byHead ? record.head : "station");
    if (refusal !== null) this.broken.push(`${refusal}: ${valueText(record)}`);
  }

  alive(unit: number): boolean {
    return this.made.units.has(unit);
  }
  unitOf(disk: number): number {
    return this.made.view().disks.get(disk)?.unit ?? 0;
  }

  /** What heads and members do: take over, drop the dead, finish resyncs. */
  heads(chance: number): void {
    const view = this.made.view();
    for (const record of [...view.slices.values()]) {
      if (!this.made.prng.chance(chance)) continue;
      const next = this.#nextOf(record);
      if (next === null) continue;
      const key = keys.slice(record.slice);
      const id = `${record.slice} ${next.epoch}`;
      const ifs = [view.compare(key)];
      const puts = [{ key, value: valueText(next) }];
      // Known before the watch tells of it; taken back when it was not committed.
      const had = this.#byHeads.has(id);
      this.#byHeads.add(id);
      const { committed } = this.made.wait(
        this.made.core.client("head").transaction({ ifs, puts }),
      );
      if (!committed && !had) this.#byHeads.delete(id);
    }
  }

  #nextOf(record: SliceRecord): SliceRecord | null {
    const live = record.inSync.filter((member) => this.alive(this.unitOf(member.disk)));
    const first = live[0];
    if (first === undefined) return null;
    const epoch = record.epoch + 1;
    const head = live.some((member) => member.disk === record.head) ? record.head : first.disk;
    if (head !== record.head || live.length < record.inSync.length) {
      return { ...record, epoch, head, inSync: live };
    }
    const target = record.resyncing.find((disk) => this.alive(this.unitOf(disk)));
    if (target === undefined || live.length >= record.copies) return null;
    const incarnation = this.made.view().disks.get(target)?.incarnation ?? 1;
    const resyncing = record.resyncing.filter((disk) => disk !== target);
    return { ...record, epoch, inSync: [...live, { disk: target, incarnation }], resyncing };
  }

  killOne(): void {
    const running = [...this.made.units.keys()];
    if (running.length > 3) this.made.kill(this.made.prng.pick(running));
  }
  startOne(): void {
    const down = [];
    for (let unit = 1; unit <= UNITS; unit++) if (!this.alive(unit)) down.push(unit);
    if (down.length > 0) this.made.start(this.made.prng.pick(down));
  }
  healthy(): boolean {
    const view = this.made.view();
    return [...view.volumes.values()].every((volume) => {
      const { availability, protection } = volumeState(view, volume);
      return volume.state === "ready" && availability === "online" && protection === "protected";
    });
  }
}

test("chance: rules kept at every commit, protected in the end", () => {
  let moved = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const chaos = new Chaos(seed);
    const { made } = chaos;
    for (let step = 0; step < 150; step++) {
      made.core.faults.answerLost = made.prng.chance(0.2) ? 0.05 : 0;
      if (made.prng.chance(0.04)) chaos.killOne();
      if (made.prng.chance(0.05)) chaos.startOne();
      if (made.prng.chance(0.02)) {
        const args = {
          name: `v${step}`,
          sizeBytes: GIB,
          protection: "mirror-2" as const,
        };
        try {
          made.ask("createVolume", args);
        } catch (cause) {
          if (!(cause instanceof Fault)) throw cause; // no lead, no room, or not known
        }
      }
      made.core.faults.answerLost = 0;
      made.time.pass(made.prng.between(10, 500));
      chaos.heads(0.5);
      expect(chaos.broken).toEqual([]);
    }
    for (let unit = 1; unit <= UNITS; unit++) if (!chaos.alive(unit)) made.start(unit);
    for (let round = 0; round < 200 && !chaos.healthy(); round++) {
      made.time.pass(200);
      chaos.heads(1);
    }
    expect([seed, chaos.healthy(), chaos.broken]).toEqual([seed, true, []]);
    if (made.view().units.get(UNITS)?.role === "member") moved++;
  }
  expect(moved).toBeGreaterThan(0); // the spare was needed at least once
}, 60_000);
