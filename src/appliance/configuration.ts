// SPDX-License-Identifier: Apache-2.0
//
// The configuration of a unit: one table of settings, from which come the zod schema of
// `cairn.json` (as a file or on the boot medium), the flags of `cairn unit`, the defaults, and the
// JSON schema that `cairn config schema` prints. Long because all settings stand in one table.
//
// Invariants
// - Precedence: defaults < boot medium < file < flags, per setting; lists replace, they do not add
//   up.
// - A fault names the setting, where it was set and what is allowed, never the value of a secret.
// - The join secret has no flag: arguments are visible to every user of the machine.

import { type ParseError, parse as parseWithPlaces, printParseErrorCode } from "jsonc-parser";
import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { REGION_BYTES, SLICE_BYTES_DEFAULT, SLICE_BYTES_MAX } from "#base/grains.ts";
import { REACTORS_MAX } from "#base/limits.ts";
import type { LogLevel } from "#base/world.ts";
import { addressBytes } from "#cluster/address-range.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import { MEMORY_DIRECTORY } from "#machine/keepsake-memory.ts";
import { AUTOCONFIG_PORT, LANE_PORT } from "#protocol/autoconfig/autoconfig.wire.ts";
import { joinSecretFault } from "#protocol/peer-channel/secret.ts";
import { parseSize } from "./api/words.ts";
import { claimCodeSchema } from "./claim-code.ts";
import { networkEntrySchema, networkSchema } from "./network-settings.ts";

/** Largest configuration or secret file, bytes. */
export const CONFIGURATION_BYTES_MAX = 64 << 10;
/** Entries of any list in the configuration. */
const LIST_MAX = 64;
const PATH_CHARACTERS_MAX = 4096;
const REPROTECT_AFTER_MS_MAX = 7 * 24 * 3600 * 1000;
/** The file's name on a boot medium. */
export const MEDIUM_FILE = "cairn.json";

/**
 * How a flag's word becomes a value: a flag without a word, a list given by repeating, and so on.
 */
export type FlagKind = "text" | "path" | "yesno" | "size" | "whole" | "texts" | "paths";

interface Setting<S extends z.ZodType> {
  readonly schema: S;
  readonly initial: z.infer<S>;
  /** Null: only in a file. */
  readonly flag: string | null;
  readonly kind: FlagKind;
  readonly sentence: string;
}

function setting<S extends z.ZodType>(
  schema: S,
  options: Omit<Setting<S>, "schema">,
): Readonly<Setting<S>> {
  return { schema, ...options };
}

const path = z
  .string()
  .max(PATH_CHARACTERS_MAX)
  .regex(/^\/[^\0]*$/, "an absolute path");
const pathList = z
  .array(path)
  .max(LIST_MAX)
  .refine((paths) => new Set(paths).size === paths.length, "each path once");
const address = z
  .string()
  .max(64)
  .refine((text) => addressBytes(text) !== null, "an IPv4 or IPv6 address");
const portNumber = z.number().int().min(0).max(65535);
const secret = z.string().superRefine((text, context) => {
  const fault = joinSecretFault(text);
  if (fault !== null) context.addIssue({ code: "custom", message: fault });
});
const tokenHash = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "the SHA-256 of a token, 64 digits 0 to 9 and a to f");
const LOG_LEVELS = ["debug", "info", "warn", "error"] as const satisfies readonly LogLevel[];

