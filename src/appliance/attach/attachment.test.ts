// SPDX-License-Identifier: Apache-2.0
//
// How an attached volume follows its cluster, over a kernel and units in memory: what a real kernel
// makes of it is test/host.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { OwnVolumeView } from "#appliance/host-backend.ts";
import {
  type AttachOutside,
  Attachment,
  type Connection,
  markOf,
  markedVolume,
} from "./attachment.ts";

const UUID = "0123456789abcdef0123456789abcdef";
const [ONE, TWO, THREE] = ["nbd://10.0.0.1:10809/v", "nbd://10.0.0.2:10809/v", "nbd://10.0.0.3/v"];

interface Line extends Connection {
  ended: boolean;
  released: boolean;
}

class World implements AttachOutside<Line> {
  nowMs = 0;
  volume: OwnVolumeView = {
    ...{ volume: 1, uuid: UUID, name: "v", sizeBytes: 1 << 20, protection: "mirror-2" },
    ...{ availability: "online", tls: "optional", uris: [ONE, TWO, THREE] },
  } as OwnVolumeView;
  /** Units that take no connection. */
  readonly away = new Set<string>();
  silent = false;
  readonly lines: Line[] = [];
  /** What the device speaks over; null: it was never attached. */
  current: Line | null = null;
  news = false;
  readonly said: string[] = [];
  attachedAs: string | null = null;

  readonly clock = { nowMs: () => this.nowMs, wallMs: () => 0 };
  readonly log = { write: (_: string, sentence: string) => void this.said.push(sentence) };

  async resolve(): Promise<OwnVolumeView> {
    if (this.silent) throw new Fault("notReady", "no unit answers");
    return this.volume;
  }
  connect(uri: string): Line {
    if (this.away.has(uri)) throw new Fault("notReady", `${uri} does not answer`);
    const line: Line = {
      ...{ uri, sizeBytes: this.volume.sizeBytes, ended: false, released: false },
      stands: () => !line.ended,
      cut: () => {
        line.ended = true;
        if (this.current === line) this.news = true;
      },
      release: () => void (line.released = true),
    };
    this.lines.push(line);
    return line;
  }
  find(uuid: string) {
    return this.attachedAs?.includes(uuid) === true ? this.#device() : null;
  }
  attach(mark: string, line: Line) {
    [this.attachedAs, this.current] = [mark, line];
    return this.#device();
  }
  ready(): void {
    this.said.push("ready");
  }
  #device() {
    return {
      path: "/dev/nbd0",
      reconnect: (line: Line) => {
        if (this.current !== null && !this.current.ended) return false;
        this.current = line;
        return true;
      },
      died: () => {
        const was = this.news;
        this.news = false;
        return was;
      },
    };
  }

  /** The kernel finds its connection ended. */
  kill(): void {
    if (this.current === null) throw new Error("nothing is attached");
    this.current.ended = true;
    this.news = true;
  }
}

let world: World;
let attachment: Attachment<Line>;
beforeEach(() => {
  world = new World();
  attachment = new Attachment(world);
});

/** Looks as often as in `ms`. */
async function pass(ms: number): Promise<void> {
  for (const end = world.nowMs + ms; world.nowMs < end;) {
    world.nowMs += 250;
    await attachment.look();
  }
}

test("the volume grows → attached anew within seconds, once, as large as it is then", async () => {
  await attachment.begin();
  await pass(20_000);
  expect(world.lines).toHaveLength(1);
  world.volume = { ...world.volume, sizeBytes: 2 << 20 };
  await pass(8000);
  expect(world.lines.map(({ ended, sizeBytes }) => [ended, sizeBytes])).toEqual([
    [true, 1 << 20],
    [false, 2 << 20],
  ]);
  expect(world.current).toBe(world.lines[1] ?? null);
  expect(world.said).toContain("it grew to 2097152 bytes; attaching anew");
  await pass(30_000);
  expect(world.lines).toHaveLength(2);
});

