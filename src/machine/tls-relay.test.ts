// SPDX-License-Identifier: Apache-2.0
//
// The TLS relay with a real client on the one side and a plain socket on the other: who gets in,
// that the bytes are the same, and that nothing piles up where one side does not take it.

import { afterEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { HOST_UNHEARD_MS } from "#base/limits.ts";
import { Prng } from "#base/prng.ts";
import { closeDescriptor, socketPair } from "./socket-pair.ts";
import { setNonBlocking } from "./socket-pair.ts";
import { createTimers } from "./timers.ts";
import { readTlsFiles } from "./tls-files.ts";
import type { ClusterTls, TlsClientFiles, TlsFiles } from "./tls-files.ts";
import { TlsRelay } from "./tls-relay.ts";
import { issueHostCertificate, issueWebCertificate, webAuthority } from "./web-certificates.ts";

const VECTORS = path.join(import.meta.dir, "../../test/vectors/tls");
const file = (name: string) => path.join(VECTORS, name);
const text = (name: string) => readFileSync(file(name), "utf8");
const FILES: TlsFiles = {
  certificateFile: file("server.pem"),
  keyFile: file("server-key.pem"),
  clientAuthorityFile: null,
};
const MUTUAL: TlsFiles = { ...FILES, clientAuthorityFile: file("authority.pem") };

type Socket = Bun.Socket<undefined>;

/** One end of a connection, as a test looks at it. */
class End {
  socket: Socket | null = null;
  receivedBytes = 0;
  isOver = false;
  readonly #pieces: Uint8Array[] = [];
  #unsent = Buffer.alloc(0);
  #changed: (() => void)[] = [];

  /** What the reactor is told first: of whose certificate the rest is. */
  identity = Buffer.alloc(0);
  #identityBytes = 0;

  /** The reactor's end. */
  static async ofReactor(fd: number): Promise<End> {
    const end = await End.at(fd, null);
    end.#identityBytes = 32;
    return end;
  }

  /** `tls`: as a client. */
  static async at(fd: number, tls: object | null): Promise<End> {
    const end = new End();
    setNonBlocking(fd);
    const socket: Bun.SocketHandler<undefined> = {
      data: (_, all) => {
        const first = end.#identityBytes - end.identity.length;
        end.identity = Buffer.concat([end.identity, all.subarray(0, first)]);
        const bytes = all.subarray(first);
        end.receivedBytes += bytes.length;
        end.#pieces.push(bytes);
        end.#change();
      },
      drain: () => end.#flush(),
      error: () => {},
      close: () => {
        end.isOver = true;
        end.#change();
      },
    };
    const options = tls === null ? { fd, socket } : { fd, socket, tls };
    const { connect } = Bun as unknown as { connect(given: object): Promise<Socket> };
    end.socket = await connect.call(Bun, options);
    return end;
  }

  get received(): Buffer {
    return Buffer.concat(this.#pieces);
  }
  send(bytes: Uint8Array): void {
    this.#unsent = Buffer.concat([this.#unsent, bytes]);
    this.#flush();
  }
  get unsentBytes(): number {
    return this.#unsent.length;
  }
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  #flush(): void {
    if (this.#unsent.length === 0) return;
    const took = Math.max(0, this.socket?.write(this.#unsent) ?? 0);
    this.#unsent = this.#unsent.subarray(took);
    this.#change();
  }
  #change(): void {
    for (const resolve of this.#changed.splice(0)) resolve();
  }
}

class Bench {
  readonly sentences: string[] = [];
  nowMs = 0;
  unheardMs = 0;
  readonly relay: TlsRelay;
  /** Act as the timers that were set. */
  readonly due: (() => void)[] = [];

  constructor(files: TlsFiles | TlsClientFiles | null, options: { realTimers?: boolean } = {}) {
    const real = createTimers();
    this.relay = new TlsRelay(files, {
      log: { write: (level, sentence, facts) => void this.note(level, sentence, facts) },
      nowMs: () => this.nowMs,
      unheardMs: () => this.unheardMs,
      timers: {
        after: (delayMs, act) => {
          if (options.realTimers === true) return real.after(delayMs, act);
          this.due.push(act);
          return () => void this.due.splice(this.due.indexOf(act), 1);
        },
      },
    });
  }

  note(level: string, sentence: string, facts: Record<string, unknown> = {}): void {
    this.sentences.push([level, sentence, ...Object.values(facts)].join(" "));
  }

  /** A connection under way: the host's side and the reactor's. */
  async connect(tls: object = {}): Promise<{ host: End; reactor: End }> {
    const [encrypted, hostFd] = socketPair();
    const [plain, reactorFd] = socketPair();
    const reactor = await End.ofReactor(reactorFd);
    this.relay.take({ encrypted, plain, peer: "192.0.2.7" });
    const ca = text("authority.pem");
    const host = await End.at(hostFd, { ca, serverName: "localhost", ...tls });
    return { host, reactor };
  }
}

const benches: Bench[] = [];
function bench(files: TlsFiles | TlsClientFiles | null = FILES): Bench {
  const made = new Bench(files);
  benches.push(made);
  return made;
}
afterEach(() => {
  for (const made of benches.splice(0)) made.relay.close();
});

const CLIENT = { cert: text("client.pem"), key: text("client-key.pem") };
const STRANGER = { cert: text("stranger.pem"), key: text("stranger-key.pem") };

describe("a handshake", () => {
  test("without client certificates → bytes both ways, in order, many at a time", async () => {
    const made = bench();
    const { host, reactor } = await made.connect();
    const prng = new Prng(3);
    const bytes = Buffer.alloc(5 << 20);
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(prng.u32(), at);
    host.send(bytes);
    await reactor.until(() => reactor.receivedBytes > 0);
    reactor.send(bytes);
    await reactor.until(() => reactor.receivedBytes === bytes.length);
    await host.until(() => host.receivedBytes === bytes.length);
    expect(reactor.received.equals(bytes)).toBe(true);
    expect(host.received.equals(bytes)).toBe(true);
    expect(made.sentences).toEqual(["info TLS begins 192.0.2.7 TLSv1.3"]);
    expect(reactor.identity.equals(Buffer.alloc(32))).toBe(true);
  });

  test("with a certificate of the authority → in, and named in the log", async () => {
    const made = bench(MUTUAL);
    const { host, reactor } = await made.connect(CLIENT);
    host.send(Buffer.from("a host"));
    await reactor.until(() => reactor.receivedBytes === 6);
    expect(made.sentences).toEqual(["info TLS begins 192.0.2.7 TLSv1.3 host-1"]);
  });

  for (const [name, shown] of [
    ["no certificate", {}],
    ["one of a stranger's", STRANGER],
  ] as const) {
    test(`with ${name} where one is asked for → cut, not a byte passed on`, async () => {
      const made = bench(MUTUAL);
      const { host, reactor } = await made.connect(shown);
      host.send(Buffer.from("let me in"));
      await reactor.until(() => reactor.isOver);
      await host.until(() => host.isOver);
      expect(reactor.receivedBytes).toBe(0);
      expect(made.sentences).toHaveLength(1);
      expect(made.sentences[0]).toStartWith("info TLS did not come about 192.0.2.7 TLS failed");
      expect(made.relay.count).toBe(0);
    });
  }

  test("its host cannot be reached → cut; what comes of it later is void (H7)", async () => {
    const made = bench();
    const { host, reactor } = await made.connect();
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    made.unheardMs = HOST_UNHEARD_MS - 1;
    made.due.at(-1)?.();
    expect(made.relay.count).toBe(1);
    made.unheardMs = HOST_UNHEARD_MS;
    made.due.at(-1)?.();
    await reactor.until(() => reactor.isOver);
    expect([reactor.receivedBytes, made.relay.count]).toEqual([1, 0]);
  });

  test("garbage instead of TLS → cut", async () => {
    const made = bench();
    const [encrypted, hostFd] = socketPair();
    const [plain, reactorFd] = socketPair();
    const reactor = await End.ofReactor(reactorFd);
    made.relay.take({ encrypted, plain, peer: "192.0.2.7" });
    const host = await End.at(hostFd, null);
    host.send(Buffer.from("IHAVEOPT and no idea of TLS"));
    await reactor.until(() => reactor.isOver);
    expect(made.relay.count).toBe(0);
  });

  test("nothing at all → given up when its time is over", async () => {
    const made = bench();
    const [encrypted, hostFd] = socketPair();
    const [plain, reactorFd] = socketPair();
    const reactor = await End.ofReactor(reactorFd);
    made.relay.take({ encrypted, plain, peer: "192.0.2.7" });
    expect(made.due).toHaveLength(1);
    made.due[0]?.();
    await reactor.until(() => reactor.isOver);
    expect(made.sentences[0]).toContain("no TLS in time");
    closeDescriptor(hostFd);
  });

  test("the reactor gives up before it is done → the host is cut off", async () => {
    const made = bench();
    const [encrypted, hostFd] = socketPair();
    const [plain, reactorFd] = socketPair();
    made.relay.take({ encrypted, plain, peer: "192.0.2.7" });
    const host = await End.at(hostFd, null);
    closeDescriptor(reactorFd);
    await host.until(() => host.isOver);
    expect(made.relay.count).toBe(0);
  });
});

describe("with what the cluster gives", () => {
  const cluster = {
    clusterSecret: new Uint8Array(32).fill(7),
    clusterUuid: "0123456789abcdef".repeat(2),
  };
  const nowMs = Date.now();
  const authority = webAuthority(cluster).pem;
  const given: ClusterTls = {
    authority,
    pair: issueWebCertificate(cluster, { name: "box", names: ["localhost"], nowMs }),
  };
  const db1 = issueHostCertificate(cluster, { name: "db1", nowMs });
  const shows = ({ cert, key }: { cert: string; key: string }) => ({ ca: authority, cert, key });

  test("no files → its certificate is shown; a host without one gets in as nobody", async () => {
    const made = bench(null);
    made.relay.setCluster(given);
    const { host, reactor } = await made.connect({ ca: authority });
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    expect(reactor.identity.equals(Buffer.alloc(32))).toBe(true);
  });

  test("a host that shows its certificate → the reactor is told which, before a byte", async () => {
    const made = bench(null);
    made.relay.setCluster(given);
    const { host, reactor } = await made.connect(shows(db1));
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    expect(reactor.identity.toString("hex")).toBe(db1.fingerprint);
    expect(made.sentences).toEqual(["info TLS begins 192.0.2.7 TLSv1.3 db1"]);
  });

  const elsewhere = { ...cluster, clusterUuid: "f".repeat(32) };
  const old = issueHostCertificate(cluster, { name: "db1", nowMs: nowMs - 400 * 86_400_000 });
  for (const [what, shown] of [
    ["of another cluster", issueHostCertificate(elsewhere, { name: "db1", nowMs })],
    ["signed by itself", { cert: STRANGER.cert, key: STRANGER.key }],
    ["whose time is over", old],
  ] as const) {
    test(`a certificate ${what} → cut, though none had to be shown`, async () => {
      const made = bench(null);
      made.relay.setCluster(given);
      const { host, reactor } = await made.connect(shows(shown));
      host.send(Buffer.from("x"));
      await reactor.until(() => reactor.isOver);
      expect([reactor.receivedBytes, reactor.identity.length]).toEqual([0, 0]);
      expect(made.sentences[0]).toContain("TLS did not come about");
    });
  }

  test("the owner's authority besides → either gets in, only the cluster's is told", async () => {
    const made = bench(MUTUAL);
    made.relay.setCluster(given);
    const theirs = await made.connect(CLIENT);
    theirs.host.send(Buffer.from("x"));
    await theirs.reactor.until(() => theirs.reactor.receivedBytes === 1);
    expect(theirs.reactor.identity.equals(Buffer.alloc(32))).toBe(true);
    const ours = await made.connect({ cert: db1.cert, key: db1.key });
    ours.host.send(Buffer.from("x"));
    await ours.reactor.until(() => ours.reactor.receivedBytes === 1);
    expect(ours.reactor.identity.toString("hex")).toBe(db1.fingerprint);
    const nobody = await made.connect();
    nobody.host.send(Buffer.from("x"));
    await nobody.reactor.until(() => nobody.reactor.isOver);
    expect(nobody.reactor.receivedBytes).toBe(0);
  });

  test("no host has a certificate → none is asked for, nor sent", async () => {
    const made = bench(null);
    made.relay.setCluster({ ...given, authority: null });
    const { host, reactor } = await made.connect({ ca: authority, ...STRANGER });
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    expect(made.sentences).toEqual(["info TLS begins 192.0.2.7 TLSv1.3"]);
  });

  test("nothing given yet, and no files → cut", async () => {
    const made = bench(null);
    const { reactor } = await made.connect();
    await reactor.until(() => reactor.isOver);
    expect(made.sentences[0]).toContain("no certificate yet");
    expect(made.relay.count).toBe(0);
  });
});

describe("as the client of a unit", () => {
  const ADDRESS: TlsFiles = {
    ...FILES,
    certificateFile: file("address.pem"),
    keyFile: file("address-key.pem"),
  };
  const BELIEVING = { authorityFile: file("authority.pem"), own: null };

  /** A relay that is the client and a relay that is the server, over one connection. */
  async function between(
    unitFiles: TlsFiles,
    serverName: string,
    clientFiles: TlsClientFiles = BELIEVING,
  ) {
    const unit = bench(unitFiles);
    const client = bench(clientFiles);
    const [outside, inside] = socketPair();
    const [plain, reactorFd] = socketPair();
    const [kernelSide, kernelFd] = socketPair();
    const reactor = await End.ofReactor(reactorFd);
    const kernel = await End.at(kernelFd, null);
    unit.relay.take({ encrypted: inside, plain, peer: "192.0.2.7" });
    client.relay.take({ encrypted: outside, plain: kernelSide, peer: serverName, serverName });
    // The first option is there before TLS is.
    kernel.send(Buffer.from("go"));
    return { unit, client, reactor, kernel };
  }

  for (const [what, unitFiles, serverName] of [
    ["an address that the certificate is for, and no name", ADDRESS, "192.0.2.1"],
    ["an IPv6 address of it", ADDRESS, "2001:db8::1"],
    ["a name", FILES, "localhost"],
  ] as const) {
    test(`${what} → bytes both ways`, async () => {
      const { client, reactor, kernel } = await between(unitFiles, serverName);
      await Promise.race([
        reactor.until(() => reactor.receivedBytes === 2),
        kernel.until(() => kernel.isOver),
      ]);
      expect(client.sentences.join()).toStartWith(`info TLS begins ${serverName}`);
      reactor.send(Buffer.from("ready"));
      await kernel.until(() => kernel.receivedBytes === 5);
    });
  }

  test("with a certificate of its own where one is asked for → known by it", async () => {
    const own = { certificateFile: file("client.pem"), keyFile: file("client-key.pem") };
    const asking = { ...ADDRESS, clientAuthorityFile: file("authority.pem") };
    const { unit, reactor } = await between(asking, "192.0.2.1", { ...BELIEVING, own });
    await reactor.until(() => reactor.receivedBytes === 2);
    expect(unit.sentences).toEqual(["info TLS begins 192.0.2.7 TLSv1.3 host-1"]);
  });

  for (const [what, unitFiles, serverName, authority] of [
    ["another address than the certificate's", ADDRESS, "192.0.2.2", "authority.pem"],
    ["another name", FILES, "attic.example", "authority.pem"],
    ["the address of a certificate for a name", FILES, "192.0.2.1", "authority.pem"],
    ["a certificate of an authority that is not believed", ADDRESS, "192.0.2.1", "stranger.pem"],
  ] as const) {
    test(`${what} → cut, not a byte passed on, and said why`, async () => {
      const files = { authorityFile: file(authority), own: null };
      const { client, reactor, kernel } = await between(unitFiles, serverName, files);
      await Promise.all([reactor.until(() => reactor.isOver), kernel.until(() => kernel.isOver)]);
      expect([reactor.receivedBytes, kernel.receivedBytes]).toEqual([0, 0]);
      expect(client.sentences[0]).toStartWith("info TLS did not come about");
      expect(client.relay.count).toBe(0);
    });
  }
});

describe("the end", () => {
  test("the reactor ends after its last words → they arrive, then the end", async () => {
    const made = bench();
    const { host, reactor } = await made.connect();
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    const last = Buffer.alloc(3 << 20, 7);
    reactor.send(last);
    await reactor.until(() => reactor.unsentBytes === 0);
    reactor.socket?.end();
    await host.until(() => host.isOver);
    expect(host.received.equals(last)).toBe(true);
  });

  test("the host ends → the reactor sees all it said, then the end", async () => {
    const made = bench();
    const { host, reactor } = await made.connect();
    const last = Buffer.alloc(3 << 20, 9);
    host.send(last);
    await host.until(() => host.unsentBytes === 0);
    host.socket?.end();
    await reactor.until(() => reactor.isOver);
    expect(reactor.received.equals(last)).toBe(true);
    expect(made.relay.count).toBe(0);
  });

  test("cut by the host → the reactor's side ends", async () => {
    const made = bench();
    const { host, reactor } = await made.connect();
    host.send(Buffer.from("x"));
    await reactor.until(() => reactor.receivedBytes === 1);
    host.socket?.terminate();
    await reactor.until(() => reactor.isOver);
    expect(made.relay.count).toBe(0);
  });
});

test("R13: a host that does not read → the reactor's side fills up, no more is held", async () => {
  const made = bench();
  const { host, reactor } = await made.connect();
  host.send(Buffer.from("x"));
  await reactor.until(() => reactor.receivedBytes === 1);
  host.socket?.pause();
  const much = Buffer.alloc(32 << 20, 1);
  reactor.send(much);
  // Others are served meanwhile.
  const other = await made.connect();
  for (let round = 0; round < 50; round++) {
    other.host.send(Buffer.alloc(65536, round));
    await other.reactor.until(() => other.reactor.receivedBytes === (round + 1) * 65536);
  }
  expect(reactor.unsentBytes).toBeGreaterThan(24 << 20);
  host.socket?.resume();
  await host.until(() => host.receivedBytes === much.length);
});

describe("files", () => {
  function faultOf(files: TlsFiles): string {
    try {
      readTlsFiles(files);
    } catch (error) {
      if (error instanceof Fault) return error.message;
      throw error;
    }
    return "none";
  }

  test("that are missing, swapped or of another pair → a fault that names the file", () => {
    const nowhere = file("nowhere.pem");
    expect(faultOf({ ...FILES, certificateFile: nowhere })).toContain(`${nowhere} cannot be read`);
    expect(faultOf({ ...FILES, keyFile: nowhere })).toContain(`${nowhere} cannot be read`);
    const swapped = { ...FILES, certificateFile: FILES.keyFile, keyFile: FILES.certificateFile };
    expect(faultOf(swapped)).toContain("holds no certificate");
    expect(faultOf({ ...FILES, keyFile: file("server.pem") })).toContain("holds no private key");
    expect(faultOf({ ...FILES, keyFile: file("client-key.pem") })).toContain("is not the key of");
    const authority = file("README.md");
    expect(faultOf({ ...FILES, clientAuthorityFile: authority })).toContain("no certificate");
    expect(faultOf(FILES)).toBe("none");
  });

  test("renewed → used for the next connection; broken → the old ones stay", async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "cairn-tls-"));
    try {
      const files = {
        certificateFile: path.join(directory, "own.pem"),
        keyFile: path.join(directory, "own-key.pem"),
        clientAuthorityFile: null,
      };
      copyFileSync(file("stranger.pem"), files.certificateFile);
      copyFileSync(file("stranger-key.pem"), files.keyFile);
      const made = bench(files);
      const names = async () => {
        const { host, reactor } = await made.connect({ rejectUnauthorized: false });
        host.send(Buffer.from("x"));
        await reactor.until(() => reactor.receivedBytes === 1);
        const { subject } = host.socket?.getPeerCertificate() as { subject: { CN: string } };
        host.socket?.terminate();
        return subject.CN;
      };
      expect(await names()).toBe("stranger");
      copyFileSync(file("server.pem"), files.certificateFile);
      copyFileSync(file("server-key.pem"), files.keyFile);
      expect(await names()).toBe("stranger"); // not looked for yet
      made.nowMs += 1000;
      expect(await names()).toBe("localhost");
      writeFileSync(files.keyFile, "nothing");
      made.nowMs += 1000;
      expect(await names()).toBe("localhost");
      expect(made.sentences.filter((line) => line.startsWith("error"))).toHaveLength(1);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
