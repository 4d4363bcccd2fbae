// SPDX-License-Identifier: Apache-2.0
//
// What a control station decided outlives it: read back from lines it is replayed by the same code,
// and is the same; bounded, without gaps, and only while it leads.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { JournalSchema } from "./decision-journal.ts";
import { JournalRecorder } from "./journal-recorder.ts";
import type { JournalLines } from "./journal-recorder.ts";
import { replayJournal } from "./replay.ts";
import { StationFixture } from "./station-fixture.ts";

/** Files of lines in memory, as machine/line-files.ts keeps them. */
class MemoryLines implements JournalLines {
  files: string[][] = [];
  bytesMax = 1 << 20;
  filesMax = 3;
  isFull = false;

  begin(line: string): boolean {
    this.files = [[], ...this.files].slice(0, this.filesMax);
    return this.append(line);
  }
  append(line: string): boolean {
    const [file] = this.files;
    const bytes = [...(file ?? []), line].reduce((sum, one) => sum + one.length + 1, 0);
    if (this.isFull || file === undefined || bytes > this.bytesMax) return false;
    file.push(line);
    return true;
  }
  read(): string[][] {
    return this.files;
  }
}

const options = { version: "next", leads: () => true, wallMs: () => 0 };
const after = (lines: MemoryLines) => new JournalRecorder(lines, { write: () => {} }, options);

function eventful(lines: MemoryLines): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.lines = () => lines;
  made.found({ reprotectAfterMs: 20_000 });
  made.addDisk(1, 20);
  for (let unit = 2; unit <= 3; unit++) {
    // The others do not lead, and write nothing.
    made.lines = null;
    made.addDisk(made.admit(), 20);
  }
  made.createVolume("one", 4, "mirror-2");
  made.ask("setSettings", { protectWithinMs: 3_600_000 });
  return made;
}

describe("after a restart", () => {
  test("all that was decided before is there, and is decided the same again", () => {
    const lines = new MemoryLines();
    const made = eventful(lines);
    const before = made.any().station.journal.journal();
    const [earlier, ...others] = after(lines).earlier();
    expect(others).toEqual([]);
    expect(earlier?.version).toBe("test");
    const journal = JournalSchema.parse(earlier?.journal);
    const names = (from: typeof journal) =>
      from.steps.flatMap((step) => (step.kind === "decision" ? [step.by] : []));
    expect(names(journal)).toEqual(names(JournalSchema.parse(JSON.parse(JSON.stringify(before)))));
    expect(names(journal)).toContain("createVolume");
    expect(replayJournal(journal).filter(({ outcome }) => outcome !== "same")).toEqual([]);
  });

  test("a torn line, or none that is ours → what comes before it, or nothing", () => {
    const lines = new MemoryLines();
    eventful(lines);
    const [file = []] = lines.files;
    const whole = after(lines).earlier()[0]?.journal.steps.length ?? 0;
    lines.files = [[...file.slice(0, -1), (file.at(-1) ?? "").slice(0, 20)]];
    const torn = after(lines).earlier()[0]?.journal;
    expect(torn?.steps.length).toBe(whole - 1);
    expect(replayJournal(JournalSchema.parse(torn)).some((one) => one.outcome !== "same")).toBe(
      false,
    );
    lines.files = [["{"], [], ["[]"], ['{"kind":"base"}']];
    expect(after(lines).earlier()).toEqual([]);
  });

  test("what this run wrote is not told as from before", () => {
    const lines = new MemoryLines();
    const made = eventful(lines);
    expect(made.any().station.journal.earlier()).toEqual([]);
  });
});

test("a file is full → the next begins with the state of then; each is replayed alone", () => {
  const lines = new MemoryLines();
  Object.assign(lines, { bytesMax: 10_000, filesMax: 40 });
  eventful(lines);
  const all = after(lines).earlier();
  expect(all.length).toBeGreaterThan(2);
  for (const { journal } of all) {
    const replayed = replayJournal(JournalSchema.parse(journal));
    expect(replayed.filter(({ outcome }) => outcome === "different")).toEqual([]);
  }
  const decisions = all.flatMap(({ journal }) => replayJournal(JournalSchema.parse(journal)));
  expect(decisions.map(({ by }) => by)).toContain("setSettings");
});

test("no room on the disk → told once, and the station goes on", () => {
  const lines = new MemoryLines();
  lines.isFull = true;
  const made = eventful(lines);
  expect(lines.files.flat()).toEqual([]);
  lines.isFull = false;
  made.ask("setSettings", { protectWithinMs: 0 });
  expect(lines.files.flat()).toEqual([]);
  expect(made.view().settings.protectWithinMs).toBe(0);
});
