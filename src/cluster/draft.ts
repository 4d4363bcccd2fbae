// SPDX-License-Identifier: Apache-2.0
//
// A change of the control state while it is being decided: what it puts and deletes, the numbers it
// takes, the events it tells. Whatever it writes, and whatever it says it relied on, is compared
// with the view it was decided by; so is the cluster's record (its generation and state). A draft
// decided by an old view commits nothing.

import { Fault } from "#base/fault.ts";
import type { UnitNumber, VolumeNumber } from "#base/record.ts";
import { TRANSACTION_OPERATIONS_MAX } from "./control-store.ts";
import type { Put, Transaction } from "./control-store.ts";
import type { DiskRoom } from "./placement.ts";
import { keys, valueText } from "./state.ts";
import type { EventRecord, NumbersRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

export interface EventDraft {
  kind: string;
  severity: EventRecord["severity"];
  sentence: string;
  unit?: UnitNumber | null;
  volume?: VolumeNumber | null;
}

const SENTENCE_CHARACTERS_MAX = 1024;

export class Draft {
  readonly view: ClusterView;
  readonly #compares = new Set<string>([keys.cluster]);
  readonly #puts = new Map<string, Put>();
  readonly #deletes = new Set<string>();
  readonly #events: EventDraft[] = [];
  /** Room this draft gives away beyond what the view counts, by disk, bytes. */
  readonly taken = new Map<number, number>();
  readonly #rooms = new Map<string, DiskRoom[]>();
  #numbers: NumbersRecord | null = null;
  #closed = false;
  readonly #isBounded: boolean;
  /** Who asked for it, in every event it tells; null: nobody did. */
  readonly actor: string | null;

  /** `isBounded`: to be committed in one transaction; else only rehearsed. */
  constructor(
    view: ClusterView,
    { isBounded = true, actor = null }: { isBounded?: boolean; actor?: string | null } = {},
  ) {
    this.view = view;
    this.#isBounded = isBounded;
    this.actor = actor;
  }

  get isEmpty(): boolean {
    return this.#puts.size === 0 && this.#deletes.size === 0 && this.#events.length === 0;
  }

  /** Of the events it tells. */
  get sentences(): string[] {
    return this.#events.map((event) => event.sentence);
  }

  /** Compares and writes it would have, the larger of both: bounded by the control store. */
  get operations(): number {
    const written = this.#puts.size + this.#deletes.size + this.#events.length + 1;
    return Math.max(this.#compares.size + 1 + this.#events.length, written);
  }
  get isFull(): boolean {
    if (this.#closed) return true;
    return this.#isBounded && this.operations >= TRANSACTION_OPERATIONS_MAX - 8;
  }

  /** The change holds only if this key is as the view has it (also: absent). */
  relyOn(key: string): void {
    this.#compares.add(key);
  }

  /**
   * Rooms as the view has them, read once per draft: of a pool, its spares, or the spares of all,
   * by a name that has a blank where it is no pool's. What the draft gives away is in `taken`.
   */
  rooms(of: string, read: () => DiskRoom[]): DiskRoom[] {
    const known = this.#rooms.get(of) ?? read();
    this.#rooms.set(of, known);
    return known;
  }

  /** Nothing more should go into it; `isFull` from now on. */
  close(): void {
    this.#closed = true;
  }

  writes(key: string): boolean {
    return this.#puts.has(key) || this.#deletes.has(key);
  }

  put(key: string, record: object, lease?: string): void {
    this.relyOn(key);
    this.#deletes.delete(key);
    const value = valueText(record);
    this.#puts.set(key, lease === undefined ? { key, value } : { key, value, lease });
  }

  delete(key: string): void {
    if (this.view.revisionOf(key) === 0 && !this.#puts.has(key)) return;
    this.relyOn(key);
    this.#puts.delete(key);
    this.#deletes.add(key);
  }

  /** Gives out the next `count` numbers of a kind; answers the first. */
  take(
    kind: "unit" | "disk" | "volume" | "slice" | "event" | "host" | "request",
    count = 1,
  ): number {
    const numbers = this.#taken();
    const first = numbers[kind];
    numbers[kind] = first + count;
    return first;
  }

  /** The next number of a kind is this one at least: one below it is in use. */
  raise(kind: "disk" | "volume" | "slice", atLeast: number): void {
    // They never fall: what is high enough needs no compare.
    if ((this.view.numbers?.[kind] ?? 0) >= atLeast) return;
    const numbers = this.#taken();
    numbers[kind] = Math.max(numbers[kind], atLeast);
  }

  #taken(): NumbersRecord {
    if (this.#numbers === null) {
      if (this.view.numbers === null) throw new Fault("notReady", "the control state is not read");
      this.#numbers = { ...this.view.numbers };
      this.relyOn(keys.numbers);
    }
    return this.#numbers;
  }

  /** An event besides, so that nothing anybody did goes untold; what is told already is enough. */
  tellUnlessTold(event: EventDraft): void {
    if (this.#events.length === 0 && !this.isEmpty) this.tell(event);
  }

  tell(event: EventDraft): void {
    this.#events.push(event);
  }

  /** `wallMs` dates the events, for people. */
  transaction(wallMs: number): Transaction {
    const puts = [...this.#puts.values()];
    for (const event of this.#events) {
      const number = this.take("event");
      const record: EventRecord = {
        number,
        atMs: Math.max(0, Math.floor(wallMs)),
        kind: event.kind,
        severity: event.severity,
        sentence: event.sentence.slice(0, SENTENCE_CHARACTERS_MAX),
        ...(this.actor === null ? {} : { actor: this.actor }),
        unit: event.unit ?? null,
        volume: event.volume ?? null,
      };
      // A number never given before: nothing can be there, and nothing needs to be compared.
      puts.push({ key: keys.event(number), value: valueText(record) });
    }
    if (this.#numbers !== null) puts.push({ key: keys.numbers, value: valueText(this.#numbers) });
    const ifs = [...this.#compares].map((key) => this.view.compare(key));
    return { ifs, puts, deletes: [...this.#deletes] };
  }
}
