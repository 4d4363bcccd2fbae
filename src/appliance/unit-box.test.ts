// SPDX-License-Identifier: Apache-2.0
//
// A box's network on trial: applied late enough for its answer to get away, taken back unless it is
// kept, and what is kept holds after a restart; its clock; and a machine that is no appliance.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { NetworkEntry } from "./network-settings.ts";
import { networkInForce } from "./own-network.ts";
import { TRIAL_MS, UnitBox } from "./unit-box.ts";

const FIXED: NetworkEntry[] = [{ interface: "eno1", addresses: ["10.0.0.2/24"] }];
const OTHER: NetworkEntry[] = [{ mac: "52:54:00:AB:00:02", addresses: ["10.0.0.3/24"] }];

class Machine {
  nowMs = 0;
  wallMs = 5000;
  isAppliance = true;
  isKept = false;
  fails = false;
  networkText: string | null = "[]";
  said: NetworkEntry[] = [];
  readonly files = new Map<string, string>();
  readonly applied: string[] = [];
  readonly wanted: string[] = [];
  #steps: { atMs: number; act: () => void }[] = [];

  box(): UnitBox {
    const world = {
      clock: { nowMs: () => this.nowMs, wallMs: () => this.wallMs },
      log: { write: () => undefined },
    };
    return new UnitBox(world, {
      timers: {
        after: (ms, act) => {
          const step = { atMs: this.nowMs + ms, act };
          this.#steps.push(step);
          return () => {
            this.#steps = this.#steps.filter((one) => one !== step);
          };
        },
      },
      state: { write: (name, content) => void this.files.set(name, String(content)) },
      box: this.#outside(),
      cards: () => [
        { name: "eno1", mac: "52:54:00:ab:00:01", cable: true, addresses: [] },
        { name: "eno2", mac: "52:54:00:ab:00:02", cable: null, addresses: [] },
      ],
      clock: {
        isKept: () => this.isKept,
        set: (wallMs) => {
          this.wallMs = wallMs;
        },
      },
      said: async () => this.said,
    });
  }

