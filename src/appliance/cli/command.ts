// SPDX-License-Identifier: Apache-2.0
//
// What a command is, and what all of them share: output as a table or JSON, watching, the note that
// what is shown is old.

import type { z } from "zod";
import { Fault } from "#base/fault.ts";
import { DryRunSchema } from "#appliance/api/schemas.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { CONNECTION_FLAGS, Connection, type Answer } from "./connection.ts";
import { failureOf, Misuse } from "./failure.ts";
import type { FlagDefinition, Flags } from "./flags.ts";
import type { CliMachine } from "./machine.ts";
import { plain } from "./table.ts";

export interface Operand {
  name: string;
  /** `rest`: any number of words, also none. */
  kind: "one" | "rest";
}

export interface Command {
  /** Noun and verb, as they are typed. */
  words: readonly string[];
  operands: readonly Operand[];
  flags: readonly FlagDefinition[];
  sentence: string;
  /** Resolves with the exit code. */
  run(call: Call): Promise<number>;
}

export const OUTPUT_FLAG: FlagDefinition = {
  name: "output",
  short: "o",
  kind: "text",
  value: "table|json",
  sentence: "what is printed: a table for people, JSON for programs",
};
export const WIDE_FLAG: FlagDefinition = {
  name: "wide",
  kind: "yesno",
  sentence: "more columns",
};
export const WATCH_FLAG: FlagDefinition = {
  name: "watch",
  kind: "yesno",
  sentence: "look again every two seconds until Ctrl-C",
};
export const DRY_RUN_FLAG: FlagDefinition = {
  name: "dry-run",
  kind: "yesno",
  sentence: "check and show what would be; change nothing",
};
export const DRY_RUN_NOTE = "dry run: nothing was changed";
/** What every command that asks a unit takes. */
export const ASKING_FLAGS: readonly FlagDefinition[] = [OUTPUT_FLAG, ...CONNECTION_FLAGS];
/** And one that changes something. */
export const CHANGING_FLAGS: readonly FlagDefinition[] = [...ASKING_FLAGS, DRY_RUN_FLAG];

/** What a command takes that only ever asks the unit of this machine. */
export const CONNECTION_FLAGS_OF_HERE = CONNECTION_FLAGS.filter(({ name }) =>
  ["socket", "state-directory"].includes(name),
);

const WATCH_EVERY_MS = 2000;
/** A unit that is away is looked for ever less often, up to this. */
const AWAY_EVERY_MS_MAX = 30_000;
/** From this age on a note says that what is shown is old. */
const STALE_NOTE_MS = 1000;
const CLEAR_SCREEN = "\x1b[H\x1b[2J";

/** One call of a command: its words, its flags, and the way out. */
export class Call {
  readonly machine: CliMachine;
  readonly flags: Flags;
  readonly operands: readonly string[];
  /** False: what is asked needs no token, since it brings its own proof. */
  needsToken = true;
  #connection: Connection | null = null;
  #isToClear = false;

  constructor(machine: CliMachine, flags: Flags, operands: readonly string[]) {
    this.machine = machine;
    this.flags = flags;
    this.operands = operands;
  }

  get asJson(): boolean {
    return this.flags.word("output") === "json";
  }

  /** Asks the unit; what it answers is shaped as `schema` says, and `body` is as it came. */
  async ask<S extends z.ZodType>(
    schema: S,
    method: string,
    path: string,
    request?: unknown,
  ): Promise<{ value: z.infer<S>; body: unknown }> {
    const answer = await this.askPlain(method, path, request);
    const parsed = schema.safeParse(answer.body);
    if (parsed.success) return { value: parsed.data, body: answer.body };
    const where = parsed.error.issues[0]?.path.join(".") ?? "";
    throw new Fault("versionMismatch", `the unit's answer is not understood (${where})`);
  }

  async askPlain(method: string, path: string, request?: unknown): Promise<Answer> {
    const { needsToken } = this;
    this.#connection ??= new Connection(this.machine, this.flags, { needsToken });
    const answer = await this.#connection.ask(method, path, request);
    if (answer.staleMs >= STALE_NOTE_MS) {
      const seconds = Math.round(answer.staleMs / 1000);
      await this.note(`the control store does not answer; this is ${seconds} s old`);
    }
    return answer;
  }

  /** Sends bytes of a file. */
  async put(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<unknown> {
    const { needsToken } = this;
    this.#connection ??= new Connection(this.machine, this.flags, { needsToken });
    return (await this.#connection.put(path, bytes)).body;
  }

  /**
   * With --dry-run: asks what a change would do, prints it and answers true; a refusal is thrown.
   * False: it is to be done.
   */
  async tried(method: string, path: string, request?: unknown): Promise<boolean> {
    if (!this.flags.isSet("dry-run")) return false;
    const asked = `${path}${path.includes("?") ? "&" : "?"}dryRun=true`;
    const { value, body } = await this.ask(DryRunSchema, method, asked, request);
    const { sentences } = value;
    const lines = sentences.map((sentence) => `it would be told: ${plain(sentence)}\n`);
    await this.print(body, () => lines.join("") || "nothing would change\n");
    await this.note(DRY_RUN_NOTE);
    return true;
  }

  async note(sentence: string): Promise<void> {
    await this.machine.complain(`note: ${sentence}\n`);
  }

  /** Prints as JSON or as `text` says, which is not asked otherwise. */
  async print(body: unknown, text: () => string): Promise<void> {
    const clear = this.#isToClear ? CLEAR_SCREEN : "";
    this.#isToClear = false;
    // At once with what takes its place: the screen is never empty.
    if (!this.asJson) return this.machine.write(clear + text());
    const lines = this.flags.isSet("watch") ? JSON.stringify(body) : JSON.stringify(body, null, 2);
    return this.machine.write(`${lines}\n`);
  }

  /** Shows once, or by --watch again and again, on a fresh screen. */
  async show(look: () => Promise<void>): Promise<number> {
    const clears = this.flags.isSet("watch") && this.machine.isTerminal && !this.asJson;
    return this.follow(async () => {
      this.#isToClear = clears;
      await look();
    }, WATCH_EVERY_MS);
  }

  /**
   * Looks once, or by --watch until Ctrl-C. While watching, a unit that is away is waited for:
   * failover is just what one wants to watch.
   */
  async follow(look: () => Promise<void>, everyMs: number): Promise<number> {
    if (!this.flags.isSet("watch")) {
      await look();
      return 0;
    }
    this.machine.endQuietly();
    let awayMs = 0;
    for (;;) {
      try {
        await look();
        if (awayMs > 0) await this.note("it answers again");
        awayMs = 0;
      } catch (thrown) {
        awayMs = Math.min(AWAY_EVERY_MS_MAX, Math.max(everyMs, 2 * awayMs));
        await this.#sayIfAway(thrown, awayMs);
      }
      await this.machine.pause(awayMs === 0 ? everyMs : awayMs);
    }
  }

  async #sayIfAway(thrown: unknown, againMs: number): Promise<void> {
    const failure = failureOf(thrown);
    if (failure === null || failure.exitCode !== exitCodeOf("notReady")) throw thrown;
    await this.note(`${failure.message}; looking again in ${Math.ceil(againMs / 1000)} s`);
  }
}

/** Flags that no command can check alone. */
export function checkOutput(flags: Flags): void {
  const output = flags.word("output");
  if (output !== null && !["json", "table"].includes(output)) {
    throw new Misuse(`-o is json or table, not ${JSON.stringify(output)}`);
  }
}
