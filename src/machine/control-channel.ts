// SPDX-License-Identifier: Apache-2.0
//
// The channel between the control thread and a reactor's Worker: small messages both ways, counters
// in shared memory, and each side's watch over the other.
//
// A Worker blocked in the kernel runs no event loop, so messages to it wait in a MessagePort until
// the eventfd wakes the ring and the reactor takes them (receiveMessageOnPort). The way back needs
// no such help: the control thread's event loop is woken by the port itself.
//
// Invariants:
// - At most MESSAGES_MAX messages of a direction are under way; `post` answers false when it is
//   full, which a healthy other side never lets happen. Messages arrive in order, each once. A
//   reactor that misses one knows something else than the control thread says, and would go on so:
//   it looks at every tick whether it is behind, also where no wake came, and ends (with its
//   process) when what was posted does not arrive.
// - Alive means: its counter of turns moves. The watcher counts only time in which it ran itself,
//   so that a paused machine accuses nobody (a watcher that was late starts to wait anew).

import { type MessagePort, MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { assert } from "#base/assert.ts";
import type { Clock } from "#base/world.ts";
import { createClock } from "./clock.ts";
import { libc } from "./libc.ts";
import type { Reactor } from "./reactor.ts";
import { createTimers } from "./timers.ts";

/**
 * A control thread silent this long makes the reactor release its heads. Hosts are served without
 * it, so that there is no hurry; on a busy slow box (three of them emulated on two cores) 5 s were
 * met again and again, each restart making it busier.
 */
export const CONTROL_SILENT_MS = 15_000;
/** A reactor silent this long ends the process. */
export const REACTOR_SILENT_MS = 2000;
/** Messages of one direction under way. */
export const MESSAGES_MAX = 4096;
/** A reactor that has not turned once after this long has failed to start. */
const START_MS_MAX = 15_000;
/** So many beats at least within the time after which a side counts as silent. */
const BEATS_WITHIN_SILENCE = 4;
/** A watcher that has not looked for this long distrusts its own view. */
const LATE_MS = 1000;

/** What both ends offer. */
export interface ControlChannel {
  /** A structured-cloneable message, at most a few KiB. False: the other side does not keep up. */
  post(message: object): boolean;
  onMessage: (message: unknown) => void;
  readonly counters: Counters;
}

/** A message that was posted and is not there for so long is lost. */
const LOST_MS = 5000;

// Shared memory: 32-bit words first, then the counters as doubles.
export const WORD = {
  controlBeat: 0,
  reactorBeat: 1,
  toReactorPosted: 2,
  toReactorTaken: 3,
  toControlPosted: 4,
  toControlTaken: 5,
  wakeFd: 6,
  wakeAsked: 7,
} as const;
const WORDS_BYTES = 64;
export const COUNTERS_MAX = 512;
const SHARED_BYTES = WORDS_BYTES + COUNTERS_MAX * 8;

/** Figures the reactor counts and the control thread reads, by index. One writer, no torn reads. */
export class Counters {
  readonly values: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.values = new Float64Array(shared, WORDS_BYTES, COUNTERS_MAX);
  }

  add(index: number, amount: number): void {
    this.values[index] = (this.values[index] as number) + amount;
  }
  set(index: number, value: number): void {
    this.values[index] = value;
  }
  get(index: number): number {
    return this.values[index] as number;
  }
}

/** What the control thread hands the Worker in its first message. */
export interface ReactorSeed {
  kind: "reactor-seed";
  port: MessagePort;
  shared: SharedArrayBuffer;
  /** For the composition: what the reactor is started with. */
  options: unknown;
}

/** Watches a counter of the other side. */
class Watch {
  readonly #words: Int32Array;
  readonly #word: number;
  readonly #silentMs: number;
  #lastBeat: number;
  #seenMs: number;
  #lookedMs: number;

  constructor(words: Int32Array, word: number, silentMs: number, nowMs: number) {
    this.#words = words;
    this.#word = word;
    this.#silentMs = silentMs;
    this.#lastBeat = Atomics.load(words, word);
    this.#seenMs = nowMs;
    this.#lookedMs = nowMs;
  }