/** Every setting but the ports and TLS. */
export const SETTINGS = {
  name: setting(nameSchema.nullable(), {
    initial: null,
    flag: "name",
    kind: "text",
    sentence: "name of this unit; without one, cairn- and four digits of its identity",
  }),
  stateDirectory: setting(path, {
    initial: "/var/lib/cairn",
    flag: "state-directory",
    kind: "path",
    sentence: "where identity, token, socket and the voter's data lie; one per unit",
  }),
  memoryDirectory: setting(path, {
    initial: MEMORY_DIRECTORY,
    flag: "memory-directory",
    kind: "path",
    sentence:
      "where what is acknowledged but not flushed outlives the daemon's death; best in memory",
  }),
  disks: setting(pathList, {
    initial: [],
    flag: "disk",
    kind: "paths",
    sentence:
      "a blank file or block device to claim, or one that is ours already; no other is touched",
  }),
  joinSecret: setting(secret.nullable(), {
    initial: null,
    flag: null,
    kind: "text",
    sentence: "units with the same secret form one cluster by themselves",
  }),
  joinSecretFile: setting(path.nullable(), {
    initial: null,
    flag: "join-secret-file",
    kind: "path",
    sentence: "a file that holds the join secret, instead of joinSecret",
  }),
  mayFound: setting(z.boolean(), {
    initial: true,
    flag: "may-found",
    kind: "yesno",
    sentence: "whether it may found a cluster where it hears none; no: it only joins",
  }),
  network: setting(networkSchema, {
    initial: [],
    flag: null,
    kind: "texts",
    sentence: "fixed addresses of an appliance, by interface; others take DHCP, else link-local",
  }),
  claimCode: setting(claimCodeSchema.nullable(), {
    initial: null,
    flag: null,
    kind: "text",
    sentence: "whoever types it claims the cluster; without one, the unit makes and shows one",
  }),
  adminTokenHash: setting(tokenHash.nullable(), {
    initial: null,
    flag: null,
    kind: "text",
    sentence:
      "SHA-256 of the administrator's token, instead of a claim code: claimed from the start",
  }),
  role: setting(z.enum(["member", "spare", "witness"]), {
    initial: "member",
    flag: "role",
    kind: "text",
    sentence:
      "member; spare: in no pool until it is needed; witness: a vote without disks (cairn witness)",
  }),
  clusterName: setting(nameSchema, {
    initial: "cairn",
    flag: "cluster-name",
    kind: "text",
    sentence: "name of the cluster, if this unit founds it",
  }),
  sliceBytes: setting(
    z.number().int().min(REGION_BYTES).max(SLICE_BYTES_MAX).multipleOf(REGION_BYTES),
    {
      initial: SLICE_BYTES_DEFAULT,
      flag: "slice-size",
      kind: "size",
      sentence: "size of a slice, if this unit founds the cluster; a multiple of 4 MiB",
    },
  ),
  reprotectAfterMs: setting(z.number().int().min(0).max(REPROTECT_AFTER_MS_MAX), {
    initial: 600_000,
    flag: "reprotect-after-ms",
    kind: "whole",
    sentence: "how long a copy may be missing before another disk takes its place, milliseconds",
  }),
  interfaces: setting(z.array(z.string().regex(/^[^/\s]{1,15}$/, "a link's name")).max(LIST_MAX), {
    initial: [],
    flag: "interface",
    kind: "texts",
    sentence: "links for auto-configuration; none named: all that are up, but not the loopback",
  }),
  unicastPeers: setting(
    z
      .array(z.string().max(80).refine(isPeer, "an address, or address:port, or [IPv6]:port"))
      .max(LIST_MAX),
    {
      initial: [],
      flag: "unicast-peer",
      kind: "texts",
      sentence: "a unit to greet where multicast does not reach",
    },
  ),
  apiAddress: setting(address.nullable(), {
    initial: "::",
    flag: "api-address",
    kind: "text",
    sentence:
      "address of the API on TCP; null (flag: none): only the socket in the state directory",
  }),
  directFiles: setting(z.boolean(), {
    initial: false,
    flag: "direct-files",
    kind: "yesno",
    sentence: "direct I/O for disks that are files; block devices always have it",
  }),
  reactors: setting(z.number().int().min(1).max(REACTORS_MAX).nullable(), {
    initial: null,
    flag: "reactors",
    kind: "whole",
    sentence:
      "threads for I/O, each with disks of its own; null: by disks, cores and memory, up to 4",
  }),
  logLevel: setting(z.enum(LOG_LEVELS), {
    initial: "info",
    flag: "log-level",
    kind: "text",
    sentence: "debug, info, warn or error",
  }),
} as const;

