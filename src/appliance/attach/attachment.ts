// SPDX-License-Identifier: Apache-2.0
//
// A volume attached to a host by its kernel (`cairn host attach`): where it is served is asked of
// any unit, the connection goes straight there, and is made anew at the new head when it dies.
// Decisions alone: the kernel, the network and the API are handed in.
//
// Invariants
// - A volume that grew has its device grow: by a new connection, which is a short pause.
// - The device keeps what is asked of it while there is no connection; nothing here fails it.
// - After a connection died the next one waits FENCE_MS: by then nothing that a forwarding unit
//   still had of the old one is carried out any more (H7), so that a request which the kernel sends
//   again cannot be overtaken by itself.
// - A device is known by the volume's uuid: a new volume of the same name is not taken for it.

import { Fault } from "#base/fault.ts";
import type { Clock, Log } from "#base/world.ts";
import type { OwnVolumeView } from "#appliance/host-backend.ts";

/** Before the mark of every device of ours; the volume's uuid follows, then its name. */
export const MARK_BEGINNING = "cairn:";
/** H7: a forwarding unit sends nothing again that is older; a little more, for the clocks. */
const FENCE_MS = 2100;
/** Between two looks at the device. */
export const LOOK_EVERY_MS = 250;
/** Between two questions where the volume is served, while it is attached. */
const RESOLVE_EVERY_MS = 5000;
/** So long another front must stay before the host moves there: a move is a short pause. */
const MOVE_AFTER_MS = 15_000;
/**
 * After a death the front alone is tried so long, then any unit: a failover finds a front in it.
 */
const FRONT_ALONE_MS = 5000;

export interface Connection {
  /** Where it goes, as the volume's URI says. */
  uri: string;
  sizeBytes: number;
  /** False once it has ended, where that can be seen. */
  stands(): boolean;
  /** Ends it, whoever holds it. */
  cut(): void;
  /** Lets go of it; the kernel goes on with its own hold. */
  release(): void;
}

export interface AttachOutside<C extends Connection> {
  clock: Clock;
  log: Log;
  /** The volume as a unit tells it: the first that answers. A Fault notFound: it is not ours. */
  resolve(): Promise<OwnVolumeView>;
  /** In transmission, or a Fault. */
  connect(uri: string, volume: OwnVolumeView): C;
  /** The device that was attached for the volume of this uuid already; else null. */
  find(uuid: string): Device<C> | null;
  /** A new one. */
  attach(mark: string, connection: C): Device<C>;
  /** It is attached, at last: whoever waits may go on. */
  ready(device: Device<C>, volume: OwnVolumeView): void;
}

export interface Device<C extends Connection> {
  readonly path: string;
  /** Takes the connection if its own is dead, and says whether it did. */
  reconnect(connection: C): boolean;
  /** Whether its connection died since this was asked last. */
  died(): boolean;
}

export class Attachment<C extends Connection> {
  readonly #outside: AttachOutside<C>;
  #volume: OwnVolumeView | null = null;
  #device: Device<C> | null = null;
  #connection: C | null = null;
  /** When the connection died; null: it stands. */
  #deadSinceMs: number | null = null;
  #resolvedMs = 0;
  /** Another unit is the front, since then. */
  #elsewhere: { uri: string; sinceMs: number } | null = null;
  #told = "";

  constructor(outside: AttachOutside<C>) {
    this.#outside = outside;
  }

  get device(): Device<C> | null {
    return this.#device;
  }
  get uri(): string | null {
    return this.#connection?.uri ?? null;
  }

  /** Attaches, or takes on what an earlier process left attached. A Fault: it did not. */
  async begin(): Promise<void> {
    const volume = await this.#resolve();
    const found = this.#outside.find(volume.uuid);
    const connection = this.#connect(volume, volume.uris);
    this.#connection = connection;
    try {
      this.#device = found ?? this.#outside.attach(markOf(volume), connection);
      // One whose connection stands goes on with that.
      if (found !== null && !found.reconnect(connection)) this.#drop();
    } catch (error) {
      this.#drop();
      throw error;
    }
    this.#say(`attached at ${this.#connection?.uri ?? "where it was"}`);
    this.#outside.ready(this.#device, volume);
  }

