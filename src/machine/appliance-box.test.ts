// SPDX-License-Identifier: Apache-2.0
//
// Steering an appliance: what is asked of systemd and in which order, what is written before, and
// that nothing is done on a machine that is no appliance.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { ApplianceBox } from "./appliance-box.ts";
import { ResetMarks } from "./reset-marks.ts";

let root = "";
let ran: string[];
let answers: Map<string, string>;
let box: ApplianceBox;
beforeEach(() => {
  root = `${mkdtempSync(path.join(tmpdir(), "cairn-box-"))}/`;
  [ran, answers] = [[], new Map()];
  box = new ApplianceBox({
    root,
    run: async (name, args) => {
      ran.push([name, ...args].join(" "));
      return { status: 0, output: answers.get(name) ?? "" };
    },
    listDisks: async () => [],
    log: { write: () => undefined },
  });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(name: string, text: string): void {
  mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
  writeFileSync(path.join(root, name), text);
}
function makeAppliance(): void {
  put("usr/share/cairn/appliance", "");
  put("var/lib/cairn/api-token", "token");
}

describe("a machine that is no appliance", () => {
  const acts: Record<string, () => unknown> = {
    reboot: () => box.reboot(),
    "power off": () => box.powerOff(),
    "network reset": () => box.resetNetwork(),
    "factory reset": () => box.resetToFactory("everything"),
    "reset if asked": () => box.resetIfAsked(),
    slots: async () => box.slots(),
    "choose a slot": async () => box.chooseSlot("0.1.0", { once: false }),
    "start the daemon": () => box.startDaemon(),
    "set the network": () => box.setNetwork("cairn-", new Map([["cairn-1.network", "x"]])),
    "set time servers": () => box.setTimeServers(["10.0.0.1"]),
  };
  for (const [name, act] of Object.entries(acts)) {
    test(`${name} → badMachine, and nothing is run or written`, async () => {
      put("var/lib/cairn/api-token", "token");
      const failure = await Promise.resolve(act()).then(
        () => null,
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(Fault);
      expect((failure as Fault).code).toBe("badMachine");
      expect((failure as Fault).message).toContain("no Cairn appliance");
      expect(ran).toEqual([]);
      expect(existsSync(path.join(root, "var/lib/cairn-reset"))).toBe(false);
    });
  }
});

describe("an appliance", () => {
  beforeEach(makeAppliance);

  test("reboot and power off → systemd is asked", async () => {
    await box.reboot();
    await box.powerOff();
    expect(ran).toEqual(["systemctl reboot", "systemctl poweroff"]);
  });

  test("factory reset → the mark is there before the restart is asked for", async () => {
    let marked = false;
    const seeing = new ApplianceBox({
      root,
      run: async () => {
        marked = existsSync(path.join(root, "var/lib/cairn-reset/factory.json"));
        return { status: 0, output: "" };
      },
      listDisks: async () => [],
      log: { write: () => undefined },
    });
    await seeing.resetToFactory("settings");
    expect(marked).toBe(true);
    expect(readFileSync(path.join(root, "var/lib/cairn/api-token"), "utf8")).toBe("token");
  });

  test("reset if asked → once, and no restart by itself", async () => {
    await box.resetToFactory("settings");
    ran = [];
    expect(await box.resetIfAsked()).toMatchObject({ level: "settings" });
    expect(await box.resetIfAsked()).toBe(null);
    expect(ran).toEqual([]);
  });

  test("network reset → the network is made anew at once", async () => {
    await box.resetNetwork();
    expect(ran).toEqual(["systemctl restart cairn-network.service systemd-networkd.service"]);
  });

  test("the daemon is started → also after it failed too often", async () => {
    await box.startDaemon();
    expect(ran).toEqual([
      "systemctl reset-failed cairn.service",
      "systemctl start --no-block cairn.service",
    ]);
  });

  test("a slot for one start → the boot loader is told its name without counters", async () => {
    put("efi/EFI/Linux/cairn_0.1.0.efi", "");
    put("efi/EFI/Linux/cairn_0.2.0+2-1.efi", "");
    await box.chooseSlot("0.2.0", { once: true });
    expect(ran).toEqual(["bootctl set-oneshot cairn_0.2.0.efi"]);
    expect(box.slots().map((slot) => slot.file)).toEqual([
      "cairn_0.2.0+2-1.efi",
      "cairn_0.1.0.efi",
    ]);
    await expect(box.chooseSlot("0.3.0", { once: true })).rejects.toThrow("no slot holds");
  });

  test("log lines and how the service ended → asked for and understood", async () => {
    answers.set("journalctl", '{"level":"info"}\n\ncairn: it failed\n');
    expect(await box.lastLogLines(7)).toEqual(['{"level":"info"}', "cairn: it failed"]);
    expect(ran[0]).toContain("--unit cairn.service --boot --lines 7");
    answers.set("systemctl", "Result=exit-code\nExecMainCode=1\nExecMainStatus=70\nNRestarts=5\n");
    expect(await box.serviceEnd()).toEqual({
      result: "exit-code",
      how: "exited",
      status: 70,
      restarts: 5,
    });
    answers.set("systemctl", "Result=success\nExecMainCode=0\nExecMainStatus=0\nNRestarts=0\n");
    expect(await box.serviceEnd()).toMatchObject({ how: "", status: 0 });
  });
});

test("time servers → a file for timesyncd, then it is restarted; again → nothing", async () => {
  makeAppliance();
  await box.setTimeServers(["10.0.0.1", "ntp.example.org"]);
  const file = path.join(root, "run/systemd/timesyncd.conf.d/cairn-servers.conf");
  expect(readFileSync(file, "utf8")).toContain("\n[Time]\nNTP=10.0.0.1 ntp.example.org\n");
  await box.setTimeServers(["10.0.0.1", "ntp.example.org"]);
  expect(ran).toEqual(["systemctl restart systemd-timesyncd.service"]);
  await box.setTimeServers([]);
  expect(existsSync(file)).toBe(false);
  await box.setTimeServers([]);
  expect(ran).toHaveLength(2);
});

test("a network → just these files of ours, then networkd; as it is → nothing", async () => {
  makeAppliance();
  put("run/systemd/network/cairn-01-static.network", "old");
  put("run/systemd/network/50-other.network", "somebody's");
  const files = new Map([["cairn-90-default.network", "[Match]\n"]]);
  await box.setNetwork("cairn-", files);
  await box.setNetwork("cairn-", files);
  expect(ran).toEqual(["systemctl restart systemd-networkd.service"]);
  const folder = path.join(root, "run/systemd/network");
  expect(readdirSync(folder).sort()).toEqual(["50-other.network", "cairn-90-default.network"]);
});

test("the network in force is remembered; what a reset gave up and is set anew counts", () => {
  makeAppliance();
  expect(box.networkText).toBeNull();
  box.networkText = "[1]";
  expect(box.networkText).toBe("[1]");
  const marks = new ResetMarks(root);
  marks.askNetwork();
  expect(marks.passesOverNetworkOf("[1]")).toBe(true);
  box.wantNetwork("[2]");
  expect(marks.passesOverNetworkOf("[1]")).toBe(true);
  box.wantNetwork("[1]");
  expect(marks.passesOverNetworkOf("[1]")).toBe(false);
});
