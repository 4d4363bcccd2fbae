// SPDX-License-Identifier: Apache-2.0
//
// UDP for auto-configuration: one dual-stack socket on one port, member of the multicast groups on
// each link it is told of. A destination may carry its link ("ff02::1%eth0", "239.1.2.3%eth0");
// IPv4 knows no such thing, so there the link's own address is set as the way out first.
//
// Every link that can be used is used: with no IPv4 address on it only IPv6, and the other way
// round; on a machine without IPv6 the socket is IPv4 alone.

import type { DatagramSocket, DatagramSource } from "#base/datagram.ts";
import { Fault } from "#base/fault.ts";
import { type Link, listLinks } from "./network.ts";

const MAPPED_PREFIX = "::ffff:";
/** Never routed on: auto-configuration is of a link. */
const MULTICAST_TTL = 1;

export interface DatagramOptions {
  port: number;
  /** Multicast groups to join on every link. */
  groupIpv4: string;
  groupIpv6: string;
}

interface Joined {
  address4: string | null;
  has6: boolean;
}

type BunSocket = Bun.udp.Socket<"buffer">;

export class LinkDatagrams implements DatagramSocket {
  onPacket: (bytes: Uint8Array, from: DatagramSource) => void = () => {};
  readonly #socket: BunSocket;
  readonly #options: DatagramOptions;
  readonly #dual: boolean;
  readonly #joined = new Map<string, Joined>();

  /** Throws Fault badConfiguration when the port is taken. */
  static async open(options: DatagramOptions): Promise<LinkDatagrams> {
    const made: { link: LinkDatagrams | null } = { link: null };
    const socket = {
      data: (_socket: BunSocket, bytes: Buffer, port: number, address: string) => {
        made.link?.onPacket(bytes, { address: unmapped(address), port });
      },
      error: () => {
        // ICMP errors of earlier sends: UDP is a hint, who matters is asked again.
      },
    };
    for (const hostname of ["::", "0.0.0.0"]) {
      try {
        const opened = await Bun.udpSocket({ hostname, port: options.port, socket });
        opened.setBroadcast(true);
        opened.setMulticastTTL(MULTICAST_TTL);
        opened.setMulticastLoopback(false);
        made.link = new LinkDatagrams(opened, options, hostname === "::");
        return made.link;
      } catch (cause) {
        const code = (cause as { code?: string }).code;
        const noIpv6 = code === "EAFNOSUPPORT" || code === "EADDRNOTAVAIL";
        if (hostname === "::" && noIpv6) continue;
        const why = code ?? "unknown";
        throw new Fault("badConfiguration", `cannot use UDP port ${options.port} (${why})`, {
          cause,
        });
      }
    }
    throw new Fault("badMachine", "this machine has neither IPv4 nor IPv6");
  }

  private constructor(socket: BunSocket, options: DatagramOptions, dual: boolean) {
    this.#socket = socket;
    this.#options = options;
    this.#dual = dual;
  }

  get port(): number {
    return this.#socket.port;
  }

  /**
   * Joins the groups on links that are new or changed and forgets those that went away; call it
   * every few seconds. Answers the links that are in use.
   */
  refreshLinks(links: Link[] = listLinks()): Link[] {
    const usable = links.filter((link) => !link.loopback);
    const names = new Set(usable.map((link) => link.name));
    for (const name of this.#joined.keys()) if (!names.has(name)) this.#joined.delete(name);
    for (const link of usable) {
      const address4 = link.addresses.find((entry) => entry.family === 4)?.address ?? null;
      const has6 = this.#dual && link.addresses.some((entry) => entry.family === 6);
      const before = this.#joined.get(link.name);
      if (before?.address4 === address4 && before.has6 === has6) continue;
      if (address4 !== null && before?.address4 !== address4) {
        this.#join(this.#options.groupIpv4, address4);
      }
      if (has6 && before?.has6 !== true) this.#join(this.#options.groupIpv6, `::%${link.name}`);
      this.#joined.set(link.name, { address4, has6 });
    }
    return usable;
  }

  send(bytes: Uint8Array, address: string, port: number): boolean {
    const [bare, zone] = address.split("%") as [string, string | undefined];
    // A link that is gone would otherwise mean "by any link" to the socket.
    if (zone !== undefined && !this.#joined.has(zone)) return false;
    try {
      if (zone !== undefined && !bare.includes(":")) {
        const way = this.#joined.get(zone)?.address4;
        if (way === undefined || way === null) return false;
        this.#socket.setMulticastInterface(way);
        return this.#socket.send(bytes, port, bare);
      }
      return this.#socket.send(bytes, port, address);
    } catch {
      return false; // no route, or the link is down
    }
  }

  close(): void {
    this.#socket.close();
  }

  /** Joined already, by an earlier life of the link with the same number, is as good. */
  #join(group: string, way: string): void {
    try {
      this.#socket.addMembership(group, way);
    } catch (cause) {
      const code = (cause as { code?: string }).code;
      const passes = code === "EADDRINUSE" || code === "ENODEV" || code === "EADDRNOTAVAIL";
      if (!passes) throw new Fault("badMachine", `cannot join ${group} on ${way}`, { cause });
    }
  }
}

function unmapped(address: string): string {
  return address.startsWith(MAPPED_PREFIX) && address.includes(".")
    ? address.slice(MAPPED_PREFIX.length)
    : address;
}
