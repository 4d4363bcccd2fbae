// SPDX-License-Identifier: Apache-2.0
//
// Commands of a host that attach its volumes by its kernel: attach (in the foreground, or at every
// boot), detach, and what is attached.

import type { LocalAttachment } from "#appliance/run-attach.ts";
import { HOST_PATH } from "#appliance/api/convention.ts";
import { OwnHostSchema } from "#appliance/api/host-schemas.ts";
import { sizeInWords } from "#appliance/api/words.ts";
import { bootFiles, unitNameOf } from "#appliance/attach/boot-files.ts";
import { Finder } from "#appliance/attach/finder.ts";
import type { OwnHostView } from "#appliance/host-backend.ts";
import type { TlsClientFiles } from "#machine/tls-files.ts";
import { fromHere } from "./appliance-places.ts";
import { Call, type Command, DRY_RUN_FLAG, OUTPUT_FLAG } from "./command.ts";
import { CA_FLAG, TOKEN_FLAG, URL_FLAG } from "./connection.ts";
import { Misuse } from "./failure.ts";
import { Flags } from "./flags.ts";
import { type Column, tableText } from "./table.ts";

const VOLUME = { name: "VOLUME", kind: "one" } as const;
const INDEX_MAX = 4095;

const attach: Command = {
  words: ["host", "attach"],
  operands: [VOLUME],
  flags: [
    OUTPUT_FLAG,
    URL_FLAG,
    TOKEN_FLAG,
    CA_FLAG,
    { name: "certificate", kind: "path", value: "FILE", sentence: "the host's, where units ask" },
    { name: "key", kind: "path", value: "FILE", sentence: "the key of --certificate" },
    { name: "tls", kind: "text", value: "yes|no", sentence: "attach over TLS; needs --ca" },
    {
      name: "device",
      kind: "text",
      value: "/dev/nbdN",
      sentence: "this device; a free one if not said",
    },
    {
      name: "give-up-after",
      kind: "whole",
      value: "SECONDS",
      sentence: "how long programs wait for a cluster that is away; a day if not said",
    },
    { name: "install", kind: "yesno", sentence: "now and at every boot, as a systemd unit" },
    DRY_RUN_FLAG,
  ],
  sentence: "on a host, with its own token: make a volume a block device, and follow it",
  run: attachVolume,
};

async function attachVolume(call: Call): Promise<number> {
  const { machine, flags } = call;
  const [volume = ""] = call.operands;
  if (flags.word("url") === null)
    throw new Misuse("--url is needed: any unit, or the group address");
  const index = indexIn(flags);
  const local = await machine.attachments();
  const kept = { read: local.readKnownUnits, keep: local.keepKnownUnits };
  const finder = new Finder({ ...kept, ask: (url) => ownOf(call, url) }, [
    flags.word("url") as string,
  ]);
  const tls = tlsIn(call);
  // Also of an installation: what cannot be attached is said now and not at the next boot.
  const found = await finder.volume(volume);
  if (found.tls === "required" && tls === null) {
    throw new Misuse(`${volume} is attached over TLS alone: say --tls yes and --ca`);
  }
  if (flags.isSet("dry-run")) {
    await call.print(found, () => `${volume} would be attached at ${found.uris[0] ?? "no unit"}\n`);
    await call.note("dry run: nothing was changed");
    return 0;
  }
  if (flags.isSet("install")) return install(call, volume);
  await machine.runAttach({
    volume,
    tls,
    index,
    resolve: () => finder.volume(volume),
    deadSeconds: Number(flags.word("give-up-after") ?? 0) || null,
    say: (sentence) => call.print({ attached: volume }, () => `${sentence}\n`),
  });
  return 0;
}

/** One unit is asked, with the flags of the call. */
async function ownOf(call: Call, url: string): Promise<OwnHostView> {
  const given = new Map(call.flags.given);
  given.set("url", [url]);
  const asking = new Call(call.machine, new Flags(given), []);
  return (await asking.ask(OwnHostSchema, "GET", HOST_PATH)).value;
}

