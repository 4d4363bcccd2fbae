// SPDX-License-Identifier: Apache-2.0
//
// Tells the reactor what the control state says: the other units, where disks are, which volumes
// are assigned to which hosts. Records go their own way (RecordKeeper), since they must be
// confirmed ones.
//
// Invariant: an appliance exports nothing to anybody before the cluster is claimed.

import type { DiskNumber, HostNumber, UnitNumber, VolumeNumber } from "#base/record.ts";
import { keptVolumes } from "#cluster/lineages.ts";
import type { VolumeRecord } from "#cluster/state.ts";
import type { ClusterView, ViewChange } from "#cluster/view.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { ExportedVolume, PeerUnit } from "./reactor-messages.ts";

/** How long a drill keeps a head silent: longer than any takeover is given (design, section 5). */
export const SILENT_MS = 10_000;

export class ReactorFeed {
  readonly #reactor: Pick<ReactorClient, "send">;
  readonly #view: ClusterView;
  /** As last sent. */
  #plans = "";
  /** Copies of volumes that were told, as text. */
  readonly #copies = new Map<VolumeNumber, string>();
  /** How often heads of canaries were told to fall silent, by volume; those of before were seen. */
  readonly #silenced = new Map<VolumeNumber, number>();
  readonly #options: { ownUnit: UnitNumber; exportsUnclaimed: boolean };

  constructor(
    reactor: Pick<ReactorClient, "send">,
    view: ClusterView,
    options: { ownUnit: UnitNumber; exportsUnclaimed: boolean },
  ) {
    this.#reactor = reactor;
    this.#view = view;
    this.#options = options;
    view.onChange((changes) => this.#changed(changes));
  }

  #changed(changes: readonly ViewChange[]): void {
    if (changes.some((change) => change.kind === "unit")) this.#sendPeers();
    if (changes.some((change) => change.kind === "administrator")) {
      for (const number of this.#view.volumes.keys()) this.#sendVolume(number);
    }
    if (changes.some((change) => change.kind === "settings")) this.#sendScrubPace();
    const kinds = ["disk", "unit"];
    if (changes.some((change) => kinds.includes(change.kind))) this.#sendPlans();
    const places: { disk: DiskNumber; unit: UnitNumber }[] = [];
    for (const change of changes) {
      const number = Number(change.rest);
      if (change.kind === "disk") {
        const disk = this.#view.disks.get(number);
        if (disk !== undefined) places.push({ disk: number, unit: disk.unit });
      } else if (change.kind === "volume") {
        this.#sendVolume(number);
        this.#lookAtDrill(number);
      } else if (change.kind === "host") {
        this.#sendHost(number);
      }
    }
    this.#lookAtCopies(changes);
    if (places.length > 0) this.#reactor.send({ kind: "places", places });
  }

  /** R8: records say what is kept of a volume. */
  #lookAtCopies(changes: readonly ViewChange[]): void {
    const seen = new Set<VolumeNumber>();
    for (const { kind, rest } of changes) {
      if (kind !== "slice") continue;
      const record = this.#view.slices.get(Number(rest));
      const told = this.#copies.get(record?.volume ?? 0);
      if (record === undefined || told === undefined || seen.has(record.volume)) continue;
      if (told === "[]" && (record.kept ?? []).length === 0) continue;
      seen.add(record.volume);
      const volume = this.#view.volumes.get(record.volume);
      if (volume === undefined || JSON.stringify(copiesOf(this.#view, volume)) === told) continue;
      this.#sendVolume(record.volume);
    }
  }

  #sendScrubPace(): void {
    const { scrubEveryMs, scrubBytesPerSecondMax } = this.#view.settings;
    const pace = { everyMs: scrubEveryMs, bytesPerSecondMax: scrubBytesPerSecondMax };
    this.#reactor.send({ kind: "scrubPace", pace });
  }

  #sendPlans(): void {
    const disks = [...this.#view.disks.keys()].sort((left, right) => left - right);
    const leaving = disks.filter((disk) => this.#view.diskLeaves(disk));
    const maintained = disks.filter((disk) => this.#view.isMaintained(disk));
    const said = `${leaving.join()};${maintained.join()}`;
    if (said === this.#plans) return;
    this.#plans = said;
    this.#reactor.send({ kind: "plans", leaving, maintained });
  }

  #sendPeers(): void {
    const peers: PeerUnit[] = [];
    for (const unit of this.#view.units.values()) {
      if (unit.number === this.#options.ownUnit || unit.state !== "admitted") continue;
      const port = unit.ports.peer;
      if (port === undefined) continue;
      // The cluster's own address first: it outlives a change of the others (DHCP).
      const addresses = [unit.ula, ...unit.addresses];
      peers.push({ unit: unit.number, publicKey: unit.publicKey, addresses, port });
    }
    this.#reactor.send({ kind: "peers", peers });
  }

  #sendVolume(number: VolumeNumber): void {
    const volume = this.#view.volumes.get(number);
    if (volume === undefined || volume.state !== "ready") {
      this.#copies.delete(number);
      this.#reactor.send({ kind: "volumeGone", volume: number });
    } else {
      const mayExport = this.#options.exportsUnclaimed || this.#view.isClaimed;
      const hosts = mayExport ? [...volume.hosts, ...this.#sendRanges(volume)] : [];
      const copies = copiesOf(this.#view, volume);
      this.#copies.set(number, JSON.stringify(copies));
      this.#reactor.send({ kind: "volume", volume: { ...exported(volume), hosts, copies } });
    }
  }

  /** A drill wants this unit dead to its canary, where that is headed here. */
  #lookAtDrill(number: VolumeNumber): void {
    const volume = this.#view.volumes.get(number);
    const before = this.#silenced.get(number);
    if (volume?.canary === undefined) {
      this.#silenced.delete(number);
      return;
    }
    const { silenced } = volume.canary;
    const asked = silenced?.asked ?? 0;
    this.#silenced.set(number, asked);
    if (silenced === undefined || before === undefined || asked <= before) return;
    const isHere = this.#view.disks.get(silenced.disk)?.unit === this.#options.ownUnit;
    if (!isHere || !volume.slices.includes(silenced.slice)) return;
    this.#reactor.send({ kind: "silence", slice: silenced.slice, forMs: SILENT_MS });
  }

  /** A list of before there were hosts, until upkeep makes a host of it: one without a number. */
  #sendRanges({ number, allow }: VolumeRecord): HostNumber[] {
    if (allow.length === 0) return [];
    const host = { host: -number, addresses: allow, certificates: [] };
    this.#reactor.send({ kind: "host", host });
    return [-number];
  }

  #sendHost(number: HostNumber): void {
    const host = this.#view.hosts.get(number);
    if (host === undefined) return this.#reactor.send({ kind: "hostGone", host: number });
    const { addresses } = host;
    const certificates = host.certificates.map(({ fingerprint }) => fingerprint);
    this.#reactor.send({ kind: "host", host: { host: number, addresses, certificates } });
  }
}

function exported(volume: VolumeRecord) {
  const { number, sizeBytes, sliceBytes, slices, name, uuid, tls } = volume;
  return { volume: number, sizeBytes, sliceBytes, slices, name, uuid, tls };
}

/** Per copy the lineage of each slice: 0 where the current one is meant. */
function copiesOf(view: ClusterView, volume: VolumeRecord): ExportedVolume["copies"] {
  return keptVolumes(view, volume).map(({ number, name, copies }) => {
    const lineages = volume.slices.map(() => 0);
    for (const { index, lineage } of copies) lineages[index] = lineage;
    return { number, name, lineages };
  });
}
