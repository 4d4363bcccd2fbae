// SPDX-License-Identifier: Apache-2.0
//
// The control station over a control store in memory that fails like a real one: election,
// admission, disks, volumes, re-protection, and two stations at once.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { transactionRefusal } from "./proxy-rules.ts";
import { keys } from "./state.ts";
import { StationFixture, unitArguments } from "./station-fixture.ts";
import { lossTable, volumeState } from "./volume-state.ts";

const GIB = 2 ** 30;

/** Three members with one disk each, and a spare. */
function rack(options: { gib?: number; spare?: boolean; seed?: number } = {}): StationFixture {
  const made = new StationFixture(drainMicrotasks, { seed: options.seed ?? 1 });
  made.found({ reprotectAfterMs: 5000 });
  made.addDisk(1, options.gib ?? 10);
  for (let unit = 2; unit <= 3; unit++) made.addDisk(made.admit(), options.gib ?? 10);
  if (options.spare !== false) made.addDisk(made.admit("spare"), options.gib ?? 10);
  return made;
}

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (cause) {
    if (cause instanceof Fault) return cause.code;
    throw cause;
  }
  return "none";
}

function sentences(made: StationFixture): string[] {
  return [...made.view().events.values()].map((event) => event.sentence);
}

describe("election", () => {
  test("one leads; killed → another within about the lease; the term rises", () => {
    const made = rack();
    expect(made.leaders()).toEqual([1]);
    const term = made.view().term;
    made.kill(1);
    made.until("another leads", () => made.leaders().length === 1, 6000);
    expect(made.leaders()[0]).not.toBe(1);
    made.until("all have heard", () => made.view().term === term + 1, 100);
    made.time.pass(3000);
    expect(sentences(made)).toContain("box1 does not answer any more");
  });

  test("stopped in order → another leads at once", () => {
    const made = rack();
    const first = made.units.get(1);
    void first?.lease.stop();
    made.until("another leads", () => made.leaders().length === 1, 500);
    expect(made.leaders()[0]).not.toBe(1);
  });

  test("cut off from the store → stops to believe before its lease can end there", () => {
    const made = rack();
    const old = made.units.get(1);
    old?.client.setConnected(false);
    made.until("it believes no more", () => old?.lease.leads === false, 4000);
    // Whether or not another leads already, there never are two that believe.
    expect(made.leaders().length).toBeLessThanOrEqual(1);
    made.until("another leads", () => made.leaders().length === 1, 4000);
    old?.client.setConnected(true);
    made.time.pass(5000);
    expect(made.leaders().length).toBe(1);
  });

  test("the store away for long → nobody leads, then one does, and all are alive again", () => {
    const made = rack();
    made.core.setAway(true);
    made.time.pass(20_000);
    expect(made.leaders()).toEqual([]);
    made.core.setAway(false);
    made.until("one leads", () => made.leaders().length === 1, 10_000);
    made.until("all alive", () => made.view().alive.size === 4, 10_000);
  });
});

