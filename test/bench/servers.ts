// SPDX-License-Identifier: Apache-2.0
//
// What is measured: a unit of ours, and the servers that one would run instead, each in a network
// namespace of its own on the lab's bridge, so that over TCP all are equally far from the client.
// The peers serve one file, one at a time; ours is of the same size on the same file system.
//
// Disk modes: "buffered" is the page cache for everybody, "direct" is O_DIRECT for everybody who
// has it (nbdkit's file plugin and nbd-server have not).

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { assembled } from "#test/cluster/assembled.ts";
import { run } from "#test/demo/run-program.ts";
import { cpuSeconds, familyOf } from "./figures.ts";

export type DiskMode = "buffered" | "direct";
export type Transport = "tcp" | "unix";
export type PeerName = "qemu-nbd" | "nbdkit" | "nbd-server";
export const PEERS: readonly PeerName[] = ["qemu-nbd", "nbdkit", "nbd-server"];

const NBD_PORT = "10809";
const READY_MS = 30_000;

export interface Server {
  name: string;
  /** What tells fio to use it. */
  words: Readonly<Record<Transport, readonly string[]>>;
  /** All its processes have used since they began. */
  cpuSeconds(): number;
  /** What stands beside each of its runs, until that is over. */
  beside?(): Promise<AsyncDisposable>;
}

export interface OurServer extends Server {
  unit: LabUnit;
}

/** One unit, its disk as long as asked and preallocated, with one volume of a single copy. */
export async function startOurs(lab: Lab, mode: DiskMode, volumeBytes: number): Promise<OurServer> {
  const unit = lab.add({
    diskBytes: volumeBytes + (volumeBytes >> 4) + (1 << 30),
    preallocate: true,
    settings: { directFiles: mode === "direct", memoryDirectory: memoryFolder(lab) },
  });
  unit.start();
  await lab.until("the unit is in its cluster", () => assembled(lab), 60_000);
  const isReady = async () => {
    const [disk] = await unit.api.disks();
    return disk?.state === "ready" ? true : null;
  };
  await lab.until("its disk is ready", isReady, 60_000);
  await unit.api.createVolume({
    name: "bench",
    sizeBytes: volumeBytes,
    protection: "none",
    // Over the unix socket one comes from the unit itself.
    hosts: [await unit.api.hostFrom(lab.hostAddress, "127.0.0.1")],
  });
  const uris = urisOf(unit.address, path.join(unit.stateFolder, "nbd.sock"));
  for (const uri of Object.values(uris)) await answers(lab, uri);
  return {
    name: "cairn",
    unit,
    words: wordsOf(uris),
    // The daemon alone: the voter beside it serves no host.
    cpuSeconds: () => (unit.pid === null ? 0 : cpuSeconds([unit.pid])),
  };
}

/**
 * As outside of a lab: in memory. On a disk every page of a keepsake is written back, and waits.
 */
