// SPDX-License-Identifier: Apache-2.0
//
// Completion as bash itself does it with our script, and that everything the pages can do the
// command line can do, by a table.

import { beforeAll, describe, expect, test } from "bun:test";
import { createApi } from "#appliance/api/api.ts";
import { MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import { consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { isConsolePath } from "#appliance/console/paths.ts";
import { bashCompletion } from "./completion.ts";
import { commands } from "./run.ts";

/** What bash offers after these words, the last one being typed. */
async function offered(...words: string[]): Promise<string[]> {
  const script =
    `${bashCompletion(commands)}\n` +
    `COMP_WORDS=(cairn ${words.map((word) => `'${word}'`).join(" ")})\n` +
    `COMP_CWORD=${words.length}\n_cairn\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
  const bash = Bun.spawn(["bash", "-eu", "-c", script], { stderr: "pipe", cwd: "/proc/self/net" });
  const [text, wrong] = await Promise.all([
    new Response(bash.stdout).text(),
    new Response(bash.stderr).text(),
  ]);
  expect([await bash.exited, wrong]).toEqual([0, ""]);
  return text.split("\n").filter((line) => line !== "");
}

describe("completion", () => {
  test("nouns, verbs, and no more words where none belongs", async () => {
    expect(await offered("vol")).toEqual(["volume"]);
    expect(await offered("host", "re")).toEqual(["remove", "request"]);
    expect(await offered("host", "--output", "json", "sh")).toEqual(["show"]);
    const first = await offered("");
    for (const { words } of commands) expect(first).toContain(words[0] as string);
  });

  test("flags of the command, also where a shorter one begins the same", async () => {
    expect(await offered("volume", "create", "one", "--si")).toEqual(["--size"]);
    expect(await offered("unit", "list", "--wa")).toEqual(["--watch"]);
    expect(await offered("unit", "--join-secret-f")).toEqual(["--join-secret-file"]);
    for (const { words, flags } of commands) {
      const seen = await offered(...words, "--");
      expect([words, seen]).toEqual([words, [...flags.map(({ name }) => `--${name}`), "--help"]]);
    }
  }, 60_000);

  test("values where there are a few; files; nothing where it may be anything", async () => {
    expect(await offered("volume", "create", "one", "--protection", "mirror-")).toEqual([
      "mirror-2",
      "mirror-3",
    ]);
    expect(await offered("status", "-o", "j")).toEqual(["json"]);
    expect(await offered("status", "--token-file", "route")).toContain("route");
    expect(await offered("volume", "create", "one", "--size", "")).toEqual([]);
  });
});

describe("everything the pages can do", () => {
  /** A page's action → the command that does the same. `null`: only a browser has it. */
  const ACTIONS: Record<string, string | null> = {
    "POST /claim": "claim",
    "POST /login": null, // a command brings its token along
    "POST /logout": null,
    "POST /account": "password set",
    "POST /volumes/new": "volume create",
    "POST /volumes/:id/assign": "volume assign",
    "POST /volumes/:id/revoke": "volume revoke",
    "POST /volumes/:id/grow": "volume grow",
    "POST /volumes/:id/rename": "volume rename",
    "POST /volumes/:id/delete": "volume delete",
    "POST /volumes/:id/restore": "volume restore",
    "POST /volumes/:id/go-on": "volume go-on",
    "POST /volumes/:id/discard/:number": "volume discard",
    "POST /hosts": "host add",
    "POST /hosts/requests": "request grant",
    "POST /hosts/:id": "host change",
    "POST /hosts/:id/assign": "volume assign",
    "POST /hosts/:id/revoke": "volume revoke",
    "POST /hosts/:id/policy": "host policy",
    "POST /hosts/:id/token": "host token",
    "POST /hosts/:id/remove": "host remove",
    "POST /hosts/:id/certificate": "host certificate",
    "POST /hosts/:id/certificate/revoke": "host certificate",
    "POST /settings": "setting set",
    "POST /settings/backup": "control backup",
    "POST /settings/update/load": "update load",
    "POST /settings/update/start": "update start",
    "POST /settings/update/stop": "update stop",
    "POST /settings/update/automatic": "update auto",
    "POST /settings/settle": "control settle",
    "POST /settings/users": "user add",
    "POST /settings/users/role": "user change",
    "POST /settings/users/password": "password set",
    "POST /settings/users/remove": "user remove",
    "POST /settings/users/tokens": "token add",
    "POST /settings/users/tokens/remove": "token remove",
    "POST /disks/claim": "disk claim",
    "POST /disks/:disk/retire": "disk retire",
    "POST /disks/:disk/return": "disk return",
    "POST /pools": "pool create",
    "POST /pools/move": "unit move",
    "POST /pools/:pool/delete": "pool delete",
    "POST /arrivals/admit": "unit admit",
    "POST /arrivals/open": "unit admit-all",
    "POST /arrivals/close": "unit admit-all",
    "POST /units/:unit/locate": "unit locate",
    "POST /disks/:disk/locate": "disk locate",
    "POST /units/:unit/evacuate": "unit evacuate",
    "POST /units/:unit/maintain": "unit maintenance",
    "POST /units/:unit/end-maintenance": "unit maintenance",
    "POST /units/:unit/keep": "unit keep",
    "POST /units/:unit/network": "box network",
    "POST /units/:unit/keep-network": "box keep",
    "POST /units/:unit/undo-network": "box undo",
    "POST /units/:unit/clock": "box clock",
    "POST /setup/time": "setting set",
    "POST /units/:unit/replace": "unit replace",
    "POST /units/:unit/remove": "unit remove",
    "POST /recovery/drill": "drill",
  };
  /** What a page shows → the command that shows the same. */
  const PAGES: Record<string, string | null> = {
    "GET /": "status",
    "GET /setup": "unit list",
    "GET /claim": "status",
    "GET /login": null,
    "GET /account": null,
    "GET /assets/*": null,
    "GET /pools": "pool list",
    "GET /ca.pem": "authority show",
    "GET /units": "unit list",
    "GET /disks": "disk list",
    "GET /disks/claim": "disk claim",
    "GET /disks/:disk": "disk list",
    "GET /units/:unit": "unit show",
    "GET /volumes": "volume list",
    "GET /volumes/new": "volume create",
    "GET /volumes/:id": "volume show",
    "GET /volumes/:id/delete": "volume delete",
    "GET /volumes/:id/go-on": "volume go-on",
    "GET /volumes/:id/discard/:number": "volume discard",
    "GET /hosts": "host list",
    "GET /hosts/:id": "host show",
    "GET /hosts/:id/remove": "host remove",
    "GET /recovery": "recovery all",
    "GET /settings": "setting list",
    "GET /settings/backups/:name": "control backup",
    "GET /settings/support-bundle": "support bundle",
    "GET /settings/update": "update status",
    "GET /settings/users": "user list",
    "GET /events": "event list",
    "GET /events/export": "event list",
  };
  let routes: string[];

  beforeAll(() => {
    const backend = new MemoryBackend();
    const parts = consoleParts(backend);
    const api = createApi(backend, { ...parts, timers: { after: () => () => undefined } });
    const pages = api.routes.filter(({ method, path }) => method !== "ALL" && isConsolePath(path));
    const names = pages.map(({ method, path }) => `${method} ${path}`);
    routes = [...new Set(names.map((name) => name.replace(/ \/assets\/.*/, " /assets/*")))];
  });

  test("the table names every page and every action of the console, and no other", () => {
    expect(routes.sort()).toEqual([...Object.keys(ACTIONS), ...Object.keys(PAGES)].sort());
  });

  /** Commands that change something and cannot be tried, and why. */
  const UNTRIED: Record<string, string> = {
    "update load": "nothing is installed by it",
    "host detach": "it says itself why it cannot, and takes nothing away that is in use",
    "control backup": "a copy more, and nothing else",
    "image stamp": "has one of its own",
    "secret new": "makes a file, and never over another one",
    "support bundle": "makes a file, and never over another one",
    "appliance network": "for the boot of a box",
    "appliance reset-if-asked": "for the boot of a box",
    ...Object.fromEntries(
      ["reboot", "poweroff", "network-reset", "factory-reset", "slot use"].map((words) => [
        `appliance ${words}`,
        "wants a word typed in full",
      ]),
    ),
    ...Object.fromEntries(
      ["unit", "witness", "screen", "recovery"].map((word) => [
        word,
        "runs until it is told to stop",
      ]),
    ),
  };
  /** The second word of those that only look. */
  const LOOKS = [
    "list",
    "show",
    "status",
    "waiting",
    "losses",
    "figures",
    "all",
    "schema",
    "logs",
    "backups",
  ];
  const LOOK = ["whoami", "status", "what-if", "version", "health", "replay", "completion", "man"];

  test("what changes something takes --dry-run, a list --watch", () => {
    const flagsOf = (name: string) =>
      commands.filter(({ flags }) => flags.some((f) => f.name === name));
    const dry = new Set(flagsOf("dry-run").map(({ words }) => words.join(" ")));
    const changing = commands
      .map(({ words }) => words.join(" "))
      .filter((name) => !LOOKS.includes(name.split(" ").at(-1) ?? "") && !LOOK.includes(name));
    const untried = changing.filter((name) => !dry.has(name));
    expect(untried.filter((name) => UNTRIED[name] === undefined)).toEqual([]);
    const watched = new Set(flagsOf("watch").map(({ words }) => words.join(" ")));
    const lists = commands
      .map(({ words }) => words.join(" "))
      .filter((name) => /^(?!appliance|config|authority).* (list|show|status|losses)$/.test(name));
    expect(lists.filter((name) => !watched.has(name))).toEqual([]);
  });

  test("what it names there is as a command", () => {
    const known = new Set(commands.map(({ words }) => words.join(" ")));
    const named = [...Object.values(ACTIONS), ...Object.values(PAGES)];
    expect(named.filter((name) => name !== null && !known.has(name))).toEqual([]);
    expect(known.has("request refuse")).toBe(true);
  });
});
