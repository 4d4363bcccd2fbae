// SPDX-License-Identifier: Apache-2.0
//
// The view that a box shows by itself: who it is, where its console is, how it is. A pure function
// of the facts to lines. What matters and is wrong comes first; what does not fit is counted, never
// dropped in silence.

import { type ScreenFacts, consoleUrl, nameOf } from "./facts.ts";
import {
  BLANK,
  type Line,
  type Shape,
  type Tone,
  beside,
  clip,
  durationInWords,
  inAlphabet,
  line,
  uptimeInWords,
  wrap,
} from "./frame.ts";
import { halfBlockCode } from "./qr-code.ts";
import {
  type Row,
  addressRows,
  clusterRows,
  diskRows,
  softwareRows,
  volumeRows,
} from "./main-rows.ts";

const LABEL_COLUMNS = 10;
const MARGIN = 1;
/** Between the text and the code beside it. */
const GAP = 2;
/** Beside a code the text keeps at least so much. */
const TEXT_COLUMNS_MIN = 40;
/** A daemon that never answered is starting, up to here. */
const STARTING_MS = 90_000;
const STALE_MS = 5000;
/** Of a notice, where there is room and where there is not. */
const NOTICE_LINES_MAX = 7;
const NOTICE_LINES_MIN = 3;
/** Of a row that is too long for one. */
const ROW_LINES_MAX = 3;
const HANG_COLUMNS_MIN = 20;
const HANG_NARROW = 2;
/** With so many rows for disks, blank lines may stay although not every disk has its own. */
const DISK_ROWS_GOOD = 4;

export interface MainViewOptions {
  /** A QR code of the console's address beside the text, where it fits. */
  code: boolean;
  /** Keys, for the last line. */
  footer: string;
  /** To the last row; else only as long as there is something to say. */
  fill: boolean;
}

export function mainView(facts: ScreenFacts, shape: Shape, options: MainViewOptions): Line[] {
  const head = headLines(facts, shape);
  const rows = shape.rows - head.length - 2;
  const { code, body } = bestBody(facts, rows, shape, options.code);
  const codeColumns = code[0]?.[0]?.text.length ?? 0;
  while (body.length < (options.fill ? rows : code.length)) body.push(BLANK);
  const lines = body.map((one, at): Line => {
    const right = code[at];
    const margin = one.spans.length === 0 ? [] : [{ text: " ", tone: "plain" } as const];
    const left: Line = { spans: [...margin, ...one.spans], news: one.news };
    return right === undefined ? left : beside(left, shape.columns - 1 - codeColumns, right);
  });
  const footer = line(` ${clip(options.footer, shape.columns - 2)}`, "quiet");
  return [...head, ...lines, ...(options.footer === "" ? [] : [BLANK, footer])];
}

type Code = ReturnType<typeof halfBlockCode>;

/**
 * With the code beside it where everything fits, else without (a key shows it); and where not even
 * that does, shortened.
 */
function bestBody(
  facts: ScreenFacts,
  rows: number,
  shape: Shape,
  wantsCode: boolean,
): { code: Code; body: Line[] } {
  const code = wantsCode ? codeThatFits(facts, shape, rows) : [];
  for (const beside of code.length === 0 ? [code] : [code, []]) {
    const codeColumns = beside[0]?.[0]?.text.length ?? 0;
    const widthAt = (at: number) =>
      shape.columns - 1 - (at < beside.length ? codeColumns + GAP : 0) - MARGIN;
    const found = bodyLines(facts, rows, widthAt, shape);
    if (found.whole || beside.length === 0) return { code: beside, body: found.lines };
  }
  return { code: [], body: [] };
}

function headLines(facts: ScreenFacts, shape: Shape): Line[] {
  const width = shape.columns - 1;
  const up = `up ${uptimeInWords(facts.sincePowerOnMs)}`;
  const title = `Cairn ${facts.version}`;
  const left = ` ${title}  ${inAlphabet(nameOf(facts), shape.alphabet)}`;
  const shown = clip(left, Math.max(width - up.length - 2, title.length + 1));
  const pad = " ".repeat(Math.max(1, width - shown.length - up.length));
  const name = shown.slice(title.length + 1);
  return [
    {
      spans: [
        { text: ` ${title}`, tone: "plain" },
        { text: name, tone: "strong" },
        { text: `${pad}${up}`, tone: "quiet" },
      ],
      news: "",
    },
    line(inAlphabet(` ${"─".repeat(Math.max(0, width - 1))}`, shape.alphabet), "quiet"),
  ];
}

