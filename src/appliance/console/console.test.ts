// SPDX-License-Identifier: Apache-2.0
//
// The pages over a Backend in memory: who gets in and how, what is refused, what the pages say, and
// that what they are made of is what a browser and a screen reader need. Long because every page is
// looked at by one signed-in browser that is made here.

import { beforeEach, describe, expect, test } from "bun:test";
import { type Api, createApi } from "#appliance/api/api.ts";
import { MEMORY_CODE, MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import { drillOver } from "#appliance/api/memory-drills-fixture.ts";
import { SupportBundleSchema } from "#appliance/support-bundle.ts";
import { consoleParts, UNIT_TOKEN } from "./console-parts-fixture.ts";
import { ROWS_OF_PAGE } from "./reading.ts";
import { IDLE_MS } from "./sessions.ts";
import { TRIES_MAX } from "./try-limit.ts";

const HOST = "cairn-0001:7480";
const PASSWORD = "correct horse battery";
const PAGE_BYTES_MAX = 200_000;

let backend: MemoryBackend;
let parts: ReturnType<typeof consoleParts>;
let api: Api;
let cookie: string;

beforeEach(() => {
  backend = new MemoryBackend();
  parts = consoleParts(backend);
  api = createApi(backend, { ...parts, timers: { after: () => () => undefined } });
  cookie = "";
});

const env = { asker: "anybody" as const, from: "10.0.0.9" };

async function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return api.request(path, { headers: { host: HOST, cookie, ...headers } }, env);
}

/** As a browser sends a form; what it is told to keep is kept. */
async function post(
  path: string,
  form: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Response> {
  const answer = await api.request(
    path,
    {
      method: "POST",
      headers: {
        host: HOST,
        origin: `http://${HOST}`,
        cookie,
        "content-type": "application/x-www-form-urlencoded",
        ...headers,
      },
      body: new URLSearchParams(form).toString(),
    },
    env,
  );
  const set = answer.headers.get("set-cookie");
  if (set !== null) cookie = set.split(";")[0] ?? "";
  return answer;
}

async function formToken(path = "/account"): Promise<string> {
  const html = await (await get(path)).text();
  return /name="token" value="([0-9a-f]+)"/.exec(html)?.[1] ?? "";
}

async function signIn(): Promise<void> {
  backend.ownerToken ??= "f".repeat(64);
  backend.password = PASSWORD;
  const answer = await post("/login", { password: PASSWORD });
  expect([answer.status, answer.headers.get("location")]).toEqual([303, "/"]);
}

async function text(path: string): Promise<string> {
  const answer = await get(path);
  expect([path, answer.status]).toEqual([path, 200]);
  return answer.text();
}

const led = async (answer: Response | Promise<Response>) => {
  const { status, headers } = await answer;
  return [status, headers.get("location")];
};

describe("ways in", () => {
  const PAGES = ["/", "/setup", "/units", "/disks", "/volumes", "/volumes/new", "/volumes/one"];

  test("no session → no page, but the way in: to claim, then to sign in", async () => {
    for (const path of [
      ...PAGES,
      "/recovery",
      "/events",
      "/account",
      "/volumes/one/delete",
      "/hosts",
    ]) {
      expect([path, await led(get(path))]).toEqual([path, [303, "/claim"]]);
    }
    backend.ownerToken = "f".repeat(64);
    expect(await led(get("/"))).toEqual([303, "/login"]);
    expect(await led(get("/claim"))).toEqual([303, "/login"]);
  });

  test("claimed by code and password → signed in, first steps, the token shown once", async () => {
    const answer = await post("/claim", { code: MEMORY_CODE, password: PASSWORD });
    expect(await led(answer)).toEqual([303, "/setup"]);
    expect(answer.headers.get("set-cookie")).toMatch(
      /^cairn-session=[0-9a-f]{64}; Path=\/; HttpOnly; SameSite=Strict$/,
    );
    expect(backend.password).toBe(PASSWORD);
    const token = backend.ownerToken as string;
    const first = await text("/setup");
    expect(first).toContain(token);
    expect(first).toContain("The cluster is yours.");
    for (const word of ["babad daba1", "it holds ext4", "Create volume"]) {
      expect(first).toContain(word);
    }
    const second = await text("/setup");
    expect(second).not.toContain(token);
    expect(second).not.toContain("The cluster is yours.");
  });

  test("claimed with another name → the cluster is called so", async () => {
    expect(await text("/claim")).toContain('name="cluster" type="text" value="attic"');
    await post("/claim", { code: MEMORY_CODE, password: PASSWORD, cluster: " cellar " });
    expect(backend.status().cluster?.name).toBe("cellar");
    expect(await text("/setup")).toContain("· cellar · Cairn</title>");
  });

  test("wrong code, short password, claimed already → said, nobody is signed in", async () => {
    const wrong = await post("/claim", { code: "sesame", password: PASSWORD });
    expect(wrong.status).toBe(403);
    expect(await wrong.text()).toContain("not this unit&#39;s claim code");
    const short = await post("/claim", { code: MEMORY_CODE, password: "short" });
    expect(short.status).toBe(400);
    expect(await short.text()).toContain("at least 10 characters");
    const named = { code: MEMORY_CODE, password: PASSWORD, cluster: "two words" };
    const badName = await post("/claim", named);
    expect(badName.status).toBe(400);
    const again = await badName.text();
    expect(again).toContain("name has letters, digits, dots");
    expect(again).toContain('value="two words"');
    expect(backend.claims).toHaveLength(1); // the short one cost no try
    backend.ownerToken = "f".repeat(64);
    expect((await post("/claim", { code: MEMORY_CODE, password: PASSWORD })).status).toBe(409);
    expect(cookie).toBe("");
  });

  test("the claim's form again, its answer was lost → signed in by the password", async () => {
    const form = { code: MEMORY_CODE, password: PASSWORD };
    await post("/claim", form);
    cookie = "";
    expect(await led(post("/claim", form))).toEqual([303, "/setup"]);
    expect((await get("/volumes")).status).toBe(200);
    expect(backend.claims).toHaveLength(1);
  });

  test("a guessed password in the claim's form → nobody's, and the tries are limited", async () => {
    await post("/claim", { code: MEMORY_CODE, password: PASSWORD });
    cookie = "";
    const guess = async (password: string) =>
      (await post("/claim", { code: MEMORY_CODE, password })).status;
    const answers: number[] = [];
    for (let at = 0; at < 6; at++) answers.push(await guess(`a-long-password-${at}`));
    expect(answers).toEqual([409, 409, 409, 409, 409, 429]);
    expect([await guess(PASSWORD), cookie]).toEqual([429, ""]);
  });

  test("password, or a token → in; anything else → not; too often → 429", async () => {
    await signIn();
    cookie = "";
    expect((await post("/login", { password: UNIT_TOKEN })).status).toBe(303);
    cookie = "";
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const answer = await post("/login", { password: `wrong ${tries}` });
      expect([answer.status, answer.headers.get("set-cookie")]).toEqual([403, null]);
      expect(await answer.text()).not.toContain("wrong");
    }
    expect((await post("/login", { password: PASSWORD })).status).toBe(429);
    expect(cookie).toBe("");
  });

  test("a cookie brought along → another one after signing in (no fixation)", async () => {
    const planted = `cairn-session=${"ab".repeat(32)}`;
    cookie = planted;
    await signIn();
    expect(cookie).not.toBe(planted);
    expect(await led(get("/", { cookie: planted }))).toEqual([303, "/login"]);
    const before = cookie;
    await post("/login", { password: PASSWORD });
    expect(cookie).not.toBe(before);
    expect(await led(get("/", { cookie: before }))).toEqual([303, "/login"]);
  });

  test("signed out, idle too long, password changed elsewhere → out", async () => {
    await signIn();
    const kept = cookie;
    const out = await post("/logout", { token: await formToken() });
    expect(await led(out)).toEqual([303, "/login"]);
    expect(await led(get("/", { cookie: kept }))).toEqual([303, "/login"]);
    await signIn();
    parts.clock.atMs += IDLE_MS;
    expect(await led(get("/"))).toEqual([303, "/login"]);
    await signIn();
    backend.password = "changed at another unit";
    expect(await led(get("/"))).toEqual([303, "/login"]);
  });

  test("another password → the present one is asked for; others are out", async () => {
    await signIn();
    const other = cookie;
    cookie = "";
    await signIn();
    const token = await formToken();
    const change = (current: string) =>
      post("/account", { token, current, password: "a new password" });
    expect((await change("wrong")).status).toBe(403);
    expect(backend.password).toBe(PASSWORD);
    expect(await led(change(PASSWORD))).toEqual([303, "/account"]);
    expect(backend.password).toBe("a new password");
    expect(await text("/account")).toContain("The password is set.");
    expect(await led(get("/", { cookie: other }))).toEqual([303, "/login"]);
  });
});

