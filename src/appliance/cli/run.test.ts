// SPDX-License-Identifier: Apache-2.0
//
// The command line against a real API on a real socket with a Backend in memory: what is printed,
// what is asked, and the exit code of every way it can fail.
//
// Long because every command is driven over one served backend.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Fault, faultTable } from "#base/fault.ts";
import { MEMORY_CODE, MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import { hashOf } from "#appliance/api/memory-users-fixture.ts";
import { drillOver } from "#appliance/api/memory-drills-fixture.ts";
import { type ServedApi, SOCKET_FILE } from "#appliance/api/serve.ts";
import { SERVED_TOKEN as TOKEN, serveInMemory } from "#appliance/api/served-fixture.ts";
import type { Configuration } from "#appliance/configuration.ts";
import type { ApplianceStart } from "#appliance/run-appliance.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { nearest } from "./flags.ts";
import { localMachine } from "#appliance/run-attach.ts";
import type { CliMachine, FetchOptions } from "./machine.ts";
import { allFlags, commands, runCli } from "./run.ts";
import { type Column, fitTables, plain, tableText } from "./table.ts";

/** Thrown by a pause to end a watch. */
class Stop extends Error {}

let folder: string;
let backend: MemoryBackend;
let served: ServedApi;
let out: string;
let err: string;
let answers: (string | null)[];
let ran: Configuration[];
/** What boot media of images hold. */
let media: Map<string, string>;
let started: { start: ApplianceStart; disksIn: string | null }[];
let pauses: (() => void)[];
let machine: CliMachine;

function testMachine(): CliMachine {
  return {
    splitArguments: (args, options) =>
      parseArgs({ args: [...args], options, strict: false, tokens: true }).tokens,
    fetch: (url, { timeoutMs, ...options }: FetchOptions) =>
      fetch(url, { ...options, signal: AbortSignal.timeout(timeoutMs) }),
    readText: (file) => (existsSync(file) ? readFileSync(file, "utf8") : null),
    readPiece: (file, offset, length) =>
      existsSync(file) ? new Uint8Array(readFileSync(file)).slice(offset, offset + length) : null,
    exists: () => false,
    directory: folder,
    write: async (text) => void (out += text),
    complain: async (text) => void (err += text),
    isTerminal: false,
    columns: null,
    endQuietly: () => undefined,
    ask: async () => answers.shift() ?? null,
    pause: async () => {
      const next = pauses.shift();
      if (next === undefined) throw new Stop();
      next();
    },
    nowMs: () => 0,
    runUnit: async (configuration) => void ran.push(configuration),
    runApplianceUnit: async (start, disksIn) => void started.push({ start, disksIn }),
    setUpNetwork: async (start) => {
      started.push({ start, disksIn: null });
      return { hostName: "box", files: [], fixed: 1, wrong: "the medium is wrong" };
    },
    readMediumFile: async (image) => media.get(image) ?? null,
    writeMediumFile: async (image, _name, text) => void media.set(image, text),
    sha256: (text) => createHash("sha256").update(text).digest("hex"),
    randomBytes: (count) => new Uint8Array(randomBytes(count)),
    reserveSecretFile: async (file) => {
      if (existsSync(file)) throw new Fault("conflict", `${file} is there already`);
      writeFileSync(file, "");
      return {
        fill: async (text) => writeFileSync(file, text),
        discard: async () => rmSync(file),
      };
    },
    runScreen: () => Promise.reject(new Error("commands-appliance.test.ts")),
    runRecovery: () => Promise.reject(new Error("commands-appliance.test.ts")),
    box: () => Promise.reject(new Error("commands-appliance.test.ts")),
    executable: "/usr/local/bin/cairn",
    runAttach: () => Promise.reject(new Error("commands-attach.test.ts")),
    attachments: async () => ({ ...localMachine, list: () => [] }),
  };
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-cli-"));
  backend = new MemoryBackend();
  [out, err, answers, ran, started, pauses] = ["", "", [], [], [], []];
  media = new Map();
  served = serveInMemory(backend, folder, { tcp: true });
  writeFileSync(path.join(folder, "token"), `${TOKEN}\n`);
  machine = testMachine();
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a line, as typed with blanks between its words; asks the unit of `folder`. */
async function run(line: string): Promise<number> {
  [out, err] = ["", ""];
  const words = line === "" ? [] : line.split(" ");
  return runCli(machine, [...words, "--state-directory", folder]);
}
async function runPlain(line: string): Promise<number> {
  [out, err] = ["", ""];
  return runCli(machine, line === "" ? [] : line.split(" "));
}
const printed = (): unknown => JSON.parse(out);

const KEPT_VIEW = {
  ...{ number: 1, name: "one@before-1", readable: true, bytes: 7 << 20, uris: [] },
  ...{ wentOnAtMs: 1_767_225_600_000, untilMs: 1_767_225_600_000, sentence: "it can be read" },
  slices: [{ slice: 1, index: 0, disk: 1, unit: 1, bytes: 7 << 20, there: true }],
};
const DRY_NOTE = "note: dry run: nothing was changed\n";

describe("volumes", () => {
  test("create, list, show, delete", async () => {
    for (const [at, name] of ["db1", "db2"].entries()) {
      await backend.hosts.add({ name, addresses: [`10.0.0.${at}`] });
    }
    expect(await run("volume create one --size 1.5G --host db1 --host 2")).toBe(0);
    expect(backend.volume("one")).toMatchObject({
      sizeBytes: 1.5 * 2 ** 30,
      protection: "mirror-2",
      hosts: [
        { host: 1, name: "db1" },
        { host: 2, name: "db2" },
      ],
    });
    expect([out, err]).toEqual([expect.stringContaining("nbd://10.0.0.1/one"), ""]);
    expect(await run("volume list")).toBe(0);
    expect(out).toBe(
      "VOLUME  NAME  SIZE     PROTECTION  STATE              ATTACH AT\n" +
        "1       one   1.5 GiB  mirror-2    online, protected  nbd://10.0.0.1/one\n",
    );
    expect(await run("volume list --wide")).toBe(0);
    expect(out).toContain("db1, db2");
    expect(await run("volume show 1")).toBe(0);
    expect(out).toContain("two copies on two units");
    expect(out).toContain("disk 1 on unit 1 (in-sync)");
    expect(await run("volume delete one --yes")).toBe(0);
    expect([out, err]).toEqual(["one is deleted\n", expect.stringContaining("volume restore")]);
    expect(await run("volume show one")).toBe(0);
    expect(out).toContain("gone for good at 2026-01-02 00:00:00 UTC");
    expect(await run("volume restore one")).toBe(0);
    expect(await run("volume restore one")).toBe(5);
    expect(await run("volume delete one --yes --now")).toBe(0);
    expect([out, backend.volumes()]).toEqual(["one is deleted\n", []]);
  });

  test("grow: tried, done, done already; smaller, no size, no such volume → refused", async () => {
    await run("volume create one --size 1G");
    expect(await run("volume grow one --size 2G --dry-run")).toBe(0);
    expect(out).toContain("Size        2 GiB\n");
    expect(err).toContain("dry run: nothing was changed");
    expect(backend.volume("one").sizeBytes).toBe(2 ** 30);
    expect(await run("volume grow one --size 2G")).toBe(0);
    expect([out, err]).toEqual([
      expect.stringContaining("2 GiB"),
      expect.stringContaining("attach again"),
    ]);
    expect(await run("volume grow 1 --size 2G -o json")).toBe(0);
    expect(printed()).toEqual(backend.volume("one"));
    expect(await run("volume grow one --size 1G")).toBe(exitCodeOf("conflict"));
    expect(await run("volume grow one")).toBe(2);
    expect(await run("volume grow one --size much")).toBe(2);
    expect(await run("volume grow two --size 2G")).toBe(exitCodeOf("notFound"));
    backend.volume("one").growingToBytes = 3 * 2 ** 30;
    expect(await run("volume show one")).toBe(0);
    expect(out).toContain("Grows to    3 GiB\n");
  });

  test("rename: tried, done; a name of digits, or of no volume → refused", async () => {
    await run("volume create one --size 1G");
    expect(await run("volume rename one uno --dry-run")).toBe(0);
    expect(out).toBe("it would be told: volume one is called uno\n");
    expect(await run("volume rename one uno")).toBe(0);
    expect([out, backend.volumes().map(({ name }) => name)]).toEqual([
      "it is called uno\n",
      ["uno"],
    ]);
    expect(await run("volume rename uno 12")).toBe(exitCodeOf("badRequest"));
    expect(await run("volume rename one two")).toBe(exitCodeOf("notFound"));
  });

  test("tls: said at creation, changed, shown; another word → misuse", async () => {
    expect(await run("volume create one --size 1G --tls required")).toBe(0);
    expect(backend.volume("one").tls).toBe("required");
    expect(await run("volume tls one off")).toBe(0);
    expect(out).toBe("one: TLS is off\n");
    expect(await run("volume tls one optional --dry-run")).toBe(0);
    expect(out).toBe("it would be told: TLS of volume one is optional\n");
    expect(backend.volume("one").tls).toBe("off");
    expect(await run("volume tls one sometimes")).toBe(2);
    expect(err).toContain("off, optional, required");
    expect(await run("volume create two --size 1G --tls maybe")).not.toBe(0);
    expect(backend.volumes()).toHaveLength(1);
  });

  test("-o json → what the API says, whole", async () => {
    await run("volume create one --size 1G -o json");
    expect(printed()).toEqual(backend.volume("one"));
    expect(err).toContain("nobody may attach yet");
    await run("volume list --output=json");
    expect(printed()).toEqual({ volumes: backend.volumes() });
    await run("volume delete one --yes -ojson");
    expect(printed()).toMatchObject({ deleted: { name: "one" } });
  });

  test("--dry-run changes nothing", async () => {
    expect(await run("volume create one --size 1G --dry-run")).toBe(0);
    expect(err).toContain("dry run: nothing was changed");
    expect(backend.creations).toBe(0);
    await run("volume create one --size 1G");
    expect(await run("volume delete one --dry-run")).toBe(0);
    expect(backend.volumes()).toHaveLength(1);
  });

  test("go on without a copy, read what is kept, give it up: each by its name, typed", async () => {
    await run("volume create one --size 1G");
    expect(await run("volume go-on one --yes")).toBe(5);
    const volume = backend.volume("one");
    volume.goOn = { from: "disk 2 of cairn-2", costs: "all that was written since" };
    expect(await run("volume go-on one --dry-run")).toBe(0);
    expect(out).toBe("it would be told: one goes on\n");
    expect(volume.goOn).not.toBeNull();
    answers = ["two", null, "one"];
    expect(await run("volume go-on one")).toBe(2);
    expect(await run("volume go-on one")).toBe(2);
    expect(volume.goOn).not.toBeNull();
    expect(await run("volume go-on one")).toBe(0);
    expect(out).toBe("one goes on\n");
    expect(volume.goOn).toBeNull();
    volume.kept = [KEPT_VIEW];
    expect(await run("volume show one")).toBe(0);
    expect(out).toContain("Kept           one@before-1");
    expect(out).toContain("2026-01-01 00:00:00 UTC, at least");
    expect(out).toContain("disk 1 on unit 1");
    expect(out).toContain("7 MiB");
    expect(await run("volume discard one")).toBe(2);
    expect(err).toContain("v1@before-1");
    expect(await run("volume discard one@before-1 --dry-run")).toBe(0);
    answers = ["one", "one@before-1"];
    expect(await run("volume discard one@before-1")).toBe(2);
    expect(volume.kept).toHaveLength(1);
    expect(await run("volume discard one@before-1")).toBe(0);
    expect([out, volume.kept]).toEqual(["one@before-1 is given up\n", []]);
    expect(await run("volume discard one@before-1 --yes")).toBe(4);
  });

  test("delete asks for the name; without a person it wants --yes", async () => {
    await run("volume create one --size 1G");
    answers = ["two", null, "one\n"];
    expect(await run("volume delete one")).toBe(2);
    expect(await run("volume delete one")).toBe(2);
    expect(err).toContain("--yes");
    expect(backend.volumes()).toHaveLength(1);
    expect(await run("volume delete one --now")).toBe(0);
    expect(backend.volumes()).toEqual([]);
  });
});

describe("the cluster", () => {
  test("status, units, disks, recovery", async () => {
    expect(await run("status")).toBe(0);
    expect(out).toContain("State    joined: serves and is well\n");
    expect(await run("unit list")).toBe(0);
    expect(out).toContain("2     cairn-0002  away   member  pool  yes");
    expect(await run("disk list")).toBe(0);
    expect(out).not.toContain("ext4");
    expect(await run("disk list --wide")).toBe(0);
    expect(out).toContain("it holds ext4");
    expect(out).toContain("3, 1 not healed  2026-01-01 00:00:00, now 40 %");
    expect(out).toContain("3, 1 not healed  never");
    expect(await run("recovery show")).toBe(0);
    expect(out).toContain("1       1      2          1 MiB  4 MiB\n1 MiB moved");
  });

  test("unit waiting, admit, admit-all, renew: who comes in by the owner's word", async () => {
    expect(await run("unit waiting")).toBe(0);
    expect(out).toBe("no unit waits without a join secret\n");
    const words = ["robin", "tulip"];
    const box = { unitId: "ab".repeat(16), name: "new-box", version: "1", address: "::1", words };
    backend.arrivals.waiting = [box];
    expect(await run("unit waiting")).toBe(0);
    expect(out).toContain("new-box  robin tulip  ::1");
    expect(await run("unit admit")).toBe(2);
    expect(await run("unit admit robin rose")).toBe(4);
    expect(await run("unit admit robin tulip")).toBe(0);
    expect(out).toContain("new-box has the join secret");
    expect(await run("unit admit-all --seconds 601")).toBe(2);
    expect(await run("unit admit-all --seconds 60 --limit 2")).toBe(0);
    expect(out).toBe("whatever asks is let in for 60 s more, 2 at most\n");
    expect(await run("unit waiting -o json")).toBe(0);
    expect(JSON.parse(out)).toEqual({ waiting: [], window: { secondsLeft: 60, unitsLeft: 2 } });
    expect(await run("unit admit-all --close")).toBe(0);
    expect(backend.arrivals.window).toBeNull();
    expect(await run("unit renew")).toBe(5);
    backend.arrivals.isRemoved = true;
    expect(await run("unit renew")).toBe(0);
  });

  test("unit evacuate, keep, replace, remove: what it comes to, and what is refused", async () => {
    expect(await run("unit evacuate cairn-0002 --dry-run")).toBe(0);
    expect(out).toContain("no volume would notice");
    expect(err).toContain("nothing was changed");
    expect(backend.fleet.evacuated.size).toBe(0);
    expect(await run("unit evacuate 2 --then-remove")).toBe(0);
    expect([...backend.fleet.evacuated]).toEqual([[2, true]]);
    expect(await run("unit list --wide")).toBe(0);
    expect(out).toContain("about 12 min more at the pace so far");
    expect(await run("unit keep 2")).toBe(0);
    expect(await run("unit keep 2")).toBe(5);
    expect(await run("unit replace 2 1 -o json")).toBe(0);
    expect(JSON.parse(out)).toEqual(backend.fleet.answer);
    backend.fleet.isTight = true;
    expect(await run("unit evacuate 2")).toBe(9);
    expect(err).toContain("there is no room");
    expect(await run("unit remove 2")).toBe(5);
    expect(err).toContain("a copy fewer");
    expect(await run("unit remove 2 --force")).toBe(0);
    expect(backend.fleet.removed).toEqual([[2, true]]);
    expect(await run("unit remove")).toBe(2);
    expect(await run("unit replace 2")).toBe(2);
  });

  test("unit maintenance: what it comes to, begun, shown, ended; what makes no sense", async () => {
    expect(await run("unit maintenance 2 --dry-run")).toBe(0);
    expect([out, err]).toEqual([expect.stringContaining("no volume would notice"), DRY_NOTE]);
    expect(backend.fleet.maintained.size).toBe(0);
    expect(await run("unit maintenance 2 --for soon")).toBe(2);
    expect(err).toContain("such as 30m or 2h");
    expect(await run("unit maintenance 2 --for 30m")).toBe(0);
    expect(backend.fleet.maintained.get(2)).toBe(1_800_000);
    expect(await run("unit list")).toBe(0);
    expect(out).toContain("away, in maintenance");
    expect(await run("unit list --wide")).toBe(0);
    expect(out).toContain("it can be switched off or restarted");
    expect(await run("unit maintenance 2 --off")).toBe(0);
    expect(await run("unit maintenance 2 --off")).toBe(5);
    backend.fleet.isTight = true;
    expect(await run("unit maintenance 2")).toBe(5);
    expect(err).toContain("offline while it is away");
    expect(await run("what-if maintenance 2")).toBe(0);
    expect(backend.fleet.asked.at(-1)).toMatchObject({ maintenance: "2" });
  });

  test("pool create, list, delete; unit move; a volume in a pool", async () => {
    expect(await run("pool create archive")).toBe(0);
    expect(err).toContain("cairn unit move UNIT archive");
    expect(await run("pool create archive")).toBe(5);
    expect(await run("unit move 2 archive --dry-run")).toBe(0);
    expect(err).toContain("2 would be a member of the pool archive");
    expect(backend.fleet.places.size).toBe(0);
    expect(await run("unit move 2 archive")).toBe(0);
    expect(backend.fleet.placeOf(2)).toEqual({ role: "member", pool: "archive" });
    expect(await run("pool list --wide")).toBe(0);
    expect(out).toMatch(/archive {2}2 {6}- {7}0 .* 10 GiB as none/);
    expect(await run("pool delete archive")).toBe(5);
    expect(await run("unit move 2 archive --spare")).toBe(0);
    expect(backend.fleet.placeOf(2)).toEqual({ role: "spare", pool: "archive" });
    expect(await run("unit move 2 none")).toBe(0);
    expect(backend.fleet.placeOf(2)).toEqual({ role: "spare", pool: null });
    expect(await run("volume create v --size 1G --pool archive")).toBe(0);
    expect(backend.volume("v").pool).toBe("archive");
    expect(await run("volume create w --size 1G --pool nowhere")).toBe(4);
    expect(await run("unit move 2")).toBe(2);
  });

  test("unit show, volume figures, recovery all: figures of any unit, in words", async () => {
    expect(await run("unit show cairn-0001")).toBe(0);
    expect(out).toContain("18 % of 4 cores");
    expect(out).toContain("no cable in eth1");
    expect(out).toContain("Slot 03");
    expect(out).toContain("healthy, as it says itself, 34 °C, 8123 h in use, 2 % worn");
    expect(await run("unit show 2")).toBe(exitCodeOf("notReady"));
    expect(await run("unit show nobody")).toBe(4);
    await run("volume create one --size 1G");
    expect(await run("volume figures one")).toBe(0);
    expect(out).toContain("0.4 ms per read, 1.5 ms per write; longest 2480 ms");
    expect(out).toContain("what units 2 served");
    expect(await run("volume figures one --wide")).toBe(0);
    expect(out.split("\n").length).toBeGreaterThan(270);
    expect(await run("job list")).toBe(0);
    expect(out).toMatch(/scrub-1 +disk 1 +40 % +not known yet +it is read through/);
    expect(await run("recovery all")).toBe(0);
    const resync = { slice: 4, volume: 1, target: 2, doneBytes: 1 << 20, totalBytes: 1 << 30 };
    const resyncs = [{ ...resync, leftMs: 95_000, unit: 1 }];
    backend.neighbours.copied = { resyncs, missing: [2] };
    expect(await run("recovery all")).toBe(0);
    expect(out).toContain("about 2 min");
    expect(err).toContain("units 2 copy something and do not answer");
  });

  test("unit locate, disk locate: on and off; where there is no light it is said", async () => {
    expect(await run("unit locate cairn-0001")).toBe(0);
    expect(backend.neighbours.searched.get(1)).toBe(true);
    expect(await run("unit locate 1 --off")).toBe(0);
    expect(backend.neighbours.searched.get(1)).toBe(false);
    expect(await run("disk locate 1")).toBe(0);
    expect(backend.neighbours.lights.get(1)).toBe(true);
    expect(await run("disk locate 2")).toBe(4);
    expect(err).toContain("there is no light at disk 2");
    expect(await run("disk locate sda")).toBe(2);
  });

  test("what-if: a unit, a disk, a link; volumes in words; nonsense is refused", async () => {
    backend.fleet.answer = {
      ...backend.fleet.answer,
      volumes: [
        {
          name: "one",
          availability: "online",
          protection: "at-risk",
          later: "protected",
          sentence: "stays up, with one copy left; then protected again",
        },
      ],
      copiesBytesMax: 1 << 30,
      sentences: ["there is room to make every copy anew"],
    };
    expect(await run("what-if unit cairn-0002")).toBe(0);
    expect(out).toContain("stays up, with one copy left; then protected again");
    expect(out).toContain("at most 1 GiB would be copied, after 600 s");
    expect(out).toContain("one other volume goes on as now");
    expect(await run("what-if disk 3")).toBe(0);
    expect(await run("what-if link 1 2")).toBe(0);
    expect(backend.fleet.asked.at(-1)).toMatchObject({ link: ["1", "2"] });
    for (const line of ["what-if", "what-if unit", "what-if rack 1", "what-if link 1"]) {
      expect([line, await run(line)]).toEqual([line, 2]);
    }
    expect(await run("what-if unit 1 2")).toBe(2);
    expect(await run("what-if unit 77")).toBe(4);
  });

  test("question list: what is to be decided, and what each answer loses", async () => {
    expect(await run("question list")).toBe(0);
    expect(out).toBe("nothing is to be decided\n");
    const answers = [{ answer: "yes: cairn disk return 3", costs: "nothing" }];
    backend.fleet.open = [{ about: "disk 3", sentence: "is disk 3 to be used again?", answers }];
    expect(await run("question list")).toBe(0);
    expect(out).toBe(
      "is disk 3 to be used again?\n  - yes: cairn disk return 3\n    loses: nothing\n",
    );
    expect(await run("question list -o json")).toBe(0);
    expect(JSON.parse(out)).toEqual({ questions: backend.fleet.open });
  });

  test("support bundle and replay: a new file, read back and compared", async () => {
    expect(await run("support bundle b.json")).toBe(0);
    expect(JSON.parse(readFileSync(path.join(folder, "b.json"), "utf8"))).toMatchObject({
      format: "cairn-support-bundle",
    });
    expect(await run("support bundle b.json")).toBe(5);
    expect(await runPlain("replay b.json")).toBe(0);
    expect(out).toContain("0 decisions of version");
    const decision = { kind: "decision", by: "upkeep", nowMs: 1, wallMs: 1, puts: [], deletes: [] };
    backend.journal = {
      base: [],
      steps: [{ ...decision, kind: "decision", deletes: ["/volumes/1"] }],
    };
    expect(await run("support bundle c.json")).toBe(0);
    expect(await runPlain("replay c.json")).toBe(1);
    expect(out).toContain("nothing is decided now");
    expect(await runPlain("replay words")).toBe(4);
    writeFileSync(path.join(folder, "words"), "no bundle");
    expect(await runPlain("replay words")).toBe(2);
  });

  test("unit losses: a row for each unit", async () => {
    expect(await run("unit losses")).toBe(0);
    expect(out).toContain("cairn-0001   the control store stops");
    expect(await run("unit losses -o json")).toBe(0);
    expect(printed()).toEqual({ losses: backend.fleet.losses() });
  });

  test("drill: said beforehand, watched, and told by its exit code", async () => {
    expect(await run("drill --dry-run")).toBe(0);
    expect(out).toBe("1. A volume is made.\n2. Its head falls silent.\n");
    expect(backend.drills.begun).toEqual([]);
    const passed = drillOver();
    pauses.push(() => backend.drills.next.push(passed));
    expect(await run("drill --unit cairn-0002")).toBe(0);
    expect(backend.drills.begun).toEqual(["cairn-0002"]);
    expect(out).toBe(`passed: ${passed.sentence}\n`);
    expect(err).toContain("Its head falls silent.");
    expect(err).toContain("making the canary volume");
    pauses.push(() => backend.drills.next.push(drillOver({ wrongBlocks: 1 })));
    expect(await run("drill -o json")).toBe(1);
    expect(printed()).toMatchObject({ phase: "over", passed: false });
    backend.drills.refusal = "only one has one in this pool";
    expect(await run("drill --dry-run")).toBe(1);
    expect(out).toContain("only one has one");
    expect(await run("drill")).toBe(9);
  });

  test("control backup and backups: kept on the unit, written to a new file, listed", async () => {
    expect(await run("control backup")).toBe(0);
    expect(out).toBe("backup of 2026-01-02 00:00:00 UTC, 3 keys, 15 B is kept on the unit\n");
    expect(await run("control backup state.backup")).toBe(0);
    const text = readFileSync(path.join(folder, "state.backup"), "utf8");
    expect(Buffer.from(text, "base64").toString()).toBe("a sealed backup");
    expect(await run("control backup state.backup")).toBe(exitCodeOf("conflict"));
    expect(await run("control backups")).toBe(0);
    expect(out).toContain("control-backup-0  2026-01-02 00:00:00");
    expect(out).toContain("attic");
  });

  test("control restore: said beforehand, only after a yes, refused without need", async () => {
    expect(await run("control restore --dry-run")).toBe(exitCodeOf("conflict"));
    backend.control.answers = false;
    expect(await run("control restore --yes")).toBe(exitCodeOf("notFound"));
    await run("control backup");
    expect(await run("control restore --dry-run")).toBe(0);
    expect(out).toBe("1. right only if the voters are gone\n2. generation 2 begins\n");
    expect(await run("control restore")).toBe(EXIT.usage[0]);
    answers = ["no"];
    expect(await run("control restore")).toBe(EXIT.usage[0]);
    expect(err).toContain("nothing was changed");
    expect(backend.control.restored).toEqual([]);
    answers = ["yes"];
    expect(await run("control restore")).toBe(0);
    expect(err).toContain("right only if the voters are gone");
    expect(await run("control restore one two")).toBe(EXIT.usage[0]);
    expect(await run("control restore kept --yes")).toBe(0);
    const file = path.join(folder, "kept");
    expect(backend.control.restored).toEqual([{ dryRun: false }, { file, dryRun: false }]);
    // From elsewhere nobody names files of the unit.
    const elsewhere = `--url http://127.0.0.1:${served.port} --token-file ${folder}/token`;
    const asked = await runPlain(`control restore kept --yes ${elsewhere}`);
    expect(asked).toBe(exitCodeOf("forbidden"));
  });

  test("control rebuild, settle: said beforehand, only after a yes, not without need", async () => {
    expect(await run("control rebuild --dry-run")).toBe(exitCodeOf("conflict"));
    backend.control.answers = false;
    expect(await run("control rebuild --dry-run")).toBe(0);
    expect(out).toBe("1. right only if no backup is left\n2. generation 2 begins\n");
    expect(await run("control rebuild")).toBe(EXIT.usage[0]);
    expect(err).toContain("--yes");
    answers = ["no"];
    expect(await run("control rebuild")).toBe(EXIT.usage[0]);
    expect(backend.control.rebuilds).toBe(0);
    answers = ["yes"];
    expect(await run("control rebuild")).toBe(0);
    expect(await run("control rebuild --yes")).toBe(0);
    expect(await run("control rebuild kept --yes")).toBe(EXIT.usage[0]);
    expect(backend.control.rebuilds).toBe(2);
    expect(await run("control settle --yes")).toBe(exitCodeOf("conflict"));
    backend.control.told = 3;
    expect(await run("control settle --dry-run")).toBe(0);
    answers = ["later"];
    expect(await run("control settle")).toBe(EXIT.usage[0]);
    expect(backend.control.gathering).toBe(true);
    answers = ["yes"];
    expect(await run("control settle")).toBe(0);
    expect(out).toContain("settled: 3 disks have told");
    expect(backend.control.gathering).toBe(false);
  });

  test("volume accept: only after its name was typed", async () => {
    await run("volume create one --size 1G");
    expect(await run("volume accept one")).toBe(EXIT.usage[0]);
    answers = ["two"];
    expect(await run("volume accept one")).toBe(EXIT.usage[0]);
    expect(backend.accepted).toEqual([]);
    answers = ["one"];
    expect(await run("volume accept one")).toBe(0);
    expect(await run("volume accept one --yes")).toBe(0);
    expect(backend.accepted).toEqual(["one", "one"]);
  });

  test("disk retire, disk return: by number; what cannot be is said", async () => {
    expect(await run("disk retire 2")).toBe(0);
    expect(out).toBe("disk 2 is being retired; it can be pulled once it holds no slices\n");
    expect(backend.retired).toEqual([2]);
    expect(await run("disk retire 2")).not.toBe(0);
    expect(await run("disk return 2 -o json")).toBe(0);
    expect(JSON.parse(out)).toEqual({ disk: 2 });
    expect(backend.retired).toEqual([]);
    expect(await run("disk return 2")).not.toBe(0);
    expect(err).toContain("nothing to return");
    expect(await run("disk retire all")).toBe(2);
    expect(await run("disk return")).toBe(2);
  });

  test("disk scrub: by number, yielding to hosts or not; what is no disk is refused", async () => {
    expect(await run("disk scrub 2")).toBe(0);
    expect(out).toBe("disk 2 is being scrubbed\n");
    expect(await run("disk scrub 1 --now -o json")).toBe(0);
    expect(printed()).toEqual({ disk: 1, urgent: true });
    expect(backend.scrubs).toEqual([
      [2, false],
      [1, true],
    ]);
    expect(await run("disk scrub 77")).not.toBe(0);
    expect(await run("disk scrub /dev/sda")).toBe(2);
    expect(await run("disk scrub 1 --urgent")).toBe(2);
  });

  test("disk claim: tried, typed by its path, or --yes; else nothing is erased", async () => {
    expect(await run("disk claim cairn-0001 /disks/other --dry-run")).toBe(0);
    expect(await run("disk claim cairn-0001 /disks/other")).toBe(2);
    expect(backend.neighbours.erased).toEqual([]);
    expect(await run("disk claim cairn-0001 /disks/other --yes")).toBe(0);
    expect(backend.neighbours.erased).toEqual(["/disks/other"]);
    expect(await run("disk claim cairn-0001 /dev/none --yes")).toBe(4);
  });

  test("box: shown; a network tried, kept, taken back; the clock; nonsense is usage", async () => {
    expect(await run("box show cairn-0001")).toBe(0);
    expect(out).toContain("eth0  52:54:00:00:00:01  yes    DHCP  10.0.0.1/24");
    expect(out).toContain("clock: 2026-01-01 00:00:00 UTC, kept right by nobody");
    const tries = "box network 1 --card eth0 --address 10.0.0.5/24";
    expect(await run(`${tries} --gateway 10.0.0.254 --dry-run`)).toBe(0);
    expect(backend.neighbours.trial).toBeNull();
    expect(await run(`${tries} --gateway 10.0.0.254`)).toBe(0);
    expect(err).toContain("cairn box keep 1");
    expect(await run("box keep 1")).toBe(0);
    expect(await run("box show 1 -o json")).toBe(0);
    expect(printed()).toMatchObject({
      network: [{ interface: "eth0", addresses: ["10.0.0.5/24"], gateways: ["10.0.0.254"] }],
    });
    expect(await run("box network 1 --card 52:54:00:00:00:01 --dhcp")).toBe(0);
    expect(backend.neighbours.trial).toEqual([]);
    expect(await run("box undo 1")).toBe(0);
    expect(await run("box undo 1")).toBe(5);
    for (const wrong of [
      "box network 1 --card eth0",
      "box network 1 --dhcp",
      "box network 1 --card eth9 --dhcp",
      "box network 1 --card eth0 --address 10.0.0.5",
      "box network 1 --card eth0 --address 10.0.0.5/24 --gateway 10.9.9.9",
      "box network 1 --card eth0 --dhcp --dns 10.0.0.1",
      "box clock 1 noon",
    ]) {
      expect([wrong, await run(wrong)]).toEqual([wrong, 2]);
    }
    expect(await run("box clock 1 2026-11-28T20:15:00Z")).toBe(0);
    expect(out).toContain("its clock says 2026-11-28 20:15:00 UTC");
    backend.neighbours.isAppliance = false;
    expect(await run("box clock 1 2026-11-28T20:15:00Z")).not.toBe(0);
    expect(err).toContain("this unit is not an appliance");
  });

  test("settings: listed and changed in the words of people; nonsense is refused", async () => {
    expect(await run("setting list")).toBe(0);
    expect(out).toContain("scrubEveryMs            14d");
    expect(await run("setting set scrubEveryMs 7d")).toBe(0);
    expect(await run("setting set scrubBytesPerSecondMax 100M")).toBe(0);
    expect(await run("setting set diskErrorsMax 0")).toBe(0);
    expect(await run("setting set groupAddress 10.0.0.50")).toBe(0);
    expect(out).toContain("groupAddress            10.0.0.50");
    expect(await run("setting set httpsOnly yes")).toBe(0);
    expect(await run("setting set clusterName cellar")).toBe(0);
    expect(await run("setting set clusterName two words")).toBe(2);
    expect(await run("setting set timeServers 10.0.0.1,ntp.example.org")).toBe(0);
    expect(out).toContain("timeServers             10.0.0.1,ntp.example.org");
    expect(await run("setting set timeServers 10.0.0.999")).not.toBe(0);
    expect(await run("setting set httpsOnly perhaps")).toBe(2);
    expect(await run("authority show")).toBe(0);
    expect(out).toContain("SHA-256 AA:BB");
    expect(await run("setting list -o json")).toBe(0);
    expect(printed()).toEqual({
      syslogTarget: null,
      timeServers: "10.0.0.1,ntp.example.org",
      clusterName: "cellar",
      reprotectAfterMs: 600_000,
      protectWithinMs: 0,
      scrubEveryMs: 7 * 86_400_000,
      scrubBytesPerSecondMax: 100 << 20,
      diskErrorsMax: 0,
      groupAddress: "10.0.0.50",
      httpsOnly: true,
    });
    backend.deadline = { withinMs: 7_200_000, problems: ["were box2 lost, too late"], unknown: [] };
    expect(await run("setting set protectWithinMs 2h")).toBe(0);
    expect(err).toContain("note: were box2 lost, too late");
    expect(backend.settings().protectWithinMs).toBe(7_200_000);
    expect(await run("recovery show")).toBe(0);
    expect(out).toContain("protected again within 2h:\n  - were box2 lost, too late");
    expect(await run("setting set groupAddress none")).toBe(0);
    expect(backend.settings().groupAddress).toBeNull();
    expect(await run("setting set groupAddress 10.0.0.0/24")).toBe(2);
    for (const line of [
      "scrubEveryMs often",
      "scrubEveryMs 1e3d",
      "nothing 1",
      "diskErrorsMax -1",
    ]) {
      expect(await run(`setting set ${line}`)).toBe(2);
    }
    // The bounds are the unit's to hold.
    expect(await run("setting set scrubEveryMs 99999d")).not.toBe(0);
    expect(err).toContain("scrubEveryMs");
  });

  test("events: the newest, and from a number on", async () => {
    for (let count = 1; count <= 30; count++) backend.say("info", `event ${count}`);
    await run("event list -o json");
    expect(printed()).toMatchObject({ events: { length: 20, 0: { number: 11 } } });
    await run("event list --since 3 --limit 2 -o json");
    expect(printed()).toMatchObject({ events: [{ number: 4 }, { number: 5 }] });
    await run("event list --limit 1");
    expect(out).toContain("30      2026-01-01 00:00:30  info      -   event 30\n");
  });

  test("--watch: looks again, waits for a unit that is away, ends by a real failure", async () => {
    pauses = [
      () => (backend.nextFailure = new Fault("controlStoreAway", "no answer")),
      () => undefined,
    ];
    await expect(run("volume list --watch")).rejects.toBeInstanceOf(Stop);
    expect(out.match(/VOLUME/g)).toHaveLength(2);
    expect(err).toContain(
      "note: the control store does not answer: no answer; looking again in 2 s",
    );
    expect(err).toContain("note: it answers again");
    pauses = [() => (backend.nextFailure = new Fault("internal", "broken"))];
    expect(await run("volume list --watch")).toBe(1);
  });

  test("event list --watch: goes on after the last one shown, each once", async () => {
    backend.say("info", "first");
    pauses = [() => backend.say("info", "second"), () => undefined];
    await expect(run("event list --watch -o json")).rejects.toBeInstanceOf(Stop);
    const lines = out.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).events[0].sentence)).toEqual(["first", "second"]);
  });

  test("knowledge that is old → a note beside the answer", async () => {
    backend.staleMs = 4200;
    expect(await run("volume list")).toBe(0);
    expect(err).toBe("note: the control store does not answer; this is 4 s old\n");
  });

  test("a terminal obeys nothing that comes from afar", async () => {
    backend.say("alarm", "\x1b[2Jgone\u009b1m\nforged line");
    await run("event list");
    expect(out).toContain("?[2Jgone?1m?forged line");
    expect(plain("é 日本")).toBe("é 日本");
  });
});

