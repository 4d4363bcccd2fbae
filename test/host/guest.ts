// SPDX-License-Identifier: Apache-2.0
//
// A guest that is a host of a lab's cluster: by emulation alone, on the lab's wire, with one serial
// line that is read. It ends with the lab.

import type { ChildProcess } from "node:child_process";
import path from "node:path";
import { ConsoleLog } from "#test/image/console-log.ts";
import { PROCESSOR } from "#test/image/qemu-words.ts";
import { EMULATOR } from "#test/image/tools-tree.ts";
import type { Lab } from "#test/cluster/lab.ts";
import { Hopeless } from "#test/cluster/until.ts";
import type { GuestImage } from "./guest-image.ts";

const MEMORY_MEGABYTES = "1024";
const COMMAND_LINE = "console=ttyS0 panic=-1 quiet rdinit=/init";

export class Guest {
  readonly serial: ConsoleLog;
  readonly address: string;
  readonly #lab: Lab;
  readonly #place: number;
  #child: ChildProcess | null = null;

  constructor(lab: Lab, place: number) {
    this.#lab = lab;
    this.#place = place;
    this.address = lab.network.unitAddress(place);
    this.serial = new ConsoleLog(path.join(lab.folder, "guest-serial.log"));
  }

  powerOn({ kernel, initrd, root }: GuestImage): void {
    const { port, mac } = this.#lab.network.addGuest(this.#place);
    const words = [
      `--net=/run/netns/${this.#lab.network.wireNamespace}`,
      ...EMULATOR.words,
      ...["-name", "host", "-nodefaults", "-no-user-config", "-no-reboot"],
      ...["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR],
      ...["-smp", "1", "-m", MEMORY_MEGABYTES, "-display", "none"],
      ...["-serial", `file:${this.serial.file}`],
      ...["-kernel", kernel, "-initrd", initrd, "-append", COMMAND_LINE],
      ...["-drive", `file=${root},format=raw,if=none,id=root,cache=unsafe`],
      ...["-device", "virtio-blk-pci,drive=root"],
      ...["-netdev", `tap,id=wire,ifname=${port},script=no,downscript=no`],
      ...["-device", `virtio-net-pci,netdev=wire,mac=${mac},romfile=`],
    ];
    this.#child = this.#lab.spawn("the guest", "nsenter", words, {
      env: EMULATOR.env,
    });
  }

  /** Waits for a line on its serial line; fails early when it is off or says that it failed. */
  says(pattern: RegExp, limitMs: number): Promise<RegExpExecArray> {
    const look = () => {
      const found = this.serial.find(pattern);
      if (found !== null) return found;
      const wrong = this.serial.find(/@@failed.*/);
      if (wrong !== null) throw new Hopeless(`${wrong[0]}\n${this.trail()}`);
      if (this.#child?.exitCode != null) throw new Hopeless(`the guest is off\n${this.trail()}`);
      return null;
    };
    return this.#lab.until(`the guest says ${pattern.source}`, look, limitMs, {
      trail: async () => `${this.trail()}\n${await this.#lab.trail()}`,
    });
  }

  trail(): string {
    return `--- the guest\n${this.serial.trail(60)}`;
  }
}
