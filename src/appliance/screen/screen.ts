// SPDX-License-Identifier: Apache-2.0
//
// The screen itself: looks at the box again and again, shows it on one terminal, and passes keys to
// the dialogue. On a console the picture is kept up every second; on a serial line only news are
// written, and the whole view when somebody presses a key.
//
// Invariants
// - At most one look and one effect are under way; a daemon that hangs keeps no key from working.
// - Whatever becomes of it, the terminal is given back as it was found.

import { Fault } from "#base/fault.ts";
import type { Clock, Timers } from "#base/world.ts";
import type { Terminal, TerminalSize } from "#machine/terminal.ts";
import { ARRIVE, ConsolePainter, FAREWELL } from "./console-painter.ts";
import { type Effect, MAIN, type Surroundings, type View, pressed } from "./dialogue.ts";
import { type ScreenFacts, nameOf } from "./facts.ts";
import { type Shape, page, uptimeInWords } from "./frame.ts";
import { type Key, KeyDecoder } from "./keys.ts";
import { SerialPrinter } from "./serial-printer.ts";
import { viewLines } from "./views.ts";

const LOOK_EVERY_MS = 2000;
const TICK_MS = 1000;
/** The kernel writes on the console too: the picture is written anew so often. */
const REPAINT_EVERY_TICKS = 10;
/** Nobody is there any more: back to the main view. */
const IDLE_MS = 90_000;
/** After an escape sign, for the rest of what a key sends. */
const ESCAPE_MS = 100;
const LOG_LINES = 60;
/** A serial line where nobody said how large its terminal is. */
const USUAL_SIZE: TerminalSize = { columns: 80, rows: 24 };
const SMALLEST: TerminalSize = { columns: 20, rows: 6 };
/** Cursor to the far corner, where is it, back (ECMA-48 CUP and DSR, DEC save and restore). */
const ASK_SIZE = "\x1b7\x1b[999;999H\x1b[6n\x1b8";

export interface ScreenOutside {
  terminal: Pick<Terminal, "kind" | "size" | "takeOver" | "write" | "restore"> & {
    onInput: (bytes: Uint8Array) => void;
    onEnd: () => void;
    onLost: () => void;
    onResize: () => void;
  };
  clock: Clock;
  timers: Timers;
  look(): Promise<ScreenFacts>;
  /** Rejects with a Fault when it could not be done. */
  act(effect: Exclude<Effect, { kind: "readLog" | "leave" }>): Promise<void>;
  readLog(linesMax: number): Promise<string[]>;
}

export interface ScreenOptions {
  /** As on a serial line, whatever the terminal is. */
  serial: boolean;
  mayLeave: boolean;
}

export class Screen {
  readonly #outside: ScreenOutside;
  readonly #serial: boolean;
  readonly #mayLeave: boolean;
  readonly #painter = new ConsolePainter();
  readonly #printer = new SerialPrinter();
  readonly #decoder = new KeyDecoder();
  #facts: ScreenFacts | null = null;
  #view: View = MAIN;
  #reportedSize: TerminalSize | null = null;
  #ticks = 0;
  #clock = "";
  #lookMs = 0;
  #looking = false;
  #keyMs = 0;
  #cancelTick = () => {};
  #end: (reason: string) => void = () => {};

  constructor(outside: ScreenOutside, options: ScreenOptions) {
    this.#outside = outside;
    this.#serial = options.serial || outside.terminal.kind === "serial";
    this.#mayLeave = options.mayLeave;
  }

