// SPDX-License-Identifier: Apache-2.0
//
// What pages and CLI learn of every unit through any of them: figures, a volume's last hour, what
// is copied where; and the lights that show which box or drive is meant. Asked of the units at the
// moment it is wanted (unit-questions.ts): who does not answer is named.

import type { DiskNumber, UnitNumber, VolumeNumber } from "#base/record.ts";
import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { VolumeRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { type DriveFacts, driveFacts, setLight } from "#machine/drive-facts.ts";
import { loadPermille, machineKernel, machineMemory } from "#machine/load.ts";
import { listNetworkCards } from "#machine/network-cards.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { BoxView } from "./box-view.ts";
import { endDryRun } from "./dry-run.ts";
import type { NetworkEntry } from "./network-settings.ts";
import type { UnitBox } from "./unit-box.ts";
import { type IoChart, STEPS, STEP_MS, joinCharts } from "./io-history.ts";
import type { DriveView, UnitFigures } from "./unit-figures.ts";
import { QuestionClient, questionServer, type UnitQuestion } from "./unit-questions.ts";
import type { Unit } from "./unit.ts";
import { VERSION } from "./version.ts";

/** Units that are asked for one page. */
export const ASKED_MAX = 16;
/** What a drive says of itself is asked for again after this. */
const DRIVES_KEPT_MS = 300_000;
/** Steps of a volume's hour that count as the last minute. */
const LAST_MINUTE_STEPS = 6;
/** A box is looked for no longer than this, ms. */
const SEARCH_MS_MAX = 900_000;

export interface VolumeChart {
  chart: IoChart;
  /** Units whose counts are in it. */
  from: UnitNumber[];
  /** Units that may have served it and did not answer, or are beyond what is asked. */
  missing: UnitNumber[];
}

export interface CopyingView {
  resyncs: (UnitFigures["resyncs"][number] & { unit: UnitNumber })[];
  /** Units that bring something up and did not answer. */
  missing: UnitNumber[];
}

/** The interface behind REST, CLI and pages. */
export interface Neighbours {
  figures(unit: UnitNumber): Promise<UnitFigures>;
  chart(volume: VolumeNumber): Promise<VolumeChart>;
  /** What is copied in the whole cluster, with the time it takes at the pace so far. */
  copying(): Promise<CopyingView>;
  /** The light at a disk's bay; a Fault notFound where there is none. */
  lightDisk(disk: DiskNumber, on: boolean): Promise<void>;
  /** The unit's screen says that it is the one looked for; ends by itself after 15 minutes. */
  search(unit: UnitNumber, on: boolean): Promise<void>;
  /** Erases what is on a disk that was left alone, and uses it; a Fault where that may not be. */
  eraseDisk(unit: UnitNumber, path: string): Promise<void>;
  /** Its network and clock. */
  box(unit: UnitNumber): Promise<BoxView>;
  /** Goes by these fixed addresses for two minutes, and from then on if they are kept. */
  tryNetwork(unit: UnitNumber, network: NetworkEntry[]): Promise<BoxView>;
  /** Keeps what is tried, or takes it back; a Fault conflict where nothing is. */
  endTrial(unit: UnitNumber, options: { keep: boolean }): Promise<BoxView>;
  /** By hand, where no time server keeps it. */
  setClock(unit: UnitNumber, wallMs: number): Promise<BoxView>;
  /** Whether this unit's own screen says so now. */
  readonly isSearched: boolean;
}

export class UnitNeighbours implements Neighbours {
  readonly #world: World;
  readonly #unit: Unit;
  readonly #box: UnitBox;
  readonly #client: QuestionClient;
  #drives: { atMs: number; facts: Promise<Map<string, DriveFacts>> } | null = null;
  #searchedUntilMs = 0;

  constructor(world: World, unit: Unit, { timers, box }: { timers: Timers; box: UnitBox }) {
    this.#world = world;
    this.#unit = unit;
    this.#box = box;
    const answer = (question: UnitQuestion) => this.#answer(question);
    const server = questionServer(answer);
    unit.services.set(Purpose.neighbour, (pipe) => server.serve(pipe));
    this.#client = new QuestionClient({
      timers,
      own: () => unit.life?.unit ?? 0,
      answer,
      dial: (number) => this.#life().dial(number, Purpose.neighbour),
    });
  }

  stop(): void {
    this.#client.close();
  }

  get isSearched(): boolean {
    return this.#world.clock.nowMs() < this.#searchedUntilMs;
  }

  #life() {
    const { life } = this.#unit;
    if (life === null) throw new Fault("notReady", "this unit is in no cluster yet");
    return life;
  }

  figures(unit: UnitNumber): Promise<UnitFigures> {
    return this.#client.ask(unit, { kind: "figures" });
  }

  async chart(volume: VolumeNumber): Promise<VolumeChart> {
    const { view } = this.#life().follower;
    const record = view.volumes.get(volume);
    if (record === undefined) throw new Fault("notFound", `no volume ${volume}`);
    const units = servers(view, record);
    const asked = units.slice(0, ASKED_MAX);
    const found = await this.#each(asked, (unit) =>
      this.#client.ask(unit, { kind: "chart", volume }),
    );
    const joined = joinCharts([...found.values()]) ?? emptyChart(this.#now().wallMs);
    const missing = units.filter((unit) => !found.has(unit));
    return { chart: joined, from: [...found.keys()], missing };
  }

  async copying(): Promise<CopyingView> {
    const { view } = this.#life().follower;
    const heads = new Set<UnitNumber>();
    for (const record of view.slices.values()) {
      const unit = record.resyncing.length === 0 ? undefined : view.disks.get(record.head)?.unit;
      if (unit !== undefined) heads.add(unit);
    }
    const asked = [...heads].slice(0, ASKED_MAX);
    const found = await this.#each(asked, (unit) => this.figures(unit));
    const resyncs = [...found].flatMap(([unit, { resyncs: own }]) =>
      own.map((one) => ({ ...one, unit })),
    );
    return { resyncs, missing: [...heads].filter((unit) => !found.has(unit)) };
  }

  async lightDisk(disk: DiskNumber, on: boolean): Promise<void> {
    const record = this.#life().follower.view.disks.get(disk);
    if (record === undefined) throw new Fault("notFound", `no disk ${disk}`);
    endDryRun(on ? "the light at its bay is on" : "the light at its bay is off");
    await this.#client.ask(record.unit, { kind: "drive", disk, light: on });
  }

  async search(unit: UnitNumber, on: boolean): Promise<void> {
    endDryRun(
      on ? "its screen says for 15 minutes that it is looked for" : "its screen is as usual",
    );
    await this.#client.ask(unit, { kind: "search", on });
  }

  async eraseDisk(unit: UnitNumber, path: string): Promise<void> {
    await this.#client.ask(unit, { kind: "eraseDisk", path, isTry: true });
    endDryRun(`all that is on ${path} is erased, and the cluster uses it`);
    await this.#client.ask(unit, { kind: "eraseDisk", path, isTry: false });
  }

  box(unit: UnitNumber): Promise<BoxView> {
    return this.#client.ask(unit, { kind: "box" });
  }

  async tryNetwork(unit: UnitNumber, network: NetworkEntry[]): Promise<BoxView> {
    endDryRun("it is tried for two minutes, and holds if it is kept");
    return this.#client.ask(unit, { kind: "tryNetwork", network });
  }

  async endTrial(unit: UnitNumber, { keep }: { keep: boolean }): Promise<BoxView> {
    endDryRun(keep ? "what is tried is kept" : "what is tried is taken back");
    return this.#client.ask(unit, { kind: "endTrial", keep });
  }

  async setClock(unit: UnitNumber, wallMs: number): Promise<BoxView> {
    endDryRun("its clock is set, unless a time server keeps it right");
    return this.#client.ask(unit, { kind: "setClock", wallMs });
  }

  /** The answers of those that gave one. */
  async #each<T>(
    units: readonly UnitNumber[],
    ask: (unit: UnitNumber) => Promise<T>,
  ): Promise<Map<UnitNumber, T>> {
    const { view } = this.#life().follower;
    const found = new Map<UnitNumber, T>();
    const up = units.filter((unit) => view.isAlive(unit));
    await Promise.all(
      up.map(async (unit) => {
        try {
          found.set(unit, await ask(unit));
        } catch (error) {
          if (!(error instanceof Fault)) throw error;
          this.#world.log.write("debug", "a unit did not answer", { unit, why: error.message });
        }
      }),
    );
    return found;
  }

  // Answers.

  async #answer(question: UnitQuestion): Promise<object> {
    switch (question.kind) {
      case "figures":
        return this.#ownFigures();
      case "chart":
        return this.#unit.reactor.io.chart(question.volume, this.#now());
      case "drive":
        return this.#light(question.disk, question.light);
      case "search": {
        const forMs = question.on ? SEARCH_MS_MAX : 0;
        this.#searchedUntilMs = this.#world.clock.nowMs() + forMs;
        return {};
      }
      case "eraseDisk":
        if (question.isTry) await this.#unit.disks.eraseAndClaim(question.path, question);
        else this.#erase(question.path);
        return {};
      case "tryNetwork":
        this.#box.tryNetwork(question.network);
        break;
      case "endTrial":
        await (question.keep ? this.#box.keepNetwork() : this.#box.undoNetwork());
        break;
      case "setClock":
        this.#box.setClock(question.wallMs);
        break;
      case "box":
        break;
    }
    return this.#box.show(this.#unit.life?.unit ?? 0);
  }

  #now() {
    const { clock } = this.#world;
    return { nowMs: clock.nowMs(), wallMs: clock.wallMs() };
  }

  async #ownFigures(): Promise<UnitFigures> {
    const unit = this.#unit;
    const { report, pace, io } = unit.reactor;
    const view = unit.life?.follower.view;
    const memory = machineMemory();
    const machine = machineKernel();
    return {
      unit: unit.life?.unit ?? 0,
      uptimeSeconds: unit.uptimeSeconds(),
      version: VERSION,
      ...machine,
      loadPermille: loadPermille(),
      memorySizeBytes: memory.sizeBytes,
      memoryAvailableBytes: memory.availableBytes,
      linksUp: report.links.filter(({ up }) => up).length,
      links: report.links.length,
      connections: report.connections,
      waitingRequests: report.waiting,
      headedSlices: report.slices.filter(({ role }) => role === "head").length,
      resyncedBytes: report.slices.reduce((sum, one) => sum + one.counters.resyncedBytes, 0),
      resyncs: report.slices.flatMap(({ slice, resync }) => {
        const record = view?.slices.get(slice);
        if (resync === null || record === undefined) return [];
        const leftMs = pace.leftMs(slice, resync.totalBytes);
        const { doneBytes, totalBytes } = resync;
        const [target = 0] = record.resyncing;
        return [{ slice, volume: record.volume, target, doneBytes, totalBytes, leftMs }];
      }),
      io: io.lastSteps(LAST_MINUTE_STEPS, this.#now().nowMs),
      isSearched: this.isSearched,
      cards: listNetworkCards().map(({ name, cable }) => ({ name, cable })),
      drives: await this.#ownDrives(),
    };
  }

  async #ownDrives(): Promise<DriveView[]> {
    const { disks } = this.#unit.disks;
    const { nowMs } = this.#now();
    const known = this.#drives;
    const isFresh = known !== null && nowMs - known.atMs < DRIVES_KEPT_MS;
    const facts = isFresh ? known.facts : readDrives(disks.map(({ path }) => path));
    if (!isFresh) this.#drives = { atMs: nowMs, facts };
    const read = await facts;
    return disks.flatMap(({ path, opened }) => {
      const found = read.get(path);
      return found === undefined ? [] : [{ disk: opened?.number ?? 0, path, ...found }];
    });
  }

  /** Takes longer than an answer may; the list of disks says how it went. */
  #erase(path: string): void {
    this.#unit.disks.eraseAndClaim(path, { isTry: false }).catch((error: unknown) => {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("warn", "a disk was not erased", { path, why: error.message });
    });
  }

  #light(disk: DiskNumber, on: boolean): object {
    const found = this.#unit.disks.disks.find(({ opened }) => opened?.number === disk);
    if (found === undefined) throw new Fault("notFound", `disk ${disk} is not here`);
    setLight(found.path, on);
    this.#drives = null;
    return {};
  }
}

async function readDrives(paths: readonly string[]): Promise<Map<string, DriveFacts>> {
  const read = paths.map(async (path) => [path, await driveFacts(path)] as const);
  return new Map(await Promise.all(read));
}

function emptyChart(wallMs: number): IoChart {
  return { endsAtMs: wallMs, stepMs: STEP_MS, steps: new Array(STEPS).fill(null) };
}

/** Units that may have served a volume's hosts, the likeliest first: heads, members, all others. */
function servers(view: ClusterView, volume: VolumeRecord): UnitNumber[] {
  const heads = new Set<UnitNumber>();
  const members = new Set<UnitNumber>();
  for (const record of view.slicesOfVolume(volume)) {
    if (record === null) continue;
    for (const disk of [record.head, ...record.inSync.map((member) => member.disk)]) {
      const unit = view.disks.get(disk)?.unit;
      if (unit !== undefined) (disk === record.head ? heads : members).add(unit);
    }
  }
  const others = [...view.units.values()].filter(({ state }) => state === "admitted");
  return [...new Set([...heads, ...members, ...others.map(({ number }) => number)])];
}
