// SPDX-License-Identifier: Apache-2.0
//
// "Sometimes" conditions: what the random runs are there to meet. Each is counted by the seeds that
// reached it; so many seeds that never reached one of them prove little, and fail.

export const CONDITIONS = [
  "takeover",
  "member dropped",
  "member back in sync",
  "all in-sync members lost their memory",
  "sector lost by a power cut",
  "write under way at a power cut",
  "unknown outcome",
  "host gave up",
  "link broken",
  "verb came twice",
  "I/O error",
  "a disk was given up",
  "orderly stop ended",
  "bit flipped at rest",
  "write lost by its disk",
  "write misdirected by its disk",
  "a block was healed",
  "a block was unreadable on all",
  "an unreadable block was carried to a new copy",
  "a disk kept nothing",
  "harm was taken as it was after a crash",
  "a scrub came to its end",
  "a pulled disk was taken again",
  "the control state was rebuilt from disks",
  "a unit wrote through a voter that was behind",
  "a volume grew",
  "a slice grew that lacked a copy",
] as const;
export type Condition = (typeof CONDITIONS)[number];

/** Seeds from which on every condition must have been reached. */
export const SEEDS_THAT_PROVE = 300;
