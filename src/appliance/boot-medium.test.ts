// SPDX-License-Identifier: Apache-2.0
//
// The two files of an appliance and what it kept: which one holds, and that a wrong one neither
// stops the box nor makes it join or claim.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { applianceSettings, readMedium, reportText } from "./boot-medium.ts";
import type { ApplianceSettings } from "./boot-medium.ts";
import { defaultConfiguration } from "./configuration.ts";
import type { SourceSettings } from "./configuration.ts";

const SECRET = "a secret that is long enough";
const OTHER_SECRET = "another one, which is long as well";
const PLACES = { esp: "/efi", stick: "/run/cairn-medium/" };
const ESP = "/efi/cairn.json";
const STICK = "/run/cairn-medium/cairn.json";
const NETWORK = [{ interface: "eno1", addresses: ["10.0.0.2/8"] }];

interface Given {
  esp?: unknown;
  stick?: unknown;
  kept?: SourceSettings;
  member?: boolean;
  flags?: object;
}

function settle(given: Given): ApplianceSettings {
  const files: Record<string, unknown> = { [ESP]: given.esp, [STICK]: given.stick };
  const readText = (file: string) => {
    const content = files[file];
    if (content instanceof Fault) throw content;
    if (content === undefined) return file === "/efi/secret" ? `${SECRET}\n` : null;
    return typeof content === "string" ? content : JSON.stringify(content);
  };
  const reading = readMedium(PLACES, readText);
  const flags = { origin: "the flags", directory: "/", value: given.flags ?? {} };
  const kept = given.kept ?? null;
  const isMember = given.member ?? false;
  return applianceSettings({ reading, kept, isMember, flags }, readText);
}

describe("sound media", () => {
  test("none, nothing kept → the defaults, nothing to keep", () => {
    const settled = settle({});
    expect(settled).toEqual({ configuration: defaultConfiguration(), keep: null, wrong: null });
  });

  test("the stick overrules the ESP setting by setting; the flags overrule both", () => {
    const { configuration, keep, wrong } = settle({
      esp: { name: "a", joinSecret: SECRET, role: "spare" },
      stick: { name: "b", network: NETWORK },
      flags: { role: "member", stateDirectory: "/s" },
    });
    expect(configuration).toMatchObject({ name: "b", joinSecret: SECRET, role: "member" });
    expect(configuration.stateDirectory).toBe("/s");
    expect(keep).toEqual({ name: "b", joinSecret: SECRET, role: "spare", network: NETWORK });
    expect(wrong).toBeNull();
  });

  test("a secret in a file beside it → read, and kept as the secret", () => {
    const { configuration, keep } = settle({ esp: { joinSecretFile: "secret" } });
    expect(configuration.joinSecret).toBe(SECRET);
    expect(keep).toEqual({ joinSecret: SECRET });
  });

  test("none, as after the stick was pulled → what was kept", () => {
    const kept = { name: "a", joinSecret: SECRET };
    const { configuration, keep } = settle({ kept });
    expect(configuration).toMatchObject(kept);
    expect(keep).toBeNull();
  });

  test("one that says less → its word holds; what was kept is forgotten", () => {
    const kept = { name: "a", network: NETWORK, joinSecret: SECRET };
    const { configuration, keep } = settle({ esp: { name: "b" }, kept });
    expect(configuration).toMatchObject({ name: "b", network: [], joinSecret: null });
    expect(keep).toEqual({ name: "b" });
  });

  test("a member's secret is not forgotten by silence, only by another one", () => {
    const kept = { joinSecret: SECRET };
    const silent = settle({ esp: { name: "b" }, kept, member: true });
    expect(silent.configuration.joinSecret).toBe(SECRET);
    expect(silent.keep).toEqual({ name: "b", joinSecret: SECRET });
    const spoken = settle({ esp: { joinSecret: OTHER_SECRET }, kept, member: true });
    expect(spoken.configuration.joinSecret).toBe(OTHER_SECRET);
  });
});