function indexIn(flags: Flags): number | null {
  const device = flags.word("device");
  if (device === null) return null;
  const index = /^\/dev\/nbd(\d{1,4})$/.exec(device)?.[1];
  if (index === undefined || Number(index) > INDEX_MAX) {
    throw new Misuse(`--device is like /dev/nbd0, not ${device}`);
  }
  return Number(index);
}

function tlsIn(call: Call): TlsClientFiles | null {
  const { flags } = call;
  const wanted = flags.word("tls") ?? "no";
  if (!["yes", "no"].includes(wanted)) throw new Misuse("--tls is yes or no");
  if (wanted === "no") return null;
  const at = (name: string) => {
    const file = flags.word(name);
    return file === null ? null : fromHere(call, file);
  };
  const [authorityFile, certificateFile, keyFile] = [at("ca"), at("certificate"), at("key")];
  if (authorityFile === null)
    throw new Misuse("--tls yes needs --ca, whose certificates to believe");
  if ((certificateFile === null) !== (keyFile === null)) {
    throw new Misuse("--certificate and --key go together");
  }
  const own = certificateFile === null || keyFile === null ? null : { certificateFile, keyFile };
  return { authorityFile, own };
}

async function install(call: Call, volume: string): Promise<number> {
  const { machine, flags } = call;
  const words = ["host", "attach", volume];
  for (const name of ["url", "token-file", "ca", "certificate", "key", "tls", "device"]) {
    const word = flags.word(name);
    if (word === null) continue;
    const isFile = ["token-file", "ca", "certificate", "key"].includes(name);
    words.push(`--${name}`, isFile ? fromHere(call, word) : word);
  }
  const patience = flags.word("give-up-after");
  if (patience !== null) words.push("--give-up-after", patience);
  const local = await machine.attachments();
  await local.installAtBoot(bootFiles(volume, [machine.executable, ...words]));
  const device = local.list().find((one) => one.volume === volume)?.device ?? "attached";
  const unit = unitNameOf(volume);
  await call.print({ volume, device, unit }, () => {
    return `${volume} is ${device}, now and after every boot (systemctl status ${unit})\n`;
  });
  return 0;
}

const detach: Command = {
  words: ["host", "detach"],
  operands: [VOLUME],
  flags: [
    OUTPUT_FLAG,
    { name: "force", kind: "yesno", sentence: "also while it is in use: what uses it sees errors" },
    DRY_RUN_FLAG,
  ],
  sentence: "on a host: take a volume's block device away, also from the next boot on",
  run: detachVolume,
};

async function detachVolume(call: Call): Promise<number> {
  const [volume = ""] = call.operands;
  const local = await call.machine.attachments();
  const found = local.list().filter((one) => one.volume === volume);
  const force = call.flags.isSet("force");
  // First all that may refuse, then what changes.
  if (found.some(({ inUse }) => inUse !== false) && !force) {
    const devices = found.map(({ device }) => device).join(", ");
    throw new Misuse(`${devices} is in use: unmount what is on it first, or say --force`);
  }
  if (call.flags.isSet("dry-run")) {
    await call.print(found, () => attachmentsText(found));
    await call.note("dry run: nothing was changed");
    return 0;
  }
  const wasInstalled = await local.removeFromBoot(unitNameOf(volume));
  for (const one of local.list().filter((left) => left.volume === volume)) {
    await local.detach(one, { force });
  }
  if (found.length === 0 && !wasInstalled) throw new Misuse(`${volume} is not attached here`);
  await call.print({ detached: volume }, () => `${volume} is detached\n`);
  return 0;
}

const columns: Column<LocalAttachment>[] = [
  { head: "ATTACHED", cell: ({ volume }) => volume },
  { head: "DEVICE", cell: ({ device }) => device },
  { head: "SIZE", cell: ({ sizeBytes }) => sizeInWords(sizeBytes) },
  { head: "IN USE", cell: ({ inUse }) => (inUse === null ? "?" : inUse ? "yes" : "no") },
];

export function attachmentsText(attachments: readonly LocalAttachment[]): string {
  return tableText(attachments, columns, { wide: false });
}

export const attachCommands: readonly Command[] = [attach, detach];
