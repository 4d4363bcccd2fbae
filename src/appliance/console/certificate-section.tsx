// SPDX-License-Identifier: Apache-2.0
//
// A host's certificates on its page. A new one is shown in the answer that it was made by, with its
// key, and nowhere else: neither the session nor the cluster keeps the key.

/** @jsxImportSource hono/jsx */

import { timeInWords } from "#appliance/api/words.ts";
import type { HostView, MadeCertificateView } from "#appliance/host-backend.ts";
import { Copyable, Form, Table } from "./frame.tsx";
import type { Session } from "./sessions.ts";

/** Enough of a fingerprint to tell one from another. */
const SHORT_DIGITS = 16;

export function CertificateSection(options: {
  host: HostView;
  /** Of the host's page. */
  page: string;
  made: MadeCertificateView | null;
  session: Session;
}) {
  const { host, page, made, session } = options;
  const place = `${page}/certificate`;
  return (
    <section aria-labelledby="certificates">
      <h2 id="certificates">Certificates</h2>
      <p class="lead">
        With a certificate it is known over TLS wherever it comes from; without an address it is
        known by nothing else. A revoked one ends what was attached by it.
      </p>
      {made === null ? null : <Made host={host} made={made} />}
      <Table
        id="certificate-table"
        caption="Certificates that it may show"
        columns={["Fingerprint", "From (UTC)", "Until (UTC)", "Revoke it"]}
        empty="It has none."
        rows={host.certificates.map(({ fingerprint, fromMs, untilMs }) => [
          <code>{fingerprint.slice(0, SHORT_DIGITS)}</code>,
          timeInWords(fromMs),
          timeInWords(untilMs),
          <Form session={session} action={`${place}/revoke`}>
            <input type="hidden" name="fingerprint" value={fingerprint} />
            <button
              type="submit"
              class="second"
              aria-label={`Revoke ${fingerprint.slice(0, SHORT_DIGITS)}`}
            >
              Revoke
            </button>
          </Form>,
        ])}
      />
      <Form session={session} action={place} class="actions">
        <button type="submit" class="second">
          Issue a certificate
        </button>
      </Form>
    </section>
  );
}

function Made({ host, made }: { host: HostView; made: MadeCertificateView }) {
  const { name } = host;
  const attach =
    "cairn host attach VOLUME --url URL --token-file FILE --tls yes --ca ca-cert.pem " +
    `--certificate ${name}-cert.pem --key ${name}-key.pem`;
  const parts = [
    ["made-certificate", `${name}-cert.pem`, made.certificate],
    ["made-key", `${name}-key.pem`, made.key],
    ["made-authority", "ca-cert.pem", made.authority],
  ] as const;
  return (
    <section class="card" aria-labelledby="made">
      <h3 id="made">The new certificate of {name}</h3>
      <p>Shown this once. Keep the three on that host, the key where only root can read it:</p>
      <Copyable id="made-attach" label="How to attach with it" text={attach} />
      {parts.map(([id, file, text]) => (
        <div>
          <h4>{file}</h4>
          <Copyable id={id} label={file} text={text} />
        </div>
      ))}
    </section>
  );
}