describe("forged requests", () => {
  const create = { name: "one", size: "1G", protection: "none", intent: "create" };

  test("no Origin, a foreign one, no form token, a foreign one → 403, nothing done", async () => {
    await signIn();
    const token = await formToken();
    const filled = { ...create, token };
    const origins = ["http://evil.example", "null", `http://${HOST}.evil.example`, ""];
    for (const origin of origins) {
      expect([origin, (await post("/volumes/new", filled, { origin })).status]).toEqual([
        origin,
        403,
      ]);
    }
    expect((await post("/volumes/new", create)).status).toBe(403);
    const strange = await post("/volumes/new", { ...create, token: "0".repeat(64) });
    expect(strange.status).toBe(403);
    expect((await post("/login", { password: PASSWORD }, { origin: "null" })).status).toBe(403);
    const claim = { code: MEMORY_CODE, password: PASSWORD };
    expect((await post("/claim", claim, { origin: "http://evil.example" })).status).toBe(403);
    expect(backend.creations).toBe(0);
    expect((await post("/volumes/new", filled)).status).toBe(303);
  });

  test("a body of another type → 400", async () => {
    await signIn();
    const token = await formToken();
    const headers = { "content-type": "text/plain" };
    expect((await post("/volumes/new", { ...create, token }, headers)).status).toBe(400);
    expect(backend.creations).toBe(0);
  });

  test("every page → a policy without inline script or style, and no frame", async () => {
    await signIn();
    for (const path of ["/", "/volumes", "/account", "/volumes/nothing"]) {
      const answer = await get(path);
      const policy = answer.headers.get("content-security-policy") ?? "";
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain("unsafe");
      expect(answer.headers.get("cache-control")).toBe("no-store");
      const html = await answer.text();
      expect(html).not.toMatch(/<style|style="|<script(?! type="module" src="\/assets)/);
      expect(html).not.toMatch(/\son\w+=/);
    }
  });
});

