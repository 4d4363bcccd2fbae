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
    ["role", "witness", '"member"|"spare"'],
    ["clusterName", "", "letters, digits"],
    ["sliceBytes", (4 << 20) + 1, "multiple of 4194304"],
    ["sliceBytes", 1 << 20, "4194304"],
    ["sliceBytes", "64M", "expected number"],
    ["reprotectAfterMs", -1, "0"],
    ["interfaces", ["eth0/1"], "a link's name"],
    ["unicastPeers", ["host.example"], "an address"],
    ["apiAddress", "everywhere", "IPv4 or IPv6 address"],
    ["directFiles", 1, "boolean"],
    ["logLevel", "loud", '"debug"|"info"|"warn"|"error"'],
  ];
  for (const [name, value, allowed] of bad) {
    test(`${name}: ${JSON.stringify(value).slice(0, 40)}`, () => {
      const sentence = refusal(source({ [name]: value }));
      expect(sentence).toContain(`${name}`);
      expect(sentence).toContain("in /etc/x.json");
      expect(sentence).toContain(allowed);
    });
  }

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

describe("flags", () => {
  test("every setting but secrets and the network has one, and each name is used once", () => {
    const names = configurationFlags().map((one) => one.flag);
    expect(new Set(names).size).toBe(names.length);
    const onlyInFiles = ["joinSecret", "network", "claimCode", "adminTokenHash"];
    const settings = Object.keys(SETTINGS).filter((name) => !onlyInFiles.includes(name));
    expect(names).toHaveLength(settings.length + Object.keys(PORTS).length);
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
  expect(Object.keys(schema.properties)).toEqual([...Object.keys(SETTINGS), "ports"]);
  for (const [name, one] of Object.entries(SETTINGS)) {
    expect(schema.properties[name]?.description).toBe(one.sentence);
    expect(schema.properties[name]?.default).toEqual(one.initial);
  }
  expect(schema.properties["ports"]?.properties).toMatchObject({ nbd: { default: 10809 } });
});
