// SPDX-License-Identifier: Apache-2.0
//
// What the tests ask of booted boxes as their owner would: stamped with settings by the executable,
// claimed by the code, asked over REST from the wire.

import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import type { UnitStatus } from "#appliance/backend.ts";
import { executable } from "#test/cluster/lab.ts";
import { UnitApi } from "#test/cluster/unit-api.ts";
import { Hopeless, need } from "#test/cluster/until.ts";
import type { Box } from "./box.ts";
import type { Rack } from "./rack.ts";

/** Emulated boxes on a busy machine: a boot takes minutes then, an answer seconds. */
export const BOOT_MS = 20 * 60_000;
export const CHANGE_MS = 10 * 60_000;
const ANSWER_MS = 30_000;
const CLAIM_MS = 120_000;
const CODE_CHARACTERS = 10;
const CODE_ALPHABET = "234679ACDEFGHJKMNPQRTWXYZ";

export interface Owner {
  claimCode: string;
  joinSecretFile: string;
  claimCodeFile: string;
  /** Made by the owner: boxes get its hash, so that a claim may be made again. */
  ownToken: string;
  /** The same, once the cluster is claimed. */
  token: string | null;
}

/** Who will own the boxes of this rack: a join secret and a claim code of his own. */
export function newOwner(rack: Rack): Owner {
  const secret = cairn(["secret", "new"]).trim();
  const bytes = [...randomBytes(CODE_CHARACTERS)];
  const claimCode = bytes.map((byte) => CODE_ALPHABET[byte % CODE_ALPHABET.length]).join("");
  const joinSecretFile = path.join(rack.folder, "join-secret");
  const claimCodeFile = path.join(rack.folder, "claim-code");
  writeFileSync(joinSecretFile, `${secret}\n`, { mode: 0o600 });
  writeFileSync(claimCodeFile, `${claimCode}\n`, { mode: 0o600 });
  const ownToken = randomBytes(32).toString("hex");
  return { claimCode, joinSecretFile, claimCodeFile, ownToken, token: null };
}

/** A copy of the release's image with the owner's settings on it; all boxes are flashed with it. */
export function stampedImage(rack: Rack, owner: Owner, words: readonly string[] = []): string {
  const image = rack.copyOfImage("stamped.raw");
  const secrets = ["--join-secret-file", owner.joinSecretFile];
  const code = ["--claim-code-file", owner.claimCodeFile];
  cairn(["image", "stamp", image, ...secrets, ...code, ...words]);
  return image;
}

/** The executable as an administrator's machine runs it; its output. */
export function cairn(words: readonly string[], env: Record<string, string> = {}): string {
  const result = spawnSync(executable(), words, {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  if (result.status === 0) return result.stdout;
  const said = `${result.stdout}${result.stderr}`.trim();
  throw new Error(`cairn ${words.join(" ")}: status ${result.status}: ${said}`);
}

export function apiOf(box: Box, owner: Owner): UnitApi {
  return new UnitApi({ url: box.apiUrl, token: () => owner.token, answerMs: ANSWER_MS }, box.name);
}

/** A request from the wire without the API's conventions; what cannot be sent is an Error. */
async function ask(box: Box, path: string, request: RequestInit = {}) {
  try {
    const answer = await fetch(`${box.apiUrl}${path}`, {
      signal: AbortSignal.timeout(ANSWER_MS),
      ...request,
    });
    return { status: answer.status, text: await answer.text() };
  } catch (cause) {
    // A TypeError as a rule: of the network's making, not of ours.
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${box.name} does not answer ${path}: ${why}`, { cause });
  }
}

/** Whether the box's API answers at all, to somebody without a token. */
export async function answers(box: Box): Promise<true> {
  const { status } = await ask(box, "/api/v1/status");
  need(status === 401, `without a token it answers ${status}`);
  return true;
}

/**
 * Claims the boxes' cluster through one of them, by the code, for the owner's token. Whoever has
 * done so before is answered the same, so that it is simply tried again when an answer was lost.
 */
export async function claim(box: Box, owner: Owner): Promise<true> {
  const tokenHash = createHash("sha256").update(owner.ownToken).digest("hex");
  const { status, text } = await ask(box, "/api/v1/claim", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code: owner.claimCode, tokenHash }),
    signal: AbortSignal.timeout(CLAIM_MS),
  });
  if (status === 403) throw new Hopeless(`${box.name} refuses the code: ${text}`);
  need(status === 201, `HTTP ${status}: ${text.slice(0, 300)}`);
  owner.token = owner.ownToken;
  return true;
}

/** One cluster of all boxes that are on, each in it and knowing who leads; their status. */
export async function joined(boxes: readonly Box[], owner: Owner): Promise<UnitStatus[]> {
  const all: UnitStatus[] = [];
  for (const box of boxes) all.push(await apiOf(box, owner).status());
  const clusters = new Set(all.map((status) => status.cluster?.uuid ?? "none"));
  const sentences = all.map((status) => `${status.name}: ${status.sentence}`).join("; ");
  need(clusters.size === 1 && !clusters.has("none"), `${clusters.size} clusters: ${sentences}`);
  for (const status of all) {
    need(status.phase === "joined" && status.controlStation !== null, sentences);
  }
  return all;
}

/** A request of the API with the owner's token; its answer, or the fault as an Error. */
export async function send(
  box: Box,
  owner: Owner,
  request: { method: string; path: string; body?: object },
): Promise<unknown> {
  const { method, path: place, body } = request;
  const headers: Record<string, string> = { authorization: `Bearer ${owner.token}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const { status, text } = await ask(box, place, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (status >= 200 && status < 300) return text === "" ? null : JSON.parse(text);
  throw new Error(`${box.name}: ${method} ${place}: HTTP ${status}: ${text.slice(0, 400)}`);
}

/** A figure of the box, by its name in the metrics. */
export async function metric(box: Box, owner: Owner, name: string): Promise<number> {
  const headers = { authorization: `Bearer ${owner.token}` };
  const { status, text } = await ask(box, "/metrics", { headers });
  need(status === 200, `metrics: HTTP ${status}: ${text.slice(0, 200)}`);
  const found = new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1];
  if (found === undefined) throw new Hopeless(`${box.name} has no metric ${name}`);
  return Number(found);
}

/** The box does its part: its API answers, it is in its cluster, its disks are in use. */
async function whole(box: Box, owner: Owner): Promise<true> {
  if (owner.token === null) await claim(box, owner);
  await joined([box], owner);
  const disks = await apiOf(box, owner).disks();
  const told = disks.map((disk) => `${disk.path} ${disk.state}: ${disk.reason}`).join("; ");
  need(disks.filter((disk) => disk.state === "ready").length === 2, told);
  return true;
}

export function comesBack(rack: Rack, box: Box, owner: Owner): Promise<true> {
  const what = `${box.name} does its part`;
  return rack.until(what, () => whole(box, owner), BOOT_MS, { lookMs: 1000 });
}