describe("admission", () => {
  test("the same unit twice → the same number; the spare is in no pool", () => {
    const made = rack();
    const { unit } = made.ask("admitUnit", unitArguments(3, "member"));
    expect(unit).toBe(3);
    expect(made.view().units.get(4)).toMatchObject({ role: "spare", pool: null });
    expect(made.view().units.get(3)).toMatchObject({ role: "member", pool: "pool" });
  });

  test("a removed unit's key is not admitted again, its number never given again", () => {
    const made = rack();
    made.ask("removeUnit", { unit: 3 });
    expect(codeOf(() => made.ask("admitUnit", unitArguments(3, "member")))).toBe("removed");
    const { unit } = made.ask("admitUnit", unitArguments(9, "member"));
    expect(unit).toBe(5);
  });

  test("a disk registers once; a copy elsewhere is refused; moved it keeps its number", () => {
    const made = rack();
    const disk = [...made.view().disks.values()].find((each) => each.unit === 2);
    if (disk === undefined) throw new Error("unit 2 has a disk");
    const args = { uuid: disk.uuid, path: "/x", sizeBytes: 10 * GIB, incarnation: 2 };
    const elsewhere = (incarnation: number) =>
      made.ask("registerDisk", { ...args, incarnation }, made.units.get(3));
    expect(codeOf(() => elsewhere(3))).toBe("diskRefused");
    expect(made.ask("registerDisk", args, made.units.get(2)).disk).toBe(disk.number);
    const older = { ...args, incarnation: 1 };
    const old = () => made.ask("registerDisk", older, made.units.get(2));
    expect(codeOf(old)).toBe("diskRefused");
    made.kill(2);
    made.time.pass(5000);
    // Opened elsewhere it has a higher incarnation (R0), or is an image of it from before.
    expect(codeOf(() => elsewhere(2))).toBe("diskRefused");
    expect(elsewhere(3).disk).toBe(disk.number);
    expect(made.view().disks.get(disk.number)?.unit).toBe(3);
  });

  test("a disk pulled from a unit that goes on, put into another → moved, at once", () => {
    const made = rack();
    const disk = [...made.view().disks.values()].find((each) => each.unit === 2);
    if (disk === undefined) throw new Error("unit 2 has a disk");
    const { number: known, incarnation } = disk;
    const lost = { disk: known, incarnation, reason: "it was taken out while in use" };
    made.ask("loseDisk", { ...lost, isOut: false }, made.units.get(2));
    const next = { uuid: disk.uuid, path: "/y", sizeBytes: 10 * GIB, incarnation: incarnation + 1 };
    const elsewhere = () => made.ask("registerDisk", next, made.units.get(3));
    // It failed there, but it is there.
    expect(codeOf(elsewhere)).toBe("diskRefused");
    made.ask("loseDisk", { ...lost, isOut: true }, made.units.get(2));
    expect(elsewhere().disk).toBe(known);
    expect(made.view().disks.get(known)).toMatchObject({ unit: 3, state: "ready" });
    // What its old unit says of it late changes nothing.
    const late = () => made.ask("loseDisk", { ...lost, isOut: true }, made.units.get(2));
    expect(codeOf(late)).toBe("forbidden");
    expect(made.view().disks.get(known)?.state).toBe("ready");
  });
});

