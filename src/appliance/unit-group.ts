// SPDX-License-Identifier: Apache-2.0
//
// Puts the group address to a unit: when it is wanted there, and what holds and announces it.

import type { Timers, World } from "#base/world.ts";
import { addAddressFor, listLinks, removeAddress } from "#machine/network.ts";
import { announcement, sendFrame } from "#machine/neighbour.ts";
import { GroupAddress, heldFrom } from "./group-address.ts";
import type { Unit } from "./unit.ts";

export function startGroupAddress(unit: Unit, world: World, timers: Timers): GroupAddress {
  const named = unit.configuration.interfaces;
  const effects = {
    isSet: () => (unit.life?.follower.view.settings.groupAddress ?? null) !== null,
    links: () => listLinks().filter(({ name }) => named.length === 0 || named.includes(name)),
    hold: addAddressFor,
    release: (link: string, address: string) =>
      removeAddress(link, address, address.includes(":") ? 128 : 32),
    announce: ({ name, mac }: { name: string; mac: string }, address: string) =>
      sendFrame(name, announcement(address, Uint8Array.fromHex(mac.replaceAll(":", "")))),
  };
  const group = new GroupAddress({ log: world.log, timers, effects }, () => {
    const { life } = unit;
    const address = life?.follower.view.settings.groupAddress ?? null;
    const seconds = Math.floor((life?.lease.leadsForMs ?? 0) / 1000);
    if (life === null || address === null || seconds === 0) return null;
    return world.clock.nowMs() < heldFrom(life.lease.began) ? null : { address, seconds };
  });
  group.wake();
  return group;
}
