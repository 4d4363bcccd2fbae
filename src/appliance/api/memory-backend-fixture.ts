// SPDX-License-Identifier: Apache-2.0
//
// A Backend in memory for the tests of API, page and CLI: two units, two disks of ours and one left
// alone, volumes that can be made, changed and deleted, and events for what was done. It refuses
// what a unit would refuse, by the same Faults.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import { layouts } from "#base/layout.ts";
import { TLS_RULE_DEFAULT } from "#base/tls.ts";
import type { DiskNumber } from "#base/record.ts";
import { isAdmin } from "#appliance/backend.ts";
import type {
  Asker,
  ChangeVolume,
  Backend,
  ClaimRequest,
  CreateVolume,
  DiskView,
  EventView,
  MetricSample,
  SettingsChange,
  SettingsView,
  UnitStatus,
  UnitView,
  VolumeView,
} from "#appliance/backend.ts";

import type { Health } from "#appliance/health.ts";
import type { DeadlineJudgement } from "#cluster/deadline.ts";
import { FIRST_USER } from "#cluster/user-state.ts";
import type { Journal } from "#cluster/decision-journal.ts";
import { makeBundle } from "#appliance/support-bundle.ts";
import { MemoryControl } from "./memory-control-fixture.ts";
import { MemoryDrills } from "./memory-drills-fixture.ts";
import { MemoryArrivals } from "./memory-arrivals-fixture.ts";
import { MemoryFleet } from "./memory-fleet-fixture.ts";
import { MemoryNeighbours } from "./memory-neighbours-fixture.ts";
import { MemoryPools } from "./memory-pools-fixture.ts";
import { MemoryHosts } from "./memory-hosts-fixture.ts";
import { MemoryUpdates } from "./memory-updates-fixture.ts";
import { hashOf, MemoryUsers } from "./memory-users-fixture.ts";

export const MEMORY_CODE = "K7QWM-2XHDA";
const DISK_BYTES = 10 * 2 ** 30;
const NEW_YEAR_2026_MS = 1_767_225_600_000;

/** Stands still, and keeps a copy of before another override. */
const OVERRIDABLE = {
  goOn: { from: "disk 2 of cairn-2", costs: "what was written since" },
  kept: [
    {
      ...{ number: 1, name: "kept@before-1", wentOnAtMs: 0, untilMs: null, readable: false },
      ...{ sentence: "not there at the moment", bytes: null, uris: [], slices: [] },
    },
  ],
};

