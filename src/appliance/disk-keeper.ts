// SPDX-License-Identifier: Apache-2.0
//
// The disks of one unit, on the control thread: which it may take, what is on them, claiming the
// blank ones, having them opened by the reactor and registered with the cluster.
//
// Invariants
// - Outside of an appliance only disks that the configuration names are ever touched (design,
//   section 4). On an appliance that names none, those that the machine has are considered, as they
//   come and go; of the disk it runs from only the partition that is there for us.
// - A disk that is not blank and not ours is left alone, and listed with its reason. While
//   something holds claiming back, blank ones are too; what is ours already is opened all the same.
// - A disk of another cluster is left alone, and so is a second path to a disk in use, or its
//   clone.
// - A disk's incarnation is in its record before anything new is placed on it (R0): it is
//   registered at every start.
// - A disk that failed is not opened again by this run unless its owner says so; one that was taken
//   out while in use is, once its slices have given it up, without what it had not made durable
//   (R10, lost-disks.ts).

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { DiskExamination, DiskPlace } from "#machine/disk-tools.ts";
import { claimDisk, examineDisk, whyNotErased } from "#machine/disk-tools.ts";
import type { DiskCandidate } from "#machine/machine-disks.ts";
import { clearSpare, examineSpare, spareContent } from "#machine/spare-partition.ts";
import { LostDisks } from "./lost-disks.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { OpenedDisk } from "./reactor-messages.ts";

const RETRY_MS = 1000;
const REFUSED_RETRY_MS = 60_000;
/** A disk that could not be looked at or claimed is looked at again after this, ms. */
const LOOK_AGAIN_MS = 15_000;
/**
 * One that looked fine and could not be opened is held by somebody for a moment, as by udev after a
 * new GPT: tried again after one second, then two, and so on, so many times.
 */
const OPEN_AGAIN_MS = 1000;
const OPEN_AGAIN_TRIES = 7;
/** Disks that nobody named may be many. */
const LOOK_AGAIN_FOUND_MS = 60_000;
/** Between two looks whether disks came or went, ms. */
const WATCH_MS = 2000;

export interface KeptDisk {
  path: string;
  sizeBytes: number;
  /** Why it is used, or why it is left alone: one sentence. */
  reason: string;
  state: "examining" | "refused" | "opening" | "open" | "ready" | "failed";
  opened: OpenedDisk | null;
  /** While failed: it was taken out, so that it may come back by itself. */
  isOut: boolean;
  /** The other cluster whose disk it is; null: it is not, or that is not known. */
  ofCluster: string | null;
}

/** An appliance's own look at what disks there are. */
export interface DiskWatch {
  /** Changes whenever a disk comes or goes. */
  mark(): string;
  find(): Promise<DiskCandidate[]>;
  /** Whether this spare partition has been cleared for us before. */
  isCleared(partitionId: string): boolean;
  cleared(partitionId: string): void;
}

export interface KeeperOptions {
  paths: readonly string[];
  directFiles: boolean;
  unitName: string;
  /** Clusters this unit was in and left while nothing was kept in them. */
  leftClusters: readonly string[];
  /** Null: only `paths` count. */
  watch: DiskWatch | null;
  /** Why blank disks are not claimed, in words; null: they are. */
  heldBack: string | null;
}

export class DiskKeeper {
  readonly #world: Pick<World, "log">;
  readonly #timers: Timers;
  readonly #reactor: ReactorClient;
  readonly #options: KeeperOptions;
  readonly #disks = new Map<string, KeptDisk>();
  /** Of the disks that were found, by the path under which they are listed. */
  readonly #found = new Map<string, DiskCandidate>();
  /** Identities of disks sent to be opened. */
  readonly #identities = new Map<KeptDisk, string>();
  readonly #lost: LostDisks;
  #mark: string | null = null;
  /** Looks and openings come one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #lookingAgain = false;
  /** Tries to open again, by disk. */
  readonly #openTries = new Map<KeptDisk, number>();
  #clusterId = "";
  #commands: CommandClient | null = null;
  #stopped = false;
  /** Told when a disk came into use, or went out of it: why, empty where it came. */
  onChange: (disk: KeptDisk, why: string) => void = () => {};

