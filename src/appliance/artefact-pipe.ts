// SPDX-License-Identifier: Apache-2.0
//
// Files of an update between units, over the authenticated channel: who wants them asks piece by
// piece, who has them answers. One question at a time per pipe, so that neither side holds more
// than a piece.
//
// The way is not trusted with anything: what arrives is held against the signed manifest, which the
// asking unit has checked by itself. Only units of the cluster get an answer (control-pipe.ts).

import { z } from "zod";
import { Fault, faultTable } from "#base/fault.ts";
import type { FaultCode } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { QuestionServer } from "./question-server.ts";

/** Bytes of a file in one message; a third more in base64. */
export const PIECE_BYTES_MAX = 512 << 10;
/** Units served at once; others ask again, here or at another unit that has it by then. */
export const SERVED_MAX = 4;
const ANSWER_MS_MAX = 30_000;
const RETRY_MS = 2000;
/** Failures in a row, over all units that have it, before a fetch is given up. */
const FAILURES_MAX = 15;

const QuestionSchema = z.strictObject({
  kind: z.literal("piece"),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string().min(1).max(96),
  offsetBytes: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  lengthBytes: z.number().int().min(1).max(PIECE_BYTES_MAX),
});
type Question = z.infer<typeof QuestionSchema>;

const AnswerSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("piece"),
    content: z.string().max(Math.ceil(PIECE_BYTES_MAX / 3) * 4),
  }),
  z.strictObject({
    kind: z.literal("refused"),
    code: z.string().max(64),
    detail: z.string().max(1024),
  }),
]);
type Answer = z.infer<typeof AnswerSchema>;

/** What a unit has to give; throws Fault notFound where it has not. */
export interface ArtefactKeeper {
  read(question: Omit<Question, "kind">): Promise<Uint8Array>;
}

/** Answers other units' questions. */
export function artefactServer(keeper: ArtefactKeeper): QuestionServer {
  const limits = { most: SERVED_MAX, busyWith: "other units are being served" };
  return new QuestionServer(limits, async (message): Promise<Answer> => {
    const parsed = QuestionSchema.safeParse(message);
    if (!parsed.success) throw new Fault("badRequest", "the question makes no sense");
    return { kind: "piece", content: (await keeper.read(parsed.data)).toBase64() };
  });
}

/** How a fetch reaches units. */
export interface ArtefactWays {
  timers: Timers;
  /** Units that have it and are up, best first; asked anew before every try. */
  holders(): readonly number[];
  dial(unit: number): Promise<MessagePipe>;
}

/**
 * A file's bytes from `offsetBytes` to `endBytes`, from whichever unit gives them. Throws Fault
 * notReady when nobody does for long.
 */
export async function* unitPieces(
  ways: ArtefactWays,
  file: { digest: string; name: string; offsetBytes: number; endBytes: number },
): AsyncGenerator<Uint8Array> {
  let at = file.offsetBytes;
  let failures = 0;
  let link: Link | null = null;
  try {
    while (at < file.endBytes) {
      const lengthBytes = Math.min(PIECE_BYTES_MAX, file.endBytes - at);
      let piece: Uint8Array;
      try {
        link ??= await connect(ways, failures);
        piece = await link.ask({ ...file, offsetBytes: at, lengthBytes });
      } catch (error) {
        link?.close();
        link = null;
        if (!(error instanceof Fault) || ++failures >= FAILURES_MAX) throw error;
        await new Promise<void>((resolve) => ways.timers.after(RETRY_MS, resolve));
        continue;
      }
      failures = 0;
      at += piece.length;
      yield piece;
    }
  } finally {
    link?.close();
  }
}

async function connect(ways: ArtefactWays, failures: number): Promise<Link> {
  const holders = ways.holders();
  const unit = holders[failures % Math.max(1, holders.length)];
  if (unit === undefined) throw new Fault("notReady", "no unit that is up has the update's files");
  return new Link(ways.timers, await ways.dial(unit));
}

/** One pipe to a unit that has the files. */
class Link {
  readonly #timers: Timers;
  readonly #pipe: MessagePipe;
  #heard: (answer: Answer | Fault) => void = () => {};
  #over: Fault | null = null;

  constructor(timers: Timers, pipe: MessagePipe) {
    this.#timers = timers;
    this.#pipe = pipe;
    pipe.onMessage = (message) => {
      const parsed = AnswerSchema.safeParse(message);
      this.#heard(parsed.success ? parsed.data : nonsense());
    };
    pipe.onClose = (reason) => {
      this.#over = new Fault("notReady", `the unit that has the update's files left: ${reason}`);
      this.#heard(this.#over);
    };
  }

  close(): void {
    this.#pipe.close("done");
  }

  async ask(question: Omit<Question, "kind"> & { endBytes: number }): Promise<Uint8Array> {
    const { digest, name, offsetBytes, lengthBytes } = question;
    const answer = await new Promise<Answer | Fault>((resolve) => {
      if (this.#over !== null) return resolve(this.#over);
      const cancel = this.#timers.after(ANSWER_MS_MAX, () => {
        resolve(new Fault("notReady", "the unit that has the update's files does not answer"));
      });
      this.#heard = (heard) => {
        cancel();
        resolve(heard);
      };
      this.#pipe.send({ kind: "piece", digest, name, offsetBytes, lengthBytes });
    });
    if (answer instanceof Fault) throw answer;
    if (answer.kind === "refused") throw refusedFault(answer);
    const piece = decoded(answer.content);
    // An empty piece would be asked for again and again.
    if (piece === null || piece.length === 0 || piece.length > lengthBytes) throw nonsense();
    return piece;
  }
}

function decoded(content: string): Uint8Array | null {
  try {
    return Uint8Array.fromBase64(content);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function refusedFault(answer: { code: string; detail: string }): Fault {
  const known = Object.hasOwn(faultTable, answer.code) ? (answer.code as FaultCode) : "notReady";
  return new Fault(known, `the unit that has the update's files says: ${answer.detail}`);
}

function nonsense(): Fault {
  return new Fault("badRequest", "the unit that has the update's files makes no sense");
}
