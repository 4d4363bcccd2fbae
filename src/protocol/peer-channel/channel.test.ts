// SPDX-License-Identifier: Apache-2.0
//
// The channel end to end: opening, every refusal with its reason, records at every split, and what
// an attacker on the way can do (change, repeat, reflect, feed garbage).

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FRAME, FrameKind, Purpose, RECORD_BYTES_MAX } from "./channel.wire.ts";
import { PeerChannel, sealedLengthBytes } from "./channel.ts";
import type { ChannelEffects, ChannelOptions } from "./channel.ts";
import { ClusterState, readIdentity, readRefusal, unitIdOf } from "./identity.ts";
import { writeIdentity, writeRefusal } from "./identity.ts";
import type { OwnIdentity, PeerIdentity } from "./identity.ts";
import { seededSeal, toHex } from "./node-seal.test.ts";
import type { Refusal } from "./refusal.ts";
import { joinKeys } from "./secret.ts";

const seal = seededSeal(7);
const psk = joinKeys(seal, "a secret long enough").link;
const otherPsk = joinKeys(seal, "a different long one").link;
const CLUSTER = new Uint8Array(16).fill(0xc1);
const OTHER_CLUSTER = new Uint8Array(16).fill(0xc2);
const NONE = new Uint8Array(16);

