// SPDX-License-Identifier: Apache-2.0
//
// The control proxy's end on every unit: a ControlStore that reaches the voters over links, one at
// a time, the unit's own voter first where it has one (over a pipe within the process), so that
// everything above knows one way only.
//
// - Reads, keepalives and watches go over to another voter when a link dies or a voter has no
//   majority; bounded by the request's time limit, then controlStoreAway.
// - A transaction or a new lease is sent once. If its link dies before the answer it is
//   unknownOutcome; if it could not be sent at all, controlStoreAway.
// - A watch goes on from the revision after the last one handed over, each revision once and in
//   order.

import { Fault, faultTable } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type {
  ControlStore,
  Entry,
  LeaseGrant,
  LeaseId,
  Reading,
  StoreMember,
  Transaction,
  TransactionResult,
  Watch,
  WatchSink,
} from "./control-store.ts";
import { bytesOfBase64 } from "./etcd-json.ts";
import type { MessagePipe } from "./message-pipe.ts";
import { PROXY_REQUESTS_MAX, ProxyAnswerSchema, answerSchemas } from "./proxy-messages.ts";
import type { ProxyAnswer, ProxyRequest } from "./proxy-messages.ts";
import { checkKey, checkTransaction } from "./transaction-shape.ts";
import type { VoterChanges } from "./voters.ts";

/** The whole time a request may take, over all voters. */
const TIMEOUT_MS = 5000;
/**
 * How long one voter may take over something that another could be asked instead; longer than an
 * election among them, during which none of them answers.
 */
const ATTEMPT_MS = 2500;
const DIAL_MS = 3000;
const REDIAL_LEAST_MS = 50;
const REDIAL_MOST_MS = 1000;
/** Requests waiting for a link or for room on it. */
const WAITING_MAX = 1024;

export interface ProxyDial {
  /** Voters to try, the best first; empty: none is known yet. */
  voters(): readonly UnitNumber[];
  /** An open link to a voter's proxy; rejects with a Fault. */
  dial(voter: UnitNumber): Promise<MessagePipe>;
}

type Body = ProxyRequest extends infer R ? (R extends unknown ? Omit<R, "id"> : never) : never;

interface Pending {
  id: number;
  body: Body;
  /** May be sent again over another link. */
  repeatable: boolean;
  sent: boolean;
  entries: Entry[];
  bytes: Uint8Array[];
  cancelLimit: () => void;
  cancelAttempt: () => void;
  resolve(value: unknown): void;
  reject(fault: Fault): void;
}

interface ProxyWatch {
  id: number;
  prefix: string;
  next: number;
  sink: WatchSink;
}

export class ControlProxyClient implements ControlStore, VoterChanges {
  readonly #world: Pick<World, "log" | "random">;
  readonly #timers: Timers;
  readonly #dial: ProxyDial;
  readonly #pending = new Map<number, Pending>();
  readonly #watches = new Map<number, ProxyWatch>();
  #pipe: MessagePipe | null = null;
  #voter: UnitNumber | null = null;
  /** Where the round of voters goes on after a failure. */
  #round = 0;
  #dialing = false;
  /** A better voter is there: nothing new is sent over this link. */
  #isLeaving = false;
  #redialMs = REDIAL_LEAST_MS;
  #cancelRedial: (() => void) | null = null;
  #nextId = 1;
  #stopped = false;

  constructor(world: Pick<World, "log" | "random">, timers: Timers, dial: ProxyDial) {
    this.#world = world;
    this.#timers = timers;
    this.#dial = dial;
  }

  /** The voter in use, null while there is none. */
  get voter(): UnitNumber | null {
    return this.#voter;
  }

