// SPDX-License-Identifier: Apache-2.0
//
// `cairn screen` on two real pseudo-terminals at once: both are shown, each goes on by itself when
// the other goes, and both are given back at the end.

import { afterEach, expect, test } from "bun:test";
import { readlinkSync } from "node:fs";
import path from "node:path";

const MAIN = path.join(import.meta.dir, "main.ts");
const COOKED = 0o12; // ICANON and ECHO, termios(3)

/** A pseudo-terminal that somebody holds open, and what was written on it. */
class Line {
  readonly holder: Bun.Subprocess;
  text = "";
  #waiting: (() => void)[] = [];

  constructor() {
    const data = (_: unknown, bytes: Uint8Array) => {
      this.text += new TextDecoder().decode(bytes);
      for (const wake of this.#waiting.splice(0)) wake();
    };
    this.holder = Bun.spawn(["sleep", "infinity"], { terminal: { cols: 80, rows: 24, data } });
  }

  get terminal(): Bun.Terminal {
    const { terminal } = this.holder;
    if (terminal === undefined) throw new Error("there is no terminal");
    return terminal;
  }

  get path(): string {
    return readlinkSync(`/proc/${this.holder.pid}/fd/0`);
  }

  /** Resolves once something new was written that holds it. */
  async sees(text: string): Promise<void> {
    while (!this.text.includes(text)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.text = "";
  }
}

let lines: Line[] = [];
let screen: Bun.Subprocess | null = null;
afterEach(() => {
  screen?.kill("SIGKILL");
  for (const { holder, terminal } of lines) {
    holder.kill("SIGKILL");
    terminal.close();
  }
  [lines, screen] = [[], null];
});

test("two → both shown; one goes → the other stays; told to stop → given back", async () => {
  const [first, second] = (lines = [new Line(), new Line()]) as [Line, Line];
  const ttys = lines.flatMap((line) => ["--tty", line.path]);
  screen = Bun.spawn([process.execPath, MAIN, "screen", ...ttys, "--socket", "/nowhere"], {
    stdin: "ignore",
    stderr: "inherit",
  });
  await Promise.all([first.sees("Cairn"), second.sees("Cairn")]);
  expect(second.terminal.localFlags & COOKED).toBe(0);
  first.holder.kill("SIGKILL");
  first.terminal.close();
  second.terminal.write("?");
  await second.sees("\x1b[");
  screen.kill("SIGTERM");
  expect(await screen.exited).toBe(0);
  expect(second.terminal.localFlags & COOKED).toBe(COOKED);
});
