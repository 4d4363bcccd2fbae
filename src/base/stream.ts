// SPDX-License-Identifier: Apache-2.0
//
// StreamSocket: a connected byte stream as the data path sees it (a host's NBD connection, a link
// between units). Implemented by machine's reactor over the ring, and by whoever simulates one.
// Everything happens on the reactor's thread, by callback; no promise.
//
// Ownership: a buffer handed to `send` or `receiveInto` belongs to the socket until its `done`.
// `done` and `onClose` are never called from within the call that caused them; `onBytes` may call
// any method. After the end every pending `done` comes with Status.linkLost, then `onClose` exactly
// once, when nothing of the socket is in the kernel any more. A send after the end is answered with
// linkLost.

import type { Status } from "./status.ts";

export interface StreamSocket {
  /** The other side as text: an IP address without brackets, or "unix". */
  readonly peerAddress: string;
  /** 0 for a unix socket. */
  readonly peerPort: number;
  /**
   * For how long the other machine has not been heard although it is asked every second, ms: not
   * even its kernel, so it cannot be reached. 0 for a unix socket.
   */
  readonly unheardMs: number;
  /** Bytes queued by send and not yet taken by the kernel (back-pressure, R13). */
  readonly queuedBytes: number;
  /**
   * `lengthBytes` received bytes lie at `bufferOffset` in Memory, in the socket's own receive
   * buffer. Answers how many of them are used up; the rest is presented again at once if some were
   * used, else with more behind it. They may be moved between two calls. A handler that needs more
   * bytes than the receive buffer holds at once must take them by receiveInto.
   */
  onBytes: (bufferOffset: number, lengthBytes: number) => number;
  /** The connection is over; `reason` is for the log. */
  onClose: (reason: string) => void;
  /**
   * The next `lengthBytes` bytes after what onBytes has used up (called from within onBytes: after
   * what that call will have used up) go to `bufferOffset` without passing through the receive
   * buffer, except those that already lie there. One at a time. Goes on while receiving is paused.
   */
  receiveInto(bufferOffset: number, lengthBytes: number, done: (status: Status) => void): void;
  /** No more onBytes until resumeReceive; the sender is held back by its window (R13). */
  pauseReceive(): void;
  resumeReceive(): void;
  /**
   * Queues bytes for sending, in order; what is queued within one turn leaves together. `done` when
   * the kernel has taken them all (the buffer is free again) or the connection is over.
   */
  send(bufferOffset: number, lengthBytes: number, done: ((status: Status) => void) | null): void;
  /**
   * Gives the connection away, with nothing queued and receiving paused: `done` with the machine's
   * name for it (a file descriptor), which is the caller's to close, and the socket is over without
   * a word. Null where the connection is over already, or where bytes came that nobody used up;
   * then it is closed. onClose is not called any more.
   */
  detach(done: (handle: number | null) => void): void;
  /** Ends the connection now; what is still queued is dropped. Idempotent. */
  close(): void;
  /** Ends the connection once everything queued has been taken by the kernel. Idempotent. */
  finish(): void;
}
