// SPDX-License-Identifier: Apache-2.0
//
// What the keys do: a state machine, keys in and effects out; it does nothing by itself.
//
// Whoever is at a box's console owns the box: they can pull its disks or its plug. So nobody is
// asked who they are; what matters is that nothing happens by accident. Every change needs a word
// typed in full and Enter, and a factory reset the box's own name. There is no shell.

import type { ResetLevel } from "#machine/reset-marks.ts";
import { type Line, type Shape, BLANK, inAlphabet, line, wrap } from "./frame.ts";
import type { Key } from "./keys.ts";

export type Effect =
  | { kind: "reboot" }
  | { kind: "powerOff" }
  | { kind: "resetNetwork" }
  | { kind: "resetToFactory"; level: ResetLevel }
  | { kind: "readLog" }
  | { kind: "leave" };

export type View =
  | { kind: "main" }
  | { kind: "code" }
  /** `lines` null: being read. */
  | { kind: "log"; lines: readonly string[] | null }
  | { kind: "confirm"; action: ActionName; typed: string; said: string }
  /** What became of it; any key goes back. */
  | { kind: "done"; said: string };

export interface Surroundings {
  /** What a person types to reset this box. */
  unitName: string;
  isAppliance: boolean;
  /** At a person's own terminal the screen can be left; a box's own one stays. */
  mayLeave: boolean;
}

export interface Answer {
  view: View;
  effect: Effect | null;
}

interface Choice {
  /** To be typed in full. */
  word(unitName: string): string;
  meaning: string;
  effect: Effect;
  /** Shown once it was asked for. */
  said: string;
}

interface Action {
  key: string;
  /** For the last line of the main view. */
  hint: string;
  title: string;
  sentences: readonly string[];
  choices: readonly Choice[];
}

const ACTIONS = {
  restart: {
    key: "r",
    hint: "r restart",
    title: "Restart or switch off",
    sentences: [
      "Cairn stops in order first. Volumes with a copy on another unit stay online; those " +
        "whose only copies are here are away until this box is back.",
    ],
    choices: [
      {
        word: () => "restart",
        meaning: "starts this box again",
        effect: { kind: "reboot" },
        said: "This box restarts now.",
      },
      {
        word: () => "off",
        meaning: "switches it off",
        effect: { kind: "powerOff" },
        said: "This box switches itself off now.",
      },
    ],
  },
  network: {
    key: "n",
    hint: "n network reset",
    title: "Network reset",
    sentences: [
      "Fixed addresses from the boot medium are put aside until it is stamped anew. All network " +
        "interfaces take DHCP, and link-local addresses where there is none.",
      "Links to hosts and other units break off for some seconds.",
    ],
    choices: [
      {
        word: () => "network",
        meaning: "resets the network settings",
        effect: { kind: "resetNetwork" },
        said: "The network settings were reset.",
      },
    ],
  },
  factory: {
    key: "f",
    hint: "f factory reset",
    title: "Factory reset",
    sentences: [
      "This box forgets who it is and restarts as a new unit. Its identity, settings and history " +
        "are gone; what the boot medium says stays.",
      "Its disks keep their data: the same cluster goes on with them, another one leaves them " +
        "alone. Erasing them loses everything on Cairn's disks in this box, and what was stamped " +
        "on its boot disk.",
    ],
    choices: [
      {
        word: (unitName) => unitName,
        meaning: "forgets the settings; the disks keep their data",
        effect: { kind: "resetToFactory", level: "settings" },
        said: "This box restarts and forgets its settings.",
      },
      {
        word: (unitName) => `erase ${unitName}`,
        meaning: "erases the disks as well",
        effect: { kind: "resetToFactory", level: "everything" },
        said: "This box restarts and erases everything.",
      },
    ],
  },
} as const satisfies Record<string, Action>;

export type ActionName = keyof typeof ACTIONS;
const ACTION_NAMES = Object.keys(ACTIONS) as ActionName[];
const TYPED_CHARACTERS_MAX = 80;
const NOT_AN_APPLIANCE = "Only a booted appliance can do that, and this machine is none.";

export const MAIN: View = { kind: "main" };

