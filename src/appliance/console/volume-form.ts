// SPDX-License-Identifier: Apache-2.0
//
// The form of a new volume: what was typed, kept as it was typed for showing it again, and what it
// comes to. The rules are the API's own (schemas.ts).

import { Fault } from "#base/fault.ts";
import { CreateVolumeSchema } from "#appliance/api/schemas.ts";
import { parseSize } from "#appliance/api/words.ts";
import type { CreateVolume } from "#appliance/backend.ts";

export interface VolumeForm {
  name: string;
  size: string;
  protection: string;
  /** Empty: the first one. */
  pool: string;
  /** Numbers of hosts that were ticked. */
  hosts: readonly string[];
  /** Of a host that is not there yet. */
  address: string;
}

export function emptyForm(units: number): VolumeForm {
  return {
    name: "",
    size: "",
    protection: units > 1 ? "mirror-2" : "none",
    pool: "",
    hosts: [],
    address: "",
  };
}

/** What may be offered first: a round size that leaves most of the space, for whoever asks. */
export function firstForm(units: number, freeBytes: number, from: string): VolumeForm {
  const form = emptyForm(units);
  const copies = form.protection === "none" ? 1 : 2;
  const roomBytes = freeBytes / copies / 4;
  const size = ["100G", "10G", "1G", "100M"].find((one) => (parseSize(one) ?? 0) <= roomBytes);
  return { ...form, name: "first", size: size ?? "", address: from };
}

export function typedForm(form: URLSearchParams): VolumeForm {
  const word = (name: string) => form.get(name) ?? "";
  return {
    name: word("name").trim(),
    size: word("size").trim(),
    protection: word("protection"),
    pool: word("pool"),
    hosts: form.getAll("host"),
    address: word("address"),
  };
}

/** Bytes, or a Fault that names the field. */
export function wantedSize(size: string): number {
  const sizeBytes = parseSize(size);
  if (sizeBytes === null) throw new Fault("badRequest", "size: such as 100G, 64M or 1.5T");
  return sizeBytes;
}

/** What is asked for, or a Fault that names the field. */
export function wantedVolume(form: VolumeForm): CreateVolume {
  const sizeBytes = wantedSize(form.size);
  const { name, protection, pool } = form;
  const parsed = CreateVolumeSchema.safeParse({
    name,
    sizeBytes,
    protection,
    hosts: form.hosts,
    ...(pool === "" ? {} : { pool }),
  });
  if (parsed.success) return parsed.data;
  throw issueFault(parsed.error.issues[0]);
}

const FIELD_WORDS: Record<string, string> = { hosts: "who may attach", sizeBytes: "size" };

function issueFault(issue: { path: readonly PropertyKey[]; message: string } | undefined): Fault {
  const field = String(issue?.path[0] ?? "");
  return new Fault("badRequest", `${FIELD_WORDS[field] ?? field}: ${issue?.message ?? ""}`);
}
