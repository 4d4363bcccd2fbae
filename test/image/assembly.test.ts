// SPDX-License-Identifier: Apache-2.0
//
// Three boxes of the real image, stamped with one join secret and powered on together: they become
// one cluster, take their blank disks, and serve a volume that outlives the loss of its head. Ports
// and memory of a booted box are looked at on the way. One box boots by its UEFI firmware, the
// others take the same kernel from QEMU, which costs some seconds less; where a rolling update is
// wanted as well (rolling-update.ts), all boot by their firmware, which knows the other slot.
//
// Times are printed and never judged: the machine that emulates three boxes may be a slow one.

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { once } from "node:events";
import path from "node:path";
import type { VolumeView } from "#appliance/backend.ts";
import { need } from "#test/cluster/until.ts";
import {
  BOOT_MS,
  CHANGE_MS,
  answers,
  apiOf,
  claim,
  joined,
  metric,
  newOwner,
  stampedImage,
  type Owner,
} from "./appliances.ts";
import type { Box } from "./box.ts";
import { documentedPorts, portName } from "./documented-ports.ts";
import { SHELL_CREDENTIALS } from "./inside-shell.ts";
import { copyOnce } from "./nbd-copy.ts";
import { knockAtAll, listeningInside } from "./port-scan.ts";
import { Rack } from "./rack.ts";
import { rollOver, rollingUpdateWanted } from "./rolling-update.ts";
import { Stages } from "./stages.ts";

const MIB = 2 ** 20;
const VOLUME = "one";
const VOLUME_BYTES = 256 * MIB;
const WRITTEN_BYTES = 48 * MIB;
/** Of a box whose 1 GB is 1024 MiB, too. */
const USED_BYTES_MAX = 350 * MIB;
const SHELL_MS = 120_000;
/**
 * What storage boxes are made of: SAS, SATA, NVMe and USB, network cards, management, watchdogs.
 */
const DRIVERS = [
  ...["mpt3sas", "megaraid_sas", "hpsa", "smartpqi", "aacraid", "ahci", "nvme", "uas", "xhci-pci"],
  ...["ixgbe", "i40e", "ice", "igb", "igc", "e1000e", "r8169", "bnx2x", "bnxt_en", "tg3"],
  ...["mlx5_core", "ses", "ipmi_si", "ipmi_devintf", "iTCO_wdt", "sp5100_tco", "softdog"],
];

const UEFI_ONE = ["uefi", "direct", "direct"] as const;
const UEFI_ALL = ["uefi", "uefi", "uefi"] as const;
const ROLLS = rollingUpdateWanted();

const say = (line: string) => process.stdout.write(`    ${line}\n`);

const story = new Stages();
let rack: Rack;
let owner: Owner;
let written: string;

beforeAll(async () => {
  rack = new Rack({ say, needsBytes: (ROLLS ? 16 : 12) * 2 ** 30 });
  owner = newOwner(rack);
  const image = stampedImage(rack, owner);
  const credentials = { ...SHELL_CREDENTIALS };
  for (const firmware of ROLLS ? UEFI_ALL : UEFI_ONE) {
    rack.add({ image, firmware, credentials });
  }
  await Promise.all(rack.boxes.map((box) => box.powerOn()));
});
afterAll(async () => {
  await rack?.end();
});

const seconds = (box: Box) => box.secondsOn().toFixed(0);

