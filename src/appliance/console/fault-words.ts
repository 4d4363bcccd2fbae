// SPDX-License-Identifier: Apache-2.0
//
// A Fault as a sentence for a person at a page.

import { type Fault, faultTable } from "#base/fault.ts";

/** Where the detail says all: what kind of refusal it is shows from it. */
const PLAIN: readonly string[] = ["badRequest", "forbidden", "notFound"];

export function sentenceOf(fault: Fault): string {
  const kind = faultTable[fault.code][2];
  const detail = fault.message.startsWith(`${kind}: `)
    ? fault.message.slice(kind.length + 2)
    : fault.message;
  const said = PLAIN.includes(fault.code) ? detail : `${fault.message}. Hint: ${fault.hint}`;
  return `${said.slice(0, 1).toUpperCase()}${said.slice(1)}.`;
}