function unit(changes: Partial<OwnIdentity> = {}): OwnIdentity {
  const { publicKey, privateKey } = seal.ed25519KeyPair();
  return {
    unitId: unitIdOf(seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: seal.x25519KeyPair(),
    clusterId: CLUSTER,
    clusterState: ClusterState.used,
    unitNumber: 1,
    featureLevel: 3,
    ...changes,
  };
}
const unformed = { clusterId: NONE, clusterState: ClusterState.none, unitNumber: 0 };

class End implements ChannelEffects {
  nowMs = 0;
  readonly out: Uint8Array[] = [];
  readonly received: Uint8Array[] = [];
  readonly met: PeerIdentity[] = [];
  opened: PeerIdentity | null = null;
  refusal: Refusal | null = null;
  unwelcome: string | null = null;
  readonly channel: PeerChannel;

  constructor(options: Partial<ChannelOptions> = {}, unwelcome: string | null = null) {
    this.unwelcome = unwelcome;
    const clock = { nowMs: () => this.nowMs, wallMs: () => 0 };
    const offers = Object.values(Purpose);
    const whole = { call: null, offers, own: unit(), preSharedKey: psk, ...options };
    this.channel = new PeerChannel({ clock, seal }, whole, this);
  }
  send(bytes: Uint8Array): void {
    this.out.push(bytes.slice());
  }
  authenticate(peer: PeerIdentity): string | null {
    this.met.push(peer);
    return this.unwelcome;
  }
  open(peer: PeerIdentity): void {
    this.opened = peer;
  }
  plain(bytes: Uint8Array): void {
    this.received.push(bytes.slice());
  }
  refused(refusal: Refusal): void {
    expect(this.refusal).toBeNull();
    this.refusal = refusal;
  }
  get text(): string {
    return toHex(Buffer.concat(this.received));
  }
}

function settle(caller: End, called: End): void {
  while (caller.out.length + called.out.length > 0) {
    for (const bytes of caller.out.splice(0)) called.channel.receive(bytes);
    for (const bytes of called.out.splice(0)) caller.channel.receive(bytes);
  }
}

type Side = Partial<ChannelOptions>;
function meet(caller: Side = {}, called: Side = {}): [End, End] {
  const left = new End({ call: Purpose.controlLane, ...caller });
  const right = new End(called);
  settle(left, right);
  return [left, right];
}

const text = (words: string) => new TextEncoder().encode(words);

describe("opening a channel", () => {
  test("same secret, same cluster → open on both ends, each knows the other", () => {
    const [left, right] = meet({ own: unit({ unitNumber: 7 }) });
    expect(left.channel.isOpen && right.channel.isOpen).toBe(true);
    expect(right.opened?.unitNumber).toBe(7);
    expect(right.opened?.purpose).toBe(Purpose.controlLane);
    expect(left.met.length + right.met.length).toBe(2);
    right.channel.receive(left.channel.seal([text("over "), text("there")]));
    left.channel.receive(right.channel.seal([text("and back")]));
    expect(right.text).toBe(toHex(text("over there")));
    expect(left.text).toBe(toHex(text("and back")));
  });

  test("bytes one by one → the same", () => {
    const left = new End({ call: Purpose.dataLane });
    const right = new End();
    const drip = (from: End, to: End) => {
      for (const byte of Buffer.concat(from.out.splice(0))) to.channel.receive(Uint8Array.of(byte));
    };
    for (let turn = 0; turn < 3; turn++) {
      drip(left, right);
      drip(right, left);
    }
    expect(left.channel.isOpen).toBe(true);
    for (const byte of left.channel.seal([text("drip")]))
      right.channel.receive(Uint8Array.of(byte));
    expect(right.text).toBe(toHex(text("drip")));
  });

  const none = unit(unformed);
  const cases: [string, Side, Side, string][] = [
    ["another secret", { preSharedKey: otherPsk }, {}, "notAuthentic"],
    ["another cluster", { own: unit({ clusterId: OTHER_CLUSTER }) }, {}, "wrongCluster"],
    ["a lane of a unit without cluster", { own: none }, {}, "notFormed"],
    ["a purpose not offered", {}, { offers: [Purpose.join] }, "wrongPurpose"],
    ["two levels apart", { own: unit({ featureLevel: 1 }) }, {}, "versionsApart"],
    ["join although in a cluster", { call: Purpose.join }, {}, "wrongCluster"],
    [
      "join at a unit of no cluster",
      { call: Purpose.join, own: none },
      { own: unit(unformed) },
      "notFormed",
    ],
    ["meet within one cluster", { call: Purpose.meet }, {}, "wrongCluster"],
    ["another unit than called", { expectUnitId: CLUSTER }, {}, "otherUnit"],
  ];
  for (const [name, caller, called, code] of cases) {
    test(`${name} → ${code}, on both ends, and no channel`, () => {
      const [left, right] = meet(caller, called);
      expect([left.refusal?.code, right.refusal?.code]).toEqual([code, code] as never);
      expect([left.opened, right.opened]).toEqual([null, null]);
      expect(left.refusal?.byPeer).toBe(!right.refusal?.byPeer);
      expect(left.refusal?.sentence.length).toBeGreaterThan(20);
    });
  }

  test("a key that did not sign, or an id that is not its key's → wrong identity", () => {
    const { publicKey } = seal.ed25519KeyPair();
    const borrowed = { publicKey, unitId: unitIdOf(seal, publicKey) };
    for (const own of [unit(borrowed), unit({ unitId: new Uint8Array(16).fill(9) })]) {
      expect(meet({ own })[1].refusal?.code).toBe("wrongIdentity");
      expect(meet({}, { own })[0].refusal?.code).toBe("wrongIdentity");
    }
  });

  test("a signature in another handshake, role or under another link key → worth nothing", () => {
    const own = unit();
    const handshakeHash = seal.sha256(text("this handshake"));
    const context = { initiator: true, handshakeHash, staticKey: own.linkKeys.publicKey };
    const written = writeIdentity(seal, own, { purpose: Purpose.meet, ...context });
    expect(readIdentity(seal, written, context)?.unitId).toEqual(own.unitId);
    const otherHash = seal.sha256(text("another one"));
    expect(readIdentity(seal, written, { ...context, handshakeHash: otherHash })).toBeNull();
    expect(readIdentity(seal, written, { ...context, initiator: false })).toBeNull();
    const staticKey = seal.x25519KeyPair().publicKey;
    expect(readIdentity(seal, written, { ...context, staticKey })).toBeNull();
  });

  test("join of a unit without cluster, meet of two clusters, one level apart → open", () => {
    const fits: [Side, Side][] = [
      [{ call: Purpose.join, own: none }, {}],
      [{ call: Purpose.meet, own: unit({ clusterId: OTHER_CLUSTER }) }, {}],
      [{ own: unit({ featureLevel: 2 }) }, {}],
    ];
    for (const [caller, called] of fits) expect(meet(caller, called)[0].opened).not.toBeNull();
  });

  test("not admitted → the responder's own sentence arrives, proved", () => {
    const left = new End({ call: Purpose.join, own: none });
    const right = new End({}, "the window for joining is closed");
    settle(left, right);
    expect(left.refusal).toEqual({
      code: "notAdmitted",
      sentence: "the window for joining is closed",
      byPeer: true,
      proved: true,
    });
  });

  test("the caller does not want who answered → its own identity never leaves", () => {
    const left = new End({ call: Purpose.controlLane }, "not in the list of units");
    const right = new End();
    settle(left, right);
    expect(left.refusal?.code).toBe("notAdmitted");
    expect(right.met).toEqual([]);
    expect(right.refusal?.proved).toBe(false);
  });

  test("a handshake that stands still → too slow after 5 s; an open channel never", () => {
    const left = new End({ call: Purpose.controlLane });
    left.nowMs = 5001;
    left.channel.tick();
    expect(left.refusal?.code).toBe("tooSlow");
    const [open] = meet();
    open.nowMs = 1e9;
    open.channel.tick();
    expect(open.channel.isOpen).toBe(true);
  });
});

describe("an attacker on the way", () => {
  test("our own hello sent back to us → ourselves", () => {
    const own = unit();
    const left = new End({ call: Purpose.controlLane, own });
    const mirror = new End({ own });
    settle(left, mirror);
    expect(left.refusal?.code).toBe("ourselves");
    expect(mirror.opened).toBeNull();
  });

  test("frames of our own sent back as if they were the answer → refused", () => {
    const left = new End({ call: Purpose.controlLane });
    const hello = left.out[0] as Uint8Array;
    left.channel.receive(hello);
    expect(left.refusal?.code).toBe("malformed");
  });

  test("a whole recorded handshake played again → not authentic, nobody is admitted", () => {
    const left = new End({ call: Purpose.controlLane });
    const right = new End();
    const recorded: Uint8Array[] = [];
    while (left.out.length > 0) {
      const bytes = left.out.shift() as Uint8Array;
      recorded.push(bytes);
      right.channel.receive(bytes);
      for (const answer of right.out.splice(0)) left.channel.receive(answer);
    }
    expect(right.channel.isOpen).toBe(true);
    const victim = new End({ own: unit() });
    for (const bytes of recorded) victim.channel.receive(bytes);
    expect(victim.refusal?.code).toBe("notAuthentic");
    expect(victim.opened).toBeNull();
  });

  test("any byte of the handshake changed → never open on both ends", () => {
    const sizes = [0, 1, 2].map((turn) => handshakeFrame(turn).length);
    for (const [turn, size] of sizes.entries()) {
      for (let at = 0; at < size; at += 5) {
        const [left, right] = changedHandshake(turn, at);
        expect(left.channel.isOpen && right.channel.isOpen).toBe(false);
        expect(left.received.length + right.received.length).toBe(0);
      }
    }
  });

  test("a record changed, repeated, left out or retyped → broken record, then silence", () => {
    const broken: ((one: Uint8Array, two: Uint8Array) => Uint8Array[])[] = [
      (one) => [one.map((byte, at) => (at === one.length - 1 ? byte ^ 1 : byte))],
      (one) => [one.map((byte, at) => (at === 5 ? 1 : byte))],
      (one) => [one, one],
      (_one, two) => [two],
      (one) => [one.map((byte, at) => (at === 4 ? FrameKind.accept : byte))],
    ];
    for (const change of broken) {
      const [left, right] = meet();
      const records = ["one", "two"].map((words) => left.channel.seal([text(words)]));
      for (const bytes of change(records[0] as Uint8Array, records[1] as Uint8Array)) {
        right.channel.receive(bytes);
      }
      expect(right.refusal?.code).toBe("brokenRecord");
      expect(["", toHex(text("one"))]).toContain(right.text);
      right.channel.receive(records[1] as Uint8Array);
      expect(right.received.length).toBeLessThan(2);
    }
  });

  test("a length past the maximum → refused from the header alone", () => {
    const right = new End();
    const header = new Uint8Array(FRAME.size);
    const view = FRAME.view().at(header, 0);
    view.kind = FrameKind.hello;
    view.lengthBytes = 0xffffffff;
    right.channel.receive(header);
    expect(right.refusal?.code).toBe("malformed");
  });

  test("garbage in any state, cut anywhere → no throw, no channel", () => {
    const any = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 });
    fc.assert(
      fc.property(any, fc.nat(3), fc.boolean(), (pieces, steps, plausible) => {
        const left = new End({ call: Purpose.controlLane });
        const right = new End();
        for (let step = 0; step < steps; step++) {
          const [from, to] = step % 2 === 0 ? [left, right] : [right, left];
          for (const bytes of from.out.splice(0)) to.channel.receive(bytes);
        }
        for (const end of [left, right]) {
          if (plausible && pieces[0] !== undefined) frameUp(pieces[0], end);
          for (const piece of pieces) end.channel.receive(piece);
        }
        expect(left.received.length + right.received.length).toBe(0);
      }),
      { numRuns: 1500 },
    );
  });

  test("a refusal with control characters or a wrong length → nothing odd reaches a screen", () => {
    const clean = readRefusal(writeRefusal("notAdmitted", "no\u001b[2J way"));
    expect(clean.sentence).toBe("no [2J way");
    const long = writeRefusal("notAdmitted", "ü".repeat(300));
    expect(readRefusal(long).sentence).toBe("ü".repeat(120));
    expect(readRefusal(long.subarray(0, 30)).code).toBe("malformed");
    expect(readRefusal(new Uint8Array(0)).code).toBe("malformed");
  });
});

