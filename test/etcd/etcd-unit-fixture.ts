// SPDX-License-Identifier: Apache-2.0
//
// One unit's etcd, as the daemon runs it, in a process of its own (which a test starts in a network
// namespace and may kill). Settings come as JSON in the first argument; writes `ready` once
// started.

import { mkdirSync } from "node:fs";
import { EtcdChild, clearEtcdDirectory, etcdDirectoryState } from "#machine/etcd-child.ts";
import type { EtcdStart } from "#machine/etcd-child.ts";
import { issueEtcdCertificates } from "#machine/etcd-certificates.ts";

export interface UnitSettings {
  directory: string;
  binary: string;
  name: string;
  address: string;
  peerPort: number;
  /** Hex. */
  clusterSecret: string;
  clear?: boolean;
  first?: { ticket: string; initialCluster: string; found: boolean; token: string };
}

if (import.meta.main) {
  const settings = JSON.parse(process.argv[2] ?? "{}") as UnitSettings;
  mkdirSync(settings.directory, { recursive: true });
  const certificates = await issueEtcdCertificates({
    clusterSecret: Uint8Array.fromHex(settings.clusterSecret),
    clusterUuid: "0".repeat(32),
    keyId: 1,
    name: settings.name,
    address: settings.address,
  });
  const log = {
    write: (level: string, sentence: string, facts?: object) => {
      process.stderr.write(`${level} ${sentence} ${JSON.stringify(facts ?? {})}\n`);
    },
  };
  if (settings.clear === true) clearEtcdDirectory(settings.directory);
  const child = new EtcdChild(log, settings);
  const start: EtcdStart =
    etcdDirectoryState(settings.directory).hasData || settings.first === undefined
      ? { kind: "resume" }
      : { kind: "first", ...settings.first };
  child.start(start, certificates);
  process.stdout.write(`ready ${child.processId}\n`);
  process.on("SIGTERM", () => {
    void child.stop().then(() => process.exit(0));
  });
}