/** The ports; 0 takes any free one. In a file they stand under `ports`. */
export const PORTS = {
  autoconfig: portSetting(AUTOCONFIG_PORT, "autoconfig-port", "auto-configuration, UDP"),
  control: portSetting(AUTOCONFIG_PORT, "control-port", "control channel between units, TCP"),
  peer: portSetting(LANE_PORT, "peer-port", "data between units, TCP"),
  nbd: portSetting(10809, "nbd-port", "NBD portal, TCP"),
  api: portSetting(7480, "api-port", "API and console, TCP"),
  apiTls: portSetting(7443, "api-tls-port", "API and console over TLS, TCP"),
} as const;

function portSetting(initial: number, flag: string, sentence: string) {
  return setting(portNumber, { initial, flag, kind: "whole", sentence: `port: ${sentence}` });
}

/** TLS for hosts (NBD's STARTTLS), with X.509. In a file they stand under `tls`. */
export const TLS = {
  certificateFile: tlsSetting(
    "tls-certificate-file",
    "PEM file with this unit's certificate and what leads to its authority; may be renewed",
  ),
  keyFile: tlsSetting("tls-key-file", "PEM file with the certificate's private key"),
  clientAuthorityFile: tlsSetting(
    "tls-client-authority-file",
    "PEM file with authorities; hosts must show a certificate of one of them",
  ),
} as const;

function tlsSetting(flag: string, sentence: string) {
  return setting(path.nullable(), { initial: null, flag, kind: "path", sentence });
}

/** Settings that stand together under one name. */
const GROUPS = { ports: PORTS, tls: TLS } as const;

type SettingName = keyof typeof SETTINGS;
type PortName = keyof typeof PORTS;
type TlsName = keyof typeof TLS;

/** What a unit runs by, complete and checked. */
export type Configuration = {
  -readonly [K in SettingName]: z.infer<(typeof SETTINGS)[K]["schema"]>;
} & { ports: Record<PortName, number>; tls: Record<TlsName, string | null> };

const portsSchema = z.strictObject(shapeOf(PORTS)).partial();
const tlsSchema = z.strictObject(shapeOf(TLS)).partial();

/** Of one source: a file, the boot medium, or all flags. */
export const SourceSchema = z
  .strictObject({ ...shapeOf(SETTINGS), ports: portsSchema, tls: tlsSchema })
  .partial();

function shapeOf<T extends Record<string, { schema: z.ZodType; sentence: string }>>(
  table: T,
): { [K in keyof T]: T[K]["schema"] } {
  const entries = Object.entries(table).map(([name, { schema, sentence }]) => [
    name,
    schema.describe(sentence),
  ]);
  // The mapped type says no more than the line above does; fromEntries only forgets the names.
  return Object.fromEntries(entries) as { [K in keyof T]: T[K]["schema"] };
}

export function defaultConfiguration(): Configuration {
  const initial = (table: Record<string, { initial: unknown }>) =>
    Object.fromEntries(Object.entries(table).map(([name, one]) => [name, copyOf(one.initial)]));
  return {
    ...initial(SETTINGS),
    ports: initial(PORTS),
    tls: initial(TLS),
  } as unknown as Configuration;
}

function copyOf(value: unknown): unknown {
  return Array.isArray(value) ? [...value] : value;
}

/** A flag of `cairn unit`, and where its value goes. */
export interface ConfigurationFlag {
  flag: string;
  kind: FlagKind;
  /** Under which names in the source. */
  place: readonly string[];
  sentence: string;
  initial: unknown;
}

/** All flags of the table, in its order. */
export function configurationFlags(): ConfigurationFlag[] {
  const found: ConfigurationFlag[] = [];
  const add = (place: string[], one: Readonly<Setting<z.ZodType>>) => {
    const { flag, kind, sentence, initial } = one;
    if (flag !== null) found.push({ flag, kind, place, sentence, initial });
  };
  for (const [name, one] of Object.entries(SETTINGS)) add([name], one);
  for (const [group, table] of Object.entries(GROUPS)) {
    for (const [name, one] of Object.entries(table)) add([group, name], one);
  }
  return found;
}