  /** Until it is left, its terminal is gone, or `told` resolves; answers which. */
  async run(told: Promise<string>): Promise<string> {
    const { terminal } = this.#outside;
    const ended = new Promise<string>((resolve) => {
      this.#end = resolve;
    });
    terminal.takeOver(this.#serial ? "" : FAREWELL);
    try {
      terminal.onInput = (bytes) => this.#input(bytes);
      terminal.onEnd = () => this.#end("its terminal is gone");
      terminal.onLost = () => this.#painter.forget();
      terminal.onResize = () => this.#repaint();
      if (!this.#serial) terminal.write(ARRIVE);
      this.#tick();
      return await Promise.race([ended, told]);
    } finally {
      this.#cancelTick();
      terminal.restore();
    }
  }

  #tick(): void {
    const { clock: now, timers } = this.#outside;
    this.#cancelTick = timers.after(TICK_MS, () => this.#tick());
    this.#ticks++;
    const clockMs = now.nowMs();
    if (clockMs - this.#lookMs >= LOOK_EVERY_MS) void this.#look();
    if (this.#view.kind !== "main" && clockMs - this.#keyMs >= IDLE_MS) this.#change(MAIN);
    if (this.#serial) return;
    const clock = uptimeInWords(clockMs);
    const repaints = this.#ticks % REPAINT_EVERY_TICKS === 0;
    if (repaints) this.#painter.forget();
    // Looks and keys draw by themselves; between them only the clock goes on.
    if (repaints || clock !== this.#clock) this.#show();
    this.#clock = clock;
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    this.#lookMs = this.#outside.clock.nowMs();
    try {
      const first = this.#facts === null;
      this.#facts = await this.#outside.look();
      if (!this.#serial) this.#show();
      else if (first) this.#printWhole();
      else if (this.#view.kind === "main") this.#printNews();
    } finally {
      this.#looking = false;
    }
  }

  #input(bytes: Uint8Array): void {
    const { keys, size } = this.#decoder.decode(bytes);
    if (size !== null) this.#sizeReported(size);
    for (const key of keys) this.#key(key);
    if (!this.#decoder.waits) return;
    this.#outside.timers.after(ESCAPE_MS, () => {
      for (const key of this.#decoder.flush()) this.#key(key);
    });
  }

  #key(key: Key): void {
    this.#keyMs = this.#outside.clock.nowMs();
    if (this.#facts === null) return;
    const { view, effect } = pressed(this.#view, key, this.#surroundings(this.#facts));
    if (effect?.kind === "leave") return this.#end("left");
    if (this.#serial) this.#serialKey(view, key);
    else if (key === "redraw") this.#painter.forget();
    this.#change(view);
    if (effect !== null) void this.#carryOut(effect);
  }

  /** Typed letters are echoed; any other key writes the view it led to. */
  #serialKey(view: View, key: Key): void {
    const { terminal } = this.#outside;
    const before = this.#view;
    const typing = view.kind === "confirm" && before.kind === "confirm";
    if (typing && typeof key === "object") {
      terminal.write(view.typed.slice(before.typed.length));
    } else if (typing && key === "erase") {
      terminal.write(before.typed === view.typed ? "" : "\b \b");
    } else {
      // Somebody is there: ask how large the terminal is, for this and what follows.
      terminal.write(ASK_SIZE);
      this.#view = view;
      this.#printWhole();
    }
  }

  #sizeReported(size: TerminalSize): void {
    const before = this.#shape();
    this.#reportedSize = size;
    const { columns, rows } = this.#shape();
    if (this.#serial && (columns !== before.columns || rows !== before.rows)) this.#printWhole();
  }

  #change(view: View): void {
    const before = this.#view;
    this.#view = view;
    if (!this.#serial) return this.#show();
    if (before.kind !== "main" && view.kind === "main") this.#printNews();
  }

  async #carryOut(effect: Effect): Promise<void> {
    if (effect.kind === "leave") return;
    try {
      if (effect.kind === "readLog") {
        const lines = await this.#outside.readLog(LOG_LINES);
        if (this.#view.kind === "log") this.#answered({ kind: "log", lines });
        return;
      }
      await this.#outside.act(effect);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#answered({ kind: "done", said: `It was not done. ${error.message}.` });
    }
  }

  #answered(view: View): void {
    this.#change(view);
    if (this.#serial) this.#printWhole();
  }

  #repaint(): void {
    this.#painter.forget();
    if (!this.#serial) this.#outside.terminal.write("\x1b[2J");
    this.#show();
  }

  #show(): void {
    if (this.#facts === null || this.#serial) return;
    const shape = this.#shape();
    const lines = page(this.#lines(this.#facts, shape), shape);
    const text = this.#painter.paint(lines);
    if (text !== "") this.#outside.terminal.write(text);
  }

  #printWhole(): void {
    if (this.#facts === null) return;
    const text = this.#printer.whole(this.#lines(this.#facts, this.#shape()));
    // Behind the sign that asks for a word, so that what is typed stands there.
    const prompt = this.#view.kind === "confirm" ? ` > ${this.#view.typed}` : "";
    this.#outside.terminal.write(text + prompt);
  }

  #printNews(): void {
    if (this.#facts === null) return;
    const lines = this.#lines(this.#facts, this.#shape());
    const text = this.#printer.news(lines, this.#outside.clock.nowMs());
    if (text !== "") this.#outside.terminal.write(text);
  }

  #lines(facts: ScreenFacts, shape: Shape) {
    const sincePowerOnMs = this.#outside.clock.nowMs();
    const fill = !this.#serial;
    return viewLines(this.#view, { ...facts, sincePowerOnMs }, this.#surroundings(facts), {
      ...shape,
      fill,
    });
  }

  #surroundings(facts: ScreenFacts): Surroundings {
    const { isAppliance } = facts;
    return { unitName: nameOf(facts), isAppliance, mayLeave: this.#mayLeave };
  }

  #shape(): Shape {
    const { columns, rows } = this.#outside.terminal.size() ?? this.#reportedSize ?? USUAL_SIZE;
    return {
      columns: Math.max(columns, SMALLEST.columns),
      rows: Math.max(rows, SMALLEST.rows),
      alphabet: this.#serial ? "ascii" : "console",
    };
  }
}
