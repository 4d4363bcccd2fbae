// SPDX-License-Identifier: Apache-2.0
//
// kill -9 of the real daemon in the middle of writes that nobody flushed: what it acked is there
// when it runs again (H6; contract section C: kills are no era boundary). First a volume of one
// copy, then one of two whose daemons die together.

import { expect, setDefaultTimeout, test } from "bun:test";
import { assembled, createVolume, protectedEverywhere } from "#test/cluster/assembled.ts";
import { Lab } from "#test/cluster/lab.ts";
import { NbdClient } from "#test/cluster/nbd-client.ts";

const MIB = 1 << 20;
const BLOCK = 4096;
const SECTOR = 512;
const VOLUME_BYTES = 64 * MIB;
const START_MS = 45_000;
const OPEN_MS = 2000;
const WRITES = 300;
const AT_ONCE = 16;
const ROUNDS = 3;

setDefaultTimeout(180_000);

interface Expected {
  /** By block: its bytes, from what was acked. */
  readonly blocks: Map<number, Buffer>;
  /** Blocks with a write whose answer never came: old or new. */
  readonly open: Set<number>;
}

test("one copy: killed amid unflushed writes → everything acked is there", async () => {
  await killed(1, "none");
});

test("two copies, both daemons killed at once → everything acked is there", async () => {
  await killed(2, "mirror-2");
});

async function killed(units: number, protection: "none" | "mirror-2"): Promise<void> {
  const lab = new Lab({ unit: { diskBytes: 256 * MIB, settings: { sliceBytes: 32 * MIB } } });
  try {
    for (let count = 0; count < units; count++) lab.add().start();
    await lab.until("one cluster", () => assembled(lab), START_MS);
    await createVolume(lab, { name: "vol", sizeBytes: VOLUME_BYTES, protection });
    await lab.until("a volume that is whole", () => protectedEverywhere(lab, "vol"), START_MS);
    const expected: Expected = { blocks: new Map(), open: new Set() };
    let compared = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      using client = await lab.until("a connection", () => open(lab), START_MS);
      await writeUntilKilled(lab, client, expected, round);
      for (const unit of lab.units) unit.start();
      using again = await lab.until("a connection after the kill", () => open(lab), START_MS);
      for (const [block, bytes] of expected.blocks) {
        const read = await again.read(block * BLOCK, BLOCK);
        if (expected.open.has(block)) expected.blocks.set(block, read);
        else expect([round, block, read.equals(bytes)]).toEqual([round, block, true]);
        compared++;
      }
      expected.open.clear();
    }
    expect(compared).toBeGreaterThan(ROUNDS * 200);
  } finally {
    await lab.end();
  }
}

function open(lab: Lab): Promise<NbdClient> {
  const host = lab.unit(1).address;
  return NbdClient.open({ host, port: 10809, name: "vol" }, OPEN_MS);
}

/** Writes blocks and single sectors, AT_ONCE at a time; all daemons die amid the last of them. */
async function writeUntilKilled(
  lab: Lab,
  client: NbdClient,
  expected: Expected,
  round: number,
): Promise<void> {
  let next = 0;
  let acked = 0;
  const one = async (): Promise<void> => {
    while (next < WRITES + AT_ONCE) {
      const index = next++;
      // All over the volume; never the same block twice in a round.
      const block = ((index * 37) % 512) * 32 + (index % 8);
      const isPart = index % 5 === 0;
      const data = Buffer.alloc(isPart ? SECTOR : BLOCK, ((round * 50 + index) % 251) | 1);
      const at = isPart ? 3 * SECTOR : 0;
      expected.open.add(block);
      await client.write(block * BLOCK + at, data);
      const bytes = Buffer.from(expected.blocks.get(block) ?? Buffer.alloc(BLOCK));
      data.copy(bytes, at);
      expected.blocks.set(block, bytes);
      expected.open.delete(block);
      acked++;
      if (acked === WRITES) killing = Promise.all(lab.units.map((unit) => unit.kill()));
    }
  };
  let killing: Promise<unknown> = Promise.resolve();
  const writers = Array.from({ length: AT_ONCE }, one);
  const ended = await Promise.allSettled(writers);
  await killing;
  expect(acked).toBeGreaterThanOrEqual(WRITES);
  // Lost is what a killed server makes of what was under way; an error it answered is none.
  for (const end of ended) {
    if (end.status === "rejected") expect((end.reason as Error).name).toBe("Lost");
  }
}
