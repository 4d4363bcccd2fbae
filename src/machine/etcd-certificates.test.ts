// SPDX-License-Identifier: Apache-2.0
//
// Certificates between etcd peers, as OpenSSL (in node:crypto) reads them.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { X509Certificate, createPrivateKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
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

test("OpenSSL's command reads what is meant, and finds the chain good for both directions", () => {
  // Where the command is missing node's own OpenSSL above has read them already.
  if (Bun.which("openssl") === null) return;
  const directory = mkdtempSync(path.join(tmpdir(), "cairn-certificates-"));
  const file = (name: string) => path.join(directory, name);
  return issueEtcdCertificates({ ...base, name: "Käse-box" })
    .then(({ authorityPem, certificatePem }) => {
      writeFileSync(file("authority.pem"), authorityPem);
      writeFileSync(file("own.pem"), certificatePem);
      const openssl = (...words: string[]) =>
        spawnSync("openssl", words, { encoding: "utf8", cwd: directory });
      for (const purpose of ["sslserver", "sslclient"]) {
        const trust = ["-CAfile", "authority.pem", "-x509_strict", "-purpose", purpose];
        const result = openssl("verify", ...trust, "own.pem");
        expect([purpose, result.stdout.trim(), result.stderr]).toEqual([
          purpose,
          "own.pem: OK",
          "",
        ]);
      }
      const shown = openssl("x509", "-in", "own.pem", "-noout", "-text").stdout;
      expect(shown).toContain("Not After : Dec 31 23:59:59 9999 GMT");
      expect(shown).toContain("IP Address:FD00:0:0:0:0:0:0:1");
      expect(shown).toContain("TLS Web Server Authentication, TLS Web Client Authentication");
    })
    .finally(() => rmSync(directory, { recursive: true, force: true }));
});

test("IPv4 addresses and long names are encoded too; what is no address is refused", async () => {
  const made = await issueEtcdCertificates({ ...base, address: "10.0.0.7", name: "n".repeat(200) });
  const read = new X509Certificate(made.certificatePem);
  expect(read.checkIP("10.0.0.7")).toBeDefined();
  expect(read.subject).toContain("n".repeat(200));
  const none = issueEtcdCertificates({ ...base, address: "box" });
  expect(none).rejects.toThrow("no address");
});
