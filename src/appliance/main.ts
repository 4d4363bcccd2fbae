// SPDX-License-Identifier: Apache-2.0
//
// The entry point of the executable: gives the command line the machine it runs on, and nothing
// else. The daemon is loaded only when it is asked for, so that a command of the CLI starts at
// once.

import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { Fault } from "#base/fault.ts";
import { takeRuntimeSettings } from "#machine/runtime-settings.ts";
import type { CliMachine, SecretFile } from "./cli/machine.ts";
import { runCli } from "./cli/run.ts";

/** As if SIGPIPE had ended us: whoever read our output has left. */
const EXIT_CLOSED_PIPE = 141;

const machine: CliMachine = {
  splitArguments: (args, options) => {
    const { tokens } = parseArgs({ args: [...args], options, strict: false, tokens: true });
    return tokens;
  },
  fetch: (url, { method, headers, body, unix, ca, timeoutMs }) =>
    fetch(url, {
      method,
      headers,
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { body }),
      ...(unix === undefined ? {} : { unix }),
      ...(ca === undefined ? {} : { tls: { ca } }),
    }),
  readText,
  readPiece,
  exists: existsSync,
  directory: process.cwd(),
  write: (text) => writeTo(Bun.stdout, text),
  complain: (text) => writeTo(Bun.stderr, text),
  isTerminal: process.stdout.isTTY === true,
  columns: process.stdout.columns > 0 ? process.stdout.columns : null,
  endQuietly: () => void process.once("SIGINT", () => process.exit(0)),
  ask,
  pause: (ms) => Bun.sleep(ms),
  nowMs: () => performance.now(),
  runUnit: async (configuration) => {
    takeRuntimeSettings();
    const { runUnit } = await import("./run-unit.ts");
    return runUnit(configuration);
  },
  runApplianceUnit: async (start, disksIn) => {
    takeRuntimeSettings();
    const { runApplianceUnit } = await import("./run-unit.ts");
    return runApplianceUnit(start, disksIn, readText);
  },
  setUpNetwork: async (start) => {
    const { setUpNetwork } = await import("./run-appliance.ts");
    return setUpNetwork(start, readText);
  },
  readMediumFile: async (image, name) => {
    const { readEspFile } = await import("#machine/esp/esp-file.ts");
    const bytes = readEspFile(image, name);
    return bytes === null ? null : new TextDecoder().decode(bytes);
  },
  writeMediumFile: async (image, name, text) => {
    const { writeEspFile } = await import("#machine/esp/esp-file.ts");
    writeEspFile(image, name, new TextEncoder().encode(text), Date.now());
  },
  sha256: (text) => createHash("sha256").update(text).digest("hex"),
  randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  reserveSecretFile,
  runScreen: async (start) => {
    const { runScreen } = await import("./run-screen.ts");
    return runScreen(start);
  },
  runRecovery: async (start) => {
    const { runRecovery } = await import("./run-recovery.ts");
    return runRecovery(start);
  },
  executable: process.execPath,
  runAttach: async (start) => {
    const { runAttach } = await import("./run-attach.ts");
    return runAttach(start, () => new Worker(new URL("./tls-main.ts", import.meta.url).href));
  },
  attachments: async () => (await import("./run-attach.ts")).localMachine,
  box: async () => {
    const { ApplianceBox } = await import("#machine/appliance-box.ts");
    return new ApplianceBox();
  },
};

const SECRET_MODE = 0o600;

async function reserveSecretFile(path: string): Promise<SecretFile> {
  try {
    writeFileSync(path, "", { flag: "wx", mode: SECRET_MODE });
  } catch (error) {
    const code = String((error as { code?: unknown }).code);
    if (code === "EEXIST") throw new Fault("conflict", `${path} is there already; it is kept`);
    throw new Fault("badConfiguration", `${path} cannot be written (${code})`, { cause: error });
  }
  return {
    fill: async (text) => {
      const { writeWhole } = await import("#machine/state-directory.ts");
      writeWhole(path, new TextEncoder().encode(text));
    },
    discard: async () => rmSync(path, { force: true }),
  };
}

function readText(path: string, bytesMax: number): string | null {
  try {
    if (statSync(path).size > bytesMax) {
      throw new Fault("badConfiguration", `${path} is larger than ${bytesMax} bytes`);
    }
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    if (error instanceof Fault) throw error;
    throw new Fault("badConfiguration", `${path} cannot be read (${String(code)})`, {
      cause: error,
    });
  }
}

function readPiece(
  path: string,
  offsetBytes: number,
  lengthBytes: number,
): Uint8Array<ArrayBuffer> | null {
  try {
    const file = openSync(path, "r");
    try {
      const piece = new Uint8Array(lengthBytes);
      return piece.subarray(0, readSync(file, piece, 0, lengthBytes, offsetBytes));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new Fault("badMachine", `${path} cannot be read (${String(code)})`, { cause: error });
  }
}

async function writeTo(output: Bun.BunFile, text: string): Promise<void> {
  try {
    await Bun.write(output, text);
  } catch (error) {
    if ((error as { code?: unknown }).code === "EPIPE") process.exit(EXIT_CLOSED_PIPE);
    throw error;
  }
}

async function ask(question: string): Promise<string | null> {
  if (process.stdin.isTTY !== true) return null;
  using lines = createInterface({ input: process.stdin, output: process.stderr });
  return lines.question(question);
}

process.exit(await runCli(machine, process.argv.slice(2)));
