// SPDX-License-Identifier: Apache-2.0
//
// Commands about a unit's box: its network, tried before it is kept, and its clock.

import { BoxSchema } from "#appliance/api/box-api.ts";
import { parseTime, timeInWords } from "#appliance/api/words.ts";
import { type BoxView, isFixed, wallSchema, withCard } from "#appliance/box-view.ts";
import { type NetworkEntry, networkSchema } from "#appliance/network-settings.ts";
import {
  ASKING_FLAGS,
  CHANGING_FLAGS,
  type Call,
  type Command,
  type Operand,
  WATCH_FLAG,
} from "./command.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, tableText } from "./table.ts";

const UNIT: Operand = { name: "UNIT", kind: "one" };

const columns: Column<BoxView["cards"][number] & { fixed: boolean }>[] = [
  { head: "CARD", cell: (card) => card.name },
  { head: "MAC", cell: (card) => card.mac },
  { head: "CABLE", cell: ({ cable }) => (cable === null ? "?" : cable ? "yes" : "no") },
  { head: "BY", cell: ({ fixed }) => (fixed ? "fixed" : "DHCP") },
  { head: "ADDRESSES", cell: (card) => card.addresses.join(" ") },
];

const show: Command = {
  words: ["box", "show"],
  operands: [UNIT],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "a unit's network cards and addresses, which are fixed, and its clock",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(BoxSchema, "GET", `${unitPath(call)}/box`);
      await call.print(body, () => boxText(value));
    }),
};

function boxText(box: BoxView): string {
  const { cards, wallMs, isClockKept, isAppliance, trial } = box;
  const rows = cards.map((card) => ({ ...card, fixed: isFixed(box.network, card) }));
  const table = tableText(rows, columns, { wide: false });
  const kept = isClockKept ? "kept right by a time server" : "kept right by nobody";
  const whose = isAppliance ? "" : "a program on somebody's machine: both are that machine's\n";
  return `${table}clock: ${timeInWords(wallMs)} UTC, ${kept}\n${whose}${trialText(trial)}`;
}

function trialText(trial: BoxView["trial"]): string {
  if (trial === null) return "";
  if (trial.problem !== "") return `what is tried could not be applied: ${trial.problem}\n`;
  const seconds = Math.ceil(trial.leftMs / 1000);
  return `another network is tried: taken back in ${seconds} s, unless \`cairn box keep\` comes\n`;
}

const NETWORK_FLAGS: readonly FlagDefinition[] = [
  { name: "card", kind: "text", value: "NAME|MAC", sentence: "which of its network cards" },
  {
    name: "address",
    kind: "texts",
    value: "ADDRESS/BITS",
    sentence: "a fixed address with its prefix length; may be repeated",
  },
  {
    name: "gateway",
    kind: "texts",
    value: "ADDRESS",
    sentence: "a default route; one each for IPv4 and IPv6",
  },
  { name: "dns", kind: "texts", value: "ADDRESS", sentence: "a name server; may be repeated" },
  { name: "dhcp", kind: "yesno", sentence: "no fixed address: DHCP, else link-local" },
];

const network: Command = {
  words: ["box", "network"],
  operands: [UNIT],
  flags: [...CHANGING_FLAGS, ...NETWORK_FLAGS],
  sentence: "try fixed addresses, or DHCP, for a card: taken back after two minutes unless kept",
  run: async (call) => {
    const entry = entryOf(call);
    const { value } = await call.ask(BoxSchema, "GET", `${unitPath(call)}/box`);
    const wanted = withCard(value, cardOf(value, entry.card), entry.fixed);
    const parsed = networkSchema.safeParse(wanted);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new Misuse(`${issue?.path.slice(1).join(" ") ?? ""}: ${issue?.message ?? ""}`);
    }
    const path = `${unitPath(call)}/network`;
    const request = { network: parsed.data };
    if (await call.tried("PUT", path, request)) return 0;
    const answer = await call.ask(BoxSchema, "PUT", path, request);
    const [unit = ""] = call.operands;
    await call.print(answer.body, () => boxText(answer.value));
    await call.note(`it is taken back after two minutes, unless: cairn box keep ${unit}`);
    return 0;
  },
};

interface WantedEntry {
  card: string;
  /** Null: DHCP. */
  fixed: Pick<NetworkEntry, "addresses" | "gateways" | "dns"> | null;
}

function entryOf({ flags }: Call): WantedEntry {
  const card = flags.word("card");
  const addresses = flags.words("address");
  if (card === null) throw new Misuse("--card says which of its cards; cairn box show has them");
  if ((addresses === null) !== flags.isSet("dhcp")) throw new Misuse("say --address or --dhcp");
  const [gateways, dns] = [flags.words("gateway"), flags.words("dns")];
  if (addresses === null) {
    if (gateways !== null || dns !== null) throw new Misuse("DHCP names gateway and name servers");
    return { card, fixed: null };
  }
  const rest = {
    ...(gateways === null ? {} : { gateways: [...gateways] }),
    ...(dns === null ? {} : { dns: [...dns] }),
  };
  return { card, fixed: { addresses: [...addresses], ...rest } };
}

function cardOf({ cards }: BoxView, word: string): BoxView["cards"][number] {
  const card = cards.find(
    ({ name, mac }) => name === word || mac.toLowerCase() === word.toLowerCase(),
  );
  if (card !== undefined) return card;
  const there = cards.map(({ name }) => name).join(", ");
  throw new Misuse(`it has no card ${word}; there are: ${there}`);
}

/** What ends a trial. */
function ending(word: "keep" | "undo", sentence: string, said: string): Command {
  return {
    words: ["box", word],
    operands: [UNIT],
    flags: CHANGING_FLAGS,
    sentence,
    run: async (call) => {
      const path = `${unitPath(call)}/network/${word}`;
      if (await call.tried("POST", path)) return 0;
      const { body } = await call.ask(BoxSchema, "POST", path);
      await call.print(body, () => `${said}\n`);
      return 0;
    },
  };
}

const clock: Command = {
  words: ["box", "clock"],
  operands: [UNIT, { name: "TIME", kind: "one" }],
  flags: CHANGING_FLAGS,
  sentence: "set a box's clock by hand, where no time server keeps it: 2026-11-28T20:15:00Z",
  run: async (call) => {
    const [, word = ""] = call.operands;
    const wall = wallSchema.safeParse(parseTime(word));
    if (!wall.success) throw new Misuse("a time is of UTC, such as 2026-11-28T20:15:00Z");
    const path = `${unitPath(call)}/clock`;
    const request = { wallMs: wall.data };
    if (await call.tried("PUT", path, request)) return 0;
    const { value, body } = await call.ask(BoxSchema, "PUT", path, request);
    await call.print(body, () => `its clock says ${timeInWords(value.wallMs)} UTC\n`);
    return 0;
  },
};

function unitPath({ operands: [unit = ""] }: Call): string {
  return `/api/v1/units/${encodeURIComponent(unit)}`;
}

export const boxCommands: readonly Command[] = [
  show,
  network,
  ending("keep", "keep the network that is tried, after restarts too", "it is kept"),
  ending("undo", "take back the network that is tried", "it is as before"),
  clock,
];