describe("volumes", () => {
  const form = {
    name: "one",
    size: "1.5G",
    protection: "mirror-2",
    address: "10.0.0.7",
  };
  const send = async (path: string, more: Record<string, string>) =>
    post(path, { token: await formToken(), ...more });

  beforeEach(signIn);

  test("preview → shown and nothing made; create → its page with lines to attach", async () => {
    const preview = await send("/volumes/new", { ...form, intent: "preview" });
    expect(preview.status).toBe(200);
    const shown = await preview.text();
    expect(shown).toContain("nothing is made yet");
    expect(shown).toContain('value="1.5G"');
    expect(backend.creations).toBe(0);
    const made = await send("/volumes/new", { ...form, intent: "create" });
    expect(await led(made)).toEqual([303, "/volumes/one"]);
    expect(backend.volume("one").hosts).toEqual([{ host: 1, name: "host-10.0.0.7" }]);
    const html = await text("/volumes/one");
    for (const word of [
      "one is there.",
      "nbd-client 10.0.0.1 10809 /dev/nbd0 -name one",
      "server.host=10.0.0.1,server.port=10809,export=one",
      "&lt;host name=&quot;10.0.0.1&quot; port=&quot;10809&quot;/&gt;",
      "file=nbd://10.0.0.1/one,if=none",
      "disk 1 of cairn-0001",
      "online, protected",
    ]) {
      expect(html).toContain(word);
    }
  });

  test("what is refused → the form again as it was typed, with the reason", async () => {
    const tries: [Record<string, string>, number, string][] = [
      [{ ...form, size: "much" }, 400, "Size: such as 100G"],
      [{ ...form, name: "a/b" }, 400, "Name: letters, digits"],
      [{ ...form, address: "10.0.0.0/33" }, 400, "Addresses: an address or range"],
      [{ ...form, protection: "raid-5" }, 400, "Protection: "],
      [{ ...form, protection: "mirror-3" }, 507, "three copies need three units"],
    ];
    for (const [typed, status, words] of tries) {
      const answer = await send("/volumes/new", { ...typed, intent: "create" });
      const html = await answer.text();
      expect([answer.status, html.includes(words)]).toEqual([status, true]);
      expect(html).toContain(`value="${typed["name"]}"`);
    }
    expect(backend.creations).toBe(0);
    expect(backend.hosts.list()).toEqual([]);
  });

  test("for hosts that there are and a new one → theirs; sent again → no second host", async () => {
    await backend.hosts.add({ name: "db1", addresses: ["10.0.0.1"] });
    expect(await text("/volumes/new")).toContain('name="host" value="1"');
    await send("/volumes/new", { ...form, host: "1", intent: "create" });
    const names = backend.volume("one").hosts.map(({ name }) => name);
    expect(names).toEqual(["db1", "host-10.0.0.7"]);
    await send("/volumes/new", { ...form, name: "two", intent: "create" });
    expect(backend.volume("two").hosts.map(({ name }) => name)).toEqual(["host-10.0.0.7"]);
    await send("/volumes/new", { ...form, name: "three", address: "", intent: "create" });
    expect(backend.volume("three").hosts).toEqual([]);
    expect(backend.hosts.list()).toHaveLength(2);
  });

  test("its hosts → assigned and revoked on its page; unknown → 404, nothing done", async () => {
    await send("/volumes/new", { ...form, intent: "create" });
    await backend.hosts.add({ name: "db1", addresses: ["10.0.0.1"] });
    expect(await led(send("/volumes/one/assign", { host: "2" }))).toEqual([303, "/volumes/one"]);
    expect(await text("/volumes/one")).toContain("The host may use it.");
    expect(await led(send("/volumes/one/revoke", { host: "1" }))).toEqual([303, "/volumes/one"]);
    expect(backend.volume("one").hosts).toEqual([{ host: 2, name: "db1" }]);
    expect((await send("/volumes/one/assign", { host: "9" })).status).toBe(404);
    expect((await post("/volumes/one/revoke", { host: "2" })).status).toBe(403);
    expect(backend.volume("one").hosts).toHaveLength(1);
  });

  test("its last hour as charts that say what they show, and the ways to it", async () => {
    await backend.createVolume(
      { name: "one", sizeBytes: 1 << 30, protection: "none" },
      { dryRun: false },
    );
    const page = await text("/volumes/one");
    expect(page).toContain("Throughput over the last hour: now");
    expect(page).toContain("0.4 ms per read and 1.5 ms per write");
    expect(page).toContain("the longest took 2480 ms");
    expect(page).toContain("Not counted: what cairn-0002 served.");
    // A quarter of the hour without a request: the lines of times have a gap, throughput is zero.
    const paths = [...page.matchAll(/<path class="line \w+" d="([^"]+)"/g)].map((one) => one[1]);
    expect(paths.map((path) => path?.match(/M/g)?.length)).toEqual([1, 1, 2, 2, 2]);
    expect(page).toContain("straight: it heads most slices");
    expect(page.length).toBeLessThan(PAGE_BYTES_MAX / 2);
  });

  test("grown, previewed first; smaller, or nonsense → refused, as it was typed", async () => {
    await send("/volumes/new", { ...form, intent: "create" });
    const { sizeBytes } = backend.volume("one");
    const preview = await send("/volumes/one/grow", { size: "4G", intent: "preview" });
    const html = await preview.text();
    expect([preview.status, backend.volume("one").sizeBytes]).toEqual([200, sizeBytes]);
    expect(html).toContain("Preview: nothing has grown yet");
    expect(html).toContain("one gives hosts 4 GiB and takes up to");
    expect(html).toContain('value="4G"');
    const grown = send("/volumes/one/grow", { size: "4G", intent: "grow" });
    expect(await led(grown)).toEqual([303, "/volumes/one"]);
    expect(await text("/volumes/one")).toContain("one has 4G now.");
    expect(backend.volume("one").sizeBytes).toBe(4 * 2 ** 30);
    for (const [size, status] of [
      ["1G", 409],
      ["much", 400],
      ["2P", 507],
    ] as const) {
      const refused = await send("/volumes/one/grow", { size, intent: "grow" });
      expect([refused.status, await refused.text()]).toEqual([
        status,
        expect.stringContaining(`value="${size}"`),
      ]);
    }
    expect((await post("/volumes/one/grow", { size: "5G", intent: "grow" })).status).toBe(403);
    backend.volume("one").growingToBytes = 5 * 2 ** 30;
    expect(await text("/volumes/one")).toContain("4 GiB, growing to 5 GiB");
    expect(backend.volume("one").sizeBytes).toBe(4 * 2 ** 30);
  });

  test("renamed; another one's name, or none that is taken → refused, and said", async () => {
    await send("/volumes/new", { ...form, intent: "create" });
    expect(await led(send("/volumes/one/rename", { name: "uno" }))).toEqual([303, "/volumes/uno"]);
    expect(await text("/volumes/uno")).toContain("one is called uno.");
    await send("/volumes/new", { ...form, intent: "create" });
    expect((await send("/volumes/one/rename", { name: "uno" })).status).toBe(409);
    expect((await send("/volumes/one/rename", { name: "a b" })).status).toBe(400);
    expect(backend.volumes().map(({ name }) => name)).toEqual(["uno", "one"]);
  });

  test("deleted only when its name is typed", async () => {
    await send("/volumes/new", { ...form, intent: "create" });
    expect(await text("/volumes/one/delete")).toContain("For a day it can be taken back");
    expect((await send("/volumes/one/delete", { confirm: "two" })).status).toBe(400);
    expect(backend.volume("one").deletedAtMs).toBeNull();
    const kept = send("/volumes/one/delete", { confirm: "one" });
    expect(await led(kept)).toEqual([303, "/volumes/one"]);
    expect(await text("/volumes/one")).toContain("gone for good at 2026-01-02 00:00:00 UTC");
    expect(await text("/volumes")).toContain("deleted, can be taken back");
    expect(await led(send("/volumes/one/restore", {}))).toEqual([303, "/volumes/one"]);
    expect(backend.volume("one").deletedAtMs).toBeNull();
    expect(backend.volumes()).toHaveLength(1);
    const now = send("/volumes/one/delete", { confirm: "one", now: "yes" });
    expect(await led(now)).toEqual([303, "/volumes"]);
    expect(backend.volumes()).toHaveLength(0);
    expect((await get("/volumes/one")).status).toBe(404);
  });

  test("goes on without a copy, gives up what is kept: only when its name is typed", async () => {
    await send("/volumes/new", { ...form, intent: "create" });
    const volume = backend.volume("one");
    expect(await text("/volumes/one")).not.toContain("stands still");
    volume.goOn = { from: "disk 2 of cairn-2", costs: "what was written since is missing" };
    expect(await text("/volumes/one")).toContain("/volumes/one/go-on");
    expect(await text("/volumes/one/go-on")).toContain("what was written since is missing");
    expect((await send("/volumes/one/go-on", { confirm: "two" })).status).toBe(400);
    expect(volume.goOn).not.toBeNull();
    const went = send("/volumes/one/go-on", { confirm: "one" });
    expect(await led(went)).toEqual([303, "/volumes/one"]);
    expect(volume.goOn).toBeNull();
    expect((await send("/volumes/one/go-on", { confirm: "one" })).status).toBe(409);
    volume.kept = [
      {
        ...{ number: 1, name: "one@before-1", wentOnAtMs: 0, untilMs: null, readable: true },
        ...{ sentence: "one slice of it", bytes: 1, uris: ["nbd://10.0.0.1/one@before-1"] },
        slices: [{ slice: 1, index: 0, disk: 1, unit: 1, bytes: 1, there: true }],
      },
    ];
    expect(await text("/volumes/one")).toContain("nbd://10.0.0.1/one@before-1");
    expect(await text("/volumes/one/discard/1")).toContain("What only one@before-1 holds");
    expect((await get("/volumes/one/discard/2")).status).toBe(404);
    expect((await send("/volumes/one/discard/1", { confirm: "one" })).status).toBe(400);
    expect(volume.kept).toHaveLength(1);
    const gone = send("/volumes/one/discard/1", { confirm: "one@before-1" });
    expect(await led(gone)).toEqual([303, "/volumes/one"]);
    expect(volume.kept).toEqual([]);
  });

  test("a volume named as the form → its page by its number", async () => {
    const made = await send("/volumes/new", { ...form, name: "new", intent: "create" });
    expect(await led(made)).toEqual([303, "/volumes/1"]);
    expect(await text("/volumes/1")).toContain("<h1>new</h1>");
  });
});

