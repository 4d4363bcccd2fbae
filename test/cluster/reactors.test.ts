// SPDX-License-Identifier: Apache-2.0
//
// Units with two reactors and a disk for each: a volume whose slices are headed by both, so that
// whatever a host's connection asks goes through the one it was given to or beside it, directly and
// in-band; the head dies, stops in order, loses a disk's reactor's peers, and comes back. Root
// only.
//
// Guards H1, H4, H6 and H7 of the contract on real processes where two threads of one unit serve
// one volume (decision 0060).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { LIMIT_MS, MIB, SLICE_BYTES, VOLUME } from "./cluster-fixture.ts";
import { anotherHead, healed, keepsWriting, startCluster } from "./cluster-fixture.ts";
import { frontFirst, headOf, through } from "./assembled.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NbdClient, nbdAddress } from "./nbd-client.ts";
import { GapProbe } from "./probe.ts";
import { need } from "./until.ts";

const REACTORS = 2;
/** A gap of a unit that dies: 5 s are promised on a quiet machine. */
const KILL_GAP_MS = 15_000;
const STOP_GAP_MS = 8_000;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ disks: REACTORS, settings: { reactors: REACTORS } });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

/** Its first unit heads slices on each of its disks: one reactor's each. */
async function headedByBoth(): Promise<LabUnit> {
  const { slices } = await lab.anyApi().volume(VOLUME);
  const head = await headOf(lab, VOLUME);
  const { unit } = (await lab.anyApi().units()).find(({ name }) => name === head.name) ?? {};
  const here = slices.filter(({ head: disk, members }) =>
    members.some((member) => member.disk === disk && member.unit === unit),
  );
  need(new Set(here.map((slice) => slice.head)).size === REACTORS, "both disks head slices");
  return head;
}

/** Probes of the first two slices, each directly and through the others than the head. */
class SliceProbes implements AsyncDisposable {
  readonly all: GapProbe[];

  constructor(head: LabUnit) {
    const doors = [frontFirst(lab, VOLUME), through(others(head), VOLUME)];
    this.all = [0, 1].flatMap((slice) =>
      doors.map((uris, door) => {
        const offsetBytes = slice * SLICE_BYTES + door * MIB;
        return new GapProbe({ uris, offsetBytes, identity: 1 + slice * 2 + door });
      }),
    );
  }

  async write(): Promise<void> {
    for (const probe of this.all) await keepsWriting(lab, probe);
  }
  gapsSince(sinceMs: number): number[] {
    return this.all.map((probe) => probe.gapSince(sinceMs).gapMs);
  }
  async finish(): Promise<void> {
    for (const probe of this.all) await probe.finish();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const probe of this.all) await probe[Symbol.asyncDispose]();
  }
}

function others(unit: LabUnit): LabUnit[] {
  return lab.units.filter((other) => other !== unit);
}

function clientOf(unit: LabUnit): Promise<NbdClient> {
  return NbdClient.open(nbdAddress(`nbd://${unit.address}:10809/${VOLUME}`), LIMIT_MS);
}

describe("one volume, two reactors", () => {
  test("each unit has them, and each of its disks is in use", async () => {
    for (const unit of lab.units) {
      const disks = await unit.api.disks();
      expect(disks.map(({ state }) => state)).toEqual(disks.map(() => "ready"));
    }
    await lab.until("both head slices", headedByBoth, LIMIT_MS);
  });

  test("a request over the border of what both head → whole, through every unit", async () => {
    for (const unit of lab.units) {
      using client = await clientOf(unit);
      const data = randomBytes(MIB);
      const at = SLICE_BYTES - MIB / 2;
      await client.write(at, data);
      await client.flush();
      for (const reader of lab.units) {
        using other = await clientOf(reader);
        expect((await other.read(at, data.length)).equals(data)).toBe(true);
      }
    }
  });

  test("many at a time, of all lengths, over both → each reads what was written", async () => {
    const head = await headOf(lab, VOLUME);
    using client = await clientOf(head);
    using inband = await clientOf(others(head)[0] as LabUnit);
    const pieces = Array.from({ length: 64 }, (_, index) => ({
      at: (index % 4) * SLICE_BYTES + 2 * MIB + Math.floor(index / 4) * MIB,
      data: randomBytes(512 * (1 + ((index * 97) % 2048))),
    }));
    await Promise.all(
      pieces.map(({ at, data }, index) => (index % 2 === 0 ? client : inband).write(at, data)),
    );
    const read = await Promise.all(
      pieces.map(({ at, data }, index) =>
        (index % 2 === 0 ? inband : client).read(at, data.length),
      ),
    );
    expect(read.map((bytes, index) => bytes.equals(pieces[index]?.data as Buffer))).toEqual(
      pieces.map(() => true),
    );
  });

  test("hosts are listed once each, wherever their connections are served", async () => {
    const head = await headOf(lab, VOLUME);
    using _one = await clientOf(head);
    using _two = await clientOf(head);
    const look = async () => {
      const hosts = await head.api.hosts();
      const connections = hosts.flatMap((host) => host.sessions.map((one) => one.connections));
      need(connections.length === 1 && connections[0] === 2, `connections: ${connections.join()}`);
      return true;
    };
    await lab.until("two connections of one host", look, LIMIT_MS);
  });
});

describe("the head goes", () => {
  test(
    "kill -9 under load → all hosts go on, nothing acked is lost; back, it is brought up",
    async () => {
      const head = await lab.until("both head slices", headedByBoth, LIMIT_MS);
      await using probes = new SliceProbes(head);
      await probes.write();
      const since = performance.now();
      await head.kill();
      await lab.until("another head", () => anotherHead(lab, head), LIMIT_MS);
      await probes.write();
      for (const gap of probes.gapsSince(since)) expect(gap).toBeLessThan(KILL_GAP_MS);
      head.start();
      await healed(lab);
      await probes.write();
      await probes.finish();
    },
    4 * LIMIT_MS,
  );

  test(
    "stopped in order under load, one after the other → short gaps, nothing lost",
    async () => {
      for (const _ of lab.units) {
        const head = await headOf(lab, VOLUME);
        await using probes = new SliceProbes(head);
        await probes.write();
        const since = performance.now();
        await head.stop();
        await probes.write();
        for (const gap of probes.gapsSince(since)) expect(gap).toBeLessThan(STOP_GAP_MS);
        head.start();
        await healed(lab);
        await probes.finish();
      }
    },
    6 * LIMIT_MS,
  );

  test(
    "cut off under load → the others go on; back, it is brought up",
    async () => {
      const head = await headOf(lab, VOLUME);
      await using probes = new SliceProbes(head);
      await probes.write();
      lab.network.cut(head.place);
      await lab.until("another head", () => anotherHead(lab, head), LIMIT_MS);
      await probes.write();
      lab.network.heal(head.place);
      await healed(lab);
      await probes.write();
      await probes.finish();
    },
    4 * LIMIT_MS,
  );
});