export class MemoryBackend implements Backend {
  /** A volume that gets this name is made so (OVERRIDABLE). */
  overridable: string | null = null;
  readonly update = new MemoryUpdates();
  readonly fleet = new MemoryFleet();
  readonly drills = new MemoryDrills();
  readonly control = new MemoryControl();
  /** Volumes whose owner took what was found of them. */
  readonly accepted: string[] = [];
  readonly pools = new MemoryPools(() => this.#volumes, this.fleet);
  readonly arrivals = new MemoryArrivals();
  deadline: DeadlineJudgement = { withinMs: 0, problems: [], unknown: [] };
  readonly neighbours = new MemoryNeighbours();
  readonly hosts = new MemoryHosts(
    () => this.#volumes,
    (wish) => this.createVolume(wish, { dryRun: false }),
  );
  healthNow: Health = { healthy: true, sentence: "it serves its cluster" };
  staleMs = 0;
  /** False: a unit that is in no cluster yet. */
  inCluster = true;
  /** While set, creations wait for it. */
  gate: Promise<void> | null = null;
  /** Thrown by the next call of anything that reads volumes. */
  nextFailure: unknown = null;
  creations = 0;
  /** Null: nobody has claimed the cluster. */
  ownerToken: string | null = null;
  readonly claims: (ClaimRequest & { asker: Asker })[] = [];
  readonly users = new MemoryUsers(() => this.#needCluster());
  /** Of the first user; null: none is set. */
  get password(): string | null {
    return this.users.passwordOf(FIRST_USER);
  }
  set password(password: string) {
    this.users.putFirst(password);
  }
  /** For whom it acts; a unit has it of what runs the request. */
  actor: () => string | null = () => null;
  readonly #volumes: VolumeView[] = [];
  readonly #events: EventView[] = [];
  #nextVolume = 1;

  status(): UnitStatus {
    return {
      name: "cairn-0001",
      unitId: "ab".repeat(16),
      unit: 1,
      version: "0.1.0",
      sentence: "serves and is well",
      phase: "joined",
      cluster: this.inCluster
        ? { uuid: "cd".repeat(16), name: this.#settings.clusterName, state: "used", generation: 1 }
        : null,
      role: "member",
      pool: "pool",
      controlStation: 2,
      voter: true,
      voters: [1, 2],
      words: ["babad", "dadab"],
      staleMs: this.staleMs,
      ports: { nbd: 10809, api: 7480 },
      claim: { claimed: this.ownerToken !== null, code: MEMORY_CODE },
      otherClusters: [],
      wrongMedium: null,
      searched: false,
    };
  }

  units(): UnitView[] {
    this.#needCluster();
    return [1, 2].map((unit) => ({
      unit,
      unitId: `${unit}`.repeat(32),
      name: `cairn-000${unit}`,
      ...this.fleet.placeOf(unit),
      alive: unit === 1,
      addresses: [`10.0.0.${unit}`],
      version: "0.1.0",
      voter: true,
      controlStation: unit === 2,
      link: unit === 1 ? ("self" as const) : ("down" as const),
      words: ["babad", `daba${unit}`],
      evacuation: this.fleet.evacuationOf(unit),
      maintenance: this.fleet.maintenanceOf(unit),
    }));
  }

  disks(): DiskView[] {
    const ours = [1, 2].map((disk) => ({
      disk,
      unit: disk,
      path: `/disks/${disk}`,
      uuid: `${disk}`.repeat(32),
      sizeBytes: DISK_BYTES,
      freeBytes: DISK_BYTES,
      state: "ready",
      reason: "",
      slices: [{ slice: 1, volume: 1, state: "in-sync" }],
      health: {
        found: 3,
        healed: 2,
        unhealed: 1,
        recentPlaces: 2,
        scrub: {
          running: disk === 1 ? true : null,
          percent: disk === 1 ? 40 : null,
          endedAtMs: disk === 1 ? NEW_YEAR_2026_MS : null,
          late: false,
        },
      },
    }));
    const other = {
      disk: 0,
      unit: 1,
      path: "/disks/other",
      uuid: "",
      sizeBytes: 512,
      freeBytes: 0,
    };
    return [
      ...ours,
      {
        ...other,
        state: "left alone",
        reason: "left alone: it holds ext4",
        slices: [],
        health: null,
      },
    ];
  }

  readonly scrubs: [DiskNumber, boolean][] = [];
  async scrubDisk(disk: DiskNumber, { urgent }: { urgent: boolean }): Promise<void> {
    if (disk > 2) throw new Fault("notFound", `no disk ${disk}`);
    endDryRun(`disk ${disk} is read through`);
    this.scrubs.push([disk, urgent]);
  }

  readonly retired: DiskNumber[] = [];
  async retireDisk(disk: DiskNumber): Promise<void> {
    if (disk > 2) throw new Fault("notFound", `no disk ${disk}`);
    if (this.retired.includes(disk)) throw new Fault("conflict", `disk ${disk} is being retired`);
    endDryRun(`disk ${disk} is retired by its owner`);
    this.retired.push(disk);
  }
  async returnDisk(disk: DiskNumber): Promise<void> {
    const at = this.retired.indexOf(disk);
    if (at < 0) throw new Fault("conflict", `disk ${disk} is in use: there is nothing to return`);
    endDryRun(`disk ${disk} is returned to use`);
    this.retired.splice(at, 1);
  }

  #settings: SettingsView = {
    reprotectAfterMs: 600_000,
    protectWithinMs: 0,
    scrubEveryMs: 14 * 86_400_000,
    scrubBytesPerSecondMax: 50 << 20,
    diskErrorsMax: 50,
    groupAddress: null,
    httpsOnly: false,
    syslogTarget: null,
    timeServers: null,
    clusterName: "attic",
  };
  authority() {
    return { pem: "-----BEGIN CERTIFICATE-----\n", fingerprint: "AA:BB" };
  }
  settings(): SettingsView {
    return this.#settings;
  }
  async changeSettings(change: SettingsChange): Promise<SettingsView> {
    const changes = Object.entries(change).filter(([, value]) => value !== undefined);
    endDryRun("settings were changed");
    this.#settings = { ...this.#settings, ...Object.fromEntries(changes) };
    return this.#settings;
  }

  volumes(): VolumeView[] {
    this.#needCluster();
    if (this.nextFailure !== null) {
      const failure = this.nextFailure;
      this.nextFailure = null;
      throw failure;
    }
    return this.#volumes;
  }

  volume(nameOrNumber: string): VolumeView {
    const found = this.volumes().find(
      (one) => one.name === nameOrNumber || String(one.volume) === nameOrNumber,
    );
    if (found === undefined) throw new Fault("notFound", `no volume ${nameOrNumber}`);
    return found;
  }

  async createVolume(request: CreateVolume, options: { dryRun: boolean }): Promise<VolumeView> {
    if (this.gate !== null) await this.gate;
    if (this.#volumes.some((one) => one.name === request.name)) {
      throw new Fault("conflict", `there is a volume ${request.name}`);
    }
    if (layouts[request.protection].copies > 2) {
      throw new Fault("noSpace", "three copies need three units, there are two");
    }
    this.pools.one(request.pool ?? "pool");
    const volume = this.#view(request);
    if (options.dryRun) return volume;
    this.creations++;
    this.#nextVolume++;
    this.#volumes.push(volume);
    if (request.name === this.overridable) Object.assign(volume, OVERRIDABLE);
    this.say("info", `volume ${request.name} was made`);
    return volume;
  }

  async growVolume(
    nameOrNumber: string,
    sizeBytes: number,
    options: { dryRun: boolean },
  ): Promise<VolumeView> {
    const volume = this.volume(nameOrNumber);
    if (sizeBytes < volume.sizeBytes) {
      throw new Fault("conflict", `volume ${volume.name} is never made smaller`);
    }
    if (sizeBytes > 4 * DISK_BYTES) throw new Fault("noSpace", "there is not that much");
    const [first] = volume.slices;
    const next = first === undefined ? [] : [{ ...first, slice: 0, index: 1 }];
    const sentence = "it would grow; nothing was changed";
    if (options.dryRun)
      return { ...volume, sizeBytes, sentence, slices: [...volume.slices, ...next] };
    if (sizeBytes > volume.sizeBytes) this.say("info", `volume ${volume.name} grew`);
    volume.sizeBytes = sizeBytes;
    return volume;
  }

  async deleteVolume(nameOrNumber: string, { graceMs }: { graceMs: number }): Promise<void> {
    const volume = this.volume(nameOrNumber);
    endDryRun(`volume ${volume.name} is deleted`);
    if (graceMs > 0) volume.deletedAtMs = NEW_YEAR_2026_MS + graceMs;
    else this.#volumes.splice(this.#volumes.indexOf(volume), 1);
  }
  async acceptVolume(nameOrNumber: string): Promise<VolumeView> {
    const volume = this.volume(nameOrNumber);
    endDryRun(`volume ${volume.name} goes on with what was found`);
    this.accepted.push(volume.name);
    return volume;
  }

  async restoreVolume(nameOrNumber: string): Promise<VolumeView> {
    const volume = this.volume(nameOrNumber);
    if (volume.deletedAtMs === null) throw new Fault("conflict", "it is not deleted");
    endDryRun(`volume ${volume.name} is taken back`);
    volume.deletedAtMs = null;
    return volume;
  }

  async changeVolume(nameOrNumber: string, change: ChangeVolume): Promise<VolumeView> {
    const volume = this.volume(nameOrNumber);
    const { tls = volume.tls, name = volume.name } = change;
    if (name !== volume.name && this.volumes().some((one) => one.name === name)) {
      throw new Fault("conflict", `a volume named ${name} exists`);
    }
    endDryRun(
      name === volume.name
        ? `TLS of volume ${volume.name} is ${tls}`
        : `volume ${volume.name} is called ${name}`,
    );
    Object.assign(volume, { tls, name });
    return volume;
  }

  /** A volume's `goOn` and `kept` are put there by tests. */
  async goOnVolume(nameOrNumber: string): Promise<VolumeView> {
    const volume = this.volume(nameOrNumber);
    if (volume.goOn === null) throw new Fault("conflict", `${volume.name} does not stand still`);
    endDryRun(`${volume.name} goes on`);
    Object.assign(volume, { goOn: null, availability: "online" });
    return volume;
  }
  async discardCopy(nameOrNumber: string, number: number): Promise<void> {
    const volume = this.volume(nameOrNumber);
    const left = volume.kept.filter((kept) => kept.number !== number);
    if (left.length === volume.kept.length) throw new Fault("notFound", "no such copy is kept");
    endDryRun(`what is kept of ${volume.name} is given up`);
    volume.kept = left;
  }

  async claim(request: ClaimRequest, asker: Asker): Promise<{ token: string | null }> {
    this.claims.push({ ...request, asker });
    this.#needCluster();
    if (!isAdmin(asker) && request.code !== MEMORY_CODE) {
      throw new Fault("forbidden", "that is not this unit's claim code");
    }
    const { tokenHash, password } = request;
    if (tokenHash !== null && tokenHash === this.users.ownerHash) {
      if (password === null || password === this.password) return { token: null };
      throw new Fault("conflict", "this cluster is claimed already, with another password");
    }
    if (this.ownerToken !== null && !request.replace) {
      throw new Fault("conflict", "this cluster is claimed already");
    }
    endDryRun("the cluster was claimed");
    const token = tokenHash === null ? `${this.claims.length}`.repeat(64).slice(0, 64) : null;
    this.ownerToken = token ?? "the claimer's own";
    this.users.claimed(tokenHash ?? hashOf(this.ownerToken), password);
    return { token };
  }

  events(since: number, limit: number, actor?: string): EventView[] {
    this.#needCluster();
    const later = this.#events.filter(
      (one) => one.number > since && (actor === undefined || one.actor === actor),
    );
    return since === 0 ? later.slice(-limit) : later.slice(0, limit);
  }

  recovery() {
    const resync = { slice: 1, volume: 1, target: 2, doneBytes: 1 << 20, totalBytes: 4 << 20 };
    return { resyncs: [resync], resyncedBytes: 1 << 20, deadline: this.deadline };
  }

  /** What a control station decided. */
  journal: Journal = { base: [], steps: [] };
  supportBundle() {
    return makeBundle(this, { journal: this.journal, wallMs: 1_700_000_000_000 });
  }

  metrics(): MetricSample[] {
    const type = "gauge" as const;
    const free = { name: "cairn_disk_free_bytes", help: "Free space\nof a disk", type };
    const up = { name: "cairn_unit_up_count", help: "Units that are up", type };
    return [
      { ...free, labels: { disk: "1" }, value: DISK_BYTES },
      { ...up, labels: {}, value: 1 },
      { ...free, labels: { disk: '2 "\\\n' }, value: 0.5 },
    ];
  }

  health(): Health {
    return this.healthNow;
  }

  say(severity: EventView["severity"], sentence: string): void {
    const number = this.#events.length + 1;
    const atMs = NEW_YEAR_2026_MS + number * 1000;
    this.#events.push({ number, atMs, severity, kind: "test", sentence, actor: this.actor() });
  }

  #needCluster(): void {
    if (!this.inCluster) throw new Fault("notReady", "this unit is in no cluster yet");
  }

  #view(request: CreateVolume): VolumeView {
    const { name, sizeBytes, protection, hosts = [], tls } = request;
    return {
      volume: this.#nextVolume,
      uuid: "ef".repeat(16),
      name,
      sizeBytes,
      growingToBytes: null,
      usedBytes: null,
      protection,
      pool: request.pool ?? "pool",
      availability: "online",
      state: "protected",
      rebuildingPercent: null,
      sentence: "",
      hosts: hosts.map((host) => {
        const { host: number, name: called } = this.hosts.one(host);
        return { host: number, name: called };
      }),
      tls: tls ?? TLS_RULE_DEFAULT,
      front: 1,
      deletedAtMs: null,
      kept: [],
      goOn: null,
      uris: [`nbd://10.0.0.1/${name}`],
      paths: [{ unit: 1, uri: `nbd://10.0.0.1/${name}` }],
      slices: [
        {
          slice: 1,
          index: 0,
          epoch: 1,
          head: 1,
          members: [{ disk: 1, unit: 1, state: "in-sync" }],
        },
      ],
    };
  }
}
