// SPDX-License-Identifier: Apache-2.0
//
// One unit of the real executable, from outside: which disks it takes and which it leaves alone,
// who may ask its API and attach to its volumes, and what is still there after stops and kills. The
// tests share one lab and go in order; the last ones wipe the unit.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { truncateSync, writeFileSync, writeSync, openSync, closeSync } from "node:fs";
import path from "node:path";
import type { DiskView, VolumeView } from "#appliance/backend.ts";
import { claimDisk } from "#machine/disk-tools.ts";
import { assembled, oneCluster } from "#test/cluster/assembled.ts";
import { Lab, executable } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { NbdClient } from "#test/cluster/nbd-client.ts";
import { need } from "#test/cluster/until.ts";
import { outcome, run } from "./programs.ts";
import { RawClient } from "./raw-client.ts";
import type { Facts } from "./servers.ts";
import { loopDevice } from "./unit-servers.ts";

const MIB = 1 << 20;
const START_MS = 45_000;
const ANSWER_MS = 10_000;

setDefaultTimeout(90_000);

let lab: Lab;
let unit: LabUnit;
/** Files named in the configuration that hold something, and what of the reason must be said. */
const leftAlone = new Map<string, RegExp>();
/** Neither named nor to be touched. */
const unnamed: string[] = [];
/** Claimed, and then a stop came before there was a store on it. */
let claimedOnly = "";
const hashes = new Map<string, string>();
let mounted: Mounted;

beforeAll(async () => {
  lab = new Lab();
  try {
    const device = await makeDisks();
    const own = path.join(lab.folder, "unit-1", "disk1.img");
    const disks = [own, claimedOnly, ...leftAlone.keys(), device];
    leftAlone.set(device, /mounted or in use/);
    unit = lab.add({ diskBytes: 256 * MIB, settings: { disks, sliceBytes: 32 * MIB } });
    unit.start();
    await lab.until("one cluster", () => assembled(lab), START_MS);
    for (const file of [own, claimedOnly]) {
      await lab.until("a disk that is ready", () => readyDisk(file), START_MS);
    }
    await lab.until("every disk looked at", allLookedAt, START_MS);
  } catch (error) {
    await mounted?.end();
    await lab.end();
    throw error;
  }
}, 120_000);
afterAll(async () => {
  await mounted?.end();
  await lab.end();
});

/** Answers the device that is mounted. */
async function makeDisks(): Promise<string> {
  const make = (name: string, sizeBytes: number) => {
    const file = path.join(lab.folder, name);
    writeFileSync(file, "");
    truncateSync(file, sizeBytes);
    return file;
  };
  const fileSystem = make("ext4.img", 64 * MIB);
  await run("mkfs.ext4", ["-q", fileSystem]);
  const mbr = make("mbr.img", 64 * MIB);
  const gpt = make("gpt.img", 64 * MIB);
  for (const [file, label] of [
    [mbr, "dos"],
    [gpt, "gpt"],
  ] as const) {
    const script = `label: ${label}\n,,L\n`;
    expect((await outcome("sfdisk", ["--quiet", file], { input: script })).exitCode).toBe(0);
  }
  const tail = make("tail.img", 64 * MIB);
  writeAt(tail, 64 * MIB - 7, Buffer.from("x"));
  const small = make("small.img", 16 * MIB);
  claimedOnly = make("claimed.img", 64 * MIB);
  await claimDisk(claimedOnly, { evenIfNotBlank: false, name: "trial" });
  const damaged = make("damaged.img", 64 * MIB);
  const place = await claimDisk(damaged, { evenIfNotBlank: false, name: "trial" });
  writeAt(damaged, place.offsetBytes + 100, Buffer.from("the remains of a superblock"));
  leftAlone.set(fileSystem, /ext4/);
  leftAlone.set(mbr, /partition table \(MBR\)/);
  leftAlone.set(gpt, /partition table \(GPT\) that is not ours/);
  leftAlone.set(tail, /last MiB is not empty/);
  leftAlone.set(small, /too small/);
  leftAlone.set(damaged, /no superblock/);
  unnamed.push(make("unnamed.img", 64 * MIB));
  for (const file of [...leftAlone.keys(), ...unnamed]) hashes.set(file, hashOf(file));
  leftAlone.set(path.join(lab.folder, "nowhere.img"), /there is no/);
  const device = await loopDevice(lab, "mounted.img", 64 * MIB);
  await run("mkfs.ext4", ["-q", device]);
  mounted = await Mounted.at(device, path.join(lab.folder, "mounted"));
  return device;
}