/** Where settings may come from, weakest first. */
export interface ConfigurationSource {
  /** As a fault names it: a path, or "the flags". */
  origin: string;
  /** Relative paths are taken from here. */
  directory: string;
  value: unknown;
}

/** Reads a small file; null when there is none. Handed in by the composition root. */
export type ReadText = (path: string, bytesMax: number) => string | null;

/** A configuration file as a source; null when there is none. */
export function fileSource(file: string, readText: ReadText): ConfigurationSource | null {
  const text = readText(file, CONFIGURATION_BYTES_MAX);
  if (text === null) return null;
  return { ...textSource(file, text), directory: folderOf(file) };
}

/** Settings as JSON text, from anywhere. */
export function textSource(origin: string, text: string): ConfigurationSource {
  return { origin, directory: "/", value: parseJson(origin, text) };
}

/** JSON, or a Fault that says where it is wrong and quotes nothing: a secret may stand there. */
function parseJson(origin: string, text: string): unknown {
  // Editors of other systems begin a file with a mark of its encoding.
  const plain = text.replace(/^\uFEFF/, "");
  try {
    return JSON.parse(plain);
  } catch (cause) {
    throw new Fault("badConfiguration", `${origin} is no JSON: ${placeOfFault(plain)}`, { cause });
  }
}

function placeOfFault(text: string): string {
  if (text.trim() === "") return "it is empty";
  if (/[\0\uFFFD]/.test(text)) return "it is not saved as UTF-8";
  const errors: ParseError[] = [];
  parseWithPlaces(text, errors, { disallowComments: true, allowTrailingComma: false });
  const [first] = errors;
  if (first === undefined) return "it cannot be read";
  const before = text.slice(0, first.offset).split("\n");
  const column = (before.at(-1) ?? "").length + 1;
  // "CommaExpected" is "comma expected".
  const what = printParseErrorCode(first.error).replaceAll(/(?!^)([A-Z])/g, " $1");
  return `line ${before.length}, column ${column}: ${what.toLowerCase()}`;
}

/** Settings that stand for one another: the stronger source's way replaces the weaker one's. */
const ALTERNATIVES = [
  ["joinSecret", "joinSecretFile"],
  ["claimCode", "adminTokenHash"],
] as const satisfies readonly (readonly [SettingName, SettingName])[];

/** The configuration of all sources together, weakest source first. */
export function configurationFrom(
  sources: readonly ConfigurationSource[],
  readText: ReadText,
): Configuration {
  const { settings, secret } = mergedSources(sources, readText);
  const { ports, tls, ...others } = settings;
  const merged = defaultConfiguration();
  Object.assign(merged, others);
  Object.assign(merged.ports, ports);
  Object.assign(merged.tls, tls);
  if (secret !== null) merged.joinSecret = secret;
  checkTogether(merged);
  return merged;
}

/**
 * What the sources set, together, and nothing else: the form in which settings are kept or put on a
 * boot medium. A secret's file has been read, for it is not where the settings go.
 */
export function settingsOf(
  sources: readonly ConfigurationSource[],
  readText: ReadText,
): SourceSettings {
  configurationFrom(sources, readText); // for its faults
  const { settings, secret } = mergedSources(sources, readText);
  if (secret !== null) settings.joinSecret = secret;
  delete settings.joinSecretFile;
  for (const name of ALTERNATIVES.flat()) if (settings[name] === null) delete settings[name];
  return settings;
}

