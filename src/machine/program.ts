// SPDX-License-Identifier: Apache-2.0
//
// Running a program of the system to its end: bounded in time and output, its answer parsed and
// never screen-scraped. Control thread only.

import { execFile } from "node:child_process";
import { Fault } from "#base/fault.ts";

const TIMEOUT_MS_DEFAULT = 10_000;
const OUTPUT_BYTES_MAX = 8 << 20;
const SHOWN_CHARACTERS_MAX = 400;

export interface ProgramOptions {
  input?: string;
  timeoutMs?: number;
  /** Exit statuses that are an answer; others are a Fault. Default: 0. */
  statuses?: readonly number[];
  /** The Debian package that brings it, for the message when it is missing. */
  debianPackage?: string;
}

export interface ProgramAnswer {
  status: number;
  output: string;
}

/** Throws Fault badMachine when it is missing, programFailed when it fails or takes too long. */
export function runProgram(
  name: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<ProgramAnswer>();
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS_DEFAULT;
  const child = execFile(
    name,
    [...args],
    {
      timeout: timeoutMs,
      killSignal: "SIGKILL",
      maxBuffer: OUTPUT_BYTES_MAX,
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    },
    (failure, output, errors) => {
      if (failure === null) {
        resolve({ status: 0, output });
        return;
      }
      const { code, killed } = failure as { code?: string | number; killed?: boolean };
      if (typeof code === "number" && options.statuses?.includes(code) === true) {
        resolve({ status: code, output });
        return;
      }
      if (code === "ENOENT") {
        const from = options.debianPackage ?? name;
        reject(new Fault("badMachine", `the program ${name} is missing (package ${from})`));
        return;
      }
      const said = `${errors}${output}`.trim().slice(0, SHOWN_CHARACTERS_MAX);
      const how = killed === true ? `did not end within ${timeoutMs} ms` : `ended with ${code}`;
      const call = [name, ...args].join(" ");
      reject(new Fault("programFailed", `"${call}" ${how}: ${said}`, { cause: failure }));
    },
  );
  child.stdin?.on("error", () => {
    // It ended before it read all: its exit status tells why.
  });
  child.stdin?.end(options.input ?? "");
  return promise;
}

/** The JSON it prints; null when it prints nothing. */
export async function runForJson(
  name: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<unknown> {
  const { output } = await runProgram(name, args, options);
  if (output.trim() === "") return null;
  try {
    return JSON.parse(output) as unknown;
  } catch (cause) {
    throw new Fault("programFailed", `${name} printed no JSON`, { cause });
  }
}
