// SPDX-License-Identifier: Apache-2.0
//
// What stands of all that the reactors of a unit were told, so that one that starts later can be
// told as much: of each thing the last that was said.
//
// Invariants
// - Told to a reactor that knows nothing, it leaves that as the whole history would, but for what
//   is about disks that it has: those are opened later, and are told of anew.
// - It is small in messages, however much was said: records and places go many at a time.

import type {
  DiskNumber,
  HostNumber,
  SliceNumber,
  SliceRecord,
  VolumeNumber,
} from "#base/record.ts";
import type { DiskAt, ToReactor } from "./reactor-messages.ts";

/** Records or places of one message. */
const AT_ONCE = 128;

export class ReactorStanding {
  /** Of which the last one counts, in the order in which kinds came first. */
  readonly #last = new Map<ToReactor["kind"], ToReactor>();
  readonly #hosts = new Map<HostNumber, ToReactor>();
  readonly #volumes = new Map<VolumeNumber, ToReactor>();
  readonly #places = new Map<DiskNumber, DiskAt>();
  readonly #records = new Map<SliceNumber, SliceRecord>();

  /** False: it is of the moment only, or no word to all. */
  note(message: ToReactor): boolean {
    switch (message.kind) {
      case "join":
      case "tls":
      case "scrubPace":
      case "plans":
      case "hurry":
        this.#last.set(message.kind, message);
        return true;
      case "host":
        this.#hosts.set(message.host.host, message);
        return true;
      case "hostGone":
        this.#hosts.delete(message.host);
        return true;
      case "volume":
        this.#volumes.set(message.volume.volume, message);
        return true;
      case "volumeGone":
        this.#volumes.delete(message.volume);
        return true;
      case "places":
        for (const place of message.places) this.#places.set(place.disk, place);
        return true;
      case "records":
        for (const record of message.records) this.#records.set(record.slice, record);
        return true;
      case "sliceGone":
        this.#records.delete(message.slice);
        return true;
      default:
        return false;
    }
  }

  *messages(): Generator<ToReactor> {
    yield* this.#last.values();
    for (const places of chunks([...this.#places.values()])) yield { kind: "places", places };
    for (const records of chunks([...this.#records.values()])) yield { kind: "records", records };
    yield* this.#hosts.values();
    yield* this.#volumes.values();
  }
}

function* chunks<T>(all: readonly T[]): Generator<T[]> {
  for (let at = 0; at < all.length; at += AT_ONCE) yield all.slice(at, at + AT_ONCE);
}
