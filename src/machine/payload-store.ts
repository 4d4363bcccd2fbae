// SPDX-License-Identifier: Apache-2.0
//
// Payloads of updates on this unit: a folder per version with manifest, signature and files, kept
// until another version takes its place, so that other units may have it from here.
//
// Invariants
// - A file is taken piece by piece and never beyond the length it was said to have; it counts only
//   once length and SHA-256 are right. A payload counts only once all its files do: until then it
//   lies in a folder with another name (`.new`), which the next start throws away.
// - Nothing is begun for which there is no room, with a reserve for the unit's own state.
// - One payload is kept, and one is received at a time.

import { createHash, type Hash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { open, statfs, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { isVersion } from "#base/release.ts";
import { syncFolder, writeWhole } from "./state-directory.ts";

/** Left free for identity, control store and journal. */
const RESERVE_BYTES = 64 << 20;
const UNFINISHED = ".new";
/** Written and not yet on the disk, bytes. */
const DIRTY_BYTES_MAX = 16 << 20;

export interface PayloadFile {
  name: string;
  bytes: number;
  /** Hex. */
  sha256: string;
}

export interface Payload {
  version: string;
  /** Small files beside those of the payload: the manifest and its signature, as they came. */
  papers: Readonly<Record<string, string>>;
  files: readonly PayloadFile[];
}

export class PayloadStore {
  readonly folder: string;
  readonly #freeBytes: () => Promise<number>;
  #receiving: PayloadReceiver | null = null;

  /** Throws away what an interrupted start left. `freeBytes` for tests. */
  constructor(folder: string, freeBytes?: () => Promise<number>) {
    this.folder = folder;
    this.#freeBytes = freeBytes ?? (() => freeBytesOf(folder));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(folder)) {
      if (name.endsWith(UNFINISHED)) rmSync(this.#pathOf(name), { recursive: true, force: true });
    }
  }

  /** The version whose payload is whole; null: none. */
  get version(): string | null {
    return readdirSync(this.folder).find((name) => isVersion(name)) ?? null;
  }

  /** What is being received, or null. */
  get receiving(): PayloadReceiver | null {
    return this.#receiving;
  }

  /** A paper of a whole payload. */
  paper(version: string, name: string): string | null {
    const file = this.fileOf(version, name);
    return existsSync(file) ? readFileSync(file, "utf8") : null;
  }

  fileOf(version: string, name: string): string {
    assert(isVersion(version), "a version names a folder");
    assert(path.basename(name) === name && !name.startsWith("."), "a plain file name");
    return path.join(this.folder, version, name);
  }

  /** At most `lengthBytes` of a whole payload's file. Throws Fault notFound. */
  async read(
    version: string,
    name: string,
    at: { offsetBytes: number; lengthBytes: number },
  ): Promise<Uint8Array> {
    let file: FileHandle;
    try {
      file = await open(this.fileOf(version, name), "r");
    } catch (cause) {
      throw new Fault("notFound", `no ${name} of version ${version} is here`, { cause });
    }
    try {
      const buffer = new Uint8Array(at.lengthBytes);
      const { bytesRead } = await file.read(buffer, 0, at.lengthBytes, at.offsetBytes);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }

  /** Makes room and begins to receive; what was received before, also of another, is let go. */
  async begin(payload: Payload): Promise<PayloadReceiver> {
    await this.#receiving?.abandon();
    this.#receiving = null;
    const kept = this.version;
    const needed = payload.files.reduce((sum, file) => sum + file.bytes, 0);
    const folder = this.#pathOf(payload.version + UNFINISHED);
    rmSync(folder, { recursive: true, force: true });
    const before = await this.#freeBytes();
    // One payload is kept: the older one goes first, if only that makes room for this one.
    if (before < needed + RESERVE_BYTES && kept !== null) this.drop(kept);
    const free = await this.#freeBytes();
    if (free < needed + RESERVE_BYTES) {
      const [want, have] = [needed + RESERVE_BYTES, free].map((bytes) =>
        Math.ceil(bytes / 2 ** 20),
      );
      throw new Fault("noSpace", `the update needs ${want} MiB on this unit, ${have} are free`);
    }
    mkdirSync(folder, { mode: 0o700 });
    const receiver = new PayloadReceiver(payload, folder, () => this.#take(payload, folder));
    this.#receiving = receiver;
    return receiver;
  }

  /** Ends a reception that came to nothing. */
  async giveUp(receiver: PayloadReceiver): Promise<void> {
    await receiver.abandon();
    if (this.#receiving === receiver) this.#receiving = null;
  }

  drop(version: string): void {
    // Renamed first: a payload that lost some of its files must not count.
    const going = this.#pathOf(version + UNFINISHED);
    rmSync(going, { recursive: true, force: true });
    if (existsSync(this.#pathOf(version))) renameSync(this.#pathOf(version), going);
    syncFolder(this.folder);
    rmSync(going, { recursive: true, force: true });
  }

  #take(payload: Payload, folder: string): void {
    for (const [name, text] of Object.entries(payload.papers)) {
      writeWhole(path.join(folder, name), new TextEncoder().encode(text));
    }
    syncFolder(folder);
    const kept = this.version;
    if (kept !== null) this.#remove(kept);
    renameSync(folder, this.#pathOf(payload.version));
    syncFolder(this.folder);
    this.#receiving = null;
  }

  #remove(version: string): void {
    // Beside the one that takes its place, whose unfinished folder has the same name.
    const going = this.#pathOf(`old${UNFINISHED}`);
    rmSync(going, { recursive: true, force: true });
    renameSync(this.#pathOf(version), going);
    syncFolder(this.folder);
    rmSync(going, { recursive: true, force: true });
  }

  #pathOf(name: string): string {
    return path.join(this.folder, name);
  }
}

/** Takes the files of one payload, piece by piece and in the order of the payload. */
export class PayloadReceiver {
  readonly payload: Payload;
  readonly #folder: string;
  readonly #finish: () => void;
  #index = 0;
  #file: FileHandle | null = null;
  #hash: Hash = createHash("sha256");
  #takenBytes = 0;
  #dirtyBytes = 0;
  #busy = false;
  #over = false;

  constructor(payload: Payload, folder: string, finish: () => void) {
    this.payload = payload;
    this.#folder = folder;
    this.#finish = finish;
  }

  /** What comes next, and from where; null: all files are here. */
  get wants(): { name: string; offsetBytes: number; leftBytes: number } | null {
    const file = this.payload.files[this.#index];
    if (file === undefined) return null;
    const { name, bytes } = file;
    return { name, offsetBytes: this.#takenBytes, leftBytes: bytes - this.#takenBytes };
  }

  get doneBytes(): number {
    const whole = this.payload.files.slice(0, this.#index);
    return whole.reduce((sum, file) => sum + file.bytes, this.#takenBytes);
  }
  get totalBytes(): number {
    return this.payload.files.reduce((sum, file) => sum + file.bytes, 0);
  }

  /**
   * The next piece of a file; true once the payload is whole. Throws Fault conflict when it is not
   * the piece that comes next, notTrusted when the file is not the one that was signed: it then has
   * to come again from its beginning.
   */
  async take(name: string, offsetBytes: number, piece: Uint8Array): Promise<boolean> {
    const wants = this.wants;
    if (this.#over || this.#busy || wants === null) {
      throw new Fault("conflict", "no piece of an update is awaited now");
    }
    if (wants.name !== name || wants.offsetBytes !== offsetBytes) {
      throw new Fault("conflict", `awaited is ${wants.name} from byte ${wants.offsetBytes}`);
    }
    if (piece.length > wants.leftBytes) {
      throw new Fault("notTrusted", `${name} is longer than the file that was signed`);
    }
    this.#busy = true;
    try {
      this.#file ??= await created(path.join(this.#folder, name));
      await writeFully(this.#file, piece);
      this.#hash.update(piece);
      this.#takenBytes += piece.length;
      this.#dirtyBytes += piece.length;
      if (this.#dirtyBytes >= DIRTY_BYTES_MAX) await this.#sync();
      if (piece.length === wants.leftBytes) await this.#fileEnded(name);
      if (this.wants !== null) return false;
      this.#over = true;
      this.#finish();
      return true;
    } finally {
      this.#busy = false;
    }
  }

  /** Lets go of what was received. */
  async abandon(): Promise<void> {
    this.#over = true;
    await this.#close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #fileEnded(name: string): Promise<void> {
    await this.#sync();
    await this.#close();
    const expected = this.payload.files[this.#index]?.sha256;
    const same = this.#hash.digest("hex") === expected;
    this.#hash = createHash("sha256");
    this.#takenBytes = 0;
    if (!same) {
      rmSync(path.join(this.#folder, name), { force: true });
      throw new Fault("notTrusted", `${name} is not the file that was signed`);
    }
    this.#index++;
  }

  async #sync(): Promise<void> {
    this.#dirtyBytes = 0;
    await this.#file?.datasync();
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }
}

async function created(file: string): Promise<FileHandle> {
  try {
    return await open(file, "w", 0o600);
  } catch (cause) {
    throw new Fault("badMachine", `${file} cannot be made`, { cause });
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    try {
      const { bytesWritten } = await file.write(bytes, at, bytes.length - at);
      at += bytesWritten;
    } catch (cause) {
      const full = (cause as { code?: string }).code === "ENOSPC";
      if (full) throw new Fault("noSpace", "the unit's own disk is full", { cause });
      throw new Fault("badMachine", "the unit's own disk cannot be written", { cause });
    }
  }
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** Brings a whole payload in from where `pieces` reads; lets go of what it has where that fails. */
export async function receivePayload(
  store: PayloadStore,
  payload: Payload,
  pieces: (name: string, offsetBytes: number) => AsyncIterable<Uint8Array>,
): Promise<void> {
  const receiver = await store.begin(payload);
  try {
    for (let wants = receiver.wants; wants !== null; wants = receiver.wants) {
      await receiveFile(receiver, wants.name, pieces(wants.name, wants.offsetBytes));
    }
  } catch (error) {
    await store.giveUp(receiver);
    throw error;
  }
}

async function receiveFile(
  receiver: PayloadReceiver,
  name: string,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  for await (const piece of pieces) {
    if (piece.length === 0) continue;
    const wants = receiver.wants;
    if (wants?.name !== name) {
      throw new Fault("notTrusted", `${name} is longer than the file that was signed`);
    }
    await receiver.take(name, wants.offsetBytes, piece);
  }
  if (receiver.wants?.name === name) {
    throw new Fault("notTrusted", `${name} is shorter than the file that was signed`);
  }
}
