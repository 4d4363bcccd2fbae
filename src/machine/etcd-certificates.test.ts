// SPDX-License-Identifier: Apache-2.0
//
// Certificates between etcd peers, as OpenSSL (in node:crypto) reads them.

import { expect, test } from "bun:test";
import { X509Certificate, createPrivateKey } from "node:crypto";
import { issueEtcdCertificates } from "./etcd-certificates.ts";

const base = {
  clusterSecret: new Uint8Array(32).fill(7),
  clusterUuid: "0".repeat(32),
  keyId: 1,
  name: "box",
  address: "fd00::1",
};

test("two units derive the same authority and accept each other's certificates", async () => {
  const one = await issueEtcdCertificates(base);
  const two = await issueEtcdCertificates({ ...base, name: "other", address: "fd00::2" });
  expect(one.authorityPem).toBe(two.authorityPem);
  const authority = new X509Certificate(one.authorityPem);
  const leaf = new X509Certificate(two.certificatePem);
  expect(authority.ca).toBe(true);
  expect(leaf.ca).toBe(false);
  expect(leaf.verify(authority.publicKey)).toBe(true);
  expect(leaf.checkIP("fd00::2")).toBeDefined();
  expect(leaf.checkIP("fd00::1")).toBeUndefined();
  expect(leaf.checkPrivateKey(createPrivateKey(two.keyPem))).toBe(true);
  expect(leaf.checkPrivateKey(createPrivateKey(one.keyPem))).toBe(false);
});

test("nothing expires by the clock", async () => {
  const { authorityPem, certificatePem } = await issueEtcdCertificates(base);
  for (const pem of [authorityPem, certificatePem]) {
    const read = new X509Certificate(pem);
    expect(new Date(read.validFrom).getTime()).toBe(0);
    expect(new Date(read.validTo).getUTCFullYear()).toBe(9999);
  }
});

test("another secret, cluster or key number → another authority", async () => {
  const authority = new X509Certificate((await issueEtcdCertificates(base)).authorityPem);
  const others = [
    { ...base, clusterSecret: new Uint8Array(32).fill(8) },
    { ...base, clusterUuid: "1".repeat(32) },
    { ...base, keyId: 2 },
  ];
  for (const other of others) {
    const { certificatePem } = await issueEtcdCertificates(other);
    expect(new X509Certificate(certificatePem).verify(authority.publicKey)).toBe(false);
  }
  const short = { ...base, clusterSecret: new Uint8Array(3) };
  expect(issueEtcdCertificates(short)).rejects.toThrow("too short");
});
