// SPDX-License-Identifier: Apache-2.0
//
// The room table of the house: who may import whom, how a room is crossed, and what stays outside
// of the deterministic rooms. Type imports, re-exports and dynamic imports count like any other.

import { isNode, lineOf, walk, wordOf, type Node, type Source, type Violation } from "./source.ts";

// Room -> rooms it may import besides itself.
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  protocol: ["base"],
  store: ["base"],
  raid: ["base"],
  machine: ["base"],
  cluster: ["base", "protocol"],
  appliance: ["base", "protocol", "store", "raid", "machine", "cluster", "embedded"],
  test: ["base", "protocol", "store", "raid", "machine", "cluster", "appliance", "embedded"],
};

// Rooms that are pure: no package at all (test files may use the test tools).
const ROOMS_WITHOUT_PACKAGES: readonly string[] = ["base", "protocol", "store", "raid"];
const TEST_PACKAGES: readonly string[] = ["bun:test", "fast-check"];

/** The only files outside `src/machine` that may touch clock, chance, Bun and Node. */
export const COMPOSITION_ROOTS: readonly string[] = [
  "src/appliance/main.ts",
  "src/appliance/reactor-main.ts",
  "src/appliance/run-unit.ts",
];

// Globals that read a clock, draw chance, do I/O or reach the process.
const MACHINE_GLOBALS: readonly string[] = [
  "AbortSignal",
  "Bun",
  "Date",
  "EventSource",
  "WebSocket",
  "Worker",
  "clearImmediate",
  "clearInterval",
  "clearTimeout",
  "crypto",
  "fetch",
  "performance",
  "process",
  "queueMicrotask",
  "require",
  "setImmediate",
  "setInterval",
  "setTimeout",
];

// `Bun.hash` and friends are pure; `src/base` wraps them once.
const PURE_BUN_FIELDS: readonly string[] = ["hash"];

interface Import {
  specifier: string | null;
  line: number;
}

function importOf(node: Node): Import | null {
  const line = lineOf(node);
  switch (node.type) {
    case "ImportDeclaration":
    case "ExportAllDeclaration":
      return { specifier: wordOf(node["source"]), line };
    case "ExportNamedDeclaration":
      return node["source"] == null ? null : { specifier: wordOf(node["source"]), line };
    case "TSImportType":
      return { specifier: wordOf(node["argument"]) ?? literalType(node["argument"]), line };
    case "ImportExpression":
      return { specifier: wordOf(node["source"]), line };
    case "TSExternalModuleReference":
      return { specifier: wordOf(node["expression"]), line };
    case "CallExpression":
      return callImport(node, line);
    default:
      return null;
  }
}

function literalType(node: unknown): string | null {
  return isNode(node) && node.type === "TSLiteralType" ? wordOf(node["literal"]) : null;
}

function callImport(node: Node, line: number): Import | null {
  const callee = node["callee"];
  if (!isNode(callee)) return null;
  const isImport = callee.type === "Import" || wordOf(callee) === "require";
  if (!isImport) return null;
  const [specifier] = node["arguments"] as unknown[];
  const word = isNode(specifier) && specifier.type === "StringLiteral" ? wordOf(specifier) : null;
  return { specifier: word, line };
}

function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  for (const [node] of walk(source.program)) {
    const one = importOf(node);
    if (one !== null) found.push(one);
  }
  return found;
}

function relativeFault(specifier: string): string | null {
  if (specifier.split("/").includes("..")) return "leaves its folder by ../; use an alias";
  if (!/\.(ts|tsx|mjs|json|sql|css|client\.js)$/.test(specifier))
    return "import a file with its ending";
  return null;
}

function aliasFault(source: Source, specifier: string): string | null {
  const target = specifier.slice(1).split("/")[0] ?? "";
  const own = source.room ?? "";
  if (specifier.split("/").includes("..")) return "an alias that goes up again";
  if (target === own) return null;
  if (target === "test") return "nobody imports test";
  const allowed = ROOMS[own];
  if (allowed === undefined) return `${source.path} is in no known room`;
  return allowed.includes(target) ? null : `${own} may not import ${target}`;
}

function packageFault(source: Source, specifier: string): string | null {
  const own = source.room ?? "";
  if (own === "test" || (source.isTest && TEST_PACKAGES.includes(specifier))) return null;
  if (isMachineModule(specifier)) return machineAllowed(source) ? null : "only src/machine may";
  if (ROOMS_WITHOUT_PACKAGES.includes(own)) return `${own} uses no package`;
  return null;
}

function isMachineModule(specifier: string): boolean {
  return specifier === "bun" || /^(bun|node):/.test(specifier);
}

function machineAllowed(source: Source): boolean {
  if (source.room === "machine" || source.room === "test" || source.isTest) return true;
  return COMPOSITION_ROOTS.includes(source.path);
}

