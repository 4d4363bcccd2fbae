// SPDX-License-Identifier: Apache-2.0
//
// The control thread's side of the unit's reactors, which look like one to everybody else: typed
// messages, the last reports put together, and what was counted over the last hour.
//
// Invariants
// - A reactor is started when the first disk is given to it (ReactorRoutes); the door, and those
//   that are wanted at once, with the unit.
// - One that starts later is told nothing but `start` until it has: then all that stands
//   (ReactorStanding), and what was for it meanwhile, in order. So thousands of records that come
//   while its module loads do not fill its channel.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { REACTORS_MAX } from "#base/limits.ts";
import type { DiskNumber, SliceNumber } from "#base/record.ts";
import type { Log } from "#base/world.ts";
import type { ControlEnd } from "#machine/control-channel.ts";
import { threadRingMemory } from "#machine/thread-ring.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import type { Held } from "./held-records.ts";
import { IoHistory } from "./io-history.ts";
import { ReactorRoutes } from "./reactor-routes.ts";
import { ReactorStanding } from "./reactor-standing.ts";
import { ResyncPace } from "./resync-pace.ts";
import type {
  AttachedFrom,
  BlocksTold,
  FromReactor,
  OpenedDisk,
  ReactorReport,
  TakeoverTold,
  ToReactor,
} from "./reactor-messages.ts";
import type { ReactorPlace } from "./unit-reactor.ts";

type Sent<K extends ToReactor["kind"]> = Extract<ToReactor, { kind: K }>;
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

type Channel = Pick<ControlEnd, "post" | "onMessage" | "close">;

interface Running {
  channel: Channel;
  /** It has started, and was told all that stands. */
  isUp: boolean;
  /** For it, once it is up. */
  queue: ToReactor[];
}

