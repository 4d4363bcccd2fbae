// SPDX-License-Identifier: Apache-2.0
//
// NBD over TLS with real clients against the real executable: volumes that ask for it, that leave
// it to the host and that do not have it; certificates of hosts; renewed certificates; and hosts
// that do not get on. Two units of one lab: the second asks hosts for a certificate.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Prng } from "#base/prng.ts";
import type { TlsRule } from "#base/tls.ts";
import { infoData } from "#protocol/nbd/host-fixture.ts";
import { Command, Option, Reply } from "#protocol/nbd/nbd.wire.ts";
import { assembled, createVolume, protectedEverywhere } from "#test/cluster/assembled.ts";
import { Lab, executable } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { need, pause } from "#test/cluster/until.ts";
import type { Certificates } from "./certificates.ts";
import { issueClient, issueServer, makeAuthority } from "./certificates.ts";
import { newerQemu, outcome, run } from "./programs.ts";
import { RawClient } from "./raw-client.ts";
import type { Facts } from "./servers.ts";

const MIB = 1 << 20;
const START_MS = 45_000;
const RULES: [string, TlsRule][] = [
  ["vault", "required"],
  ["open", "optional"],
  ["plain", "off"],
];

setDefaultTimeout(90_000);

let lab: Lab;
let unit: LabUnit;
let strict: LabUnit;
let trusted: Certificates;
/** An authority that no unit knows, with a host's certificate. */
let stranger: Certificates;
/** The trusted authority without a host's certificate. */
let anonymous: string;

beforeAll(async () => {
  lab = new Lab({ unit: { settings: { sliceBytes: 32 * MIB } } });
  try {
    trusted = await makeAuthority(path.join(lab.folder, "trusted"));
    stranger = await makeAuthority(path.join(lab.folder, "stranger"));
    await Promise.all([issueClient(trusted), issueClient(stranger)]);
    anonymous = path.join(lab.folder, "anonymous");
    mkdirSync(anonymous);
    copyFileSync(trusted.authority, path.join(anonymous, "ca-cert.pem"));
    unit = await addUnit("one", null);
    strict = await addUnit("two", trusted.authority);
    await lab.until("one cluster", () => assembled(lab), START_MS);
    for (const [name, tls] of RULES) {
      await createVolume(lab, { name, sizeBytes: 64 * MIB, protection: "none", tls });
      await lab.until(`${name} served`, () => protectedEverywhere(lab, name), START_MS);
    }
  } catch (error) {
    await lab.end();
    throw error;
  }
}, 120_000);
afterAll(async () => {
  try {
    await Promise.all(lab.units.map((one) => one.stop()));
  } finally {
    await lab.end();
  }
});

async function addUnit(name: string, clientAuthorityFile: string | null): Promise<LabUnit> {
  const added = lab.add({ diskBytes: 512 * MIB });
  const own = path.join(lab.folder, name);
  await copyAuthority(own);
  await issueServer({ folder: own, authority: path.join(own, "ca-cert.pem") }, added.address);
  const tls = {
    certificateFile: path.join(own, "server-cert.pem"),
    keyFile: path.join(own, "server-key.pem"),
    clientAuthorityFile,
  };
  added.writeConfiguration({ tls, sliceBytes: 32 * MIB });
  added.start();
  return added;
}

async function copyAuthority(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const name of ["ca-cert.pem", "ca-key.pem"]) {
    copyFileSync(path.join(trusted.folder, name), path.join(folder, name));
  }
}

/** As libnbd's programs take it; `folder` null: in the clear. */
function uri(name: string, folder: string | null, through = unit): string {
  if (folder === null) return `nbd://${through.address}:10809/${name}`;
  return `nbds://${through.address}:10809/${name}?tls-certificates=${folder}`;
}

const sizeOf = (...where: Parameters<typeof uri>) => outcome("nbdinfo", ["--size", uri(...where)]);

function facts(name: string, through = unit): Facts {
  return {
    host: through.address,
    port: 10809,
    name,
    sizeBytes: 64 * MIB,
    readOnlyName: null,
    description: null,
    minimumBlockBytes: 512,
    multiConn: true,
    thin: true,
    extended: true,
    isQemu: false,
  };
}

