// SPDX-License-Identifier: Apache-2.0
//
// What a transaction may look like before it is sent anywhere: refused with badRequest, nothing
// done.

import { Fault } from "#base/fault.ts";
import { TRANSACTION_OPERATIONS_MAX, VALUE_CHARACTERS_MAX } from "./control-store.ts";
import type { Transaction } from "./control-store.ts";

/** Characters of one key. */
export const KEY_CHARACTERS_MAX = 512;
/** Characters of all values of one transaction: below etcd's 1.5 MiB even in base64. */
const TRANSACTION_CHARACTERS_MAX = VALUE_CHARACTERS_MAX;

export function checkTransaction(transaction: Transaction): void {
  const puts = transaction.puts ?? [];
  const deletes = transaction.deletes ?? [];
  const operations = Math.max(transaction.ifs.length, puts.length + deletes.length);
  if (operations > TRANSACTION_OPERATIONS_MAX) {
    throw new Fault("badRequest", `${operations} operations in one transaction`);
  }
  const written = new Set<string>();
  for (const key of [...puts.map((put) => put.key), ...deletes]) {
    checkKey(key);
    if (written.has(key)) throw new Fault("badRequest", `${key} is written twice`);
    written.add(key);
  }
  for (const compare of transaction.ifs) checkKey(compare.key);
  let characters = 0;
  for (const put of puts) characters += put.value.length;
  if (characters > TRANSACTION_CHARACTERS_MAX) {
    throw new Fault("badRequest", `${characters} characters in one transaction`);
  }
}

export function checkKey(key: string): void {
  if (key === "") throw new Fault("badRequest", "an empty key");
  if (key.length > KEY_CHARACTERS_MAX) throw new Fault("badRequest", "a key is too long");
}
