// SPDX-License-Identifier: Apache-2.0
//
// The lab's network: a bridge in a namespace of its own, one namespace per unit with a link on the
// bridge (for a unit that is a guest, a tap on the bridge), and one link into this machine, which
// is the host that uses volumes (and the reader's browser). Addresses are of 198.18.0.0/15, the
// range for trials of network devices (RFC 2544), which no real network has.

import { spawnSync } from "node:child_process";
import type { LabRecord } from "./lab-record.ts";

const PREFIX_BITS = 24;
const HOST_PLACE = 254;
const WIRE_PLACE = 253;
/** The unit's link inside its namespace. */
const LINK = "lan";

export class LabNetwork {
  readonly #record: LabRecord;
  readonly #wire: string;
  #wireHasAddress = false;

  constructor(record: LabRecord) {
    this.#record = record;
    this.#wire = `cairn-lab${record.number}-wire`;
    record.willMake("namespaces", this.#wire);
    ip("netns", "add", this.#wire);
    ip(...this.#onWire("link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0"));
    ip(...this.#onWire("link", "set", "bridge0", "up"));
    this.#linkThisMachine();
  }

  /** Of the bridge's network: the machine the lab runs on. */
  get hostAddress(): string {
    return this.#address(HOST_PLACE);
  }
  unitAddress(place: number): string {
    return this.#address(place);
  }
  /** The namespace of the bridge: what runs on the wire itself, such as guests, runs in it. */
  get wireNamespace(): string {
    return this.#wire;
  }
  /** The bridge's own, for what serves the wire from there. */
  wireAddress(): string {
    const address = this.#address(WIRE_PLACE);
    if (!this.#wireHasAddress) {
      ip(...this.#onWire("address", "add", `${address}/${PREFIX_BITS}`, "dev", "bridge0"));
      this.#wireHasAddress = true;
    }
    return address;
  }
  /** The link of this machine that leads to the wire. */
  get hostLink(): string {
    return `cairn-lab-${this.#record.number}`;
  }
  namespaceOf(place: number): string {
    return `cairn-lab${this.#record.number}-u${place}`;
  }

  addUnit(place: number): void {
    const namespace = this.namespaceOf(place);
    this.#record.willMake("namespaces", namespace);
    ip("netns", "add", namespace);
    ip(
      ...this.#onWire("link", "add", portOf(place), "type", "veth"),
      ...["peer", "name", LINK, "address", this.#mac(place), "netns", namespace],
    );
    ip(...this.#onWire("link", "set", portOf(place), "master", "bridge0", "up"));
    // Addresses are ours alone: nothing waits for the probe whether another has them.
    sysctl(namespace, `net.ipv6.conf.${LINK}.accept_dad=0`);
    ip("-n", namespace, "link", "set", "lo", "up");
    ip("-n", namespace, "link", "set", LINK, "up");
    const address = `${this.unitAddress(place)}/${PREFIX_BITS}`;
    ip("-n", namespace, "address", "add", address, "broadcast", "+", "dev", LINK);
  }

  /** What a DHCP server may do to a running unit: another address, the one before is gone. */
  readdress(place: number, toPlace: number): string {
    const namespace = this.namespaceOf(place);
    const [before, after] = [place, toPlace].map(
      (one) => `${this.unitAddress(one)}/${PREFIX_BITS}`,
    );
    // In this order: of two addresses of one network the second goes with the first.
    ip("-n", namespace, "address", "delete", before ?? "", "dev", LINK);
    ip("-n", namespace, "address", "add", after ?? "", "broadcast", "+", "dev", LINK);
    return this.unitAddress(toPlace);
  }
  has(place: number, address: string): boolean {
    const listed = ip("-n", this.namespaceOf(place), "-br", "address", "show", "dev", LINK);
    return listed.includes(`${address}/`);
  }
  /** All IPv6 addresses of its link are gone, as after it was set down and up. */
  forgetIpv6(place: number): void {
    ip("-n", this.namespaceOf(place), "-6", "address", "flush", "dev", LINK, "scope", "global");
  }

  /** A port on the bridge for a guest: QEMU, run in the wire's namespace, opens it by this name. */
  addGuest(place: number): { port: string; mac: string } {
    const port = portOf(place);
    ip(...this.#onWire("tuntap", "add", "dev", port, "mode", "tap"));
    ip(...this.#onWire("link", "set", port, "master", "bridge0", "up"));
    return { port, mac: this.#mac(place) };
  }

  /** What a DHCP server on the wire gives a guest. */
  guestLease(place: number): { mac: string; address: string } {
    return { mac: this.#mac(place), address: this.unitAddress(place) };
  }

  /** Pulls the unit's cable, or puts it back. */
  cut(place: number): void {
    ip(...this.#onWire("link", "set", portOf(place), "down"));
  }
  heal(place: number): void {
    ip(...this.#onWire("link", "set", portOf(place), "up"));
  }

  /** What `from` sends reaches `to` no longer; the other way stays. */
  cutOneWay(from: number, to: number): void {
    const namespace = this.namespaceOf(to);
    const table = tableOf(from);
    nft(namespace, `add table netdev ${table}`);
    nft(
      namespace,
      `add chain netdev ${table} in { type filter hook ingress device ${LINK} priority 0; }`,
    );
    nft(namespace, `add rule netdev ${table} in ether saddr ${this.#mac(from)} drop`);
  }
  healOneWay(from: number, to: number): void {
    nft(this.namespaceOf(to), `delete table netdev ${tableOf(from)}`);
  }

  #linkThisMachine(): void {
    const link = this.hostLink;
    this.#record.willMake("links", link);
    ip(...["link", "add", link, "type", "veth"], ...["peer", "name", "host", "netns", this.#wire]);
    ip(...this.#onWire("link", "set", "host", "master", "bridge0", "up"));
    ip("link", "set", link, "up");
    ip("address", "add", `${this.hostAddress}/${PREFIX_BITS}`, "dev", link);
  }

  #onWire(...words: string[]): string[] {
    return ["-n", this.#wire, ...words];
  }
  #address(place: number): string {
    return `198.18.${this.#record.number}.${place}`;
  }
  #mac(place: number): string {
    const two = (value: number) => value.toString(16).padStart(2, "0");
    return `02:ca:12:00:${two(this.#record.number)}:${two(place)}`;
  }
}

function portOf(place: number): string {
  return `port${place}`;
}

function tableOf(from: number): string {
  return `from${from}`;
}

function ip(...words: string[]): string {
  return mustRun("ip", words);
}

function nft(namespace: string, sentence: string): void {
  mustRun("ip", ["netns", "exec", namespace, "nft", sentence]);
}

function sysctl(namespace: string, setting: string): void {
  mustRun("ip", ["netns", "exec", namespace, "sysctl", "--quiet", "--write", setting]);
}

/** What it printed. */
function mustRun(command: string, words: string[]): string {
  // Of its own session: a Ctrl-C at the terminal must not leave a step half done.
  const result = spawnSync("setsid", ["--wait", command, ...words], { encoding: "utf8" });
  if (result.status === 0) return result.stdout;
  const said = result.error?.message ?? result.stderr.trim();
  throw new Error(`${command} ${words.join(" ")}: ${said === "" ? result.signal : said}`);
}
