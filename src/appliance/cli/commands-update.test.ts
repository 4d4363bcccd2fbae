// SPDX-License-Identifier: Apache-2.0
//
// The commands about updates and health against a real API on a real socket with updates in memory:
// what is asked and printed, what must be accepted first, and every exit code.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Fault } from "#base/fault.ts";
import { MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import type { MemoryUpdates } from "#appliance/api/memory-updates-fixture.ts";
import { type ServedApi } from "#appliance/api/serve.ts";
import { SERVED_TOKEN as TOKEN, serveInMemory } from "#appliance/api/served-fixture.ts";
import { UPLOAD_PIECE_BYTES_MAX } from "#appliance/api/update-schemas.ts";
import type { UpdateRollView } from "#appliance/update-backend.ts";
import type { CliMachine, FetchOptions } from "./machine.ts";
import { runCli } from "./run.ts";

let folder: string;
let backend: MemoryBackend;
let updates: MemoryUpdates;
let served: ServedApi;
let out: string;
let err: string;
let answers: (string | null)[];
let nowMs: number;
/** Told at every pause, to play what goes on meanwhile. */
let onPause: () => void;

function machine(): CliMachine {
  const made: Partial<CliMachine> = {
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
    pause: async (ms) => {
      nowMs += ms;
      onPause();
    },
    nowMs: () => nowMs,
  };
  // What these commands use; the rest of the machine is for others.
  return made as CliMachine;
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-cli-update-"));
  backend = new MemoryBackend();
  updates = backend.update;
  [out, err, answers, nowMs] = ["", "", [], 0];
  onPause = () => {
    throw new Error("nothing is waited for");
  };
  served = serveInMemory(backend, folder, { tcp: true });
  writeFileSync(path.join(folder, "token"), `${TOKEN}\n`);
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function run(line: string): Promise<number> {
  [out, err] = ["", ""];
  return runCli(machine(), [...line.split(" "), "--state-directory", folder]);
}
/** Through TCP, as from another machine. */
async function runRemote(line: string): Promise<number> {
  [out, err] = ["", ""];
  const url = `http://127.0.0.1:${served.port}`;
  const token = path.join(folder, "token");
  return runCli(machine(), [...line.split(" "), "--url", url, "--token-file", token]);
}

const loadedRoll: UpdateRollView = {
  version: "0.2.0",
  state: "loaded",
  sentence: "version 0.2.0 is loaded and can be started",
  current: null,
  done: [],
  waiting: [2, 1],
};

describe("status", () => {
  test("version, slots, work, roll and units in words", async () => {
    updates.state = {
      ...updates.state,
      trial: true,
      slots: [
        { version: "0.2.0", state: "trial", running: true, triesLeft: 2 },
        { version: "0.1.0", state: "good", running: false, triesLeft: null },
      ],
      holds: "0.2.0",
      work: { sentence: "loads from /x", doneBytes: 1 << 20, totalBytes: 4 << 20 },
      roll: { ...loadedRoll, state: "rolling", sentence: "box2 restarts for version 0.2.0" },
      units: [
        {
          unit: 1,
          name: "box1",
          alive: true,
          version: "0.2.0",
          appliance: true,
          trial: true,
          holds: true,
          sentence: "installed",
        },
      ],
      automatic: { auto: true, window: { from: "02:00", to: "04:00" } },
    };
    expect(await run("update status")).toBe(0);
    for (const words of [
      "0.1.0, on trial",
      "0.2.0 (trial, 2 tries left, runs)",
      "0.1.0 (good)",
      "loads from /x: 1 MiB of 4 MiB",
      "rolling: box2 restarts for version 0.2.0",
      "yes, from 02:00 to 04:00 UTC",
      "0.2.0 (on trial)",
      "installed",
    ]) {
      expect(out).toContain(words);
    }
    expect(await run("update status -o json")).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ roll: { state: "rolling" } });
  });
});

