// SPDX-License-Identifier: Apache-2.0
//
// A ControlStore whose way to the voters may change while it is used: a unit begins through the control
// proxy, and goes by its own etcd once it votes. Watches are told that they are lost when the way
// changes, and are taken up anew by their owners; nothing else notices.

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
} from "#cluster/control-store.ts";

interface LiveWatch {
  watch: Watch;
  sink: WatchSink;
}

export class SwitchingStore implements ControlStore {
  #way: ControlStore;
  readonly #watches = new Set<LiveWatch>();

  constructor(way: ControlStore) {
    this.#way = way;
  }

  get way(): ControlStore {
    return this.#way;
  }

  switchTo(way: ControlStore): void {
    if (way === this.#way) return;
    this.#way = way;
    for (const live of [...this.#watches]) {
      this.#watches.delete(live);
      live.watch.cancel();
      live.sink.onLost("the way to the control store changed");
    }
  }

  get(key: string): Promise<{ revision: number; entry: Entry | null }> {
    return this.#way.get(key);
  }
  range(prefix: string): Promise<Reading> {
    return this.#way.range(prefix);
  }
  transaction(transaction: Transaction): Promise<TransactionResult> {
    return this.#way.transaction(transaction);
  }
  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    const watch = this.#way.watch(prefix, fromRevision, {
      onEvents: (events, revision) => sink.onEvents(events, revision),
      onLost: (reason) => {
        if (this.#watches.delete(live)) sink.onLost(reason);
      },
    });
    const live: LiveWatch = { watch, sink };
    this.#watches.add(live);
    return {
      cancel: () => {
        this.#watches.delete(live);
        watch.cancel();
      },
    };
  }
  grantLease(ttlMs: number): Promise<LeaseGrant> {
    return this.#way.grantLease(ttlMs);
  }
  keepAlive(lease: LeaseId): Promise<boolean> {
    return this.#way.keepAlive(lease);
  }
  revokeLease(lease: LeaseId): Promise<void> {
    return this.#way.revokeLease(lease);
  }
  members(): Promise<StoreMember[]> {
    return this.#way.members();
  }
  snapshot(): Promise<Uint8Array> {
    return this.#way.snapshot();
  }
}
