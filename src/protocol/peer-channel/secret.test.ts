// SPDX-License-Identifier: Apache-2.0
//
// Key derivation against RFC 5869, the join secret's rules, and proquints against their paper.

import { describe, expect, test } from "bun:test";
import { hex, nodeSeal, toHex } from "./node-seal.test.ts";
import {
  comparingWords,
  COMPARING_WORDS,
  hkdfSha256,
  joinKeys,
  joinSecretFault,
} from "./secret.ts";
import { newJoinSecret, proquints } from "./secret.ts";

const seal = nodeSeal();

describe("secret", () => {
  test("HKDF → RFC 5869, appendix A.1", () => {
    const made = hkdfSha256(seal, new Uint8Array(22).fill(0x0b), {
      salt: hex("000102030405060708090a0b0c"),
      label: hex("f0f1f2f3f4f5f6f7f8f9"),
      lengthBytes: 42,
    });
    expect(toHex(made)).toBe(
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    );
  });

  test("one secret → a key for each purpose, equal everywhere, outer spaces ignored", () => {
    const keys = joinKeys(seal, "sixteen characters at least");
    const again = joinKeys(seal, "  sixteen characters at least\n");
    expect(again).toEqual(keys);
    const distinct = new Set([keys.autoconfig, keys.link, keys.certificates].map(toHex));
    expect(distinct.size).toBe(3);
    expect(joinKeys(seal, "sixteen characters at leasT").link).not.toEqual(keys.link);
  });

  test("a secret too short or too long → a sentence that does not show it", () => {
    for (const secret of ["", "short", " fifteen chars  ", "x".repeat(513)]) {
      const fault = joinSecretFault(secret);
      expect(fault).toContain("characters");
      if (secret.length > 4) expect(fault).not.toContain(secret.trim());
    }
    expect(joinSecretFault("exactly sixteen!")).toBeNull();
    expect(() => joinKeys(seal, "short")).toThrow("was checked");
  });

  test("a new secret → passes its own check, twice different", () => {
    const random = {
      fill: (bytes: Uint8Array) => crypto.getRandomValues(bytes),
      fraction: () => 0,
    };
    const [one, two] = [newJoinSecret(random), newJoinSecret(random)];
    expect(joinSecretFault(one)).toBeNull();
    expect(one).not.toBe(two);
    expect(one.split("-").length).toBe(10);
  });

  test("proquints → the paper's addresses", () => {
    expect(proquints(hex("7f000001")).join("-")).toBe("lusab-babad");
    expect(proquints(hex("3f54dcc1")).join("-")).toBe("gutih-tugad");
    expect(proquints(hex("8c62c18d")).join("-")).toBe("mudof-sakat");
  });

  test("comparing words → as many as stated, and other ones for another key", () => {
    const keys = [1, 2].map(() => seal.ed25519KeyPair().publicKey);
    const words = keys.map((key) => comparingWords(seal, key));
    expect(words[0]?.length).toBe(COMPARING_WORDS);
    expect(words[0]).not.toEqual(words[1]);
    expect(comparingWords(seal, keys[0] as Uint8Array)).toEqual(words[0] as string[]);
  });
});
