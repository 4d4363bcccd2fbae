// SPDX-License-Identifier: Apache-2.0
//
// Composition of `cairn screen`: the terminal, the machine and the daemon's socket, and the screen
// that shows them.

import { Fault } from "#base/fault.ts";
import { ApplianceBox } from "#machine/appliance-box.ts";
import { collectNowAndThen } from "#machine/idle-memory.ts";
import { createMainWorld } from "#machine/main-world.ts";
import { listNetworkCards } from "#machine/network-cards.ts";
import { endWhenWrong, untilSignal } from "#machine/process-signals.ts";
import { Terminal } from "#machine/terminal.ts";
import { createTimers } from "#machine/timers.ts";
import type { ReadText } from "./configuration.ts";
import { FactsPoller } from "./screen/facts-poller.ts";
import { Screen, type ScreenOutside } from "./screen/screen.ts";

const HOST_NAME_FILE = "/proc/sys/kernel/hostname";
const HOST_NAME_BYTES_MAX = 256;

export interface ScreenStart {
  /** Null: the terminal it is called at. */
  tty: string | null;
  /** Lines of news instead of a picture, whatever the terminal is. */
  serial: boolean;
  /** Where other parts of the appliance leave files for it. */
  runDirectory: string;
  /** GET of the daemon's API on this machine. */
  ask(path: string): Promise<unknown>;
  readText: ReadText;
}

/** Until its terminal is gone or it is told to stop. */
export async function runScreen(start: ScreenStart): Promise<void> {
  const { clock, log } = createMainWorld({ logLeast: "error" });
  endWhenWrong(log);
  collectNowAndThen();
  const box = new ApplianceBox();
  const terminal = new Terminal(start.tty);
  const hostName = () => start.readText(HOST_NAME_FILE, HOST_NAME_BYTES_MAX)?.trim() || "cairn";
  const poller = new FactsPoller({
    clock,
    log,
    isAppliance: box.isAppliance,
    hostName,
    cards: listNetworkCards,
    slots: () => box.slots(),
    readRunFile: (name, bytesMax) => start.readText(`${start.runDirectory}/${name}`, bytesMax),
    ask: start.ask,
  });
  const outside: ScreenOutside = {
    terminal,
    clock,
    timers: createTimers(),
    look: () => poller.look(),
    act: (effect) => carryOut(box, effect),
    readLog: (linesMax) => box.lastLogLines(linesMax),
  };
  // A box's own screen stays; what somebody started at their own terminal can be left.
  const mayLeave = start.tty === null && terminal.kind === "window";
  const screen = new Screen(outside, { serial: start.serial, mayLeave });
  await screen.run(untilSignal({ terminal: true }));
}

type Effect = Parameters<ScreenOutside["act"]>[0];

async function carryOut(box: ApplianceBox, effect: Effect): Promise<void> {
  switch (effect.kind) {
    case "reboot":
      return box.reboot();
    case "powerOff":
      return box.powerOff();
    case "resetNetwork":
      return box.resetNetwork();
    case "resetToFactory":
      return box.resetToFactory(effect.level);
    default:
      throw new Fault("internal", "the screen asked for something unknown");
  }
}
