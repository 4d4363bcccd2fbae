// SPDX-License-Identifier: Apache-2.0
//
// Sends syslog messages by UDP (RFC 5426): each in a datagram, whether somebody listens or not.

import { type Socket, createSocket } from "node:dgram";

export class SyslogSocket {
  readonly #sockets = new Map<"udp4" | "udp6", Socket>();

  send(line: string, to: { address: string; port: number }): void {
    const family = to.address.includes(":") ? "udp6" : "udp4";
    this.#socket(family).send(line, to.port, to.address, () => {
      // Nobody there, or no way: the log on this machine has it all the same.
    });
  }

  #socket(family: "udp4" | "udp6"): Socket {
    const known = this.#sockets.get(family);
    if (known !== undefined) return known;
    const socket = createSocket(family);
    socket.on("error", () => this.#sockets.delete(family));
    socket.unref();
    this.#sockets.set(family, socket);
    return socket;
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }
}
