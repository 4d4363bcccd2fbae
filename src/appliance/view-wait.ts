// SPDX-License-Identifier: Apache-2.0
//
// Waiting until this unit's view has what was asked for: an answer is given only once whoever asks
// the same unit next sees it.

import { Fault } from "#base/fault.ts";
import type { Clock } from "#base/world.ts";
import type { ClusterLife } from "./cluster-life.ts";

const WAIT_MS_MAX = 15_000;

/** A Fault notReady when it does not come to hold in time. */
export async function untilHolds(
  clock: Pick<Clock, "nowMs">,
  life: ClusterLife,
  holds: () => boolean,
): Promise<void> {
  const { view } = life.follower;
  const endMs = clock.nowMs() + WAIT_MS_MAX;
  while (!holds()) {
    const leftMs = endMs - clock.nowMs();
    if (leftMs <= 0) throw new Fault("notReady", "it was accepted, and is not there yet");
    await life.follower.reached(view.revision + 1, leftMs);
  }
}
