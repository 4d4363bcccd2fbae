// SPDX-License-Identifier: Apache-2.0
//
// A rack: boxes that boot the release's image, on one wire with this machine. A DHCP server on the
// wire gives each its address, as in most houses. Record and end are those of every lab
// (lab-scope.ts).

import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { LabNetwork } from "#test/cluster/lab-network.ts";
import { LabScope, type ScopeOptions } from "#test/cluster/lab-scope.ts";
import { Box, type BoxFirmware } from "./box.ts";
import { hasShell } from "./inside-shell.ts";
import { LossyDisk } from "./lossy-disk.ts";
import type { GuestDisk, GuestShape } from "./qemu-words.ts";
import { Release } from "./release.ts";
import { copySparse } from "./sparse-copy.ts";
import { UEFI, lackingTools } from "./tools-tree.ts";

const PROGRAMS = ["qemu-img", "dnsmasq", "ip", "nsenter", "setpriv", "setsid"];
const GIBIBYTE = 2 ** 30;
const JOURNAL_MS = 60_000;

export interface BoxOptions {
  firmware?: "uefi" | "secure-boot" | "direct";
  memoryMegabytes?: number;
  processors?: number;
  bootDiskBytes?: number;
  dataDisks?: number;
  dataDiskBytes?: number;
  /** The image it is flashed with; not said: the release's as it is. */
  image?: string;
  stick?: string;
  /** Its boot disk forgets at a power cut what was not flushed. */
  lossy?: boolean;
  credentials?: Record<string, string>;
}

export interface RackOptions extends ScopeOptions {
  release?: Release;
  /** Without: nobody on the wire gives addresses. */
  dhcp?: boolean;
}

/** Fails when the machine lacks something: in CI nothing is skipped in silence. */
export function requireMachine(): void {
  const lacking: string[] = [];
  if (process.getuid?.() !== 0) lacking.push("root: it makes network namespaces and taps");
  for (const name of PROGRAMS) {
    if (Bun.which(name) === null) lacking.push(`the program ${name} (npm run setup installs it)`);
  }
  if (!existsSync("/dev/net/tun")) lacking.push("/dev/net/tun (modprobe tun)");
  for (const file of lackingTools()) lacking.push(`${file} (npm run image makes it)`);
  if (lacking.length > 0) throw new Error(`this machine lacks ${lacking.join("; ")}`);
}

export class Rack extends LabScope {
  readonly network: LabNetwork;
  readonly boxes: Box[] = [];
  readonly release: Release;
  readonly #dhcp: boolean;
  #direct: BoxFirmware | null = null;

  constructor(options: RackOptions = {}) {
    requireMachine();
    const release = options.release ?? new Release();
    super(options);
    this.release = release;
    this.#dhcp = options.dhcp ?? true;
    this.network = this.making(() => new LabNetwork(this.record));
    if (this.#dhcp) this.making(() => this.#serveAddresses());
  }

  /** This machine on the wire: the host that uses volumes. */
  get hostAddress(): string {
    return this.network.hostAddress;
  }

  /** A new box, off. */
  add(options: BoxOptions = {}): Box {
    this.checkOpen();
    const place = this.boxes.length + 1;
    const name = `box-${place}`;
    const folder = path.join(this.folder, name);
    mkdirSync(folder, { mode: 0o700 });
    const box = new Box(
      {
        place,
        name,
        folder,
        namespace: this.network.wireNamespace,
        address: this.network.unitAddress(place),
      },
      {
        memoryMegabytes: options.memoryMegabytes ?? 1024,
        processors: options.processors ?? 1,
        firmware: this.#firmware(options.firmware ?? "uefi"),
        bootDisk: this.#bootDisk(folder, options),
        dataDisks: this.#dataDisks(folder, options),
        stick: options.stick ?? null,
        wire: this.network.addGuest(place),
        credentials: options.credentials ?? {},
      },
    );
    this.boxes.push(box);
    return box;
  }

  /** The box at a place, counted from 1. */
  box(place: number): Box {
    const found = this.boxes[place - 1];
    if (found === undefined) throw new Error(`the rack has no box ${place}`);
    return found;
  }

  /** The release's image as a file of our own, to be stamped. */
  copyOfImage(name: string): string {
    const copy = path.join(this.folder, name);
    copySparse(this.release.image, copy);
    return copy;
  }

  override async trail(): Promise<string> {
    const trails = this.boxes.map(async (box) => box.trail() + (await journalOf(box)));
    return (await Promise.all(trails)).join("");
  }

  protected override checkRunning(): void {
    for (const box of this.boxes) box.stillRuns();
  }
  protected override async stopAll(): Promise<void> {
    await Promise.all(this.boxes.map((box) => box.powerCut()));
  }

  #firmware(kind: NonNullable<BoxOptions["firmware"]>): BoxFirmware {
    switch (kind) {
      case "uefi":
        return {
          kind: "uefi",
          code: UEFI.code,
          variables: UEFI.variables,
          secureBoot: false,
        };
      case "secure-boot":
        return {
          kind: "uefi",
          code: UEFI.secureCode,
          variables: UEFI.variables,
          secureBoot: true,
        };
      case "direct":
        this.#direct ??= this.#unpackKernel();
        return this.#direct;
    }
  }