  /** Whether the other side has been silent for too long. */
  isSilent(nowMs: number): boolean {
    const beat = Atomics.load(this.#words, this.#word);
    if (beat !== this.#lastBeat || nowMs - this.#lookedMs > LATE_MS) {
      this.#lastBeat = beat;
      this.#seenMs = nowMs;
    }
    this.#lookedMs = nowMs;
    return nowMs - this.#seenMs >= this.#silentMs;
  }
}

/** The control thread's end. */
export class ControlEnd implements ControlChannel {
  onMessage: (message: unknown) => void = () => {};
  /**
   * The reactor ended by an exception, or has not turned for REACTOR_SILENT_MS; called once. The
   * process should end.
   */
  onReactorSilent: (why: string) => void = () => {};
  readonly counters: Counters;
  readonly #words: Int32Array;
  readonly #port: MessagePort;
  readonly #clock: Clock = createClock();
  readonly #silentMs: number;
  readonly #startMs: number;
  readonly #timers = createTimers();
  readonly #beatEveryMs: number;
  #cancelBeat: () => void = () => {};
  #watch: Watch | null = null;
  #isLost = false;
  readonly #one: Uint8Array;

  /** Starts the reactor in a Worker whose module calls `onReactorSeed`. */
  constructor(worker: Worker, options: unknown, limits: { reactorSilentMs?: number } = {}) {
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    this.#words = new Int32Array(shared, 0, WORDS_BYTES / 4);
    this.#silentMs = limits.reactorSilentMs ?? REACTOR_SILENT_MS;
    this.#startMs = this.#clock.nowMs();
    this.counters = new Counters(shared);
    this.#one = new Uint8Array(new ArrayBuffer(4096)); // large: its address must not change
    this.#one[0] = 1;
    const channel = new MessageChannel();
    this.#port = channel.port1;
    this.#port.on("message", (message: unknown) => {
      Atomics.add(this.#words, WORD.toControlTaken, 1);
      this.onMessage(message);
    });
    const seed: ReactorSeed = { kind: "reactor-seed", port: channel.port2, shared, options };
    worker.postMessage(seed, [channel.port2 as unknown as ArrayBuffer]);
    worker.addEventListener("error", (event) => this.#lost(`the reactor failed: ${event.message}`));
    this.#beatEveryMs = this.#silentMs / BEATS_WITHIN_SILENCE;
    this.#beatAgain();
  }

