// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the console over TLS, of the cluster's own authority: ECDSA with P-256, which
// every browser takes. Every admitted unit derives the same authority from the cluster's secret
// (etcd-certificates.ts does so between units, by another key), so that a person trusts one
// certificate for all units, and none of them has to be up for another one's.
//
// The authority signs deterministically (RFC 6979), so that its own certificate is one and the same
// on every unit. It ends never; a unit's certificate after LEAF_DAYS, since some browsers take no
// longer ones, and it is issued anew long before.

import { createECDH, createHash, createHmac, createPrivateKey, createPublicKey } from "node:crypto";
import { X509Certificate, generateKeyPairSync, hkdfSync, randomBytes } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { isIP } from "node:net";
import {
  DIGITAL_SIGNATURE,
  KEY_CERT_SIGN,
  OID,
  TAG,
  TRUE,
  certificate,
  commonName,
  der,
  extension,
  integer,
  ipBytes,
  keyIdentifier,
  oid,
  sequence,
  validity,
} from "./x509.ts";
import type { Signer } from "./x509.ts";

const SECRET_BYTES_LEAST = 16;
const DAY_MS = 86_400_000;
const LEAF_DAYS = 397;
/** Clocks of boxes and of people differ. */
const EARLY_DAYS = 2;
/** FIPS 186-4, D.1.2.3: the order of P-256's base point. */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const SCALAR_BYTES = 32;
const NAMES_MAX = 64;

export interface WebAuthority {
  pem: string;
  /** SHA-256 of the certificate, as browsers show it. */
  fingerprint: string;
}
export interface WebCertificate {
  cert: string;
  key: string;
}

export interface AuthorityOptions {
  /** Key material that every admitted unit of the cluster has, and nobody else. */
  clusterSecret: Uint8Array;
  clusterUuid: string;
}

interface Authority {
  signer: Signer;
  publicKey: KeyObject;
  subject: Buffer;
}

export function webAuthority(options: AuthorityOptions): WebAuthority {
  const { signer, publicKey, subject } = authorityOf(options);
  const pem = certificate(signer, {
    serial: Buffer.of(1),
    issuer: subject,
    validity: validity(0, null),
    subject,
    publicKey,
    extensions: [
      extension(OID.basicConstraints, sequence(TRUE, integer(Buffer.of(0))), { critical: true }),
      extension(OID.keyUsage, KEY_CERT_SIGN, { critical: true }),
      extension(OID.subjectKeyIdentifier, der(TAG.octetString, keyIdentifier(publicKey))),
    ],
  });
  return { pem, fingerprint: new X509Certificate(pem).fingerprint256 };
}

/** For this unit's names and addresses, at most NAMES_MAX; with a key of its own. */
export function issueWebCertificate(
  options: AuthorityOptions,
  own: { name: string; names: readonly string[]; nowMs: number },
): WebCertificate {
  const names = own.names.slice(0, NAMES_MAX).map((name) => {
    return isIP(name) === 0
      ? der(TAG.dnsName, Buffer.from(name))
      : der(TAG.ipAddress, ipBytes(name));
  });
  return issue(options, own, [
    extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth))),
    extension(OID.subjectAltName, sequence(...names)),
  ]);
}

export interface HostCertificateMade extends WebCertificate {
  /** SHA-256, hex. */
  fingerprint: string;
  fromMs: number;
  untilMs: number;
}

/** For a host to show at NBD portals, with a key of its own that is kept nowhere here. */
export function issueHostCertificate(
  options: AuthorityOptions,
  host: { name: string; nowMs: number },
): HostCertificateMade {
  const usage = extension(OID.extendedKeyUsage, sequence(oid(OID.clientAuth)));
  const made = issue(options, host, [usage]);
  const parsed = new X509Certificate(made.cert);
  return {
    ...made,
    fingerprint: parsed.fingerprint256.replaceAll(":", "").toLowerCase(),
    fromMs: Math.max(0, Date.parse(parsed.validFrom)),
    untilMs: Math.max(0, Date.parse(parsed.validTo)),
  };
}