describe("one disk", () => {
  beforeEach(signIn);

  test("shown with what lies on it; retired, and said; refused, and said why", async () => {
    const page = await text("/disks/2");
    expect(page).toContain("Retire this disk");
    expect(page).toContain("in use by this cluster");
    const token = await formToken("/disks/2");
    expect(await led(post("/disks/2/retire", { token }))).toEqual([303, "/disks/2"]);
    expect(backend.retired).toEqual([2]);
    expect(await text("/disks/2")).toContain("Disk 2 is being retired.");
    const again = await post("/disks/2/retire", { token });
    expect(again.status).toBe(409);
    expect(await again.text()).toContain("is being retired");
    expect(await led(post("/disks/2/return", { token }))).toEqual([303, "/disks/2"]);
    expect(backend.retired).toEqual([]);
  });

  test("bay, S.M.A.R.T. and the light at its bay; none, and said so", async () => {
    const page = await text("/disks/1");
    expect(page).toContain("Slot 03");
    expect(page).toContain("healthy, as it says itself, 34 °C");
    const token = await formToken("/disks/1");
    expect(await led(post("/disks/1/locate", { token }))).toEqual([303, "/disks/1"]);
    expect(backend.neighbours.lights.get(1)).toBe(true);
    expect(await text("/disks/1")).toContain("Switch the light at its bay off");
    await post("/disks/1/locate", { token, off: "yes" });
    expect(backend.neighbours.lights.get(1)).toBe(false);
    expect(await text("/disks/2")).toContain("its unit does not tell at the moment");
    expect((await post("/disks/2/locate", { token })).status).toBe(404);
  });

  test("not blank → used by its owner's word alone: its path typed in full", async () => {
    expect(await text("/disks")).toContain('href="/disks/claim?path=%2Fdisks%2Fother"');
    const place = "/disks/claim?path=%2Fdisks%2Fother";
    expect(await text(place)).toContain("it holds ext4. All that is on it is lost.");
    const token = await formToken(place);
    const wrong = await post(place, { token, confirm: "other" });
    expect([wrong.status, backend.neighbours.erased]).toEqual([400, []]);
    expect(await led(post(place, { token, confirm: "/disks/other" }))).toEqual([303, "/disks"]);
    expect(backend.neighbours.erased).toEqual(["/disks/other"]);
    expect((await get("/disks/claim?path=%2Fdev%2Fsda")).status).toBe(404);
    expect((await get("/disks/claim")).status).toBe(404);
  });

  test("no such disk, not ours, somebody else's form → nothing is done", async () => {
    for (const path of ["/disks/0", "/disks/77", "/disks/%2Fdev"]) {
      expect((await get(path)).status).toBe(404);
    }
    expect((await post("/disks/1/retire", { token: "f".repeat(64) })).status).toBe(403);
    expect(backend.retired).toEqual([]);
  });
});

