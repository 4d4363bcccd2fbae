// SPDX-License-Identifier: Apache-2.0
//
// Manifests that are trusted and fit, and the wide space of those that do not: unsigned, altered,
// signed with a foreign key, for another product, malformed in every field, older than the disks.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import {
  FILE_BYTES_MAX,
  type Manifest,
  type UpdateGround,
  openManifest,
  parseManifest,
  parseUpdateKeys,
  updateRefusal,
} from "./update-manifest.ts";
import { createHash, generateKeyPairSync, sign, verify, createPublicKey } from "node:crypto";

const seal = {
  sha256: (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest()),
  verify: (publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array) => {
    const frame = Buffer.from("302a300506032b6570032100", "hex");
    const key = Buffer.concat([frame, publicKey]);
    return verify(
      null,
      bytes,
      createPublicKey({ key, format: "der", type: "spki" }),
      Buffer.from(signature),
    );
  },
};
const pair = generateKeyPairSync("ed25519");
const stranger = generateKeyPairSync("ed25519");
const publicKey = pair.publicKey
  .export({ format: "der", type: "spki" })
  .subarray(-32)
  .toString("hex");
const keys = [{ keyId: "release-1", publicKey }];

const UUID = "01234567-89ab-cdef-0123-456789abcdef";
function manifest(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const sha256 = "a".repeat(64);
  return {
    format: 1,
    product: "cairn",
    version: "0.2.0",
    featureLevel: 1,
    diskFormat: 1,
    architecture: "x86-64",
    files: [
      { name: "cairn_0.2.0.efi", role: "uki", bytes: 1000, sha256 },
      { name: "cairn_0.2.0.root.raw", role: "root", bytes: 5000, sha256, partitionUuid: UUID },
      {
        name: "cairn_0.2.0.hash.raw",
        role: "hash",
        bytes: 500,
        sha256,
        partitionUuid: UUID.replace("0", "1"),
      },
    ],
    built: "2026-01-01T00:00:00Z",
    ...changes,
  };
}
function file(at: number, changes: Record<string, unknown>): Record<string, unknown> {
  const files = (manifest()["files"] as Record<string, unknown>[]).map((one, index) =>
    index === at ? { ...one, ...changes } : one,
  );
  return manifest({ files });
}
function signed(text: string, by = pair.privateKey, keyId = "release-1") {
  const signature = sign(null, Buffer.from(text), by).toString("base64");
  return { text, signature: JSON.stringify({ keyId, signature }) };
}
const text = JSON.stringify(manifest());

function refusalOf(act: () => unknown): [string, string] {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return [error.code, error.message];
    throw error;
  }
  return ["", "nothing was refused"];
}
const refused = (one: { text: string; signature: string }) =>
  refusalOf(() => openManifest(seal, one, keys));

describe("signatures", () => {
  test("signed by a trusted key → the manifest", () => {
    expect(openManifest(seal, signed(text), keys).version).toBe("0.2.0");
  });

  test("no signature → refused, and it says so", () => {
    expect(refused({ text, signature: "" })).toEqual([
      "notTrusted",
      "the update cannot be trusted: it is not signed: manifest.json.sig is empty",
    ]);
  });

  test("every single altered byte → refused before it is read", () => {
    const { signature } = signed(text);
    for (let at = 0; at < text.length; at++) {
      const other = text[at] === "x" ? "y" : "x";
      const altered = text.slice(0, at) + other + text.slice(at + 1);
      expect(refused({ text: altered, signature })[0]).toBe("notTrusted");
    }
  });

  test("an altered signature, a key that is not trusted, another's key → refused", () => {
    const { signature } = signed(text);
    const parsed = JSON.parse(signature) as { signature: string };
    const flipped = `${parsed.signature[0] === "A" ? "B" : "A"}${parsed.signature.slice(1)}`;
    const altered = JSON.stringify({ keyId: "release-1", signature: flipped });
    expect(refused({ text, signature: altered })[0]).toBe("notTrusted");
    const unknown = refused(signed(text, stranger.privateKey, "somebody"));
    expect(unknown[1]).toContain("the key somebody, which is not trusted here");
    expect(refused(signed(text, stranger.privateKey))[1]).toContain("was altered, or signed with");
  });

  test("a signature file that is none → refused", () => {
    for (const signature of ["no json", "{}", "[]", '{"keyId":"release-1","signature":"AAAA"}']) {
      expect(refused({ text, signature })[0]).toBe("notTrusted");
    }
    expect(refused({ text, signature: "x".repeat(2000) })[1]).toContain("too long");
  });

  test("a manifest past its bound → refused without a look at its signature", () => {
    const long = JSON.stringify(manifest({ built: "x".repeat(20_000) }));
    expect(refused(signed(long))[1]).toContain("more than 16384 bytes");
  });

  test("trusted keys that are malformed → corrupt", () => {
    for (const bad of ["", "{}", '[{"keyId":"a","publicKey":"00"}]', '[{"keyId":"a b"}]']) {
      expect(refusalOf(() => parseUpdateKeys(bad))[0]).toBe("corrupt");
    }
    expect(parseUpdateKeys(JSON.stringify(keys))).toEqual(keys);
  });
});