describe("who gets in", () => {
  test("a volume that asks for TLS → over it only, and seen over it only", async () => {
    const secured = await sizeOf("vault", anonymous);
    expect([secured.stdout.trim(), secured.exitCode]).toEqual([String(64 * MIB), 0]);
    const clear = await sizeOf("vault", null);
    expect(clear.exitCode).not.toBe(0);
    expect(clear.stderr).toMatch(/TLS/);
    const list = async (where: string) => {
      const { exports } = JSON.parse(await run("nbdinfo", ["--list", "--json", where])) as {
        exports: { "export-name": string }[];
      };
      return exports.map((one) => one["export-name"]).sort();
    };
    expect(await list(uri("", null))).toEqual(["open", "plain"]);
    expect(await list(uri("", anonymous))).toEqual(["open", "vault"]);
  });

  test("either way → both; not over TLS → only in the clear", async () => {
    for (const [name, folder, status] of [
      ["open", null, 0],
      ["open", anonymous, 0],
      ["plain", null, 0],
      ["plain", anonymous, 1],
    ] as const) {
      const { exitCode } = await sizeOf(name, folder);
      expect([name, folder, exitCode === 0 ? 0 : 1]).toEqual([name, folder, status]);
    }
  });

  test("SELECTIVETLS: TLS_REQD for the volume, UNKNOWN for what is not there", async () => {
    using client = await RawClient.haggling(facts("vault"));
    for (const number of [Option.INFO, Option.GO]) {
      expect(await client.ask(number, infoData("vault"))).toMatchObject([
        { type: Reply.ERR_TLS_REQD },
      ]);
    }
    const [unknown] = await client.ask(Option.GO, infoData("nothing"));
    expect(unknown?.type).toBe(Reply.ERR_UNKNOWN);
    const [withData] = await client.ask(Option.STARTTLS, Buffer.from("x"));
    expect(withData?.type).toBe(Reply.ERR_INVALID);
    expect((await client.ask(Option.STARTTLS)).at(-1)?.type).toBe(Reply.ACK);
  });

  test("a server of an authority the host does not know → the host leaves", async () => {
    const result = await sizeOf("vault", stranger.folder);
    expect(result.exitCode).not.toBe(0);
    expect(result.stderr).toMatch(/verif|certificate|trusted|issuer/i);
  });

  test("a unit that asks hosts for a certificate → only with one of its authority", async () => {
    expect((await sizeOf("vault", trusted.folder, strict)).exitCode).toBe(0);
    expect((await sizeOf("vault", anonymous, strict)).exitCode).not.toBe(0);
    // The stranger's certificate, with the right authority to trust.
    const mixed = path.join(lab.folder, "mixed");
    mkdirSync(mixed);
    copyFileSync(trusted.authority, path.join(mixed, "ca-cert.pem"));
    for (const name of ["client-cert.pem", "client-key.pem"]) {
      copyFileSync(path.join(stranger.folder, name), path.join(mixed, name));
    }
    expect((await sizeOf("vault", mixed, strict)).exitCode).not.toBe(0);
    // The clear is the volume's to forbid, not the certificate's.
    expect((await sizeOf("open", null, strict)).exitCode).toBe(0);
  });
});

describe("real clients over TLS", () => {
  function content(sizeBytes: number, seed: number): Buffer {
    const prng = new Prng(seed);
    const bytes = Buffer.alloc(sizeBytes);
    for (let at = 0; at < sizeBytes; at += 4) bytes.writeUInt32LE(prng.u32(), at);
    return bytes;
  }

  for (const [how, through] of [
    ["at its head", () => unit],
    ["through the other unit, with a certificate", () => strict],
  ] as const) {
    test(`nbdcopy there and back, four connections, ${how} → the same bytes`, async () => {
      const [there, back] = ["there", "back"].map((name) => path.join(lab.folder, name));
      const bytes = content(64 * MIB, how.length);
      writeFileSync(there as string, bytes);
      const where = uri("vault", trusted.folder, through());
      const flags = ["--connections=4", "--requests=64"];
      await run("nbdcopy", [...flags, there as string, where]);
      await run("nbdcopy", [...flags, where, back as string]);
      expect(readFileSync(back as string).equals(bytes)).toBe(true);
    });
  }

  for (const [which, program] of [
    ["the machine's", (name: string) => name],
    ["a newer", newerQemu],
  ] as const) {
    test(`${which} qemu-io with a certificate → patterns as written`, async () => {
      const credentials = `tls-creds-x509,id=tls,dir=${trusted.folder},endpoint=client`;
      const image =
        `driver=nbd,server.type=inet,server.host=${strict.address},server.port=10809,` +
        "export=vault,tls-creds=tls";
      const text = await run(program("qemu-io"), [
        ...["--object", credentials, "--image-opts"],
        ...["-c", "write -P 0x5a 0 8M", "-c", "write -z 1M 64k", "-c", "flush"],
        ...["-c", "read -P 0x5a 0 1M", "-c", "read -P 0 1M 64k", "-c", "discard 0 4M"],
        ...["-c", "read -P 0 0 4M", image],
      ]);
      expect(text).not.toMatch(/fail|error/i);
    });
  }

  test("fio with crc32c verification, depth 32 → every block as written", async () => {
    // Its library takes certificates from a plain user's home only, not from the URI.
    const home = mkdtempSync(path.join(tmpdir(), "cairn-tls-"));
    try {
      const folder = path.join(home, ".pki", "libnbd");
      mkdirSync(folder, { recursive: true });
      for (const name of ["ca-cert.pem", "client-cert.pem", "client-key.pem"]) {
        copyFileSync(path.join(trusted.folder, name), path.join(folder, name));
        chmodSync(path.join(folder, name), 0o644);
      }
      chmodSync(home, 0o777);
      const text = await run("setpriv", [
        ...["--reuid=65534", "--clear-groups", "env", `HOME=${home}`, "fio", "--name=verify"],
        ...["--ioengine=nbd", `--uri=nbds://${strict.address}:10809/vault`],
        ...["--rw=randrw", "--bsrange=512-128k", "--iodepth=32", `--size=${64 * MIB}`],
        ...["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--io_size=24M"],
        ...["--output-format=json", `--aux-path=${home}`],
      ]);
      const report = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { error: number }[] };
      expect(report.jobs[0]?.error).toBe(0);
    } finally {
      rmSync(home, { recursive: true });
    }
  });
});

