// SPDX-License-Identifier: Apache-2.0
//
// More of what real clients do: libnbd's shell, which sends what it is told to, right or wrong;
// nbdfuse, which shows an export as a file; qemu-storage-daemon, which passes one on.

import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "#test/cluster/until.ts";
import { outcome, program, run } from "./programs.ts";
import type { Facts } from "./servers.ts";
import { uriOf } from "./servers.ts";

const READY_MS = 30_000;

/** What every script begins with. `refused` holds an errno's name against what a call raises. */
const PRELUDE = `
def refused(name, act):
    try:
        act()
    except nbd.Error as error:
        assert error.errno == name, "%s, not %s" % (error.errno, name)
        return
    raise AssertionError("not refused: " + name)
`;

/** Debian's Python has its libnbd, whatever other Python comes first. */
async function nbdsh(facts: Facts, name: string, script: string, how: string[] = []) {
  const known = [
    `size = ${facts.sizeBytes}`,
    `least = ${facts.minimumBlockBytes}`,
    // Of a write past the end; qemu's is another than the protocol's.
    `beyond = "${facts.isQemu ? "EINVAL" : "ENOSPC"}"`,
  ];
  const words = [...how, "-u", uriOf(facts, name), "-c", PRELUDE + known.join("\n") + script];
  return await outcome("env", ["PATH=/usr/bin:/bin", program("nbdsh"), ...words]);
}

/** What the shell is told, by what is to come of it; how it connects before. */
const SCRIPTS: readonly { title: string; how: string[]; script: string }[] = [
  {
    title: "options one by one, then go → listed, told, entered",
    how: ["--opt-mode"],
    script: `
names = []
h.opt_list(lambda name, description: names.append(name))
assert h.get_export_name() in names, names
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
found = []
h.opt_list_meta_context(lambda name: found.append(name))
assert found == [nbd.CONTEXT_BASE_ALLOCATION], found
h.opt_info()
assert h.get_size() == size
entered = h.get_export_name()
h.set_export_name("no such volume")
try:
    h.opt_info()
    raise AssertionError("a volume that is not there was told of")
except nbd.Error:
    pass
h.set_export_name(entered)
h.opt_go()
assert h.get_size() == size
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
assert h.get_structured_replies_negotiated()
h.shutdown()
`,
  },
  {
    title: "every command with every flag → the bytes that are to be there",
    how: [],
    script: `
M = 1 << 20
for flags in (0, nbd.CMD_FLAG_FUA):
    h.pwrite(b"\\x5a" * M, 0, flags)
    h.trim(M // 2, 0, flags)
    h.zero(65536, M // 2, flags)
    h.zero(65536, M // 2 + 65536, flags | nbd.CMD_FLAG_NO_HOLE)
    h.pwrite(b"\\xa5" * least, M - least, flags)
    assert h.pread(131072, M // 2) == bytes(131072)
    assert h.pread(M // 4, M // 2 + 131072) == b"\\x5a" * (M // 4)
    assert h.pread(least, M - least) == b"\\xa5" * least
chunks = []
def chunk(data, offset, status, error):
    assert status == nbd.READ_DATA
    chunks.append((offset, bytes(data)))
h.pread_structured(65536, M - 65536, chunk, nbd.CMD_FLAG_DF)
assert len(chunks) == 1 and chunks[0][0] == M - 65536
assert chunks[0][1] == h.pread(65536, M - 65536)
h.flush()
if h.can_cache():
    h.cache(M, 0)
    h.cache(16 * M, size - 16 * M)
`,
  },
  {
    title: "block status, all and one by one → the whole volume, in order",
    how: ["--base-allocation"],
    script: `
def walk(flags, step):
    at, extents = 0, []
    while at < size:
        told = []
        def extent(context, offset, entries, error):
            assert context == nbd.CONTEXT_BASE_ALLOCATION and offset == at
            told.extend(zip(entries[0::2], entries[1::2]))
        h.block_status(min(step, size - at), at, extent, flags)
        assert told and all(length > 0 for length, _ in told)
        if flags & nbd.CMD_FLAG_REQ_ONE:
            assert len(told) == 1
        for length, kind in told:
            if extents and extents[-1][1] == kind:
                extents[-1][0] += length
            else:
                extents.append([length, kind])
            at += length
    assert at == size or not flags & nbd.CMD_FLAG_REQ_ONE
    return extents
h.zero(size, 0)
h.pwrite(b"\\x11" * 4096, 8 << 20)
h.flush()
assert walk(0, size) == walk(nbd.CMD_FLAG_REQ_ONE, size) == walk(nbd.CMD_FLAG_REQ_ONE, 3 << 20)
`,
  },
  {
    title: "256 commands under way at once → each answered, the bytes of each",
    how: [],
    script: `
count = 256
out = [nbd.Buffer.from_bytearray(bytearray([index & 255]) * 4096) for index in range(count)]
ended = []
def done(index):
    return lambda error: (ended.append((index, error.value)), 1)[1]
def drain():
    while h.aio_in_flight() > 0:
        h.poll(-1)
for index in range(count):
    h.aio_pwrite(out[index], index * 4096, completion=done(index))
drain()
assert sorted(ended) == [(index, 0) for index in range(count)]
back = [nbd.Buffer(4096) for _ in range(count)]
for index in reversed(range(count)):
    h.aio_pread(back[index], index * 4096, completion=done(index))
    if index % 16 == 0:
        h.aio_flush(completion=done(-1))
drain()
for index in range(count):
    assert back[index].to_bytearray() == bytearray([index & 255]) * 4096
`,
  },
  {
    title: "what a client must not send → its error, and it goes on",
    how: [],
    script: `
h.set_strict_mode(0)
h.pwrite(b"\\x77" * 8192, 0)
refused("EINVAL", lambda: h.pread(4096, size))
refused("EINVAL", lambda: h.pread(8192, size - 4096))
refused(beyond, lambda: h.pwrite(bytes(4096), size))
refused(beyond, lambda: h.zero(8192, size - 4096))
refused("EINVAL", lambda: h.trim(8192, size - 4096))
refused("EINVAL", lambda: h.pread(4096, 0, nbd.CMD_FLAG_REQ_ONE))
refused("EINVAL", lambda: h.pwrite(bytes(4096), 0, nbd.CMD_FLAG_NO_HOLE))
refused("EINVAL", lambda: h.trim(4096, 0, nbd.CMD_FLAG_FAST_ZERO))
if least > 1:
    refused("EINVAL", lambda: h.pread(4096, 1))
    refused("EINVAL", lambda: h.pwrite(bytes(least - 1), 0))
assert h.pread(8192, 0) == b"\\x77" * 8192
`,
  },
];

