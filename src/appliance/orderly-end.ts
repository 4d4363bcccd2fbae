// SPDX-License-Identifier: Apache-2.0
//
// The orderly end of a reactor: hosts are drained, heads are released (so that takeovers need no
// wait), links and disks are closed, then the ring. Each step has a time after which it goes on.
//
// Of several reactors none releases its heads before all have drained, since a host's last requests
// may go to a sibling's; and the door keeps its links until its siblings are over.

import type { Reactor } from "#machine/reactor.ts";

/** Hosts get this long to see their last answers, ms; and siblings as long again for theirs. */
const DRAIN_MS_MAX = 500;
/** Heads get this long to be released, ms; after that the others wait for the leases. */
const RELEASE_MS_MAX = 1500;
/**
 * The releases are the last words on the control lanes; closed at once, the end of a data lane
 * could overtake them, and the others would wait for the leases (R4).
 */
const LAST_WORDS_MS = 100;

export interface EndSteps {
  drain(): void;
  /** No host is attached any more. */
  isDrained(): boolean;
  /** The siblings are told so. */
  drained(): void;
  release(done: () => void): void;
  /** Sessions, links, listeners, disks; then the reactor. */
  closeAll(): void;
}

export class OrderlyEnd {
  readonly #reactor: Reactor;
  readonly #steps: EndSteps;
  /** Siblings that have hosts to drain, and those that may have something to say yet. */
  readonly #drains: Set<number>;
  readonly #speaks: Set<number>;
  readonly #isDoor: boolean;
  #begun = false;

  constructor(
    reactor: Reactor,
    { siblings, isDoor }: { siblings: readonly number[]; isDoor: boolean },
    steps: EndSteps,
  ) {
    this.#reactor = reactor;
    this.#steps = steps;
    this.#drains = new Set(siblings);
    this.#speaks = new Set(siblings);
    this.#isDoor = isDoor;
  }

  get hasBegun(): boolean {
    return this.#begun;
  }

  /** One more has started. */
  siblingAdded(sibling: number): void {
    this.#drains.add(sibling);
    this.#speaks.add(sibling);
  }
  siblingDrained(sibling: number): void {
    this.#drains.delete(sibling);
  }
  siblingOver(sibling: number): void {
    this.#drains.delete(sibling);
    this.#speaks.delete(sibling);
  }

  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const steps = this.#steps;
    steps.drain();
    this.#until(
      DRAIN_MS_MAX,
      () => steps.isDrained(),
      () => {
        steps.drained();
        this.#until(
          DRAIN_MS_MAX,
          () => this.#drains.size === 0,
          () => this.#release(),
        );
      },
    );
  }

  #release(): void {
    this.#within(
      RELEASE_MS_MAX,
      (released) => this.#steps.release(released),
      () => {
        // What it says to siblings arrives before its end does.
        if (!this.#isDoor) return this.#steps.closeAll();
        const areSilent = () => this.#speaks.size === 0;
        this.#until(RELEASE_MS_MAX, areSilent, () => {
          this.#within(
            LAST_WORDS_MS,
            () => {},
            () => this.#steps.closeAll(),
          );
        });
      },
    );
  }

  /** Goes on with `then` once `holds`, at a tick, or when its time is over. */
  #until(limitMs: number, holds: () => boolean, then: () => void): void {
    this.#within(
      limitMs,
      (done) => {
        if (holds()) return done();
        this.#reactor.onTick(() => {
          if (holds()) done();
        });
      },
      then,
    );
  }

  /** Starts `act`, and goes on with `then` once, when it is done or its time is over. */
  #within(limitMs: number, act: (done: () => void) => void, then: () => void): void {
    let over = false;
    const finish = () => {
      if (over) return;
      over = true;
      this.#reactor.defer(then);
    };
    this.#reactor.watchDeadline(this.#reactor.clock.nowMs() + limitMs, finish);
    act(finish);
  }
}
