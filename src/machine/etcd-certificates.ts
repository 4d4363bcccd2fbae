// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the links between etcd peers (X.509 version 3, RFC 5280; Ed25519, RFC 8410; DER,
// ITU-T X.690).
//
// Every admitted unit knows the cluster's secret. From it each derives the same certificate
// authority (a deterministic key and signature, hence the same certificate on every unit) and
// issues itself a certificate for its own address. A peer without the secret can make none and is
// refused by etcd's mutual TLS.
//
// Nothing here expires by the clock (R4: wall clocks decide nothing, not even certificates between
// units; a box whose clock starts in 1970 must get in): valid from 1970 to 9999, RFC 5280's "no
// well defined expiration". Rotation is by `keyId`, another label to derive from.
//
// Written out by hand, since two fixed certificates are sixty lines of DER, and a library for any
// of them costs every daemon 15 MB of memory. What is written is read back by OpenSSL in the tests,
// and by Go's strict parser in those of etcd.

import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { generateKeyPairSync, hkdfSync, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { parseIpv4, parseIpv6 } from "./socket-address.ts";

/** RFC 8410, section 7: what precedes the 32-byte seed in a PKCS #8 key. */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SECRET_BYTES_LEAST = 16;

export interface EtcdCertificates {
  authorityPem: string;
  certificatePem: string;
  keyPem: string;
}

export interface EtcdCertificateOptions {
  /** Key material that every admitted unit of the cluster has, and nobody else. */
  clusterSecret: Uint8Array;
  clusterUuid: string;
  /** Which of the cluster's keys, counted from 1: rotation by number, not by date. */
  keyId: number;
  /** The subject, for people: the unit's name. */
  name: string;
  /** The address that peers reach this unit's etcd at. */
  address: string;
}

/** The authority's certificate, this unit's own, and its key: made anew at every start. */
export async function issueEtcdCertificates(
  options: EtcdCertificateOptions,
): Promise<EtcdCertificates> {
  const authority = authorityKey(options);
  const authorityPublic = createPublicKey(authority);
  const issuer = commonName(`Cairn ${options.clusterUuid} key ${options.keyId}`);
  const own = generateKeyPairSync("ed25519");
  const authorityId = keyIdentifier(authorityPublic);
  return {
    authorityPem: certificate(authority, {
      serial: Buffer.of(1),
      issuer,
      subject: issuer,
      publicKey: authorityPublic,
      extensions: [
        extension(OID.basicConstraints, sequence(TRUE, integer(Buffer.of(0))), { critical: true }),
        extension(OID.keyUsage, KEY_CERT_SIGN, { critical: true }),
        extension(OID.subjectKeyIdentifier, der(TAG.octetString, authorityId)),
      ],
    }),
    certificatePem: certificate(authority, {
      // Positive and never zero, as section 4.1.2.2 wants it.
      serial: Buffer.concat([Buffer.of(1), randomBytes(15)]),
      issuer,
      subject: commonName(options.name),
      publicKey: own.publicKey,
      extensions: [
        extension(OID.basicConstraints, sequence(), { critical: true }),
        extension(OID.keyUsage, DIGITAL_SIGNATURE, { critical: true }),
        extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
        extension(OID.subjectAltName, sequence(der(TAG.ipAddress, ipBytes(options.address)))),
        extension(OID.authorityKeyIdentifier, sequence(der(TAG.keyIdentifier, authorityId))),
      ],
    }),
    keyPem: own.privateKey.export({ format: "pem", type: "pkcs8" }).toString(),
  };
}

function authorityKey(options: EtcdCertificateOptions): KeyObject {
  if (options.clusterSecret.length < SECRET_BYTES_LEAST) {
    throw new RangeError("the cluster's secret is too short");
  }
  const label = `cairn etcd peer authority ${options.keyId}`;
  const seed = hkdfSync("sha256", options.clusterSecret, options.clusterUuid, label, 32);
  const pkcs8 = Buffer.concat([PKCS8_PREFIX, Buffer.from(seed)]);
  return createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
}

// DER (X.690, 8.1 and 10.1): tag, length in its shortest form, content.

const TAG = {
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
  /** GeneralName's iPAddress [7] and AuthorityKeyIdentifier's keyIdentifier [0], implicit. */
  ipAddress: 0x87,
  keyIdentifier: 0x80,
} as const;

/** Object identifiers, encoded: RFC 5280 section 4.2, RFC 8410 section 3. */
const OID = {
  ed25519: "2b6570", // 1.3.101.112
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

function der(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const long = body.length > 0xff ? [0x82, body.length >> 8] : [0x81];
  const length = body.length < 0x80 ? [body.length] : [...long, body.length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...length), body]);
}

function sequence(...items: Uint8Array[]): Buffer {
  return der(TAG.sequence, ...items);
}
function integer(bytes: Uint8Array): Buffer {
  return der(TAG.integer, bytes);
}
function oid(hex: string): Buffer {
  return der(TAG.objectIdentifier, Buffer.from(hex, "hex"));
}

const TRUE = der(TAG.boolean, Buffer.of(0xff));
const ALGORITHM = sequence(oid(OID.ed25519));
/** The number of unused bits, then the bits: keyCertSign is bit 5, digitalSignature bit 0. */
const KEY_CERT_SIGN = der(TAG.bitString, Buffer.of(2, 0x04));
const DIGITAL_SIGNATURE = der(TAG.bitString, Buffer.of(7, 0x80));
/** Section 4.1.2.5: UTCTime to 2049, GeneralizedTime after; the latter value means "no end". */
const VALIDITY = sequence(
  der(TAG.utcTime, Buffer.from("700101000000Z")),
  der(TAG.generalizedTime, Buffer.from("99991231235959Z")),
);

function commonName(text: string): Buffer {
  const value = der(TAG.utf8String, Buffer.from(text));
  return sequence(der(TAG.set, sequence(oid(OID.commonName), value)));
}

function extension(id: string, value: Uint8Array, options: { critical?: boolean } = {}): Buffer {
  const critical = options.critical === true ? [TRUE] : [];
  return sequence(oid(id), ...critical, der(TAG.octetString, value));
}

/** Section 4.2.1.2, method 1 of RFC 7093: the first 20 bytes of the SHA-256 of the key. */
function keyIdentifier(key: KeyObject): Buffer {
  const spki = key.export({ format: "der", type: "spki" });
  return createHash("sha256").update(spki.subarray(-32)).digest().subarray(0, 20);
}

function ipBytes(address: string): Uint8Array {
  const bytes = address.includes(":") ? parseIpv6(address) : parseIpv4(address);
  if (bytes === null) throw new RangeError(`${address} is no address`);
  return bytes;
}

/** Section 4.1: signed, and as PEM (RFC 7468). */
function certificate(
  signer: KeyObject,
  made: {
    serial: Uint8Array;
    issuer: Uint8Array;
    subject: Uint8Array;
    publicKey: KeyObject;
    extensions: Uint8Array[];
  },
): string {
  const toBeSigned = sequence(
    der(TAG.version, integer(Buffer.of(2))), // version 3
    integer(made.serial),
    ALGORITHM,
    made.issuer,
    VALIDITY,
    made.subject,
    made.publicKey.export({ format: "der", type: "spki" }),
    der(TAG.extensions, sequence(...made.extensions)),
  );
  const signature = sign(null, toBeSigned, signer);
  const whole = sequence(toBeSigned, ALGORITHM, der(TAG.bitString, Buffer.of(0), signature));
  const lines = whole.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