describe("three boxes powered on together", () => {
  story.stage("the owner claims their cluster by the stamped code", async () => {
    const first = rack.box(1);
    await Promise.all(
      rack.boxes.map(async (box) => {
        await rack.until(`${box.name} answers`, () => answers(box), BOOT_MS, { lookMs: 1000 });
        say(`${box.name} answers ${seconds(box)} s after power-on`);
      }),
    );
    await rack.until("claimed", () => claim(first, owner), CHANGE_MS, { lookMs: 1000 });
  });

  story.stage("they are one cluster with three voters", async () => {
    const look = async () => {
      const all = await joined(rack.boxes, owner);
      const units = await apiOf(rack.box(1), owner).units();
      need(units.filter((unit) => unit.alive).length === 3, `${units.length} units are known`);
      return all;
    };
    const all = await rack.until("one cluster", look, CHANGE_MS, { lookMs: 1000 });
    say(`one cluster of three ${seconds(rack.box(1))} s after power-on`);
    expect(new Set(all.map((status) => status.unit)).size).toBe(3);
    const voters = async () => {
      const now = await joined(rack.boxes, owner);
      for (const status of now) {
        need(status.voters.length === 3, `${status.name} sees ${status.voters.length} voters`);
      }
      return true;
    };
    await rack.until("three voters", voters, CHANGE_MS, { lookMs: 1000 });
    say(`three voters ${seconds(rack.box(1))} s after power-on`);
  });

  story.stage("each gives its blank disk and the spare space of its boot disk", async () => {
    const look = async () => {
      const disks = await apiOf(rack.box(1), owner).disks();
      const ready = disks.filter((disk) => disk.state === "ready");
      const told = disks.map((disk) => `${disk.unit} ${disk.path} ${disk.state} ${disk.reason}`);
      need(ready.length === 6, told.join("; "));
      return ready;
    };
    const ready = await rack.until("six disks", look, CHANGE_MS, { lookMs: 1000 });
    for (const unit of [1, 2, 3]) {
      expect(ready.filter((disk) => disk.unit === unit)).toHaveLength(2);
    }
  });
});

describe("a booted box", () => {
  story.stage(
    "ports: those of docs/PORTS.md and no other, from the wire and from inside",
    async () => {
      const documented = documentedPorts();
      const names = documented.map(portName);
      const box = rack.box(1);
      const inside = await listeningInside(box.shell, SHELL_MS);
      expect(inside.ports.map(portName).filter((name) => !names.includes(name))).toEqual([]);
      const knocked = await knockAtAll(box.address);
      expect(knocked.silent).toEqual([]);
      const open = knocked.open.map((port) => portName({ protocol: "tcp", port }));
      expect(open.filter((name) => !names.includes(name))).toEqual([]);
      for (const one of documented.filter(({ always }) => always)) {
        expect(inside.ports.map(portName)).toContain(portName(one));
        if (one.protocol === "tcp") expect(open).toContain(portName(one));
      }
      say(`open on ${box.name}: ${inside.ports.map(portName).sort().join(", ")}`);
    },
  );

  story.stage("drivers of real boxes are there, with all that they need", async () => {
    const look = 'modprobe --dry-run --quiet "$driver" && echo "there:" "$driver"';
    const loop = `for driver in ${DRIVERS.join(" ")}; do ${look}; done; true`;
    const { output } = await rack.box(1).shell.run(loop, SHELL_MS);
    const found = [...output.matchAll(/^there: (\S+)$/gm)].map((match) => match[1]);
    expect(found).toEqual(DRIVERS);
  });

  story.stage("memory in use when idle: below 350 MB of 1 GB", async () => {
    for (const box of rack.boxes) {
      const size = await metric(box, owner, "cairn_unit_memory_size_bytes");
      const look = async () => {
        const used = size - (await metric(box, owner, "cairn_unit_memory_available_bytes"));
        need(used < USED_BYTES_MAX, `${box.name} uses ${(used / 1e6).toFixed(0)} MB`);
        return used;
      };
      const used = await rack.until("little memory in use", look, CHANGE_MS, { lookMs: 5000 });
      say(`${box.name} uses ${(used / 1e6).toFixed(0)} of ${(size / 1e6).toFixed(0)} MB`);
    }
  });
});

