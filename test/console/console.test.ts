// SPDX-License-Identifier: Apache-2.0
//
// The console in a real browser against real units: from the claim to a volume that a client uses,
// then every page's main action, with and without client code; axe-core finds nothing on any page.
// The tests share one lab and one browser, and go in order.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import path from "node:path";
import type { Page } from "playwright-core";
import { assembled } from "#test/cluster/assembled.ts";
import { Lab, requireMachine } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { NbdClient } from "#test/cluster/nbd-client.ts";
import { NotYet, need } from "#test/cluster/until.ts";
import { Browser, examine } from "./browser.ts";

const MIB = 1 << 20;
const START_MS = 60_000;
const PASSWORD = "correct horse battery";
const MAIN_PAGES = [
  "/",
  "/setup",
  "/units",
  "/units/1",
  "/disks",
  "/disks/1",
  "/volumes",
  "/hosts",
  "/pools",
  "/recovery",
  "/settings",
  "/settings/users",
  "/settings/update",
  "/events",
];

setDefaultTimeout(180_000);

let lab: Lab;
let browser: Browser;
let page: Page;
let base = "";

const at = (route: string) => page.goto(`${base}${route}`);
let clicks = 0;
const click = (name: string) => {
  clicks++;
  return page.getByRole("button", { name, exact: true }).click();
};
const heading = () => page.getByRole("heading", { level: 1 }).innerText();
const seen = (text: string) => page.getByText(text).first().waitFor();

beforeAll(async () => {
  requireMachine({ programs: ["chromium"] });
  lab = new Lab({ unit: { diskBytes: 512 * MIB, settings: { sliceBytes: 32 * MIB } } });
  for (let place = 1; place <= 3; place++) lab.add();
  const foreign = path.join(lab.unit(1).folder, "photos.img");
  writeFileSync(foreign, Buffer.alloc(64 * MIB, "somebody's photos"));
  lab.unit(1).disks.push(foreign);
  lab.unit(1).writeConfiguration();
  for (const unit of lab.units) unit.start();
  await lab.until("one cluster", () => assembled(lab), START_MS);
  await lab.until("three disks", () => readyDisks(3), START_MS);
  base = `http://${lab.unit(1).address}:7480`;
  browser = await Browser.open();
  page = await browser.page();
});
afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await lab?.end();
});

async function readyDisks(count: number): Promise<true> {
  const disks = await lab.unit(1).api.disks();
  const ready = disks.filter((disk) => disk.state === "ready").length;
  need(ready >= count, `${ready} disks are ready`);
  return true;
}

test("nobody's cluster → the claim page; a wrong code is refused", async () => {
  await at("/");
  expect(page.url()).toBe(`${base}/claim`);
  expect(await examine(page, "claim")).toEqual([]);
  await page.getByLabel("Claim code").fill("WRONG-CODES");
  await page.getByLabel("New password").fill(PASSWORD);
  await click("Claim this cluster");
  await page.getByRole("alert").waitFor();
  expect(await examine(page, "claim-refused")).toEqual([]);
});

test("claim → first steps → volume in at most six clicks, one password; it is used", async () => {
  const { claim } = await lab.unit(1).api.status();
  clicks = 0;
  await page.getByLabel("Claim code").fill(claim.code as string);
  await page.getByLabel("New password").fill(PASSWORD);
  await click("Claim this cluster");
  await page.waitForURL(`${base}/setup`);
  for (const unit of await lab.unit(1).api.units()) await seen(unit.words.join(" "));
  await seen("its first MiB is not empty");
  expect(await page.getByLabel("Address of a new host").inputValue()).toBe(lab.hostAddress);
  expect(await examine(page, "first-steps")).toEqual([]);
  await click("Create volume");
  await page.waitForURL(`${base}/volumes/first`);
  expect(clicks).toBeLessThanOrEqual(6);
  await seen("online, protected");
  const line = await page.getByLabel("For Linux").innerText();
  const [, host = "", port = "", name = ""] =
    /nbd-client (\S+) (\d+) \/dev\/nbd0 -name (\S+)/.exec(line) ?? [];
  const client = await NbdClient.open({ host, port: Number(port), name }, 10_000);
  await client.write(0, Buffer.alloc(4096, 7));
  await client.flush();
  expect((await client.read(0, 4096)).every((byte) => byte === 7)).toBe(true);
  client.close();
  expect(await examine(page, "volume")).toEqual([]);
});

test("the session's cookie → not for scripts, not for other sites", async () => {
  const [cookie] = await browser.cookies();
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
  expect(await page.evaluate("document.cookie")).toBe("");
});

