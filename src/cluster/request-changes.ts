// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about volumes that hosts ask for by themselves: by the host's
// policy at once, or by a person later. A host's token and policy are set here as well.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { VolumeNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import { hostOf } from "./host-changes.ts";
import { REQUESTS_KEPT, REQUESTS_WAITING_MAX, askedBytes, poolsOf } from "./host-state.ts";
import { requestShape } from "./host-state.ts";
import { HostPolicySchema, tokenHashSchema, whySchema } from "./host-state.ts";
import type { HostRecord, RequestRecord } from "./host-state.ts";
import { bytesInWords } from "./placement.ts";
import { FIRST_POOL } from "./pool-state.ts";
import { keys } from "./state.ts";
import type { ClusterView } from "./view.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const requestCommands = {
  /** The asking unit made a token for the host; null: the one before is void, and there is none. */
  setHostToken: z.object({ host: positive, tokenHash: tokenHashSchema.nullable() }),
  setHostPolicy: z.object({ host: positive, policy: HostPolicySchema }),
  /** The asking unit has seen the host's token. */
  requestVolume: z.object({ host: positive, ...requestShape }),
  answerRequest: z.object({ request: positive, grant: z.boolean(), why: whySchema }),
} as const;

export interface RequestAnswers {
  setHostToken: Record<string, never>;
  setHostPolicy: Record<string, never>;
  requestVolume: { request: number };
  answerRequest: Record<string, never>;
}

export interface RequestFacts {
  wallMs: number;
  /** Creates a volume by this draft, or throws why not. */
  create(wish: CommandArguments<"createVolume">): VolumeNumber;
}

/** Requests let go of in one transaction. */
const FORGOTTEN_PER_DRAFT = 24;

export function setHostToken(
  draft: Draft,
  args: CommandArguments<"setHostToken">,
): Record<string, never> {
  const { tokenHash: before, ...host } = hostOf(draft.view, args.host);
  const { tokenHash } = args;
  draft.put(keys.host(host.number), tokenHash === null ? host : { ...host, tokenHash });
  const what = tokenHash === null ? "has no token any more" : "has a token to ask with";
  const old = before === undefined || tokenHash === null ? "" : "; the one before is void";
  draft.tell({
    kind: "host-token",
    severity: "info",
    sentence: `host ${host.name} ${what}${old}`,
  });
  return {};
}

export function setHostPolicy(
  draft: Draft,
  args: CommandArguments<"setHostPolicy">,
): Record<string, never> {
  const host = hostOf(draft.view, args.host);
  const { policy } = args;
  for (const pool of policy.pools) {
    if (!draft.view.pools.has(pool)) throw new Fault("notFound", `no pool named ${pool}`);
    draft.relyOn(keys.pool(pool));
  }
  draft.put(keys.host(host.number), { ...host, policy });
  const as = policy.protections.length === 0 ? "" : ` as ${policy.protections.join(" or ")}`;
  const where = policy.pools.length === 0 ? "" : ` in the pool ${policy.pools.join(" or ")}`;
  const what = as + where;
  const how = policy.grants ? "granted at once" : "granted by a person";
  const sentence =
    policy.quotaBytes === 0
      ? `host ${host.name} may ask for nothing`
      : `host ${host.name} may ask for ${bytesInWords(policy.quotaBytes)}${what}, ${how}`;
  draft.tell({ kind: "host-policy", severity: "info", sentence });
  return {};
}

export function requestVolume(
  draft: Draft,
  args: CommandArguments<"requestVolume">,
  facts: RequestFacts,
): { request: number } {
  const { view } = draft;
  const host = hostOf(view, args.host);
  const { sizeBytes, protection } = args;
  const pool = args.pool ?? poolsOf(host.policy)[0] ?? FIRST_POOL;
  keepToPolicy(view, host, { sizeBytes, protection, pool });
  const number = draft.take("request");
  const name = args.name ?? `${host.name}-${number}`.slice(-63);
  nameIsFree(view, name);
  const { grants } = host.policy;
  const request: RequestRecord = {
    number,
    host: host.number,
    name,
    sizeBytes,
    protection,
    pool,
    state: grants ? "granted" : "waiting",
    why: "",
    askedAtMs: Math.max(0, Math.floor(facts.wallMs)),
  };
  // The policy and what is counted against it are as this was decided by.
  draft.relyOn(keys.host(host.number));
  if (grants) request.volume = create(facts, request);
  else waits(draft, host);
  draft.put(keys.request(number), request);
  const asks = `host ${host.name} asks for ${inWords(request)}`;
  draft.tell({
    kind: grants ? "request-granted" : "request-waiting",
    severity: grants ? "info" : "warning",
    sentence: grants ? `${asks}; it keeps to its policy and has it` : `${asks}, and waits`,
    volume: request.volume ?? null,
  });
  return { request: number };
}