describe("ways to a unit", () => {
  test("socket, URL with token", async () => {
    expect(await runPlain(`status --socket ${folder}/${SOCKET_FILE}`)).toBe(0);
    const url = `http://127.0.0.1:${served.port}`;
    expect(await runPlain(`--url ${url} --token-file ${folder}/token status`)).toBe(0);
    writeFileSync(path.join(folder, "wrong"), "0".repeat(64));
    expect(await runPlain(`--url ${url} --token-file ${folder}/wrong status`)).toBe(7);
    expect(await runPlain(`--url ${url} --token-file ${folder}/gone status`)).toBe(4);
  });

  test("the usual socket, if there is one", async () => {
    expect(await runPlain("status")).toBe(6);
    expect(err).toContain("start one by cairn unit");
    machine.exists = () => true;
    const asked: (string | undefined)[] = [];
    machine.fetch = async (_url, { unix }) => {
      asked.push(unix);
      return Response.json(backend.status());
    };
    expect(await runPlain("status")).toBe(0);
    expect(asked).toEqual(["/run/cairn/api.sock"]);
  });

  test("flags that contradict each other → usage", async () => {
    for (const line of [
      "status --socket /a --url http://a",
      "status --url http://a",
      "status --url ftp://a --token-file /a",
      "status --socket /a --token-file /a",
    ]) {
      expect([line, await runPlain(line)]).toEqual([line, 2]);
    }
  });

  test("what answers is no unit → failed, and says so", async () => {
    machine.fetch = async () => new Response("<html>", { status: 200 });
    expect(await run("status")).toBe(1);
    expect(err).toContain("no Cairn unit");
    machine.fetch = async () => Response.json({}, { status: 500 });
    expect(await run("status")).toBe(1);
    machine.fetch = async () => Response.json({ other: true });
    expect(await run("status")).toBe(exitCodeOf("versionMismatch"));
  });

  test("no answer → not ready for a question, unknown for a change that was sent", async () => {
    const fails = (code: string) => async () => {
      throw Object.assign(new TypeError("failed"), { code });
    };
    const create = "volume create one --size 1G";
    machine.fetch = fails("ECONNREFUSED");
    expect([await run("status"), await run(create)]).toEqual([6, 6]);
    machine.fetch = fails("ECONNRESET");
    expect([await run("status"), await run(create)]).toEqual([6, 8]);
  });
});

