// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the console, as OpenSSL reads them, and in a real handshake.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { X509Certificate, createPrivateKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  issueHostCertificate,
  issueWebCertificate,
  signP256,
  webAuthority,
} from "./web-certificates.ts";

const NOW_MS = Date.UTC(2026, 5, 1);
const cluster = {
  clusterSecret: new Uint8Array(32).fill(7),
  clusterUuid: "0123456789abcdef".repeat(2),
};
const names = ["box", "box.local", "127.0.0.1", "fd00::1"];
const own = { name: "box", names, nowMs: NOW_MS };

test("RFC 6979, A.2.5: the signature of `sample` by P-256 with SHA-256", () => {
  const key = 0xc9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721n;
  expect(Buffer.from(signP256(key, Buffer.from("sample"))).toString("hex")).toBe(
    "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" +
      "022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
  );
});

test("every unit derives one and the same authority; another secret or cluster, another", () => {
  const one = webAuthority(cluster);
  expect(webAuthority(cluster)).toEqual(one);
  const leaf = new X509Certificate(issueWebCertificate(cluster, own).cert);
  const authority = new X509Certificate(one.pem);
  expect([authority.ca, leaf.ca]).toEqual([true, false]);
  expect(leaf.verify(authority.publicKey)).toBe(true);
  for (const other of [
    { ...cluster, clusterSecret: new Uint8Array(32).fill(8) },
    { ...cluster, clusterUuid: "f".repeat(32) },
  ]) {
    const stranger = new X509Certificate(webAuthority(other).pem);
    expect(leaf.verify(stranger.publicKey)).toBe(false);
  }
  expect(() => webAuthority({ ...cluster, clusterSecret: new Uint8Array(3) })).toThrow("short");
});

test("for the unit's names and addresses alone, and not for longer than browsers take", () => {
  const { cert, key } = issueWebCertificate(cluster, own);
  const leaf = new X509Certificate(cert);
  expect(leaf.checkPrivateKey(createPrivateKey(key))).toBe(true);
  expect([leaf.checkHost("box.local"), leaf.checkIP("fd00::1")]).not.toContain(undefined);
  expect([leaf.checkHost("evil"), leaf.checkIP("10.0.0.1")]).toEqual([undefined, undefined]);
  const days = (leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / 86_400_000;
  expect(days).toBeLessThan(400);
});

test("OpenSSL's command finds the chain good, strictly, today and for a server", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-web-"));
  try {
    const at = (name: string, text: string) => {
      writeFileSync(path.join(folder, name), text);
      return path.join(folder, name);
    };
    const authority = at("ca.pem", webAuthority(cluster).pem);
    const leaf = at("leaf.pem", issueWebCertificate(cluster, { ...own, nowMs: Date.now() }).cert);
    const words = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "box"];
    const run = spawnSync("openssl", [...words, "-CAfile", authority, leaf], { encoding: "utf8" });
    expect(run.stdout + run.stderr).toBe(`${leaf}: OK\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a host's → of the authority, for a client and no server, known by its fingerprint", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-web-"));
  try {
    const made = issueHostCertificate(cluster, { name: "db1", nowMs: Date.now() });
    const leaf = new X509Certificate(made.cert);
    expect(leaf.checkPrivateKey(createPrivateKey(made.key))).toBe(true);
    expect(leaf.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(made.fingerprint);
    expect([leaf.validFromDate.getTime(), leaf.validToDate.getTime()]).toEqual([
      made.fromMs,
      made.untilMs,
    ]);
    writeFileSync(path.join(folder, "ca.pem"), webAuthority(cluster).pem);
    writeFileSync(path.join(folder, "host.pem"), made.cert);
    const verify = (purpose: string) =>
      spawnSync(
        "openssl",
        ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", "host.pem"],
        { cwd: folder, encoding: "utf8" },
      ).status;
    expect([verify("sslclient"), verify("sslserver")]).toEqual([0, 2]);
    const again = issueHostCertificate(cluster, { name: "db1", nowMs: Date.now() });
    expect(again.fingerprint).not.toBe(made.fingerprint);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a handshake → answered to who trusts the authority, and to nobody else", async () => {
  const { cert, key } = issueWebCertificate(cluster, { ...own, nowMs: Date.now() });
  const fetch_ = () => new Response("here");
  await using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: { cert, key },
    fetch: fetch_,
  });
  const url = `https://127.0.0.1:${server.port}/`;
  const ca = webAuthority(cluster).pem;
  expect(await (await fetch(url, { tls: { ca } })).text()).toBe("here");
  await expect(fetch(url)).rejects.toThrow();
  const other = webAuthority({ ...cluster, clusterUuid: "f".repeat(32) }).pem;
  await expect(fetch(url, { tls: { ca: other } })).rejects.toThrow();
});
