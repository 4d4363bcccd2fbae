// SPDX-License-Identifier: Apache-2.0
//
// The real executable as an appliance: settings from its boot medium, disks that it finds, the
// spare space of the disk it runs from, the claim. A box here is a loop device with an ESP, a
// mounted state partition and a partition of ours, and data disks that come later; of this
// machine's disks it sees only those. The tests share one lab and go in order.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { once } from "node:events";
import path from "node:path";
import type { DiskView, UnitStatus } from "#appliance/backend.ts";
import { PARTITION_TYPE, findOurs } from "#machine/disk-tools.ts";
import { assembled } from "#test/cluster/assembled.ts";
import { Lab, executable, requireMachine } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { MountSpace } from "#test/cluster/mount-space.ts";
import { NbdClient } from "#test/cluster/nbd-client.ts";
import { need } from "#test/cluster/until.ts";
import { outcome, run } from "./programs.ts";

const MIB = 1 << 20;
const START_MS = 60_000;
const ANSWER_MS = 10_000;
const CODE = "K7QWM-2XHDA";
const ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

setDefaultTimeout(120_000);

/** One box: its loop devices and folders, and the unit on it. */
class Box {
  readonly unit: LabUnit;
  readonly folder: string;
  bootDisk = "";
  readonly #lab: Lab;
  #disks = 0;

  private constructor(lab: Lab, space: MountSpace) {
    this.#lab = lab;
    const place = lab.units.length + 1;
    this.folder = path.join(lab.folder, `box-${place}`);
    for (const name of ["esp", "stick", "disks", "run"]) {
      mkdirSync(path.join(this.folder, name), { recursive: true });
    }
    const flags = ["esp", "run"].flatMap((name) => {
      const flag = name === "esp" ? "--esp" : "--run-directory";
      return [flag, path.join(this.folder, name)];
    });
    flags.push("--medium", path.join(this.folder, "stick"));
    flags.push("--disks-in", path.join(this.folder, "disks"));
    this.unit = lab.add({ disks: 0, appliance: { flags, space } });
  }

  static async make(lab: Lab): Promise<Box> {
    const space = await MountSpace.open(lab);
    const box = new Box(lab, space);
    const parts = [`size=16M, type=${ESP}`, `size=1G, type=${LINUX}`];
    parts.push(`size=256M, type=${PARTITION_TYPE}`);
    box.bootDisk = await box.#loop("boot", 1400 * MIB, `label: gpt\n${parts.join("\n")}\n`);
    await run("mkfs.ext4", ["-q", `${box.bootDisk}p2`]);
    mkdirSync(box.unit.stateFolder, { recursive: true });
    const [program, ...words] = space.inside(["mount", `${box.bootDisk}p2`, box.unit.stateFolder]);
    await run(program, words);
    box.plug(box.bootDisk);
    return box;
  }

  get spare(): string {
    return `${this.bootDisk}p3`;
  }

  async #loop(name: string, bytes: number, table = ""): Promise<string> {
    const file = path.join(this.folder, `${name}.img`);
    writeFileSync(file, "");
    truncateSync(file, bytes);
    if (table !== "") {
      const made = await outcome("sfdisk", ["--quiet", file], { input: table });
      expect([made.exitCode, made.stderr]).toEqual([0, ""]);
    }
    const made = await run("losetup", ["--find", "--show", "--partscan", file]);
    const device = made.trim();
    this.#lab.record.willMake("loops", device);
    // A kernel built without GPT is told of the partitions; one with it knows them.
    if (table !== "") await run("partx", ["--update", device]);
    return device;
  }

  /** A disk more, as somebody pushes one in. */
  async newDisk(content = ""): Promise<string> {
    const device = await this.#loop(`disk${++this.#disks}`, 256 * MIB);
    if (content !== "") writeFileSync(device, content);
    this.plug(device);
    return device;
  }
  plug(device: string): void {
    symlinkSync(device, path.join(this.folder, "disks", path.basename(device)));
  }
  medium(where: "esp" | "stick", content: unknown): void {
    const text = typeof content === "string" ? content : JSON.stringify(content);
    writeFileSync(path.join(this.folder, where, "cairn.json"), text);
  }
  noMedium(where: "esp" | "stick"): void {
    rmSync(path.join(this.folder, where, "cairn.json"), { force: true });
  }
  onScreen(): { message: string | null; files: { state: string }[] } {
    return JSON.parse(readFileSync(path.join(this.folder, "run", "boot-medium.json"), "utf8"));
  }

  status(holds: (status: UnitStatus) => boolean): Promise<UnitStatus> {
    return this.#lab.until(
      "its state",
      async () => {
        const status = await this.unit.api.status();
        need(holds(status), `${status.phase}: ${status.sentence}`);
        return status;
      },
      START_MS,
    );
  }
  /** The disk as the unit lists it, once it is in this state. */
  disk(device: string, state: string): Promise<DiskView> {
    return this.#lab.until(
      `${device} ${state}`,
      async () => {
        const found = (await this.unit.api.disks()).find((disk) => disk.path === device);
        const isSo = found?.state === state && found.reason !== "not looked at yet";
        need(isSo, `${device} is ${found?.state}: ${found?.reason}`);
        return found as DiskView;
      },
      START_MS,
    );
  }
  overTcp(route: string, more: { token?: string; body?: object } = {}): Promise<Response> {
    const { token, body } = more;
    return fetch(`http://${this.unit.address}:7480/api/v1/${route}`, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }
  /** What is on the boot disk before the spare partition, but for the mounted state. */
  async espHash(): Promise<string> {
    return run("sha256sum", [`${this.bootDisk}p1`]);
  }
  attach(): Promise<NbdClient> {
    return NbdClient.open({ host: this.unit.address, port: 10809, name: "vol" }, ANSWER_MS);
  }
}

