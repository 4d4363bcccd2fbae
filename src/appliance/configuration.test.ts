// SPDX-License-Identifier: Apache-2.0
//
// The configuration: precedence of its sources, what each refuses and how it says so, flags and
// JSON schema from the one table.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import {
  configurationFlags,
  configurationFrom,
  configurationJsonSchema,
  type ConfigurationSource,
  defaultConfiguration,
  fileSource,
  flagsSource,
  parsePeer,
  PORTS,
  redacted,
  SETTINGS,
  settingsOf,
  TLS,
} from "./configuration.ts";

const SECRET = "a secret that is long enough";
const FILES: Record<string, string> = {
  "/medium/cairn.json": JSON.stringify({ name: "from-medium", joinSecret: SECRET, role: "spare" }),
  "/etc/cairn.json": JSON.stringify({ name: "from-file", disks: ["a.img"], ports: { nbd: 0 } }),
  "/etc/secret": `${SECRET}\n`,
  "/etc/short": "short",
  "/etc/broken.json": `{ "joinSecret": "${SECRET}" `,
};
const readText = (file: string) => FILES[file] ?? null;

const source = (value: unknown, origin = "/etc/x.json"): ConfigurationSource => ({
  origin,
  directory: "/etc",
  value,
});
const file = (name: string) => fileSource(name, readText) as ConfigurationSource;
const flags = (...given: [string, ...string[]][]) =>
  flagsSource(new Map(given.map(([flag, ...words]) => [flag, words])), "/here");

function refusal(...sources: ConfigurationSource[]): string {
  try {
    configurationFrom(sources, readText);
  } catch (error) {
    if (error instanceof Fault && error.code === "badConfiguration") return error.message;
    throw error;
  }
  throw new Error("it was taken");
}

describe("precedence", () => {
  test("nothing set → the defaults", () => {
    expect(configurationFrom([], readText)).toEqual(defaultConfiguration());
    expect(defaultConfiguration().ports).toEqual({
      autoconfig: 10811,
      control: 10811,
      peer: 10812,
      nbd: 10809,
      api: 7480,
      apiTls: 7443,
    });
  });

  test("medium < file < flags, per setting and per port", () => {
    const sources = [file("/medium/cairn.json"), file("/etc/cairn.json")];
    const two = configurationFrom(sources, readText);
    expect([two.name, two.role, two.joinSecret]).toEqual(["from-file", "spare", SECRET]);
    expect([two.ports.nbd, two.ports.api]).toEqual([0, 7480]);
    const given = flags(["name", "from-flag"], ["disk", "b.img", "./c.img"], ["api-port", "1"]);
    const three = configurationFrom([...sources, given], readText);
    expect([three.name, three.role]).toEqual(["from-flag", "spare"]);
    expect([three.ports.nbd, three.ports.api]).toEqual([0, 1]);
  });

  test("relative paths → from the file's directory, or from where the flags were typed", () => {
    expect(configurationFrom([file("/etc/cairn.json")], readText).disks).toEqual(["/etc/a.img"]);
    const given = flags(["disk", "b.img", "./c.img", "/d"], ["state-directory", "state"]);
    const configuration = configurationFrom([given], readText);
    expect(configuration.disks).toEqual(["/here/b.img", "/here/c.img", "/d"]);
    expect(configuration.stateDirectory).toBe("/here/state");
  });

  test("lists replace, they do not add up", () => {
    const both = [source({ disks: ["/a", "/b"] }), flags(["disk", "/c"])];
    expect(configurationFrom(both, readText).disks).toEqual(["/c"]);
  });

  test("defaults are not shared between configurations", () => {
    defaultConfiguration().disks.push("/x");
    defaultConfiguration().ports.api = 1;
    expect(defaultConfiguration().disks).toEqual([]);
    expect(defaultConfiguration().ports.api).toBe(7480);
  });
});

