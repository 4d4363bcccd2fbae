// SPDX-License-Identifier: Apache-2.0
//
// The house rules about how a file looks and fails: head, comments, width, function length, empty
// catches, sleeps in tests, names of files.

import {
  isNode,
  lineOf,
  parseStatements,
  walk,
  wordOf,
  type Comment,
  type Node,
  type Source,
  type Violation,
} from "./source.ts";

const COLUMNS_MAX = 100;
const FUNCTION_LINES_MAX = 70;
const FILE_LINES_MAX = 600;
const SPDX = "// SPDX-License-Identifier: Apache-2.0";
const SWITCH_MARK = "tidy: exhaustive switch";
const LENGTH_MARK = "Long because";
const BANNED_NAMES: readonly string[] = [
  "utils",
  "util",
  "helpers",
  "helper",
  "common",
  "misc",
  "manager",
  "service",
  "handler",
  "data",
  "info",
];

/** SPDX line, then a paragraph that says what the file is. */
export function heads(source: Source): Violation[] {
  const rule = "heads";
  if (source.lines[0] !== SPDX) {
    return [{ path: source.path, line: 1, rule, text: `the first line must be: ${SPDX}` }];
  }
  const body = (source.program["body"] as Node[])[0];
  const firstLine = body === undefined ? Number.POSITIVE_INFINITY : lineOf(body);
  const words = source.comments
    .filter((comment) => comment.line > 1 && comment.endLine < firstLine)
    .reduce((count, comment) => count + (comment.text.match(/\p{L}+/gu)?.length ?? 0), 0);
  if (words >= 5) return [];
  return [{ path: source.path, line: 2, rule, text: "say in a paragraph what the file is" }];
}

export function columns(source: Source): Violation[] {
  const found: Violation[] = [];
  source.lines.forEach((line, index) => {
    const width = [...line].length;
    const isOneLongWord = /^\s*(\/\/|\*)\s+\S+$/.test(line); // a URL cannot be broken
    if (width <= COLUMNS_MAX || isOneLongWord) return;
    const text = `${width} columns, at most ${COLUMNS_MAX} (npm run format wraps comments)`;
    found.push({ path: source.path, line: index + 1, rule: "columns", text });
  });
  return found;
}

export function fileLength(source: Source): Violation[] {
  if (source.lines.length <= FILE_LINES_MAX + 1) return [];
  const head = source.lines.slice(0, 60).join("\n");
  if (head.includes(LENGTH_MARK)) return [];
  const count = source.lines.length;
  const text = `${count} lines; past ${FILE_LINES_MAX} the head says "${LENGTH_MARK} …"`;
  return [{ path: source.path, line: 1, rule: "fileLength", text }];
}

const FUNCTIONS: readonly string[] = [
  "ArrowFunctionExpression",
  "ClassMethod",
  "ClassPrivateMethod",
  "FunctionDeclaration",
  "FunctionExpression",
  "ObjectMethod",
];

function linesOf(node: Node): number {
  return node.loc.end.line - node.loc.start.line + 1;
}

function isDescribeBody(parents: readonly Node[]): boolean {
  const call = parents.at(-1);
  if (call?.type !== "CallExpression") return false;
  const callee = call["callee"];
  return wordOf(callee) === "describe";
}

// The mark is believed only where a switch makes up most of the function.
function isExhaustiveSwitch(source: Source, node: Node): boolean {
  const { start, end } = node.loc;
  const marked = source.comments.some(
    (comment) =>
      comment.text.includes(SWITCH_MARK) &&
      comment.line >= start.line - 1 &&
      comment.line <= end.line,
  );
  if (!marked) return false;
  for (const [inner] of walk(node)) {
    if (inner.type === "SwitchStatement" && linesOf(inner) * 3 >= linesOf(node) * 2) return true;
  }
  return false;
}

export function functionLength(source: Source): Violation[] {
  const found: Violation[] = [];
  for (const [node, parents] of walk(source.program)) {
    if (!FUNCTIONS.includes(node.type) || linesOf(node) <= FUNCTION_LINES_MAX) continue;
    if (isDescribeBody(parents) || isExhaustiveSwitch(source, node)) continue;
    const text = `a function of ${linesOf(node)} lines, at most ${FUNCTION_LINES_MAX}`;
    found.push({ path: source.path, line: lineOf(node), rule: "functionLength", text });
  }
  return found;
}

export function enums(source: Source): Violation[] {
  const found: Violation[] = [];
  for (const [node] of walk(source.program)) {
    if (node.type !== "TSEnumDeclaration") continue;
    const text = "an `as const` object and a union type instead of an enum";
    found.push({ path: source.path, line: lineOf(node), rule: "enums", text });
  }
  return found;
}