test("every page → no violation in either theme, wide or on a phone", async () => {
  for (const route of [...MAIN_PAGES, "/volumes/new", "/hosts/1", "/account", "/volumes/nothing"]) {
    await at(route);
    const name = route === "/" ? "overview" : route.slice(1).replaceAll("/", "-");
    expect(await examine(page, name)).toEqual([]);
  }
});

test("by the keyboard alone: skip link, then the content; the focus is seen", async () => {
  await at("/volumes");
  await page.keyboard.press("Tab");
  const link = page.getByRole("link", { name: "Skip to the content" });
  expect(await link.evaluate((element) => element.matches(":focus-visible"))).toBe(true);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const next = page.getByRole("link", { name: "New volume" });
  expect(await next.evaluate((element) => element.matches(":focus-visible"))).toBe(true);
});

test("preview → where it would lie; created, assigned, deleted by its name", async () => {
  await at("/volumes/new");
  await page.getByLabel("Name").fill("scratch");
  await page.getByLabel("Size").fill("96M");
  await click("Preview");
  await seen("Preview: nothing is made yet");
  expect(await lab.unit(1).api.volumes()).toHaveLength(1);
  expect(await examine(page, "volume-preview")).toEqual([]);
  await click("Create volume");
  await page.waitForURL(`${base}/volumes/scratch`);
  await seen("No host yet: nobody sees it.");
  await page.getByLabel("Host", { exact: true }).selectOption(`host-${lab.hostAddress}`);
  await click("Assign to the host");
  await seen("The host may use it.");
  const { hosts } = await lab.unit(1).api.volume("scratch");
  expect(hosts.map(({ name }) => name)).toEqual([`host-${lab.hostAddress}`]);
  // Not a whole slice: its last one becomes larger, and another is placed behind it.
  await page.getByLabel("New size").fill("160M");
  await click("Preview");
  await seen("Preview: nothing has grown yet");
  expect(await examine(page, "volume-grow-preview")).toEqual([]);
  expect((await lab.unit(1).api.volume("scratch")).sizeBytes).toBe(96 * MIB);
  await click("Grow volume");
  await seen("scratch has 160M now.");
  expect((await lab.unit(1).api.volume("scratch")).sizeBytes).toBe(160 * MIB);
  await page.getByLabel("New size").fill("96M");
  await click("Grow volume");
  await seen("is never made smaller");
  await page.getByRole("link", { name: "Delete this volume…" }).click();
  expect(await examine(page, "volume-delete")).toEqual([]);
  await page.getByLabel("Name of the volume").fill("scratch");
  await click("Delete the volume");
  await seen("scratch is deleted; for a day it can be taken back.");
  expect(await examine(page, "volume-deleted")).toEqual([]);
  await click("Take scratch back");
  await seen("scratch is back.");
  expect((await lab.unit(1).api.volume("scratch")).hosts).toHaveLength(1);
  await page.getByRole("link", { name: "Delete this volume…" }).click();
  await page.getByLabel("Name of the volume").fill("scratch");
  await page.getByLabel("At once: it cannot be taken back").check();
  await click("Delete the volume");
  await page.waitForURL(`${base}/volumes`);
  await seen("scratch is deleted.");
});

test("host added, assigned; its clients end on every unit when it is revoked", async () => {
  await at("/volumes/first");
  await click(`Revoke host-${lab.hostAddress}`);
  await seen("It is taken from the host.");
  await at("/hosts");
  await page.getByLabel("Name of the host").fill("db1");
  await page.getByLabel("Addresses and ranges").fill(`${lab.hostAddress}/31`);
  await click("Add host");
  await seen("db1 is added.");
  await page.getByLabel("Volume", { exact: true }).selectOption("first");
  await click("Assign the volume");
  await seen("It may use the volume.");
  const places = lab.units.map(({ address }) => ({ host: address, port: 10809, name: "first" }));
  const clients = await Promise.all(places.map((place) => NbdClient.open(place, 10_000)));
  for (const client of clients) await client.read(0, 4096);
  await page.getByRole("cell", { name: lab.hostAddress }).waitFor();
  expect(await examine(page, "host")).toEqual([]);
  await click("Revoke first");
  await seen("The volume is taken from it.");
  const ended = async () => clients.every((client) => client.lost) || null;
  await lab.until("its sessions ended on every unit", ended, START_MS);
  for (const place of places) await expect(NbdClient.open(place, 10_000)).rejects.toThrow();
  await page.getByRole("link", { name: "Remove this host…" }).click();
  expect(await examine(page, "host-remove")).toEqual([]);
  await page.getByLabel("Name of the host").fill("db1");
  await click("Remove");
  await seen("db1 is removed.");
  await lab.unit(1).api.assign("first", `host-${lab.hostAddress}`);
});

