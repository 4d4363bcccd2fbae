// SPDX-License-Identifier: Apache-2.0
//
// Between the control thread and the TLS relay's Worker: files at the start, then connections to
// secure, and what the cluster gives to show. Connections are descriptors of this one process, and
// travel as numbers; whoever receives one closes it. Nothing comes back: the reactor sees how it
// went on its end of the pair.

import { Fault } from "#base/fault.ts";
import type { LogLevel } from "#base/world.ts";
import { createClock } from "./clock.ts";
import { createLog } from "./log.ts";
import { unheardMs } from "./tcp-info.ts";
import { createTimers } from "./timers.ts";
import type { ClusterTls, TlsClientFiles, TlsFiles } from "./tls-files.ts";
import type { Upgrade } from "./tls-relay.ts";
import { TlsRelay } from "./tls-relay.ts";

interface Seed {
  files: TlsFiles | TlsClientFiles | null;
  logLeast: LogLevel;
}
type Asked = { upgrade: Upgrade } | { cluster: ClusterTls };
/** What the Worker says, once: that it is ready, or why it cannot be. */
type Answer = { refused: string | null };

/** The control thread's end. */
export class TlsEnd {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** Rejects with Fault badConfiguration where the files cannot be used. */
  static start(
    worker: Worker,
    files: TlsFiles | TlsClientFiles | null,
    logLeast: LogLevel,
  ): Promise<TlsEnd> {
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<Answer>) => {
        if (data.refused === null) return resolve(new TlsEnd(worker));
        worker.terminate();
        reject(new Fault("badConfiguration", data.refused));
      };
      worker.postMessage({ files, logLeast } satisfies Seed);
    });
  }

  take(upgrade: Upgrade): void {
    this.#worker.postMessage({ upgrade } satisfies Asked);
  }

  /** What the cluster gives from now on. */
  setCluster(cluster: ClusterTls): void {
    this.#worker.postMessage({ cluster } satisfies Asked);
  }

  /** Cuts all that is in its hands. */
  close(): void {
    this.#worker.terminate();
  }
}

declare const self: {
  onmessage: ((event: { data: unknown }) => void) | null;
  postMessage(answer: Answer): void;
};

/** The whole of the Worker's module. */
export function serveTls(): void {
  self.onmessage = (first) => {
    const { files, logLeast } = first.data as Seed;
    const clock = createClock();
    const log = createLog({ least: logLeast });
    let relay: TlsRelay;
    try {
      const nowMs = () => clock.nowMs();
      relay = new TlsRelay(files, { log, timers: createTimers(), nowMs, unheardMs });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return self.postMessage({ refused: error.message.slice(error.message.indexOf(": ") + 2) });
    }
    self.onmessage = ({ data }) => {
      const asked = data as Asked;
      if ("upgrade" in asked) relay.take(asked.upgrade);
      else relay.setCluster(asked.cluster);
    };
    self.postMessage({ refused: null });
  };
}