describe("join secret", () => {
  test("from a file, trimmed", () => {
    const given = flags(["join-secret-file", "/etc/secret"]);
    expect(configurationFrom([given], readText).joinSecret).toBe(SECRET);
  });

  test("a stronger source's file replaces a weaker one's secret, and the other way round", () => {
    const inline = source({ joinSecret: "another secret, also long enough" });
    const given = flags(["join-secret-file", "/etc/secret"]);
    expect(configurationFrom([inline, given], readText).joinSecret).toBe(SECRET);
    const missing = source({ joinSecretFile: "gone" });
    const turned = configurationFrom([missing, source({ joinSecret: SECRET })], readText);
    expect([turned.joinSecret, turned.joinSecretFile]).toEqual([SECRET, null]);
  });

  test("both in one source → refused", () => {
    const both = { joinSecret: SECRET, joinSecretFile: "/etc/secret" };
    expect(refusal(source(both))).toContain("both joinSecret and joinSecretFile");
  });

  test("too short, inline or in a file → refused without showing it", () => {
    for (const bad of [source({ joinSecret: "short" }), source({ joinSecretFile: "short" })]) {
      const sentence = refusal(bad);
      expect(sentence).toContain("fewer than 16 characters");
      expect(sentence).toContain("/etc/x.json");
    }
    expect(refusal(source({ joinSecret: "sesame" }))).not.toContain("sesame");
  });

  test("its file is missing → refused with the path", () => {
    const sentence = refusal(source({ joinSecretFile: "/gone" }));
    expect(sentence).toContain("joinSecretFile in /etc/x.json: /gone does not exist");
  });

  test("never an argument, never in what is printed", () => {
    expect(configurationFlags().map((one) => one.flag)).not.toContain("join-secret");
    const shown = redacted(configurationFrom([source({ joinSecret: SECRET })], readText));
    expect(JSON.stringify(shown)).not.toContain(SECRET);
    expect(shown["joinSecret"]).toBe("(set, not shown)");
  });

  test("claim code and token's hash → one of them, and neither is printed", () => {
    const hash = "ab".repeat(32);
    const both = refusal(source({ claimCode: "2468-ACEG", adminTokenHash: hash }));
    expect(both).toContain("both claimCode and adminTokenHash");
    const stronger = [source({ claimCode: "2468-ACEG" }), source({ adminTokenHash: hash })];
    const merged = configurationFrom(stronger, readText);
    expect([merged.claimCode, merged.adminTokenHash]).toEqual([null, hash]);
    const shown = JSON.stringify(redacted(merged));
    expect(shown).not.toContain(hash);
    expect(refusal(source({ claimCode: "sesame" }))).not.toContain("sesame");
  });

  test("a file that is no JSON → the line and column, nothing of it quoted", () => {
    const at = (text: string) => {
      try {
        fileSource("/x.json", () => text);
      } catch (error) {
        return (error as Error).message;
      }
      return "taken";
    };
    const wrong = `{\n  "name": "a"\n  "joinSecret": "${SECRET}"\n}`;
    expect(at(wrong)).toEndWith("/x.json is no JSON: line 3, column 3: comma expected");
    expect(at(wrong)).not.toContain(SECRET);
    expect(at('{ "name": "a", }')).toContain("line 1, column 16");
    expect(at("// no\n{}")).toContain("line 1, column 1: invalid comment token");
    expect(at("")).toContain("it is empty");
    expect(at(" \r\n")).toContain("it is empty");
    expect(at("{\0}\0")).toContain("not saved as UTF-8");
    expect(at("\uFFFD\uFFFD{\0")).toContain("not saved as UTF-8");
  });

  test("a byte order mark before it, as editors of other systems write → read all the same", () => {
    const marked = fileSource("/x.json", () => `\uFEFF{"name": "a"}\r\n`);
    expect(marked?.value).toEqual({ name: "a" });
  });

  test("a file that is no JSON → refused without quoting it", () => {
    expect(() => fileSource("/etc/broken.json", readText)).toThrow("/etc/broken.json is no JSON");
    expect(() => fileSource("/etc/broken.json", readText)).not.toThrow(SECRET);
  });

  test("no file → no source", () => {
    expect(fileSource("/gone", readText)).toBeNull();
  });
});