describe("load", () => {
  test("a folder of this machine: its absolute path, followed to its end", async () => {
    onPause = () => {
      updates.state.work = null;
      updates.state.sentence = "version 0.2.0 is loaded on this unit";
    };
    expect(await run("update load release")).toBe(0);
    expect(updates.loads).toEqual([`${folder}/release`]);
    expect(out).toBe("version 0.2.0 is loaded on this unit\n");
  });

  test("a URL goes to the unit as it is, also from elsewhere", async () => {
    onPause = () => {
      updates.state.work = null;
    };
    await runRemote("update load https://updates.example/0.2.0");
    expect(updates.loads).toEqual(["https://updates.example/0.2.0"]);
  });

  test("what cannot be trusted → its message and exit code 7", async () => {
    onPause = () => {
      updates.state.work = null;
      updates.state.failed = { code: "notTrusted", message: "manifest.json was altered" };
    };
    expect(await run("update load /release")).toBe(7);
    expect(err).toContain("manifest.json was altered");
  });

  test("no appliance → refused in words, exit code 3", async () => {
    updates.state.appliance = false;
    expect(await run("update load /release")).toBe(3);
    expect(err).toContain("this unit is not an appliance");
  });

  test("a folder here to a unit elsewhere: every byte, in pieces", async () => {
    const release = path.join(folder, "release");
    mkdirSync(release);
    const root = Uint8Array.from({ length: 2 * UPLOAD_PIECE_BYTES_MAX + 5 }, (_, at) => at & 255);
    writeFileSync(path.join(release, "manifest.json"), "{}");
    writeFileSync(path.join(release, "manifest.json.sig"), "good");
    writeFileSync(path.join(release, "cairn root.raw"), root);
    writeFileSync(path.join(release, "uki"), "kernel");
    updates.uploadFiles = [
      { name: "cairn root.raw", bytes: root.length },
      { name: "uki", bytes: 6 },
    ];
    expect(await runRemote("update load release")).toBe(0);
    expect(updates.loads).toEqual([]);
    expect(Uint8Array.from(updates.uploaded.get("cairn root.raw") ?? [])).toEqual(root);
    expect(updates.uploaded.get("uki")).toHaveLength(6);
    expect(out).toBe("version 0.2.0 is loaded on this unit\n");
    writeFileSync(path.join(release, "manifest.json.sig"), "bad");
    expect(await runRemote("update load release")).toBe(7);
    rmSync(path.join(release, "manifest.json.sig"));
    expect(await runRemote("update load release")).toBe(4);
  });
});

describe("start", () => {
  beforeEach(() => {
    updates.state.roll = { ...loadedRoll };
  });

  test("nothing to accept → it begins, and says in which order", async () => {
    expect(await run("update start")).toBe(0);
    expect(updates.starts).toEqual([
      { version: null, only: null, accept: false, downgrade: false },
    ]);
    expect(out).toContain("version 0.2.0: box2 (unit 2), then box1 (unit 1)");
    expect(await run("update start --version 0.2.0 --downgrade --yes")).toBe(0);
    expect(updates.starts[1]).toEqual({
      version: "0.2.0",
      only: null,
      accept: true,
      downgrade: true,
    });
  });

  test("something to accept: asked, refused, --yes, nobody to ask", async () => {
    updates.consequences = ["volume scratch is offline while box1 restarts"];
    answers = ["yes"];
    expect(await run("update start")).toBe(0);
    expect(updates.starts[0]?.accept).toBe(true);
    answers = ["no"];
    expect(await run("update start")).toBe(2);
    expect(await run("update start")).toBe(2);
    expect(err).toContain("--yes is needed to accept that volume scratch is offline");
    expect(await run("update start --yes")).toBe(0);
    expect(updates.starts).toHaveLength(2);
  });

  test("not now → the reasons, exit code 5, nothing started", async () => {
    updates.refusals = ["volume a is at-risk", "box3 is away"];
    expect(await run("update start --yes")).toBe(5);
    expect(err).toContain("not now: volume a is at-risk; box3 is away");
    expect(updates.starts).toEqual([]);
  });

  test("--dry-run shows the plan only", async () => {
    updates.consequences = ["volume scratch is offline while box1 restarts"];
    expect(await run("update start --dry-run")).toBe(0);
    expect(out).toContain("meanwhile: volume scratch is offline");
    expect(updates.starts).toEqual([]);
  });

  test("--watch follows over a unit that is away: 0 when done, 1 when stopped", async () => {
    let looks = 0;
    onPause = () => {
      looks++;
      const { roll } = updates.state;
      if (roll === null) return;
      roll.sentence = `look ${looks}`;
      if (looks === 3) roll.state = "done";
      if (looks === 5) roll.state = "stopped";
    };
    expect(await run("update start --watch")).toBe(0);
    expect(out).toContain("look 1\nlook 2\nlook 3\n");
    expect(await run("update start --watch")).toBe(1);
  });

  test("--watch: a unit that does not know the token for a while is waited for", async () => {
    let fails = 0;
    onPause = () => {
      fails++;
      backend.update.onStatus = () => {
        if (fails < 4) throw new Fault("unauthorised", "the token is wrong");
      };
      if (fails === 4 && updates.state.roll !== null) updates.state.roll.state = "done";
    };
    expect(await run("update start --watch")).toBe(0);
    updates.state.roll = { ...loadedRoll };
    onPause = () => {
      nowMs += 100_000;
      updates.onStatus = () => {
        throw new Fault("unauthorised", "the token is wrong");
      };
    };
    expect(await run("update start --watch")).toBe(7);
  });

  test("no update is loaded → 4", async () => {
    updates.state.roll = null;
    expect(await run("update start")).toBe(4);
  });
});