  #outside() {
    const machine = this;
    return {
      get isAppliance() {
        return machine.isAppliance;
      },
      get networkText() {
        return machine.networkText;
      },
      set networkText(text: string | null) {
        machine.networkText = text;
      },
      setNetwork: async (_: string, files: ReadonlyMap<string, string>) => {
        if (machine.fails) throw new Fault("programFailed", "systemctl: no");
        const found =
          [...files.values()]
            .join("")
            .match(/Address=\S+/g)
            ?.at(-1) ?? "DHCP";
        if (machine.applied.at(-1) !== found) machine.applied.push(found);
      },
      wantNetwork: (text: string) => void machine.wanted.push(text),
    };
  }

  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    const due = this.#steps.filter(({ atMs }) => atMs <= this.nowMs);
    this.#steps = this.#steps.filter(({ atMs }) => atMs > this.nowMs);
    for (const { act } of due) act();
    await settled();
  }

  /** What holds at the next start, where the medium says `said`. */
  next(said: NetworkEntry[], passedOver: string[] = []): NetworkEntry[] {
    const state = { readText: (name: string) => this.files.get(name) ?? null };
    return networkInForce(said, state, (text) => passedOver.includes(text));
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function codeOf(act: () => unknown): string {
  try {
    act();
    return "done";
  } catch (error) {
    return (error as Fault).code;
  }
}

let machine: Machine;
beforeEach(() => {
  machine = new Machine();
});

describe("a network", () => {
  test("tried → applied after its answer, taken back after two minutes", async () => {
    const box = machine.box();
    await settled();
    box.tryNetwork(FIXED);
    expect(machine.applied).toEqual(["DHCP"]);
    expect(box.show(1).trial).toEqual({ network: FIXED, leftMs: TRIAL_MS + 2000, problem: "" });
    await machine.pass(2000);
    expect(machine.applied).toEqual(["DHCP", "Address=10.0.0.2/24"]);
    expect(box.show(1)).toMatchObject({ network: [], trial: { leftMs: TRIAL_MS } });
    await machine.pass(TRIAL_MS);
    expect(machine.applied.at(-1)).toBe("DHCP");
    expect(box.show(1).trial).toBeNull();
    expect(machine.next([])).toEqual([]);
  });

  test("kept → holds now and after a restart, until the medium says something else", async () => {
    machine.said = OTHER;
    machine.networkText = JSON.stringify(OTHER);
    const box = machine.box();
    box.tryNetwork(FIXED);
    await machine.pass(2000);
    await box.keepNetwork();
    await machine.pass(TRIAL_MS);
    expect(machine.applied.at(-1)).toBe("Address=10.0.0.2/24");
    expect(box.show(1)).toMatchObject({ network: FIXED, trial: null });
    expect(machine.wanted).toEqual([JSON.stringify(FIXED)]);
    expect(machine.next(OTHER)).toEqual(FIXED);
    expect(machine.next([])).toEqual([]);
    expect(machine.next(OTHER, [JSON.stringify(FIXED)])).toEqual(OTHER);
    machine.files.set("own-network.json", "{");
    expect(machine.next(OTHER)).toEqual(OTHER);
  });

  test("taken back by hand, or by an orderly stop → as before, and not once more", async () => {
    const box = machine.box();
    box.tryNetwork(FIXED);
    await machine.pass(2000);
    await box.undoNetwork();
    expect(machine.applied.at(-1)).toBe("DHCP");
    await expect(box.undoNetwork()).rejects.toThrow("no network is tried");
    await expect(box.keepNetwork()).rejects.toThrow("no network is tried");
    box.tryNetwork(FIXED);
    await machine.pass(2000);
    await box.stop();
    expect(machine.applied.at(-1)).toBe("DHCP");
  });

  test("another one tried meanwhile → its time begins anew", async () => {
    const box = machine.box();
    box.tryNetwork(FIXED);
    await machine.pass(2000);
    box.tryNetwork(OTHER);
    await machine.pass(2000);
    expect(machine.applied.at(-1)).toBe("Address=10.0.0.3/24");
    await machine.pass(TRIAL_MS - 3000);
    expect(box.show(1).trial).toMatchObject({ network: OTHER });
    await machine.pass(3000);
    expect(machine.applied.at(-1)).toBe("DHCP");
  });

  test("it cannot be applied → said, and not kept", async () => {
    const box = machine.box();
    await settled();
    machine.fails = true;
    box.tryNetwork(FIXED);
    await machine.pass(2000);
    expect(box.show(1).trial?.problem).toContain("systemctl: no");
    await expect(box.keepNetwork()).rejects.toThrow("it does not hold");
  });

  test("a card that is not there → refused, with those that are", async () => {
    const box = machine.box();
    const wrong = [{ interface: "eno9", addresses: ["10.0.0.2/24"] }];
    expect(() => box.tryNetwork(wrong)).toThrow("no card eno9; there are: eno1, eno2");
    expect(box.show(1).trial).toBeNull();
  });

  test("left behind by a daemon that ended → what holds is applied", async () => {
    machine.networkText = JSON.stringify(FIXED);
    machine.box();
    await settled();
    expect(machine.applied).toEqual(["Address=10.0.0.2/24"]);
  });
});

test("a clock → set by hand; not where a time server keeps it", () => {
  const box = machine.box();
  box.setClock(1_767_225_600_000);
  expect(box.show(1)).toMatchObject({ wallMs: 1_767_225_600_000, isClockKept: false });
  machine.isKept = true;
  expect(() => box.setClock(0)).toThrow("a time server keeps its clock right");
});

test("a program on somebody's machine → everything is refused, nothing is touched", async () => {
  machine.isAppliance = false;
  machine.networkText = JSON.stringify(FIXED);
  const box = machine.box();
  expect(codeOf(() => box.tryNetwork(FIXED))).toBe("notAppliance");
  expect(codeOf(() => box.setClock(1_767_225_600_000))).toBe("notAppliance");
  await expect(box.keepNetwork()).rejects.toThrow("network is that machine's");
  await expect(box.undoNetwork()).rejects.toThrow("network is that machine's");
  await machine.pass(TRIAL_MS * 2);
  expect([machine.applied, machine.wallMs]).toEqual([[], 5000]);
  expect(box.show(1)).toMatchObject({ isAppliance: false, network: [], trial: null });
});