test("a host asks by its token → granted by a click; over its quota → refused", async () => {
  await at("/hosts");
  await page.getByRole("link", { name: `host-${lab.hostAddress}` }).click();
  await page.getByLabel("Quota").fill("100M");
  await click("Save what it may ask for");
  await seen("What it may ask for is saved.");
  await click("Make a token");
  const token = (await page.getByLabel("The host's token").innerText()).trim();
  expect(await examine(page, "host-token")).toEqual([]);
  const ask = async (name: string, sizeBytes: number) => {
    const answer = await fetch(`http://${lab.unit(2).address}:7480/api/v1/host/requests`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ name, sizeBytes }),
    });
    return { status: answer.status, text: await answer.text() };
  };
  expect(await ask("asked", 64 * MIB)).toMatchObject({ status: 202 });
  expect(await ask("more", 64 * MIB)).toMatchObject({
    status: 403,
    text: expect.stringContaining("waits for 64 MiB of its 100 MiB, and asks for 64 MiB more"),
  });
  await at("/");
  await page.getByRole("link", { name: "Grant or refuse" }).click();
  expect(await examine(page, "hosts-requests")).toEqual([]);
  await click(`Grant asked for host-${lab.hostAddress}`);
  await seen(`host-${lab.hostAddress} has asked.`);
  const place = { host: lab.unit(1).address, port: 10809, name: "asked" };
  const client = await NbdClient.open(place, 10_000);
  await client.write(0, Buffer.alloc(4096, 9));
  expect((await client.read(0, 4096))[0]).toBe(9);
  client.close();
});

test("events and disks → filtered", async () => {
  await at("/events");
  await page.getByLabel("Words").fill("claimed");
  await click("Filter");
  await seen("the cluster was claimed through unit-1");
  expect(await page.getByRole("row").count()).toBe(2);
  await at("/disks");
  await page.getByLabel("Unit, path or state").fill("photos");
  await click("Search");
  expect(await page.getByRole("row").count()).toBe(2);
});

test("a unit dies → the open overview says so by itself, without being loaded again", async () => {
  await at("/");
  await seen("All is well");
  await page.evaluate("window.sameDocument = true");
  await lab.unit(3).kill();
  await page.getByText("1 unit (unit-3) is away").waitFor({ timeout: START_MS });
  expect(await page.evaluate("window.sameDocument")).toBe(true);
  expect(await examine(page, "overview-degraded")).toEqual([]);
  await at("/volumes/first");
  expect(await examine(page, "volume-degraded")).toEqual([]);
  lab.unit(3).start();
  await lab.until("one cluster again", () => assembled(lab), START_MS);
});

/** What a spare or a new place of a unit comes to, as unit 1 sees it. */
async function placed(name: string, place: { role: string; pool: string | null }): Promise<number> {
  const unit = (await lab.unit(1).api.units()).find((one) => one.name === name);
  if (unit === undefined) throw new NotYet(`${name} is not there`);
  const said = `${name} is ${unit.role} of ${unit.pool}`;
  need(unit.role === place.role && unit.pool === place.pool, said);
  return unit.unit;
}

test("two pools: a spare moved into one by hand, another comes to the other alone", async () => {
  for (let count = 0; count < 2; count++) lab.add({ role: "spare" });
  lab.unit(4).start();
  await lab.until("a spare", () => placed("unit-4", { role: "spare", pool: null }), START_MS);
  await lab.until("its disk", () => readyDisks(4), START_MS);
  await at("/pools");
  await page.getByLabel("Name of the pool").fill("archive");
  await click("Create pool");
  await seen("The pool archive is there");
  await page.getByLabel("Unit", { exact: true }).selectOption("unit-4");
  await page.getByLabel("To be").selectOption("member:archive");
  await click("Move the unit");
  await seen("unit-4 is a member of the pool archive now");
  const archived = await placed("unit-4", { role: "member", pool: "archive" });
  expect(await examine(page, "pools-two")).toEqual([]);

  await at("/volumes/new");
  await page.getByLabel("Name").fill("kept");
  await page.getByLabel("Size").fill("96M");
  await page.getByLabel("none").check();
  await page.getByLabel("Pool").selectOption("archive");
  await page.getByLabel("Address of a new host").fill(lab.hostAddress);
  await click("Preview");
  await seen("free in the pool archive");
  expect(await examine(page, "volume-preview-pools")).toEqual([]);
  await click("Create volume");
  await page.waitForURL(`${base}/volumes/kept`);
  const { slices } = await lab.unit(1).api.volume("kept");
  const members = slices.flatMap((slice) => slice.members.map(({ unit }) => unit));
  expect(new Set(members)).toEqual(new Set([archived]));
  const client = await NbdClient.open(
    { host: lab.unit(4).address, port: 10809, name: "kept" },
    10_000,
  );
  await client.write(32 * MIB, Buffer.alloc(4096, 5));
  expect((await client.read(32 * MIB, 4096)).every((byte) => byte === 5)).toBe(true);

  lab.unit(5).start();
  await lab.until("a spare", () => placed("unit-5", { role: "spare", pool: null }), START_MS);
  await lab.until("its disk", () => readyDisks(5), START_MS);
  await at("/settings");
  await page.getByLabel("Make a missing copy anew after").fill("2s");
  await click("Save the settings");
  await seen("The settings are saved.");
  const [first] = (await lab.unit(1).api.volume("first")).slices;
  const holders = (first?.members ?? []).map(({ unit }) => lab.unitOfNumber(unit));
  const dies = (await Promise.all(holders)).find((unit) => unit !== lab.unit(1)) as LabUnit;
  await at("/pools");
  await dies.kill();
  const used = () => placed("unit-5", { role: "member", pool: "pool" });
  await lab.until("the spare is used", used, START_MS);
  await page.getByText("unit-5").first().waitFor();
  expect(await placed("unit-4", { role: "member", pool: "archive" })).toBe(archived);
  expect(await examine(page, "pools-spare-used")).toEqual([]);
  expect((await client.read(32 * MIB, 4096))[0]).toBe(5);
  client.close();
  dies.start();
  await lab.until("one cluster again", () => assembled(lab), START_MS);
});