  /**
   * The list of voters has changed for the better, such as by one of our own: use the first, once
   * nothing is under way that may not be sent twice. A change for the better leaves no doubts.
   */
  votersChanged(): void {
    this.#round = 0;
    this.#cancelRedial?.();
    this.#cancelRedial = null;
    const pipe = this.#pipe;
    const best = this.#dial.voters()[0];
    this.#isLeaving = pipe !== null && best !== undefined && best !== this.#voter;
    if (this.#isLeaving) this.#leave();
    else this.#connect();
  }

  #leave(): void {
    for (const { sent, repeatable } of this.#pending.values()) if (sent && !repeatable) return;
    const reason = "a better voter is there";
    this.#pipe?.close(reason);
    this.#release(reason);
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#isLeaving = false;
    this.#cancelRedial?.();
    this.#watches.clear();
    const pipe = this.#pipe;
    this.#pipe = null;
    pipe?.close("stopped");
    for (const pending of [...this.#pending.values()]) {
      this.#fail(
        pending,
        new Fault(
          pending.sent && !pending.repeatable ? "unknownOutcome" : "controlStoreAway",
          "this unit stops",
        ),
      );
    }
  }

  async get(key: string): Promise<{ revision: number; entry: Entry | null }> {
    checkKey(key);
    const { value } = await this.#ask({ kind: "get", key }, true);
    return checked("get", value);
  }

  async range(prefix: string): Promise<Reading> {
    const { value, entries } = await this.#ask({ kind: "range", prefix }, true);
    return { revision: checked("range", value).revision, entries };
  }

  async transaction(transaction: Transaction): Promise<TransactionResult> {
    checkTransaction(transaction);
    const { ifs, puts = [], deletes = [] } = transaction;
    const body: Body = {
      kind: "transaction",
      ifs: [...ifs],
      puts: [...puts],
      deletes: [...deletes],
    };
    const { value } = await this.#ask(body, false);
    return checked("transaction", value);
  }

  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    const watch: ProxyWatch = { id: this.#nextId++, prefix, next: fromRevision, sink };
    this.#watches.set(watch.id, watch);
    if (this.#pipe !== null) this.#sendWatch(this.#pipe, watch);
    else this.#connect();
    return {
      cancel: () => {
        if (!this.#watches.delete(watch.id)) return;
        this.#pipe?.send({ kind: "unwatch", id: watch.id });
      },
    };
  }

  async grantLease(ttlMs: number): Promise<LeaseGrant> {
    const { value } = await this.#ask({ kind: "grantLease", ttlMs }, false);
    return checked("grantLease", value);
  }

  async keepAlive(lease: LeaseId): Promise<boolean> {
    const { value } = await this.#ask({ kind: "keepAlive", lease }, true);
    return checked("keepAlive", value);
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    await this.#ask({ kind: "revokeLease", lease }, true);
  }

  async members(): Promise<StoreMember[]> {
    const { value } = await this.#ask({ kind: "members" }, true);
    return checked("members", value);
  }

  async snapshot(): Promise<Uint8Array> {
    const { bytes } = await this.#ask({ kind: "snapshot" }, true);
    const whole = new Uint8Array(bytes.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of bytes) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  async addLearner(peerUrl: string): Promise<string> {
    const { value } = await this.#ask({ kind: "addLearner", peerUrl }, false);
    return checked("addLearner", value);
  }

  async promote(id: string): Promise<boolean> {
    const { value } = await this.#ask({ kind: "promote", member: id }, false);
    return checked("promote", value);
  }

  async removeMember(id: string): Promise<void> {
    await this.#ask({ kind: "removeMember", member: id }, false);
  }

  #ask(body: Body, repeatable: boolean): Promise<Pending & { value: unknown }> {
    return new Promise((resolve, reject) => {
      if (this.#stopped || this.#pending.size >= WAITING_MAX) {
        reject(new Fault("controlStoreAway", "too many requests wait for it"));
        return;
      }
      const id = this.#nextId++;
      const pending: Pending = {
        id,
        body,
        repeatable,
        sent: false,
        entries: [],
        bytes: [],
        cancelLimit: this.#timers.after(TIMEOUT_MS, () => this.#tooLate(id)),
        cancelAttempt: () => {},
        resolve: (value) => resolve({ ...pending, value }),
        reject,
      };
      this.#pending.set(id, pending);
      if (this.#pipe === null) this.#connect();
      else this.#pump(this.#pipe);
    });
  }

  /** The request's whole time is over. */
  #tooLate(id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    const unsure = pending.sent && !pending.repeatable;
    const code = unsure ? "unknownOutcome" : "controlStoreAway";
    this.#fail(pending, new Fault(code, `${pending.body.kind}: no voter answered in time`));
    // A voter that takes a request and says nothing for so long is of no use to the others either.
    if (pending.sent && this.#pipe !== null) this.#drop(this.#pipe, "it did not answer");
  }

  #fail(pending: Pending, fault: Fault): void {
    this.#finish(pending);
    pending.reject(fault);
  }

  #finish(pending: Pending): void {
    pending.cancelLimit();
    pending.cancelAttempt();
    this.#pending.delete(pending.id);
    if (this.#isLeaving) this.#leave();
  }

  /** Sends what waits, as far as there is room. */
  #pump(pipe: MessagePipe): void {
    if (this.#isLeaving) return;
    let running = 0;
    for (const pending of this.#pending.values()) if (pending.sent) running++;
    for (const pending of this.#pending.values()) {
      if (running >= PROXY_REQUESTS_MAX - 1) return;
      if (pending.sent) continue;
      if (!pipe.send({ ...pending.body, id: pending.id })) return; // its onClose says the rest
      pending.sent = true;
      running++;
      if (pending.repeatable) this.#limitAttempt(pipe, pending);
    }
  }

  #limitAttempt(pipe: MessagePipe, pending: Pending): void {
    pending.cancelAttempt();
    pending.cancelAttempt = this.#timers.after(ATTEMPT_MS, () => {
      if (this.#pipe === pipe) this.#drop(pipe, "it did not answer in time");
    });
  }

  #connect(): void {
    if (this.#pipe !== null || this.#dialing || this.#stopped || this.#cancelRedial !== null)
      return;
    const voters = this.#dial.voters();
    const voter = voters[this.#round % Math.max(1, voters.length)];
    if (voter === undefined) return this.#later();
    this.#dialing = true;
    let open = true;
    const settle = (pipe: MessagePipe | null, reason: string) => {
      if (!open) {
        pipe?.close("it came too late");
        return;
      }
      open = false;
      cancel();
      this.#dialing = false;
      if (this.#stopped) pipe?.close("stopped");
      else if (pipe !== null) this.#connected(pipe, voter);
      else this.#next(reason);
    };
    const cancel = this.#timers.after(DIAL_MS, () => settle(null, "it does not answer"));
    this.#dial.dial(voter).then(
      (pipe) => settle(pipe, ""),
      (cause: unknown) => {
        if (!(cause instanceof Fault)) throw cause;
        settle(null, cause.message);
      },
    );
  }

  #connected(pipe: MessagePipe, voter: UnitNumber): void {
    this.#pipe = pipe;
    this.#voter = voter;
    pipe.onMessage = (message) => {
      if (this.#pipe === pipe) this.#received(pipe, message);
    };
    pipe.onClose = (reason) => {
      if (this.#pipe === pipe) this.#lost(reason);
    };
    for (const watch of this.#watches.values()) this.#sendWatch(pipe, watch);
    this.#pump(pipe);
  }

  #sendWatch(pipe: MessagePipe, watch: ProxyWatch): void {
    const { id, prefix, next } = watch;
    pipe.send({ kind: "watch", id, prefix, fromRevision: next });
  }

  #drop(pipe: MessagePipe, reason: string): void {
    pipe.close(reason);
    this.#lost(reason);
  }

  #lost(reason: string): void {
    const isBetterThere = this.#isLeaving;
    this.#release(reason);
    if (isBetterThere) this.#connect();
    else this.#next(reason);
  }

  /** What was under way on the link is asked again over the next one, or its outcome is unknown. */
  #release(reason: string): void {
    this.#isLeaving = false;
    this.#pipe = null;
    this.#voter = null;
    for (const pending of [...this.#pending.values()]) {
      if (!pending.sent) continue;
      pending.cancelAttempt();
      if (pending.repeatable) {
        // Asked again elsewhere, from the start.
        pending.sent = false;
        pending.entries = [];
        pending.bytes = [];
      } else
        this.#fail(pending, new Fault("unknownOutcome", `the link to a voter ended: ${reason}`));
    }
  }

  /** Another voter's turn. */
  #next(reason: string): void {
    this.#round++;
    this.#world.log.write("debug", "the next voter is tried", { reason });
    // A whole round without success slows down; the first step to another voter is immediate.
    const rounds = this.#dial.voters().length;
    if (rounds > 1 && this.#round % rounds !== 0) this.#connect();
    else this.#later();
  }

  #later(): void {
    const delayMs = this.#redialMs * (0.5 + this.#world.random.fraction());
    this.#redialMs = Math.min(REDIAL_MOST_MS, this.#redialMs * 2);
    this.#cancelRedial = this.#timers.after(delayMs, () => {
      this.#cancelRedial = null;
      this.#connect();
    });
  }

  #received(pipe: MessagePipe, message: unknown): void {
    const parsed = ProxyAnswerSchema.safeParse(message);
    if (!parsed.success) return this.#drop(pipe, "an answer that makes no sense");
    this.#redialMs = REDIAL_LEAST_MS;
    const answer = parsed.data;
    switch (answer.kind) {
      case "events":
        return this.#events(answer);
      case "lost":
        return this.#loseWatch(answer.id, answer.reason);
      default:
        return this.#answered(pipe, answer);
    }
  }

  #events(answer: ProxyAnswer & { kind: "events" }): void {
    const watch = this.#watches.get(answer.id);
    if (watch === undefined || answer.revision < watch.next) return;
    watch.next = answer.revision + 1;
    watch.sink.onEvents(answer.events, answer.revision);
  }

  #loseWatch(id: number, reason: string): void {
    const watch = this.#watches.get(id);
    this.#watches.delete(id);
    watch?.sink.onLost(reason);
  }

  #answered(pipe: MessagePipe, answer: Exclude<ProxyAnswer, { kind: "events" | "lost" }>): void {
    const pending = this.#pending.get(answer.id);
    if (pending === undefined || !pending.sent) {
      if (answer.kind === "fault") this.#loseWatch(answer.id, answer.detail);
      return;
    }
    switch (answer.kind) {
      case "entries":
        pending.entries.push(...answer.entries);
        return this.#limitAttempt(pipe, pending);
      case "bytes":
        // Checked to be base64 with the message.
        pending.bytes.push(bytesOfBase64(answer.base64));
        return this.#limitAttempt(pipe, pending);
      case "answer":
        this.#finish(pending);
        pending.resolve(answer.value);
        break;
      case "fault": {
        const code = Object.hasOwn(faultTable, answer.code)
          ? (answer.code as FaultCode)
          : "internal";
        // This voter has no majority; another may have one.
        const away =
          code === "controlStoreAway" || (code === "unknownOutcome" && pending.repeatable);
        if (away && pending.repeatable) return this.#drop(pipe, "it has no majority");
        this.#fail(pending, new Fault(code, answer.detail));
        if (away) return this.#drop(pipe, "it has no majority");
        break;
      }
    }
    this.#pump(pipe);
  }
}

function checked<K extends keyof typeof answerSchemas>(
  kind: K,
  value: unknown,
): ReturnType<(typeof answerSchemas)[K]["parse"]> {
  const parsed = answerSchemas[kind].safeParse(value);
  if (parsed.success) return parsed.data as ReturnType<(typeof answerSchemas)[K]["parse"]>;
  throw new Fault("corrupt", `a voter's answer to ${kind} makes no sense`);
}
