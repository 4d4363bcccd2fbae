// SPDX-License-Identifier: Apache-2.0
//
// Keeps a ClusterView up to date: reads the whole state, watches from the next revision, and reads
// again when the watch was lost. While the control store is away the view stays as it is and says
// how old it is (R14: nothing healthy waits for it).

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import type { Timers } from "#base/world.ts";
import type { ControlStore, Watch } from "./control-store.ts";
import { ClusterView } from "./view.ts";

const RETRY_LEAST_MS = 100;
const RETRY_MOST_MS = 2000;

export class ViewFollower {
  readonly view = new ClusterView();
  /** When the view was last known to be the newest state, CLOCK_BOOTTIME; 0: never. */
  freshAtMs = 0;
  readonly #world: Pick<World, "clock" | "log" | "random">;
  readonly #timers: Timers;
  readonly #store: ControlStore;
  #watch: Watch | null = null;
  #retryMs = RETRY_LEAST_MS;
  #cancelRetry: (() => void) | null = null;
  #stopped = false;
  #onFirst: (() => void)[] = [];

  constructor(world: Pick<World, "clock" | "log" | "random">, timers: Timers, store: ControlStore) {
    this.#world = world;
    this.#timers = timers;
    this.#store = store;
  }

  start(): void {
    void this.#read();
  }

  stop(): void {
    this.#stopped = true;
    this.#watch?.cancel();
    this.#cancelRetry?.();
  }

  /** Resolves once the state has been read for the first time. */
  ready(): Promise<void> {
    if (this.view.revision > 0) return Promise.resolve();
    return new Promise((resolve) => this.#onFirst.push(resolve));
  }

  /** Resolves once the view has reached a revision, or after `limitMs`: true or false. */
  reached(revision: number, limitMs: number): Promise<boolean> {
    if (this.view.revision >= revision) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (answer: boolean) => {
        cancel();
        unlisten();
        resolve(answer);
      };
      const cancel = this.#timers.after(limitMs, () => end(false));
      const unlisten = this.view.onChange((_, now) => {
        if (now >= revision) end(true);
      });
    });
  }

  async #read(): Promise<void> {
    try {
      const reading = await this.#store.range("/");
      if (this.#stopped) return;
      this.#retryMs = RETRY_LEAST_MS;
      this.view.reset(reading);
      this.freshAtMs = this.#world.clock.nowMs();
      for (const resolve of this.#onFirst.splice(0)) resolve();
      this.#follow(reading.revision + 1);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (!this.#stopped) this.#retry(error.message);
    }
  }

  #follow(fromRevision: number): void {
    this.#watch = this.#store.watch("/", fromRevision, {
      onEvents: (events, revision) => {
        this.view.apply(events, revision);
        this.freshAtMs = this.#world.clock.nowMs();
      },
      onLost: (reason) => {
        this.#watch = null;
        if (!this.#stopped) this.#retry(reason);
      },
    });
  }

  #retry(reason: string): void {
    this.#world.log.write("debug", "the control state will be read again", { reason });
    const delayMs = this.#retryMs * (0.5 + this.#world.random.fraction());
    this.#retryMs = Math.min(RETRY_MOST_MS, this.#retryMs * 2);
    this.#cancelRetry = this.#timers.after(delayMs, () => void this.#read());
  }
}
