// SPDX-License-Identifier: Apache-2.0
//
// What lookAtArea answers decides whether a disk is formatted: every damage to a store must keep it
// from being taken for an unformatted area.

import { describe, expect, test } from "bun:test";
import { Memory } from "#base/memory.ts";
import type { Area, Operation } from "#base/operation.ts";
import { OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { formatDisk } from "#store/format-disk.ts";
import { lookAtArea } from "./area-look.ts";
import type { AreaLook } from "./area-look.ts";

const PAGE = 4096;
/** Not a multiple of a page, as GPT partitions are. */
const AREA_BYTES = (40 << 20) + 1536;
const CLUSTER = "00112233445566778899aabbccddeeff";

class AreaInMemory implements Area {
  readonly bytes = new Uint8Array(AREA_BYTES);
  readonly alignBytes = 512;
  readonly memory = new Memory(new ArrayBuffer(1 << 20));
  /** Reads from here on fail. */
  failsFrom = Number.POSITIVE_INFINITY;
  writes = 0;

  get sizeBytes(): number {
    return this.bytes.length;
  }
  submit(operation: Operation): void {
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    const buffer = this.memory.bytes.subarray(bufferOffset, bufferOffset + lengthBytes);
    if (offsetBytes >= this.failsFrom) return operation.complete(Status.ioError);
    if (kind === OperationKind.read) {
      buffer.set(this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
    } else if (kind === OperationKind.write) {
      this.writes++;
      this.bytes.set(buffer, offsetBytes);
    }
    operation.complete(Status.ok);
  }
}

function look(area: AreaInMemory): AreaLook {
  const writes = area.writes;
  const answers: AreaLook[] = [];
  lookAtArea(area.memory, area, (answer) => answers.push(answer));
  expect(answers).toHaveLength(1);
  expect(area.memory.usedBytes).toBe(0);
  expect(area.writes).toBe(writes);
  return answers[0] as AreaLook;
}

function formatted(): AreaInMemory {
  const area = new AreaInMemory();
  const prng = new Prng(1);
  const random = {
    fill: (bytes: Uint8Array) => void bytes.forEach((_, at) => (bytes[at] = prng.below(256))),
    fraction: () => 0.5,
  };
  let ended: Status | null = null;
  formatDisk({ random }, area.memory, area, { clusterId: CLUSTER }, {}, (status) => {
    ended = status;
  });
  expect(ended as Status | null).toBe(Status.ok);
  return area;
}

/** Where the last superblock lies. */
const LAST = Math.floor(AREA_BYTES / PAGE) * PAGE - PAGE;

describe("lookAtArea", () => {
  test("nothing at either superblock's place → unformatted, whatever lies between", () => {
    const area = new AreaInMemory();
    expect(look(area)).toEqual({ kind: "unformatted" });
    area.bytes.fill(7, PAGE, LAST);
    expect(look(area)).toEqual({ kind: "unformatted" });
  });

  test("a store → its cluster, also when one superblock is gone or damaged", () => {
    const store = { kind: "store", clusterId: CLUSTER } as const;
    expect(look(formatted())).toEqual(store);
    for (const at of [0, LAST]) {
      const gone = formatted();
      gone.bytes.fill(0, at, at + PAGE);
      expect(look(gone)).toEqual(store);
      const damaged = formatted();
      damaged.bytes[at + 200] = (damaged.bytes[at + 200] as number) ^ 1;
      expect(look(damaged)).toEqual(store);
    }
  });

  test("one byte left of any superblock → never unformatted", () => {
    for (const at of [0, 1, PAGE - 1, LAST, LAST + 1, LAST + PAGE - 1]) {
      const area = new AreaInMemory();
      area.bytes[at] = 1;
      expect([at, look(area)]).toEqual([at, { kind: "unclear" }]);
    }
  });

  test("both superblocks damaged → unclear", () => {
    const area = formatted();
    for (const at of [0, LAST]) area.bytes[at + 60] = (area.bytes[at + 60] as number) ^ 0x80;
    expect(look(area)).toEqual({ kind: "unclear" });
  });

  test("either place unreadable → failed, unless the first already says whose it is", () => {
    const failed = { kind: "failed", status: Status.ioError } as const;
    const area = new AreaInMemory();
    area.failsFrom = LAST;
    expect(look(area)).toEqual(failed);
    area.failsFrom = 0;
    expect(look(area)).toEqual(failed);
    const store = formatted();
    store.failsFrom = LAST;
    expect(look(store).kind).toBe("store");
  });

  test("no memory → failed as busy; an area smaller than two pages → unclear", () => {
    const area = new AreaInMemory();
    while (area.memory.allocate(PAGE) >= 0);
    const answers: AreaLook[] = [];
    lookAtArea(area.memory, area, (answer) => answers.push(answer));
    expect(answers).toEqual([{ kind: "failed", status: Status.busy }]);
    const small: Area = {
      sizeBytes: PAGE + 1,
      alignBytes: 512,
      submit: () => expect.unreachable(),
    };
    lookAtArea(new Memory(new ArrayBuffer(1 << 16)), small, (answer) => answers.push(answer));
    expect(answers[1]).toEqual({ kind: "unclear" });
  });
});