function mergedSources(
  sources: readonly ConfigurationSource[],
  readText: ReadText,
): { settings: SourceSettings; secret: string | null } {
  const merged: SourceSettings = {};
  const ports: SourceSettings["ports"] = {};
  const tls: SourceSettings["tls"] = {};
  let secretOrigin = "";
  for (const source of sources) {
    const settings = checkedSource(source);
    for (const pair of ALTERNATIVES) {
      if (pair.some((name) => settings[name] != null)) for (const name of pair) merged[name] = null;
    }
    if (settings.joinSecretFile != null) secretOrigin = source.origin;
    Object.assign(ports, settings.ports);
    Object.assign(tls, settings.tls);
    Object.assign(merged, settings);
  }
  if (Object.keys(ports).length > 0) merged.ports = ports;
  if (Object.keys(tls).length > 0) merged.tls = tls;
  const file = merged.joinSecretFile ?? null;
  const secret = file === null ? null : secretFromFile(file, secretOrigin, readText);
  return { settings: merged, secret };
}

export type SourceSettings = z.infer<typeof SourceSchema>;

function checkedSource(source: ConfigurationSource): SourceSettings {
  const parsed = SourceSchema.safeParse(withFullPaths(source.value, source.directory));
  if (!parsed.success) throw sourceFault(source.origin, parsed.error.issues[0]);
  for (const [one, other] of ALTERNATIVES) {
    if (parsed.data[one] == null || parsed.data[other] == null) continue;
    const both = `${source.origin} sets both ${one} and ${other}; keep one`;
    throw new Fault("badConfiguration", both);
  }
  return parsed.data;
}

function sourceFault(origin: string, issue: z.core.$ZodIssue | undefined): Fault {
  if (issue === undefined) return new Fault("badConfiguration", `${origin} cannot be used`);
  if (issue.code === "unrecognized_keys") {
    const unknown = [...issue.path.map(String), issue.keys.join(", ")].join(".");
    return new Fault(
      "badConfiguration",
      `${origin} sets ${unknown}, which does not exist; settings: ${knownAt(issue.path)}`,
    );
  }
  const where = issue.path.length === 0 ? "the whole" : issue.path.join(".");
  return new Fault("badConfiguration", `${where} in ${origin}: ${issue.message}`);
}

function knownAt([outer]: readonly PropertyKey[]): string {
  if (outer === "ports" || outer === "tls") return Object.keys(GROUPS[outer]).join(", ");
  if (outer === "network") return Object.keys(networkEntrySchema.shape).join(", ");
  return [...Object.keys(SETTINGS), ...Object.keys(GROUPS)].join(", ");
}

/** Paths of a source, made absolute; anything of a wrong type is left for the schema to refuse. */
function withFullPaths(
  value: unknown,
  directory: string,
  table: Readonly<Record<string, { kind: FlagKind }>> = SETTINGS,
): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const copy: Record<string, unknown> = { ...value };
  if (table === SETTINGS && "tls" in copy) copy["tls"] = withFullPaths(copy["tls"], directory, TLS);
  for (const [name, { kind }] of Object.entries(table)) {
    const one = copy[name];
    if (kind === "path" && typeof one === "string") copy[name] = fullPath(one, directory);
    if (kind === "paths" && Array.isArray(one)) {
      copy[name] = one.map((each) => (typeof each === "string" ? fullPath(each, directory) : each));
    }
  }
  return copy;
}

function fullPath(text: string, directory: string): string {
  if (text === "" || text.startsWith("/")) return text;
  return `${directory === "/" ? "" : directory}/${text.replace(/^(\.\/)+/, "")}`;
}

function folderOf(file: string): string {
  const slash = file.lastIndexOf("/");
  if (slash < 0) return ".";
  return slash === 0 ? "/" : file.slice(0, slash);
}

function secretFromFile(file: string, origin: string, readText: ReadText): string {
  const text = readText(file, CONFIGURATION_BYTES_MAX);
  const where = `joinSecretFile in ${origin}`;
  if (text === null) throw new Fault("badConfiguration", `${where}: ${file} does not exist`);
  const fault = joinSecretFault(text);
  if (fault !== null) throw new Fault("badConfiguration", `${where}: ${file}: ${fault}`);
  return text.trim();
}