describe("volumes", () => {
  test("larger than any one unit: every slice on two units, heads together, ready", () => {
    const made = rack();
    const number = made.createVolume("big", 15, "mirror-2");
    const view = made.view();
    const volume = view.volumes.get(number);
    if (volume === undefined) throw new Error("it is there");
    expect(volume.slices.length).toBe(15);
    for (const record of view.slicesOfVolume(volume)) {
      const units = (record === null ? [] : disksOf(record)).map(
        (disk) => view.disks.get(disk)?.unit ?? 0,
      );
      expect(units.length).toBe(2);
      expect(new Set(units).size).toBe(2);
      expect(units).not.toContain(4); // the spare is in no pool
    }
    for (const disk of view.disks.values()) {
      expect(view.promisedBytes(disk.number)).toBeLessThanOrEqual(disk.sizeBytes);
    }
    expect(volumeState(view, volume)).toEqual({
      availability: "online",
      protection: "protected",
      rebuiltShare: null,
      waitsFor: [],
    });
    expect(view.cluster?.state).toBe("used");
  });

  test("too large, name taken, unknown pool, bad range → refused, nothing left behind", () => {
    const made = rack();
    made.createVolume("a", 1, "mirror-2");
    const slices = made.view().numbers?.slice;
    const volume = { name: "b", sizeBytes: GIB, protection: "mirror-2" as const };
    const codes = [
      codeOf(() => made.ask("createVolume", { ...volume, sizeBytes: 99 * GIB })),
      codeOf(() => made.ask("createVolume", { ...volume, name: "a" })),
      codeOf(() => made.ask("createVolume", { ...volume, pool: "other" })),
      codeOf(() => made.ask("createVolume", { ...volume, name: "a/b" })),
    ];
    expect(codes).toEqual(["noSpace", "conflict", "notFound", "badRequest"]);
    expect(made.view().numbers?.slice).toBe(slices as number);
    expect(made.view().volumes.size).toBe(1);
    made.time.pass(1000);
    expect(made.view().commands.size).toBe(0);
  });

  test("TLS: optional if not said; changed by a command, and told", () => {
    const made = rack();
    const volume = made.createVolume("v", 1, "mirror-2");
    expect(made.view().volumes.get(volume)?.tls).toBe("optional");
    made.ask("setTls", { volume, tls: "required" });
    expect(made.view().volumes.get(volume)?.tls).toBe("required");
    const sentences = [...made.view().events.values()].map((event) => event.sentence);
    expect(sentences).toContain("volume v is served over TLS only");
    expect(codeOf(() => made.ask("setTls", { volume: 99, tls: "off" }))).toBe("notFound");
    const { name = "" } = made.view().volumes.get(volume) ?? {};
    made.ask("renameVolume", { volume, name: "other" });
    expect(made.view().volumeByName("other")?.number).toBe(volume);
    expect(codeOf(() => made.ask("renameVolume", { volume: 99, name }))).toBe("notFound");
    // The name of before is free, and no second one takes what is taken.
    const second = made.createVolume(name, 1, "none");
    const taken = { volume: second, name: "other" };
    expect(codeOf(() => made.ask("renameVolume", taken))).toBe("conflict");
    expect(codeOf(() => made.ask("renameVolume", { volume, name: "a/b" }))).toBe("badRequest");
    expect(codeOf(() => made.ask("setTls", { volume, tls: "psk" as "off" }))).toBe("badRequest");
    const args = { name: "w", sizeBytes: GIB, protection: "none" as const };
    const other = made.ask("createVolume", { ...args, tls: "off" }).volume;
    expect(made.view().volumes.get(other)?.tls).toBe("off");
  });

  test("deleted → slices and record go, the name is free, numbers are not used again", () => {
    const made = rack();
    const first = made.createVolume("v", 12, "mirror-2");
    const before = made.view().volumes.get(first)?.slices ?? [];
    made.ask("deleteVolume", { volume: first });
    made.until("gone", () => made.view().volumes.size === 0);
    expect(made.view().slices.size).toBe(0);
    expect(before.every((slice) => made.view().sliceIsDeleted(slice))).toBe(true);
    const second = made.createVolume("v", 12, "mirror-2");
    expect(second).toBe(first + 1);
    const after = made.view().volumes.get(second)?.slices ?? [];
    expect(Math.min(...after)).toBeGreaterThan(Math.max(...before));
    expect(made.view().sliceIsDeleted(after[0] ?? 0)).toBe(false);
  });

  test("the station killed in the middle of a creation → the next one finishes it", () => {
    const made = rack({ gib: 200 });
    const asker = made.units.get(2);
    const args = { name: "v", sizeBytes: 150 * GIB, protection: "mirror-2" as const };
    const { volume } = made.ask("createVolume", args, asker);
    made.kill(1);
    const view = asker?.follower.view;
    // A placement on a unit that died meanwhile is legal: it was in sync when it was placed.
    made.until("ready", () => view?.volumes.get(volume)?.state === "ready");
    expect(view?.slices.size).toBe(150);
  });
});

