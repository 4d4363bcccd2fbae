// SPDX-License-Identifier: Apache-2.0
//
// Voters for real: three units in three network namespaces, etcd as the daemon starts it, the voter
// keeper deciding. Growth from one to three, a peer without the cluster's secret refused (mutual TLS),
// a unit killed, an amnesiac refused and replaced (R12).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { connect } from "node:net";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { UnitSchema, VoterSchema, firstState, keys, parseValue } from "#cluster/state.ts";
import type { UnitRecord, VoterRecord } from "#cluster/state.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import { VoterKeeper, newVoter, voterAct } from "#cluster/voters.ts";
import { etcdDirectoryState, etcdSocketPath } from "#machine/etcd-child.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { ETCD_BINARY, etcdIsThere, pass, realTimers, until } from "./etcd-fixture.ts";
import type { UnitSettings } from "./etcd-unit-fixture.ts";
import { Namespaces, isRoot } from "./network-fixture.ts";

const possible = etcdIsThere() && isRoot();
if (!isRoot()) process.stderr.write("not root: the tests in network namespaces are left out\n");

const world = {
  clock: { nowMs: () => performance.now(), wallMs: () => Date.now() },
  log: { write: () => {} },
  random: {
    fill: (bytes: Uint8Array) => void crypto.getRandomValues(bytes),
    fraction: () => Math.random(),
  },
};
const SECRET = "5e".repeat(32);

function unitRecord(number: number, ula: string): UnitRecord {
  return parseValue(
    UnitSchema,
    keys.unit(number),
    JSON.stringify({
      number,
      id: String(number).padStart(32, "0"),
      publicKey: String(number).padStart(64, "0"),
      name: `box${number}`,
      addresses: [],
      ula,
      ports: {},
      role: "member",
      pool: "pool",
      state: "admitted",
      featureLevel: 1,
      version: "0",
      admittedAtMs: 0,
    }),
  );
}

