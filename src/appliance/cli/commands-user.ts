// SPDX-License-Identifier: Apache-2.0
//
// Commands about people and tokens: who may sign in at the pages or ask the API, and as what. A
// token goes to a file that was made before it is asked for: one that cannot be kept is never made.

import { Fault } from "#base/fault.ts";
import { FIRST_USER, ROLES } from "#cluster/user-state.ts";
import { PASSWORD_PATH } from "#appliance/api/convention.ts";
import {
  MadeTokenSchema,
  TokensSchema,
  UserSchema,
  UsersSchema,
  WhoSchema,
} from "#appliance/api/user-schemas.ts";
import { timeInWords } from "#appliance/api/words.ts";
import type { TokenView, UserView } from "#appliance/user-backend.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, type Call, type Command } from "./command.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { type Column, tableText } from "./table.ts";

const USERS = "/api/v1/users";
const TOKENS = "/api/v1/tokens";
/** More than any password that is taken. */
const PASSWORD_BYTES_MAX = 4096;

export const PASSWORD_FLAG: FlagDefinition = {
  name: "password-file",
  kind: "path",
  value: "FILE",
  sentence: "a file with the password for the pages in its first line",
};
const ROLE_FLAG: FlagDefinition = {
  name: "role",
  kind: "text",
  value: ROLES.join("|"),
  sentence: "admin: may do everything; viewer: sees everything and changes nothing",
};
const USER_FLAG: FlagDefinition = {
  name: "user",
  kind: "text",
  value: "NAME",
  sentence: `whose it is, usually ${FIRST_USER}`,
};
const SAVE_FLAG: FlagDefinition = {
  name: "save",
  kind: "path",
  value: "FILE",
  sentence: "where the token goes; never over an older file",
};
const NAME = { name: "NAME", kind: "one" } as const;

const columns: Column<UserView | TokenView>[] = [
  { head: "NAME", cell: ({ name }) => name },
  { head: "ROLE", cell: ({ role }) => role },
  { head: "SINCE (UTC)", cell: ({ createdAtMs }) => timeInWords(createdAtMs) },
];

function roleOf(call: Call): string {
  const role = call.flags.word("role");
  if (role !== null && ROLES.some((one) => one === role)) return role;
  throw new Misuse(`--role is one of ${ROLES.join(", ")}`);
}

/** Never from an argument: those are seen by everybody on the machine. */
export function passwordOf(call: Call): string {
  const file = call.flags.word("password-file");
  if (file === null) throw new Misuse("--password-file: a file with the password is needed");
  const text = call.machine.readText(fromHere(call, file), PASSWORD_BYTES_MAX);
  if (text === null) throw new Fault("notFound", `the password file ${file} does not exist`);
  return text.split(/\r?\n/, 1)[0] ?? "";
}

function at(place: string, call: Call): string {
  return `${place}/${encodeURIComponent(call.operands[0] ?? "")}`;
}

const whoami: Command = {
  words: ["whoami"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "who asks, as the events say it, and what they may do",
  run: async (call) => {
    const { value, body } = await call.ask(WhoSchema, "GET", "/api/v1/whoami");
    await call.print(body, () => `${value.name}, ${value.role}\n`);
    return 0;
  },
};

const list: Command = {
  words: ["user", "list"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "the people who can sign in at the pages",
  run: async (call) => {
    const { value, body } = await call.ask(UsersSchema, "GET", USERS);
    await call.print(body, () => tableText(value.users, columns, { wide: false }));
    return 0;
  },
};

const add: Command = {
  words: ["user", "add"],
  operands: [NAME],
  flags: [...ASKING_FLAGS, ROLE_FLAG, PASSWORD_FLAG],
  sentence: "somebody who can sign in at the pages",
  run: async (call) => {
    const [name = ""] = call.operands;
    const wish = { name, role: roleOf(call), password: passwordOf(call) };
    const { value, body } = await call.ask(UserSchema, "POST", USERS, wish);
    await call.print(body, () => `${value.name} can sign in, as ${value.role}.\n`);
    return 0;
  },
};

const change: Command = {
  words: ["user", "change"],
  operands: [NAME],
  flags: [...ASKING_FLAGS, ROLE_FLAG],
  sentence: "give a user another role, at once; the last administrator stays one",
  run: async (call) => {
    const { value, body } = await call.ask(UserSchema, "PATCH", at(USERS, call), {
      role: roleOf(call),
    });
    await call.print(body, () => `${value.name} is ${value.role}.\n`);
    return 0;
  },
};

const remove: Command = {
  words: ["user", "remove"],
  operands: [NAME],
  flags: ASKING_FLAGS,
  sentence: "a user, whose sessions end; the last administrator stays",
  run: async (call) => {
    await call.askPlain("DELETE", at(USERS, call));
    const removed = call.operands[0] ?? "";
    await call.print({ removed }, () => `${removed} cannot sign in any more.\n`);
    return 0;
  },
};

const passwordSet: Command = {
  words: ["password", "set"],
  operands: [],
  flags: [...ASKING_FLAGS, USER_FLAG, PASSWORD_FLAG],
  sentence: "a user's password for the pages: another one, or the very first",
  run: async (call) => {
    const user = call.flags.word("user") ?? FIRST_USER;
    await call.askPlain("PUT", PASSWORD_PATH, { user, password: passwordOf(call) });
    const sentence = `The password is set; sign in with it at the pages as ${user}.\n`;
    await call.print({ set: true, user }, () => sentence);
    return 0;
  },
};

const listTokens: Command = {
  words: ["token", "list"],
  operands: [],
  flags: ASKING_FLAGS,
  sentence: "the tokens that open the API, never the tokens themselves",
  run: async (call) => {
    const { value, body } = await call.ask(TokensSchema, "GET", TOKENS);
    await call.print(body, () => tableText(value.tokens, columns, { wide: false }));
    return 0;
  },
};

const addToken: Command = {
  words: ["token", "add"],
  operands: [NAME],
  flags: [...ASKING_FLAGS, ROLE_FLAG, SAVE_FLAG],
  sentence: "a token for a program, written to a file",
  run: async (call) => {
    const [name = ""] = call.operands;
    const wish = { name, role: roleOf(call) };
    const path = fromHere(call, call.flags.word("save") ?? `cairn-token-${name}`);
    const file = await call.machine.reserveSecretFile(path);
    let token: string;
    try {
      token = (await call.ask(MadeTokenSchema, "POST", TOKENS, wish)).value.token;
    } catch (error) {
      await file.discard();
      throw error;
    }
    await file.fill(`${token}\n`);
    await call.print({ tokenFile: path }, () => `The token ${name} is in ${path}.\n`);
    return 0;
  },
};

const removeToken: Command = {
  words: ["token", "remove"],
  operands: [NAME],
  flags: ASKING_FLAGS,
  sentence: "void a token; the owner's is replaced by cairn claim --replace",
  run: async (call) => {
    await call.askPlain("DELETE", at(TOKENS, call));
    const removed = call.operands[0] ?? "";
    await call.print({ removed }, () => `The token ${removed} is void.\n`);
    return 0;
  },
};

export const userCommands: readonly Command[] = [
  whoami,
  list,
  add,
  change,
  remove,
  passwordSet,
  listTokens,
  addToken,
  removeToken,
];
