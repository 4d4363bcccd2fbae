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
// Written by x509.ts; Go's strict parser reads them in the tests of etcd.

import { createPrivateKey, createPublicKey } from "node:crypto";
import { generateKeyPairSync, hkdfSync, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
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
  const signer = {
    algorithm: OID.ed25519,
    sign: (bytes: Uint8Array) => sign(null, bytes, authority),
  };
  return {
    authorityPem: certificate(signer, {
      serial: Buffer.of(1),
      issuer,
      validity: validity(0, null),
      subject: issuer,
      publicKey: authorityPublic,
      extensions: [
        extension(OID.basicConstraints, sequence(TRUE, integer(Buffer.of(0))), { critical: true }),
        extension(OID.keyUsage, KEY_CERT_SIGN, { critical: true }),
        extension(OID.subjectKeyIdentifier, der(TAG.octetString, authorityId)),
      ],
    }),
    certificatePem: certificate(signer, {
      // Positive and never zero, as section 4.1.2.2 wants it.
      serial: Buffer.concat([Buffer.of(1), randomBytes(15)]),
      issuer,
      validity: validity(0, null),
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
