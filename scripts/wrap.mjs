// SPDX-License-Identifier: Apache-2.0
//
// Wraps comment lines past 100 columns, which `bun fmt` leaves alone. Only lines that are nothing
// but a comment are touched, and of a paragraph only what follows the long line; tables, indented
// examples and comments behind code stay for the author.

import { readFileSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

const COLUMNS_MAX = 100;
const COMMENT_LINE = /^(\s*)(\/\/|\*)( {1,3})(\S.*)$/;
const DOC_LINE = /^(\s*)\/\*\* (.*) \*\/$/;
const STARTS_ANEW = /^([-*|]|\d+\.|`{3}|@)/;

function width(text) {
  return [...text].length;
}

// Cuts `text` into a line that fits and the words left over.
function cut(text, room) {
  const words = text.split(" ");
  let kept = words.shift();
  while (words.length > 0 && width(kept) + 1 + width(words[0]) <= room) {
    kept += ` ${words.shift()}`;
  }
  return [kept, words.join(" ")];
}

function continues(line, prefix) {
  const match = COMMENT_LINE.exec(line ?? "");
  if (match === null || STARTS_ANEW.test(match[4])) return null;
  return match[1] + match[2] + match[3] === prefix ? match[4] : null;
}

export function wrapComments(source) {
  const lines = [];
  for (const line of source.split("\n")) {
    const doc = width(line) > COLUMNS_MAX ? DOC_LINE.exec(line) : null;
    if (doc === null) lines.push(line);
    else lines.push(`${doc[1]}/**`, `${doc[1]} * ${doc[2]}`, `${doc[1]} */`);
  }
  for (let index = 0; index < lines.length; index++) {
    const match = width(lines[index]) > COLUMNS_MAX ? COMMENT_LINE.exec(lines[index]) : null;
    if (match === null || match[4].startsWith("|")) continue;
    const prefix = match[1] + match[2] + match[3];
    const [kept, left] = cut(match[4], COLUMNS_MAX - width(prefix));
    if (left === "") continue;
    lines[index] = prefix + kept;
    // The second line of a list item stands under the text of the first.
    const hanging = prefix + (/^(-|\d+\.) /.exec(match[4])?.[0].replace(/./g, " ") ?? "");
    const next = continues(lines[index + 1], hanging);
    if (next === null) lines.splice(index + 1, 0, hanging + left);
    else lines[index + 1] = `${hanging}${left} ${next}`;
  }
  return lines.join("\n");
}

function filesOf(name) {
  if (statSync(name).isFile()) return /\.(ts|tsx|mjs)$/.test(name) ? [name] : [];
  return readdirSync(name).flatMap((entry) => filesOf(path.join(name, entry)));
}

/** Wraps all files below the given paths and returns the names of those that changed. */
export function wrapFiles(paths) {
  const changed = [];
  for (const name of paths.flatMap(filesOf)) {
    const before = readFileSync(name, "utf8");
    const after = wrapComments(before);
    if (after === before) continue;
    writeFileSync(`${name}.tmp`, after);
    renameSync(`${name}.tmp`, name);
    changed.push(name);
  }
  return changed;
}
