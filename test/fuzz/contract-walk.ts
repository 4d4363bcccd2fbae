// SPDX-License-Identifier: Apache-2.0
//
// One right request to every operation of the API, in an order in which each can be done; each
// answer is a success and as documented (contract.ts). For a backend in memory and for real units.

import { Contract, nameOf } from "./contract.ts";
import type { Answered, Document } from "./contract.ts";

const ANSWER_MS = 30_000;
const GIB = 2 ** 30;
const NEW_YEAR_2026_MS = 1_767_225_600_000;

export interface WalkDoor {
  /** Such as http://127.0.0.1:7480. */
  url: string;
  /** The unit's socket: for what this machine alone may ask. */
  socket: string;
  token: string;
}

/** What there is: units by name, the first the asked one, a disk of it, the sizes of volumes. */
export interface WalkFacts {
  units: [asked: string, other: string];
  disk: number;
  volumeBytes: number;
  protection: string;
  /** The words of a unit that waits; null: none does. */
  words: string | null;
}

interface Step {
  /** Method and path as the document names them. */
  does: string;
  path?: Record<string, string>;
  query?: string;
  /** Bytes of a file, or what is written as JSON. */
  body?: string | object;
  /** A member of the answer that later paths name, as `=member`. */
  keeps?: string;
  /** Not said: the owner. */
  as?: "host" | "local";
}

/** In order: what one makes the next may need. */
function steps(facts: WalkFacts): Step[] {
  return [...volumeSteps(facts), ...unitSteps(facts), ...updateSteps(), ...lastSteps(facts)];
}

const v1 = (line: string) => line.replace(" ", " /api/v1");

function volumeSteps({ units: [asked], volumeBytes, protection }: WalkFacts): Step[] {
  const volume = { path: { id: "walked" } };
  const host = { path: { host: "walker" } };
  const both = { path: { id: "walked", host: "walker" } };
  const wish = { name: "walked", sizeBytes: volumeBytes, protection };
  const grown = { sizeBytes: 2 * volumeBytes };
  const policy = { quotaBytes: 4 * GIB, protections: [], pools: [], grants: false };
  const reads: Step[] = [
    ...["status", "units", "disks", "volumes", "events", "recovery", "authority", "settings"],
    ...[
      "hosts",
      "requests",
      "users",
      "tokens",
      "whoami",
      "health",
      "update",
      "losses",
      "questions",
      "drill",
      "pools",
    ],
    ...["arrivals", "support-bundle", "jobs", "copying", "openapi.json", "events/stream"],
  ].map((name) => ({ does: v1(`GET /${name}`) }));
  return [
    ...reads,
    { does: "GET /metrics" },
    { does: v1("GET /what-if"), query: `unit=${asked}` },
    { does: v1("GET /units/{unit}/figures"), path: { unit: asked } },
    { does: v1("PATCH /settings"), body: { diskErrorsMax: 7 } },
    { does: v1("POST /pools"), body: { name: "walked" } },
    { does: v1("DELETE /pools/{pool}"), path: { pool: "walked" } },
    { does: v1("POST /volumes"), query: "dryRun=true", body: wish },
    { does: v1("POST /volumes"), body: wish },
    { does: v1("GET /volumes/{id}"), ...volume },
    { does: v1("GET /volumes/{id}/chart"), ...volume },
    { does: v1("POST /volumes/{id}/grow"), ...volume, query: "dryRun=true", body: grown },
    { does: v1("POST /volumes/{id}/grow"), ...volume, body: grown },
    { does: v1("PATCH /volumes/{id}"), ...volume, body: { tls: "off" } },
    { does: v1("PATCH /volumes/{id}"), ...volume, body: { name: "walked" } },
    { does: v1("POST /hosts"), body: { name: "walker", addresses: ["10.9.8.7"] } },
    { does: v1("GET /hosts/{host}"), ...host },
    { does: v1("PATCH /hosts/{host}"), ...host, body: { policy } },
    { does: v1("PUT /volumes/{id}/hosts/{host}"), ...both },
    { does: v1("DELETE /volumes/{id}/hosts/{host}"), ...both },
    { does: v1("POST /hosts/{host}/token"), ...host },
    { does: v1("GET /host"), as: "host" },
    { does: v1("POST /host/requests"), as: "host", body: { ...wish, name: "asked" } },
    { does: v1("POST /host/requests"), as: "host", body: { ...wish, name: "refused" } },
    { does: v1("POST /requests/{request}/grant"), path: { request: "1" } },
    { does: v1("POST /requests/{request}/refuse"), path: { request: "2" }, body: { why: "" } },
    { does: v1("POST /hosts/{host}/certificates"), ...host, keeps: "fingerprint" },
    {
      does: v1("DELETE /hosts/{host}/certificates/{fingerprint}"),
      path: { host: "walker", fingerprint: "=fingerprint" },
    },
    { does: v1("DELETE /hosts/{host}/token"), ...host },
    { does: v1("DELETE /hosts/{host}"), ...host },
    { does: v1("DELETE /volumes/{id}"), ...volume, query: "graceMs=60000" },
    { does: v1("POST /volumes/{id}/restore"), ...volume },
    { does: v1("POST /volumes/{id}/go-on"), ...volume },
    { does: v1("DELETE /volumes/{id}/kept/{number}"), path: { id: "walked", number: "1" } },
    { does: v1("POST /volumes/{id}/accept"), ...volume },
  ];
}

