// SPDX-License-Identifier: Apache-2.0
//
// `cairn screen` and `cairn recovery` of the real executable, on a pseudo-terminal and over HTTP,
// beside a real unit: what a person in front of the box sees while it runs, after it died, and in
// recovery. The tests share one lab and go in order.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { assembled, createVolume } from "#test/cluster/assembled.ts";
import { Lab, executable } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { NotYet, until } from "#test/cluster/until.ts";
import { ScreenWindow } from "./screen-window.ts";

const MIB = 1 << 20;
const START_MS = 45_000;
const API_PORT = 7480;

setDefaultTimeout(90_000);

let lab: Lab;
let unit: LabUnit;
let runFolder = "";

beforeAll(async () => {
  lab = new Lab({ unit: { settings: { sliceBytes: 32 * MIB } } });
  try {
    runFolder = path.join(lab.folder, "run");
    mkdirSync(runFolder);
    const full = path.join(lab.folder, "full.img");
    writeFileSync(full, "something of somebody's");
    truncateSync(full, 64 * MIB);
    unit = lab.add({ diskBytes: 256 * MIB });
    unit.writeConfiguration({ disks: [...unit.disks, full] });
    unit.start();
    await lab.until("one cluster", () => assembled(lab), START_MS);
  } catch (error) {
    await lab.end();
    throw error;
  }
}, 120_000);
afterAll(() => lab.end());

/** In the unit's own network, as on its box. */
function cairn(...words: string[]): string[] {
  const folders = ["--state-directory", unit.stateFolder, "--run-directory", runFolder];
  return ["nsenter", `--net=/run/netns/${unit.namespace}`, executable(), ...words, ...folders];
}

function screen(size: { columns: number; rows: number }, ...flags: string[]): ScreenWindow {
  return new ScreenWindow(cairn("screen", ...flags), size);
}

test("a console of 80 by 25 → who, where, how it is, and the disk that is left alone", async () => {
  await using window = screen({ columns: 80, rows: 25 });
  await window.sees("In the cluster cairn as unit 1.");
  expect(await window.sees("Console")).toContain(`http://${unit.address}:${API_PORT}/`);
  expect(await window.sees("in use")).toContain("disk1.img");
  // In as many lines as there is room beside the code.
  expect(await window.sees("full.img")).toContain("left");
  await window.sees("is not empty");
  expect(await window.sees("Cluster")).toContain("cairn: 1 unit");
  const lines = window.shown();
  expect(lines[0]).toMatch(/^ Cairn \d+\.\d+\.\d+ {2}unit-1 +up \d+ /);
  expect(lines.filter((line) => /[█▀▄]{5}/.test(line)).length).toBeGreaterThan(10);
  for (const line of lines) expect(line.length).toBeLessThan(80);
  // No change without a box of one's own.
  expect(lines[24]).not.toContain("restart");
});

test("keys → log, code, back; q ends it, and the terminal is as it was", async () => {
  await using window = screen({ columns: 80, rows: 25 });
  const before = window.flags();
  await window.sees("In the cluster cairn as unit 1.");
  expect(window.flags()).not.toEqual(before);
  window.type("c");
  await window.sees("Any other key goes back.");
  window.type("l");
  await window.sees("Last lines of the log");
  window.type("\x1b");
  await window.sees("In the cluster cairn as unit 1.");
  window.type("f");
  await window.sees("Only a booted appliance can do that");
  window.type(" ");
  await window.sees("In the cluster cairn as unit 1.");
  window.type("q");
  expect(await window.exited).toBe(0);
  expect(window.flags()).toEqual(before);
  expect(window.raw).toEndWith("\x1b[?1049l");
});

test("told to stop, or killed by Ctrl-C → the terminal is as it was", async () => {
  for (const end of [
    (window: ScreenWindow) => window.kill("SIGTERM"),
    (window: ScreenWindow) => window.type("\x03"),
  ]) {
    await using window = screen({ columns: 80, rows: 24 });
    const before = window.flags();
    await window.sees("In the cluster cairn as unit 1.");
    end(window);
    await window.exited;
    expect(window.flags()).toEqual(before);
  }
});