describe("exit codes", () => {
  test("every fault of a unit → its documented code, with message and hint", async () => {
    for (const code of Object.keys(faultTable) as (keyof typeof faultTable)[]) {
      backend.nextFailure = new Fault(code, "because");
      expect([code, await run("volume list")]).toEqual([code, exitCodeOf(code)]);
      expect(err).toContain("because");
      expect(err).toContain(faultTable[code][3]);
    }
    expect(exitCodeOf("invented by a newer unit")).toBe(1);
  });

  test("as JSON where JSON was asked for", async () => {
    expect(await run("volume show nothing -o json")).toBe(4);
    expect(JSON.parse(err).error).toMatchObject({ code: "notFound", exitCode: 4 });
    expect(out).toBe("");
  });

  test("what makes no sense → 2, and nothing was asked", async () => {
    machine.fetch = () => {
      throw new Error("asked");
    };
    for (const line of [
      "vol list",
      "volume",
      "volume lst",
      "volume show",
      "volume show a b",
      "volume create one",
      "volume create one --size big",
      "volume create one --size",
      "volume create one --size -1",
      "volume create one --sise 1G",
      "volume create one --size 1G --size 2G",
      "volume assign one",
      "host add db1",
      "host change db1",
      "volume list --dry-run",
      "volume list -o yaml",
      "volume list --wide=maybe",
      "volume list --no-output",
      "event list --since x",
      "status extra",
      "unit --watch",
    ]) {
      expect([line, await run(line)]).toEqual([line, 2]);
      expect([line, err !== "", out]).toEqual([line, true, ""]);
    }
  });

  test("advice for what was nearly right", async () => {
    await run("volume create one --sise 1G");
    expect(err).toContain("did you mean --size?");
    await run("vol list");
    expect(err).toContain("did you mean volume?");
    expect(nearest("zzzz", ["volume"])).toBeNull();
  });
});

