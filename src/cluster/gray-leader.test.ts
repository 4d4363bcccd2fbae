// SPDX-License-Identifier: Apache-2.0
//
// When a raft leader that is slow hands its lead over, and to whom: by figures as etcd counts them.
// That real etcd counts so, and hands over, is in test/etcd.

import { describe, expect, test } from "bun:test";
import {
  GRAY_LOOK_MS,
  GrayLeader,
  SLOW_LOOKS,
  STAND_BACK_MS,
  parseFigures,
} from "./gray-leader.ts";
import type { EtcdFigures } from "./gray-leader.ts";

const OTHERS = [{ id: "11" }, { id: "12" }];

/** A voter whose disk and links take so long per event, from one look to the next. */
class Looked {
  readonly gray = new GrayLeader();
  nowMs = 0;
  #fsync = { count: 0, seconds: 0 };
  #links = [0, 0];
  #linkCount = 0;

  look(at: {
    fsyncMs: number;
    fsyncs?: number;
    linkMs?: [number, number];
    isLeader?: boolean;
    others?: { id: string }[];
  }) {
    const { fsyncMs, fsyncs = 20, linkMs = [2, 1], isLeader = true, others = OTHERS } = at;
    const { count, seconds } = this.#fsync;
    this.#fsync = { count: count + fsyncs, seconds: seconds + (fsyncs * fsyncMs) / 1000 };
    this.#linkCount += 4;
    this.#links = this.#links.map((sum, which) => sum + (4 * (linkMs[which] ?? 0)) / 1000);
    const [one = 0, other = 0] = this.#links;
    const roundTrips = new Map([
      ["b", { count: this.#linkCount, seconds: one }],
      ["c", { count: this.#linkCount, seconds: other }],
    ]);
    const figures: EtcdFigures = { isLeader, fsync: this.#fsync, roundTrips };
    this.nowMs += GRAY_LOOK_MS;
    return this.gray.look(figures, others, this.nowMs);
  }
  /** What each of so many looks alike answers. */
  looks(count: number, at: Parameters<Looked["look"]>[0]): (string | null)[] {
    return Array.from({ length: count }, () => this.look(at)?.to ?? null);
  }
}

describe("a slow leader", () => {
  test("slow disk for three looks → to the voter with the quickest link, and says why", () => {
    const looked = new Looked();
    expect(looked.looks(SLOW_LOOKS, { fsyncMs: 400 })).toEqual([null, null, null]);
    expect(looked.look({ fsyncMs: 400 })).toEqual({
      to: "12",
      why: "its disk takes 400 ms to keep a record",
    });
  });

  test("slow now and then, hardly asked, or not leading → nothing", () => {
    const now = new Looked();
    for (let round = 0; round < 10; round++) {
      expect(now.looks(2, { fsyncMs: 900 })).toEqual([null, null]);
      expect(now.look({ fsyncMs: 5 })).toBeNull();
    }
    expect(new Looked().looks(20, { fsyncMs: 900, fsyncs: 2 })).toEqual(Array(20).fill(null));
    expect(new Looked().looks(20, { fsyncMs: 900, isLeader: false })).toEqual(Array(20).fill(null));
    expect(new Looked().looks(20, { fsyncMs: 20 })).toEqual(Array(20).fill(null));
  });

  test("nobody else votes → it stays", () => {
    expect(new Looked().looks(20, { fsyncMs: 900, others: [] })).toEqual(Array(20).fill(null));
  });

  test("links: one slow of two → a majority is near, nothing; both → handed over", () => {
    expect(new Looked().looks(20, { fsyncMs: 5, linkMs: [900, 2] })).toEqual(Array(20).fill(null));
    const both = new Looked();
    both.looks(SLOW_LOOKS, { fsyncMs: 5, linkMs: [400, 300] });
    expect(both.look({ fsyncMs: 5, linkMs: [400, 300] })).toEqual({
      to: "12",
      why: "its links to the other voters take 300 ms",
    });
  });

  test("handed over, and the lead comes back → not again for five minutes", () => {
    const looked = new Looked();
    const first = looked.looks(SLOW_LOOKS + 1, { fsyncMs: 900 });
    expect(first.at(-1)).toBe("12");
    const rounds = STAND_BACK_MS / GRAY_LOOK_MS;
    expect(looked.looks(rounds - 1, { fsyncMs: 900 })).toEqual(Array(rounds - 1).fill(null));
    expect(looked.looks(2, { fsyncMs: 900 })).toContain("12");
  });

  test("etcd began anew, its counters with it → a look that says nothing", () => {
    const looked = new Looked();
    looked.looks(SLOW_LOOKS, { fsyncMs: 900 });
    const fresh = { count: 4, seconds: 0.1 };
    const figures = { isLeader: true, fsync: fresh, roundTrips: new Map() };
    expect(looked.gray.look(figures, OTHERS, 1e6)).toBeNull();
    expect(looked.gray.look(null, OTHERS, 1e6 + GRAY_LOOK_MS)).toBeNull();
  });
});

test("etcd's text → its figures; what is not there → null", () => {
  const text = [
    "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
    'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 9',
    "etcd_disk_wal_fsync_duration_seconds_sum 0.012345",
    "etcd_disk_wal_fsync_duration_seconds_count 12",
    'etcd_network_peer_round_trip_time_seconds_sum{To="8e9e05c52164694d"} 0.02',
    'etcd_network_peer_round_trip_time_seconds_count{To="8e9e05c52164694d"} 5',
    "etcd_server_is_leader 1",
    "",
  ].join("\n");
  expect(parseFigures(text)).toEqual({
    isLeader: true,
    fsync: { count: 12, seconds: 0.012345 },
    roundTrips: new Map([["8e9e05c52164694d", { count: 5, seconds: 0.02 }]]),
  });
  expect(parseFigures(text.replace("is_leader", "has_leader"))).toBeNull();
  expect(parseFigures("")).toBeNull();
});
