// SPDX-License-Identifier: Apache-2.0
//
// The disks of one unit, on the control thread: which are named in the configuration, what is on
// them, claiming the blank ones, having them opened by the reactor and registered with the cluster.
//
// Invariants
// - Only disks that the configuration names are ever touched (design, section 4); one that is not
//   blank and not ours is left alone, and listed with its reason.
// - A disk of another cluster is left alone.
// - A disk's incarnation is in its record before anything new is placed on it (R0): it is
//   registered at every start.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { DiskExamination } from "#machine/disk-tools.ts";
import { claimDisk, examineDisk } from "#machine/disk-tools.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { OpenedDisk } from "./reactor-messages.ts";

const RETRY_MS = 1000;
/** A disk that could not be looked at or claimed is looked at again after this, ms. */
const LOOK_AGAIN_MS = 15_000;

export interface KeptDisk {
  path: string;
  sizeBytes: number;
  /** Why it is used, or why it is left alone: one sentence. */
  reason: string;
  state: "examining" | "refused" | "opening" | "open" | "ready" | "failed";
  opened: OpenedDisk | null;
}

interface KeeperOptions {
  paths: readonly string[];
  directFiles: boolean;
  unitName: string;
  /** Clusters this unit was in and left while nothing was kept in them. */
  leftClusters: readonly string[];
}

export class DiskKeeper {
  readonly #world: Pick<World, "log" | "random">;
  readonly #timers: Timers;
  readonly #reactor: ReactorClient;
  readonly #options: KeeperOptions;
  readonly #disks = new Map<string, KeptDisk>();
  #clusterId = "";
  #commands: CommandClient | null = null;
  #stopped = false;
  /** Told when a disk came, went or fails: for `storage changed`. */
  onChange: (disk: KeptDisk) => void = () => {};

  constructor(
    world: Pick<World, "log" | "random">,
    timers: Timers,
    reactor: ReactorClient,
    options: KeeperOptions,
  ) {
    this.#world = world;
    this.#timers = timers;
    this.#reactor = reactor;
    this.#options = options;
    for (const path of options.paths) {
      const reason = "not looked at yet";
      this.#disks.set(path, { path, sizeBytes: 0, reason, state: "examining", opened: null });
    }
  }

  get disks(): KeptDisk[] {
    return [...this.#disks.values()];
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Looks at every disk and says what would be done; touches none. */
  async examine(): Promise<void> {
    for (const disk of this.#disks.values()) {
      if (disk.state !== "examining" && disk.state !== "refused") continue;
      await this.#look(disk);
    }
  }

  /** The unit is in a cluster: opens what is ours, claims what is blank. */
  async enter(clusterId: string, commands: CommandClient): Promise<void> {
    this.#clusterId = clusterId;
    this.#commands = commands;
    await this.#openAll();
  }

  async #openAll(): Promise<void> {
    for (const disk of this.#disks.values()) {
      if (this.#stopped) return;
      if (disk.state !== "examining" && disk.state !== "refused") continue;
      const examination = await this.#look(disk);
      if (examination === null || examination.state === "refused") continue;
      await this.#claimAndOpen(disk, examination);
    }
    if (this.disks.some((disk) => disk.state === "refused" || disk.state === "examining")) {
      this.#timers.after(LOOK_AGAIN_MS, () => void this.#openAll());
    }
  }

  async #look(disk: KeptDisk): Promise<DiskExamination | null> {
    try {
      const examination = await examineDisk(disk.path);
      disk.sizeBytes = examination.sizeBytes;
      switch (examination.state) {
        case "blank":
          disk.reason = "it is blank and named in the configuration, so it is claimed";
          disk.state = "examining";
          break;
        case "ours":
          // One that the reactor refused stays so until it says otherwise.
          if (disk.state === "refused") break;
          disk.reason = "it has been claimed by Cairn";
          disk.state = "examining";
          break;
        case "refused":
          this.#refuse(disk, `left alone: ${examination.reasons.join("; ")}`);
      }
      return examination;
    } catch (error) {
      this.#refuse(disk, `left alone: ${sentenceOf(error)}`);
      return null;
    }
  }

  #refuse(disk: KeptDisk, reason: string): void {
    if (disk.reason !== reason)
      this.#world.log.write("warn", "disk refused", { disk: disk.path, reason });
    disk.state = "refused";
    disk.reason = reason;
  }

