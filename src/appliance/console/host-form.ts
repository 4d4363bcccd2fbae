// SPDX-License-Identifier: Apache-2.0
//
// The forms about hosts: what was typed, kept as it was typed for showing it again, and what it
// comes to. The rules are the API's own (host-schemas.ts).

import { Fault } from "#base/fault.ts";
import { AddHostSchema, ChangeHostSchema } from "#appliance/api/host-schemas.ts";
import { parseSize } from "#appliance/api/words.ts";
import type { AddHost, HostBackend, HostPolicyView, HostView } from "#appliance/host-backend.ts";

export interface HostForm {
  name: string;
  addresses: string;
}

export function typedHost(form: URLSearchParams): HostForm {
  return { name: (form.get("name") ?? "").trim(), addresses: form.get("addresses") ?? "" };
}

/** What is asked for, or a Fault that names the field. */
export function wantedHost(form: HostForm): AddHost {
  const parsed = AddHostSchema.safeParse({ name: form.name, addresses: linesOf(form.addresses) });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const isTooLong = issue?.path.length === 1 && issue.path[0] === "addresses";
  const message = isTooLong ? "at most 64 addresses or ranges" : (issue?.message ?? "");
  throw new Fault("badRequest", `${String(issue?.path[0] ?? "")}: ${message}`);
}

/** What a host may have by asking for it, as typed, or a Fault that names the field. */
export function wantedPolicy(form: URLSearchParams): HostPolicyView {
  const quota = (form.get("quota") ?? "").trim();
  const quotaBytes = quota === "0" || quota === "" ? 0 : parseSize(quota);
  if (quotaBytes === null) throw new Fault("badRequest", "quota: such as 100G or 1T; 0: nothing");
  const protections = form.getAll("may-ask");
  const grants = form.get("grants") === "yes";
  const pools = form.getAll("in-pool");
  const policy = { quotaBytes, protections, pools, grants };
  const parsed = ChangeHostSchema.safeParse({ policy });
  if (!parsed.success || parsed.data.policy === undefined) {
    throw new Fault("badRequest", "protections or pools: not one that there is");
  }
  return parsed.data.policy;
}

/** The host that comes from the addresses typed, or what would be added; null: nothing is typed. */
export function hostTyped(backend: HostBackend, typed: string): HostView | AddHost | null {
  const addresses = linesOf(typed);
  const [first] = addresses;
  if (first === undefined) return null;
  const name = `host-${first.replaceAll(/[^A-Za-z0-9._-]/g, "-")}`;
  const wanted = wantedHost({ name, addresses: typed });
  const holds = (host: HostView) => addresses.every((one) => host.addresses.includes(one));
  return backend.list().find(holds) ?? wanted;
}

export function linesOf(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== "");
}
