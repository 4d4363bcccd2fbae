// SPDX-License-Identifier: Apache-2.0
//
// What the two ends of a channel say about themselves, how it is signed and checked, and which ends
// may meet for which purpose. Pure functions beside channel.ts.

import { assert } from "#base/assert.ts";
import type { Seal } from "#base/world.ts";
import { FEATURE_LEVEL_DISTANCE_MAX, IDENTITY, IDENTITY_SIGNED_BYTES } from "./channel.wire.ts";
import { Purpose, REFUSAL, REFUSAL_TEXT_BYTES_MAX } from "./channel.wire.ts";
import type { KeyPair } from "./noise.ts";
import { refusalCodeOf, refusalTable } from "./refusal.ts";
import type { RefusalCode } from "./refusal.ts";
import { join } from "./secret.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8");
const CONTROL_CHARACTERS = /[\u0000-\u001f\u007f-\u009f]/g;

export const ID_BYTES = 16;

/** `none` goes with a cluster id of zeros. */
export const ClusterState = { none: 0, virgin: 1, used: 2, yielding: 3 } as const;
export type ClusterState = (typeof ClusterState)[keyof typeof ClusterState];

/** This unit, as it proves itself. */
export interface OwnIdentity {
  readonly unitId: Uint8Array;
  /** Ed25519. */
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
  /** X25519, the static key of the handshake. */
  readonly linkKeys: KeyPair;
  /** Zeros: of no cluster. */
  readonly clusterId: Uint8Array;
  readonly clusterState: ClusterState;
  readonly unitNumber: number;
  readonly featureLevel: number;
}

/** The other unit, proved: it holds the secret and the key that its id stands for. */
export interface PeerIdentity {
  readonly unitId: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly clusterId: Uint8Array;
  readonly clusterState: ClusterState;
  readonly unitNumber: number;
  readonly featureLevel: number;
  readonly purpose: Purpose;
}

/** Unit id: the first half of SHA-256 of its Ed25519 key. */
export function unitIdOf(seal: Seal, publicKey: Uint8Array): Uint8Array {
  assert(publicKey.length === 32, "an Ed25519 public key");
  return seal.sha256(publicKey).slice(0, ID_BYTES);
}

// The label and role keep a signature from meaning anything elsewhere, the running hash (which has
// the other's fresh key in it) from being used again, the static key binds it to this handshake's
// key.
function signedBytes(
  identity: Uint8Array,
  context: { initiator: boolean; handshakeHash: Uint8Array; staticKey: Uint8Array },
): Uint8Array {
  const role = context.initiator ? "initiator" : "responder";
  return join([
    encoder.encode(`cairn peer channel identity v1 ${role}\0`),
    context.handshakeHash,
    context.staticKey,
    identity.subarray(0, IDENTITY_SIGNED_BYTES),
  ]);
}

/** The handshake payload. */
export function writeIdentity(
  seal: Seal,
  own: OwnIdentity,
  context: { purpose: Purpose; initiator: boolean; handshakeHash: Uint8Array },
): Uint8Array {
  const payload = new Uint8Array(IDENTITY.size);
  const view = IDENTITY.view().at(payload, 0);
  view.unitId = own.unitId;
  view.clusterId = own.clusterId;
  view.publicKey = own.publicKey;
  view.featureLevel = own.featureLevel;
  view.clusterState = own.clusterState;
  view.purpose = context.purpose;
  view.unitNumber = own.unitNumber;
  const staticKey = own.linkKeys.publicKey;
  const { initiator, handshakeHash } = context;
  const signed = signedBytes(payload, { initiator, handshakeHash, staticKey });
  view.signature = seal.sign(own.privateKey, signed);
  return payload;
}

/**
 * Null unless the id belongs to the key and the key has signed; `initiator` is the other's role.
 */
export function readIdentity(
  seal: Seal,
  payload: Uint8Array,
  context: { initiator: boolean; handshakeHash: Uint8Array; staticKey: Uint8Array },
): PeerIdentity | null {
  if (payload.length !== IDENTITY.size) return null;
  const view = IDENTITY.view().at(payload, 0);
  const publicKey = view.publicKey.slice();
  const unitId = view.unitId.slice();
  if (!seal.equal(unitIdOf(seal, publicKey), unitId)) return null;
  if (!verify(seal, publicKey, signedBytes(payload, context), view.signature.slice())) return null;
  const clusterState = clusterStateOf(view.clusterState);
  const purpose = purposeOf(view.purpose);
  if (clusterState === null || purpose === null) return null;
  const clusterId = view.clusterId.slice();
  if (isZero(clusterId) !== (clusterState === ClusterState.none)) return null;
  return {
    unitId,
    publicKey,
    clusterId,
    clusterState,
    unitNumber: view.unitNumber,
    featureLevel: view.featureLevel,
    purpose,
  };
}

