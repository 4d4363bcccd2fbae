// SPDX-License-Identifier: Apache-2.0
//
// How a unit without a join secret gets one: a unit of the cluster calls it and hands the secret
// over, by an order of its owner, who has compared the words (or opened a window).
//
// The words stand for the waiting unit's key, and the channel proves that key before anything is
// sent, so the secret reaches that box and nobody on the way. The other direction is on trust: a
// box without a secret takes the first that it is given. Whoever gives it another one gets a box
// with blank disks, and its owner misses it in his cluster.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import type { Stranger } from "#cluster/discovery-units.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { SecretBox } from "#machine/secret-box.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { unitIdOf } from "#protocol/peer-channel/identity.ts";
import { JOIN_SECRET_CHARACTERS_MAX, joinSecretFault } from "#protocol/peer-channel/secret.ts";
import { callUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";

const ANSWER_MS_MAX = 10_000;
const SECRET_FILE = "adopted-secret.sealed";
/** The pre-shared key of a unit that has none. */
export const NO_SECRET = new Uint8Array(32);

const OfferSchema = z.object({
  kind: z.literal("adopt"),
  secret: z.string().max(JOIN_SECRET_CHARACTERS_MAX),
  clusterName: z.string().max(63),
});
const AnswerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("adopted") }),
  z.object({ kind: z.literal("refused"), detail: z.string().max(256) }),
]);

/** Hands the join secret to a waiting unit; a Fault says why it was not taken. */
export async function giveSecret(
  world: Pick<World, "clock" | "seal">,
  security: PipeSecurity,
  to: Pick<Stranger, "publicKey" | "where" | "channelPort">,
  offer: { secret: string; clusterName: string },
): Promise<void> {
  const call = { ...security, preSharedKey: NO_SECRET, authenticate: () => null };
  const { pipe } = await callUnit(world, call, {
    address: to.where.address,
    port: to.channelPort,
    purpose: Purpose.adopt,
    // Of the key that the words stand for, whatever else was said of that unit.
    unitId: unitIdOf(world.seal, to.publicKey),
  });
  return new Promise((resolve, reject) => {
    const cancel = security.timers.after(ANSWER_MS_MAX, () => {
      pipe.close("no answer");
      reject(new Fault("notReady", "the waiting unit did not answer in time"));
    });
    pipe.onMessage = (message) => {
      cancel();
      pipe.close("answered");
      const parsed = AnswerSchema.safeParse(message);
      if (parsed.success && parsed.data.kind === "adopted") return resolve();
      const detail = parsed.success && parsed.data.kind === "refused" ? parsed.data.detail : "";
      reject(new Fault("conflict", `the waiting unit did not take the secret: ${detail}`));
    };
    pipe.onClose = (reason) => {
      cancel();
      reject(new Fault("notReady", `the waiting unit's link ended: ${reason}`));
    };
    pipe.send({ kind: "adopt", ...offer });
  });
}

/** The waiting unit's side: what it is given is kept before it says so. */
export function answerOffer(
  pipe: MessagePipe,
  state: StateDirectory,
  taken: (clusterName: string) => void,
): void {
  let isTaken = false;
  pipe.onClose = () => {};
  pipe.onMessage = (message) => {
    const parsed = OfferSchema.safeParse(message);
    const fault = parsed.success ? joinSecretFault(parsed.data.secret) : "it makes no sense";
    if (!parsed.success || fault !== null) {
      pipe.send({ kind: "refused", detail: fault ?? "" });
      return;
    }
    if (isTaken) return;
    isTaken = true;
    const { secret, clusterName } = parsed.data;
    void keepSecret(state, secret).then(() => {
      pipe.send({ kind: "adopted" });
      taken(clusterName);
    });
  };
}

async function keepSecret(state: StateDirectory, secret: string): Promise<void> {
  const box = await SecretBox.open(state);
  state.write(SECRET_FILE, box.sealSecret(new TextEncoder().encode(secret)));
}

/** The join secret that this unit was given, or null; the configuration's goes before it. */
export async function readAdopted(state: StateDirectory): Promise<string | null> {
  const sealed = state.read(SECRET_FILE);
  if (sealed === null) return null;
  const box = await SecretBox.open(state);
  return new TextDecoder().decode(box.openSecret(sealed));
}
