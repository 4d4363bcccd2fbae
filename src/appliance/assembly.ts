// SPDX-License-Identifier: Apache-2.0
//
// How a unit gets into a cluster: it founds one, or asks a cluster's control station to admit it.
// Both end with a membership that is saved before anybody hears of it.
//
// Founding is repeatable: an etcd directory without a saved membership is of a founding that a stop
// interrupted; nobody was admitted to it, and it is cleared.

import { z } from "zod";
import { Fault, faultTable } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import { commandArguments } from "#cluster/commands.ts";
import type { CommandArguments, CommandClient } from "#cluster/commands.ts";
import type { ControlStore } from "#cluster/control-store.ts";
import { Draft } from "#cluster/draft.ts";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import type { StationFact } from "#cluster/formation.ts";
import { idBytes, idText } from "#cluster/identity.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { FIRST_GENERATION, GenerationSchema, generationOf } from "#cluster/generation.ts";
import { firstState, keys } from "#cluster/state.ts";
import type { SettingsRecord, UnitRecord, VoterRecord } from "#cluster/state.ts";
import { decisions } from "#cluster/station-changes.ts";
import { ClusterView } from "#cluster/view.ts";
import { newId, newVoter, peerUrlOf, voterName } from "#cluster/voters.ts";
import type { EtcdCertificates } from "#machine/etcd-certificates.ts";
import { clearEtcdDirectory, etcdDirectoryState, etcdSocketPath } from "#machine/etcd-child.ts";
import type { EtcdChild } from "#machine/etcd-child.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { callUnit } from "./control-pipe.ts";
import type { PipeSecurity } from "./control-pipe.ts";
import type { SavedMembership, VoterPlace } from "./membership.ts";

/** A fresh etcd must answer within this, ms; slow disks under load included. */
const ETCD_START_MS = 30_000;
const ETCD_ASK_EVERY_MS = 50;
const JOIN_MS_MAX = 20_000;

/** What a unit says of itself when it founds or joins. */
export type UnitFacts = CommandArguments<"admitUnit">;

export interface Founding {
  clusterId: string;
  clusterName: string;
  sliceBytes: number;
  featureLevel: number;
  settings: Partial<SettingsRecord>;
  /** Null: unclaimed. */
  adminTokenHash: string | null;
  unit: UnitFacts;
}

/** Makes a cluster of one unit; the child is its etcd, which keeps running. */
export async function foundCluster(
  world: World,
  timers: Timers,
  etcd: { child: EtcdChild; certificates: EtcdCertificates },
  founding: Founding,
): Promise<SavedMembership> {
  const { child, certificates } = etcd;
  if (etcdDirectoryState(child.place.directory).hasData) clearEtcdDirectory(child.place.directory);
  const ticket = newId(world);
  const name = voterName(1);
  const peerUrl = peerUrlOf(asRecord(founding.unit));
  child.start(
    {
      kind: "first",
      ticket,
      initialCluster: `${name}=${peerUrl}`,
      found: true,
      token: founding.clusterId,
    },
    certificates,
  );
  const transport = new EtcdUnixTransport(etcdSocketPath(child.place.directory));
  const store = new EtcdControlStore(timers, transport);
  try {
    await untilAnswers(world, timers, store);
    await writeFirstState(store, founding, world.clock.wallMs());
    await admitFounder(world, store, founding, ticket);
  } catch (error) {
    await child.stop();
    clearEtcdDirectory(child.place.directory);
    throw error;
  }
  return {
    clusterId: founding.clusterId,
    clusterName: founding.clusterName,
    unit: 1,
    voters: [placeOf(asRecord(founding.unit))],
    generation: FIRST_GENERATION,
  };
}

export async function untilAnswers(
  world: World,
  timers: Timers,
  store: ControlStore,
): Promise<void> {
  const endMs = world.clock.nowMs() + ETCD_START_MS;
  for (;;) {
    try {
      await store.get(keys.cluster);
      return;
    } catch (error) {
      if (!(error instanceof Fault) || world.clock.nowMs() > endMs) throw error;
    }
    await new Promise<void>((resolve) => timers.after(ETCD_ASK_EVERY_MS, resolve));
  }
}

async function writeFirstState(
  store: ControlStore,
  founding: Founding,
  wallMs: number,
): Promise<void> {
  const puts = firstState({
    uuid: founding.clusterId,
    name: founding.clusterName,
    featureLevel: founding.featureLevel,
    sliceBytes: founding.sliceBytes,
    settings: founding.settings,
    adminTokenHash: founding.adminTokenHash,
    wallMs,
  });
  await store.transaction({ ifs: [{ key: keys.cluster, modRevision: 0 }], puts });
}

/** The founder is unit 1, and its etcd the first voter. */
async function admitFounder(
  world: World,
  store: ControlStore,
  founding: Founding,
  ticket: string,
): Promise<void> {
  const view = new ClusterView();
  view.reset(await store.range("/"));
  const draft = new Draft(view);
  const facts = { asker: 1, wallMs: world.clock.wallMs(), newId: () => newId(world), voters: null };
  const { unit } = decisions.admitUnit(draft, founding.unit, facts);
  if (unit !== 1) throw new Fault("internal", "the founder is not the first unit");
  const [member] = await store.members();
  if (member === undefined) throw new Fault("internal", "a fresh etcd has no member");
  const record: VoterRecord = {
    ...newVoter(world, asRecord(founding.unit), { memberId: member.id, others: [] }),
    ticket,
    state: "used",
  };
  draft.put(keys.voter(1), record);
  const { committed } = await store.transaction(draft.transaction(world.clock.wallMs()));
  if (!committed) throw new Fault("conflict", "the new cluster's state changed while it was made");
}

