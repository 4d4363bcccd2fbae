// SPDX-License-Identifier: Apache-2.0
//
// What the TLS relay says to the reactor on their pair of sockets once TLS is there, before any
// byte of the host's: whose certificate was shown. The pair is within this process, so nobody else
// can say it.
//
// | Offset | Bytes | Meaning |
// |---|---|---|
// | 0 | 32 | SHA-256 of the certificate, of the cluster's own authority; zeros: none was shown |

import type { Memory } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";

const IDENTITY_BYTES = 32;

/** As the relay writes it; null: none was shown. */
export function identityBytes(fingerprint: string | null): Uint8Array {
  const bytes = new Uint8Array(IDENTITY_BYTES);
  if (fingerprint !== null) bytes.setFromHex(fingerprint);
  return bytes;
}

/**
 * Takes it from the reactor's end, which is the callee's until `done`: with the socket as it goes
 * on, or null where TLS did not come about (the relay gives up in time); and with the certificate,
 * hex, or null.
 */
export function receiveIdentity(
  memory: Pick<Memory, "bytes">,
  socket: StreamSocket,
  done: (plain: StreamSocket | null, certificate: string | null) => void,
): void {
  socket.onClose = () => done(null, null);
  socket.onBytes = (at, lengthBytes) => {
    if (lengthBytes < IDENTITY_BYTES) return 0;
    const said = memory.bytes.slice(at, at + IDENTITY_BYTES);
    // What comes behind it is presented to whoever listens next.
    done(socket, said.some((byte) => byte !== 0) ? said.toHex() : null);
    return IDENTITY_BYTES;
  };
}