  #unpackKernel(): BoxFirmware {
    const uki = this.release.kernel();
    const kernel = path.join(this.folder, "vmlinuz");
    const initrd = path.join(this.folder, "initrd");
    writeFileSync(kernel, uki.kernel());
    writeFileSync(initrd, uki.initrd());
    const commandLine = `${uki.commandLine().replace("console=tty0 ", "")} mitigations=off`;
    return { kind: "direct", kernel, initrd, commandLine };
  }

  #bootDisk(folder: string, options: BoxOptions): GuestShape["bootDisk"] {
    const base = options.image ?? this.release.image;
    const size = options.bootDiskBytes ?? 8 * GIBIBYTE;
    if (options.lossy === true) {
      const file = path.join(folder, "boot.raw");
      copySparse(base, file);
      truncateSync(file, size);
      return { lossy: new LossyDisk(file), serial: `BOOT-${path.basename(folder)}` };
    }
    const file = path.join(folder, "boot.qcow2");
    makeDisk(file, { base, sizeBytes: size });
    return { file, serial: `BOOT-${path.basename(folder)}` };
  }

  #dataDisks(folder: string, options: BoxOptions): GuestDisk[] {
    const count = options.dataDisks ?? 1;
    return Array.from({ length: count }, (_, index) => {
      const file = path.join(folder, `data${index + 1}.qcow2`);
      makeDisk(file, { sizeBytes: options.dataDiskBytes ?? 4 * GIBIBYTE });
      return { file, serial: `DATA${index + 1}-${path.basename(folder)}` };
    });
  }

  #serveAddresses(): void {
    const { network } = this;
    const hosts = Array.from({ length: 20 }, (_, index) => network.guestLease(index + 1));
    const words = [
      ...["netns", "exec", network.wireNamespace, "dnsmasq", "--keep-in-foreground"],
      ...["--conf-file=/dev/null", "--port=0", "--interface=bridge0", "--user=root"],
      ...["--dhcp-authoritative", "--dhcp-no-override", "--log-dhcp"],
      `--log-facility=${path.join(this.folder, "dnsmasq.log")}`,
      `--pid-file=${path.join(this.folder, "dnsmasq.pid")}`,
      `--dhcp-leasefile=${path.join(this.folder, "leases")}`,
      `--dhcp-range=${network.wireAddress()},static,1h`,
      // No router: the wire ends here.
      "--dhcp-option=option:router",
      ...hosts.map(({ mac, address }) => `--dhcp-host=${mac},${address}`),
    ];
    this.spawn("dnsmasq", "ip", words);
  }
}

/** The end of the daemon's log, from a box that lets us look inside; empty from others. */
async function journalOf(box: Box): Promise<string> {
  if (!box.running || !hasShell(box.shape.credentials)) return "";
  const command = "journalctl --unit=cairn.service --no-pager --output=short-monotonic -n 60";
  try {
    const { output } = await box.shell.run(command, JOURNAL_MS);
    return `--- ${box.name}, its daemon\n${output}\n`;
  } catch (error) {
    return `--- ${box.name} does not tell its daemon's log: ${String(error)}\n`;
  }
}

function makeDisk(file: string, options: { base?: string; sizeBytes: number }): void {
  const base = options.base === undefined ? [] : ["-b", options.base, "-F", "raw"];
  const words = ["create", "-q", "-f", "qcow2", ...base, file, String(options.sizeBytes)];
  const result = spawnSync("qemu-img", words, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${file}: ${result.stderr}`);
}

/** A blank raw file, such as for a stick. */
export function blankFile(file: string, sizeBytes: number): string {
  writeFileSync(file, "");
  truncateSync(file, sizeBytes);
  return file;
}
