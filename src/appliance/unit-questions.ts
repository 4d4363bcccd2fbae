// SPDX-License-Identifier: Apache-2.0
//
// What units of a cluster ask of each other for people: figures, a volume's last hour, a light at a
// bay. Over the authenticated channel, one question at a time per pipe; pipes are kept for a while,
// since pages look again. Nothing that matters hangs on an answer: who does not answer in time is
// said, and the page goes without.

import { z } from "zod";
import { Fault, faultTable } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers } from "#base/world.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { BoxSchema, wallSchema } from "./box-view.ts";
import { networkSchema } from "./network-settings.ts";
import { QuestionServer } from "./question-server.ts";
import { IoChartSchema, UnitFiguresSchema } from "./unit-figures.ts";

const ANSWER_MS_MAX = 2000;
/** A pipe that nobody used for so long is closed. */
const IDLE_MS = 60_000;
/** Pipes kept; more are opened and closed again. */
const PIPES_MAX = 32;
/** Units answered at once. */
const ASKERS_MAX = 64;

const PATH_CHARACTERS_MAX = 4096;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const QuestionSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("figures") }),
  z.strictObject({ kind: z.literal("chart"), volume: positive }),
  z.strictObject({ kind: z.literal("drive"), disk: positive, light: z.boolean() }),
  z.strictObject({ kind: z.literal("search"), on: z.boolean() }),
  z.strictObject({
    kind: z.literal("eraseDisk"),
    path: z.string().max(PATH_CHARACTERS_MAX),
    isTry: z.boolean(),
  }),
  z.strictObject({ kind: z.literal("box") }),
  z.strictObject({ kind: z.literal("tryNetwork"), network: networkSchema }),
  z.strictObject({ kind: z.literal("endTrial"), keep: z.boolean() }),
  z.strictObject({ kind: z.literal("setClock"), wallMs: wallSchema }),
]);
export type UnitQuestion = z.infer<typeof QuestionSchema>;

const answers = {
  figures: UnitFiguresSchema,
  chart: IoChartSchema,
  drive: z.strictObject({}),
  search: z.strictObject({}),
  eraseDisk: z.strictObject({}),
  box: BoxSchema,
  tryNetwork: BoxSchema,
  endTrial: BoxSchema,
  setClock: BoxSchema,
} as const;
export type UnitAnswer<K extends UnitQuestion["kind"]> = z.infer<(typeof answers)[K]>;

const MessageSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("answer"), body: z.unknown() }),
  z.strictObject({
    kind: z.literal("refused"),
    code: z.string().max(64),
    detail: z.string().max(1024),
  }),
]);

/** Answers one question; throws the Fault that is the refusal. */
export type AnswerQuestion = (question: UnitQuestion) => Promise<object>;

/** Answers other units. */
export function questionServer(answer: AnswerQuestion): QuestionServer {
  const limits = { most: ASKERS_MAX, busyWith: "other units are being answered" };
  return new QuestionServer(limits, async (message) => {
    const parsed = QuestionSchema.safeParse(message);
    if (!parsed.success) throw new Fault("badRequest", "the question makes no sense");
    return { kind: "answer", body: await answer(parsed.data) };
  });
}

export interface QuestionWays {
  timers: Timers;
  /** This unit's own number: it is asked without a pipe. */
  own(): UnitNumber;
  answer: AnswerQuestion;
  dial(unit: UnitNumber): Promise<MessagePipe>;
}

/** Asks units, itself too. */
export class QuestionClient {
  readonly #ways: QuestionWays;
  readonly #lines = new Map<UnitNumber, Line>();

  constructor(ways: QuestionWays) {
    this.#ways = ways;
  }

  /** Rejects with the unit's Fault, or notReady when it does not answer in time. */
  async ask<K extends UnitQuestion["kind"]>(
    unit: UnitNumber,
    question: Extract<UnitQuestion, { kind: K }>,
  ): Promise<UnitAnswer<K>> {
    const own = unit === this.#ways.own();
    const body = own ? await this.#ways.answer(question) : await this.#line(unit).ask(question);
    const parsed = answers[question.kind].safeParse(body);
    if (!parsed.success) throw new Fault("versionMismatch", `unit ${unit} speaks otherwise`);
    return parsed.data as UnitAnswer<K>;
  }

  #line(unit: UnitNumber): Line {
    const known = this.#lines.get(unit);
    if (known !== undefined && !known.isOver) return known;
    const line = new Line(this.#ways.timers, () => this.#ways.dial(unit));
    const [oldest] = this.#lines.values();
    if (this.#lines.size >= PIPES_MAX) oldest?.end();
    this.#lines.set(unit, line);
    line.onEnd = () => {
      if (this.#lines.get(unit) === line) this.#lines.delete(unit);
    };
    return line;
  }

  close(): void {
    for (const line of [...this.#lines.values()]) line.end();
  }
}

/** Heard instead of an answer: there is none to come. */
const ENDED = Symbol("ended");

/** One pipe to a unit: questions one after the other. */
class Line {
  onEnd: () => void = () => {};
  isOver = false;
  readonly #timers: Timers;
  readonly #pipe: Promise<MessagePipe>;
  #last: Promise<unknown> = Promise.resolve();
  #heard: (message: unknown) => void = () => {};
  #cancelIdle: () => void = () => {};

  constructor(timers: Timers, dial: () => Promise<MessagePipe>) {
    this.#timers = timers;
    this.#pipe = dial().then((pipe) => {
      pipe.onMessage = (message) => this.#heard(message);
      pipe.onClose = () => this.end();
      if (this.isOver) pipe.close("nobody waits for it");
      return pipe;
    });
    // Who asks hears of it; nobody else needs to.
    this.#pipe.catch(() => this.end());
  }

  ask(question: UnitQuestion): Promise<unknown> {
    const answer = this.#last.then(() => this.#askNow(question));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #askNow(question: UnitQuestion): Promise<unknown> {
    this.#cancelIdle();
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const late = new Fault("notReady", "the unit does not answer");
    const cancel = this.#timers.after(ANSWER_MS_MAX, () => resolve(late));
    this.#heard = resolve;
    this.#pipe.then(
      (pipe) => pipe.send(question) || resolve(late),
      () => resolve(late),
    );
    const heard = await promise;
    cancel();
    if (heard === late || heard === ENDED) {
      this.end();
      throw late;
    }
    this.#cancelIdle = this.#timers.after(IDLE_MS, () => this.end());
    const parsed = MessageSchema.safeParse(heard);
    if (!parsed.success) throw new Fault("versionMismatch", "the unit speaks otherwise");
    if (parsed.data.kind === "answer") return parsed.data.body;
    throw refusal(parsed.data);
  }

  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#cancelIdle();
    this.#heard(ENDED);
    this.#pipe.then(
      (pipe) => pipe.close("done"),
      () => undefined,
    );
    this.onEnd();
  }
}

/** A Fault's message has its kind before its detail, and would get it twice. */
function refusal({ code, detail }: { code: string; detail: string }): Fault {
  const known = Object.hasOwn(faultTable, code) ? (code as FaultCode) : "notReady";
  const kind = `${faultTable[known][2]}: `;
  return new Fault(known, detail.startsWith(kind) ? detail.slice(kind.length) : detail);
}
