// SPDX-License-Identifier: Apache-2.0
//
// DatagramSocket: UDP as auto-configuration sees it. Control thread only. Implemented by machine
// over the kernel's sockets, and by whoever simulates a link.

export interface DatagramSource {
  /** IP address as text; IPv6 link-local ones carry their interface ("fe80::1%eth0"). */
  address: string;
  port: number;
}

export interface DatagramSocket {
  readonly port: number;
  /** A packet came in; the bytes are the handler's only until it returns. */
  onPacket: (bytes: Uint8Array, from: DatagramSource) => void;
  /**
   * False when the kernel refused (no route, no buffer): UDP is a hint, the caller sends again
   * later.
   */
  send(bytes: Uint8Array, address: string, port: number): boolean;
  close(): void;
}
