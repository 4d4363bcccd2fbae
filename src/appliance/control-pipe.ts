// SPDX-License-Identifier: Apache-2.0
//
// Messages between control threads: JSON objects over an authenticated, encrypted channel. Used to join
// a cluster and to reach the control store through a voter.
//
// Frame: length (4 bytes, little-endian, at most MESSAGE_BYTES_MAX), then that many bytes of JSON.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { ControlSocket } from "#machine/control-socket.ts";
import { connectControl } from "#machine/control-socket.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";

/** One message, bytes: the whole control state fits. */
export const MESSAGE_BYTES_MAX = 16 << 20;
const LENGTH_BYTES = 4;
const HANDSHAKE_TICK_MS = 500;

export interface ControlPipe {
  readonly peer: PeerIdentity;
  onMessage: (message: unknown) => void;
  onClose: (reason: string) => void;
  /** False once the pipe is over. */
  send(message: object): boolean;
  close(): void;
}

export interface PipeSecurity {
  timers: Timers;
  own: OwnIdentity;
  preSharedKey: Uint8Array;
  /** A sentence says why not. */
  authenticate(peer: PeerIdentity): string | null;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

class ChannelPipe implements ControlPipe {
  onMessage: (message: unknown) => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #socket: ControlSocket;
  readonly #channel: PeerChannel;
  #peer: PeerIdentity | null = null;
  #parts: Uint8Array[] = [];
  #have = 0;
  #over = false;

  constructor(
    world: Pick<World, "clock" | "seal">,
    socket: ControlSocket,
    security: PipeSecurity,
    options: { call: Purpose | null; expectUnitId: Uint8Array | null; opened: () => void },
  ) {
    this.#socket = socket;
    socket.onBytes = (bytes) => this.#channel.receive(bytes);
    socket.onClose = (reason) => this.#end(reason);
    this.#channel = new PeerChannel(
      world,
      {
        call: options.call,
        offers: [Purpose.join, Purpose.controlProxy, Purpose.meet],
        own: security.own,
        preSharedKey: security.preSharedKey,
        ...(options.expectUnitId === null ? {} : { expectUnitId: options.expectUnitId }),
      },
      {
        send: (bytes) => void socket.send(bytes),
        authenticate: (peer) => security.authenticate(peer),
        open: (peer) => {
          this.#peer = peer;
          options.opened();
        },
        plain: (bytes) => this.#plain(bytes),
        refused: (refusal) => this.#end(refusal.sentence),
      },
    );
    this.#tickHandshake(security.timers);
  }

  get peer(): PeerIdentity {
    if (this.#peer === null) throw new Error("the pipe is not open yet");
    return this.#peer;
  }

  send(message: object): boolean {
    if (this.#over || !this.#channel.isOpen) return false;
    const body = encoder.encode(JSON.stringify(message));
    if (body.length > MESSAGE_BYTES_MAX) throw new Fault("tooLarge", "a message between units");
    const length = new Uint8Array(LENGTH_BYTES);
    new DataView(length.buffer).setUint32(0, body.length, true);
    return this.#socket.send(this.#channel.seal([length, body]));
  }

  close(): void {
    this.#end("closed here");
  }

  #tickHandshake(timers: Timers): void {
    timers.after(HANDSHAKE_TICK_MS, () => {
      if (this.#over || this.#channel.isOpen) return;
      this.#channel.tick();
      this.#tickHandshake(timers);
    });
  }

  #plain(bytes: Uint8Array): void {
    this.#parts.push(bytes.slice());
    this.#have += bytes.length;
    for (;;) {
      if (this.#over || this.#have < LENGTH_BYTES) return;
      const all = this.#joined();
      const length = new DataView(all.buffer, all.byteOffset).getUint32(0, true);
      if (length > MESSAGE_BYTES_MAX) return this.#end("a message that is too long");
      if (this.#have < LENGTH_BYTES + length) return;
      this.#parts = [all.subarray(LENGTH_BYTES + length)];
      this.#have -= LENGTH_BYTES + length;
      this.#deliver(all.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
    }
  }

  /** One piece only where a message may be whole: pieces are not joined again and again. */
  #joined(): Uint8Array {
    const first = this.#parts[0] as Uint8Array;
    if (this.#parts.length === 1) return first;
    if (first.length >= LENGTH_BYTES) {
      const wanted = new DataView(first.buffer, first.byteOffset).getUint32(0, true);
      if (wanted <= MESSAGE_BYTES_MAX && this.#have < LENGTH_BYTES + wanted) return first;
    }
    const all = new Uint8Array(this.#have);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    this.#parts = [all];
    return all;
  }

  #deliver(body: Uint8Array): void {
    let message: unknown;
    try {
      message = JSON.parse(decoder.decode(body));
    } catch {
      return this.#end("a message that is no JSON");
    }
    this.onMessage(message);
  }

  #end(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#parts = [];
    this.#socket.close();
    this.onClose(reason);
  }
}

/** Calls another unit's control port; rejects with a Fault that says who refused and why. */
export async function callUnit(
  world: Pick<World, "clock" | "seal">,
  security: PipeSecurity,
  to: { address: string; port: number; purpose: Purpose; unitId: Uint8Array | null },
): Promise<ControlPipe> {
  const socket = await connectControl(to.address, to.port);
  return new Promise((resolve, reject) => {
    const pipe: ChannelPipe = new ChannelPipe(world, socket, security, {
      call: to.purpose,
      expectUnitId: to.unitId,
      opened: () => {
        pipe.onClose = () => {};
        resolve(pipe);
      },
    });
    pipe.onClose = (reason) => reject(new Fault("notAuthentic", `${to.address}: ${reason}`));
  });
}

/** Answers a call; `opened` must set the pipe's callbacks. */
export function answerUnit(
  world: Pick<World, "clock" | "seal" | "log">,
  security: PipeSecurity,
  socket: ControlSocket,
  opened: (pipe: ControlPipe) => void,
): void {
  const pipe: ChannelPipe = new ChannelPipe(world, socket, security, {
    call: null,
    expectUnitId: null,
    opened: () => {
      pipe.onClose = () => {};
      opened(pipe);
    },
  });
  pipe.onClose = (reason) => {
    world.log.write("info", "a connection to the control port was refused", {
      from: socket.peerAddress,
      reason,
    });
  };
}
