// SPDX-License-Identifier: Apache-2.0
//
// The network interfaces of this very machine: what the kernel says of addresses is what is listed,
// and the loopback is not.

import { expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { listNetworkCards } from "./network-cards.ts";

test("every interface with an address is listed with its addresses; the loopback is not", () => {
  const cards = new Map(listNetworkCards().map((card) => [card.name, card]));
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    if (entries?.[0]?.internal === true) {
      expect(cards.has(name)).toBe(false);
      continue;
    }
    const listed = cards.get(name)?.addresses.map((one) => one.address);
    expect(listed).toEqual(entries?.map((one) => one.address.split("%")[0] as string));
  }
});

test("in a network namespace of its own → no interface of this machine", async () => {
  const file = JSON.stringify(`${import.meta.dir}/network-cards.ts`);
  const script = `
    const { listNetworkCards } = await import(${file});
    console.log(JSON.stringify(listNetworkCards()));
  `;
  const words = ["unshare", "--user", "--map-root-user", "--net", process.execPath, "-e", script];
  await using child = Bun.spawn(words, { stdout: "pipe", stderr: "pipe" });
  expect(await child.stderr.text()).toBe("");
  expect(JSON.parse(await child.stdout.text())).toEqual([]);
});