describe("re-protection", () => {
  /** What the heads do when a unit has gone: drop its members. */
  function dropUnit(made: StationFixture, unit: number): void {
    for (const record of [...made.view().slices.values()]) {
      const left = record.inSync.filter((each) => made.view().disks.get(each.disk)?.unit !== unit);
      const head = left.some((each) => each.disk === record.head)
        ? record.head
        : (left[0]?.disk ?? 0);
      if (left.length === record.inSync.length) continue;
      made.propose({ ...record, epoch: record.epoch + 1, inSync: left, head });
    }
  }

  test("a unit away for long → the spare takes its place, as a member of the pool", () => {
    const made = rack();
    made.createVolume("v", 12, "mirror-2");
    made.kill(2);
    made.time.pass(4000);
    dropUnit(made, 2);
    const lacking = [...made.view().slices.values()].filter((each) => each.inSync.length < 2);
    expect(lacking.length).toBeGreaterThan(0);
    expect(lacking.every((each) => each.resyncing.length === 0)).toBe(true);
    made.until("all have a target", () =>
      lacking.every((each) => made.view().slices.get(each.slice)?.resyncing.length === 1),
    );
    expect(made.view().units.get(4)).toMatchObject({ role: "member", pool: "pool" });
    expect(sentences(made).filter((each) => each.startsWith("the spare box4"))).toEqual([
      "the spare box4 is now a member of the pool pool: volume v lacked a copy",
    ]);
    const volume = made.view().volumeByName("v");
    if (volume === null) throw new Error("it is there");
    expect(volumeState(made.view(), volume).protection).toBe("rebuilding");
    for (const { slice } of lacking) {
      const record = made.view().slices.get(slice);
      if (record === undefined) throw new Error("it is there");
      const units = disksOf(record).map((disk) => made.view().disks.get(disk)?.unit);
      expect(new Set(units).size).toBe(2);
      expect(units).not.toContain(2);
      expect(record.epoch).toBe(3);
    }
  });

  test("back before its time → nothing is moved", () => {
    const made = rack();
    made.createVolume("v", 4, "mirror-2");
    made.kill(2);
    made.time.pass(3000);
    dropUnit(made, 2);
    made.time.pass(1000);
    made.start(2);
    // Its heads let it back in.
    for (const record of [...made.view().slices.values()]) {
      if (record.inSync.length === 2) continue;
      const disk = [...made.view().disks.values()].find((each) => each.unit === 2)?.number ?? 0;
      made.propose({ ...record, epoch: record.epoch + 1, resyncing: [disk] });
    }
    made.time.pass(30_000);
    expect(made.view().units.get(4)?.role).toBe("spare");
    const targets = [...made.view().slices.values()].flatMap((record) => record.resyncing);
    expect(targets.every((disk) => made.view().disks.get(disk)?.unit === 2)).toBe(true);
  });

  test("a target that is lost too → taken away, another one named", () => {
    const made = rack();
    made.createVolume("v", 2, "mirror-2");
    made.kill(3);
    made.kill(2);
    made.time.pass(4000);
    dropUnit(made, 3);
    dropUnit(made, 2);
    const all = () => [...made.view().slices.values()];
    if (all().some((record) => record.inSync.length === 2)) throw new Error("unit 1 heads nothing");
    made.until("targets", () => all().every((record) => record.resyncing.length === 1));
    made.addDisk(made.admit(), 10);
    made.kill(4);
    made.until("other targets", () =>
      all().every((record) =>
        record.resyncing.some((disk) => made.view().disks.get(disk)?.unit === 5),
      ),
    );
  });

  test("all members serve → a target still on the way is taken away", () => {
    const made = rack();
    made.createVolume("v", 1, "mirror-2");
    const record = [...made.view().slices.values()][0];
    if (record === undefined) throw new Error("it is there");
    const spare = [...made.view().disks.values()].find((each) => each.unit === 4)?.number ?? 0;
    made.propose({ ...record, epoch: 2, resyncing: [spare] });
    made.until("gone", () => made.view().slices.get(record.slice)?.resyncing.length === 0);
    expect(made.view().slices.get(record.slice)?.epoch).toBe(3);
    expect(made.view().isLeftover(record.slice, spare)).toBe(true);
  });
});

describe("two stations at once", () => {
  test("both believe, the store loses answers → every number once, every rule kept", () => {
    let created = 0;
    for (let seed = 1; seed <= 8; seed++) {
      const made = rack({ seed });
      // Every unit believes that it leads.
      for (const unit of made.units.values()) {
        Object.defineProperty(unit.lease, "leads", { value: true });
      }
      // What was ever given a number: each must have been made once.
      const creations = new Map<string, number>();
      const counts: number[] = [];
      made.core.client("observer").watch("/", made.core.revision + 1, {
        onEvents(events) {
          for (const { kind, key, value } of events) {
            if (kind === "delete") continue;
            const record = JSON.parse(value) as Record<string, unknown>;
            if (key === "/numbers") counts.push(Number(record.volume), Number(record.slice));
            const fresh = record.state === "creating" || record.epoch === 1;
            if (fresh || key.startsWith("/events/"))
              creations.set(key, (creations.get(key) ?? 0) + 1);
          }
        },
        onLost(reason) {
          throw new Error(reason);
        },
      });
      made.core.faults.answerLost = 0.1;
      made.core.faults.requestLost = 0.05;
      for (let volume = 1; volume <= 5; volume++) {
        const args = {
          name: `v${volume}`,
          sizeBytes: GIB,
          protection: "mirror-2" as const,
        };
        try {
          made.ask("createVolume", args, made.units.get((volume % 3) + 1));
        } catch (cause) {
          if (!(cause instanceof Fault)) throw cause; // unknown, or away: that is the point
        }
      }
      made.core.faults.answerLost = 0;
      made.core.faults.requestLost = 0;
      made.time.pass(30_000);
      const view = made.view();
      const names = [...view.volumes.values()].map((volume) => volume.name);
      expect(new Set(names).size).toBe(names.length);
      const slices = [...view.volumes.values()].flatMap((volume) => volume.slices);
      expect(new Set(slices).size).toBe(slices.length);
      expect([...view.slices.keys()].sort()).toEqual([...slices].sort());
      for (const record of view.slices.values()) expect(record.inSync.length).toBe(2);
      expect(view.unreadable.size).toBe(0);
      expect([...creations.values()].every((times) => times === 1)).toBe(true);
      for (let at = 2; at < counts.length; at++) {
        expect(counts[at]).toBeGreaterThanOrEqual(counts[at - 2] ?? 0);
      }
      created += [...creations.keys()].filter((key) => key.startsWith("/volumes/")).length;
    }
    expect(created).toBeGreaterThan(20);
  });
});

