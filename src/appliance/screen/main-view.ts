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
const NOTICE_LINES_MAX = 3;

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
  const code = options.code ? codeThatFits(facts, shape, rows) : [];
  const codeColumns = code[0]?.[0]?.text.length ?? 0;
  const widthAt = (at: number) =>
    shape.columns - 1 - (at < code.length ? codeColumns + GAP : 0) - MARGIN;
  const body = bodyLines(facts, rows, widthAt, shape);
  while (body.length < (options.fill ? rows : code.length)) body.push(BLANK);
  const lines = body.map((one, at): Line => {
    const right = code[at];
    const left: Line = { spans: [{ text: " ", tone: "plain" }, ...one.spans], news: one.news };
    return right === undefined ? left : beside(left, widthAt(at) + MARGIN + GAP, right);
  });
  const footer = line(` ${inAlphabet(options.footer, shape.alphabet)}`, "quiet");
  return [...head, ...lines, ...(options.footer === "" ? [] : [BLANK, footer])];
}

function headLines(facts: ScreenFacts, shape: Shape): Line[] {
  const width = shape.columns - 1;
  const up = `up ${durationInWords(facts.sincePowerOnMs)}`;
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

function codeThatFits(facts: ScreenFacts, shape: Shape, rows: number) {
  const url = consoleUrl(facts);
  if (url === null || shape.alphabet === "ascii") return [];
  const code = halfBlockCode(url);
  const columns = code[0]?.[0]?.text.length ?? 0;
  const fits = code.length <= rows && shape.columns - columns - GAP >= TEXT_COLUMNS_MIN;
  return fits ? code : [];
}

/** As generous as fits: first blank lines go, then addresses, then disks are counted together. */
function bodyLines(
  facts: ScreenFacts,
  rows: number,
  widthAt: (at: number) => number,
  shape: Shape,
): Line[] {
  const notices = noticeRows(facts);
  const tries = [
    { gaps: true, addresses: 6 },
    { gaps: true, addresses: 3 },
    { gaps: false, addresses: 3 },
    { gaps: false, addresses: 1 },
  ];
  let lines: Line[] = [];
  for (const { gaps, addresses } of tries) {
    const before = [notices, placeRows(facts, addresses), stateRows(facts)];
    const after = [softwareRows(facts)];
    const sections = (disks: Row[]) => [...before, disks, ...after];
    // Twice: how many disks fit depends on how many lines the rest wraps to.
    const without = laid(sections([]), { gaps, widthAt, shape }).length;
    const room = rows - without - (gaps ? 1 : 0);
    const disks = diskRows(facts, Math.max(1, room));
    lines = laid(sections(disks), { gaps, widthAt, shape });
    const enough = disks.length === diskRows(facts, Number.POSITIVE_INFINITY).length;
    if (lines.length <= rows && (enough || room >= 4)) break;
  }
  return lines.slice(0, rows);
}

interface LaidOptions {
  gaps: boolean;
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

/** A row without a label wraps over the whole width; others are cut to one line. */
function addRow(lines: Line[], row: Row, { widthAt, shape }: LaidOptions): void {
  const text = inAlphabet(row.text, shape.alphabet);
  const news = inAlphabet(row.news ?? row.text, shape.alphabet);
  if (row.label === null) {
    const parts = wrap(text, widthAt(lines.length), NOTICE_LINES_MAX);
    for (const [at, part] of parts.entries()) lines.push(line(part, row.tone, at === 0 ? news : ""));
    return;
  }
  const width = widthAt(lines.length) - LABEL_COLUMNS;
  lines.push({
    spans: [
      { text: row.label.padEnd(LABEL_COLUMNS), tone: "quiet" },
      { text: clip(text, width), tone: row.tone },
    ],
    news: row.news === "" ? "" : news,
  });
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
    say(unit.status.sentence, "strong");
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
