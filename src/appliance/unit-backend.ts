// SPDX-License-Identifier: Apache-2.0
//
// The Backend of a unit: what the console is told and may ask, from this unit's view of the control
// state, its reactor's last report, and commands to the control station.

import type { DiskHealth } from "#base/disk-health.ts";
import { Fault } from "#base/fault.ts";
import { keptOn } from "#base/record.ts";
import type { DiskNumber, SliceRecord } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import { judgeDeadline } from "#cluster/deadline.ts";
import { evacuationOf } from "#cluster/evacuation.ts";
import { maintenanceOf } from "#cluster/maintenance.ts";
import { otherClusters } from "#cluster/events.ts";
import type { DiskRecord, VolumeRecord } from "#cluster/state.ts";
import { FIRST_USER, OWNER } from "#cluster/user-state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { headReports } from "./head-reports.ts";
import { wordsOf } from "#cluster/discovery.ts";
import { isAdmin } from "./backend.ts";
import type {
  AuthorityView,
  Asker,
  ChangeVolume,
  Backend,
  ClaimRequest,
  CreateVolume,
  DiskHealthView,
  DiskView,
  EventView,
  MetricSample,
  RecoveryView,
  ResyncView,
  SettingsChange,
  SettingsView,
  UnitStatus,
  UnitView,
  VolumeView,
} from "./backend.ts";
import { UnitArrivals } from "./arrivals.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Passwords } from "#machine/passwords.ts";
import type { ClusterLife } from "./cluster-life.ts";
import { ControlDesk } from "./control-desk.ts";
import type { ControlBackend } from "./control-desk.ts";
import type { KeptDisk } from "./disk-keeper.ts";
import { UnitFleet } from "./fleet.ts";
import type { Drills } from "./drills.ts";
import type { Fleet } from "./fleet.ts";
import { makeBundle } from "./support-bundle.ts";
import type { SupportBundle } from "./support-bundle.ts";
import { UnitDrills } from "./unit-drill.ts";
import { UnitPools } from "./pools.ts";
import { type HostParts, UnitHosts } from "./unit-hosts.ts";
import { UnitUsers, freshToken } from "./unit-users.ts";
import { unitMetrics } from "./unit-metrics.ts";
import type { Health } from "./health.ts";
import type { UnitHealth } from "./unit-health.ts";
import type { Unit } from "./unit.ts";
import type { Neighbours } from "./unit-neighbours.ts";
import type { UpdateBackend } from "./update-backend.ts";
import { VERSION } from "./version.ts";
import { discardCopy, goOn } from "./volume-lineages.ts";
import { createdPreview, grown, grownPreview } from "./volume-preview.ts";
import { type SharedByVolumes, pathUnits, volumeView } from "./volume-view.ts";
import { untilHolds } from "./view-wait.ts";

const NO_DEADLINE = { withinMs: 0, problems: [], unknown: [] };
const NOT_CLAIMED = "nobody may attach before the cluster is claimed";

export class UnitBackend implements Backend {
  readonly #world: World;
  readonly #unit: Unit;
  readonly #health: UnitHealth;
  readonly #authority: () => AuthorityView | null;
  readonly update: UpdateBackend;
  readonly fleet: Fleet;
  readonly drills: Drills;
  readonly arrivals: Arrivals;
  readonly control: ControlBackend;
  readonly hosts: UnitHosts;
  readonly users: UnitUsers;
  readonly pools: UnitPools;
  readonly neighbours: Neighbours;