function importFault(source: Source, specifier: string | null): string | null {
  if (specifier === null) return "an import with a computed name";
  if (specifier.startsWith(".")) return relativeFault(specifier);
  if (specifier.startsWith("#")) return aliasFault(source, specifier);
  if (specifier.startsWith("/")) return "an absolute path";
  return packageFault(source, specifier);
}

export function rooms(source: Source): Violation[] {
  if (source.room === null) return [];
  const found: Violation[] = [];
  for (const { specifier, line } of importsOf(source)) {
    const fault = importFault(source, specifier);
    if (fault === null) continue;
    const text = `${fault} (${specifier ?? "?"})`;
    found.push({ path: source.path, line, rule: "rooms", text });
  }
  return found;
}

export function barrels(source: Source): Violation[] {
  const rule = "barrels";
  if (/(^|\/)index\.tsx?$/.test(source.path)) {
    return [{ path: source.path, line: 1, rule, text: "name a file by what it holds, not index" }];
  }
  const body = source.program["body"] as Node[];
  const forwards = body.filter(
    (node) =>
      node.type === "ExportAllDeclaration" ||
      (node.type === "ExportNamedDeclaration" && node["source"] != null),
  );
  if (body.length === 0 || forwards.length < body.length) return [];
  return [{ path: source.path, line: 1, rule, text: "only forwards what others export" }];
}

// A name in these places is not a use of the global.
function isReference(node: Node, parent: Node | undefined): boolean {
  if (parent === undefined) return true;
  const computed = parent["computed"] === true;
  switch (parent.type) {
    case "MemberExpression":
    case "OptionalMemberExpression":
      return parent["object"] === node || computed;
    case "ObjectProperty":
      return parent["value"] === node || computed;
    case "ObjectMethod":
    case "ClassMethod":
    case "ClassPrivateMethod":
    case "ClassProperty":
    case "ClassAccessorProperty":
    case "TSPropertySignature":
    case "TSMethodSignature":
    case "TSDeclareMethod":
      return parent["key"] !== node || computed;
    case "TSQualifiedName":
      return parent["left"] === node;
    case "LabeledStatement":
    case "MetaProperty":
    case "ImportSpecifier":
    case "ExportSpecifier":
      return false;
    default:
      return true;
  }
}

const DECLARING: readonly string[] = [
  "FunctionDeclaration",
  "FunctionExpression",
  "ArrowFunctionExpression",
  "ClassMethod",
  "ObjectMethod",
  "TSDeclareFunction",
  "TSDeclareMethod",
  "TSFunctionType",
  "TSMethodSignature",
  "TSParameterProperty",
];

// Names that the file binds itself shadow the global for the whole file.
function boundNames(source: Source): Set<string> {
  const names = new Set<string>();
  const add = (value: unknown): void => {
    if (!isNode(value)) return;
    if (value.type === "Identifier") names.add(value["name"] as string);
    else if (value.type === "AssignmentPattern") add(value["left"]);
    else if (value.type === "RestElement") add(value["argument"]);
    else if (value.type === "ObjectProperty") add(value["value"]);
    else if (value.type === "ObjectPattern") (value["properties"] as unknown[]).forEach(add);
    else if (value.type === "ArrayPattern") (value["elements"] as unknown[]).forEach(add);
  };
  for (const [node] of walk(source.program)) {
    if (node.type === "VariableDeclarator") add(node["id"]);
    if (node.type.startsWith("Import") && node.type.endsWith("Specifier")) add(node["local"]);
    if (node.type === "FunctionDeclaration" || node.type === "ClassDeclaration") add(node["id"]);
    if (!DECLARING.includes(node.type)) continue;
    const parameters = node["params"] ?? node["parameters"];
    if (Array.isArray(parameters)) parameters.forEach(add);
  }
  return names;
}

function isPureBun(source: Source, node: Node, parent: Node | undefined): boolean {
  if (source.room !== "base" || node["name"] !== "Bun" || parent === undefined) return false;
  const field = wordOf(parent["property"]);
  return parent.type === "MemberExpression" && PURE_BUN_FIELDS.includes(field ?? "");
}

/** Time, chance and I/O come from the World, except in `src/machine` and the composition roots. */
export function determinism(source: Source): Violation[] {
  if (source.room === null || machineAllowed(source)) return [];
  const bound = boundNames(source);
  const found: Violation[] = [];
  const report = (node: Node, name: string): void => {
    const text = `${name} belongs to src/machine; ask the World`;
    found.push({ path: source.path, line: lineOf(node), rule: "determinism", text });
  };
  for (const [node, parents] of walk(source.program)) {
    const parent = parents.at(-1);
    if (node.type === "MemberExpression" && wordOf(node["object"]) === "Math") {
      if (wordOf(node["property"]) === "random") report(node, "Math.random");
    }
    if (node.type !== "Identifier" && node.type !== "JSXIdentifier") continue;
    const name = node["name"] as string;
    if (name === "globalThis") report(node, name);
    if (!MACHINE_GLOBALS.includes(name) || bound.has(name)) continue;
    if (isReference(node, parent) && !isPureBun(source, node, parent)) report(node, name);
  }
  return found;
}
