// SPDX-License-Identifier: Apache-2.0
//
// An owner's override in the simulator (contract.md, R8): decided by the control station's own code
// from a view made of what the simulated control store and units are, committed there. The history
// is divided: what hosts did before goes on counting for the lineage that lost, and for the new one
// as far as the disk that goes on had it.

import { assert } from "#base/assert.ts";
import { SECTOR_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { Draft } from "#cluster/draft.ts";
import { discardCopy, goOn } from "#cluster/lineages.ts";
import { keys } from "#cluster/state.ts";
import { ClusterView } from "#cluster/view.ts";
import { History, NEVER } from "#test/sim/history.ts";
import type { HostAct, Moment } from "#test/sim/history.ts";
import { judge } from "#test/sim/judge.ts";
import type { SimCluster } from "#test/sim/sim-cluster.ts";
import { SectorTags } from "#test/sim/sector-tags.ts";
import type { SimUnit, UnitProcess } from "#test/sim/sim-unit.ts";

const VOLUME = 1;
const READ_SECTORS = 64;

function recordsOf(unit: SimUnit): [string, object][] {
  const records: [string, object][] = [];
  const { number, process } = unit;
  const id = String(number).padStart(32, "0");
  const place = { addresses: [], ula: "fd00::1", ports: {}, role: "member", pool: "pool" };
  records.push([
    keys.unit(number),
    {
      ...place,
      number,
      id,
      publicKey: id + id,
      name: `unit${number}`,
      state: "admitted",
      featureLevel: 1,
      version: "1",
      admittedAtMs: 0,
    },
  ]);
  if (process?.ready === true && unit.storeReachable) {
    records.push([keys.aliveOf(number), { unit: number, run: id }]);
  }
  for (const [disk, store] of process?.stores ?? []) {
    const { incarnation } = store;
    const uuid = String(disk).padStart(32, "d");
    const sizeBytes = 96 << 20;
    const state = "ready";
    const record = {
      number: disk,
      uuid,
      unit: number,
      path: "/d",
      sizeBytes,
      incarnation,
      state,
    };
    records.push([keys.disk(disk), record]);
  }
  return records;
}

/** What the control station would see. */
function viewOf(cluster: SimCluster): ClusterView {
  const view = new ClusterView();
  const records: [string, object][] = [
    [
      keys.cluster,
      {
        uuid: "c".repeat(32),
        name: "sim",
        generation: 1,
        state: "used",
        featureLevel: 1,
        sliceBytes: 4 << 20,
      },
    ],
    [keys.numbers, { unit: 9, disk: 9, volume: 9, slice: 99, event: 1, host: 1, request: 1 }],
  ];
  for (const unit of cluster.units) records.push(...recordsOf(unit));
  const [shape] = cluster.shapes;
  assert(shape !== undefined, "there is a volume");
  const { slices, sizeBytes, sliceBytes } = shape;
  records.push([
    keys.volume(VOLUME),
    {
      ...{ number: VOLUME, uuid: "a".repeat(32), name: "v", sizeBytes, sliceBytes, slices },
      ...{ protection: "mirror-2", pool: "pool", state: "ready", overrides: overridesOf(cluster) },
    },
  ]);
  const events = records.map(([key, value]) => {
    return { kind: "put" as const, key, value: JSON.stringify(value), modRevision: 1 };
  });
  const { entries } = cluster.controlStore.read(keys.slices);
  for (const { key, value, modRevision } of entries) {
    events.push({ kind: "put", key, value, modRevision });
  }
  view.apply(events, cluster.controlStore.revision);
  return view;
}

function overridesOf(cluster: SimCluster): number {
  const kept = cluster.losses.records().flatMap((record) => record.kept ?? []);
  return Math.max(0, ...kept.map(({ before }) => before));
}

/** What the draft writes to slices. */
function commit(cluster: SimCluster, draft: Draft): void {
  const { ifs, puts = [] } = draft.transaction(0);
  const isSlice = ({ key }: { key: string }) => key.startsWith(keys.slices);
  const result = cluster.controlStore.commit({
    ifs: ifs.filter(isSlice),
    puts: puts.filter(isSlice),
  });
  assert(result.committed, "nobody else changed it");
}

/** The lineage that lost: what hosts did in it, and what is read of it now. */
export class LostLineage {
  readonly #cluster: SimCluster;
  readonly #history = new History();
  readonly #number: number;
  reads = 0;

  private constructor(cluster: SimCluster, number: number) {
    this.#cluster = cluster;
    this.#number = number;
  }

  /** `leftAt`: the moment from which on nothing came to the disk that goes on. Hosts rest. */
  static override(cluster: SimCluster, leftAt: Moment): LostLineage {
    const draft = new Draft(viewOf(cluster));
    let drawn = 0;
    const newId = () => (++drawn).toString(16).padStart(13, "5").padEnd(32, "0");
    const { number, left } = goOn(draft, { volume: VOLUME }, { wallMs: 1000, newId });
    assert(left === 0, "it fits into one transaction");
    commit(cluster, draft);
    const lost = new LostLineage(cluster, number);
    lost.#divide(leftAt);
    const [shape] = cluster.shapes;
    const records = (shape?.slices ?? []).map((slice) => cluster.record(slice));
    const lineages = records.map((record) => {
      return record.kept?.find(({ before }) => before === number)?.lineage ?? 0;
    });
    const copies = [{ number, lineages }];
    const made = { ...shape, copies } as (typeof cluster.shapes)[number];
    cluster.shapes[0] = made;
    for (const { process } of cluster.units) {
      process?.deliver(() => process.plane.volumeChanged(made));
    }
    return lost;
  }

  #divide(leftAt: Moment): void {
    const { history } = this.#cluster;
    const now = history.moment();
    const before = history.acts.splice(0);
    const losses = history.losses.splice(0);
    this.#history.acts.push(...before);
    this.#history.losses.push(...losses);
    while (this.#history.moment() < now);
    history.losses.push(...losses.filter(({ moment }) => moment < leftAt));
    for (const act of before) {
      assert(act.ack < now || act.fence < now || act.kind === "read", "hosts rest");
      if (act.ack < leftAt) history.acts.push(act);
      else if (act.invoke < leftAt) history.acts.push(...halfDone(act, now));
    }
  }

  /** Reads all that hosts wrote, through a unit; the status of the first read that failed. */
  readAll(process: UnitProcess): Status {
    for (let first = 0; first < this.#sectors; first += READ_SECTORS) {
      const status = this.#read(process, first);
      if (status !== Status.ok) return status;
    }
    return Status.ok;
  }

  get #sectors(): number {
    return this.#cluster.hostVolumes[0]?.sectors ?? 0;
  }

  #read(process: UnitProcess, firstSector: number): Status {
    const count = READ_SECTORS;
    const place = { volume: VOLUME, firstSector, count };
    const act = this.#history.begin("read", place, { host: 98, unit: process.unit });
    const buffer = process.memory.allocate(count * SECTOR_BYTES);
    const status = this.ask(process, { kind: OperationKind.read, firstSector, count, buffer });
    if (status === Status.ok) {
      const tags = new SectorTags(process.memory.bytes.buffer);
      const values = Array.from({ length: count }, (_, at) =>
        tags.decode(buffer + at * SECTOR_BYTES, VOLUME, firstSector + at),
      );
      this.#history.acked(act, values);
      this.reads++;
    }
    process.memory.release(buffer);
    return status;
  }

  /** One request to the copy through a unit; `busy`: no answer came. */
  ask(
    process: UnitProcess,
    wish: { kind: OperationKind; firstSector: number; count: number; buffer?: number },
  ): Status {
    const operation = new Operation();
    operation.kind = wish.kind;
    operation.offsetBytes = wish.firstSector * SECTOR_BYTES;
    operation.lengthBytes = wish.count * SECTOR_BYTES;
    operation.bufferOffset = wish.buffer ?? NO_BUFFER;
    let ended: Status | null = null;
    operation.done = ({ status }) => {
      ended = status;
    };
    process.deliver(() => process.plane.keptCopy(VOLUME, this.#number).submit(operation));
    const { simulation } = this.#cluster;
    simulation.run(simulation.nowMs + 5000, () => ended !== null);
    if (ended === null) operation.cancelled = true;
    return ended ?? Status.busy;
  }

  /** Its owner gives it up. */
  discard(): void {
    const draft = new Draft(viewOf(this.#cluster));
    discardCopy(draft, { volume: VOLUME, number: this.#number });
    commit(this.#cluster, draft);
  }

  /** Whether all that was read of it is what hosts were promised of that lineage. */
  judge(): void {
    for (const { sector, sentence } of judge(this.#history).violations) {
      this.#cluster.violation(`kept copy, sector ${sector}: ${sentence}`);
    }
  }
}

/** Under way as the disk that goes on was lost: it may be there, or not. */
function halfDone(act: HostAct, now: Moment): HostAct[] {
  if (act.kind === "read" || act.kind === "flush" || act.effect === "none") return [];
  return [{ ...act, effect: "unknown", ack: NEVER, fence: now }];
}