function codeThatFits(facts: ScreenFacts, shape: Shape, rows: number): Code {
  const url = consoleUrl(facts);
  if (url === null || shape.alphabet === "ascii") return [];
  const code = halfBlockCode(url);
  const columns = code[0]?.[0]?.text.length ?? 0;
  const fits = code.length <= rows && shape.columns - columns - GAP >= TEXT_COLUMNS_MIN;
  return fits ? code : [];
}

/** As generous as fits: long texts are cut, then blank lines go, addresses, and disks in a row. */
function bodyLines(
  facts: ScreenFacts,
  rows: number,
  widthAt: (at: number) => number,
  shape: Shape,
): { lines: Line[]; whole: boolean } {
  const notices = noticeRows(facts);
  const tries = [
    { gaps: true, addresses: 6, wraps: true },
    { gaps: true, addresses: 3, wraps: true },
    { gaps: true, addresses: 3, wraps: false },
    { gaps: false, addresses: 3, wraps: false },
    { gaps: false, addresses: 1, wraps: false },
  ];
  let lines: Line[] = [];
  for (const { gaps, addresses, wraps } of tries) {
    const how = { gaps, wraps, widthAt, shape };
    const before = [notices, placeRows(facts, addresses), stateRows(facts)];
    const after = [softwareRows(facts)];
    const sections = (disks: Row[]) => [...before, disks, ...after];
    // Twice: how many disks fit depends on how many lines the rest wraps to.
    const without = laid(sections([]), how).length;
    const room = rows - without - (gaps ? 1 : 0);
    const disks = diskRows(facts, Math.max(1, room));
    lines = laid(sections(disks), how);
    const enough = disks.length === diskRows(facts, Number.POSITIVE_INFINITY).length;
    if (lines.length <= rows && (enough || room >= DISK_ROWS_GOOD)) {
      return { lines, whole: wraps };
    }
  }
  return { lines: lines.slice(0, rows), whole: false };
}

interface LaidOptions {
  gaps: boolean;
  /** Long rows go on in a second line. */
  wraps: boolean;
  widthAt: (at: number) => number;
  shape: Shape;
}

function laid(sections: readonly Row[][], options: LaidOptions): Line[] {
  const lines: Line[] = [];
  for (const section of sections) {
    if (section.length === 0) continue;
    if (options.gaps && lines.length > 0) lines.push(BLANK);
    for (const row of section) addRow(lines, row, options);
  }
  return lines;
}

/** A row without a label goes over the whole width; one with a label stands in its column. */
function addRow(lines: Line[], row: Row, { wraps, widthAt, shape }: LaidOptions): void {
  const text = inAlphabet(row.text, shape.alphabet);
  const news = inAlphabet(row.news ?? row.text, shape.alphabet);
  if (row.label === null) {
    const parts = wrap(text, widthAt(lines.length), wraps ? NOTICE_LINES_MAX : NOTICE_LINES_MIN);
    for (const [at, part] of parts.entries()) {
      lines.push(line(part, row.tone, at === 0 ? news : ""));
    }
    return;
  }
  const width = widthAt(lines.length) - LABEL_COLUMNS;
  const hang = row.hang ?? 0;
  // What stands in columns keeps its blanks; only what follows them is broken at blanks.
  const parts = wraps && text.length > width ? hanging(text, hang, width) : [clip(text, width)];
  for (const [at, part] of parts.entries()) {
    const label = at === 0 ? row.label : "";
    lines.push({
      spans: [
        { text: label.padEnd(LABEL_COLUMNS), tone: "quiet" },
        { text: part, tone: row.tone },
      ],
      news: at === 0 ? news : "",
    });
  }
}

