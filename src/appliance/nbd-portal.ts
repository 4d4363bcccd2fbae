// SPDX-License-Identifier: Apache-2.0
//
// The NBD portal: every volume of the cluster through this unit's NBD port, for the hosts its
// allow-list names. Joins NBD sessions (protocol) to volumes (the data plane).
//
// Invariants
// - An address outside a volume's allow-list neither sees nor enters it; when it leaves the list,
//   its connections to the volume end.
// - Host payload in memory is bounded by HostCredit, whatever hosts do (R13).

import { CONNECTIONS_MAX } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import type { OperationTarget } from "#base/operation.ts";
import type { VolumeNumber } from "#base/record.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { Log } from "#base/world.ts";
import { isAllowed } from "#cluster/address-range.ts";
import { HostCredit } from "#protocol/nbd/credit.ts";
import type { NbdExport } from "#protocol/nbd/handshake.ts";
import { NbdSession } from "#protocol/nbd/session.ts";
import type { ExportedVolume } from "./reactor-messages.ts";

/** A connection through the unix socket has no address; the list names it by this. */
const LOCAL_ADDRESS = "127.0.0.1";

interface PortalOptions {
  /** Payload bytes that hosts may hold in memory. */
  creditBytes: number;
  /** Runs `act` in a later turn of the loop. */
  defer(act: () => void): void;
  /** Where a volume's requests go. */
  target(volume: VolumeNumber): OperationTarget;
}

export class NbdPortal {
  readonly #memory: Memory;
  readonly #log: Log;
  readonly #options: PortalOptions;
  readonly #credit: HostCredit;
  readonly #sessions = new Set<NbdSession>();
  readonly #volumes = new Map<VolumeNumber, { volume: ExportedVolume; shown: NbdExport }>();
  #draining = false;

  constructor(memory: Memory, log: Log, options: PortalOptions) {
    this.#memory = memory;
    this.#log = log;
    this.#options = options;
    this.#credit = new HostCredit(options.creditBytes);
  }

  /** A volume is there, or changed. */
  setVolume(volume: ExportedVolume): void {
    const known = this.#volumes.get(volume.volume);
    if (known === undefined) {
      this.#volumes.set(volume.volume, { volume, shown: this.#show(volume) });
      return;
    }
    known.volume = volume;
    for (const session of this.#sessions) {
      if (session.volume !== known.shown) continue;
      if (!mayAttach(volume, session.peerAddress)) session.close("no longer on the allow-list");
    }
  }

  removeVolume(number: VolumeNumber): void {
    const known = this.#volumes.get(number);
    if (known === undefined) return;
    this.#volumes.delete(number);
    for (const session of this.#sessions) {
      if (session.volume === known.shown) session.close("the volume was deleted");
    }
  }

  accepted(socket: StreamSocket): void {
    if (this.#draining || this.#sessions.size >= CONNECTIONS_MAX) {
      socket.onBytes = (_offset, length) => length;
      socket.close();
      return;
    }
    const session = new NbdSession(
      this.#memory,
      {
        credit: this.#credit,
        tls: "none",
        defer: (act) => this.#options.defer(act),
        exports: {
          find: (name, address) => this.#find(name, address),
          list: (address) => this.#list(address),
        },
      },
      {
        secure: (plain, done) => plain.detach(() => done(null)),
        entered: (entered) =>
          this.#log.write("info", "host attached", {
            host: entered.peerAddress,
            volume: entered.volume?.name,
          }),
        finished: (ended, reason) => {
          this.#sessions.delete(ended);
          this.#log.write("info", "host connection ended", { host: ended.peerAddress, reason });
        },
      },
      socket,
    );
    this.#sessions.add(session);
  }

  get connections(): number {
    return this.#sessions.size;
  }

  tick(nowMs: number): void {
    for (const session of this.#sessions) session.tick(nowMs);
  }

  /** Orderly end: what is under way is answered, nothing new is taken. */
  drain(): void {
    this.#draining = true;
    for (const session of [...this.#sessions]) session.drain();
  }

  /** Ends every connection now. */
  close(): void {
    this.#draining = true;
    for (const session of [...this.#sessions]) session.close("the unit is going down");
  }

  #find(name: string, address: string): NbdExport | null {
    for (const { volume, shown } of this.#volumes.values()) {
      if (volume.name === name || volume.uuid === name) {
        return mayAttach(volume, address) ? shown : null;
      }
    }
    return null;
  }

  #list(address: string): NbdExport[] {
    return [...this.#volumes.values()]
      .filter(({ volume }) => mayAttach(volume, address))
      .map(({ shown }) => shown);
  }

  /** Reads through to the newest shape, so that a session sees a volume grow. */
  #show(first: ExportedVolume): NbdExport {
    const number = first.volume;
    const newest = () => this.#volumes.get(number)?.volume ?? first;
    return {
      get name() {
        return newest().name;
      },
      description: `Cairn volume ${first.uuid}`,
      get sizeBytes() {
        return newest().sizeBytes;
      },
      readOnly: false,
      multiConn: true,
      tls: "optional",
      target: this.#options.target(number),
    };
  }
}

function mayAttach(volume: ExportedVolume, address: string): boolean {
  return isAllowed(volume.allow, address === "unix" ? LOCAL_ADDRESS : address);
}
