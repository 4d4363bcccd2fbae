// SPDX-License-Identifier: Apache-2.0
//
// Figures of a network link from sysfs (Documentation/ABI/testing/sysfs-class-net).

import { readFileSync } from "node:fs";

export interface LinkFigures {
  mtuBytes: number;
  /** Megabits per second; 0 where the link does not say (down, or virtual). */
  speedMegabits: number;
}

export function linkFigures(name: string): LinkFigures {
  return { mtuBytes: figure(name, "mtu"), speedMegabits: figure(name, "speed") };
}

function figure(name: string, what: "mtu" | "speed"): number {
  try {
    const value = Number(readFileSync(`/sys/class/net/${name}/${what}`, "utf8"));
    return Number.isSafeInteger(value) && value > 0 ? value : 0;
  } catch {
    return 0; // gone meanwhile, or it does not say
  }
}
