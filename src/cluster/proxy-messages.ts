// SPDX-License-Identifier: Apache-2.0
//
// What units without a voter of their own and voters say to each other about the control store:
// requests with an id, answers with the same one, in parts where they are long; watches by number.

import { z } from "zod";
import { TRANSACTION_OPERATIONS_MAX, VALUE_CHARACTERS_MAX } from "./control-store.ts";
import { KEY_CHARACTERS_MAX } from "./transaction-shape.ts";

/** Requests under way at once on one link; more wait at the client. */
export const PROXY_REQUESTS_MAX = 64;
/** Watches at once on one link. */
export const PROXY_WATCHES_MAX = 32;
/** Characters of keys and values in one part of a long answer. */
export const PART_CHARACTERS_MAX = 512 << 10;

const id = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const revision = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const key = z.string().max(KEY_CHARACTERS_MAX);
const lease = z.string().max(64);
const value = z.string().max(VALUE_CHARACTERS_MAX);

export const ProxyRequestSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("get"), id, key }),
  z.object({ kind: z.literal("range"), id, prefix: key }),
  z.object({
    kind: z.literal("transaction"),
    id,
    ifs: z.array(z.object({ key, modRevision: revision })).max(TRANSACTION_OPERATIONS_MAX),
    puts: z
      .array(z.object({ key, value, lease: z.exactOptional(lease) }))
      .max(TRANSACTION_OPERATIONS_MAX),
    deletes: z.array(key).max(TRANSACTION_OPERATIONS_MAX),
  }),
  z.object({ kind: z.literal("watch"), id, prefix: key, fromRevision: revision }),
  z.object({ kind: z.literal("unwatch"), id }),
  z.object({ kind: z.literal("grantLease"), id, ttlMs: z.number().min(1).max(86_400_000) }),
  z.object({ kind: z.literal("keepAlive"), id, lease }),
  z.object({ kind: z.literal("revokeLease"), id, lease }),
  z.object({ kind: z.literal("members"), id }),
  z.object({ kind: z.literal("snapshot"), id }),
  z.object({ kind: z.literal("addLearner"), id, peerUrl: z.string().max(256) }),
  z.object({ kind: z.literal("promote"), id, member: z.string().max(64) }),
  z.object({ kind: z.literal("removeMember"), id, member: z.string().max(64) }),
]);
export type ProxyRequest = z.infer<typeof ProxyRequestSchema>;

const EntrySchema = z.object({
  key: z.string(),
  value: z.string(),
  modRevision: revision,
  createRevision: revision,
  lease: z.string().nullable(),
});
const EventSchema = z.object({
  kind: z.enum(["put", "delete"]),
  key: z.string(),
  value: z.string(),
  modRevision: revision,
});

export const ProxyAnswerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("answer"), id, value: z.unknown() }),
  z.object({ kind: z.literal("entries"), id, entries: z.array(EntrySchema) }),
  z.object({ kind: z.literal("bytes"), id, base64: z.base64() }),
  z.object({ kind: z.literal("fault"), id, code: z.string(), detail: z.string() }),
  z.object({ kind: z.literal("events"), id, revision, events: z.array(EventSchema) }),
  z.object({ kind: z.literal("lost"), id, reason: z.string() }),
]);
export type ProxyAnswer = z.infer<typeof ProxyAnswerSchema>;

/** What `answer` carries, by kind of request. */
export const answerSchemas = {
  get: z.object({ revision, entry: EntrySchema.nullable() }),
  range: z.object({ revision }),
  transaction: z.object({ committed: z.boolean(), revision, current: z.array(EntrySchema) }),
  watch: z.null(),
  unwatch: z.null(),
  grantLease: z.object({ lease: z.string(), ttlMs: z.number() }),
  keepAlive: z.boolean(),
  revokeLease: z.null(),
  members: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      learner: z.boolean(),
      leader: z.boolean(),
      peerUrls: z.array(z.string()),
    }),
  ),
  snapshot: z.null(),
  addLearner: z.string(),
  promote: z.boolean(),
  removeMember: z.null(),
} as const satisfies Record<ProxyRequest["kind"], z.ZodType>;