describe("a bad setting → its name, its source and what is allowed", () => {
  const bad: [string, unknown, string][] = [
    ["name", "a b", "letters, digits"],
    ["name", "x".repeat(64), "63"],
    ["stateDirectory", "", "an absolute path"],
    ["disks", ["/a", "/a"], "each path once"],
    ["disks", "/a", "array"],
    ["mayFound", "yes", "boolean"],
    ["role", "king", '"member"|"spare"|"witness"'],
    ["clusterName", "", "letters, digits"],
    ["sliceBytes", (4 << 20) + 1, "multiple of 4194304"],
    ["sliceBytes", 1 << 20, "4194304"],
    ["sliceBytes", "64M", "expected number"],
    ["reprotectAfterMs", -1, "0"],
    ["interfaces", ["eth0/1"], "a link's name"],
    ["unicastPeers", ["host.example"], "an address"],
    ["apiAddress", "everywhere", "IPv4 or IPv6 address"],
    ["directFiles", 1, "boolean"],
    ["reactors", 5, "<=4"],
    ["reactors", 0, ">=1"],
    ["logLevel", "loud", '"debug"|"info"|"warn"|"error"'],
    ["claimCode", "2468ACE", "at least 8"],
    ["claimCode", "X".repeat(65), "at most 64"],
    ["claimCode", "with a ünit", "letters, digits and dashes"],
    ["claimCode", 12345678, "string"],
    ["adminTokenHash", "AB".repeat(32), "64 digits"],
    ["adminTokenHash", "ab".repeat(31), "64 digits"],
    ["network", { interface: "eno1" }, "array"],
  ];
  for (const [name, value, allowed] of bad) {
    test(`${name}: ${JSON.stringify(value).slice(0, 40)}`, () => {
      const sentence = refusal(source({ [name]: value }));
      expect(sentence).toContain(`${name}`);
      expect(sentence).toContain("in /etc/x.json");
      expect(sentence).toContain(allowed);
    });
  }

  test("TLS: a certificate and its key, from a file or by flags, paths made full", () => {
    const tls = { certificateFile: "tls/own.pem", keyFile: "/k.pem" };
    const sources = [source({ tls }), flags(["tls-client-authority-file", "ca.pem"])];
    expect(configurationFrom(sources, readText).tls).toEqual({
      certificateFile: "/etc/tls/own.pem",
      keyFile: "/k.pem",
      clientAuthorityFile: "/here/ca.pem",
    });
    expect(configurationFrom([], readText).tls.certificateFile).toBeNull();
    for (const half of [
      { certificateFile: "/c" },
      { keyFile: "/k" },
      { clientAuthorityFile: "/ca" },
    ]) {
      expect(refusal(source({ tls: half }))).toContain("belong together");
    }
    expect(refusal(source({ tls: { psk: "x" } }))).toContain("tls.psk");
    expect(refusal(source({ tls: "yes" }))).toContain("tls in /etc/x.json");
  });

  test("ports: out of range, unknown, twice the same", () => {
    expect(refusal(source({ ports: { api: 65536 } }))).toContain("ports.api in /etc/x.json");
    expect(refusal(source({ ports: { web: 80 } }))).toContain("ports.web");
    const twice = refusal(flags(["api-port", "10812"]));
    expect(twice).toContain("ports.api and ports.peer are both 10812");
    const any = configurationFrom([source({ ports: { api: 0, peer: 0, nbd: 0 } })], readText);
    expect(any.ports.peer).toBe(0);
  });

  test("a setting that does not exist → the list of those that do", () => {
    const sentence = refusal(source({ disk: "/a" }));
    expect(sentence).toContain("/etc/x.json sets disk, which does not exist");
    expect(sentence).toContain("stateDirectory");
  });

  test("not even an object", () => {
    for (const value of [null, 3, "x", [], undefined]) {
      expect(refusal(source(value))).toContain("/etc/x.json");
    }
  });
});