describe("a mirrored volume", () => {
  story.stage("is created through the API, and written by a host outside", async () => {
    const look = () => created(rack.box(1));
    const volume = await rack.until("the volume", look, CHANGE_MS, { lookMs: 1000 });
    say(`first volume ${seconds(rack.box(1))} s after power-on`);
    const source = path.join(rack.folder, "source");
    const bytes = randomBytes(WRITTEN_BYTES);
    writeFileSync(source, bytes);
    written = createHash("sha256").update(bytes).digest("hex");
    // A client that demands a copy of exactly the volume's size is given one: the rest is a hole.
    const disk = spawn("truncate", ["--size", String(VOLUME_BYTES), source], {
      stdio: "inherit",
    });
    expect((await once(disk, "exit"))[0]).toBe(0);
    await copy(source, uriOf(volume));
    say(`${WRITTEN_BYTES / MIB} MiB are written ${seconds(rack.box(1))} s after power-on`);
  });

  story.stage(
    "its head cut from power → what was written reads back through another box",
    async () => {
      const head = await headOf(VOLUME);
      await head.powerCut();
      const others = rack.boxes.filter((box) => box !== head);
      const [door] = others;
      const back = path.join(rack.folder, "back");
      const look = async () => {
        const { availability, sentence } = await apiOf(door as Box, owner).volume(VOLUME);
        need(availability === "online", `${availability}: ${sentence}`);
        return true;
      };
      await rack.until("the volume online without its head", look, CHANGE_MS);
      await copy(`nbd://${(door as Box).address}:10809/${VOLUME}`, back);
      expect(await startOf(back, WRITTEN_BYTES)).toBe(written);
    },
  );

  story.stage("the box that was cut comes back, and the volume is protected again", async () => {
    const away = rack.boxes.find((box) => !box.running) as Box;
    await away.powerOn();
    const look = async () => {
      await joined(rack.boxes, owner);
      const { availability, state, sentence } = await apiOf(away, owner).volume(VOLUME);
      need(availability === "online" && state === "protected", `${state}: ${sentence}`);
      return true;
    };
    await rack.until(`${away.name} back, the volume protected`, look, BOOT_MS, { lookMs: 1000 });
    say(`${away.name} is back and the volume protected ${seconds(away)} s after power-on`);
  });
});

if (ROLLS) {
  describe("a rolling update", () => {
    story.stage(
      "one box after the other, from one download, the volume online all the while",
      async () => {
        const seen = await rollOver(rack, owner, VOLUME);
        say(`rolled in ${seen.seconds.toFixed(0)} s: ${seen.restarted.join(", ")}`);
        expect(seen.restarted.toSorted()).toEqual(rack.boxes.map((box) => box.name));
        expect(seen.awayMax).toBe(1);
        expect(seen.notOnline).toEqual([]);
        expect([...seen.fetchedBy]).toEqual([rack.box(1).address]);
        const back = path.join(rack.folder, "back-after-update");
        await copy(`nbd://${rack.box(2).address}:10809/${VOLUME}`, back);
        expect(await startOf(back, WRITTEN_BYTES)).toBe(written);
      },
    );
  });
}

async function created(box: Box): Promise<VolumeView> {
  const api = apiOf(box, owner);
  const there = (await api.volumes()).find((volume) => volume.name === VOLUME);
  if (there !== undefined) {
    need(there.availability === "online", there.sentence);
    return there;
  }
  const request = { name: VOLUME, sizeBytes: VOLUME_BYTES, protection: "mirror-2" as const };
  return api.createVolume({ ...request, hosts: [await api.hostFrom(rack.hostAddress)] });
}

function uriOf(volume: VolumeView): string {
  const uri = volume.uris.find((one) => rack.boxes.some((box) => one.includes(box.address)));
  if (uri === undefined) throw new Error(`no address that we reach: ${volume.uris.join(" ")}`);
  return uri;
}

async function headOf(name: string): Promise<Box> {
  const api = apiOf(rack.box(1), owner);
  const [slice] = (await api.volume(name)).slices;
  const member = slice?.members.find((one) => one.disk === slice.head);
  const view = (await api.units()).find((unit) => unit.unit === member?.unit);
  const box = rack.boxes.find((one) => view?.addresses.includes(one.address));
  if (box === undefined) throw new Error(`${name} has no head that we know`);
  return box;
}

/**
 * Copies to or from a volume. Boxes that starve for a while may lose their links three times while
 * a write is under way, and are then not allowed to say whether it happened (H7): EIO, and the host
 * writes again. How often is told.
 */
function copy(from: string, to: string): Promise<true> {
  const look = async () => {
    try {
      await copyOnce(from, to);
      return true as const;
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
      throw error;
    }
  };
  return rack.until(`a copy from ${from} to ${to}`, look, CHANGE_MS, { lookMs: 1000 });
}

async function startOf(file: string, lengthBytes: number): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { end: lengthBytes - 1 })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}