test("a serial line → plain text once, and then only news", async () => {
  await using window = screen({ columns: 80, rows: 24 }, "--serial");
  await window.sees("q quit");
  expect(window.raw).toMatch(/^[ -~\r\n]*$/);
  expect(window.raw.split("In the cluster cairn as unit 1.")).toHaveLength(2);
  await createVolume(lab, { name: "one", sizeBytes: 32 * MIB, protection: "none" });
  expect(await window.sees("Volumes 1")).toMatch(/^\[ *(\d+ \w+ )+\d+ \w+\] Volumes 1 online/);
  window.type(" ");
  await until("the whole view again", () => window.raw.split("q quit")[2] ?? null, {
    limitMs: 10_000,
  });
});

test("the unit dies → said, and nothing old is shown as true; it comes back", async () => {
  // Outside of the unit's network: the lab ends whatever is left in there.
  const words = [executable(), "screen", "--state-directory", unit.stateFolder];
  await using window = new ScreenWindow(words, { columns: 80, rows: 25 });
  await window.sees("disk1.img");
  await unit.kill();
  await window.sees("Cairn does not answer, for");
  expect(window.shown().join("\n")).not.toContain("disk1.img");
  unit.start();
  await window.sees("In the cluster cairn as unit 1.");
  await window.sees("disk1.img");
});

test("before it was ever there → it is starting", async () => {
  const words = [
    "--state-directory",
    path.join(lab.folder, "nowhere"),
    "--run-directory",
    runFolder,
  ];
  const inside = ["nsenter", `--net=/run/netns/${unit.namespace}`, executable(), "screen"];
  await using window = new ScreenWindow([...inside, ...words], { columns: 80, rows: 25 });
  await window.sees("Cairn is starting.");
});

test("recovery → the screen shows why and a code, which opens the page", async () => {
  await unit.stop();
  const child = lab.spawn("recovery", "nsenter", cairn("recovery").slice(1));
  await using window = screen({ columns: 80, rows: 25 });
  await window.sees("Recovery, for");
  const code = (await window.sees("Code ")).split(/ +/)[2] ?? "";
  expect(code).toMatch(/^[0-9A-Z]{5}-[0-9A-Z]{5}$/);

  const base = `http://${unit.address}:${API_PORT}`;
  expect((await fetch(base)).status).toBe(401);
  const cookie = await signIn(base, code);
  const page = await (await fetch(base, { headers: { cookie } })).text();
  expect(page).toContain("Cairn does not run");
  expect(page).toContain("Factory reset");
  const refused = await post(`${base}/reboot`, cookie, {});
  expect(refused.status).toBe(500);
  expect(await refused.text()).toContain("no Cairn appliance");
  // Programs with the token of the state directory are told in the API's own words.
  const status = await fetch(`${base}/api/v1/status`, {
    headers: { authorization: `Bearer ${unit.token()}` },
  });
  expect(await status.json()).toMatchObject({ error: { code: "notReady" } });

  const ended = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  // Nothing says any more that it is there; its code is this boot's (0057).
  expect(readdirSync(runFolder)).toEqual(["recovery-code"]);
  await window.sees("Cairn is starting.");
});

test("recovery that is started again → the same code", async () => {
  const file = path.join(runFolder, "recovery.json");
  const codes: string[] = [];
  for (const signal of ["SIGKILL", "SIGTERM", "SIGTERM"] as const) {
    const child = lab.spawn("recovery", "nsenter", cairn("recovery").slice(1));
    const pid = child.pid;
    await until("the page", listens, { limitMs: 20_000 });
    codes.push((JSON.parse(readFileSync(file, "utf8")) as { code: string }).code);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    if (pid !== undefined) child.kill(signal);
    await ended;
  }
  expect(new Set(codes).size).toBe(1);
});

async function listens(): Promise<number> {
  try {
    return (await fetch(`http://${unit.address}:${API_PORT}`)).status;
  } catch (error) {
    throw new NotYet(String(error));
  }
}

async function signIn(base: string, code: string): Promise<string> {
  const answer = await post(`${base}/sign-in`, "", { code });
  expect(answer.status).toBe(303);
  return (answer.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
}

function post(url: string, cookie: string, form: Record<string, string>): Promise<Response> {
  return fetch(url, {
    method: "POST",
    redirect: "manual",
    headers: { cookie, origin: new URL(url).origin },
    body: new URLSearchParams(form),
  });
}
