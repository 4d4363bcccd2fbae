// SPDX-License-Identifier: Apache-2.0
//
// What keys do, and above all what they do not: no change without a word typed in full and Enter.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Answer, MAIN, type Surroundings, type View, footerOf, pressed } from "./dialogue.ts";
import type { Key } from "./keys.ts";

const BOX: Surroundings = { unitName: "box-a", isAppliance: true, mayLeave: false };

/** Types a line into the main view and answers where it led, with every effect on the way. */
function typed(keys: readonly (string | Key)[], surroundings = BOX) {
  let view: View = MAIN;
  const effects: Answer["effect"][] = [];
  const all = keys.flatMap((key): Key[] =>
    typeof key === "string" && !NAMED.includes(key)
      ? [...key].map((sign) => ({ sign }))
      : [key as Key],
  );
  for (const key of all) {
    const answer = pressed(view, key, surroundings);
    view = answer.view;
    if (answer.effect !== null) effects.push(answer.effect);
  }
  return { view, effects };
}
const NAMED = ["enter", "escape", "erase", "interrupt", "redraw"];

describe("changes", () => {
  for (const [keys, effect] of [
    [["r", "restart", "enter"], { kind: "reboot" }],
    [["r", "off", "enter"], { kind: "powerOff" }],
    [["R", "restart ", "enter"], { kind: "reboot" }],
    [["n", "network", "enter"], { kind: "resetNetwork" }],
    [["f", "box-a", "enter"], { kind: "resetToFactory", level: "settings" }],
    [["f", "erase box-a", "enter"], { kind: "resetToFactory", level: "everything" }],
    [["r", "restarx", "erase", "t", "enter"], { kind: "reboot" }],
  ] as const) {
    test(`${keys.join(" ")} → ${JSON.stringify(effect)}`, () => {
      const { view, effects } = typed(keys);
      expect(effects).toEqual([effect]);
      expect(view.kind).toBe("done");
    });
  }

  for (const keys of [
    ["r"],
    ["r", "enter"],
    ["r", "y", "enter"],
    ["r", "restart"],
    ["r", "network", "enter"],
    ["n", "restart", "enter"],
    ["f", "erase", "enter"],
    ["f", "box-b", "enter"],
    ["f", "erase box-b", "enter"],
    ["f", "everything", "enter"],
    ["r", "escape", "restart", "enter"],
    ["restart", "enter"],
    ["f", "interrupt", "box-a", "enter"],
  ]) {
    test(`${keys.join(" ")} → nothing is done`, () => {
      const { effects } = typed(keys);
      expect(effects.filter((one) => one?.kind !== "readLog")).toEqual([]);
    });
  }

  test("a wrong word → said, what was typed is gone, and it can be typed again", () => {
    expect(typed(["r", "reboot", "enter"]).view).toMatchObject({ typed: "", kind: "confirm" });
    expect(typed(["r", "reboot", "enter", "restart", "enter"]).effects).toEqual([
      { kind: "reboot" },
    ]);
  });

  test("any keys without Enter → nothing is ever done", () => {
    const keys = fc.array(
      fc.oneof(
        fc.stringMatching(/^[ -~]$/).map((sign): Key => ({ sign })),
        fc.constantFrom<Key>("escape", "erase", "interrupt", "redraw"),
      ),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(keys, (all) => {
        const { effects } = typed(all);
        expect(effects.every((one) => one?.kind === "readLog")).toBe(true);
      }),
    );
  });

  test("no appliance → no change is even offered", () => {
    const elsewhere = { ...BOX, isAppliance: false };
    for (const key of ["r", "n", "f"]) {
      const { view, effects } = typed([key, "restart", "enter", "box-a", "enter"], elsewhere);
      expect(effects.filter((one) => one?.kind !== "readLog")).toEqual([]);
      expect(view.kind).not.toBe("confirm");
    }
    expect(footerOf(elsewhere, 80)).not.toContain("restart");
    expect(footerOf(BOX, 80)).toContain("f factory reset");
  });
});

describe("going about", () => {
  test("l reads the log, c shows the code, q and Esc go back", () => {
    expect(typed(["l"])).toEqual({
      view: { kind: "log", lines: null },
      effects: [{ kind: "readLog" }],
    });
    for (const back of ["q", "escape", "interrupt"]) {
      expect(typed(["c", back])).toEqual({ view: MAIN, effects: [] });
      expect(typed(["l", back]).view).toEqual(MAIN);
    }
    expect(typed(["x", "enter", "erase"])).toEqual({ view: MAIN, effects: [] });
  });

  test("a box's own screen is never left; a person's is, by q or Ctrl-C", () => {
    expect(typed(["q", "escape", "interrupt"]).effects).toEqual([]);
    const own = { ...BOX, mayLeave: true };
    expect(typed(["q"], own).effects).toEqual([{ kind: "leave" }]);
    expect(typed(["f", "interrupt"], own).effects).toEqual([{ kind: "leave" }]);
  });

  test("after something was done any key goes back", () => {
    expect(typed(["r", "restart", "enter", "x"]).view).toEqual(MAIN);
  });

  test("what is typed is bounded", () => {
    const { view } = typed(["r", "x".repeat(500)]);
    expect(view.kind === "confirm" && view.typed.length).toBe(80);
  });
});