  constructor(
    world: Pick<World, "clock" | "log">,
    timers: Timers,
    reactor: ReactorClient,
    options: KeeperOptions,
  ) {
    this.#world = world;
    this.#lost = new LostDisks(world.clock);
    this.#timers = timers;
    this.#reactor = reactor;
    this.#options = options;
    for (const path of options.paths) this.#add(path, 0);
  }

  get disks(): KeptDisk[] {
    return [...this.#disks.values()];
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Resolves when what was begun by now has been done. */
  async settled(): Promise<void> {
    await this.#inTurn(async () => {});
  }

  /** Looks at every disk and says what would be done; touches none. Begins to watch for more. */
  async examine(): Promise<void> {
    await this.#inTurn(async () => {
      await this.#refind();
      await this.#lookAll();
    });
    if (this.#options.watch !== null) this.#timers.after(WATCH_MS, () => void this.#watch());
  }

  /** The unit is in a cluster: opens what is ours, claims what is blank. */
  async enter(clusterId: string, commands: CommandClient): Promise<void> {
    this.#clusterId = clusterId;
    this.#commands = commands;
    await this.#inTurn(() => this.#openAll());
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(act);
    // Whoever asked for it hears of its failure; the next one comes all the same.
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #add(path: string, sizeBytes: number): KeptDisk {
    const reason = "not looked at yet";
    const state = "examining";
    const known = { opened: null, isOut: false, ofCluster: null };
    const disk: KeptDisk = { path, sizeBytes, reason, state, ...known };
    this.#disks.set(path, disk);
    return disk;
  }

  #waiting(): KeptDisk[] {
    return this.disks.filter((disk) => disk.state === "examining" || disk.state === "refused");
  }

  // Disks that come and go.