describe("fixed network", () => {
  const entry = { interface: "eno1", addresses: ["192.168.1.10/24"] };
  const network = (...entries: unknown[]) => source({ network: entries });

  test("by name or by MAC address, both families, gateways within reach → taken", () => {
    const entries = [
      { ...entry, gateways: ["192.168.1.1", "fe80::1"], dns: ["9.9.9.9", "2620:fe::fe"] },
      { mac: "52:54:00:AB:cd:01", addresses: ["10.0.0.2/31", "fd00:1::10/64"] },
      { interface: "eno2", addresses: ["fd00:1::10/64"], gateways: ["fd00:1::1"] },
    ];
    const configuration = configurationFrom([network(...entries)], readText);
    expect(configuration.network as unknown).toEqual(entries);
  });

  const bad: [string, object, string, string][] = [
    ["no interface", { interface: undefined }, "network.0 in", "either interface or mac"],
    ["both", { mac: "52:54:00:12:34:56" }, "network.0 in", "either interface or mac"],
    ["a pattern", { interface: "en*" }, "network.0.interface", "an interface's name"],
    ["a name too long", { interface: "a".repeat(16) }, "network.0.interface", "such as eno1"],
    ["a line break", { interface: "a\nDHCP=no" }, "network.0.interface", "such as eno1"],
    ["no address", { addresses: [] }, "network.0.addresses", "1"],
    ["no prefix", { addresses: ["192.168.1.10"] }, "network.0.addresses.0", "prefix length"],
    ["a long prefix", { addresses: ["192.168.1.10/33"] }, "network.0.addresses.0", "prefix"],
    ["prefix 0", { addresses: ["192.168.1.10/0"] }, "network.0.addresses.0", "prefix length"],
    ["a group", { addresses: ["224.0.0.1/24"] }, "network.0.addresses.0", "an address"],
    ["the loopback", { addresses: ["127.0.0.1/8"] }, "network.0.addresses.0", "an address"],
    ["no host", { addresses: ["0.0.0.0/8"] }, "network.0.addresses.0", "an address"],
    ["a zone", { addresses: ["fe80::1%eth0/64"] }, "network.0.addresses.0", "an address"],
    ["a far gateway", { gateways: ["192.168.2.1"] }, "network.0.gateways.0", "none of the"],
    ["itself", { gateways: ["192.168.1.10"] }, "network.0.gateways.0", "none of the addresses"],
    ["two", { gateways: ["192.168.1.1", "192.168.1.2"] }, "network.0.gateways.1", "at most one"],
    ["a name server", { dns: ["dns.example"] }, "network.0.dns.0", "IPv4 or IPv6"],
    ["a word of its own", { gateway: "192.168.1.1" }, "network.0.gateway", "gateways"],
  ];
  for (const [what, change, where, allowed] of bad) {
    test(`${what} → refused, with the place and what is allowed`, () => {
      const sentence = refusal(network({ ...entry, ...change }));
      expect(sentence).toContain(where);
      expect(sentence).toContain("/etc/x.json");
      expect(sentence).toContain(allowed);
    });
  }

  test("one interface twice → refused", () => {
    expect(refusal(network(entry, entry))).toContain("network.1 in /etc/x.json");
    const mac = { mac: "52:54:00:12:34:5a", addresses: ["10.0.0.1/8"] };
    expect(refusal(network(mac, { ...mac, mac: "52:54:00:12:34:5A" }))).toContain("once");
  });
});

