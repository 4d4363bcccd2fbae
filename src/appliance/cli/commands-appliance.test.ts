// SPDX-License-Identifier: Apache-2.0
//
// The commands of an appliance over a box below a made-up root: what they do, what they ask first,
// what they print, and that they refuse where there is no appliance.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import type { RecoveryStart } from "#appliance/run-recovery.ts";
import type { ScreenStart } from "#appliance/run-screen.ts";
import { ApplianceBox } from "#machine/appliance-box.ts";
import { ResetMarks } from "#machine/reset-marks.ts";
import type { CliMachine } from "./machine.ts";
import { runCli } from "./run.ts";

let root: string;
let out: string;
let err: string;
let asked: string[];
let answer: string | null;
let ran: string[];
let screens: ScreenStart[];
let recoveries: RecoveryStart[];
let limits: number[];
let machine: CliMachine;
beforeEach(() => {
  root = `${mkdtempSync(path.join(tmpdir(), "cairn-cli-box-"))}/`;
  [out, err, asked, answer, ran, screens, recoveries, limits] = ["", "", [], null, [], [], [], []];
  const box = new ApplianceBox({
    root,
    run: async (name, args) => {
      ran.push([name, ...args].join(" "));
      return { status: 0, output: name === "journalctl" ? "one\ntwo\n" : "" };
    },
    listDisks: async () => [],
    log: { write: () => undefined },
  });
  machine = {
    splitArguments: (args, options) =>
      parseArgs({ args: [...args], options, strict: false, tokens: true }).tokens,
    fetch: async (_url, { timeoutMs }) => {
      limits.push(timeoutMs);
      return Response.json({ it: "answered" });
    },
    readText: () => null,
    readPiece: () => null,
    nowMs: () => 0,
    exists: () => true,
    directory: root,
    write: async (text) => void (out += text),
    complain: async (text) => void (err += text),
    isTerminal: false,
    ask: async (question) => {
      asked.push(question);
      return answer;
    },
    pause: async () => undefined,
    runUnit: notHere,
    runApplianceUnit: notHere,
    setUpNetwork: notHere,
    readMediumFile: notHere,
    writeMediumFile: notHere,
    sha256: (text) => text,
    randomBytes: (count) => new Uint8Array(count),
    reserveSecretFile: notHere,
    runScreen: async (start) => void screens.push(start),
    runRecovery: async (start) => void recoveries.push(start),
    box: async () => box,
    executable: "/usr/bin/cairn",
    runAttach: () => Promise.reject(new Error("commands-attach.test.ts")),
    attachments: () => Promise.reject(new Error("commands-attach.test.ts")),
  };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function notHere(): never {
  throw new Error("no command of this file does that");
}

function put(name: string, text = ""): void {
  mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
  writeFileSync(path.join(root, name), text);
}
function makeAppliance(): void {
  put("usr/share/cairn/appliance");
  put("usr/share/cairn/version", "0.2.0\n");
  put("proc/cmdline", `roothash=${"ab".repeat(32)}\n`);
  put("proc/sys/kernel/random/boot_id", "0123\n");
  put("efi/EFI/Linux/cairn_0.1.0.efi");
  put("efi/EFI/Linux/cairn_0.2.0+2-1.efi");
  put("var/lib/cairn/api-token", "token");
}
async function run(line: string): Promise<number> {
  [out, err] = ["", ""];
  return runCli(machine, line.split(" "));
}

describe("no appliance", () => {
  for (const line of [
    "appliance reboot",
    "appliance poweroff",
    "appliance network-reset --yes",
    "appliance factory-reset --yes",
    "appliance factory-reset --everything --yes",
    "appliance reset-if-asked",
    "appliance logs",
    "appliance slot list",
    "appliance slot use 0.1.0",
  ]) {
    test(`${line} → exit status 3, said, and nothing is done`, async () => {
      expect(await run(line)).toBe(3);
      expect(err).toContain("no Cairn appliance");
      expect(ran).toEqual([]);
      expect(existsSync(path.join(root, "var"))).toBe(false);
    });
  }
});

describe("an appliance", () => {
  beforeEach(makeAppliance);

  test("reboot, poweroff → asked of systemd, without a question", async () => {
    expect([await run("appliance reboot"), out]).toEqual([0, "this box restarts\n"]);
    expect(await run("appliance poweroff -o json")).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ done: "poweroff" });
    expect([ran, asked]).toEqual([["systemctl reboot", "systemctl poweroff"], []]);
  });

  test("a reset → the word is asked for first", async () => {
    for (const verb of ["network-reset", "factory-reset"]) {
      expect([await run(`appliance ${verb}`), err.includes("--yes")]).toEqual([2, true]);
      answer = "yes";
      expect(await run(`appliance ${verb}`)).toBe(2);
      expect(ran).toEqual([]);
      answer = verb;
      expect(await run(`appliance ${verb}`)).toBe(0);
      expect(ran).toHaveLength(1);
      [ran, answer] = [[], null];
    }
    expect(asked[0]).toContain("other addresses");
  });

  test("factory-reset → its level is in the mark; the boot's command carries it out", async () => {
    expect(await run("appliance factory-reset --yes")).toBe(0);
    expect(new ResetMarks(root).factory()).toBe("settings");
    expect(await run("appliance factory-reset --everything --yes")).toBe(0);
    expect(new ResetMarks(root).factory()).toBe("everything");
    expect(ran).toEqual(["systemctl reboot", "systemctl reboot"]);
    expect(await run("appliance reset-if-asked")).toBe(0);
    expect(out).toBe("the factory reset is done (everything)\n");
    expect(existsSync(path.join(root, "var/lib/cairn/api-token"))).toBe(false);
    expect(await run("appliance reset-if-asked")).toBe(0);
    expect(out).toBe("nobody asked for a factory reset\n");
  });

  test("logs → as many lines as asked for", async () => {
    expect([await run("appliance logs --lines 7"), out]).toEqual([0, "one\ntwo\n"]);
    expect(ran[0]).toContain("--lines 7");
    expect(await run("appliance logs --lines 0")).toBe(2);
    expect(await run("appliance logs --lines 99999")).toBe(2);
  });

  test("slot list, slot use → which runs, which is next", async () => {
    expect(await run("appliance slot list")).toBe(0);
    expect(out).toBe(
      "VERSION  STATE                   RUNNING  NEXT START\n" +
        "0.2.0    on trial, 2 tries left  yes      yes\n" +
        "0.1.0    good                    -        -\n",
    );
    expect([await run("appliance slot use 0.1.0"), out]).toEqual([
      0,
      "the next start takes 0.1.0\n",
    ]);
    expect(await run("appliance slot list -o json")).toBe(0);
    expect(JSON.parse(out).slots).toMatchObject([
      { version: "0.2.0", next: false, running: true },
      { version: "0.1.0", next: true },
    ]);
    expect([await run("appliance slot use 9.9.9"), err.includes("no slot holds")]).toEqual([
      4,
      true,
    ]);
    expect(await run("appliance slot use 0.2.0 --once")).toBe(0);
    expect(ran).toEqual(["bootctl set-oneshot cairn_0.2.0.efi"]);
  });
});

