// SPDX-License-Identifier: Apache-2.0
//
// The payload of an update on this unit: opened by the keys this unit trusts, however it came, kept
// for its own slot and for other units.
//
// Invariants
// - Nothing is received for a manifest whose signature was not checked here.
// - What lay here before a restart counts only if its manifest still opens: keys may have changed.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  SIGNATURE_BYTES_MAX,
  SIGNATURE_FILE,
  digestOf,
  fileOf,
  openManifest,
  parseUpdateKeys,
} from "#cluster/update-manifest.ts";
import type { Manifest, ManifestFile, SignedManifest } from "#cluster/update-manifest.ts";
import { payloadSource } from "#machine/payload-sources.ts";
import { receivePayload } from "#machine/payload-store.ts";
import type { Payload, PayloadReceiver } from "#machine/payload-store.ts";
import type { SlotPayload } from "#machine/slot-writer.ts";
import type { UpdateMachine } from "#machine/update-machine.ts";
import type { UploadState } from "./update-backend.ts";

/** A whole payload. */
export interface KeptPayload {
  manifest: Manifest;
  signed: SignedManifest;
  digest: string;
}

/** Gives a file's bytes from `offsetBytes` on. */
export type PiecesOf = (file: ManifestFile, offsetBytes: number) => AsyncIterable<Uint8Array>;

export class UpdatePayloads {
  readonly #world: Pick<World, "seal" | "log">;
  readonly #machine: UpdateMachine;
  #kept: KeptPayload | null = null;
  /** An upload under way: pieces come by requests, and may stop coming. */
  #upload: { receiver: PayloadReceiver; kept: KeptPayload } | null = null;
  #receiving = false;

  constructor(world: Pick<World, "seal" | "log">, machine: UpdateMachine) {
    this.#world = world;
    this.#machine = machine;
    this.#kept = this.#found();
  }

  get kept(): KeptPayload | null {
    return this.#kept;
  }

  /** What is being received at the moment. */
  get progress(): { version: string; doneBytes: number; totalBytes: number } | null {
    const { receiving } = this.#machine.payloads;
    if (receiving === null) return null;
    const { doneBytes, totalBytes, payload } = receiving;
    return { version: payload.version, doneBytes, totalBytes };
  }

  /** The manifest, by the keys that this unit trusts. Throws Fault notTrusted, notFitting. */
  open(signed: SignedManifest): Manifest {
    const text = this.#machine.trustedKeys();
    if (text === null) throw new Fault("notTrusted", "this unit has no keys to trust");
    return openManifest(this.#world.seal, signed, parseUpdateKeys(text));
  }

  /** Manifest and signature from a folder or a web server, and its files after `check`. */
  async load(place: string, check: (manifest: Manifest) => void): Promise<KeptPayload> {
    const source = payloadSource(place);
    const text = await source.small(MANIFEST_FILE, MANIFEST_BYTES_MAX);
    if (text === null) throw new Fault("notFound", `${place} has no ${MANIFEST_FILE}`);
    const signature = await source.small(SIGNATURE_FILE, SIGNATURE_BYTES_MAX);
    if (signature === null) {
      throw new Fault("notTrusted", `it is not signed: ${place} has no ${SIGNATURE_FILE}`);
    }
    const signed = { text, signature };
    check(this.open(signed));
    return this.receive(signed, (file) => source.pieces(file.name));
  }

  /** All files of a manifest; kept when whole. */
  async receive(signed: SignedManifest, pieces: PiecesOf): Promise<KeptPayload> {
    const kept = this.#asKept(signed);
    if (this.#kept?.digest === kept.digest) return this.#kept;
    if (this.#receiving) throw new Fault("conflict", "another update is being received here");
    this.#receiving = true;
    this.#upload = null; // its next piece is told that it is awaited no more
    const { files } = kept.manifest;
    try {
      await receivePayload(this.#machine.payloads, payloadOf(kept), (name, offsetBytes) => {
        const file = files.find((one) => one.name === name);
        if (file === undefined) throw new Fault("internal", `${name} is in no manifest`);
        return pieces(file, offsetBytes);
      });
    } finally {
      this.#receiving = false;
      this.#kept = this.#found();
    }
    return kept;
  }

  /** Takes the place of an upload that was begun before and not ended. */
  async beginUpload(signed: SignedManifest): Promise<UploadState> {
    const kept = this.#asKept(signed);
    const { version } = kept.manifest;
    if (this.#kept?.digest === kept.digest) return { version, wants: null };
    if (this.#receiving) throw new Fault("conflict", "another update is being received here");
    const receiver = await this.#machine.payloads.begin(payloadOf(kept));
    this.#upload = { receiver, kept };
    this.#kept = this.#found();
    return { version, wants: receiver.wants };
  }

  async uploadPiece(name: string, offsetBytes: number, piece: Uint8Array): Promise<UploadState> {
    const upload = this.#upload;
    if (upload === null) throw new Fault("conflict", "no upload is under way; begin it");
    const { version } = upload.kept.manifest;
    const whole = await upload.receiver.take(name, offsetBytes, piece);
    if (whole) {
      this.#upload = null;
      this.#kept = this.#found();
    }
    return { version, wants: upload.receiver.wants };
  }

  /** For another unit. Throws Fault notFound for anything but the kept payload's files. */
  async read(piece: {
    digest: string;
    name: string;
    offsetBytes: number;
    lengthBytes: number;
  }): Promise<Uint8Array> {
    const kept = this.#kept;
    const file = kept?.manifest.files.find((one) => one.name === piece.name);
    if (kept?.digest !== piece.digest || file === undefined) {
      throw new Fault("notFound", `${piece.name} of that update is not on this unit`);
    }
    return this.#machine.payloads.read(kept.manifest.version, file.name, piece);
  }

  /** The kept payload as the slot writer takes it. */
  slotPayload(kept: KeptPayload): SlotPayload {
    const { manifest } = kept;
    const { version } = manifest;
    const part = (role: "root" | "hash" | "uki") => {
      const { name, bytes, sha256, partitionUuid } = fileOf(manifest, role);
      const path = this.#machine.payloads.fileOf(version, name);
      return { path, bytes, sha256, partitionId: partitionUuid ?? "" };
    };
    return { version, uki: part("uki"), root: part("root"), hash: part("hash") };
  }

  #asKept(signed: SignedManifest): KeptPayload {
    const manifest = this.open(signed);
    return { manifest, signed, digest: digestOf(this.#world.seal, signed.text) };
  }

  #found(): KeptPayload | null {
    const { payloads } = this.#machine;
    const { version } = payloads;
    if (version === null) return null;
    const text = payloads.paper(version, MANIFEST_FILE) ?? "";
    const signature = payloads.paper(version, SIGNATURE_FILE) ?? "";
    try {
      return this.#asKept({ text, signature });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const reason = error.message;
      this.#world.log.write("warn", "an update kept here is thrown away", { version, reason });
      payloads.drop(version);
      return null;
    }
  }
}

function payloadOf(kept: KeptPayload): Payload {
  const { manifest, signed } = kept;
  return {
    version: manifest.version,
    papers: { [MANIFEST_FILE]: signed.text, [SIGNATURE_FILE]: signed.signature },
    files: manifest.files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 })),
  };
}
