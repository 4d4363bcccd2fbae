// SPDX-License-Identifier: Apache-2.0
//
// Where the payload of an update comes from: a folder of this machine, or a web server. Both are
// asked for one file at a time and are trusted with nothing: lengths are bounded here, contents are
// held against the signed manifest by whoever takes them (payload-store.ts).

import { open } from "node:fs/promises";
import path from "node:path";
import { Fault } from "#base/fault.ts";

const PIECE_BYTES = 1 << 20;
/** A web server that says nothing for this long has gone away. */
const SILENCE_MS_MAX = 30_000;
const URL_CHARACTERS_MAX = 2048;

export interface PayloadSource {
  /** A file that fits in memory; null when there is none. Throws Fault tooLarge. */
  small(name: string, bytesMax: number): Promise<string | null>;
  /** A file in pieces. Throws Fault notFound. */
  pieces(name: string): AsyncIterable<Uint8Array>;
}

/** An absolute path, or an http or https URL. Throws Fault badRequest for anything else. */
export function payloadSource(place: string): PayloadSource {
  if (place.startsWith("/")) return folderSource(place);
  const url = place.length <= URL_CHARACTERS_MAX ? URL.parse(place) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new Fault("badRequest", "an update comes from an absolute path, or an http(s) URL");
  }
  return webSource(url);
}

export function folderSource(folder: string): PayloadSource {
  return {
    async small(name, bytesMax) {
      const bytes: Uint8Array[] = [];
      let total = 0;
      try {
        for await (const piece of filePieces(path.join(folder, name))) {
          total += piece.length;
          if (total > bytesMax) throw tooLarge(name, bytesMax);
          bytes.push(piece.slice());
        }
      } catch (error) {
        if (error instanceof Fault && error.code === "notFound") return null;
        throw error;
      }
      return new TextDecoder().decode(Buffer.concat(bytes));
    },
    pieces: (name) => filePieces(path.join(folder, name)),
  };
}

/** Each piece is valid until the next one is asked for. */
async function* filePieces(file: string): AsyncGenerator<Uint8Array> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(file, "r");
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    throw new Fault("notFound", `${file} cannot be read (${code})`, { cause });
  }
  try {
    // A pipe or a device would never end.
    if (!(await handle.stat()).isFile()) throw new Fault("notFound", `${file} is no plain file`);
    const buffer = new Uint8Array(PIECE_BYTES);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

function webSource(base: URL): PayloadSource {
  const of = (name: string) => {
    const url = new URL(base);
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/${encodeURIComponent(name)}`;
    return url;
  };
  return {
    async small(name, bytesMax) {
      const bytes: Uint8Array[] = [];
      let total = 0;
      try {
        for await (const piece of webPieces(of(name))) {
          total += piece.length;
          if (total > bytesMax) throw tooLarge(name, bytesMax);
          bytes.push(piece);
        }
      } catch (error) {
        if (error instanceof Fault && error.code === "notFound") return null;
        throw error;
      }
      return new TextDecoder().decode(Buffer.concat(bytes));
    },
    pieces: (name) => webPieces(of(name)),
  };
}

async function* webPieces(url: URL): AsyncGenerator<Uint8Array> {
  const stop = new AbortController();
  const answer = await inTime(fetch(url, { signal: stop.signal }), stop, url);
  if (answer.status === 404 || answer.status === 410) {
    stop.abort();
    throw new Fault("notFound", `${shown(url)} is not there`);
  }
  if (!answer.ok || answer.body === null) {
    stop.abort();
    throw new Fault("notReady", `${shown(url)} answers with HTTP ${answer.status}`);
  }
  const reader = answer.body.getReader();
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read(), stop, url);
      if (done) return;
      yield value;
    }
  } finally {
    stop.abort();
  }
}

async function inTime<T>(promise: Promise<T>, stop: AbortController, url: URL): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      stop.abort();
      reject(new Fault("notReady", `${shown(url)} says nothing any more`));
    }, SILENCE_MS_MAX);
  });
  try {
    return await Promise.race([promise, late]);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    const code = String((cause as { code?: unknown }).code ?? "no answer");
    throw new Fault("notReady", `${shown(url)} cannot be read (${code})`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** For a message: without a name and password that may stand in it. */
function shown(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

function tooLarge(name: string, bytesMax: number): Fault {
  return new Fault("tooLarge", `${name} has more than ${bytesMax} bytes`);
}
