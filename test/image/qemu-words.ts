// SPDX-License-Identifier: Apache-2.0
//
// A guest as QEMU is told of it: a small storage box of 2009's kind or later (q35: SATA, PCIe, VGA,
// two serial lines, a watchdog), by emulation alone, so that it runs on any machine.
//
// `erms=off,fsrm=off`: with them Linux clears and copies byte by byte, and a byte written where
// code lay costs a walk over all that was translated of its page: 50 of the 160 seconds of a first
// boot, when the initrd's pages are used again. Nothing of ours needs them.

import type { LossyDisk } from "./lossy-disk.ts";

export const PROCESSOR = "max,erms=off,fsrm=off";

/** How the kernel comes to run. */
export type Firmware =
  /** UEFI and the boot loader on the disk, as on a real box. */
  | { kind: "uefi"; code: string; variables: string; secureBoot: boolean }
  /** The same kernel, handed in by QEMU: no loader, no boot counting, some seconds less. */
  | { kind: "direct"; kernel: string; initrd: string; commandLine: string };

export interface GuestDisk {
  /** In qcow2, over what it was made from. */
  file: string;
  serial: string;
}

export interface GuestShape {
  name: string;
  memoryMegabytes: number;
  processors: number;
  firmware: Firmware;
  /** On the SATA controller. */
  bootDisk: GuestDisk | { lossy: LossyDisk; serial: string };
  /** On NVMe, one controller each. */
  dataDisks: readonly GuestDisk[];
  /** A raw file as a USB stick, or none. */
  stick: string | null;
  wire: { port: string; mac: string };
  /** Sockets and logs lie here. */
  folder: string;
  /** systemd credentials by name, handed in through SMBIOS as a machine's owner can. */
  credentials: Readonly<Record<string, string>>;
}

export const FILES = {
  qmp: "qmp.sock",
  serial: "serial.log",
  serialSocket: "serial.sock",
  second: "second.log",
  secondSocket: "second.sock",
  qemu: "qemu.log",
} as const;

export function qemuWords(shape: GuestShape): string[] {
  const file = (name: keyof typeof FILES) => `${shape.folder}/${FILES[name]}`;
  return [
    ...["-name", shape.name, "-nodefaults", "-no-user-config"],
    ...["-machine", `q35${isSecure(shape.firmware) ? ",smm=on" : ""}`],
    ...["-accel", "tcg,thread=multi", "-cpu", PROCESSOR],
    ...["-smp", String(shape.processors), "-m", String(shape.memoryMegabytes)],
    ...["-display", "none", ...screenWords(shape.firmware)],
    ...["-qmp", `unix:${file("qmp")},server=on,wait=off`],
    ...["-chardev", line("serial", file("serialSocket"), file("serial"))],
    ...["-serial", "chardev:serial"],
    ...["-chardev", line("second", file("secondSocket"), file("second"))],
    ...["-serial", "chardev:second"],
    ...["-device", "i6300esb", "-action", "watchdog=reset"],
    ...firmwareWords(shape.firmware),
    ...bootDiskWords(shape),
    ...shape.dataDisks.flatMap(dataDiskWords),
    ...stickWords(shape.stick),
    ...["-netdev", `tap,id=wire,ifname=${shape.wire.port},script=no,downscript=no`],
    // Without a boot ROM: the firmware need not try the network.
    ...["-device", `virtio-net-pci,netdev=wire,mac=${shape.wire.mac},romfile=`],
    ...Object.entries(shape.credentials).flatMap(credentialWords),
  ];
}

function line(id: string, socket: string, log: string): string {
  return `socket,id=${id},path=${socket},server=on,wait=off,logfile=${log},logappend=on`;
}

/** A box that its firmware starts has a screen; the others are looked at by their serial line. */
function screenWords(firmware: Firmware): string[] {
  return firmware.kind === "uefi" ? ["-device", "VGA"] : [];
}

function isSecure(firmware: Firmware): boolean {
  return firmware.kind === "uefi" && firmware.secureBoot;
}

function firmwareWords(firmware: Firmware): string[] {
  switch (firmware.kind) {
    case "uefi":
      return [
        ...["-drive", `if=pflash,format=raw,unit=0,readonly=on,file=${firmware.code}`],
        ...["-drive", `if=pflash,format=raw,unit=1,file=${firmware.variables}`],
        ...(firmware.secureBoot ? ["-global", "driver=cfi.pflash01,property=secure,value=on"] : []),
      ];
    case "direct":
      return [
        ...["-kernel", firmware.kernel, "-initrd", firmware.initrd],
        ...["-append", firmware.commandLine],
      ];
  }
}

function bootDiskWords({ bootDisk, firmware }: GuestShape): string[] {
  // A kernel that QEMU hands in is first by itself.
  const order = firmware.kind === "uefi" ? ",bootindex=0" : "";
  return [
    ...["-blockdev", bootDevice(bootDisk)],
    ...["-device", `ide-hd,bus=ide.0,drive=boot,serial=${bootDisk.serial}${order}`],
  ];
}

function bootDevice(disk: GuestShape["bootDisk"]): string {
  if ("lossy" in disk) return `node-name=boot,discard=unmap,${journalWords(disk.lossy)}`;
  return blockDevice("boot", disk.file);
}

/** A disk whose writes are written down. */
export function journalWords(disk: LossyDisk): string {
  const file = `file.driver=raw,file.file.driver=file,file.file.filename=${disk.file}`;
  return `driver=blklogwrites,${file},log.driver=file,log.filename=${disk.journal}`;
}

function dataDiskWords(disk: GuestDisk, index: number): string[] {
  const name = `data${index + 1}`;
  return [
    ...["-blockdev", blockDevice(name, disk.file)],
    ...["-device", `nvme,drive=${name},serial=${disk.serial}`],
  ];
}

function blockDevice(name: string, file: string): string {
  return `driver=qcow2,node-name=${name},discard=unmap,file.driver=file,file.filename=${file}`;
}

function stickWords(file: string | null): string[] {
  if (file === null) return [];
  return [
    ...["-device", "qemu-xhci,id=usb"],
    ...["-blockdev", `driver=raw,node-name=stick,file.driver=file,file.filename=${file}`],
    ...["-device", "usb-storage,bus=usb.0,drive=stick,serial=STICK"],
  ];
}

function credentialWords([name, text]: [string, string]): string[] {
  const value = Buffer.from(text).toString("base64");
  return ["-smbios", `type=11,value=io.systemd.credential.binary:${name}=${value}`];
}
