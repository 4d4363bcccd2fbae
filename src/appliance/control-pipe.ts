// SPDX-License-Identifier: Apache-2.0
//
// Message pipes between control threads: the channel that proves and encrypts
// (protocol/peer-channel) over TCP, with the cluster's message framing on it. Used to join a
// cluster, to reach the control store through a voter, to look at another cluster before giving way
// to it, to pass on the files of an update, and to ask units for their figures.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import { StreamPipe } from "#cluster/message-pipe.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import type { ControlSocket } from "#machine/control-socket.ts";
import { connectControl } from "#machine/control-socket.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import type { Unwelcome } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import type { RefusalCode } from "#protocol/peer-channel/refusal.ts";

const HANDSHAKE_TICK_MS = 500;
/** What only units of the same cluster may call for. */
export const OF_UNITS: readonly Purpose[] = [
  Purpose.controlProxy,
  Purpose.artefacts,
  Purpose.neighbour,
];
/** What a control port is called for; who may is asked once the caller has proved itself. */
const OFFERS: readonly Purpose[] = [
  Purpose.join,
  Purpose.meet,
  Purpose.adopt,
  Purpose.generation,
  ...OF_UNITS,
];

export interface PipeSecurity {
  timers: Timers;
  /** As it is at the moment: a unit that joins becomes another. */
  own(): OwnIdentity;
  preSharedKey: Uint8Array;
  /** Of what only units of one generation call for; not said: as the others. */
  generationKey?(): Uint8Array;
  /** What says why not. */
  authenticate(peer: PeerIdentity): Unwelcome | null;
}

interface PipeOptions {
  call: Purpose | null;
  expectUnitId: Uint8Array | null;
  opened(pipe: MessagePipe, peer: PeerIdentity): void;
  /** It never opened; `by`: the code of somebody who proved itself and refused. */
  failed(reason: string, by: RefusalCode | null): void;
}

function keyFor(security: PipeSecurity, purpose: Purpose): Uint8Array {
  const { preSharedKey, generationKey } = security;
  return OF_UNITS.includes(purpose) ? (generationKey?.() ?? preSharedKey) : preSharedKey;
}

/** Puts a channel and a pipe on a fresh connection. */
function makePipe(
  world: Pick<World, "clock" | "seal">,
  socket: ControlSocket,
  security: PipeSecurity,
  options: PipeOptions,
): void {
  let pipe: StreamPipe | null = null;
  let over = false;
  const ended = (reason: string, by: RefusalCode | null = null) => {
    if (over) return;
    over = true;
    socket.close();
    if (pipe === null) options.failed(reason, by);
    else pipe.ended(reason);
  };
  const channel = new PeerChannel(
    world,
    {
      call: options.call,
      offers: OFFERS,
      own: security.own(),
      preSharedKey: (purpose) => keyFor(security, purpose),
      ...(options.expectUnitId === null ? {} : { expectUnitId: options.expectUnitId }),
    },
    {
      send: (bytes) => void socket.send(bytes),
      authenticate: (peer) => security.authenticate(peer),
      open: (peer) => {
        pipe = new StreamPipe({
          send: (bytes) => void socket.send(channel.seal([bytes])),
          queuedBytes: () => socket.queuedBytes,
          close: () => {
            over = true;
            socket.close();
          },
        });
        options.opened(pipe, peer);
      },
      plain: (bytes) => pipe?.received(bytes.slice()),
      refused: (refusal) => {
        const { byPeer, proved, code, sentence } = refusal;
        ended(sentence, byPeer && proved ? code : null);
      },
    },
  );
  socket.onBytes = (bytes) => channel.receive(bytes);
  socket.onClose = (reason) => ended(reason);
  tickHandshake();

  function tickHandshake(): void {
    security.timers.after(HANDSHAKE_TICK_MS, () => {
      if (over || channel.isOpen) return;
      channel.tick();
      tickHandshake();
    });
  }
}

/**
 * Calls another unit's control port. Rejects with a Fault that says why: removed or forbidden where
 * a proved unit refused, notAuthentic or notReady where none was reached.
 */
export async function callUnit(
  world: Pick<World, "clock" | "seal">,
  security: PipeSecurity,
  to: { address: string; port: number; purpose: Purpose; unitId: Uint8Array | null },
): Promise<{ pipe: MessagePipe; peer: PeerIdentity }> {
  const socket = await connectControl(to.address, to.port);
  return new Promise((resolve, reject) => {
    makePipe(world, socket, security, {
      call: to.purpose,
      expectUnitId: to.unitId,
      opened: (pipe, peer) => resolve({ pipe, peer }),
      failed: (reason, by) => {
        const refused = by === "removed" ? "removed" : "forbidden";
        reject(new Fault(by === null ? "notAuthentic" : refused, `${to.address}: ${reason}`));
      },
    });
  });
}

/** Answers a call; `opened` must set the pipe's callbacks. */
export function answerUnit(
  world: Pick<World, "clock" | "seal" | "log">,
  security: PipeSecurity,
  socket: ControlSocket,
  opened: (pipe: MessagePipe, peer: PeerIdentity) => void,
): void {
  makePipe(world, socket, security, {
    call: null,
    expectUnitId: null,
    opened,
    failed: (reason) =>
      world.log.write("info", "a connection to the control port was refused", {
        from: socket.peerAddress,
        reason,
      }),
  });
}