/** A way to a unit by which requests come through, and no answer. */
async function losingDoor(address: string): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((client) => {
    const unit = connect(7480, address);
    const end = () => {
      client.destroy();
      unit.destroy();
    };
    client.on("error", end);
    unit.on("error", end);
    unit.once("data", end); // it was done, and nobody hears of it
    client.pipe(unit);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.close();
    await once(server, "close");
  };
  return { url: `http://127.0.0.1:${port}`, close };
}

const firstBytes = (device: string) => readFileSync(device).subarray(0, 64 * MIB);
const isBlank = (device: string) => firstBytes(device).every((byte) => byte === 0);

let lab: Lab;
let box: Box;
let blank = "";
let used = "";
let token = "";
let espBefore = "";
const settings = () => ({ joinSecret: lab.joinSecret, name: "attic", sliceBytes: 64 * MIB });

beforeAll(async () => {
  requireMachine({ programs: ["mkfs.ext4", "partx", "sfdisk"] });
  lab = new Lab();
  box = await Box.make(lab);
  blank = await box.newDisk();
  used = await box.newDisk("somebody's bytes");
  // What was on the disk before the image was flashed shines through in the spare partition.
  writeFileSync(box.spare, "an old file system ".repeat(1000));
  espBefore = await box.espHash();
});
afterAll(async () => {
  await lab?.end();
});

async function restart(): Promise<void> {
  await box.unit.stop();
  box.unit.start();
}

test("no medium → it comes up and waits; the plan is told, and no disk is touched", async () => {
  const spareBefore = Bun.hash(readFileSync(box.spare));
  box.unit.start();
  const status = await box.status(({ sentence }) => sentence.includes("no join secret"));
  expect(status.phase).toBe("waiting");
  expect(status.wrongMedium).toBeNull();
  expect(status.claim.code).toMatch(/^\w{5}-\w{5}$/);
  const plan = await box.disk(blank, "examining");
  expect(plan.reason).toBe("it is blank and would be claimed, but this unit has no join secret");
  expect((await box.disk(used, "refused")).reason).toContain("its first MiB is not empty");
  expect((await box.disk(box.bootDisk, "examining")).reason).toContain("the spare space");
  expect(isBlank(blank)).toBe(true);
  expect(Bun.hash(readFileSync(box.spare))).toBe(spareBefore);
  expect(box.onScreen()).toMatchObject({ message: null });
  const claim = await box.overTcp("claim", { body: { code: status.claim.code } });
  expect(claim.status).toBe(503);
});

test("a wrong medium → it comes up, joins nothing, claims nothing, and says why", async () => {
  box.medium("esp", { ...settings(), role: "boss" });
  await restart();
  const status = await box.status(({ sentence }) => sentence.includes("role in"));
  expect(status.phase).toBe("waiting");
  expect(status.wrongMedium).toContain("role in");
  expect(status.name).not.toBe("attic");
  expect(box.onScreen().message).toContain('"member"|"spare"');
  expect(box.onScreen().files.map((file) => file.state)).toEqual(["wrong", "absent"]);
  await box.disk(blank, "examining");
  expect(isBlank(blank)).toBe(true);
});

test("a sound one → a cluster; blank disk and spare space taken, the rest untouched", async () => {
  box.medium("esp", { ...settings(), name: "cellar", claimCode: CODE });
  box.medium("stick", { name: "attic" });
  await restart();
  await lab.until("one cluster", () => assembled(lab), START_MS);
  expect((await box.unit.api.status()).name).toBe("attic");
  await box.disk(blank, "ready");
  const spare = await box.disk(box.spare, "ready");
  expect(spare.sizeBytes).toBeGreaterThan(200 * MIB);
  expect((await findOurs(blank))?.partitionId).toBeString();
  expect((await box.disk(used, "refused")).disk).toBe(0);
  expect(readFileSync(used).subarray(0, 16).toString()).toBe("somebody's bytes");
  expect(await box.espHash()).toBe(espBefore);
});

test("a disk pushed in later → claimed by itself", async () => {
  const late = await box.newDisk();
  await box.disk(late, "ready");
});