describe("claim", () => {
  const HASH = "ab".repeat(32);
  const OTHER = "cd".repeat(32);
  const claim = (made: StationFixture, tokenHash: string, more: object = {}) =>
    made.ask("claimCluster", { tokenHash, replaces: false, byMedium: false, ...more });
  const owner = (made: StationFixture) => made.view().administrators.get("owner")?.tokenHash;

  test("claimed → used, every unit knows the hash; claimed again → conflict", () => {
    const made = rack();
    expect([made.view().isClaimed, made.view().cluster?.state]).toEqual([false, "virgin"]);
    claim(made, HASH);
    for (const unit of made.units.values()) {
      expect(unit.follower.view.administrators.get("owner")?.tokenHash).toBe(HASH);
      expect(unit.follower.view.cluster?.state).toBe("used");
    }
    expect(codeOf(() => claim(made, OTHER))).toBe("conflict");
    expect(codeOf(() => claim(made, OTHER, { byMedium: true }))).toBe("conflict");
    expect(owner(made)).toBe(HASH);
    claim(made, HASH); // the same once more: an answer that was lost
    expect(sentences(made).filter((one) => one.includes("was claimed"))).toHaveLength(1);
  });

  test("replaced by a token's right → the new hash alone, told as a warning", () => {
    const made = rack();
    claim(made, HASH);
    claim(made, OTHER, { replaces: true });
    expect([owner(made), made.view().administrators.size]).toEqual([OTHER, 1]);
    expect(sentences(made).join()).toContain("the one before is void");
    const warnings = [...made.view().events.values()].filter((one) => one.severity === "warning");
    expect(warnings.some((one) => one.kind === "cluster-claimed")).toBe(true);
  });

  test("by the boot medium → claimed, but still virgin: it may merge by itself", () => {
    const made = rack();
    claim(made, HASH, { byMedium: true });
    expect([owner(made), made.view().cluster?.state]).toEqual([HASH, "virgin"]);
    made.createVolume("one", 1, "none");
    expect(made.view().cluster?.state).toBe("used");
  });

  const PASSWORD = `$argon2id$v=19$m=32768,t=3,p=1$${"c2FsdA"}$${"aGFzaA"}`;
  const password = (made: StationFixture) => made.view().users.get("admin")?.passwordHash;

  test("with a password → the first user's, also when the token is replaced", () => {
    const made = rack();
    claim(made, HASH, { passwordHash: PASSWORD });
    expect([owner(made), password(made)]).toEqual([HASH, PASSWORD]);
    claim(made, OTHER, { replaces: true });
    expect([owner(made), password(made)]).toEqual([OTHER, PASSWORD]);
  });

  test("password set later → known to every unit, told; unclaimed → conflict", () => {
    const made = rack();
    const set = (passwordHash: string) => made.ask("setPassword", { name: "admin", passwordHash });
    expect(codeOf(() => set(PASSWORD))).toBe("conflict");
    claim(made, HASH);
    expect(password(made)).toBeUndefined();
    set(PASSWORD);
    for (const unit of made.units.values()) {
      expect(unit.follower.view.users.get("admin")?.passwordHash).toBe(PASSWORD);
    }
    expect(owner(made)).toBe(HASH);
    expect(sentences(made).join()).toContain("the password of user admin was set");
    for (const wrong of ["", "secret", PASSWORD.replace("argon2id", "argon2i")]) {
      expect(codeOf(() => set(wrong))).toBe("badRequest");
    }
    expect(sentences(made).join()).not.toContain("argon2");
  });

  test("two at once at different units → one of them, whole", () => {
    const made = rack();
    const [first, second] = [...made.units.values()];
    if (first === undefined || second === undefined) throw new Error("a rack has units");
    const args = { replaces: false, byMedium: false };
    const outcomes = Promise.allSettled([
      first.commands.ask("claimCluster", { tokenHash: HASH, ...args }),
      second.commands.ask("claimCluster", { tokenHash: OTHER, ...args }),
    ]);
    const states = made.wait(outcomes).map((one) => one.status);
    expect(states.sort()).toEqual(["fulfilled", "rejected"]);
    expect([HASH, OTHER]).toContain(owner(made) as string);
  });

  test("no hash, or what is none → refused before anything is asked", () => {
    const made = rack();
    for (const wrong of ["", "x".repeat(64), "AB".repeat(32)]) {
      expect(codeOf(() => claim(made, wrong))).toBe("badRequest");
    }
    expect(made.view().isClaimed).toBe(false);
  });

  test("only the control station writes who administers", () => {
    const made = rack();
    const record = { name: "owner", tokenHash: HASH, createdAtMs: 0 };
    const key = keys.administrator("owner");
    const put = { key, value: JSON.stringify(record) };
    const transaction = { ifs: [{ key, modRevision: 0 }], puts: [put] };
    expect(transactionRefusal(made.view(), 2, transaction, false)).toContain("control station");
    expect(transactionRefusal(made.view(), 1, transaction, true)).toBeNull();
  });
});