describe("wrong media", () => {
  const wrongs: [string, unknown, string][] = [
    ["no JSON", `{ "joinSecret": "${SECRET}" `, `${ESP} is no JSON: line 1`],
    ["a setting that does not exist", { join: SECRET }, `${ESP} sets join`],
    ["a weak secret", { joinSecret: "hunter2" }, `joinSecret in ${ESP}`],
    ["a wrong address", { network: [{ mac: "x", addresses: [] }] }, `network.0.mac in ${ESP}`],
    ["a secret's file that is gone", { joinSecretFile: "none" }, "/efi/none does not exist"],
    ["two ports alike", { ports: { api: 10812 } }, "both 10812"],
    ["what the image decides", { stateDirectory: "/x" }, `stateDirectory in ${ESP}`],
    ["no object", "[]", ESP],
    ["an unreadable file", new Fault("badConfiguration", `${ESP} cannot be read (EIO)`), "EIO"],
  ];
  for (const [what, esp, said] of wrongs) {
    test(`${what} → the box comes up by defaults, joins nothing, and says why`, () => {
      const { configuration, keep, wrong } = settle({ esp });
      expect(configuration).toEqual(defaultConfiguration());
      expect(keep).toBeNull();
      expect(wrong).toContain(said);
      expect(wrong).not.toContain("hunter2");
      expect(wrong).not.toContain(SECRET);
    });
  }

  test("one of two → the other's settings hold, but it joins nothing and claims nothing", () => {
    const esp = { name: "a", joinSecret: SECRET, claimCode: "2468-ACEG", network: NETWORK };
    const { configuration, wrong } = settle({ esp, stick: { name: 7 } });
    expect(configuration).toMatchObject({ name: "a", network: NETWORK });
    expect([configuration.joinSecret, configuration.claimCode]).toEqual([null, null]);
    expect(wrong).toContain(`name in ${STICK}`);
    const turned = settle({ esp: "{", stick: { adminTokenHash: "ab".repeat(32) } });
    expect(turned.configuration.adminTokenHash).toBeNull();
  });

  test("each sound, together not → the stick is the wrong one", () => {
    const { configuration, wrong } = settle({
      esp: { ports: { api: 8000 } },
      stick: { ports: { nbd: 8000 } },
    });
    expect(wrong).toContain("both 8000");
    expect(configuration.ports).toMatchObject({ api: 8000, nbd: 10809 });
  });

  test("even a secret in the flags does not make it join", () => {
    const { configuration } = settle({ esp: "{", flags: { joinSecret: SECRET } });
    expect(configuration.joinSecret).toBeNull();
  });

  test("a member goes on with what was kept, and what was kept stays", () => {
    const kept = { name: "a", joinSecret: SECRET, network: NETWORK };
    const { configuration, keep, wrong } = settle({
      esp: "{",
      stick: { name: "b" },
      kept,
      member: true,
    });
    expect(configuration).toMatchObject(kept);
    expect(keep).toBeNull();
    expect(wrong).toContain(ESP);
  });

  test("kept by another version and meaningless to this one → said, as a wrong medium", () => {
    const kept = { name: "a", joinSecret: SECRET, later: 1 } as SourceSettings;
    const { configuration, wrong } = settle({ kept });
    expect(configuration).toEqual(defaultConfiguration());
    expect(wrong).toContain("kept from an earlier start sets later");
  });
});

test("for the screen: each file's state, one sentence, no secret", () => {
  const readText = (file: string) => (file === ESP ? `{"joinSecret": "${SECRET}", "x": 1}` : null);
  const reading = readMedium(PLACES, readText);
  const wrong = reading.files.map((file) => file.message).join("");
  const told = JSON.parse(reportText(reading.files, wrong));
  expect(told).toMatchObject({
    format: 1,
    message: expect.stringContaining("joins nothing new and claims no disk"),
    files: [
      { origin: ESP, state: "wrong" },
      { origin: STICK, state: "absent", message: "" },
    ],
  });
  expect(JSON.stringify(told)).not.toContain(SECRET);
  expect(JSON.parse(reportText([], null))).toEqual({ format: 1, message: null, files: [] });
});

test("a network reset passes over the fixed addresses of just that medium", () => {
  const texts: Record<string, string> = {
    [ESP]: JSON.stringify({ name: "a", network: NETWORK }),
    [STICK]: JSON.stringify({ role: "spare" }),
  };
  const readText = (file: string) => texts[file] ?? null;
  const flags = { origin: "the flags", directory: "/", value: {} };
  const networkOf = (passedOver: string) => {
    const reading = readMedium(PLACES, readText, (text) => text === passedOver);
    const inputs = { reading, kept: null, isMember: false, flags };
    return applianceSettings(inputs, readText).configuration;
  };
  expect(networkOf(texts[ESP] ?? "")).toMatchObject({ name: "a", role: "spare", network: [] });
  expect(networkOf(texts[STICK] ?? "").network).toEqual(NETWORK);
});