test("nothing is exported before the claim, though a volume is there", async () => {
  const hosts = [await box.unit.api.hostFrom("0.0.0.0/0")];
  const request = { name: "vol", sizeBytes: 64 * MIB, protection: "none" as const, hosts };
  await box.unit.api.createVolume(request);
  expect((await box.unit.api.volume("vol")).sentence).toContain("before the cluster is claimed");
  await expect(box.attach()).rejects.toThrow();
  expect((await outcome("nbdinfo", ["--list", `nbd://${box.unit.address}/`])).stdout).not.toContain(
    "vol",
  );
});

test("claimed by the code with the CLI → its token opens doors, hosts may attach", async () => {
  expect((await box.overTcp("status")).status).toBe(401);
  const file = path.join(lab.folder, "owner");
  const words = ["claim", "--url", `http://${box.unit.address}:7480`, "--save", file];
  const wrong = await outcome(executable(), [...words, "--code", "sesame-open"]);
  expect([wrong.exitCode, wrong.stderr]).toEqual([7, expect.stringContaining("more tries")]);
  const door = await losingDoor(box.unit.address);
  const lost = words.with(2, door.url);
  // More often than one may guess: the right code is no guess.
  for (let at = 0; at < 6; at++) {
    const unheard = await outcome(executable(), [...lost, "--code", CODE]);
    const note = expect.stringContaining("the same command takes it up");
    expect([unheard.exitCode, unheard.stderr]).toEqual([8, note]);
  }
  await door.close();
  token = readFileSync(file, "utf8").trim();
  const right = await outcome(executable(), [...words, "--code", CODE.toLowerCase()]);
  expect([right.exitCode, right.stderr]).toEqual([0, ""]);
  expect(readFileSync(file, "utf8").trim()).toBe(token);
  const status = (await (await box.overTcp("status", { token })).json()) as UnitStatus;
  expect(status.claim).toEqual({ claimed: true, code: null });
  expect((await box.overTcp("status", { token: `${token}0` })).status).toBe(401);
  const client = await lab.until("attached", () => box.attach(), START_MS);
  await client.write(0, Buffer.alloc(4096, 7));
  await client.flush();
  client.close();
  const again = await box.overTcp("claim", { body: { code: CODE } });
  expect(again.status).toBe(409);
});

test("more than five wrong tries a minute → refused, the right code too", async () => {
  const answers: number[] = [];
  for (let at = 0; at < 6; at++) {
    answers.push((await box.overTcp("claim", { body: { code: "sesame-open" } })).status);
  }
  expect(answers.at(-1)).toBe(429);
  expect(answers.filter((status) => status === 403).length).toBeLessThanOrEqual(5);
  expect((await box.overTcp("claim", { body: { code: CODE } })).status).toBe(429);
});

test("a second box with the secret → joins; the owner's token is valid there", async () => {
  const second = await Box.make(lab);
  second.medium("esp", { joinSecret: lab.joinSecret, mayFound: false });
  second.unit.start();
  await lab.until("one cluster of both", () => assembled(lab), START_MS);
  await second.disk(second.spare, "ready");
  const answer = await second.overTcp("units", { token });
  expect(((await answer.json()) as { units: object[] }).units).toHaveLength(2);
  expect((await second.overTcp("status", { token: box.unit.token() })).status).toBe(401);
});

test("both media gone → it goes on in its cluster by what it kept, with all disks", async () => {
  box.noMedium("esp");
  box.noMedium("stick");
  await restart();
  await lab.until("one cluster of both", () => assembled(lab), START_MS);
  await box.disk(blank, "ready");
  await box.disk(box.spare, "ready");
  const client = await lab.until("attached", () => box.attach(), START_MS);
  expect((await client.read(0, 4096)).every((byte) => byte === 7)).toBe(true);
  client.close();
});

test("a wrong medium → a member goes on, but takes no new disk until it is right", async () => {
  box.medium("stick", "{ no JSON");
  await restart();
  await lab.until("one cluster of both", () => assembled(lab), START_MS);
  await box.disk(blank, "ready");
  const status = await box.unit.api.status();
  expect(status.sentence).toContain("is no JSON: line 1, column 3");
  const fresh = await box.newDisk();
  const plan = await box.disk(fresh, "examining");
  expect(plan.reason).toContain("would be claimed, but the boot medium is wrong");
  expect(isBlank(fresh)).toBe(true);
  box.noMedium("stick");
  await restart();
  await box.disk(fresh, "ready");
  expect(await box.espHash()).toBe(espBefore);
});

test("the medium names the owner → claimed from its founding, still virgin, no code", async () => {
  const owned = await Box.make(lab);
  const ownerToken = "a-token-that-the-owner-made-himself";
  const adminTokenHash = createHash("sha256").update(ownerToken).digest("hex");
  owned.medium("esp", { joinSecret: "quite another secret", adminTokenHash });
  owned.unit.start();
  const status = await owned.status(({ phase }) => phase === "joined");
  expect(status).toMatchObject({
    cluster: { state: "virgin" },
    claim: { claimed: true, code: null },
  });
  expect((await owned.overTcp("status", { token: ownerToken })).status).toBe(200);
  expect((await owned.overTcp("status", { token })).status).toBe(401);
  expect((await owned.overTcp("claim", { body: { code: CODE } })).status).toBe(403);
});
