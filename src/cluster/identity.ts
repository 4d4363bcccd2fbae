// SPDX-License-Identifier: Apache-2.0
//
// A unit's identity: an Ed25519 key made once, on first start. Its id is the first half of SHA-256
// of the public key, its X25519 key for links is derived from the private one, its address among
// units (an RFC 4193 ULA) from cluster and unit id, so that DHCP breaks nothing.
//
// R12: the key is kept nowhere but in the unit's state directory: a wiped unit makes a new one, and
// is a new unit.

import { Fault } from "#base/fault.ts";
import type { Seal } from "#base/world.ts";
import { formatAddress } from "#protocol/autoconfig/address.ts";
import { ID_BYTES, unitIdOf } from "#protocol/peer-channel/identity.ts";
import type { KeyPair } from "#protocol/peer-channel/noise.ts";
import { deriveKey, join } from "#protocol/peer-channel/secret.ts";

const IDENTITY_VERSION = 1;
const LINK_SALT = "cairn unit identity v1";
const LINK_LABEL = "cairn link static key v1";
const ULA_LABEL = "cairn unit address v1";

export interface UnitIdentity {
  readonly unitId: Uint8Array;
  /** Ed25519; the private one is the seed. */
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
  /** X25519. */
  readonly linkKeys: KeyPair;
}

/** A fresh identity: for a unit that has none. */
export function makeIdentity(seal: Seal): UnitIdentity {
  return identityOf(seal, seal.ed25519KeyPair().privateKey);
}

export function identityOf(seal: Seal, privateKey: Uint8Array): UnitIdentity {
  const publicKey = seal.ed25519PublicKey(privateKey);
  const linkPrivateKey = deriveKey(seal, privateKey, LINK_SALT, LINK_LABEL);
  const basePoint = new Uint8Array(32);
  basePoint[0] = 9; // RFC 7748, section 4.1
  return {
    unitId: unitIdOf(seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: { privateKey: linkPrivateKey, publicKey: seal.x25519(linkPrivateKey, basePoint) },
  };
}

/** For the state directory; holds the private key, so the file is its owner's alone. */
export function identityText(identity: UnitIdentity): string {
  const privateKey = idText(identity.privateKey);
  return `${JSON.stringify({ version: IDENTITY_VERSION, privateKey })}\n`;
}

/** Throws a Fault that shows nothing of the key. */
export function parseIdentity(seal: Seal, text: string): UnitIdentity {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Fault("corrupt", "the unit's identity file is not JSON");
  }
  const { version, privateKey } = (parsed ?? {}) as Record<string, unknown>;
  if (version !== IDENTITY_VERSION) {
    throw new Fault("versionMismatch", "the unit's identity file is of another version");
  }
  if (typeof privateKey !== "string" || !/^[0-9a-f]{64}$/.test(privateKey)) {
    throw new Fault("corrupt", "the unit's identity file holds no key");
  }
  return identityOf(seal, idBytes(privateKey));
}

/**
 * The unit's address among the units of its cluster, RFC 4193: fd, 40 bits of the cluster, subnet
 * 0, 64 bits of the unit.
 */
export function unitAddress(seal: Seal, clusterId: Uint8Array, unitId: Uint8Array): string {
  const label = new TextEncoder().encode(ULA_LABEL);
  const address = new Uint8Array(16);
  address[0] = 0xfd;
  address.set(seal.sha256(join([label, clusterId])).subarray(0, 5), 1);
  address.set(seal.sha256(join([label, clusterId, unitId])).subarray(0, 8), 8);
  return formatAddress(address);
}

/** The prefix of all units of a cluster, for routes and rules. */
export function clusterPrefix(seal: Seal, clusterId: Uint8Array): string {
  const label = new TextEncoder().encode(ULA_LABEL);
  const address = new Uint8Array(16);
  address[0] = 0xfd;
  address.set(seal.sha256(join([label, clusterId])).subarray(0, 5), 1);
  return `${formatAddress(address)}/64`;
}

/** Ids in the control state and in sentences: hex digits, whose order is the bytes' order. */
export function idText(id: Uint8Array): string {
  let text = "";
  for (const byte of id) text += byte.toString(16).padStart(2, "0");
  return text;
}
export function idBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at++) {
    bytes[at] = Number.parseInt(text.slice(2 * at, 2 * at + 2), 16);
  }
  return bytes;
}
/** Of no cluster. */
export const NO_ID = "00".repeat(ID_BYTES);
