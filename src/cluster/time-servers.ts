// SPDX-License-Identifier: Apache-2.0
//
// Servers that tell boxes the time (NTP), as one word of a person: names and addresses with commas
// between them, such as `10.0.0.1,ntp.example.org`. What passes here can stand in a file of
// systemd-timesyncd: it ends no line and no value.

import { z } from "zod";
import { isHostAddress } from "./address-range.ts";

const SERVERS_MAX = 4;
const NAME_CHARACTERS_MAX = 253;
/** RFC 1123, section 2.1. */
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*$/;

/** Null: it is no such list. */
export function parseTimeServers(text: string): string[] | null {
  const servers = text.split(",").map((word) => word.trim());
  const areServers = servers.every((word) => {
    // What consists of digits and dots is an address, or a typing error.
    if (/^[\d.]+$/.test(word) || word.includes(":")) return isHostAddress(word);
    return word.length <= NAME_CHARACTERS_MAX && NAME.test(word);
  });
  return areServers && servers.length <= SERVERS_MAX ? servers : null;
}

export const timeServersSchema = z
  .string()
  .max(SERVERS_MAX * (NAME_CHARACTERS_MAX + 2))
  .refine(
    (text) => parseTimeServers(text) !== null,
    `at most ${SERVERS_MAX} names or addresses, such as 10.0.0.1,ntp.example.org`,
  );