  #beatAgain(): void {
    this.#cancelBeat = this.#timers.after(this.#beatEveryMs, () => {
      this.#beatAgain();
      this.#beat();
    });
  }

  post(message: object): boolean {
    const words = this.#words;
    const posted = Atomics.load(words, WORD.toReactorPosted);
    if (((posted - Atomics.load(words, WORD.toReactorTaken)) | 0) >= MESSAGES_MAX) return false;
    this.#port.postMessage(message);
    Atomics.add(words, WORD.toReactorPosted, 1);
    // One wake for many messages: whoever asks first writes, the reactor clears before it takes.
    if (Atomics.exchange(words, WORD.wakeAsked, 1) === 0) this.#wake();
    return true;
  }

  /** Ends the beat and the port; the reactor should have been told to stop before. */
  close(): void {
    this.#cancelBeat();
    this.#port.close();
  }

  #wake(): void {
    const fd = Atomics.load(this.#words, WORD.wakeFd);
    // Before the reactor has put its eventfd there it has not looked for messages yet either.
    if (fd > 0) libc.write(fd, this.#one, 8);
  }

  #beat(): void {
    Atomics.add(this.#words, WORD.controlBeat, 1);
    const nowMs = this.#clock.nowMs();
    if (this.#watch === null) {
      // Watched from its first turn on: what comes before is the loading of its module.
      const started = Atomics.load(this.#words, WORD.reactorBeat) > 0;
      if (!started && nowMs - this.#startMs < START_MS_MAX) return;
      this.#watch = new Watch(this.#words, WORD.reactorBeat, this.#silentMs, nowMs);
    }
    if (this.#watch.isSilent(nowMs)) this.#lost(`the reactor was silent for ${this.#silentMs} ms`);
  }

  #lost(why: string): void {
    this.#cancelBeat();
    if (this.#isLost) return;
    this.#isLost = true;
    this.onReactorSilent(why);
  }
}

/** The reactor's end. */
export class ReactorEnd implements ControlChannel {
  onMessage: (message: unknown) => void = () => {};
  /** The control thread has been silent for CONTROL_SILENT_MS; called once per silence. */
  onControlSilent: () => void = () => {};
  readonly counters: Counters;
  readonly #words: Int32Array;
  readonly #port: MessagePort;
  #accused = false;
  /** Messages taken when it was found behind last, and since when it is; -1: it was not. */
  #behindAt = -1;
  #behindMs = 0;

  /** Joins a seed and a reactor; before the reactor's `run`. */
  constructor(
    seed: Omit<ReactorSeed, "options">,
    reactor: Pick<Reactor, "clock" | "wakeFd" | "onWake" | "onTick" | "defer">,
    limits: { controlSilentMs?: number } = {},
  ) {
    this.#words = new Int32Array(seed.shared, 0, WORDS_BYTES / 4);
    this.#port = seed.port;
    this.counters = new Counters(seed.shared);
    const nowMs = reactor.clock.nowMs();
    const silentMs = limits.controlSilentMs ?? CONTROL_SILENT_MS;
    const watch = new Watch(this.#words, WORD.controlBeat, silentMs, nowMs);
    Atomics.store(this.#words, WORD.wakeFd, reactor.wakeFd);
    reactor.onWake(() => this.#take());
    reactor.onTick((now) => {
      Atomics.add(this.#words, WORD.reactorBeat, 1);
      this.#catchUp(now);
      const silent = watch.isSilent(now);
      if (silent && !this.#accused) this.onControlSilent();
      this.#accused = silent;
    });
    reactor.defer(() => this.#take()); // what was posted before there was an eventfd
  }

  post(message: object): boolean {
    const words = this.#words;
    const posted = Atomics.load(words, WORD.toControlPosted);
    if (((posted - Atomics.load(words, WORD.toControlTaken)) | 0) >= MESSAGES_MAX) return false;
    Atomics.add(words, WORD.toControlPosted, 1);
    this.#port.postMessage(message);
    return true;
  }

  /** Takes what no wake came for, or came too early for. */
  #catchUp(nowMs: number): void {
    if (this.#isBehind) this.#take();
    if (!this.#isBehind) {
      this.#behindAt = -1;
      return;
    }
    const taken = Atomics.load(this.#words, WORD.toReactorTaken);
    if (taken !== this.#behindAt) {
      this.#behindAt = taken;
      this.#behindMs = nowMs;
    }
    assert(nowMs - this.#behindMs < LOST_MS, "each message of the control thread arrives");
  }

  get #isBehind(): boolean {
    const { toReactorPosted, toReactorTaken } = WORD;
    return Atomics.load(this.#words, toReactorPosted) !== Atomics.load(this.#words, toReactorTaken);
  }

  #take(): void {
    // Cleared first: a message posted from now on wakes again.
    Atomics.store(this.#words, WORD.wakeAsked, 0);
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: unknown } | undefined;
      if (received === undefined) return;
      Atomics.add(this.#words, WORD.toReactorTaken, 1);
      this.onMessage(received.message);
    }
  }
}

declare const self: { onmessage: ((event: { data: unknown }) => void) | null };

/**
 * In the Worker's module: waits for the seed and calls `start` with it, once. `start` makes the
 * reactor, its end of the channel and the composition, and blocks in `run`.
 */
export function onReactorSeed(start: (seed: ReactorSeed) => void): void {
  self.onmessage = (event) => {
    const seed = event.data as ReactorSeed;
    assert(seed.kind === "reactor-seed", "a reactor's first message is its seed");
    self.onmessage = null;
    start(seed);
  };
}