  /** Called every LOOK_EVERY_MS. Never rejects but for bugs of ours. */
  async look(): Promise<void> {
    const nowMs = this.#outside.clock.nowMs();
    const device = this.#device;
    if (device === null) return;
    const isDead = device.died() || this.#connection?.stands() === false;
    if (isDead && this.#deadSinceMs === null) {
      this.#deadSinceMs = nowMs;
      this.#drop();
      this.#say("the connection is gone; its requests wait");
    }
    if (this.#deadSinceMs === null) return this.#lookElsewhere(nowMs);
    if (nowMs - this.#deadSinceMs < FENCE_MS) return;
    const frontAlone = nowMs - this.#deadSinceMs < FRONT_ALONE_MS;
    await this.#reconnect(device, { frontAlone });
  }

  async #reconnect(device: Device<C>, { frontAlone }: { frontAlone: boolean }): Promise<void> {
    try {
      const volume = await this.#resolve();
      const connection = this.#connect(volume, volume.uris.slice(0, frontAlone ? 1 : undefined));
      this.#connection = connection;
      const isTaken = device.reconnect(connection);
      if (!isTaken) this.#drop();
      this.#deadSinceMs = null;
      this.#elsewhere = null;
      this.#say(`attached again at ${connection.uri}`);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#drop();
      this.#say(`not attached again yet: ${error.message}`);
    }
  }

  /**
   * Follows the front where it went while the connection still stands; and the size, which the
   * kernel takes with a new connection.
   */
  async #lookElsewhere(nowMs: number): Promise<void> {
    if (nowMs - this.#resolvedMs < RESOLVE_EVERY_MS) return;
    let volume: OwnVolumeView;
    try {
      volume = await this.#resolve();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return; // what is attached goes on; nobody has to answer for that
    }
    const [front] = volume.uris;
    if (this.#connection !== null && volume.sizeBytes > this.#connection.sizeBytes) {
      this.#elsewhere = null;
      this.#say(`it grew to ${volume.sizeBytes} bytes; attaching anew`);
      this.#connection.cut();
    } else if (front === undefined || this.#connection === null || front === this.#connection.uri) {
      this.#elsewhere = null;
    } else if (this.#elsewhere?.uri !== front) {
      this.#elsewhere = { uri: front, sinceMs: nowMs };
    } else if (nowMs - this.#elsewhere.sinceMs >= MOVE_AFTER_MS) {
      this.#elsewhere = null;
      this.#say(`${front} serves it now; moving there`);
      this.#connection.cut();
    }
  }

  async #resolve(): Promise<OwnVolumeView> {
    this.#resolvedMs = this.#outside.clock.nowMs();
    const volume = await this.#outside.resolve();
    const before = this.#volume;
    if (before !== null && before.uuid !== volume.uuid) {
      throw new Fault("notFound", `${before.name} is another volume now; detach, then attach it`);
    }
    this.#volume = volume;
    return volume;
  }

  /** The first of these that takes it: any unit takes any volume. */
  #connect(volume: OwnVolumeView, uris: readonly string[]): C {
    let why: Fault | null = null;
    for (const uri of uris) {
      try {
        return this.#outside.connect(uri, volume);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        why ??= error;
      }
    }
    throw why ?? new Fault("notReady", `no unit serves ${volume.name}`);
  }

  #drop(): void {
    this.#connection?.cut();
    this.#connection?.release();
    this.#connection = null;
  }

  /** Each change once. */
  #say(sentence: string): void {
    if (sentence === this.#told) return;
    this.#told = sentence;
    const { path } = this.#device ?? { path: "" };
    this.#outside.log.write("info", sentence, { volume: this.#volume?.name ?? "", device: path });
  }
}

/** What a device of this volume is marked with. */
export function markOf({ uuid, name }: Pick<OwnVolumeView, "uuid" | "name">): string {
  return `${MARK_BEGINNING}${uuid}:${name}`;
}

/** What a mark of ours says; null: it is not. A volume that was renamed keeps its mark. */
export function markedVolume(mark: string): { uuid: string; name: string } | null {
  const found = /^cairn:([0-9a-f-]{32,36}):(.+)$/.exec(mark);
  return found === null ? null : { uuid: found[1] as string, name: found[2] as string };
}