/** Makes the piece a frame of a kind that this end may expect. */
function frameUp(piece: Uint8Array, end: End): void {
  if (piece.length < FRAME.size) return;
  const view = FRAME.view().at(piece, 0).clear();
  view.lengthBytes = piece.length - FRAME.size;
  const kinds = [FrameKind.hello, FrameKind.handshake, FrameKind.refusal, FrameKind.record];
  view.kind = kinds[(piece.length + (end.opened === null ? 0 : 1)) % kinds.length] as FrameKind;
}

function handshakeFrame(turn: number): Uint8Array {
  const left = new End({ call: Purpose.controlLane });
  const right = new End();
  for (let step = 0; step < turn; step++) {
    const [from, to] = step % 2 === 0 ? [left, right] : [right, left];
    for (const bytes of from.out.splice(0)) to.channel.receive(bytes);
  }
  return (turn % 2 === 0 ? left : right).out[0] as Uint8Array;
}

function changedHandshake(turn: number, at: number): [End, End] {
  const left = new End({ call: Purpose.controlLane });
  const right = new End();
  for (let step = 0; left.out.length + right.out.length > 0; step++) {
    const [from, to] = step % 2 === 0 ? [left, right] : [right, left];
    for (const bytes of from.out.splice(0)) {
      if (step === turn) bytes[at] = (bytes[at] as number) ^ 0x41;
      to.channel.receive(bytes);
    }
  }
  return [left, right];
}