/** A file system mounted by a process of its own, in its own mount namespace: gone with it. */
class Mounted {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;

  private constructor(device: string, folder: string) {
    const script = 'mount "$1" "$2" && echo mounted && read -r _; umount "$2"';
    const inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script];
    this.#child = Bun.spawn(["setpriv", "--pdeathsig", "KILL", ...inside, "sh", device, folder], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
  }

  static async at(device: string, folder: string): Promise<Mounted> {
    mkdirSync(folder);
    const made = new Mounted(device, folder);
    const { value } = await made.#child.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("mounted\n");
    return made;
  }
  /** Unmounts it; again changes nothing. */
  async end(): Promise<void> {
    await this.#child.stdin.end();
    await this.#child.exited;
  }
}

function hashOf(file: string): string {
  return new Bun.CryptoHasher("sha256").update(readFileSync(file)).digest("hex");
}

function writeAt(file: string, offsetBytes: number, bytes: Buffer): void {
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, offsetBytes);
  closeSync(fd);
}

async function readyDisk(file: string): Promise<DiskView> {
  const found = (await unit.api.disks()).find((disk) => disk.path === file);
  need(found?.state === "ready", `${file} is ${found?.state}: ${found?.reason}`);
  return found as DiskView;
}

async function allLookedAt(): Promise<true> {
  for (const { path: file, state } of await unit.api.disks()) {
    need(state === "ready" || state === "refused", `${file} is ${state}`);
  }
  return true;
}

function factsOf(name: string): Facts {
  return {
    host: unit.address,
    port: 10809,
    name,
    sizeBytes: 0,
    readOnlyName: null,
    description: null,
    minimumBlockBytes: 512,
    multiConn: true,
    thin: true,
    extended: true,
    isQemu: false,
  };
}

function attach(name: string): Promise<NbdClient> {
  return NbdClient.open({ host: unit.address, port: 10809, name }, ANSWER_MS);
}

/** Once more after a restart, until its head serves. */
function attached(name: string): Promise<NbdClient> {
  return lab.until(`${name} attached`, () => attach(name), START_MS);
}

async function exportsSeen(): Promise<string> {
  const result = await outcome("nbdinfo", ["--list", "--json", `nbd://${unit.address}/`]);
  return result.stdout;
}

/** The CLI of the same executable, over the unit's socket. */
function cairn(...words: string[]) {
  return outcome(executable(), [...words, "--state-directory", unit.stateFolder]);
}

interface Asked {
  token?: string | null;
  host?: string;
  method?: string;
  body?: object;
}