function unitSteps({ units, disk, words }: WalkFacts): Step[] {
  const [asked, other] = units;
  const away = { path: { unit: other } };
  const own = { path: { disk: String(disk) } };
  return [
    { does: v1("POST /disks/{disk}/scrub"), ...own, body: { urgent: true } },
    { does: v1("POST /disks/{disk}/locate"), ...own, body: { on: true } },
    { does: v1("POST /disks/{disk}/retire"), ...own },
    { does: v1("POST /disks/{disk}/return"), ...own },
    { does: v1("POST /units/{unit}/locate"), path: { unit: asked }, body: { on: true } },
    {
      does: v1("POST /units/{unit}/claim-disk"),
      path: { unit: asked },
      body: { path: "/disks/other", erase: true },
    },
    { does: v1("GET /units/{unit}/box"), path: { unit: asked } },
    {
      does: v1("PUT /units/{unit}/clock"),
      path: { unit: asked },
      body: { wallMs: NEW_YEAR_2026_MS },
    },
    { does: v1("PUT /units/{unit}/network"), path: { unit: asked }, body: { network: [] } },
    { does: v1("POST /units/{unit}/network/keep"), path: { unit: asked } },
    { does: v1("PUT /units/{unit}/network"), path: { unit: asked }, body: { network: [] } },
    { does: v1("POST /units/{unit}/network/undo"), path: { unit: asked } },
    { does: v1("PUT /arrivals/window"), body: { seconds: 1, units: 1 } },
    { does: v1("DELETE /arrivals/window") },
    { does: v1("POST /arrivals/admit"), body: { words: words ?? "" } },
    { does: v1("POST /units/{unit}/maintenance"), ...away, body: { force: true } },
    { does: v1("DELETE /units/{unit}/maintenance"), ...away },
    {
      does: v1("POST /units/{unit}/move"),
      ...away,
      body: { pool: null, role: "spare", dryRun: true },
    },
    { does: v1("POST /units/{unit}/evacuate"), ...away, body: { force: true } },
    { does: v1("POST /units/{unit}/keep"), ...away },
    { does: v1("POST /units/{unit}/replace"), ...away, body: { by: asked } },
    { does: v1("POST /units/{unit}/keep"), ...away },
    { does: v1("POST /drill"), body: {} },
    { does: v1("POST /control/backups") },
    { does: v1("GET /control/backups") },
    { does: v1("GET /control/backups/{name}"), path: { name: "control-backup-0" } },
    { does: v1("POST /control/restore"), body: { dryRun: true } },
    { does: v1("POST /control/rebuild"), body: { dryRun: true } },
    { does: v1("POST /control/settle") },
  ];
}

function updateSteps(): Step[] {
  return [
    { does: v1("PUT /update/automatic"), body: { auto: false } },
    { does: v1("POST /update/upload"), body: { manifest: "{}", signature: "good" } },
    {
      does: v1("PUT /update/upload/{name}"),
      path: { name: "a" },
      query: "offset=0",
      body: "abc",
    },
    { does: v1("POST /update/load"), body: { source: "/nowhere" } },
    { does: v1("POST /update/plan"), body: {} },
    { does: v1("POST /update/start"), body: { accept: true } },
    { does: v1("POST /update/stop") },
    { does: v1("POST /update/alone"), body: {} },
  ];
}

function lastSteps({ units: [, other] }: WalkFacts): Step[] {
  const away = { path: { unit: other } };
  return [
    {
      does: v1("POST /claim"),
      as: "local",
      body: { replace: true, password: "the password of the walk" },
    },
    {
      does: v1("POST /users"),
      body: { name: "walker", role: "viewer", password: "a password of the walk" },
    },
    { does: v1("PATCH /users/{user}"), path: { user: "walker" }, body: { role: "viewer" } },
    { does: v1("POST /tokens"), body: { name: "walker", role: "viewer" } },
    { does: v1("DELETE /tokens/{token}"), path: { token: "walker" } },
    { does: v1("PUT /password"), body: { user: "walker", password: "another password of it" } },
    { does: v1("DELETE /users/{user}"), path: { user: "walker" } },
    { does: v1("GET /control/backups") },
    { does: v1("POST /control/backups"), keeps: "name" },
    { does: v1("GET /control/backups/{name}"), path: { name: "=name" } },
    { does: v1("POST /control/restore"), body: { dryRun: true } },
    { does: v1("DELETE /units/{unit}"), ...away, query: "force=true" },
    { does: v1("POST /renew") },
  ];
}

