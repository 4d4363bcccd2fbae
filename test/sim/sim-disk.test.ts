// SPDX-License-Identifier: Apache-2.0
//
// The simulated disk keeps and loses what a real one may.

import { expect, test } from "bun:test";
import { Memory } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import type { Area } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { SimDisk } from "./sim-disk.ts";
import { Simulation } from "./simulation.ts";

function make(seed: number) {
  const simulation = new Simulation(seed);
  const disk = new SimDisk(simulation, "a", 1 << 20);
  const memory = new Memory(new ArrayBuffer(1 << 20));
  const attach = () => disk.attach(memory, (act) => act());
  let area: Area = attach();
  const submit = (kind: OperationKind, offset: number, length: number, fill = 0) => {
    const operation = new Operation();
    operation.kind = kind;
    operation.offsetBytes = offset;
    operation.lengthBytes = length;
    operation.bufferOffset = memory.allocate(Math.max(1, length));
    if (kind === OperationKind.write) {
      memory.bytes.fill(fill, operation.bufferOffset, operation.bufferOffset + length);
    }
    let done = false;
    operation.done = () => {
      done = true;
    };
    area.submit(operation);
    return { operation, isDone: () => done };
  };
  const wait = () => simulation.run(simulation.nowMs + 1000);
  return {
    simulation,
    disk,
    submit,
    wait,
    write: (offset: number, length: number, fill: number) => {
      submit(OperationKind.write, offset, length, fill);
      wait();
    },
    flush: () => {
      submit(OperationKind.flush, 0, 0);
      wait();
    },
    again: () => {
      area = attach();
    },
    sector: (number: number) => {
      const bytes = new Uint8Array(512);
      disk.read(number * 512, bytes);
      expect(new Set(bytes).size).toBe(1);
      return bytes[0] as number;
    },
  };
}

test("kill → completed writes stay; power cut → only flushed ones are sure", () => {
  let lost = 0;
  let kept = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const { write, flush, disk, sector, again } = make(seed);
    write(0, 4096, 1);
    disk.kill();
    again();
    expect(sector(3)).toBe(1);
    flush();
    write(0, 4096, 2);
    write(0, 4096, 3);
    disk.powerCut();
    for (let number = 0; number < 8; number++) {
      const value = sector(number);
      expect([1, 2, 3]).toContain(value);
      if (value === 1) lost++;
      if (value === 3) kept++;
    }
  }
  expect(lost).toBeGreaterThan(50);
  expect(kept).toBeGreaterThan(50);
});

test("a multi-sector write at a power cut → sometimes torn between sectors, never within", () => {
  let torn = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const { submit, disk, sector } = make(seed);
    submit(OperationKind.write, 0, 8192, 9);
    disk.powerCut();
    const values = new Set(Array.from({ length: 16 }, (_, number) => sector(number)));
    if (values.size > 1) torn++;
  }
  expect(torn).toBeGreaterThan(5);
});

test("a write that completes while a flush is under way → not covered by it", () => {
  let lost = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const { submit, disk, sector, wait } = make(seed);
    submit(OperationKind.flush, 0, 0);
    submit(OperationKind.write, 0, 512, 5);
    wait();
    disk.powerCut();
    if (sector(0) === 0) lost++;
  }
  expect(lost).toBeGreaterThan(10);
});

test("faults → ioError without effect, and I/O that never ends", () => {
  const { submit, wait, disk, sector } = make(1);
  disk.fault = () => "error";
  const failed = submit(OperationKind.write, 0, 512, 5);
  wait();
  expect([failed.isDone(), failed.operation.status, sector(0)]).toEqual([true, Status.ioError, 0]);
  disk.fault = () => "stuck";
  const stuck = submit(OperationKind.read, 0, 512);
  wait();
  expect(stuck.isDone()).toBe(false);
});