function isEmptyFunction(node: unknown): boolean {
  if (!isNode(node) || !FUNCTIONS.includes(node.type)) return false;
  const body = node["body"];
  return isNode(body) && body.type === "BlockStatement" && (body["body"] as []).length === 0;
}

/** A failure that nobody sees: `catch {}` and `.catch(() => {})`, with or without a comment. */
export function emptyCatches(source: Source): Violation[] {
  const found: Violation[] = [];
  const report = (node: Node): void => {
    const text = "an empty catch; return, rethrow or count what went wrong";
    found.push({ path: source.path, line: lineOf(node), rule: "emptyCatches", text });
  };
  for (const [node] of walk(source.program)) {
    if (node.type === "CatchClause") {
      const body = node["body"] as Node;
      if ((body["body"] as unknown[]).length === 0) report(node);
    }
    if (node.type !== "CallExpression") continue;
    const callee = node["callee"] as Node;
    const [only] = node["arguments"] as unknown[];
    if (wordOf(callee["property"]) === "catch" && isEmptyFunction(only)) report(node);
  }
  return found;
}

/** Tests wait for events or step a clock; they never wait for time to pass. */
export function sleeps(source: Source): Violation[] {
  if (!source.isTest) return [];
  const banned: readonly string[] = ["sleep", "sleepSync", "setTimeout", "setInterval"];
  const found: Violation[] = [];
  const report = (node: Node, text: string): void => {
    found.push({ path: source.path, line: lineOf(node), rule: "sleeps", text });
  };
  for (const [node] of walk(source.program)) {
    if (node.type === "CallExpression") {
      const callee = node["callee"] as Node;
      const name = wordOf(callee["property"]) ?? wordOf(callee);
      if (name !== null && banned.includes(name)) report(node, `${name} in a test`);
    }
    if (node.type === "ImportDeclaration" && wordOf(node["source"]) === "node:timers/promises") {
      report(node, "node:timers/promises in a test");
    }
  }
  return found;
}

const CODE_STATEMENTS: readonly string[] = [
  "BreakStatement",
  "ClassDeclaration",
  "ExportNamedDeclaration",
  "ForStatement",
  "FunctionDeclaration",
  "IfStatement",
  "ImportDeclaration",
  "ReturnStatement",
  "ThrowStatement",
  "VariableDeclaration",
];
const CODE_EXPRESSIONS: readonly string[] = [
  "AssignmentExpression",
  "AwaitExpression",
  "CallExpression",
  "NewExpression",
  "UpdateExpression",
];

function looksLikeCode(line: string): boolean {
  if (/^(if|for|while|switch) \(.*\) \{$/.test(line)) return true;
  if (/^(export )?(async )?function \w+\(.*\{$/.test(line)) return true;
  if (!line.endsWith(";")) return false;
  const [first] = parseStatements(line) ?? [];
  if (first === undefined) return false;
  if (CODE_STATEMENTS.includes(first.type)) return true;
  const expression = first["expression"];
  return isNode(expression) && CODE_EXPRESSIONS.includes(expression.type);
}

// Indented lines and fenced blocks of a comment are examples, which are welcome.
function proseLines(comment: Comment): { text: string; line: number }[] {
  const found: { text: string; line: number }[] = [];
  let fenced = false;
  comment.text.split("\n").forEach((raw, index) => {
    const text = comment.kind === "line" ? raw : raw.replace(/^\s*\*/, "");
    if (text.trim().startsWith("```")) fenced = !fenced;
    const isExample = fenced || /^\s{3,}/.test(text);
    if (!isExample) found.push({ text: text.trim(), line: comment.line + index });
  });
  return found;
}

export function comments(source: Source): Violation[] {
  const found: Violation[] = [];
  for (const comment of source.comments) {
    const report = (line: number, text: string): void => {
      found.push({ path: source.path, line, rule: "comments", text });
    };
    if (/\b(FIXME|XXX|HACK)\b/.test(comment.text)) report(comment.line, "fix it or say why not");
    if (/\bTODO\b(?!\(when [^)]+\):)/.test(comment.text)) {
      report(comment.line, "TODO(when …): names its trigger");
    }
    for (const { text, line } of proseLines(comment)) {
      if (looksLikeCode(text)) report(line, `commented-out code: ${text}`);
    }
  }
  return found;
}

export function names(source: Source): Violation[] {
  const rule = "names";
  const found: Violation[] = [];
  for (const part of source.path.split("/")) {
    const stem = part.split(".")[0] ?? "";
    if (BANNED_NAMES.includes(stem)) {
      found.push({ path: source.path, line: 1, rule, text: `"${stem}" says nothing` });
    }
    if (!/^[a-z0-9]+(-[a-z0-9]+)*$/i.test(stem) || stem !== stem.toLowerCase()) {
      found.push({ path: source.path, line: 1, rule, text: `"${part}" is not kebab-case` });
    }
  }
  return found;
}
