// SPDX-License-Identifier: Apache-2.0
//
// ControlStore on etcd 3.5 through its JSON gateway (api/etcdserverpb/rpc.proto, paths /v3/...).
//
// - Keys and values travel as base64, 64-bit integers as strings; zero and false fields are
//   omitted.
// - Reads are linearizable, never serializable: a minority's old values decide nothing (R2).
// - A transaction without an answer is unknownOutcome, a read without one controlStoreAway. Which
//   error means what goes by gRPC's code alone: what is not known to have left the state untouched
//   is unknown.
// - A watch is bridged over a restart of etcd from the next revision; a compacted revision ends it.

import { Fault } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import type {
  ControlStore,
  Entry,
  LeaseGrant,
  LeaseId,
  Reading,
  StoreMember,
  Transaction,
  TransactionResult,
  Watch,
  WatchSink,
} from "./control-store.ts";
import { EtcdWatch } from "./etcd-watch.ts";
import {
  bytesOfBase64,
  fieldsOf,
  integerOf,
  listOf,
  prefixRange,
  textOf,
  textOfBase64,
  toBase64,
} from "./etcd-json.ts";
import type { Fields } from "./etcd-json.ts";
import { RpcCode } from "./etcd-transport.ts";
import type { EtcdAnswer, EtcdTransport } from "./etcd-transport.ts";
import { checkKey, checkTransaction } from "./transaction-shape.ts";

/** A read waits this long: longer than an election of a new leader takes. */
const TIMEOUT_MS = 5000;
/**
 * A change waits less: one that was on its way to a leader that died is lost, and etcd itself would
 * wait 7 s for it. Its outcome is unknown then; who reads back waits for the new leader only.
 */
const CHANGE_TIMEOUT_MS = 1500;
/** Keys per page of a range. */
const PAGE_KEYS = 1000;
/** Times a range starts again because its revision was compacted meanwhile. */
const RANGE_TRIES = 3;
/** Largest snapshot taken into memory, bytes. */
const SNAPSHOT_BYTES_MAX = 512 << 20;

const CHANGES: ReadonlySet<string> = new Set(["/v3/kv/txn", "/v3/lease/grant"]);

export interface EtcdControlStoreOptions {
  timeoutMs?: number;
  changeTimeoutMs?: number;
}

export class EtcdControlStore implements ControlStore {
  readonly #transport: EtcdTransport;
  readonly #timers: Timers;
  readonly #timeoutMs: number;
  readonly #changeTimeoutMs: number;

  constructor(timers: Timers, transport: EtcdTransport, options: EtcdControlStoreOptions = {}) {
    this.#timers = timers;
    this.#transport = transport;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#changeTimeoutMs = options.changeTimeoutMs ?? CHANGE_TIMEOUT_MS;
  }

  async get(key: string): Promise<{ revision: number; entry: Entry | null }> {
    checkKey(key);
    const answer = await this.#read("/v3/kv/range", { key: toBase64(key) });
    const first = listOf(answer.kvs)[0];
    return {
      revision: headerRevision(answer),
      entry: first === undefined ? null : entryOf(first),
    };
  }

  async range(prefix: string): Promise<Reading> {
    for (let tries = 1; ; tries++) {
      const reading = await this.#rangeOnce(prefix);
      if (reading !== null) return reading;
      if (tries === RANGE_TRIES) {
        throw new Fault("controlStoreAway", "its history is compacted faster than it can be read");
      }
    }
  }

