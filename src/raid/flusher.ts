// SPDX-License-Identifier: Apache-2.0
//
// Flushes of a head (H4): each covers all that was acked before it was asked for, so whoever asks
// while one is under way joins the next. One round is one message per member and one flush of each
// disk.

import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";
import { Spread } from "./spread.ts";

export type FlushDone = (status: Status) => void;

export class Flusher {
  readonly #head: Head;
  #waiting: FlushDone[] = [];
  #targetsToo = false;
  #underWay = false;

  constructor(head: Head) {
    this.#head = head;
  }

  /** `done` gets cancelled when the headship ended first. */
  request(options: { targetsToo: boolean }, done: FlushDone): void {
    this.#waiting.push(done);
    if (options.targetsToo) this.#targetsToo = true;
    this.#start();
  }

  /** The headship ended: whoever has not started never will. */
  end(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const done of waiting) done(Status.cancelled);
  }

  #start(): void {
    if (this.#underWay || this.#waiting.length === 0) return;
    this.#underWay = true;
    const served = this.#waiting;
    const targetsToo = this.#targetsToo;
    this.#waiting = [];
    this.#targetsToo = false;
    const replicas = [...this.#head.replicas.values()].filter(
      (replica) => replica.required || (targetsToo && replica.state === "open"),
    );
    const spread = new Spread(this.#head, "flush", (ended) => {
      this.#underWay = false;
      for (const done of served) done(ended.status);
      if (!this.#head.ended) this.#start();
    });
    spread.start(replicas, { local: true });
  }
}
