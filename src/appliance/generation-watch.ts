// SPDX-License-Identifier: Apache-2.0
//
// How units of one cluster learn of its newest generation (a restored backup starts one): whoever
// does not reach the control store asks the units that it knows, and a control station that it
// hears; and the control station of a later generation calls the units that it misses. Both say
// which generation they are in; the higher one admits the other, which comes along
// (next-generation.ts).
//
// Only over links that prove the join secret and the unit's key; units of two generations open no
// other link to each other (generationKey).

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import { commandArguments } from "#cluster/commands.ts";
import { FIRST_GENERATION, GenerationSchema, compareGenerations } from "#cluster/generation.ts";
import type { Generation } from "#cluster/generation.ts";
import type { StationFact } from "#cluster/formation.ts";
import { idText } from "#cluster/identity.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { type UnitFacts, placeOf } from "./assembly.ts";
import { VoterPlaceSchema } from "./membership.ts";
import type { VoterPlace } from "./membership.ts";

const LOOK_EVERY_MS = 3000;
/** Called in one look; the others have their turn at the next. */
const CALLS_PER_LOOK = 4;
const EXCHANGE_MS_MAX = 20_000;

const MessageSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("generation"),
    generation: GenerationSchema,
    unit: commandArguments.admitUnit,
  }),
  /** From the unit of the higher generation: what the other one is in it. */
  z.object({
    kind: z.literal("come"),
    generation: GenerationSchema,
    unit: z.number().int().min(1),
    clusterName: z.string().max(63),
    voters: z.array(VoterPlaceSchema).min(1).max(16),
  }),
]);
type Message = z.infer<typeof MessageSchema>;

/** What a unit is in a higher generation. */
export type Coming = Omit<Extract<Message, { kind: "come" }>, "kind">;

export interface GenerationParts {
  generation: Generation;
  facts(): UnitFacts;
  /** Whether the control store does not answer. */
  storeAway(): boolean;
  leads(): boolean;
  /** Units of the cluster but this one, and whether the view has them alive. */
  others(): { place: VoterPlace; alive: boolean }[];
  call(place: VoterPlace): Promise<{ pipe: MessagePipe; peer: PeerIdentity }>;
  /** Has a unit admitted that proved itself: its number. */
  admit(unit: UnitFacts): Promise<number>;
  voters(): VoterPlace[];
  clusterName(): string;
  /** A higher generation has this unit: it is to enter it. Called once. */
  come(coming: Coming): void;
}

export class GenerationWatch {
  readonly #world: Pick<World, "log">;
  readonly #timers: Timers;
  readonly #parts: GenerationParts;
  #turn = 0;
  #came = false;
  #stopped = false;
  #cancel: () => void = () => {};

  constructor(world: Pick<World, "log">, timers: Timers, parts: GenerationParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
  }

  start(): void {
    this.#cancel = this.#timers.after(LOOK_EVERY_MS, () => void this.#look());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const wanted = this.#wanted();
    const count = Math.min(CALLS_PER_LOOK, wanted.length);
    const calls = Array.from({ length: count }, (_, at) => {
      return this.#ask(wanted[(this.#turn + at) % wanted.length] as VoterPlace);
    });
    this.#turn += count;
    await Promise.all(calls);
    if (!this.#stopped) this.start();
  }

  #wanted(): VoterPlace[] {
    const { others, storeAway, leads, generation } = this.#parts;
    if (storeAway()) return others().map(({ place }) => place);
    // Nobody has to be told of the first one.
    const isFirst = compareGenerations(generation, FIRST_GENERATION) === 0;
    if (isFirst || !leads()) return [];
    return others().flatMap(({ place, alive }) => (alive ? [] : [place]));
  }

  async #ask(place: VoterPlace): Promise<void> {
    try {
      const { pipe, peer } = await this.#parts.call(place);
      this.meet(pipe, peer);
    } catch (error) {
      if (!(error instanceof Fault)) throw error; // it is away, or of an older version
    }
  }

  /** Either end: both say where they are, and the lower one comes along. */
  meet(pipe: MessagePipe, peer: PeerIdentity): void {
    const cancel = this.#timers.after(EXCHANGE_MS_MAX, () => pipe.close("it took too long"));
    pipe.onClose = () => cancel();
    pipe.onMessage = (raw) => {
      const parsed = MessageSchema.safeParse(raw);
      if (!parsed.success) return pipe.close("it makes no sense");
      void this.#take(pipe, peer, parsed.data);
    };
    const { generation, facts } = this.#parts;
    pipe.send({ kind: "generation", generation, unit: facts() });
  }

  async #take(pipe: MessagePipe, peer: PeerIdentity, message: Message): Promise<void> {
    const order = compareGenerations(message.generation, this.#parts.generation);
    if (message.kind === "come") {
      pipe.close("heard");
      if (order > 0) this.#come(message);
      return;
    }
    if (order === 0) return pipe.close("both are in one generation");
    if (order > 0) return; // the other one says what we are there
    const { unit } = message;
    if (unit.id !== idText(peer.unitId) || unit.publicKey !== peer.publicKey.toHex()) {
      return pipe.close("not the unit that proved itself");
    }
    try {
      const number = await this.#parts.admit(unit);
      const { generation, voters, clusterName } = this.#parts;
      const known = { voters: voters(), clusterName: clusterName() };
      pipe.send({ kind: "come", generation, unit: number, ...known });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      pipe.close(error.message.slice(0, 200));
    }
  }

  #come({ generation, unit, clusterName, voters }: Coming): void {
    if (this.#came || this.#stopped) return;
    this.#came = true;
    this.#world.log.write("warn", "the cluster has a newer generation", { ...generation });
    this.#parts.come({ generation, unit, clusterName, voters });
  }
}

/** Other units as the view has them, or voters as they were saved. */
export function otherUnits(
  view: ClusterView,
  saved: readonly VoterPlace[],
  ownId: string,
): { place: VoterPlace; alive: boolean }[] {
  const known = [...view.units.values()].filter((unit) => unit.state === "admitted");
  const places = known.map((unit) => ({ place: placeOf(unit), alive: view.isAlive(unit.number) }));
  const unknown = saved
    .filter(({ unitId }) => !known.some(({ id }) => id === unitId))
    .map((place) => ({ place, alive: false }));
  return [...places, ...unknown].filter(({ place }) => place.unitId !== ownId && place.port > 0);
}

/** Where a control station that is heard can be called, though its number is not known. */
export function stationPlaces(station: StationFact | null): VoterPlace[] {
  if (station === null) return [];
  const { stationUnitId: unitId, addresses, channelPort: port } = station;
  return [{ unit: 0, unitId, addresses, port }];
}