function keepToPolicy(
  view: ClusterView,
  host: HostRecord,
  { sizeBytes, protection, pool }: Pick<RequestRecord, "sizeBytes" | "protection" | "pool">,
): void {
  const { quotaBytes, protections } = host.policy;
  if (quotaBytes === 0) throw new Fault("overQuota", `host ${host.name} may ask for nothing`);
  if (protections.length > 0 && !protections.includes(protection)) {
    const may = protections.join(" or ");
    throw new Fault("forbidden", `host ${host.name} may ask for ${may}, not for ${protection}`);
  }
  const pools = poolsOf(host.policy);
  if (!pools.includes(pool)) {
    const may = pools.join(" or ");
    throw new Fault("forbidden", `host ${host.name} may ask in the pool ${may}, not in ${pool}`);
  }
  const askedBefore = askedBytes(view, host.number);
  if (askedBefore + sizeBytes <= quotaBytes) return;
  const words = [askedBefore, quotaBytes, sizeBytes].map(bytesInWords);
  const [before = "", quota = "", more = ""] = words;
  throw new Fault(
    "overQuota",
    `host ${host.name} has or waits for ${before} of its ${quota}, and asks for ${more} more`,
  );
}

/** What a person has not looked at yet is bounded. */
function waits(draft: Draft, host: HostRecord): void {
  const waiting = [...draft.view.requests.values()].filter(
    (request) => request.host === host.number && request.state === "waiting",
  );
  if (waiting.length < REQUESTS_WAITING_MAX) return;
  throw new Fault("notReady", `${waiting.length} requests of host ${host.name} wait already`);
}

function nameIsFree(view: ClusterView, name: string): void {
  if (view.volumeByName(name) !== null) {
    throw new Fault("conflict", `a volume named ${name} exists`);
  }
  for (const request of view.requests.values()) {
    if (request.state !== "waiting" || request.name !== name) continue;
    throw new Fault("conflict", `a volume named ${name} is asked for already`);
  }
}

function create(facts: RequestFacts, request: RequestRecord): VolumeNumber {
  const { name, sizeBytes, protection, pool, host } = request;
  return facts.create({ name, sizeBytes, protection, pool, hosts: [host], requestedBy: host });
}

/** By a person, who may go beyond the quota. */
export function answerRequest(
  draft: Draft,
  args: CommandArguments<"answerRequest">,
  facts: RequestFacts,
): Record<string, never> {
  const { view } = draft;
  const known = view.requests.get(args.request);
  if (known === undefined) throw new Fault("notFound", `no request ${args.request}`);
  if (known.state !== "waiting") {
    throw new Fault("conflict", `request ${known.number} was ${known.state} already`);
  }
  const host = hostOf(view, known.host);
  const next: RequestRecord = args.grant
    ? { ...known, state: "granted", volume: create(facts, known) }
    : { ...known, state: "refused", why: args.why };
  draft.put(keys.request(known.number), next);
  const why = args.why === "" ? "" : `: ${args.why}`;
  draft.tell({
    kind: `request-${next.state}`,
    severity: "info",
    sentence: args.grant
      ? `host ${host.name} was granted ${inWords(known)}`
      : `host ${host.name} was refused ${inWords(known)}${why}`,
    volume: next.volume ?? null,
  });
  return {};
}

function inWords({ name, sizeBytes, protection, pool }: RequestRecord): string {
  const where = pool === FIRST_POOL ? "" : `, in the pool ${pool}`;
  return `a volume ${name} of ${bytesInWords(sizeBytes)}, ${protection}${where}`;
}

/** Upkeep: requests of hosts that are gone, and answered ones beyond what is kept; null: none. */
export function forgetRequests(view: ClusterView): Draft | null {
  const all = [...view.requests.values()].sort((left, right) => left.number - right.number);
  const answered = all.filter((request) => request.state !== "waiting");
  const surplus = new Set(answered.slice(0, Math.max(0, answered.length - REQUESTS_KEPT)));
  const draft = new Draft(view);
  const gone = all.filter(
    (request) => surplus.has(request) || view.revisionOf(keys.host(request.host)) === 0,
  );
  for (const { number } of gone.slice(0, FORGOTTEN_PER_DRAFT)) draft.delete(keys.request(number));
  return draft.isEmpty ? null : draft;
}