describe("one unit", () => {
  beforeEach(signIn);

  test("shown with what its loss would mean; evacuated, and kept after all", async () => {
    const page = await text("/units/2");
    expect(page).toContain("If it were lost now");
    expect(page).toContain("no volume would notice");
    const token = await formToken("/units/2");
    const answer = post("/units/2/evacuate", { token, remove: "yes" });
    expect(await led(answer)).toEqual([303, "/units/2"]);
    expect([...backend.fleet.evacuated]).toEqual([[2, true]]);
    const going = await text("/units/2");
    expect(going).toContain("1 of 4 slices are moved; about 12 min more at the pace so far");
    expect(await text("/units")).toContain("1 of 4 slices moved");
    expect(await led(post("/units/2/keep", { token }))).toEqual([303, "/units/2"]);
    expect(backend.fleet.evacuated.size).toBe(0);
  });

  test("taken out for work, and back; refused with what stops, unless insisted on", async () => {
    const page = await text("/units/2");
    expect(page).toContain("Take it out for work");
    expect(backend.fleet.asked.at(-1)).toMatchObject({ maintenance: "cairn-0002" });
    const token = await formToken("/units/2");
    backend.fleet.isTight = true;
    const refused = await post("/units/2/maintain", { token, hours: "2" });
    expect([refused.status, await refused.text()]).toEqual([
      409,
      expect.stringContaining("one: offline while it is away"),
    ]);
    expect((await post("/units/2/maintain", { token, hours: "x", force: "yes" })).status).toBe(400);
    const begun = post("/units/2/maintain", { token, hours: "0.5", force: "yes" });
    expect(await led(begun)).toEqual([303, "/units/2"]);
    expect(backend.fleet.maintained.get(2)).toBe(1_800_000);
    expect(await text("/units/2")).toContain("it can be switched off or restarted");
    expect(await text("/units")).toContain("away, in maintenance");
    expect(await text("/")).toContain("cairn-0002 is in maintenance");
    expect(await led(post("/units/2/end-maintenance", { token }))).toEqual([303, "/units/2"]);
    expect(backend.fleet.maintained.size).toBe(0);
  });

  test("its network → tried, kept, taken back; what is wrong is said by its field", async () => {
    const page = await text("/units/1");
    for (const word of ["10.0.0.1/24", "DHCP, else link-local", "Try this network"]) {
      expect(page).toContain(word);
    }
    const token = await formToken("/units/1");
    const wish = { token, card: "eth0", by: "fixed", addresses: "10.0.0.5/24", dns: "" };
    const ask = (fields: Record<string, string>) =>
      post("/units/1/network", { ...wish, gateways: "10.0.0.254", ...fields });
    for (const [fields, said] of [
      [{ gateways: "10.9.9.9" }, "ateways 10.9.9.9: it lies in the network of none"],
      [{ addresses: "10.0.0.5" }, "an address with its prefix length"],
      [{ addresses: "" }, "at least one fixed address"],
      [{ card: "eth9" }, "one of its cards"],
    ] as [Record<string, string>, string][]) {
      const answer = await ask(fields);
      const page = await answer.text();
      expect([answer.status, page]).toEqual([400, expect.stringContaining(said)]);
      // What was typed is still there, and seen.
      expect(page).toContain('<details class="card" open=""><summary>Change its network');
      expect(page).toContain(`value="${fields["gateways"] ?? "10.0.0.254"}"`);
    }
    expect(backend.neighbours.trial).toBeNull();
    expect(await led(ask({}))).toEqual([303, "/units/1"]);
    const tried = await text("/units/1");
    expect(tried).toContain("http://10.0.0.5:7480/units/1#box");
    expect(tried).toContain("taken back in 120 seconds");
    expect(await led(post("/units/1/keep-network", { token }))).toEqual([303, "/units/1"]);
    expect(backend.neighbours.network).toEqual([
      { interface: "eth0", addresses: ["10.0.0.5/24"], gateways: ["10.0.0.254"], dns: [] },
    ]);
    expect(await led(ask({ by: "dhcp" }))).toEqual([303, "/units/1"]);
    expect(backend.neighbours.trial).toEqual([]);
    expect(await led(post("/units/1/undo-network", { token }))).toEqual([303, "/units/1"]);
    expect((await post("/units/1/undo-network", { token })).status).toBe(409);
  });

  test("its clock → set by hand, unless it is kept; a program's is its machine's", async () => {
    expect(await text("/units/1")).toContain("nobody keeps it right");
    const token = await formToken("/units/1");
    expect((await post("/units/1/clock", { token, time: "noon" })).status).toBe(400);
    const set = post("/units/1/clock", { token, time: "2026-11-28T20:15" });
    expect(await led(set)).toEqual([303, "/units/1"]);
    expect(backend.neighbours.wallMs).toBe(Date.UTC(2026, 10, 28, 20, 15));
    backend.neighbours.isClockKept = true;
    expect(await text("/units/1")).not.toContain("Set the clock");
    expect((await post("/units/1/clock", { token, time: "2026-11-28 20:16" })).status).toBe(409);
    backend.neighbours.isAppliance = false;
    const page = await text("/units/1");
    expect(page).toContain("is a program on somebody&#39;s machine");
    expect(page).not.toContain("Try this network");
    expect(await text("/units/2")).toContain("does not tell of its network and clock");
  });

  test("first steps → network, clock and the time servers of all boxes", async () => {
    expect(await text("/setup")).toContain("3. Network and time");
    const token = await formToken("/setup");
    const time = (servers: string) => post("/setup/time", { token, servers });
    expect(await led(time("10.0.0.1"))).toEqual([303, "/setup#box"]);
    expect(backend.settings().timeServers).toBe("10.0.0.1");
    const wrong = await time("10.0.0.999");
    expect([wrong.status, await wrong.text()]).toEqual([
      400,
      expect.stringContaining("names or addresses, such as"),
    ]);
    expect(await led(time(""))).toEqual([303, "/setup#box"]);
    expect(backend.settings().timeServers).toBeNull();
  });

  test("its figures, its drives, its screen; one that is away is said to be silent", async () => {
    const page = await text("/units/1");
    expect(page).toContain("18 % of 4 cores");
    expect(page).toContain("Samplium 4000, S4-0001, flash");
    const token = await formToken("/units/1");
    expect(await led(post("/units/1/locate", { token }))).toEqual([303, "/units/1"]);
    expect(backend.neighbours.searched.get(1)).toBe(true);
    expect(await text("/units/1")).toContain("Found: screen as usual");
    await post("/units/1/locate", { token, off: "yes" });
    expect(backend.neighbours.searched.get(1)).toBe(false);
    expect(await text("/units/2")).toContain("does not tell how it is at the moment");
    expect((await post("/units/2/locate", { token })).status).toBe(503);
  });

  test("no room, or protection lost → said; done only when it is insisted on", async () => {
    backend.fleet.isTight = true;
    const token = await formToken("/units/2");
    const evacuated = await post("/units/2/evacuate", { token });
    expect([evacuated.status, await evacuated.text()]).toEqual([
      507,
      expect.stringContaining("there is no room"),
    ]);
    const confirm = "cairn-0002";
    const removed = await post("/units/2/remove", { token, confirm });
    expect([removed.status, await removed.text()]).toEqual([
      409,
      expect.stringContaining("goes on with a copy fewer"),
    ]);
    expect((await post("/units/2/remove", { token, confirm: "2", force: "yes" })).status).toBe(400);
    expect(backend.fleet.removed).toEqual([]);
    const forced = post("/units/2/remove", { token, confirm, force: "yes" });
    expect(await led(forced)).toEqual([303, "/units"]);
    expect(backend.fleet.removed).toEqual([[2, true]]);
  });

  test("two units → what stops when which one fails, and a third vote is offered", async () => {
    const page = await text("/units");
    expect(page).toContain("If one of them failed now");
    expect(page).toContain("the control store stops");
    expect(page).toContain("cairn witness");
    expect(await text("/setup")).toContain("cairn witness");
    expect(await text("/")).toContain("A third vote, on any Linux machine");
  });

  test("a drill: what it does stands there before it is begun, then what was seen", async () => {
    const before = await text("/recovery");
    expect(before).toContain("Its head falls silent.");
    expect(before).not.toContain("The drill of");
    const token = await formToken("/recovery");
    const begun = post("/recovery/drill", { token, unit: "cairn-0002" });
    expect(await led(begun)).toEqual([303, "/recovery"]);
    expect(backend.drills.begun).toEqual(["cairn-0002"]);
    expect(await text("/recovery")).toContain("under way");
    backend.drills.next.push(drillOver());
    expect(await text("/recovery")).toContain("a host waited 2.6 s");
    backend.drills.refusal = "only one has one in this pool";
    expect(await text("/recovery")).toContain("No drill can be done now");
    expect((await post("/recovery/drill", { token, unit: "" })).status).toBe(507);
    expect((await post("/recovery/drill", { token: "0".repeat(64) })).status).toBe(403);
  });

  test("replaced by another one; no such unit; a form of somebody else's", async () => {
    const token = await formToken("/units/2");
    const replaced = post("/units/2/replace", { token, by: "cairn-0001" });
    expect(await led(replaced)).toEqual([303, "/units/2"]);
    expect(backend.fleet.replaced).toEqual([[2, 1]]);
    expect((await get("/units/77")).status).toBe(404);
    expect((await post("/units/1/evacuate", { token: "0".repeat(64) })).status).toBe(403);
  });
});

describe("pools", () => {
  const send = async (path: string, more: Record<string, string>) =>
    post(path, { token: await formToken(), ...more });

  beforeEach(signIn);

  test("made, units moved into it, chosen for a new volume, deleted when empty", async () => {
    expect(await text("/volumes/new")).not.toContain('name="pool"');
    expect(await led(send("/pools", { name: " archive " }))).toEqual([303, "/pools"]);
    expect(await text("/pools")).toContain("Delete the pool archive");
    const place = "member:archive";
    const moved = send("/pools/move", { unit: "cairn-0002", place });
    expect(await led(moved)).toEqual([303, "/pools"]);
    expect(backend.fleet.placeOf(2)).toEqual({ role: "member", pool: "archive" });
    const page = await text("/pools");
    expect(page).not.toContain("Delete the pool archive");
    expect(page).toContain("10 GiB as none");
    expect(await text("/units")).toContain("member of archive, control station, voter");
    expect(await text("/volumes/new")).toContain("In archive at most 10 GiB as none.");
    const volume = { name: "kept", size: "1G", protection: "none", pool: "archive" };
    const made = send("/volumes/new", { ...volume, intent: "create" });
    expect(await led(made)).toEqual([303, "/volumes/kept"]);
    expect(backend.volume("kept").pool).toBe("archive");
    await backend.deleteVolume("kept", { graceMs: 0 });
    expect(await led(send("/pools/move", { unit: "2", place: "spare:" }))).toEqual([303, "/pools"]);
    expect(await text("/pools")).toContain("Spares for all pools");
    expect(await led(send("/pools/archive/delete", {}))).toEqual([303, "/pools"]);
    expect(backend.pools.list()).toHaveLength(1);
  });

  test("a bad name, no place, no room, no unit → said, nothing changed", async () => {
    backend.fleet.isTight = true;
    for (const [path, form, status, words] of [
      ["/pools", { name: "no blanks" }, 400, "letters, digits"],
      ["/pools", { name: "pool" }, 409, "a pool named pool exists"],
      ["/pools/move", { unit: "cairn-0002", place: "other" }, 400, "Choose a place"],
      ["/pools/move", { unit: "cairn-0002", place: "member:pool" }, 507, "there is no room"],
      ["/pools/move", { unit: "nobody", place: "member:pool" }, 404, "There is no unit nobody"],
      ["/pools/pool/delete", {}, 409, "it stays"],
    ] as const) {
      const answer = await send(path, form);
      const said = [path, answer.status, await answer.text()];
      expect(said).toEqual([path, status, expect.stringContaining(words)]);
    }
    expect(backend.fleet.places.size).toBe(0);
  });
});

