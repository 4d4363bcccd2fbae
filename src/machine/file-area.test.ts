// SPDX-License-Identifier: Apache-2.0
//
// Areas on real files and loop devices by the real ring: data, order, bounds and failures.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { FLAG_FUA, FLAG_PAST_CACHE, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { type AreaPlace, FileArea } from "./file-area.ts";
import { operation, runReactor } from "./reactor-fixture.ts";
import type { Reactor } from "./reactor.ts";

const { read, write, flush, trim } = OperationKind;

function withFile(
  bytes: number,
  act: (file: string, folder: string) => void,
  parent = tmpdir(),
): void {
  const folder = mkdtempSync(path.join(parent, "cairn-machine-"));
  try {
    const file = path.join(folder, "disk");
    const fd = openSync(file, "w");
    ftruncateSync(fd, bytes);
    closeSync(fd);
    act(file, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Random reads and writes, many at once, against a model in memory; then flush, close and compare.
 */
function exercise(
  place: AreaPlace,
  expectation: { direct: boolean; readBack?: string; lane?: boolean; plain?: boolean },
): void {
  let byLane = 0;
  let plainly = 0;
  const { lane: withLane = false, plain = false } = expectation;
  const act = (reactor: Reactor, finish: () => void): void => {
    const area = new FileArea(reactor, place);
    expect(area.direct).toBe(expectation.direct);
    const model = new Uint8Array(area.sizeBytes);
    const prng = new Prng(11);
    const lanes = 16;
    const laneBytes = Math.floor(area.sizeBytes / lanes / 4096) * 4096;
    let live = lanes;
    const lane = (index: number, left: number, buffer: number): void => {
      if (left === 0) {
        if (--live > 0) return;
        area.submit(
          operation(flush, {}, (status) => {
            expect(status).toBe(Status.ok);
            area.close(finish);
          }),
        );
        return;
      }
      const lengthBytes = prng.between(1, 16) * 4096;
      const offsetBytes =
        index * laneBytes + prng.below((laneBytes - lengthBytes) / 4096 + 1) * 4096;
      const bytes = reactor.memory.bytes.subarray(buffer, buffer + lengthBytes);
      const flags = prng.chance(0.1) ? FLAG_FUA : 0;
      if (prng.chance(0.5)) {
        for (let i = 0; i < lengthBytes; i++) bytes[i] = prng.u32();
        model.set(bytes, offsetBytes);
        const next = (status: Status): void => {
          expect(status).toBe(Status.ok);
          lane(index, left - 1, buffer);
        };
        const place = { offsetBytes, lengthBytes, bufferOffset: buffer, flags };
        area.submit(operation(write, place, next));
        byLane = Math.max(byLane, reactor.writeLane().inFlight);
        if (reactor.plainWrites.isNews) plainly++;
      } else {
        const past = prng.chance(0.2) ? FLAG_PAST_CACHE : 0;
        const place = { offsetBytes, lengthBytes, bufferOffset: buffer, flags: past };
        area.submit(
          operation(read, place, (status) => {
            expect(status).toBe(Status.ok);
            const wanted = model.subarray(offsetBytes, offsetBytes + lengthBytes);
            expect(Buffer.compare(bytes, wanted)).toBe(0);
            lane(index, left - 1, buffer);
          }),
        );
      }
    };
    for (let i = 0; i < lanes; i++) lane(i, 40, reactor.memory.allocate(65536));
    if (expectation.readBack !== undefined) lastModel = model;
  };
  runReactor(act, { lane: withLane, plain });
  // Where it writes plainly as well, a lane is only for what has to wait.
  if (!plain) expect(byLane > 1).toBe(withLane);
  expect(plainly > 1).toBe(plain);
}
let lastModel = new Uint8Array(0);

test("a file, direct → what was written is read, and lies at its place in the file", () => {
  withFile(24 << 20, (file) => {
    const offsetBytes = 4 << 20;
    exercise({ path: file, offsetBytes, sizeBytes: 16 << 20 }, { direct: true, readBack: file });
    const whole = readFileSync(file);
    expect(Buffer.compare(whole.subarray(offsetBytes, 20 << 20), lastModel)).toBe(0);
    expect(whole.subarray(0, offsetBytes).every((byte) => byte === 0)).toBe(true);
    expect(whole.subarray(20 << 20).every((byte) => byte === 0)).toBe(true);
  });
});

test.each([
  ["the ring", false, false],
  ["the write lane's thread", true, false],
  ["plain calls and the ring", false, true],
  ["plain calls and the thread", true, true],
])("a file, buffered → the same, by %s", (_, lane, plain) => {
  withFile(16 << 20, (file) => {
    exercise({ path: file, direct: "never" }, { direct: false, readBack: file, lane, plain });
    expect(Buffer.compare(readFileSync(file), lastModel)).toBe(0);
  });
});

test("buffered and in memory → a read ends within submit, one out of its done by the ring", () => {
  withFile(1 << 20, (file) => {
    writeFileSync(file, Buffer.alloc(1 << 20, 0x6b));
    runReactor((reactor, finish) => {
      const area = new FileArea(reactor, { path: file, direct: "never" });
      const bufferOffset = reactor.memory.allocate(8192);
      const place = { offsetBytes: 4096, lengthBytes: 8192, bufferOffset };
      const found = () => reactor.memory.bytes.subarray(bufferOffset, bufferOffset + 8192);
      const isThere = () => found().every((byte) => byte === 0x6b);
      const ended: string[] = [];
      const second = (status: Status): void => {
        ended.push("second");
        expect([status, isThere()]).toEqual([Status.ok, true]);
        area.close(finish);
      };
      const first = (status: Status): void => {
        ended.push("first");
        expect([status, isThere()]).toEqual([Status.ok, true]);
        found().fill(0);
        area.submit(operation(read, place, second));
      };
      area.submit(operation(read, place, first));
      expect(ended).toEqual(["first"]);
    });
  });
});

test("a loop device → direct, exclusive: a second opening is refused as in use", () => {
  withFile(16 << 20, (file) => {
    const made = spawnSync("losetup", ["--find", "--show", file], { encoding: "utf8" });
    expect(made.status).toBe(0);
    const device = made.stdout.trim();
    try {
      exercise({ path: device }, { direct: true });
      runReactor((reactor, finish) => {
        const first = new FileArea(reactor, { path: device });
        expect(() => new FileArea(reactor, { path: device })).toThrow("in use");
        first.close(finish);
      });
    } finally {
      spawnSync("losetup", ["--detach", device]);
    }
  });
});

test("a file that another area holds → refused; free again once that is closed", () => {
  withFile(1 << 20, (file) => {
    runReactor((reactor, finish) => {
      const first = new FileArea(reactor, { path: file });
      expect(() => new FileArea(reactor, { path: file })).toThrow("in use");
      first.close(() => new FileArea(reactor, { path: file }).close(finish));
    });
  });
});

test("closed from within a done → closed once: a file opened in its place stays open", () => {
  withFile(1 << 20, (file) => {
    runReactor((reactor, finish) => {
      const first = new FileArea(reactor, { path: file, direct: "never" });
      const place = { lengthBytes: 4096, bufferOffset: reactor.memory.allocate(4096) };
      let closings = 0;
      const again = () => {
        closings++;
        // Opened while the first one's last operation is still being ended: it gets its number.
        const second = new FileArea(reactor, { path: file, direct: "never" });
        reactor.defer(() => {
          second.submit(
            operation(write, place, (status) => {
              expect(status).toBe(Status.ok);
              expect(closings).toBe(1);
              second.close(finish);
            }),
          );
        });
      };
      first.submit(operation(write, place, () => first.close(again)));
    });
  });
});

test("more operations than the queue is deep → all done, none twice", () => {
  withFile(8 << 20, (file) => {
    runReactor((reactor, finish) => {
      const area = new FileArea(reactor, { path: file });
      const buffer = reactor.memory.allocate(4096);
      let done = 0;
      for (let i = 0; i < 2000; i++) {
        const place = { offsetBytes: i * 4096, lengthBytes: 4096, bufferOffset: buffer };
        area.submit(
          operation(read, place, (status) => {
            expect(status).toBe(Status.ok);
            if (++done === 2000) area.close(finish);
          }),
        );
      }
    });
  });
});

test("beyond the end, unknown kind → refused at once; no such file, too small → Fault", () => {
  withFile(1 << 20, (file, folder) => {
    runReactor((reactor, finish) => {
      expect(() => new FileArea(reactor, { path: file, sizeBytes: 2 << 20 })).toThrow("bytes");
      const area = new FileArea(reactor, { path: file });
      const buffer = reactor.memory.allocate(8192);
      const ends: Status[] = [];
      const told = (status: Status) => ends.push(status);
      const last = (1 << 20) - 4096;
      const past = { offsetBytes: last, lengthBytes: 8192, bufferOffset: buffer };
      area.submit(operation(read, past, told));
      area.submit(operation(write, { ...past, offsetBytes: 2 ** 40 }, told));
      area.submit(operation(trim, { lengthBytes: 4096 }, told));
      expect(ends).toEqual([Status.outOfRange, Status.outOfRange, Status.invalid]);
      expect(() => new FileArea(reactor, { path: path.join(folder, "none") })).toThrow("ENOENT");
      expect(() => new FileArea(reactor, { path: folder })).toThrow();
      area.close(finish);
    });
  });
});

test.each([
  ["the ring", false],
  ["the lane", true],
])("R10, %s: a write fails → ioError, as do later ones; a file cut short → ioError", (_, lane) => {
  // tmpfs of 1 MiB: a sparse file that does not fit gives ENOSPC on the write itself.
  const mountPoint = mkdtempSync(path.join(tmpdir(), "cairn-machine-tmpfs-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", mountPoint]);
  expect(mounted.status).toBe(0);
  try {
    withFile(
      8 << 20,
      (file) => {
        runReactor(
          (reactor, finish) => {
            const area = new FileArea(reactor, { path: file, direct: "never" });
            const failures: string[] = [];
            area.onFailure = (what) => failures.push(what);
            const buffer = reactor.memory.allocate(4 << 20);
            const place = { lengthBytes: 4 << 20, bufferOffset: buffer };
            const small = { lengthBytes: 512, bufferOffset: buffer };
            area.submit(
              operation(write, place, (first) => {
                expect(first).toBe(Status.ioError);
                expect(failures).toHaveLength(1);
                expect(failures[0]).toContain("ENOSPC");
                area.submit(operation(write, small, (later) => expect(later).toBe(Status.ioError)));
                area.submit(operation(flush, {}, (later) => expect(later).toBe(Status.ioError)));
                area.submit(
                  operation(read, small, (reading) => {
                    expect(reading).toBe(Status.ok);
                    const fd = openSync(file, "r+");
                    ftruncateSync(fd, 256);
                    closeSync(fd);
                    area.submit(
                      operation(read, small, (short) => {
                        expect(short).toBe(Status.ioError);
                        area.close(finish);
                      }),
                    );
                  }),
                );
              }),
            );
          },
          { lane },
        );
      },
      mountPoint,
    );
  } finally {
    spawnSync("umount", [mountPoint]);
    rmSync(mountPoint, { recursive: true, force: true });
  }
});

test("a disk on another file system is in use too → no plain write until it is closed", () => {
  withFile(1 << 20, (file) => {
    const elsewhere = (other: string): void =>
      runReactor(
        (reactor, finish) => {
          const area = new FileArea(reactor, { path: file, direct: "never" });
          const second = new FileArea(reactor, { path: other, direct: "never" });
          const place = { lengthBytes: 4096, bufferOffset: reactor.memory.allocate(4096) };
          const isPlain = (done: () => void): boolean => {
            area.submit(operation(write, place, done));
            return reactor.plainWrites.isNews;
          };
          const alone = (): void =>
            second.close(() => expect(isPlain(() => area.close(finish))).toBe(true));
          expect(isPlain(alone)).toBe(false);
        },
        { plain: true },
      );
    withFile(1 << 20, elsewhere, "/dev/shm");
  });
});

test("what is under way elsewhere does not get on → no plain write until it has ended", () => {
  withFile(1 << 20, (file) => {
    runReactor(
      (reactor, finish) => {
        const area = new FileArea(reactor, { path: file, direct: "never" });
        const place = { lengthBytes: 4096, bufferOffset: reactor.memory.allocate(4096) };
        const isPlain = (done: (status: Status) => void): boolean => {
          area.submit(operation(write, place, done));
          return reactor.plainWrites.isNews;
        };
        let left = 2;
        const ended = (): void => {
          if (--left > 0) return;
          expect(isPlain(() => area.close(finish))).toBe(true);
        };
        area.submit(operation(flush, {}, ended));
        // Nothing is looked at within a callback: the flush cannot end meanwhile.
        const untilMs = performance.now() + 10;
        while (performance.now() < untilMs);
        expect(isPlain(ended)).toBe(false);
      },
      { plain: true },
    );
  });
});

test("R13: what a flush covered counts as dirty no more, what came after it does", () => {
  withFile(1 << 20, (file) => {
    runReactor((reactor, finish) => {
      const area = new FileArea(reactor, { path: file, direct: "never" });
      const place = { lengthBytes: 8192, bufferOffset: reactor.memory.allocate(8192) };
      const submit = (kind: OperationKind, done: () => void): void =>
        area.submit(
          operation(kind, kind === flush ? {} : place, (status) => {
            expect(status).toBe(Status.ok);
            done();
          }),
        );
      submit(write, () => {
        expect(area.writeBack?.dirtyBytes).toBe(8192);
        let left = 2;
        const ended = (): void => {
          if (--left > 0) return;
          expect(area.writeBack?.dirtyBytes).toBe(8192);
          submit(flush, () => {
            expect(area.writeBack?.dirtyBytes).toBe(0);
            area.close(finish);
          });
        };
        submit(flush, ended);
        submit(write, ended);
      });
    });
  });
});

test("R10, plainly: a write fails → ioError, as do all later ones", () => {
  const mountPoint = mkdtempSync(path.join(tmpdir(), "cairn-machine-tmpfs-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", mountPoint]);
  expect(mounted.status).toBe(0);
  try {
    const fillUp = (file: string): void =>
      runReactor(
        (reactor, finish) => {
          const area = new FileArea(reactor, { path: file, direct: "never" });
          const lengthBytes = 64 << 10;
          const place = { lengthBytes, bufferOffset: reactor.memory.allocate(lengthBytes) };
          const ends: Status[] = [];
          const next = (left: number): void => {
            if (left === 0) {
              const good = ends.indexOf(Status.ioError);
              expect(good).toBeGreaterThan(0);
              expect(ends.slice(good).every((status) => status === Status.ioError)).toBe(true);
              expect(area.failure).toContain("ENOSPC");
              return area.close(finish);
            }
            const told = (status: Status): void => {
              ends.push(status);
              next(left - 1);
            };
            const offsetBytes = ends.length * lengthBytes;
            area.submit(operation(write, { ...place, offsetBytes }, told));
            if (ends.length === 0) expect(reactor.plainWrites.isNews).toBe(true);
          };
          next(32);
        },
        { plain: true },
      );
    withFile(8 << 20, fillUp, mountPoint);
  } finally {
    spawnSync("umount", [mountPoint]);
    rmSync(mountPoint, { recursive: true, force: true });
  }
});

test.each([
  ["the ring", false],
  ["the lane", true],
])(
  "buffered, %s, written far past the dirty bound → every write done, bytes right",
  (_, lane) => {
    withFile(160 << 20, (file) => {
      runReactor(
        (reactor, finish) => {
          const area = new FileArea(reactor, { path: file, direct: "never" });
          const chunk = 4 << 20;
          const buffer = reactor.memory.allocate(chunk);
          reactor.memory.bytes.fill(0x5a, buffer, buffer + chunk);
          let done = 0;
          for (let i = 0; i < 40; i++) {
            const place = { offsetBytes: i * chunk, lengthBytes: chunk, bufferOffset: buffer };
            area.submit(
              operation(write, place, (status) => {
                expect(status).toBe(Status.ok);
                if (++done === 40) area.close(finish);
              }),
            );
          }
        },
        { lane },
      );
      expect(readFileSync(file).every((byte) => byte === 0x5a)).toBe(true);
    });
  },
  60_000,
);