test("R5: the table says beforehand what stops", () => {
  const made = rack();
  made.createVolume("single", 1, "none");
  made.createVolume("pair", 3, "mirror-2");
  const table = lossTable(made.view(), [1, 2, 3]);
  expect(table.length).toBe(4);
  expect(table.every((row) => !row.controlStops)).toBe(true);
  expect(table.filter((row) => row.stops.includes("single")).length).toBe(1);
  expect(table.filter((row) => row.weakened.includes("pair")).length).toBeGreaterThanOrEqual(2);
  expect(table[3]?.sentences).toEqual(["nothing stops and nothing is lost"]);
  const alone = lossTable(made.view(), [1]);
  expect(alone[0]?.controlStops).toBe(true);
  expect(alone[1]?.controlStops).toBe(false);
});

describe("the history says why", () => {
  test("a unit lost → what is done and when; its volume → what is away, and where to", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found({ reprotectAfterMs: 20_000 });
    made.addDisk(1, 10);
    for (let unit = 2; unit <= 3; unit++) made.addDisk(made.admit(), 10);
    made.createVolume("v", 1, "mirror-2");
    const [record] = [...made.view().slices.values()] as [SliceRecord];
    const [, other] = record.inSync.map(({ disk }) => disk) as [number, number];
    const lost = made.view().disks.get(other)?.unit ?? 0;
    made.kill(lost);
    made.until("it is away", () => !made.view().isAlive(lost));
    const sentences = () => [...made.view().events.values()].map((event) => event.sentence);
    const name = made.view().units.get(lost)?.name;
    made.until("it is told", () => sentences().some((one) => one.includes("does not answer")));
    expect(sentences()).toContain(
      `${name} does not answer any more: what it held is made anew on other units, ` +
        "unless it is back within 20 s",
    );
    const inSync = record.inSync.filter(({ disk }) => disk !== other);
    made.propose({ ...record, epoch: record.epoch + 1, inSync });
    made.until("it is told", () => sentences().some((one) => one.includes("rebuilding")));
    const told = sentences().filter((one) => one.startsWith("volume v serves"));
    expect(told[0]).toBe(
      "volume v serves; it is down to one copy; one more loss stops or loses it " +
        `(${name} is away)`,
    );
    expect(told[1]).toMatch(/rebuilding a copy on disk \d+ of box\d+ \(box\d+ is away\)$/);
  });
});
