// SPDX-License-Identifier: Apache-2.0
//
// A program on a pseudo-terminal, and what a person would see there: its output goes through a
// terminal emulator, keys go back. The program dies with this process.

import headless from "@xterm/headless";
import { until } from "#test/cluster/until.ts";
import { program } from "./programs.ts";

const SEEN_MS = 20_000;

export class ScreenWindow implements AsyncDisposable {
  readonly columns: number;
  readonly rows: number;
  /** All that was written, escape sequences and all. */
  raw = "";
  readonly #child: Bun.Subprocess;
  readonly #emulator: InstanceType<typeof headless.Terminal>;

  constructor(words: readonly string[], size: { columns: number; rows: number }) {
    const { columns, rows } = size;
    [this.columns, this.rows] = [columns, rows];
    this.#emulator = new headless.Terminal({ cols: columns, rows, allowProposedApi: true });
    // Answers of the terminal, such as where its cursor is.
    this.#emulator.onData((text) => this.terminal.write(text));
    this.#child = Bun.spawn([program("setpriv"), "--pdeathsig", "KILL", ...words], {
      terminal: {
        cols: columns,
        rows,
        name: "linux",
        data: (_, bytes) => {
          const text = new TextDecoder().decode(bytes);
          this.raw += text;
          this.#emulator.write(text);
        },
      },
    });
  }

  get terminal(): Bun.Terminal {
    const { terminal } = this.#child;
    if (terminal === undefined) throw new Error("the program has no terminal");
    return terminal;
  }

  type(text: string): void {
    this.terminal.write(text);
  }

  /** Termios' four words of flags: what a program must give back. */
  flags(): number[] {
    const { inputFlags, outputFlags, localFlags, controlFlags } = this.terminal;
    return [inputFlags, outputFlags, localFlags, controlFlags];
  }

  /** What stands on the screen now. */
  shown(): string[] {
    const { active } = this.#emulator.buffer;
    return Array.from({ length: this.rows }, (_, at) => {
      const line = active.getLine(active.viewportY + at);
      return line?.translateToString(true) ?? "";
    });
  }

  /** Waits until the text stands on the screen; answers its line. */
  sees(text: string): Promise<string> {
    const look = () => this.shown().find((line) => line.includes(text)) ?? null;
    const trail = () => `--- on the screen\n${this.shown().join("\n")}\n`;
    return until(`"${text}" on the screen`, look, { limitMs: SEEN_MS, trail });
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    this.terminal.close();
  }
}
