// SPDX-License-Identifier: Apache-2.0
//
// Source files as the tidy rules see them: text, lines, syntax tree, comments, and the room a file
// belongs to. A file that does not parse is a violation of its own, not a crash.

import { parse, type ParserPlugin } from "@babel/parser";

/** A syntax tree node; the rules look only at the fields that they know from its type. */
export interface Node {
  type: string;
  loc: { start: { line: number }; end: { line: number } };
  [field: string]: unknown;
}

/** One comment; a run of `//` lines arrives as several. */
export interface Comment {
  kind: "line" | "block";
  text: string;
  line: number;
  endLine: number;
}

export interface Source {
  path: string;
  text: string;
  lines: readonly string[];
  room: string | null;
  isTest: boolean;
  program: Node;
  comments: readonly Comment[];
}

export interface Violation {
  path: string;
  line: number;
  rule: string;
  text: string;
}

/** `src/raid/mirror.ts` is in the room `raid`, everything below `test` in `test`. */
export function roomOf(path: string): string | null {
  const [top, room, file] = path.split("/");
  if (top === "test") return "test";
  if (top === "src" && room !== undefined && file !== undefined) return room;
  return null;
}

export function isTestFile(path: string): boolean {
  return /\.test\.tsx?$/.test(path);
}

function pluginsOf(path: string): ParserPlugin[] {
  if (path.endsWith(".mjs")) return ["importAttributes", "explicitResourceManagement"];
  const plugins: ParserPlugin[] = ["typescript", "importAttributes", "explicitResourceManagement"];
  if (path.endsWith(".tsx")) plugins.push("jsx");
  return plugins;
}

export function parseSource(path: string, text: string): Source {
  const file = parse(text, { sourceType: "module", plugins: pluginsOf(path) });
  const comments = (file.comments ?? []).map((comment): Comment => {
    const line = comment.loc?.start.line ?? 1;
    return {
      kind: comment.type === "CommentLine" ? "line" : "block",
      text: comment.value,
      line,
      endLine: comment.loc?.end.line ?? line,
    };
  });
  return {
    path,
    text,
    lines: text.split("\n"),
    room: roomOf(path),
    isTest: isTestFile(path),
    program: file.program as unknown as Node,
    comments,
  };
}

/** True when `text` is one or more whole statements. */
export function parseStatements(text: string): Node[] | null {
  try {
    const file = parse(text, {
      sourceType: "module",
      allowReturnOutsideFunction: true,
      allowAwaitOutsideFunction: true,
      plugins: ["typescript"],
    });
    return file.program.body as unknown as Node[];
  } catch (error) {
    if (error instanceof SyntaxError) return null; // prose, as it should be
    throw error;
  }
}

export function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && "loc" in value;
}

/** Every node below `root`, parents first, with the chain of its parents (nearest last). */
export function* walk(
  root: Node,
  parents: readonly Node[] = [],
): Generator<[Node, readonly Node[]]> {
  yield [root, parents];
  const chain = [...parents, root];
  for (const [field, value] of Object.entries(root)) {
    if (field === "loc" || field.endsWith("Comments")) continue;
    const children = Array.isArray(value) ? value : [value];
    for (const child of children) {
      if (isNode(child)) yield* walk(child, chain);
    }
  }
}

export function lineOf(node: Node): number {
  return node.loc.start.line;
}

/** The name of an identifier, the value of a string literal, or null. */
export function wordOf(value: unknown): string | null {
  if (!isNode(value)) return null;
  if (value.type === "Identifier") return value["name"] as string;
  if (value.type === "StringLiteral") return value["value"] as string;
  return null;
}