/** Under what follows the columns where that is wide enough, else a little to the right. */
function hanging(text: string, hang: number, width: number): string[] {
  const [first = ""] = wrap(text.slice(hang), width - hang, ROW_LINES_MAX + 1);
  const rest = text.slice(hang + first.length).trim();
  const indent = width - hang >= HANG_COLUMNS_MIN ? hang : Math.min(hang, HANG_NARROW);
  const more = wrap(rest, width - indent, ROW_LINES_MAX - 1);
  return [text.slice(0, hang) + first, ...more.map((part) => " ".repeat(indent) + part)];
}

/** What a person must know first, in sentences. */
function noticeRows(facts: ScreenFacts): Row[] {
  const rows: Row[] = [];
  const say = (text: string, tone: Tone, news?: string) => {
    rows.push({ label: null, text, tone, ...(news === undefined ? {} : { news }) });
  };
  const { recovery, medium, unit, silentMs, reset } = facts;
  if (recovery !== null) {
    say(`Recovery, for ${durationInWords(recovery.forMs)}: ${recovery.reason}`, "alarm");
    (rows[0] as Row).news = `Recovery: ${recovery.reason}`;
  }
  if (medium !== null && !medium.ok) say(`Boot medium: ${medium.message}`, "alarm");
  if (reset !== null) {
    const what = reset.level === "everything" ? "everything" : "settings only";
    say(`A factory reset was done (${what}).`, "plain");
    for (const failure of reset.failures) say(`Factory reset: ${failure}`, "warning");
  }
  if (recovery === null && silentMs !== null) {
    const forMs = durationInWords(silentMs);
    if (unit === null && silentMs < STARTING_MS) say("Cairn is starting.", "plain");
    else say(`Cairn does not answer, for ${forMs}.`, "alarm", "Cairn does not answer.");
  }
  if (unit !== null && silentMs === null) {
    if (unit.status.searched) say("THIS IS THE BOX THAT IS LOOKED FOR.", "warning");
    // The daemon's own sentence may end with what is wrong with the medium.
    const wrong = medium?.message ?? "";
    const { sentence } = unit.status;
    say(wrong === "" ? sentence : sentence.replace(wrong, "").trim(), "strong");
    if (unit.status.staleMs >= STALE_MS) {
      const old = durationInWords(unit.status.staleMs);
      const why = "The control store does not answer";
      say(`${why}; what follows is ${old} old. Healthy volumes go on.`, "warning", `${why}.`);
    }
  }
  return rows;
}

/** Where to go with a browser, and what to take along. */
function placeRows(facts: ScreenFacts, addressesMax: number): Row[] {
  const url = consoleUrl(facts);
  const rows: Row[] = [
    url === null
      ? { label: "Console", text: "no address yet", tone: "plain" }
      : { label: "Console", text: url, tone: "strong" },
  ];
  (rows[0] as Row).news = `Console ${url ?? "has no address yet"}`;
  if (facts.recovery !== null) {
    const { code } = facts.recovery;
    rows.push({ label: "Code", text: code, tone: "strong", news: `Recovery code ${code}` });
  } else {
    rows.push(...claimRows(facts));
  }
  rows.push(...addressRows(facts, addressesMax));
  return rows;
}

function claimRows(facts: ScreenFacts): Row[] {
  const { claimCode, unit } = facts;
  const rows: Row[] = [];
  if (claimCode !== null) {
    rows.push({ label: "Claim", text: claimCode, tone: "strong", news: `Claim code ${claimCode}` });
  }
  if (unit === null || unit.status.phase !== "waiting" || unit.status.words.length === 0) {
    return rows;
  }
  // Said by both sides before a unit is admitted by hand: the person compares.
  const words = unit.status.words.join(" ");
  rows.push({ label: "Words", text: words, tone: "strong", news: `Words ${words}` });
  return rows;
}

function stateRows(facts: ScreenFacts): Row[] {
  if (facts.unit === null || facts.silentMs !== null || facts.recovery !== null) return [];
  return [...clusterRows(facts.unit), ...volumeRows(facts.unit)];
}
