// SPDX-License-Identifier: Apache-2.0
//
// `cairn claim`: makes whoever asks the cluster's owner, by the code that the box shows or by a
// token that is valid already. The owner's token is made here and lies in a file before anything is
// asked; the unit gets its hash. So a claim whose answer is lost is simply made again.

import { Fault } from "#base/fault.ts";
import { CLAIM_PATH } from "#appliance/api/convention.ts";
import { ClaimedSchema } from "#appliance/api/schemas.ts";
import { fromHere } from "./appliance-places.ts";
import { CHANGING_FLAGS, type Call, type Command } from "./command.ts";
import { PASSWORD_FLAG, passwordOf } from "./commands-user.ts";
import { Misuse, UnitFault } from "./failure.ts";
import { freshToken, ownerToken } from "./token-file.ts";

const SAVE_FILE = "cairn-token";
/** Codes of answers after which the cluster is as it was. */
const REFUSALS: readonly string[] = [
  ...["badRequest", "unauthorised", "forbidden", "adminOnly", "conflict", "rateLimited"],
  "wrongHost",
];

const claim: Command = {
  words: ["claim"],
  operands: [],
  flags: [
    ...CHANGING_FLAGS,
    {
      name: "code",
      kind: "text",
      value: "CODE",
      sentence: "what the box shows on its screen; asked for when it is needed and not said",
    },
    {
      name: "save",
      kind: "path",
      value: "FILE",
      sentence: `the owner's token, usually ${SAVE_FILE}; made when there is no such file`,
    },
    PASSWORD_FLAG,
    {
      name: "replace",
      kind: "yesno",
      sentence: "of a claimed cluster too: a new file's token; the owner's before is void",
    },
  ],
  sentence: "become the cluster's owner: a token for every unit of it, written to a file",
  run: claimCluster,
};

async function claimCluster(call: Call): Promise<number> {
  const { machine, flags } = call;
  const isElsewhere = flags.word("url") !== null && flags.word("token-file") === null;
  const replace = flags.isSet("replace");
  if (isElsewhere && replace) throw new Misuse("--replace needs --token-file");
  call.needsToken = false;
  const code = flags.word("code") ?? (isElsewhere ? await askedCode(call) : null);
  const password = flags.word("password-file") === null ? null : passwordOf(call);
  const path = fromHere(call, flags.word("save") ?? SAVE_FILE);
  const token = replace ? freshToken(machine, path) : ownerToken(machine, path);
  const request = { code, replace, password, tokenHash: machine.sha256(token.text) };
  if (await call.tried("POST", CLAIM_PATH, request)) return 0;
  await token.keep();
  try {
    await call.ask(ClaimedSchema, "POST", CLAIM_PATH, request);
  } catch (error) {
    if (isRefusal(error)) await token.discard();
    else await call.note(replace ? triedIn(path) : takenUp(path));
    throw error;
  }
  await call.print({ tokenFile: path }, () => {
    const use = "cairn status --url http://ADDRESS:7480 --token-file";
    return `The cluster is yours. Its token is in ${path}: ${use} ${path}\n`;
  });
  return 0;
}

/** Nothing was claimed, for sure. */
function isRefusal(error: unknown): boolean {
  return error instanceof UnitFault && REFUSALS.includes(error.code);
}

function takenUp(path: string): string {
  return `it may be yours: the token is kept in ${path}, and the same command takes it up`;
}

function triedIn(path: string): string {
  return `it may have happened: then the token in ${path} is valid, and the one before is void`;
}

async function askedCode(call: Call): Promise<string> {
  const answer = await call.machine.ask("Claim code, as the box shows it: ");
  if (answer !== null && answer.trim() !== "") return answer.trim();
  throw new Fault("badRequest", "--code: needs the claim code that the box shows");
}

export const claimCommands: readonly Command[] = [claim];