export interface WalkOptions {
  /** Operations that are refused there; what they answer is held against the document as well. */
  refused?: readonly string[];
  /** Operations that are not asked. */
  unasked?: readonly string[];
}

/**
 * Throws at the first answer that is not as documented, or no success. Answers the operations that
 * no success was seen of.
 */
export async function walk(
  door: WalkDoor,
  facts: WalkFacts,
  { refused = [], unasked = [] }: WalkOptions = {},
): Promise<string[]> {
  const owner = { authorization: `Bearer ${door.token}` };
  const document = await fetch(`${door.url}/api/v1/openapi.json`, { headers: owner });
  const contract = new Contract((await document.json()) as Document);
  let hostToken = "";
  const kept: Record<string, string> = {};
  for (const planned of steps(facts)) {
    if (unasked.includes(planned.does)) continue;
    const step = withKept(planned, kept);
    const operation = contract.operation(step.does);
    const authorization = step.as === "host" ? `Bearer ${hostToken}` : owner.authorization;
    const isTried = operation.parameters.some(({ name }) => name === "dryRun");
    if (isTried && step.query !== "dryRun=true") {
      await tryOut(contract, step, (tried) => ask(door, operation.method, tried, authorization));
    }
    const answer = await ask(door, operation.method, step, authorization);
    const why = contract.violation(operation, answer);
    if (why !== null) throw new Error(`${step.does}: ${why} (${answer.status} ${answer.text})`);
    if (answer.status >= 300 && !refused.includes(step.does)) {
      throw new Error(`${nameOf(operation)} is refused: ${answer.status} ${answer.text}`);
    }
    if (step.keeps !== undefined && answer.status < 300) {
      kept[step.keeps] = String((JSON.parse(answer.text) as Record<string, unknown>)[step.keeps]);
    }
    if (step.does.endsWith("/hosts/{host}/token") && answer.text !== "") {
      hostToken = (JSON.parse(answer.text) as { token: string }).token;
    }
  }
  return contract.unreached();
}

function withKept(step: Step, kept: Record<string, string>): Step {
  const words = Object.entries(step.path ?? {}).map(([name, word]) => {
    return [name, word.startsWith("=") ? (kept[word.slice(1)] ?? "") : word] as const;
  });
  return step.path === undefined ? step : { ...step, path: Object.fromEntries(words) };
}

/** What follows is done for real: that it succeeds then shows that nothing was changed by this. */
async function tryOut(
  contract: Contract,
  step: Step,
  askTried: (step: Step) => Promise<Answered>,
): Promise<void> {
  const query = step.query === undefined ? "dryRun=true" : `${step.query}&dryRun=true`;
  const answer = await askTried({ ...step, query });
  const why = contract.violation(contract.operation(step.does), answer, { isCounted: false });
  const isEnd = answer.status >= 400 || /"dryRun":true|"volume":/.test(answer.text);
  if (why === null && isEnd) return;
  throw new Error(`${step.does}, tried: ${why ?? "no dry run"} (${answer.status} ${answer.text})`);
}

async function ask(door: WalkDoor, method: string, step: Step, authorization: string) {
  const { body, query, as } = step;
  let [, place = ""] = step.does.split(" ");
  for (const [name, word] of Object.entries(step.path ?? {})) {
    place = place.replace(`{${name}}`, encodeURIComponent(word));
  }
  const isFile = typeof body === "string";
  const type = isFile ? "application/octet-stream" : "application/json";
  const content = isFile ? body : JSON.stringify(body);
  const answer = await fetch(`${door.url}${place}${query === undefined ? "" : `?${query}`}`, {
    ...{ method, signal: AbortSignal.timeout(ANSWER_MS) },
    ...(as === "local" ? { unix: door.socket } : {}),
    headers: {
      ...(as === "local" ? {} : { authorization }),
      ...(body === undefined ? {} : { "content-type": type }),
    },
    ...(body === undefined ? {} : { body: content }),
  });
  const contentType = answer.headers.get("content-type");
  // A stream has no end of its own.
  const isStream = contentType?.startsWith("text/event-stream") === true;
  const text = isStream ? "" : await answer.text();
  if (isStream) await answer.body?.cancel();
  return { status: answer.status, contentType, text };
}