export function memoryFolder(lab: Lab): string {
  const folder = mkdtempSync("/dev/shm/cairn-bench-");
  lab.atEnd(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A process per transport: none of them but ours listens on both at once. */
export async function startPeer(
  lab: Lab,
  name: PeerName,
  place: number,
  what: { file: string; mode: DiskMode },
): Promise<Server> {
  lab.network.addUnit(place);
  const uris = urisOf(lab.network.unitAddress(place), path.join(lab.folder, `${name}.sock`));
  const pids: number[] = [];
  for (const transport of ["tcp", "unix"] as const) {
    const words = commandOf(lab, name, place, { ...what, transport });
    const inside = [`--net=/run/netns/${lab.network.namespaceOf(place)}`, ...words];
    const { pid } = lab.spawn(name, "nsenter", inside);
    if (pid === undefined) throw new Error(`${name} did not start`);
    await answers(lab, uris[transport]);
    pids.push(name === "nbd-server" ? daemonOf(lab, transport) : pid);
  }
  return { name, words: wordsOf(uris), cpuSeconds: () => cpuSeconds(pids.flatMap(familyOf)) };
}

/** The peers' file without any server: what a program on the machine itself gets. */
export function directlyAttached(file: string, mode: DiskMode): Server {
  const direct = `--direct=${mode === "direct" ? 1 : 0}`;
  // Else it begins by dropping the file from the page cache, and the peers' next rounds are cold.
  const words = ["--ioengine=io_uring", "--invalidate=0", `--filename=${file}`, direct];
  return { name: "fio on the file", words: { tcp: words, unix: words }, cpuSeconds: () => 0 };
}

/** qemu's quorum over the servers at `places`, two of three to agree. TCP only. */
export async function startQuorum(
  lab: Lab,
  place: number,
  places: readonly number[],
): Promise<Server> {
  lab.network.addUnit(place);
  const address = lab.network.unitAddress(place);
  const children = places.map(
    (at, index) =>
      `children.${index}.driver=raw,children.${index}.file.driver=nbd,` +
      `children.${index}.file.server.type=inet,children.${index}.file.server.port=${NBD_PORT},` +
      `children.${index}.file.server.host=${lab.network.unitAddress(at)},` +
      `children.${index}.file.export=bench`,
  );
  const { pid } = lab.spawn("quorum", "nsenter", [
    `--net=/run/netns/${lab.network.namespaceOf(place)}`,
    ...["qemu-nbd", "--bind", address, "--port", NBD_PORT, "--persistent", "--shared=16"],
    ...["--export-name=bench", "--image-opts"],
    `driver=quorum,vote-threshold=2,${children.join(",")}`,
  ]);
  if (pid === undefined) throw new Error("quorum did not start");
  const uri = `nbd://${address}:${NBD_PORT}/bench`;
  await answers(lab, uri);
  const words = { tcp: nbdWords(uri), unix: nbdWords(uri) };
  return { name: "quorum", words, cpuSeconds: () => cpuSeconds(familyOf(pid)) };
}

/** Writes all of it, with bytes that do not compress. */
export async function fill(lab: Lab, target: readonly string[], bytes: number): Promise<void> {
  const how = ["--rw=write", "--bs=1M", "--iodepth=4", "--refill_buffers", "--end_fsync=1"];
  await run(lab, ["fio", "--name=fill", `--size=${bytes}`, ...target, ...how], 1_200_000);
}

/** nbd-server stays in the foreground only where it serves one connection at a time. */
function daemonOf(lab: Lab, transport: Transport): number {
  const pid = Number(readFileSync(pidFileOf(lab, transport), "utf8"));
  lab.record.started(pid);
  lab.atEnd(() => {
    process.kill(pid, "SIGTERM");
    lab.record.ended(pid);
  });
  return pid;
}

function pidFileOf(lab: Lab, transport: Transport): string {
  return path.join(lab.folder, `nbd-server-${transport}.pid`);
}

/** Whether it can serve a file that way. */
export function hasMode(name: PeerName, mode: DiskMode): boolean {
  return mode === "buffered" || name === "qemu-nbd";
}

export function nbdWords(uri: string): string[] {
  return ["--ioengine=nbd", `--uri=${uri}`];
}

function wordsOf(uris: Record<Transport, string>): Record<Transport, string[]> {
  return { tcp: nbdWords(uris.tcp), unix: nbdWords(uris.unix) };
}

function urisOf(address: string, socket: string): Record<Transport, string> {
  return {
    tcp: `nbd://${address}:${NBD_PORT}/bench`,
    unix: `nbd+unix:///bench?socket=${socket}`,
  };
}

interface Serving {
  file: string;
  mode: DiskMode;
  transport: Transport;
}

function commandOf(lab: Lab, name: PeerName, place: number, serving: Serving): string[] {
  const { file, mode, transport } = serving;
  const address = lab.network.unitAddress(place);
  const socket = path.join(lab.folder, `${name}.sock`);
  const isTcp = transport === "tcp";
  switch (name) {
    case "qemu-nbd":
      return [
        "qemu-nbd",
        ...(isTcp ? ["--bind", address, "--port", NBD_PORT] : ["--socket", socket]),
        ...["--shared=16", "--persistent", "--export-name=bench", "--image-opts"],
        // Two of its processes have the file open, one at a time at work: no locks.
        `driver=raw,cache.direct=${mode === "direct" ? "on" : "off"},file.driver=file,` +
          `file.aio=io_uring,file.locking=off,file.filename=${file}`,
      ];
    case "nbdkit":
      return [
        ...["nbdkit", "--foreground"],
        ...(isTcp ? ["--ipaddr", address, "--port", NBD_PORT] : ["--unix", socket]),
        ...["file", file],
      ];
    case "nbd-server": {
      const settings = path.join(lab.folder, `nbd-server-${transport}.conf`);
      const listens = isTcp ? `listenaddr = ${address}` : `unixsock = ${socket}`;
      const generic = `[generic]\n\t${listens}\n\tport = ${NBD_PORT}\n`;
      const volume = `[bench]\n\texportname = ${file}\n\tflush = true\n\tfua = true\n`;
      writeFileSync(settings, generic + volume);
      return ["nbd-server", "-C", settings, "-p", pidFileOf(lab, transport)];
    }
  }
}

export async function answers(lab: Lab, uri: string): Promise<void> {
  const look = () => run(lab, ["nbdinfo", "--size", uri], 10_000);
  await lab.until(`${uri} answers`, look, READY_MS);
}