/** What no setting can see alone. */
function checkTogether(configuration: Configuration): void {
  const { ports, tls, role, disks } = configuration;
  if (role === "witness" && disks.length > 0) {
    throw new Fault("badConfiguration", "a witness has no disks; leave out disks, or the role");
  }
  const given = Object.values(tls).some((one) => one !== null);
  if (given && (tls.certificateFile === null || tls.keyFile === null)) {
    throw new Fault(
      "badConfiguration",
      "tls.certificateFile and tls.keyFile belong together, and to the rest of tls",
    );
  }
  const tcp: PortName[] = ["control", "peer", "nbd", "api"];
  for (const [index, name] of tcp.entries()) {
    const twin = tcp.slice(0, index).find((other) => ports[other] === ports[name]);
    if (twin === undefined || ports[name] === 0) continue;
    throw new Fault(
      "badConfiguration",
      `ports.${name} and ports.${twin} are both ${ports[name]}; each needs its own`,
    );
  }
}

function isPeer(text: string): boolean {
  return parsePeer(text) !== null;
}

/**
 * `10.0.0.7`, `10.0.0.7:10811`, `fe80::1%eth0`, `[fe80::1%eth0]:10811`; port null: the usual one.
 */
export function parsePeer(text: string): { address: string; port: number | null } | null {
  const match = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(text) ?? /^([^:]+):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? text;
  const port = match?.[2] === undefined ? null : Number(match[2]);
  if (addressBytes(address) === null) return null;
  if (port !== null && (port < 1 || port > 65535)) return null;
  return { address, port };
}

/** Flags as a source. `given` holds the words after each flag, as often as it was said. */
export function flagsSource(
  given: ReadonlyMap<string, readonly string[]>,
  directory: string,
): ConfigurationSource {
  const value: Record<string, unknown> = {};
  for (const one of configurationFlags()) {
    const words = given.get(one.flag);
    if (words === undefined) continue;
    const [first = "", second = ""] = one.place;
    if (second === "") value[first] = flagValue(one, words);
    else value[first] = { ...(value[first] as object), [second]: flagValue(one, words) };
  }
  return { origin: "the flags", directory, value };
}

function flagValue(flag: ConfigurationFlag, words: readonly string[]): unknown {
  if (flag.kind === "texts" || flag.kind === "paths") return [...words];
  const [word = ""] = words;
  if (words.length > 1) throw new Fault("badConfiguration", `--${flag.flag} is said twice`);
  switch (flag.kind) {
    case "yesno":
      return word !== "no";
    case "size":
      return parseSize(word) ?? flagFault(flag, word, "a size such as 64M or 1G");
    case "whole":
      return /^\d{1,15}$/.test(word) ? Number(word) : flagFault(flag, word, "a whole number");
    case "text":
      return word === "none" && flag.flag === "api-address" ? null : word;
    case "path":
      return word;
  }
}

function flagFault(flag: ConfigurationFlag, word: string, allowed: string): never {
  throw new Fault("badConfiguration", `--${flag.flag} ${word}: needs ${allowed}`);
}

/** Settings whose values are never shown. */
const SECRET_SETTINGS = ["joinSecret", "claimCode", "adminTokenHash"] as const;

/** For people and logs: a secret is only said to be there. */
export function redacted(configuration: Configuration): Record<string, unknown> {
  const shown: Record<string, unknown> = { ...configuration };
  for (const name of SECRET_SETTINGS) {
    if (configuration[name] !== null) shown[name] = "(set, not shown)";
  }
  return shown;
}

/** JSON schema (2020-12) of `cairn.json`, with the defaults. */
export function configurationJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(SourceSchema, { io: "input" }) as Record<string, unknown>;
  const withDefaults = (
    properties: unknown,
    table: Readonly<Record<string, { initial: unknown }>>,
  ): void => {
    for (const [name, property] of Object.entries(properties as Record<string, object>)) {
      const one = table[name];
      if (one !== undefined) Object.assign(property, { default: one.initial });
    }
  };
  const properties = schema["properties"] as Record<string, { properties?: unknown }>;
  withDefaults(properties, SETTINGS);
  for (const [group, table] of Object.entries(GROUPS)) {
    withDefaults(properties[group]?.properties, table);
  }
  return { ...schema, title: "Cairn unit configuration" };
}
