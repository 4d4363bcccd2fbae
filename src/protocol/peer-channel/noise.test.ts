// SPDX-License-Identifier: Apache-2.0
//
// The Noise core against public vectors (test/vectors/noise, provenance there), and what it
// refuses.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join as joinPath } from "node:path";
import type { Seal } from "#base/world.ts";
import { CipherState, Handshake } from "./noise.ts";
import type { HandshakeOptions, KeyPair, PatternName } from "./noise.ts";
import { hex, nodeSeal, toHex } from "./node-seal.test.ts";

const ROOT = joinPath(import.meta.dir, "..", "..", "..");
const vectors = readFileSync(joinPath(ROOT, "test/vectors/noise/flynn.txt"), "utf8")
  .trim()
  .split("\n\n")
  .map((block) => new Map(block.split("\n").map((line) => line.split("=") as [string, string])));

const BASE_POINT = new Uint8Array(32);
BASE_POINT[0] = 9;

function keyPair(privateKey: Uint8Array): KeyPair {
  return { privateKey, publicKey: nodeSeal().x25519(privateKey, BASE_POINT) };
}

/** A seal whose next key pair is the vector's. */
function sealWith(ephemeral: Uint8Array): Seal {
  return { ...nodeSeal(), x25519KeyPair: () => ({ ...keyPair(ephemeral) }) };
}

function options(pattern: PatternName, initiator: boolean, secret?: string): HandshakeOptions {
  return {
    pattern,
    initiator,
    prologue: hex("0102"),
    staticKeys: nodeSeal().x25519KeyPair(),
    ...(secret === undefined ? {} : { preSharedKey: nodeSeal().sha256(Buffer.from(secret)) }),
  };
}

function pair(left: string, right = left): [Handshake, Handshake] {
  return [
    new Handshake(nodeSeal(), options("XXpsk3", true, left)),
    new Handshake(nodeSeal(), options("XXpsk3", false, right)),
  ];
}

const EMPTY = new Uint8Array(0);

function pass(from: Handshake, to: Handshake): Uint8Array | null {
  return to.read(from.write(EMPTY) as Uint8Array);
}

describe("Noise core", () => {
  test("there are vectors of both patterns", () => {
    const names = vectors.map((vector) => vector.get("handshake"));
    expect(new Set(names).size).toBe(2);
    expect(names.length).toBe(8);
  });

  for (const [index, vector] of vectors.entries()) {
    test(`public vector ${index} (${vector.get("handshake")}) → every byte as printed`, () => {
      const field = (name: string) => hex(vector.get(name) ?? "");
      const pattern = vector.get("handshake")?.split("_")[1] as PatternName;
      const secret = vector.has("preshared_key") ? { preSharedKey: field("preshared_key") } : {};
      const side = (initiator: boolean) =>
        new Handshake(sealWith(field(initiator ? "gen_init_ephemeral" : "gen_resp_ephemeral")), {
          pattern,
          initiator,
          prologue: field("prologue"),
          staticKeys: keyPair(field(initiator ? "init_static" : "resp_static")),
          ...secret,
        });
      const sides = [side(true), side(false)] as const;
      for (let turn = 0; turn < 3; turn++) {
        const [writer, reader] = turn % 2 === 0 ? sides : ([sides[1], sides[0]] as const);
        const message = writer.write(field(`msg_${turn}_payload`)) as Uint8Array;
        expect(toHex(message)).toBe(vector.get(`msg_${turn}_ciphertext`) as string);
        expect(toHex(reader.read(message) as Uint8Array)).toBe(
          vector.get(`msg_${turn}_payload`) ?? "",
        );
      }
      const [initiator, responder] = [sides[0].split(), sides[1].split()];
      // flynn's generator has the initiator say the first transport message too.
      const lanes = [
        [initiator.send, responder.receive],
        [responder.send, initiator.receive],
      ] as const;
      for (const [lane, [send, receive]] of lanes.entries()) {
        const plain = field(`msg_${3 + lane}_payload`);
        const sealed = send.encrypt(EMPTY, plain);
        expect(toHex(sealed)).toBe(vector.get(`msg_${3 + lane}_ciphertext`) as string);
        expect(toHex(receive.decrypt(EMPTY, sealed) as Uint8Array)).toBe(toHex(plain));
      }
      expect(sides[0].hash).toEqual(sides[1].hash);
    });
  }

  test("another pre-shared key → the third message is not authentic", () => {
    const [left, right] = pair("one secret", "another secret");
    expect(pass(left, right)).not.toBeNull();
    expect(pass(right, left)).not.toBeNull();
    expect(pass(left, right)).toBeNull();
    expect(right.finished).toBe(false);
  });

  test("any bit of any message flipped → refused at once or at the next message", () => {
    for (let turn = 0; turn < 3; turn++) {
      const [left, right] = pair("secret");
      for (let before = 0; before < turn; before++) {
        if (before % 2 === 0) pass(left, right);
        else pass(right, left);
      }
      const [writer, reader] = turn % 2 === 0 ? [left, right] : [right, left];
      const message = writer.write(EMPTY) as Uint8Array;
      message[turn * 7 + 3] = (message[turn * 7 + 3] as number) ^ 1;
      expect(reader.read(message)).toBeNull();
      expect(reader.read(message)).toBeNull();
    }
  });

  test("every truncation of a message → null, never a throw", () => {
    const lengthBytes = (pair("secret")[0].write(EMPTY) as Uint8Array).length;
    for (let cut = 0; cut < lengthBytes; cut++) {
      const [left, right] = pair("secret");
      expect(right.read((left.write(EMPTY) as Uint8Array).subarray(0, cut))).toBeNull();
    }
    const [, right] = pair("secret");
    expect(right.read(new Uint8Array(3000))).toBeNull();
  });

  test("an ephemeral key of low order → the answer is refused, nothing throws", () => {
    const responder = new Handshake(nodeSeal(), options("XX", false));
    expect(responder.read(new Uint8Array(32))).not.toBeNull();
    expect(responder.write(EMPTY)).toBeNull();
  });

  test("rekey on both sides → goes on, and the old key opens nothing", () => {
    const seal = nodeSeal();
    const key = seal.sha256(EMPTY);
    const [send, receive, old] = [1, 2, 3].map(() => new CipherState(seal, key)) as [
      CipherState,
      CipherState,
      CipherState,
    ];
    receive.decrypt(EMPTY, send.encrypt(EMPTY, hex("01")));
    send.rekey();
    const sealed = send.encrypt(EMPTY, hex("02"));
    expect(old.decrypt(EMPTY, sealed)).toBeNull();
    expect(receive.decrypt(EMPTY, sealed)).toBeNull();
    receive.rekey();
    expect(toHex(receive.decrypt(EMPTY, sealed) as Uint8Array)).toBe("02");
    expect(receive.counter).toBe(2);
  });
});