test("what the sources set together, to be kept: no defaults, the secret's file read", () => {
  const sources = [
    source({ name: "a", joinSecretFile: "secret", claimCode: "2468-ACEG", ports: { api: 1 } }),
    source({ name: "b", ports: { nbd: 2 } }),
  ];
  expect(settingsOf(sources, readText)).toEqual({
    name: "b",
    joinSecret: SECRET,
    claimCode: "2468-ACEG",
    ports: { api: 1, nbd: 2 },
  });
  expect(settingsOf([], readText)).toEqual({});
  expect(() => settingsOf([source({ joinSecretFile: "gone" })], readText)).toThrow("gone");
});

describe("flags", () => {
  test("every setting but secrets and the network has one, and each name is used once", () => {
    const names = configurationFlags().map((one) => one.flag);
    expect(new Set(names).size).toBe(names.length);
    const onlyInFiles = ["joinSecret", "network", "claimCode", "adminTokenHash"];
    const settings = Object.keys(SETTINGS).filter((name) => !onlyInFiles.includes(name));
    const grouped = Object.keys(PORTS).length + Object.keys(TLS).length;
    expect(names).toHaveLength(settings.length + grouped);
  });

  test("sizes, numbers, yes and no", () => {
    const given = flags(
      ["slice-size", "64M"],
      ["reprotect-after-ms", "3000"],
      ["may-found", "no"],
      ["direct-files", "yes"],
      ["api-address", "none"],
      ["interface", "eth0", "eth1"],
    );
    const configuration = configurationFrom([given], readText);
    expect(configuration.sliceBytes).toBe(64 << 20);
    expect(configuration.reprotectAfterMs).toBe(3000);
    expect([configuration.mayFound, configuration.directFiles]).toEqual([false, true]);
    expect(configuration.apiAddress).toBeNull();
    expect(configuration.interfaces).toEqual(["eth0", "eth1"]);
  });

  test("words that do not fit → refused by the flag's name", () => {
    expect(() => flags(["slice-size", "big"])).toThrow("--slice-size big: needs a size");
    expect(() => flags(["api-port", "x"])).toThrow("--api-port x: needs a whole number");
    expect(() => flags(["name", "a", "b"])).toThrow("--name is said twice");
    expect(refusal(flags(["role", "king"]))).toContain("role in the flags");
    expect(refusal(flags(["role", "witness"], ["disk", "/d"]))).toContain("a witness has no disks");
  });
});

test("peers: addresses with and without a port", () => {
  expect(parsePeer("10.0.0.7")).toEqual({ address: "10.0.0.7", port: null });
  expect(parsePeer("10.0.0.7:80")).toEqual({ address: "10.0.0.7", port: 80 });
  expect(parsePeer("fe80::1%eth0")).toEqual({ address: "fe80::1%eth0", port: null });
  expect(parsePeer("[fe80::1%eth0]:80")).toEqual({ address: "fe80::1%eth0", port: 80 });
  for (const bad of [
    "",
    "x",
    "10.0.0.7:",
    "10.0.0.7:0",
    "10.0.0.7:65536",
    "[::1",
    "[::1]x",
    ":80",
  ]) {
    expect([bad, parsePeer(bad)]).toEqual([bad, null]);
  }
});

test("JSON schema: every setting with its sentence and its default", () => {
  const schema = configurationJsonSchema() as {
    additionalProperties: boolean;
    properties: Record<string, { description?: string; default?: unknown; properties?: object }>;
  };
  expect(schema.additionalProperties).toBe(false);
  expect(Object.keys(schema.properties)).toEqual([...Object.keys(SETTINGS), "ports", "tls"]);
  for (const [name, one] of Object.entries(SETTINGS)) {
    expect(schema.properties[name]?.description).toBe(one.sentence);
    expect(schema.properties[name]?.default).toEqual(one.initial);
  }
  expect(schema.properties["ports"]?.properties).toMatchObject({ nbd: { default: 10809 } });
});
