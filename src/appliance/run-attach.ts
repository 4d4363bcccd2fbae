// SPDX-License-Identifier: Apache-2.0
//
// Composition of `cairn host attach`: the kernel's NBD devices, connections to units, the API by
// which the volume is found, and the attachment that keeps them together until it is told to stop.

import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { createClock } from "#machine/clock.ts";
import {
  installAtBoot,
  keepKnownUnits,
  linkDevice,
  readKnownUnits,
  removeFromBoot,
  tellSystemd,
  tellUdev,
  unlinkDevice,
} from "#machine/host-places.ts";
import { createLog } from "#machine/log.ts";
import { NbdDevices, isInUse, markedDevices } from "#machine/nbd-device.ts";
import type { NbdDevice, NbdShape } from "#machine/nbd-device.ts";
import { endWhenWrong, untilSignal } from "#machine/process-signals.ts";
import {
  closeStream,
  connectStream,
  cutStream,
  limitWaits,
  noticeSilence,
  receiveSome,
  sendAll,
  wasTaken,
} from "#machine/stream-connection.ts";
import { isStanding } from "#machine/tcp-info.ts";
import { socketPair } from "#machine/socket-pair.ts";
import { TlsEnd } from "#machine/tls-channel.ts";
import type { TlsClientFiles } from "#machine/tls-files.ts";
import { createTimers } from "#machine/timers.ts";
import { ClientHandshake, type Export } from "#protocol/nbd/client-handshake.ts";
import {
  type AttachOutside,
  Attachment,
  type Connection,
  type Device,
  LOOK_EVERY_MS,
  MARK_BEGINNING,
  markedVolume,
} from "./attach/attachment.ts";
import { DEVICE_FOLDER } from "./attach/boot-files.ts";
import type { OwnVolumeView } from "./host-backend.ts";

const CONNECT_MS = 2000;
const NEGOTIATE_MS = 5000;
/** A unit that says nothing so long is gone. */
const SILENT_MS = 3000;
/**
 * R13: a cluster drops a member without progress after 5 s; a request that waits longer is stuck.
 */
const REQUEST_SECONDS = 8;
/** How long programs wait for a cluster that is away before they see errors. */
const DEAD_SECONDS_USUAL = 24 * 3600;
const NBD_PORT = 10809;

export interface AttachStart {
  volume: string;
  /** Asks any unit; a Fault. */
  resolve(): Promise<OwnVolumeView>;
  /** Null: without TLS. */
  tls: TlsClientFiles | null;
  /** Of /dev/nbdN; null: a free one. */
  index: number | null;
  /** Null: the usual. */
  deadSeconds: number | null;
  /** A line for a person, once it is attached. */
  say(sentence: string): Promise<void>;
}

/** What is attached on this machine. */
export interface LocalAttachment {
  volume: string;
  uuid: string;
  device: string;
  sizeBytes: number;
  /** Null: it cannot be told, such as without root. */
  inUse: boolean | null;
}

/** What the commands of a host do on this machine. */
export const localMachine = {
  list: localAttachments,
  detach: detachDevice,
  installAtBoot,
  removeFromBoot,
  readKnownUnits,
  keepKnownUnits,
};
export type LocalMachine = typeof localMachine;

function localAttachments(): LocalAttachment[] {
  return markedDevices(MARK_BEGINNING).flatMap((device) => {
    const marked = markedVolume(device.mark);
    if (marked === null) return [];
    const { name, uuid } = marked;
    const { path, sizeBytes } = device;
    return [{ volume: name, uuid, device: path, sizeBytes, inUse: useOf(device) }];
  });
}

function useOf(device: NbdDevice): boolean | null {
  try {
    return isInUse(device);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return null;
  }
}

/** Takes the device away; a Fault conflict while something uses it, unless forced. */
async function detachDevice(local: LocalAttachment, options: { force: boolean }): Promise<void> {
  using devices = await NbdDevices.open();
  const device = markedDevices(MARK_BEGINNING).find(({ path }) => path === local.device);
  if (device === undefined) return;
  if (!options.force && isInUse(device)) {
    throw new Fault("conflict", `${device.path} is in use: unmount what is on it first`);
  }
  devices.disconnect(device);
  unlinkDevice(linkOf(local.volume));
}

/** Until it is told to stop; then the device is gone too, unless something uses it. */
export async function runAttach(
  start: AttachStart,
  tlsWorker: () => Parameters<typeof TlsEnd.start>[0],
): Promise<void> {
  const log = createLog({ least: "info" });
  endWhenWrong(log);
  using devices = await NbdDevices.open();
  const tls = start.tls === null ? null : await TlsEnd.start(tlsWorker(), start.tls, "info");
  const kernel = new KernelSide(devices, start, tls, log);
  const attachment = new Attachment(kernel.outside());
  let isTold = false;
  const told = untilSignal({ terminal: false }).then((reason) => {
    isTold = true;
    return reason;
  });
  const timers = createTimers();
  const pause = () => new Promise<void>((resolve) => void timers.after(LOOK_EVERY_MS, resolve));
  await attachment.begin();
  while (!isTold) {
    await attachment.look();
    await Promise.race([pause(), told]);
  }
  kernel.leave();
  tls?.close();
}

function linkOf(volume: string): string {
  return `${DEVICE_FOLDER}/${volume}`;
}

interface Descriptor extends Connection {
  /** What the kernel is to speak over. */
  fd: number;
  chosen: Export;
}

