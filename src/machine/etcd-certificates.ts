// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the links between etcd peers (X.509, RFC 5280; Ed25519, RFC 8410).
//
// Every admitted unit knows the cluster's secret. From it each derives the same certificate
// authority (a deterministic key, hence the same certificate on every unit) and issues itself a
// certificate for its own address. A peer without the secret can make none and is refused by etcd's
// mutual TLS.
//
// Nothing here expires by the clock (R4: wall clocks decide nothing, not even certificates between
// units; a box whose clock starts in 1970 must get in): valid from 1970 to 9999, RFC 5280's "no
// well defined expiration". Rotation is by `keyId`, another label to derive from.

import "reflect-metadata"; // before x509, which needs it while it is loaded
import * as x509 from "@peculiar/x509";
import { createPrivateKey, createPublicKey, hkdfSync, randomBytes, webcrypto } from "node:crypto";

const ALGORITHM = { name: "Ed25519" };
const FROM = new Date("1970-01-01T00:00:00Z");
const UNTIL = new Date("9999-12-31T23:59:59Z");
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
  const authority = await authorityKeys(options);
  const issuer = `CN=Cairn ${options.clusterUuid} key ${options.keyId}`;
  const authorityCertificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: issuer,
    notBefore: FROM,
    notAfter: UNTIL,
    signingAlgorithm: ALGORITHM,
    keys: authority,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  const own = (await webcrypto.subtle.generateKey(ALGORITHM, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.create({
    // Positive and never zero, as RFC 5280 section 4.1.2.2 wants it.
    serialNumber: `01${randomBytes(15).toString("hex")}`,
    subject: `CN=${options.name}`,
    issuer,
    notBefore: FROM,
    notAfter: UNTIL,
    signingAlgorithm: ALGORITHM,
    publicKey: own.publicKey,
    signingKey: authority.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: "ip", value: options.address }]),
      await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  return {
    authorityPem: `${authorityCertificate.toString("pem")}\n`,
    certificatePem: `${certificate.toString("pem")}\n`,
    keyPem: pem("PRIVATE KEY", await webcrypto.subtle.exportKey("pkcs8", own.privateKey)),
  };
}

async function authorityKeys(options: EtcdCertificateOptions): Promise<CryptoKeyPair> {
  if (options.clusterSecret.length < SECRET_BYTES_LEAST) {
    throw new RangeError("the cluster's secret is too short");
  }
  const label = `cairn etcd peer authority ${options.keyId}`;
  const seed = hkdfSync("sha256", options.clusterSecret, options.clusterUuid, label, 32);
  const pkcs8 = Buffer.concat([PKCS8_PREFIX, Buffer.from(seed)]);
  const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  const [privateKey, publicKey] = await Promise.all([
    webcrypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, false, ["sign"]),
    webcrypto.subtle.importKey("spki", spki, ALGORITHM, true, ["verify"]),
  ]);
  return { privateKey, publicKey } as CryptoKeyPair;
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