describe("what a signed manifest may say", () => {
  const reads = (value: unknown) => refusalOf(() => parseManifest(JSON.stringify(value)));

  test("another product, another format → refused in words", () => {
    expect(reads(manifest({ product: "moraine" }))[1]).toContain('the product "moraine"');
    expect(reads(manifest({ format: 2 }))[1]).toContain("has format 2; this unit reads format 1");
  });

  test("whatever is wrong in a field is named", () => {
    const wrong: [string, Record<string, unknown>][] = [
      ["version", manifest({ version: "0.2" })],
      ["version", manifest({ version: "0.2.0-rc1" })],
      ["featureLevel", manifest({ featureLevel: 0 })],
      ["featureLevel", manifest({ featureLevel: 1.5 })],
      ["diskFormat", manifest({ diskFormat: "1" })],
      ["architecture", manifest({ architecture: "x86 64" })],
      ["built", manifest({ built: 5 })],
      ["files", manifest({ files: [] })],
      ["files", manifest({ files: (manifest()["files"] as unknown[]).slice(1) })],
      ["files", file(0, { role: "root", partitionUuid: UUID })],
      ["files", file(1, { name: "cairn_0.2.0.efi" })],
      ["files", file(0, { name: "manifest.json.sig" })],
      ["files.0.name", file(0, { name: "../cairn.efi" })],
      ["files.0.name", file(0, { name: "a/b" })],
      ["files.0.name", file(0, { name: ".hidden" })],
      ["files.0.name", file(0, { name: "x".repeat(97) })],
      ["files.0", file(0, { bytes: FILE_BYTES_MAX.uki + 1 })],
      ["files.1", file(1, { bytes: FILE_BYTES_MAX.root + 1 })],
      ["files.1.bytes", file(1, { bytes: 0 })],
      ["files.1.bytes", file(1, { bytes: -5 })],
      ["files.1.sha256", file(1, { sha256: "A".repeat(64) })],
      ["files.1", file(1, { partitionUuid: undefined })],
      ["files.0", file(0, { partitionUuid: UUID })],
      ["files.2.partitionUuid", file(2, { partitionUuid: "x" })],
      ["", manifest({ more: 1 })],
      ["files.0", file(0, { more: 1 })],
    ];
    for (const [where, value] of wrong) {
      const [code, message] = reads(value);
      expect([code, where]).toEqual(["notFitting", where]);
      expect(message).toContain(`manifest.json: ${where}`);
    }
  });

  test("no JSON, no object → refused", () => {
    expect(refusalOf(() => parseManifest("{"))[0]).toBe("notFitting");
    for (const value of [null, 5, [], "x"]) expect(reads(value)[0]).toBe("notFitting");
  });
});

describe("what may be installed", () => {
  const ground: UpdateGround = {
    version: "0.1.0",
    architecture: "x86-64",
    diskFormat: 1,
    featureLevel: 1,
    downgrade: false,
  };
  const answer = (changes: Partial<Manifest>, over: Partial<UpdateGround> = {}) =>
    updateRefusal({ ...parseManifest(text), ...changes }, { ...ground, ...over })?.message.replace(
      "the update does not fit: ",
      "",
    ) ?? "fits";

  test("newer, same levels → fits", () => {
    expect(answer({})).toBe("fits");
    expect(answer({ featureLevel: 2, diskFormat: 2 })).toBe("fits");
    expect(answer({}, { featureLevel: null, diskFormat: 0 })).toBe("fits");
  });

  test("another architecture, the same version, an older one → refused", () => {
    expect(answer({ architecture: "arm64" })).toBe("it is for arm64, and this unit is x86-64");
    expect(answer({ version: "0.1.0" }, { downgrade: true })).toBe("version 0.1.0 runs already");
    expect(answer({ version: "0.0.9" })).toContain("older than 0.1.0");
  });

  test("an older one, when wanted → fits", () => {
    expect(answer({ version: "0.0.9" }, { downgrade: true })).toBe("fits");
  });

  test("a disk's format that it does not read → refused, also when a downgrade is wanted", () => {
    const words = "version 0.0.9 reads disks up to format 1, and disks here have format 2";
    expect(answer({ version: "0.0.9" }, { diskFormat: 2, downgrade: true })).toBe(words);
    expect(answer({ version: "0.2.0" }, { diskFormat: 2 })).toContain("disks here have format 2");
  });

  test("feature levels below the cluster's, or two above → refused", () => {
    expect(answer({ featureLevel: 1 }, { featureLevel: 2 })).toContain("the cluster is at 2");
    expect(answer({ featureLevel: 3 }, { featureLevel: 1 })).toContain("a version in between");
    expect(answer({ featureLevel: 3 }, { featureLevel: null })).toBe("fits");
  });
});