class KernelSide {
  readonly #devices: NbdDevices;
  readonly #start: AttachStart;
  readonly #tls: TlsEnd | null;
  readonly #log: Log;
  #device: NbdDevice | null = null;

  constructor(devices: NbdDevices, start: AttachStart, tls: TlsEnd | null, log: Log) {
    this.#devices = devices;
    this.#start = start;
    this.#tls = tls;
    this.#log = log;
  }

  outside(): AttachOutside<Descriptor> {
    return {
      clock: createClock(),
      log: this.#log,
      resolve: () => this.#start.resolve(),
      connect: (uri) => this.#connect(uri),
      find: (uuid) => {
        const beginning = `${MARK_BEGINNING}${uuid}:`;
        const [found] = markedDevices(beginning);
        return found === undefined ? null : this.#deviceOf(found);
      },
      attach: (mark, connection) => {
        const { index } = this.#start;
        const shape = this.#shape(connection.chosen);
        return this.#deviceOf(this.#devices.connect(mark, connection.fd, shape, index));
      },
      ready: (_, volume) => void this.#ready(volume),
    };
  }

  #deviceOf(device: NbdDevice): Device<Descriptor> {
    this.#device = device;
    return {
      path: device.path,
      reconnect: ({ fd, chosen }) => {
        this.#devices.reconnect(device, fd, this.#shape(chosen));
        return wasTaken(fd);
      },
      died: () => this.#devices.dead().has(device.index),
    };
  }

  #shape({ sizeBytes, flags, blockBytesMin }: Export): NbdShape {
    const deadSeconds = this.#start.deadSeconds ?? DEAD_SECONDS_USUAL;
    // A block of the kernel's client; smaller ones are read and written as a whole one.
    const blockBytes = Math.max(blockBytesMin, 512);
    return { sizeBytes, flags, blockBytes, deadSeconds, requestSeconds: REQUEST_SECONDS };
  }

  async #ready(volume: OwnVolumeView): Promise<void> {
    const device = this.#device;
    if (device === null) return;
    linkDevice(linkOf(volume.name), device.path);
    await tellUdev(device.path);
    tellSystemd("READY=1");
    await this.#start.say(`${volume.name} is ${device.path} (${linkOf(volume.name)})`);
  }

  #connect(uri: string): Descriptor {
    const place = URL.parse(uri);
    if (place === null) throw new Fault("versionMismatch", `${uri} is no address of a volume`);
    const address = place.hostname.replace(/^\[|\]$/g, "");
    const port = place.port === "" ? NBD_PORT : Number(place.port);
    const name = decodeURIComponent(place.pathname.slice(1));
    const network = connectStream({ address, port }, { limitMs: CONNECT_MS });
    let fd = network;
    try {
      noticeSilence(network, SILENT_MS);
      limitWaits(network, NEGOTIATE_MS);
      const handshake = new ClientHandshake(name, { tls: this.#tls !== null });
      let chosen = negotiate(network, handshake);
      if (chosen === null) {
        fd = this.#secure(network, address);
        limitWaits(fd, NEGOTIATE_MS);
        handshake.secured();
        chosen = negotiate(fd, handshake, "TLS with the unit did not come about, or it ended it");
      }
      if (chosen === null) throw new Fault("versionMismatch", "the unit begins TLS twice");
      limitWaits(fd, 0);
      const { sizeBytes } = chosen;
      const mine = fd;
      return {
        ...{ uri, sizeBytes, fd, chosen },
        stands: () => isStanding(mine),
        cut: () => cutStream(mine),
        release: () => closeStream(mine),
      };
    } catch (error) {
      closeStream(fd);
      throw error;
    }
  }

  /** The plain end; the connection is the relay's from now on. */
  #secure(network: number, address: string): number {
    if (this.#tls === null) throw new Fault("versionMismatch", "the unit begins TLS unasked");
    const [plain, ours] = socketPair();
    this.#tls.take({ encrypted: network, plain, peer: address, serverName: address });
    return ours;
  }

  /** Orderly: what is not in use is detached; what is goes on as it is. */
  leave(): void {
    const device = this.#device;
    if (device === null) return;
    if (isInUse(device)) {
      const { path } = device;
      this.#log.write("warn", "it is in use and stays attached; nobody follows failovers now", {
        device: path,
      });
      return;
    }
    this.#devices.disconnect(device);
    unlinkDevice(linkOf(this.#start.volume));
  }
}

/** Null: TLS is to begin. Throws a Fault where the unit refuses. */
function negotiate(
  fd: number,
  handshake: ClientHandshake,
  ended = "the unit ended the connection",
): Export | null {
  for (;;) {
    for (const bytes of handshake.take()) sendAll(fd, bytes);
    const bytes = receiveSome(fd);
    if (bytes.length === 0) throw new Fault("notReady", ended);
    const step = handshake.receive(bytes);
    switch (step.kind) {
      case "more":
        continue;
      case "secure":
        return null;
      case "chosen":
        return step.chosen;
      default:
        throw refusedBy(step);
    }
  }
}

function refusedBy({ reason, sentence }: { reason: string; sentence: string }): Fault {
  if (reason === "unknown") {
    return new Fault("notFound", "the unit shows this host no such volume; is it assigned?");
  }
  if (reason === "tls") {
    return new Fault("forbidden", "the volume wants TLS: say --ca, the authority's certificate");
  }
  return new Fault(reason === "shutdown" ? "notReady" : "forbidden", sentence);
}