describe("the unit itself", () => {
  test("flags and file become its configuration", async () => {
    writeFileSync(path.join(folder, "cairn.json"), '{ "name": "box", "disks": ["a"] }');
    expect(await runPlain("unit --config cairn.json --no-may-found --slice-size 64M")).toBe(0);
    expect(ran).toHaveLength(1);
    expect(ran[0]).toMatchObject({
      name: "box",
      disks: [`${folder}/a`],
      mayFound: false,
      sliceBytes: 64 << 20,
    });
    expect(await runPlain(`unit --medium ${folder} --name other --direct-files=no`)).toBe(0);
    expect(ran[1]).toMatchObject({ name: "other", directFiles: false, disks: [`${folder}/a`] });
  });

  test("wrong settings → 2, and it does not run; a machine that lacks something → 3", async () => {
    writeFileSync(path.join(folder, "words"), "some-join-secret-of-a-cluster");
    expect(await runPlain("witness --join-secret-file words --name third")).toBe(0);
    expect(ran.pop()).toMatchObject({ role: "witness", disks: [], name: "third" });
    expect(await runPlain("witness")).toBe(2);
    expect(err).toContain("--join-secret-file");
    expect(await runPlain("witness --disk a")).toBe(2);
    ran.splice(0);
    for (const line of ["unit --config gone.json", "unit --role king", "unit --api-port x"]) {
      expect([line, await runPlain(line)]).toEqual([line, 2]);
    }
    expect(ran).toEqual([]);
    machine.runUnit = async () => {
      throw new Fault("badMachine", "no io_uring");
    };
    expect(await runPlain("unit")).toBe(3);
    expect(err).toContain("no io_uring");
  });

  test("config schema, config show, version", async () => {
    expect(await runPlain("config schema")).toBe(0);
    expect(printed()).toMatchObject({ properties: { disks: { type: "array" } } });
    writeFileSync(path.join(folder, "secret"), "a secret that is long enough");
    expect(await runPlain("config show --join-secret-file secret")).toBe(0);
    expect(out).not.toContain("long enough");
    expect(await runPlain("version -o json")).toBe(0);
    expect(printed()).toHaveProperty("version");
  });

  test("a bug of ours is not dressed up as a failure", async () => {
    machine.runUnit = async () => {
      throw new TypeError("bug");
    };
    await expect(runPlain("unit")).rejects.toThrow("bug");
  });
});

