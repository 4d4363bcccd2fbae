// SPDX-License-Identifier: Apache-2.0
//
// Two clusters of one join secret meet: one looks at the other before it gives way, and a unit
// whose cluster does not answer asks another one whether its own gave way meanwhile.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import type { StationFact } from "#cluster/formation.ts";
import { hasGivenWay } from "#cluster/giving-way.ts";
import { idText } from "#cluster/identity.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import type { ClusterView } from "#cluster/view.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState } from "#protocol/peer-channel/identity.ts";
import type { PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { callStation } from "./assembly.ts";
import type { PipeSecurity } from "./control-pipe.ts";

const ANSWER_MS_MAX = 10_000;

const QuestionSchema = z.object({ kind: z.literal("gaveWay") });
const AnswerSchema = z.object({ kind: z.literal("gaveWay"), gaveWay: z.boolean() });

/**
 * Looks at another cluster before ours gives way to it: its station must prove that it has the
 * secret and that its cluster is there and does not give way itself.
 */
export async function meetCluster(
  world: World,
  security: PipeSecurity,
  other: StationFact,
): Promise<void> {
  const pipe = await meet(world, security, other);
  pipe.close("seen");
}

async function meet(
  world: World,
  security: PipeSecurity,
  other: StationFact,
): Promise<MessagePipe> {
  const { pipe, peer } = await callStation(world, security, other, Purpose.meet);
  const refusal = refusalOf(peer, other);
  if (refusal === null) return pipe;
  pipe.close("not as it was heard");
  throw refusal;
}

function refusalOf(peer: PeerIdentity, other: StationFact): Fault | null {
  if (idText(peer.clusterId) !== other.clusterId) {
    return new Fault("notAuthentic", "the other cluster is not the one that was heard");
  }
  if (peer.clusterState !== ClusterState.yielding) return null;
  return new Fault("conflict", "the other cluster gives way itself");
}

/** Whether the other cluster knows that ours gave way. */
export async function askWhetherItGaveWay(
  world: World,
  security: PipeSecurity,
  other: StationFact,
): Promise<boolean> {
  const pipe = await meet(world, security, other);
  return new Promise((resolve, reject) => {
    const cancel = security.timers.after(ANSWER_MS_MAX, () => {
      pipe.close("no answer");
      reject(new Fault("notReady", "the other cluster did not answer in time"));
    });
    pipe.onMessage = (message) => {
      cancel();
      pipe.close("answered");
      const parsed = AnswerSchema.safeParse(message);
      resolve(parsed.success && parsed.data.gaveWay);
    };
    pipe.onClose = (reason) => {
      cancel();
      reject(new Fault("notReady", `the other cluster's link ended: ${reason}`));
    };
    pipe.send({ kind: "gaveWay" });
  });
}

/** The other side of both: who only looks closes; who asks hears of the cluster it proved. */
export function answerMeeting(pipe: MessagePipe, peer: PeerIdentity, view: ClusterView): void {
  pipe.onClose = () => {};
  pipe.onMessage = (message) => {
    if (!QuestionSchema.safeParse(message).success) return pipe.close("it makes no sense");
    const gaveWay = hasGivenWay(view, idText(peer.clusterId));
    pipe.send({ kind: "gaveWay", gaveWay });
  };
}