describe.if(possible)("three voters in three network namespaces", () => {
  let net: Namespaces;
  let directory = "";
  const running = new Map<number, ChildProcess>();

  beforeAll(() => {
    net = new Namespaces("cluster", 3);
    directory = mkdtempSync(path.join(tmpdir(), "cairn-voters-"));
  });
  afterAll(async () => {
    for (const unit of [...running.keys()]) await kill(unit);
    net[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const place = (unit: number) => path.join(directory, `unit${unit}`);
  const store = (unit: number) =>
    new EtcdControlStore(realTimers, new EtcdUnixTransport(etcdSocketPath(place(unit))));

  async function start(unit: number, more: Partial<UnitSettings> = {}): Promise<ChildProcess> {
    const settings: UnitSettings = {
      directory: place(unit),
      binary: ETCD_BINARY,
      name: `unit-${unit}`,
      address: net.address(unit),
      peerPort: 2380,
      clusterSecret: SECRET,
      ...more,
    };
    const program = path.join(import.meta.dir, "etcd-unit-fixture.ts");
    const [command = "", ...words] = [...net.prefix(unit), process.execPath, program];
    const child = spawn(command, [...words, JSON.stringify(settings)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    running.set(unit, child);
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    return child;
  }

  async function kill(unit: number): Promise<void> {
    const child = running.get(unit);
    running.delete(unit);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async function answers(unit: number): Promise<boolean> {
    try {
      await store(unit).get("/");
      return true;
    } catch {
      return false; // not yet; whoever asks has the limit
    }
  }

  /** What each unit does about its voter record, as the daemon does it. */
  async function unitActs(unit: number): Promise<string> {
    const key = keys.voter(unit);
    const { entry } = await store(1).get(key);
    const record = entry === null ? null : parseValue(VoterSchema, key, entry.value);
    const act = voterAct(etcdDirectoryState(place(unit)), record);
    const modRevision = entry?.modRevision ?? 0;
    const become = (state: VoterRecord["state"]) =>
      store(1).transaction({
        ifs: [{ key, modRevision }],
        puts: [{ key, value: JSON.stringify({ ...record, state }) }],
      });
    if (act.kind === "start" && record !== null && (await become("used")).committed) {
      const { ticket, initialCluster } = record;
      const first = { ticket, initialCluster, found: false, token: "cairn" };
      await start(unit, { first, clear: true });
    }
    if (act.kind === "report-lost") await become("lost");
    return act.kind;
  }

  test("a founder alone commits", async () => {
    const founder = unitRecord(1, net.address(1));
    const record = newVoter(world, founder, { memberId: "", others: [] });
    const { ticket, initialCluster } = record;
    await start(1, { first: { ticket, initialCluster, found: true, token: "cairn" } });
    await until("the founder answers", () => answers(1));
    const memberId = (await store(1).members())[0]?.id ?? "";
    const puts = firstState({ uuid: "0".repeat(32), name: "test", featureLevel: 1 });
    for (let unit = 1; unit <= 3; unit++) {
      const units = unitRecord(unit, net.address(unit));
      puts.push({ key: keys.unit(unit), value: JSON.stringify(units) });
      const alive = { unit, run: "0".repeat(32) };
      puts.push({ key: keys.aliveOf(unit), value: JSON.stringify(alive) });
    }
    const voter = { ...record, memberId, state: "used" };
    puts.push({ key: keys.voter(1), value: JSON.stringify(voter) });
    expect((await store(1).transaction({ ifs: [], puts })).committed).toBe(true);
  }, 30_000);

  test("the keeper brings two more in, by ticket, as learners first", async () => {
    const follower = new ViewFollower(world, realTimers, store(1));
    follower.start();
    await follower.ready();
    const keeper = new VoterKeeper(world, store(1), store(1));
    const said: string[] = [];
    keeper.onEvent = (sentence) => said.push(sentence);
    await until("three voters", async () => {
      await keeper.step(follower.view);
      for (const unit of [2, 3]) await unitActs(unit);
      await pass(200);
      const members = await store(1).members();
      return members.length === 3 && members.every((member) => !member.learner);
    });
    follower.stop();
    expect(said.filter((sentence) => sentence.includes("votes in the control store now"))).toEqual([
      "box2 votes in the control store now",
      "box3 votes in the control store now",
    ]);
    for (const unit of [1, 2, 3]) {
      await until(`unit ${unit} reads`, async () => {
        if (!(await answers(unit))) return false;
        return (await store(unit).get(keys.cluster)).entry !== null;
      });
    }
  }, 60_000);

  test("a peer without the cluster's secret is refused, one that speaks no TLS too", async () => {
    const plain = spawn(
      net.prefix(2)[0] ?? "",
      [
        ...net.prefix(2).slice(1),
        process.execPath,
        path.join(import.meta.dir, "peer-probe-fixture.ts"),
        net.address(1),
        SECRET,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let output = "";
    plain.stdout?.on("data", (text) => (output += String(text)));
    await new Promise((resolve) => plain.once("exit", resolve));
    const verdicts = JSON.parse(output) as Record<string, string>;
    expect(verdicts.member).toBe("answered");
    expect(verdicts.none).toStartWith("refused");
    expect(verdicts.stranger).toStartWith("refused");
    expect(verdicts.plain).toStartWith("refused");
  }, 30_000);

  test("a daemon killed takes its etcd along, and comes back with its data", async () => {
    const child = running.get(3);
    expect(child).toBeDefined();
    await kill(3);
    await until("its etcd is gone", () => socketIsDead(etcdSocketPath(place(3))));
    const written = await store(1).transaction({ ifs: [], puts: [{ key: "/x", value: "1" }] });
    expect(written.committed).toBe(true);
    await start(3);
    await until("unit 3 has caught up", async () => {
      return (await answers(3)) && (await store(3).get("/x")).entry?.value === "1";
    });
  }, 60_000);

  test("R12: a voter whose data was wiped is not let back in as what it was", async () => {
    await kill(3);
    await until("its etcd is gone", () => socketIsDead(etcdSocketPath(place(3))));
    rmSync(path.join(place(3), "data"), { recursive: true, force: true });
    const before = (await store(1).members()).map((member) => member.id);
    expect(await unitActs(3)).toBe("report-lost");
    const follower = new ViewFollower(world, realTimers, store(1));
    follower.start();
    await follower.ready();
    const keeper = new VoterKeeper(world, store(1), store(1));
    await until("three voters again", async () => {
      await keeper.step(follower.view);
      await unitActs(3);
      await pass(200);
      const members = await store(1).members();
      const whole = members.every((member) => !member.learner && member.name !== "");
      return members.length === 3 && whole && members.some(({ id }) => !before.includes(id));
    });
    follower.stop();
  }, 60_000);

  function socketIsDead(socket: string): Promise<boolean> {
    if (!existsSync(socket)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const probe = connect(socket, () => {
        probe.destroy();
        resolve(false);
      });
      probe.once("error", () => resolve(true));
    });
  }
});
