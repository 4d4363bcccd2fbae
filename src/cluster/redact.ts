// SPDX-License-Identifier: Apache-2.0
//
// What is handed out for support holds no secret, not even a hash of one: each is replaced by a
// stand-in of the same shape, the same one for the same secret, so that what compared them decides
// the same when it is replayed.

/** Members of records and arguments that hold a hash or a ticket, and what stands in for one. */
const STAND_INS: Readonly<Record<string, (number: string) => string>> = {
  tokenHash: (number) => number.padStart(64, "0"),
  passwordHash: (number) => `$argon2id$v=19$m=8,t=1,p=1$${number.padStart(22, "0")}$redacted`,
  ticket: (number) => number.padStart(32, "0"),
};

/** A copy of plain data without secrets. */
export function redacted(value: unknown): unknown {
  const seen = new Map<string, string>();
  const standIn = (name: string, secret: string): string => {
    const known = seen.get(secret) ?? STAND_INS[name]?.(String(seen.size + 1)) ?? "";
    seen.set(secret, known);
    return known;
  };
  const copy = (one: unknown): unknown => {
    if (Array.isArray(one)) return one.map(copy);
    if (typeof one !== "object" || one === null) return one;
    return Object.fromEntries(
      Object.entries(one).map(([name, inner]) => {
        const isSecret = Object.hasOwn(STAND_INS, name) && typeof inner === "string";
        return [name, isSecret ? standIn(name, inner) : copy(inner)];
      }),
    );
  };
  return copy(value);
}
