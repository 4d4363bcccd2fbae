// SPDX-License-Identifier: Apache-2.0
//
// The screen as a whole over a made-up terminal and a clock that is stepped: what is written when,
// what keys lead to, and that the terminal is given back.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { TerminalKind, TerminalSize } from "#machine/terminal.ts";
import type { Effect } from "./dialogue.ts";
import type { ScreenFacts } from "./facts.ts";
import { facts } from "./facts-fixture.ts";
import { Screen, type ScreenOutside } from "./screen.ts";

class FakeTerminal {
  kind: TerminalKind = "console";
  written = "";
  taken = "";
  restored = 0;
  given: TerminalSize | null = { columns: 80, rows: 25 };
  onInput: (bytes: Uint8Array) => void = () => {};
  onEnd = () => {};
  onLost = () => {};
  onResize = () => {};

  size(): TerminalSize | null {
    return this.given;
  }
  takeOver(farewell: string): void {
    this.taken = `taken ${farewell.length > 0}`;
  }
  write(text: string): void {
    this.written += text;
  }
  restore(): void {
    this.restored++;
  }
  type(text: string): void {
    this.onInput(Uint8Array.from(text, (sign) => sign.charCodeAt(0)));
  }
  /** What was written since the last time. */
  fresh(): string {
    const text = this.written;
    this.written = "";
    return text;
  }
}

let terminal: FakeTerminal;
let nowMs: number;
let waiting: { atMs: number; act: () => void }[];
let known: ScreenFacts;
let looks: number;
let done: Effect[];
let failure: Fault | null;
let outside: ScreenOutside;
beforeEach(() => {
  terminal = new FakeTerminal();
  nowMs = 100_000;
  [waiting, done, looks, failure, known] = [[], [], 0, null, facts()];
  outside = {
    terminal,
    clock: { nowMs: () => nowMs, wallMs: () => 0 },
    timers: {
      after: (delayMs, act) => {
        const one = { atMs: nowMs + delayMs, act };
        waiting.push(one);
        return () => void (waiting = waiting.filter((other) => other !== one));
      },
    },
    look: async () => {
      looks++;
      return known;
    },
    act: async (effect) => {
      done.push(effect);
      if (failure !== null) throw failure;
    },
    readLog: async () => ["cairn: the last line"],
  };
});

/** Lets so much time pass, and everything that was due happen. */
async function pass(ms: number): Promise<void> {
  const endMs = nowMs + ms;
  for (;;) {
    await settled();
    waiting.sort((one, other) => one.atMs - other.atMs);
    const next = waiting[0];
    if (next === undefined || next.atMs > endMs) break;
    nowMs = next.atMs;
    waiting.shift();
    next.act();
  }
  nowMs = endMs;
  await settled();
}
async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

async function started(options = { serial: false, mayLeave: false }) {
  const screen = new Screen(outside, options);
  let ended: string | null = null;
  const told = Promise.withResolvers<string>();
  const run = screen.run(told.promise).then((reason) => void (ended = reason));
  await pass(0);
  return { tell: told.resolve, run, ended: () => ended };
}

