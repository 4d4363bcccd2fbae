// SPDX-License-Identifier: Apache-2.0
//
// Two at once are never taken for one another, and what begins in nobody's name stays nobody's.

import { expect, test } from "bun:test";
import { ActorScope } from "./actor-scope.ts";

test("two askers interleave over awaits → each acts in its own name, outside nobody", async () => {
  const scope = new ActorScope();
  const seen: [string, string | null][] = [];
  let release = () => undefined as void;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const ask = (name: string) =>
    scope.run(name, async () => {
      await gate;
      await null;
      seen.push([name, scope.current]);
    });
  const both = [ask("anna"), ask("token backup")];
  expect(scope.current).toBeNull();
  release();
  await Promise.all(both);
  expect(seen).toEqual([
    ["anna", "anna"],
    ["token backup", "token backup"],
  ]);
  expect(scope.current).toBeNull();
  scope.run("anna", () => scope.run(null, () => expect(scope.current).toBeNull()));
});
