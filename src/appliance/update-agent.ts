// SPDX-License-Identifier: Apache-2.0
//
// Updates on one unit: says to the cluster what runs here and how far it is, and does what the
// update's record asks of it (cluster/update-roll.ts): fetches the payload from a unit that has it,
// writes its other slot, restarts into it. Also updates this unit alone, where there is no cluster
// to ask.
//
// Invariants
// - One piece of work at a time. What is to be done follows from the record and from what is here
//   now; a daemon that starts anew in the middle begins that piece again.
// - This unit judges by itself what it installs: signature by its own keys, fit by its own disks
//   and system, whatever the record or the control station say.
// - It restarts only while the record names it, in the boot that the record names.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { keys, valueText } from "#cluster/state.ts";
import { updateRefusal } from "#cluster/update-manifest.ts";
import type { Manifest } from "#cluster/update-manifest.ts";
import { UnitUpdateSchema } from "#cluster/update-state.ts";
import type { UnitUpdateRecord, UpdateRecord } from "#cluster/update-state.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { Slot } from "#machine/slots.ts";
import type { TrialNote, UpdateMachine } from "#machine/update-machine.ts";
import { unitPieces } from "./artefact-pipe.ts";
import type { KeptPayload } from "./update-payloads.ts";
import { UpdatePayloads } from "./update-payloads.ts";

const TICK_MS = 1000;
/** The end of a trial is waited for; else the ESP is left alone, so that it can be unmounted. */
const SLOTS_EVERY_MS = 3000;
/** A fetch or an announcement that failed is tried again after this. */
const RETRY_MS = 15_000;
const SENTENCE_CHARACTERS_MAX = 1000;

/** The unit's cluster, as updates need it. */
export interface AgentCluster {
  unit: UnitNumber;
  store: Pick<ControlStore, "transaction">;
  view: ClusterView;
  commands: Pick<CommandClient, "ask">;
  /** Who votes in the control store; null: not known. */
  voters: readonly UnitNumber[] | null;
  dialArtefacts(unit: UnitNumber): Promise<MessagePipe>;
}

export interface AgentParts {
  machine: UpdateMachine;
  /** Null: in none, or its state is not read yet. */
  cluster(): AgentCluster | null;
  /** Highest format of the disks that are open here; 0: none. */
  diskFormat(): number;
  /** Of the executable, where no image says another. */
  version: string;
  featureLevel: number;
  tickMs?: number;
}

type Task = NonNullable<UnitUpdateRecord["task"]>;

export class UpdateAgent {
  readonly payloads: UpdatePayloads;
  readonly machine: UpdateMachine;
  readonly version: string;
  /** How the last work or trial here ended, for a person. */
  sentence = "";
  /** Why the last work here failed; null: it did not. */
  failed: Fault | null = null;
  readonly #world: Pick<World, "clock" | "log" | "seal">;
  readonly #timers: Timers;
  readonly #parts: AgentParts;
  #task: Task | null = null;
  /** What goes on, in words; null: nothing. */
  #doing: string | null = null;
  #slots: Slot[] = [];
  #slotsAtMs = Number.NEGATIVE_INFINITY;
  #note: TrialNote | null;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  /** The digest of a loaded payload that the cluster has not been told of yet. */
  #unannounced: string | null = null;
  /** Something was written or armed by this run, and not started. */
  #written = false;
  #restarting = false;
  #stopped = false;

  constructor(world: Pick<World, "clock" | "log" | "seal">, timers: Timers, parts: AgentParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    this.machine = parts.machine;
    this.version = parts.machine.system?.version ?? parts.version;
    this.payloads = new UpdatePayloads(world, parts.machine);
    this.#note = readNote(parts.machine);
  }

