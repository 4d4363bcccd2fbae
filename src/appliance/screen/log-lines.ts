// SPDX-License-Identifier: Apache-2.0
//
// Lines of the daemon's log in the words of people. The daemon writes JSON (src/machine/log.ts);
// what else the journal holds, such as the message of a command line that failed, stays as it is.
//
// Invariant: secrets are taken out even though none should be there: values that are known to be
// secret on this box, and whatever stands behind a name that means one.

const SECRET_KEYS = /("?\b\w*(?:secret|token|password|passphrase|private_?key)\w*"?\s*[:=]\s*)/gi;
const VALUE = /^("(?:[^"\\]|\\.)*"?|[^\s,;}\]]+)/;
const BEARER = /\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}/gi;
/** A shorter one would take ordinary words along. */
const SECRET_CHARACTERS_MIN = 6;
const TAKEN_OUT = "[secret]";

/** `12:34:56 warn: disk refused (disk /dev/sdb, reason ...)` */
export function logLineInWords(line: string): string {
  if (!line.startsWith("{")) return line;
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return line; // cut by the journal: better as it is than not at all
  }
  if (typeof parsed !== "object" || parsed === null) return line;
  const { time, level, sentence, ...facts } = parsed as Record<string, unknown>;
  if (typeof sentence !== "string") return line;
  const clock = typeof time === "string" ? `${time.slice(11, 19)} ` : "";
  const grave = level === "warn" || level === "error" ? `${level}: ` : "";
  const shown = Object.entries(facts).map(([name, value]) => `${name} ${valueInWords(value)}`);
  return `${clock}${grave}${sentence}${shown.length === 0 ? "" : ` (${shown.join(", ")})`}`;
}

function valueInWords(value: unknown): string {
  // Of a stack the first line says what it was.
  if (typeof value === "string") return value.split("\n")[0] ?? "";
  return JSON.stringify(value) ?? "";
}

/** `secrets`: values that are secret on this box. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let shown = text;
  for (const secret of secrets) {
    if (secret.length >= SECRET_CHARACTERS_MIN) shown = shown.replaceAll(secret, TAKEN_OUT);
  }
  shown = shown.replaceAll(BEARER, `$1 ${TAKEN_OUT}`);
  const parts = shown.split(SECRET_KEYS);
  // Text, key, text, key, text: what follows a key loses its first value.
  return parts
    .map((part, at) => (at > 0 && at % 2 === 0 ? part.replace(VALUE, TAKEN_OUT) : part))
    .join("");
}
