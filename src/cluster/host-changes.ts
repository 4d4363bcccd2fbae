// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about hosts (host-state.ts): which there are, and which volumes
// they are assigned to. What is decided here reaches every unit by its view, and ends there what is
// no longer a host's right.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { HostNumber, VolumeNumber } from "#base/record.ts";
import { parseRange, rangeKey } from "./address-range.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import { HOSTS_MAX, HOST_CERTIFICATES_MAX, NO_POLICY, VOLUME_HOSTS_MAX } from "./host-state.ts";
import { HostCertificateSchema, fingerprintSchema } from "./host-state.ts";
import { hostAddressesSchema, hostByName } from "./host-state.ts";
import type { HostRecord } from "./host-state.ts";
import { spokenNameSchema } from "./name-schema.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const addresses = hostAddressesSchema.refine(
  (list) => list.every((text) => parseRange(text) !== null),
  "address ranges (CIDR)",
);

/** Arguments of the commands decided here. */
export const hostCommands = {
  addHost: z.object({ name: spokenNameSchema, addresses }),
  /** What is not said stays. */
  changeHost: z.object({
    host: positive,
    name: spokenNameSchema.optional(),
    addresses: addresses.optional(),
  }),
  removeHost: z.object({ host: positive }),
  assignVolume: z.object({ volume: positive, host: positive }),
  revokeVolume: z.object({ volume: positive, host: positive }),
  /** The asking unit issued it, and gave it away with its key. */
  addCertificate: z.object({ host: positive, certificate: HostCertificateSchema }),
  revokeCertificate: z.object({ host: positive, fingerprint: fingerprintSchema }),
} as const;

export interface HostAnswers {
  addHost: { host: HostNumber };
  changeHost: Record<string, never>;
  removeHost: Record<string, never>;
  assignVolume: Record<string, never>;
  revokeVolume: Record<string, never>;
  addCertificate: Record<string, never>;
  revokeCertificate: Record<string, never>;
}

/** Volumes whose record is written anew in one transaction, because a host is gone. */
const FORGOTTEN_PER_DRAFT = 24;
const TOO_MANY = `a volume is assigned to at most ${VOLUME_HOSTS_MAX} hosts`;

export function addHost(
  draft: Draft,
  args: CommandArguments<"addHost">,
  facts: { wallMs: number },
): { host: HostNumber } {
  const { view } = draft;
  if (view.hosts.size >= HOSTS_MAX) {
    throw new Fault("tooLarge", `a cluster has at most ${HOSTS_MAX} hosts`);
  }
  freeName(view, args.name);
  const number = draft.take("host");
  const ranges = freeRanges(view, args.addresses, number);
  const createdAtMs = Math.max(0, Math.floor(facts.wallMs));
  const policy = NO_POLICY;
  const { name } = args;
  putNew(draft, { number, name, addresses: ranges, certificates: [], createdAtMs, policy });
  return { host: number };
}

function putNew(draft: Draft, host: HostRecord): void {
  draft.put(keys.host(host.number), host);
  draft.put(keys.hostName(host.name), { host: host.number });
  draft.tell({
    kind: "host-added",
    severity: "info",
    sentence: `host ${host.name} was added: it ${whence(host.addresses)}`,
  });
}

export function changeHost(
  draft: Draft,
  args: CommandArguments<"changeHost">,
): Record<string, never> {
  const { view } = draft;
  const known = hostOf(view, args.host);
  const name = args.name ?? known.name;
  const ranges =
    args.addresses === undefined ? known.addresses : freeRanges(view, args.addresses, known.number);
  if (name !== known.name) {
    freeName(view, name);
    draft.delete(keys.hostName(known.name));
    draft.put(keys.hostName(name), { host: known.number });
  }
  draft.put(keys.host(known.number), { ...known, name, addresses: ranges });
  const was = name === known.name ? "" : `, ${known.name} before,`;
  draft.tell({
    kind: "host-changed",
    severity: "info",
    sentence: `host ${name}${was} ${whence(ranges)}`,
  });
  return {};
}