describe("hosts", () => {
  const send = async (path: string, more: Record<string, string>) =>
    post(path, { token: await formToken(), ...more });
  const DB1 = { name: "db1", addresses: " 10.0.0.1 ,\nfd00::/64" };

  beforeEach(signIn);

  test("added → its page; refused → the form as it was typed, with the reason", async () => {
    expect(await text("/hosts")).toContain("There is no host yet.");
    expect(await led(send("/hosts", DB1))).toEqual([303, "/hosts/1"]);
    expect(backend.hosts.one("db1").addresses).toEqual(["10.0.0.1", "fd00::/64"]);
    expect(await text("/hosts/1")).toContain("it sees nothing");
    const tries: [Record<string, string>, number, string][] = [
      [{ ...DB1, name: "a/b" }, 400, "Name: letters, digits"],
      [{ name: "db2", addresses: "nowhere" }, 400, "Addresses: an address or range"],
      [{ name: "db2", addresses: "10.0.0.9 ".repeat(65) }, 400, "Addresses: at most 64"],
      [{ name: "db2", addresses: "10.0.0.1" }, 409, "10.0.0.1 is host db1 already"],
    ];
    for (const [typed, status, words] of tries) {
      const answer = await send("/hosts", typed);
      const html = await answer.text();
      expect([answer.status, html.includes(words)]).toEqual([status, true]);
      expect(html).toContain(`value="${typed["name"]}"`);
    }
    expect(backend.hosts.list()).toHaveLength(1);
  });

  test("assigned, changed, revoked; what it has attached is shown", async () => {
    await send("/hosts", DB1);
    const wish = { name: "one", sizeBytes: 1 << 30, protection: "none" as const };
    await backend.createVolume(wish, { dryRun: false });
    expect(await led(send("/hosts/1/assign", { volume: "1" }))).toEqual([303, "/hosts/1"]);
    backend.hosts.attach("db1", {
      volume: 1,
      address: "10.0.0.1",
      tls: false,
      certificate: null,
      connections: 3,
    });
    const html = await text("/hosts/1");
    expect(html).toContain('aria-label="Revoke one"');
    expect(html).toContain("<code>10.0.0.1</code>");
    await send("/hosts/1", { name: "db2", addresses: "10.0.0.2" });
    expect(backend.hosts.one("db2").addresses).toEqual(["10.0.0.2"]);
    expect((await send("/hosts/1", { name: "db2", addresses: "x" })).status).toBe(400);
    await send("/hosts/1/revoke", { volume: "1" });
    expect(backend.volume("one").hosts).toEqual([]);
    expect((await send("/hosts/1/assign", { volume: "9" })).status).toBe(404);
  });

  test("a certificate → shown in its answer alone, with its key; revoked", async () => {
    expect(await led(send("/hosts", { name: "db1", addresses: "" }))).toEqual([303, "/hosts/1"]);
    const answer = await send("/hosts/1/certificate", {});
    const made = await answer.text();
    expect([answer.status, made.includes("BEGIN PRIVATE KEY")]).toEqual([200, true]);
    const [issued] = backend.hosts.one("db1").certificates;
    const html = await text("/hosts/1");
    expect(html).not.toContain("PRIVATE KEY");
    expect(html).toContain(issued?.fingerprint.slice(0, 16) ?? "-");
    const fingerprint = issued?.fingerprint ?? "";
    expect(await led(send("/hosts/1/certificate/revoke", { fingerprint }))).toEqual([
      303,
      "/hosts/1",
    ]);
    expect(backend.hosts.one("db1").certificates).toEqual([]);
    expect((await send("/hosts/1/certificate/revoke", { fingerprint })).status).toBe(404);
    expect((await send("/hosts/9/certificate", {})).status).toBe(404);
  });

  test("policy and token → saved; the token is shown once, to a person", async () => {
    await send("/hosts", DB1);
    const policy = { quota: "500G", "may-ask": "mirror-2", grants: "yes" };
    expect(await led(send("/hosts/1/policy", policy))).toEqual([303, "/hosts/1"]);
    expect(backend.hosts.one("db1").policy).toEqual({
      quotaBytes: 500 * 2 ** 30,
      protections: ["mirror-2"],
      pools: [],
      grants: true,
    });
    expect(await text("/hosts/1")).toContain('id="quota" name="quota" type="text" value="500G"');
    // One pool is no choice.
    expect(await text("/hosts/1")).not.toContain("Pools that it may ask in");
    await backend.pools.create("archive");
    expect(await text("/hosts/1")).toContain("Pools that it may ask in");
    await send("/hosts/1/policy", { ...policy, "in-pool": "archive" });
    expect(backend.hosts.one("db1").policy.pools).toEqual(["archive"]);
    expect(await text("/hosts/1")).toMatch(/name="in-pool" value="archive" checked/);
    for (const wrong of [{ quota: "much" }, { ...policy, "may-ask": "raid-5" }]) {
      expect((await send("/hosts/1/policy", wrong)).status).toBe(400);
    }
    expect(await led(send("/hosts/1/token", { intent: "make" }))).toEqual([303, "/hosts/1"]);
    const token = /id="host-token-text"[^>]*><code>([0-9a-f]{64})</;
    const shown = (html: string) => token.exec(html)?.[1];
    const byItself = await (await get("/hosts/1", { "x-cairn-look": "1" })).text();
    expect(shown(byItself)).toBe(shown(await text("/hosts/1")) as string);
    expect(shown(await text("/hosts/1"))).toBeUndefined();
    await send("/hosts/1/token", { intent: "void" });
    expect(backend.hosts.one("db1").hasToken).toBe(false);
  });

  test("requests → granted and refused by a click, told on the overview", async () => {
    await send("/hosts", DB1);
    await send("/hosts/1/policy", { quota: "10G" });
    for (const name of ["data", "more"]) {
      await backend.hosts.ask(1, { name, sizeBytes: 1 << 30, protection: "mirror-2" });
    }
    expect(await text("/")).toContain("2 requests of hosts for a volume.");
    expect(await text("/hosts")).toContain('aria-label="Grant data for db1"');
    await send("/hosts/requests", { request: "1", answer: "grant" });
    expect(await text("/hosts")).toContain("db1 has data.");
    await send("/hosts/requests", { request: "2", answer: "refuse" });
    expect(backend.hosts.requests().map(({ state }) => state)).toEqual(["granted", "refused"]);
    expect(backend.volume("data").hosts).toEqual([{ host: 1, name: "db1" }]);
    expect((await send("/hosts/requests", { request: "2", answer: "grant" })).status).toBe(409);
    expect((await send("/hosts/requests", { request: "x", answer: "grant" })).status).toBe(404);
  });

  test("removed only when its name is typed", async () => {
    await send("/hosts", DB1);
    expect(await text("/hosts/1/remove")).toContain("No volume is touched");
    expect((await send("/hosts/1/remove", { confirm: "db2" })).status).toBe(400);
    expect(await led(send("/hosts/1/remove", { confirm: "db1" }))).toEqual([303, "/hosts"]);
    expect((await get("/hosts/1")).status).toBe(404);
  });
});