  async #claimAndOpen(disk: KeptDisk, examination: DiskExamination): Promise<void> {
    try {
      const place =
        examination.ours ??
        (await claimDisk(disk.path, { evenIfNotBlank: false, name: this.#options.unitName }));
      disk.state = "opening";
      // The GPT partition's id is the disk's own. Whether it has a store already is for the reactor
      // to see: a stop may have come between claiming and formatting.
      this.#reactor.send({
        kind: "openDisk",
        place: {
          path: place.path,
          offsetBytes: place.offsetBytes,
          sizeBytes: place.sizeBytes,
          direct: this.#options.directFiles,
        },
        identity: { clusterId: this.#clusterId, uuid: place.partitionId.replaceAll("-", "") },
        leftClusters: this.#options.leftClusters,
        anew: false,
      });
    } catch (error) {
      this.#refuse(disk, `left alone: ${sentenceOf(error)}`);
    }
  }

  // What the reactor says.

  opened(opened: OpenedDisk): void {
    const disk = this.#disks.get(opened.path);
    if (disk === undefined) return;
    disk.opened = opened;
    if (opened.clusterId !== this.#clusterId) {
      if (this.#options.leftClusters.includes(opened.clusterId) && opened.slices === 0) {
        disk.reason = "it was of a cluster that gave way while nothing was on it; made anew";
        return this.#reactor.send({
          kind: "openDisk",
          place: opened.place,
          identity: { clusterId: this.#clusterId, uuid: opened.uuid },
          leftClusters: [],
          anew: true,
        });
      }
      this.#refuse(disk, "left alone: it belongs to another cluster");
      this.#reactor.send({ kind: "closeDisk", uuid: opened.uuid });
      return;
    }
    disk.state = "open";
    disk.reason = "in use by this cluster";
    void this.#register(disk, opened);
  }

  refused(path: string, sentence: string): void {
    const disk = this.#disks.get(path);
    if (disk !== undefined) this.#refuse(disk, `left alone: ${sentence}`);
  }

  ready(uuid: string, number: number): void {
    const disk = this.#find(uuid);
    if (disk === null || disk.opened === null) return;
    disk.opened.number = number;
    disk.state = "ready";
    this.onChange(disk);
  }

  failed(uuid: string, sentence: string): void {
    const disk = this.#find(uuid);
    if (disk === null) return;
    disk.state = "failed";
    disk.reason = `taken out of use: ${sentence}`;
    this.#world.log.write("error", "disk failed", { disk: disk.path, sentence });
    this.onChange(disk);
  }

  /** The reactor's newest figures. */
  refresh(disks: readonly OpenedDisk[]): void {
    for (const opened of disks) {
      const disk = this.#disks.get(opened.path);
      if (disk?.opened?.uuid === opened.uuid) disk.opened = opened;
    }
  }

  /** Registers, again and again until the control station has taken it. */
  async #register(disk: KeptDisk, opened: OpenedDisk): Promise<void> {
    const { uuid, path, sizeBytes, incarnation } = opened;
    while (!this.#stopped && this.#commands !== null) {
      try {
        const args = { uuid, path, sizeBytes, incarnation };
        const answer = await this.#commands.ask("registerDisk", args);
        this.#reactor.send({ kind: "numberDisk", uuid, number: answer.disk });
        return;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        disk.reason = `waits to be registered: ${error.message}`;
        this.#world.log.write("info", "a disk waits to be registered", {
          path,
          reason: error.message,
        });
      }
      await new Promise<void>((resolve) => this.#timers.after(RETRY_MS, resolve));
    }
  }

  #find(uuid: string): KeptDisk | null {
    return this.disks.find((disk) => disk.opened?.uuid === uuid) ?? null;
  }
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