  get doing(): string | null {
    return this.#doing;
  }
  get slots(): readonly Slot[] {
    return this.#slots;
  }
  get isAppliance(): boolean {
    return this.machine.system !== null;
  }
  get isOnTrial(): boolean {
    return this.#slots.some((slot) => slot.running && slot.state === "trial");
  }
  get cluster(): AgentCluster | null {
    return this.#parts.cluster();
  }
  /** The version that is whole here and that its cluster does not know of yet; null: none. */
  get unannounced(): string | null {
    const { kept } = this.payloads;
    if (this.cluster === null || kept === null || kept.digest !== this.#unannounced) return null;
    return kept.manifest.version;
  }

  start(): void {
    void this.#tick();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #tick(): Promise<void> {
    if (this.#stopped) return;
    try {
      this.#lookAtSlots();
      await this.#live();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("debug", "the update agent waits", { reason: error.message });
    }
    if (this.#stopped) return;
    this.#timers.after(this.#parts.tickMs ?? TICK_MS, () => void this.#tick());
  }

  async #live(): Promise<void> {
    const cluster = this.#parts.cluster();
    if (cluster === null) return;
    await this.#report(cluster);
    await this.#announce(cluster);
    // What a stopped agent's view says is old: an armed slot would be withdrawn by it.
    if (this.#stopped) return;
    const { update } = cluster.view;
    const isMyTurn = update?.state === "rolling" && update.current?.unit === cluster.unit;
    if (!isMyTurn) this.#withdraw();
    if (update?.state !== "rolling" || !this.isAppliance || this.#restarting) return;
    if (isMyTurn) this.#takeTurn(cluster, update);
    else this.#fetchAhead(cluster, update);
  }

  // What is here.

  #lookAtSlots(): void {
    const everyMs = Math.min(SLOTS_EVERY_MS, 3 * (this.#parts.tickMs ?? SLOTS_EVERY_MS));
    // Without any the ESP could not be read so far: whether this is a trial must be known.
    const unknown = this.isAppliance && this.#slots.length === 0;
    if (this.isOnTrial || unknown) this.refreshSlots(everyMs);
    this.#endTrial();
  }

  /** Looks at the slots, unless it was done just now. */
  refreshSlots(everyMs = 0): void {
    const nowMs = this.#world.clock.nowMs();
    if (nowMs - this.#slotsAtMs < everyMs) return;
    this.#slotsAtMs = nowMs;
    try {
      this.#slots = this.machine.slots();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      // The unit serves without it; what writes a slot will meet it again, and say so.
      this.#world.log.write("warn", "the slots cannot be read", { reason: error.message });
    }
  }

  /** Says once how the trial ended that was begun before the restart. */
  #endTrial(): void {
    const note = this.#note;
    if (note === null || !this.isAppliance) return;
    if (note.version === this.version) {
      if (this.isOnTrial) return;
      this.#say(`version ${note.version} runs, and was found healthy`);
    } else {
      this.#say(`version ${note.version} failed its trial here; ${this.version} runs again`);
    }
    this.#note = null;
    this.machine.removeNote();
  }

  #say(sentence: string): void {
    this.sentence = sentence;
    this.#world.log.write("info", sentence);
  }

  report(unit: UnitNumber): UnitUpdateRecord {
    return {
      unit,
      appliance: this.isAppliance,
      version: this.version,
      bootId: this.machine.bootId,
      trial: this.isOnTrial,
      featureLevel: this.#parts.featureLevel,
      diskFormat: this.#parts.diskFormat(),
      architecture: this.machine.architecture,
      holds: this.payloads.kept?.digest ?? null,
      task: this.#task,
      slots: this.#slots.slice(0, 8).map(({ version, state }) => ({ version, state })),
    };
  }

  async #report(cluster: AgentCluster): Promise<void> {
    const key = keys.unitUpdate(cluster.unit);
    const record = this.report(cluster.unit);
    const known = cluster.view.unitUpdates.get(cluster.unit);
    if (known !== undefined && valueText(known) === valueText(UnitUpdateSchema.parse(record))) {
      return;
    }
    await cluster.store.transaction({
      ifs: [cluster.view.compare(key)],
      puts: [{ key, value: valueText(record) }],
    });
  }

  // Loading.

  /** Why a manifest cannot be for this unit's cluster, whenever it is started; else nothing. */
  checkLoad(manifest: Manifest): void {
    if (!this.isAppliance) throw notAppliance();
    const { update } = this.#parts.cluster()?.view ?? { update: null };
    if (update?.state === "rolling" && update.version !== manifest.version) {
      throw new Fault("conflict", `the update to version ${update.version} rolls; stop it first`);
    }
    // Others may lack what runs here already, and what is older may be wanted.
    if (manifest.version === this.version) return;
    const refusal = this.#refusal(manifest, { downgrade: true });
    if (refusal !== null) throw refusal;
  }

  /** Begins to load; the outcome is told by `sentence`. */
  load(place: string): void {
    if (!this.isAppliance) throw notAppliance();
    this.#work(`loads from ${place}`, async () => {
      const kept = await this.payloads.load(place, (manifest) => this.checkLoad(manifest));
      this.loaded(kept);
    });
  }

  /** A payload is whole here: the cluster is to be told. */
  loaded(kept: KeptPayload): void {
    this.#say(`version ${kept.manifest.version} is loaded on this unit`);
    this.#unannounced = kept.digest;
    this.#retryAtMs = Number.NEGATIVE_INFINITY;
  }

  async #announce(cluster: AgentCluster): Promise<void> {
    const { kept } = this.payloads;
    if (kept === null || this.#unannounced !== kept.digest) return;
    const nowMs = this.#world.clock.nowMs();
    if (nowMs < this.#retryAtMs) return;
    this.#retryAtMs = nowMs + RETRY_MS;
    const { digest, signed } = kept;
    try {
      const args = { digest, manifest: signed.text, signature: signed.signature };
      await cluster.commands.ask("announceUpdate", args);
      this.#unannounced = null;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#say(`version ${kept.manifest.version} is not announced yet: ${error.message}`);
      if (error.code === "conflict") this.#unannounced = null;
    }
  }

  // This unit's part in a roll.

  /** Fetched before it is this unit's turn, so that nobody waits for it then. */
  #fetchAhead(cluster: AgentCluster, update: UpdateRecord): void {
    const concerned = update.only === null || update.only.includes(cluster.unit);
    if (!concerned || this.version === update.version) return;
    if (this.payloads.kept?.digest === update.digest) return;
    const nowMs = this.#world.clock.nowMs();
    if (this.#doing !== null || nowMs < this.#retryAtMs) return;
    this.#retryAtMs = nowMs + RETRY_MS;
    this.#work(`fetches version ${update.version}`, async () => {
      await this.#obtain(cluster, update);
    });
  }

