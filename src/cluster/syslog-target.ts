// SPDX-License-Identifier: Apache-2.0
//
// Where logs and events are sent besides: `10.0.0.5`, `10.0.0.5:514`, `[fd00::5]:514`. Addresses
// alone: a name would have to be asked for just when the network is in trouble.

import { z } from "zod";
import { isHostAddress } from "./address-range.ts";

const SYSLOG_PORT = 514;
const CHARACTERS_MAX = 53;

export interface SyslogTarget {
  address: string;
  port: number;
}

/** Null: it is no such place. */
export function parseSyslogTarget(text: string): SyslogTarget | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? (isHostAddress(text) ? text : "");
  const port = Number(match?.[3] ?? SYSLOG_PORT);
  if (!isHostAddress(address) || port < 1 || port > 65_535) return null;
  return { address, port };
}

export const syslogTargetSchema = z
  .string()
  .max(CHARACTERS_MAX)
  .refine((text) => parseSyslogTarget(text) !== null, "an address, such as 10.0.0.5:514");