function whence(addresses: readonly string[]): string {
  return addresses.length === 0
    ? "is known by certificates alone"
    : `comes from ${addresses.join(", ")}`;
}

/** Those that ended make room for it. */
export function addCertificate(
  draft: Draft,
  args: CommandArguments<"addCertificate">,
  facts: { wallMs: number },
): Record<string, never> {
  const known = hostOf(draft.view, args.host);
  const kept = known.certificates.filter(({ untilMs }) => untilMs > facts.wallMs);
  if (kept.length >= HOST_CERTIFICATES_MAX) {
    const most = `a host has at most ${HOST_CERTIFICATES_MAX} certificates; revoke one first`;
    throw new Fault("tooLarge", most);
  }
  draft.put(keys.host(known.number), { ...known, certificates: [...kept, args.certificate] });
  draft.tell({
    kind: "host-certificate",
    severity: "info",
    sentence: `a certificate was issued to host ${known.name}`,
  });
  return {};
}

export function revokeCertificate(
  draft: Draft,
  args: CommandArguments<"revokeCertificate">,
): Record<string, never> {
  const known = hostOf(draft.view, args.host);
  const certificates = known.certificates.filter(
    ({ fingerprint }) => fingerprint !== args.fingerprint,
  );
  if (certificates.length === known.certificates.length) {
    throw new Fault("notFound", `host ${known.name} has no such certificate`);
  }
  draft.put(keys.host(known.number), { ...known, certificates });
  draft.tell({
    kind: "host-certificate-revoked",
    severity: "warning",
    sentence: `a certificate of host ${known.name} was revoked; what it had attached has ended`,
  });
  return {};
}

/** From here on it is nobody; the volumes that name it forget it in parts. */
export function removeHost(
  draft: Draft,
  args: CommandArguments<"removeHost">,
): Record<string, never> {
  const known = hostOf(draft.view, args.host);
  draft.delete(keys.host(known.number));
  draft.delete(keys.hostName(known.name));
  draft.tell({
    kind: "host-removed",
    severity: "info",
    sentence: `host ${known.name} was removed; it may use nothing any more`,
  });
  return {};
}

export function assignVolume(
  draft: Draft,
  args: CommandArguments<"assignVolume">,
): Record<string, never> {
  const { view } = draft;
  const volume = volumeOf(view, args.volume);
  const host = hostOf(view, args.host);
  if (volume.hosts.includes(host.number)) return {};
  // Not what is named and gone: upkeep forgets that.
  const there = volume.hosts.filter((number) => view.revisionOf(keys.host(number)) > 0);
  if (there.length >= VOLUME_HOSTS_MAX) throw new Fault("tooLarge", TOO_MANY);
  draft.relyOn(keys.host(host.number));
  draft.put(keys.volume(volume.number), { ...volume, hosts: [...there, host.number] });
  draft.tell({
    kind: "volume-assigned",
    severity: "info",
    sentence: `volume ${volume.name} was assigned to host ${host.name}`,
    volume: volume.number,
  });
  return {};
}

export function revokeVolume(
  draft: Draft,
  args: CommandArguments<"revokeVolume">,
): Record<string, never> {
  const { view } = draft;
  const volume = volumeOf(view, args.volume);
  if (!volume.hosts.includes(args.host)) return {};
  const hosts = volume.hosts.filter((number) => number !== args.host);
  draft.put(keys.volume(volume.number), { ...volume, hosts });
  const name = view.hosts.get(args.host)?.name ?? String(args.host);
  draft.tell({
    kind: "volume-revoked",
    severity: "info",
    sentence: `host ${name} may not use volume ${volume.name} any more`,
    volume: volume.number,
  });
  return {};
}

