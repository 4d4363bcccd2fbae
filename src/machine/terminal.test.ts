// SPDX-License-Identifier: Apache-2.0
//
// A terminal on a real pseudo-terminal: keys come one by one and without echo, its size is known,
// and however the process ends, the terminal is as it was.

import { afterEach, describe, expect, test } from "bun:test";
import path from "node:path";
import { kindOf } from "./terminal.ts";

const FIXTURE = path.join(import.meta.dir, "terminal-fixture.ts");

class Run {
  readonly child: Bun.Subprocess;
  text = "";
  #waiting: (() => void)[] = [];

  constructor(...args: string[]) {
    this.child = Bun.spawn([process.execPath, FIXTURE, ...args], {
      terminal: {
        cols: 91,
        rows: 31,
        data: (_, bytes) => {
          this.text += new TextDecoder().decode(bytes);
          for (const wake of this.#waiting.splice(0)) wake();
        },
      },
    });
  }

  get terminal(): Bun.Terminal {
    const { terminal } = this.child;
    if (terminal === undefined) throw new Error("the child has no terminal");
    return terminal;
  }

  /** Resolves once the output holds the text; the test's own limit ends it otherwise. */
  async sees(text: string): Promise<void> {
    while (!this.text.includes(text)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  flags(): number[] {
    const { inputFlags, outputFlags, localFlags, controlFlags } = this.terminal;
    return [inputFlags, outputFlags, localFlags, controlFlags];
  }
}

let run: Run | null = null;
afterEach(() => {
  run?.child.kill("SIGKILL");
  run?.terminal.close();
  run = null;
});

const ECHO = 0o10;
const CANONICAL = 0o2;

describe("on a pseudo-terminal", () => {
  test("taken over → raw, its size known; keys as bytes, none echoed", async () => {
    run = new Run();
    const before = run.flags();
    await run.sees('ready window {"columns":91,"rows":31}');
    expect(run.terminal.localFlags & (ECHO | CANONICAL)).toBe(0);
    expect(before[2]).not.toBe(run.terminal.localFlags);
    run.terminal.write("a\x1b[A\x03");
    await run.sees("got 611b5b4103");
    run.terminal.resize(120, 40);
    await run.sees('resized {"columns":120,"rows":40}');
  });

  for (const [way, status] of [
    ["restore", 0],
    ["exit", 3],
    ["throw", 70],
  ] as const) {
    test(`ends by ${way} → as it was, and the farewell is written`, async () => {
      run = new Run("", way);
      const before = run.flags();
      await run.sees("ready");
      expect(run.flags()).not.toEqual(before);
      run.terminal.write("q");
      expect(await run.child.exited).toBe(status);
      expect(run.flags()).toEqual(before);
      await run.sees("FAREWELL");
    });
  }

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    test(`${signal} → as it was`, async () => {
      run = new Run();
      const before = run.flags();
      await run.sees("ready");
      run.child.kill(signal);
      expect(await run.child.exited).toBe(4);
      expect(run.flags()).toEqual(before);
    });
  }

  test("by its path → the same terminal", async () => {
    run = new Run("/dev/tty");
    await run.sees("ready");
    run.terminal.write("q");
    expect(await run.child.exited).toBe(0);
  });
});

test("no terminal → badMachine, and it is named", async () => {
  for (const [args, name] of [
    [[], "standard input"],
    [["/dev/null"], "/dev/null"],
    [["/nowhere/tty"], "/nowhere/tty"],
  ] as const) {
    await using child = Bun.spawn([process.execPath, FIXTURE, ...args], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(await child.stderr.text()).toContain(name);
    expect(await child.exited).toBe(70);
  }
});

test("kinds by the device's name", () => {
  for (const device of ["/dev/tty1", "/dev/tty63", "/dev/console"]) {
    expect(kindOf(device)).toBe("console");
  }
  for (const device of ["/dev/ttyS0", "/dev/ttyUSB1", "/dev/ttyAMA0", "/dev/hvc0"]) {
    expect(kindOf(device)).toBe("serial");
  }
  for (const device of ["/dev/pts/0", "/dev/tty", "/tmp/tty1"])
    expect(kindOf(device)).toBe("window");
});