describe("pages", () => {
  beforeEach(signIn);

  test("what people named is escaped", async () => {
    backend.say("alarm", '<script>alert(1)</script> & "quotes"');
    const html = await text("/events");
    expect(html).toContain("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;");
    expect(html).toContain("2026-01-01 00:00:01");
  });

  test("overview → health in words, capacity, what to do next", async () => {
    const html = await text("/");
    for (const word of [
      "Hosts are served, but something needs attention.",
      "1 unit (cairn-0002) is away",
      "20 GiB <span>free of 20 GiB",
      "There is no volume yet.",
      "1 disk not in use.",
    ]) {
      expect(html).toContain(word);
    }
  });

  test("overview → what the owner must decide, and what each answer loses", async () => {
    expect(await text("/")).not.toContain("For you to decide");
    const answers = [{ answer: "yes: cairn disk return 3", costs: "nothing" }];
    backend.fleet.open = [{ about: "disk 3", sentence: "is <disk 3> used again?", answers }];
    const html = await text("/");
    expect(html).toContain("For you to decide");
    expect(html).toContain("is &lt;disk 3&gt; used again?");
    expect(html).toContain("Loses: nothing.");
  });

  test("control station away → every page says how old it is", async () => {
    backend.staleMs = 4200;
    for (const path of ["/", "/volumes", "/units", "/recovery"]) {
      const answer = await get(path);
      expect(answer.headers.get("x-cairn-stale-ms")).toBe("4200");
      expect(await answer.text()).toContain("is 4 s old");
    }
  });

  test("unit in no cluster → pages that can, say what they know", async () => {
    backend.inCluster = false;
    for (const path of ["/", "/setup", "/units", "/disks", "/volumes", "/recovery"]) {
      await text(path);
    }
    expect(await text("/disks")).toContain("it holds ext4");
    expect(await text("/units")).toContain("in no cluster yet");
  });

  test("units without a secret → shown with their words", async () => {
    const words = ["robin", "tulip"];
    backend.arrivals.waiting = [
      { unitId: "ab".repeat(16), name: "new-box", version: "1", address: "::1", words },
    ];
    for (const path of ["/units", "/setup"]) expect(await text(path)).toContain("robin tulip");
  });

  test("a unit that waits is let in by its words; a window opened and closed", async () => {
    const words = ["robin", "tulip"];
    const box = { unitId: "ab".repeat(16), name: "new-box", version: "1", address: "::1", words };
    expect(await text("/units")).toContain("No box without a join secret is heard");
    backend.arrivals.waiting = [box];
    const send = async (path: string, more: Record<string, string>) =>
      post(`/arrivals/${path}`, { token: await formToken("/units"), ...more });
    const wrong = await send("admit", { words: "robin rose" });
    expect([wrong.status, (await wrong.text()).includes("unit with these words")]).toEqual([
      404,
      true,
    ]);
    expect(await led(send("admit", { words: "robin tulip" }))).toEqual([303, "/units"]);
    expect(await text("/units")).toContain("new-box has the join secret");
    expect((await send("open", { limit: "many" })).status).toBe(400);
    expect(await led(send("open", { limit: "3" }))).toEqual([303, "/units"]);
    expect(backend.arrivals.window).toEqual({ secondsLeft: 600, unitsLeft: 3 });
    expect(await text("/units")).toContain("for 600 seconds more, 3 at most");
    expect(await led(send("close", {}))).toEqual([303, "/units"]);
    expect(backend.arrivals.window).toBeNull();
    expect((await post("/arrivals/close", { token: "0".repeat(64) })).status).toBe(403);
  });

  test("events → filtered by weight and words", async () => {
    backend.say("info", "a quiet thing");
    backend.say("alarm", "a loud thing");
    const loud = await text("/events?severity=alarm");
    expect([loud.includes("a loud thing"), loud.includes("a quiet thing")]).toEqual([true, false]);
    const quiet = await text("/events?q=QUIET");
    expect([quiet.includes("a loud thing"), quiet.includes("a quiet thing")]).toEqual([
      false,
      true,
    ]);
  });

  test("events → taken away as CSV and JSON, filtered alike; no cell is a formula", async () => {
    backend.say("info", '=HYPERLINK("http://evil")');
    backend.say("alarm", 'volume "one", lost');
    const csv = await get("/events/export?format=csv&severity=info");
    expect(csv.headers.get("content-type")).toContain("text/csv");
    expect(csv.headers.get("content-disposition")).toContain("cairn-events.csv");
    const lines = (await csv.text()).split("\r\n");
    expect(lines[0]).toBe('"number","time","severity","kind","sentence","actor"');
    expect(lines[1]).toContain('"alarm","test","volume ""one"", lost"');
    expect(lines.join()).toContain(`"'=HYPERLINK(""http://evil"")"`);
    const json = await get("/events/export?format=json&severity=alarm");
    expect(((await json.json()) as { events: object[] }).events).toMatchObject([
      { severity: "alarm", sentence: 'volume "one", lost' },
    ]);
    cookie = "";
    expect((await get("/events/export")).status).toBe(303);
  });

  test("recovery → what all units copy, with the time left; what a loss means", async () => {
    const resync = { slice: 4, volume: 1, target: 2, doneBytes: 1 << 20, totalBytes: 1 << 30 };
    const resyncs = [
      { ...resync, leftMs: 95_000, unit: 1 },
      { ...resync, slice: 5, leftMs: null, unit: 1 },
    ];
    backend.neighbours.copied = { resyncs, missing: [2] };
    backend.deadline = { withinMs: 3_600_000, problems: ["two is late"], unknown: [] };
    const page = await text("/recovery");
    expect(page).toMatch(/Protected again within 1h[^]*two is late/);
    expect(page).toContain("about 2 min");
    expect(page).toContain("not known yet");
    expect(page).toContain("Not listed: what cairn-0002 copies.");
    expect(page).not.toContain("no volume would notice");
    expect(await text("/recovery?lose=unit:cairn-0001")).toContain("no volume would notice");
    expect(backend.fleet.asked.at(-1)).toEqual({ unit: "cairn-0001" });
    expect(await text("/recovery?lose=disk:1")).toContain("no volume would notice");
    expect(await text("/recovery?lose=unit:nobody")).toContain("There is no unit nobody");
  });

  test("settings → those typed anew are changed; nonsense is not", async () => {
    const send = async (more: Record<string, string>) =>
      post("/settings", { token: await formToken("/settings"), ...more });
    expect(await text("/settings")).toContain('name="scrubEveryMs" type="text" value="14d"');
    const before = backend.settings();
    await send({ scrubEveryMs: "14d", groupAddress: "none" });
    expect(await text("/settings")).toContain("Nothing was changed.");
    expect(backend.settings()).toEqual(before);
    await send({ scrubEveryMs: "7d", groupAddress: "10.0.0.50", diskErrorsMax: "50" });
    const changed = { scrubEveryMs: 7 * 86_400_000, groupAddress: "10.0.0.50" };
    expect(backend.settings()).toEqual({ ...before, ...changed });
    for (const [typed, words] of [
      [{ scrubEveryMs: "often" }, "Read every block at least every: scrubEveryMs is not"],
      [{ groupAddress: "127.0.0.1" }, "Group address: one address of a machine"],
      [{ groupAddress: "10.0.0.0/24" }, "Group address: one address of a machine"],
    ] as [Record<string, string>, string][]) {
      const answer = await send(typed);
      expect([answer.status, (await answer.text()).includes(words)]).toEqual([400, true]);
    }
    expect(backend.settings()).toEqual({ ...before, ...changed });
  });

  test("settings → in groups, each once; yes or no is chosen, not typed", async () => {
    const page = await text("/settings");
    for (const name of Object.keys(backend.settings())) {
      expect([name, page.split(` name="${name}"`).length - 1]).toEqual([name, 1]);
    }
    expect(page).toMatch(/<select id="httpsOnly"[^>]*><option value="no" selected/);
  });

  test("support bundle → handed out whole, to whoever is signed in", async () => {
    const file = await get("/settings/support-bundle");
    expect(file.headers.get("content-disposition")).toContain("cairn-support.json");
    expect(SupportBundleSchema.safeParse(await file.json()).success).toBe(true);
    cookie = "";
    expect((await get("/settings/support-bundle")).status).toBe(303);
  });

  test("update → loaded, planned with what it costs, started, stopped, by itself", async () => {
    const { update } = backend;
    expect(await text("/settings/update")).toContain("No update is loaded");
    const token = await formToken("/settings/update");
    const send = (word: string, more: Record<string, string> = {}) =>
      post(`/settings/update/${word}`, { token, ...more });
    expect((await send("load", { source: " " })).status).toBe(400);
    await send("load", { source: "/media/stick/cairn-0.2.0" });
    expect(update.loads).toEqual(["/media/stick/cairn-0.2.0"]);
    expect(await text("/settings/update")).toContain("loads from /media/stick/cairn-0.2.0");
    const roll = { version: "0.2.0", state: "loaded" as const, sentence: "ready", current: null };
    update.state = { ...update.state, work: null, roll: { ...roll, done: [], waiting: [1, 2] } };
    update.consequences = ["one: offline while box1 restarts"];
    update.refusals = ["box2 is away"];
    const page = await text("/settings/update");
    for (const words of [
      "box2, box1",
      "one: offline while box1 restarts",
      "Not now: box2 is away",
    ]) {
      expect(page).toContain(words);
    }
    await send("start", { accept: "yes" });
    expect(update.starts).toEqual([{ version: null, only: null, accept: true, downgrade: false }]);
    expect(await text("/settings/update")).toContain("Stop the update");
    await send("stop");
    expect(update.state.roll?.state).toBe("stopped");
    expect((await send("automatic", { auto: "yes", from: "late", to: "" })).status).toBe(400);
    await send("automatic", { auto: "yes", from: "02:00", to: "04:00" });
    expect(update.state.automatic).toEqual({ auto: true, window: { from: "02:00", to: "04:00" } });
    update.state = { ...update.state, appliance: false };
    const program = await text("/settings/update");
    expect(program).toContain("is a program on somebody&#39;s machine");
    expect(program).not.toContain('name="source"');
  });

  test("backups of the control state → shown, taken, handed out when signed in", async () => {
    expect(await text("/settings")).toContain("No unit has kept one yet.");
    await post("/settings/backup", { token: await formToken("/settings") });
    const page = await text("/settings");
    expect(page).toContain("attic: 2026-01-02 00:00:00 UTC");
    expect(page).toContain('href="/settings/backups/control-backup-0"');
    const file = await get("/settings/backups/control-backup-0");
    expect(file.headers.get("content-type")).toBe("application/octet-stream");
    expect(await file.text()).toBe("a sealed backup");
    expect((await get("/settings/backups/identity.json")).status).toBe(404);
    expect(page).not.toContain("/settings/settle");
  });

  test("a rebuilt control state → asked whether all disks are there, and settled", async () => {
    backend.control.told = 2;
    expect(await text("/settings")).toContain('action="/settings/settle"');
    await post("/settings/settle", { token: await formToken("/settings") });
    expect(backend.control.gathering).toBe(false);
    expect(await text("/settings")).toContain("Volumes go on by what 2 disks told.");
  });

  test("many volumes → in parts, found by name, no page over 200 KB", async () => {
    const request = { sizeBytes: 1 << 30, protection: "none" as const };
    for (let at = 0; at < 2000; at++) {
      await backend.createVolume({ ...request, name: `volume-${at}` }, { dryRun: false });
    }
    const first = await text("/volumes");
    expect(first.match(/href="\/volumes\/volume-/g)).toHaveLength(ROWS_OF_PAGE);
    expect(first).toContain("Page 1 of 40, 2000 in all");
    expect(await text("/volumes?page=40")).toContain("volume-1999");
    expect(await text("/volumes?page=999")).toContain("volume-1999");
    expect(await text("/volumes?q=volume-1234")).toContain("volume-1234");
    for (const path of ["/", "/volumes", "/events", "/disks", "/recovery", "/volumes/volume-1"]) {
      expect((await text(path)).length).toBeLessThan(PAGE_BYTES_MAX);
    }
  });

  test("every field has its label, every table caption and heads, one h1", async () => {
    await backend.createVolume(
      { name: "one", sizeBytes: 1 << 30, protection: "none" },
      { dryRun: false },
    );
    for (const [at, name] of ["db1", "db2"].entries()) {
      await backend.hosts.add({ name, addresses: [`10.0.0.${at}`] });
    }
    await backend.hosts.assign("one", "db1");
    const paths = [
      "/disks/1",
      "/units/1",
      "/pools",
      "/settings",
      "/hosts",
      "/hosts/1",
      "/hosts/1/remove",
      "/",
      "/setup",
      "/units",
      "/disks",
      "/volumes",
      "/volumes/new",
      "/volumes/one",
    ];
    for (const path of [...paths, "/volumes/one/delete", "/recovery", "/events", "/account"]) {
      const html = await text(path);
      const ids = [...html.matchAll(/\sid="([^"]+)"/g)].map((match) => match[1]);
      expect([path, new Set(ids).size]).toEqual([path, ids.length]);
      for (const [field] of html.matchAll(/<(input|select|textarea)\b[^>]*>/g)) {
        if (/type="hidden"|\shidden/.test(field)) continue;
        const id = /\sid="([^"]+)"/.exec(field)?.[1];
        expect([path, field, html.includes(`<label for="${id}"`)]).toEqual([path, field, true]);
      }
      const tables = html.match(/<table /g)?.length ?? 0;
      expect(html.match(/<caption /g)?.length ?? 0).toBe(tables);
      expect(html.match(/<h1>/g)).toHaveLength(1);
      expect(html).toStartWith('<!DOCTYPE html><html lang="en">');
    }
  });

  test("assets → out of the executable, small, for everybody", async () => {
    cookie = "";
    const types = {
      "console.css": "text/css",
      "console.js": "text/javascript",
      "cairn.svg": "image",
    };
    for (const [name, type] of Object.entries(types)) {
      const answer = await get(`/assets/${name}`);
      expect(answer.headers.get("content-type")).toContain(type);
      expect((await answer.text()).length).toBeLessThan(20_000);
    }
    expect((await get("/assets/other")).status).toBe(404);
  });
});