/** The keys of the main view, in as many words as there is room for. */
export function footerOf({ isAppliance, mayLeave }: Surroundings, columns: number): string {
  const changes = isAppliance ? ACTION_NAMES.map((name): string => ACTIONS[name].hint) : [];
  const hints = [...changes, "l log", "c QR code", ...(mayLeave ? ["q quit"] : [])];
  const long = hints.join("   ");
  if (long.length <= columns) return long;
  return hints.map((hint) => hint.replace(/ (reset|code)$/, "")).join("  ");
}

/** One key, in the view it was pressed in. */
export function pressed(view: View, key: Key, surroundings: Surroundings): Answer {
  if (key === "interrupt" && surroundings.mayLeave) {
    return { view: MAIN, effect: { kind: "leave" } };
  }
  if (view.kind === "confirm") return typedInto(view, key, surroundings);
  if (view.kind === "done") return { view: MAIN, effect: null };
  const sign = typeof key === "object" ? key.sign.toLowerCase() : key;
  if (view.kind === "main" && sign === "q" && surroundings.mayLeave) {
    return { view: MAIN, effect: { kind: "leave" } };
  }
  switch (sign) {
    case "l":
      return { view: { kind: "log", lines: null }, effect: { kind: "readLog" } };
    case "c":
      return { view: { kind: "code" }, effect: null };
    case "q":
    case "escape":
    case "interrupt":
      return { view: MAIN, effect: null };
  }
  const action = ACTION_NAMES.find((name) => ACTIONS[name].key === sign);
  if (action === undefined) return { view, effect: null };
  if (!surroundings.isAppliance)
    return { view: { kind: "done", said: NOT_AN_APPLIANCE }, effect: null };
  return { view: { kind: "confirm", action, typed: "", said: "" }, effect: null };
}

function typedInto(
  view: Extract<View, { kind: "confirm" }>,
  key: Key,
  surroundings: Surroundings,
): Answer {
  const stay = (typed: string, said = ""): Answer => ({
    view: { ...view, typed, said },
    effect: null,
  });
  if (key === "escape" || key === "interrupt") return { view: MAIN, effect: null };
  if (key === "erase") return stay(view.typed.slice(0, -1));
  if (key === "redraw") return stay(view.typed);
  if (key !== "enter") {
    return view.typed.length < TYPED_CHARACTERS_MAX
      ? stay(view.typed + key.sign)
      : stay(view.typed);
  }
  if (view.typed.trim() === "") return stay("");
  const { unitName } = surroundings;
  const choices: readonly Choice[] = ACTIONS[view.action].choices;
  const choice = choices.find((one) => one.word(unitName) === view.typed.trim());
  if (choice === undefined) return stay("", "That is none of these words: nothing was done.");
  return { view: { kind: "done", said: choice.said }, effect: choice.effect };
}

/** The lines of a view that asks for a word. */
export function confirmView(
  view: Extract<View, { kind: "confirm" }>,
  surroundings: Surroundings,
  shape: Shape & { fill: boolean },
): Line[] {
  const { title, sentences, choices } = ACTIONS[view.action] as Action;
  const { unitName } = surroundings;
  const width = shape.columns - 3;
  const words = choices.map((choice) => inAlphabet(choice.word(unitName), shape.alphabet));
  const widest = Math.max(...words.map((word) => word.length));
  const lines: Line[] = [line(` ${title}: ${unitName}`, "strong"), BLANK];
  for (const sentence of sentences) {
    lines.push(...wrap(sentence, width, 6).map((text) => line(` ${text}`)), BLANK);
  }
  lines.push(line(" Type one of these words and press Enter:", "quiet"));
  for (const [at, choice] of choices.entries()) {
    lines.push({
      spans: [
        { text: `   ${(words[at] as string).padEnd(widest)}   `, tone: "strong" },
        { text: choice.meaning, tone: "plain" },
      ],
      news: "",
    });
  }
  lines.push(line(" Esc goes back; nothing is done.", "quiet"), BLANK);
  if (view.said !== "") lines.push(line(` ${view.said}`, "warning"), BLANK);
  // A serial line's own cursor stands behind what was typed there.
  if (shape.fill) lines.push(line(` > ${view.typed}_`, "strong"));
  return lines;
}
