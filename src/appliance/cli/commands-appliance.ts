// SPDX-License-Identifier: Apache-2.0
//
// Commands of a booted appliance: its screen, the recovery page, restarting, resetting, slots. What
// changes the box is refused on a machine that is none.

import { RUN_DIRECTORY } from "#appliance/boot-medium.ts";
import { configurationFlags, defaultConfiguration } from "#appliance/configuration.ts";
import type { Slot } from "#machine/slots.ts";
import { nextSlot } from "#machine/slot-choice.ts";
import { fromHere, PLACE_FLAGS } from "./appliance-places.ts";
import { type Call, CONNECTION_FLAGS_OF_HERE, type Command, OUTPUT_FLAG } from "./command.ts";
import { Connection } from "./connection.ts";
import type { FlagDefinition } from "./flags.ts";
import { Misuse } from "./failure.ts";
import type { CliMachine } from "./machine.ts";
import { type Column, tableText } from "./table.ts";

/** A daemon that hangs must not keep the screen from saying so. */
const SCREEN_ASK_MS = 3000;
const PORT_MAX = 65_535;
const LOG_LINES_USUAL = 50;
const LOG_LINES_MAX = 10_000;

const YES_FLAG: FlagDefinition = { name: "yes", kind: "yesno", sentence: "do not ask" };

const RUN_DIRECTORY_FLAG = PLACE_FLAGS.filter(({ name }) => name === "run-directory");

const screen: Command = {
  words: ["screen"],
  operands: [],
  flags: [
    {
      name: "tty",
      kind: "paths",
      value: "PATH",
      sentence: "a terminal other than this one; may be repeated",
    },
    {
      name: "serial",
      kind: "yesno",
      sentence: "lines of news instead of a picture; serial lines get them anyway",
    },
    ...RUN_DIRECTORY_FLAG,
    ...CONNECTION_FLAGS_OF_HERE,
  ],
  sentence: "what the box itself shows: addresses, disks, health, what it waits for; with keys",
  run: async (call) => {
    const machine = withPatience(call.machine, SCREEN_ASK_MS);
    await machine.runScreen({
      ttys: call.flags.words("tty") ?? [],
      serial: call.flags.isSet("serial"),
      runDirectory: fromHere(call, call.flags.word("run-directory") ?? RUN_DIRECTORY),
      // A new one each time: the socket may not be there yet.
      ask: async (path) => {
        const connection = new Connection(machine, call.flags, { needsToken: false });
        return (await connection.ask("GET", path)).body;
      },
      readText: machine.readText,
    });
    return 0;
  },
};

const recovery: Command = {
  words: ["recovery"],
  operands: [],
  flags: [
    {
      name: "state-directory",
      kind: "path",
      value: "DIRECTORY",
      sentence: "the unit's state directory, with its socket in it",
    },
    ...RUN_DIRECTORY_FLAG,
    ...configurationFlags()
      .filter(({ flag }) => ["api-address", "api-port"].includes(flag))
      .map(({ flag: name, kind, sentence }): FlagDefinition => ({
        name,
        kind,
        value: kind === "whole" ? "NUMBER" : "WORD",
        sentence,
      })),
  ],
  sentence: "the page in place of a daemon that keeps failing: why, log, other slot, reset",
  run: async (call) => {
    const { flags, machine } = call;
    const port = flags.word("api-port");
    if (port !== null && (!/^\d{1,5}$/.test(port) || Number(port) > PORT_MAX)) {
      throw new Misuse(`--api-port is 0 to ${PORT_MAX}`);
    }
    await machine.runRecovery({
      stateDirectory: flags.word("state-directory") ?? defaultConfiguration().stateDirectory,
      runDirectory: fromHere(call, flags.word("run-directory") ?? RUN_DIRECTORY),
      address: flags.word("api-address"),
      port: port === null ? null : Number(port),
      readText: machine.readText,
    });
    return 0;
  },
};

/** The same machine, where no question may take longer. */
function withPatience(machine: CliMachine, limitMs: number): CliMachine {
  return {
    ...machine,
    fetch: (url, { timeoutMs, ...options }) =>
      machine.fetch(url, { ...options, timeoutMs: Math.min(timeoutMs, limitMs) }),
  };
}

/** A command that does one thing to the box, after a question where it loses something. */
function change(options: {
  verb: string;
  sentence: string;
  flags?: readonly FlagDefinition[];
  /** Null: nothing is lost, so nobody is asked. */
  loses: ((call: Call) => string) | null;
  act: (call: Call) => Promise<string>;
}): Command {
  const { verb, sentence, loses, act } = options;
  const asks = loses === null ? [] : [YES_FLAG];
  return {
    words: ["appliance", verb],
    operands: [],
    flags: [...(options.flags ?? []), ...asks, OUTPUT_FLAG],
    sentence,
    run: async (call) => {
      if (loses !== null && !call.flags.isSet("yes")) await askFirst(call, verb, loses(call));
      const said = await act(call);
      await call.print({ done: verb, sentence: said }, () => `${said}\n`);
      return 0;
    },
  };
}

async function askFirst(call: Call, verb: string, lost: string): Promise<void> {
  const answer = await call.machine.ask(`${lost} Type ${verb} to go on: `);
  if (answer === null) throw new Misuse(`${verb} needs --yes where nobody can be asked`);
  if (answer.trim() !== verb) throw new Misuse(`not done: that is not ${verb}`);
}

