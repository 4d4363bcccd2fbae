// SPDX-License-Identifier: Apache-2.0
//
// Sends mutated conversations (mutants.ts) to a unit's sockets: NBD, the channel between units,
// and the packets of auto-configuration. One seed, one run, as far as the order of the network is
// the same.
//
// Of the channel between units whoever calls holds the cluster's join secret, so that the other
// side computes what it would for a unit; only lanes are asked for, which a stranger is refused.

import { Prng } from "#base/prng.ts";
import { createClock } from "#machine/clock.ts";
import { createSeal } from "#machine/seal.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState, unitIdOf } from "#protocol/peer-channel/identity.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import { mutated, mutatedPacket, nbdConversation, noise, type MutantVolume } from "./mutants.ts";

/** Connections at once. */
const AT_ONCE = 16;
/** A server that neither answers nor hangs up is left after this. */
const PATIENCE_MS = 300;
const DATAGRAM_BYTES_MAX = 1400;
/** In pieces that the other side's receive buffer holds. */
const DATAGRAMS_AT_ONCE = 100;

export interface StormTarget {
  address: string;
  nbdPort: number;
  /** Where units call each other. */
  peerPort: number;
  discoveryPort: number;
  /** Its content is lost. */
  volume: MutantVolume;
  joinSecret: string;
  /** Packets that units sent; at least one. */
  heard: readonly Buffer[];
  /** Resolves when the unit has got round to what it was sent. */
  settled(): Promise<void>;
}

type End = "cut" | "finish" | "hang";

export class MutantStorm {
  readonly #target: StormTarget;
  readonly #prng: Prng;
  readonly #seal = createSeal();
  readonly #clock = createClock();
  readonly #preSharedKey: Uint8Array;
  /** Packets so far. */
  sent = 0;

  constructor(target: StormTarget, seed: number) {
    this.#target = target;
    this.#prng = new Prng(seed);
    this.#preSharedKey = joinKeys(this.#seal, target.joinSecret).link;
  }

  /** At least so many packets more, in whole conversations. */
  async nbd(packets: number): Promise<void> {
    await this.#manyAtOnce(packets, (prng) => this.#nbdConversation(prng));
  }

  async peers(packets: number): Promise<void> {
    await this.#manyAtOnce(packets, (prng) => this.#peerConversation(prng));
  }

  async discovery(packets: number): Promise<void> {
    const { heard, discoveryPort, address } = this.#target;
    const prng = this.#prng.fork();
    const socket = await Bun.udpSocket({ port: 0 });
    try {
      for (let count = 1; count <= packets; count++) {
        const bytes = prng.chance(0.1)
          ? noise(prng, prng.between(1, DATAGRAM_BYTES_MAX))
          : mutatedPacket(prng, prng.pick(heard));
        if (bytes.length > 0) socket.send(bytes, discoveryPort, address);
        this.sent++;
        if (count % DATAGRAMS_AT_ONCE === 0) await this.#target.settled();
      }
    } finally {
      socket.close();
    }
  }

  async #manyAtOnce(packets: number, converse: (prng: Prng) => Promise<void>): Promise<void> {
    const end = this.sent + packets;
    const one = async (prng: Prng) => {
      while (this.sent < end) await converse(prng);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, () => one(this.#prng.fork())));
  }

  async #nbdConversation(prng: Prng): Promise<void> {
    const { address, nbdPort, volume } = this.#target;
    const packets = mutated(prng, nbdConversation(prng, volume));
    this.sent += packets.length;
    const said = Buffer.concat(packets);
    const connection = await Connection.open(address, nbdPort, () => {});
    // Whole, or with a break somewhere.
    const at = prng.chance(0.5) ? said.length : prng.below(said.length + 1);
    connection.send(said.subarray(0, at));
    if (at < said.length) await connection.answered();
    connection.send(said.subarray(at));
    await connection.end(endOf(prng));
  }

  async #peerConversation(prng: Prng): Promise<void> {
    const { address, peerPort } = this.#target;
    let channel: PeerChannel | null = null;
    const connection = await Connection.open(address, peerPort, (bytes) => {
      channel?.receive(bytes);
    });
    // Each message has its chance, so that some are wrong in the first one and some in the last.
    const send = (bytes: Uint8Array) => {
      this.sent++;
      const whole = Buffer.from(bytes);
      connection.send(prng.chance(0.5) ? mutatedPacket(prng, whole) : whole);
    };
    channel = this.#caller(prng, send);
    await connection.answered();
    if (prng.chance(0.5)) send(noise(prng, prng.between(1, DATAGRAM_BYTES_MAX)));
    await connection.end(endOf(prng));
  }

  #caller(prng: Prng, send: (bytes: Uint8Array) => void): PeerChannel {
    const { publicKey, privateKey } = this.#seal.ed25519KeyPair();
    const own = {
      unitId: unitIdOf(this.#seal, publicKey),
      publicKey,
      privateKey,
      linkKeys: this.#seal.x25519KeyPair(),
      clusterId: noise(prng, 16),
      clusterState: ClusterState.used,
      unitNumber: prng.between(1, 9),
      featureLevel: prng.between(1, 9),
    };
    const call = prng.pick([Purpose.controlLane, Purpose.dataLane]);
    const options = { call, offers: [], own, preSharedKey: this.#preSharedKey };
    return new PeerChannel({ clock: this.#clock, seal: this.#seal }, options, {
      send,
      authenticate: () => null,
      open: () => {},
      plain: () => {},
      refused: () => {},
    });
  }
}

function endOf(prng: Prng): End {
  if (prng.chance(0.4)) return "cut";
  return prng.chance(0.9) ? "finish" : "hang";
}

/** One connection whose other end may do anything. */
class Connection {
  #socket: Bun.Socket | null = null;
  #unsent = Buffer.alloc(0);
  #isOver = false;
  #wake: () => void = () => {};

  static async open(
    hostname: string,
    port: number,
    heard: (bytes: Buffer) => void,
  ): Promise<Connection> {
    const made = new Connection();
    made.#socket = await Bun.connect({
      hostname,
      port,
      socket: {
        data: (_, bytes) => {
          heard(bytes);
          made.#wake();
        },
        drain: () => made.#flush(),
        close: () => made.#over(),
        error: () => made.#over(),
      },
    });
    return made;
  }

  send(bytes: Buffer): void {
    if (this.#isOver) return;
    this.#unsent = Buffer.concat([this.#unsent, bytes]);
    this.#flush();
  }

  /** Something came, or nothing did for long enough, or it is over. */
  async answered(): Promise<void> {
    if (this.#isOver) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }

  /** Resolves when it is over. */
  async end(how: End): Promise<void> {
    if (how === "cut") this.#socket?.terminate();
    if (how === "finish") this.#socket?.end();
    if (!this.#isOver && how !== "cut") await this.answered();
    this.#socket?.terminate();
  }

  #flush(): void {
    if (this.#unsent.length === 0 || this.#isOver) return;
    const took = Math.max(0, this.#socket?.write(this.#unsent) ?? 0);
    this.#unsent = this.#unsent.subarray(took);
  }

  #over(): void {
    this.#isOver = true;
    this.#wake();
  }
}
