// SPDX-License-Identifier: Apache-2.0
//
// Whether a unit is healthy: what a slot on trial is blessed by, and sent back for want of. Pure: a
// few facts in, a sentence out.
//
// Healthy is what this version does by itself, not what others do: a unit that is alone in the dark
// is healthy, for going back to the old version would bring nobody back. What it must do:
// - the daemon stays up, its reactor answers, it has network cards if it had any,
// - every disk that was open before the restart is open again, and in use once the control store
//   is within reach,
// - a unit that is in a cluster has gone back to it; one that is in none may wait for one,
// - its own voter, if it is one, runs and answers,
// - it reaches the control store, or it is heard that most voters are away. When most of them are
//   heard and the store is not reached all the same, it is this version that cannot.

/** A daemon that dies sooner than this was never well. */
export const SETTLED_MS = 15_000;
/** How long the control store is waited for before a unit may count as alone. */
export const ALONE_MS = 120_000;
/** A reactor reports every five seconds at least. */
const REACTOR_SILENT_MS = 12_000;

export interface HealthFacts {
  uptimeMs: number;
  stopping: boolean;
  /** Since the reactor's last report. */
  reactorSilentMs: number;
  /** `entering`: it is in a cluster, as its state directory says, and has not gone back yet. */
  membership: "none" | "entering" | "entered";
  /** What it is about, in its own words. */
  sentence: string;
  /** Disks that were open before, by path, with how they are now. */
  disks: readonly { path: string; state: "absent" | "open" | "ready"; reason: string }[];
  networkCards: { before: number; now: number };
  reachesStore: boolean;
  /** Of its own; `expected`: the control store has it among its voters. */
  voter: { expected: boolean; hasData: boolean; runs: boolean; answers: boolean };
  /** Voters that are known, and those heard lately; itself among both if it is one. */
  voters: { known: number; heard: number };
}

export interface Health {
  healthy: boolean;
  /** One sentence: why not, or as what it is healthy. */
  sentence: string;
}

export function healthOf(facts: HealthFacts): Health {
  const why = whyNotUp(facts) ?? whyNotInCluster(facts);
  if (why !== null) return { healthy: false, sentence: why };
  return { healthy: true, sentence: asWhat(facts) };
}

function whyNotUp(facts: HealthFacts): string | null {
  const { uptimeMs, networkCards } = facts;
  if (facts.stopping) return "it is stopping";
  if (facts.reactorSilentMs > REACTOR_SILENT_MS) return "its reactor says nothing";
  if (networkCards.before > 0 && networkCards.now === 0) {
    return "it finds no network card, and had one before";
  }
  const gone = facts.disks.find((disk) => disk.state === "absent");
  if (gone !== undefined) return `disk ${gone.path} was open before and is not: ${gone.reason}`;
  if (uptimeMs < SETTLED_MS) return `it has run for ${Math.floor(uptimeMs / 1000)} s only`;
  return null;
}

function whyNotInCluster(facts: HealthFacts): string | null {
  const { membership, voter, voters, disks } = facts;
  if (membership === "none") return null;
  if (membership === "entering") return `it is not back in its cluster: ${facts.sentence}`;
  if (voter.hasData && !voter.runs) return "its own voter does not run";
  if (facts.reachesStore) {
    if (voter.expected && !voter.answers) return "its own voter does not answer";
    const waiting = disks.find((disk) => disk.state !== "ready");
    return waiting === undefined ? null : `disk ${waiting.path} is not in use yet`;
  }
  if (facts.uptimeMs < ALONE_MS) return "it has not reached the control store yet";
  if (voters.heard < majorityOf(voters.known)) return null;
  const count = `${voters.heard} of ${voters.known}`;
  return `it does not reach the control store, although ${count} voters are heard`;
}

function asWhat(facts: HealthFacts): string {
  const { membership, voters } = facts;
  if (membership === "none") return `it is in no cluster: ${facts.sentence}`;
  if (facts.reachesStore) return "it serves its cluster";
  return `it waits for its cluster: ${voters.heard} of ${voters.known} voters are heard`;
}

function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}
