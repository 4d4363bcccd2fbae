// SPDX-License-Identifier: Apache-2.0
//
// The signed manifest of an update (docs/formats/update-manifest.md): which files it has, for what
// it is, what it speaks. Pure: bytes in, a manifest or the Fault that says why not.
//
// Invariants
// - Nothing of a manifest is looked at before its signature over the exact bytes held against a
//   trusted key.
// - Every length in it is bounded before anything is fetched or written because of it.
// - Whoever gets a file compares length and SHA-256 with it, however the file came; so the way of a
//   file needs no trust.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { compareVersions, isVersion } from "#base/release.ts";
import type { Seal } from "#base/world.ts";

export const MANIFEST_FILE = "manifest.json";
export const SIGNATURE_FILE = "manifest.json.sig";
export const MANIFEST_FORMAT = 1;
export const PRODUCT = "cairn";
export const MANIFEST_BYTES_MAX = 16 << 10;
export const SIGNATURE_BYTES_MAX = 1 << 10;
const KEYS_MAX = 16;
const NAME_CHARACTERS_MAX = 96;
const LEVEL_MAX = 1000;
/** Levels that still speak with each other (peer channel, FEATURE_LEVEL_DISTANCE_MAX). */
const LEVEL_DISTANCE_MAX = 1;

export const ROLES = ["uki", "root", "hash"] as const;
export type Role = (typeof ROLES)[number];
/** Larger ones are no file of ours, and fit no slot. */
export const FILE_BYTES_MAX: Readonly<Record<Role, number>> = {
  uki: 256 << 20,
  root: 4 * 2 ** 30,
  hash: 256 << 20,
};

const versionSchema = z.string().max(32).refine(isVersion, "three numbers with dots");
const keyIdSchema = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/);
const level = z.number().int().min(1).max(LEVEL_MAX);
const fileSchema = z
  .strictObject({
    name: z
      .string()
      .max(NAME_CHARACTERS_MAX)
      .regex(/^[A-Za-z0-9][A-Za-z0-9._+-]*$/, "a plain file name"),
    role: z.enum(ROLES),
    bytes: z.number().int().min(1),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    partitionUuid: z
      .string()
      .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
      .optional(),
  })
  .refine((file) => file.bytes <= FILE_BYTES_MAX[file.role], "the file is too large")
  .refine(
    (file) => (file.role === "uki") === (file.partitionUuid === undefined),
    "root and hash have a partitionUuid, a uki has none",
  );

const ManifestSchema = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  product: z.literal(PRODUCT),
  version: versionSchema,
  featureLevel: level,
  diskFormat: level,
  architecture: z.string().regex(/^[a-z0-9_-]{1,32}$/),
  files: z
    .array(fileSchema)
    .length(ROLES.length)
    .refine((files) => ROLES.every((role) => files.some((file) => file.role === role)), {
      message: "one uki, one root and one hash",
    })
    .refine((files) => new Set(files.map((file) => file.name)).size === files.length, {
      message: "each name once",
    })
    .refine((files) => files.every((file) => !file.name.startsWith(MANIFEST_FILE)), {
      message: "a file has the manifest's name",
    }),
  /** For people. */
  built: z.string().max(64),
});
export type Manifest = z.infer<typeof ManifestSchema>;
export type ManifestFile = Manifest["files"][number];

const SignatureSchema = z.strictObject({
  keyId: keyIdSchema,
  signature: z.string().regex(/^[A-Za-z0-9+/]{86}==$/, "64 bytes in base64"),
});
const KeysSchema = z
  .array(z.strictObject({ keyId: keyIdSchema, publicKey: z.string().regex(/^[0-9a-f]{64}$/) }))
  .max(KEYS_MAX);
export type UpdateKeys = z.infer<typeof KeysSchema>;

/** A manifest with what proves it, as it is kept and passed on. */
export interface SignedManifest {
  /** The exact text that was signed. */
  text: string;
  signature: string;
}

/** The trusted keys of `update-keys.json`. Throws Fault corrupt: nothing can be trusted then. */
export function parseUpdateKeys(text: string): UpdateKeys {
  const parsed = KeysSchema.safeParse(asJson(text, "the list of trusted update keys", "corrupt"));
  if (parsed.success) return parsed.data;
  throw new Fault("corrupt", `the list of trusted update keys: ${firstIssue(parsed.error)}`);
}

