// SPDX-License-Identifier: Apache-2.0
//
// What a link between units costs without the kernel: a write of 4 KiB to a member and its answer,
// encoded and decoded at both ends; plain, which no link is, and sealed, as all are. Verbs of one
// turn leave in one record, so that the cost per write falls with how many there are.

import { Memory } from "#base/memory.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import { createClock } from "#machine/clock.ts";
import { createSeal } from "#machine/seal.ts";
import { PeerChannel } from "#protocol/peer-channel/channel.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState, unitIdOf, type OwnIdentity } from "#protocol/peer-channel/identity.ts";
import { VerbDecoder, encodeHead, headBytes } from "#protocol/peer/codec.ts";

const BLOCK_BYTES = 4096;
const BATCHES = [1, 4, 16, 32];
/** Of each batch size, twice: the first time the engine compiles. */
const WRITES = 40_000;
const ARENA_BYTES = 4 << 20;

const world = { clock: createClock(), seal: createSeal() };

/** One end: what it is given as the stream's next bytes is decoded, and let go. */
class End {
  readonly memory = new Memory(new ArrayBuffer(ARENA_BYTES));
  readonly channel: PeerChannel;
  readonly #decoder = new VerbDecoder(this.memory, (verb) => {
    this.heard++;
    if (verb.payloadBytes > 0) this.memory.release(verb.bufferOffset);
  });
  readonly #payload = this.memory.allocate(BLOCK_BYTES);
  heard = 0;
  other: End | null = null;

  constructor(call: Purpose | null) {
    const options = { call, offers: [Purpose.dataLane], own: identity(call === null ? 1 : 2) };
    this.channel = new PeerChannel(
      world,
      { ...options, preSharedKey: new Uint8Array(32) },
      {
        send: (bytes) => queueMicrotask(() => this.other?.channel.receive(bytes)),
        authenticate: () => null,
        open: () => {},
        plain: (bytes) => this.take(bytes),
        refused: ({ sentence }) => {
          throw new Error(sentence);
        },
      },
    );
  }

  take(bytes: Uint8Array): void {
    this.#decoder.feed(bytes);
  }

  /** As PeerLane's #sealBatch puts them together. */
  say(kind: VerbKind, count: number, isSealed: boolean): void {
    const pieces: Uint8Array[] = [];
    for (let index = 0; index < count; index++) {
      const verb = this.#verb(kind, index);
      const head = new Uint8Array(headBytes(verb));
      encodeHead(verb, head, 0);
      pieces.push(head);
      if (verb.payloadBytes === 0) continue;
      const from = verb.bufferOffset;
      pieces.push(this.memory.bytes.subarray(from, from + verb.payloadBytes));
    }
    const other = this.other as End;
    if (isSealed) other.channel.receive(this.channel.seal(pieces));
    else other.take(Buffer.concat(pieces));
  }

  #verb(kind: VerbKind, index: number): PeerVerb {
    const verb = new PeerVerb();
    verb.kind = kind;
    verb.slice = 1;
    verb.sequence = index + 1;
    verb.epoch = 1;
    verb.lineage = 1;
    if (kind !== VerbKind.write) return verb;
    verb.lengthBytes = verb.payloadBytes = BLOCK_BYTES;
    verb.bufferOffset = this.#payload;
    return verb;
  }
}

function identity(unitNumber: number): OwnIdentity {
  const { publicKey, privateKey } = world.seal.ed25519KeyPair();
  return {
    unitId: unitIdOf(world.seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: world.seal.x25519KeyPair(),
    clusterId: new Uint8Array(16).fill(1),
    clusterState: ClusterState.used,
    unitNumber,
    featureLevel: 1,
  };
}

export async function linkCost(tell: (line: string) => void): Promise<void> {
  const head = new End(Purpose.dataLane);
  const member = new End(null);
  head.other = member;
  member.other = head;
  for (let turn = 0; turn < 16 && !head.channel.isOpen; turn++) await Promise.resolve();
  tell("\n## A link between units: a 4k write to a member and its answer, both ends, one core\n");
  tell("| Writes in a turn | plain, µs per write | sealed, µs per write |");
  tell("|---|---:|---:|");
  for (const batch of BATCHES) {
    const costs = [false, true].map((isSealed) => {
      microsPerWrite(head, member, batch, isSealed);
      return microsPerWrite(head, member, batch, isSealed).toFixed(1);
    });
    tell(`| ${[batch, ...costs].join(" | ")} |`);
  }
}

function microsPerWrite(head: End, member: End, batch: number, isSealed: boolean): number {
  const before = process.cpuUsage();
  const heardBefore = member.heard;
  for (let done = 0; done < WRITES; done += batch) {
    head.say(VerbKind.write, batch, isSealed);
    member.say(VerbKind.done, batch, isSealed);
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / (member.heard - heardBefore);
}
