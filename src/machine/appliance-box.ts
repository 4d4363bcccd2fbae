// SPDX-License-Identifier: Apache-2.0
//
// The booted appliance as somebody in front of it may steer it: restart, switch off, forget its
// network settings or everything, choose a slot, read the daemon's log. Used by the CLI, the screen
// and the recovery page alike; whoever can call it has the box already, so it asks nobody.
//
// Invariant: nothing is done on a machine that is not an appliance, which is told by a file of the
// image; a daemon on somebody's server must not restart it.

import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { createLog } from "./log.ts";
import { listDisks } from "./disk-tools.ts";
import { type ResetReport, resetIfAsked } from "./factory-reset.ts";
import { type ServiceEnd, lastLogLines, serviceEnd } from "./journal.ts";
import { replaceFiles, replaceReadable } from "./network-setup.ts";
import { runProgram } from "./program.ts";
import { NETWORK_IN_FORCE_FILE, type ResetLevel, ResetMarks } from "./reset-marks.ts";
import { chooseSlot, placesBelow } from "./slot-choice.ts";
import { type Slot, listSlots, ukiFileName } from "./slots.ts";

/** networkd's and timesyncd's files of this boot. */
const NETWORK_FOLDER = "run/systemd/network";
const TIME_FOLDER = "run/systemd/timesyncd.conf.d";
const TIME_FILE = "cairn-servers.conf";
const TIME_HEAD = "# Made by the daemon, from the setting timeServers.\n\n";
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

  /**
   * Until the next boot: networkd goes by these files of ours from now on, others stay. Does
   * nothing where it goes by just these.
   */
  async setNetwork(prefix: string, files: ReadonlyMap<string, string>): Promise<void> {
    this.requireAppliance();
    const folder = path.join(this.root, NETWORK_FOLDER);
    if (!replaceFiles(folder, prefix, files)) return;
    await this.#systemctl("restart", "systemd-networkd.service");
  }

  /** The fixed addresses in force, as JSON; null: not known. */
  get networkText(): string | null {
    const file = path.join(this.root, NETWORK_IN_FORCE_FILE);
    return existsSync(file) ? readFileSync(file, "utf8") : null;
  }
  set networkText(text: string) {
    replaceReadable(path.join(this.root, NETWORK_IN_FORCE_FILE), text);
  }

  /** Fixed addresses with this text were passed over since a network reset; they are wanted now. */
  wantNetwork(text: string): void {
    new ResetMarks(this.root).wantNetwork(text);
  }

  /** Until the next boot: asks these for the time; none: whom DHCP names, else the image's. */
  async setTimeServers(servers: readonly string[]): Promise<void> {
    this.requireAppliance();
    const text = `${TIME_HEAD}[Time]\nNTP=${servers.join(" ")}\n`;
    const files = new Map(servers.length === 0 ? [] : [[TIME_FILE, text]]);
    if (!replaceFiles(path.join(this.root, TIME_FOLDER), TIME_FILE, files)) return;
    await this.#systemctl("restart", "systemd-timesyncd.service");
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
