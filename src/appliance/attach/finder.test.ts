// SPDX-License-Identifier: Apache-2.0
//
// Which units a host asks, and what it makes of their answers and of what it kept.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { OwnHostView } from "#appliance/host-backend.ts";
import { Finder } from "./finder.ts";

const [A, B, C] = ["http://10.0.0.1:7480", "http://10.0.0.2:7480", "http://10.0.0.3:7480"];
const own = { volumes: [{ name: "v" }], apis: [B, A, C] } as unknown as OwnHostView;

/** Over units that answer or refuse, and a file. */
function bench(kept: string | null = null) {
  const made = {
    kept,
    asked: [] as string[],
    answers: new Map<string, OwnHostView | Fault>(),
    finder: () =>
      new Finder(
        {
          ask: async (url) => {
            made.asked.push(url);
            const answer = made.answers.get(url) ?? new Fault("notReady", `${url} is away`);
            if (answer instanceof Fault) throw answer;
            return answer;
          },
          read: () => made.kept,
          keep: (text) => void (made.kept = text),
        },
        [A],
      ),
  };
  return made;
}

test("units that are heard of are remembered → the one that was named need not be up", async () => {
  const made = bench();
  made.answers.set(A, own);
  expect((await made.finder().volume("v")).name).toBe("v");
  expect(JSON.parse(made.kept ?? "")).toEqual([A, B, C]);
  made.answers.clear();
  made.answers.set(C, own);
  expect((await made.finder().volume("v")).name).toBe("v");
  expect(made.asked.slice(1).sort()).toEqual([A, B, C]);
});

test("torn, foreign or long files → as if there were none of it", async () => {
  const many = JSON.stringify(Array.from({ length: 1000 }, (_, at) => `http://10.1.0.${at}`));
  for (const kept of ["", "{", "7", '["file:///etc/passwd", 5, null]', '"x"']) {
    const made = bench(kept);
    made.answers.set(A, own);
    await made.finder().own();
    expect(made.asked).toEqual([A]);
  }
  const made = bench(many);
  made.answers.set(A, own);
  await made.finder().own();
  expect(made.asked).toHaveLength(257);
});

test("nobody answers → notReady; one refuses → its reason; not assigned → what is", async () => {
  const made = bench(JSON.stringify([B]));
  await expect(made.finder().own()).rejects.toMatchObject({ code: "notReady" });
  made.answers.set(B, new Fault("unauthorised", "the token is wrong"));
  await expect(made.finder().own()).rejects.toMatchObject({ code: "unauthorised" });
  made.answers.set(A, own);
  await expect(made.finder().volume("w")).rejects.toThrow("it has: v");
});
