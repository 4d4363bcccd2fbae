// SPDX-License-Identifier: Apache-2.0
//
// Commands about figures: one unit, a volume's last hour, what is copied in the whole cluster; and
// the lights that show which box or drive is meant.

import {
  ChartSchema,
  CopyingSchema,
  FiguresSchema,
  JobsSchema,
} from "#appliance/api/figure-api.ts";
import { sizeInWords, timeInWords } from "#appliance/api/words.ts";
import {
  chartWords,
  driveInWords,
  figureFacts,
  leftInWords,
  meanMs,
  msInWords,
  perSecond,
  smartInWords,
} from "#appliance/figure-words.ts";
import type { JobView } from "#appliance/jobs.ts";
import type { DriveView } from "#appliance/unit-figures.ts";
import type { CopyingView, VolumeChart } from "#appliance/unit-neighbours.ts";
import {
  ASKING_FLAGS,
  CHANGING_FLAGS,
  type Call,
  type Command,
  WATCH_FLAG,
  WIDE_FLAG,
} from "./command.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, factsText, tableText } from "./table.ts";

const OFF_FLAG: FlagDefinition = { name: "off", kind: "yesno", sentence: "switch it off again" };

const driveColumns: Column<DriveView>[] = [
  { head: "DISK", cell: ({ disk }) => (disk === 0 ? "" : String(disk)) },
  { head: "PATH", cell: ({ path }) => path },
  { head: "BAY", cell: ({ bay }) => bay ?? "" },
  { head: "DRIVE", cell: driveInWords },
  { head: "OF ITSELF", cell: smartInWords },
];

const showUnit: Command = {
  words: ["unit", "show"],
  operands: [{ name: "UNIT", kind: "one" }],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what a unit sees of itself now: load, memory, links, drives",
  run: (call) =>
    call.show(async () => {
      const path = `/api/v1/units/${encodeURIComponent(call.operands[0] ?? "")}/figures`;
      const { value, body } = await call.ask(FiguresSchema, "GET", path);
      const drives = () => tableText(value.drives, driveColumns, { wide: false });
      await call.print(body, () => `${factsText(figureFacts(value))}\n${drives()}`);
    }),
};

const volumeFigures: Command = {
  words: ["volume", "figures"],
  operands: [{ name: "VOLUME", kind: "one" }],
  flags: [...ASKING_FLAGS, WIDE_FLAG, WATCH_FLAG],
  sentence: "what hosts asked of a volume in the last hour, and how long it took",
  run: (call) =>
    call.show(async () => {
      const path = `/api/v1/volumes/${encodeURIComponent(call.operands[0] ?? "")}/chart`;
      const { value, body } = await call.ask(ChartSchema, "GET", path);
      await call.print(body, () => chartText(value, call));
    }),
};

function chartText({ chart, missing }: VolumeChart, call: Call): string {
  const words = chartWords(chart);
  const facts: [string, string][] = [
    ["Now", `${words.nowRead} read, ${words.nowWrite} written`],
    ["At most", `${words.mostRead} read, ${words.mostWrite} written`],
    ["Time", `${words.readMs} per read, ${words.writeMs} per write; longest ${words.longestMs}`],
    ["In the hour", `${words.requests} requests, ${words.errors} with an error`],
  ];
  if (missing.length > 0) facts.push(["Not counted", `what units ${missing.join(", ")} served`]);
  const text = factsText(facts);
  return call.flags.isSet("wide") ? `${text}\n${stepsText(chart)}` : text;
}

function stepsText({ steps, stepMs, endsAtMs }: VolumeChart["chart"]): string {
  const rows = steps.flatMap((counts, at) => {
    const fromMs = endsAtMs - (steps.length - at) * stepMs;
    return counts === null ? [] : [{ ...counts, fromMs }];
  });
  const time = (ms: number | null) => (ms === null ? "" : msInWords(ms));
  const columns: Column<(typeof rows)[number]>[] = [
    { head: "FROM (UTC)", cell: ({ fromMs }) => timeInWords(fromMs) },
    { head: "READ", cell: ({ readBytes }) => perSecond(readBytes, stepMs) },
    { head: "WRITTEN", cell: ({ writeBytes }) => perSecond(writeBytes, stepMs) },
    { head: "PER READ", cell: ({ readMs, reads }) => time(meanMs(readMs, reads)) },
    { head: "PER WRITE", cell: ({ writeMs, writes }) => time(meanMs(writeMs, writes)) },
    { head: "LONGEST", cell: ({ longestMs }) => msInWords(longestMs) },
    { head: "ERRORS", cell: ({ errors }) => String(errors) },
  ];
  return tableText(rows, columns, { wide: false });
}

const copyColumns: Column<CopyingView["resyncs"][number]>[] = [
  { head: "SLICE", cell: ({ slice }) => String(slice) },
  { head: "VOLUME", cell: ({ volume }) => String(volume) },
  { head: "BY UNIT", cell: ({ unit }) => String(unit) },
  { head: "TO DISK", cell: ({ target }) => String(target) },
  { head: "DONE", cell: ({ doneBytes }) => sizeInWords(doneBytes) },
  { head: "OF", cell: ({ totalBytes }) => sizeInWords(totalBytes) },
  { head: "LEFT", cell: ({ leftMs }) => leftInWords(leftMs) },
];

const copying: Command = {
  words: ["recovery", "all"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what is copied in the whole cluster, and how long it takes at the pace so far",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(CopyingSchema, "GET", "/api/v1/copying");
      await call.print(body, () => tableText(value.resyncs, copyColumns, { wide: false }));
      if (value.missing.length > 0) {
        await call.note(`units ${value.missing.join(", ")} copy something and do not answer`);
      }
    }),
};

const jobColumns: Column<JobView>[] = [
  { head: "JOB", cell: ({ id }) => id },
  { head: "ABOUT", cell: ({ about }) => about },
  { head: "DONE", cell: ({ percent }) => (percent === null ? "" : `${percent} %`) },
  { head: "LEFT", cell: ({ leftMs }) => leftInWords(leftMs) },
  { head: "IN WORDS", cell: ({ sentence }) => sentence },
];

const jobs: Command = {
  words: ["job", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WATCH_FLAG],
  sentence: "what takes a while: emptying, copying, scrubbing, deletions to come; with progress",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(JobsSchema, "GET", "/api/v1/jobs");
      await call.print(body, () => tableText(value.jobs, jobColumns, { wide: false }));
    }),
};

function locating(noun: "unit" | "disk", sentence: string): Command {
  return {
    words: [noun, "locate"],
    operands: [{ name: noun.toUpperCase(), kind: "one" }],
    flags: [...CHANGING_FLAGS, OFF_FLAG],
    sentence,
    run: async (call) => {
      const [which = ""] = call.operands;
      const on = !call.flags.isSet("off");
      const path = `/api/v1/${noun}s/${encodeURIComponent(which)}/locate`;
      if (await call.tried("POST", path, { on })) return 0;
      await call.askPlain("POST", path, { on });
      await call.print({ [noun]: which, on }, () => `${noun} ${which}: ${on ? "shown" : "off"}\n`);
      return 0;
    },
  };
}

export const figureCommands: readonly Command[] = [
  showUnit,
  volumeFigures,
  copying,
  jobs,
  locating("unit", "have a unit's screen say that it is the one looked for, for 15 minutes"),
  locating("disk", "switch the light at a disk's bay"),
];