function overTcp(route: string, asked: Asked = {}): Promise<Response> {
  const { token = unit.token(), host, method = "GET", body } = asked;
  const headers: Record<string, string> = {};
  if (token !== null) headers["authorization"] = `Bearer ${token}`;
  if (host !== undefined) headers["host"] = host;
  if (body !== undefined) headers["content-type"] = "application/json";
  return fetch(`http://${unit.address}:7480/api/v1/${route}`, {
    method,
    headers,
    signal: AbortSignal.timeout(ANSWER_MS),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { error: { code: string } }).error.code;
}

// Disks.

test("disks with anything on them → left alone, each listed with its reason", async () => {
  const disks = new Map((await unit.api.disks()).map((disk) => [disk.path, disk]));
  for (const [file, reason] of leftAlone) {
    const disk = disks.get(file);
    expect([file, disk?.state, disk?.disk]).toEqual([file, "refused", 0]);
    expect(disk?.reason).toMatch(reason);
    expect(disk?.reason).toMatch(/^left alone: /);
  }
});

test("disks left alone, and one that is not named → not a byte changed", async () => {
  for (const [file, hash] of hashes) expect([file, hashOf(file)]).toEqual([file, hash]);
  const named = (await unit.api.disks()).map((disk) => disk.path);
  for (const file of unnamed) expect(named).not.toContain(file);
  // The mounted one: unmounted for a check of everything on it.
  await mounted.end();
  const device = [...leftAlone].at(-1)?.[0] as string;
  await run("e2fsck", ["-f", "-n", device]);
});

test("the claimed disk → a GPT with one partition, ours", async () => {
  const [own] = (await unit.api.disks()).filter((disk) => disk.state === "ready");
  const shown = await run("sfdisk", ["--json", own?.path as string]);
  const { partitiontable } = JSON.parse(shown) as {
    partitiontable: { label: string; partitions: { uuid: string }[] };
  };
  expect(partitiontable.label).toBe("gpt");
  expect(partitiontable.partitions).toHaveLength(1);
  const [partition] = partitiontable.partitions;
  expect(partition?.uuid.replaceAll("-", "").toLowerCase()).toBe(own?.uuid as string);
});

test("a disk that was claimed but got no store before a stop → gets one now", async () => {
  expect((await readyDisk(claimedOnly)).reason).toBe("in use by this cluster");
});

// The API.

test("API on the unix socket → answered without a token; it is root's alone", async () => {
  expect((await unit.api.status()).phase).toBe("joined");
  for (const name of ["api.sock", "api-token"]) {
    expect([name, statSync(path.join(unit.stateFolder, name)).mode & 0o007]).toEqual([name, 0]);
  }
});

test("API on TCP with the token → answered; without or with another → 401", async () => {
  const answer = await overTcp("status");
  expect(answer.status).toBe(200);
  expect(((await answer.json()) as { name: string }).name).toBe("unit-1");
  const wrong = "0".repeat(64);
  for (const token of [null, wrong, unit.token().slice(0, -1), `${unit.token()}0`]) {
    const refused = await overTcp("status", { token });
    expect([token, refused.status]).toEqual([token, 401]);
    expect(await codeOf(refused)).toBe("unauthorised");
  }
  const change = { method: "POST", body: { name: "no", sizeBytes: 4 * MIB } };
  expect((await overTcp("volumes", { ...change, token: null })).status).toBe(401);
  expect(await unit.api.volumes()).toEqual([]);
});

test("API on TCP under a foreign name → 421, under one of ours → 200", async () => {
  for (const host of ["evil.example", "evil.example:7480", "unit-1.evil.example", "[::1"]) {
    expect([host, (await overTcp("status", { host })).status]).toEqual([host, 421]);
  }
  for (const host of ["unit-1", "unit-1.local:7480", "localhost", unit.address]) {
    expect([host, (await overTcp("status", { host })).status]).toEqual([host, 200]);
  }
});

// A second daemon beside it.

/** `cairn unit` in the unit's own network, until it ends by itself. */
function second(...flags: string[]) {
  const inside = [`--net=/run/netns/${unit.namespace}`, executable(), "unit"];
  return outcome("nsenter", [...inside, "--config", unit.configurationFile, ...flags]);
}

test("the same state directory → refused; the one that runs is not disturbed", async () => {
  const { exitCode, stderr } = await second();
  expect(stderr).toContain(unit.stateFolder);
  expect(exitCode).not.toBe(0);
  expect((await unit.api.status()).phase).toBe("joined");
});

test("a port that is taken → exit status 2, and it is named", async () => {
  const own = ["--state-directory", path.join(lab.folder, "second")];
  for (const [taken, flag] of [
    [10809, "nbd-port"],
    [10812, "peer-port"],
    [10811, "autoconfig-port"],
    [10811, "control-port"],
    [7480, "api-port"],
  ] as const) {
    const all = ["nbd", "peer", "autoconfig", "control", "api"].map((name) => `${name}-port`);
    const free = all.filter((name) => name !== flag).flatMap((name) => [`--${name}`, "0"]);
    const { exitCode, stderr } = await second(...own, ...free, `--${flag}`, String(taken));
    expect([flag, stderr]).toEqual([flag, expect.stringContaining(String(taken))]);
    expect([flag, exitCode]).toEqual([flag, 2]);
  }
});

// Volumes.

test("CLI: create, list, show, delete → as said, with exit codes", async () => {
  const size = ["--size", "64M", "--protection", "none"];
  const created = await cairn("volume", "create", "first", ...size, "-o", "json");
  expect([created.exitCode, created.stderr]).toMatchObject([0, expect.stringContaining("nobody")]);
  const volume = JSON.parse(created.stdout) as VolumeView;
  expect(volume).toMatchObject({ name: "first", sizeBytes: 64 * MIB, hosts: [] });
  expect(volume.slices).toHaveLength(2);
  expect((await cairn("volume", "create", "first", ...size)).exitCode).toBe(5);
  expect((await cairn("volume", "create", "second", "--size", "900G")).exitCode).toBe(9);
  const listed = await cairn("volume", "list");
  expect(listed.stdout).toContain("first");
  const shown = await cairn("volume", "show", "first", "-o", "json");
  expect(JSON.parse(shown.stdout)).toMatchObject({ uuid: volume.uuid });
  expect((await cairn("volume", "delete", "first")).exitCode).toBe(2); // nobody can be asked
  // Kept for a day, and taken back; then for good.
  expect((await cairn("volume", "delete", "first", "--yes")).exitCode).toBe(0);
  expect((await cairn("volume", "show", "first")).stdout).toContain("unless it is restored");
  expect((await cairn("volume", "restore", "first")).exitCode).toBe(0);
  expect((await cairn("volume", "show", "first")).stdout).not.toContain("unless it is restored");
  expect((await cairn("volume", "delete", "first", "--yes", "--now")).exitCode).toBe(0);
  expect((await cairn("volume", "show", "first")).exitCode).toBe(4);
});

test("REST: create, list, show, delete → as said; the name is free again", async () => {
  const body = { name: "rest", sizeBytes: 32 * MIB, protection: "none" };
  for (const round of [1, 2]) {
    const created = await overTcp("volumes", { method: "POST", body });
    expect([round, created.status]).toEqual([round, 201]);
    const volume = (await created.json()) as VolumeView;
    expect(volume.availability).toBe("online");
    expect((await overTcp("volumes/rest")).status).toBe(200);
    const again = await overTcp("volumes", { method: "POST", body });
    expect([again.status, await codeOf(again)]).toEqual([409, "conflict"]);
    expect((await overTcp("volumes/rest", { method: "DELETE" })).status).toBe(204);
    await lab.until("it is gone", () => goneOverTcp("rest"), ANSWER_MS);
  }
});

async function goneOverTcp(name: string): Promise<true> {
  const { status } = await overTcp(`volumes/${name}`);
  need(status === 404, `HTTP ${status}`);
  return true;
}

test("nobody's volume → nobody sees or enters it; assigned → its hosts do", async () => {
  const request = { name: "deny", sizeBytes: 32 * MIB, protection: "none" as const };
  await unit.api.createVolume(request);
  expect(await exportsSeen()).not.toContain("deny");
  await expect(attach("deny")).rejects.toThrow();
  expect((await cairn("host", "add", "far", "--address", "203.0.113.0/24")).exitCode).toBe(0);
  expect((await cairn("volume", "assign", "deny", "far")).exitCode).toBe(0);
  expect(await exportsSeen()).not.toContain("deny");
  await expect(attach("deny")).rejects.toThrow();
  const near = await cairn("host", "add", "near", "--address", `${lab.hostAddress}/31`);
  expect(near.exitCode).toBe(0);
  expect(await exportsSeen()).not.toContain("deny");
  expect((await cairn("volume", "assign", "deny", "near")).exitCode).toBe(0);
  await lab.until("it is seen", seen("deny"), ANSWER_MS);
  using client = await attach("deny");
  expect(client.sizeBytes).toBe(32 * MIB);
});

function seen(name: string): () => Promise<true> {
  return async () => {
    need((await exportsSeen()).includes(name), `${name} is not listed`);
    return true;
  };
}

test("revoked from a host → its connections end, others stay", async () => {
  const request = { sizeBytes: 32 * MIB, protection: "none" as const, hosts: ["near"] };
  await unit.api.createVolume({ name: "other", ...request });
  const attachedTo = (name: string) =>
    lab.until(name, () => RawClient.entered(factsOf(name), { headers: "simple" }), ANSWER_MS);
  using cut = await attachedTo("deny");
  using kept = await attachedTo("other");
  await lab.until("its session is told", sessionOf("near", "deny"), ANSWER_MS);
  expect((await cairn("volume", "revoke", "deny", "near")).exitCode).toBe(0);
  await cut.ended();
  expect((await kept.request(0, { length: 512 })).error).toBe(0);
  await expect(attach("deny")).rejects.toThrow();
});

/** Whether the unit says that the host has the volume attached. */
function sessionOf(host: string, volume: string): () => Promise<true> {
  return async () => {
    const { volumes, sessions } = await unit.api.host(host);
    const number = volumes.find((one) => one.name === volume)?.volume;
    need(
      sessions.some((one) => one.volume === number && one.address === lab.hostAddress),
      `${host} has ${sessions.length} sessions`,
    );
    return true;
  };
}

test("a volume deleted while a host is attached → its connection ends", async () => {
  using client = await RawClient.entered(factsOf("other"), { headers: "simple" });
  await unit.api.deleteVolume("other");
  await client.ended();
  await expect(attach("other")).rejects.toThrow();
});

// Stops, kills, a wiped unit.

const BLOCK = 64 << 10;
const block = (fill: number) => Buffer.alloc(BLOCK, fill);

test("SIGTERM → exit status 0; after the restart all that was acked, same unit", async () => {
  const hosts = ["near"];
  await unit.api.createVolume({ name: "kept", sizeBytes: 64 * MIB, protection: "none", hosts });
  const before = await unit.api.status();
  const volumeBefore = await unit.api.volume("kept");
  using client = await attached("kept");
  // Across the border of two slices, and never flushed.
  for (let index = 0; index < 32; index++) {
    await client.write(31 * MIB + index * BLOCK, block(index + 1));
  }
  await unit.stop(); // throws unless its exit status is 0
  expect(client.lost).toBe(true);
  unit.start();
  using again = await attached("kept");
  for (let index = 0; index < 32; index++) {
    expect(await again.read(31 * MIB + index * BLOCK, BLOCK)).toEqual(block(index + 1));
  }
  const after = await unit.api.status();
  expect(after.unitId).toBe(before.unitId);
  expect(after.cluster?.uuid).toBe(before.cluster?.uuid as string);
  const { uuid } = await unit.api.volume("kept");
  expect(uuid).toBe(volumeBefore.uuid);
});

test("kill -9 → after the restart all that was flushed, each sector old or new", async () => {
  using client = await attached("kept");
  for (let index = 0; index < 32; index++) await client.write(index * BLOCK, block(100));
  await client.flush();
  // Under way when it dies: old or new (H8).
  const writing = Array.from({ length: 16 }, (_, index) =>
    client.write(index * BLOCK, block(200)).then(
      () => true,
      () => false,
    ),
  );
  await unit.kill();
  const acked = await Promise.all(writing);
  unit.start();
  using again = await attached("kept");
  for (let index = 0; index < 32; index++) {
    const [first, ...rest] = sectorsOf(await again.read(index * BLOCK, BLOCK));
    const allowed = index < 16 ? (acked[index] === true ? [200] : [100, 200]) : [100];
    for (const fill of [first, ...rest]) expect(allowed).toContain(fill as number);
  }
});

/** One byte per sector; a sector of two values fails (H3). */
function sectorsOf(bytes: Buffer): number[] {
  const fills: number[] = [];
  for (let at = 0; at < bytes.length; at += 512) {
    const sector = bytes.subarray(at, at + 512);
    const fill = sector[0] as number;
    expect(sector.every((byte) => byte === fill)).toBe(true);
    fills.push(fill);
  }
  return fills;
}

test("state directory wiped → a new unit; the other cluster's disk is left alone", async () => {
  const before = await unit.api.status();
  const [own] = (await unit.api.disks()).filter((disk) => disk.state === "ready");
  await unit.stop();
  const hash = hashOf(own?.path as string);
  rmSync(unit.stateFolder, { recursive: true });
  unit.start();
  const [after] = await lab.until("a cluster of its own", () => oneCluster(lab), START_MS);
  expect(after?.unitId).not.toBe(before.unitId);
  expect(after?.cluster?.uuid).not.toBe(before.cluster?.uuid as string);
  await lab.until("the disk is refused", foreignDisk(own?.path as string), START_MS);
  expect(hashOf(own?.path as string)).toBe(hash);
  expect(await unit.api.volumes()).toEqual([]);
});

function foreignDisk(file: string): () => Promise<true> {
  return async () => {
    const disk = (await unit.api.disks()).find((one) => one.path === file);
    need(/another cluster/.test(disk?.reason ?? ""), `${disk?.state}: ${disk?.reason}`);
    return true;
  };
}

test("no join secret → it waits and says so, founds nothing and serves nothing", async () => {
  const alone = lab.add({ joinSecret: null, diskBytes: 64 * MIB });
  alone.start();
  const status = await lab.until("its sentence", () => waiting(alone), START_MS);
  expect(status.cluster).toBeNull();
  expect(status.words.length).toBeGreaterThan(0);
  const request = { name: "x", sizeBytes: 4 * MIB, protection: "none" as const };
  await expect(alone.api.createVolume(request)).rejects.toThrow("in no cluster");
  const [disk] = await alone.api.disks();
  expect(disk?.reason).toMatch(/blank/);
  // Named and blank, but without a cluster not a byte of it is written.
  expect(readFileSync(alone.disks[0] as string).every((byte) => byte === 0)).toBe(true);
  expect(existsSync(path.join(alone.stateFolder, "membership.json"))).toBe(false);
  await alone.stop();
});

async function waiting(alone: LabUnit) {
  const status = await alone.api.status();
  need(status.phase === "waiting", `${status.phase}: ${status.sentence}`);
  expect(status.sentence).toContain("no join secret");
  return status;
}
