// SPDX-License-Identifier: Apache-2.0
//
// Where a volume's slices lie, each disk as a box (original figure 5), and with it the preview of a
// volume that is to be made, or to grow.

/** @jsxImportSource hono/jsx */

import { layouts } from "#base/layout.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import type { DiskView, UnitView, VolumeView } from "#appliance/backend.ts";
import { Bar } from "./frame.tsx";
import { type Reading, unitName } from "./reading.ts";

/** A volume as it would be, made or grown, and what that takes. */
export function Preview(options: { preview: VolumeView; seen: Reading; hasBytes?: number }) {
  const { preview, seen, hasBytes = 0 } = options;
  const { copies } = layouts[preview.protection];
  const needsBytes = (preview.sizeBytes - hasBytes) * copies;
  const more = hasBytes === 0 ? "" : " more";
  const news = hasBytes === 0 ? "nothing is made yet" : "nothing has grown yet";
  const pool = (seen.pools ?? []).find((one) => one.name === preview.pool);
  const freeBytes = pool?.freeBytes ?? 0;
  const takes = `${sizeInWords(needsBytes)}${more} of the ${sizeInWords(freeBytes)} that are free`;
  return (
    <section class="card" aria-labelledby="preview">
      <h2 id="preview">Preview: {news}</h2>
      <p>
        {preview.name} gives hosts {sizeInWords(preview.sizeBytes)} and takes up to {takes} in the
        pool {preview.pool}: {layouts[preview.protection].sentence}.
      </p>
      <Bar label="It takes of what is free" partBytes={needsBytes} wholeBytes={freeBytes} />
      <SliceFigure slices={preview.slices} disks={seen.disks} units={seen.units} />
    </section>
  );
}

interface FigureOptions {
  slices: VolumeView["slices"];
  disks: readonly DiskView[];
  units: UnitView[] | null;
}

const FIGURE_WORDS = {
  head: "head",
  copy: "copy",
  late: "catching up",
} as const;

/** Figure 5: each disk as a box, in it the slices that it holds. */
export function SliceFigure({ slices, disks, units }: FigureOptions) {
  const held = new Map<number, { index: number; kind: keyof typeof FIGURE_WORDS }[]>();
  for (const slice of slices) {
    for (const { disk, state } of slice.members) {
      const kind = state === "resyncing" ? "late" : disk === slice.head ? "head" : "copy";
      held.set(disk, [...(held.get(disk) ?? []), { index: slice.index, kind }]);
    }
  }
  if (held.size === 0) return null;
  const unitOf = (disk: number) => disks.find((one) => one.disk === disk)?.unit ?? null;
  return (
    <div class="slice-figure">
      <ul class="disk-boxes">
        {[...held]
          .sort(([a], [b]) => a - b)
          .map(([disk, parts]) => (
            <li class="disk-box">
              <p>
                Disk {disk} <span class="hint">{unitName(units, unitOf(disk))}</span>
              </p>
              <ol>
                {parts.map(({ index, kind }) => (
                  <li class={`slice ${kind}`}>
                    {index + 1}
                    <span class="unseen"> {FIGURE_WORDS[kind]}</span>
                  </li>
                ))}
              </ol>
            </li>
          ))}
      </ul>
      <p class="legend" aria-hidden="true">
        {Object.entries(FIGURE_WORDS).map(([kind, word]) => (
          <span>
            <span class={`slice ${kind}`} /> {word}
          </span>
        ))}
      </p>
    </div>
  );
}
