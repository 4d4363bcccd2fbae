// SPDX-License-Identifier: Apache-2.0
//
// Where the recovery page is served: where the API would be, as the boot media say, as far as they
// can be read. An owner who keeps the API off the network does not find the page there either.
// Pure.

import { addressBytes } from "#cluster/address-range.ts";

export interface ApiPlace {
  address: string;
  port: number;
}

const PORT_MAX = 65_535;
/** What is not for the network is for the box itself alone. */
const OFF_THE_NETWORK = "127.0.0.1";

/** `media`: texts of the boot media, the stronger one last. What makes no sense is passed over. */
export function apiPlaceOf(media: readonly string[], usual: ApiPlace): ApiPlace {
  const place = { ...usual };
  for (const text of media) {
    const settings = parsed(text);
    const { apiAddress, ports } = settings;
    if (apiAddress === null) place.address = OFF_THE_NETWORK;
    else if (typeof apiAddress === "string" && addressBytes(apiAddress) !== null) {
      place.address = apiAddress;
    }
    const port = (ports as { api?: unknown } | null | undefined)?.api;
    if (Number.isInteger(port) && (port as number) > 0 && (port as number) <= PORT_MAX) {
      place.port = port as number;
    }
  }
  return place;
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {}; // it may be just what keeps the daemon from running
  }
}
