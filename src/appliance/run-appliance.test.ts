// SPDX-License-Identifier: Apache-2.0
//
// `cairn appliance network` on real files in a folder: what is written for networkd, the kernel and
// the screen, what is kept, and that nothing keeps it from writing.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createMainWorld } from "#machine/main-world.ts";
import { ResetMarks } from "#machine/reset-marks.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { KEPT_FILE, type PassesOver } from "./boot-medium.ts";
import { readKept } from "./kept-settings.ts";
import { keepOwnNetwork } from "./own-network.ts";
import { setUpNetwork } from "./run-appliance.ts";

const SECRET = "a secret that is long enough";
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-appliance-"));
  for (const name of ["esp", "stick"]) mkdirSync(path.join(folder, name));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (...parts: string[]) => path.join(folder, ...parts);
const readText = (file: string) => (existsSync(file) ? readFileSync(file, "utf8") : null);
const world = () => createMainWorld({ log: { write: () => {} } });

function setUp(
  stateDirectory = at("state"),
  runDirectory = at("run"),
  passesOver: PassesOver = () => false,
) {
  writeFileSync(at("hostname"), "");
  const places = { esp: at("esp"), stick: at("stick"), runDirectory, stateDirectory };
  const start = {
    places,
    flags: { origin: "the flags", directory: "/", value: {} },
    passesOver,
    networkdDirectory: at("networkd"),
    hostNameFile: at("hostname"),
  };
  return setUpNetwork(start, readText, world());
}
function medium(where: "esp" | "stick", content: unknown): void {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  writeFileSync(at(where, "cairn.json"), text);
}
const told = () => JSON.parse(readFileSync(at("run", "boot-medium.json"), "utf8"));

test("no medium → the default for every card, and a name that stays", async () => {
  const first = await setUp();
  expect(first).toMatchObject({ files: ["cairn-90-default.network"], fixed: 0, wrong: null });
  expect(first.hostName).toMatch(/^cairn-[0-9a-f]{4}$/);
  expect(readFileSync(at("hostname"), "utf8")).toBe(first.hostName);
  expect(statSync(at("networkd", "cairn-90-default.network")).mode & 0o777).toBe(0o644);
  expect(told()).toMatchObject({ message: null });
  expect((await setUp()).hostName).toBe(first.hostName);
});

test("fixed addresses → written; the medium gone → kept; another medium → its own", async () => {
  const network = [{ interface: "eno1", addresses: ["10.0.0.2/8"] }];
  medium("stick", { name: "Attic", network, joinSecret: SECRET });
  expect(await setUp()).toMatchObject({ hostName: "attic", fixed: 1 });
  expect(readFileSync(at("networkd", "cairn-01-static.network"), "utf8")).toContain("10.0.0.2/8");
  rmSync(at("stick", "cairn.json"));
  expect(await setUp()).toMatchObject({ hostName: "attic", fixed: 1 });
  medium("esp", { name: "cellar" });
  writeFileSync(at("networkd", "50-other.network"), "somebody's");
  expect(await setUp()).toMatchObject({ hostName: "cellar", fixed: 0 });
  expect(readdirSync(at("networkd")).sort()).toEqual([
    "50-other.network",
    "cairn-90-default.network",
  ]);
});

test("a network reset → what was in force is given up, also where it is only kept", async () => {
  const run = at("run", "cairn");
  const marks = new ResetMarks(folder);
  const setUpThere = () => setUp(at("state"), run, (text) => marks.passesOverNetworkOf(text));
  medium("stick", { network: [{ interface: "eno1", addresses: ["10.0.0.2/8"] }] });
  expect(await setUpThere()).toMatchObject({ fixed: 1 });
  rmSync(at("stick", "cairn.json"));
  expect(await setUpThere()).toMatchObject({ fixed: 1 });
  marks.askNetwork();
  expect(await setUpThere()).toMatchObject({ fixed: 0 });
  marks.askNetwork();
  expect(await setUpThere()).toMatchObject({ fixed: 0 });
  medium("stick", { network: [{ interface: "eno1", addresses: ["10.0.0.3/8"] }] });
  expect(await setUpThere()).toMatchObject({ fixed: 1 });
  rmSync(at("stick", "cairn.json"));
  expect(await setUpThere()).toMatchObject({ fixed: 1 });
});

test("what is kept is sealed, and not written again while nothing changes", async () => {
  medium("esp", { joinSecret: SECRET });
  await setUp();
  const sealed = readFileSync(at("state", KEPT_FILE));
  expect(sealed.includes(SECRET)).toBe(false);
  expect(statSync(at("state", KEPT_FILE)).mode & 0o777).toBe(0o600);
  await setUp();
  expect(readFileSync(at("state", KEPT_FILE)).equals(sealed)).toBe(true);
  const state = new StateDirectory(at("state"));
  expect(await readKept(state)).toEqual({ joinSecret: SECRET });
  writeFileSync(at("state", KEPT_FILE), sealed.subarray(0, -1));
  expect(await readKept(state)).toBeNull();
  state.close();
});

test("a wrong medium → the default network, and the screen is told which setting", async () => {
  medium("esp", { network: [{ interface: "eno1", addresses: ["10.0.0.2"] }] });
  const found = await setUp();
  expect(found.files).toEqual(["cairn-90-default.network"]);
  expect(told().message).toContain("network.0.addresses.0 in");
  expect(told().message).toContain("such as 192.168.1.10/24");
  expect(existsSync(at("state", KEPT_FILE))).toBe(false);
});

test("no state directory that can be used, or one in use → a network all the same", async () => {
  medium("esp", { name: "attic" });
  writeFileSync(at("file"), "");
  expect(await setUp(at("file", "state"))).toMatchObject({ hostName: "attic", fixed: 0 });
  const held = new StateDirectory(at("state"));
  expect(await setUp()).toMatchObject({ hostName: "attic" });
  held.close();
});

test("networkd's files cannot be written → a Fault that names the directory", async () => {
  writeFileSync(at("networkd"), "in the way");
  chmodSync(at("networkd"), 0o600);
  expect(setUp()).rejects.toThrow(at("networkd"));
});

test("set from afar → holds instead of the medium's, until that says something else", async () => {
  const network = [{ interface: "eno1", addresses: ["10.0.0.2/8"] }];
  const own = [{ interface: "eno1", addresses: ["10.0.0.9/8"] }];
  medium("esp", { name: "attic", network, joinSecret: SECRET });
  await setUp();
  const state = new StateDirectory(at("state"));
  keepOwnNetwork(own, network, state);
  state.close();
  await setUp();
  const written = () => readFileSync(at("networkd", "cairn-01-static.network"), "utf8");
  expect(written()).toContain("Address=10.0.0.9/8");
  expect(JSON.parse(readFileSync(at("run", "network.json"), "utf8"))).toEqual(own);
  const later = [{ interface: "eno1", addresses: ["10.0.0.7/8"] }];
  medium("esp", { name: "attic", network: later, joinSecret: SECRET });
  await setUp();
  expect(written()).toContain("Address=10.0.0.7/8");
});