test("a viewer → sees every page of another unit, changes nothing; events say who", async () => {
  await at("/settings/users");
  const password = "seeing is believing";
  await page.getByLabel("Name of the user").fill("vera");
  await page.getByLabel("New password").first().fill(password);
  await click("Add user");
  await seen("vera can sign in.");
  await page.getByLabel("Name of the token").fill("screen");
  await click("Make a token");
  await seen("Shown this once.");
  expect(await examine(page, "users")).toEqual([]);

  await using looking = await Browser.open();
  const hers = await looking.page();
  const otherBase = `http://${lab.unit(2).address}:7480`;
  await hers.goto(`${otherBase}/login`);
  await hers.getByLabel("Name").fill("vera");
  await hers.getByLabel("Password").fill(password);
  await hers.getByRole("button", { name: "Sign in" }).click();
  await hers.waitForURL(`${otherBase}/`);
  for (const route of [...MAIN_PAGES, "/volumes/new", "/volumes/first", "/account"]) {
    await hers.goto(`${otherBase}${route}`);
    const name = `viewer${route.replaceAll("/", "-")}`;
    expect([route, await examine(hers, name)]).toEqual([route, []]);
  }
  await hers.goto(`${otherBase}/volumes/new`);
  expect(await hers.getByRole("button", { name: "Create volume" }).isDisabled()).toBe(true);

  await at("/events?actor=admin");
  await seen("volume kept was created");
  await seen("user vera was added");
  expect(await page.getByText("is the control station now").count()).toBe(0);
});

test("signed out → the way in; the password opens another unit, without client code", async () => {
  await at("/");
  await click("Sign out");
  await page.waitForURL(`${base}/login`);
  expect(await examine(page, "sign-in")).toEqual([]);
  await page.getByLabel("Password").fill("wrong password");
  await click("Sign in");
  await page.getByRole("alert").waitFor();
  await at("/volumes");
  expect(page.url()).toBe(`${base}/login`);

  await using plain = await Browser.open({ javaScriptEnabled: false });
  const other = await plain.page();
  const otherBase = `http://${lab.unit(2).address}:7480`;
  await other.goto(otherBase);
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.waitForURL(`${otherBase}/`);
  await other.goto(`${otherBase}/volumes/new`);
  await other.getByLabel("Name").fill("without-script");
  await other.getByLabel("Size").fill("32M");
  await other.getByRole("button", { name: "Create volume" }).click();
  await other.waitForURL(`${otherBase}/volumes/without-script`);
  const isOnline = async () => {
    const { availability, sentence } = await lab.unit(2).api.volume("without-script");
    need(availability === "online", `${availability}: ${sentence}`);
    return true;
  };
  await lab.until("the volume online", isOnline, START_MS);
});

test("another password → the old one no longer opens, at any unit", async () => {
  await at("/login");
  await page.getByLabel("Password").fill(PASSWORD);
  await click("Sign in");
  await page.waitForURL(`${base}/`);
  await at("/account");
  await page.getByLabel("Present password").fill(PASSWORD);
  await page.getByLabel("New password").fill("another good password");
  await click("Change the password");
  await seen("The password is set.");
  expect(await heading()).toBe("Account");
  await click("Sign out");
  await page.getByLabel("Password").fill(PASSWORD);
  await click("Sign in");
  await page.getByRole("alert").waitFor();
});

test("no page complained, but of refusals that were wanted", () => {
  const wanted = /the server responded with a status of 4\d\d/;
  expect(browser.complaints.filter((one) => !wanted.test(one))).toEqual([]);
});
