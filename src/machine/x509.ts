// SPDX-License-Identifier: Apache-2.0
//
// Certificates, written out by hand (X.509 version 3, RFC 5280; DER, ITU-T X.690; Ed25519, RFC
// 8410; ECDSA with P-256, RFC 5480 and 5758): a few fixed ones are a page of DER, and a library for
// any of them costs every daemon 15 MB of memory. What is written is read back by OpenSSL in the
// tests.

import { createHash } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { parseIpv4, parseIpv6 } from "./socket-address.ts";

// DER (X.690, 8.1 and 10.1): tag, length in its shortest form, content.

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  /** RFC 5280, appendix A: Certificate's version and extensions, explicit. */
  version: 0xa0,
  extensions: 0xa3,
  /**
   * GeneralName's dNSName [2], iPAddress [7]; AuthorityKeyIdentifier's keyIdentifier [0]: implicit.
   */
  dnsName: 0x82,
  ipAddress: 0x87,
  keyIdentifier: 0x80,
} as const;

/** Object identifiers, encoded: RFC 5280 section 4.2, RFC 8410 section 3. */
export const OID = {
  ed25519: "2b6570", // 1.3.101.112
  ecdsaWithSha256: "2a8648ce3d040302", // 1.2.840.10045.4.3.2
  commonName: "550403", // 2.5.4.3
  subjectKeyIdentifier: "551d0e", // 2.5.29.14
  keyUsage: "551d0f", // 2.5.29.15
  subjectAltName: "551d11", // 2.5.29.17
  basicConstraints: "551d13", // 2.5.29.19
  authorityKeyIdentifier: "551d23", // 2.5.29.35
  extendedKeyUsage: "551d25", // 2.5.29.37
  serverAuth: "2b06010505070301", // 1.3.6.1.5.5.7.3.1
  clientAuth: "2b06010505070302", // 1.3.6.1.5.5.7.3.2
} as const;

export function der(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const long = body.length > 0xff ? [0x82, body.length >> 8] : [0x81];
  const length = body.length < 0x80 ? [body.length] : [...long, body.length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...length), body]);
}

export function sequence(...items: Uint8Array[]): Buffer {
  return der(TAG.sequence, ...items);
}
export function integer(bytes: Uint8Array): Buffer {
  return der(TAG.integer, bytes);
}
export function oid(hex: string): Buffer {
  return der(TAG.objectIdentifier, Buffer.from(hex, "hex"));
}

export const TRUE = der(TAG.boolean, Buffer.of(0xff));
/** The number of unused bits, then the bits: keyCertSign is bit 5, digitalSignature bit 0. */
export const KEY_CERT_SIGN = der(TAG.bitString, Buffer.of(2, 0x04));
export const DIGITAL_SIGNATURE = der(TAG.bitString, Buffer.of(7, 0x80));
/** Section 4.1.2.5: UTCTime to 2049, GeneralizedTime after. */
export function validity(fromMs: number, untilMs: number | null): Buffer {
  // The latter value means "no end".
  const until = untilMs === null ? generalizedTime("99991231235959Z") : time(untilMs);
  return sequence(time(fromMs), until);
}

function time(atMs: number): Buffer {
  const text = `${new Date(atMs).toISOString().replaceAll(/[-:T]|\.\d+/g, "")}`;
  const isShort = new Date(atMs).getUTCFullYear() < 2050;
  return isShort ? der(TAG.utcTime, Buffer.from(text.slice(2))) : generalizedTime(text);
}
function generalizedTime(text: string): Buffer {
  return der(TAG.generalizedTime, Buffer.from(text));
}

export function commonName(text: string): Buffer {
  const value = der(TAG.utf8String, Buffer.from(text));
  return sequence(der(TAG.set, sequence(oid(OID.commonName), value)));
}

export function extension(
  id: string,
  value: Uint8Array,
  options: { critical?: boolean } = {},
): Buffer {
  const critical = options.critical === true ? [TRUE] : [];
  return sequence(oid(id), ...critical, der(TAG.octetString, value));
}

/** Section 4.2.1.2, method 1 of RFC 7093: the first 20 bytes of the SHA-256 of the key. */
export function keyIdentifier(key: KeyObject): Buffer {
  const spki = key.export({ format: "der", type: "spki" });
  return createHash("sha256").update(spki.subarray(-32)).digest().subarray(0, 20);
}

export function ipBytes(address: string): Uint8Array {
  const bytes = address.includes(":") ? parseIpv6(address) : parseIpv4(address);
  if (bytes === null) throw new RangeError(`${address} is no address`);
  return bytes;
}

export interface Certificate {
  serial: Uint8Array;
  issuer: Uint8Array;
  validity: Uint8Array;
  subject: Uint8Array;
  publicKey: KeyObject;
  extensions: Uint8Array[];
}

/** An authority's way to sign: the algorithm's identifier, and what makes a signature. */
export interface Signer {
  algorithm: string;
  sign(bytes: Uint8Array): Uint8Array;
}

/** Section 4.1: signed, and as PEM (RFC 7468). */
export function certificate(signer: Signer, made: Certificate): string {
  const algorithm = sequence(oid(signer.algorithm));
  const toBeSigned = sequence(
    der(TAG.version, integer(Buffer.of(2))), // version 3
    integer(made.serial),
    algorithm,
    made.issuer,
    made.validity,
    made.subject,
    made.publicKey.export({ format: "der", type: "spki" }),
    der(TAG.extensions, sequence(...made.extensions)),
  );
  const signature = signer.sign(toBeSigned);
  const whole = sequence(toBeSigned, algorithm, der(TAG.bitString, Buffer.of(0), signature));
  const lines = whole.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
