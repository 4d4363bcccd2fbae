// SPDX-License-Identifier: Apache-2.0
//
// Units asked for figures over pipes within this process: answers, refusals, units that do not
// answer, leave, or speak otherwise; and what one asker can hold.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import { type MessagePipe, pipePair } from "#cluster/message-pipe.ts";
import { STEPS } from "./io-history.ts";
import { QuestionClient, questionServer, type UnitQuestion } from "./unit-questions.ts";

class HandTimers implements Timers {
  readonly waiting = new Map<() => void, number>();
  after(delayMs: number, act: () => void): () => void {
    this.waiting.set(act, delayMs);
    return () => void this.waiting.delete(act);
  }
  /** Lets those pass that wait at most so long. */
  pass(ms: number): void {
    for (const [act, delayMs] of [...this.waiting]) {
      if (delayMs <= ms && this.waiting.delete(act)) act();
    }
  }
}

const CHART = { endsAtMs: 1, stepMs: 10_000, steps: new Array(STEPS).fill(null) };

/** Unit 1 asks; unit 2 answers by `answer`. */
function pair(answer: (question: UnitQuestion) => Promise<object>) {
  const timers = new HandTimers();
  const dialled: number[] = [];
  const theirs: MessagePipe[] = [];
  const server = questionServer(answer);
  const client = new QuestionClient({
    timers,
    own: () => 1,
    answer: async () => ({ ...CHART, endsAtMs: 11 }),
    dial: async (unit) => {
      dialled.push(unit);
      if (unit === 9) throw new Fault("notReady", "no address");
      const [ours, other] = pipePair();
      theirs.push(other);
      if (unit === 2) server.serve(other);
      return ours;
    },
  });
  return { timers, client, dialled, theirs, server };
}

/** Microtasks, until all that can go on by itself has. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

async function codeOf(asked: Promise<unknown>): Promise<string> {
  try {
    await asked;
    return "none";
  } catch (error) {
    return error instanceof Fault ? error.code : "no Fault";
  }
}

describe("a unit asked", () => {
  test("answers over one pipe, which is kept; itself without any", async () => {
    const { client, dialled } = pair(async () => CHART);
    expect(await client.ask(2, { kind: "chart", volume: 3 })).toEqual(CHART);
    expect(await client.ask(2, { kind: "chart", volume: 4 })).toEqual(CHART);
    expect((await client.ask(1, { kind: "chart", volume: 3 })).endsAtMs).toBe(11);
    expect(dialled).toEqual([2]);
  });

  test("several questions at once → one after the other, each with its own answer", async () => {
    const { client } = pair(async (question) => ({
      ...CHART,
      endsAtMs: question.kind === "chart" ? question.volume : 0,
    }));
    const volumes = [5, 6, 7];
    const asked = volumes.map((volume) => client.ask(2, { kind: "chart", volume }));
    expect((await Promise.all(asked)).map(({ endsAtMs }) => endsAtMs)).toEqual(volumes);
  });

  test("refuses → its Fault, its kind said once", async () => {
    const { client } = pair(async () => {
      throw new Fault("notFound", "there is no light");
    });
    const asked = client.ask(2, { kind: "drive", disk: 1, light: true });
    expect(await codeOf(asked)).toBe("notFound");
    const again = client.ask(2, { kind: "drive", disk: 1, light: true });
    expect(again).rejects.toThrow(new Fault("notFound", "there is no light").message);
  });

  test("does not answer in time → notReady, and it is dialled anew", async () => {
    const { client, timers, dialled } = pair(async () => CHART);
    const late = client.ask(3, { kind: "figures" });
    const code = codeOf(late);
    await settle();
    timers.pass(2000);
    expect(await code).toBe("notReady");
    void codeOf(client.ask(3, { kind: "figures" }));
    await settle();
    expect(dialled).toEqual([3, 3]);
  });

  test("cannot be reached, or leaves → notReady at once", async () => {
    const { client, theirs } = pair(async () => CHART);
    expect(await codeOf(client.ask(9, { kind: "figures" }))).toBe("notReady");
    const code = codeOf(client.ask(3, { kind: "figures" }));
    await settle();
    theirs[0]?.close("down");
    expect(await code).toBe("notReady");
  });

  test("answers what is no answer → versionMismatch", async () => {
    const { client } = pair(async () => ({ chart: "none" }));
    expect(await codeOf(client.ask(2, { kind: "chart", volume: 3 }))).toBe("versionMismatch");
  });

  test("a pipe that nobody uses is closed", async () => {
    const { client, timers, dialled } = pair(async () => CHART);
    await client.ask(2, { kind: "chart", volume: 3 });
    timers.pass(60_000);
    await client.ask(2, { kind: "chart", volume: 3 });
    expect(dialled).toEqual([2, 2]);
  });
});

describe("a unit that answers", () => {
  test("nonsense → refused; a second question before the answer → the pipe is closed", async () => {
    const gate = Promise.withResolvers<object>();
    const { server } = pair(() => gate.promise);
    const [ours, theirs] = pipePair();
    const heard: unknown[] = [];
    let closed = "";
    ours.onMessage = (message) => void heard.push(message);
    ours.onClose = (reason) => {
      closed = reason;
    };
    server.serve(theirs);
    ours.send({ kind: "secrets" });
    await settle();
    expect(heard).toMatchObject([{ kind: "refused", code: "badRequest" }]);
    ours.send({ kind: "figures" });
    await settle();
    ours.send({ kind: "figures" });
    await settle();
    expect(closed).toBe("one question at a time");
    gate.resolve({});
    await settle();
    expect(heard).toHaveLength(1);
  });

  test("no more than so many askers at once; one that leaves makes room", async () => {
    const { server } = pair(async () => CHART);
    const pipes = Array.from({ length: 65 }, () => pipePair());
    const closed: string[] = [];
    for (const [ours, theirs] of pipes) {
      ours.onClose = (reason) => void closed.push(reason);
      server.serve(theirs);
    }
    await settle();
    expect(closed).toEqual(["other units are being answered"]);
    pipes[0]?.[0].close("done");
    await settle();
    const [ours, theirs] = pipePair();
    ours.onClose = (reason) => void closed.push(reason);
    server.serve(theirs);
    await settle();
    expect(closed).toHaveLength(1);
  });
});
