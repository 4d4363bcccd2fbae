// SPDX-License-Identifier: Apache-2.0
//
// `cairn image stamp` as a process of its own, on a real image: what is on its boot medium
// afterwards as mtools reads it, and as the box will.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { readMedium } from "#appliance/boot-medium.ts";
import { configurationFrom } from "#appliance/configuration.ts";
import { MIB, TestImage } from "#machine/esp/image-fixture.ts";

const MAIN = path.join(import.meta.dir, "..", "main.ts");
const SECRET = "a secret that is long enough";
let made: TestImage;
let folder = "";
let image: TestImage;
beforeAll(() => {
  const templates = mkdtempSync(path.join(tmpdir(), "cairn-stamp-made-"));
  made = TestImage.make(templates, "made.raw", { bits: 32, espBytes: 64 * MIB, clusterSectors: 1 });
});
afterAll(() => rmSync(path.dirname(made.file), { recursive: true, force: true }));
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-stamp-"));
  image = made.copyTo(path.join(folder, "cairn.raw"));
  writeFileSync(path.join(folder, "secret"), `${SECRET}\n`);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function stamp(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  await using child = Bun.spawn([process.execPath, MAIN, "image", "stamp", "cairn.raw", ...args], {
    cwd: folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, out, err };
}
const put = (name: string, content: unknown) =>
  writeFileSync(path.join(folder, name), JSON.stringify(content));
const stamped = () => JSON.parse(image.text("cairn.json"));
const has = () => image.names().includes("::/cairn.json");

test("settings from a file, flags and a secret file → one that the box understands", async () => {
  const network = [{ interface: "eno1", addresses: ["10.0.0.2/8"] }];
  put("settings.json", { network, name: "old" });
  const args = ["--config", "settings.json", "--join-secret-file", "secret", "--name", "attic"];
  const { status, out, err } = await stamp(...args, "--no-may-found");
  expect([status, err]).toEqual([0, ""]);
  expect(out).toContain("cairn.json is on");
  expect(out + err).not.toContain(SECRET);
  const settings = { network, name: "attic", mayFound: false, joinSecret: SECRET };
  expect(stamped()).toEqual(settings);
  image.check();
  const readText = (file: string) => (file === "/efi/cairn.json" ? image.text("cairn.json") : null);
  const reading = readMedium({ esp: "/efi", stick: "/none" }, readText);
  expect(reading.files.map((file) => file.state)).toEqual(["used", "absent"]);
  expect(configurationFrom(reading.sources, readText)).toMatchObject(settings);
});

test("a secret's file named in the settings → read here, and put there as the secret", async () => {
  put("settings.json", { joinSecretFile: "secret" });
  expect(await stamp("--config", "settings.json")).toMatchObject({ status: 0, err: "" });
  expect(stamped()).toEqual({ joinSecret: SECRET });
});

test("again → replaced; with --keep → added to; a dry run changes nothing", async () => {
  await stamp("--join-secret-file", "secret");
  const dry = await stamp("--name", "a", "--dry-run", "-o", "json");
  expect(JSON.parse(dry.out)).toMatchObject({
    dryRun: true,
    replaced: true,
    settings: { name: "a" },
  });
  expect(stamped()).toEqual({ joinSecret: SECRET });
  const kept = await stamp("--name", "a", "--keep", "-o", "json");
  expect(JSON.parse(kept.out).settings).toEqual({ joinSecret: "(set, not shown)", name: "a" });
  expect(stamped()).toEqual({ joinSecret: SECRET, name: "a" });
  await stamp("--name", "b");
  expect(stamped()).toEqual({ name: "b" });
  image.check();
});

test("an administrator token → made once, for its owner; the image has its hash", async () => {
  expect((await stamp("--admin-token-file", "token")).status).toBe(0);
  const file = path.join(folder, "token");
  const token = readFileSync(file, "utf8").trim();
  expect(token).toMatch(/^[0-9a-f]{64}$/);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const adminTokenHash = createHash("sha256").update(token).digest("hex");
  expect(stamped()).toEqual({ adminTokenHash });
  await stamp("--admin-token-file", "token", "--name", "a");
  expect(readFileSync(file, "utf8").trim()).toBe(token);
  expect(stamped()).toEqual({ adminTokenHash, name: "a" });
});

test("a claim code from a file → there; beside a token → refused", async () => {
  writeFileSync(path.join(folder, "code"), "k7qwm-2xhda\n");
  expect((await stamp("--claim-code-file", "code")).status).toBe(0);
  expect(stamped()).toEqual({ claimCode: "k7qwm-2xhda" });
  const both = await stamp("--claim-code-file", "code", "--admin-token-file", "token");
  expect([both.status, both.err]).toEqual([2, expect.stringContaining("both claimCode")]);
  expect(existsSync(path.join(folder, "token"))).toBe(false);
});

test("what is wrong → said with its place, no secret shown, nothing written", async () => {
  put("weak.json", { joinSecret: "hunter2" });
  put("state.json", { stateDirectory: "/x" });
  writeFileSync(path.join(folder, "broken.json"), `{"joinSecret": "${SECRET}",}`);
  writeFileSync(path.join(folder, "short"), "tooshort");
  const wrongs: [string[], number, string][] = [
    [[], 2, "nothing to put there"],
    [["--config", "none.json"], 2, "--config none.json"],
    [["--config", "weak.json"], 2, "joinSecret in"],
    [["--config", "broken.json"], 2, "line 1, column"],
    [["--config", "state.json"], 2, "the image decides that"],
    [["--join-secret-file", "none"], 2, "--join-secret-file none: no such file"],
    [["--join-secret-file", "short"], 2, "joinSecret in the files named by flags"],
    [["--claim-code-file", "none"], 2, "--claim-code-file none: no such file"],
    [["--claim-code-file", "short", "--name", "a b"], 2, "letters, digits"],
    [["--admin-token-file", "short"], 2, "short holds no token"],
    [["--state-directory", "/x"], 2, "takes no --state-directory"],
  ];
  for (const [args, status, said] of wrongs) {
    const answer = await stamp(...args);
    expect([args, answer.status, answer.out]).toEqual([args, status, ""]);
    expect(answer.err).toContain(said);
    expect(answer.err).not.toContain("hunter2");
    expect(answer.err).not.toContain(SECRET);
    expect(has()).toBe(false);
  }
});

test("no image to stamp → said, and no token is made for it", async () => {
  writeFileSync(image.file, new Uint8Array(MIB));
  const answer = await stamp("--admin-token-file", "token");
  expect([answer.status, answer.err]).toEqual([2, expect.stringContaining("has no GPT")]);
  expect(existsSync(path.join(folder, "token"))).toBe(false);
  rmSync(image.file);
  expect((await stamp("--name", "a")).status).toBe(4);
});

test("secret new → one that a box takes, another each time", async () => {
  const fresh = async () => {
    await using child = Bun.spawn([process.execPath, MAIN, "secret", "new"], { stdout: "pipe" });
    const text = await new Response(child.stdout).text();
    return text;
  };
  const [one, other] = [await fresh(), await fresh()];
  expect(one).not.toBe(other);
  writeFileSync(path.join(folder, "secret"), one);
  expect((await stamp("--join-secret-file", "secret")).status).toBe(0);
  expect(stamped()).toEqual({ joinSecret: one.trim() });
});
