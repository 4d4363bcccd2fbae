// SPDX-License-Identifier: Apache-2.0
//
// The control proxy's end on a voter: carries out what one admitted unit asks of the control store
// over its authenticated link, within the rules of who may write what (proxy-rules.ts), bounded in
// requests and watches. Nothing is kept for a unit between links: leases and keys are the store's.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { ControlStore, Entry, Watch } from "./control-store.ts";
import type { MessagePipe } from "./message-pipe.ts";
import {
  PART_CHARACTERS_MAX,
  PROXY_REQUESTS_MAX,
  PROXY_WATCHES_MAX,
  ProxyRequestSchema,
} from "./proxy-messages.ts";
import type { ProxyAnswer, ProxyRequest } from "./proxy-messages.ts";
import type { MayWrite } from "./proxy-rules.ts";
import type { VoterChanges } from "./voters.ts";

export interface ProxyServerParts {
  store: ControlStore;
  /** Changes of the voters; only the control station may ask for them. */
  voters: VoterChanges | null;
  mayWrite: MayWrite;
  /** Whether a unit is the control station. */
  isStation(unit: UnitNumber): Promise<boolean>;
}

export class ControlProxyServer {
  readonly #parts: ProxyServerParts;
  readonly #unit: UnitNumber;
  readonly #pipe: MessagePipe;
  readonly #watches = new Map<number, Watch>();
  #running = 0;
  #closed = false;

  /** `unit`: who proved itself on this link. */
  constructor(parts: ProxyServerParts, unit: UnitNumber, pipe: MessagePipe) {
    this.#parts = parts;
    this.#unit = unit;
    this.#pipe = pipe;
    pipe.onMessage = (message) => this.#received(message);
    pipe.onClose = () => this.#end();
  }

  close(reason: string): void {
    this.#pipe.close(reason);
    this.#end();
  }

  #end(): void {
    this.#closed = true;
    for (const watch of this.#watches.values()) watch.cancel();
    this.#watches.clear();
  }

  #received(message: unknown): void {
    const parsed = ProxyRequestSchema.safeParse(message);
    if (!parsed.success) return this.close("a request that makes no sense");
    const request = parsed.data;
    if (this.#running >= PROXY_REQUESTS_MAX) return this.close("too many requests at once");
    this.#running++;
    void this.#answer(request);
  }

  async #answer(request: ProxyRequest): Promise<void> {
    const { id } = request;
    try {
      this.#say({ kind: "answer", id, value: await this.#carryOut(request) });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const at = error.message.indexOf(": ");
      const detail = at < 0 ? error.message : error.message.slice(at + 2);
      this.#say({ kind: "fault", id, code: error.code, detail });
    } finally {
      this.#running--;
    }
  }

  #say(answer: ProxyAnswer): void {
    if (!this.#closed) this.#pipe.send(answer);
  }

  // tidy: exhaustive switch
  async #carryOut(request: ProxyRequest): Promise<unknown> {
    const { store } = this.#parts;
    switch (request.kind) {
      case "get":
        return store.get(request.key);
      case "range": {
        const { revision, entries } = await store.range(request.prefix);
        this.#sayEntries(request.id, entries);
        return { revision };
      }
      case "transaction": {
        const { ifs, puts, deletes } = request;
        const refusal = await this.#parts.mayWrite(this.#unit, { ifs, puts, deletes });
        if (refusal !== null) throw new Fault("forbidden", refusal);
        return store.transaction({ ifs, puts, deletes });
      }
      case "watch":
        this.#watch(request);
        return null;
      case "unwatch":
        this.#watches.get(request.id)?.cancel();
        this.#watches.delete(request.id);
        return null;
      case "grantLease":
        return store.grantLease(request.ttlMs);
      case "keepAlive":
        return store.keepAlive(request.lease);
      case "revokeLease":
        await store.revokeLease(request.lease);
        return null;
      case "members":
        return store.members();
      case "snapshot":
        this.#sayBytes(request.id, await store.snapshot());
        return null;
      case "addLearner":
        return (await this.#voters()).addLearner(request.peerUrl);
      case "promote":
        return (await this.#voters()).promote(request.member);
      case "removeMember":
        await (await this.#voters()).removeMember(request.member);
        return null;
    }
  }

  async #voters(): Promise<VoterChanges> {
    if (this.#parts.voters === null) throw new Fault("notReady", "this voter takes no changes");
    if (!(await this.#parts.isStation(this.#unit))) {
      throw new Fault("forbidden", "only the control station changes the voters");
    }
    return this.#parts.voters;
  }

  #watch(request: { id: number; prefix: string; fromRevision: number }): void {
    const { id } = request;
    if (this.#watches.size >= PROXY_WATCHES_MAX) throw new Fault("tooLarge", "too many watches");
    if (this.#watches.has(id)) throw new Fault("badRequest", "this watch is there already");
    const watch = this.#parts.store.watch(request.prefix, request.fromRevision, {
      onEvents: (events, revision) => this.#say({ kind: "events", id, revision, events }),
      onLost: (reason) => {
        this.#watches.delete(id);
        this.#say({ kind: "lost", id, reason });
      },
    });
    this.#watches.set(id, watch);
  }

  /** All but what fits the last part; parts keep their order before the answer itself. */
  #sayEntries(id: number, entries: readonly Entry[]): void {
    let part: Entry[] = [];
    let characters = 0;
    for (const entry of entries) {
      part.push(entry);
      characters += entry.key.length + entry.value.length;
      if (characters < PART_CHARACTERS_MAX) continue;
      this.#say({ kind: "entries", id, entries: part });
      part = [];
      characters = 0;
    }
    if (part.length > 0) this.#say({ kind: "entries", id, entries: part });
  }

  #sayBytes(id: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PART_CHARACTERS_MAX) {
      const part = bytes.subarray(at, at + PART_CHARACTERS_MAX);
      this.#say({ kind: "bytes", id, base64: part.toBase64() });
    }
  }
}
