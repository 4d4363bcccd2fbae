// SPDX-License-Identifier: Apache-2.0
//
// The control thread's side of the reactor: typed messages, the last report it gave, and what it
// counted over the last hour.

import { Fault } from "#base/fault.ts";
import type { DiskNumber, SliceNumber } from "#base/record.ts";
import type { Log } from "#base/world.ts";
import type { ControlEnd } from "#machine/control-channel.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import type { Held } from "./held-records.ts";
import { IoHistory } from "./io-history.ts";
import { ResyncPace } from "./resync-pace.ts";
import type {
  BlocksTold,
  FromReactor,
  OpenedDisk,
  ReactorReport,
  TakeoverTold,
  ToReactor,
} from "./reactor-messages.ts";

export type Heard<K extends FromReactor["kind"]> = Extract<FromReactor, { kind: K }>;

const NOTHING: ReactorReport = {
  slices: [],
  kept: [],
  disks: [],
  links: [],
  connections: 0,
  attached: [],
  waiting: 0,
};

export interface ReactorListeners {
  diskOpened(disk: OpenedDisk): void;
  diskRefused(path: string, sentence: string, ofCluster: string | null): void;
  diskReady(uuid: string, number: number): void;
  diskFailed(uuid: string, sentence: string): void;
  diskDropped(uuid: string): void;
  link(link: Heard<"link">): void;
  propose(proposal: Heard<"propose">): void;
  reported(report: ReactorReport): void;
  blocks(told: BlocksTold[]): void;
  takeovers(told: TakeoverTold[]): void;
}

export class ReactorClient {
  report: ReactorReport = NOTHING;
  readonly io = new IoHistory();
  readonly pace = new ResyncPace();
  /** Set by whoever composes, before anything is sent. */
  listeners: ReactorListeners | null = null;
  /** A host begins TLS. */
  onSecure: (upgrade: Heard<"secure">) => void = () => {};
  /** A drill's host on this unit says how far it is; null: there is none for want of memory. */
  onProbed: (facts: ProbeFacts | null) => void = () => {};
  /** This thread was silent, and the unit's slices serve no more in this process. */
  onReleased: () => void = () => {};
  readonly #channel: ControlEnd;
  readonly #log: Log;
  readonly #waits = new Map<FromReactor["kind"], ((message: FromReactor) => void)[]>();

  constructor(channel: ControlEnd, log: Log) {
    this.#channel = channel;
    this.#log = log;
    channel.onMessage = (message) => this.#take(message as FromReactor);
  }

  /** Healthy reactors always keep up; one that does not is ended by its silence. */
  send(message: ToReactor): void {
    if (!this.#channel.post(message)) {
      this.#log.write("error", "the reactor does not take messages", { kind: message.kind });
    }
  }

  /** After the reactor has stopped: nobody watches over it any more. */
  close(): void {
    this.#channel.close();
  }

  /** Resolves with the next message of a kind. */
  next<K extends FromReactor["kind"]>(kind: K): Promise<Heard<K>> {
    return new Promise((resolve) => {
      const waiting = this.#waits.get(kind) ?? [];
      waiting.push(resolve as (message: FromReactor) => void);
      this.#waits.set(kind, waiting);
    });
  }

  /** A part of what a disk holds; a Fault notReady where it is not open, or nobody answers. */
  async held(disk: DiskNumber, from: SliceNumber): Promise<Held> {
    this.send({ kind: "tellHeld", disk, from });
    for (;;) {
      const told = await this.next("held");
      if (told.disk !== disk || told.from !== from) continue; // somebody else's question
      if (told.records === null) throw new Fault("notReady", `disk ${disk} is not open`);
      return { records: told.records, next: told.next };
    }
  }

  #take(message: FromReactor): void {
    const waiting = this.#waits.get(message.kind);
    if (waiting !== undefined) {
      this.#waits.delete(message.kind);
      for (const resolve of waiting) resolve(message);
    }
    const { listeners } = this;
    switch (message.kind) {
      case "report":
        this.report = message.report;
        this.pace.take(message.report.slices, message.atMs);
        return listeners?.reported(message.report);
      case "log":
        return this.#log.write(message.level, message.sentence, message.facts as never);
      case "blocks":
        return listeners?.blocks(message.told);
      case "takeovers":
        return listeners?.takeovers(message.told);
      case "io":
        return this.io.take(message.told, message.atMs);
      case "diskOpened":
        return listeners?.diskOpened(message.disk);
      case "diskRefused":
        return listeners?.diskRefused(message.path, message.sentence, message.ofCluster);
      case "diskReady":
        return listeners?.diskReady(message.uuid, message.number);
      case "diskFailed":
        return listeners?.diskFailed(message.uuid, message.sentence);
      case "diskDropped":
        return listeners?.diskDropped(message.uuid);
      case "link":
        return listeners?.link(message);
      case "propose":
        return listeners?.propose(message);
      case "secure":
        return this.onSecure(message);
      case "probed":
        return this.onProbed(message.facts);
      case "released":
        return this.onReleased();
      case "held":
      case "started":
      case "startFailed":
      case "stopped":
        return;
    }
  }
}