/** The manifest, once its signature holds. Throws Fault notTrusted or notFitting. */
export function openManifest(
  seal: Pick<Seal, "verify">,
  signed: SignedManifest,
  keys: UpdateKeys,
): Manifest {
  const bytes = new TextEncoder().encode(signed.text);
  if (bytes.length > MANIFEST_BYTES_MAX) {
    throw new Fault("notTrusted", `${MANIFEST_FILE} has more than ${MANIFEST_BYTES_MAX} bytes`);
  }
  if (signed.signature.length > SIGNATURE_BYTES_MAX) {
    throw new Fault("notTrusted", `${SIGNATURE_FILE} is too long`);
  }
  if (signed.signature.trim() === "") {
    throw new Fault("notTrusted", `it is not signed: ${SIGNATURE_FILE} is empty`);
  }
  const parsed = SignatureSchema.safeParse(asJson(signed.signature, SIGNATURE_FILE, "notTrusted"));
  if (!parsed.success) {
    throw new Fault("notTrusted", `${SIGNATURE_FILE}: ${firstIssue(parsed.error)}`);
  }
  const { keyId, signature } = parsed.data;
  const key = keys.find((one) => one.keyId === keyId);
  if (key === undefined) {
    throw new Fault("notTrusted", `it is signed with the key ${keyId}, which is not trusted here`);
  }
  const holds = seal.verify(
    Uint8Array.fromHex(key.publicKey),
    bytes,
    Uint8Array.fromBase64(signature),
  );
  if (!holds) {
    throw new Fault("notTrusted", `${MANIFEST_FILE} was altered, or signed with another key`);
  }
  return parseManifest(signed.text);
}

/** The manifest of a text whose signature was checked before, here or by another unit. */
export function parseManifest(text: string): Manifest {
  const raw = asJson(text, MANIFEST_FILE, "notFitting");
  const head = z.looseObject({ format: z.unknown(), product: z.unknown() }).safeParse(raw);
  if (head.success && head.data.product !== PRODUCT) {
    const product = JSON.stringify(head.data.product ?? null).slice(0, 64);
    throw new Fault("notFitting", `it is for the product ${product}, not for ${PRODUCT}`);
  }
  if (head.success && head.data.format !== MANIFEST_FORMAT) {
    const format = JSON.stringify(head.data.format ?? null).slice(0, 64);
    const ours = `this unit reads format ${MANIFEST_FORMAT}`;
    throw new Fault("notFitting", `${MANIFEST_FILE} has format ${format}; ${ours}`);
  }
  const parsed = ManifestSchema.safeParse(raw);
  if (parsed.success) return parsed.data;
  throw new Fault("notFitting", `${MANIFEST_FILE}: ${firstIssue(parsed.error)}`);
}

export function fileOf(manifest: Manifest, role: Role): ManifestFile {
  const found = manifest.files.find((file) => file.role === role);
  if (found === undefined) throw new Fault("notFitting", `${MANIFEST_FILE} names no ${role}`);
  return found;
}

/** Names a manifest wherever its text is too long: SHA-256 of the signed bytes, hex. */
export function digestOf(seal: Pick<Seal, "sha256">, text: string): string {
  return seal.sha256(new TextEncoder().encode(text)).toHex();
}

/** What an update is held against. */
export interface UpdateGround {
  /** What runs now. */
  version: string;
  architecture: string;
  /** Highest format that a disk here carries; 0: none. */
  diskFormat: number;
  /** What the cluster has committed to; null: in no cluster. */
  featureLevel: number | null;
  /** Whether the owner wants an older version. */
  downgrade: boolean;
}

/** Why a manifest may not be installed on a unit; null: it may. */
export function updateRefusal(manifest: Manifest, ground: UpdateGround): Fault | null {
  const { version, architecture, featureLevel, diskFormat } = manifest;
  const refuse = (sentence: string) => new Fault("notFitting", sentence);
  if (architecture !== ground.architecture) {
    return refuse(`it is for ${architecture}, and this unit is ${ground.architecture}`);
  }
  const order = compareVersions(version, ground.version);
  if (order === 0) return refuse(`version ${version} runs already`);
  // Before all about age: this one no flag overrides.
  if (diskFormat < ground.diskFormat) {
    return refuse(
      `version ${version} reads disks up to format ${diskFormat}, ` +
        `and disks here have format ${ground.diskFormat}`,
    );
  }
  if (ground.featureLevel !== null && featureLevel < ground.featureLevel) {
    return refuse(
      `version ${version} speaks feature level ${featureLevel}, ` +
        `and the cluster is at ${ground.featureLevel}`,
    );
  }
  if (ground.featureLevel !== null && featureLevel > ground.featureLevel + LEVEL_DISTANCE_MAX) {
    return refuse(
      `version ${version} speaks feature level ${featureLevel}, too far from the cluster's ` +
        `${ground.featureLevel}: take a version in between first`,
    );
  }
  if (order < 0 && !ground.downgrade) {
    return refuse(`version ${version} is older than ${ground.version}, which runs`);
  }
  return null;
}

function asJson(text: string, what: string, code: "corrupt" | "notTrusted" | "notFitting") {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new Fault(code, `${what} is no JSON`, { cause });
  }
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return `${issue?.path.join(".") ?? ""} ${issue?.message ?? "cannot be used"}`.trim();
}