describe("a host known by its certificate", () => {
  /** As `cairn host certificate` writes them, under the names that libnbd looks for. */
  async function issue(name: string): Promise<{ folder: string; fingerprint: string }> {
    const folder = path.join(lab.folder, `host-${name}`);
    mkdirSync(folder);
    const said = await cairn("host", "certificate", "roaming", "--save", path.join(folder, "own"));
    for (const part of ["cert", "key"]) {
      copyFileSync(path.join(folder, `own-${part}.pem`), path.join(folder, `client-${part}.pem`));
    }
    copyFileSync(trusted.authority, path.join(folder, "ca-cert.pem"));
    return { folder, fingerprint: (JSON.parse(said) as { fingerprint: string }).fingerprint };
  }
  const cairn = async (...words: string[]) => {
    const all = [...words, "-o", "json", "--state-directory", unit.stateFolder];
    const { exitCode, stdout, stderr } = await outcome(executable(), all);
    expect([words, exitCode, exitCode === 0 ? "" : stderr]).toEqual([words, 0, ""]);
    return stdout;
  };

  test("by it alone → in with it, nothing without; revoked → out within a second", async () => {
    const wish = ["--size", "64M", "--protection", "none", "--tls", "required"];
    await cairn("volume", "create", "roams", ...wish);
    await cairn("host", "add", "roaming", "--by-certificate");
    await cairn("volume", "assign", "roams", "roaming");
    const [one, two] = [await issue("one"), await issue("two")];
    const isIn = async () => {
      const { exitCode, stderr } = await sizeOf("roams", one.folder);
      need(exitCode === 0, stderr);
      return true as const;
    };
    await lab.until("known by it", isIn, 15_000);
    expect((await sizeOf("roams", anonymous)).stderr).toContain("export");
    // It is that host and no other, whatever its address may use.
    expect((await sizeOf("vault", one.folder)).exitCode).not.toBe(0);

    const pem = (name: string) => readFileSync(path.join(one.folder, name), "utf8");
    using held = await RawClient.haggling(facts("roams"));
    await held.ask(Option.STARTTLS);
    await held.secure({
      ...{ ca: pem("ca-cert.pem"), cert: pem("client-cert.pem"), key: pem("client-key.pem") },
      serverName: unit.address,
    });
    expect((await held.ask(Option.GO, infoData("roams"))).at(-1)?.type).toBe(Reply.ACK);
    const isTold = async () => {
      const { sessions } = JSON.parse(await cairn("host", "show", "roaming")) as {
        sessions: { certificate: string | null }[];
      };
      const shown = sessions.map(({ certificate }) => certificate);
      need(shown.join() === one.fingerprint, `its sessions: ${shown.join()}`);
      return true as const;
    };
    await lab.until("its session is told, with the certificate", isTold, 15_000);
    const start = performance.now();
    await cairn("host", "certificate", "roaming", "--revoke", one.fingerprint);
    await held.ended();
    console.log(`out ${Math.round(performance.now() - start)} ms after it was asked for`);
    expect((await sizeOf("roams", one.folder)).exitCode).not.toBe(0);
    expect((await sizeOf("roams", two.folder)).exitCode).toBe(0);
    // Through the unit that asks every host for a certificate, by the owner's authority or ours.
    expect((await sizeOf("roams", two.folder, strict)).exitCode).toBe(0);
    await cairn("host", "remove", "roaming", "--yes");
  });
});

