// SPDX-License-Identifier: Apache-2.0
//
// Events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
// The client's reading drives it: a piece is made only when the last one was taken, so a slow
// client costs one piece of memory, and one that goes away ends it.

import { Fault } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import type { EventView } from "#appliance/backend.ts";

/** Streams at once; each looks for news every LOOK_EVERY_MS. */
export const STREAMS_MAX = 32;
const LOOK_EVERY_MS = 500;
/** A comment this often keeps connections and proxies awake. */
const QUIET_MS_MAX = 15_000;
const EVENTS_PER_PIECE = 100;

export interface EventStreamOptions {
  /** As Backend.events. */
  events(since: number, limit: number): EventView[];
  /** The number after which the client wants to hear. */
  since: number;
  timers: Timers;
  /** False: whoever listens may no longer (signed out, the token replaced), and is told no more. */
  mayGoOn(): boolean;
  /** Called exactly once, when the client is gone or may no longer listen. */
  ended(): void;
}

export function eventStream(options: EventStreamOptions): ReadableStream<Uint8Array> {
  const { events, timers, ended } = options;
  const encoder = new TextEncoder();
  let since = options.since;
  let first = true;
  let cancel: (() => void) | null = null;

  /** A unit that is in no cluster (yet) has no events to tell; it is listened to all the same. */
  const eventsNow = (): EventView[] => {
    try {
      return events(since, EVENTS_PER_PIECE);
    } catch (error) {
      if (error instanceof Fault) return [];
      throw error;
    }
  };

  /** The next piece: news at once, else whatever comes within QUIET_MS_MAX; null: the end. */
  const look = (quietMs: number, give: (piece: string | null) => void): void => {
    cancel = null;
    if (!options.mayGoOn()) return give(null);
    const news = eventsNow();
    const last = news.at(-1);
    if (last !== undefined) {
      since = last.number;
      give(news.map(eventText).join(""));
    } else if (first || quietMs >= QUIET_MS_MAX) {
      // The first piece comes at once even if empty, so that the client knows it is connected.
      give(": nothing new\n\n");
    } else {
      cancel = timers.after(LOOK_EVERY_MS, () => look(quietMs + LOOK_EVERY_MS, give));
    }
    first = false;
  };

  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        const piece = Promise.withResolvers<void>();
        look(0, (text) => {
          if (text === null) {
            controller.close();
            ended();
          } else {
            controller.enqueue(encoder.encode(text));
          }
          piece.resolve();
        });
        return piece.promise;
      },
      cancel: () => {
        cancel?.();
        ended();
      },
    },
    { highWaterMark: 1 },
  );
}

function eventText(event: EventView): string {
  // JSON has no line breaks of its own; number and severity hold none either.
  return `id: ${event.number}\nevent: ${event.severity}\ndata: ${JSON.stringify(event)}\n\n`;
}
