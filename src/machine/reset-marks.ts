// SPDX-License-Identifier: Apache-2.0
//
// What a person asked this box to forget: small files beside the state directory, so that they
// outlive it. The factory mark is carried out by the next boot, before the daemon, and goes last
// (factory-reset.ts); the network mark stays, and makes the boot's network phase pass over the
// fixed addresses of the boot media that were there when it was asked, until they are stamped anew.
//
// A box whose state partition cannot be used has its /var in memory. The factory mark then lies on
// the ESP, which is slower and less sure of itself, but outlives the restart.
//
// Invariant: a mark is there whole or not at all (state-directory.ts, writeWhole), and what is
// there and cannot be read is told and never guessed at: nothing is wiped by it.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { syncFolder, writeWhole } from "./state-directory.ts";

/**
 * settings: the box comes back as a new unit, its data disks untouched. everything: they are
 * emptied too, and what was stamped on the boot disk is gone.
 */
export type ResetLevel = "settings" | "everything";
const LEVELS: readonly string[] = ["settings", "everything"] satisfies ResetLevel[];

const FOLDER = "var/lib/cairn-reset";
const FACTORY = "factory.json";
const NETWORK = "network.json";
const ESP_FACTORY = "efi/cairn-reset.json";
/** Says why there is no state partition (firmware/boot/initrd); absent: there is one. */
export const STATE_PROBLEM_FILE = "run/cairn/state-problem";
/** Of what earlier resets gave up. */
const PASSED_OVER_MAX = 32;
const FOLDER_MODE = 0o700;

/** Where a boot medium's settings lie; the later one is the stronger. */
export const MEDIUM_FILES: readonly string[] = ["efi/cairn.json", "run/cairn-medium/cairn.json"];

/** The fixed addresses that the network phase went by (src/appliance/run-appliance.ts). */
export const NETWORK_IN_FORCE_FILE = "run/cairn/network.json";

export class ResetMarks {
  readonly #root: string;
  readonly #folder: string;

  constructor(root: string) {
    this.#root = root;
    this.#folder = path.join(root, FOLDER);
  }

  /** Null: /var is the state partition. */
  get stateProblem(): string | null {
    return readIfThere(path.join(this.#root, STATE_PROBLEM_FILE))?.toString("utf8").trim() ?? null;
  }

  askFactory(level: ResetLevel): void {
    if (this.stateProblem === null) this.#write(FACTORY, { level });
    else writeWhole(path.join(this.#root, ESP_FACTORY), bytesOf({ level }));
  }

  /** Null: nobody asked. Throws Fault corrupt when it makes no sense. */
  factory(): ResetLevel | null {
    const levels = [path.join(this.#folder, FACTORY), path.join(this.#root, ESP_FACTORY)].map(
      (file) => levelIn(file),
    );
    // Of two the one that goes further: whoever asked for it wants nothing left.
    return levels.find((level) => level === "everything") ?? levels.find((one) => one) ?? null;
  }

  factoryDone(): void {
    remove(path.join(this.#root, ESP_FACTORY));
    remove(path.join(this.#folder, FACTORY));
  }

  /**
   * From now on the fixed addresses of the media that are there now do not count, and neither do
   * those that are in force, wherever they came from.
   */
  askNetwork(): void {
    const passedOver = [...MEDIUM_FILES, NETWORK_IN_FORCE_FILE].flatMap((file) => {
      const text = readIfThere(path.join(this.#root, file));
      return text === null ? [] : [digestOf(text)];
    });
    const before = this.#passedOver().filter((digest) => !passedOver.includes(digest));
    const all = [...before, ...passedOver].slice(-PASSED_OVER_MAX);
    this.#write(NETWORK, { passedOver: all });
  }

  /** Fixed addresses with this text, as JSON, count again: somebody has set them anew. */
  wantNetwork(text: string): void {
    const left = this.#passedOver().filter((digest) => digest !== digestOf(Buffer.from(text)));
    if (left.length < this.#passedOver().length) this.#write(NETWORK, { passedOver: left });
  }

  /**
   * Whether the fixed addresses on a boot medium with this text are passed over, or these ones,
   * as JSON.
   */
  passesOverNetworkOf(text: string): boolean {
    return this.#passedOver().includes(digestOf(Buffer.from(text)));
  }

  /** A mark that makes no sense asks for nothing: what is stamped counts. */
  #passedOver(): string[] {
    try {
      const mark = markIn(path.join(this.#folder, NETWORK)) as { passedOver?: unknown } | null;
      const list: unknown[] = Array.isArray(mark?.passedOver) ? mark.passedOver : [];
      return list.filter((one): one is string => typeof one === "string");
    } catch (error) {
      if (error instanceof Fault) return [];
      throw error;
    }
  }

  networkDone(): void {
    remove(path.join(this.#folder, NETWORK));
  }

  #write(name: string, mark: object): void {
    mkdirSync(this.#folder, { recursive: true, mode: FOLDER_MODE });
    syncFolder(path.dirname(this.#folder));
    writeWhole(path.join(this.#folder, name), bytesOf(mark));
  }
}

function bytesOf(mark: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(mark)}\n`);
}

function levelIn(file: string): ResetLevel | null {
  const mark = markIn(file);
  if (mark === null) return null;
  const { level } = mark as { level?: unknown };
  if (typeof level === "string" && LEVELS.includes(level)) return level as ResetLevel;
  throw new Fault("corrupt", `${file} names no kind of reset`);
}

function markIn(file: string): object | null {
  const bytes = readIfThere(file);
  if (bytes === null) return null;
  try {
    const mark: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof mark === "object" && mark !== null) return mark;
  } catch (cause) {
    throw new Fault("corrupt", `${file} is no JSON`, { cause });
  }
  throw new Fault("corrupt", `${file} is no mark`);
}

function remove(file: string): void {
  if (readIfThere(file) === null) return;
  rmSync(file, { force: true });
  syncFolder(path.dirname(file));
}

function readIfThere(file: string): Buffer | null {
  try {
    return readFileSync(file);
  } catch (cause) {
    const code = (cause as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new Fault("badMachine", `${file} cannot be read (${String(code)})`, { cause });
  }
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