  /** Null: the revision of the first page was compacted before the last one. */
  async #rangeOnce(prefix: string): Promise<Reading | null> {
    const { key, range_end } = prefixRange(prefix);
    const entries: Entry[] = [];
    let revision = 0;
    for (let from = key; ;) {
      const body: Fields = { key: from, range_end, limit: String(PAGE_KEYS) };
      if (revision > 0) body.revision = String(revision);
      const answer = await this.#call("/v3/kv/range", body, { isRead: true });
      if (!answer.ok) {
        if (answer.code === RpcCode.outOfRange && revision > 0) return null;
        throw this.#fault(answer, { isRead: true });
      }
      const fields = fieldsOf(answer.value);
      if (revision === 0) revision = headerRevision(fields);
      const page = listOf(fields.kvs).map(entryOf);
      entries.push(...page);
      const last = page.at(-1);
      if (fields.more !== true || last === undefined) return { revision, entries };
      from = toBase64(`${last.key}\0`);
    }
  }

  async transaction(transaction: Transaction): Promise<TransactionResult> {
    checkTransaction(transaction);
    const { ifs, puts = [], deletes = [] } = transaction;
    const body = {
      compare: ifs.map((compare) => ({
        key: toBase64(compare.key),
        target: "MOD",
        result: "EQUAL",
        mod_revision: String(compare.modRevision),
      })),
      success: [
        ...puts.map((put) => ({
          request_put: {
            key: toBase64(put.key),
            value: toBase64(put.value),
            ...(put.lease === undefined ? {} : { lease: put.lease }),
          },
        })),
        ...deletes.map((key) => ({ request_delete_range: { key: toBase64(key) } })),
      ],
      failure: ifs.map((compare) => ({ request_range: { key: toBase64(compare.key) } })),
    };
    const answer = await this.#write("/v3/kv/txn", body);
    const committed = answer.succeeded === true;
    const current = committed
      ? []
      : listOf(answer.responses).flatMap((response) =>
          listOf(fieldsOf(response.response_range).kvs).map(entryOf),
        );
    return { committed, revision: headerRevision(answer), current };
  }

  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    return new EtcdWatch(this.#timers, this.#transport, { prefix, fromRevision, sink });
  }

  async grantLease(ttlMs: number): Promise<LeaseGrant> {
    const answer = await this.#write("/v3/lease/grant", { TTL: String(Math.ceil(ttlMs / 1000)) });
    return { lease: textOf(answer.ID), ttlMs: integerOf(answer.TTL) * 1000 };
  }

  async keepAlive(lease: LeaseId): Promise<boolean> {
    const answer = await this.#call("/v3/lease/keepalive", { ID: lease }, { isRead: false });
    if (!answer.ok) {
      if (answer.code === RpcCode.notFound) return false;
      throw this.#fault(answer, { isRead: false });
    }
    const fields = fieldsOf(answer.value);
    // A stream of one message; a failure in it comes as `error` beside `result`.
    const failure = fieldsOf(fields.error);
    if (failure.message !== undefined) {
      throw new Fault("unknownOutcome", `keeping a lease: ${textOf(failure.message)}`);
    }
    return integerOf(fieldsOf(fields.result).TTL) > 0;
  }

  async revokeLease(lease: LeaseId): Promise<void> {
    const answer = await this.#call("/v3/lease/revoke", { ID: lease }, { isRead: false });
    if (!answer.ok && answer.code !== RpcCode.notFound) {
      throw this.#fault(answer, { isRead: false });
    }
  }

  async members(): Promise<StoreMember[]> {
    const list = await this.#read("/v3/cluster/member/list", { linearizable: true });
    const status = await this.#read("/v3/maintenance/status", {});
    const leader = textOf(status.leader);
    return listOf(list.members).map((member) => ({
      id: textOf(member.ID),
      name: textOf(member.name),
      learner: member.isLearner === true,
      leader: textOf(member.ID) === leader,
      peerUrls: Array.isArray(member.peerURLs) ? member.peerURLs.map(textOf) : [],
    }));
  }

  snapshot(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const parts: Uint8Array[] = [];
      let bytes = 0;
      let left = -1;
      const stream = this.#transport.stream(
        "/v3/maintenance/snapshot",
        {},
        {
          onMessage: (value) => {
            const result = fieldsOf(fieldsOf(value).result);
            try {
              const part = bytesOfBase64(result.blob);
              left = integerOf(result.remaining_bytes);
              bytes += part.length;
              parts.push(part);
              if (bytes <= SNAPSHOT_BYTES_MAX) return;
              throw new Fault("tooLarge", `a snapshot past ${SNAPSHOT_BYTES_MAX} bytes`);
            } catch (error) {
              stream.cancel();
              reject(error);
            }
          },
          onEnd: (reason) => {
            if (left !== 0) reject(new Fault("controlStoreAway", `snapshot cut off: ${reason}`));
            else resolve(joined(parts, bytes));
          },
        },
      );
    });
  }

  /** Forgets the history up to a revision; etcd's auto-compaction does it otherwise. */
  async compact(revision: number): Promise<void> {
    await this.#write("/v3/kv/compaction", { revision: String(revision), physical: true });
  }

  /** Adds a learner that is to be a voter; answers its id. One at a time. */
  async addLearner(peerUrl: string): Promise<string> {
    const body = { peerURLs: [peerUrl], isLearner: true };
    const answer = await this.#write("/v3/cluster/member/add", body);
    return textOf(fieldsOf(answer.member).ID);
  }

  /** False: the learner is not ready yet (behind the leader, or not started); ask again. */
  async promote(id: string): Promise<boolean> {
    const answer = await this.#call("/v3/cluster/member/promote", { ID: id }, { isRead: false });
    if (answer.ok) return true;
    // Not in sync with the leader is failedPrecondition; strict reconfiguration answers
    // unavailable.
    if (answer.code === RpcCode.failedPrecondition) return false;
    if (answer.code === RpcCode.unavailable) return false;
    throw this.#fault(answer, { isRead: false });
  }

  /** Removing one that is gone is no error. */
  async removeMember(id: string): Promise<void> {
    const answer = await this.#call("/v3/cluster/member/remove", { ID: id }, { isRead: false });
    if (!answer.ok && answer.code !== RpcCode.notFound) {
      throw this.#fault(answer, { isRead: false });
    }
  }

  /** Hands the raft lead to another voter; works at the leader only. */
  async moveLeader(targetId: string): Promise<void> {
    await this.#write("/v3/maintenance/transfer-leadership", { targetID: targetId });
  }

  async #read(path: string, body: object): Promise<Fields> {
    const answer = await this.#call(path, body, { isRead: true });
    if (!answer.ok) throw this.#fault(answer, { isRead: true });
    return fieldsOf(answer.value);
  }

  async #write(path: string, body: object): Promise<Fields> {
    const answer = await this.#call(path, body, { isRead: false });
    if (!answer.ok) throw this.#fault(answer, { isRead: false });
    return fieldsOf(answer.value);
  }

  async #call(path: string, body: object, options: { isRead: boolean }): Promise<EtcdAnswer> {
    try {
      const limitMs = CHANGES.has(path) ? this.#changeTimeoutMs : this.#timeoutMs;
      return await this.#transport.call(path, body, limitMs);
    } catch (cause) {
      if (!(cause instanceof Fault)) throw cause;
      // A read has no outcome to be unsure of.
      if (options.isRead && cause.code === "unknownOutcome") {
        throw new Fault("controlStoreAway", `${path} was not answered`, { cause });
      }
      throw cause;
    }
  }

  #fault(answer: { code: number; message: string }, options: { isRead: boolean }): Fault {
    switch (answer.code) {
      case RpcCode.invalidArgument:
      case RpcCode.unimplemented:
        return new Fault("badRequest", answer.message);
      case RpcCode.notFound:
        return new Fault("notFound", answer.message);
      case RpcCode.failedPrecondition:
      case RpcCode.outOfRange:
        return new Fault("conflict", answer.message);
      case RpcCode.resourceExhausted:
        // Out of its space quota, or too busy to take it in: not done.
        return new Fault("controlStoreAway", answer.message);
      default:
        return new Fault(options.isRead ? "controlStoreAway" : "unknownOutcome", answer.message);
    }
  }
}

function headerRevision(answer: Fields): number {
  return integerOf(fieldsOf(answer.header).revision);
}

function entryOf(raw: Fields): Entry {
  const lease = textOf(raw.lease);
  return {
    key: textOfBase64(raw.key),
    value: textOfBase64(raw.value),
    modRevision: integerOf(raw.mod_revision),
    createRevision: integerOf(raw.create_revision),
    lease: lease === "" || lease === "0" ? null : lease,
  };
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