function issue(
  options: AuthorityOptions,
  own: { name: string; nowMs: number },
  extensions: Buffer[],
): WebCertificate {
  const { signer, publicKey, subject } = authorityOf(options);
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const authorityId = der(TAG.keyIdentifier, keyIdentifier(publicKey));
  const cert = certificate(signer, {
    serial: Buffer.concat([Buffer.of(1), randomBytes(15)]),
    issuer: subject,
    validity: validity(own.nowMs - EARLY_DAYS * DAY_MS, own.nowMs + LEAF_DAYS * DAY_MS),
    subject: commonName(own.name),
    publicKey: pair.publicKey,
    extensions: [
      extension(OID.basicConstraints, sequence(), { critical: true }),
      extension(OID.keyUsage, DIGITAL_SIGNATURE, { critical: true }),
      ...extensions,
      extension(OID.authorityKeyIdentifier, sequence(authorityId)),
    ],
  });
  return { cert, key: pair.privateKey.export({ format: "pem", type: "pkcs8" }).toString() };
}

function authorityOf({ clusterSecret, clusterUuid }: AuthorityOptions): Authority {
  if (clusterSecret.length < SECRET_BYTES_LEAST) {
    throw new RangeError("the cluster's secret is too short");
  }
  // Wider than the order, so that no value is likelier than another (FIPS 186-4, B.4.1).
  const label = "cairn console authority 1";
  const wide = hkdfSync("sha256", clusterSecret, clusterUuid, label, SCALAR_BYTES + 8);
  const scalar = (numberIn(new Uint8Array(wide)) % (ORDER - 1n)) + 1n;
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(bytesOf(scalar));
  const point = curve.getPublicKey();
  const jwk = {
    ...{ kty: "EC", crv: "P-256" },
    x: point.subarray(1, 33).toString("base64url"),
    y: point.subarray(33).toString("base64url"),
  };
  const d = Buffer.from(bytesOf(scalar)).toString("base64url");
  const publicKey = createPublicKey(createPrivateKey({ key: { ...jwk, d }, format: "jwk" }));
  return {
    signer: { algorithm: OID.ecdsaWithSha256, sign: (bytes) => signP256(scalar, bytes) },
    publicKey,
    // Not by the cluster's name: that may be changed, and who trusts it trusts just these bytes.
    subject: commonName(`Cairn ${clusterUuid.slice(0, 8)}`),
  };
}

/** ECDSA over SHA-256 with the nonce of RFC 6979 section 3.2; DER (RFC 3279 section 2.2.3). */
export function signP256(scalar: bigint, message: Uint8Array): Uint8Array {
  const digest = createHash("sha256").update(message).digest();
  const hashed = numberIn(digest) % ORDER;
  for (const nonce of nonces(bytesOf(scalar), bytesOf(hashed))) {
    const curve = createECDH("prime256v1");
    curve.setPrivateKey(bytesOf(nonce));
    const r = numberIn(curve.getPublicKey().subarray(1, 33)) % ORDER;
    const s = (inverse(nonce) * ((hashed + r * scalar) % ORDER)) % ORDER;
    if (r !== 0n && s !== 0n) return sequence(unsigned(r), unsigned(s));
  }
  throw new RangeError("no nonce signs"); // it would take 2^256 tries
}

function* nonces(key: Uint8Array, hashed: Uint8Array): Generator<bigint> {
  const hmac = (by: Uint8Array, ...parts: Uint8Array[]) =>
    createHmac("sha256", by).update(Buffer.concat(parts)).digest();
  let [k, v] = [Buffer.alloc(32, 0), Buffer.alloc(32, 1)];
  for (const step of [0, 1]) {
    k = hmac(k, v, Buffer.of(step), key, hashed);
    v = hmac(k, v);
  }
  for (;;) {
    v = hmac(k, v);
    const nonce = numberIn(v);
    if (nonce > 0n && nonce < ORDER) yield nonce;
    k = hmac(k, v, Buffer.of(0));
    v = hmac(k, v);
  }
}

/** Modulo the order, which is prime: Fermat. */
function inverse(value: bigint): bigint {
  let [result, base] = [1n, value % ORDER];
  for (let power = ORDER - 2n; power > 0n; power >>= 1n) {
    if ((power & 1n) === 1n) result = (result * base) % ORDER;
    base = (base * base) % ORDER;
  }
  return result;
}

function numberIn(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
}
function bytesOf(value: bigint): Uint8Array {
  return Buffer.from(value.toString(16).padStart(2 * SCALAR_BYTES, "0"), "hex");
}
/** An INTEGER that is never negative and never longer than it must be (X.690, 8.3). */
function unsigned(value: bigint): Buffer {
  const text = value.toString(16);
  const bytes = Buffer.from(text.padStart(text.length + (text.length % 2), "0"), "hex");
  const isHigh = (bytes[0] ?? 0) >= 0x80;
  return integer(isHigh ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}
