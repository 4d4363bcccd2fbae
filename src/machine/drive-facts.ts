// SPDX-License-Identifier: Apache-2.0
//
// What a drive says of itself beyond its bytes: model and serial, the bay of its enclosure (ses,
// /sys/class/enclosure), its health by S.M.A.R.T. (`smartctl --json`, smartmontools 7), and the
// light at its bay. Everything is optional: a file, a virtual disk or a bare cable has none of it,
// and then it is said why.

import { existsSync, readFileSync, readdirSync, realpathSync, writeFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { runProgram } from "./program.ts";

const SYS_BLOCK = "/sys/class/block";
const SMART_TIMEOUT_MS = 15_000;
/**
 * smartctl(8), EXIT STATUS: bits 0 and 1 mean that nothing was read; the others tell of the disk.
 */
const SMART_READ_NOTHING = 0b11;
const SMART_STATUSES = Array.from({ length: 256 }, (_, status) => status).filter(
  (status) => (status & SMART_READ_NOTHING) === 0,
);

export interface Smart {
  passed: boolean;
  temperatureCelsius: number | null;
  powerOnHours: number | null;
  /** Of its own reserve of writes, percent used; null where it does not say (no flash). */
  wearPercent: number | null;
  /** Sectors or blocks that it gave up, or errors of its medium; null: it does not say. */
  mediaErrors: number | null;
}

export interface DriveFacts {
  model: string | null;
  serial: string | null;
  kind: "flash" | "rotating" | "unknown";
  /** As the enclosure calls it; null: no enclosure tells. */
  bay: string | null;
  /** Whether the light at its bay is on; null: there is none to be switched. */
  light: boolean | null;
  smart: Smart | null;
  /** Why there is no S.M.A.R.T.; empty: there is. */
  smartMissing: string;
}

/** `device`: a path such as /dev/sda, or a file. Never throws: what is not known is null. */
export async function driveFacts(device: string): Promise<DriveFacts> {
  const folder = folderOf(device);
  const light = folder === null ? null : lightFile(folder);
  const facts = {
    model: folder === null ? null : wordOf(path.join(folder, "device", "model")),
    serial: folder === null ? null : wordOf(path.join(folder, "device", "serial")),
    kind: kindOf(folder),
    bay: folder === null ? null : bayOf(folder),
    light: light === null ? null : wordOf(light) === "1",
  } as const;
  if (folder === null) return { ...facts, smart: null, smartMissing: "it is a file, no drive" };
  try {
    return { ...facts, smart: await smartOf(device), smartMissing: "" };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const smartMissing =
      error.code === "badMachine" ? "smartctl is not installed here" : "it tells nothing of itself";
    return { ...facts, smart: null, smartMissing };
  }
}

/** The light at a drive's bay. Throws Fault notFound where there is none. */
export function setLight(device: string, on: boolean): void {
  const folder = folderOf(device);
  const file = folder === null ? null : lightFile(folder);
  if (file === null) {
    throw new Fault("notFound", `there is no light at ${device}: no enclosure tells of its bay`);
  }
  writeFileSync(file, on ? "1" : "0");
}

/** The device's folder in sysfs; null where it is no block device. */
function folderOf(device: string): string | null {
  const folder = path.join(SYS_BLOCK, path.basename(device));
  return device.startsWith("/dev/") && existsSync(folder) ? folder : null;
}

/** `enclosure_device:Slot 07` below the SCSI device, as the kernel's ses module makes it. */
function slotOf(folder: string): { name: string; folder: string } | null {
  const device = path.join(folder, "device");
  const entry = entriesOf(device).find((name) => name.startsWith("enclosure_device:"));
  if (entry === undefined) return null;
  return { name: entry.slice(entry.indexOf(":") + 1), folder: path.join(device, entry) };
}

function bayOf(folder: string): string | null {
  return slotOf(folder)?.name ?? null;
}

function lightFile(folder: string): string | null {
  const slot = slotOf(folder);
  const file = slot === null ? null : path.join(slot.folder, "locate");
  return file !== null && existsSync(file) ? realpathSync(file) : null;
}

function kindOf(folder: string | null): DriveFacts["kind"] {
  const word = folder === null ? null : wordOf(path.join(folder, "queue", "rotational"));
  if (word === null) return "unknown";
  return word === "1" ? "rotating" : "flash";
}

const SmartSchema = z.object({
  smart_status: z.object({ passed: z.boolean() }),
  temperature: z.object({ current: z.number() }).optional(),
  power_on_time: z.object({ hours: z.number() }).optional(),
  nvme_smart_health_information_log: z
    .object({ percentage_used: z.number(), media_errors: z.number() })
    .optional(),
  ata_smart_attributes: z
    .object({
      table: z.array(z.object({ id: z.number(), raw: z.object({ value: z.number() }) })).max(256),
    })
    .optional(),
  scsi_grown_defect_list: z.number().optional(),
  scsi_percentage_used_endurance_indicator: z.number().optional(),
});
/** Reallocated_Sector_Ct, of every vendor. */
const ATA_REALLOCATED = 5;

/** Does not wake a drive that sleeps: it tells nothing then. */
async function smartOf(device: string): Promise<Smart> {
  const args = ["--json", "--health", "--attributes", "--nocheck=standby,0", device];
  const { output } = await runProgram("smartctl", args, {
    timeoutMs: SMART_TIMEOUT_MS,
    statuses: SMART_STATUSES,
    debianPackage: "smartmontools",
  });
  return smartFrom(output);
}

/** From what smartctl printed. Throws Fault programFailed where there is no verdict in it. */
export function smartFrom(output: string): Smart {
  let raw: unknown;
  try {
    raw = JSON.parse(output);
  } catch (cause) {
    throw new Fault("programFailed", "smartctl printed no JSON", { cause });
  }
  const parsed = SmartSchema.safeParse(raw);
  if (!parsed.success) throw new Fault("programFailed", "smartctl tells no health");
  const { data } = parsed;
  const nvme = data.nvme_smart_health_information_log;
  const moved = data.ata_smart_attributes?.table.find(({ id }) => id === ATA_REALLOCATED);
  return {
    passed: data.smart_status.passed,
    temperatureCelsius: data.temperature?.current ?? null,
    powerOnHours: data.power_on_time?.hours ?? null,
    wearPercent: nvme?.percentage_used ?? data.scsi_percentage_used_endurance_indicator ?? null,
    mediaErrors: nvme?.media_errors ?? moved?.raw.value ?? data.scsi_grown_defect_list ?? null,
  };
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no such device any more, or one without a device of its own (loop)
  }
}

function wordOf(file: string): string | null {
  try {
    const word = readFileSync(file, "utf8").trim();
    return word === "" ? null : word;
  } catch {
    return null; // such a device does not tell that
  }
}
