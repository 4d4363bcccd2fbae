// SPDX-License-Identifier: Apache-2.0
//
// Commands about pools: list, create, delete. Units are moved by commands-unit.ts.

import { PoolSchema, PoolsSchema } from "#appliance/api/pool-api.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import { type PoolView, fitsInWords } from "#appliance/pools.ts";
import {
  ASKING_FLAGS,
  CHANGING_FLAGS,
  type Command,
  type Operand,
  WATCH_FLAG,
  WIDE_FLAG,
} from "./command.ts";
import { type Column, tableText } from "./table.ts";

const POOL: Operand = { name: "POOL", kind: "one" };

const columns: Column<PoolView>[] = [
  { head: "POOL", cell: (pool) => pool.name },
  { head: "UNITS", cell: (pool) => pool.units.join(", ") },
  { head: "SPARES", cell: (pool) => pool.spares.join(", ") },
  { head: "VOLUMES", cell: (pool) => String(pool.volumes) },
  { head: "SIZE", cell: (pool) => sizeInWords(pool.sizeBytes) },
  { head: "FREE", cell: (pool) => sizeInWords(pool.freeBytes) },
  { head: "ROOM FOR A VOLUME", cell: fitsInWords, wide: true },
];

const list: Command = {
  words: ["pool", "list"],
  operands: [],
  flags: [...ASKING_FLAGS, WIDE_FLAG, WATCH_FLAG],
  sentence: "the pools, their units and spares, and the room that each has",
  run: (call) =>
    call.show(async () => {
      const { value, body } = await call.ask(PoolsSchema, "GET", "/api/v1/pools");
      const wide = call.flags.isSet("wide");
      await call.print(body, () => tableText(value.pools, columns, { wide }));
    }),
};

const create: Command = {
  words: ["pool", "create"],
  operands: [POOL],
  flags: CHANGING_FLAGS,
  sentence: "create a pool; cairn unit move brings units into it",
  run: async (call) => {
    const [name = ""] = call.operands;
    if (await call.tried("POST", "/api/v1/pools", { name })) return 0;
    const { value, body } = await call.ask(PoolSchema, "POST", "/api/v1/pools", { name });
    await call.print(body, () => `${value.name} is created\n`);
    await call.note(`it has no unit yet: cairn unit move UNIT ${value.name}`);
    return 0;
  },
};

const remove: Command = {
  words: ["pool", "delete"],
  operands: [POOL],
  flags: CHANGING_FLAGS,
  sentence: "delete an empty pool; the first one stays",
  run: async (call) => {
    const [name = ""] = call.operands;
    const path = `/api/v1/pools/${encodeURIComponent(name)}`;
    if (await call.tried("DELETE", path)) return 0;
    await call.askPlain("DELETE", path);
    await call.print({ deleted: name }, () => `${name} is deleted\n`);
    return 0;
  },
};

export const poolCommands: readonly Command[] = [list, create, remove];
