// SPDX-License-Identifier: Apache-2.0
//
// `cairn claim`: makes whoever asks the cluster's owner, by the code that the box shows or by a
// token that is valid already, and writes the owner's token to a file that was made before anything
// is asked: a token that cannot be kept is never given out.

import { Fault } from "#base/fault.ts";
import { CLAIM_PATH } from "#appliance/api/convention.ts";
import { ClaimedSchema } from "#appliance/api/schemas.ts";
import { fromHere } from "./appliance-places.ts";
import { ASKING_FLAGS, type Call, type Command } from "./command.ts";
import { PASSWORD_FLAG, passwordOf } from "./commands-user.ts";
import { Misuse } from "./failure.ts";

const SAVE_FILE = "cairn-token";

const claim: Command = {
  words: ["claim"],
  operands: [],
  flags: [
    ...ASKING_FLAGS,
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
      sentence: `where the owner's token goes, usually ${SAVE_FILE}; never over an older file`,
    },
    PASSWORD_FLAG,
    {
      name: "replace",
      kind: "yesno",
      sentence: "of a claimed cluster too: the owner's token before is void",
    },
  ],
  sentence: "become the cluster's owner: a token for every unit of it, written to a file",
  run: claimCluster,
};

async function claimCluster(call: Call): Promise<number> {
  const { machine, flags } = call;
  const isElsewhere = flags.word("url") !== null && flags.word("token-file") === null;
  if (isElsewhere && flags.isSet("replace")) throw new Misuse("--replace needs --token-file");
  call.needsToken = false;
  const code = flags.word("code") ?? (isElsewhere ? await askedCode(call) : null);
  const password = flags.word("password-file") === null ? null : passwordOf(call);
  const path = fromHere(call, flags.word("save") ?? SAVE_FILE);
  const file = await machine.reserveSecretFile(path);
  let token: string;
  try {
    const request = { code, replace: flags.isSet("replace"), password };
    token = (await call.ask(ClaimedSchema, "POST", CLAIM_PATH, request)).value.token;
  } catch (error) {
    await file.discard();
    throw error;
  }
  await file.fill(`${token}\n`);
  await call.print({ tokenFile: path }, () => {
    const use = "cairn status --url http://ADDRESS:7480 --token-file";
    return `The cluster is yours. Its token is in ${path}: ${use} ${path}\n`;
  });
  return 0;
}

async function askedCode(call: Call): Promise<string> {
  const answer = await call.machine.ask("Claim code, as the box shows it: ");
  if (answer !== null && answer.trim() !== "") return answer.trim();
  throw new Fault("badRequest", "--code: needs the claim code that the box shows");
}

export const claimCommands: readonly Command[] = [claim];
