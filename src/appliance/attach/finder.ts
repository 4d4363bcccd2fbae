// SPDX-License-Identifier: Apache-2.0
//
// Finds a host's volumes through whichever unit answers first. Units that are heard of are
// remembered, over a reboot too, so that the one that was named need not be up.

import { Fault } from "#base/fault.ts";
import type { OwnHostView, OwnVolumeView } from "#appliance/host-backend.ts";

/** More units than a cluster has are not remembered. */
const APIS_MAX = 256;

export interface FinderOutside {
  /** What this unit tells the host of itself; a Fault or UnitFault. */
  ask(url: string): Promise<OwnHostView>;
  /** What was kept; null: nothing. */
  read(): string | null;
  /** Best effort: a host without a place to write goes on. */
  keep(text: string): void;
}

export class Finder {
  readonly #outside: FinderOutside;
  readonly #named: readonly string[];
  #heard: readonly string[];

  constructor(outside: FinderOutside, named: readonly string[]) {
    this.#outside = outside;
    this.#named = named;
    this.#heard = heardIn(outside.read());
  }

  /** All are asked at once. Of several refusals the one that says most is thrown. */
  async own(): Promise<OwnHostView> {
    const urls = [...new Set([...this.#named, ...this.#heard])];
    try {
      const own = await Promise.any(urls.map((url) => this.#outside.ask(url)));
      this.#hear(own.apis);
      return own;
    } catch (error) {
      if (!(error instanceof AggregateError)) throw error;
      throw worstOf(error.errors);
    }
  }

  async volume(name: string): Promise<OwnVolumeView> {
    const { volumes } = await this.own();
    const found = volumes.find((one) => one.name === name);
    if (found !== undefined) return found;
    const others = volumes.map((one) => one.name).join(", ") || "none";
    throw new Fault("notFound", `${name} is not assigned to this host; it has: ${others}`);
  }

  #hear(apis: readonly string[]): void {
    const fresh = [...apis].sort().slice(0, APIS_MAX);
    if (JSON.stringify(fresh) === JSON.stringify(this.#heard)) return;
    this.#heard = fresh;
    this.#outside.keep(`${JSON.stringify(fresh)}\n`);
  }
}

/** A file that is not ours counts as empty. */
function heardIn(text: string | null): readonly string[] {
  if (text === null) return [];
  try {
    const list = JSON.parse(text) as unknown;
    if (!Array.isArray(list)) return [];
    return list
      .filter((one): one is string => typeof one === "string" && /^https?:\/\//.test(one))
      .slice(0, APIS_MAX);
  } catch {
    return []; // torn or foreign: the units that were named are asked all the same
  }
}

/** A unit that answers and refuses says more than one that does not answer. */
function worstOf(errors: readonly unknown[]): unknown {
  return errors.find((one) => (one as { code?: unknown }).code !== "notReady") ?? errors[0];
}
