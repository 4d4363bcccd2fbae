// SPDX-License-Identifier: Apache-2.0
//
// A leader of the control store's raft that is slow and not dead (design section 6, gray failure):
// its disk or its links hold up every commit of the cluster, and no election comes, since its
// heartbeats arrive. The leader's own unit looks at what its etcd counts, and hands the lead over.
//
// Invariants
// - Only what was counted between two looks decides, over several looks in a row: one slow write is
//   no reason.
// - Who has handed over does not do so again for a while, and so several slow units do not throw
//   the lead about. It is never taken from a leader by others: that would be an election.

/** Looks this far apart, ms. */
export const GRAY_LOOK_MS = 10_000;
/** A write-ahead log whose fsync takes this long on average is slow, and so is a link. */
export const SLOW_FSYNC_MS = 250;
export const SLOW_LINK_MS = 250;
/** So many slow looks in a row. */
export const SLOW_LOOKS = 3;
/** Fewer fsyncs between two looks say nothing. */
export const FSYNCS_MIN = 3;
export const STAND_BACK_MS = 300_000;

/** A count of events and their whole time, since etcd's start. */
export interface Counted {
  count: number;
  seconds: number;
}

/** What etcd counts of itself. */
export interface EtcdFigures {
  isLeader: boolean;
  /** Of its write-ahead log. */
  fsync: Counted;
  /** Round trips to the other members, by their id in hexadecimal digits. */
  roundTrips: ReadonlyMap<string, Counted>;
}

/** Another voter, as etcd lists it. */
export interface OtherVoter {
  /** Decimal digits, as the gateway wants them. */
  id: string;
}

const LINES = {
  leader: /^etcd_server_is_leader (\S+)$/m,
  fsyncCount: /^etcd_disk_wal_fsync_duration_seconds_count (\S+)$/m,
  fsyncSeconds: /^etcd_disk_wal_fsync_duration_seconds_sum (\S+)$/m,
};
const ROUND_TRIPS =
  /^etcd_network_peer_round_trip_time_seconds_(sum|count)\{To="([0-9a-f]{1,16})"\} (\S+)$/gm;

/** From etcd's metrics (https://etcd.io/docs/v3.5/metrics/); null: not what they should be. */
export function parseFigures(text: string): EtcdFigures | null {
  const number = (line: RegExp) => Number(line.exec(text)?.[1] ?? Number.NaN);
  const [leads, count, seconds] = [LINES.leader, LINES.fsyncCount, LINES.fsyncSeconds].map(number);
  const isWhole = [leads, count, seconds].every((value) => Number.isFinite(value));
  if (!isWhole) return null;
  const roundTrips = new Map<string, Counted>();
  for (const [, what, id = "", value] of text.matchAll(ROUND_TRIPS)) {
    const known = roundTrips.get(id) ?? { count: 0, seconds: 0 };
    roundTrips.set(id, { ...known, [what === "sum" ? "seconds" : "count"]: Number(value) });
  }
  const fsync = { count: count as number, seconds: seconds as number };
  return { isLeader: leads === 1, fsync, roundTrips };
}

/** Average between two readings, ms; null where too little was counted, or etcd began anew. */
function averageMs(before: Counted | undefined, now: Counted, countMin: number): number | null {
  const count = now.count - (before?.count ?? 0);
  const seconds = now.seconds - (before?.seconds ?? 0);
  if (before === undefined || count < countMin || seconds < 0) return null;
  return (1000 * seconds) / count;
}

export class GrayLeader {
  #before: EtcdFigures | null = null;
  #slowLooks = 0;
  #standBackUntilMs = Number.NEGATIVE_INFINITY;

  /** Whom to hand the lead to, with the reason; null: it stays. */
  look(
    figures: EtcdFigures | null,
    others: readonly OtherVoter[],
    nowMs: number,
  ): { to: string; why: string } | null {
    const before = this.#before;
    this.#before = figures;
    if (figures === null || before === null || !figures.isLeader || !before.isLeader) {
      this.#slowLooks = 0;
      return null;
    }
    const links = linkTimes(before, figures, others);
    const why = slowness(before, figures, links);
    this.#slowLooks = why === null ? 0 : this.#slowLooks + 1;
    if (why === null || this.#slowLooks < SLOW_LOOKS || nowMs < this.#standBackUntilMs) return null;
    const to = nearest(others, links);
    if (to === null) return null;
    this.#slowLooks = 0;
    this.#standBackUntilMs = nowMs + STAND_BACK_MS;
    return { to, why };
  }
}

/** Round trip to each other voter, ms; null: not known. */
function linkTimes(
  before: EtcdFigures,
  now: EtcdFigures,
  others: readonly OtherVoter[],
): (number | null)[] {
  return others.map(({ id }) => {
    const name = BigInt(id).toString(16);
    const counted = now.roundTrips.get(name);
    return counted === undefined ? null : averageMs(before.roundTrips.get(name), counted, 1);
  });
}

/** A commit needs this disk, and as many of the other voters as make a majority with it. */
function slowness(
  before: EtcdFigures,
  now: EtcdFigures,
  links: readonly (number | null)[],
): string | null {
  const fsyncMs = averageMs(before.fsync, now.fsync, FSYNCS_MIN);
  if (fsyncMs !== null && fsyncMs >= SLOW_FSYNC_MS) {
    return `its disk takes ${Math.round(fsyncMs)} ms to keep a record`;
  }
  const needed = Math.floor((links.length + 1) / 2);
  const known = links.filter((ms): ms is number => ms !== null).sort((one, other) => one - other);
  const slowest = known[needed - 1];
  if (slowest === undefined || slowest < SLOW_LINK_MS) return null;
  return `its links to the other voters take ${Math.round(slowest)} ms`;
}

function nearest(others: readonly OtherVoter[], links: readonly (number | null)[]): string | null {
  let best: number | null = null;
  for (const [at, ms] of links.entries()) {
    if (best === null || (ms ?? Infinity) < (links[best] ?? Infinity)) best = at;
  }
  return best === null ? null : (others[best]?.id ?? null);
}
