// SPDX-License-Identifier: Apache-2.0
//
// Knocks at an etcd peer port as a member, without a certificate, with a stranger's, and without
// TLS, and prints what each got as JSON. Arguments: address, the cluster's secret in hex.

import { connect as connectPlain } from "node:net";
import { connect } from "node:tls";
import type { ConnectionOptions } from "node:tls";
import { issueEtcdCertificates } from "#machine/etcd-certificates.ts";

const [, , address = "", secret = ""] = process.argv;
const REQUEST = "GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
const LIMIT_MS = 5000;

function certificates(clusterSecret: Uint8Array) {
  return issueEtcdCertificates({
    clusterSecret,
    clusterUuid: "0".repeat(32),
    keyId: 1,
    name: "probe",
    address: "fd00:ca12::2",
  });
}

function knock(open: (ready: () => void) => import("node:net").Socket): Promise<string> {
  return new Promise((resolve) => {
    let seen = "";
    const socket = open(() => socket.write(REQUEST));
    const finish = (verdict: string) => {
      resolve(verdict);
      socket.destroy();
    };
    socket.on("data", (bytes) => {
      seen += String(bytes);
      if (seen.startsWith("HTTP/1.1 200")) finish("answered");
    });
    socket.once("error", (error) => finish(`refused: ${error.message}`));
    socket.once("close", () => finish(`refused: closed ${seen.slice(0, 40)}`));
    setTimeout(() => finish("silent"), LIMIT_MS).unref();
  });
}

function byTls(options: ConnectionOptions): Promise<string> {
  const all = { host: address, port: 2380, rejectUnauthorized: false, ...options };
  return knock((ready) => connect(all, ready));
}

const own = await certificates(Uint8Array.fromHex(secret));
const other = await certificates(new Uint8Array(32).fill(9));
const verdicts = {
  member: await byTls({ cert: own.certificatePem, key: own.keyPem }),
  none: await byTls({}),
  stranger: await byTls({ cert: other.certificatePem, key: other.keyPem }),
  plain: await knock((ready) => connectPlain({ host: address, port: 2380 }, ready)),
};
process.stdout.write(JSON.stringify(verdicts));
process.exit(0);
