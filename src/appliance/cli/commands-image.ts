// SPDX-License-Identifier: Apache-2.0
//
// Commands for an image or a stick before it is flashed or plugged: what is put on its boot medium,
// checked by the schema by which the box will read it. They ask no unit and need no root. Paths are
// taken as they are typed, since an image is stamped on other systems too.

import { Fault } from "#base/fault.ts";
import { mediumSettings } from "#appliance/boot-medium.ts";
import {
  CONFIGURATION_BYTES_MAX,
  type ConfigurationSource,
  configurationFlags,
  configurationFrom,
  fileSource,
  flagsSource,
  MEDIUM_FILE,
  redacted,
  type SourceSettings,
  textSource,
} from "#appliance/configuration.ts";
import { newJoinSecret } from "#protocol/peer-channel/secret.ts";
import { fromHere } from "./appliance-places.ts";
import { type Call, type Command, DRY_RUN_FLAG, OUTPUT_FLAG } from "./command.ts";
import { settingFlag } from "./commands-local.ts";
import { Misuse } from "./failure.ts";
import type { FlagDefinition } from "./flags.ts";
import { ownerToken } from "./token-file.ts";

const SECRET_FLAG = "join-secret-file";
const CODE_FLAG = "claim-code-file";
const NOT_STAMPED: readonly string[] = ["state-directory", "memory-directory"];

const STAMP_FLAGS: readonly FlagDefinition[] = [
  OUTPUT_FLAG,
  DRY_RUN_FLAG,
  {
    name: "config",
    kind: "path",
    value: "FILE",
    sentence: `settings as JSON: cairn config schema`,
  },
  {
    name: "keep",
    kind: "yesno",
    sentence: `add to what its ${MEDIUM_FILE} says already, instead of replacing it`,
  },
  {
    name: CODE_FLAG,
    kind: "path",
    value: "FILE",
    sentence: "a file that holds the code by which the cluster is claimed",
  },
  {
    name: "admin-token-file",
    kind: "path",
    value: "FILE",
    sentence: "the administrator's token, instead of a code; made when there is no such file",
  },
  ...configurationFlags()
    .filter(({ flag }) => !NOT_STAMPED.includes(flag))
    .map(settingFlag),
];

const stamp: Command = {
  words: ["image", "stamp"],
  operands: [{ name: "IMAGE", kind: "one" }],
  flags: STAMP_FLAGS,
  sentence: `put settings on the boot medium of an image, or of a stick or disk (${MEDIUM_FILE})`,
  run: stampImage,
};

async function stampImage(call: Call): Promise<number> {
  const { machine, flags } = call;
  const image = call.operands[0] as string;
  // First, so that nothing is made for an image that cannot be stamped.
  const before = await machine.readMediumFile(image, MEDIUM_FILE);
  const tokenFile = call.flags.word("admin-token-file");
  const token = tokenFile === null ? null : ownerToken(call.machine, tokenFile);
  const sources: ConfigurationSource[] = [];
  if (flags.isSet("keep") && before !== null) {
    sources.push(textSource(`${MEDIUM_FILE} on ${image}`, before));
  }
  const given = new Map(flags.given);
  given.delete(SECRET_FLAG);
  sources.push(...configSource(call), flagsSource(given, machine.directory));
  sources.push(secretsSource(call, token?.text ?? null));
  const settings = mediumSettings(sources, machine.readText);
  if (Object.keys(settings).length === 0) {
    throw new Misuse("nothing to put there: say --config or a setting", "cairn help image stamp");
  }
  if (!flags.isSet("dry-run")) {
    await token?.keep();
    await machine.writeMediumFile(image, MEDIUM_FILE, `${JSON.stringify(settings, null, 2)}\n`);
  }
  await say(call, { image, settings, before });
  return 0;
}

function configSource(call: Call): ConfigurationSource[] {
  const file = call.flags.word("config");
  if (file === null) return [];
  const found = fileSource(file, call.machine.readText);
  if (found === null) throw new Fault("badConfiguration", `--config ${file}: no such file`);
  return [{ ...found, directory: fromHere(call, found.directory) }];
}

/** What is secret comes from files, since arguments are visible to everybody. */
function secretsSource(call: Call, token: string | null): ConfigurationSource {
  const value: SourceSettings = {};
  const joinSecret = textOf(call, SECRET_FLAG);
  const claimCode = textOf(call, CODE_FLAG);
  if (joinSecret !== null) value.joinSecret = joinSecret;
  if (claimCode !== null) value.claimCode = claimCode;
  if (token !== null) value.adminTokenHash = call.machine.sha256(token);
  return { origin: "the files named by flags", directory: call.machine.directory, value };
}

function textOf(call: Call, flag: string): string | null {
  const file = call.flags.word(flag);
  if (file === null) return null;
  const text = call.machine.readText(file, CONFIGURATION_BYTES_MAX);
  if (text === null) throw new Fault("badConfiguration", `--${flag} ${file}: no such file`);
  return text.trim();
}

async function say(
  call: Call,
  done: { image: string; settings: SourceSettings; before: string | null },
): Promise<void> {
  const { image, settings, before } = done;
  const whole = redacted(
    configurationFrom([textSource(image, JSON.stringify(settings))], () => null),
  );
  const shown = Object.fromEntries(Object.keys(settings).map((name) => [name, whole[name]]));
  const dryRun = call.flags.isSet("dry-run");
  await call.print({ image, dryRun, replaced: before !== null, settings: shown }, () => {
    const names = Object.keys(settings).join(", ");
    const verb = dryRun ? "would be" : "is";
    const old = before === null ? "" : ", in place of what was there";
    return `${MEDIUM_FILE} ${verb} on ${image}${old}: ${names}\n`;
  });
}

const newSecret: Command = {
  words: ["secret", "new"],
  operands: [],
  flags: [],
  sentence: "print a fresh join secret, for --join-secret-file",
  run: async (call) => {
    const fill = (bytes: Uint8Array) => bytes.set(call.machine.randomBytes(bytes.length));
    await call.machine.write(`${newJoinSecret({ fill, fraction: () => 0 })}\n`);
    return 0;
  },
};

export const imageCommands: readonly Command[] = [stamp, newSecret];
