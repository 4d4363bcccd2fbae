// SPDX-License-Identifier: Apache-2.0
//
// Files of an update between units: whole over any mixture of units that serve, leave in the
// middle, refuse or talk nonsense; and what a server takes from a stranger.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { pipePair } from "#cluster/message-pipe.ts";
import type { MessagePipe } from "#cluster/message-pipe.ts";
import { VirtualTime } from "#cluster/virtual-time-fixture.ts";
import {
  type ArtefactKeeper,
  artefactServer,
  PIECE_BYTES_MAX,
  SERVED_MAX,
} from "./artefact-pipe.ts";
import { unitPieces } from "./artefact-pipe.ts";

const DIGEST = "ab".repeat(32);
const CONTENT = Uint8Array.from({ length: 3 * PIECE_BYTES_MAX + 17 }, (_, at) => (at * 7) & 255);
const FILE = { digest: DIGEST, name: "root", offsetBytes: 0, endBytes: CONTENT.length };

const keeper: ArtefactKeeper = {
  read: async ({ digest, name, offsetBytes, lengthBytes }) => {
    if (digest !== DIGEST || name !== "root") throw new Fault("notFound", `no ${name} is here`);
    return CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes);
  },
};

/** How a unit serves: what it does with a fresh pipe, per call. */
type Serving = (pipe: MessagePipe) => void;
const honest = (): Serving => {
  const server = artefactServer(keeper);
  return (pipe) => server.serve(pipe);
};
/** Answers so many questions and leaves. */
const leaving =
  (count: number): Serving =>
  (pipe) => {
    let left = count;
    pipe.onMessage = (message) => {
      if (left-- === 0) return pipe.close("its plug was pulled");
      const { offsetBytes, lengthBytes } = message as { offsetBytes: number; lengthBytes: number };
      const piece = CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes);
      pipe.send({ kind: "piece", content: piece.toBase64() });
    };
  };
const answering =
  (answer: object): Serving =>
  (pipe) => {
    pipe.onMessage = () => void pipe.send(answer);
  };
const silent: Serving = (pipe) => {
  pipe.onMessage = () => {};
};

function fetchFrom(servings: Serving[], from = FILE) {
  const time = new VirtualTime(drainMicrotasks);
  const dialled: number[] = [];
  const ways = {
    timers: time,
    holders: () => servings.map((_, at) => at),
    dial: async (unit: number) => {
      dialled.push(unit);
      const [ours, theirs] = pipePair();
      servings[unit]?.(theirs);
      return ours;
    },
  };
  const got: Uint8Array[] = [];
  let ended: unknown = null;
  const read = async () => {
    for await (const piece of unitPieces(ways, from)) got.push(piece.slice());
    return "whole";
  };
  read().then(
    (word) => {
      ended = word;
    },
    (cause: unknown) => {
      ended = cause;
    },
  );
  for (let passed = 0; passed < 1000 && ended === null; passed++) time.pass(1000);
  return { bytes: Buffer.concat(got), ended, dialled, seconds: time.nowMs() / 1000 };
}

describe("fetching", () => {
  test("from one unit, whole and from any byte on", () => {
    const { bytes, ended } = fetchFrom([honest()]);
    expect([ended, bytes.equals(CONTENT)]).toEqual(["whole", true]);
    const rest = fetchFrom([honest()], { ...FILE, offsetBytes: 1000 });
    expect([rest.ended, rest.bytes.equals(CONTENT.subarray(1000))]).toEqual(["whole", true]);
  });

  test("units leave in the middle → the next goes on where they were", () => {
    const { bytes, ended, dialled } = fetchFrom([leaving(1), leaving(0), honest()]);
    expect([ended, bytes.equals(CONTENT)]).toEqual(["whole", true]);
    expect(dialled.slice(0, 3)).toEqual([0, 1, 2]);
  });

  test("refusals, nonsense, too much, nothing, silence → others are asked", () => {
    const bad: Serving[] = [
      answering({ kind: "refused", code: "notFound", detail: "gone" }),
      answering({ kind: "other" }),
      answering({ kind: "piece", content: "***" }),
      answering({ kind: "piece", content: "" }),
      answering({ kind: "piece", content: new Uint8Array(PIECE_BYTES_MAX).toBase64() }),
      silent,
    ];
    const last = { ...FILE, offsetBytes: CONTENT.length - 17 };
    for (const serving of bad) {
      const { bytes, ended } = fetchFrom([serving, honest()], last);
      expect([ended, bytes.equals(CONTENT.subarray(-17))]).toEqual(["whole", true]);
    }
  });

  test("nobody gives it → the last reason, after a bounded number of tries", () => {
    const { ended, dialled } = fetchFrom([
      answering({ kind: "refused", code: "notFound", detail: "no root is here" }),
    ]);
    expect(ended).toBeInstanceOf(Fault);
    expect([(ended as Fault).code, dialled.length]).toEqual(["notFound", 15]);
    expect(String((fetchFrom([]).ended as Fault).message)).toContain("no unit that is up has");
  });
});

describe("serving", () => {
  async function answersOf(messages: unknown[]): Promise<unknown[]> {
    const [ours, theirs] = pipePair();
    artefactServer(keeper).serve(theirs);
    const answers: unknown[] = [];
    for (const message of messages) {
      const answer = new Promise((resolve) => {
        ours.onMessage = resolve;
        ours.onClose = resolve;
      });
      ours.send(message as object);
      answers.push(await answer);
    }
    return answers;
  }
  const question = { kind: "piece", digest: DIGEST, name: "root", offsetBytes: 0, lengthBytes: 5 };

  test("questions that make no sense are refused, good ones after them answered", async () => {
    const content = CONTENT.subarray(0, 5).toBase64();
    const refused = { kind: "refused", code: "badRequest", detail: expect.any(String) };
    expect(
      await answersOf([
        {},
        { ...question, lengthBytes: PIECE_BYTES_MAX + 1 },
        { ...question, lengthBytes: 0 },
        { ...question, offsetBytes: -1 },
        { ...question, digest: "zz" },
        { ...question, more: 1 },
        question,
      ]),
    ).toEqual([refused, refused, refused, refused, refused, refused, { kind: "piece", content }]);
  });

  test("another manifest's files, another name → notFound", async () => {
    const refused = { kind: "refused", code: "notFound", detail: expect.any(String) };
    const other = { ...question, digest: "cd".repeat(32) };
    expect(await answersOf([other, { ...question, name: "../identity.sealed" }])).toEqual([
      refused,
      refused,
    ]);
  });

  test("so many units at once; one that leaves makes room", async () => {
    const server = artefactServer(keeper);
    const pairs = Array.from({ length: SERVED_MAX + 1 }, () => pipePair());
    const closed = pairs.map(
      ([ours]) => new Promise<string>((resolve) => (ours.onClose = resolve)),
    );
    for (const [, theirs] of pairs) server.serve(theirs);
    expect(await closed.at(-1)).toBe("other units are being served");
    pairs[0]?.[0].close("done");
    await Promise.resolve();
    const [ours, theirs] = pipePair();
    await Promise.resolve();
    server.serve(theirs);
    const answer = new Promise((resolve) => (ours.onMessage = resolve));
    ours.send(question);
    expect(await answer).toMatchObject({ kind: "piece" });
  });

  test("two questions at once → the pipe ends", async () => {
    const [ours, theirs] = pipePair();
    artefactServer(keeper).serve(theirs);
    const closed = new Promise<string>((resolve) => (ours.onClose = resolve));
    ours.send(question);
    ours.send(question);
    expect(await closed).toBe("one question at a time");
  });
});
