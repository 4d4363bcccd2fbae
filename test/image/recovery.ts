// SPDX-License-Identifier: Apache-2.0
//
// The recovery page of a booted box, as its owner uses it: signed in by the code that the screen
// shows, read, and told what to do.

import { CHANGE_MS } from "./appliances.ts";
import type { Box } from "./box.ts";
import type { Rack } from "./rack.ts";
import { need } from "#test/cluster/until.ts";

const ANSWER_MS = 60_000;
const FILE = "/run/cairn/recovery.json";

/** In place of the daemon until the next start: ends at once, with words. */
const DROP_IN = [
  "[Service]",
  "ExecStart=",
  `ExecStart=/bin/sh -c "echo cairn: broken on purpose >&2; exit 70"`,
];

const DROP_IN_FOLDER = "/run/systemd/system/cairn.service.d";

/** What made it fail is over; nothing of ours starts it again. */
export async function mendDaemon(box: Box): Promise<void> {
  const steps = `rm -r ${DROP_IN_FOLDER} && systemctl daemon-reload`;
  const { status, output } = await box.shell.run(steps, ANSWER_MS);
  if (status !== 0) throw new Error(`${box.name}: the daemon is not mended: ${output}`);
}

/** The daemon of a running box fails from now on until the box restarts, or is mended. */
export async function breakDaemon(box: Box): Promise<void> {
  const folder = DROP_IN_FOLDER;
  const lines = DROP_IN.map((line) => `'${line}'`).join(" ");
  const steps = [
    `mkdir -p ${folder}`,
    `printf '%s\\n' ${lines} >${folder}/90-broken.conf`,
    "systemctl daemon-reload",
    "systemctl restart --no-block cairn.service",
  ];
  const { status, output } = await box.shell.run(steps.join(" && "), ANSWER_MS);
  if (status !== 0) throw new Error(`${box.name}: the daemon is not broken: ${output}`);
}

export class RecoveryVisit {
  readonly #box: Box;
  readonly #cookie: string;

  private constructor(box: Box, cookie: string) {
    this.#box = box;
    this.#cookie = cookie;
  }

  /** Waits for the page, and signs in. */
  static async begin(rack: Rack, box: Box): Promise<RecoveryVisit> {
    const look = async () => {
      const page = await fetch(`${box.apiUrl}/`, { signal: AbortSignal.timeout(ANSWER_MS) });
      const text = await page.text();
      need(page.status === 401 && text.includes("is in recovery"), `HTTP ${page.status}`);
      return text;
    };
    await rack.until("the recovery page", () => orNotYet(look), CHANGE_MS, { lookMs: 1000 });
    const file = await box.shell.run(`cat ${FILE}`, ANSWER_MS);
    const { code } = JSON.parse(file.output) as { code: string };
    const wrong = await post(box, "/sign-in", { code: "WRONG-WRONG" });
    if (wrong.status !== 401) throw new Error(`a wrong code is answered with ${wrong.status}`);
    const entered = await post(box, "/sign-in", { code });
    const cookie = /^[^;]+/.exec(entered.headers.get("set-cookie") ?? "")?.[0];
    if (entered.status !== 303 || cookie === undefined) {
      throw new Error(`signing in: HTTP ${entered.status}: ${await entered.text()}`);
    }
    return new RecoveryVisit(box, cookie);
  }

  async read(path: string): Promise<string> {
    const answer = await fetch(`${this.#box.apiUrl}${path}`, {
      headers: { cookie: this.#cookie },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (answer.status !== 200) throw new Error(`${path}: HTTP ${answer.status}`);
    return answer.text();
  }

  /** Presses a button; what the page says then, and the status of the answer. */
  async press(path: string, fields: Record<string, string>) {
    const answer = await post(this.#box, path, fields, this.#cookie);
    return { status: answer.status, text: await answer.text() };
  }
}

function post(box: Box, path: string, fields: Record<string, string>, cookie = "") {
  return fetch(`${box.apiUrl}${path}`, {
    method: "POST",
    headers: { cookie },
    body: new URLSearchParams(fields),
    redirect: "manual",
    signal: AbortSignal.timeout(ANSWER_MS),
  });
}

/** A box that changes over from its daemon to the recovery does not answer for a moment. */
async function orNotYet<T>(look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof DOMException)) throw cause;
    throw new Error(`no answer: ${cause.message}`, { cause });
  }
}