/** Those numbers that are hosts, which the draft then relies on; a Fault names one that is not. */
export function namedHosts(draft: Draft, numbers: readonly HostNumber[]): HostNumber[] {
  const named = [...new Set(numbers)];
  if (named.length > VOLUME_HOSTS_MAX) throw new Fault("tooLarge", TOO_MANY);
  for (const number of named) draft.relyOn(keys.host(hostOf(draft.view, number).number));
  return named;
}

export function hostOf(view: ClusterView, number: HostNumber): HostRecord {
  const known = view.hosts.get(number);
  if (known === undefined) throw new Fault("notFound", `no host ${number}`);
  return known;
}

function volumeOf(view: ClusterView, number: VolumeNumber): VolumeRecord {
  const volume = view.volumes.get(number);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${number}`);
  }
  if (volume.trash !== undefined) {
    throw new Fault("conflict", `volume ${volume.name} is deleted; take it back first`);
  }
  return volume;
}

function freeName(view: ClusterView, name: string): void {
  if (hostByName(view, name) !== null) throw new Fault("conflict", `a host named ${name} exists`);
}

/** Each once; a Fault names the host that has one of them already. */
function freeRanges(view: ClusterView, wanted: readonly string[], own: HostNumber): string[] {
  const ranges = new Map(wanted.map((text) => [rangeKey(text), text]));
  for (const host of view.hosts.values()) {
    if (host.number === own) continue;
    const same = host.addresses.find((text) => ranges.has(rangeKey(text)));
    if (same !== undefined) throw new Fault("conflict", `${same} is host ${host.name} already`);
  }
  return [...ranges.values()];
}

/** Upkeep: what names hosts that are gone forgets them; null when nothing does. */
export function forgetHosts(view: ClusterView): Draft | null {
  const draft = new Draft(view);
  let forgotten = 0;
  for (const volume of view.volumes.values()) {
    // One whose record this version cannot read is there all the same.
    const hosts = volume.hosts.filter((number) => view.revisionOf(keys.host(number)) > 0);
    if (hosts.length === volume.hosts.length) continue;
    draft.put(keys.volume(volume.number), { ...volume, hosts });
    if (++forgotten >= FORGOTTEN_PER_DRAFT) break;
  }
  return draft.isEmpty ? null : draft;
}

/**
 * Upkeep: a volume of before there were hosts, open to a list of ranges, is assigned to a host that
 * comes from there. Not while units of the version before may still be at work.
 */
export function adoptRanges(view: ClusterView): Draft | null {
  if (view.update?.state === "rolling") return null;
  for (const volume of view.volumes.values()) {
    if (volume.state !== "ready" || volume.allow.length === 0) continue;
    const draft = new Draft(view);
    const hosts = new Set(volume.hosts);
    const left: string[] = [];
    for (const text of volume.allow) {
      if (parseRange(text) === null) continue;
      const host = hostWith(view, text);
      if (host === null) left.push(text);
      else hosts.add(host.number);
    }
    if (left.length > 0) {
      const number = draft.take("host");
      const name = adoptedName(view, volume);
      const rest = { certificates: [], createdAtMs: 0, policy: NO_POLICY };
      putNew(draft, { number, name, addresses: left, ...rest });
      hosts.add(number);
    }
    const named = [...hosts].slice(0, VOLUME_HOSTS_MAX);
    draft.put(keys.volume(volume.number), { ...volume, hosts: named, allow: [] });
    return draft;
  }
  return null;
}

function hostWith(view: ClusterView, text: string): HostRecord | null {
  const wanted = rangeKey(text);
  for (const host of view.hosts.values()) {
    if (host.addresses.some((own) => rangeKey(own) === wanted)) return host;
  }
  return null;
}

function adoptedName(view: ClusterView, volume: VolumeRecord): string {
  const base = `hosts-of-${volume.name}`.slice(0, 56);
  for (let count = 1; ; count++) {
    const name = count === 1 ? base : `${base}-${count}`;
    if (hostByName(view, name) === null) return name;
  }
}