describe("attaching", () => {
  test("→ at the front, marked with the volume's uuid", async () => {
    await attachment.begin();
    expect([attachment.uri, world.current?.uri, world.attachedAs]).toEqual([
      ONE,
      ONE,
      `cairn:${UUID}:v`,
    ]);
    expect(world.said.at(-1)).toBe("ready");
  });

  test("the front is away → through another unit; all are → a fault, nothing left", async () => {
    world.away.add(ONE);
    await attachment.begin();
    expect(attachment.uri).toBe(TWO);
    const other = new World();
    for (const uri of [ONE, TWO, THREE]) other.away.add(uri);
    await expect(new Attachment(other).begin()).rejects.toThrow("does not answer");
    expect([other.attachedAs, other.lines.length]).toEqual([null, 0]);
  });

  test("left by an earlier process: alive → kept; dead → given this connection", async () => {
    await attachment.begin();
    const first = world.current;
    await new Attachment(world).begin();
    expect([world.current, world.lines[1]?.released]).toEqual([first, true]);
    world.kill();
    await new Attachment(world).begin();
    expect([world.current, world.current?.ended]).toEqual([world.lines[2] ?? null, false]);
  });

  test("a device of another volume of the same name → not taken for it", async () => {
    world.attachedAs = `cairn:${"f".repeat(32)}:v`;
    world.current = world.connect(TWO);
    await attachment.begin();
    expect(world.attachedAs).toContain(UUID);
  });
});

describe("a connection that dies", () => {
  beforeEach(() => attachment.begin());

  test("H7: → the next one not before 2 s, at the new front", async () => {
    world.kill();
    world.volume = { ...world.volume, uris: [TWO, ONE, THREE] };
    await pass(2000);
    expect([world.lines.length, world.current?.ended]).toEqual([1, true]);
    await pass(1000);
    expect([attachment.uri, world.current?.uri, world.lines.length]).toEqual([TWO, TWO, 2]);
    expect(world.lines[0]?.released).toBe(true);
  });

  test("the front is away still → waited for, then through any unit", async () => {
    world.kill();
    world.away.add(ONE);
    await pass(4500);
    expect(world.current?.ended).toBe(true);
    await pass(1000);
    expect(world.current?.uri).toBe(TWO);
  });

  test("no unit answers for hours → tried on, attached once one does", async () => {
    world.kill();
    world.silent = true;
    await pass(3_600_000);
    expect(world.said.filter((one) => one.startsWith("not attached again"))).toHaveLength(1);
    world.silent = false;
    await pass(250);
    expect(world.current?.ended).toBe(false);
  });

  test("seen by the connection alone, the kernel's word lost → the same", async () => {
    if (world.current !== null) world.current.ended = true;
    await pass(3000);
    expect(world.current?.ended).toBe(false);
  });

  test("another volume has the name by then → the device is left waiting", async () => {
    world.kill();
    world.volume = { ...world.volume, uuid: "f".repeat(32) };
    await pass(10_000);
    expect(world.current?.ended).toBe(true);
    expect(world.said.at(-1)).toContain("another volume now");
  });
});

describe("a front that moves", () => {
  beforeEach(() => attachment.begin());

  test("and stays there → the host follows, with the same care", async () => {
    world.volume = { ...world.volume, uris: [TWO, ONE, THREE] };
    await pass(15_000);
    expect(world.current?.uri).toBe(ONE);
    await pass(10_000);
    expect(world.current?.uri).toBe(TWO);
  });

  test("to and fro → the host stays", async () => {
    for (let round = 0; round < 10; round++) {
      world.volume = { ...world.volume, uris: round % 2 === 0 ? [TWO, ONE] : [ONE, TWO] };
      await pass(10_000);
    }
    expect([world.lines.length, world.current?.uri]).toEqual([1, ONE]);
  });

  test("no unit answers meanwhile → what is attached goes on", async () => {
    world.silent = true;
    await pass(60_000);
    expect([world.lines.length, world.current?.ended]).toEqual([1, false]);
  });
});

test("a mark tells uuid and name; a foreign one nothing", () => {
  expect(markedVolume(markOf({ uuid: UUID, name: "a.b-c" }))).toEqual({
    uuid: UUID,
    name: "a.b-c",
  });
  for (const mark of ["", "cairn:", "cairn:xyz:v", `other:${UUID}:v`, `cairn:${UUID}:`]) {
    expect(markedVolume(mark)).toBeNull();
  }
});
