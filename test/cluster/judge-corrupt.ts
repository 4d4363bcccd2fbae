// SPDX-License-Identifier: Apache-2.0
//
// Judged: random bytes flipped on the disks of three units under load, in one run: every read
// right, every flip healed, counted and told.

import { LIMIT_MS, MIB, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import { corruptUnderLoad, findsNothing, readAll } from "./corrupt.ts";
import type { Judgement } from "./judge-figures.ts";

const VOLUME_BYTES = 192 * MIB;
/** So many more, as a share, hit metadata. */
const METADATA_SHARE = 0.05;
const NONE = { unit: "blocks", most: 0 };

export async function judgeCorrupt(judgement: Judgement, flips: number): Promise<void> {
  await using lab = await startCluster({ volumeBytes: VOLUME_BYTES });
  const result = await corruptUnderLoad(lab, {
    volume: VOLUME,
    volumeBytes: VOLUME_BYTES,
    flips,
    metadata: Math.floor(flips * METADATA_SHARE),
    everyMs: 50,
    limitMs: 3 * LIMIT_MS,
    say: (line) => judgement.note(line),
  });
  judgement.note(JSON.stringify(result));
  judgement.add("flips in data, not healed", result.flips - result.healed, NONE);
  judgement.add("flips in data, not told", result.flips - result.told, NONE);
  const told = { unit: "", most: null };
  judgement.add("flips in data", result.flips, told);
  judgement.add("flips in metadata", result.metadataFlips, told);
  judgement.add("pages of metadata mended", result.metadataMended, told);
  judgement.add("reads under it, all right", result.reads, told);
  judgement.add("writes under it", result.writes, told);
  for (const unit of lab.units) await unit.stop();
  for (const unit of lab.units) unit.start();
  await healed(lab);
  for (const unit of lab.units) await readAll(unit, VOLUME, VOLUME_BYTES);
  await findsNothing(lab, LIMIT_MS);
}