describe("records", () => {
  const sizes = [1, 15, RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, 300_000];
  for (const size of sizes) {
    test(`${size} bytes in several pieces → the length announced, the same bytes`, () => {
      const [left, right] = meet();
      const whole = new Uint8Array(size).map((_, at) => (at * 31) & 0xff);
      const cuts = [0, Math.floor(size / 3), Math.floor(size / 2), size];
      const pieces = cuts.slice(1).map((end, index) => whole.subarray(cuts[index], end));
      const target = new Uint8Array(sealedLengthBytes(size) + 100);
      expect(left.channel.sealInto(target, 50, pieces)).toBe(sealedLengthBytes(size));
      right.channel.receive(target.subarray(50, 50 + sealedLengthBytes(size)));
      expect(Buffer.concat(right.received).equals(whole)).toBe(true);
    });
  }

  test("two records split at every point → both, whole", () => {
    const reference = toHex(text("firstsecond"));
    const wireBytes = sealedLengthBytes(5) + sealedLengthBytes(6);
    for (let cut = 0; cut <= wireBytes; cut++) {
      const [caller, called] = meet();
      const bytes = Buffer.concat([
        caller.channel.seal([text("first")]),
        caller.channel.seal([text("second")]),
      ]);
      called.channel.receive(bytes.subarray(0, cut));
      called.channel.receive(bytes.subarray(cut));
      expect(called.text).toBe(reference);
    }
  });

  test("any pieces, cut anywhere → the stream as it was", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }), { maxLength: 8 }),
        fc.integer({ min: 1, max: 70 }),
        (writes, step) => {
          const [left, right] = meet({ rekeyRecords: 3 }, { rekeyRecords: 3 });
          const wire = Buffer.concat(writes.map((pieces) => left.channel.seal(pieces)));
          for (let at = 0; at < wire.length; at += step) {
            right.channel.receive(wire.subarray(at, at + step));
          }
          expect(right.text).toBe(toHex(Buffer.concat(writes.flat())));
        },
      ),
      { numRuns: 150 },
    );
  });

  test("rekey every 4 records on both ends → goes on; on one end only → broken record", () => {
    for (const [called, code] of [
      [{ rekeyRecords: 4 }, undefined],
      [{}, "brokenRecord"],
    ] as const) {
      const [left, right] = meet({ rekeyRecords: 4 }, called);
      for (let index = 0; index < 12; index++) {
        right.channel.receive(left.channel.seal([Uint8Array.of(index)]));
      }
      expect(right.refusal?.code).toBe(code as never);
      expect(right.received.length).toBe(code === undefined ? 12 : 4);
    }
  });

  test("sealing before the channel is open → an assertion", () => {
    const left = new End({ call: Purpose.controlLane });
    expect(() => left.channel.seal([text("early")])).toThrow("the channel is open");
  });
});