  async #watch(): Promise<void> {
    if (this.#stopped) return;
    if (this.#options.watch?.mark() !== this.#mark) {
      await this.#inTurn(async () => {
        await this.#refind();
        await (this.#commands === null ? this.#lookAll() : this.#openAll());
      });
    }
    this.#timers.after(WATCH_MS, () => void this.#watch());
  }

  async #lookAll(): Promise<void> {
    for (const disk of this.#waiting()) await this.#look(disk);
  }

  /** Makes the list what the machine has. */
  async #refind(): Promise<void> {
    const { watch } = this.#options;
    if (watch === null) return;
    // Taken first: what comes while we look is seen at the next look.
    const mark = watch.mark();
    let found: DiskCandidate[];
    try {
      found = await watch.find();
    } catch (error) {
      const reason = sentenceOf(error);
      return this.#world.log.write("warn", "the disks cannot be listed", { reason });
    }
    this.#mark = mark;
    const there = new Map(found.map((candidate) => [candidate.path, candidate]));
    for (const [path, known] of this.#found) {
      const now = there.get(known.path);
      if (now?.attachment === known.attachment) there.delete(known.path);
      else this.#gone(path);
    }
    for (const candidate of there.values()) {
      const known = this.#disks.get(candidate.path);
      // Of one that was taken out only the memory is left; it must not stand in the way.
      if (known !== undefined && known.state !== "failed") continue;
      this.#found.set(candidate.path, candidate);
      this.#add(candidate.path, candidate.sizeBytes);
    }
  }

  #gone(path: string): void {
    this.#found.delete(path);
    const disk = this.#disks.get(path);
    if (disk === undefined || disk.isOut) return;
    if (disk.state === "examining" || disk.state === "refused") {
      this.#disks.delete(path);
      this.#identities.delete(disk);
      return;
    }
    const identity = this.#identities.get(disk) ?? "";
    const reason = "it was taken out while in use";
    // Its last I/O may have failed before it was missed: it is out all the same.
    this.#lost.takenOut(identity);
    this.#reactor.send({ kind: "dropDisk", uuid: identity, reason: "its disk was taken out" });
    this.#lose(disk, { reason, isOut: true, why: reason });
  }

  #lose(disk: KeptDisk, loss: { reason: string; isOut: boolean; why: string }): void {
    const { reason, isOut, why } = loss;
    disk.state = "failed";
    disk.reason = reason;
    disk.isOut = isOut;
    this.#world.log.write("error", "disk failed", { disk: disk.path, reason });
    this.onChange(disk, why);
  }

  /** The owner wants a disk that went out of use: it is closed, then looked at and opened anew. */
  takeAgain(uuid: string): void {
    this.#lost.pardon(uuid);
    this.#reactor.send({ kind: "dropDisk", uuid, reason: "its disk is to be opened anew" });
  }

  /** The reactor has it open no more. */
  dropped(uuid: string): void {
    if (this.#stopped || this.#commands === null || this.#lost.refusal(uuid) !== null) return;
    for (const [disk, identity] of this.#identities) {
      const isFound = this.#options.watch === null || this.#found.has(disk.path);
      if (identity !== uuid || this.#disks.get(disk.path) !== disk || !isFound) continue;
      if (disk.state !== "failed") continue;
      disk.state = "examining";
      disk.reason = "it is being taken again";
      disk.isOut = false;
      disk.opened = null;
    }
    void this.#inTurn(() => this.#openAll());
  }

  // Looking and opening.

  async #openAll(): Promise<void> {
    for (const disk of this.#waiting()) {
      if (this.#stopped) return;
      await this.#open(disk);
    }
    this.#lookAgain();
  }

  #lookAgain(): void {
    const waiting = this.#waiting();
    if (waiting.length === 0 || this.#lookingAgain) return;
    const soon = waiting.some((disk) => !this.#found.has(disk.path));
    this.#lookingAgain = true;
    this.#timers.after(soon ? LOOK_AGAIN_MS : LOOK_AGAIN_FOUND_MS, () => {
      this.#lookingAgain = false;
      void this.#inTurn(() => this.#openAll());
    });
  }

  async #open(disk: KeptDisk): Promise<void> {
    const examination = await this.#look(disk);
    if (examination === null || examination.state === "refused") return;
    if (examination.state === "blank" && this.#options.heldBack !== null) return;
    await this.#claimAndOpen(disk, examination);
  }

  /**
   * The owner wants a disk that was left alone because something is on it: all of that is erased.
   * Throws a Fault diskRefused, conflict or notReady where that may not be; `isTry` goes no
   * further than to find out.
   */
  async eraseAndClaim(path: string, { isTry }: { isTry: boolean }): Promise<void> {
    await this.#inTurn(async () => {
      const disk = this.#disks.get(path);
      if (disk === undefined) throw new Fault("notFound", `no disk ${path} here`);
      if (this.#commands === null) throw new Fault("notReady", "the unit is in no cluster yet");
      if (!this.#waiting().includes(disk)) throw new Fault("conflict", `${path} is in use already`);
      const candidate = this.#found.get(path);
      // What no word of the owner makes fit: a second path, a removable one, the boot disk's spare.
      if (candidate?.refusal != null) throw new Fault("diskRefused", candidate.refusal);
      const { state } = await examineDisk(path);
      if (state === "ours" || candidate?.part === "spare") {
        const why = "it is Cairn's already; what another cluster left is erased by a factory reset";
        throw new Fault("diskRefused", `${path}: ${why}`);
      }
      const held = whyNotErased(path);
      if (held !== null) throw new Fault("diskRefused", `${path}: ${held}`);
      if (isTry) return;
      this.#world.log.write("warn", "a disk is erased by its owner's word", { disk: path });
      try {
        await claimDisk(path, { evenIfNotBlank: true, name: this.#options.unitName });
      } catch (error) {
        this.#refuse(disk, `left alone: ${sentenceOf(error)}`);
        throw error;
      }
      await this.#open(disk);
    });
  }

  #openAgain(disk: KeptDisk): void {
    const tries = this.#openTries.get(disk) ?? 0;
    if (tries >= OPEN_AGAIN_TRIES) return this.#lookAgain();
    this.#openTries.set(disk, tries + 1);
    this.#timers.after(OPEN_AGAIN_MS * 2 ** tries, () => {
      void this.#inTurn(async () => {
        const isThere = this.#disks.get(disk.path) === disk;
        if (isThere && disk.state === "refused" && !this.#stopped) await this.#open(disk);
      });
    });
  }

  async #look(disk: KeptDisk): Promise<DiskExamination | null> {
    const candidate = this.#found.get(disk.path);
    try {
      if (candidate?.refusal != null) {
        this.#refuse(disk, `left alone: ${candidate.refusal}`);
        return null;
      }
      const examination =
        candidate?.part === "spare"
          ? await examineSpare(candidate.path)
          : await examineDisk(disk.path);
      disk.sizeBytes = examination.sizeBytes;
      switch (examination.state) {
        case "blank":
          disk.reason = this.#blankReason(disk);
          disk.state = "examining";
          break;
        case "ours":
          // One that the reactor refused stays so until it says otherwise.
          if (disk.state === "refused") break;
          disk.reason =
            candidate?.part === "spare"
              ? "it is the spare space of the disk that this unit runs from"
              : "it has been claimed by Cairn";
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

  #blankReason(disk: KeptDisk): string {
    const { heldBack } = this.#options;
    if (heldBack !== null) return `it is blank and would be claimed, but ${heldBack}`;
    const why = this.#found.has(disk.path) ? "" : " and named in the configuration";
    return `it is blank${why}, so it is claimed`;
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
      const uuid = place.partitionId.replaceAll("-", "");
      const taken = this.#takenAlready(disk, uuid);
      if (taken !== null) return this.#refuse(disk, taken);
      const isSpare = this.#found.get(disk.path)?.part === "spare";
      if (isSpare && !this.#spareIsReady(disk, place)) return;
      this.#forgetLost(disk, uuid);
      if (place.path !== disk.path) this.#rename(disk, place.path);
      this.#identities.set(disk, uuid);
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
        identity: { clusterId: this.#clusterId, uuid },
        leftClusters: this.#options.leftClusters,
        anew: false,
        cacheLost: this.#lost.hasLostCache(uuid),
      });
    } catch (error) {
      this.#refuse(disk, `left alone: ${sentenceOf(error)}`);
    }
  }

  /** Why a disk of this identity is not opened now, or null. */
  #takenAlready(disk: KeptDisk, uuid: string): string | null {
    const lost = this.#lost.refusal(uuid);
    if (lost !== null) return `left alone: ${lost}; \`cairn disk return\` takes it again`;
    for (const [other, identity] of this.#identities) {
      if (other === disk || identity !== uuid || this.#disks.get(other.path) !== other) continue;
      if (other.state !== "refused" && other.state !== "failed") {
        return `left alone: it is ${other.path} by another path, or a clone of it`;
      }
    }
    return null;
  }

  /** It is back, perhaps by another path: the memory of its absence must not be listed too. */
  #forgetLost(disk: KeptDisk, uuid: string): void {
    for (const [other, identity] of this.#identities) {
      if (other === disk || identity !== uuid || other.state !== "failed") continue;
      this.#identities.delete(other);
      if (this.#disks.get(other.path) === other) this.#disks.delete(other.path);
    }
  }

  /**
   * The spare space of the boot disk is blank by being there, whatever lay on the disk before it
   * was flashed: cleared once, before the first store is made in it. A store, also of another
   * cluster, is never cleared.
   */
  #spareIsReady(disk: KeptDisk, place: DiskPlace): boolean {
    const content = spareContent(place);
    if (content === "store") return true;
    if (this.#options.heldBack !== null) {
      disk.reason = this.#blankReason(disk);
      disk.state = "examining";
      return false;
    }
    const { watch } = this.#options;
    if (watch === null || watch.isCleared(place.partitionId)) return true;
    if (content === "other") clearSpare(place);
    watch.cleared(place.partitionId);
    return true;
  }

  /** A disk is listed as what is used of it. */
  #rename(disk: KeptDisk, path: string): void {
    const candidate = this.#found.get(disk.path);
    this.#disks.delete(disk.path);
    this.#found.delete(disk.path);
    disk.path = path;
    this.#disks.set(path, disk);
    if (candidate !== undefined) this.#found.set(path, candidate);
  }

  // What the reactor says.

  opened(opened: OpenedDisk): void {
    const disk = this.#disks.get(opened.path);
    if (disk === undefined) return;
    // Taken out while it was being opened.
    if (disk.state === "failed") return this.#reactor.send(dropped(opened.uuid));
    disk.opened = opened;
    this.#openTries.delete(disk);
    if (opened.clusterId !== this.#clusterId) {
      if (this.#options.leftClusters.includes(opened.clusterId) && opened.slices === 0) {
        disk.reason = "it was of a cluster that gave way while nothing was on it; made anew";
        return this.#reactor.send({
          kind: "openDisk",
          place: opened.place,
          identity: { clusterId: this.#clusterId, uuid: opened.uuid },
          leftClusters: [],
          anew: true,
          cacheLost: true,
        });
      }
      this.#refuse(disk, "left alone: it belongs to another cluster");
      disk.ofCluster = opened.clusterId;
      this.#reactor.send({ kind: "closeDisk", uuid: opened.uuid });
      return;
    }
    disk.state = "open";
    disk.ofCluster = null;
    disk.reason = "in use by this cluster";
    void this.#register(disk, opened);
  }

  refused(path: string, sentence: string, ofCluster: string | null): void {
    const disk = this.#disks.get(path);
    if (disk === undefined) return;
    disk.ofCluster = ofCluster;
    this.#refuse(disk, `left alone: ${sentence}`);
    this.#openAgain(disk);
  }

  ready(uuid: string, number: number): void {
    const disk = this.#find(uuid);
    if (disk === null || disk.opened === null) return;
    disk.opened.number = number;
    disk.state = "ready";
    this.onChange(disk, "");
  }

  failed(uuid: string, sentence: string): void {
    const disk = this.#find(uuid);
    if (disk === null || disk.state === "failed") return;
    this.#lost.failed(uuid);
    this.#lose(disk, { reason: `taken out of use: ${sentence}`, isOut: false, why: sentence });
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
    const { uuid, path, sizeBytes, incarnation, number } = opened;
    const isThere = () => this.#disks.get(path) === disk && disk.state !== "failed";
    let waitMs = RETRY_MS;
    while (!this.#stopped && this.#commands !== null && isThere()) {
      try {
        const former = number === 0 ? {} : { number };
        const args = { uuid, path, sizeBytes, incarnation, ...former };
        const answer = await this.#commands.ask("registerDisk", args);
        this.#reactor.send({ kind: "numberDisk", uuid, number: answer.disk });
        return;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        disk.reason = `waits to be registered: ${error.message}`;
        // A refused one may be of a unit that is about to be missed, or stay refused for ever.
        waitMs = error.code === "diskRefused" ? Math.min(REFUSED_RETRY_MS, 2 * waitMs) : RETRY_MS;
        this.#world.log.write("info", "a disk waits to be registered", {
          path,
          reason: error.message,
        });
      }
      await new Promise<void>((resolve) => this.#timers.after(waitMs, resolve));
    }
  }

  #find(uuid: string): KeptDisk | null {
    return this.disks.find((disk) => disk.opened?.uuid === uuid) ?? null;
  }
}

function dropped(uuid: string) {
  return { kind: "dropDisk" as const, uuid, reason: "its disk was taken out" };
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