describe("one unit", () => {
  beforeEach(() => {
    updates.state.roll = { ...loadedRoll };
  });

  test("this one, or those named", async () => {
    expect(await run("update unit")).toBe(0);
    expect(await run("update unit 2 3")).toBe(0);
    expect(updates.starts.map((one) => one.only)).toEqual([[1], [2, 3]]);
    expect(await run("update unit box2")).toBe(2);
  });

  test("alone: only when accepted, only the one that is asked", async () => {
    expect(await run("update unit --alone")).toBe(2);
    expect(await run("update unit 2 --alone --yes")).toBe(2);
    expect(await run("update unit --alone --yes --downgrade")).toBe(0);
    expect(updates.alone).toEqual([{ downgrade: true }]);
    expect(updates.starts).toEqual([]);
  });
});

test("stop and auto", async () => {
  updates.state.roll = { ...loadedRoll, state: "rolling" };
  expect(await run("update stop")).toBe(0);
  expect(updates.state.roll.state).toBe("stopped");
  expect(await run("update auto on --from 02:00 --to 04:30")).toBe(0);
  expect(updates.state.automatic).toEqual({ auto: true, window: { from: "02:00", to: "04:30" } });
  expect(await run("update auto off")).toBe(0);
  expect(updates.state.automatic).toEqual({ auto: false, window: null });
  for (const line of ["update auto", "update auto maybe", "update auto on --from 02:00"]) {
    expect([line, await run(line)]).toEqual([line, 2]);
  }
  expect(await run("update auto on --from 25:00 --to 26:00")).toBe(2);
});

describe("health", () => {
  test("one look: 0 or 1, with the sentence", async () => {
    expect(await run("health")).toBe(0);
    expect(out).toBe("healthy: it serves its cluster\n");
    backend.healthNow = { healthy: false, sentence: "its reactor says nothing" };
    expect(await run("health")).toBe(1);
    expect(out).toBe("not healthy: its reactor says nothing\n");
    expect(await run("health -o json")).toBe(1);
    expect(JSON.parse(out)).toEqual({ healthy: false, sentence: "its reactor says nothing" });
  });

  test("--wait: three good looks in a row; one bad one begins anew", async () => {
    const looks = [false, true, true, false, true, true, true];
    let at = 0;
    const next = () => {
      const healthy = looks[at++] ?? false;
      backend.healthNow = { healthy, sentence: `look ${at}` };
    };
    next();
    onPause = next;
    expect(await run("health --wait 60")).toBe(0);
    expect([out, at]).toEqual(["healthy: look 7\n", 7]);
  });

  test("--wait: not healthy in time → 1, with the last reason", async () => {
    backend.healthNow = { healthy: false, sentence: "it is not back in its cluster" };
    onPause = () => {};
    expect(await run("health --wait 20")).toBe(1);
    expect([out, nowMs]).toEqual(["not healthy: it is not back in its cluster\n", 20_000]);
  });

  test("a daemon that does not answer is not healthy", async () => {
    await served.stop();
    onPause = () => {};
    expect(await run("health --wait 6")).toBe(1);
    expect(out).toContain("not healthy: no unit answers");
    expect(await run("health --wait soon")).toBe(2);
  });
});