function asRecord(unit: UnitFacts): UnitRecord {
  return { ...unit, number: 1, pool: null, state: "admitted", admittedAtMs: 0 };
}

/** Where the voters in use are. */
export function voterPlaces(view: ClusterView): VoterPlace[] {
  return [...view.voters.values()].flatMap((voter) => {
    const record = view.units.get(voter.unit);
    return record === undefined || voter.state !== "used" ? [] : [placeOf(record)];
  });
}

export function placeOf(unit: UnitRecord): VoterPlace {
  const { number, id, ula, addresses, ports } = unit;
  return { unit: number, unitId: id, addresses: [ula, ...addresses], port: ports.control ?? 0 };
}

// Joining.

const JoinRequestSchema = z.object({
  kind: z.literal("join"),
  unit: commandArguments.admitUnit,
});
const placeSchema = z.object({
  unit: z.number().int().min(1),
  unitId: z.string().regex(/^[0-9a-f]{32}$/),
  addresses: z.array(z.string().max(64)).max(65),
  port: z.number().int().min(1).max(65535),
});
const JoinAnswerSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("admitted"),
    unit: z.number().int().min(1),
    clusterName: z.string().max(63),
    voters: z.array(placeSchema).min(1).max(16),
    /** Not said by versions that know of none. */
    generation: GenerationSchema.default(FIRST_GENERATION),
  }),
  z.object({ kind: z.literal("refused"), code: z.string().max(64), detail: z.string().max(1024) }),
]);

/** Asks to be admitted. A Fault notReady or notAuthentic: not reached; others: refused. */
export async function joinCluster(
  world: World,
  security: PipeSecurity,
  station: StationFact,
  unit: UnitFacts,
): Promise<SavedMembership> {
  const answer = await askStation(world, security, station, unit);
  if (answer.kind === "refused") {
    const code = Object.hasOwn(faultTable, answer.code) ? (answer.code as FaultCode) : "forbidden";
    throw new Fault(code, answer.detail);
  }
  return {
    clusterId: station.clusterId,
    clusterName: answer.clusterName,
    unit: answer.unit,
    voters: answer.voters,
    generation: answer.generation,
  };
}

async function askStation(
  world: World,
  security: PipeSecurity,
  station: StationFact,
  unit: UnitFacts,
): Promise<z.infer<typeof JoinAnswerSchema>> {
  const { pipe } = await callStation(world, security, station, Purpose.join);
  return new Promise((resolve, reject) => {
    const cancel = security.timers.after(JOIN_MS_MAX, () => {
      pipe.close("no answer");
      reject(new Fault("notReady", "the control station did not answer in time"));
    });
    pipe.onMessage = (message) => {
      cancel();
      pipe.close("answered");
      const parsed = JoinAnswerSchema.safeParse(message);
      if (parsed.success) resolve(parsed.data);
      else reject(new Fault("badRequest", "the control station's answer makes no sense"));
    };
    pipe.onClose = (reason) => {
      cancel();
      reject(new Fault("notReady", `the control station's link ended: ${reason}`));
    };
    pipe.send({ kind: "join", unit });
  });
}

/** A link to whoever was heard as a control station, of any of its addresses. */
export async function callStation(
  world: World,
  security: PipeSecurity,
  station: StationFact,
  purpose: Purpose,
): Promise<{ pipe: MessagePipe; peer: PeerIdentity }> {
  let failure: unknown = new Fault("notReady", "the control station told no address");
  for (const address of station.addresses) {
    try {
      return await callUnit(world, security, {
        address,
        port: station.channelPort,
        purpose,
        unitId: idBytes(station.stationUnitId),
      });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** The station's side: a unit that proved that it has the join secret asks to be admitted. */
export function admitJoining(
  pipe: MessagePipe,
  peer: PeerIdentity,
  cluster: { commands: CommandClient; view: ClusterView },
): void {
  pipe.onClose = () => {};
  pipe.onMessage = (message) => {
    void answerJoin(message, peer, cluster).then((answer) => {
      pipe.send(answer);
    });
  };
}

async function answerJoin(
  message: unknown,
  peer: PeerIdentity,
  cluster: { commands: CommandClient; view: ClusterView },
): Promise<z.infer<typeof JoinAnswerSchema>> {
  const parsed = JoinRequestSchema.safeParse(message);
  if (!parsed.success) {
    return { kind: "refused", code: "badRequest", detail: "the request makes no sense" };
  }
  const { unit } = parsed.data;
  // What it says of itself must be what it proved.
  if (unit.id !== idText(peer.unitId) || unit.publicKey !== peer.publicKey.toHex()) {
    return { kind: "refused", code: "notAuthentic", detail: "not the unit that proved itself" };
  }
  try {
    const answer = await cluster.commands.ask("admitUnit", unit);
    const voters = voterPlaces(cluster.view);
    const record = cluster.view.cluster;
    const clusterName = record?.name ?? "";
    const generation = record === null ? FIRST_GENERATION : generationOf(record);
    return { kind: "admitted", unit: answer.unit, clusterName, voters, generation };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return { kind: "refused", code: error.code, detail: error.message.slice(0, 1000) };
  }
}
