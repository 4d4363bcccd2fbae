// SPDX-License-Identifier: Apache-2.0
//
// The life of a lab: a record of what it makes on this machine, and its end. What the lab consists
// of (processes of the executable, or guests that boot the image) is in the classes that build on
// it.
//
// Invariants
// - Whatever is made is recorded before (lab-record.ts) and removed at the end: when the scope
//   ends, at SIGINT, SIGTERM or SIGHUP at any moment, or by the next lab after a kill -9.
// - After the end began nothing new is made.

import { statfsSync } from "node:fs";
import { spawn, type ChildProcess } from "node:child_process";
import path from "node:path";
import { LabRecord, removeOrphans } from "./lab-record.ts";
import { until, type UntilOptions } from "./until.ts";

const EXIT_INTERRUPTED = 130;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface ScopeOptions {
  /** Bytes that must be free for disks; the lab is not begun without. */
  needsBytes?: number;
  /** Keeps folder and logs at the end; not said: if CAIRN_LAB_KEEP is set. */
  keep?: boolean;
  /** A line of progress for a person. */
  say?: (line: string) => void;
}

interface SpawnOptions {
  env?: Record<string, string>;
}

type Ending = () => void | Promise<void>;

export abstract class LabScope implements AsyncDisposable {
  readonly record: LabRecord;
  /** The signal that ended it early, or null. */
  interruptedBy: string | null = null;
  readonly #options: ScopeOptions;
  readonly #endings: Ending[] = [];
  readonly #onSignal = (signal: NodeJS.Signals) => this.#interrupted(signal);
  #end: Promise<void> | null = null;

  constructor(options: ScopeOptions = {}) {
    this.#options = options;
    const orphans = removeOrphans();
    if (orphans > 0) options.say?.(`removed what ${orphans} killed run(s) had left behind`);
    this.record = LabRecord.take();
    // From here on there is something to remove.
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
    this.making(() => this.#requireRoom());
  }

  /** Stops what runs, before what it runs on is removed. */
  protected abstract stopAll(): Promise<void>;
  /** Fails when something ended that nobody ended. */
  protected abstract checkRunning(): void;
  /** For a failure: what the parts of the lab wrote last. */
  abstract trail(): Promise<string>;

  get folder(): string {
    return this.record.folder;
  }

  /** A step of the constructor: when it fails, nothing is left. */
  protected making<T>(step: () => T): T {
    try {
      return step();
    } catch (error) {
      this.#removeAll();
      throw error;
    }
  }

  /** Waits; fails early when a part ended by itself or the lab ends, and shows the logs. */
  until<T>(
    what: string,
    look: () => T | null | Promise<T | null>,
    limitMs: number,
    options: Partial<UntilOptions> = {},
  ): Promise<T> {
    return until(what, look, {
      limitMs,
      stillWorthIt: () => {
        this.checkOpen();
        this.checkRunning();
      },
      trail: () => this.trail(),
      ...options,
    });
  }

  /** A program on this machine that ends with the lab; its output goes to a file in the folder. */
  spawn(name: string, command: string, words: string[], options: SpawnOptions = {}): ChildProcess {
    this.checkOpen();
    const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...words], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: { ...process.env, ...options.env },
    });
    const { pid } = child;
    if (pid === undefined) throw new Error(`${name} did not start: ${command}`);
    this.record.started(pid);
    child.on("exit", () => this.record.ended(pid));
    return child;
  }

  /** What is to be undone before the lab's parts are stopped; the last one first. */
  atEnd(ending: Ending): void {
    this.#endings.push(ending);
  }

  checkOpen(): void {
    if (this.#end !== null) throw new Error("the lab is being removed");
  }

  /** Removes everything; safe to call again. */
  end(): Promise<void> {
    this.#end ??= this.#endOnce();
    return this.#end;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  async #endOnce(): Promise<void> {
    const failures: string[] = [];
    for (const ending of this.#endings.reverse()) {
      try {
        await ending();
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    await this.stopAll();
    failures.push(...this.#removeAll());
    if (failures.length > 0) throw new Error(`not removed: ${failures.join("; ")}`);
  }

  #removeAll(): string[] {
    try {
      const keep = this.#options.keep ?? process.env["CAIRN_LAB_KEEP"] !== undefined;
      if (!keep) return this.record.removeAll();
      const { left, kept } = this.record.removeButKeep();
      this.#options.say?.(`disks and logs are kept in ${kept}`);
      return left;
    } finally {
      for (const signal of SIGNALS) process.off(signal, this.#onSignal);
    }
  }

  #interrupted(signal: NodeJS.Signals): void {
    if (this.#end !== null) return; // it is being removed already: let it
    this.interruptedBy = signal;
    this.#options.say?.(`\n${signal}: removing everything this run made`);
    this.end().then(
      () => process.exit(EXIT_INTERRUPTED),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(EXIT_INTERRUPTED);
      },
    );
  }

  #requireRoom(): void {
    const { needsBytes = 0 } = this.#options;
    const { bavail, bsize } = statfsSync(this.folder);
    const freeBytes = bavail * bsize;
    if (freeBytes >= needsBytes) return;
    const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
    throw new Error(
      `${path.dirname(this.folder)} has ${gibibytes(freeBytes)} free, ` +
        `${gibibytes(needsBytes)} are needed; CAIRN_LAB_DIRECTORY names another folder`,
    );
  }
}