/** A key that is no point of the curve must refuse, not throw. */
export function verify(
  seal: Seal,
  publicKey: Uint8Array,
  bytes: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    return seal.verify(publicKey, bytes, signature);
  } catch {
    return false;
  }
}

/**
 * What speaks against this pair of ends, or null. Whether the unit is welcome is asked afterwards.
 */
export function checkPeer(
  own: OwnIdentity,
  peer: PeerIdentity,
  call: { purpose: Purpose; initiator: boolean; expectUnitId: Uint8Array | null },
): RefusalCode | null {
  // A handshake that somebody reflects to us would come from ourselves.
  if (sameBytes(peer.unitId, own.unitId)) return "ourselves";
  if (peer.purpose !== call.purpose) return "wrongPurpose";
  const distance = Math.abs(peer.featureLevel - own.featureLevel);
  if (distance > FEATURE_LEVEL_DISTANCE_MAX) return "versionsApart";
  if (call.expectUnitId !== null && !sameBytes(peer.unitId, call.expectUnitId)) return "otherUnit";
  return checkClusters(own, peer, call);
}

function checkClusters(
  own: OwnIdentity,
  peer: PeerIdentity,
  call: { purpose: Purpose; initiator: boolean },
): RefusalCode | null {
  const caller = call.initiator ? own.clusterId : peer.clusterId;
  const called = call.initiator ? peer.clusterId : own.clusterId;
  switch (call.purpose) {
    case Purpose.controlLane:
    case Purpose.dataLane:
    case Purpose.controlProxy:
    case Purpose.artefacts:
    case Purpose.neighbour:
    case Purpose.generation:
      if (isZero(caller) || isZero(called)) return "notFormed";
      return sameBytes(caller, called) ? null : "wrongCluster";
    case Purpose.join:
      if (isZero(called)) return "notFormed";
      return isZero(caller) ? null : "wrongCluster";
    case Purpose.adopt:
      if (isZero(caller)) return "notFormed";
      return isZero(called) ? null : "wrongCluster";
    case Purpose.meet:
      if (isZero(caller) || isZero(called)) return "notFormed";
      return sameBytes(caller, called) ? "wrongCluster" : null;
  }
}

export function writeRefusal(code: RefusalCode, sentence: string): Uint8Array {
  let text = encoder.encode(sentence);
  // Cut at a character, not in one: continuation bytes are 10xxxxxx.
  let end = Math.min(text.length, REFUSAL_TEXT_BYTES_MAX);
  while (end < text.length && end > 0 && ((text[end] as number) & 0xc0) === 0x80) end--;
  text = text.subarray(0, end);
  const body = new Uint8Array(REFUSAL.size + text.length);
  const view = REFUSAL.view().at(body, 0);
  view.code = refusalTable[code][0];
  view.textBytes = text.length;
  body.set(text, REFUSAL.size);
  return body;
}

/** Never fails: what cannot be read is "malformed". Control characters do not reach a screen. */
export function readRefusal(body: Uint8Array): { code: RefusalCode; sentence: string } {
  const malformed = { code: "malformed", sentence: refusalTable.malformed[1] } as const;
  if (body.length < REFUSAL.size) return malformed;
  const view = REFUSAL.view().at(body, 0);
  const code = refusalCodeOf(view.code);
  const end = REFUSAL.size + view.textBytes;
  if (code === null || view.textBytes > REFUSAL_TEXT_BYTES_MAX || end !== body.length) {
    return malformed;
  }
  const text = decoder.decode(body.subarray(REFUSAL.size, end)).replace(CONTROL_CHARACTERS, " ");
  return { code, sentence: text === "" ? refusalTable[code][1] : text };
}

function clusterStateOf(value: number): ClusterState | null {
  return Object.values(ClusterState).find((known) => known === value) ?? null;
}
function purposeOf(value: number): Purpose | null {
  return Object.values(Purpose).find((known) => known === value) ?? null;
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}
