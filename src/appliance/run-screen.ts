// SPDX-License-Identifier: Apache-2.0
//
// Composition of `cairn screen`: the terminals, the machine and the daemon's socket, and the
// screens that show them. A box shows itself on all its terminals by one process: a second one
// would cost 20 MB of memory.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
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
/** A terminal that cannot be opened, or went, may come. */
const AGAIN_MS = 5000;
/** Screens that look together ask once. */
const LOOK_TOGETHER_MS = 500;

export interface ScreenStart {
  /** None: the terminal it is called at. Several are kept up, whatever becomes of one of them. */
  ttys: readonly string[];
  /** Lines of news instead of a picture, whatever the terminal is. */
  serial: boolean;
  /** Where other parts of the appliance leave files for it. */
  runDirectory: string;
  /** GET of the daemon's API on this machine. */
  ask(path: string): Promise<unknown>;
  readText: ReadText;
}

/** Until it is told to stop; with one terminal at most, also until that one is gone. */
export async function runScreen(start: ScreenStart): Promise<void> {
  const { clock, log } = createMainWorld({ logLeast: "error" });
  endWhenWrong(log);
  collectNowAndThen();
  const timers = createTimers();
  const show = shower(start, { clock, log, timers });
  if (start.ttys.length < 2) {
    const [tty = null] = start.ttys;
    const terminal = new Terminal(tty);
    await show(terminal, untilSignal({ terminal: true }));
    return;
  }
  let isTold = false;
  const told = untilSignal({ terminal: false }).then((reason) => {
    isTold = true;
    return reason;
  });
  const keepUp = async (tty: string): Promise<void> => {
    let complaint = "";
    while (!isTold) {
      try {
        await show(new Terminal(tty), told);
        complaint = "";
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        // Said once: many machines have no serial port behind its name.
        if (error.message !== complaint) log.write("error", error.message);
        complaint = error.message;
      }
      const again = new Promise<void>((resolve) => void timers.after(AGAIN_MS, resolve));
      if (!isTold) await Promise.race([told, again]);
    }
  };
  await Promise.all(start.ttys.map(keepUp));
}

/** Shows the box on a terminal until that is gone or it is told to stop. */
function shower(
  start: ScreenStart,
  { clock, log, timers }: Pick<World, "clock" | "log"> & { timers: Timers },
): (terminal: Terminal, told: Promise<string>) => Promise<string> {
  const box = new ApplianceBox();
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
  let lookedMs = Number.NEGATIVE_INFINITY;
  let facts: ReturnType<FactsPoller["look"]> | null = null;
  const look = () => {
    const nowMs = clock.nowMs();
    if (facts === null || nowMs - lookedMs >= LOOK_TOGETHER_MS) {
      lookedMs = nowMs;
      facts = poller.look();
    }
    return facts;
  };
  return (terminal, told) => {
    const outside: ScreenOutside = {
      terminal,
      clock,
      timers,
      look,
      act: (effect) => carryOut(box, effect),
      readLog: (linesMax) => box.lastLogLines(linesMax),
    };
    // A box's own screen stays; what somebody started at their own terminal can be left.
    const mayLeave = start.ttys.length === 0 && terminal.kind === "window";
    return new Screen(outside, { serial: start.serial, mayLeave }).run(told);
  };
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
