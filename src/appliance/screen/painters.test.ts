// SPDX-License-Identifier: Apache-2.0
//
// What reaches a terminal: the picture is read back from a terminal emulator after each change, and
// the serial line's text as a person would read the log.

import { describe, expect, test } from "bun:test";
import headless from "@xterm/headless";
import { ARRIVE, ConsolePainter } from "./console-painter.ts";
import { aDisk, facts, unitFacts } from "./facts-fixture.ts";
import { type Line, line, page, textOf } from "./frame.ts";
import { mainView } from "./main-view.ts";
import { SerialPrinter } from "./serial-printer.ts";

const SHAPE = { columns: 80, rows: 25, alphabet: "console" } as const;

class Emulator {
  readonly terminal = new headless.Terminal({ cols: 80, rows: 25, allowProposedApi: true });

  write(text: string): Promise<void> {
    return new Promise((resolve) => this.terminal.write(text, resolve));
  }
  rows(): string[] {
    const { active } = this.terminal.buffer;
    return Array.from({ length: 25 }, (_, at) => active.getLine(at)?.translateToString(true) ?? "");
  }
}

function picture(...args: Parameters<typeof mainView>): Line[] {
  return page(mainView(...args), SHAPE);
}
const shown = (lines: readonly Line[]) => lines.map((one) => textOf(one).trimEnd());
const options = { code: true, footer: "l log", fill: true };

describe("a console", () => {
  test("each picture after another → the terminal shows just that", async () => {
    const emulator = new Emulator();
    const painter = new ConsolePainter();
    await emulator.write(ARRIVE);
    for (const known of [
      facts(),
      facts({ sincePowerOnMs: 300_000 }),
      facts({ unit: unitFacts({ disks: [] }) }),
      facts({ silentMs: 9000 }),
      facts(),
    ]) {
      const lines = picture(known, SHAPE, options);
      await emulator.write(painter.paint(lines));
      expect(emulator.rows()).toEqual(shown(lines));
    }
  });

  test("looked for → it says so, before anything else of the unit", () => {
    const found = unitFacts();
    const status = { ...found.status, searched: true };
    const lines = shown(picture(facts({ unit: { ...found, status } }), SHAPE, options));
    const said = lines.findIndex((one) => one.includes("THIS IS THE BOX THAT IS LOOKED FOR."));
    expect(said).toBeGreaterThan(0);
    expect(said).toBeLessThan(lines.findIndex((one) => one.includes(found.status.sentence)));
  });

  test("only the clock went on → only its row is written; nothing changed → nothing is", () => {
    const painter = new ConsolePainter();
    painter.paint(picture(facts(), SHAPE, options));
    expect(painter.paint(picture(facts(), SHAPE, options))).toBe("");
    const text = painter.paint(picture(facts({ sincePowerOnMs: 300_000 }), SHAPE, options));
    expect(text.match(/\x1b\[\d+;1H/g)).toEqual(["\x1b[1;1H"]);
    expect(text).toContain("up 5 min 0 s");
  });

  test("the kernel wrote over it → the next whole picture makes it good", async () => {
    const emulator = new Emulator();
    const painter = new ConsolePainter();
    const lines = picture(facts(), SHAPE, options);
    await emulator.write(ARRIVE + painter.paint(lines));
    await emulator.write("\x1b[3;1H[  123.4] usb 1-1: something came or went\r\nand more");
    painter.forget();
    await emulator.write(painter.paint(lines));
    expect(emulator.rows()).toEqual(shown(lines));
  });

  test("colours end where their text ends", async () => {
    const emulator = new Emulator();
    const painter = new ConsolePainter();
    await emulator.write(ARRIVE + painter.paint([line("bad", "alarm"), line("plain")]));
    const cell = (row: number, column: number) =>
      emulator.terminal.buffer.active.getLine(row)?.getCell(column);
    expect([cell(0, 0)?.getFgColor(), cell(0, 0)?.isBold()]).toEqual([1, expect.any(Number)]);
    expect(cell(0, 0)?.isFgPalette()).toBe(true);
    expect([cell(0, 5)?.isFgDefault(), cell(1, 0)?.isFgDefault()]).toEqual([true, true]);
  });
});

describe("a serial line", () => {
  const serial = { columns: 80, rows: 24, alphabet: "ascii" } as const;
  const view = (known: Parameters<typeof mainView>[0]) =>
    mainView(known, serial, { code: true, footer: "l log", fill: false });

  test("whole → the lines as they are, no escape sequence among them", () => {
    const text = new SerialPrinter().whole(view(facts()));
    expect(text).toMatch(/^[ -~\r\n]*$/);
    expect(text).toContain("\r\n Console   http://192.168.1.21:7480/\r\n");
  });

  test("only time, free space or a percentage went on → not a byte", () => {
    const printer = new SerialPrinter();
    printer.whole(view(facts()));
    const later = facts({
      sincePowerOnMs: 9_999_000,
      unit: unitFacts({
        disks: unitFacts().disks.map((disk) => ({ ...disk, freeBytes: 2 ** 30 })),
      }),
    });
    expect(printer.news(view(later), 9_999_000)).toBe("");
  });

  test("a disk fails and comes back → one line each, with the time", () => {
    const printer = new SerialPrinter();
    printer.whole(view(facts()));
    const failed = facts({
      unit: unitFacts({
        disks: [aDisk("/dev/sda", { state: "failed", reason: "taken out of use: EIO" })],
      }),
    });
    expect(printer.news(view(failed), 252_000)).toBe(
      "[  4 min 12 s] Disk sda (4 TiB) failed: EIO\r\n",
    );
    expect(printer.news(view(failed), 260_000)).toBe("");
    const news = printer.news(view(facts()), 300_000);
    expect(news).toContain("[   5 min 0 s] Over: Disk sda (4 TiB) failed: EIO\r\n");
    expect(news).toContain("Disk sda (4 TiB) in use\r\n");
  });

  test("it falls silent, for longer and longer → told once, and told when it is over", () => {
    const printer = new SerialPrinter();
    printer.whole(view(facts()));
    const first = printer.news(view(facts({ silentMs: 2000 })), 60_000);
    expect(first).toContain("] Cairn does not answer.\r\n");
    expect(printer.news(view(facts({ silentMs: 50_000 })), 61_000)).toBe("");
    expect(printer.news(view(facts()), 62_000)).toContain("Over: Cairn does not answer.");
  });
});