describe("claim", () => {
  const there = () => `--url http://127.0.0.1:${served.port}`;
  const token = (name = "cairn-token") => readFileSync(path.join(folder, name), "utf8");

  test("by the code, from elsewhere, without a token → the owner's token in a file", async () => {
    expect(await runPlain(`claim ${there()} --code k7qwm --save mine`)).toBe(7);
    expect(existsSync(path.join(folder, "mine"))).toBe(false);
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE} --save mine -o json`)).toBe(0);
    expect(printed()).toEqual({ tokenFile: `${folder}/mine` });
    expect(token("mine")).toMatch(/^[0-9a-f]{64}\n$/);
    expect(hashOf(token("mine").trim())).toBe(backend.users.ownerHash as string);
    expect(out + err).not.toContain(token("mine").trim());
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE} --save other`)).toBe(5);
    expect(err).toContain("claimed already");
    expect(existsSync(path.join(folder, "other"))).toBe(false);
  });

  test("no code said → asked for; nobody there to answer → said", async () => {
    answers = [` ${MEMORY_CODE} `];
    expect(await runPlain(`claim ${there()}`)).toBe(0);
    expect(hashOf(token().trim())).toBe(backend.users.ownerHash as string);
    expect(await runPlain(`claim ${there()} --save other`)).toBe(2);
    expect(err).toContain("--code");
  });

  test("the file holds something else → kept, and nothing is asked", async () => {
    writeFileSync(path.join(folder, "cairn-token"), "an older one");
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE}`)).toBe(2);
    expect(err).toContain("holds no token");
    expect([token(), backend.claims]).toEqual(["an older one", []]);
  });

  test("the file holds a token → that is taken, and the same again is no harm", async () => {
    writeFileSync(path.join(folder, "cairn-token"), `${"7e".repeat(32)}\n`);
    for (const times of [1, 2]) {
      expect([times, await runPlain(`claim ${there()} --code ${MEMORY_CODE}`)]).toEqual([times, 0]);
      expect(backend.users.ownerHash).toBe(hashOf("7e".repeat(32)));
    }
    expect(await runPlain(`claim ${there()} --code sesame`)).toBe(7);
    expect(token()).toBe(`${"7e".repeat(32)}\n`);
  });

  test("the answer is lost → its token is kept, and the same command takes it up", async () => {
    const { fetch } = machine;
    machine.fetch = async (...words) => {
      await fetch(...words);
      throw Object.assign(new Error("reset"), { code: "ECONNRESET" });
    };
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE}`)).toBe(8);
    expect(err).toContain("the same command takes it up");
    machine.fetch = fetch;
    const kept = token();
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE}`)).toBe(0);
    expect([token(), hashOf(kept.trim())]).toEqual([kept, backend.users.ownerHash as string]);
  });

  test("by the socket or a token → no code; a claimed cluster only with --replace", async () => {
    expect(await run("claim")).toBe(0);
    const first = token();
    const byToken = `claim ${there()} --token-file ${folder}/token`;
    expect(await runPlain(`${byToken} --save again`)).toBe(5);
    expect(await runPlain(`${byToken} --save again --replace`)).toBe(0);
    expect(token("again")).not.toBe(first);
    const OWN = { role: "admin" as const, actor: "the token of cairn-0001" };
    expect(backend.claims.map(({ asker, code }) => [asker, code])).toEqual([
      ["local", null],
      [OWN, null],
      [OWN, null],
    ]);
    expect(await runPlain(`claim ${there()} --replace --code x`)).toBe(2);
    expect(err).toContain("--replace needs --token-file");
  });

  test("with a password from a file, or set later; its first line alone, never shown", async () => {
    const file = path.join(folder, "password");
    writeFileSync(file, "correct horse battery\nand a second line\n");
    expect(await runPlain(`claim ${there()} --code ${MEMORY_CODE} --password-file ${file}`)).toBe(
      0,
    );
    expect(backend.password).toBe("correct horse battery");
    writeFileSync(file, "another good one");
    expect(await run(`password set --password-file ${file}`)).toBe(0);
    expect(backend.password).toBe("another good one");
    writeFileSync(file, "short\n");
    expect(await run(`password set --password-file ${file}`)).toBe(2);
    expect(await run("password set --password-file nowhere")).toBe(4);
    expect(await run("password set")).toBe(2);
    const byToken = `${there()} --token-file ${folder}/token`;
    expect(await runPlain(`password set ${there()} --password-file ${file}`)).toBe(2);
    writeFileSync(file, "a third good one");
    expect(await runPlain(`password set ${byToken} --password-file ${file}`)).toBe(0);
    expect(backend.password).toBe("a third good one");
    expect(out + err).not.toMatch(/horse|good one|short/);
  });

  test("status → who owns it, and the code to whoever asks through the socket", async () => {
    expect(await run("status")).toBe(0);
    expect(out).toContain(`Owner    nobody yet; claim code ${MEMORY_CODE}`);
    await runPlain(`status ${there()} --token-file ${folder}/token`);
    expect(out).toContain("Owner    nobody yet\n");
    await run("claim");
    await run("status");
    expect(out).not.toContain("nobody yet");
  });
});

describe("an appliance", () => {
  test("unit --appliance → places as the image has them, flags as settings", async () => {
    expect(await runPlain("unit --appliance --name a")).toBe(0);
    expect(ran).toEqual([]);
    expect(started[0]).toMatchObject({
      disksIn: null,
      start: {
        places: {
          esp: "/efi",
          stick: "/run/cairn-medium",
          runDirectory: "/run/cairn",
          stateDirectory: "/var/lib/cairn",
        },
        flags: { origin: "the flags", value: { name: "a" } },
      },
    });
    const places = "--esp e --medium /m --run-directory r --state-directory s";
    expect(await runPlain(`unit --appliance ${places} --disks-in d`)).toBe(0);
    expect(started[1]).toMatchObject({
      disksIn: `${folder}/d`,
      start: {
        places: {
          esp: `${folder}/e`,
          stick: "/m",
          runDirectory: `${folder}/r`,
          stateDirectory: `${folder}/s`,
        },
      },
    });
  });

  test("its flags without --appliance, or --config with it → refused, nothing is run", async () => {
    for (const [line, said] of [
      ["unit --esp /e", "--esp goes with --appliance"],
      ["unit --disks-in /d", "--disks-in goes with --appliance"],
      ["unit --appliance --config x.json", "--config does not go with --appliance"],
    ] as const) {
      expect([line, await runPlain(line)]).toEqual([line, 2]);
      expect(err).toContain(said);
    }
    expect([ran, started]).toEqual([[], []]);
  });

  test("network → its name, and what is wrong as a note; the exit code stays 0", async () => {
    expect(await runPlain("appliance network --networkd-directory n")).toBe(0);
    expect(started[0]?.start).toMatchObject({
      networkdDirectory: `${folder}/n`,
      hostNameFile: "/proc/sys/kernel/hostname",
    });
    expect(out).toBe("box: DHCP, else link-local, fixed addresses on 1 interfaces\n");
    expect(err).toBe("note: the medium is wrong\n");
  });
});

describe("help", () => {
  test("names every command, every flag and every exit code", async () => {
    expect(await runPlain("help")).toBe(0);
    for (const { words } of commands) expect(out).toContain(words.join(" "));
    for (const { words, flags } of commands) {
      expect(await runPlain(`${words.join(" ")} --help`)).toBe(0);
      for (const { name, sentence } of flags) {
        expect(out).toContain(`${name}`);
        expect(out).toContain(sentence);
      }
    }
    expect(await runPlain("help exit-codes")).toBe(0);
    for (const [number, sentence] of Object.values(EXIT)) {
      expect(out).toContain(`  ${number}  ${sentence}\n`);
    }
    expect(await runPlain("")).toBe(2);
  });

  test("a flag means the same kind everywhere", () => {
    const kinds = new Map(allFlags().map((flag) => [flag.name, flag.kind]));
    for (const { words, flags } of commands) {
      for (const { name, kind } of flags) {
        const where = `${words.join(" ")} --${name}`;
        expect(`${where} ${kind}`).toBe(`${where} ${kinds.get(name)}`);
      }
    }
  });
});

test("a table on a terminal → fits its width, the widest columns cut first; --wide → whole", () => {
  const rows = [{ name: "one", what: "a sentence that is much longer than all the others" }];
  const narrow: Column<{ name: string; what: string }>[] = [
    { head: "NAME", cell: (row) => row.name },
    { head: "WHAT IT IS", cell: (row) => row.what },
  ];
  try {
    fitTables(30);
    const lines = tableText(rows, narrow, { wide: false }).trimEnd().split("\n");
    expect(lines).toEqual(["NAME  WHAT IT IS", "one   a sentence that is much…"]);
    expect(tableText(rows, narrow, { wide: true })).toContain("than all the others");
    // Narrower than can be read is not made.
    fitTables(5);
    expect(tableText(rows, narrow, { wide: false })).toContain("one   a sentenc…");
    fitTables(null);
    expect(tableText(rows, narrow, { wide: false })).toContain("than all the others");
  } finally {
    fitTables(null);
  }
});

test("tables: columns as wide as their widest cell, empty cells shown", () => {
  const columns: Column<string[]>[] = [
    { head: "A", cell: (row: string[]) => row[0] ?? "" },
    { head: "B", cell: (row: string[]) => row[1] ?? "" },
  ];
  const rows = [
    ["long word", "x"],
    ["", ""],
  ];
  const text = tableText(rows, columns, { wide: false });
  expect(text).toBe("A          B\nlong word  x\n-          -\n");
});
