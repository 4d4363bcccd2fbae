// SPDX-License-Identifier: Apache-2.0
//
// Certificate, key and authority for TLS, from PEM files that somebody else renews: read again when
// they change, so that a renewed certificate needs no restart. Files that cannot be used leave what
// was there before in use.

import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { Fault } from "#base/fault.ts";

/** A chain of certificates, or a list of authorities, is no larger. */
const FILE_BYTES_MAX = 1 << 20;

export interface TlsFiles {
  /** The certificate to show, and what leads from it to its authority. */
  certificateFile: string;
  keyFile: string;
  /** Clients must show a certificate of one of these; null: none is asked for. */
  clientAuthorityFile: string | null;
}

/**
 * For who begins connections: whose certificates are believed, and the own one, where it is asked.
 */
export interface TlsClientFiles {
  authorityFile: string;
  own: { certificateFile: string; keyFile: string } | null;
}

/** What a unit shows and believes that has it from its cluster, PEM. */
export interface ClusterTls {
  /** The cluster's own authority; null: no host has a certificate of it, and none is asked for. */
  authority: string | null;
  /** Shown where there are no files. */
  pair: { cert: string; key: string };
}

/** What Bun wants to be told. */
export interface TlsIdentity {
  cert?: string;
  key?: string;
  ca?: string | string[];
  requestCert: boolean;
  rejectUnauthorized: boolean;
}

/** Throws Fault badConfiguration, in a sentence that names the file and never what is in it. */
export function readTlsFiles(files: TlsFiles | TlsClientFiles): TlsIdentity {
  return "authorityFile" in files ? clientIdentity(files) : serverIdentity(files);
}

function serverIdentity({ clientAuthorityFile, ...own }: TlsFiles): TlsIdentity {
  const isAsked = clientAuthorityFile !== null;
  const identity = { ...pairOf(own), requestCert: isAsked, rejectUnauthorized: isAsked };
  return isAsked ? { ...identity, ca: authorityOf(clientAuthorityFile) } : identity;
}

function clientIdentity({ authorityFile, own }: TlsClientFiles): TlsIdentity {
  const ca = authorityOf(authorityFile);
  const pair = own === null ? {} : pairOf(own);
  return { ...pair, ca, requestCert: true, rejectUnauthorized: true };
}

function authorityOf(file: string): string {
  const text = readText(file);
  certificateOf(file, text);
  return text;
}

function pairOf({ certificateFile, keyFile }: { certificateFile: string; keyFile: string }) {
  const cert = readText(certificateFile);
  const key = readText(keyFile);
  const certificate = certificateOf(certificateFile, cert);
  let matches = false;
  try {
    matches = certificate.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw fault(keyFile, "holds no private key that can be used", cause);
  }
  if (!matches) throw fault(keyFile, `is not the key of ${certificateFile}`);
  return { cert, key };
}

/**
 * A server's: from its files, else as the cluster gave it. A certificate of the cluster's authority
 * may be shown, one of `clientAuthorityFile` or of the cluster's must be where that is said.
 */
export function serverTls(files: TlsFiles | null, cluster: ClusterTls | null): TlsIdentity | null {
  if (cluster === null) return files === null ? null : serverIdentity(files);
  const unasked = { requestCert: false, rejectUnauthorized: false };
  const own: TlsIdentity = files === null ? { ...cluster.pair, ...unasked } : serverIdentity(files);
  if (cluster.authority === null) return own;
  const believed = typeof own.ca === "string" ? [own.ca] : [];
  return { ...own, requestCert: true, ca: [...believed, cluster.authority] };
}

/** When each of the files changed last; another text means that they are to be read again. */
export function tlsFilesMark(files: TlsFiles | TlsClientFiles): string {
  const names =
    "authorityFile" in files
      ? [files.authorityFile, files.own?.certificateFile, files.own?.keyFile]
      : [files.certificateFile, files.keyFile, files.clientAuthorityFile];
  return names.map((name) => markOf(name ?? null)).join(" ");
}

function markOf(file: string | null): string {
  if (file === null) return "";
  const found = statSync(file, { throwIfNoEntry: false });
  return found === undefined ? "none" : `${found.ino}-${found.mtimeMs}-${found.size}`;
}

function readText(file: string): string {
  try {
    if (statSync(file).size > FILE_BYTES_MAX) throw fault(file, "is larger than 1 MiB");
    return readFileSync(file, "utf8");
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw fault(file, `cannot be read (${(cause as NodeJS.ErrnoException).code})`, cause);
  }
}

function certificateOf(file: string, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch (cause) {
    throw fault(file, "holds no certificate in PEM form", cause);
  }
}

function fault(file: string, what: string, cause?: unknown): Fault {
  return new Fault(
    "badConfiguration",
    `TLS: ${file} ${what}`,
    cause === undefined ? {} : { cause },
  );
}
