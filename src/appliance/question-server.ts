// SPDX-License-Identifier: Apache-2.0
//
// The answering side of a pipe on which a unit asks one question at a time: who asks two at once,
// or one too many at the same moment, is closed out, so that neither side holds more than one
// answer per pipe.

import { Fault } from "#base/fault.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";

const DETAIL_CHARACTERS_MAX = 1000;

export interface Refusal {
  kind: "refused";
  code: string;
  detail: string;
}

export class QuestionServer {
  readonly #most: number;
  readonly #busyWith: string;
  readonly #answer: (message: unknown) => Promise<object>;
  #served = 0;

  /**
   * At most `most` pipes at once; the next ones hear `busyWith`. `answer` checks the message, and
   * throws the Fault that is the refusal.
   */
  constructor(
    limits: { most: number; busyWith: string },
    answer: (message: unknown) => Promise<object>,
  ) {
    this.#most = limits.most;
    this.#busyWith = limits.busyWith;
    this.#answer = answer;
  }

  serve(pipe: MessagePipe): void {
    pipe.onMessage = () => {};
    pipe.onClose = () => {};
    if (this.#served >= this.#most) return pipe.close(this.#busyWith);
    this.#served++;
    let over = false;
    let busy = false;
    const end = () => {
      if (!over) this.#served--;
      over = true;
    };
    pipe.onClose = end;
    pipe.onMessage = (message) => {
      if (busy) {
        end();
        return pipe.close("one question at a time");
      }
      busy = true;
      void this.#reply(message).then((reply) => {
        busy = false;
        if (!over) pipe.send(reply);
      });
    };
  }

  async #reply(message: unknown): Promise<object> {
    try {
      return await this.#answer(message);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const detail = error.message.slice(0, DETAIL_CHARACTERS_MAX);
      return { kind: "refused", code: error.code, detail } satisfies Refusal;
    }
  }
}
