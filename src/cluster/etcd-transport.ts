// SPDX-License-Identifier: Apache-2.0
//
// How etcd's JSON gateway is reached: the room's own idea of it, filled in by src/machine (fetch
// over a unix socket). Bodies and answers are JSON objects as the gateway has them.

/** Status codes of gRPC (google.rpc.Code) that the gateway answers with. */
export const RpcCode = {
  invalidArgument: 3,
  notFound: 5,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  unavailable: 14,
} as const;

export type EtcdAnswer =
  | { ok: true; value: unknown }
  /** etcd refused or failed it: `code` is gRPC's, `message` for people only. */
  | { ok: false; code: number; message: string };

export interface EtcdStreamSink {
  /** One message of the stream, in order; never after `cancel` or the end. */
  onMessage(value: unknown): void;
  /** The stream has ended by itself. Exactly once, unless it was cancelled. */
  onEnd(reason: string): void;
}

export interface EtcdTransport {
  /**
   * One request, one answer. Rejects with a Fault: controlStoreAway when it was surely not sent,
   * unknownOutcome when it may have been.
   */
  call(path: string, body: object, timeoutMs: number): Promise<EtcdAnswer>;
  /** One request, many answers. Never calls the sink from within `stream`. */
  stream(path: string, body: object, sink: EtcdStreamSink): { cancel(): void };
}