interface Wait {
  reactor: number;
  kinds: readonly FromReactor["kind"][];
  resolve: (message: FromReactor) => void;
}

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
  /** One that was started late cannot go on: the process must end. */
  onFailed: (sentence: string) => void = () => {};
  readonly #open: (place: ReactorPlace) => Channel;
  readonly #counts: { atOnce: number; most: number };
  readonly #log: Log;
  readonly #routes: ReactorRoutes;
  readonly #running: Running[] = [];
  readonly #reports: ReactorReport[] = [];
  readonly #waits: Wait[] = [];
  /** Null: none can start any more. */
  #standing: ReactorStanding | null = new ReactorStanding();
  #startMessage: Sent<"start"> | null = null;
  #isStopping = false;

  /**
   * `open` starts a reactor. The first has the listeners and the links; `atOnce` of them start with
   * the unit, `most` at most are there.
   */
  constructor(
    open: (place: ReactorPlace) => Channel,
    counts: { atOnce: number; most: number },
    log: Log,
  ) {
    this.#open = open;
    this.#counts = counts;
    this.#log = log;
    this.#routes = new ReactorRoutes(counts.most);
  }

  /** Reactors that run, or are about to. */
  get count(): number {
    return this.#running.length;
  }

  /** Healthy reactors always keep up; one that does not is ended by its silence. */
  send(message: ToReactor): void {
    if (message.kind === "proposalEnded") return this.#answerProposal(message);
    const reactor = this.#routes.of(message);
    if (reactor !== null) return this.#sendTo(message, reactor);
    const stands = this.#standing?.note(message) === true;
    for (const { isUp, queue } of this.#running) if (!isUp && !stands) queue.push(message);
    const told = this.#located(message);
    for (const [each, { isUp }] of this.#running.entries()) if (isUp) this.#post(told, each);
  }

  #sendTo(message: ToReactor, reactor: number): void {
    if (reactor >= this.#running.length) {
      if (this.#isStopping) return; // nobody waits for a disk any more
      this.#start();
    }
    const running = this.#running[reactor];
    assert(running !== undefined, "reactors start in the order of their numbers");
    if (running.isUp) this.#post(message, reactor);
    else running.queue.push(message);
  }

  #located(message: ToReactor): ToReactor {
    if (message.kind !== "places") return message;
    return { kind: "places", places: this.#routes.located(message.places) };
  }

  #post(message: ToReactor, reactor: number): void {
    if (this.#running[reactor]?.channel.post(message) === true) return;
    this.#log.write("error", "the reactor does not take messages", { kind: message.kind, reactor });
  }

  /** Opens the portals; a Fault badConfiguration says why it cannot. */
  async start(message: Sent<"start">): Promise<Heard<"started">> {
    this.#startMessage = message;
    const answers: Promise<Heard<"started" | "startFailed">>[] = [];
    while (this.#running.length < this.#counts.atOnce) {
      answers.push(this.#next(["started", "startFailed"], this.#running.length));
      this.#start();
    }
    const [first, ...others] = await Promise.all(answers);
    for (const one of others) if (one.kind === "startFailed") throw refused(one.sentence);
    if (first?.kind !== "started") throw refused(first?.sentence ?? "there is no reactor");
    return first;
  }

  /** One more; it shares memory with each that is there. */
  #start(): void {
    const message = this.#startMessage;
    assert(message !== null, "no disk is opened before the unit has started");
    const reactor = this.#running.length;
    const rings = new Map<number, SharedArrayBuffer>();
    for (const [other, running] of this.#running.entries()) {
      const ring = threadRingMemory();
      rings.set(other, ring);
      const sibling = { kind: "sibling", reactor, ring } as const;
      if (running.isUp) this.#post(sibling, other);
      else running.queue.push(sibling);
    }
    const channel = this.#open({ reactor, rings });
    channel.onMessage = (heard) => this.#take(heard as FromReactor, reactor);
    this.#running.push({ channel, isUp: false, queue: [] });
    this.#reports.push(NOTHING);
    this.#routes.started(this.#running.length);
    const nowhere = { nbd: [], peer: [], nbdUnixPath: null };
    this.#post(reactor === 0 ? message : { ...message, ...nowhere }, reactor);
  }

  #started(reactor: number): void {
    const running = this.#running[reactor];
    if (running === undefined || running.isUp) return;
    running.isUp = true;
    for (const stands of this.#standing?.messages() ?? []) {
      this.#post(this.#located(stands), reactor);
    }
    for (const message of running.queue.splice(0)) this.#post(message, reactor);
    const areAll = this.#running.length === this.#counts.most;
    if (areAll && this.#running.every(({ isUp }) => isUp)) this.#standing = null;
  }

  /** In order; resolves when all have. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const ends = this.#running.map((_, reactor) => this.#next(["stopped"], reactor));
    this.send({ kind: "stop" });
    await Promise.all(ends);
  }

  /** After they have stopped: nobody watches over them any more. */
  close(): void {
    for (const { channel } of this.#running) channel.close();
  }

  /** Resolves with the next message of one of these kinds. */
  #next<K extends FromReactor["kind"]>(kinds: readonly K[], reactor: number): Promise<Heard<K>> {
    return new Promise((resolve) => {
      this.#waits.push({ reactor, kinds, resolve: resolve as (message: FromReactor) => void });
    });
  }

  #settleWaits(message: FromReactor, reactor: number): void {
    const isFor = (wait: Wait) => wait.reactor === reactor && wait.kinds.includes(message.kind);
    const due = this.#waits.filter(isFor);
    if (due.length === 0) return;
    this.#waits.splice(0, this.#waits.length, ...this.#waits.filter((wait) => !isFor(wait)));
    for (const { resolve } of due) resolve(message);
  }

  // Each reactor counts its proposals by itself.

  #answerProposal(message: Sent<"proposalEnded">): void {
    const id = Math.floor(message.id / REACTORS_MAX);
    this.#post({ ...message, id }, message.id % REACTORS_MAX);
  }

  /** A part of what a disk holds; a Fault notReady where it is not open, or nobody answers. */
  async held(disk: DiskNumber, from: SliceNumber): Promise<Held> {
    const question = { kind: "tellHeld", disk, from } as const;
    const reactor = this.#routes.of(question) ?? 0;
    this.send(question);
    for (;;) {
      const told = await this.#next(["held"], reactor);
      if (told.disk !== disk || told.from !== from) continue; // somebody else's question
      if (told.records === null) throw new Fault("notReady", `disk ${disk} is not open`);
      return { records: told.records, next: told.next };
    }
  }

  #take(message: FromReactor, reactor: number): void {
    this.#settleWaits(message, reactor);
    const { listeners } = this;
    switch (message.kind) {
      case "report":
        this.#reports[reactor] = message.report;
        this.report = joinReports(this.#reports);
        this.pace.take(this.report.slices, message.atMs);
        return listeners?.reported(this.report);
      case "log":
        return this.#log.write(message.level, message.sentence, message.facts as never);
      case "blocks":
        return listeners?.blocks(message.told);
      case "takeovers":
        return listeners?.takeovers(message.told);
      case "io":
        return this.io.take(message.told, message.atMs);
      case "diskOpened":
        this.#routes.opened(message.disk, reactor);
        return listeners?.diskOpened(message.disk);
      case "diskRefused":
        return listeners?.diskRefused(message.path, message.sentence, message.ofCluster);
      case "diskReady":
        this.send({ kind: "places", places: [this.#routes.ready(message.number, reactor)] });
        return listeners?.diskReady(message.uuid, message.number);
      case "diskFailed":
        return listeners?.diskFailed(message.uuid, message.sentence);
      case "diskDropped":
        return listeners?.diskDropped(message.uuid);
      case "link":
        return listeners?.link(message);
      case "propose":
        return listeners?.propose({ ...message, id: message.id * REACTORS_MAX + reactor });
      case "secure":
        return this.onSecure(message);
      case "probed":
        return this.onProbed(message.facts);
      case "released":
        return this.onReleased();
      case "started":
        return this.#started(reactor);
      case "startFailed":
        return reactor < this.#counts.atOnce ? undefined : this.onFailed(message.sentence);
      case "held":
      case "stopped":
        return;
    }
  }
}

function refused(sentence: string): Fault {
  return new Fault("badConfiguration", sentence);
}

/** Of all reactors of the unit. */
function joinReports(reports: readonly ReactorReport[]): ReactorReport {
  const [only] = reports;
  if (reports.length === 1 && only !== undefined) return only;
  const sum = (of: (report: ReactorReport) => number) =>
    reports.reduce((before, report) => before + of(report), 0);
  return {
    slices: reports.flatMap(({ slices }) => slices),
    kept: reports.flatMap(({ kept }) => kept),
    disks: reports.flatMap(({ disks }) => disks),
    links: reports.flatMap(({ links }) => links),
    connections: sum(({ connections }) => connections),
    attached: joinAttached(reports.flatMap(({ attached }) => attached)),
    waiting: sum(({ waiting }) => waiting),
  };
}

/** One address uses a volume by one line, wherever its connections are. */
function joinAttached(told: readonly AttachedFrom[]): AttachedFrom[] {
  const joined = new Map<string, AttachedFrom>();
  for (const one of told) {
    const { connections, ...whose } = one;
    const key = JSON.stringify(whose);
    const known = joined.get(key);
    if (known === undefined) joined.set(key, { ...one });
    else known.connections += connections;
  }
  return [...joined.values()];
}