describe("screen and recovery", () => {
  test("screen → where it shows, and how it asks: by the socket, and not for long", async () => {
    expect(await run("screen --tty /dev/tty1 --socket /run/u.sock --run-directory /run/x")).toBe(0);
    const [start] = screens;
    expect(start).toMatchObject({ ttys: ["/dev/tty1"], serial: false, runDirectory: "/run/x" });
    expect(await start?.ask("/api/v1/status")).toEqual({ it: "answered" });
    expect(limits).toEqual([3000]);
    expect(await run("screen --serial")).toBe(0);
    expect(screens[1]).toMatchObject({ ttys: [], serial: true, runDirectory: "/run/cairn" });
    expect(await run("screen --tty /dev/tty1 --tty /dev/ttyS0")).toBe(0);
    expect(screens[2]).toMatchObject({ ttys: ["/dev/tty1", "/dev/ttyS0"] });
  });

  test("recovery → the daemon's port and state, unless said", async () => {
    expect(await run("recovery")).toBe(0);
    expect(recoveries[0]).toMatchObject({
      stateDirectory: "/var/lib/cairn",
      runDirectory: "/run/cairn",
      address: null,
      port: null,
    });
    expect(await run("recovery --api-port 0 --api-address 127.0.0.1 --state-directory /s")).toBe(0);
    expect(recoveries[1]).toMatchObject({ stateDirectory: "/s", address: "127.0.0.1", port: 0 });
    expect(await run("recovery --api-port 70000")).toBe(2);
  });
});