const READ_ONLY_SCRIPT = `
h.set_strict_mode(0)
assert h.is_read_only()
refused("EPERM", lambda: h.pwrite(bytes(4096), 0))
refused("EPERM", lambda: h.zero(4096, 0))
refused("EPERM", lambda: h.trim(4096, 0))
assert len(h.pread(4096, 0)) == 4096
`;

export function shellChecks(facts: () => Facts): void {
  for (const { title, how, script } of SCRIPTS) {
    test(`nbdsh: ${title}`, async () => {
      const { exitCode, stderr } = await nbdsh(facts(), facts().name, script, how);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    });
  }

  test("nbdsh: a read-only export → EPERM for all that changes it, reads go on", async () => {
    const { readOnlyName } = facts();
    if (readOnlyName === null) return;
    const { exitCode, stderr } = await nbdsh(facts(), readOnlyName, READ_ONLY_SCRIPT);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  });
}

class Folder implements Disposable {
  readonly path = mkdtempSync(path.join(tmpdir(), "cairn-conform-"));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** A program that runs on until `end`, once `file` is there. */
async function running(words: string[], file: string): Promise<Bun.Subprocess> {
  const child = Bun.spawn(words, { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
  await until(`${words[0]} is ready`, () => (existsSync(file) ? true : null), {
    limitMs: READY_MS,
    stillWorthIt: () => {
      if (child.exitCode !== null) throw new Error(`${words[0]} ended: ${child.exitCode}`);
    },
  });
  return child;
}

export function passingChecks(facts: () => Facts): void {
  test("nbdfuse: written through a file, read by another client → the same bytes", async () => {
    using folder = new Folder();
    const { name, sizeBytes } = facts();
    const uri = uriOf(facts(), name);
    const pidFile = path.join(folder.path, "pid");
    const mount = path.join(folder.path, "volume");
    await Bun.write(mount, ""); // a file is mounted over a file
    const child = await running([program("nbdfuse"), "-P", pidFile, mount, uri], pidFile);
    try {
      const file = await open(mount, "r+");
      expect((await file.stat()).size).toBe(sizeBytes);
      const bytes = Buffer.alloc(3 << 20, "what a file was told ");
      await file.write(bytes, 0, bytes.length, 12_345 * 512);
      await file.sync();
      const back = Buffer.alloc(bytes.length);
      await file.read(back, 0, back.length, 12_345 * 512);
      expect(back.equals(bytes)).toBe(true);
      await file.close();
      await run("nbdcopy", [uri, path.join(folder.path, "copy")]);
      const copy = readFileSync(path.join(folder.path, "copy"));
      expect(copy.subarray(12_345 * 512, 12_345 * 512 + bytes.length).equals(bytes)).toBe(true);
    } finally {
      await run("fusermount3", ["-u", mount]);
      await child.exited;
    }
  });

  test("qemu-storage-daemon passes the export on → both ways the same bytes", async () => {
    using folder = new Folder();
    const { name, host, port } = facts();
    const socket = path.join(folder.path, "passed-on");
    const pidFile = path.join(folder.path, "pid");
    const child = await running(
      [
        ...[program("qemu-storage-daemon"), "--pidfile", pidFile],
        ...["--nbd-server", `addr.type=unix,addr.path=${socket}`],
        "--blockdev",
        `driver=nbd,node-name=volume,server.type=inet,server.host=${host},` +
          `server.port=${port},export=${name},discard=unmap`,
        ...["--export", "type=nbd,id=again,node-name=volume,name=again,writable=on"],
      ],
      pidFile,
    );
    try {
      const passed = `nbd+unix:///again?socket=${socket}`;
      const direct = uriOf(facts(), name);
      const write = ["-c", "write -P 0x3c 1M 5M", "-c", "discard 2M 1M", "-c", "flush"];
      await run("qemu-io", ["-f", "raw", ...write, passed]);
      const read = ["-c", "read -P 0x3c 1M 1M", "-c", "read -P 0x3c 3M 3M"];
      expect(await run("qemu-io", ["-f", "raw", ...read, direct])).not.toMatch(/fail|error/i);
      await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", passed, direct]);
    } finally {
      child.kill();
      await child.exited;
    }
  });
}
