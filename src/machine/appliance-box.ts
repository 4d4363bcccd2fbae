// SPDX-License-Identifier: Apache-2.0
//
// The booted appliance as somebody in front of it may steer it: restart, switch off, forget its
// network settings or everything, choose a slot, read the daemon's log. Used by the CLI, the screen
// and the recovery page alike; whoever can call it has the box already, so it asks nobody.
//
// Invariant: nothing is done on a machine that is not an appliance, which is told by a file of the
// image; a daemon on somebody's server must not restart it.

import { existsSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { createLog } from "./log.ts";
import { listDisks } from "./disk-tools.ts";
import { type ResetReport, resetIfAsked } from "./factory-reset.ts";
import { type ServiceEnd, lastLogLines, serviceEnd } from "./journal.ts";
import { runProgram } from "./program.ts";
import { type ResetLevel, ResetMarks } from "./reset-marks.ts";
import { chooseSlot, placesBelow } from "./slot-choice.ts";
import { type Slot, listSlots, ukiFileName } from "./slots.ts";

/** The daemon, as the image's units name it. */
export const SERVICE = "cairn.service";
/** Writes networkd's files; what it wrote takes effect when networkd starts. */
const NETWORK_SERVICES = ["cairn-network.service", "systemd-networkd.service"];
/** The image carries it, and nothing else does. */
const MARKER = "usr/share/cairn/appliance";
const CHANGE_TIMEOUT_MS = 60_000;

export interface BoxOutside {
  /** "/" but in tests. */
  root: string;
  run: typeof runProgram;
  /** Paths of the machine's disks. */
  listDisks(): Promise<string[]>;
  log: Log;
}

export const MACHINE: BoxOutside = {
  root: "/",
  run: runProgram,
  listDisks: async () => (await listDisks()).map((disk) => disk.path),
  log: createLog(),
};

export class ApplianceBox {
  readonly #outside: BoxOutside;

  constructor(outside: BoxOutside = MACHINE) {
    this.#outside = outside;
  }

  get root(): string {
    return this.#outside.root;
  }

  get isAppliance(): boolean {
    return existsSync(path.join(this.root, MARKER));
  }

  async reboot(): Promise<void> {
    await this.#systemctl("reboot");
  }

  async powerOff(): Promise<void> {
    await this.#systemctl("poweroff");
  }

  /** Back to DHCP at once, and at every boot until a boot medium is stamped anew. */
  async resetNetwork(): Promise<void> {
    this.requireAppliance();
    new ResetMarks(this.root).askNetwork();
    await this.#systemctl("restart", ...NETWORK_SERVICES);
  }

  /** The next boot does it, before the daemon; which begins now. */
  async resetToFactory(level: ResetLevel): Promise<void> {
    this.requireAppliance();
    new ResetMarks(this.root).askFactory(level);
    await this.reboot();
  }

  /** Null: nobody asked for a factory reset. */
  async resetIfAsked(): Promise<ResetReport | null> {
    this.requireAppliance();
    const report = await resetIfAsked(this.#outside);
    if (report?.restart === true) await this.reboot();
    return report;
  }

  slots(): Slot[] {
    this.requireAppliance();
    return listSlots(placesBelow(this.root));
  }

  /** The boots from now on take it. `once`: only the next one does. */
  async chooseSlot(version: string, options: { once: boolean }): Promise<Slot> {
    const found = this.slots().find((slot) => slot.version === version);
    if (!options.once || found === undefined) return chooseSlot(version, placesBelow(this.root));
    // The boot loader knows a slot by its name without the counters of a trial.
    const name = ukiFileName({ version, tries: null });
    await this.#outside.run("bootctl", ["set-oneshot", name], {
      timeoutMs: CHANGE_TIMEOUT_MS,
      debianPackage: "systemd-boot",
    });
    return found;
  }

  /** Asks the journal, which needs no appliance. */
  lastLogLines(linesMax: number): Promise<string[]> {
    return lastLogLines(this.#outside.run, SERVICE, linesMax);
  }

  serviceEnd(): Promise<ServiceEnd> {
    return serviceEnd(this.#outside.run, SERVICE);
  }

  /** Starts the daemon again, whatever became of it; does not wait for it. */
  async startDaemon(): Promise<void> {
    await this.#systemctl("reset-failed", SERVICE);
    await this.#systemctl("start", "--no-block", SERVICE);
  }

  async #systemctl(...words: string[]): Promise<void> {
    this.requireAppliance();
    await this.#outside.run("systemctl", words, {
      timeoutMs: CHANGE_TIMEOUT_MS,
      debianPackage: "systemd",
    });
  }

  /** Throws Fault badMachine where it is none. */
  requireAppliance(): void {
    if (this.isAppliance) return;
    throw new Fault("badMachine", `it is no Cairn appliance (there is no ${this.root}${MARKER})`);
  }
}
