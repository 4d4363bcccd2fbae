// SPDX-License-Identifier: Apache-2.0
//
// A guest's control connection: QEMU's machine protocol over a unix socket, one JSON object a line
// (https://www.qemu.org/docs/master/interop/qmp-spec.html). Commands are answered in order; events
// come in between.

import type { Socket } from "bun";

const COMMAND_MS = 60_000;
const EVENTS_KEPT = 100;

export interface QmpEvent {
  event: string;
  data?: Record<string, unknown>;
}

interface Waiting {
  done: (answer: unknown) => void;
  failed: (reason: Error) => void;
}

interface Message {
  QMP?: object;
  event?: string;
  data?: Record<string, unknown>;
  return?: unknown;
  error?: { class: string; desc: string };
}

export class Qmp {
  #socket: Socket | null = null;
  #text = "";
  #lost: Error | null = null;
  readonly #decoder = new TextDecoder();
  readonly #waiting: Waiting[] = [];
  /** The last ones, oldest first. */
  readonly events: QmpEvent[] = [];

  static async open(path: string): Promise<Qmp> {
    const qmp = new Qmp();
    qmp.#socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_, bytes) => qmp.#received(bytes),
        close: () => qmp.#lose("QEMU ended"),
        error: (_, error) => qmp.#lose(error.message),
      },
    });
    await qmp.run("qmp_capabilities");
    return qmp;
  }

  run(execute: string, words: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const answer = new Promise((done, failed) => this.#waiting.push({ done, failed }));
    const timer = setTimeout(() => this.#lose(`no answer to ${execute}`), COMMAND_MS);
    this.#socket?.write(`${JSON.stringify({ execute, arguments: words })}\n`);
    return answer.finally(() => clearTimeout(timer));
  }

  close(): void {
    this.#lose("closed");
  }

  #received(bytes: Uint8Array): void {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#text.split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") this.#take(JSON.parse(line) as Message);
  }

  #take(message: Message): void {
    if (message.event !== undefined) {
      this.events.push({ event: message.event, data: message.data ?? {} });
      if (this.events.length > EVENTS_KEPT) this.events.shift();
      return;
    }
    if (message.QMP !== undefined) return; // the greeting
    const waiting = this.#waiting.shift();
    if (message.error === undefined) waiting?.done(message.return);
    else waiting?.failed(new Error(`${message.error.class}: ${message.error.desc}`));
  }

  #lose(reason: string): void {
    if (this.#lost !== null) return;
    const lost = new Error(`QEMU's control connection: ${reason}`);
    this.#lost = lost;
    this.#socket?.end();
    for (const { failed } of this.#waiting.splice(0)) failed(lost);
  }
}
