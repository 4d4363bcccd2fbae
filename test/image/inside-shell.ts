// SPDX-License-Identifier: Apache-2.0
//
// A view from inside a box that has no login: a shell on the second serial line, started by a unit
// that the test brings along. The machine's owner hands it in as systemd credentials through SMBIOS
// (systemd.system-credentials(7): systemd.extra-unit.*, systemd.unit-dropin.*), so the image under
// test is not changed by a bit; on a box without such firmware strings nothing of it exists.
//
// The firmware and the boot loader read and write the same line (a stray letter opens their menu),
// so nothing is sent before the shell has said that it is ready.

import { connect } from "node:net";
import { once } from "node:events";
import type { ConsoleLog } from "./console-log.ts";
import { need, until } from "#test/cluster/until.ts";

const UNIT = "cairn-test-shell.service";
const DEVICE = "/dev/ttyS1";

export const SHELL_CREDENTIALS: Readonly<Record<string, string>> = {
  [`systemd.extra-unit.${UNIT}`]: `[Unit]
Description=A test's shell on ${DEVICE}
DefaultDependencies=no
IgnoreOnIsolate=yes
[Service]
ExecStart=/bin/sh -c 'echo; echo cairn-"ready"; exec /bin/sh'
Environment=PS1=
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=${DEVICE}
TTYReset=yes
Restart=always
`,
  "systemd.unit-dropin.sysinit.target~cairn-test": `[Unit]\nWants=${UNIT}\n`,
};

/** Whether a box with these credentials has such a shell. */
export function hasShell(credentials: Readonly<Record<string, string>>): boolean {
  return Object.keys(SHELL_CREDENTIALS).every((name) => credentials[name] !== undefined);
}

/** Types on a serial line that QEMU serves; what the guest does not take in time is dropped. */
export async function typeOn(socketFile: string, text: string): Promise<void> {
  const socket = connect(socketFile);
  socket.setTimeout(TYPE_MS, () => socket.destroy());
  await once(socket, "connect");
  socket.resume(); // what the guest says meanwhile is in the log: it only has to be taken
  socket.end(text);
  await once(socket, "close");
}

export class InsideShell {
  readonly #socket: string;
  readonly #log: ConsoleLog;
  #count = 0;

  constructor(socket: string, log: ConsoleLog) {
    this.#socket = socket;
    this.#log = log;
  }

  /** Runs a command line; what it wrote, and its status. Sent again until the shell is there. */
  async run(command: string, limitMs: number): Promise<{ status: number; output: string }> {
    const number = ++this.#count;
    const since = this.#log.mark();
    // The line comes back as echo: only the shell's own output has these words without the gap.
    const begin = `echo; echo cairn-"begin"-${number}`;
    const end = `status=$?; echo; echo cairn-"end"-${number}:$status:`;
    let sentMs = Number.NEGATIVE_INFINITY;
    const look = async () => {
      const found = between(this.#log.text(since), number);
      if (found !== null) return found;
      need(this.#isReady(), "no shell yet");
      if (performance.now() - sentMs > AGAIN_MS && !this.#begun(since, number)) {
        sentMs = performance.now();
        await typeOn(this.#socket, `${begin}; { ${command}; } 2>&1; ${end}\n`);
      }
      return null;
    };
    return until(`the shell's answer to ${command}`, look, { limitMs });
  }

  #isReady(): boolean {
    const text = this.#log.text();
    return text.lastIndexOf("\ncairn-ready\n") > text.lastIndexOf("BdsDxe: ");
  }

  #begun(since: number, number: number): boolean {
    return this.#log.find(new RegExp(`^cairn-begin-${number}$`), since) !== null;
  }
}

/** A line may be lost while the shell takes over: a serial line keeps little. */
const AGAIN_MS = 5_000;
const TYPE_MS = 5_000;

function between(text: string, number: number): { status: number; output: string } | null {
  const pattern = new RegExp(
    `^cairn-begin-${number}\\n([^]*?)\\n?^cairn-end-${number}:(\\d+):$`,
    "m",
  );
  const found = pattern.exec(text);
  if (found === null) return null;
  return { status: Number(found[2]), output: (found[1] ?? "").replace(/\n$/, "") };
}