describe("changes while it runs", () => {
  test("the rule is tightened → who is in the clear is put out; loosened → let in", async () => {
    using host = await RawClient.entered(facts("open"), { headers: "simple" });
    expect((await host.request(Command.READ, { length: 512 })).error).toBe(0);
    await unit.api.changeVolume("open", { tls: "required" });
    await host.ended();
    expect((await sizeOf("open", null)).exitCode).not.toBe(0);
    expect((await sizeOf("open", anonymous)).exitCode).toBe(0);
    expect((await unit.api.volume("open")).uris[0]).toStartWith("nbds://");
    await unit.api.changeVolume("open", { tls: "optional" });
    expect((await sizeOf("open", null)).exitCode).toBe(0);
  });

  test("a renewed certificate → shown to the next host, without a restart", async () => {
    const renewed = await makeAuthority(path.join(lab.folder, "renewed"));
    await issueServer(renewed, unit.address);
    const pid = unit.pid;
    for (const name of ["server-cert.pem", "server-key.pem"]) {
      copyFileSync(path.join(renewed.folder, name), path.join(lab.folder, "one", name));
    }
    const seen = async () => {
      const { exitCode } = await sizeOf("vault", renewed.folder);
      need(exitCode === 0, "the old one is shown yet");
      return true as const;
    };
    await lab.until("the new certificate", seen, 10_000);
    expect((await sizeOf("vault", anonymous)).exitCode).not.toBe(0);
    expect(unit.pid).toBe(pid);
  });
});

describe("hosts that do not get on", () => {
  const descriptors = () => readdirSync(`/proc/${strict.pid}/fd`).length;
  const served = async () => {
    const { exitCode } = await sizeOf("vault", trusted.folder, strict);
    expect(exitCode).toBe(0);
  };

  test("garbage instead of TLS, silence, ends at any time → served on, nothing kept", async () => {
    await served();
    const before = descriptors();
    const prng = new Prng(6);
    for (let round = 0; round < 3; round++) {
      const hosts: RawClient[] = [];
      for (let count = 0; count < 50; count++) {
        const host = await RawClient.haggling(facts("vault", strict));
        await host.ask(Option.STARTTLS);
        const bytes = Buffer.alloc(prng.between(1, 3000));
        for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
        // Some begin like TLS: a record of a handshake, and then something else.
        if (prng.chance(0.5))
          bytes.set([22, 3, 1, prng.below(256), prng.below(256)].slice(0, bytes.length));
        if (prng.chance(0.8)) host.send(bytes);
        if (prng.chance(0.5)) host.terminate();
        hosts.push(host);
      }
      await served();
      for (const host of hosts) host.terminate();
    }
    const fewAgain = () => {
      need(descriptors() <= before + 4, `${descriptors()} descriptors, ${before} before`);
      return true as const;
    };
    await lab.until("descriptors given back", fewAgain, 30_000);
    const log = readFileSync(strict.logFile, "utf8");
    expect(log).not.toContain('"level":"error"');
  });

  test("R13: one asks and does not read → the others go on, its memory is bounded", async () => {
    const rss = () =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${strict.pid}/status`, "utf8"))?.[1]);
    const pem = (name: string) => readFileSync(path.join(trusted.folder, name), "utf8");
    const tls = {
      ca: pem("ca-cert.pem"),
      cert: pem("client-cert.pem"),
      key: pem("client-key.pem"),
    };
    const where = uri("vault", trusted.folder, strict);
    const copied = path.join(lab.folder, "copied");
    const copy = async () => {
      await run("nbdcopy", ["--connections=4", where, copied]);
      await run("nbdcopy", [copied, where]);
    };
    const stuck = await RawClient.haggling(facts("vault", strict));
    await stuck.ask(Option.STARTTLS);
    await stuck.secure({ ...tls, serverName: strict.address });
    expect((await stuck.ask(Option.GO, infoData("vault"))).at(-1)?.type).toBe(Reply.ACK);
    const before = rss();
    stuck.stopReading();
    for (let count = 0; count < 64; count++) stuck.sendRead({ length: 8 * MIB });
    await pause(500);
    // In KiB. It asked for 512 MiB: a connection is given 32, and the relay holds one read of it.
    expect(rss() - before).toBeLessThan(100 << 10);
    await copy();
    stuck.terminate();
  });
});