  constructor(
    world: World,
    unit: Unit,
    parts: {
      health: UnitHealth;
      update: UpdateBackend;
      passwords: Passwords;
      timers: Timers;
      neighbours: Neighbours;
      authority(): AuthorityView | null;
      issue: HostParts["issue"];
    },
  ) {
    this.#world = world;
    this.#unit = unit;
    this.#health = parts.health;
    this.#authority = () => parts.authority();
    this.update = parts.update;
    this.neighbours = parts.neighbours;
    this.fleet = new UnitFleet(world, () => this.#life());
    this.drills = new UnitDrills(world, parts.timers, {
      cluster: () => this.#life(),
      reactor: unit.reactor,
    });
    this.control = new ControlDesk(world, unit);
    this.users = new UnitUsers(world, {
      life: () => this.#life(),
      view: () => unit.life?.follower.view ?? null,
      passwords: parts.passwords,
    });
    this.pools = new UnitPools(world, () => this.#life());
    this.arrivals = new UnitArrivals(world, parts.timers, { unit, life: () => this.#life() });
    this.hosts = new UnitHosts(world, {
      life: () => this.#life(),
      attached: () => unit.reactor.report.attached,
      volume: (volume) => volumeView(volume, this.#shared()),
      issue: (name) => parts.issue(name),
    });
  }

  health(): Health {
    return this.#health.health();
  }

  status(): UnitStatus {
    const unit = this.#unit;
    const { life } = unit;
    const view = life?.follower.view ?? null;
    const own = life === null ? undefined : view?.units.get(life.unit);
    const cluster = view?.cluster ?? null;
    return {
      name: own?.name ?? unit.name,
      unitId: unit.identity.unitId.toHex(),
      unit: life?.unit ?? 0,
      version: VERSION,
      sentence: unit.sentence,
      phase: phaseOf(unit),
      cluster:
        cluster === null
          ? null
          : {
              uuid: cluster.uuid,
              name: cluster.name,
              state: cluster.state,
              generation: cluster.generation,
            },
      role: own?.role ?? unit.configuration.role,
      pool: own?.pool ?? null,
      controlStation: view?.station?.unit ?? null,
      voter: life?.voter.votes ?? false,
      voters: life?.voters ?? [],
      words: unit.discovery.words.split(" "),
      staleMs: life?.staleMs ?? 0,
      ports: unit.ports,
      claim: { claimed: view?.isClaimed ?? false, code: unit.claims.code },
      otherClusters: otherClusters(view),
      wrongMedium: unit.wrongMedium,
      searched: this.neighbours.isSearched,
    };
  }

  units(): UnitView[] {
    const life = this.#life();
    const { view } = life.follower;
    const links = new Map(this.#unit.reactor.report.links.map((link) => [link.unit, link.up]));
    return [...view.units.values()]
      .filter((unit) => unit.state === "admitted")
      .sort((left, right) => left.number - right.number)
      .map((unit) => ({
        unit: unit.number,
        unitId: unit.id,
        name: unit.name,
        role: unit.role,
        pool: unit.pool,
        alive: view.isAlive(unit.number),
        addresses: [unit.ula, ...unit.addresses],
        // What it said at its last start; the record has what it was admitted with.
        version: view.unitUpdates.get(unit.number)?.version ?? unit.version,
        voter: life.voters.includes(unit.number),
        controlStation: view.station?.unit === unit.number,
        link: unit.number === life.unit ? "self" : links.get(unit.number) === true ? "up" : "down",
        words: wordsOf(this.#world, Uint8Array.fromHex(unit.publicKey)).split(" "),
        evacuation: evacuationOf(view, unit.number, this.#world.clock.wallMs()),
        maintenance: maintenanceOf(view, unit.number, this.#world.clock.wallMs()),
      }));
  }

  disks(): DiskView[] {
    const { life } = this.#unit;
    const own = this.#unit.disks.disks;
    if (life === null) return own.map((disk) => this.#ownDisk(disk, null));
    const { view } = life.follower;
    const others = [...view.disks.values()]
      .filter((disk) => disk.unit !== life.unit)
      .sort((left, right) => left.number - right.number)
      .map((disk) => ({
        disk: disk.number,
        unit: disk.unit,
        path: disk.path,
        uuid: disk.uuid,
        sizeBytes: disk.sizeBytes,
        freeBytes: unpromisedBytes(view, disk.number, disk.sizeBytes),
        state: view.isAlive(disk.unit) ? disk.state : "away",
        reason: view.isAlive(disk.unit) ? useOf(disk) : "its unit is away",
        health: recordedHealth(disk.health),
        get slices() {
          return slicesOn(view, disk.number);
        },
      }));
    return [...own.map((disk) => this.#ownDisk(disk, life)), ...others];
  }

  #ownDisk(disk: KeptDisk, life: ClusterLife | null): DiskView {
    const { opened } = disk;
    const number = opened?.number ?? 0;
    const view = life?.follower.view ?? null;
    const sizeBytes = opened?.sizeBytes ?? disk.sizeBytes;
    return {
      disk: number,
      unit: life?.unit ?? 0,
      path: disk.path,
      uuid: opened?.uuid ?? "",
      sizeBytes,
      freeBytes:
        view === null || number === 0 ? sizeBytes : unpromisedBytes(view, number, sizeBytes),
      state: view?.disks.get(number)?.state === "leaving" ? "leaving" : disk.state,
      reason: retiredReason(view?.disks.get(number)) ?? disk.reason,
      health: opened === null ? null : ownHealth(opened.health),
      get slices() {
        return view === null || number === 0 ? [] : slicesOn(view, number);
      },
    };
  }

  async scrubDisk(disk: DiskNumber, options: { urgent: boolean }): Promise<void> {
    const life = this.#life();
    await life.commands.ask("scrubDisk", { disk, urgent: options.urgent });
  }

  async retireDisk(disk: DiskNumber): Promise<void> {
    const life = this.#life();
    await life.commands.ask("retireDisk", { disk });
    const { disks } = life.follower.view;
    await this.#until(life, () => disks.get(disk)?.why !== undefined);
  }

  async returnDisk(disk: DiskNumber): Promise<void> {
    const life = this.#life();
    await life.commands.ask("returnDisk", { disk });
    const { disks } = life.follower.view;
    await this.#until(life, () => disks.get(disk)?.why === undefined);
  }

  settings(): SettingsView {
    const { settings, cluster } = this.#life().follower.view;
    const { reprotectAfterMs, protectWithinMs, scrubEveryMs, scrubBytesPerSecondMax } = settings;
    const { diskErrorsMax, groupAddress, httpsOnly, syslogTarget, timeServers } = settings;
    const scrub = { scrubEveryMs, scrubBytesPerSecondMax, diskErrorsMax };
    const copies = { reprotectAfterMs, protectWithinMs, ...scrub };
    const clusterName = cluster?.name ?? "";
    return { clusterName, ...copies, groupAddress, httpsOnly, syslogTarget, timeServers };
  }

  authority(): AuthorityView {
    const found = this.#authority();
    if (found !== null) return found;
    throw new Fault("notFound", "this unit is in no cluster whose authority it could show");
  }

  async changeSettings(change: SettingsChange): Promise<SettingsView> {
    const life = this.#life();
    const changes = Object.entries(change).filter(([, value]) => value !== undefined);
    await life.commands.ask("setSettings", Object.fromEntries(changes));
    await this.#until(life, () => {
      const now = new Map(Object.entries(this.settings()));
      return changes.every(([name, value]) => now.get(name) === value);
    });
    return this.settings();
  }

  volumes(): VolumeView[] {
    const shared = this.#shared();
    return [...shared.view.volumes.values()]
      .sort((left, right) => left.number - right.number)
      .map((volume) => volumeView(volume, shared));
  }

  volume(nameOrNumber: string): VolumeView {
    // Copied: it may be kept, as the answer to a key is.
    return { ...volumeView(this.#find(nameOrNumber), this.#shared()) };
  }

  async createVolume(request: CreateVolume, options: { dryRun: boolean }): Promise<VolumeView> {
    const life = this.#life();
    const hosts = (request.hosts ?? []).map((host) => this.hosts.find(host).number);
    const { pool, ...wish } = request;
    const args = { ...wish, hosts, ...(pool === undefined ? {} : { pool }) };
    if (options.dryRun) return createdPreview(this.#world, life, args);
    const answer = await life.commands.ask("createVolume", args);
    await this.#until(life, () => life.follower.view.volumes.get(answer.volume)?.state === "ready");
    return this.volume(String(answer.volume));
  }

  async growVolume(
    nameOrNumber: string,
    sizeBytes: number,
    options: { dryRun: boolean },
  ): Promise<VolumeView> {
    const life = this.#life();
    const volume = this.volume(nameOrNumber);
    const args = { volume: volume.volume, sizeBytes };
    const { view } = life.follower;
    if (options.dryRun) return grownPreview(view, volume, args);
    await life.commands.ask("growVolume", args);
    await this.#until(life, grown(view, args));
    return this.volume(String(args.volume));
  }

  async deleteVolume(nameOrNumber: string, { graceMs }: { graceMs: number }): Promise<void> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    await life.commands.ask("deleteVolume", { volume: number, graceMs });
  }

  async acceptVolume(nameOrNumber: string): Promise<VolumeView> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    for (let left = 1; left > 0;) {
      ({ left } = await life.commands.ask("acceptVolume", { volume: number }));
    }
    return this.volume(String(number));
  }

  async restoreVolume(nameOrNumber: string): Promise<VolumeView> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    await life.commands.ask("restoreVolume", { volume: number });
    const { volumes } = life.follower.view;
    await this.#until(life, () => volumes.get(number)?.trash === undefined);
    return this.volume(String(number));
  }

  async changeVolume(nameOrNumber: string, change: ChangeVolume): Promise<VolumeView> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    const { tls, name } = change;
    const { volumes } = life.follower.view;
    if (tls !== undefined) {
      await life.commands.ask("setTls", { volume: number, tls });
      await this.#until(life, () => volumes.get(number)?.tls === tls);
    }
    if (name !== undefined) {
      await life.commands.ask("renameVolume", { volume: number, name });
      await this.#until(life, () => volumes.get(number)?.name === name);
    }
    return this.volume(String(number));
  }

  async goOnVolume(nameOrNumber: string): Promise<VolumeView> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    const { volumes } = life.follower.view;
    const before = volumes.get(number)?.overrides ?? 0;
    await goOn(life.commands, number);
    await this.#until(life, () => (volumes.get(number)?.overrides ?? 0) > before);
    return this.volume(String(number));
  }

  async discardCopy(nameOrNumber: string, copy: number): Promise<void> {
    const life = this.#life();
    const { number } = this.#find(nameOrNumber);
    await discardCopy(life.commands, { volume: number, number: copy });
  }

  async claim(request: ClaimRequest, asker: Asker): Promise<{ token: string | null }> {
    const life = this.#life();
    const { code, replace, password } = request;
    const isOwner = isAdmin(asker);
    if (!isOwner || code !== null) this.#unit.claims.check(code ?? "");
    const replaces = replace && isOwner;
    const brought = request.tokenHash;
    const { token, tokenHash } =
      brought === null ? freshToken(this.#world) : { token: null, tokenHash: brought };
    const { administrators } = life.follower.view;
    const isOwners = () => administrators.get(OWNER)?.tokenHash === tokenHash;
    let passwordHash: string | null = null;
    if (isOwners()) await this.#checkSame(password);
    else if (password !== null) passwordHash = await this.users.hash(password);
    await life.commands.ask("claimCluster", {
      tokenHash,
      replaces,
      byMedium: false,
      ...(passwordHash === null ? {} : { passwordHash }),
    });
    await this.#until(life, isOwners);
    return { token };
  }

  /** Of a claim that is made again: nothing of it may be silently left out. */
  async #checkSame(password: string | null): Promise<void> {
    if (password === null || (await this.users.check(FIRST_USER, password))) return;
    const how = "another password is set by cairn password set";
    throw new Fault("conflict", `this cluster is claimed already, with this token: ${how}`);
  }

  /** From the catalogue: it keeps what the control store has let go of. */
  events(since: number, limit: number, actor?: string): EventView[] {
    const by = actor === undefined ? {} : { actor };
    const range = since > 0 ? { since, limit, ...by } : { limit, ...by };
    return this.#unit.catalog.events(range).map((event) => {
      const { number, atMs, severity, kind, sentence, actor: who } = event;
      return { number, atMs, severity, kind, sentence, actor: who };
    });
  }

  recovery(): RecoveryView {
    const view = this.#unit.life?.follower.view;
    const { slices } = this.#unit.reactor.report;
    const resyncs = slices.flatMap((slice): ResyncView[] => {
      const record = view?.slices.get(slice.slice);
      if (slice.resync === null || record === undefined) return [];
      return [
        {
          slice: slice.slice,
          volume: record.volume,
          target: record.resyncing[0] ?? 0,
          doneBytes: slice.resync.doneBytes,
          totalBytes: slice.resync.totalBytes,
        },
      ];
    });
    const resyncedBytes = slices.reduce((sum, slice) => sum + slice.counters.resyncedBytes, 0);
    const deadline = view === undefined ? NO_DEADLINE : judgeDeadline(view);
    return { resyncs, resyncedBytes, deadline };
  }

  supportBundle(): SupportBundle {
    const { life } = this.#unit;
    const journal = life?.journal ?? null;
    const earlier = life?.earlierJournals ?? [];
    return makeBundle(this, { journal, earlier, wallMs: this.#world.clock.wallMs() });
  }

  metrics(): MetricSample[] {
    const { life, reactor } = this.#unit;
    return unitMetrics({
      report: reactor.report,
      uptimeSeconds: this.#unit.uptimeSeconds(),
      staleMs: life?.staleMs ?? 0,
      units: life === null ? [] : this.units(),
      pools: life === null ? [] : this.pools.list(),
      volumes: life === null ? [] : this.volumes(),
      asked: (volume) => reactor.io.totals(volume),
    });
  }

  #life(): ClusterLife {
    const { life } = this.#unit;
    if (life === null || life.follower.view.revision === 0) {
      throw new Fault("notReady", `this unit is in no cluster yet; ${this.#unit.sentence}`);
    }
    return life;
  }

  #find(nameOrNumber: string): VolumeRecord {
    return this.hosts.findVolume(nameOrNumber);
  }

  #until(life: ClusterLife, holds: () => boolean): Promise<void> {
    return untilHolds(this.#world.clock, life, holds);
  }

  /** What is the same for all volumes, read once for all that are looked at together. */
  #shared(): SharedByVolumes {
    const { view } = this.#life().follower;
    return {
      view,
      reports: headReports(view, this.#unit.reactor.report),
      units: pathUnits(view),
      wait: this.#isExported(view) ? [] : [NOT_CLAIMED],
    };
  }

  #isExported(view: ClusterView): boolean {
    return this.#unit.exportsUnclaimed || view.isClaimed;
  }
}

function phaseOf(unit: Unit): UnitStatus["phase"] {
  if (unit.stopping) return "stopping";
  if (unit.life !== null) return unit.life.follower.view.revision > 0 ? "joined" : "joining";
  switch (unit.discovery.formation.state) {
    case "listening":
      return "listening";
    case "founding":
    case "joining":
    case "member":
      return "joining";
    case "noSecret":
    case "removed":
    case "waiting":
    case "leaving":
      return "waiting";
  }
}

/** Space that is not promised to slices; thin slices use less than they were promised. */
function unpromisedBytes(view: ClusterView, disk: number, sizeBytes: number): number {
  const promised = view.slicesOfDisk(disk).reduce((sum, slice) => sum + slice.sizeBytes, 0);
  return Math.max(0, sizeBytes - promised);
}

/** What a disk of another unit is to the cluster. */
function useOf(disk: DiskRecord): string {
  if (disk.state === "failed") {
    return `out of use: ${disk.lost?.reason ?? "it failed"}; \`cairn disk return\` takes it again`;
  }
  return retiredReason(disk) ?? "in use by this cluster";
}

function retiredReason(disk: DiskRecord | undefined): string | null {
  if (disk?.state !== "leaving") return null;
  const then = disk.emptied === true ? "it holds nothing any more" : "its copies go elsewhere";
  return `it leaves, because it ${disk.why ?? "is to"}; ${then}`;
}

function recordedHealth(health: DiskRecord["health"]): DiskHealthView | null {
  if (health === undefined) return null;
  const { found, healed, unhealed, recentPlaces, scrubEndedAtMs } = health;
  const endedAtMs = scrubEndedAtMs === 0 ? null : scrubEndedAtMs;
  const scrub = { running: null, percent: null, endedAtMs, late: false };
  return { found, healed, unhealed, recentPlaces, scrub };
}

function ownHealth(health: DiskHealth): DiskHealthView {
  const { found, healed, unhealed, recentPlaces } = health;
  const { running, percent, late } = health.scrub;
  const endedAtMs = health.scrub.endedAtMs === 0 ? null : health.scrub.endedAtMs;
  const scrub = { running, percent, endedAtMs, late };
  return { found, healed, unhealed, recentPlaces, scrub };
}

function slicesOn(view: ClusterView, disk: number): DiskView["slices"] {
  return view.slicesOfDisk(disk).map((record) => ({
    slice: record.slice,
    volume: record.volume,
    state: stateOn(record, disk),
  }));
}

function stateOn(record: SliceRecord, disk: number): string {
  if (record.head === disk) return "head";
  if (keptOn(record, disk) !== undefined) return "kept";
  return record.resyncing.includes(disk) ? "resyncing" : "in-sync";
}