const EVERYTHING_FLAG: FlagDefinition = {
  name: "everything",
  kind: "yesno",
  sentence: "also empty Cairn's disks in this box, and what was stamped on its boot disk",
};

const changes: readonly Command[] = [
  change({
    verb: "reboot",
    sentence: "restart this box, the daemon stopped in order first",
    loses: null,
    act: async ({ machine }) => {
      await (await machine.box()).reboot();
      return "this box restarts";
    },
  }),
  change({
    verb: "poweroff",
    sentence: "switch this box off, the daemon stopped in order first",
    loses: null,
    act: async ({ machine }) => {
      await (await machine.box()).powerOff();
      return "this box switches itself off";
    },
  }),
  change({
    verb: "network-reset",
    sentence: "pass over the boot medium's fixed addresses until it is stamped anew: DHCP",
    loses: () => "This box may get other addresses.",
    act: async ({ machine }) => {
      await (await machine.box()).resetNetwork();
      return "the network settings were reset";
    },
  }),
  change({
    verb: "factory-reset",
    flags: [EVERYTHING_FLAG],
    sentence: "restart as a new unit; the disks keep their data, unless --everything is said",
    loses: ({ flags }) =>
      flags.isSet("everything")
        ? "All data on Cairn's disks in this box is lost, and its identity and settings."
        : "This box forgets its identity and settings; its disks keep their data.",
    act: async ({ machine, flags }) => {
      const level = flags.isSet("everything") ? "everything" : "settings";
      await (await machine.box()).resetToFactory(level);
      return `this box restarts and forgets ${level === "settings" ? "its settings" : level}`;
    },
  }),
];

const resetIfAsked: Command = {
  words: ["appliance", "reset-if-asked"],
  operands: [],
  flags: [OUTPUT_FLAG],
  sentence: "carry out a factory reset that was asked for; the image's boot calls it",
  run: async (call) => {
    const report = await (await call.machine.box()).resetIfAsked();
    await call.print({ reset: report }, () => {
      if (report === null) return "nobody asked for a factory reset\n";
      const failures = report.failures.map((failure) => `not done: ${failure}\n`);
      return `the factory reset is done (${report.level})\n${failures.join("")}`;
    });
    return 0;
  },
};

const logs: Command = {
  words: ["appliance", "logs"],
  operands: [],
  flags: [
    {
      name: "lines",
      kind: "whole",
      value: "COUNT",
      sentence: `the last so many lines, up to ${LOG_LINES_MAX}; ${LOG_LINES_USUAL} if not said`,
    },
  ],
  sentence: "the daemon's last log lines of this boot, as it wrote them",
  run: async (call) => {
    const word = call.flags.word("lines") ?? String(LOG_LINES_USUAL);
    const count = Number(word);
    if (!/^\d{1,5}$/.test(word) || count < 1 || count > LOG_LINES_MAX) {
      throw new Misuse(`--lines is 1 to ${LOG_LINES_MAX}`);
    }
    const box = await call.machine.box();
    box.requireAppliance();
    const lines = await box.lastLogLines(count);
    await call.machine.write(lines.map((line) => `${line}\n`).join(""));
    return 0;
  },
};

const slotColumns: Column<Slot & { next: boolean }>[] = [
  { head: "VERSION", cell: (slot) => slot.version },
  { head: "STATE", cell: stateInWords },
  { head: "RUNNING", cell: (slot) => (slot.running ? "yes" : "") },
  { head: "NEXT START", cell: (slot) => (slot.next ? "yes" : "") },
  { head: "FILE", cell: (slot) => slot.file, wide: true },
];

function stateInWords({ state, tries }: Slot): string {
  if (state !== "trial" || tries === null) return state;
  return `on trial, ${tries.left} ${tries.left === 1 ? "try" : "tries"} left`;
}

const slotList: Command = {
  words: ["appliance", "slot", "list"],
  operands: [],
  flags: [OUTPUT_FLAG, { name: "wide", kind: "yesno", sentence: "more columns" }],
  sentence: "the versions this box can start, and which one it starts next",
  run: async (call) => {
    const found = (await call.machine.box()).slots();
    const next = nextSlot(found);
    const slots = found.map((slot) => ({ ...slot, next: slot === next }));
    const wide = call.flags.isSet("wide");
    await call.print({ slots }, () => tableText(slots, slotColumns, { wide }));
    return 0;
  },
};

const slotUse: Command = {
  words: ["appliance", "slot", "use"],
  operands: [{ name: "VERSION", kind: "one" }],
  flags: [
    OUTPUT_FLAG,
    { name: "once", kind: "yesno", sentence: "only the next start, the one after it as before" },
  ],
  sentence: "start another version from the next start on",
  run: async (call) => {
    const [version = ""] = call.operands;
    const once = call.flags.isSet("once");
    const slot = await (await call.machine.box()).chooseSlot(version, { once });
    await call.print({ slot }, () => `the next start takes ${slot.version}\n`);
    return 0;
  },
};

export const applianceCommands: readonly Command[] = [
  screen,
  recovery,
  ...changes,
  resetIfAsked,
  logs,
  slotList,
  slotUse,
];