  async #obtain(cluster: AgentCluster, update: UpdateRecord): Promise<KeptPayload> {
    const signed = { text: update.manifest, signature: update.signature };
    const { digest } = update;
    const ways = {
      timers: this.#timers,
      holders: () => holdersOf(cluster, digest),
      dial: (unit: UnitNumber) => cluster.dialArtefacts(unit),
    };
    return this.payloads.receive(signed, ({ name, bytes }, offsetBytes) =>
      unitPieces(ways, { digest, name, offsetBytes, endBytes: bytes }),
    );
  }

  #takeTurn(cluster: AgentCluster, update: UpdateRecord): void {
    const { current } = update;
    if (current === null || this.#doing !== null) return;
    // Back from its restart, with either version: the control station sees it by the boot.
    const isSameBoot = current.fromBoot === this.machine.bootId;
    if (current.phase === "settle" || (current.phase === "restart" && !isSameBoot)) return;
    const task = this.#task;
    const isThis = task?.digest === update.digest && task.attempt === update.attempt;
    if (isThis && task.state === "failed") return;
    if (!isThis || task.state !== "installed") {
      this.#attempt(update, `writes version ${update.version}`, () =>
        this.#install(cluster, update),
      );
    } else if (current.phase === "restart") {
      this.#attempt(update, `restarts into version ${update.version}`, () => this.#startTrial());
    }
  }

  async #install(cluster: AgentCluster, update: UpdateRecord): Promise<void> {
    const { digest, attempt } = update;
    const enter = (state: Task["state"]) => {
      this.#task = { digest, attempt, state, sentence: "" };
    };
    enter("fetching");
    const kept = await this.#obtain(cluster, update);
    enter("installing");
    await this.#write(kept, { downgrade: update.downgrade });
    enter("installed");
  }

  async #write(kept: KeptPayload, options: { downgrade: boolean }): Promise<void> {
    const refusal = this.#refusal(kept.manifest, options);
    if (refusal !== null) throw refusal;
    this.#written = true;
    await this.machine.write(this.payloads.slotPayload(kept), (step) => {
      this.#world.log.write("debug", "writing the other slot", { step });
    });
    this.refreshSlots();
  }

  async #startTrial(): Promise<void> {
    const { kept } = this.payloads;
    if (kept === null) throw new Fault("notFound", "the update's files are gone from this unit");
    const { version } = kept.manifest;
    this.machine.writeNote({ version, from: this.version });
    await this.machine.arm(this.payloads.slotPayload(kept));
    this.refreshSlots();
    this.#say(`this unit restarts into version ${version}, on trial`);
    this.#restarting = true;
    try {
      await this.machine.restart();
    } catch (error) {
      this.#restarting = false;
      throw error;
    }
  }

  #refusal(manifest: Manifest, { downgrade }: { downgrade: boolean }): Fault | null {
    const { cluster } = this.#parts.cluster()?.view ?? { cluster: null };
    return updateRefusal(manifest, {
      version: this.version,
      architecture: this.machine.architecture,
      diskFormat: this.#parts.diskFormat(),
      featureLevel: cluster?.featureLevel ?? null,
      downgrade,
    });
  }

  /** What was written for a turn that is over without a restart must not be started by chance. */
  #withdraw(): void {
    if (!this.#written || this.#doing !== null || this.#restarting) return;
    this.machine.withdraw();
    this.machine.removeNote();
    this.#written = false;
    this.#task = null;
    this.refreshSlots();
    this.#world.log.write("info", "the other slot is not started: the update has stopped");
  }

  // Alone.

  /** Updates this unit without asking anybody. */
  updateAlone(options: { downgrade: boolean }): void {
    if (!this.isAppliance) throw notAppliance();
    const { kept } = this.payloads;
    if (kept === null) throw new Fault("notFound", "no update is loaded on this unit");
    const refusal = this.#refusal(kept.manifest, options);
    if (refusal !== null) throw refusal;
    this.#work(`writes version ${kept.manifest.version}`, async () => {
      await this.#write(kept, options);
      await this.#startTrial();
    });
  }

  // Work.

  /** Work of a roll: its failure stands in the task, for the control station. */
  #attempt(update: UpdateRecord, sentence: string, act: () => Promise<void>): void {
    const { digest, attempt } = update;
    this.#work(sentence, async () => {
      try {
        await act();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        const why = error.message.slice(0, SENTENCE_CHARACTERS_MAX);
        this.#task = { digest, attempt, state: "failed", sentence: why };
        throw error;
      }
    });
  }

  #work(sentence: string, act: () => Promise<void>): void {
    if (this.#doing !== null) throw new Fault("conflict", `this unit ${this.#doing}`);
    this.#doing = sentence;
    this.failed = null;
    this.#world.log.write("info", `this unit ${sentence}`);
    void act()
      .catch((error: unknown) => {
        if (!(error instanceof Fault)) throw error;
        this.failed = error;
        this.#say(`this unit ${sentence}: ${error.message}`);
      })
      .finally(() => {
        this.#doing = null;
      });
  }
}

/** Units that are up and have the files; each unit begins with another one. */
function holdersOf(cluster: AgentCluster, digest: string): UnitNumber[] {
  const { view, unit } = cluster;
  const holders = [...view.unitUpdates.values()]
    .filter((report) => report.holds === digest && report.unit !== unit)
    .map((report) => report.unit)
    .filter((other) => view.isAlive(other));
  const turn = holders.length === 0 ? 0 : unit % holders.length;
  return [...holders.slice(turn), ...holders.slice(0, turn)];
}

function readNote(machine: UpdateMachine): TrialNote | null {
  const text = machine.readNote();
  if (text === null) return null;
  try {
    const { version, from } = JSON.parse(text) as Partial<TrialNote>;
    return typeof version === "string" && typeof from === "string" ? { version, from } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null; // a note, and nothing hangs on it
    throw error;
  }
}

function notAppliance(): Fault {
  return new Fault("notAppliance", "its executable was put there by somebody else");
}
