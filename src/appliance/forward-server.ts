// SPDX-License-Identifier: Apache-2.0
//
// In-band: requests that other units forward to heads here, or to what is kept here of a lineage
// that lost (R8). The other end is forwarder.ts.
//
// Invariants
// - H7: a sending that is too old by our own clock, echoed by the sender, takes no effect, whatever
//   the network kept.
// - The payload's buffer is ours from `serve` on, and released when its answer has left.

import { FORWARD_AGE_MAX_MS } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_WARM, OperationKind, OperationPool, TrafficClass } from "#base/operation.ts";
import type { Operation, OperationTarget } from "#base/operation.ts";
import type { SliceNumber, UnitNumber } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { World } from "#base/world.ts";

export interface ForwardServerEffects {
  /** `lineage`: 0, or one that lost, to be read alone. Null: neither is here. */
  target(slice: SliceNumber, lineage: number): OperationTarget | null;
  /** False: no link now. */
  send(unit: UnitNumber, verb: PeerVerb): boolean;
}

export class ForwardServer {
  readonly #world: Pick<World, "clock">;
  readonly #memory: Memory;
  readonly #effects: ForwardServerEffects;
  readonly #pool = new OperationPool();

  constructor(world: Pick<World, "clock">, memory: Memory, effects: ForwardServerEffects) {
    this.#world = world;
    this.#memory = memory;
    this.#effects = effects;
  }

  serve(from: UnitNumber, verb: PeerVerb): void {
    const ageMs = this.#world.clock.nowMs() - verb.tickMs;
    const target = this.#effects.target(verb.slice, verb.lineage);
    if (!(ageMs >= 0 && ageMs <= FORWARD_AGE_MAX_MS)) {
      return this.#refuse(from, verb, Status.expired);
    }
    if (target === null) return this.#refuse(from, verb, Status.notHead);
    const operation = this.#pool.take();
    operation.kind = verb.operation as OperationKind;
    operation.offsetBytes = verb.offsetBytes;
    operation.lengthBytes = verb.lengthBytes;
    operation.flags = verb.flags;
    operation.origin = verb.origin;
    operation.class = TrafficClass.forwarded;
    operation.notAfterMs = verb.tickMs + FORWARD_AGE_MAX_MS;
    operation.bufferOffset = verb.bufferOffset;
    if (operation.kind === OperationKind.read) {
      operation.bufferOffset = this.#memory.allocate(Math.max(1, verb.lengthBytes));
      if (operation.bufferOffset === NO_BUFFER) {
        this.#pool.give(operation);
        return this.#refuse(from, verb, Status.busy);
      }
    }
    const { sequence } = verb;
    operation.done = (ended) => this.#answer(from, sequence, ended);
    target.submit(operation);
  }

  #refuse(from: UnitNumber, verb: PeerVerb, status: Status): void {
    if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
    this.refuse(from, verb.sequence, status);
  }

  /** Answers a request of which nothing was done, and whose payload is released. */
  refuse(to: UnitNumber, sequence: number, status: Status): void {
    this.#effects.send(to, this.#verb(sequence, status));
  }

  #verb(sequence: number, status: Status): PeerVerb {
    const answer = new PeerVerb();
    answer.kind = VerbKind.forwarded;
    answer.sequence = sequence;
    answer.status = status;
    answer.class = TrafficClass.forwarded;
    answer.tickMs = this.#world.clock.nowMs();
    return answer;
  }

  #answer(to: UnitNumber, sequence: number, ended: Operation): void {
    const answer = this.#verb(sequence, ended.status);
    const buffer = ended.bufferOffset;
    answer.runs = ended.runs;
    const isWanted = (ended.flags & FLAG_WARM) === 0;
    const givesPayload =
      ended.kind === OperationKind.read && ended.status === Status.ok && isWanted;
    if (givesPayload) {
      answer.bufferOffset = buffer;
      answer.payloadBytes = ended.lengthBytes;
      answer.sent = () => this.#memory.release(buffer);
    }
    this.#pool.give(ended);
    const taken = this.#effects.send(to, answer);
    if (buffer !== NO_BUFFER && !(givesPayload && taken)) this.#memory.release(buffer);
  }
}
