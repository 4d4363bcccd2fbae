// SPDX-License-Identifier: Apache-2.0
//
// What the command line needs of the machine it runs on. Real in main.ts, made up in tests.

import type { Configuration, ReadText } from "#appliance/configuration.ts";
import type { ApplianceStart, NetworkFound, NetworkStart } from "#appliance/run-appliance.ts";
import type { RecoveryStart } from "#appliance/run-recovery.ts";
import type { AttachStart, LocalMachine } from "#appliance/run-attach.ts";
import type { ScreenStart } from "#appliance/run-screen.ts";
import type { ApplianceBox } from "#machine/appliance-box.ts";

/** One piece of an argument list, as `parseArgs` of node:util tells them apart. */
export type ArgumentToken =
  | { kind: "option"; name: string; rawName: string; value: string | undefined }
  | { kind: "positional"; value: string }
  | { kind: "option-terminator" };

export type ArgumentOptions = Record<string, { type: "string" | "boolean"; short?: string }>;

export interface FetchOptions {
  method: string;
  headers: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  /** Path of the unix socket to ask, instead of the URL's host. */
  unix?: string;
  /** Whose certificates are believed, PEM; not said: what the machine believes. */
  ca?: string;
  timeoutMs: number;
}

export interface SecretFile {
  /** Durable when it resolves. */
  fill(text: string): Promise<void>;
  discard(): Promise<void>;
}

export interface CliMachine {
  splitArguments(args: readonly string[], options: ArgumentOptions): ArgumentToken[];
  fetch(url: string, options: FetchOptions): Promise<Response>;
  readText: ReadText;
  /** At most `lengthBytes` of a file; null when there is none. */
  readPiece(path: string, offsetBytes: number, lengthBytes: number): Uint8Array<ArrayBuffer> | null;
  exists(path: string): boolean;
  /** Where relative paths begin. */
  directory: string;
  /** Results, for programs and people. */
  write(text: string): Promise<void>;
  /** Notes and failures, beside the results. */
  complain(text: string): Promise<void>;
  /** Whether a person looks at what `write` writes. */
  isTerminal: boolean;
  /** Of that terminal, characters; null: none, or not known. */
  columns: number | null;
  /** From here on Ctrl-C is no failure: whoever watches has seen enough. */
  endQuietly(): void;
  /** A person's answer; null when nobody can be asked. */
  ask(question: string): Promise<string | null>;
  pause(ms: number): Promise<void>;
  /** Never goes back; for how long something was waited for. */
  nowMs(): number;
  /** The daemon; resolves after its orderly stop. */
  runUnit(configuration: Configuration): Promise<unknown>;
  /** The daemon on an appliance. `disksIn`: only the disks that links in there point to. */
  runApplianceUnit(start: ApplianceStart, disksIn: string | null): Promise<unknown>;
  setUpNetwork(start: NetworkStart): Promise<NetworkFound>;
  /** What a file on the boot medium of an image or a disk says; null: it is not there. */
  readMediumFile(image: string, name: string): Promise<string | null>;
  writeMediumFile(image: string, name: string, text: string): Promise<void>;
  /** SHA-256 of a text, hex. */
  sha256(text: string): string;
  /** So many bytes that nobody can guess. */
  randomBytes(count: number): Uint8Array;
  /**
   * Makes a file that only this user may read, empty; a Fault conflict when there is one. Answers
   * what fills it, or takes it away again.
   */
  reserveSecretFile(path: string): Promise<SecretFile>;
  /** The screen; resolves when it is left or told to stop. */
  runScreen(start: ScreenStart): Promise<unknown>;
  /** The recovery page; resolves when the daemon was started again. */
  runRecovery(start: RecoveryStart): Promise<unknown>;
  /** The executable that runs, by its absolute path. */
  executable: string;
  /** Attaches a volume; resolves when it is told to stop. */
  runAttach(start: AttachStart): Promise<unknown>;
  /** What is attached on this machine. */
  attachments(): Promise<LocalMachine>;
  /** This machine as an appliance, which it need not be. */
  box(): Promise<ApplianceBox>;
}
