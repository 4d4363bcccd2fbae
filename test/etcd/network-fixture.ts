// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces on one bridge, each with an address among units; removed at the end of its
// scope.

import { spawnSync } from "node:child_process";

function ip(...words: string[]): void {
  const result = spawnSync("ip", words, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`ip ${words.join(" ")}: ${result.stderr}`);
}

export class Namespaces implements Disposable {
  readonly #prefix: string;
  readonly #count: number;

  constructor(label: string, count: number) {
    this.#prefix = `cairn-${label}-${process.pid}`;
    this.#count = count;
    ip("netns", "add", `${this.#prefix}-0`);
    // The bridge lives in a namespace too, so that nothing of the machine's own network changes.
    this.#inside(0, "link", "add", "bridge0", "type", "bridge");
    this.#inside(0, "link", "set", "bridge0", "up");
    for (let unit = 1; unit <= count; unit++) {
      ip("netns", "add", this.name(unit));
      this.#inside(
        0,
        ...["link", "add", `port${unit}`, "type", "veth"],
        ...["peer", "name", "lan", "netns", this.name(unit)],
      );
      this.#inside(0, "link", "set", `port${unit}`, "master", "bridge0", "up");
      this.#inside(unit, "link", "set", "lo", "up");
      this.#inside(unit, "link", "set", "lan", "up");
      this.#inside(unit, "addr", "add", `${this.address(unit)}/64`, "dev", "lan", "nodad");
    }
  }

  name(unit: number): string {
    return `${this.#prefix}-${unit}`;
  }
  address(unit: number): string {
    return `fd00:ca12::${unit}`;
  }
  /** What to put before a command to run it in a unit's namespace. */
  prefix(unit: number): string[] {
    return ["ip", "netns", "exec", this.name(unit)];
  }
  cut(unit: number): void {
    this.#inside(0, "link", "set", `port${unit}`, "down");
  }
  heal(unit: number): void {
    this.#inside(0, "link", "set", `port${unit}`, "up");
  }

  #inside(unit: number, ...words: string[]): void {
    ip("-n", unit === 0 ? `${this.#prefix}-0` : this.name(unit), ...words);
  }

  [Symbol.dispose](): void {
    for (let unit = 0; unit <= this.#count; unit++) {
      spawnSync("ip", ["netns", "del", unit === 0 ? `${this.#prefix}-0` : this.name(unit)]);
    }
  }
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}
