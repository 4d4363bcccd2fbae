// SPDX-License-Identifier: Apache-2.0
//
// A volume's last hour as charts: drawn here as SVG, without a line of client code. Axes and legend
// are text beside the drawing, so that they stay legible on a phone; the drawing itself is one
// picture whose description says what it shows.

/** @jsxImportSource hono/jsx */

import type { RequestCounts } from "#base/request-meter.ts";
import { timeInWords } from "#appliance/api/words.ts";
import { chartWords, meanMs, msInWords, perSecond } from "#appliance/figure-words.ts";
import type { IoChart } from "#appliance/io-history.ts";
import type { VolumeChart } from "#appliance/unit-neighbours.ts";
import { type Reading, unitName } from "./reading.ts";

const HEIGHT = 100;
/** Units in one sentence. */
const NAMED_MAX = 4;

interface Line {
  word: string;
  /** Class of its stroke: the first is drawn over the second. */
  kind: "first" | "second" | "third";
  /** Null: nothing at that moment; the line has a gap there. */
  of: (counts: RequestCounts | null) => number | null;
}

interface ChartOptions {
  id: string;
  title: string;
  chart: IoChart;
  lines: readonly Line[];
  words: (value: number) => string;
  description: string;
}

export function VolumeCharts({ shown, seen }: { shown: VolumeChart | null; seen: Reading }) {
  if (shown === null) return <p class="empty">No unit tells of it at the moment.</p>;
  const { chart, missing } = shown;
  const words = chartWords(chart);
  const seconds = (bytes: number) => perSecond(bytes, chart.stepMs);
  return (
    <div>
      <div class="cards charts">
        <Chart
          id="throughput"
          title="Throughput"
          chart={chart}
          lines={[
            { word: "read", kind: "first", of: (counts) => counts?.readBytes ?? 0 },
            { word: "written", kind: "second", of: (counts) => counts?.writeBytes ?? 0 },
          ]}
          words={seconds}
          description={
            `now ${words.nowRead} read and ${words.nowWrite} written; ` +
            `at most ${words.mostRead} and ${words.mostWrite}`
          }
        />
        <Chart
          id="latency"
          title="Time per request"
          chart={chart}
          lines={[
            { word: "read", kind: "first", of: (one) => one && meanMs(one.readMs, one.reads) },
            { word: "write", kind: "second", of: (one) => one && meanMs(one.writeMs, one.writes) },
          ]}
          words={msInWords}
          description={`${words.readMs} per read and ${words.writeMs} per write`}
        />
        <Chart
          id="longest"
          title="Longest wait of a request"
          chart={chart}
          lines={[{ word: "longest", kind: "third", of: (one) => one && one.longestMs }]}
          words={msInWords}
          description={`the longest took ${words.longestMs}`}
        />
      </div>
      <p class="hint">
        {words.requests} requests in the hour, {words.errors} of them ended with an error.
        {missing.length === 0 ? null : ` Not counted: what ${namesOf(missing, seen)} served.`}
      </p>
    </div>
  );
}

function namesOf(units: readonly number[], seen: Reading): string {
  const names = units.slice(0, NAMED_MAX).map((unit) => unitName(seen.units, unit));
  const more = units.length > NAMED_MAX ? ` and ${units.length - NAMED_MAX} more units` : "";
  return names.join(", ") + more;
}

function Chart({ id, title, chart, lines, words, description }: ChartOptions) {
  const values = lines.map((line) => chart.steps.map((counts) => line.of(counts)));
  const most = niceTop(Math.max(0, ...values.flat().map((value) => value ?? 0)));
  const fromMs = chart.endsAtMs - chart.steps.length * chart.stepMs;
  return (
    <figure class="card chart" aria-labelledby={`${id}-title`}>
      <figcaption id={`${id}-title`}>{title}</figcaption>
      <p class="legend">
        {lines.map(({ word, kind }) => (
          <span>
            <span class={`line ${kind}`} aria-hidden="true" /> {word}
          </span>
        ))}
      </p>
      <div class="plot">
        <p class="most">{most === 0 ? "nothing" : words(most)}</p>
        <svg
          viewBox={`0 0 ${chart.steps.length} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${title} over the last hour: ${description}`}
        >
          <line class="grid" x1="0" x2={chart.steps.length} y1={HEIGHT / 2} y2={HEIGHT / 2} />
          {[...lines].reverse().map(({ kind }, at) => (
            <path class={`line ${kind}`} d={pathOf(values[lines.length - 1 - at] ?? [], most)} />
          ))}
        </svg>
      </div>
      <p class="times">
        <span>{timeInWords(fromMs).slice(11, 16)}</span>
        <span>{timeInWords(chart.endsAtMs).slice(11, 16)} UTC</span>
      </p>
    </figure>
  );
}

/** The top of the scale: a little above the most, at a word that is short. */
function niceTop(most: number): number {
  if (most <= 0) return 0;
  const power = 2 ** Math.floor(Math.log2(most));
  return [1, 1.25, 1.5, 2].map((times) => times * power).find((top) => top >= most) ?? most;
}

/** Moves and lines; whole units of the drawing are enough, and short. */
function pathOf(values: readonly (number | null)[], most: number): string {
  let path = "";
  let isDown = false;
  for (const [at, value] of values.entries()) {
    if (value === null) {
      isDown = false;
      continue;
    }
    const y = most === 0 ? HEIGHT : HEIGHT - Math.round((value / most) * (HEIGHT - 2) * 10) / 10;
    path += `${isDown ? "L" : "M"}${at} ${y}`;
    // One point alone would draw nothing.
    if (!isDown) path += "h.5";
    isDown = true;
  }
  return path;
}
