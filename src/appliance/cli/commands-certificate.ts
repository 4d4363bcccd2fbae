// SPDX-License-Identifier: Apache-2.0
//
// `cairn host certificate`: issues a certificate for a host and writes it with its key to files
// that were made before anything is asked, so that one which cannot be kept is never issued; or
// revokes one.

import {
  type HostCertificateSchema,
  HostSchema,
  MadeCertificateSchema,
} from "#appliance/api/host-schemas.ts";
import type { z } from "zod";
import { timeInWords } from "#appliance/api/words.ts";
import type { HostView } from "#appliance/host-backend.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, type Call, type Command } from "./command.ts";
import { Misuse } from "./failure.ts";
import type { SecretFile } from "./machine.ts";

const HOSTS = "/api/v1/hosts";
/** So much of a fingerprint has to be said at least. */
const PREFIX_DIGITS_MIN = 8;
type Certificate = z.infer<typeof HostCertificateSchema>;

export function certificatesInWords({ certificates }: Pick<HostView, "certificates">): string {
  const shown = certificates.map(({ fingerprint, untilMs }) => {
    return `${fingerprint.slice(0, 16)} until ${timeInWords(untilMs)}`;
  });
  return shown.join(", ") || "none";
}

const certificate: Command = {
  words: ["host", "certificate"],
  operands: [{ name: "HOST", kind: "one" }],
  flags: [
    ...ASKING_FLAGS,
    {
      name: "save",
      kind: "path",
      value: "BEGINNING",
      sentence:
        "files BEGINNING-cert.pem, -key.pem and -ca.pem, usually HOST; never over older ones",
    },
    {
      name: "revoke",
      kind: "text",
      value: "FINGERPRINT",
      sentence: "none new; this one, as host show begins it, is worth nothing any more",
    },
  ],
  sentence: "issue a certificate that a host shows over TLS, wherever it comes from; or revoke one",
  run: async (call) => {
    const place = `${HOSTS}/${encodeURIComponent(call.operands[0] ?? "")}`;
    const { value } = await call.ask(HostSchema, "GET", place);
    const revoked = call.flags.word("revoke");
    const here = `${HOSTS}/${value.host}/certificates`;
    return revoked === null ? issue(call, value, here) : revoke(call, value, here);
  },
};

async function issue(call: Call, host: HostView, place: string): Promise<number> {
  const beginning = fromHere(call, call.flags.word("save") ?? host.name);
  const names = {
    certificate: `${beginning}-cert.pem`,
    key: `${beginning}-key.pem`,
    authority: `${beginning}-ca.pem`,
  };
  const reserved: SecretFile[] = [];
  try {
    for (const name of Object.values(names)) {
      reserved.push(await call.machine.reserveSecretFile(name));
    }
    const { value } = await call.ask(MadeCertificateSchema, "POST", place);
    const [certificateFile, keyFile, authorityFile] = reserved;
    await certificateFile?.fill(value.certificate);
    await keyFile?.fill(value.key);
    await authorityFile?.fill(value.authority);
    const { fingerprint, untilMs } = value;
    await call.print({ ...names, fingerprint, untilMs }, () => {
      const use = `--tls yes --ca ${names.authority} --certificate ${names.certificate}`;
      return (
        `${host.name} is known by the certificate in ${names.certificate} until ` +
        `${timeInWords(untilMs)} UTC.\nOn that host: cairn host attach VOLUME ${use} ` +
        `--key ${names.key}\n`
      );
    });
    return 0;
  } catch (error) {
    for (const file of reserved) await file.discard();
    throw error;
  }
}

async function revoke(call: Call, host: HostView, place: string): Promise<number> {
  const { fingerprint } = one(host.certificates, call.flags.word("revoke") ?? "");
  await call.askPlain("DELETE", `${place}/${fingerprint}`);
  const sentence = `The certificate is revoked; what ${host.name} had attached by it has ended.\n`;
  await call.print({ revoked: fingerprint }, () => sentence);
  return 0;
}

function one(certificates: readonly Certificate[], beginning: string): Certificate {
  const wanted = beginning.toLowerCase().replaceAll(":", "");
  if (wanted.length < PREFIX_DIGITS_MIN) {
    throw new Misuse(`--revoke: at least ${PREFIX_DIGITS_MIN} digits of the fingerprint`);
  }
  const [found, ...others] = certificates.filter((each) => each.fingerprint.startsWith(wanted));
  if (found !== undefined && others.length === 0) return found;
  throw new Misuse(`--revoke: ${others.length > 0 ? "several begin" : "no certificate begins"} so`);
}

export const certificateCommands: readonly Command[] = [certificate];
