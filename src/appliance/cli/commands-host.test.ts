// SPDX-License-Identifier: Apache-2.0
//
// Commands about hosts, assignments and requests, over a Backend in memory: asked by the owner
// through the socket, and by a host with its own token from elsewhere.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Fault } from "#base/fault.ts";
import { MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import type { ServedApi } from "#appliance/api/serve.ts";
import { serveInMemory } from "#appliance/api/served-fixture.ts";
import type { AttachStart, LocalAttachment, LocalMachine } from "#appliance/run-attach.ts";
import type { CliMachine } from "./machine.ts";
import { runCli } from "./run.ts";

let folder: string;
let backend: MemoryBackend;
let served: ServedApi;
let out: string;
let err: string;
let answers: (string | null)[];
/** What happens while somebody waits. */
let pauses: (() => void)[];

/** What was asked of this machine, and what is attached on it. */
let attaching: AttachStart[];
let attached: LocalAttachment[];
let changes: string[];
let kept: string | null;
const local: LocalMachine = {
  list: () => attached,
  detach: async ({ device }, { force }) => {
    changes.push(`detach ${device}${force ? " by force" : ""}`);
    attached = attached.filter((one) => one.device !== device);
  },
  installAtBoot: async ({ unitName, unitText }) => {
    changes.push(`install ${unitName} ${/^ExecStart=.*$/m.exec(unitText)?.[0]}`);
  },
  removeFromBoot: async (unitName) => {
    changes.push(`remove ${unitName}`);
    return false;
  },
  readKnownUnits: () => kept,
  keepKnownUnits: (text) => void (kept = text),
};

/** What these commands use; anything else is a mistake of theirs. */
function testMachine(): CliMachine {
  const used: Partial<CliMachine> = {
    splitArguments: (args, options) =>
      parseArgs({ args: [...args], options, strict: false, tokens: true }).tokens,
    fetch: (url, { timeoutMs, ...options }) =>
      fetch(url, { ...options, signal: AbortSignal.timeout(timeoutMs) }),
    readText: (file) => (existsSync(file) ? readFileSync(file, "utf8") : null),
    directory: folder,
    write: async (text) => void (out += text),
    complain: async (text) => void (err += text),
    isTerminal: false,
    ask: async () => answers.shift() ?? null,
    pause: async () => pauses.shift()?.(),
    executable: "/opt/cairn",
    runAttach: async (start) => void attaching.push(start),
    attachments: async () => local,
    reserveSecretFile: async (file) => {
      if (existsSync(file)) throw new Fault("conflict", `${file} is there already`);
      writeFileSync(file, "");
      return {
        fill: async (text) => writeFileSync(file, text),
        discard: async () => rmSync(file),
      };
    },
  };
  return used as CliMachine;
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-cli-hosts-"));
  backend = new MemoryBackend();
  [out, err, answers, pauses] = ["", "", [], []];
  [attaching, attached, changes, kept] = [[], [], [], null];
  served = serveInMemory(backend, folder, { tcp: true });
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a line, as typed with blanks between its words, and where to ask. */
async function runAt(place: string[], line: string): Promise<number> {
  [out, err] = ["", ""];
  return runCli(testMachine(), [...line.split(" "), ...place]);
}
const run = (line: string) => runAt(["--state-directory", folder], line);
const asHost = (line: string) =>
  runAt(
    ["--url", `http://127.0.0.1:${served.port}`, "--token-file", path.join(folder, "db1-token")],
    line,
  );
const printed = (): unknown => JSON.parse(out);

describe("hosts", () => {
  const DB1 = "host add db1 --address 10.0.0.7 --address fd00::/64";

  test("add, list, show, change, remove", async () => {
    expect(await run("host list")).toBe(0);
    expect(out).toBe("HOST  NAME  ADDRESSES  VOLUMES  ATTACHED HERE\n");
    expect(await run(DB1)).toBe(0);
    expect(out).toContain("db1, number 1");
    expect(await run(DB1)).toBe(5);
    await run("volume create one --size 1G --host db1");
    backend.hosts.attach("db1", {
      volume: 1,
      address: "10.0.0.7",
      tls: true,
      certificate: null,
      connections: 4,
    });
    expect(await run("host list")).toBe(0);
    expect(out).toBe(
      "HOST  NAME  ADDRESSES            VOLUMES  ATTACHED HERE\n" +
        "1     db1   10.0.0.7, fd00::/64  one      one\n",
    );
    expect(await run("host show db1")).toBe(0);
    expect(out).toContain(
      "VOLUME  FROM      TLS  KNOWN BY  CONNECTIONS\none     10.0.0.7  yes  address   4\n",
    );
    expect(await run("host change db1 --address 10.0.0.8 --rename db2")).toBe(0);
    expect(backend.hosts.one("db2").addresses).toEqual(["10.0.0.8"]);
    expect(await run("host remove db2 --dry-run")).toBe(0);
    answers = ["db1", null];
    expect(await run("host remove db2")).toBe(2);
    expect(await run("host remove db2")).toBe(2);
    expect(err).toContain("--yes");
    expect(backend.hosts.list()).toHaveLength(1);
    expect(await run("host remove db2 --yes")).toBe(0);
    expect([backend.hosts.list(), backend.volume("one").hosts]).toEqual([[], []]);
    expect(await run("host show db2")).toBe(4);
  });

  test("by certificate → files made first, never over others; revoked by a beginning", async () => {
    expect(await run("host add db1")).toBe(2);
    expect(await run("host add db1 --by-certificate --address 10.0.0.7")).toBe(2);
    expect(await run("host add db1 --by-certificate")).toBe(0);
    expect(out).toContain("none: by certificate alone");
    const beginning = path.join(folder, "db1");
    expect(await run(`host certificate db1 --save ${beginning}`)).toBe(0);
    expect(out).toContain(`--certificate ${beginning}-cert.pem --key ${beginning}-key.pem`);
    expect(out).not.toContain("PRIVATE");
    expect(readFileSync(`${beginning}-key.pem`, "utf8")).toContain("PRIVATE KEY");
    expect(readFileSync(`${beginning}-cert.pem`, "utf8")).toContain("CERTIFICATE");
    expect(readFileSync(`${beginning}-ca.pem`, "utf8")).toContain("CERTIFICATE");
    const before = backend.hosts.one("db1").certificates.length;
    expect(await run(`host certificate db1 --save ${beginning}`)).toBe(5);
    expect(backend.hosts.one("db1").certificates).toHaveLength(before);
    expect(readFileSync(`${beginning}-key.pem`, "utf8")).toContain("PRIVATE KEY");
    await run(`host certificate db1 --save ${beginning}-2`);
    const [first] = backend.hosts.one("db1").certificates;
    const fingerprint = first?.fingerprint ?? "";
    expect(await run("host certificate db1 --revoke 0000000")).toBe(2);
    expect(await run("host certificate db1 --revoke 00000000")).toBe(2);
    expect(err).toContain("several begin so");
    expect(await run(`host certificate db1 --revoke ${fingerprint}`)).toBe(0);
    expect(backend.hosts.one("db1").certificates).toHaveLength(1);
    expect(await run(`host certificate db1 --revoke ${fingerprint}`)).toBe(2);
    expect(await run("host change db1 --address 10.0.0.7")).toBe(0);
    expect(await run("host change db1 --by-certificate")).toBe(0);
    expect(backend.hosts.one("db1").addresses).toEqual([]);
  });

  test("assign and revoke → several at once; one that is not there → none", async () => {
    await run(DB1);
    await run("host add db2 --address 10.0.0.8");
    await run("volume create one --size 1G");
    expect(await run("volume assign one db1 db3")).toBe(4);
    expect(backend.volume("one").hosts).toEqual([]);
    expect(await run("volume assign one db1 db2 --dry-run")).toBe(0);
    expect(backend.volume("one").hosts).toEqual([]);
    expect(await run("volume assign one db1 db2")).toBe(0);
    expect(out).toBe("one is assigned to db1, db2\n");
    expect(await run("volume revoke one db1")).toBe(0);
    expect(out).toBe("one is assigned to db2\n");
    expect(await run("volume revoke one 2 -o json")).toBe(0);
    expect(printed()).toEqual(backend.volume("one"));
  });
});

describe("hosts that ask by themselves", () => {
  beforeEach(async () => {
    await run("host add db1 --address 10.0.0.7");
  });

  test("policy, token, answers", async () => {
    expect(await run("host policy db1 --quota 10G --may-ask none --may-ask mirror-2")).toBe(0);
    expect(out).toBe("db1 may ask for 10 GiB as none or mirror-2, a person grants\n");
    expect(await run("host token db1 --save db1-token")).toBe(0);
    expect(readFileSync(path.join(folder, "db1-token"), "utf8")).toMatch(/^[0-9a-f]{64}\n$/);
    expect(await run("host token db2 --save db2-token")).toBe(4);
    expect(await run("host token db1 --save db1-token")).toBe(5);
    expect(existsSync(path.join(folder, "db2-token"))).toBe(false);
    const wish = { sizeBytes: 2 ** 30, protection: "mirror-2" as const };
    for (const name of ["one", "two"]) await backend.hosts.ask(1, { ...wish, name });
    expect(await run("request list")).toBe(0);
    expect(out).toContain("1        db1   one     1 GiB  mirror-2    pool  waiting");
    expect(await run("request grant 1")).toBe(0);
    expect(out).toBe("db1 has one\n");
    expect(backend.volume("one").hosts).toEqual([{ host: 1, name: "db1" }]);
    expect(await run("request refuse 2 --why full")).toBe(0);
    expect(backend.hosts.requests()[1]).toMatchObject({ state: "refused", why: "full" });
    expect(await run("request grant 2")).toBe(5);
    expect(await run("request grant two")).toBe(2);
    expect(await run("host token db1 --void")).toBe(0);
    expect(backend.hosts.one("db1").hasToken).toBe(false);
    expect(await run("host policy db1 --quota 1G --in-pool fast --in-pool pool")).toBe(0);
    expect(out).toBe("db1 may ask for 1 GiB in the pool fast or pool, a person grants\n");
    expect(await run("host policy db1 --quota 0")).toBe(0);
    expect(out).toBe("db1 may ask for nothing\n");
    expect(await run("host policy db1")).toBe(2);
    expect(await run("host policy db1 --quota much")).toBe(2);
  });

  test("on the host → granted at once, and where to attach; over the quota → not", async () => {
    await run("host policy db1 --quota 10G --grant");
    await run("host token db1 --save db1-token");
    expect(await asHost("host request --size 4G --name data --protection none")).toBe(0);
    expect(out).toContain("data is there");
    expect(out).toContain("nbd://10.0.0.1/data");
    expect(await asHost("host request --size 7G")).toBe(7);
    expect(err).toContain("over the quota");
    expect(await asHost("host request --size 1G --pool archive")).toBe(7);
    expect(err).toContain("may ask in the pool pool, not in archive");
    expect(backend.volumes()).toHaveLength(1);
    expect(await asHost("host status")).toBe(0);
    expect(out).toContain("Policy     may ask for 10 GiB, at once");
    expect(await asHost("volume list")).toBe(7);
  });

  test("--until-answered → waits for a person; refused → not allowed, and why", async () => {
    await run("host policy db1 --quota 10G");
    await run("host token db1 --save db1-token");
    expect(await asHost("host request --size 1G --name one")).toBe(0);
    expect(err).toContain("a person has to grant it");
    const answer =
      (grant: boolean, why = "") =>
      () =>
        void backend.hosts.answer(backend.hosts.requests().length, { grant, why });
    pauses = [() => undefined, answer(true)];
    expect(await asHost("host request --size 1G --name two --until-answered")).toBe(0);
    expect([out.includes("nbd://10.0.0.1/two"), pauses]).toEqual([true, []]);
    pauses = [answer(false, "full")];
    expect(await asHost("host request --size 1G --name three --until-answered")).toBe(7);
    expect(err).toContain("three was refused: full");
  });

  test("the owner's socket is no host → not allowed, with what is needed", async () => {
    for (const line of ["host status", "host request --size 1G"]) {
      expect([line, await run(line)]).toEqual([line, 7]);
      expect(err).toContain("cairn host token");
    }
    expect(await run("host request")).toBe(2);
  });
});

describe("--dry-run of a host", () => {
  test("add, change → what would be, and nothing is; nonsense, names taken are said", async () => {
    expect(await run("host add db1 --address 10.0.0.7 --dry-run")).toBe(0);
    expect([out, backend.hosts.list()]).toEqual(["db1 would be added\n", []]);
    expect(await run("host add db1 --address nowhere --dry-run")).toBe(2);
    expect(await run("host add db1 --address 10.0.0.7")).toBe(0);
    expect(await run("host add db1 --address 10.0.0.8 --dry-run")).toBe(5);
    expect(await run("host change db1 --rename db2 --address 10.0.0.9 --dry-run")).toBe(0);
    expect(out).toContain("db2");
    expect(backend.hosts.list()).toMatchObject([{ name: "db1", addresses: ["10.0.0.7"] }]);
    expect(await run("host change db7 --rename db2 --dry-run")).toBe(4);
  });
});

describe("a volume as a block device", () => {
  const DEVICE = { volume: "v", uuid: "0".repeat(32), device: "/dev/nbd0", sizeBytes: 1 << 30 };
  beforeEach(async () => {
    await run("host add db1 --address 10.0.0.7");
    await run("volume create v --size 1G --host db1");
    await run(`host token db1 --save ${path.join(folder, "db1-token")}`);
  });

  test("attach → found through the API, units heard of are kept", async () => {
    expect(await asHost("host attach v --device /dev/nbd7 --give-up-after 60")).toBe(0);
    expect(attaching).toHaveLength(1);
    expect(attaching[0]).toMatchObject({ volume: "v", index: 7, deadSeconds: 60, tls: null });
    expect((await attaching[0]?.resolve())?.uris).toEqual(["nbd://10.0.0.1/v"]);
    expect(JSON.parse(kept ?? "")).toContain("http://10.0.0.2:7480");
  });

  test("--install → files by absolute paths; --dry-run → nothing", async () => {
    expect(await asHost("host attach v --install --dry-run")).toBe(0);
    expect([attaching, changes]).toEqual([[], []]);
    writeFileSync(path.join(folder, "ca.pem"), "");
    expect(await asHost(`host attach v --install --tls yes --ca ${folder}/ca.pem`)).toBe(0);
    const words = `"--token-file" "${folder}/db1-token" "--ca" "${folder}/ca.pem" "--tls" "yes"`;
    expect(changes[0]).toContain(
      'install cairn-host-v.service ExecStart="/opt/cairn" "host" "attach"',
    );
    expect(changes[0]).toContain(words);
    expect(attaching).toEqual([]);
  });

  test.each([
    ["host attach w", 4, "w is not assigned to this host; it has: v"],
    ["host attach v --device sda", 2, "--device is like /dev/nbd0"],
    ["host attach v --tls yes", 2, "--tls yes needs --ca"],
    ["host attach v --tls maybe", 2, "--tls is yes or no"],
    ["host attach v --tls yes --ca a --key b", 2, "go together"],
  ])("%s → exit %d", async (line, status, message) => {
    expect(await asHost(line)).toBe(status);
    expect(err).toContain(message);
    expect([attaching, changes]).toEqual([[], []]);
  });

  test("over TLS alone, and none was asked for → refused before anything is tried", async () => {
    await run("volume tls v required");
    expect(await asHost("host attach v")).toBe(2);
    expect(err).toContain("over TLS alone");
  });

  test("detach → gone, also from the next boot; in use → refused, unless forced", async () => {
    attached = [{ ...DEVICE, inUse: true }];
    expect(await onHost("host detach v")).toBe(2);
    expect(err).toContain("/dev/nbd0 is in use");
    expect(changes).toEqual([]);
    expect(await onHost("host detach v --force")).toBe(0);
    expect(changes).toEqual(["remove cairn-host-v.service", "detach /dev/nbd0 by force"]);
    expect(await onHost("host detach v")).toBe(2);
    expect(err).toContain("v is not attached here");
  });

  test("status → what is attached here", async () => {
    attached = [{ ...DEVICE, inUse: false }];
    expect(await asHost("host status")).toBe(0);
    expect(out).toMatch(/v +\/dev\/nbd0 +1 GiB +no/);
    expect(await asHost("host status -o json")).toBe(0);
    expect(printed()).toMatchObject({ name: "db1", attached: [{ device: "/dev/nbd0" }] });
  });
});

/** Of this machine alone: no unit is asked. */
const onHost = (line: string) => runAt([], line);