describe("on a console", () => {
  test("begins → the picture; then only the clock's row, once a second", async () => {
    await started();
    const first = terminal.fresh();
    expect(first).toContain("\x1b[2J");
    expect(first).toContain("In the cluster attic as unit 1.");
    await pass(1000);
    expect(terminal.fresh().match(/\x1b\[\d+;1H/g)).toEqual(["\x1b[1;1H"]);
  });

  test("is kept up even where nothing changed: the kernel may have written on it", async () => {
    await started();
    terminal.fresh();
    await pass(10_000);
    expect(terminal.fresh()).toContain("In the cluster attic as unit 1.");
  });

  test("looks every two seconds, and never twice at a time", async () => {
    const gate = Promise.withResolvers<void>();
    outside.look = async () => {
      looks++;
      await gate.promise;
      return known;
    };
    await started();
    await pass(20_000);
    expect(looks).toBe(1);
    gate.resolve();
    await pass(4000);
    expect(looks).toBe(3);
  });

  test("a key leads to another view at once; nobody there → back after a while", async () => {
    await started();
    terminal.fresh();
    terminal.type("f");
    expect(terminal.fresh()).toContain("Factory reset: box-a");
    await pass(89_000);
    terminal.fresh();
    await pass(2000);
    expect(terminal.fresh()).toContain("In the cluster attic as unit 1.");
  });

  test("typing goes on → it is not taken away", async () => {
    await started();
    terminal.type("r");
    await pass(80_000);
    terminal.type("rest");
    await pass(80_000);
    terminal.type("art\r");
    await pass(0);
    expect(done).toEqual([{ kind: "reboot" }]);
  });

  test("what was asked for cannot be done → said", async () => {
    await started();
    failure = new Fault("badMachine", "systemd is not there");
    terminal.type("rrestart\r");
    await pass(0);
    expect(terminal.fresh()).toContain("It was not done.");
  });

  test("the log is read when asked for", async () => {
    await started();
    terminal.fresh();
    terminal.type("l");
    await pass(0);
    expect(terminal.fresh()).toContain("cairn: the last line");
  });

  test("Esc alone counts after a moment; within a sequence it does not", async () => {
    await started();
    terminal.type("c");
    terminal.fresh();
    terminal.type("\x1b[A");
    await pass(200);
    expect(terminal.fresh()).not.toContain("In the cluster");
    terminal.type("\x1b");
    await pass(200);
    expect(terminal.fresh()).toContain("In the cluster");
  });

  test("another size → drawn anew, in that size", async () => {
    await started();
    terminal.fresh();
    terminal.given = { columns: 40, rows: 12 };
    terminal.onResize();
    const text = terminal.fresh();
    expect(text).toContain("\x1b[2J");
    expect(text).toContain("\x1b[12;1H");
    expect(text).not.toContain("\x1b[13;1H");
  });
});

describe("on a serial line", () => {
  beforeEach(() => {
    terminal.kind = "serial";
    terminal.given = null;
  });

  test("begins with the whole view; then nothing, as long as nothing changes", async () => {
    await started();
    const first = terminal.fresh();
    expect(first).toMatch(/^[ -~\r\n]*$/);
    expect(first).toContain("In the cluster attic as unit 1.");
    await pass(600_000);
    expect(terminal.fresh()).toBe("");
    expect(looks).toBeGreaterThan(200);
  });

  test("news → one line of it", async () => {
    await started();
    terminal.fresh();
    known = facts({ silentMs: 1000 });
    await pass(4000);
    expect(terminal.fresh()).toMatch(/^\[ +1 min 4\d s\] Cairn does not answer\.\r\n/);
  });

  test("a key → the whole view; the terminal is asked for its size", async () => {
    await started();
    terminal.fresh();
    terminal.type(" ");
    expect(terminal.fresh()).toContain("\x1b[6n");
    terminal.type("\x1b[50;60R");
    const text = terminal.fresh();
    expect(text).toContain("In the cluster attic as unit 1.");
    for (const row of text.split("\r\n")) expect(row.length).toBeLessThan(60);
    terminal.type("\x1b[50;60R");
    expect(terminal.fresh()).toBe("");
  });

  test("what is typed is echoed, and erased", async () => {
    await started();
    terminal.type("r");
    terminal.fresh();
    terminal.type("resu");
    expect(terminal.fresh()).toBe("resu");
    terminal.type("\x7f");
    expect(terminal.fresh()).toBe("\b \b");
    terminal.type("tart\r");
    await pass(0);
    expect(done).toEqual([{ kind: "reboot" }]);
  });

  test("news while somebody types → after they went back", async () => {
    await started();
    terminal.type("n");
    terminal.fresh();
    known = facts({ silentMs: 1000 });
    await pass(5000);
    expect(terminal.fresh()).toBe("");
    terminal.type("\x1b");
    await pass(200);
    expect(terminal.fresh()).toContain("Cairn does not answer");
  });
});

describe("its end", () => {
  test("told to → the terminal is given back, and no timer is left", async () => {
    const { tell, run, ended } = await started();
    expect(terminal.restored).toBe(0);
    tell("told to stop");
    await run;
    expect([ended(), terminal.restored, waiting.length]).toEqual(["told to stop", 1, 0]);
  });

  test("the terminal is gone → it ends", async () => {
    const { run, ended } = await started();
    terminal.onEnd();
    await run;
    expect([ended(), terminal.restored]).toEqual(["its terminal is gone", 1]);
  });

  test("left by its key → it ends, if it may", async () => {
    const stays = await started();
    terminal.type("q");
    await pass(5000);
    expect(stays.ended()).toBe(null);
    terminal = new FakeTerminal();
    outside.terminal = terminal;
    const { run, ended } = await started({ serial: false, mayLeave: true });
    terminal.type("q");
    await run;
    expect(ended()).toBe("left");
  });
});
