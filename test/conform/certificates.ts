// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the suite's TLS, made by openssl: an authority, a server of one address, a host.
// A folder holds them by the names that libnbd and qemu look for.

import { mkdirSync } from "node:fs";
import path from "node:path";
import { run } from "./programs.ts";

const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const DAYS = "30";

export interface Certificates {
  /** ca-cert.pem, and with it what is asked for below. */
  folder: string;
  authority: string;
}

/** An authority of its own in a new folder. */
export async function makeAuthority(folder: string): Promise<Certificates> {
  mkdirSync(folder, { recursive: true });
  const authority = path.join(folder, "ca-cert.pem");
  await run("openssl", [
    ...["req", "-x509", ...EC, "-days", DAYS, "-subj", "/CN=trial authority"],
    ...["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ...["-keyout", path.join(folder, "ca-key.pem"), "-out", authority],
  ]);
  return { folder, authority };
}

/** server-cert.pem and server-key.pem, for an address. */
export function issueServer(made: Certificates, address: string): Promise<void> {
  return issue(made, "server", `subjectAltName=IP:${address}`);
}

/** client-cert.pem and client-key.pem. */
export function issueClient(made: Certificates): Promise<void> {
  return issue(made, "client", "extendedKeyUsage=clientAuth");
}

async function issue(made: Certificates, name: string, extension: string): Promise<void> {
  const file = (part: string) => path.join(made.folder, `${name}-${part}.pem`);
  const request = path.join(made.folder, `${name}.csr`);
  await run("openssl", [
    ...["req", ...EC, "-subj", `/CN=${name}`, "-addext", extension],
    ...["-keyout", file("key"), "-out", request],
  ]);
  await run("openssl", [
    ...["x509", "-req", "-in", request, "-days", DAYS, "-copy_extensions", "copy"],
    ...["-CA", made.authority, "-CAkey", path.join(made.folder, "ca-key.pem")],
    ...["-CAcreateserial", "-out", file("cert")],
  ]);
}
