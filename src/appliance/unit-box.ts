// SPDX-License-Identifier: Apache-2.0
//
// This unit's box, steered by its owner from afar: its network and its clock. A network is tried
// first: what nobody keeps within two minutes is taken back, so that a typing error does not leave
// a box that nobody reaches.
//
// Invariants
// - On a machine that is no appliance nothing is changed, and it is said whose it is.
// - What is tried is nowhere but in this boot: a restart in between finds what held before.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import type { NetworkCard } from "#machine/network-cards.ts";
import type { BoxView } from "./box-view.ts";
import { NETWORK_FILE_PREFIX, networkFiles } from "./network-files.ts";
import { type NetworkEntry, networkSchema } from "./network-settings.ts";
import { keepOwnNetwork } from "./own-network.ts";

export const TRIAL_MS = 120_000;
/** The answer gets away before the address that it comes from may be gone. */
const APPLY_AFTER_MS = 2000;

export interface BoxParts {
  timers: Timers;
  state: Pick<StateDirectory, "write">;
  box: {
    readonly isAppliance: boolean;
    /** The fixed addresses in force, as JSON; null: not known. */
    networkText: string | null;
    setNetwork(prefix: string, files: ReadonlyMap<string, string>): Promise<void>;
    wantNetwork(text: string): void;
  };
  cards(): NetworkCard[];
  clock: { isKept(): boolean; set(wallMs: number): void };
  /** What the boot medium says at the moment. */
  said(): Promise<readonly NetworkEntry[]>;
}

interface Trial {
  network: NetworkEntry[];
  untilMs: number;
  problem: string;
  cancel(): void;
}

export class UnitBox {
  readonly #world: Pick<World, "clock" | "log">;
  readonly #parts: BoxParts;
  #trial: Trial | null = null;
  /** One after the other, whoever asks. */
  #last: Promise<void> = Promise.resolve();

  constructor(world: Pick<World, "clock" | "log">, parts: BoxParts) {
    this.#world = world;
    this.#parts = parts;
    // A daemon that ended while a network was on trial left it behind.
    if (parts.box.isAppliance && parts.box.networkText !== null) void this.#apply(this.#inForce());
  }

  show(unit: number): BoxView {
    const { box, clock } = this.#parts;
    const trial = this.#trial;
    return {
      unit,
      isAppliance: box.isAppliance,
      wallMs: Math.round(this.#world.clock.wallMs()),
      isClockKept: clock.isKept(),
      cards: this.#parts.cards().map(({ name, mac, cable, addresses }) => {
        const shown = addresses.map(({ address, prefixBits }) => `${address}/${prefixBits}`);
        return { name, mac, cable, addresses: shown };
      }),
      network: box.isAppliance ? this.#inForce() : [],
      trial:
        trial === null
          ? null
          : { network: trial.network, leftMs: this.#leftMs(trial), problem: trial.problem },
    };
  }

  tryNetwork(network: NetworkEntry[]): void {
    this.#requireAppliance("network");
    this.#requireCards(network);
    this.#trial?.cancel();
    const { timers } = this.#parts;
    const cancels = [
      timers.after(APPLY_AFTER_MS, () => void this.#applyTrial(trial)),
      timers.after(APPLY_AFTER_MS + TRIAL_MS, () => void this.#end(trial)),
    ];
    const trial: Trial = {
      network,
      untilMs: this.#world.clock.nowMs() + APPLY_AFTER_MS + TRIAL_MS,
      problem: "",
      cancel: () => {
        for (const cancel of cancels) cancel();
      },
    };
    this.#trial = trial;
  }

  /** What is tried holds from now on, after restarts too. */
  async keepNetwork(): Promise<void> {
    this.#requireAppliance("network");
    const trial = this.#trial;
    if (trial === null) throw new Fault("conflict", "no network is tried: what holds is kept");
    if (trial.problem !== "") throw new Fault("conflict", `it does not hold: ${trial.problem}`);
    const { state, box } = this.#parts;
    const said = await this.#parts.said();
    // It may have been taken back meanwhile.
    if (this.#trial !== trial) throw new Fault("conflict", "it was taken back meanwhile");
    keepOwnNetwork(trial.network, said, state);
    const text = JSON.stringify(trial.network);
    box.wantNetwork(text);
    box.networkText = text;
    trial.cancel();
    this.#trial = null;
    await this.#apply(trial.network);
    this.#world.log.write("info", "this box has another network", { network: trial.network });
  }

  async undoNetwork(): Promise<void> {
    this.#requireAppliance("network");
    if (this.#trial === null) throw new Fault("conflict", "no network is tried");
    await this.#end(this.#trial);
  }

  setClock(wallMs: number): void {
    this.#requireAppliance("clock");
    if (this.#parts.clock.isKept()) {
      throw new Fault("conflict", "a time server keeps its clock right: set that one, or none");
    }
    this.#parts.clock.set(wallMs);
    this.#world.log.write("info", "the clock was set by hand");
  }

  /** Before the unit ends: a trial does not outlive who would take it back. */
  async stop(): Promise<void> {
    if (this.#trial !== null) await this.#end(this.#trial);
  }

  #leftMs({ untilMs }: Trial): number {
    return Math.max(0, Math.round(untilMs - this.#world.clock.nowMs()));
  }

  #inForce(): NetworkEntry[] {
    const { networkText } = this.#parts.box;
    try {
      return networkSchema.safeParse(JSON.parse(networkText ?? "[]")).data ?? [];
    } catch (error) {
      if (error instanceof SyntaxError) return [];
      throw error;
    }
  }

  async #applyTrial(trial: Trial): Promise<void> {
    if (this.#trial !== trial) return;
    trial.problem = (await this.#apply(trial.network)) ?? "";
  }

  async #end(trial: Trial): Promise<void> {
    if (this.#trial !== trial) return;
    trial.cancel();
    this.#trial = null;
    await this.#apply(this.#inForce());
    this.#world.log.write("info", "a network that was tried is taken back");
  }

  /** Answers why it failed, or null. */
  #apply(network: readonly NetworkEntry[]): Promise<string | null> {
    const done = this.#last.then(async () => {
      try {
        await this.#parts.box.setNetwork(NETWORK_FILE_PREFIX, networkFiles(network));
        return null;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#world.log.write("warn", "the network cannot be set", { reason: error.message });
        return error.message;
      }
    });
    this.#last = done.then(() => undefined);
    return done;
  }

  #requireAppliance(what: "network" | "clock"): void {
    if (this.#parts.box.isAppliance) return;
    const why = `it is a program on somebody's machine, and its ${what} is that machine's`;
    throw new Fault("notAppliance", why);
  }

  #requireCards(network: readonly NetworkEntry[]): void {
    const cards = this.#parts.cards();
    for (const { interface: name, mac } of network) {
      const wanted = mac?.toLowerCase();
      if (cards.some((card) => card.name === name || card.mac.toLowerCase() === wanted)) continue;
      const there = cards.map((card) => card.name).join(", ");
      throw new Fault("badRequest", `it has no card ${name ?? mac ?? ""}; there are: ${there}`);
    }
  }
}
