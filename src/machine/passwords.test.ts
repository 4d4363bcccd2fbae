// SPDX-License-Identifier: Apache-2.0
//
// Password hashes: what they are, that they tell passwords apart, and that few run at once.

import { expect, test } from "bun:test";
import { createPasswords, WAITING_MAX } from "./passwords.ts";

test("hashed → Argon2id, another salt each time; verified", async () => {
  const passwords = createPasswords();
  const [one, two] = await Promise.all([passwords.hash("correct"), passwords.hash("correct")]);
  expect(one).toMatch(/^\$argon2id\$v=19\$m=32768,t=3,p=1\$/);
  expect(one).not.toBe(two);
  expect(await passwords.verify("correct", one)).toBe(true);
  expect(await passwords.verify("wrong", one)).toBe(false);
});

test("more at once than may wait → refused; later they are taken again", async () => {
  const passwords = createPasswords();
  const asked = Array.from({ length: WAITING_MAX + 2 }, () => passwords.hash("x"));
  const states = (await Promise.allSettled(asked)).map((one) => one.status);
  expect(states.filter((state) => state === "rejected")).toHaveLength(2);
  expect(await passwords.hash("x")).toStartWith("$argon2id$");
});

test("a hash that is none → fails, and the next one is taken all the same", async () => {
  const passwords = createPasswords();
  await expect(passwords.verify("x", "no hash")).rejects.toThrow();
  expect(await passwords.hash("x")).toStartWith("$argon2id$");
});
